//! A pod: its life, what it holds, and its memory.

use mcp_crds::load::GuardStage;
use rand::rngs::Xoshiro256PlusPlus;

use crate::draw::poisson;
use crate::score::Cause;
use crate::trace::Trace;

/// Part of what is freed that the allocator keeps, until it is purged or used again.
const KEPT_BY_ALLOCATOR: f64 = 0.25;
/// Bodies in flight may take this part of the memory limit; what is over it is refused (docs/limits.md).
const BODY_BUDGET: f64 = 1.0 / 8.0;
/// The memory guard looks this often in a second.
pub(super) const LOOKS: u32 = 4;
/// Where the guard's stages begin, and how much lower they end.
const REFUSE_AT: f64 = 0.80;
const PURGE_AT: f64 = 0.85;
const SHED_AT: f64 = 0.90;
const RELEASE: f64 = 0.05;

/// What the server process of a pod does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// No node takes the pod.
    Unscheduled,
    /// Starts, and is Ready at this second; never when its template does not work.
    Starts(i64),
    /// Serves.
    Serves,
    /// Its node is dead.
    Dead,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Killed for memory.
    pub oom: bool,
    /// When it had started.
    pub started: i64,
    /// When it ended.
    pub at: i64,
}

/// Streams of a process that end over a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// When it began.
    pub since: i64,
    /// When the last stream ends.
    pub until: i64,
    /// Whose fault it is.
    pub cause: Cause,
}

/// A pod.
#[expect(clippy::struct_excessive_bools, reason = "conditions and labels, each of its own")]
#[derive(Clone, Debug)]
pub struct Pod {
    /// Grows with every pod.
    pub id: u64,
    /// The number in its name.
    pub index: u32,
    /// Its node.
    pub node: Option<u32>,
    /// When it was created.
    pub created: i64,
    /// What its process does.
    pub process: Process,
    /// Start of the process that runs.
    pub started: i64,
    /// The condition Ready.
    pub ready: bool,
    /// When it changed.
    pub ready_changed: Option<i64>,
    /// Restarts of the container.
    pub restarts: u32,
    /// How the last process ended.
    pub last_end: Option<End>,
    /// Its template.
    pub template: u32,
    /// Whether that works.
    pub works: bool,
    /// Label of the client Service.
    pub placed: bool,
    /// It is being deleted, since.
    pub deleting: Option<i64>,
    /// Its streams end.
    pub drain: Option<Drain>,
    /// Whether its numbers can be had.
    pub silent: bool,
    /// Connections, by kind of client.
    pub streams: Vec<u32>,
    /// Calls in flight.
    pub in_flight: u64,
    /// Work refused.
    pub rejected: u64,
    /// Streams ended by the guard.
    pub guarded: u64,
    /// Kills for memory.
    pub oom_kills: u64,
    /// Sum and number of the delays told with refusals since the last report.
    pub retry_after: (u64, u64),
    /// How far the guard has gone.
    pub stage: GuardStage,
    owned: f64,
    garbage: f64,
    leaked: f64,
    bodies: f64,
}

impl Pod {
    /// A pod that was just created.
    pub fn new(id: u64, index: u32, created: i64, (template, works): (u32, bool), kinds: usize) -> Self {
        Self {
            id,
            index,
            node: None,
            created,
            process: Process::Unscheduled,
            started: created,
            ready: false,
            ready_changed: None,
            restarts: 0,
            last_end: None,
            template,
            works,
            placed: true,
            deleting: None,
            drain: None,
            silent: false,
            streams: vec![0; kinds],
            in_flight: 0,
            rejected: 0,
            guarded: 0,
            oom_kills: 0,
            retry_after: (0, 0),
            stage: GuardStage::Normal,
            owned: 0.0,
            garbage: 0.0,
            leaked: 0.0,
            bodies: 0.0,
        }
    }

    /// Connections it holds.
    pub fn connections(&self) -> u64 {
        self.streams.iter().map(|count| u64::from(*count)).sum()
    }

    /// What it is asked to hold: connections and calls.
    pub fn load(&self) -> u64 {
        self.connections() + self.in_flight
    }

    /// Bytes that the kernel counts.
    pub fn memory(&self, trace: &Trace) -> u64 {
        (trace.shard.base_memory.0 as f64 + self.owned + self.garbage + self.leaked + self.bodies) as u64
    }

    /// Whether it takes connections that reach it.
    pub fn serves(&self) -> bool {
        self.process == Process::Serves
    }

    /// Starts a new process with nothing.
    pub(super) fn start(&mut self, now: i64, ready_at: i64) {
        self.process = Process::Starts(ready_at);
        self.started = now;
        self.streams.fill(0);
        (self.in_flight, self.rejected, self.guarded, self.retry_after) = (0, 0, 0, (0, 0));
        (self.owned, self.garbage, self.leaked, self.bodies) = (0.0, 0.0, 0.0, 0.0);
        self.stage = GuardStage::Normal;
        self.drain = None;
        self.unready(now);
    }

    pub(super) fn unready(&mut self, now: i64) {
        if self.ready {
            self.ready = false;
            self.ready_changed = Some(now);
        }
    }

