//! What the shard carries at this moment, counted by `Drop`, and the report of it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::auth::Share;
use crate::fault::Refused;
use crate::limits::{Budgets, OPEN_CONNECTION, SLOW_READER};
use crate::room::Room;

/// Counters of one shard.
#[derive(Debug, Default)]
pub struct Load {
    budgets: Budgets,
    room: Arc<Room>,
    connections: AtomicU64,
    streams: AtomicU64,
    in_flight: AtomicU64,
    orphans: AtomicU64,
    tasks: AtomicU64,
    replay_bytes: AtomicU64,
    owed_bytes: AtomicU64,
    unfetched: AtomicU64,
    shed: AtomicU64,
    unsaid: AtomicU64,
    panics: AtomicU64,
    delayed: AtomicU64,
    rejected: [AtomicU64; Refused::ALL.len()],
    retry_after_ms: AtomicU64,
}

/// An accepted connection, until dropped.
#[derive(Debug)]
pub struct OpenConnection(Arc<Load>);

/// A held stream, until dropped; with the share of its principal's quota. One pointer: the hub keeps one in every slot.
#[derive(Debug)]
pub struct HeldStream(Box<Counted>);

#[derive(Debug)]
struct Counted {
    load: Arc<Load>,
    share: Option<Share>,
}

/// A request being answered, until dropped; with the share of its principal's quota.
#[derive(Debug)]
pub struct InFlight(Arc<Load>, Option<Share>);

/// A request whose client went away, until dropped.
#[derive(Debug)]
pub struct Orphan(Arc<Load>);

/// A task that runs, until dropped.
#[derive(Debug)]
pub struct RunningTask(Arc<Load>);

/// A request that has ended and whose client has not come back for the response yet, until dropped.
#[derive(Debug)]
pub struct Unfetched(Arc<Load>);

/// Bytes of events kept for clients that come back, until dropped.
#[derive(Debug)]
pub struct ReplayBytes {
    load: Arc<Load>,
    bytes: usize,
}

/// Bytes of an answer that its client has not taken yet, until dropped.
#[derive(Debug)]
pub struct OwedBytes {
    load: Arc<Load>,
    bytes: u64,
}

/// Since when a connection owes its client an answer.
#[derive(Debug, Default)]
pub struct Owing {
    load: Arc<Load>,
    since: Mutex<Option<Instant>>,
}

/// Bytes of bodies reserved, until dropped.
#[derive(Debug)]
pub struct BodyBytes {
    load: Arc<Load>,
    bytes: u64,
}

impl Load {
    /// Nothing yet, in a process that may take so many bytes (0: no limit).
    pub fn within(memory_limit: u64) -> Self {
        Self { budgets: Budgets::of(memory_limit), ..Self::default() }
    }

    /// What may be held at one time.
    pub fn budgets(&self) -> Budgets {
        self.budgets
    }

    /// What may be taken before the memory guard looks again.
    pub fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Whether answers that clients have not taken leave no room for more of them.
    pub fn owes_all_it_may(&self) -> bool {
        self.owed_bytes() >= self.budgets.answers
    }

    /// Counts bytes of an answer that is there already.
    pub fn owe(self: &Arc<Self>, bytes: usize) -> OwedBytes {
        let bytes = bytes as u64;
        self.owed_bytes.fetch_add(bytes, Relaxed);
        self.room.spend(bytes);
        OwedBytes { load: Arc::clone(self), bytes }
    }

    /// Bytes of answers that clients have not taken yet.
    pub fn owed_bytes(&self) -> u64 {
        self.owed_bytes.load(Relaxed)
    }

    /// Counts a connection, unless `cap` are open.
    pub fn connection(self: &Arc<Self>, cap: u64) -> Option<OpenConnection> {
        take(&self.connections, 1, cap).then(|| {
            self.room.grow_anyway(OPEN_CONNECTION as u64);
            OpenConnection(Arc::clone(self))
        })
    }

    /// Counts a stream, unless `cap` are held.
    pub fn stream(self: &Arc<Self>, cap: u64) -> Option<HeldStream> {
        take(&self.streams, 1, cap).then(|| HeldStream(Box::new(Counted { load: Arc::clone(self), share: None })))
    }

    /// Counts a request, unless `cap` are being answered.
    pub fn request(self: &Arc<Self>, cap: u64) -> Option<InFlight> {
        take(&self.in_flight, 1, cap).then(|| InFlight(Arc::clone(self), None))
    }

    /// Counts a request whose client went away, unless `cap` run on already.
    pub fn orphan(self: &Arc<Self>, cap: u64) -> Option<Orphan> {
        take(&self.orphans, 1, cap).then(|| Orphan(Arc::clone(self)))
    }

    /// Counts a response that waits for its client.
    pub fn unfetched(self: &Arc<Self>) -> Unfetched {
        self.unfetched.fetch_add(1, Relaxed);
        Unfetched(Arc::clone(self))
    }

    /// Keeps nothing yet; [`ReplayBytes::grow`] does.
    pub fn replay(self: &Arc<Self>) -> ReplayBytes {
        ReplayBytes { load: Arc::clone(self), bytes: 0 }
    }

