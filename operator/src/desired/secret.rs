//! The two Secrets: keys, created once and never rewritten; and copies of the credentials that the catalog names.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use mcp_crds::McpCluster;
use mcp_crds::catalog::CredentialFile;
use mcp_crds::control::{InvalidKey, Key, KeyRing};
use mcp_crds::shard;

use super::{metadata, name_of};
use crate::names;

/// Why the keys of a cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MalformedKeys {
    /// The Secret has no such key.
    #[error("it has no key {:?}", shard::KEYS_FILE)]
    Missing,
    /// What it holds is not a key ring.
    #[error("{:?} is not a key ring", shard::KEYS_FILE)]
    Malformed(#[from] serde_json::Error),
    /// One of its keys is not 32 bytes.
    #[error("a key is malformed")]
    Key(#[from] InvalidKey),
    /// It names a key to sign with that it does not hold.
    #[error("it does not hold the key it signs with, {id:?}")]
    NoSigningKey {
        /// The id it names.
        id: String,
    },
}

/// A fresh Secret with one session and one control key of these random bytes.
pub fn keys_secret(cluster: &McpCluster, session: &[u8; 32], control: &[u8; 32]) -> Secret {
    let (session, control) = (Key::from_bytes(session), Key::from_bytes(control));
    let ring =
        KeyRing { sealing: session.id.clone(), signing: control.id.clone(), session: vec![session], control: vec![control] };
    keys_secret_of(cluster, &ring)
}

/// The Secret of known keys: to put back one that was deleted.
pub fn keys_secret_of(cluster: &McpCluster, ring: &KeyRing) -> Secret {
    // A key ring is strings; strings always serialise.
    let json = serde_json::to_vec(ring).unwrap_or_default();
    Secret {
        metadata: metadata(cluster, names::keys_secret(name_of(cluster))),
        type_: Some("Opaque".to_owned()),
        data: Some(BTreeMap::from([(shard::KEYS_FILE.to_owned(), ByteString(json))])),
        ..Secret::default()
    }
}

/// The keys a Secret holds.
///
/// # Errors
/// When it is not a usable key ring; it is then left alone, because a new one would end every session.
pub fn key_ring(secret: &Secret) -> Result<KeyRing, MalformedKeys> {
    let json = secret.data.as_ref().and_then(|data| data.get(shard::KEYS_FILE)).ok_or(MalformedKeys::Missing)?;
    let ring: KeyRing = serde_json::from_slice(&json.0)?;
    for key in ring.session.iter().chain(&ring.control) {
        key.bytes()?;
    }
    if ring.signing_key().is_none() {
        return Err(MalformedKeys::NoSigningKey { id: ring.signing });
    }
    Ok(ring)
}

/// Copies of the credentials, one file for each.
pub fn credentials_secret(cluster: &McpCluster, credentials: BTreeMap<CredentialFile, Vec<u8>>) -> Secret {
    Secret {
        metadata: metadata(cluster, names::credentials_secret(name_of(cluster))),
        type_: Some("Opaque".to_owned()),
        data: Some(credentials.into_iter().map(|(file, value)| (file.0, ByteString(value))).collect()),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_fresh_ring_is_read_back_and_signs() {
        let ring = key_ring(&keys_secret(&samples::quickstart(), &[1; 32], &[2; 32])).unwrap();
        assert_eq!(ring.signing_key().unwrap().bytes(), Ok([2; 32]));
        assert_eq!(ring.session[0].id, ring.sealing);
    }

    #[test]
    fn a_ring_that_cannot_sign_is_refused() {
        let mut secret = keys_secret(&samples::quickstart(), &[1; 32], &[2; 32]);
        let ring = KeyRing { signing: "ffffffff".into(), ..key_ring(&secret).unwrap() };
        let json = ByteString(serde_json::to_vec(&ring).unwrap());
        secret.data.as_mut().unwrap().insert(shard::KEYS_FILE.into(), json);
        assert!(matches!(key_ring(&secret), Err(MalformedKeys::NoSigningKey { .. })));
        secret.data = None;
        assert!(matches!(key_ring(&secret), Err(MalformedKeys::Missing)));
    }
}
