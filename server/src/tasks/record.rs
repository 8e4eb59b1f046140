//! What shards remember of tasks that run, or ran, on others: the second record of each. Pure: time is an argument.
//!
//! ```text
//! its owner says → taken, if newer          its owner is gone → adopted: this shard answers for it, and finds it a keeper
//! ```
//! The owner of a record is the process that changes it, and that sees to it that one other has it: the one that runs the
//! task, and when that is gone the one that kept it.

use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::Arc;

use super::id::{Key, TaskId};
use crate::limits::{MAX_TASK_COPIES, MAX_TASK_RESULT};
use crate::mcp::tasks::{State, Task};
use crate::session::Incarnation;

/// How much longer than its ttl a record is kept, milliseconds: clocks of shards differ, and who has just seen its task end
/// has a moment.
pub(super) const GRACE: u64 = 5_000;
/// About what a record takes beside its texts.
const OVERHEAD: usize = 256;

/// One task, as a shard knows it.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub id: TaskId,
    pub sealed: Arc<str>,
    pub principal: Arc<str>,
    pub task: Task,
    /// Grows with every change.
    pub version: u64,
    /// Changes it.
    pub owner: Incarnation,
    pub kept: Kept,
}

/// Who has the second record, as its owner knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub by: Option<Incarnation>,
    /// What that one has confirmed.
    pub version: u64,
    /// It is being sent.
    pub busy: bool,
    /// Had it before, and need not keep it any more.
    pub former: Option<Incarnation>,
    /// Nobody takes it: it is not sent again before, but for a change; milliseconds since the epoch.
    pub quiet: u64,
}

/// What became of a record that another shard told.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Taken {
    /// This, or something newer of the same owner, is kept.
    Kept,
    /// There is no room.
    Full,
    /// Who told it cannot know it.
    Forged(&'static str),
    /// What is kept here stands.
    Stands(u64, Task),
}

/// The records of others.
#[derive(Debug)]
pub(super) struct Copies {
    own: Incarnation,
    records: HashMap<Key, Record>,
    bytes: usize,
    most_bytes: usize,
}

impl Record {
    /// What it takes.
    pub(super) fn bytes(&self) -> usize {
        OVERHEAD + self.sealed.len() + self.principal.len() + self.task.bytes()
    }

    /// Another shard has what is known here.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.by.is_some() && self.kept.version >= self.version
    }
}

impl Copies {
    /// None yet; `own` is this process. No more than `most_bytes` are kept.
    pub(super) fn new(own: Incarnation, most_bytes: u64) -> Self {
        Self { own, records: HashMap::new(), bytes: 0, most_bytes: usize::try_from(most_bytes).unwrap_or(usize::MAX) }
    }

    /// This process.
    pub(super) fn own(&self) -> Incarnation {
        self.own
    }

