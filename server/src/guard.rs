//! What the shard does about its memory: refuses what grows it, then ends streams. Readings come from `memory`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mcp_crds::load::{GuardStage, ShedRequest};
use tokio::time::{Instant, interval};
use tracing::{debug, warn};

use crate::heap;
use crate::memory::{self, Group};
use crate::shard::Shard;

/// Between two readings.
const PERIOD: Duration = Duration::from_millis(250);
/// Streams are ended at every so many readings: what the last step freed must have had time to show.
const STEP: u64 = 4;

/// Streams one step may end: a twentieth of those held, so that a wrong reading cannot empty a shard.
const SHED_DIVISOR: usize = 20;

/// Between two orders to shed: the operator gives one a minute, and one that comes twice must not end twice as much.
const ORDERS_APART: Duration = Duration::from_secs(30);

/// What the last reading said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Memory in use that the kernel cannot reclaim, bytes.
    pub working_set: u64,
    /// The limit, bytes; 0 without one.
    pub limit: u64,
    /// The working set when the shard became ready, bytes.
    pub base: u64,
    /// Kernel socket buffers the cgroup does not charge, bytes.
    pub sockets: u64,
    /// OOM kills since the start.
    pub oom_kills: u64,
    /// How far the guard has gone.
    pub stage: GuardStage,
}

/// The guard's memory of the last reading, and of the last order to shed.
#[derive(Debug, Default)]
pub struct Guard {
    reading: Mutex<Reading>,
    /// The last stage is reached. Every request asks, so it takes no lock.
    is_shedding: AtomicBool,
    ordered: Mutex<Option<Instant>>,
    purged: AtomicU64,
}

impl Guard {
    /// The last reading.
    pub fn reading(&self) -> Reading {
        *lock(&self.reading)
    }

    /// How far the guard has gone.
    pub fn stage(&self) -> GuardStage {
        self.reading().stage
    }

    /// Whether streams are ended to free memory: what comes must not take what that frees.
    pub fn is_shedding(&self) -> bool {
        self.is_shedding.load(Relaxed)
    }

    /// Takes a new reading; the base stays what it was.
    pub fn update(&self, reading: Reading) {
        let mut last = lock(&self.reading);
        *last = Reading { base: last.base, ..reading };
        self.is_shedding.store(reading.stage == GuardStage::Shedding, Relaxed);
    }

    /// The shard has become ready: what it uses now is what it uses without load.
    pub fn ready(&self) {
        let mut last = lock(&self.reading);
        last.base = last.working_set;
    }

    /// The allocator gave back so many bytes.
    pub fn purged(&self, bytes: u64) {
        self.purged.fetch_add(bytes, Relaxed);
    }

    /// Bytes the allocator gave back since the start, because the guard had it do so.
    pub fn purged_total(&self) -> u64 {
        self.purged.load(Relaxed)
    }

