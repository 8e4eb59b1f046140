//! How often the operator may write statuses: one token bucket for the whole process, whatever the number of clusters.
//!
//! A write that finds no token is not queued: the pass ends without it, and a later one writes what is true then. So nothing
//! is lost by being delayed, and nothing old is ever written. The more of them wait, the later the next one comes back: a
//! pass costs milliseconds, and hundreds of clusters that try for twenty tokens a second would do nothing else.
//!
//! The rate: a cluster whose numbers move is written once a minute, so a thousand of them need 17 writes a second; a write of
//! a status costs the API server a few milliseconds and its store one commit. The burst: what changes at one time in all
//! clusters of an installation, such as a new release, is told in seconds. Half of it is kept for conditions: numbers are
//! written only while more than that is there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::stages::{Urgency, elapsed};

/// Writes a second, for as long as one likes.
const RATE: u64 = 20;
/// Writes at one time, after a while without any.
const BURST: u64 = 100;
/// Kept for what a person would act on.
const RESERVE: u64 = BURST / 2;
/// Tokens are counted in millionths: [`RATE`] of them come every microsecond.
const TOKEN: u64 = 1_000_000;

/// Tokens that are there, and since when that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    millionths: u64,
    filled: Option<Timestamp>,
}

/// The bucket that all passes share, and how many of them wait for it.
#[derive(Debug, Default)]
pub struct Budget(Mutex<Line>);

#[derive(Debug, Default)]
struct Line {
    bucket: Bucket,
    /// Those whose conditions changed.
    conditions: u64,
    numbers: u64,
}

/// A cluster's place among those that wait; given up when it is dropped.
#[derive(Debug)]
pub struct Place {
    budget: Arc<Budget>,
    urgency: Urgency,
    since: Timestamp,
    wait: Duration,
}

/// What must be left when a write was let through.
fn reserve(urgency: Urgency) -> u64 {
    match urgency {
        Urgency::Conditions => 0,
        Urgency::Numbers => RESERVE * TOKEN,
    }
}

// === impl Bucket ===

impl Default for Bucket {
    fn default() -> Self {
        Self { millionths: BURST * TOKEN, filled: None }
    }
}

impl Bucket {
    /// Takes a token.
    ///
    /// # Errors
    /// How long it takes until there is one, when so many others have a token before.
    pub fn take(&mut self, urgency: Urgency, ahead: u64, now: Timestamp) -> Result<(), Duration> {
        // A clock that moved back gives no tokens and takes none.
        let gained = self.filled.map_or(Duration::ZERO, |filled| elapsed(filled, now)).as_micros();
        let gained = u64::try_from(gained).unwrap_or(u64::MAX).saturating_mul(RATE);
        self.millionths = self.millionths.saturating_add(gained).min(BURST * TOKEN);
        self.filled = Some(now);
        let needed = reserve(urgency) + TOKEN;
        if self.millionths < needed {
            let missing = (needed - self.millionths).saturating_add(ahead.saturating_mul(TOKEN));
            return Err(Duration::from_micros(missing.div_ceil(RATE)));
        }
        self.millionths -= TOKEN;
        Ok(())
    }
}

// === impl Budget ===

impl Budget {
    /// Takes a token. Numbers wait behind conditions.
    ///
    /// # Errors
    /// How long it takes until all that wait have had theirs.
    pub fn take(&self, urgency: Urgency, now: Timestamp) -> Result<(), Duration> {
        let mut line = self.line();
        let ahead = match urgency {
            Urgency::Conditions => line.conditions,
            Urgency::Numbers => line.conditions + line.numbers,
        };
        line.bucket.take(urgency, ahead, now)
    }

