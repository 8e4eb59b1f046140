//! Which shards go, and whether what they hold fits those that stay.

use mcp_crds::cluster::{PolicyType, ScalingPolicy};

use super::*;

/// Takes away so many in one pass as load leaves over.
fn at_once(cluster: Cluster) -> Cluster {
    cluster.spec(|spec| {
        let down = &mut spec.autoscaling.as_mut().unwrap().behavior.scale_down;
        down.policies = vec![ScalingPolicy { kind: PolicyType::Pods, value: 10, period_seconds: 60 }];
    })
}

#[test]
fn each_next_one_goes_from_the_node_that_has_most_by_then() {
    let node = |s: &mut ObservedShard| s.node = Some(if s.index < 3 { "node-a" } else { "node-b" }.into());
    let decision = Story::settled(at_once(Cluster::autoscaled(1, 9).with_ready(5).each(node))).pass(5);
    assert_eq!(victims(&decision), ["tools-2", "tools-4", "tools-1", "tools-3"]);
}

#[test]
fn of_pods_that_never_took_a_connection_outdated_ones_go_first() {
    let cluster = Cluster::manual(2).with_pending(4).shard(1, |s| s.template_hash = Some("template-0".into()));
    let mut story = Story::of(cluster.shard(0, |s| *s = ready(0)));
    story.history.desired = Some(2);
    assert_eq!(victims(&story.pass(5)), ["tools-1"], "the newest is the surge of the rollout");
}

#[test]
fn what_fits_once_is_not_there_for_a_second_one() {
    let heavy = |s: &mut ObservedShard| {
        s.node = None;
        s.load(10, if s.index < 2 { 240 * MIB } else { 140 * MIB });
    };
    let decision = Story::settled(at_once(Cluster::autoscaled(1, 9).with_ready(4).each(heavy))).pass(5);
    assert_eq!(victims(&decision), ["tools-3"], "of the others none has room for twenty streams of 10Mi");
    assert_eq!((decision.desired, gate(&decision)), (3, Some("VictimsDoNotFit")));
}

#[test]
fn a_shard_that_drains_has_no_room_for_what_others_hold() {
    let cluster = Cluster::autoscaled(1, 9).with_ready(3).each(|s| s.load(10, if s.index == 0 { 240 * MIB } else { 300 * MIB }));
    let mut story = Story::of(cluster.shard(2, |s| {
        s.load(0, 40 * MIB);
        s.drain(DrainReason::ScaleIn, at(0));
    }));
    story.history.desired = Some(2);
    let decision = story.pass(5);
    assert_eq!((victims(&decision), gate(&decision)), (vec![], Some("VictimsDoNotFit")));
}

/// Three shards of 100 streams and 200Mi each, of which one fits the two others, and no more than that.
fn three_that_fit_two() -> Cluster {
    Cluster::autoscaled(1, 9).with_ready(3).each(|s| s.load(100, 200 * MIB))
}

#[test]
fn what_a_lost_shard_held_too_much_moves_nowhere() {
    let mut cluster = three_that_fit_two().with_ready(1).shard(3, |s| s.load(300, 500 * MIB));
    cluster = cluster.shard(3, |s| s.terminating = Some(at(-1)));
    let mut story = Story::of(cluster);
    story.history.desired = Some(3);
    assert_eq!(victims(&story.pass(5)), ["tools-2"]);
}

#[test]
fn memory_without_load_moves_nowhere_even_before_its_shard_is_recycled() {
    let poisoned = |s: &mut ObservedShard| {
        if s.index > 2 {
            s.load(1, 500 * MIB);
        }
    };
    let mut story = Story::settled(three_that_fit_two().with_ready(3).each(poisoned));
    let decision = story.pass(700);
    assert_eq!(decision.retiring.len(), 2, "a third of six");
    assert_eq!(victims(&decision), ["tools-2"]);
}

#[test]
fn a_shard_that_was_ready_and_whose_process_has_ended_needs_the_permission_that_others_need() {
    let ended = Termination { started: Some(at(-100)), finished: Some(at(-3)), ..Termination::default() };
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(3).shard(2, |s| {
        (s.ready, s.ready_changed, s.report) = (false, Some(at(-2)), None);
        s.container = Container::Terminated(ended);
    }));
    let decision = story.pass(5);
    assert_eq!((decision.desired, victims(&decision), gate(&decision)), (3, vec![], Some("ShardSilent")));
}

#[test]
fn pods_that_start_stay_until_somebody_was_heard() {
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_pending(3));
    let decision = story.pass(5);
    assert_eq!((decision.mode, decision.desired, victims(&decision)), (Mode::Starting, 3, vec![]));
}
