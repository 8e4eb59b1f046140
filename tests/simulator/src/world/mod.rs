//! The world that every policy meets: clients, pods and nodes, second by second.
//!
//! ```text
//! events → nodes and pods → clients leave, arrive, come back → memory, guard, kernel → endpoints → score
//! ```
//!
//! Clients are counts, not objects. The same seed and the same policy give the same run.

mod clients;
mod events;
pub mod pod;
mod waiting;

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use crate::score::{Cause, Score};
use crate::trace::Trace;
use pod::{Drain, End, Pod, Process};
use waiting::Waiting;

/// A node that stops is called not ready, and its pods with it, after this long.
pub const NODE_GRACE: i64 = 40;
/// A container that ended starts again after this long, doubled each time…
const FIRST_BACKOFF: i64 = 10;
/// …up to this.
const LONGEST_BACKOFF: i64 = 300;
/// A pod that was told to end is killed after this long: `drain.timeout` and 15 s.
const GRACE: i64 = 315;
/// Streams of a drain end over this window.
pub const DRAIN_WINDOW: i64 = 60;

/// How the Service picks an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// At random, as kube-proxy does.
    #[default]
    Random,
    /// The one with the fewest connections.
    LeastLoaded,
}

/// What is out of order.
#[derive(Clone, Debug, Default)]
struct Trouble {
    /// Until when each node is dead.
    dead_nodes: Vec<(u32, i64, i64)>,
    unschedulable_until: i64,
    silent_until: i64,
    delayed: Option<(i64, i64)>,
    leader_away_until: i64,
    bad_template_until: Option<i64>,
}

/// The world.
#[derive(Clone, Debug)]
pub struct World {
    /// What happens in it.
    pub trace: Arc<Trace>,
    /// Seconds since the start.
    pub now: i64,
    /// Pods, by age.
    pub pods: Vec<Pod>,
    /// What it cost so far.
    pub score: Score,
    /// The template of new pods, and whether it works.
    pub template: (u32, bool),
    waiting: Waiting,
    /// Ids of the pods of the client Service, as of the last second.
    routed: Vec<u64>,
    /// Positions of those that still exist.
    endpoints: Vec<usize>,
    placement: Placement,
    rng: Xoshiro256PlusPlus,
    trouble: Trouble,
    made: u64,
    next_event: usize,
    /// Whether a client was refused in this second.
    refused: bool,
}

impl World {
    /// As many shards as the clients of the first second need, all Ready for long.
    pub fn settled(trace: &Trace, seed: u64, placement: Placement) -> Self {
        let kinds = trace.clients.len();
        let mut sorted = trace.clone();
        sorted.events.sort_by_key(|event| event.at);
        let mut world = Self {
            now: 0,
            pods: vec![],
            score: Score::default(),
            template: (1, true),
            waiting: Waiting::nobody(kinds),
            routed: vec![],
            endpoints: vec![],
            placement,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            trouble: Trouble::default(),
            made: 0,
            next_event: 0,
            refused: false,
            trace: Arc::new(sorted),
        };
        for index in 0..world.ideal() {
            world.create(index);
            world.schedule();
            if let Some(pod) = world.pods.last_mut() {
                (pod.process, pod.ready) = (Process::Serves, true);
                (pod.created, pod.started, pod.ready_changed) = (-100_000, -99_990, Some(-99_980));
            }
        }
        world.route();
        world.resolve();
        world.populate();
        world
    }

    /// Whether the trace is over.
    pub fn is_over(&self) -> bool {
        self.now >= self.trace.duration.0
    }

    /// Lets a second pass.
    pub fn step(&mut self) {
        self.now += 1;
        self.happen();
        self.live();
        self.refused = false;
        self.drain();
        self.churn();
        self.resolve();
        self.arrive();
        self.breathe();
        self.route();
        self.count();
    }

    /// Shards that the clients need: what they bring in connections and in memory, at the default targets of 70 %.
    pub fn ideal(&self) -> u32 {
        let cluster = &self.trace.cluster;
        let wanted = self.trace.clients.iter().map(|kind| (u64::from(kind.count.at(self.now)), kind));
        let (mut connections, mut bytes) = (0, 0.0);
        for (count, kind) in wanted {
            connections += count;
            bytes += count as f64 * kind.memory.0 as f64;
            if let Some(calls) = &kind.calls {
                bytes += count as f64 * calls.per_minute / 60.0 * calls.takes.0 as f64 * calls.memory.0 as f64;
            }
        }
        let slot = cluster.memory.0 as f64 * 0.7 - self.trace.shard.base_memory.0 as f64;
        let by_connections = (connections as f64 / (f64::from(cluster.max_connections) * 0.7)).ceil();
        let by_memory = if slot > 0.0 { (bytes / slot).ceil() } else { 0.0 };
        (by_connections.max(by_memory) as u32).clamp(cluster.min_replicas, cluster.max_replicas)
    }

