//! Which shards to take away, and whether what they hold fits the others.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::census::{Member, Members, Role};
use super::measure::Measure;
use super::policy::Policy;
use super::room::Room;
use crate::stages::{ShardState, Victim};

/// Pods that never took a connection, the newest first: taking them away costs nobody anything.
pub(super) fn idle<'m, 'a>(members: &'m Members<'a>, most: u32) -> Vec<&'m Member<'a>> {
    let mut idle: Vec<_> = members.active().filter(|m| m.role == Role::Regular && is_idle(m)).collect();
    idle.sort_by_key(|m| (!m.is_outdated, Reverse(m.shard.index)));
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
    if most == 0 {
        return;
    }
    let mut left = most;
    let mut crowds = crowds(members, chosen);
    let mut room = must_fit.then(|| Room::of(policy, measure, members));
    if let Some(room) = &mut room {
        for member in chosen.iter() {
            room.choose(member);
        }
    }
    let is_chosen: BTreeSet<usize> = chosen.iter().map(|member| member.at).collect();
    let candidates = members.active().filter(|m| m.role == Role::Regular && !is_chosen.contains(&m.at));
    let crowd = |crowds: &BTreeMap<&str, usize>, member: &Member<'_>| {
        member.shard.node.as_deref().and_then(|node| crowds.get(node)).copied().unwrap_or(0)
    };
    let mut heap: BinaryHeap<_> =
        candidates.map(|m| (Reverse((class(m), streams(m))), crowd(&crowds, m), m.shard.index, m.at)).collect();
    while let Some((first, among, index, at)) = heap.pop() {
        let next = &members.all[at];
        let among_now = crowd(&crowds, next);
        if among_now < among {
            // Others of its node went first.
            heap.push((first, among_now, index, at));
            continue;
        }
        if room.as_ref().is_some_and(|room| !room.fits(next)) {
            continue;
        }
        if let Some(room) = &mut room {
            room.choose(next);
        }
        if let Some(among) = next.shard.node.as_deref().and_then(|node| crowds.get_mut(node)) {
            *among = among.saturating_sub(1);
        }
        chosen.push(next);
        left -= 1;
        if left == 0 {
            return;
        }
    }
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

/// Outdated ones first, and of each kind the unhealthy.
fn class(member: &Member<'_>) -> (bool, bool) {
    let is_healthy = member.state == ShardState::Fresh && member.shard.ready;
    (!member.is_outdated, is_healthy)
}

/// Shards on each node that stay.
fn crowds<'m>(members: &'m Members<'_>, chosen: &[&Member<'_>]) -> BTreeMap<&'m str, usize> {
    let mut crowds = BTreeMap::new();
    let is_chosen: BTreeSet<usize> = chosen.iter().map(|member| member.at).collect();
    let staying = members.active().filter(|m| !is_chosen.contains(&m.at));
    for node in staying.filter_map(|m| m.shard.node.as_deref()) {
        *crowds.entry(node).or_insert(0) += 1;
    }
    crowds
}
