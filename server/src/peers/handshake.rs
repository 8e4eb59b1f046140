//! Who a peer is: each side proves to the other, with a fresh challenge, that it holds a control key of the cluster. Pure:
//! nonces are arguments.
//!
//! ```text
//! dialer → Hello: nonce, name, the keys it holds      acceptor → Welcome: nonce, name, one of these keys, proof      dialer → Proof
//! ```
//! A proof is an HMAC over both nonces, both names, both incarnations and the role, so that none can be sent back or again.
//! While keys rotate both sides hold a common one, whichever of them has seen the new file first.

use mcp_crds::control::{Key, KeyRing};
use ring::hmac;

use super::wire::{Hello, Welcome};
use crate::session::Incarnation;

/// Why a peer is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    /// It holds no key that is held here.
    #[error("it holds no control key of this shard")]
    NoCommonKey,
    /// Its proof does not match.
    #[error("its proof does not match")]
    Forged,
    /// It said something else than a greeting.
    #[error("it did not greet")]
    Silent,
    /// It is this very process.
    #[error("it is this process")]
    Myself,
}

/// This side.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its boot nonce.
    pub incarnation: Incarnation,
    /// Its pod.
    pub name: String,
    /// For this connection only.
    pub nonce: [u8; 32],
}

#[derive(Clone, Copy)]
enum Role {
    Dialer,
    Acceptor,
}

/// What the dialer says first.
pub fn hello(own: &Own, ring: &KeyRing) -> Hello {
    Hello {
        nonce: own.nonce,
        incarnation: own.incarnation,
        name: own.name.clone(),
        keys: ring.control.iter().map(|key| key.id.clone()).collect(),
    }
}

/// What the acceptor answers: with the key the operator signs with, if the dialer holds it, else with any common one.
///
/// # Errors
/// When it cannot let the dialer in.
pub fn welcome(own: &Own, ring: &KeyRing, hello: &Hello) -> Result<Welcome, Stranger> {
    if hello.incarnation == own.incarnation {
        return Err(Stranger::Myself);
    }
    let held = |key: &&Key| hello.keys.contains(&key.id);
    let key = ring.signing_key().filter(held).or_else(|| ring.control.iter().find(held)).ok_or(Stranger::NoCommonKey)?;
    let mut welcome =
        Welcome { nonce: own.nonce, incarnation: own.incarnation, name: own.name.clone(), key: key.id.clone(), proof: [0; 32] };
    welcome.proof = sign(key, &message(Role::Acceptor, hello, &welcome))?;
    Ok(welcome)
}

/// Checks the acceptor, and proves the dialer.
///
/// # Errors
/// When it is not to be trusted.
pub fn prove(ring: &KeyRing, hello: &Hello, welcome: &Welcome) -> Result<[u8; 32], Stranger> {
    if hello.incarnation == welcome.incarnation {
        return Err(Stranger::Myself);
    }
    let key = key(ring, welcome)?;
    check(key, &message(Role::Acceptor, hello, welcome), &welcome.proof)?;
    sign(key, &message(Role::Dialer, hello, welcome))
}

/// Checks the dialer.
///
/// # Errors
/// When it is not to be trusted.
pub fn verify(ring: &KeyRing, hello: &Hello, welcome: &Welcome, proof: &[u8; 32]) -> Result<(), Stranger> {
    check(key(ring, welcome)?, &message(Role::Dialer, hello, welcome), proof)
}

fn key<'a>(ring: &'a KeyRing, welcome: &Welcome) -> Result<&'a Key, Stranger> {
    ring.control.iter().find(|key| key.id == welcome.key).ok_or(Stranger::NoCommonKey)
}

fn message(role: Role, hello: &Hello, welcome: &Welcome) -> Vec<u8> {
    let role: &[u8] = match role {
        Role::Dialer => b"dialer",
        Role::Acceptor => b"acceptor",
    };
    let parts: [&[u8]; 9] = [
        b"mcp-peers/1",
        role,
        welcome.key.as_bytes(),
        &hello.nonce,
        &hello.incarnation,
        hello.name.as_bytes(),
        &welcome.nonce,
        &welcome.incarnation,
        welcome.name.as_bytes(),
    ];
    // Each part with its length, so that no two lists of parts are the same bytes.
    let mut message = Vec::new();
    for part in parts {
        message.extend_from_slice(&(part.len() as u64).to_be_bytes());
        message.extend_from_slice(part);
    }
    message
}