    /// Clients that want to be connected.
    pub fn wanted(&self) -> u64 {
        self.trace.clients.iter().map(|kind| u64::from(kind.count.at(self.now))).sum()
    }

    /// Clients that are connected, and clients that wait to be.
    pub fn present(&self) -> (u64, u64) {
        (self.pods.iter().map(Pod::connections).sum(), self.waiting.all())
    }

    /// Whether the autoscaler's process is away.
    pub fn leader_is_away(&self) -> bool {
        self.now < self.trouble.leader_away_until
    }

    /// By how much numbers are old.
    pub fn numbers_are_old_by(&self) -> i64 {
        self.trouble.delayed.filter(|(until, _)| self.now < *until).map_or(0, |(_, by)| by)
    }

    /// The scheduler's words for a pod that no node takes.
    pub fn why_unschedulable(&self) -> String {
        format!("0/{} nodes are available: {} Insufficient memory.", self.trace.nodes.count, self.trace.nodes.count)
    }

    // === what a policy may do ===

    /// Creates a pod.
    pub fn create(&mut self, index: u32) {
        self.made += 1;
        self.pods.push(Pod::new(self.made, index, self.now, self.template, self.trace.clients.len()));
    }

    /// Begins to end the streams of a shard.
    pub fn drain_shard(&mut self, id: u64, cause: Cause) {
        let now = self.now;
        if let Some(pod) = self.pod(id).filter(|pod| pod.serves() && pod.drain.is_none()) {
            pod.drain = Some(Drain { since: now, until: now + DRAIN_WINDOW, cause });
        }
    }

    /// Takes a drain back.
    pub fn cancel_drain(&mut self, id: u64) {
        if let Some(pod) = self.pod(id) {
            pod.drain = None;
        }
    }

    /// Deletes a pod: one that serves drains first, as on SIGTERM.
    pub fn delete(&mut self, id: u64, cause: Cause) {
        let now = self.now;
        self.drain_shard(id, cause);
        if let Some(pod) = self.pod(id) {
            pod.deleting = pod.deleting.or(Some(now));
        }
        self.pods.retain(|pod| pod.id != id || !matches!(pod.process, Process::Unscheduled | Process::Starts(_)));
    }

    /// Ends streams of a shard that stays, those first that own most.
    pub fn shed(&mut self, id: u64, bytes: u64, most: u64) {
        let trace = self.trace.clone();
        let Some(position) = self.pods.iter().position(|pod| pod.id == id && pod.serves()) else { return };
        for (kind, count) in self.pods[position].largest(&trace, bytes as f64, most) {
            self.pods[position].end(&trace, kind, count);
            self.end_gracefully(kind, count, Cause::Shed);
        }
    }

    /// Sets the label of the client Service.
    pub fn place(&mut self, id: u64, placed: bool) {
        if let Some(pod) = self.pod(id) {
            pod.placed = placed;
        }
    }

    fn pod(&mut self, id: u64) -> Option<&mut Pod> {
        self.pods.iter_mut().find(|pod| pod.id == id)
    }

    // === nodes and pods ===

    fn live(&mut self) {
        let now = self.now;
        self.schedule();
        let mut ended = vec![];
        for (position, pod) in self.pods.iter_mut().enumerate() {
            if let Process::Starts(at) = pod.process
                && at <= now
                && pod.works
            {
                pod.process = Process::Serves;
                (pod.ready, pod.ready_changed) = (true, Some(now));
            }
            if pod.deleting.is_some_and(|since| now - since >= GRACE) && pod.connections() > 0 {
                ended.push(position);
            }
        }
        for position in ended {
            let cause = self.pods[position].drain.map_or(Cause::ScaleIn, |drain| drain.cause);
            self.crash_streams(position, Some(cause));
        }
        let gone = |pod: &Pod| {
            pod.deleting.is_some_and(|since| now > since + 1) && pod.connections() == 0 && pod.process != Process::Dead
        };
        self.pods.retain(|pod| !gone(pod));
    }

