//! The sums of autoscaling.md: what load costs, what a shard can hold, and how many shards that makes.

use std::time::Duration;

use jiff::Timestamp;
use mcp_crds::load::{LoadReport, capacity};

use super::census::{Health, Member, Members, Role};
use super::history::History;
use super::policy::Policy;
use crate::stages::{Numbers, ShardState, elapsed};

/// k0: bytes of one unit of load, before any was learnt.
const BYTES_PER_LOAD: f64 = 16.0 * 1024.0;
/// W: the weight of k0, in units of load for each shard.
const PRIOR_WEIGHT: f64 = 50.0;
/// Shards that became Ready less than this ago are no evidence: they still warm up.
const WARM_AFTER: Duration = Duration::from_mins(1);
/// What an idle shard uses, before one was measured.
const TYPICAL_BASE: u64 = 40 << 20;
/// A shard is never meant to hold more than this percentage of its hard cap.
const MOST_OF_HARD_CAP: u64 = 95;
/// The dead band: after a scale-in shards hold at most uDown / u of the target…
const DEAD_BAND: (u64, u64) = (5, 7);
/// …and stay this many percent of the limit under the memory target.
pub(super) const MEMORY_DEAD_BAND: u64 = 10;

/// What was measured, beyond the published numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Measure {
    pub(super) numbers: Numbers,
    /// ceil((D + buffer) / Tdn): no scale-in below.
    pub(super) floor: u32,
    /// E: bytes over the memory target.
    pub(super) excess: u64,
    /// H: bytes under the memory target.
    pub(super) headroom: u64,
    /// Whether memory, not the connection target, limits what a shard is meant to hold.
    pub(super) memory_bounds_target: bool,
    /// Memory limit of a new shard; none when nobody knows it.
    pub(super) limit: Option<u64>,
}

/// Measures, and lets the history learn what load costs and how it grows.
pub(super) fn measure(policy: &Policy, members: &Members<'_>, history: &mut History, now: Timestamp) -> Measure {
    let limit = policy.memory_limit.or_else(|| median(members.fresh().filter_map(|m| limit_of(m))));
    let base =
        median(members.fresh().filter_map(|m| m.report.map(|r| r.base_bytes)).filter(|base| *base > 0)).unwrap_or(TYPICAL_BASE);
    let bytes_per_load = learn(members, history, now);
    let hard_cap = hard_cap(policy, members);
    let target = policy.target(hard_cap).clamp(1, (hard_cap.saturating_mul(MOST_OF_HARD_CAP) / 100).max(1));
    let slot_at = |percent: u64| limit.map_or(0, |limit| signed(limit.saturating_mul(percent) / 100) - signed(base));
    let slot = slot_at(policy.memory_percent);
    let slot_down = slot_at(policy.memory_percent.saturating_sub(MEMORY_DEAD_BAND));

    let by_memory = (slot > 0).then(|| fitting(slot, bytes_per_load));
    let final_target = target.min(by_memory.unwrap_or(u64::MAX)).max(1);
    let down_by_load = (target.saturating_mul(DEAD_BAND.0) / DEAD_BAND.1).max(1);
    let down_by_memory = if slot > 0 { fitting(slot_down, bytes_per_load) } else { u64::MAX };
    let target_down = down_by_load.min(down_by_memory).min(final_target);

    let present: u64 = sum(members.all.iter().filter(|m| counts(m)).map(|m| m.load));
    let silent_extra: u64 =
        sum(members.in_state(ShardState::Silent).filter(|m| m.shard.ready).map(|m| final_target.saturating_sub(m.load)));
    let orphans = history.orphans(present);
    let demand = present.saturating_add(orphans).saturating_add(silent_extra);
    let is_complete = members.unheard().next().is_none();
    let conserved = present.saturating_add(orphans);
    let growth = if is_complete { history.growth(conserved, now) } else { 0 };
    if is_complete {
        history.note_total(conserved, now);
    }
    let waiting = sum(members.fresh().map(|m| m.waiting));

    let current = members.current();
    let needed = demand.saturating_add(policy.buffer);
    let by_connections = shards_for(needed.saturating_add(growth).saturating_add(waiting), final_target);
    let (excess, headroom) = memory_balance(policy, members, slot, limit);
    let by_memory_sum = match u64::try_from(slot) {
        Ok(slot) if slot > 0 && excess > headroom => current.saturating_add(shards_for(excess - headroom, slot)),
        Ok(_) | Err(_) => 0,
    };
    Measure {
        numbers: Numbers {
            current,
            demand,
            growth,
            waiting,
            bytes_per_load: whole(bytes_per_load),
            slot,
            target: final_target,
            target_down,
            hard_cap,
            by_connections,
            by_memory: by_memory_sum,
            raw: 0,
            memory_percent: policy.memory_percent,
        },
        floor: shards_for(needed, target_down),
        excess,
        headroom,
        memory_bounds_target: final_target < target,
        limit,
    }
}

/// Whether the shard's last known load is part of demand. Load of shards that are gone is conserved by the history.
fn counts(member: &Member<'_>) -> bool {
    match member.state {
        ShardState::Fresh => true,
        ShardState::Draining => member.report.is_some(),
        ShardState::Silent => member.shard.ready,
        ShardState::Pending | ShardState::Lost | ShardState::Finished => false,
    }
}

