//! The sealed session id: AES-256-GCM under a key derived for each incarnation, so that a counter is a safe nonce.
//!
//! ```text
//! version 1 | key id 4 | incarnation 16 | number 8 |  sealed: issued 8 | expires 8 | version 1 | capabilities 2 | principal …  | tag 16
//! ```
//! in unpadded base64url. All before `sealed` is the additional data; the number is the nonce.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;

use crate::mcp::version::Version;

/// Bytes of a token as a header value.
pub const MAX_TOKEN_BYTES: usize = 512;
const FORMAT: u8 = 1;
const HEAD: usize = 1 + 4 + 16 + 8;
const FIXED: usize = 8 + 8 + 1 + 2;
const TAG: usize = 16;
const MAX_PRINCIPAL: usize = MAX_TOKEN_BYTES / 4 * 3 - HEAD - FIXED - TAG;

/// The boot nonce of a process.
pub type Incarnation = [u8; 16];

/// Which session: the process that made it, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// Of the process that made it.
    pub incarnation: Incarnation,
    /// Counts from one there.
    pub number: u64,
}

/// What a session id says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Seconds since the epoch.
    pub issued: u64,
    /// Seconds since the epoch.
    pub expires: u64,
    /// What `initialize` agreed on.
    pub version: Version,
    /// What the client declared, as bits.
    pub capabilities: u16,
    /// Who made it. A session is never authentication: each request's principal must equal this.
    pub principal: String,
}

/// Why an id opens no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token, or changed since it was sealed.
    #[error("not a session of this server")]
    Invalid,
    /// Sealed with a key that was retired, or was never ours.
    #[error("sealed with an unknown key")]
    UnknownKey,
    /// Past its absolute lifetime.
    #[error("the session has expired")]
    Expired,
    /// Ended by its client.
    #[error("the session was ended")]
    Ended,
    /// The principal's name does not fit.
    #[error("the principal's name is longer than {MAX_PRINCIPAL} bytes")]
    TooLong,
}

/// A key of one incarnation.
pub(super) struct Derived(pub(super) LessSafeKey);

/// What the keys of session ids are derived for.
const PURPOSE: &[u8] = b"mcp-server session id v1";

/// Seals the sessions of this incarnation.
pub(super) struct Sealer {
    head: [u8; HEAD - 8],
    key: Derived,
}

/// A token, decoded and not yet trusted.
pub(super) struct Sealed(Vec<u8>);

/// Four bytes of eight hexadecimal digits.
pub(super) fn key_id(id: &str) -> Option<[u8; 4]> {
    (id.len() == 8).then(|| u32::from_str_radix(id, 16).ok()).flatten().map(u32::to_be_bytes)
}

struct Length;

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        32
    }
}

// === impl Derived ===

impl Derived {
    pub(super) fn new(secret: &[u8; 32], incarnation: Incarnation) -> Self {
        Self::for_purpose(secret, incarnation, PURPOSE)
    }

    pub(super) fn for_purpose(secret: &[u8; 32], incarnation: Incarnation, purpose: &[u8]) -> Self {
        let mut key = [0; 32];
        hkdf::Salt::new(hkdf::HKDF_SHA256, &incarnation)
            .extract(secret)
            .expand(&[purpose], Length)
            .and_then(|okm| okm.fill(&mut key))
            .expect("32 bytes is a valid length for HKDF-SHA-256");
        let key = UnboundKey::new(&AES_256_GCM, &key).expect("32 bytes is the length of an AES-256 key");
        Self(LessSafeKey::new(key))
    }
}

impl std::fmt::Debug for Derived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Derived")
    }
}

// === impl Sealer ===

impl Sealer {
    pub(super) fn new(key_id: [u8; 4], incarnation: Incarnation, secret: &[u8; 32]) -> Self {
        let mut head = [FORMAT; HEAD - 8];
        head[1..5].copy_from_slice(&key_id);
        head[5..].copy_from_slice(&incarnation);
        Self { head, key: Derived::new(secret, incarnation) }
    }

