//! Which shards there are, and what each of them counts for.

use std::collections::BTreeSet;

use jiff::Timestamp;
use mcp_crds::load::LoadReport;

use super::history::History;
use super::policy::Policy;
use super::shed::FRUITLESS_STEPS;
use crate::stages::{Census, DrainReason, Observed, ObservedShard, ShardState, elapsed};
use crate::words::percent;

/// Memory that stays this long without load is leaked, and the shard is poisoned.
const POISONED_AFTER: std::time::Duration = std::time::Duration::from_mins(10);
/// One of so many shards may be on its way to be recycled at a time.
const RECYCLED_AT_ONCE: usize = 3;
/// More of anything than one process can have: a report that says so makes no sense.
const MOST_COUNT: u64 = 1 << 32;
/// More memory than one process can have.
const MOST_BYTES: u64 = 1 << 50;

/// One pod in the sums.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    /// Its place among all, and in the history's `seen`.
    pub(super) at: usize,
    pub(super) shard: &'a ObservedShard,
    pub(super) state: ShardState,
    /// The last report, if it makes sense.
    pub(super) report: Option<&'a LoadReport>,
    /// Load in the last report that made sense.
    pub(super) load: u64,
    /// The memory limit it says it runs under, or the one its pod was made with.
    pub(super) limit: Option<u64>,
    /// Its working set in percent of that.
    pub(super) heat: Option<u64>,
    pub(super) waiting: u64,
    pub(super) role: Role,
    pub(super) health: Health,
    pub(super) is_outdated: bool,
    /// When it was last killed for memory.
    pub(super) killed: Option<Timestamp>,
}

/// What an active shard counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// One of the desired shards.
    Regular,
    /// A rollout's extra shard.
    Surge,
    /// It is being replaced for its memory: poisoned, or its streams end in vain.
    Recycled,
}

/// What the memory of a shard says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// Something about its load.
    Sound,
    /// Memory stays without load, lately, or when streams leave: no evidence of what load costs.
    Suspect,
    /// For so long that the shard is outside every sum and gate, and is replaced.
    Poisoned,
}

/// All pods, by index and uid.
#[derive(Clone, Debug)]
pub(super) struct Members<'a> {
    pub(super) all: Vec<Member<'a>>,
}

/// Whether the numbers of a report can be true.
pub(super) fn is_plausible(report: &LoadReport) -> bool {
    [report.connections, report.streams, report.in_flight, report.hard_cap].into_iter().all(|count| count <= MOST_COUNT)
        && [report.working_set_bytes, report.base_bytes, report.limit_bytes].into_iter().all(|bytes| bytes <= MOST_BYTES)
}

impl Member<'_> {
    /// Whether it reports and is not poisoned.
    pub(super) fn is_fresh(&self) -> bool {
        self.state == ShardState::Fresh && self.health != Health::Poisoned
    }
}

impl<'a> Members<'a> {
    /// Takes the census, and lets the history learn from it. `current` is the size that counts as reached: what active
    /// shards there are beyond it during a rollout is surge.
    pub(super) fn take(observed: &'a Observed, policy: &Policy, history: &mut History, now: Timestamp) -> Self {
        let mut shards: Vec<_> = observed.shards.iter().collect();
        shards.sort_by(|a, b| (a.index, &a.uid).cmp(&(b.index, &b.uid)));
        let with_state: Vec<_> = shards
            .into_iter()
            .map(|shard| {
                let state = observed.state(shard, now);
                let report = shard.report.as_ref().map(|received| &received.report).filter(|report| is_plausible(report));
                // A report that makes no sense says nothing.
                let state = if state == ShardState::Fresh && report.is_none() { ShardState::Silent } else { state };
                (shard, state, report)
            })
            .collect();
        history.learn(with_state.iter().copied(), now);
        let all = with_state
            .into_iter()
            .zip(&history.seen)
            .enumerate()
            .map(|(at, ((shard, state, report), seen))| {
                let reported = report.map(|report| report.limit_bytes).filter(|limit| *limit > 0);
                let limit = reported.or(shard.memory_limit.map(|limit| limit.0)).filter(|limit| *limit > 0);
                let suspect_for = seen.idle_hot_since.map(|since| elapsed(since, now));
                Member {
                    at,
                    limit,
                    heat: limit.zip(report).map(|(limit, report)| percent(report.working_set_bytes, limit)),
                    shard,
                    state,
                    report,
                    load: seen.load,
                    waiting: seen.waiting,
                    role: Role::Regular,
                    health: match suspect_for {
                        Some(time) if time >= POISONED_AFTER && state == ShardState::Fresh => Health::Poisoned,
                        Some(_) => Health::Suspect,
                        None if seen.leaks => Health::Suspect,
                        None => Health::Sound,
                    },
                    is_outdated: observed.is_outdated(shard),
                    killed: seen.killed,
                }
            })
            .collect();
        let mut members = Self { all };
        members.mark_recycled(history, now);
        members.mark_surge(observed, policy, history);
        members
    }

