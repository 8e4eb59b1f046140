//! What a rotation tells: one event for each step, and one for what holds it.

use jiff::Timestamp;

use super::{Asked, InvalidAnnotation, Keys, Stage, Step, Wait};
use crate::names;

/// Names in one note: it has an end.
const MOST_NAMES: usize = 5;

/// Reason of the events of the steps before the last.
const ROTATING: &str = "KeysRotating";
/// Reason of the event of the last step.
const ROTATED: &str = "KeysRotated";
/// Reason of the event about what holds a rotation.
const HELD: &str = "KeysRotationHeld";
/// Reason of the event about an annotation that is no time.
pub const INVALID: &str = "KeysRotationInvalid";

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whether something is wrong.
    pub warning: bool,
    /// In one word.
    pub reason: &'static str,
    /// Who and what.
    pub note: String,
}

/// What to tell of a step that was written; nothing of one that only keeps the books.
pub fn stepped(step: &Step, before: &Keys, after: &Keys, asked: &Asked) -> Option<Told> {
    let old: Vec<_> = before.ring.session.iter().map(|key| key.id.as_str()).filter(|id| *id != after.newest()).collect();
    let (old, new) = (list(&old), after.newest());
    let (reason, note) = match step {
        Step::Rest | Step::Wait(_) | Step::Remember => return None,
        Step::Distribute(value) => (
            ROTATING,
            format!("Key {new} is distributed, as asked for with {value}: shards accept it, and seal with {old} until all do."),
        ),
        Step::Seal => (ROTATING, format!("Every shard accepts key {new}: new sessions are sealed with it.")),
        Step::Mark => {
            let until = after.retires_at(asked).map_or_else(String::new, |at| format!(" until {}", round(at)));
            (ROTATING, format!("Every shard seals with key {new}. Sessions of {old} are served{until}."))
        }
        Step::Unmark(shards) => {
            let shards: Vec<_> = shards.iter().map(String::as_str).collect();
            (ROTATING, format!("{} sealed with an old key again: {old} is kept for another session lifetime.", list(&shards)))
        }
        Step::Retire if old.is_empty() => (ROTATED, format!("Key {new} is the only one.")),
        Step::Retire => (ROTATED, format!("Key {old} is retired: its last session has ended. {new} is the only one.")),
    };
    Some(Told { warning: false, reason, note })
}

/// What to tell of a rotation that waits for a shard for too long.
pub fn waiting(wait: &Wait, keys: &Keys) -> Option<Told> {
    if !wait.held {
        return None;
    }
    let shards: Vec<_> = wait.shards.iter().map(String::as_str).collect();
    let (shards, new) = (list(&shards), keys.newest());
    let note = match wait.stage {
        Stage::Rest => return None,
        Stage::Distributing => format!("{shards}: not known to accept key {new}, so it is not used."),
        Stage::Sealing => format!("{shards}: not known to seal with key {new}, so no old key is retired."),
        Stage::Retiring => format!("{shards}: silent, so no old key is retired."),
    };
    Some(Told { warning: true, reason: HELD, note: format!("{note} The rotation goes on when they report it, or are gone.") })
}

/// What to tell of a rotation of a paused cluster.
pub fn paused(keys: &Keys) -> Told {
    let note = format!("The rotation to key {} goes on when the cluster is no longer paused.", keys.newest());
    Told { warning: false, reason: HELD, note }
}

/// What to tell of a rotation that is asked for during another.
pub fn queued(value: Timestamp) -> Told {
    let note = format!("The rotation asked for with {value} begins when the one under way has ended.");
    Told { warning: false, reason: ROTATING, note }
}

/// What to tell of an annotation that is no time.
pub fn invalid(invalid: &InvalidAnnotation) -> Told {
    let note = format!("{}: {invalid}, such as 2026-11-23T10:00:00Z. Nothing is rotated.", names::ANNOTATION_ROTATE_KEYS);
    Told { warning: true, reason: INVALID, note }
}

/// `tools-0, tools-1`; of many the first ones and their number.
fn list(names: &[&str]) -> String {
    let shown = names[..names.len().min(MOST_NAMES)].join(", ");
    if names.len() > MOST_NAMES { format!("{shown} and {} more", names.len() - MOST_NAMES) } else { shown }
}

/// Without fractions of a second.
fn round(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
