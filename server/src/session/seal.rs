//! What clients carry for the server beside session ids: `requestState`, sealed so that only the server reads it, and tags on
//! the ids it gives out, so that nobody makes one up. Any shard with the key ring opens and verifies both.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use mcp_crds::control::{Key, hex};
use ring::aead::Aad;
use ring::hmac;

use super::token::{self, Derived, Incarnation, TokenError, array};
use super::{Keys, Sessions};

/// Bytes of a `requestState`.
pub const MAX_STATE_BYTES: usize = 16 << 10;
/// What keys are derived for, and what the seal is bound to.
const STATE: &[u8] = b"mcp-server requestState v1";
const FORMAT: u8 = 1;
/// Format, key id, incarnation, number.
const HEAD: usize = 1 + 4 + 16 + 8;
const TAG: usize = 16;

/// Tags ids, and knows its own: with the keys in use, whenever they change.
#[derive(Clone)]
pub struct Tagger(Arc<ArcSwap<Keys>>);

impl Sessions {
    /// Seals what a client is to bring back.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn seal_state(&self, plain: &[u8]) -> Result<String, TokenError> {
        if plain.len() > MAX_STATE_BYTES / 4 * 3 - HEAD - TAG {
            return Err(TokenError::TooLong);
        }
        let keys = self.keys.load();
        // The ring was checked when it came.
        let (key, id) =
            keys.ring.sealing_key().and_then(|key| Some((key, token::key_id(&key.id)?))).ok_or(TokenError::UnknownKey)?;
        let number = self.states.fetch_add(1, Relaxed);
        let mut state = Vec::with_capacity(HEAD + plain.len() + TAG);
        state.push(FORMAT);
        state.extend_from_slice(&id);
        state.extend_from_slice(&self.incarnation);
        state.extend_from_slice(&number.to_be_bytes());
        let mut sealed = plain.to_vec();
        state_key(key, self.incarnation)?
            .0
            .seal_in_place_append_tag(token::nonce(number), bound(&state).as_aad(), &mut sealed)
            .map_err(|_| TokenError::TooLong)?;
        state.extend_from_slice(&sealed);
        Ok(BASE64.encode(state))
    }

    /// Opens what a client brought back.
    ///
    /// # Errors
    /// When it is not as we sealed it, or its key was retired.
    pub fn open_state(&self, state: &str) -> Result<Vec<u8>, TokenError> {
        if state.len() > MAX_STATE_BYTES {
            return Err(TokenError::Invalid);
        }
        let state = BASE64.decode(state).map_err(|_| TokenError::Invalid)?;
        if state.len() < HEAD + TAG || state.first() != Some(&FORMAT) {
            return Err(TokenError::Invalid);
        }
        let (head, sealed) = state.split_at(HEAD);
        let id = hex(&array::<4>(head.get(1..5).unwrap_or_default()));
        let incarnation: Incarnation = array(head.get(5..21).unwrap_or_default());
        let number = u64::from_be_bytes(array(head.get(21..).unwrap_or_default()));
        let keys = self.keys.load();
        let key = keys.ring.session.iter().find(|key| key.id == id).ok_or(TokenError::UnknownKey)?;
        let mut sealed = sealed.to_vec();
        // Derived anew each time: rounds come at the pace of people.
        let key = state_key(key, incarnation)?;
        let plain = key.0.open_in_place(token::nonce(number), bound(head).as_aad(), &mut sealed);
        Ok(plain.map_err(|_| TokenError::Invalid)?.to_vec())
    }

    /// Tags ids with the keys of these sessions.
    pub fn tagger(&self) -> Tagger {
        Tagger(Arc::clone(&self.keys))
    }
}

// === impl Tagger ===

impl Tagger {
    /// The tag of a message, for a purpose.
    pub fn tag(&self, purpose: &str, message: &[u8]) -> [u8; 16] {
        // The ring was checked when it came: it holds the key it seals with.
        self.0.load().ring.sealing_key().and_then(|key| tag(key, purpose, message)).unwrap_or_default()
    }

    /// Whether a tag is ours, made with any key that is still accepted.
    pub fn verify(&self, purpose: &str, message: &[u8], claimed: &[u8; 16]) -> bool {
        let keys = self.0.load();
        keys.ring.session.iter().filter_map(|key| tag(key, purpose, message)).any(|tag| equal(&tag, claimed))
    }
}

