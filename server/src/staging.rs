//! From a published configuration to the one in force: staged on every shard, flipped together by the operator.
//!
//! ```text
//! loaded → staged → named by the operator, or 30 s without an operator → in force
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::serving::Serving;
use crate::shard::Shard;

/// Without an operator a staged configuration waits this long.
const ALONE: Duration = Duration::from_secs(30);
/// An operator that has not asked for this long is not there.
const OPERATOR_GONE: Duration = Duration::from_mins(1);

/// The configurations of a shard that are not in force.
#[derive(Debug, Default)]
pub struct Staging(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    staged: Option<Staged>,
    clock: Clock,
    state: State,
}

#[derive(Debug)]
struct Staged {
    serving: Arc<Serving>,
    since: Instant,
}

/// When the operator last asked, and for what.
#[derive(Clone, Debug, Default)]
struct Clock {
    asked: Option<Instant>,
    wants: Option<String>,
}

/// What the load report says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Hash of the newest configuration that was loaded; empty when that failed.
    pub newest: String,
    /// Why it failed; empty when it did not.
    pub error: String,
}

impl Staging {
    /// A configuration was loaded. The first one is in force at once.
    pub fn stage(&self, shard: &Shard, serving: Arc<Serving>, now: Instant) {
        let mut inner = self.lock();
        let hash = serving.snapshot.hash().to_owned();
        inner.state = State { newest: hash.clone(), error: String::new() };
        match shard.serving() {
            None => {
                inner.staged = None;
                shard.guard.ready();
                shard.serve(&serving);
                info!(hash, "ready: the first configuration is in force");
            }
            Some(current) if current.snapshot.hash() == hash => inner.staged = None,
            Some(_) => {
                info!(hash, "a configuration is staged");
                inner.staged = Some(Staged { serving, since: now });
                inner.flip_when_due(shard, now);
            }
        }
    }

    /// A configuration could not be loaded; the old one stays.
    pub fn failed(&self, error: String) {
        let mut inner = self.lock();
        warn!(error, "the newest configuration cannot be served; the one in force stays");
        inner.staged = None;
        inner.state = State { newest: String::new(), error };
    }

    /// The operator asked for a load report, and named the configuration it wants.
    pub fn asked(&self, shard: &Shard, wants: Option<&str>) {
        let now = Instant::now();
        let mut inner = self.lock();
        inner.clock = Clock { asked: Some(now), wants: wants.map(str::to_owned) };
        inner.flip_when_due(shard, now);
    }

    /// Time has passed.
    pub fn tick(&self, shard: &Shard, now: Instant) {
        self.lock().flip_when_due(shard, now);
        shard.tell_of_flips();
    }

    /// What the load report says.
    pub fn state(&self) -> State {
        self.lock().state.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn flip_when_due(&mut self, shard: &Shard, now: Instant) {
        let clock = &self.clock;
        if let Some(staged) = self.staged.take_if(|staged| clock.is_due(staged.serving.snapshot.hash(), staged.since, now)) {
            info!(hash = staged.serving.snapshot.hash(), "a configuration is in force");
            shard.serve(&staged.serving);
        }
    }
}

impl Clock {
    fn is_due(&self, hash: &str, since: Instant, now: Instant) -> bool {
        let named = self.wants.as_deref() == Some(hash);
        let alone = self.asked.is_none_or(|asked| now.duration_since(asked) >= OPERATOR_GONE);
        named || (alone && now.duration_since(since) >= ALONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: u64, start: Instant) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn the_operators_word_flips_at_once() {
        let start = Instant::now();
        let clock = Clock { asked: Some(start), wants: Some("new".to_owned()) };
        assert!(clock.is_due("new", start, start));
        assert!(!clock.is_due("newer", start, after(59, start)));
    }

    #[test]
    fn while_an_operator_asks_nothing_flips_by_itself() {
        let start = Instant::now();
        let clock = Clock { asked: Some(after(100, start)), wants: Some("old".to_owned()) };
        assert!(!clock.is_due("new", start, after(159, start)));
        assert!(clock.is_due("new", start, after(160, start)));
    }

    #[test]
    fn without_an_operator_it_flips_after_thirty_seconds() {
        let start = Instant::now();
        assert!(!Clock::default().is_due("new", start, after(29, start)));
        assert!(Clock::default().is_due("new", start, after(30, start)));
    }
}
