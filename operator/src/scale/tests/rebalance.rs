//! Streams that move to new shards, where that was asked for.

use super::*;

/// Five shards, the last one new and empty.
fn uneven(rebalance: Option<i32>) -> Story {
    let cluster = Cluster::autoscaled(5, 300).with_ready(5).each(|s| s.load(1000, 60 * MIB)).shard(4, |s| s.load(0, 40 * MIB));
    Story::settled(cluster.spec(|spec| {
        spec.autoscaling.as_mut().unwrap().rebalance =
            rebalance.map(|percent| mcp_crds::cluster::Rebalance { max_percent_per_minute: percent });
    }))
}

#[test]
fn streams_move_to_a_new_shard_only_when_asked_and_no_more_than_is_allowed_in_a_minute() {
    assert!((0..100).all(|_| uneven(None).pass(5).sheds.is_empty()), "off unless asked for");
    let mut story = uneven(Some(1));
    let (mut minute, mut passes) = (0, vec![]);
    for pass in 0..(3 * 3600 / 5) {
        let decision = story.pass(5);
        assert_eq!(decision.desired, 5);
        for shed in decision.sheds {
            assert_eq!((shed.reason, shed.bytes), (ShedReason::Rebalance, 0));
            minute += shed.streams;
            passes.push(pass);
            // They come back anywhere, one as likely as another.
            let from = story.cluster.observed.shards.iter().position(|shard| shard.uid == shed.pod.uid).unwrap();
            story.change(|cluster| {
                cluster.each(|shard| {
                    let report = shard.reported().unwrap();
                    let gained = shed.streams / 5 + if shard.index == 4 { shed.streams % 5 } else { 0 };
                    let left = if shard.index as usize == from { shed.streams } else { 0 };
                    shard.load(report.streams + gained - left, report.working_set_bytes);
                })
            });
        }
        if pass % 12 == 11 {
            assert!(minute <= 40, "{minute} of 4,000 in a minute");
            minute = 0;
        }
    }
    let loads: Vec<_> = story.cluster.observed.shards.iter().map(|shard| shard.reported().unwrap().streams).collect();
    assert_eq!(loads.iter().sum::<u64>(), 4000);
    assert!(loads.iter().all(|load| (720..=880).contains(load)), "{loads:?}");
    assert!(*passes.last().unwrap() < 2 * 3600 / 5, "it comes to rest");
}

#[test]
fn nothing_is_rebalanced_while_shards_come_go_or_are_silent() {
    let moves = |change: fn(Cluster) -> Cluster| {
        let mut story = uneven(Some(5));
        story.change(change);
        (0..20).any(|_| !story.pass(5).sheds.is_empty())
    };
    assert!(moves(|cluster| cluster));
    assert!(!moves(|cluster| cluster.with_pending(1)));
    assert!(!moves(|cluster| cluster.shard(0, |shard| shard.drain(DrainReason::ScaleIn, at(0)))));
    assert!(!moves(|cluster| cluster.shard(0, |shard| shard.report = None)));
    assert!(!moves(|cluster| cluster.shard(0, |shard| shard.template_hash = Some("template-0".into()))));
    assert!(!moves(|cluster| cluster.spec(|spec| spec.paused = true)));
}