    /// The calls of this second; returns how many found no room for their body.
    pub(super) fn call(&mut self, trace: &Trace, rng: &mut Xoshiro256PlusPlus) -> u64 {
        let budget = trace.cluster.memory.0 as f64 * BODY_BUDGET;
        let (mut in_flight, mut bodies, mut refused) = (0, 0.0, 0);
        for (clients, count) in trace.clients.iter().zip(&self.streams) {
            let Some(calls) = &clients.calls else { continue };
            let mean = f64::from(*count) * calls.per_minute / 60.0 * calls.takes.0 as f64;
            let wanted = poisson(mean, rng) as f64;
            let room = if calls.memory.0 == 0 { wanted } else { ((budget - bodies) / calls.memory.0 as f64).floor().max(0.0) };
            let taken = wanted.min(room);
            in_flight += taken as u64;
            refused += (wanted - taken) as u64;
            bodies += taken * calls.memory.0 as f64;
            self.leaked += taken / calls.takes.0 as f64 * calls.leaks.0 as f64;
        }
        (self.in_flight, self.bodies) = (in_flight, bodies);
        refused
    }

    /// Lets memory follow what is held, for a part of a second.
    pub(super) fn breathe(&mut self, trace: &Trace) {
        let held: f64 =
            trace.clients.iter().zip(&self.streams).map(|(kind, count)| kind.memory.0 as f64 * f64::from(*count)).sum();
        if held >= self.owned {
            let share = 1.0 - (-1.0 / (f64::from(LOOKS) * trace.shard.warm.0 as f64)).exp();
            let grows = (held - self.owned) * share;
            self.owned += grows;
            self.garbage = (self.garbage - grows).max(0.0);
        } else {
            self.garbage += (self.owned - held) * KEPT_BY_ALLOCATOR;
            self.owned = held;
        }
    }

    /// The guard looks: returns how many streams it ends, by kind. The kinds that own most come first.
    pub(super) fn guard(&mut self, trace: &Trace) -> Vec<(usize, u32)> {
        let limit = trace.cluster.memory.0 as f64;
        let share = self.memory(trace) as f64 / limit;
        self.stage = stage(self.stage, share);
        if self.stage >= GuardStage::Purging {
            self.garbage = 0.0;
        }
        let over = self.memory(trace) as f64 - (SHED_AT - RELEASE) * limit;
        if self.stage < GuardStage::Shedding || over <= 0.0 {
            return vec![];
        }
        let ended = self.largest(trace, over, u64::MAX);
        for (kind, count) in &ended {
            self.end(trace, *kind, *count);
            self.guarded += u64::from(*count);
        }
        ended
    }

    /// Streams that free `bytes`, the largest first, at most `most`.
    pub(super) fn largest(&self, trace: &Trace, bytes: f64, most: u64) -> Vec<(usize, u32)> {
        let mut kinds: Vec<_> = (0..self.streams.len()).filter(|kind| self.streams[*kind] > 0).collect();
        kinds.sort_by_key(|kind| std::cmp::Reverse(trace.clients[*kind].memory));
        let warm = self.warmth(trace);
        let (mut left, mut room, mut ended) = (bytes, most, vec![]);
        for kind in kinds {
            let each = (trace.clients[kind].memory.0 as f64 * warm).max(1.0);
            let count = ((left / each).ceil().max(0.0) as u64).min(u64::from(self.streams[kind])).min(room);
            if count > 0 {
                left -= count as f64 * each;
                room -= count;
                ended.push((kind, count as u32));
            }
        }
        ended
    }

    /// Ends streams of a kind, which frees what they own.
    pub(super) fn end(&mut self, trace: &Trace, kind: usize, count: u32) {
        let freed = f64::from(count) * trace.clients[kind].memory.0 as f64 * self.warmth(trace);
        self.streams[kind] -= count;
        self.owned = (self.owned - freed).max(0.0);
        if self.stage < GuardStage::Purging {
            self.garbage += freed * KEPT_BY_ALLOCATOR;
        }
    }

    /// Which part of what its connections will own they own by now.
    fn warmth(&self, trace: &Trace) -> f64 {
        let held: f64 =
            trace.clients.iter().zip(&self.streams).map(|(kind, count)| kind.memory.0 as f64 * f64::from(*count)).sum();
        if held > 0.0 { (self.owned / held).min(1.0) } else { 0.0 }
    }

    /// Fills it as if it had held these streams for long.
    pub(super) fn settle(&mut self, trace: &Trace) {
        self.owned = trace.clients.iter().zip(&self.streams).map(|(kind, count)| kind.memory.0 as f64 * f64::from(*count)).sum();
    }
}

/// Up as soon as a threshold is reached, down only below its release.
fn stage(previous: GuardStage, share: f64) -> GuardStage {
    [(GuardStage::Shedding, SHED_AT), (GuardStage::Purging, PURGE_AT), (GuardStage::RefusingStreams, REFUSE_AT)]
        .into_iter()
        .find(|(stage, at)| share >= *at || (*stage <= previous && share >= at - RELEASE))
        .map_or(GuardStage::Normal, |(stage, _)| stage)
}

#[cfg(test)]
mod tests {
    use super::GuardStage::{Normal, Purging, RefusingStreams, Shedding};
    use super::*;

    #[test]
    fn the_guard_has_the_servers_thresholds() {
        // The rows of the server's own test.
        let rows = [
            (Normal, 0.799, Normal),
            (Normal, 0.800, RefusingStreams),
            (Normal, 0.850, Purging),
            (Normal, 0.900, Shedding),
            (Shedding, 0.850, Shedding),
            (Shedding, 0.849, Purging),
            (Shedding, 0.799, RefusingStreams),
            (Shedding, 0.749, Normal),
        ];
        for (previous, share, expected) in rows {
            assert_eq!(stage(previous, share), expected, "{previous:?} at {share}");
        }
    }
}
