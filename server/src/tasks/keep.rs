//! Every record on two shards: a new one before its client hears of it, each change after it, an end before it is shown; and
//! what becomes of records whose owner or keeper is lost.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::id::Key;
use super::record::{Kept, Record};
use super::said::{Message, Request, Said};
use super::{Entry, Table, TaskId, Tasks, epoch_ms, lock};
use crate::auth::Principal;
use crate::fault::{Fault, Refused};
use crate::jsonrpc;
use crate::mcp::tasks::{State, Task};
use crate::session::Incarnation;
use crate::shard::Shard;

/// How long the end of a task waits for its keeper before it is shown all the same, and a new task for one.
const KEEP_TIME: Duration = Duration::from_secs(2);
/// How long a process that ends may take to hand over what it knows.
const LEAVE_TIME: Duration = Duration::from_secs(3);
/// After nobody has taken a record, milliseconds.
const RETRY_TIME: u64 = 5_000;
/// Between two looks at what is kept while anything is.
const LOOK: Duration = Duration::from_millis(200);

/// Undoes a task whose client will not hear of it.
struct Unborn<'a> {
    tasks: &'a Arc<Tasks>,
    number: u64,
}

impl Drop for Unborn<'_> {
    fn drop(&mut self) {
        self.tasks.forget(self.number);
    }
}

impl Tasks {
    /// Has another shard keep a new task, and gives it the id that names it; without another shard it is kept here alone.
    pub(super) async fn keep_new(self: &Arc<Self>, principal: &Principal, record: Record) -> Result<Arc<str>, Fault> {
        let number = record.id.number;
        let unborn = Unborn { tasks: self, number };
        let peers = self.shard().map(|shard| shard.peers.processes()).unwrap_or_default();
        let deadline = Instant::now() + KEEP_TIME;
        let (mut full, mut silent) = (false, false);
        // It may have taken the record.
        let mut former = None;
        let mut keeps = None;
        for peer in rotated(&peers, number) {
            let id = TaskId { keeps: peer, ..record.id };
            let record = Record { id, sealed: id.seal(&self.tagger, principal).into(), ..record.clone() };
            self.change_record(id.key(), |kept| {
                (kept.id, kept.sealed) = (id, Arc::clone(&record.sealed));
                kept.kept = Kept { by: Some(peer), busy: true, ..Kept::default() };
            });
            let Some(shard) = self.shard() else { break };
            let said = timeout(deadline.duration_since(Instant::now()), self.offer(&shard, peer, &record)).await;
            match said {
                Ok(Some(Said::Done)) => {
                    keeps = Some((id, record.sealed));
                    break;
                }
                Ok(Some(Said::Full)) => full = true,
                Ok(Some(Said::Leaving)) => {}
                Ok(_) if !shard.peers.is_connected(peer) => {}
                Ok(_) | Err(_) => {
                    silent = true;
                    former = Some(peer);
                }
            }
        }
        if keeps.is_none() && (full || silent) {
            return Err(Fault::OverCapacity(if full { Refused::Tasks } else { Refused::Peers }));
        }
        // Nobody else is there, or all of them are about to end.
        let (id, sealed) = keeps.unwrap_or_else(|| (record.id, Arc::clone(&record.sealed)));
        let by = (id.keeps != Incarnation::default()).then_some(id.keeps);
        self.change_record(id.key(), |kept| {
            (kept.id, kept.sealed) = (id, Arc::clone(&sealed));
            kept.kept = Kept { by, version: u64::from(by.is_some()), former, ..Kept::default() };
        });
        std::mem::forget(unborn);
        Ok(sealed)
    }