    /// How many, and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.records.len(), self.bytes)
    }

    pub(super) fn get(&self, key: Key) -> Option<&Record> {
        self.records.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Record> {
        self.records.get_mut(&key)
    }

    pub(super) fn iter(&self) -> hash_map::Iter<'_, Key, Record> {
        self.records.iter()
    }

    /// Takes what `from` tells. `runs_here`: whether the process that runs the task is connected with this one, so that
    /// nobody else speaks for it. Its id has been verified.
    pub(super) fn take(&mut self, from: Incarnation, told: Record, runs_here: bool, now: u64) -> Taken {
        let (runs, key, id) = (told.id.runs, told.id.key(), told.id);
        if runs == self.own {
            return Taken::Forged("it runs where it was sent to");
        }
        if from != runs && runs_here {
            return Taken::Forged("the shard that runs it says itself what it is");
        }
        if (told.task.created, told.task.ttl) != (id.created, u64::from(id.ttl)) {
            return Taken::Forged("it has another time than its id");
        }
        if told.task.bytes() > MAX_TASK_RESULT {
            return Taken::Forged("it is larger than any task");
        }
        if id.is_over(now, GRACE) {
            // Nobody will ask for it.
            return Taken::Kept;
        }
        if let Some(known) = self.records.get(&key) {
            let is_owner = from == known.owner;
            if is_owner && told.version < known.version {
                return Taken::Kept;
            }
            let ends_again = known.task.state.is_terminal() && !told.task.state.is_terminal();
            // Of two that answer for it since it has lost its owner, the lower.
            let newer = told.version > known.version || (told.version == known.version && (is_owner || from < known.owner));
            if ends_again || !(from == runs || newer) {
                return Taken::Stands(known.version, known.task.clone());
            }
        }
        let before = self.records.get(&key).map_or(0, Record::bytes);
        let full = before == 0 && self.records.len() >= MAX_TASK_COPIES;
        let bytes = self.bytes - before + told.bytes();
        if full || (bytes > self.most_bytes && told.bytes() > before) {
            return Taken::Full;
        }
        self.bytes = bytes;
        self.records.insert(key, Record { owner: from, kept: Kept::default(), ..told });
        Taken::Kept
    }

    /// This process answers for a task of which nobody has a record. Without room nothing is kept: it will be found out again.
    pub(super) fn give_up(&mut self, told: Record) {
        let key = told.id.key();
        let fits = self.records.len() < MAX_TASK_COPIES && self.bytes + told.bytes() <= self.most_bytes;
        if fits && !self.records.contains_key(&key) {
            self.bytes += told.bytes();
            self.records.insert(key, Record { owner: self.own, kept: Kept::default(), ..told });
        }
    }

    /// This process answers for a record from now on: its owner is gone. A task that had not ended has failed. Returns
    /// whether that is so.
    pub(super) fn adopt(&mut self, key: Key, failed: &State, now: u64) -> bool {
        let own = self.own;
        self.change(key, |record| {
            (record.owner, record.kept) = (own, Kept { busy: record.kept.busy, ..Kept::default() });
            let fails = !record.task.state.is_terminal();
            if fails {
                record.version += 1;
                record.task.updated = now.max(record.task.updated);
                if let State::Failed(_, why) = failed {
                    record.task.message = Some(why.clone());
                }
                record.task.state = failed.clone();
            }
            fails
        })
        .unwrap_or(false)
    }

    /// Changes one, whatever its size becomes.
    pub(super) fn change<T>(&mut self, key: Key, change: impl FnOnce(&mut Record) -> T) -> Option<T> {
        let record = self.records.get_mut(&key)?;
        let before = record.bytes();
        let changed = change(record);
        self.bytes = self.bytes - before + record.bytes();
        Some(changed)
    }

    /// Forgets one.
    pub(super) fn remove(&mut self, key: Key) {
        if let Some(record) = self.records.remove(&key) {
            self.bytes -= record.bytes();
        }
    }

    /// Forgets those whose time is over.
    pub(super) fn expire(&mut self, now: u64) {
        let over: Vec<_> = self.records.values().map(|record| record.id).filter(|id| id.is_over(now, GRACE)).collect();
        for id in over {
            self.remove(id.key());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OWN: Incarnation = [1; 16];
    const RUNS: Incarnation = [5; 16];
    const NOW: u64 = 1_000;
    const MOST_BYTES: u64 = 8 << 20;

    fn record(number: u64, version: u64, state: State) -> Record {
        let id = TaskId { runs: RUNS, keeps: OWN, number, created: NOW, ttl: 10_000 };
        let task = Task { state, message: None, created: NOW, updated: NOW, ttl: 10_000, poll_interval: 1 };
        let (sealed, principal) = (format!("task-{number}").into(), "ada".into());
        Record { id, sealed, principal, task, version, owner: RUNS, kept: Kept::default() }
    }

    fn done(bytes: usize) -> State {
        State::Completed(json!("x".repeat(bytes)))
    }

    fn failed() -> State {
        State::Failed(-32603, "gone".to_owned())
    }

    fn copies() -> Copies {
        Copies::new(OWN, MOST_BYTES)
    }

    #[test]
    fn the_newest_stands_and_what_comes_late_changes_nothing() {
        let mut copies = copies();
        let key = record(1, 1, State::Working).id.key();
        assert_eq!(copies.take(RUNS, record(1, 2, done(3)), true, NOW), Taken::Kept);
        assert_eq!(copies.take(RUNS, record(1, 1, State::Working), true, NOW), Taken::Kept);
        assert_eq!(copies.get(key).unwrap().task.state, done(3));
        assert_eq!(copies.size().0, 1);
    }

    #[test]
    fn a_peer_speaks_for_no_task_that_another_runs_or_this_shard_does() {
        let mut copies = copies();
        let other = [7; 16];
        assert!(matches!(copies.take(other, record(1, 9, done(3)), true, NOW), Taken::Forged(_)));
        let own = Record { id: TaskId { runs: OWN, ..record(1, 1, State::Working).id }, ..record(1, 1, State::Working) };
        assert!(matches!(copies.take(other, own, false, NOW), Taken::Forged(_)));
        let mut longer = record(1, 1, State::Working);
        longer.task.ttl += 1;
        assert!(matches!(copies.take(RUNS, longer, true, NOW), Taken::Forged(_)));
        assert!(matches!(copies.take(RUNS, record(1, 1, done(MAX_TASK_RESULT)), true, NOW), Taken::Forged(_)));
        assert_eq!(copies.size(), (0, 0));
        assert_eq!(copies.take(other, record(1, 9, done(3)), false, NOW), Taken::Kept, "who ran it is gone");
    }

    #[test]
    fn what_was_said_of_a_lost_task_stands_unless_it_has_ended_after_all() {
        let mut copies = copies();
        let key = record(1, 1, State::Working).id.key();
        copies.take(RUNS, record(1, 3, State::Working), true, NOW);
        assert!(copies.adopt(key, &failed(), NOW + 1));
        let adopted = copies.get(key).unwrap().clone();
        assert_eq!((adopted.owner, adopted.version, &adopted.task.state), (OWN, 4, &failed()));
        let Taken::Stands(4, task) = copies.take(RUNS, record(1, 7, State::Working), true, NOW) else { panic!("it works again") };
        assert_eq!(task.state, failed());
        assert_eq!(copies.take(RUNS, record(1, 4, done(3)), true, NOW), Taken::Kept);
        assert!(!copies.adopt(key, &failed(), NOW), "what has ended stays as it ended");
        assert_eq!(copies.get(key).unwrap().task.state, done(3));
    }

    #[test]
    fn of_two_that_answer_for_a_lost_task_one_yields() {
        let (mut copies, lower, higher) = (copies(), [0; 16], [9; 16]);
        let key = record(1, 1, State::Working).id.key();
        copies.take(RUNS, record(1, 3, State::Working), true, NOW);
        copies.adopt(key, &failed(), NOW);
        assert!(matches!(copies.take(higher, record(1, 4, failed()), false, NOW), Taken::Stands(4, _)));
        assert_eq!(copies.take(lower, record(1, 4, failed()), false, NOW), Taken::Kept);
        assert_eq!(copies.get(key).unwrap().owner, lower);
        assert_eq!(copies.take(higher, record(1, 5, done(1)), false, NOW), Taken::Kept, "newer");
    }

    #[test]
    fn records_have_a_bound_in_number_and_in_bytes_and_what_is_kept_is_not_lost_to_it() {
        let mut copies = copies();
        let mut number = 0;
        while copies.take(RUNS, record(number, 1, done(MAX_TASK_RESULT - 2)), true, NOW) == Taken::Kept {
            number += 1;
        }
        let (count, bytes) = copies.size();
        assert!(
            bytes as u64 <= MOST_BYTES && count as u64 == number && (bytes + MAX_TASK_RESULT + 2 * OVERHEAD) as u64 > MOST_BYTES
        );
        assert_eq!(copies.take(RUNS, record(0, 2, done(MAX_TASK_RESULT - 2)), true, NOW), Taken::Kept, "no larger than before");
        copies.expire(NOW + 10_000 + GRACE);
        assert_eq!(copies.size(), (0, 0));
        for number in 0..MAX_TASK_COPIES as u64 {
            assert_eq!(copies.take(RUNS, record(number, 1, State::Working), true, NOW), Taken::Kept);
        }
        assert_eq!(copies.take(RUNS, record(u64::MAX, 1, State::Working), true, NOW), Taken::Full);
        assert_eq!(copies.take(RUNS, record(3, 2, done(1)), true, NOW), Taken::Kept);
        copies.remove(record(3, 2, done(1)).id.key());
        assert_eq!(copies.take(RUNS, record(u64::MAX, 1, State::Working), true, NOW), Taken::Kept);
    }

    #[test]
    fn what_is_over_is_forgotten_and_not_taken() {
        let mut copies = copies();
        copies.take(RUNS, record(1, 1, done(5)), true, NOW);
        copies.expire(NOW + 10_000 + GRACE - 1);
        assert_eq!(copies.size().0, 1);
        copies.expire(NOW + 10_000 + GRACE);
        assert_eq!(copies.size(), (0, 0));
        assert_eq!(copies.take(RUNS, record(1, 2, done(5)), true, NOW + 10_000 + GRACE), Taken::Kept);
        assert_eq!(copies.size(), (0, 0));
    }
}