    /// Counts a task that runs.
    pub fn task(self: &Arc<Self>) -> RunningTask {
        self.tasks.fetch_add(1, Relaxed);
        RunningTask(Arc::clone(self))
    }

    /// Reserves nothing yet; [`BodyBytes::grow`] does.
    pub fn body(self: &Arc<Self>) -> BodyBytes {
        BodyBytes { load: Arc::clone(self), bytes: 0 }
    }

    /// Counts an answer of 503, with the delay it asked for.
    pub fn rejected(&self, why: Refused, retry_after_ms: u64) {
        self.rejected[why as usize].fetch_add(1, Relaxed);
        // A moving mean, an eighth of the newest: the report wants "lately". Lost updates do not matter.
        let mean = self.retry_after_ms.load(Relaxed);
        self.retry_after_ms.store(if mean == 0 { retry_after_ms } else { (mean * 7 + retry_after_ms) / 8 }, Relaxed);
    }

    /// Counts streams ended by the memory guard.
    pub fn shed(&self, streams: u64) {
        self.shed.fetch_add(streams, Relaxed);
    }

    /// Counts a handler that panicked.
    pub fn panicked(&self) {
        self.panics.fetch_add(1, Relaxed);
    }

    /// Handlers that panicked since the start.
    pub fn panics_total(&self) -> u64 {
        self.panics.load(Relaxed)
    }

    /// A connection waits for room before it is served.
    pub fn delayed(&self) {
        self.delayed.fetch_add(1, Relaxed);
    }

    /// Connections that waited for room since the start.
    pub fn delayed_total(&self) -> u64 {
        self.delayed.load(Relaxed)
    }

    /// Counts notifications of running requests that were never sent.
    pub fn unsaid(&self, notifications: u64) {
        if notifications > 0 {
            self.unsaid.fetch_add(notifications, Relaxed);
        }
    }

    /// Notifications of running requests that were never sent, since the start.
    pub fn unsaid_total(&self) -> u64 {
        self.unsaid.load(Relaxed)
    }

    /// Open connections.
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// Held streams.
    pub fn streams(&self) -> u64 {
        self.streams.load(Relaxed)
    }

    /// Requests being answered.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// Tasks that run.
    pub fn tasks(&self) -> u64 {
        self.tasks.load(Relaxed)
    }

    /// Bytes of events kept for clients that come back.
    pub fn replay_bytes(&self) -> u64 {
        self.replay_bytes.load(Relaxed)
    }

    /// What a drain waits for: requests being answered, responses that wait for their client, and tasks that run.
    pub fn unfinished(&self) -> u64 {
        self.in_flight().saturating_add(self.unfetched.load(Relaxed)).saturating_add(self.tasks())
    }

    /// Requests whose client went away.
    pub fn orphans(&self) -> u64 {
        self.orphans.load(Relaxed)
    }

    /// Bytes of bodies reserved.
    pub fn body_bytes(&self) -> u64 {
        self.room.promised()
    }

    /// Streams ended by the memory guard since the start.
    pub fn shed_total(&self) -> u64 {
        self.shed.load(Relaxed)
    }

    /// Answers of 503 since the start, for this reason.
    pub fn rejected_for(&self, why: Refused) -> u64 {
        self.rejected[why as usize].load(Relaxed)
    }

    /// Answers of 503 since the start.
    pub fn rejected_total(&self) -> u64 {
        Refused::ALL.into_iter().map(|why| self.rejected_for(why)).sum()
    }

    /// Mean of the delays lately asked for, milliseconds.
    pub fn retry_after_mean_ms(&self) -> u64 {
        self.retry_after_ms.load(Relaxed)
    }
}

/// Adds unless the sum would pass `cap`.
fn take(counter: &AtomicU64, amount: u64, cap: u64) -> bool {
    counter.fetch_update(Relaxed, Relaxed, |now| now.checked_add(amount).filter(|sum| *sum <= cap)).is_ok()
}

impl BodyBytes {
    /// Reserves more, unless the budget of all bodies would be passed, or there is no room.
    #[must_use]
    pub fn grow(&mut self, bytes: u64, budget: u64) -> bool {
        let fits = self.load.room.promise(bytes, budget);
        if fits {
            self.bytes += bytes;
        }
        fits
    }

    /// What is reserved.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl HeldStream {
    /// Counted for its principal, too.
    #[must_use]
    pub fn of(mut self, share: Share) -> Self {
        self.0.share = Some(share);
        self
    }
}

impl InFlight {
    /// Counted for its principal, too.
    #[must_use]
    pub fn of(mut self, share: Share) -> Self {
        self.1 = Some(share);
        self
    }
}

