//! A Deployment and its ReplicaSets, as far as pods notice: what is created, and who is taken away.
//!
//! Source: kubernetes/kubernetes (Apache-2.0), `pkg/controller/controller_utils.go` (`ActivePodsWithRanks`) and
//! `pkg/controller/deployment` (a rolling update with the default `maxSurge` and `maxUnavailable` of 25 %).

use crate::score::Cause;
use crate::world::World;
use crate::world::pod::{Pod, Process};

/// `maxSurge`, rounded up, and `maxUnavailable`, rounded down.
const ROLLING_PERCENT: u32 = 25;
/// Pods of a node that is gone are evicted this long after it was called not ready (the tolerations every pod gets).
const EVICTED_AFTER: i64 = 300;

/// Lets the Deployment act.
pub(super) fn reconcile(world: &mut World, replicas: u32) {
    evict(world);
    let (current, replicas) = (world.template.0, replicas as usize);
    let is_old = |pod: &&Pod| pod.template != current;
    let active = || world.pods.iter().filter(|pod| pod.deleting.is_none());
    let total = active().count();
    let old = active().filter(is_old).count();
    if old == 0 {
        if total < replicas {
            create(world, replicas - total);
        } else {
            let victims = ranked(world, |_| true);
            delete(world, &victims[..(total - replicas).min(victims.len())], Cause::ScaleIn);
        }
        return;
    }
    let surge = (replicas * ROLLING_PERCENT as usize).div_ceil(100);
    let unavailable = replicas * ROLLING_PERCENT as usize / 100;
    let new = total - old;
    let ready = active().filter(|pod| pod.ready).count();
    let ready_old = active().filter(is_old).filter(|pod| pod.ready).count();
    // Old pods that serve nobody go first, then as many as may be unavailable.
    let spare = ready.saturating_sub(replicas.saturating_sub(unavailable)).min(ready_old);
    let broken = old - ready_old;
    let victims = ranked(world, |pod| pod.template != current);
    delete(world, &victims[..(broken + spare).min(victims.len())], Cause::Rollout);
    create(world, replicas.saturating_sub(new).min((replicas + surge).saturating_sub(total)));
}

/// Pods by the order in which a ReplicaSet deletes them: not scheduled, not running, not ready, on a node with more of them,
/// ready for a shorter time, restarted more often, newer.
fn ranked(world: &World, wanted: impl Fn(&Pod) -> bool) -> Vec<u64> {
    let active: Vec<_> = world.pods.iter().filter(|pod| pod.deleting.is_none()).collect();
    let together = |pod: &Pod| active.iter().filter(|other| other.node == pod.node).count();
    let mut pods: Vec<_> = active.iter().filter(|pod| wanted(pod)).collect();
    pods.sort_by_cached_key(|pod| {
        let running = matches!(pod.process, Process::Serves | Process::Dead);
        let ready_for = log2(world.now - pod.ready_changed.unwrap_or(world.now));
        let age = log2(world.now - pod.created);
        let newest = std::cmp::Reverse(pod.id);
        (
            pod.node.is_some(),
            running,
            pod.ready,
            std::cmp::Reverse(together(pod)),
            ready_for,
            std::cmp::Reverse(pod.restarts),
            age,
            newest,
        )
    });
    pods.into_iter().map(|pod| pod.id).collect()
}

/// Times are compared by their order of magnitude (`LogarithmicScaleDown`).
fn log2(seconds: i64) -> u32 {
    seconds.max(0).checked_ilog2().map_or(0, |log| log + 1)
}

fn create(world: &mut World, count: usize) {
    for _ in 0..count {
        world.create(0);
    }
}

fn delete(world: &mut World, pods: &[u64], cause: Cause) {
    for pod in pods {
        world.delete(*pod, cause);
    }
}

fn evict(world: &mut World) {
    let gone = |pod: &&Pod| {
        let since = pod.ready_changed.filter(|_| !pod.ready && pod.process == Process::Dead && pod.deleting.is_none());
        since.is_some_and(|since| world.now - since >= EVICTED_AFTER)
    };
    let gone: Vec<_> = world.pods.iter().filter(gone).map(|pod| pod.id).collect();
    delete(world, &gone, Cause::Trace);
}
