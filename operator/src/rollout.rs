//! Desired shards × observed pods → what to create, drain, keep and delete.
//!
//! Deterministic, and safe to run again after a crash between any two of its actions: everything it must remember is on the
//! pods. A shard that may hold work is drained before it is deleted; its deadline is `drain.timeout`.

mod roll;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::stages::{
    Decision, DeleteReason, DeleteStep, DrainReason, DrainStep, Observed, ObservedShard, Plan, ShardState, elapsed,
};

/// A drained shard lives at least this long after its drain began: endpoints lag, and until they follow new connections
/// still arrive and are answered.
const DRAIN_SETTLES: Duration = Duration::from_secs(10);
/// A pod that was told to end hears of it within this time, unless its kubelet is not there to tell it.
const KUBELET_ACTS_WITHIN: Duration = Duration::from_secs(15);

/// What to do with the pods of a cluster.
pub fn plan(observed: &Observed, decision: &Decision, now: Timestamp) -> Plan {
    let view = View::of(observed, decision, now);
    let mut plan = Plan::default();
    if observed.cluster.spec.paused || observed.is_deleted() {
        return plan;
    }
    view.cancel_or_create(&mut plan);
    view.finish(&mut plan);
    view.scale_in(&mut plan);
    view.replace(&mut plan);
    view.stand_in(&mut plan);
    view.roll(&mut plan);
    plan
}

struct View<'a> {
    observed: &'a Observed,
    decision: &'a Decision,
    now: Timestamp,
    states: Vec<(&'a ObservedShard, ShardState)>,
}

// === impl View ===

impl<'a> View<'a> {
    fn of(observed: &'a Observed, decision: &'a Decision, now: Timestamp) -> Self {
        let mut states: Vec<_> = observed.shards.iter().map(|shard| (shard, observed.state(shard, now))).collect();
        states.sort_by_key(|(shard, _)| shard.index);
        Self { observed, decision, now, states }
    }

