//! `Progressing` and `Draining`.

use super::*;

#[test]
fn a_rollout_is_told_and_so_is_what_freezes_it() {
    let outdate = |shard: &mut ObservedShard| shard.template_hash = Some("template-0".into());
    let cluster = Cluster::manual(3).with_ready(3).shard(0, outdate).shard(1, outdate);
    let rolling = Pass::of(cluster.clone());
    assert_eq!(rolling.condition("Progressing"), "True RollingOut: To be replaced: tools-0, tools-1.");
    assert_eq!(rolling.condition("Ready"), "False RollingOut: 1 of 3 shards have the current template.");
    assert_eq!(rolling.status().updated_replicas, Some(1));
    let frozen = Pass::of(cluster.with_pending(1).shard(3, waiting("ErrImagePull", "denied"))).desired(3);
    assert_eq!(frozen.condition("Progressing"), "False RolloutFrozen: tools-3: ErrImagePull: denied. Correct spec.image.");
    assert_eq!(frozen.condition("Ready"), "False RolloutFrozen: tools-3: ErrImagePull: denied. Correct spec.image.");
    assert!(frozen.condition("Available").starts_with("True ShardsReady"));
    let mute = Cluster::manual(3).with_ready(4).each(outdate).shard(3, |shard| shard.template_hash = Some(TEMPLATE.into()));
    let mute = Pass::of(mute.shard(3, |shard| shard.report.as_mut().unwrap().at = at(-60))).desired(3);
    let words = "False RolloutFrozen: tools-3: Ready, but it does not report its load on the control port (9091).";
    assert_eq!(mute.condition("Progressing"), words);
    let taken_back = Pass::of(Cluster::manual(3).with_ready(3).with_pending(1).shard(3, |shard| {
        outdate(shard);
        shard.terminating = Some(at(-1));
    }));
    assert!(taken_back.desired(3).condition("Progressing").starts_with("False Settled"));
    let last = Pass::of(Cluster::manual(2).with_ready(3).shard(0, |shard| shard.drain(DrainReason::Rollout, at(-5)))).desired(2);
    assert_eq!(last.condition("Progressing"), "True RollingOut: The last outdated shard is draining.");
}

#[test]
fn a_pod_left_on_a_dead_node_is_mentioned_and_no_reason_to_go_on_about() {
    let dead = |shard: &mut ObservedShard| {
        shard.ready = false;
        shard.ready_changed = Some(at(-300));
        shard.report.as_mut().unwrap().at = at(-350);
        shard.terminating = Some(at(-200));
        shard.node = Some("node-2".into());
    };
    let replaced =
        |pending: u32| Pass::of(Cluster::manual(2).with_ready(3 - pending).with_pending(pending).shard(1, dead)).desired(2);
    assert_eq!(replaced(1).condition("Progressing"), "True Replacing: tools-1 is replaced.");
    let settled = replaced(0);
    assert_eq!(
        settled.condition("Progressing"),
        "False Settled: tools-1 is left on node-2, which does not answer: it ends when it is back, or when the Node is removed."
    );
    assert_eq!(settled.condition("Draining"), "False NoShardDraining");
    assert!(settled.condition("Ready").starts_with("True Serving"));
}

#[test]
fn a_lost_shard_is_replaced_and_a_leaving_one_scales_in() {
    let lost = Pass::of(Cluster::manual(2).with_ready(2).shard(1, |shard| shard.terminating = Some(at(-1))));
    assert_eq!(lost.condition("Progressing"), "True Replacing: tools-1 is replaced.");
    assert_eq!(lost.condition("Draining"), "True Eviction: tools-1 was deleted, and ends its streams by itself.");
    let drained = |node_leaves: Option<bool>| {
        Pass::of(Cluster::manual(3).with_ready(3).each(|shard| {
            if shard.index < 2 {
                shard.terminating = Some(at(300));
                shard.disruption = Some(Disruption::Evicted);
                shard.node = Some("node-2".into());
                shard.node_leaves = node_leaves;
            }
        }))
    };
    let words = "tools-0, tools-1 were evicted, and end their streams by themselves.";
    assert_eq!(drained(Some(true)).condition("Draining"), format!("True NodeDrain: node-2 is drained: {words}"));
    assert_eq!(drained(None).condition("Draining"), format!("True NodeDrain: {words}"), "we may not look");
    let words = "tools-0, tools-1 were deleted, and end their streams by themselves.";
    assert_eq!(drained(Some(false)).condition("Draining"), format!("True Eviction: {words}"));
    let leaving = Pass::of(Cluster::manual(2).with_ready(3).shard(2, |shard| {
        shard.drain(DrainReason::ScaleIn, at(-5));
        shard.load(1316, 60 * MIB);
    }))
    .desired(2);
    assert_eq!(leaving.condition("Progressing"), "True ScalingIn: tools-2 leaves.");
    assert_eq!(leaving.condition("Draining"), "True ScaleIn: tools-2: 1,320 streams left.");
    assert_eq!((leaving.status().replicas, leaving.status().draining_replicas), (Some(2), Some(1)));
    let recycled =
        Pass::of(Cluster::manual(2).with_ready(3).shard(2, |shard| shard.drain(DrainReason::Recycle, at(-5)))).desired(2);
    assert!(recycled.condition("Progressing").starts_with("True Recycling: tools-2"));
    assert!(recycled.condition("Draining").starts_with("True Recycle"));
}

#[test]
fn a_drain_past_its_timeout_is_told() {
    let pass =
        Pass::of(Cluster::manual(1).with_ready(2).shard(1, |shard| shard.drain(DrainReason::ScaleIn, at(-301)))).desired(1);
    assert_eq!(pass.condition("Draining"), "True DeadlineExceeded: tools-1 did not end within `drain.timeout`.");
}
