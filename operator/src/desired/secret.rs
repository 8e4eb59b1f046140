//! The two Secrets: keys, created once and rewritten only by a rotation; and copies of the credentials that the catalog names.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use mcp_crds::McpCluster;
use mcp_crds::catalog::CredentialFile;
use mcp_crds::control::{InvalidKey, Key, KeyRing};
use mcp_crds::shard;

use super::{fingerprint, metadata, name_of};
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
    /// Two of its keys have one id.
    #[error("it holds key {id:?} twice")]
    Twice {
        /// The id.
        id: String,
    },
    /// It names a key to seal with that it does not hold.
    #[error("it does not hold the key it seals with, {id:?}")]
    NoSealingKey {
        /// The id it names.
        id: String,
    },
    /// It names a key to sign with that it does not hold.
    #[error("it does not hold the key it signs with, {id:?}")]
    NoSigningKey {
        /// The id it names.
        id: String,
    },
}

/// The Secret of these keys. `rotation` is what their rotation must remember.
pub fn keys_secret(cluster: &McpCluster, ring: &KeyRing, rotation: String) -> Secret {
    let mut metadata = metadata(cluster, names::keys_secret(name_of(cluster)));
    metadata.annotations = Some(BTreeMap::from([(names::ANNOTATION_ROTATION.to_owned(), rotation)]));
    Secret {
        metadata,
        type_: Some("Opaque".to_owned()),
        data: Some(BTreeMap::from([(shard::KEYS_FILE.to_owned(), ByteString(key_ring_file(ring)))])),
        ..Secret::default()
    }
}

/// The file that shards read.
pub fn key_ring_file(ring: &KeyRing) -> Vec<u8> {
    // A key ring is strings; strings always serialise.
    serde_json::to_vec(ring).unwrap_or_default()
}

/// Which keys there are and which of them are used, in eight digits that tell nothing of them.
pub fn key_ring_mark(ring: &KeyRing) -> String {
    let ids = |keys: &[Key]| keys.iter().map(|key| key.id.clone()).collect::<Vec<_>>();
    fingerprint(&(ids(&ring.session), &ring.sealing, ids(&ring.control), &ring.signing)).chars().take(8).collect()
}

/// The keys a Secret holds.
///
/// # Errors
/// When it is not a usable key ring; it is then left alone, because a new one would end every session.
pub fn key_ring(secret: &Secret) -> Result<KeyRing, MalformedKeys> {
    let json = secret.data.as_ref().and_then(|data| data.get(shard::KEYS_FILE)).ok_or(MalformedKeys::Missing)?;
    let ring: KeyRing = serde_json::from_slice(&json.0)?;
    for keys in [&ring.session, &ring.control] {
        let mut ids = BTreeSet::new();
        for key in keys {
            key.bytes()?;
            if !ids.insert(&key.id) {
                return Err(MalformedKeys::Twice { id: key.id.clone() });
            }
        }
    }
    if ring.sealing_key().is_none() {
        return Err(MalformedKeys::NoSealingKey { id: ring.sealing });
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

    fn ring() -> KeyRing {
        let (session, control) = (Key::from_bytes(&[1; 32]), Key::from_bytes(&[2; 32]));
        KeyRing { sealing: session.id.clone(), signing: control.id.clone(), session: vec![session], control: vec![control] }
    }

    fn read_back(ring: &KeyRing) -> Result<KeyRing, MalformedKeys> {
        key_ring(&keys_secret(&samples::quickstart(), ring, String::new()))
    }

    #[test]
    fn a_ring_is_read_back_and_signs() {
        assert_eq!(read_back(&ring()).unwrap(), ring());
        assert_eq!(ring().signing_key().unwrap().bytes(), Ok([2; 32]));
    }

    #[test]
    fn a_ring_that_cannot_be_used_is_refused() {
        let unsigned = KeyRing { signing: "ffffffff".into(), ..ring() };
        assert!(matches!(read_back(&unsigned), Err(MalformedKeys::NoSigningKey { .. })));
        let unsealed = KeyRing { sealing: "ffffffff".into(), ..ring() };
        assert!(matches!(read_back(&unsealed), Err(MalformedKeys::NoSealingKey { .. })));
        let twice = KeyRing { session: [ring().session, ring().session].concat(), ..ring() };
        assert!(matches!(read_back(&twice), Err(MalformedKeys::Twice { .. })));
        let short = Key { secret: "AAAA".into(), ..Key::from_bytes(&[3; 32]) };
        let short = KeyRing { session: [ring().session, vec![short]].concat(), ..ring() };
        assert!(matches!(read_back(&short), Err(MalformedKeys::Key(_))));
        assert!(matches!(key_ring(&Secret::default()), Err(MalformedKeys::Missing)));
    }
}
