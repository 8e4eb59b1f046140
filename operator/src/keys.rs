//! The rotation of a cluster's keys: which step is due, and what the Secret says after it.
//!
//! ```text
//! rest ─ distribute → distributing ─ seal → sealing ─ mark → retiring ─ retire → rest
//!        a new key,     every shard           every shard      the last session of
//!        accepted only  accepts it            seals with it    the old key has ended
//! ```
//!
//! Session keys and control keys go together: they are one document, which a shard takes whole or not at all, so a shard that
//! reports the new session key accepts the new control key too. Each step is one write of one Secret, and the next one follows
//! from what the Secret says and from what the shards report: whoever carries it out may end between any two.
//!
//! - The stage is read from the ring itself: keys are listed oldest first, and the newest is to seal. What times are needed is
//!   in a [`Record`] beside it; without one, clocks start anew and nothing is lost.
//! - A shard counts while it has a process that may answer clients. One that is gone does not; a silent one holds every step.
//! - There are never more than two generations: what is asked for during a rotation begins when it has ended.

mod record;
#[cfg(test)]
mod tests;
mod words;

use std::time::Duration;

use jiff::Timestamp;
use mcp_crds::control::{CLOCK_TOLERANCE_SECONDS, Key, KeyRing};
use mcp_crds::load::LoadReport;

pub use record::{Asked, InvalidAnnotation, Record, asked_at};
pub use words::{INVALID, Told, invalid, paused, queued, stepped, waiting};

use crate::stages::{Container, Observed, ObservedShard, SILENT_AFTER_INTERVALS, ShardState, elapsed};

/// Before new keys are used: a container that started with the old ones is seen to run by then, so that it is waited for.
pub const SETTLES: Duration = Duration::from_secs(10);
/// A step that waits longer than this for a shard says for which.
pub const HELD_AFTER: Duration = Duration::from_mins(5);
/// Two shards' clocks may differ by twice what the control port tolerates, else the one that is off is silent here. This also
/// covers a container that starts with a mount some seconds old and seals with an old key until the mount has followed.
pub const CLOCKS: Duration = Duration::from_secs(2 * CLOCK_TOLERANCE_SECONDS);

/// The keys of a cluster, and what a rotation must remember: the content of its Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// What shards mount.
    pub ring: KeyRing,
    /// What only the operator reads.
    pub record: Record,
}

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// One key of each kind.
    Rest,
    /// There are new keys, which nothing is sealed or signed with yet.
    Distributing,
    /// The new keys are to be used; not every shard is known to.
    Sealing,
    /// Every shard uses the new keys; sessions of the old one live on.
    Retiring,
}

/// A shard with a process that may answer clients.
#[derive(Clone, Copy, Debug)]
pub struct Voice<'a> {
    /// Its name.
    pub shard: &'a str,
    /// What it said lately; none when it is silent.
    pub says: Option<&'a LoadReport>,
}

/// What is to be done with the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// Nothing now.
    Wait(Wait),
    /// Write down how long sessions live: it changed, and sessions keep what they were given.
    Remember,
    /// Give shards new keys to accept, for this value of the annotation.
    Distribute(Timestamp),
    /// Use the new keys.
    Seal,
    /// Write down that from now on no session is sealed with an old key.
    Mark,
    /// Take that back: these shards sealed with an old key again.
    Unmark(Vec<String>),
    /// Forget the old keys.
    Retire,
}

/// What a rotation waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Where it waits.
    pub stage: Stage,
    /// Shards that have not reported what the next step needs.
    pub shards: Vec<String>,
    /// Whether it has waited for them for long.
    pub held: bool,
}

/// The step that is due.
///
/// Pure and repeatable: a step that was written is not due again, one that was not is due again.
pub fn rotate(keys: &Keys, asked: &Asked, voices: &[Voice<'_>], now: Timestamp) -> Step {
    if keys.must_remember(asked) {
        return Step::Remember;
    }
    let stage = keys.stage();
    let lagging = |lags: &dyn Fn(&LoadReport) -> bool| -> Vec<String> {
        voices.iter().filter(|voice| voice.says.is_none_or(lags)).map(|voice| voice.shard.to_owned()).collect()
    };
    let (record, newest) = (&keys.record, keys.newest());
    let wait = |shards: Vec<String>, since: Option<Timestamp>| {
        let held = !shards.is_empty() && since.is_some_and(|since| elapsed(since, now) >= HELD_AFTER);
        Step::Wait(Wait { stage, shards, held })
    };
    match stage {
        Stage::Rest if record.is_under_way() => Step::Retire,
        Stage::Rest => match asked.value.filter(|value| !record.seen.contains(value)) {
            Some(value) => Step::Distribute(value),
            None => Step::Rest,
        },
        Stage::Distributing => {
            let lagging = lagging(&|report| report.key_ids.iter().all(|id| id != newest));
            let settled = record.distributed_at.is_none_or(|at| elapsed(at, now) >= SETTLES);
            if lagging.is_empty() && settled { Step::Seal } else { wait(lagging, record.distributed_at) }
        }
        Stage::Sealing => {
            let lagging = lagging(&|report| report.sealing_key_id != newest);
            if lagging.is_empty() { Step::Mark } else { wait(lagging, record.sealing_since) }
        }
        Stage::Retiring => {
            let strays = voices.iter().filter(|voice| voice.says.is_some_and(|report| report.sealing_key_id != newest));
            let strays: Vec<_> = strays.map(|voice| voice.shard.to_owned()).collect();
            let (silent, due) = (lagging(&|_| false), keys.retires_at(asked));
            if !strays.is_empty() {
                Step::Unmark(strays)
            } else if silent.is_empty() && due.is_some_and(|due| now >= due) {
                Step::Retire
            } else {
                wait(silent, due)
            }
        }
    }
}

/// The shards that count: those with a process that may answer clients.
pub fn voices(observed: &Observed, now: Timestamp) -> Vec<Voice<'_>> {
    let voice = |shard| voice(observed, shard, now);
    observed.shards.iter().filter_map(voice).collect()
}

