//! How many requests a second: of one session, of one connection that has none, and of one principal that has a name.
//!
//! Each payer has a bucket that holds a second's worth of requests and fills evenly (the generic cell rate algorithm: one
//! number, the time at which the bucket is full again). That of a connection is a part of it and goes with it. Those of
//! sessions and principals are in a table of fixed size: each falls into one of [`SETS`] sets by its hash, and a set has room
//! for [`WAYS`]. Who comes to a set that is taken has the place of the bucket that is nearest to full. A full bucket is the same as
//! none, so that nothing is lost as long as a set sees no more than [`WAYS`] sessions at their limit within a second; past that
//! a debt is forgotten, to the good of the client, and counted. No look-up grows with the number of sessions, and one that
//! opens many makes nobody wait.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::session::SessionKey;

/// Where `limits.requestsPerSecond` is unset: calls of tools and completions, which a server must bound (2026-07-28
/// `server/tools` §Security Considerations, `server/utilities/completion` §Security). An agent makes tens a second, a gateway
/// with many agents on one connection hundreds.
pub const CALLS_PER_SECOND: u32 = 1000;
/// Sets of the table of sessions: with [`WAYS`], 32,768 sessions in 512 KiB, most of it never touched.
pub const SETS: usize = 4096;
/// Sessions of a set.
pub const WAYS: usize = 8;

const SECOND: u64 = 1_000_000_000;

/// When a bucket is full again, nanoseconds since the start; zero is full.
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

