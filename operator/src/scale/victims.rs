//! Which shards to take away, and whether what they hold fits the others.

use std::collections::BTreeMap;

use super::census::{Member, Members, Role};
use super::measure::{Measure, excess, room};
use super::policy::Policy;
use crate::stages::{ShardState, Victim};

/// Pods that never took a connection, the newest first: taking them away costs nobody anything.
pub(super) fn idle<'m, 'a>(members: &'m Members<'a>, most: u32) -> Vec<&'m Member<'a>> {
    let mut idle: Vec<_> = members.active().filter(|m| m.role == Role::Regular && is_idle(m)).collect();
    idle.sort_by_key(|m| (!m.is_outdated, std::cmp::Reverse(m.shard.index)));
    idle.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    idle
}

/// How many pods never took a connection.
pub(super) fn idle_count(members: &Members<'_>) -> u32 {
    u32::try_from(members.active().filter(|m| m.role == Role::Regular && is_idle(m)).count()).unwrap_or(u32::MAX)
}

/// Up to `most` shards beyond those already chosen: outdated ones first, then unhealthy ones, then those with the fewest
/// streams, of these on the node with most shards. With `must_fit`, only shards whose load and bytes, together with what
/// still drains, fit the shards that stay.
pub(super) fn choose<'m, 'a>(
    policy: &Policy,
    measure: &Measure,
    members: &'m Members<'a>,
    chosen: &mut Vec<&'m Member<'a>>,
    most: u32,
    must_fit: bool,
) {
    let mut left = most;
    let mut refused: Vec<&str> = vec![];
    while left > 0 {
        let crowds = crowds(members, chosen);
        let candidates = members
            .active()
            .filter(|m| m.role == Role::Regular)
            .filter(|m| chosen.iter().all(|c| c.shard.uid != m.shard.uid) && refused.iter().all(|uid| *uid != m.shard.uid));
        let next = candidates.min_by_key(|m| {
            let crowd = m.shard.node.as_deref().and_then(|node| crowds.get(node)).copied().unwrap_or(0);
            (class(m), streams(m), std::cmp::Reverse(crowd), std::cmp::Reverse(m.shard.index))
        });
        let Some(next) = next else { return };
        chosen.push(next);
        if must_fit && !fits(policy, measure, members, chosen) {
            chosen.pop();
            refused.push(&next.shard.uid);
        } else {
            left -= 1;
        }
    }
}

/// Whether what `gone` shards and draining shards hold, and what hot shards have too much, fits the others: load under Tdn,
/// and on the same shards bytes under the memory target less the dead band.
pub(super) fn fits(policy: &Policy, measure: &Measure, members: &Members<'_>, gone: &[&Member<'_>]) -> bool {
    let is_gone = |member: &Member<'_>| gone.iter().any(|m| m.shard.uid == member.shard.uid);
    let (mut load, mut bytes) = (0_u64, 0_u64);
    for member in &members.all {
        let goes = member.state == ShardState::Draining || member.role == Role::Recycled;
        if goes || (member.state.is_active() && is_gone(member)) {
            let (its_load, its_bytes) = held(measure, member);
            load = load.saturating_add(its_load);
            bytes = bytes.saturating_add(its_bytes);
        } else if let (Some(over), (its_load, its_bytes)) = (excess(policy, member), held(measure, member)) {
            let moves = u128::from(its_load) * u128::from(over) / u128::from(its_bytes.max(1));
            load = load.saturating_add(u64::try_from(moves).unwrap_or(u64::MAX));
            bytes = bytes.saturating_add(over.min(its_bytes));
        }
    }
    if load == 0 {
        return true;
    }
    let bytes_each = bytes.div_ceil(load).max(1);
    let staying = members.fresh().filter(|m| m.role == Role::Regular && !is_gone(m));
    let room = staying.map(|m| room(policy, measure, m)).map(|(load, bytes)| load.min(bytes / bytes_each));
    room.fold(0, u64::saturating_add) >= load
}

/// Load and bytes that move when a shard goes. Memory that stays without load is garbage of its process, and moves nowhere.
fn held(measure: &Measure, member: &Member<'_>) -> (u64, u64) {
    let load = if member.state == ShardState::Silent { member.load.max(measure.numbers.target) } else { member.load };
    let bytes = if member.role == Role::Recycled {
        load.saturating_mul(measure.numbers.bytes_per_load)
    } else {
        member.report.map_or(0, |report| report.working_set_bytes.saturating_sub(report.base_bytes))
    };
    (load, if load == 0 { 0 } else { bytes })
}

/// What a victim of the decision is.
pub(super) fn victim(member: &Member<'_>) -> Victim {
    Victim { pod: member.shard.pod(), streams: streams(member) }
}

/// Streams a drain of this shard ends.
pub(super) fn streams(member: &Member<'_>) -> u64 {
    member.report.map_or(0, |report| report.streams)
}

fn is_idle(member: &Member<'_>) -> bool {
    member.state == ShardState::Pending && !member.shard.was_ready() && !member.shard.may_hold_work()
}

/// Idle ones first, then outdated ones, and of each kind the unhealthy.
fn class(member: &Member<'_>) -> (bool, bool, bool) {
    let is_healthy = member.state == ShardState::Fresh && member.shard.ready;
    (!is_idle(member), !member.is_outdated, is_healthy)
}

/// Shards on each node that stay.
fn crowds<'m>(members: &'m Members<'_>, chosen: &[&Member<'_>]) -> BTreeMap<&'m str, usize> {
    let mut crowds = BTreeMap::new();
    let staying = members.active().filter(|m| chosen.iter().all(|c| c.shard.uid != m.shard.uid));
    for node in staying.filter_map(|m| m.shard.node.as_deref()) {
        *crowds.entry(node).or_insert(0) += 1;
    }
    crowds
}