    fn schedule(&mut self) {
        use rand::RngExt;

        if !self.pods.iter().any(|pod| pod.process == Process::Unscheduled) || self.now < self.trouble.unschedulable_until {
            return;
        }
        let mut room: Vec<u32> = vec![self.trace.nodes.shards; self.trace.nodes.count as usize];
        for pod in &self.pods {
            if let Some(node) = pod.node {
                room[node as usize] = room[node as usize].saturating_sub(1);
            }
        }
        for (node, from, until) in &self.trouble.dead_nodes {
            // Until it is called not ready, pods are still bound to it; they are not Ready before it is back.
            if self.now >= *from && self.now < *until {
                room[*node as usize] = 0;
            }
        }
        let shard = &self.trace.shard;
        for pod in self.pods.iter_mut().filter(|pod| pod.process == Process::Unscheduled) {
            let Some((node, free)) = room.iter_mut().enumerate().max_by_key(|(node, free)| (**free, std::cmp::Reverse(*node)))
            else {
                return;
            };
            if *free == 0 {
                return;
            }
            *free -= 1;
            pod.node = Some(node as u32);
            let boot = shard.boot.0 + self.rng.random_range(0..=shard.boot_jitter.0.max(0));
            pod.start(self.now, self.now + boot);
        }
    }

    /// The process of a pod ends, and starts again after a while.
    fn end_process(&mut self, position: usize, oom: bool) {
        let (now, boot) = (self.now, self.trace.shard.boot.0);
        self.crash_streams(position, oom.then_some(Cause::OomKill));
        let pod = &mut self.pods[position];
        pod.last_end = Some(End { oom, started: pod.started, at: now });
        pod.oom_kills += u64::from(oom);
        let backoff = (FIRST_BACKOFF << pod.restarts.min(5)).min(LONGEST_BACKOFF);
        pod.restarts += 1;
        let delay = if pod.restarts == 1 { 0 } else { backoff };
        pod.start(now + delay, now + delay + boot);
        self.score.oom_kills += u64::from(oom);
    }

    // === memory ===

    fn breathe(&mut self) {
        let trace = self.trace.clone();
        let hot = trace.cluster.memory.0 * 7 / 10;
        let mut killed = vec![];
        for position in 0..self.pods.len() {
            if !self.pods[position].serves() {
                continue;
            }
            let refused = self.pods[position].call(&trace, &mut self.rng);
            self.pods[position].rejected += refused;
            self.score.calls_refused += refused;
            for _ in 0..pod::LOOKS {
                self.pods[position].breathe(&trace);
                if self.pods[position].memory(&trace) < hot {
                    self.pods[position].stage = mcp_crds::load::GuardStage::Normal;
                    continue;
                }
                for (kind, count) in self.pods[position].guard(&trace) {
                    self.end_gracefully(kind, count, Cause::Guard);
                }
                if self.pods[position].memory(&trace) > trace.cluster.memory.0 {
                    killed.push(position);
                    break;
                }
            }
        }
        for position in killed {
            self.end_process(position, true);
        }
    }

    /// Endpoints follow a second later.
    fn route(&mut self) {
        self.routed.clear();
        let routed = |pod: &&Pod| pod.ready && pod.placed && pod.deleting.is_none();
        self.routed.extend(self.pods.iter().filter(routed).map(|pod| pod.id));
    }

    /// Finds the endpoints among the pods; both are in order of age.
    fn resolve(&mut self) {
        let mut routed = self.routed.iter().peekable();
        self.endpoints.clear();
        for (position, pod) in self.pods.iter().enumerate() {
            while routed.next_if(|id| **id < pod.id).is_some() {}
            if routed.next_if(|id| **id == pod.id).is_some() {
                self.endpoints.push(position);
            }
        }
    }

    fn count(&mut self) {
        let alive = self.pods.iter().filter(|pod| pod.process != Process::Dead).count() as u64;
        let ideal = u64::from(self.ideal());
        let serving = self.pods.iter().filter(|pod| pod.ready && pod.deleting.is_none() && pod.serves()).count() as u64;
        let (connected, waiting) = self.present();
        self.score.second(self.now, crate::score::Second { alive, ideal, serving, connected, waiting, refused: self.refused });
    }
}
