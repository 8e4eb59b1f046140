//! What is done about a hot shard while others are cool. It gets no new streams, and those it has are left to leave by themselves.
//! Where they do not, some are ended. A shard whose memory stays though its streams leave, or end, is replaced.

use std::time::Duration;

use jiff::Timestamp;

use super::Pass;
use super::census::{Member, Role};
use super::measure::limit_of;
use super::words;
use crate::stages::{Shed, ShedReason, elapsed};

/// At most this percentage of a shard's streams is shed in a step…
pub(super) const MOST_SHED: u64 = 5;
/// …and a step is this long, so that its effect shows.
pub(super) const SHED_STEP: Duration = Duration::from_mins(1);
/// Where this percentage of a hot shard's streams leaves by itself in a step, none is ended.
const LEAVES_PERCENT: u64 = 1;
/// What memory does when streams leave by themselves is judged when so many percent of them have.
const JUDGED_PERCENT: u64 = 20;
/// A shard is still being shed for this long after a step: the next one may be a pass late.
const SHEDDING: Duration = Duration::from_secs(90);
/// Steps in a row that freed less than half of what was expected, before the shard is replaced. One is told.
pub(super) const FRUITLESS_STEPS: u8 = 2;

/// A minute of a hot shard: what was done, and what it should bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) at: Timestamp,
    /// Streams that were to end; none when they were left to leave by themselves.
    asked: u64,
    /// Streams before.
    streams: u64,
    /// Working set before, bytes.
    memory: u64,
    /// Bytes that the end of so many streams should free.
    expected: u64,
    /// Whether it is over, and what came of it was seen.
    is_over: bool,
}

/// A shard with its memory near the target when it got no new streams any more, or when it was last judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    streams: u64,
    /// Working set, bytes.
    memory: u64,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Memory fell by at least half of what was expected.
    Fell,
    /// The streams went, and memory did not.
    Stayed,
    /// The streams did not go, or others came in their place: it says nothing about memory.
    Unknown,
}

// === impl Step ===

impl Step {
    fn outcome(&self, member: &Member<'_>) -> Outcome {
        let Some(report) = member.report else { return Outcome::Unknown };
        if self.memory.saturating_sub(report.working_set_bytes).saturating_mul(2) >= self.expected {
            Outcome::Fell
        } else if self.streams.saturating_sub(report.streams).saturating_mul(2) >= self.asked {
            Outcome::Stayed
        } else {
            Outcome::Unknown
        }
    }
}

// === impl Watch ===

impl Watch {
    /// Whether memory fell with the streams, by at least half of their share of it; none before enough of them have left.
    fn fell(self, report: &mcp_crds::load::LoadReport) -> Option<bool> {
        let left = self.streams.saturating_sub(report.streams);
        if left == 0 || left.saturating_mul(100) < self.streams.saturating_mul(JUDGED_PERCENT) {
            return None;
        }
        let kept = u128::from(self.memory.saturating_sub(report.base_bytes));
        let expected = kept * u128::from(left) / u128::from(self.streams);
        let fell = self.memory.saturating_sub(report.working_set_bytes);
        Some(u128::from(fell) * 2 >= expected)
    }
}

// === impl Pass ===

impl Pass<'_, '_> {
    /// Whether a shard is hot, and the others have room for what it has too much: a new shard would not cool it. One that is to
    /// be replaced for it ends all of its streams soon.
    pub(super) fn is_one_hot_among_cool(&self) -> bool {
        let has_room = self.measure.excess <= self.measure.headroom && self.members.fresh().count() > 1;
        has_room && self.members.fresh().any(|m| self.sheds_streams(m))
    }

    fn sheds_streams(&self, member: &Member<'_>) -> bool {
        let is_vain = self.history.seen.get(member.at).is_some_and(|seen| seen.leaks || seen.fruitless >= FRUITLESS_STEPS);
        member.role != Role::Recycled && !is_vain && words::is_hot(self.policy, member)
    }

    /// Ends streams on hot shards, while others are cool enough to take them.
    pub(super) fn sheds(&mut self) -> Vec<Shed> {
        self.watch_sheds();
        if self.policy.paused || !self.is_one_hot_among_cool() {
            return vec![];
        }
        let members = self.members;
        let hot: Vec<_> = members.fresh().filter(|m| self.sheds_streams(m) && !self.is_within_step(m)).collect();
        let mut sheds = vec![];
        for member in hot {
            let Some((limit, report)) = limit_of(member).zip(member.report) else { continue };
            if report.streams == 0 {
                continue;
            }
            if !words::is_urgent(self.policy, member) && self.may_wait(member) {
                self.note_step(member, 0, 0);
                continue;
            }
            let target = limit.saturating_mul(self.policy.memory_percent) / 100;
            let bytes = report.working_set_bytes.saturating_sub(target);
            let streams = (report.streams.saturating_mul(MOST_SHED) / 100).max(1);
            sheds.push(self.shed(member, bytes, streams));
        }
        sheds
    }

