//! `autoscaling.rebalance`: moves streams from the fullest shards to new ones, a bounded part of them a minute.

use super::Pass;
use super::census::{Member, Role};
use super::shed::{MOST_SHED, SHED_STEP};
use super::words;
use crate::stages::{Shed, ShedReason, elapsed};

/// A shard that holds this percentage less than the mean, or no more than that less, is even: what streams come back to is chosen
/// at random.
const EVEN_PERCENT: u64 = 10;

// === impl Pass ===

impl Pass<'_, '_> {
    /// Ends streams on the fullest shards, down to the mean, while some shard holds much less than it. Nothing moves while
    /// memory moves streams, while shards come, go or are silent: all of that changes the mean.
    pub(super) fn rebalance(&mut self) -> Vec<Shed> {
        let Some(percent) = self.policy.rebalance.filter(|_| self.may_rebalance()) else { return vec![] };
        let mut members: Vec<&Member<'_>> = self.members.fresh().filter(|m| m.shard.ready && m.role == Role::Regular).collect();
        let total = members.iter().fold(0_u64, |total, m| total.saturating_add(m.load));
        let mean = total / (members.len() as u64).max(1);
        if members.iter().all(|m| m.load >= mean - mean * EVEN_PERCENT / 100) {
            return vec![];
        }
        members.sort_by_key(|m| (std::cmp::Reverse(m.load), m.shard.index));
        let streams = members.iter().filter_map(|m| m.report).fold(0_u64, |sum, report| sum.saturating_add(report.streams));
        let mut left = streams.saturating_mul(percent) / 100;
        let mut sheds = vec![];
        for member in members.iter().filter(|m| m.load > mean) {
            let held = member.report.map_or(0, |report| report.streams);
            let streams = (member.load - mean).min(held.saturating_mul(MOST_SHED) / 100).min(left);
            if streams > 0 {
                left -= streams;
                sheds.push(Shed { pod: member.shard.pod(), bytes: 0, streams, reason: ShedReason::Rebalance });
            }
        }
        if !sheds.is_empty() {
            self.history.rebalanced = Some(self.now);
        }
        sheds
    }

    fn may_rebalance(&self) -> bool {
        let is_settled = self.members.active().all(|m| m.role == Role::Regular) && self.members.unheard().next().is_none();
        let is_hot = self.members.fresh().any(|m| words::is_hot(self.policy, m));
        let is_whole = self.members.all.iter().all(|m| m.state.is_active() && m.shard.ready && m.report.is_some());
        let is_due = self.history.rebalanced.is_none_or(|last| elapsed(last, self.now) >= SHED_STEP);
        is_settled && is_whole && is_due && !is_hot && !self.policy.paused && !self.members.is_rolling() && !self.clock_moved_back
    }
}
