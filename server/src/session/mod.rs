//! Legacy sessions (2025-11-25 `basic/transports` §Session Management): the id is a sealed token, so any shard serves
//! any stateless request of any session and looks nothing up.

mod levels;
mod records;
mod remembered;
mod revocations;
mod seal;
mod shelf;
mod token;
mod uris;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use mcp_crds::control::{Key, KeyRing, hex};
use ring::rand::{SecureRandom as _, SystemRandom};

pub use levels::Levels;
use records::Records;
pub use records::{Change, MAX_RECORD_BYTES, Record, TooMany};
pub use remembered::Remembered;
use revocations::Revocations;
pub use revocations::{Full, MAX_PAGES, PAGE_BYTES, Page};
pub use seal::{MAX_STATE_BYTES, Tagger};
pub use token::{Claims, Incarnation, MAX_TOKEN_BYTES, SessionKey, TokenError};
use token::{Derived, Sealer};
pub use uris::Uris;

/// Derived keys of other incarnations kept at one time: twice the shards of the largest cluster.
const MAX_DERIVED: usize = 1024;

/// What seals and opens session ids.
#[derive(Debug)]
pub struct Sessions {
    incarnation: Incarnation,
    next: AtomicU64,
    keys: Arc<ArcSwap<Keys>>,
    states: AtomicU64,
    /// What sessions want to hear.
    pub levels: Levels,
    revoked: Mutex<Revocations>,
    records: Mutex<Records>,
}

#[derive(Debug)]
struct Keys {
    /// Counts from zero with each ring.
    generation: u64,
    ring: KeyRing,
    sealer: Sealer,
    derived: Mutex<HashMap<([u8; 4], Incarnation), Derived>>,
}

/// Keys that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// A key is malformed.
    #[error(transparent)]
    Key(#[from] mcp_crds::control::InvalidKey),
    /// The ring does not hold the key it is to seal with.
    #[error("the ring has no session key {0:?} to seal with")]
    NoSealingKey(String),
    /// The id is not eight hexadecimal digits: a token could not name it.
    #[error("key id {0:?} is not eight lower-case hexadecimal digits")]
    Id(String),
}

impl Sessions {
    /// Sessions of a process that starts now. `incarnation` must be fresh randomness: nonces count from zero.
    ///
    /// # Errors
    /// When the ring cannot be used.
    pub fn new(incarnation: Incarnation, ring: KeyRing) -> Result<Self, KeysError> {
        let keys = Keys::new(incarnation, ring, 0)?;
        Ok(Self {
            incarnation,
            next: AtomicU64::new(1),
            keys: Arc::new(ArcSwap::from_pointee(keys)),
            states: AtomicU64::new(1),
            levels: Levels::default(),
            revoked: Mutex::default(),
            records: Mutex::default(),
        })
    }

    /// The boot nonce.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Takes a new ring, whole: session keys and control keys change at one moment. Sessions sealed with a key it no longer
    /// holds end; requests that were opened or verified before go on. Nonces count on, whichever key seals: a key that comes
    /// back never meets one twice.
    ///
    /// # Errors
    /// When the ring cannot be used; the old one stays.
    pub fn replace_keys(&self, ring: KeyRing) -> Result<(), KeysError> {
        self.keys.store(Keys::new(self.incarnation, ring, self.generation() + 1)?.into());
        Ok(())
    }

    /// The ring in use.
    pub fn ring(&self) -> KeyRing {
        self.keys.load().ring.clone()
    }

    /// Verifies a control request with the ring in use.
    ///
    /// # Errors
    /// The reason to refuse it.
    pub fn verify_control(
        &self,
        key_id: &str,
        mac: &str,
        signed: &mcp_crds::control::Signed<'_>,
        now: u64,
    ) -> Result<(), mcp_crds::control::Refusal> {
        mcp_crds::control::verify(&self.keys.load().ring, key_id, mac, signed, now)
    }

    /// A new session's id.
    ///
    /// # Errors
    /// When the claims do not fit a token.
    pub fn seal(&self, claims: &Claims) -> Result<String, TokenError> {
        self.keys.load().sealer.seal(self.next.fetch_add(1, Relaxed), claims)
    }

    /// Whose session an id is.
    ///
    /// # Errors
    /// When it is not one of ours, has expired at `now` (seconds since the epoch), or was ended.
    pub fn open(&self, token: &str, now: u64) -> Result<(SessionKey, Claims), TokenError> {
        let keys = self.keys.load();
        let sealed = token::Sealed::parse(token)?;
        let place = (sealed.key_id(), sealed.incarnation());
        let (session, claims) = {
            let mut derived = lock(&keys.derived);
            if let Some(key) = derived.get(&place) {
                sealed.open(key)?
            } else {
                let id = hex(&place.0);
                let key = keys.ring.session.iter().find(|key| key.id == id).ok_or(TokenError::UnknownKey)?;
                let key = Derived::new(&key.bytes().map_err(|_| TokenError::UnknownKey)?, place.1);
                // Opened before it is kept: a forger cannot fill the cache with incarnations that never were.
                let opened = sealed.open(&key)?;
                if derived.len() >= MAX_DERIVED {
                    derived.clear();
                }
                derived.insert(place, key);
                opened
            }
        };
        self.is_open(session, &claims, now)?;
        Ok((session, claims))
    }

