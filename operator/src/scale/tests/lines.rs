//! On a line, just before it and just after: bounds, what is not held by anything, limits, and memory without load.

use mcp_crds::quantity::Bytes;

use super::*;

#[test]
fn a_size_at_its_maximum_is_scaled_in_as_any_other() {
    let decision = Story::settled(Cluster::autoscaled(1, 3).with_ready(3)).pass(5);
    assert_eq!((decision.desired, decision.victims.len()), (2, 1));
}

#[test]
fn what_load_asks_for_and_gets_in_full_is_held_by_nothing() {
    let first = |cluster: Cluster| {
        let decision = Story::settled(cluster).pass(5);
        (decision.desired, decision.victims.len(), gate(&decision))
    };
    let more = Cluster::autoscaled(1, 9).with_ready(1).each(|s| s.load(3900, 60 * MIB));
    assert_eq!(first(more), (2, 0, None));
    let fewer = Cluster::autoscaled(1, 9).with_ready(3).each(|s| s.load(1000, 60 * MIB));
    assert_eq!(first(fewer), (2, 1, None));
    let as_many_as_the_minimum = Cluster::autoscaled(2, 9).with_ready(2).each(|s| s.load(1990, 60 * MIB));
    assert_eq!(first(as_many_as_the_minimum), (2, 0, None));
    let never_needed = Cluster::autoscaled(1, 9).with_ready(1).each(|s| s.load(100, 60 * MIB)).with_pending(3);
    assert_eq!(first(never_needed), (1, 3, None));
}

#[test]
fn a_hot_shard_hides_no_other_gate() {
    let cluster = Cluster::autoscaled(10, 300).with_ready(10).each(at_permille(10, 100)).shard(4, at_permille(300, 977));
    let decision = Story::settled(cluster).pass(5);
    assert_eq!((decision.sheds.len(), gate(&decision)), (1, Some("AtMinimum")));
}

#[test]
fn a_paused_cluster_names_no_victim_though_there_are_more_than_there_should_be() {
    for cluster in [Cluster::manual(2), Cluster::autoscaled(1, 2)] {
        let mut story = Story::settled(cluster.with_ready(4).each(|s| s.load(10, 60 * MIB)));
        story.spec(|spec| spec.paused = true);
        let decision = story.pass(5);
        assert_eq!((decision.desired, decision.victims.len()), (2, 0));
    }
}

#[test]
fn the_limit_a_shard_reports_counts_before_that_of_its_pod_and_none_is_no_limit() {
    let of = |reported: u64, pod: u64| {
        let cluster = Cluster::autoscaled(4, 300).with_ready(4).each(|s| s.load(300, 100 * MIB)).shard(1, |s| {
            s.load(300, 460 * MIB);
            s.report.as_mut().unwrap().report.limit_bytes = reported * MIB;
            s.memory_limit = Some(Bytes(pod * MIB));
        });
        Story::settled(cluster).pass(5).sheds.len()
    };
    assert_eq!((of(512, 1024), of(1024, 512)), (1, 0));
    assert_eq!((of(0, 512), of(0, 1024)), (1, 0));
    let unlimited = Cluster::autoscaled(4, 300).with_ready(4).each(|s| {
        s.load(300, 100 * MIB);
        s.report.as_mut().unwrap().report.limit_bytes = 0;
        s.memory_limit = Some(Bytes(0));
    });
    assert_eq!(Story::settled(unlimited).pass(5).desired, 4, "of nothing, no memory is too much");
}

#[test]
fn memory_without_load_is_more_than_half_a_slot_on_less_than_a_hundredth_of_the_target() {
    let is_recycled = |streams: u64, kept: u64| {
        let cluster = Cluster::autoscaled(4, 300).with_ready(4).each(|s| s.load(50, 60 * MIB));
        let mut story = Story::settled(cluster.shard(2, |s| s.load(streams, 40 * MIB + kept)));
        story.spec(|spec| spec.autoscaling.as_mut().unwrap().connections.target_per_replica = Some(100));
        !story.pass(700).retiring.is_empty()
    };
    let half = (512 * MIB * 70 / 100 - 40 * MIB) / 2;
    assert!(is_recycled(0, half + 1));
    assert!(!is_recycled(0, half));
    assert!(!is_recycled(1, half + 1));
}

#[test]
fn under_a_memory_target_below_an_idle_shard_none_is_recycled_for_its_memory() {
    let mut story = Story::settled(Cluster::autoscaled(3, 9).with_ready(3).each(|s| s.load(0, 300 * MIB)));
    story.spec(|spec| spec.autoscaling.as_mut().unwrap().memory.target_percent = 5);
    let decision = story.pass(1300);
    assert_eq!((decision.mode, decision.retiring.len()), (Mode::MemoryTargetUnreachable, 0));
    assert!(decision.census.poisoned.is_empty());
}