    /// Ends a task: its keeper knows before it is shown, unless none takes it in time.
    pub(super) async fn end(self: &Arc<Self>, number: u64, state: State) {
        let begun = {
            let mut table = lock(&self.table);
            let Table { entries, bytes, .. } = &mut *table;
            let Some(entry) = entries.get_mut(&number).filter(|entry| !entry.record.task.state.is_terminal()) else { return };
            let mut task = entry.record.task.clone();
            if let State::Failed(_, message) = &state {
                task.message = Some(message.clone());
            }
            (task.state, task.updated) = (state, epoch_ms().max(task.updated));
            if let Some(why) = self.unfit(&task, *bytes - entry.bytes) {
                warn!(why, "a task fails: its state does not fit");
                task.message = Some(why.clone());
                task.state = State::Failed(jsonrpc::INTERNAL_ERROR, why);
            }
            entry.ending = Some(task);
            entry.weigh(bytes);
            entry.record.version += 1;
            let is_idle = !std::mem::replace(&mut entry.record.kept.busy, true);
            (entry.record.id.key(), is_idle)
        };
        let (key, is_idle) = begun;
        if is_idle {
            self.spread(key);
        }
        if timeout(KEEP_TIME, self.settled(number)).await.is_err() {
            warn!(number, "a task has ended and its keeper has not confirmed");
        }
        let mut table = lock(&self.table);
        let Table { entries, bytes, .. } = &mut *table;
        let Some(entry) = entries.get_mut(&number) else { return };
        let Some(task) = entry.ending.take() else { return };
        entry.record.task = task;
        entry.weigh(bytes);
        self.tell(&entry.record.sealed, &entry.record.task);
    }

    /// Waits until the record of a task of this shard is not being sent.
    async fn settled(&self, number: u64) {
        loop {
            let settled = {
                let table = lock(&self.table);
                let Some(entry) = table.entries.get(&number) else { return };
                if !entry.record.kept.busy {
                    return;
                }
                Arc::clone(&entry.settled).notified_owned()
            };
            let mut settled = std::pin::pin!(settled);
            settled.as_mut().enable();
            let still = lock(&self.table).entries.get(&number).is_some_and(|entry| entry.record.kept.busy);
            if !still {
                return;
            }
            settled.await;
        }
    }

    /// Forgets a task of this shard, and has its keeper do so.
    pub(super) fn forget(self: &Arc<Self>, number: u64) {
        let record = {
            let mut table = lock(&self.table);
            let Some(entry) = table.entries.remove(&number) else { return };
            table.bytes -= entry.bytes;
            entry.record
        };
        // What is over its keeper forgets by itself.
        if record.id.is_over(epoch_ms(), 0) {
            return;
        }
        if let (Some(shard), Some(keeper)) = (self.shard(), record.kept.by) {
            let tasks = Arc::clone(self);
            tokio::spawn(async move { tasks.ask_to_forget(&shard, keeper, &record).await });
        }
    }

    async fn ask_to_forget(&self, shard: &Shard, keeper: Incarnation, record: &Record) -> Option<Said> {
        self.say(shard, keeper, Message::about(record, Request::Forget).encode()?).await
    }

    async fn offer(&self, shard: &Shard, to: Incarnation, record: &Record) -> Option<Said> {
        let (version, task) = (record.version, record.task.clone());
        let request = Request::Keep { version, task, leaving: self.leaving.load(Relaxed) };
        self.say(shard, to, Message::about(record, request).encode()?).await
    }

    /// Sends a record, which has been marked as busy, until another shard has the newest of it or none takes it.
    pub(super) fn spread(self: &Arc<Self>, key: Key) {
        let tasks = Arc::clone(self);
        tokio::spawn(async move {
            let mut passed = HashSet::new();
            while let Some((shard, record, to)) = tasks.next_offer(key, &passed) {
                let said = tasks.offer(&shard, to, &record).await;
                tasks.offered(key, &record, to, said, &mut passed);
            }
        });
    }

    /// What is to be sent, and to whom; none when that is all.
    fn next_offer(&self, key: Key, passed: &HashSet<Incarnation>) -> Option<(Arc<Shard>, Record, Incarnation)> {
        let shard = self.shard();
        let peers = shard.as_ref().map(|shard| shard.peers.processes()).unwrap_or_default();
        let mut table = lock(&self.table);
        let is_owned = table.record(key)?.owner == self.incarnation;
        let record = table.record_mut(key)?;
        let keeper = record.kept.by.filter(|keeper| peers.contains(keeper) && !passed.contains(keeper));
        let to = match keeper {
            Some(_) if record.is_kept() => None,
            Some(keeper) => Some(keeper),
            None => rotated(&peers, key.1).find(|peer| !passed.contains(peer) && *peer != key.0),
        };
        if let (Some(to), Some(shard), true) = (to, shard, is_owned) {
            let mut record = record.clone();
            if let Some(entry) = table.entries.get(&key.1).filter(|_| key.0 == self.incarnation) {
                record.task = entry.newest().clone();
            }
            return Some((shard, record, to));
        }
        record.kept.busy = false;
        // Who has no room now has none in a moment.
        record.kept.quiet = if passed.is_empty() || record.is_kept() { 0 } else { epoch_ms() + RETRY_TIME };
        if let Some(entry) = table.entries.get(&key.1).filter(|_| key.0 == self.incarnation) {
            entry.settled.notify_waiters();
        }
        None
    }