    fn in_state(&self, wanted: impl Fn(ShardState) -> bool) -> impl Iterator<Item = &'a ObservedShard> {
        self.states.iter().filter(move |(_, state)| wanted(*state)).map(|(shard, _)| *shard)
    }

    fn active(&self) -> impl Iterator<Item = &'a ObservedShard> {
        self.in_state(ShardState::is_active)
    }

    /// Active shards that take load now, without those that are to be recycled.
    fn serving(&self) -> usize {
        self.active()
            .filter(|shard| self.serves(shard))
            .filter(|shard| self.decision.retiring.iter().all(|pod| pod.uid != shard.uid))
            .count()
    }

    fn serves(&self, shard: &ObservedShard) -> bool {
        shard.ready && self.observed.state(shard, self.now) == ShardState::Fresh
    }

    fn is_outdated(&self, shard: &ObservedShard) -> bool {
        self.observed.is_outdated(shard)
    }

    fn desired(&self) -> usize {
        usize::try_from(self.decision.desired).unwrap_or(usize::MAX)
    }

    fn surge(&self) -> usize {
        usize::try_from(self.observed.surge(self.decision.desired)).unwrap_or(usize::MAX)
    }

    /// Load came back: undo drains before paying for a new shard. What a drain has left most of comes first.
    fn cancel_or_create(&self, plan: &mut Plan) {
        let missing = usize::try_from(self.decision.create).unwrap_or(usize::MAX);
        let reinstated = self.reinstated();
        let missing = missing.saturating_sub(reinstated.len());
        let mut drains: Vec<_> = self
            .in_state(|state| state == ShardState::Draining)
            .filter(|shard| shard.draining.is_some_and(|mark| mark.reason == Some(DrainReason::ScaleIn)))
            .filter(|shard| self.can_stay(shard))
            .collect();
        drains.sort_by_key(|shard| (std::cmp::Reverse(streams(shard)), shard.index));
        drains.truncate(missing);
        let missing = missing - drains.len();
        plan.cancel = reinstated.iter().chain(&drains).map(|shard| shard.pod()).collect();
        plan.create = self.free_indexes(self.creatable(missing));
    }

    /// Whether a drain can be taken back.
    fn can_stay(&self, shard: &ObservedShard) -> bool {
        shard.ready && shard.terminating.is_none() && !self.is_outdated(shard)
    }

    /// How many of the missing shards may be created. Lost shards stay until others took their place, so when every new one
    /// is lost too, this is where it ends: at twice what is desired.
    fn creatable(&self, missing: usize) -> usize {
        if !self.observed.has_configuration() {
            return 0;
        }
        let lost = self.in_state(|state| state == ShardState::Lost).filter(|shard| shard.terminating.is_none()).count();
        let most = self.desired().saturating_mul(2).saturating_add(self.surge());
        missing.min(most.saturating_sub(lost + self.active().count()))
    }

    /// The lowest indexes free among all existing pods: a pod on a dead node holds its name until the node goes.
    fn free_indexes(&self, count: usize) -> Vec<u32> {
        // What ended for good is deleted before anything is created, and gone at once.
        let goes =
            |shard: &&ObservedShard| shard.terminating.is_none() && self.observed.state(shard, self.now) == ShardState::Finished;
        let held = self.observed.shards.iter().filter(|shard| !goes(shard)).map(|shard| shard.index);
        let held: BTreeSet<u32> = held.chain(self.observed.taken.iter().copied()).collect();
        (0..u32::MAX).filter(|index| !held.contains(index)).take(count).collect()
    }

    /// Deletes what ended for good or has drained; repeats the call to shards that do not say that they drain.
    fn finish(&self, plan: &mut Plan) {
        for (shard, state) in self.states.iter().filter(|(shard, _)| shard.terminating.is_none()) {
            match state {
                ShardState::Finished => delete(plan, shard, DeleteReason::Finished),
                ShardState::Draining if plan.cancel.iter().all(|pod| pod.uid != shard.uid) => self.finish_drain(plan, shard),
                // It will not end its drain: the node is gone, or comes back with other news.
                ShardState::Lost if shard.draining.is_some() => delete(plan, shard, DeleteReason::Lost),
                ShardState::Draining | ShardState::Pending | ShardState::Fresh | ShardState::Silent | ShardState::Lost => {}
            }
        }
    }

    fn finish_drain(&self, plan: &mut Plan, shard: &ObservedShard) {
        let mark = shard.draining.unwrap_or_default();
        let (Some(reason), Some(started)) = (mark.reason, mark.started) else {
            // A person set the label: the drain begins now.
            let reason = mark.reason.unwrap_or(DrainReason::Eviction);
            plan.drain.push(DrainStep { pod: shard.pod(), reason, started: self.now, marked: false });
            return;
        };
        let since = elapsed(started, self.now);
        let says = shard.report.as_ref().filter(|received| received.at >= started && received.report.draining);
        let idle = says.is_some_and(|received| received.report.streams == 0 && received.report.in_flight == 0);
        if !shard.may_hold_work() {
            delete(plan, shard, if shard.was_ready() { DeleteReason::NotRunning } else { DeleteReason::NeverReady });
        } else if since > self.observed.cluster.spec.drain.timeout.or_zero() {
            delete(plan, shard, DeleteReason::DeadlineExceeded);
        } else if idle && since >= DRAIN_SETTLES {
            if !self.is_last(shard) {
                delete(plan, shard, DeleteReason::Drained);
            }
        } else if says.is_none() {
            plan.drain.push(DrainStep { pod: shard.pod(), reason, started, marked: true });
        }
    }

    /// Whether no other shard is Ready and stays: until one is, clients are told by this one when to come back.
    fn is_last(&self, shard: &ObservedShard) -> bool {
        !self.active().any(|other| other.ready && other.terminating.is_none() && other.uid != shard.uid)
    }

    /// Takes the victims away: at once those that never took a connection, the others by a drain.
    fn scale_in(&self, plan: &mut Plan) {
        for victim in &self.decision.victims {
            if let Some(shard) = self.active().find(|shard| shard.uid == victim.pod.uid) {
                self.take_away(plan, shard, DrainReason::ScaleIn);
            }
        }
    }

    /// Takes lost and recycled shards away, once others serve in their place. So when every node falls silent at once and
    /// comes back, nothing was drained. What a lost node took is replaced as soon as that is known, but it has its time to come
    /// back before it is taken away: a node that was away for a minute returns with its streams, and what is too much then is
    /// the shards that hold none yet.
    fn replace(&self, plan: &mut Plan) {
        if self.serving() < self.desired() {
            return;
        }
        let lost = self.in_state(|state| state == ShardState::Lost).filter(|shard| shard.terminating.is_none());
        for shard in lost.filter(|shard| shard.draining.is_none() && shard.is_unready_for_long(self.now)) {
            if shard.may_hold_work() && shard.is_unheard(self.now) {
                // No order reaches it. When its kubelet hears of the deletion, and it lives, it drains itself.
                delete(plan, shard, DeleteReason::Lost);
            } else {
                self.take_away(plan, shard, DrainReason::Eviction);
            }
        }
        for pod in &self.decision.recycles {
            if let Some(shard) = self.active().find(|shard| shard.uid == pod.uid) {
                self.take_away(plan, shard, DrainReason::Recycle);
            }
        }
    }

    /// Tells shards to drain that should have heard it from their kubelet. A node whose kubelet is dead goes on serving what it
    /// holds, but learns of no new configuration and no new key any more, and its pods have been told to end: their streams
    /// move while the shard can say good-bye, not whenever the kubelet returns.
    fn stand_in(&self, plan: &mut Plan) {
        for shard in self.in_state(|state| state == ShardState::Lost) {
            let due = shard.told_to_end.and_then(|told| told.saturating_add(KUBELET_ACTS_WITHIN).ok());
            let Some((due, received)) = due.zip(shard.report.as_ref()) else { continue };
            if received.at >= due && !received.report.draining && !shard.is_unheard(self.now) {
                let reason = DrainReason::Eviction;
                plan.drain.push(DrainStep { pod: shard.pod(), reason, started: self.now, marked: true });
            }
        }
    }

    /// Deletes a shard that holds nothing, drains one that may hold something. Once only, whoever asks first.
    fn take_away(&self, plan: &mut Plan, shard: &ObservedShard, reason: DrainReason) {
        let mut planned = plan.drain.iter().map(|step| &step.pod).chain(plan.delete.iter().map(|step| &step.pod));
        if planned.any(|pod| pod.uid == shard.uid) {
            return;
        }
        if shard.may_hold_work() {
            plan.drain.push(DrainStep { pod: shard.pod(), reason, started: self.now, marked: false });
        } else if shard.was_ready() {
            delete(plan, shard, DeleteReason::NotRunning);
        } else {
            delete(plan, shard, DeleteReason::NeverReady);
        }
    }
}

fn delete(plan: &mut Plan, shard: &ObservedShard, reason: DeleteReason) {
    plan.delete.push(DeleteStep { pod: shard.pod(), reason });
}

fn streams(shard: &ObservedShard) -> u64 {
    shard.report.as_ref().map_or(0, |received| received.report.streams)
}

#[cfg(test)]
mod tests;