    /// Whether streams leave a hot shard by themselves, as far as that is known: they are given a step to show it.
    fn may_wait(&self, member: &Member<'_>) -> bool {
        let step = self.history.seen.get(member.at).and_then(|seen| seen.shed);
        let Some((step, report)) = step.filter(|step| elapsed(step.at, self.now) < SHEDDING).zip(member.report) else {
            return true;
        };
        let by_themselves = step.streams.saturating_sub(step.asked).saturating_sub(report.streams);
        by_themselves.saturating_mul(100) >= step.streams.saturating_mul(LEAVES_PERCENT)
    }

    /// Whether streams of this shard ended less than a step ago.
    fn is_within_step(&self, member: &Member<'_>) -> bool {
        let step = self.history.seen.get(member.at).and_then(|seen| seen.shed);
        step.is_some_and(|step| elapsed(step.at, self.now) < SHED_STEP)
    }

    fn shed(&mut self, member: &Member<'_>, bytes: u64, streams: u64) -> Shed {
        self.note_step(member, bytes, streams);
        Shed { pod: member.shard.pod(), bytes, streams, reason: ShedReason::Memory }
    }

    /// Notes a step in which so many streams, of so many bytes, end; or none.
    fn note_step(&mut self, member: &Member<'_>, bytes: u64, streams: u64) {
        if let Some((seen, report)) = self.history.seen.get_mut(member.at).zip(member.report) {
            let kept = u128::from(report.working_set_bytes.saturating_sub(report.base_bytes));
            let share = kept * u128::from(streams) / u128::from(report.load().max(1));
            let expected = u64::try_from(share).unwrap_or(u64::MAX).min(bytes);
            let (at, memory) = (self.now, report.working_set_bytes);
            seen.shed = Some(Step { at, asked: streams, streams: report.streams, memory, expected, is_over: streams == 0 });
        }
    }

    /// Looks at what came of steps that are over, and says which shards are being shed and which of them in vain.
    fn watch_sheds(&mut self) {
        for member in &self.members.all {
            let is_hot = words::is_hot(self.policy, member);
            let Some(seen) = self.history.seen.get_mut(member.at) else { continue };
            if member.report.is_some() && !is_hot {
                seen.fruitless = 0;
            }
            if let Some(report) = member.report {
                let here = Watch { streams: report.streams, memory: report.working_set_bytes };
                // Who takes new streams may get other ones than those that leave.
                let is_watched = words::is_warm(self.policy, member) && !member.shard.placed;
                match seen.watch.map(|watch| watch.fell(report)) {
                    _ if !is_watched => seen.watch = None,
                    None | Some(Some(true)) => seen.watch = Some(here),
                    Some(Some(false)) => seen.leaks = true,
                    Some(None) => {}
                }
            }
            let Some(step) = seen.shed.as_mut().filter(|step| !step.is_over && elapsed(step.at, self.now) >= SHED_STEP) else {
                continue;
            };
            step.is_over = true;
            match step.outcome(member) {
                Outcome::Fell => seen.fruitless = 0,
                Outcome::Stayed if is_hot => seen.fruitless = seen.fruitless.saturating_add(1),
                Outcome::Stayed | Outcome::Unknown => {}
            }
        }
    }

    /// Names of the shards whose streams are being ended.
    pub(super) fn shedding(&self) -> std::collections::BTreeSet<String> {
        let is_shed = |m: &&Member<'_>| {
            let step = self.history.seen.get(m.at).and_then(|seen| seen.shed);
            // One that has cooled is not being shed any more, whenever its last step was.
            m.state.is_active()
                && words::is_warm(self.policy, m)
                && step.is_some_and(|step| step.asked > 0 && elapsed(step.at, self.now) < SHEDDING)
        };
        self.members.all.iter().filter(is_shed).map(|m| m.shard.name.clone()).collect()
    }

    /// Names of the shards whose streams ended in vain.
    pub(super) fn fruitless(&self) -> std::collections::BTreeSet<String> {
        let is_fruitless = |m: &&Member<'_>| self.history.seen.get(m.at).is_some_and(|seen| seen.fruitless > 0 || seen.leaks);
        self.members.all.iter().filter(is_fruitless).map(|m| m.shard.name.clone()).collect()
    }
}
