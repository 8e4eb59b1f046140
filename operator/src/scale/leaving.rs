//! Shards that are to go, before they do. Whoever connects to one is sent away again a moment later: so it gets no new connections,
//! clients leave it at their own pace meanwhile, and its end cuts fewer streams.

use std::time::Duration;

use super::census::{Member, Role};
use super::history::COMES_BACK_WITHIN;
use super::{Gate, IDLE_PERCENT, Pass, count, victims, words};
use crate::stages::{PodRef, elapsed};

/// A shard that is to be recycled waits this long for its streams to leave by themselves.
const PATIENCE: Duration = Duration::from_hours(1);

// === impl Pass ===

impl<'a> Pass<'_, 'a> {
    /// Shards outside the size, that are to be recycled.
    pub(super) fn retiring(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members.all.iter().filter(|m| m.role == Role::Recycled && !self.policy.paused)
    }

    /// Whether a shard that is to be recycled goes now: next to nobody is left on it, its memory does not wait, or it has waited.
    pub(super) fn is_due(&self, member: &Member<'_>) -> bool {
        let idle = member.load.saturating_mul(100) < self.measure.numbers.target.saturating_mul(IDLE_PERCENT).max(1);
        let since = self.history.seen.get(member.at).and_then(|seen| seen.retiring);
        let has_waited = since.is_none_or(|since| elapsed(since, self.now) >= PATIENCE);
        idle || has_waited || words::is_urgent(self.policy, member)
    }

    /// Shards that are to go: those to be recycled, and when load asks for fewer, those that would be taken away once window and
    /// rate allow it, as far as what they hold fits the others.
    pub(super) fn leaving(&self, going: &[&Member<'_>]) -> Vec<PodRef> {
        if self.policy.paused {
            return vec![];
        }
        let mut leaving: Vec<_> = self.retiring().map(|m| m.shard.pod()).collect();
        if words::decides(self.mode()) && matches!(self.closed_gate(), None | Some(Gate::Stabilizing)) {
            let highest = self.history.highest(COMES_BACK_WITHIN, self.now).unwrap_or(self.raw).max(self.raw);
            let surplus = self.members.current().saturating_sub(self.policy.bound(highest));
            let mut chosen = going.to_vec();
            let more = surplus.saturating_sub(count(chosen.len()));
            victims::choose(self.policy, &self.measure, self.members, &mut chosen, more, true);
            leaving.extend(chosen.iter().skip(going.len()).map(|m| m.shard.pod()));
        }
        leaving
    }
}