    /// What may change of a session whose id was opened.
    fn is_open(&self, session: SessionKey, claims: &Claims, now: u64) -> Result<(), TokenError> {
        if now >= claims.expires {
            return Err(TokenError::Expired);
        }
        if self.has_ended(session) { Err(TokenError::Ended) } else { Ok(()) }
    }

    /// Of the keys in use.
    fn generation(&self) -> u64 {
        self.keys.load().generation
    }

    /// Whether a session was ended, as far as this shard knows.
    pub fn has_ended(&self, session: SessionKey) -> bool {
        lock(&self.revoked).contains(session)
    }

    /// Ends a session on this shard.
    ///
    /// # Errors
    /// When too many are remembered already.
    pub fn revoke(&self, session: SessionKey, expires: u64, now: u64) -> Result<(), Full> {
        lock(&self.revoked).revoke(session, expires, now)
    }

    /// Changes what is kept of a session; returns what that is now.
    ///
    /// # Errors
    /// When a bound is in the way; nothing has changed.
    pub fn change(&self, session: SessionKey, expires: u64, change: &Change, now_ms: u64) -> Result<Record, TooMany> {
        lock(&self.records).change(session, expires, change, now_ms)
    }

    /// Takes in what another shard keeps of a session; `false` when this one keeps something as new.
    ///
    /// # Errors
    /// When a bound is in the way.
    pub fn learn_record(&self, session: SessionKey, record: &Record, now: u64) -> Result<bool, TooMany> {
        lock(&self.records).learn(session, record, now)
    }

    /// What is kept of a session.
    pub fn record(&self, session: SessionKey) -> Option<Record> {
        lock(&self.records).get(session)
    }

    /// What is kept of all sessions.
    pub fn records(&self, now: u64) -> Vec<(SessionKey, Record)> {
        lock(&self.records).all(now)
    }

    /// Keeps nothing of a session that has ended.
    pub fn forget(&self, session: SessionKey) {
        lock(&self.records).forget(session);
        self.levels.end_session(session);
    }

    /// All sessions that were ended and have not expired.
    pub fn ended(&self, now: u64) -> Vec<Page> {
        lock(&self.revoked).pages(now)
    }

    /// Ends those that another shard knows of.
    ///
    /// # Errors
    /// When too many are remembered already; those for which there was room have ended.
    pub fn learn_ended(&self, pages: &[Page], now: u64) -> Result<(), Full> {
        let mut revoked = lock(&self.revoked);
        let mut all = Ok(());
        for page in pages {
            all = revoked.merge(page, now).and(all);
        }
        all
    }
}

impl Keys {
    fn new(incarnation: Incarnation, ring: KeyRing, generation: u64) -> Result<Self, KeysError> {
        let named =
            |key: &Key| token::key_id(&key.id).filter(|id| hex(id) == key.id).ok_or_else(|| KeysError::Id(key.id.clone()));
        let key = ring.sealing_key().ok_or_else(|| KeysError::NoSealingKey(ring.sealing.clone()))?;
        let sealer = Sealer::new(named(key)?, incarnation, &key.bytes()?);
        for key in &ring.session {
            named(key)?;
        }
        for key in ring.session.iter().chain(&ring.control) {
            key.bytes()?;
        }
        Ok(Self { generation, ring, sealer, derived: Mutex::default() })
    }
}

/// Randomness for an incarnation or a key.
///
/// # Panics
/// Never on Linux, where the kernel's source cannot fail once seeded; without randomness nothing may be sealed.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives randomness");
    bytes
}

