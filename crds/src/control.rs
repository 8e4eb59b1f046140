//! Authentication of the control port: an HMAC-SHA-256 over method, path, time, nonce and body.
//!
//! Pure: the caller supplies the time and the nonce, and remembers the nonces it has seen.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};

/// Header with the id of the key the request is signed with.
pub const KEY_ID_HEADER: &str = "x-mcp-key-id";
/// Header with the time of signing, seconds since the Unix epoch.
pub const TIME_HEADER: &str = "x-mcp-time";
/// Header with the nonce, 32 hexadecimal digits, never used twice.
pub const NONCE_HEADER: &str = "x-mcp-nonce";
/// Header with the MAC, 64 hexadecimal digits.
pub const MAC_HEADER: &str = "x-mcp-mac";
/// How far the clocks of operator and shard may differ. A verifier remembers nonces for twice as long.
pub const CLOCK_TOLERANCE_SECONDS: u64 = 60;

/// A secret of 32 bytes with a name.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Eight hexadecimal digits.
    pub id: String,
    /// 32 bytes, Base64.
    pub secret: String,
}

impl std::fmt::Debug for Key {
    /// Never shows the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Key {
    /// A key of these bytes, named by a prefix of their digest.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self { id: hex(&digest::digest(&digest::SHA256, bytes).as_ref()[..4]), secret: BASE64.encode(bytes) }
    }

    /// The secret's bytes.
    ///
    /// # Errors
    /// When the secret is not Base64 of 32 bytes.
    pub fn bytes(&self) -> Result<[u8; 32], InvalidKey> {
        BASE64.decode(&self.secret).ok().and_then(|b| b.try_into().ok()).ok_or_else(|| InvalidKey { id: self.id.clone() })
    }
}

/// A key that is not 32 bytes of Base64.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key {id:?} is not 32 bytes of Base64")]
pub struct InvalidKey {
    /// Its id.
    pub id: String,
}

/// The keys of one cluster: the content of `keys.json` in the Secret `{cluster}-keys`.
///
/// Of each kind there is one, or during a rotation two, the oldest first. A shard takes the document whole or not at all, so
/// what it reports of the session keys is true of the control keys too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRing {
    /// Keys that session tokens are opened with.
    pub session: Vec<Key>,
    /// Id of the session key tokens are sealed with.
    pub sealing: String,
    /// Keys that control requests are verified with.
    pub control: Vec<Key>,
    /// Id of the control key the operator signs with.
    pub signing: String,
}

impl KeyRing {
    /// The key tokens are sealed with.
    pub fn sealing_key(&self) -> Option<&Key> {
        self.session.iter().find(|key| key.id == self.sealing)
    }

    /// The key the operator signs with.
    pub fn signing_key(&self) -> Option<&Key> {
        self.control.iter().find(|key| key.id == self.signing)
    }
}

/// What is signed. `path` is the request target without authority, as sent.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// `POST`
    pub method: &'a str,
    /// `/load`
    pub path: &'a str,
    /// Seconds since the Unix epoch.
    pub time: u64,
    /// 32 hexadecimal digits.
    pub nonce: &'a str,
    /// The body's bytes.
    pub body: &'a [u8],
}

/// Why a control request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A header is missing or malformed.
    #[error("the request is not signed")]
    Unsigned,
    /// Signed with a key this shard does not hold.
    #[error("unknown control key")]
    UnknownKey,
    /// Signed too long ago or too far ahead.
    #[error("the request's time is more than {CLOCK_TOLERANCE_SECONDS} s away from this shard's clock")]
    Stale,
    /// The MAC does not match.
    #[error("the signature does not match")]
    Forged,
    /// The nonce was seen before.
    #[error("the request was sent before")]
    Replayed,
}

/// The MAC of a request, hexadecimal.
///
/// # Errors
/// When the key is malformed.
pub fn sign(key: &Key, signed: &Signed<'_>) -> Result<String, InvalidKey> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key.bytes()?);
    Ok(hex(hmac::sign(&key, &message(signed)).as_ref()))
}

/// Verifies a request's MAC and time. The caller then refuses a nonce it has seen ([`Refusal::Replayed`]).
///
/// # Errors
/// The reason to refuse the request.
pub fn verify(ring: &KeyRing, key_id: &str, mac: &str, signed: &Signed<'_>, now: u64) -> Result<(), Refusal> {
    let key = ring.control.iter().find(|key| key.id == key_id).ok_or(Refusal::UnknownKey)?;
    if now.abs_diff(signed.time) > CLOCK_TOLERANCE_SECONDS {
        return Err(Refusal::Stale);
    }
    if signed.nonce.len() != 32 || !signed.nonce.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Refusal::Unsigned);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key.bytes().map_err(|_| Refusal::UnknownKey)?);
    let mac = unhex(mac).ok_or(Refusal::Unsigned)?;
    hmac::verify(&key, &message(signed), &mac).map_err(|_| Refusal::Forged)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

fn message(signed: &Signed<'_>) -> Vec<u8> {
    let body = hex(digest::digest(&digest::SHA256, signed.body).as_ref());
    format!("{}\n{}\n{}\n{}\n{body}", signed.method, signed.path, signed.time, signed.nonce).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "00112233445566778899aabbccddeeff";

    fn ring() -> KeyRing {
        let key = Key::from_bytes(&[7; 32]);
        KeyRing { session: vec![], sealing: String::new(), signing: key.id.clone(), control: vec![key] }
    }

    fn request(body: &[u8]) -> Signed<'_> {
        Signed { method: "POST", path: "/load", time: 1000, nonce: NONCE, body }
    }

    #[test]
    fn a_signed_request_is_accepted() {
        let ring = ring();
        let mac = sign(ring.signing_key().unwrap(), &request(b"{}")).unwrap();
        assert_eq!(verify(&ring, &ring.signing, &mac, &request(b"{}"), 1030), Ok(()));
    }

    #[test]
    fn any_changed_part_is_refused() {
        let ring = ring();
        let mac = sign(ring.signing_key().unwrap(), &request(b"{}")).unwrap();
        for changed in [
            Signed { method: "GET", ..request(b"{}") },
            Signed { path: "/drain", ..request(b"{}") },
            Signed { time: 1001, ..request(b"{}") },
            Signed { nonce: "10112233445566778899aabbccddeeff", ..request(b"{}") },
            request(b"{ }"),
        ] {
            assert_eq!(verify(&ring, &ring.signing, &mac, &changed, 1000), Err(Refusal::Forged), "{changed:?}");
        }
        assert_eq!(verify(&ring, "ffffffff", &mac, &request(b"{}"), 1000), Err(Refusal::UnknownKey));
        assert_eq!(verify(&ring, &ring.signing, &mac, &request(b"{}"), 1061), Err(Refusal::Stale));
        assert_eq!(verify(&ring, &ring.signing, "zz", &request(b"{}"), 1000), Err(Refusal::Unsigned));
    }

    #[test]
    fn debug_never_shows_a_secret() {
        assert!(!format!("{:?}", ring()).contains(&ring().control[0].secret));
    }
}