    /// Shards that are to be recycled: a third at a time, those first that are poisoned, and of them the one that has been so for
    /// longest, then those whose streams end in vain. Who is one stays one.
    fn mark_recycled(&mut self, history: &mut History, now: Timestamp) {
        if self.is_rolling() {
            return;
        }
        let most = (self.all.iter().filter(|m| m.state.is_active()).count() / RECYCLED_AT_ONCE).max(1);
        let is_recycling = |m: &&Member<'_>| {
            m.state == ShardState::Draining && m.shard.draining.is_some_and(|d| d.reason == Some(DrainReason::Recycle))
        };
        let free = most.saturating_sub(self.all.iter().filter(is_recycling).count());
        let mut candidates: Vec<_> = self
            .all
            .iter_mut()
            .filter(|m| m.state == ShardState::Fresh)
            .filter_map(|m| {
                let seen = history.seen.get(m.at)?;
                let is_poisoned = m.health == Health::Poisoned;
                let goes = is_poisoned || seen.retiring.is_some() || seen.leaks || seen.fruitless >= FRUITLESS_STEPS;
                let first = (seen.retiring.is_none(), seen.retiring, !is_poisoned, seen.idle_hot_since, m.shard.index);
                goes.then_some((first, m))
            })
            .collect();
        candidates.sort_by_key(|(first, _)| *first);
        for (_, member) in candidates.into_iter().take(free) {
            member.role = Role::Recycled;
            if let Some(seen) = history.seen.get_mut(member.at) {
                seen.retiring = seen.retiring.or(Some(now));
            }
        }
    }

    /// During a rollout, active shards beyond the size are its surge: the newest of the current template, and of others only those
    /// that were the surge of a rollout before it.
    fn mark_surge(&mut self, observed: &Observed, policy: &Policy, history: &History) {
        if !self.all.iter().any(|m| m.state.is_active() && m.is_outdated) {
            return;
        }
        let active = self.active().count();
        let size = policy.fixed().or(history.desired.map(|desired| policy.bound(desired)));
        let whole = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let surge = size.map_or(0, |size| active.saturating_sub(whole(size)).min(whole(observed.surge(size))));
        let mut newest: Vec<_> = self.all.iter_mut().filter(|m| m.state.is_active() && m.role == Role::Regular).collect();
        newest.sort_by_key(|m| (m.is_outdated, std::cmp::Reverse((m.shard.created, m.shard.index))));
        for member in newest.into_iter().take(surge) {
            member.role = Role::Surge;
        }
    }

    /// Shards that count as desired ones, surge included.
    pub(super) fn active(&self) -> impl Iterator<Item = &Member<'a>> {
        self.all.iter().filter(|m| m.state.is_active() && m.role != Role::Recycled)
    }

    /// cur: the active shards without surge.
    pub(super) fn current(&self) -> u32 {
        u32::try_from(self.active().filter(|m| m.role == Role::Regular).count()).unwrap_or(u32::MAX)
    }

    /// Whether shards are being replaced for their template.
    pub(super) fn is_rolling(&self) -> bool {
        self.all.iter().any(|m| {
            (m.state.is_active() && m.is_outdated)
                || (m.state == ShardState::Draining && m.shard.draining.is_some_and(|d| d.reason == Some(DrainReason::Rollout)))
        })
    }

    /// Shards that report and are not poisoned.
    pub(super) fn fresh(&self) -> impl Iterator<Item = &Member<'a>> {
        self.all.iter().filter(|m| m.is_fresh())
    }

    /// Shards in a state.
    pub(super) fn in_state(&self, state: ShardState) -> impl Iterator<Item = &Member<'a>> {
        self.all.iter().filter(move |m| m.state == state)
    }

    /// Ready shards that have not been heard, or not lately.
    pub(super) fn unheard(&self) -> impl Iterator<Item = &Member<'a>> {
        self.all.iter().filter(|m| m.state == ShardState::Silent || (m.state == ShardState::Pending && m.shard.was_ready()))
    }

    /// Shards whose last report makes no sense.
    pub(super) fn invalid(&self) -> impl Iterator<Item = &Member<'a>> {
        self.all.iter().filter(|m| m.state.is_active() && m.report.is_none() && m.shard.report.is_some())
    }

    /// For the reader of the decision.
    pub(super) fn summary(&self) -> Census {
        let names = |wanted: fn(&Member<'_>) -> bool| -> BTreeSet<String> {
            self.all.iter().filter(|m| wanted(m)).map(|m| m.shard.name.clone()).collect()
        };
        Census {
            surge: names(|m| m.role == Role::Surge),
            poisoned: names(|m| m.health == Health::Poisoned),
            shedding: BTreeSet::new(),
            fruitless: BTreeSet::new(),
        }
    }
}
