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

/// Streams that are moved from each of five shards that hold so many.
fn moved(percent: i32, loads: [u64; 5]) -> Vec<u64> {
    let mut story = uneven(Some(percent));
    story.change(|cluster| cluster.each(|s| s.load(loads[s.index as usize], 60 * MIB)));
    story.pass(5).sheds.iter().map(|shed| shed.streams).collect()
}

#[test]
fn what_moves_is_what_a_shard_has_above_the_mean_or_a_twentieth_of_its_streams_or_what_the_minute_allows() {
    assert_eq!(moved(5, [1000, 1000, 1000, 1000, 950]), [0; 0], "a twentieth less than the mean is even");
    assert_eq!(moved(5, [510, 510, 510, 510, 440]), [14; 4], "the mean is 496");
    assert_eq!(moved(5, [1000, 1000, 1000, 1000, 0]), [50; 4], "a twentieth");
    assert_eq!(moved(1, [1000, 1000, 1000, 1000, 0]), [40], "a hundredth of 4,000");
    assert_eq!(moved(1, [20, 20, 20, 20, 0]), [0; 0], "a hundredth of 80 is none, and none is asked for");
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

#[test]
fn a_shard_that_is_to_be_recycled_is_no_reason_to_move_streams() {
    let mut story = uneven(Some(5));
    story.change(|cluster| cluster.shard(4, |s| s.load(10, 60 * MIB)));
    assert!(!story.pass(5).sheds.is_empty());
    story.history.seen[4].leaks = true;
    for _ in 0..24 {
        let decision = story.pass(5);
        assert_eq!((decision.retiring.len(), decision.retiring[0].name.as_str()), (1, "tools-4"));
        assert!(decision.sheds.is_empty(), "the others are even");
    }
}

#[test]
fn nothing_moves_while_a_shard_that_was_heard_is_silent() {
    let moves = |silent: Option<u32>| {
        let mut story = uneven(Some(5));
        story.change(|cluster| cluster.shard(4, |s| s.load(1000, 60 * MIB)));
        let pass = |story: &mut Story| match silent {
            Some(shard) => story.pass_without(shard, 5),
            None => story.pass(5),
        };
        assert!((0..12).all(|_| pass(&mut story).sheds.is_empty()), "they are even");
        story.change(|cluster| cluster.shard(4, |s| s.load(0, 40 * MIB)));
        (0..24).any(|_| !pass(&mut story).sheds.is_empty())
    };
    assert_eq!((moves(None), moves(Some(0))), (true, false));
}
