//! Replaces shards of another template: surge, and drain so many as others serve for.
//!
//! Pods of the cluster and drains for the rollout together never exceed the desired ones and the surge, so a rollout costs no
//! more room than `maxSurge` says, however long drains take. No old shard is drained but for one that serves beyond what is
//! desired; so a template that does not serve, for whatever reason, costs no capacity, and the rollout stops by itself.

use std::collections::BTreeSet;

use super::{View, streams};
use crate::stages::{DrainReason, ObservedShard, Plan, ShardState};

// === impl View ===

impl<'a> View<'a> {
    /// Takes away what is outdated, as far as others serve in its place, and makes more of these.
    pub(super) fn roll(&self, plan: &mut Plan) {
        let mut rolling = self.observed.rolling(self.now);
        let idle = std::mem::take(&mut rolling.idle);
        for shard in &idle {
            self.take_away(plan, shard, DrainReason::Rollout);
        }
        let leaving: BTreeSet<&str> = plan
            .drain
            .iter()
            .map(|step| &step.pod)
            .chain(plan.delete.iter().map(|step| &step.pod))
            .map(|pod| &*pod.uid)
            .collect();
        rolling.old.retain(|shard| !leaving.contains(&*shard.uid));
        rolling.new.retain(|new| !leaving.contains(&*new.shard.uid));
        if rolling.old.is_empty() {
            return;
        }
        let surge = self.surge();
        let drains = if rolling.fault().is_some() {
            0
        } else {
            rolling.spare(self.decision.desired).min(surge.saturating_sub(rolling.draining))
        };
        // What serves nobody goes first, then what costs the fewest streams.
        rolling.old.sort_by_key(|shard| (shard.ready, self.serves(shard), streams(shard), shard.index));
        let (chosen, staying) = rolling.old.split_at(drains.min(rolling.old.len()));
        let there = rolling.old.len() + rolling.new.len() + rolling.draining;
        let wanted = self.desired() + surge.min(staying.len());
        // What is missing, and what is deleted, comes before what is only newer.
        let may_create = self.decision.create == 0 && idle.is_empty() && !rolling.is_troubled();
        let surges = wanted.saturating_sub(there);
        for shard in chosen {
            self.take_away(plan, shard, DrainReason::Rollout);
        }
        if may_create && self.observed.has_configuration() {
            plan.create = self.free_indexes(surges);
        }
    }

    /// Drains for a rollout to a template that was taken back since. They stop where the shard's place is still open: nobody
    /// who is still connected has to move.
    pub(super) fn reinstated(&self) -> Vec<&'a ObservedShard> {
        let outdated = self.active().filter(|shard| self.is_outdated(shard) && shard.may_hold_work()).count();
        let places = (self.desired() + self.surge().min(outdated)).saturating_sub(self.active().count());
        let mut drains: Vec<_> = self
            .in_state(|state| state == ShardState::Draining)
            .filter(|shard| shard.draining.is_some_and(|mark| mark.reason == Some(DrainReason::Rollout)))
            .filter(|shard| self.can_stay(shard))
            .collect();
        drains.sort_by_key(|shard| (std::cmp::Reverse(streams(shard)), shard.index));
        drains.truncate(places);
        drains
    }
}