impl fmt::Debug for Tagger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tagger")
    }
}

/// The head of a state is bound to it, and so is what it is.
struct Bound(Vec<u8>);

impl Bound {
    fn as_aad(&self) -> Aad<&[u8]> {
        Aad::from(&self.0)
    }
}

fn bound(head: &[u8]) -> Bound {
    Bound([b"requestState", head].concat())
}

fn state_key(key: &Key, incarnation: Incarnation) -> Result<Derived, TokenError> {
    Ok(Derived::for_purpose(&key.bytes().map_err(|_| TokenError::UnknownKey)?, incarnation, STATE))
}

fn tag(key: &Key, purpose: &str, message: &[u8]) -> Option<[u8; 16]> {
    let of_purpose = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key.bytes().ok()?), purpose.as_bytes());
    Some(array(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, of_purpose.as_ref()), message).as_ref()))
}

/// Takes the same time wherever two tags differ.
fn equal(one: &[u8; 16], other: &[u8; 16]) -> bool {
    one.iter().zip(other).fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
}

#[cfg(test)]
mod tests {
    use mcp_crds::control::KeyRing;

    use super::*;
    use crate::session::{generated_ring, random};

    #[test]
    fn any_shard_with_the_key_opens_a_state_and_no_two_are_the_same() {
        let ring = generated_ring();
        let one = Sessions::new(random(), ring.clone()).unwrap();
        let other = Sessions::new(random(), ring).unwrap();
        let (a, b) = (one.seal_state(b"plain").unwrap(), one.seal_state(b"plain").unwrap());
        assert_ne!(a, b);
        for state in [a, b] {
            assert_eq!(other.open_state(&state).unwrap(), b"plain");
        }
    }

    #[test]
    fn a_state_that_was_touched_or_is_foreign_does_not_open() {
        let sessions = Sessions::new(random(), generated_ring()).unwrap();
        let state = sessions.seal_state(&[b'x'; 100]).unwrap();
        for position in [0, 3, 10, 35, 60, state.len() - 1] {
            let mut touched = state.clone().into_bytes();
            touched[position] = if touched[position] == b'A' { b'B' } else { b'A' };
            assert!(sessions.open_state(&String::from_utf8(touched).unwrap()).is_err(), "byte {position}");
        }
        for made_up in [format!("{state}-TAMPERED"), String::new(), "AQ".to_owned(), "A".repeat(MAX_STATE_BYTES + 1)] {
            assert!(sessions.open_state(&made_up).is_err());
        }
        assert!(Sessions::new(random(), generated_ring()).unwrap().open_state(&state).is_err());
    }

    #[test]
    fn the_largest_state_fits_and_one_more_byte_does_not() {
        let sessions = Sessions::new(random(), generated_ring()).unwrap();
        let largest = MAX_STATE_BYTES / 4 * 3 - HEAD - TAG;
        let state = sessions.seal_state(&vec![7; largest]).unwrap();
        assert!(state.len() <= MAX_STATE_BYTES && sessions.open_state(&state).is_ok());
        assert_eq!(sessions.seal_state(&vec![7; largest + 1]), Err(TokenError::TooLong));
    }

    #[test]
    fn a_tag_is_good_for_its_message_and_purpose_while_its_key_is_accepted() {
        let old = generated_ring();
        let sessions = Sessions::new(random(), old.clone()).unwrap();
        let tagger = sessions.tagger();
        let tag = tagger.tag("a", b"message");
        assert!(tagger.verify("a", b"message", &tag));
        assert!(!tagger.verify("b", b"message", &tag) && !tagger.verify("a", b"massage", &tag));
        assert!(!tagger.verify("a", b"message", &[0; 16]));
        let new = generated_ring();
        let both = KeyRing { session: [old.session, new.session.clone()].concat(), ..new.clone() };
        sessions.replace_keys(both).unwrap();
        assert!(tagger.verify("a", b"message", &tag), "the tagger follows the keys");
        sessions.replace_keys(new).unwrap();
        assert!(!tagger.verify("a", b"message", &tag));
    }
}