/// Load a shard can hold, of the kind there is.
fn hard_cap(policy: &Policy, members: &Members<'_>) -> u64 {
    let reports = || members.fresh().filter_map(|m| m.report);
    let reported = median(reports().map(|report| report.hard_cap).filter(|cap| *cap > 0));
    let connections = reported.unwrap_or(u64::MAX).min(policy.max_connections);
    let (load, streams) = (sum(reports().map(LoadReport::load)), sum(reports().map(|report| report.streams)));
    capacity(connections, policy.max_streams, load, streams)
}

/// The limit the shard says it runs under, or the one its pod was made with.
pub(super) fn limit_of(member: &Member<'_>) -> Option<u64> {
    member.limit
}

/// k: what one unit of load costs, over shards that are warm and loaded, tempered by k0 and smoothed.
fn learn(members: &Members<'_>, history: &mut History, now: Timestamp) -> f64 {
    let evidence: Vec<_> = members
        .fresh()
        .filter(|m| {
            m.health == Health::Sound
                && m.role != Role::Recycled
                && m.shard.ready_since().is_some_and(|since| elapsed(since, now) > WARM_AFTER)
        })
        .filter_map(|m| m.report)
        .filter(|report| report.load() > 0 && report.base_bytes > 0)
        .collect();
    let sample = (!evidence.is_empty()).then(|| {
        let used = sum(evidence.iter().map(|report| report.working_set_bytes.saturating_sub(report.base_bytes)));
        let load = sum(evidence.iter().map(|report| report.load()));
        let weight = PRIOR_WEIGHT * real(evidence.len() as u64);
        (BYTES_PER_LOAD * weight + real(used)) / (weight + real(load))
    });
    history.smooth(sample, now).unwrap_or(BYTES_PER_LOAD).max(BYTES_PER_LOAD / 4.0)
}

/// E and H over the shards that report; shards that start bring a slot each.
fn memory_balance(policy: &Policy, members: &Members<'_>, slot: i64, limit: Option<u64>) -> (u64, u64) {
    if limit.is_none() {
        return (0, 0);
    }
    let mut excess = 0_u64;
    let mut headroom = 0_u64;
    for member in members.fresh().filter(|m| m.role != Role::Recycled) {
        if let Some((limit, report)) = limit_of(member).zip(member.report) {
            let target = limit.saturating_mul(policy.memory_percent) / 100;
            excess = excess.saturating_add(report.working_set_bytes.saturating_sub(target));
            headroom = headroom.saturating_add(target.saturating_sub(report.working_set_bytes));
        }
    }
    let coming = members.in_state(ShardState::Pending).count() as u64;
    (excess, headroom.saturating_add(coming.saturating_mul(u64::try_from(slot).unwrap_or(0))))
}

/// Bytes that a shard has over the memory target, if it reports any.
pub(super) fn excess(policy: &Policy, member: &Member<'_>) -> Option<u64> {
    if member.state != ShardState::Fresh || member.health == Health::Poisoned || member.role == Role::Recycled {
        return None;
    }
    let (limit, report) = limit_of(member).zip(member.report)?;
    let over = report.working_set_bytes.saturating_sub(limit.saturating_mul(policy.memory_percent) / 100);
    Some(over).filter(|over| *over > 0)
}

/// Room of a shard for what others hold: load under Tdn, bytes under the memory target less the dead band.
pub(super) fn room(policy: &Policy, measure: &Measure, member: &Member<'_>) -> (u64, u64) {
    let load = measure.numbers.target_down.saturating_sub(member.load);
    let percent = policy.memory_percent.saturating_sub(MEMORY_DEAD_BAND);
    let bytes = match (measure.numbers.slot > 0, limit_of(member)) {
        (true, Some(limit)) => {
            let used = member.report.map_or(TYPICAL_BASE, |report| report.working_set_bytes);
            (limit.saturating_mul(percent) / 100).saturating_sub(used)
        }
        (true, None) | (false, _) => u64::MAX,
    };
    (load, bytes)
}

/// Units of load that fit; zero when there is no room at all.
fn fitting(slot: i64, bytes_per_load: f64) -> u64 {
    match u64::try_from(slot) {
        Ok(slot) => whole(real(slot) / bytes_per_load),
        Err(_) => 0,
    }
}

/// Shards that a load needs; none for none, and no number is enough where a shard holds nothing.
fn shards_for(load: u64, each: u64) -> u32 {
    match (load, each) {
        (0, _) => 0,
        (_, 0) => u32::MAX,
        (load, each) => u32::try_from(load.div_ceil(each)).unwrap_or(u32::MAX),
    }
}

/// The lower middle: one odd shard does not move it.
fn median(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<_> = values.collect();
    let middle = values.len().saturating_sub(1) / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable(middle).1)
}

fn sum(values: impl Iterator<Item = u64>) -> u64 {
    values.fold(0, u64::saturating_add)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "sums of plausible reports; a rounding in the 16th figure changes no size")]
fn real(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, and takes NaN to zero")]
fn whole(number: f64) -> u64 {
    number.floor() as u64
}