    /// Waits with the others, for so long.
    pub fn wait(self: &Arc<Self>, urgency: Urgency, wait: Duration, now: Timestamp) -> Place {
        *self.line().waiting(urgency) += 1;
        Place { budget: self.clone(), urgency, since: now, wait }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Line ===

impl Line {
    fn waiting(&mut self, urgency: Urgency) -> &mut u64 {
        match urgency {
            Urgency::Conditions => &mut self.conditions,
            Urgency::Numbers => &mut self.numbers,
        }
    }
}

// === impl Place ===

impl Place {
    /// How long something so urgent still waits here. A clock that moved back makes nobody wait for longer.
    pub fn left(&self, urgency: Urgency, now: Timestamp) -> Option<Duration> {
        let left = self.wait.checked_sub(elapsed(self.since, now)).filter(|left| !left.is_zero())?;
        (urgency <= self.urgency && now >= self.since).then_some(left)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.budget.line().waiting(self.urgency) -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).unwrap()
    }

    /// How many writes are let through at one time.
    fn drain(bucket: &mut Bucket, urgency: Urgency, now: Timestamp) -> u64 {
        (0..2 * BURST).filter(|_| bucket.take(urgency, 0, now).is_ok()).count() as u64
    }

    #[test]
    fn a_burst_is_bounded_and_so_is_every_minute_after_it() {
        let mut bucket = Bucket::default();
        assert_eq!(drain(&mut bucket, Urgency::Conditions, at(0)), BURST);
        let minute: u64 = (1..=60_000).map(|ms| u64::from(bucket.take(Urgency::Conditions, 0, at(ms)).is_ok())).sum();
        assert_eq!(minute, 60 * RATE);
        assert_eq!(drain(&mut bucket, Urgency::Conditions, at(86_400_000)), BURST, "a day of rest is no larger burst");
    }

    #[test]
    fn conditions_come_before_numbers() {
        let mut bucket = Bucket::default();
        assert_eq!(drain(&mut bucket, Urgency::Numbers, at(0)), BURST - RESERVE);
        assert_eq!(drain(&mut bucket, Urgency::Conditions, at(0)), RESERVE);
        // While conditions are written as fast as they may be, no number is.
        let numbers = (0..10_000).filter(|ms| {
            let _ = bucket.take(Urgency::Conditions, 0, at(*ms));
            bucket.take(Urgency::Numbers, 0, at(*ms)).is_ok()
        });
        assert_eq!(numbers.count(), 0);
    }

    #[test]
    fn a_thousand_clusters_have_their_numbers_written_every_minute() {
        let mut bucket = Bucket::default();
        let mut due: Vec<i64> = (0..1000).map(|n| n * 60).collect();
        // Those that were refused come back within two seconds, each at another moment.
        for now in (0..300_000).step_by(500) {
            for next in due.iter_mut().filter(|next| **next <= now) {
                if bucket.take(Urgency::Numbers, 0, at(now)).is_ok() {
                    *next = now + 60_000;
                }
            }
            assert!(due.iter().all(|next| now - *next < 60_000), "at {now}: {:?}", due.iter().min());
        }
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        for urgency in [Urgency::Conditions, Urgency::Numbers] {
            let mut bucket = Bucket::default();
            drain(&mut bucket, urgency, at(0));
            let wait = bucket.take(urgency, 0, at(0)).unwrap_err();
            let wait = i64::try_from(wait.as_millis()).unwrap();
            assert!(bucket.take(urgency, 0, at(wait - 1)).is_err());
            assert_eq!(bucket.take(urgency, 0, at(wait)), Ok(()));
        }
    }

    #[test]
    fn looking_often_loses_no_tokens() {
        let mut bucket = Bucket::default();
        drain(&mut bucket, Urgency::Conditions, at(0));
        let looks = (1..=100_000).map(|tens| at(0) + Duration::from_micros(10 * tens));
        assert_eq!(looks.filter(|now| bucket.take(Urgency::Conditions, 0, *now).is_ok()).count() as u64, RATE);
    }

    #[test]
    fn a_clock_that_moves_back_stops_nothing_for_long() {
        let mut bucket = Bucket::default();
        drain(&mut bucket, Urgency::Conditions, at(0));
        assert!(bucket.take(Urgency::Conditions, 0, at(-3_600_000)).is_err());
        assert_eq!(bucket.take(Urgency::Conditions, 0, at(-3_600_000 + 50)), Ok(()));
    }

    /// What a release, or a load that grows everywhere, makes of an installation.
    #[test]
    fn those_that_wait_come_back_one_after_the_other() {
        const CLUSTERS: usize = 500;
        let budget = Arc::new(Budget::default());
        let mut waiting: Vec<(i64, Option<Place>)> = (0..CLUSTERS).map(|_| (0, None)).collect();
        let (mut tries, mut now) = (0, 0);
        while !waiting.is_empty() {
            now += 10;
            waiting.retain_mut(|(due, place)| {
                if *due > now {
                    return true;
                }
                tries += 1;
                *place = None;
                let Err(wait) = budget.take(Urgency::Conditions, at(now)) else { return false };
                *due = now + i64::try_from(wait.as_millis()).unwrap();
                *place = Some(budget.wait(Urgency::Conditions, wait, at(now)));
                true
            });
            assert!(now < 60_000, "{} still wait", waiting.len());
        }
        assert!(tries < 3 * CLUSTERS, "{tries} passes for {CLUSTERS} writes");
        assert!(now < 30_000, "{CLUSTERS} writes took {now} ms");
        assert_eq!(budget.take(Urgency::Numbers, at(now + 3_600_000)), Ok(()), "nobody waits any more");
        assert_eq!(budget.line().conditions, 0);
    }

    #[test]
    fn numbers_that_wait_hold_no_condition_back() {
        let budget = Arc::new(Budget::default());
        while budget.take(Urgency::Conditions, at(0)).is_ok() {}
        let before = budget.take(Urgency::Conditions, at(0)).unwrap_err();
        let places: Vec<_> = (0..10).map(|_| budget.wait(Urgency::Numbers, Duration::from_secs(1), at(0))).collect();
        assert_eq!(budget.take(Urgency::Conditions, at(0)), Err(before));
        let numbers = budget.take(Urgency::Numbers, at(0)).unwrap_err();
        assert_eq!(numbers, before + Duration::from_micros((RESERVE + 10) * TOKEN / RATE));
        assert_eq!(places[0].left(Urgency::Numbers, at(900)), Some(Duration::from_millis(100)));
        assert_eq!(places[0].left(Urgency::Numbers, at(1_000)), None);
        assert_eq!(places[0].left(Urgency::Numbers, at(-1)), None, "the clock moved back");
        assert_eq!(places[0].left(Urgency::Conditions, at(900)), None);
    }
}