/// Keys for a process of its own: `mcp-server --manifest`.
pub fn generated_ring() -> KeyRing {
    let session = mcp_crds::control::Key::from_bytes(&random());
    let control = mcp_crds::control::Key::from_bytes(&random());
    KeyRing { sealing: session.id.clone(), session: vec![session], signing: control.id.clone(), control: vec![control] }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::version::Version;

    fn claims() -> Claims {
        Claims { issued: 1_000, expires: 2_000, version: Version::V2025_11_25, capabilities: 5, principal: String::new() }
    }

    #[test]
    fn any_shard_with_the_key_opens_a_session_of_any_other() {
        let ring = generated_ring();
        let one = Sessions::new(random(), ring.clone()).unwrap();
        let other = Sessions::new(random(), ring).unwrap();
        let token = one.seal(&claims()).unwrap();
        assert!(token.len() <= MAX_TOKEN_BYTES && token.bytes().all(|b| b.is_ascii_graphic()));
        for _ in 0..2 {
            assert_eq!(other.open(&token, 1_500).unwrap().1, claims());
        }
    }

    #[test]
    fn two_sessions_differ() {
        let sessions = Sessions::new(random(), generated_ring()).unwrap();
        let (a, b) = (sessions.seal(&claims()).unwrap(), sessions.seal(&claims()).unwrap());
        assert_ne!(sessions.open(&a, 1_500).unwrap().0, sessions.open(&b, 1_500).unwrap().0);
    }

    #[test]
    fn forged_expired_foreign_and_ended_sessions_do_not_open() {
        let sessions = Sessions::new(random(), generated_ring()).unwrap();
        let token = sessions.seal(&claims()).unwrap();
        for position in [0, 3, 20, 40, token.len() - 1] {
            let mut forged = token.clone().into_bytes();
            forged[position] = if forged[position] == b'A' { b'B' } else { b'A' };
            assert!(sessions.open(&String::from_utf8(forged).unwrap(), 1_500).is_err(), "byte {position}");
        }
        assert_eq!(sessions.open(&token, 2_000), Err(TokenError::Expired));
        let stranger = Sessions::new(random(), generated_ring()).unwrap();
        assert_eq!(stranger.open(&token, 1_500), Err(TokenError::UnknownKey));
        let (session, claims) = sessions.open(&token, 1_500).unwrap();
        assert_eq!(sessions.revoke(session, claims.expires, 1_500), Ok(()));
        assert_eq!(sessions.open(&token, 1_500), Err(TokenError::Ended));
    }

    #[test]
    fn a_rotation_keeps_sessions_until_their_key_is_retired() {
        let old = generated_ring();
        let sessions = Sessions::new(random(), old.clone()).unwrap();
        let token = sessions.seal(&claims()).unwrap();
        let new = generated_ring();
        let both = KeyRing { session: [old.session, new.session.clone()].concat(), ..new.clone() };
        sessions.replace_keys(both).unwrap();
        assert!(sessions.open(&token, 1_500).is_ok());
        assert!(sessions.open(&sessions.seal(&claims()).unwrap(), 1_500).is_ok());
        sessions.replace_keys(new).unwrap();
        assert_eq!(sessions.open(&token, 1_500), Err(TokenError::UnknownKey));
    }

    #[test]
    fn a_shard_that_accepts_a_key_seals_with_the_other_until_it_is_told() {
        let (old, new) = (generated_ring(), generated_ring());
        let both = KeyRing { session: [old.session.clone(), new.session.clone()].concat(), ..old.clone() };
        let ahead = Sessions::new(random(), both.clone()).unwrap();
        let behind = Sessions::new(random(), old).unwrap();
        let token = ahead.seal(&claims()).unwrap();
        assert!(behind.open(&token, 1_500).is_ok(), "the first shard to see a key must not seal what the others refuse");
        ahead.replace_keys(KeyRing { sealing: new.sealing, ..both.clone() }).unwrap();
        let token = ahead.seal(&claims()).unwrap();
        assert_eq!(behind.open(&token, 1_500), Err(TokenError::UnknownKey));
        behind.replace_keys(both).unwrap();
        assert!(behind.open(&token, 1_500).is_ok());
    }

    #[test]
    fn a_key_that_comes_back_seals_no_session_twice() {
        let (old, new) = (generated_ring(), generated_ring());
        let sessions = Sessions::new(random(), old.clone()).unwrap();
        let before = sessions.seal(&claims()).unwrap();
        sessions.replace_keys(new).unwrap();
        sessions.seal(&claims()).unwrap();
        sessions.replace_keys(old).unwrap();
        let after = sessions.seal(&claims()).unwrap();
        let numbers = [&before, &after].map(|token| sessions.open(token, 1_500).unwrap().0.number);
        assert_eq!(numbers, [1, 3]);
    }

    #[test]
    fn a_key_whose_id_no_token_could_name_is_refused() {
        for id in ["", "abc", "ABCDEF01", "ghijklmn", "+1234567"] {
            let ring = generated_ring();
            let odd = Key { id: id.to_owned(), ..Key::from_bytes(&random()) };
            let ring = KeyRing { session: [ring.session, vec![odd]].concat(), ..ring };
            assert_eq!(Sessions::new(random(), ring).map(drop), Err(KeysError::Id(id.to_owned())), "{id}");
        }
    }

    #[test]
    fn a_ring_without_its_sealing_key_is_refused_and_the_old_one_stays() {
        let sessions = Sessions::new(random(), generated_ring()).unwrap();
        let token = sessions.seal(&claims()).unwrap();
        let broken = KeyRing { sealing: "00000000".to_owned(), ..generated_ring() };
        assert!(matches!(sessions.replace_keys(broken), Err(KeysError::NoSealingKey(_))));
        assert!(sessions.open(&token, 1_500).is_ok());
    }
}
