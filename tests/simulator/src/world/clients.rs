//! Clients leave, arrive, are refused and come back.

use mcp_crds::load::GuardStage;
use rand::RngExt;

use super::pod::Process;
use super::{Placement, World};
use crate::draw::binomial;
use crate::score::Cause;

/// `Retry-After` of a refusal, seconds (docs/limits.md).
const RETRY_AFTER: (u32, u32) = (1, 6);
/// A client whose stream was ended gracefully opens another within this many seconds.
const AFTER_END: (u32, u32) = (1, 5);
/// One whose connection broke, or who met nobody, backs off for longer.
pub(super) const AFTER_CRASH: (u32, u32) = (1, 10);

impl World {
    /// Connects the clients of the first second, who have been there for long.
    pub(super) fn populate(&mut self) {
        let trace = self.trace.clone();
        for (kind, clients) in trace.clients.iter().enumerate() {
            let mut left = clients.count.at(0);
            while left > 0 && !self.endpoints.is_empty() {
                let group = left.min(clients.together);
                let position = self.pick();
                self.pods[position].streams[kind] += group;
                left -= group;
            }
        }
        for pod in &mut self.pods {
            pod.settle(&trace);
        }
    }

    /// Streams of shards that drain end over their window.
    pub(super) fn drain(&mut self) {
        let (now, trace) = (self.now, self.trace.clone());
        for position in 0..self.pods.len() {
            let Some(drain) = self.pods[position].drain.filter(|_| self.pods[position].serves()) else { continue };
            let left = (drain.until - now + 1).max(1) as u32;
            for kind in 0..trace.clients.len() {
                let ended = self.pods[position].streams[kind].div_ceil(left);
                if ended > 0 {
                    self.pods[position].end(&trace, kind, ended);
                    self.end_gracefully(kind, ended, drain.cause);
                }
            }
        }
    }

    /// Some have been there long enough, and when fewer want to be connected than are, so many leave.
    pub(super) fn churn(&mut self) {
        let trace = self.trace.clone();
        for (kind, clients) in trace.clients.iter().enumerate() {
            let connected: u64 = self.pods.iter().map(|pod| u64::from(pod.streams[kind])).sum();
            let wanted = u64::from(clients.count.at(self.now));
            let surplus = (connected + self.waiting.of(kind)).saturating_sub(wanted);
            let leaving = surplus - self.waiting.give_up(kind, surplus);
            let by_hold = clients.hold.map_or(0.0, |hold| 1.0 / hold.0 as f64);
            let by_surplus = if connected == 0 { 0.0 } else { leaving as f64 / connected as f64 };
            let chance = (by_hold + by_surplus).min(1.0);
            if chance <= 0.0 {
                continue;
            }
            for pod in self.pods.iter_mut().filter(|pod| pod.streams[kind] > 0) {
                let gone = binomial(pod.streams[kind], chance, &mut self.rng);
                if gone > 0 {
                    pod.end(&trace, kind, gone);
                }
            }
        }
    }

    /// Newcomers and those who come back try to connect.
    pub(super) fn arrive(&mut self) {
        let trace = self.trace.clone();
        let back = self.waiting.attempts();
        for (kind, clients) in trace.clients.iter().enumerate() {
            let connected: u64 = self.pods.iter().map(|pod| u64::from(pod.streams[kind])).sum();
            let present = connected + self.waiting.of(kind) + u64::from(back[kind]);
            let newcomers = u64::from(clients.count.at(self.now)).saturating_sub(present) as u32;
            let mut left = newcomers + back[kind];
            while left > 0 {
                let group = left.min(clients.together);
                left -= group;
                self.attempt(kind, group);
            }
        }
    }

    /// One connection, of one or more streams, to one endpoint.
    fn attempt(&mut self, kind: usize, streams: u32) {
        if self.endpoints.is_empty() {
            self.score.unreachable += u64::from(streams);
            self.waiting.come_back(kind, streams, AFTER_CRASH, &mut self.rng);
            return;
        }
        let position = self.pick();
        let max = u64::from(self.trace.cluster.max_connections);
        let pod = &mut self.pods[position];
        if pod.process != Process::Serves {
            // Its node is dead, and the Service does not know yet.
            self.score.unreachable += u64::from(streams);
            self.waiting.come_back(kind, streams, AFTER_CRASH, &mut self.rng);
            return;
        }
        let room = if pod.stage >= GuardStage::RefusingStreams { 0 } else { max.saturating_sub(pod.connections()) };
        let taken = room.min(u64::from(streams)) as u32;
        let refused = streams - taken;
        pod.streams[kind] += taken;
        if refused > 0 {
            pod.rejected += u64::from(refused);
            pod.retry_after.0 += u64::from(RETRY_AFTER.0 + RETRY_AFTER.1) * 500 * u64::from(refused);
            pod.retry_after.1 += u64::from(refused);
            self.score.rejected += u64::from(refused);
            self.refused = true;
            self.waiting.come_back(kind, refused, RETRY_AFTER, &mut self.rng);
        }
    }

    fn pick(&mut self) -> usize {
        match self.placement {
            Placement::Random => self.endpoints[self.rng.random_range(0..self.endpoints.len())],
            Placement::LeastLoaded => {
                let least = self.endpoints.iter().min_by_key(|position| self.pods[**position].connections());
                least.copied().unwrap_or(self.endpoints[0])
            }
        }
    }

    /// Clients whose streams were ended with a completion.
    pub(super) fn end_gracefully(&mut self, kind: usize, count: u32, cause: Cause) {
        self.score.force(cause, u64::from(count));
        self.waiting.come_back(kind, count, AFTER_END, &mut self.rng);
    }

    /// All connections of a pod break. Without a cause it is the trace that broke them.
    pub(super) fn crash_streams(&mut self, position: usize, cause: Option<Cause>) {
        for kind in 0..self.trace.clients.len() {
            let count = std::mem::take(&mut self.pods[position].streams[kind]);
            self.score.force(cause.unwrap_or(Cause::Trace), u64::from(count));
            self.waiting.come_back(kind, count, AFTER_CRASH, &mut self.rng);
        }
    }
}
