//! What the trace does to the cluster.

use rand::RngExt;

use super::pod::Process;
use super::{NODE_GRACE, World};
use crate::draw::binomial;
use crate::score::Cause;
use crate::trace::{Event, What};

impl World {
    /// Events of this second, and the end of earlier ones.
    pub(super) fn happen(&mut self) {
        while let Some(event) = self.trace.events.get(self.next_event).filter(|event| event.at.0 <= self.now).cloned() {
            self.next_event += 1;
            self.begin(&event);
        }
        self.go_on();
    }

    fn begin(&mut self, event: &Event) {
        let until = self.now + event.lasts.map_or(0, |lasts| lasts.0);
        let count = event.count.unwrap_or(0) as usize;
        let percent = event.percent.unwrap_or(0);
        match event.what {
            What::NodeLoss => self.lose_nodes(count, until),
            What::ShardCrash => {
                let mut serving: Vec<_> = (0..self.pods.len()).filter(|position| self.pods[*position].serves()).collect();
                for _ in 0..count.min(serving.len()) {
                    let position = serving.swap_remove(self.rng.random_range(0..serving.len()));
                    self.end_process(position, false);
                }
            }
            What::ConnectionsLost => self.lose_connections(percent),
            What::ReportsSilent => {
                self.trouble.silent_until = until;
                for pod in &mut self.pods {
                    pod.silent = self.rng.random_range(0..100) < percent;
                }
            }
            What::ReportsDelayed => self.trouble.delayed = Some((until, event.by.map_or(0, |by| by.0))),
            What::LeaderRestart => self.trouble.leader_away_until = until,
            What::Rollout => self.template = (self.template.0 + 1, true),
            What::BadRollout => {
                self.template = (self.template.0 + 1, false);
                self.trouble.bad_template_until = Some(until);
            }
            What::Unschedulable => self.trouble.unschedulable_until = until,
        }
    }

    /// The nodes with most shards die: the worst that can happen.
    fn lose_nodes(&mut self, count: usize, until: i64) {
        let mut nodes: Vec<_> = (0..self.trace.nodes.count).collect();
        let shards = |node: &u32| self.pods.iter().filter(|pod| pod.node == Some(*node)).count();
        nodes.sort_by_key(|node| (std::cmp::Reverse(shards(node)), *node));
        for node in nodes.into_iter().take(count) {
            self.trouble.dead_nodes.push((node, self.now, until));
            for position in 0..self.pods.len() {
                if self.pods[position].node == Some(node) {
                    self.crash_streams(position, None);
                    self.pods[position].process = Process::Dead;
                }
            }
        }
    }

    fn lose_connections(&mut self, percent: u32) {
        let trace = self.trace.clone();
        for position in 0..self.pods.len() {
            for kind in 0..trace.clients.len() {
                let lost = binomial(self.pods[position].streams[kind], f64::from(percent) / 100.0, &mut self.rng);
                self.pods[position].end(&trace, kind, lost);
                self.score.force(Cause::Trace, u64::from(lost));
                self.waiting.come_back(kind, lost, super::clients::AFTER_CRASH, &mut self.rng);
            }
        }
    }

    fn go_on(&mut self) {
        let now = self.now;
        if self.trouble.silent_until == now {
            self.pods.iter_mut().for_each(|pod| pod.silent = false);
        }
        if self.trouble.bad_template_until == Some(now) {
            // The template before it: pods of it are current again.
            self.template = (self.template.0 - 1, true);
            self.trouble.bad_template_until = None;
        }
        for (node, from, until) in self.trouble.dead_nodes.clone() {
            for pod in self.pods.iter_mut().filter(|pod| pod.node == Some(node) && pod.process == Process::Dead) {
                if now - from == NODE_GRACE {
                    pod.unready(now);
                }
                if now == until {
                    // Its kubelet is back: what was to be deleted goes, and the others start again.
                    pod.restarts += 1;
                    pod.start(now, now + self.trace.shard.boot.0);
                }
            }
        }
        self.pods.retain(|pod| pod.deleting.is_none() || !matches!(pod.process, Process::Starts(_)));
        self.trouble.dead_nodes.retain(|(_, _, until)| *until > now);
    }
}