    /// Whether an order to shed may be obeyed at this moment; if so, the next one has to wait.
    pub fn takes_order(&self, now: Instant) -> bool {
        let mut ordered = lock(&self.ordered);
        let takes = ordered.is_none_or(|last| now.duration_since(last) >= ORDERS_APART);
        if takes {
            *ordered = Some(now);
        }
        takes
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the memory of a group until dropped, and acts on it.
pub async fn watch(shard: Arc<Shard>, group: Group) {
    let mut ticks = interval(PERIOD);
    let mut before = None;
    for tick in 0_u64.. {
        ticks.tick().await;
        let now = match group.read() {
            Ok(now) => now,
            Err(error) => {
                // The last reading stays in force: a guard that cannot see must not let go.
                debug!(%error, "cannot read the memory of this shard");
                continue;
            }
        };
        let kills = now.oom_kills.saturating_sub(*before.get_or_insert(now.oom_kills));
        let last = shard.guard.reading();
        let limit = now.limit.unwrap_or(0);
        let stage = memory::stage(last.stage, now.used, limit);
        shard.load.room().read(memory::left(now.used, limit));
        shard.guard.update(Reading { working_set: now.used, limit, oom_kills: kills, stage, ..last });
        if stage != last.stage {
            warn!(from = ?last.stage, to = ?stage, used = now.used, limit, "the memory guard changes its stage");
        }
        if tick % STEP == 0 {
            if purges(stage) {
                let freed = heap::purge();
                shard.guard.purged(freed);
                debug!(freed, used = now.used, limit, "gave free memory back");
            }
            let due = share_to_shed(stage, shard.hub.counts().streams);
            if due > 0 {
                let ended = shard.hub.shed(due);
                shard.load.shed(ended as u64);
                warn!(ended, used = now.used, limit, "ended streams for want of memory");
            }
        }
    }
}

/// Whether what the allocator keeps for later goes back to the kernel in this step.
pub fn purges(stage: GuardStage) -> bool {
    match stage {
        GuardStage::Normal | GuardStage::RefusingStreams => false,
        GuardStage::Purging | GuardStage::Shedding => true,
    }
}

/// How many streams to end in one step, of those held.
pub fn share_to_shed(stage: GuardStage, held: usize) -> usize {
    match stage {
        GuardStage::Normal | GuardStage::RefusingStreams | GuardStage::Purging => 0,
        GuardStage::Shedding => held.div_ceil(SHED_DIVISOR),
    }
}

/// How many streams to end for an order of the operator, of those held: as many as are asked for, never more than a step
/// allows, and no more than free the bytes that are asked for, by what a stream costs here on average.
pub fn share_of_order(asked: &ShedRequest, reading: &Reading, held: usize) -> usize {
    let most = held.div_ceil(SHED_DIVISOR).min(usize::try_from(asked.streams).unwrap_or(usize::MAX));
    if asked.bytes == 0 || held == 0 {
        return most;
    }
    let each = (reading.working_set.saturating_sub(reading.base) / held as u64).max(1);
    most.min(usize::try_from(asked.bytes.div_ceil(each)).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_ends_what_frees_its_bytes_and_never_more_than_a_twentieth() {
        let reading = Reading { working_set: 1040 << 20, base: 40 << 20, ..Reading::default() };
        let ends = |bytes, streams, held| share_of_order(&ShedRequest { bytes, streams }, &reading, held);
        assert_eq!(ends(10 << 20, 50, 1000), 10, "a stream costs a mebibyte");
        assert_eq!(ends(500 << 20, 1000, 1000), 50, "a twentieth");
        assert_eq!(ends(500 << 20, 7, 1000), 7, "as many as are asked for");
        assert_eq!(ends(0, 50, 1000), 50, "without bytes the number counts");
        assert_eq!((ends(1, 50, 1000), ends(1 << 20, 50, 0)), (1, 0));
    }

    #[test]
    fn a_second_order_has_to_wait_until_the_first_could_show() {
        let (guard, now) = (Guard::default(), Instant::now());
        assert!(guard.takes_order(now));
        assert!(!guard.takes_order(now + ORDERS_APART - Duration::from_millis(1)));
        assert!(guard.takes_order(now + ORDERS_APART), "one that was refused does not count");
    }

    #[test]
    fn only_the_last_stage_ends_streams_and_at_most_a_twentieth_a_step() {
        assert_eq!(share_to_shed(GuardStage::Purging, 1000), 0);
        assert_eq!(share_to_shed(GuardStage::Shedding, 1000), 50);
        assert_eq!(share_to_shed(GuardStage::Shedding, 1), 1);
        assert_eq!(share_to_shed(GuardStage::Shedding, 0), 0);
    }

    #[test]
    fn memory_is_given_back_before_any_stream_is_ended_and_counted() {
        assert!(!purges(GuardStage::RefusingStreams));
        assert!(purges(GuardStage::Purging) && share_to_shed(GuardStage::Purging, 1000) == 0);
        assert!(purges(GuardStage::Shedding));
        let guard = Guard::default();
        guard.purged(3);
        guard.purged(4);
        assert_eq!(guard.purged_total(), 7);
    }

    #[tokio::test]
    async fn what_may_be_taken_follows_the_readings() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: String| {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let uses = |bytes: u64| write("sys/fs/cgroup/memory.current", format!("{bytes}\n"));
        write("proc/self/cgroup", "0::/\n".to_owned());
        write("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n".to_owned());
        write("sys/fs/cgroup/memory.max", "100000000\n".to_owned());
        write("sys/fs/cgroup/memory.stat", "inactive_file 0\n".to_owned());
        uses(50_000_000);
        let (shard, group) = (Arc::new(Shard::test()), Group::find(root.path()).unwrap().unwrap());
        let watching = tokio::spawn(watch(Arc::clone(&shard), group));
        let is_full = async |full: bool| {
            for _ in 0..200 {
                if shard.load.room().is_full() == full && shard.guard.reading().limit > 0 {
                    return true;
                }
                tokio::time::sleep(PERIOD / 5).await;
            }
            false
        };
        assert!(is_full(false).await);
        assert!(shard.load.room().take(47_000_000) && !shard.load.room().take(1 << 20), "47 of 100 MB are left");
        uses(98_000_000);
        assert!(is_full(true).await, "next to the limit nothing is left");
        shard.load.room().give_back(47_000_000);
        uses(50_000_000);
        assert!(is_full(false).await);
        watching.abort();
    }

    #[test]
    fn the_base_is_what_was_used_when_the_shard_became_ready() {
        let guard = Guard::default();
        guard.update(Reading { working_set: 40, ..Reading::default() });
        guard.ready();
        guard.update(Reading { working_set: 90, ..Reading::default() });
        assert_eq!((guard.reading().base, guard.reading().working_set), (40, 90));
    }
}