fn hmac_key(key: &Key) -> Result<hmac::Key, Stranger> {
    key.bytes().map(|bytes| hmac::Key::new(hmac::HMAC_SHA256, &bytes)).map_err(|_| Stranger::NoCommonKey)
}

fn sign(key: &Key, message: &[u8]) -> Result<[u8; 32], Stranger> {
    hmac::sign(&hmac_key(key)?, message).as_ref().try_into().map_err(|_| Stranger::Forged)
}

fn check(key: &Key, message: &[u8], proof: &[u8]) -> Result<(), Stranger> {
    hmac::verify(&hmac_key(key)?, message, proof).map_err(|_| Stranger::Forged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::generated_ring;

    fn own(n: u8) -> Own {
        Own { incarnation: [n; 16], name: format!("c-{n}"), nonce: [n ^ 0xff; 32] }
    }

    #[test]
    fn shards_of_one_cluster_let_each_other_in() {
        let ring = generated_ring();
        let hello = hello(&own(1), &ring);
        let welcome = welcome(&own(2), &ring, &hello).unwrap();
        let proof = prove(&ring, &hello, &welcome).unwrap();
        assert_eq!(verify(&ring, &hello, &welcome, &proof), Ok(()));
    }

    #[test]
    fn in_every_step_of_a_rotation_both_find_a_common_key() {
        let (old, new) = (generated_ring(), generated_ring());
        let both = KeyRing { control: [old.control.clone(), new.control.clone()].concat(), ..old.clone() };
        let signing = KeyRing { signing: new.signing.clone(), ..both.clone() };
        for (one, other) in [(&old, &both), (&both, &old), (&both, &signing), (&signing, &new), (&new, &signing)] {
            let hello = hello(&own(1), one);
            let welcome = welcome(&own(2), other, &hello).unwrap();
            let proof = prove(one, &hello, &welcome).unwrap();
            assert_eq!(verify(other, &hello, &welcome, &proof), Ok(()));
        }
        assert_eq!(welcome(&own(2), &new, &hello(&own(1), &old)), Err(Stranger::NoCommonKey));
    }

    #[test]
    fn who_has_not_the_key_proves_nothing() {
        let ring = generated_ring();
        // It knows the id, which is no secret, and not the key.
        let mut wrong = generated_ring();
        wrong.control[0].id.clone_from(&ring.control[0].id);
        let hello = hello(&own(1), &ring);
        let forged = welcome(&own(2), &wrong, &hello).unwrap();
        assert_eq!(prove(&ring, &hello, &forged), Err(Stranger::Forged));
        let honest = welcome(&own(2), &ring, &hello).unwrap();
        let proof = sign(&wrong.control[0], &message(Role::Dialer, &hello, &honest)).unwrap();
        assert_eq!(verify(&ring, &hello, &honest, &proof), Err(Stranger::Forged));
    }

    #[test]
    fn a_proof_cannot_be_sent_back_or_again_or_under_another_name() {
        let ring = generated_ring();
        let hello = hello(&own(1), &ring);
        let first = welcome(&own(2), &ring, &hello).unwrap();
        let proof = prove(&ring, &hello, &first).unwrap();
        assert_eq!(verify(&ring, &hello, &first, &first.proof), Err(Stranger::Forged), "sent back");
        let later = welcome(&Own { nonce: [9; 32], ..own(2) }, &ring, &hello).unwrap();
        assert_eq!(verify(&ring, &hello, &later, &proof), Err(Stranger::Forged), "sent again");
        let other = Hello { name: "c-9".to_owned(), ..hello.clone() };
        assert_eq!(verify(&ring, &other, &first, &proof), Err(Stranger::Forged), "another name");
        assert_eq!(welcome(&own(1), &ring, &hello), Err(Stranger::Myself));
    }
}