    /// Takes in what a shard said to a record it was to keep.
    fn offered(&self, key: Key, sent: &Record, to: Incarnation, said: Option<Said>, passed: &mut HashSet<Incarnation>) {
        match said {
            Some(Said::Done) => {
                self.change_record(key, |record| {
                    let moved = record.kept.by.filter(|before| *before != to);
                    record.kept =
                        Kept { by: Some(to), version: sent.version, busy: true, former: moved.or(record.kept.former), quiet: 0 };
                });
            }
            Some(Said::Stands { version, task }) => self.overruled(key, to, version, task),
            Some(Said::Forged(why)) => {
                warn!(why, number = key.1, "a peer does not take the record of a task");
                passed.insert(to);
            }
            Some(_) | None => {
                passed.insert(to);
            }
        }
    }

    /// Another shard has said of a task what stands.
    fn overruled(&self, key: Key, by: Incarnation, version: u64, task: Task) {
        let mut table = lock(&self.table);
        if key.0 == self.incarnation {
            let Table { entries, bytes, .. } = &mut *table;
            if let Some(entry) = entries.get_mut(&key.1) {
                warn!(number = key.1, "this shard was taken for lost: a task that ran here was given up elsewhere");
                entry.ending = None;
                (entry.record.task, entry.record.version) = (task, version.max(entry.record.version));
                let former = entry.record.kept.by.filter(|keeper| *keeper != by).or(entry.record.kept.former);
                entry.record.kept = Kept { by: Some(by), version: entry.record.version, former, ..entry.record.kept };
                entry.cancelled.cancel();
                entry.weigh(bytes);
                self.tell(&entry.record.sealed, &entry.record.task);
            }
        } else {
            table.copies.change(key, |record| {
                // Whoever was told of an end is not told of less.
                if task.state.is_terminal() || !record.task.state.is_terminal() {
                    (record.owner, record.task, record.version) = (by, task, version);
                }
            });
        }
    }

    /// Looks after what is kept, until dropped: records that lost their keeper get another, those that lost their owner are
    /// answered for, and what is over is forgotten.
    pub async fn watch(shard: Arc<Shard>) {
        let tasks = Arc::clone(&shard.tasks);
        let mut changed = shard.peers.watch();
        loop {
            changed.mark_unchanged();
            tasks.mend(&shard);
            let is_idle = {
                let table = lock(&tasks.table);
                table.entries.is_empty() && table.copies.size().0 == 0
            };
            tokio::select! {
                () = tasks.awake.notified() => {}
                _ = changed.changed(), if !is_idle => {}
                () = sleep(LOOK), if !is_idle => {}
            }
        }
    }

