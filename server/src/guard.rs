//! What the shard does about its memory: refuses what grows it, then ends streams. Readings come from `memory`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mcp_crds::load::GuardStage;
use tokio::time::interval;
use tracing::{debug, warn};

use crate::memory::{self, Group};
use crate::shard::Shard;

/// Between two readings.
const PERIOD: Duration = Duration::from_millis(250);
/// Streams are ended at every so many readings: what the last step freed must have had time to show.
const STEP: u64 = 4;

/// Streams one step may end: a twentieth of those held, so that a wrong reading cannot empty a shard.
const SHED_DIVISOR: usize = 20;

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

/// The guard's memory of the last reading.
#[derive(Debug, Default)]
pub struct Guard(Mutex<Reading>);

impl Guard {
    /// The last reading.
    pub fn reading(&self) -> Reading {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How far the guard has gone.
    pub fn stage(&self) -> GuardStage {
        self.reading().stage
    }

    /// Takes a new reading; the base stays what it was.
    pub fn update(&self, reading: Reading) {
        let mut last = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *last = Reading { base: last.base, ..reading };
    }

    /// The shard has become ready: what it uses now is what it uses without load.
    pub fn ready(&self) {
        let mut last = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        last.base = last.working_set;
    }
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
        shard.guard.update(Reading { working_set: now.used, limit, oom_kills: kills, stage, ..last });
        if stage != last.stage {
            warn!(from = ?last.stage, to = ?stage, used = now.used, limit, "the memory guard changes its stage");
        }
        if tick % STEP == 0 {
            let due = share_to_shed(stage, shard.hub.counts().streams);
            if due > 0 {
                let ended = shard.hub.shed(due);
                shard.load.shed(ended as u64);
                warn!(ended, used = now.used, limit, "ended streams for want of memory");
            }
        }
    }
}

/// How many streams to end in one step, of those held.
pub fn share_to_shed(stage: GuardStage, held: usize) -> usize {
    match stage {
        GuardStage::Normal | GuardStage::RefusingStreams | GuardStage::Purging => 0,
        GuardStage::Shedding => held.div_ceil(SHED_DIVISOR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_stage_ends_streams_and_at_most_a_twentieth_a_step() {
        assert_eq!(share_to_shed(GuardStage::Purging, 1000), 0);
        assert_eq!(share_to_shed(GuardStage::Shedding, 1000), 50);
        assert_eq!(share_to_shed(GuardStage::Shedding, 1), 1);
        assert_eq!(share_to_shed(GuardStage::Shedding, 0), 0);
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