/// Who a request is counted for.
#[derive(Clone, Copy, Debug)]
pub enum Payer<'a> {
    /// A connection.
    Connection(&'a Bucket),
    /// A legacy session, whatever connections it uses.
    Session(SessionKey),
    /// Who calls, whatever sessions and connections it uses.
    Principal(&'a str),
}

/// Too many requests: how long until there is room for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait(pub Duration);

/// The buckets of a shard.
#[derive(Debug)]
pub struct Rates {
    start: Instant,
    hasher: RandomState,
    sessions: Mutex<Table>,
    limited_sessions: AtomicU64,
    limited_connections: AtomicU64,
    limited_principals: AtomicU64,
}

/// Hash and bucket of sessions and principals.
#[derive(Debug)]
struct Table {
    sets: Vec<[[u64; 2]; WAYS]>,
    forgotten: u64,
}

/// The rate a method is bound to; none for one that is not.
pub fn rate(limit: Option<u32>, method: &str) -> Option<u32> {
    limit.or_else(|| matches!(method, "tools/call" | "completion/complete").then_some(CALLS_PER_SECOND))
}

// === impl Rates ===

impl Rates {
    /// All buckets are full.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            hasher: RandomState::new(),
            sessions: Mutex::new(Table::new()),
            limited_sessions: AtomicU64::new(0),
            limited_connections: AtomicU64::new(0),
            limited_principals: AtomicU64::new(0),
        }
    }

    /// Takes requests out of a bucket, at so many a second. Several at once are taken when there is one, and the rest is owed:
    /// a batch larger than a bucket passes, and the next waits for it.
    ///
    /// # Errors
    /// When there is none; then nothing is taken.
    pub fn take(&self, payer: Payer<'_>, rate: u32, requests: u32) -> Result<(), Wait> {
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let (taken, limited) = match payer {
            Payer::Connection(bucket) => (bucket.take(now, rate, requests), &self.limited_connections),
            Payer::Session(session) => (self.take_remembered(session, now, rate, requests), &self.limited_sessions),
            Payer::Principal(name) => (self.take_remembered(name, now, rate, requests), &self.limited_principals),
        };
        if taken.is_err() {
            limited.fetch_add(1, Relaxed);
        }
        taken
    }

    /// Takes out of a bucket of the table.
    fn take_remembered(&self, payer: impl std::hash::Hash, now: u64, rate: u32, requests: u32) -> Result<(), Wait> {
        let hash = self.hasher.hash_one(payer);
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).take(hash, now, rate, requests)
    }

    /// Requests refused, by what made too many.
    pub fn limited(&self) -> [(&'static str, u64); 3] {
        let counts = [
            ("session", &self.limited_sessions),
            ("connection", &self.limited_connections),
            ("principal", &self.limited_principals),
        ];
        counts.map(|(payer, count)| (payer, count.load(Relaxed)))
    }

    /// Buckets that were given up before they were full.
    pub fn forgotten(&self) -> u64 {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).forgotten
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Bucket ===

impl Bucket {
    fn take(&self, now: u64, rate: u32, requests: u32) -> Result<(), Wait> {
        let mut wait = Wait(Duration::ZERO);
        let update = |full_at| taken(full_at, now, rate, requests).inspect_err(|refused| wait = *refused).ok();
        self.0.fetch_update(Relaxed, Relaxed, update).map(drop).map_err(|_| wait)
    }
}

/// When a bucket is full again after requests were taken out of it.
fn taken(full_at: u64, now: u64, rate: u32, requests: u32) -> Result<u64, Wait> {
    let each = SECOND / u64::from(rate.max(1));
    let full_at = full_at.max(now);
    // There is room for one when the bucket is full in a second at most with it taken out.
    match (full_at + each).checked_sub(now + SECOND) {
        None | Some(0) => Ok(full_at.saturating_add(each.saturating_mul(u64::from(requests)))),
        Some(wait) => Err(Wait(Duration::from_nanos(wait))),
    }
}

// === impl Table ===

impl Table {
    fn new() -> Self {
        Self { sets: vec![[[0; 2]; WAYS]; SETS], forgotten: 0 }
    }

    fn take(&mut self, hash: u64, now: u64, rate: u32, requests: u32) -> Result<(), Wait> {
        // The low bits choose the set; zero is a free place.
        let set = &mut self.sets[usize::try_from(hash % SETS as u64).unwrap_or(0)];
        let tag = hash | 1 << 63;
        let place = set.iter().position(|[other, _]| *other == tag);
        let after = taken(place.map_or(0, |place| set[place][1]), now, rate, requests)?;
        let place = place.unwrap_or_else(|| {
            let nearest_to_full = (0..WAYS).min_by_key(|place| set[*place][1]).unwrap_or(0);
            if set[nearest_to_full][1] > now {
                self.forgotten += 1;
            }
            nearest_to_full
        });
        set[place] = [tag, after];
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// How many of many requests pass at a moment.
    fn passes(bucket: &Bucket, now: u64, rate: u32) -> usize {
        (0..10_000).take_while(|_| bucket.take(now, rate, 1).is_ok()).count()
    }

    #[test]
    fn a_second_s_worth_passes_at_once_and_then_the_rate() {
        for rate in [1, 7, 20, 1000] {
            let bucket = Bucket::default();
            assert_eq!(passes(&bucket, 5 * SECOND, rate), rate as usize, "{rate} at once");
            let total: usize = (1..=100).map(|tick| passes(&bucket, 5 * SECOND + tick * 50 * MS, rate)).sum();
            assert!(total.abs_diff(rate as usize * 5) <= 1, "{rate}: {total} in five seconds");
            assert_eq!(passes(&bucket, 100 * SECOND, rate), rate as usize, "full again, and no fuller");
        }
    }

    #[test]
    fn the_wait_is_as_long_as_it_says_and_asking_costs_nothing() {
        let bucket = Bucket::default();
        passes(&bucket, SECOND, 4);
        let Err(Wait(wait)) = bucket.take(SECOND, 4, 1) else { panic!("empty") };
        assert_eq!(wait, Duration::from_millis(250));
        let wait = u64::try_from(wait.as_nanos()).unwrap();
        for _ in 0..100 {
            assert!(bucket.take(SECOND + wait - 1, 4, 1).is_err());
        }
        assert_eq!(bucket.take(SECOND + wait, 4, 1), Ok(()));
    }

    #[test]
    fn a_batch_larger_than_the_bucket_passes_and_is_paid_for() {
        let bucket = Bucket::default();
        assert_eq!(bucket.take(SECOND, 4, 32), Ok(()));
        let Err(Wait(wait)) = bucket.take(SECOND, 4, 1) else { panic!("in debt") };
        assert_eq!(wait, Duration::from_millis(8_000 - 750));
    }

    #[test]
    fn a_lower_rate_holds_from_the_next_request_on() {
        let bucket = Bucket::default();
        assert_eq!(passes(&bucket, SECOND, 100), 100);
        assert_eq!(passes(&bucket, 2 * SECOND, 2), 2);
    }

    #[test]
    fn sessions_pay_for_themselves() {
        let mut table = Table::new();
        for session in [3, 3 + SETS as u64] {
            let passed = (0..100).take_while(|_| table.take(session, SECOND, 5, 1).is_ok()).count();
            assert_eq!(passed, 5, "one set, two sessions");
        }
        assert!(table.take(3, SECOND, 5, 1).is_err());
    }

    #[test]
    fn who_is_in_debt_is_remembered_whoever_else_comes() {
        let mut table = Table::new();
        while table.take(0, SECOND, 5, 1).is_ok() {}
        // Many more sessions than there are places, each now and then.
        for n in 1..100_000_u64 {
            let _ = table.take(n, SECOND + n, 1000, 1);
        }
        assert!(table.take(0, SECOND + 100_000, 5, 1).is_err());
        assert_eq!(table.sets.len(), SETS);
    }

    #[test]
    fn a_full_bucket_is_given_up_for_nothing_and_a_debt_is_counted() {
        let mut table = Table::new();
        let session = |n: u64| n * SETS as u64;
        for n in 1..=WAYS as u64 {
            table.take(session(n), SECOND, 1, 1).unwrap();
        }
        table.take(session(20), 3 * SECOND, 1, 1).unwrap();
        assert_eq!(table.forgotten, 0, "two seconds later they are full");
        for n in 30..30 + WAYS as u64 {
            table.take(session(n), 3 * SECOND, 1, 1).unwrap();
        }
        assert_eq!(table.forgotten, 1);
    }

    #[test]
    fn only_calls_are_bound_where_nothing_is_said() {
        assert_eq!(rate(None, "tools/call"), Some(CALLS_PER_SECOND));
        assert_eq!(rate(None, "completion/complete"), Some(CALLS_PER_SECOND));
        assert_eq!(rate(None, "tools/list"), None);
        assert_eq!(rate(Some(5), "tools/list"), Some(5));
        assert_eq!(rate(Some(5), "tools/call"), Some(5));
    }
}