#[test]
fn a_shard_that_is_full_of_streams_is_full_though_more_connections_would_fit() {
    let desired = |streams: u64, connections: u64| {
        let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(2).each(|s| {
            s.load(streams, 60 * MIB);
            s.report.as_mut().unwrap().report.connections = connections;
        }));
        story.spec(|spec| spec.limits.max_streams = Some(1000));
        let decision = story.pass(5);
        (decision.numbers.hard_cap, decision.desired)
    };
    assert_eq!(desired(1000, 1000), (1000, 3), "70 % of what fits, as of connections");
    assert_eq!(desired(690, 690), (1000, 2));
    assert_eq!(desired(1000, 2000), (2000, 3), "every other connection has a stream");
    assert_eq!(desired(100, 2000), (4000, 2));
    assert_eq!(desired(0, 2000), (4000, 2));
}

#[test]
fn of_shards_that_differ_the_middle_one_says_what_a_shard_can_hold() {
    let caps = [4000, 1000, 3000, 4000, 2000];
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(5));
    story.change(|cluster| cluster.each(|s| s.report.as_mut().unwrap().report.hard_cap = caps[s.index as usize]));
    assert_eq!(story.pass(5).numbers.hard_cap, 3000);
}

/// Shards with so many streams each, whose limit leaves nothing above what an idle one uses.
fn no_slot(ready: u32, memory: u64) -> Story {
    let cluster = Cluster::autoscaled(1, 9).with_ready(ready).each(|s| {
        s.load(10, memory);
        s.report.as_mut().unwrap().report.base_bytes = 512 * MIB * 10 / 100;
    });
    Story::settled(cluster.spec(|spec| spec.autoscaling.as_mut().unwrap().memory.target_percent = 10))
}

#[test]
fn where_an_idle_shard_uses_all_of_the_memory_target_connections_alone_decide() {
    let decision = no_slot(3, 60 * MIB).pass(5);
    assert_eq!((decision.mode, decision.numbers.slot), (Mode::MemoryTargetUnreachable, 0));
    assert_eq!((decision.numbers.by_memory, decision.numbers.target_down), (0, 2000));
    assert_eq!((decision.desired, victims(&decision).len()), (2, 1));
}

#[test]
fn memory_asks_for_more_only_for_what_is_over_the_target_beyond_what_is_under_it() {
    let target = 512 * MIB * 70 / 100;
    let by_memory = |each: &[u64]| {
        let cluster = Cluster::autoscaled(1, 20).with_ready(u32::try_from(each.len()).unwrap());
        Story::settled(cluster.each(|s| s.load(10, each[s.index as usize]))).pass(5).numbers.by_memory
    };
    assert_eq!(by_memory(&[target + 10 * MIB, target - 10 * MIB]), 0, "as much under it as over it");
    let over = target + 120 * MIB;
    assert_eq!(by_memory(&[over, over, over, target - 50 * MIB]), 5, "310Mi are one shard, 410Mi would be two");
}

#[test]
fn a_shard_that_does_not_say_what_it_uses_idle_is_no_evidence_of_what_a_connection_costs() {
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(1).each(|s| s.load(1000, 300 * MIB)));
    story.change(|cluster| cluster.each(|s| s.report.as_mut().unwrap().report.base_bytes = 0));
    assert_eq!(story.pass(5).numbers.bytes_per_load, 16 << 10);
}

#[test]
fn a_target_of_nothing_is_none() {
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(1));
    story.spec(|spec| spec.autoscaling.as_mut().unwrap().connections.target_per_replica = Some(0));
    assert_eq!(story.pass(5).numbers.target, 2800);
}

#[test]
fn what_a_shard_may_use_is_the_limit_of_the_spec_and_else_that_which_shards_report() {
    let slot = |limit: &str| {
        let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(1).each(|s| {
            s.memory_limit = Some(Bytes(1024 * MIB));
            s.report.as_mut().unwrap().report.limit_bytes = 1024 * MIB;
        }));
        let limit = serde_json::from_value(json!(limit)).unwrap();
        story.spec(|spec| drop(spec.resources.limits.insert("memory".to_owned(), limit)));
        u64::try_from(story.pass(5).numbers.slot).unwrap()
    };
    let of = |limit: u64| limit * 70 / 100 - 40 * MIB;
    assert_eq!((slot("512Mi"), slot("0")), (of(512 * MIB), of(1024 * MIB)));
}