impl ReplayBytes {
    /// Keeps more, unless more would be kept for all clients together than a shard of this size may, or there is no room.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let length = bytes as u64;
        if !take(&self.load.replay_bytes, length, self.load.budgets.replay) {
            return false;
        }
        let fits = self.load.room.take(length);
        if fits {
            self.bytes += bytes;
        } else {
            self.load.replay_bytes.fetch_sub(length, Relaxed);
        }
        fits
    }

    /// Keeps less.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.load.replay_bytes.fetch_sub(bytes as u64, Relaxed);
        self.load.room.give_back(bytes as u64);
    }

    /// What is kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Owing {
    /// Of a connection of this shard.
    pub fn of(load: Arc<Load>) -> Self {
        Self { load, since: Mutex::default() }
    }

    /// So many bytes are owed from now on.
    pub fn owe(&self, bytes: usize) -> OwedBytes {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.load.owe(bytes)
    }

    /// Nothing is owed any more.
    pub fn paid(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether anything is owed.
    pub fn is_owing(&self) -> bool {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether its client keeps others from being answered: it takes its time while there is no room for more answers.
    pub fn keeps_others_waiting(&self, now: Instant) -> bool {
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| now.duration_since(since) >= SLOW_READER)
            && (self.load.owes_all_it_may() || self.load.room.is_full())
    }
}

impl Drop for OwedBytes {
    fn drop(&mut self) {
        self.load.owed_bytes.fetch_sub(self.bytes, Relaxed);
        self.load.room.give_back(self.bytes);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

impl Drop for HeldStream {
    fn drop(&mut self) {
        self.0.load.streams.fetch_sub(1, Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        self.0.orphans.fetch_sub(1, Relaxed);
    }
}

impl Drop for RunningTask {
    fn drop(&mut self) {
        self.0.tasks.fetch_sub(1, Relaxed);
    }
}

impl Drop for Unfetched {
    fn drop(&mut self) {
        self.0.unfetched.fetch_sub(1, Relaxed);
    }
}

impl Drop for ReplayBytes {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

impl Drop for BodyBytes {
    fn drop(&mut self) {
        self.load.room.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Left;

    #[test]
    fn a_cap_holds_and_dropping_frees() {
        let load = Arc::new(Load::default());
        let first = load.connection(2).unwrap();
        let _second = load.connection(2).unwrap();
        assert!(load.connection(2).is_none());
        drop(first);
        assert!(load.connection(2).is_some());
        assert_eq!(load.connections(), 1);
    }

    #[test]
    fn the_byte_budget_is_shared_and_returned_whole() {
        let load = Arc::new(Load::default());
        let mut large = load.body();
        assert!(large.grow(60, 100) && large.grow(40, 100));
        let mut other = load.body();
        assert!(!other.grow(1, 100));
        drop(large);
        assert_eq!(load.body_bytes(), 0);
        assert!(other.grow(100, 100));
    }

    #[test]
    fn bodies_answers_and_what_is_kept_share_the_room() {
        let load = Arc::new(Load::default());
        let read = |all| load.room().read(Left { all, entry: all, growth: all });
        read(100);
        let (mut body, mut kept) = (load.body(), load.replay());
        assert!(body.grow(50, 1000) && kept.grow(30));
        assert!(!body.grow(21, 1000) && !kept.grow(21), "neither fits any more");
        assert_eq!((load.body_bytes(), load.replay_bytes()), (50, 30), "what did not fit is not counted");
        let owed = load.owe(40);
        assert!(load.room().is_full(), "an answer is there already, and counts");
        read(50);
        assert!(load.room().is_full(), "a reading may not have seen the body");
        drop((body, kept, owed));
        assert_eq!((load.body_bytes(), load.replay_bytes(), load.owed_bytes()), (0, 0, 0));
        assert!(load.body().grow(50, 1000) && !load.room().is_full());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_keeps_others_waiting_only_while_there_is_no_room_for_answers() {
        let load = Arc::new(Load::within(8 << 10));
        let owing = Owing::of(Arc::clone(&load));
        let owed = owing.owe(1000);
        assert!(!load.owes_all_it_may(), "1000 of 1024 bytes");
        let other = load.owe(24);
        assert!(load.owes_all_it_may());
        assert!(!owing.keeps_others_waiting(Instant::now()), "it has only begun");
        tokio::time::advance(SLOW_READER).await;
        assert!(owing.keeps_others_waiting(Instant::now()));
        drop(other);
        assert!(!owing.keeps_others_waiting(Instant::now()), "there is room");
        drop(owed);
        assert_eq!(load.owed_bytes(), 0);
    }

    #[test]
    fn what_is_kept_for_clients_follows_the_size_of_the_shard() {
        let kept = |limit| {
            let load = Arc::new(Load::within(limit));
            let mut bytes = load.replay();
            while bytes.grow(1 << 20) {}
            bytes.bytes() >> 20
        };
        assert_eq!([kept(0), kept(1 << 30), kept(128 << 20)], [32, 32, 16]);
    }

    #[test]
    fn rejections_are_counted_by_reason() {
        let load = Load::default();
        load.rejected(Refused::Streams, 1000);
        load.rejected(Refused::Memory, 2000);
        assert_eq!((load.rejected_for(Refused::Streams), load.rejected_total()), (1, 2));
        assert!((1000..2000).contains(&load.retry_after_mean_ms()));
    }
}