    fn mend(self: &Arc<Self>, shard: &Arc<Shard>) {
        let (now, time, connected) = (Instant::now(), epoch_ms(), shard.peers.processes());
        let is_lost = |process: Incarnation| process != self.incarnation && !connected.contains(&process);
        let (mut over, mut unkept, mut orphaned, mut former, mut returned) = (vec![], vec![], vec![], vec![], vec![]);
        {
            let mut table = lock(&self.table);
            table.copies.expire(time);
            for (number, entry) in &table.entries {
                // Who runs it forgets it; this one is run by nobody.
                if now >= entry.expires + 2 * super::POLL_INTERVAL && entry.running.is_some() {
                    over.push(*number);
                }
            }
            let copies: Vec<Key> = table.copies.iter().map(|(key, _)| *key).collect();
            let own: Vec<Key> = table.entries.keys().map(|number| (self.incarnation, *number)).collect();
            for key in copies.into_iter().chain(own) {
                let due = |record: &&mut Record| !record.kept.busy && record.kept.quiet <= time;
                let Some(record) = table.record_mut(key).filter(due) else { continue };
                if record.owner == self.incarnation && connected.contains(&key.0) {
                    record.kept.busy = true;
                    returned.push((key, record.clone()));
                } else if record.owner == self.incarnation {
                    let stays = record.kept.by.is_some_and(|keeper| !is_lost(keeper) || !shard.peers.is_gone(keeper));
                    if !(stays && record.is_kept()) && connected.iter().any(|peer| *peer != key.0) {
                        record.kept.busy = true;
                        unkept.push(key);
                    } else if record.kept.former.is_some_and(|process| connected.contains(&process)) {
                        former.extend(record.kept.former.take().map(|process| (process, record.clone())));
                    } else if record.kept.former.is_some_and(|process| shard.peers.is_gone(process)) {
                        record.kept.former = None;
                    }
                } else if is_lost(record.owner) && shard.peers.is_gone(record.owner) {
                    if connected.contains(&key.0) {
                        record.owner = key.0;
                    } else {
                        record.kept.busy = true;
                        orphaned.push(key);
                    }
                }
            }
        }
        for number in over {
            self.forget(number);
        }
        for key in unkept {
            self.spread(key);
        }
        for (key, record) in returned {
            let (tasks, shard) = (Arc::clone(self), Arc::clone(shard));
            tokio::spawn(async move {
                let said = tasks.offer(&shard, key.0, &record).await;
                tasks.handed_back(key, said);
            });
        }
        for (process, record) in former {
            let (tasks, shard) = (Arc::clone(self), Arc::clone(shard));
            tokio::spawn(async move {
                if let Some(Said::Stands { version, task }) = tasks.ask_to_forget(&shard, process, &record).await {
                    tasks.overruled_unless_ended(record.id.key(), process, version, task);
                }
            });
        }
        for key in orphaned {
            let (tasks, shard) = (Arc::clone(self), Arc::clone(shard));
            tokio::spawn(async move { tasks.take_over(&shard, key).await });
        }
    }

    /// The shard that runs a task is there after all, and has heard what became of it meanwhile.
    fn handed_back(&self, key: Key, said: Option<Said>) {
        let mut table = lock(&self.table);
        table.copies.change(key, |record| {
            record.kept.busy = false;
            match said {
                Some(Said::Done) => record.owner = key.0,
                Some(Said::Stands { version, task }) => (record.owner, record.version, record.task) = (key.0, version, task),
                Some(_) | None => record.kept.quiet = epoch_ms() + RETRY_TIME,
            }
        });
    }

    /// Another shard tells that it gave a task up that runs here, because it took this one for lost. Nothing else is heard of
    /// others about it.
    pub(super) fn given_up(&self, from: Incarnation, told: Record) -> Said {
        if !matches!(told.task.state, State::Failed(..)) {
            return Said::Forged("it runs where it was sent to".to_owned());
        }
        let ended = {
            let table = lock(&self.table);
            let entry = table.entries.get(&told.id.number);
            entry.map(|entry| (entry.record.version, entry.newest().clone())).filter(|(_, task)| task.state.is_terminal())
        };
        if let Some((version, task)) = ended {
            return Said::Stands { version, task };
        }
        self.overruled(told.id.key(), from, told.version, told.task);
        Said::Done
    }

    /// A shard that had the record gave the task up; one that has ended here has ended.
    fn overruled_unless_ended(&self, key: Key, by: Incarnation, version: u64, task: Task) {
        let ended = |entry: &Entry| entry.newest().state.is_terminal();
        let is_open = lock(&self.table).entries.get(&key.1).is_some_and(|entry| !ended(entry));
        if is_open {
            self.overruled(key, by, version, task);
        }
    }