fn voice<'a>(observed: &Observed, shard: &'a ObservedShard, now: Timestamp) -> Option<Voice<'a>> {
    let lately = |at| elapsed(at, now) <= observed.report_interval * SILENT_AFTER_INTERVALS;
    let says = shard.report.as_ref().filter(|received| lately(received.at)).map(|received| &received.report);
    let runs = match observed.state(shard, now) {
        ShardState::Finished => return None,
        // Being deleted by somebody else, it still answers its clients; without a word it is gone.
        ShardState::Lost => says.is_some(),
        // What has not started yet will read the Secret as it is then.
        ShardState::Pending => says.is_some() || matches!(shard.container, Container::Running { .. }),
        ShardState::Fresh | ShardState::Silent | ShardState::Draining => says.is_some() || shard.container.may_run(),
    };
    runs.then_some(Voice { shard: &shard.name, says })
}

// === impl Step ===

impl Step {
    /// Whether there is something to write.
    pub fn is_due(&self) -> bool {
        match self {
            Self::Rest | Self::Wait(_) => false,
            Self::Remember | Self::Distribute(_) | Self::Seal | Self::Mark | Self::Unmark(_) | Self::Retire => true,
        }
    }
}

// === impl Stage ===

impl Stage {
    /// A number for a gauge, in the order of the steps.
    pub fn number(self) -> i64 {
        match self {
            Self::Rest => 0,
            Self::Distributing => 1,
            Self::Sealing => 2,
            Self::Retiring => 3,
        }
    }
}

// === impl Keys ===

impl Keys {
    /// First keys: what is asked for when they are made, they satisfy.
    pub fn first(session: Key, control: Key, asked: &Asked) -> Self {
        let ring =
            KeyRing { sealing: session.id.clone(), signing: control.id.clone(), session: vec![session], control: vec![control] };
        Self { ring, record: Record::first(asked) }
    }

    /// How far a rotation is, from the ring itself.
    pub fn stage(&self) -> Stage {
        let KeyRing { session, sealing, control, signing } = &self.ring;
        let newest_is_used = |keys: &[Key], used: &String| keys.last().is_none_or(|newest| newest.id == *used);
        if !newest_is_used(session, sealing) || !newest_is_used(control, signing) {
            Stage::Distributing
        } else if session.len() < 2 && control.len() < 2 {
            Stage::Rest
        } else if self.record.sealed_at.is_some() {
            Stage::Retiring
        } else {
            Stage::Sealing
        }
    }

    /// Id of the newest session key.
    pub fn newest(&self) -> &str {
        self.ring.session.last().map_or("", |key| &key.id)
    }

    /// Whether a key of this id is in the ring: ids are prefixes of digests, and must differ.
    pub fn holds(&self, id: &str) -> bool {
        self.ring.session.iter().chain(&self.ring.control).any(|key| key.id == id)
    }

    /// When the old keys may go: when the last session that any of them sealed has ended by every shard's clock. None before
    /// every shard seals with the new one.
    pub fn retires_at(&self, asked: &Asked) -> Option<Timestamp> {
        let ended = later(self.record.sealed_at?, self.record.longest(asked.lifetime));
        Some(later(self.record.sessions_end_by.map_or(ended, |by| by.max(ended)), CLOCKS))
    }

    /// Shards give out what they serve, not what the resource says: a longer lifetime counts before they do, a shorter one
    /// when all of them do.
    fn must_remember(&self, asked: &Asked) -> bool {
        self.record.session_lifetime().is_some_and(|known| asked.lifetime > known || (asked.lifetime < known && asked.served))
    }

    /// What the Secret is to say when a step is done. `fresh` are a session and a control key, for new ones.
    #[must_use]
    pub fn after(&self, step: &Step, fresh: (Key, Key), asked: &Asked, now: Timestamp) -> Self {
        let Self { mut ring, mut record } = self.clone();
        match step {
            Step::Rest | Step::Wait(_) | Step::Remember => {}
            Step::Distribute(value) => {
                ring.session.push(fresh.0);
                ring.control.push(fresh.1);
                record.see(*value);
                record.distributed_at = Some(now);
            }
            Step::Seal => {
                let newest = |keys: &[Key]| keys.last().map(|key| key.id.clone()).unwrap_or_default();
                (ring.sealing, ring.signing) = (newest(&ring.session), newest(&ring.control));
                record.sealing_since = Some(now);
            }
            Step::Mark => record.sealed_at = Some(now),
            Step::Unmark(_) => {
                record.sealing_since = Some(now);
                record.sealed_at = None;
            }
            Step::Retire => {
                ring.session.retain(|key| key.id == ring.sealing);
                ring.control.retain(|key| key.id == ring.signing);
                (record.distributed_at, record.sealing_since, record.sealed_at) = (None, None, None);
            }
        }
        record.remember(asked, *step == Step::Remember, now);
        Self { ring, record }
    }
}

/// A moment so much later; the last moment there is, when that is later still.
fn later(moment: Timestamp, by: Duration) -> Timestamp {
    moment.checked_add(by).unwrap_or(Timestamp::MAX)
}