    pub(super) fn seal(&self, number: u64, claims: &Claims) -> Result<String, TokenError> {
        if claims.principal.len() > MAX_PRINCIPAL {
            return Err(TokenError::TooLong);
        }
        let mut token = Vec::with_capacity(HEAD + FIXED + claims.principal.len() + TAG);
        token.extend_from_slice(&self.head);
        token.extend_from_slice(&number.to_be_bytes());
        let mut sealed = Vec::with_capacity(FIXED + claims.principal.len() + TAG);
        sealed.extend_from_slice(&claims.issued.to_be_bytes());
        sealed.extend_from_slice(&claims.expires.to_be_bytes());
        sealed.push(claims.version.code());
        sealed.extend_from_slice(&claims.capabilities.to_be_bytes());
        sealed.extend_from_slice(claims.principal.as_bytes());
        self.key.0.seal_in_place_append_tag(nonce(number), Aad::from(&token), &mut sealed).map_err(|_| TokenError::TooLong)?;
        token.extend_from_slice(&sealed);
        Ok(BASE64.encode(token))
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

// === impl Sealed ===

impl Sealed {
    pub(super) fn parse(token: &str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Invalid);
        }
        let bytes = BASE64.decode(token).map_err(|_| TokenError::Invalid)?;
        if bytes.len() < HEAD + FIXED + TAG || bytes[0] != FORMAT {
            return Err(TokenError::Invalid);
        }
        Ok(Self(bytes))
    }

    pub(super) fn key_id(&self) -> [u8; 4] {
        array(&self.0[1..5])
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        array(&self.0[5..21])
    }

    pub(super) fn open(&self, key: &Derived) -> Result<(SessionKey, Claims), TokenError> {
        let (head, sealed) = self.0.split_at(HEAD);
        let number = u64::from_be_bytes(array(&head[21..]));
        let mut sealed = sealed.to_vec();
        let plain = key.0.open_in_place(nonce(number), Aad::from(head), &mut sealed).map_err(|_| TokenError::Invalid)?;
        let claims = Claims {
            issued: u64::from_be_bytes(array(&plain[..8])),
            expires: u64::from_be_bytes(array(&plain[8..16])),
            version: Version::from_code(plain[16]).ok_or(TokenError::Invalid)?,
            capabilities: u16::from_be_bytes(array(&plain[17..19])),
            principal: String::from_utf8(plain[19..].to_vec()).map_err(|_| TokenError::Invalid)?,
        };
        Ok((SessionKey { incarnation: self.incarnation(), number }, claims))
    }
}

/// The number is unique under the key of its incarnation and purpose, so it is the nonce.
pub(super) fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// A slice of known length as an array; shorter or longer slices are cut or filled with zeros.
pub(super) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    for (to, from) in array.iter_mut().zip(bytes) {
        *to = *from;
    }
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_principal_fits_and_one_more_byte_does_not() {
        let sealer = Sealer::new([1; 4], [2; 16], &[3; 32]);
        let claims = |length| Claims {
            issued: 1,
            expires: 2,
            version: Version::V2025_03_26,
            capabilities: u16::MAX,
            principal: "p".repeat(length),
        };
        let token = sealer.seal(1, &claims(MAX_PRINCIPAL)).unwrap();
        assert!(token.len() <= MAX_TOKEN_BYTES);
        let opened = Sealed::parse(&token).unwrap().open(&sealer.key).unwrap();
        assert_eq!(opened.1, claims(MAX_PRINCIPAL));
        assert_eq!(sealer.seal(2, &claims(MAX_PRINCIPAL + 1)), Err(TokenError::TooLong));
    }

    #[test]
    fn another_incarnation_has_another_key() {
        let sealer = Sealer::new([1; 4], [2; 16], &[3; 32]);
        let claims = Claims { issued: 1, expires: 2, version: Version::V2025_06_18, capabilities: 0, principal: String::new() };
        let token = sealer.seal(1, &claims).unwrap();
        assert_eq!(Sealed::parse(&token).unwrap().open(&Derived::new(&[3; 32], [9; 16])), Err(TokenError::Invalid));
    }
}