    /// The owner of a record is gone: this shard answers for it, unless another has something newer.
    async fn take_over(self: &Arc<Self>, shard: &Arc<Shard>, key: Key) {
        let Some((known, text)) = lock(&self.table)
            .copies
            .get(key)
            .and_then(|record| Some((record.version, Message::about(record, Request::Find).encode()?)))
        else {
            return;
        };
        let (elsewhere, _) = self.everywhere(shard, text).await;
        let mut table = lock(&self.table);
        // It may have come back meanwhile, and said something.
        let unchanged = table.copies.get(key).is_some_and(|record| record.version == known && record.owner != self.incarnation);
        let back = table.copies.get(key).is_none_or(|record| shard.peers.is_connected(record.owner));
        if !unchanged || back {
            table.copies.change(key, |record| record.kept.busy = false);
            return;
        }
        if elsewhere.is_some_and(|(version, _)| version > known) {
            table.copies.remove(key);
            return;
        }
        let why = "the shard that ran this task ended before the task did";
        if table.copies.adopt(key, &State::Failed(jsonrpc::INTERNAL_ERROR, why.to_owned()), epoch_ms()) {
            self.lost.fetch_add(1, Relaxed);
            if let Some(record) = table.copies.get(key) {
                self.tell(&record.sealed, &record.task);
            }
        }
        drop(table);
        self.spread(key);
    }

    /// The process is about to end: what still runs has failed, and what is known here is handed to others.
    pub async fn leave(self: &Arc<Self>) {
        let Some(shard) = self.shard() else { return };
        self.leaving.store(true, Relaxed);
        let running: Vec<u64> = {
            let table = lock(&self.table);
            table.entries.iter().filter(|(_, entry)| entry.running.is_some()).map(|(number, _)| *number).collect()
        };
        for number in running {
            self.change(number, |entry| entry.fail("the shard that ran this task had to end before the task did".to_owned()));
        }
        let keys = {
            let mut table = lock(&self.table);
            let copies: Vec<_> = table.copies.iter().map(|(key, record)| (*key, record.owner)).collect();
            for (key, _) in copies.into_iter().filter(|(_, owner)| !shard.peers.is_connected(*owner)) {
                table.copies.change(key, |record| record.owner = self.incarnation);
            }
            let mut keys = vec![];
            for key in table.owned(self.incarnation) {
                if let Some(record) = table.record_mut(key) {
                    record.kept.version = 0;
                    if !std::mem::replace(&mut record.kept.busy, true) {
                        keys.push(key);
                    }
                }
            }
            keys
        };
        for key in keys {
            self.spread(key);
        }
        let handed = async {
            loop {
                if !self.unhanded().1 {
                    return;
                }
                sleep(LOOK / 4).await;
            }
        };
        let _ = timeout(LEAVE_TIME, handed).await;
        let owned = lock(&self.table).owned(self.incarnation).len();
        let left = self.unhanded().0;
        if left > 0 {
            warn!(tasks = owned, left, "no shard has taken over what is known of these tasks");
        } else if owned > 0 {
            info!(tasks = owned, "handed over what is known of tasks");
        }
    }

    /// Records that no other shard is known to have, and whether any is being sent.
    fn unhanded(&self) -> (usize, bool) {
        let table = lock(&self.table);
        let records = table.owned(self.incarnation).into_iter().filter_map(|key| table.record(key));
        records.filter(|record| !record.is_kept()).fold((0, false), |(left, busy), record| (left + 1, busy || record.kept.busy))
    }

    fn change_record(&self, key: Key, change: impl FnOnce(&mut Record)) {
        if let Some(record) = lock(&self.table).record_mut(key) {
            change(record);
        }
    }
}

impl Table {
    fn record(&self, key: Key) -> Option<&Record> {
        if key.0 == self.copies.own() { self.entries.get(&key.1).map(|entry| &entry.record) } else { self.copies.get(key) }
    }

    /// To change who keeps it; what changes its size goes another way.
    fn record_mut(&mut self, key: Key) -> Option<&mut Record> {
        if key.0 == self.copies.own() {
            self.entries.get_mut(&key.1).map(|entry| &mut entry.record)
        } else {
            self.copies.get_mut(key)
        }
    }

    /// Records this process answers for.
    fn owned(&self, own: Incarnation) -> Vec<Key> {
        let copies = self.copies.iter().filter(|(_, record)| record.owner == own).map(|(key, _)| *key);
        self.entries.keys().map(|number| (own, *number)).chain(copies).collect()
    }
}

/// The same for one number on every shard, and spread over them by it.
fn rotated(peers: &[Incarnation], number: u64) -> impl Iterator<Item = Incarnation> + '_ {
    let start = usize::try_from(number).unwrap_or(0).checked_rem(peers.len()).unwrap_or(0);
    peers.iter().cycle().skip(start).take(peers.len()).copied()
}
