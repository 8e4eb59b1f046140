//! The examples of autoscaling.md that were checked by hand, and its table of edges.

use jiff::SignedDuration;
use mcp_crds::cluster::{AutoscalingStatus, LastScale, LoadStatus, SelectPolicy};
use mcp_crds::{McpClusterSpec, McpClusterStatus};
use serde_json::json;

use super::*;
use crate::stages::fixture::{Cluster, MIB, at, pending, ready};
use crate::stages::{Container, DrainReason, ObservedShard, Phase, ShedReason, Termination};

mod edges;
mod gates;
mod hot;
mod lines;
mod rebalance;
mod remembered;
mod roles;
mod told;
mod victims;

/// A cluster, the decisions about it, and time.
struct Story {
    cluster: Cluster,
    history: History,
    now: Timestamp,
}

impl Story {
    /// Begins long after the cluster did: a full window has passed, in which nothing happened.
    fn of(cluster: Cluster) -> Self {
        let mut story = Self { cluster, history: History::default(), now: at(0) };
        story.history.observed_since = Some(at(-50_000));
        story
    }

    /// Begins at a size that was settled long ago.
    fn settled(cluster: Cluster) -> Self {
        let size = u32::try_from(cluster.observed.shards.len()).unwrap();
        let mut story = Self::of(cluster);
        story.history.desired = Some(size);
        story
    }

    fn decide(&mut self) -> Decision {
        let policy = Policy::of(&self.cluster.observed.cluster.spec);
        let (decision, history) = decide(&policy, &self.cluster.observed, std::mem::take(&mut self.history), self.now);
        self.history = history;
        decision
    }

    /// Lets time pass in steps of five seconds; every shard is heard at each of them.
    fn pass(&mut self, seconds: i64) -> Decision {
        let mut decision = None;
        for _ in 0..(seconds / 5).max(1) {
            self.now += SignedDuration::from_secs(5);
            self.cluster = self.cluster.clone().heard(self.now);
            decision = Some(self.decide());
        }
        decision.unwrap()
    }

    /// The same, of all shards but one.
    fn pass_without(&mut self, silent: u32, seconds: i64) -> Decision {
        let mut decision = None;
        for _ in 0..(seconds / 5).max(1) {
            self.now += SignedDuration::from_secs(5);
            let last = self.cluster.observed.shards.iter().find(|shard| shard.index == silent).unwrap().report.clone();
            self.cluster = self.cluster.clone().heard(self.now).shard(silent, |shard| shard.report = last);
            decision = Some(self.decide());
        }
        decision.unwrap()
    }

    /// Lets time pass at once; every shard is heard at its end.
    fn leap(&mut self, seconds: i64) -> Decision {
        self.now += SignedDuration::from_secs(seconds);
        self.cluster = self.cluster.clone().heard(self.now);
        self.decide()
    }

    /// Lets time pass without a report from anyone.
    fn silence(&mut self, seconds: i64) -> Decision {
        self.now += SignedDuration::from_secs(seconds);
        self.decide()
    }

    fn change(&mut self, change: impl FnOnce(Cluster) -> Cluster) -> &mut Self {
        self.cluster = change(self.cluster.clone());
        self
    }

    fn spec(&mut self, change: impl FnOnce(&mut McpClusterSpec)) -> &mut Self {
        self.change(|cluster| cluster.spec(change))
    }
}

fn gate(decision: &Decision) -> Option<&'static str> {
    decision.held.as_ref().map(|held| held.gate.as_str())
}

/// Names of the shards that are to go.
fn victims(decision: &Decision) -> Vec<&str> {
    decision.victims.iter().map(|victim| victim.pod.name.as_str()).collect()
}

/// A shard with `streams` that take `percent` tenths of a percent of 512Mi.
fn at_permille(streams: u64, permille: u64) -> impl Fn(&mut ObservedShard) {
    move |shard| shard.load(streams, 512 * MIB * permille / 1000)
}

// === Checked by hand: limit 512 MiB, base 40, hard cap 4,000 ===

#[test]
fn ten_shards_all_at_69_percent_stay_ten() {
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(10).each(at_permille(300, 690)));
    for _ in 0..300 {
        assert_eq!(story.pass(5).desired, 10);
    }
}

#[test]
fn who_is_to_go_when_load_asks_for_fewer_gets_no_new_connections_once_load_has_stayed_away() {
    let names = |decision: &Decision| decision.leaving.iter().map(|pod| pod.name.clone()).collect::<Vec<_>>();
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(4).each(|s| s.load(2500, 60 * MIB)));
    story.pass(60);
    story.change(|cluster| cluster.each(|s| s.load(700 + 10 * u64::from(s.index), 60 * MIB)));
    assert_eq!(names(&story.pass(180)), [""; 0], "it may come back");
    let decision = story.pass(5);
    assert_eq!(
        (names(&decision), decision.desired, gate(&decision)),
        (vec!["tools-0".into(), "tools-1".into()], 4, Some("Stabilizing"))
    );
    let mut silent = story.cluster.clone();
    silent.observed.shards[3].report = None;
    std::mem::swap(&mut silent, &mut story.cluster);
    let later = story.silence(20);
    assert_eq!(names(&later), [""; 0], "what is not heard may be full");
    story.cluster = silent;
    story.change(|cluster| cluster.each(|s| s.load(2500, 60 * MIB)));
    assert_eq!(names(&story.pass(5)), [""; 0], "it is back");
}

#[test]
fn load_that_comes_back_within_three_minutes_is_no_growth() {
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(3).each(|s| s.load(2000, 60 * MIB)));
    story.pass(240);
    story.change(|cluster| cluster.each(|s| s.load(200, 60 * MIB)));
    story.pass(60);
    for step in 1..=9 {
        story.change(|cluster| cluster.each(|s| s.load(200 + 200 * step, 60 * MIB)));
        let decision = story.pass(5);
        assert_eq!((decision.numbers.growth, decision.desired), (0, 3));
    }
    for step in 1..=9 {
        story.change(|cluster| cluster.each(|s| s.load(2000 + 50 * step, 60 * MIB)));
        story.pass(5);
    }
    assert!(story.decide().numbers.growth > 0, "more than there was");
}

/// A shard went while nobody led, and the others have its clients a little later.
#[test]
fn load_that_comes_back_after_the_leader_changed_is_no_growth() {
    let cluster = |each| {
        let cluster = Cluster::autoscaled(1, 24).with_ready(6).each(|s| s.load(each, 60 * MIB));
        cluster.spec(|spec| spec.autoscaling.as_mut().unwrap().connections.target_per_replica = Some(100))
    };
    let status = |connections| McpClusterStatus {
        desired_replicas: Some(6),
        load: Some(LoadStatus { connections, ..LoadStatus::default() }),
        ..McpClusterStatus::default()
    };
    let mut asked = vec![];
    for known in [588, 504] {
        let mut story = Story::of(cluster(84));
        story.history = History::restore(Some(&status(known)), story.now);
        assert_eq!(story.pass(30).desired, 6);
        story.change(|_| cluster(98));
        asked.push((0..24).map(|_| story.pass(5).desired).max().unwrap());
    }
    assert_eq!(asked, [6, 7], "the second leader knows of no load that went away");
}

/// The last leader wrote what was left when a shard went, and went itself; the shard starts only minutes later.
#[test]
fn load_that_comes_back_is_no_growth_to_a_leader_that_found_shards_missing() {
    let cluster = |each| {
        let cluster = Cluster::autoscaled(1, 24).with_ready(6).each(|s| s.load(each, 60 * MIB));
        cluster.spec(|spec| spec.autoscaling.as_mut().unwrap().connections.target_per_replica = Some(100))
    };
    let mut asked = vec![];
    for ready in [5, 6] {
        let status = McpClusterStatus {
            desired_replicas: Some(6),
            ready_replicas: Some(ready),
            load: Some(LoadStatus { connections: 490, ..LoadStatus::default() }),
            ..McpClusterStatus::default()
        };
        let mut story = Story::of(cluster(82));
        story.history = History::restore(Some(&status), story.now);
        story.pass(90);
        story.change(|_| cluster(98));
        asked.push((0..24).map(|_| story.pass(5).desired).max().unwrap());
        if ready == 5 {
            for step in 1..=12 {
                story.change(|_| cluster(98 + step));
                story.pass(5);
            }
            assert!(story.decide().numbers.growth > 0, "three minutes later it sees growth");
        }
    }
    assert_eq!(asked, [6, 7]);
}

/// A shard as the census has it.
fn member(story: &Story, index: u32) -> Member<'_> {
    let policy = Policy::of(&story.cluster.observed.cluster.spec);
    let mut history = story.history.clone();
    let members = Members::take(&story.cluster.observed, &policy, &mut history, story.now);
    *members.all.iter().find(|m| m.shard.index == index).unwrap()
}

#[test]
fn a_buffer_is_kept_free_of_load_and_no_scale_in_breaks_it() {
    let cluster = || Cluster::autoscaled(1, 300).with_ready(3).each(|s| s.load(2700, 80 * MIB));
    assert_eq!(Story::settled(cluster()).pass(5).desired, 3);
    let with_buffer =
        |cluster: Cluster, buffer| cluster.spec(|spec| spec.autoscaling.as_mut().unwrap().connections.buffer = Some(buffer));
    // 8,100 and 1,000 free: 3.25 shards at 2,800 each.
    let decision = Story::settled(with_buffer(cluster(), 1000)).pass(5);
    let scale = decision.last_scale.unwrap();
    assert_eq!((decision.desired, scale.reason.as_str()), (4, "Connections"));
    assert_eq!(scale.message, "8,100 connections and 1,000 to keep free need 3.3 shards at 2,800 each: 3 to 4.");
    let idle = || Cluster::autoscaled(1, 300).with_ready(3).each(|s| s.load(100, 50 * MIB));
    assert_eq!(Story::settled(idle()).pass(1200).desired, 1);
    assert_eq!(Story::settled(with_buffer(idle(), 5000)).pass(1200).desired, 3, "5,300 at 2,000 each");
}

#[test]
fn ten_shards_of_heavy_streams_just_under_the_target_keep_a_floor_of_eleven() {
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(10).each(|shard| shard.load(318, (318 + 40) * MIB)));
    let decision = story.pass(1200);
    assert_eq!((decision.desired, decision.numbers.slot), (10, 512 * 7 / 10 * 1024 * 1024 - 40 * 1024 * 1024 + 419_430));
    let policy = Policy::of(&story.cluster.observed.cluster.spec);
    let mut history = story.history.clone();
    let members = Members::take(&story.cluster.observed, &policy, &mut history, story.now);
    assert_eq!(measure::measure(&policy, &members, &mut history, story.now).floor, 11);
}

#[test]
fn two_shards_with_900_and_600_become_one_and_two_again_only_above_2800() {
    let cluster =
        Cluster::autoscaled(1, 300).with_ready(2).shard(0, |s| s.load(900, 60 * MIB)).shard(1, |s| s.load(600, 55 * MIB));
    let mut story = Story::settled(cluster);
    story.pass(5);
    let decision = story.pass(5);
    assert_eq!((decision.desired, victims(&decision)), (1, vec!["tools-1"]));
    assert_eq!(decision.last_scale.unwrap().message, "1,500 connections fit 1 shard at 2,000 each: 2 to 1.");
    story.change(|mut cluster| {
        cluster.observed.shards.pop();
        cluster.shard(0, |s| s.load(1500, 70 * MIB))
    });
    assert_eq!(story.pass(1200).desired, 1);
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(1).shard(0, |s| s.load(2800, 80 * MIB)));
    assert_eq!(story.pass(1200).desired, 1);
    story.change(|cluster| cluster.shard(0, |s| s.load(2801, 80 * MIB)));
    let decision = story.pass(5);
    assert_eq!((decision.desired, decision.create), (2, 1));
    let scale = decision.last_scale.unwrap();
    assert_eq!(
        (scale.reason.as_str(), scale.message.as_str()),
        ("Connections", "2,801 connections need 1.1 shards at 2,800 each: 1 to 2.")
    );
}

#[test]
fn a_scale_out_whose_shards_are_ready_but_not_heard_is_not_bought_twice() {
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(2).each(|s| s.load(3500, 80 * MIB)));
    assert_eq!(story.pass(5).desired, 3);
    story.change(|mut cluster| {
        cluster.observed.shards.push(pending(2));
        cluster
    });
    for _ in 0..20 {
        assert_eq!(story.pass(5).desired, 3);
    }
    let since = story.now;
    story.change(|cluster| {
        cluster.shard(2, |shard| {
            *shard = ObservedShard { report: None, created: Some(since), ready_changed: Some(since), ..ready(2) }
        })
    });
    for _ in 0..2 {
        let decision = story.pass(5);
        assert_eq!((decision.desired, decision.create), (3, 0));
    }
    story.change(|cluster| cluster.shard(2, |shard| shard.report = ready(2).report));
    assert_eq!(story.pass(5).desired, 3);
}

#[test]
fn ten_of_a_hundred_lost_with_all_clients_back_in_five_seconds_is_a_hundred() {
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(100).each(|s| s.load(2800, 80 * MIB)));
    assert_eq!(story.pass(120).desired, 100);
    let since = story.now;
    story.change(|cluster| {
        cluster.each(|shard| {
            if shard.index < 10 {
                shard.terminating = Some(since);
            }
        })
    });
    let decision = story.pass(5);
    assert_eq!((decision.desired, decision.create), (100, 10), "clients are on their way");
    story.change(|cluster| {
        cluster.each(|shard| {
            if shard.index >= 10 {
                shard.load(3111, 80 * MIB);
            }
        })
    });
    for _ in 0..60 {
        let decision = story.pass(5);
        assert_eq!((decision.desired, decision.create), (100, 10), "they are back");
    }
}

#[test]
fn clients_of_a_lost_shard_count_until_they_are_back_or_stay_away_for_five_minutes() {
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(4).each(|s| s.load(2000, 60 * MIB)));
    assert_eq!(story.pass(60).numbers.demand, 8000);
    story.change(|mut cluster| {
        cluster.observed.shards.pop();
        cluster
    });
    assert_eq!(story.pass(5).numbers.demand, 8000);
    story.change(|cluster| cluster.shard(0, |s| s.load(2500, 60 * MIB)));
    assert_eq!(story.pass(5).numbers.demand, 8000);
    assert_eq!(story.pass(305).numbers.demand, 6500);
}

#[test]
fn a_thousand_refused_clients_that_retry_every_two_seconds_are_a_thousand_more() {
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(1).each(|s| s.load(2800, 60 * MIB)));
    assert_eq!(story.pass(120).numbers.waiting, 0);
    story.change(|cluster| {
        cluster.shard(0, |shard| {
            let report = &mut shard.report.as_mut().unwrap().report;
            report.rejected_total = 2500; // in five seconds
            report.retry_after_mean_ms = 2000;
        })
    });
    let decision = story.pass(5);
    assert_eq!((decision.numbers.waiting, decision.desired), (1000, 2));
    let message = decision.last_scale.unwrap().message;
    assert_eq!(message, "2,800 connections and 1,000 that were refused need 1.4 shards at 2,800 each: 1 to 2.");
}

#[test]
fn an_idle_shard_stuck_at_300_mebibytes_is_recycled_and_the_others_scale_in() {
    let cluster = Cluster::autoscaled(1, 300).with_ready(4).each(|s| s.load(700, 60 * MIB)).shard(2, |s| s.load(3, 300 * MIB));
    let mut story = Story::settled(cluster);
    assert!(story.pass(600).recycles.is_empty());
    let mut decision = story.pass(10);
    assert_eq!(decision.recycles.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["tools-2"]);
    assert!(decision.census.poisoned.contains("tools-2"));
    for _ in 0..40 {
        for gone in std::mem::take(&mut decision.victims) {
            story.change(|mut cluster| {
                cluster.observed.shards.retain(|shard| shard.uid != gone.pod.uid);
                cluster.shard(0, |shard| shard.load(1400, 60 * MIB))
            });
        }
        decision = story.pass(60);
    }
    assert_eq!(decision.desired, 2, "2,103 connections are more than one shard holds in the dead band");
}

// === The dead band, growth, memory ===

#[test]
fn a_burst_is_met_with_what_comes_while_shards_start_and_moving_load_is_not_growth() {
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(2).each(|s| s.load(1000, 60 * MIB)));
    story.pass(60);
    for step in 1..=8 {
        story.change(|cluster| cluster.each(|s| s.load(1000 + 100 * step, 60 * MIB)));
        story.pass(5);
    }
    assert!(story.decide().numbers.growth > 200, "{:?}", story.decide().numbers);
    let mut one = Story::settled(Cluster::autoscaled(1, 300).with_ready(1).each(|s| s.load(1500, 60 * MIB)));
    one.pass(60);
    let scale = (1..=10).find_map(|step| {
        one.change(|cluster| cluster.each(|s| s.load(1500 + 125 * step, 60 * MIB)));
        one.pass(5).last_scale
    });
    let message = scale.unwrap().message;
    assert!(message.contains(" that come while a shard starts need 1."), "{message}");
    let mut moving = Story::settled(Cluster::autoscaled(1, 300).with_ready(3).each(|s| s.load(1000, 60 * MIB)));
    moving.pass(60);
    for step in 1..=8 {
        moving.change(|cluster| {
            cluster
                .shard(0, |s| s.drain(DrainReason::ScaleIn, at(0)))
                .shard(0, |s| s.load(1000 - 100 * step, 60 * MIB))
                .shard(1, |s| s.load(1000 + 100 * step, 60 * MIB))
        });
        assert_eq!(moving.pass(5).numbers.growth, 0);
    }
}

#[test]
fn memory_alone_scales_out_and_says_so() {
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(2).each(|s| s.load(1000, 400 * MIB)));
    let decision = story.pass(5);
    let scale = decision.last_scale.unwrap();
    assert_eq!((decision.desired, scale.reason.as_str()), (3, "Memory"));
    assert_eq!(
        scale.message,
        "2,000 connections need 2.2 shards at 926 each, 352Ki of memory a connection and 70 % of 512Mi a shard: 2 to 3."
    );
}

#[test]
fn memory_without_load_scales_out_too() {
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(2).each(|s| s.load(0, 450 * MIB)));
    let decision = story.pass(5);
    assert_eq!((decision.desired, decision.numbers.by_memory), (3, 3));
    let scale = decision.last_scale.unwrap();
    assert_eq!(
        (scale.reason.as_str(), scale.message.as_str()),
        ("Memory", "Shards use 183Mi more than the memory target of 70 % leaves, and one holds 318Mi: 2 to 3.")
    );
}

#[test]
fn a_memory_target_below_an_idle_shard_scales_on_connections_alone() {
    let cluster = Cluster::autoscaled(1, 300).with_ready(1).each(|shard| {
        shard.load(3000, 480 * MIB);
        shard.report.as_mut().unwrap().report.base_bytes = 470 * MIB;
    });
    let decision = Story::settled(cluster).pass(5);
    assert_eq!((decision.mode, decision.desired, decision.numbers.by_memory), (Mode::MemoryTargetUnreachable, 2, 0));
}

#[test]
fn an_unknown_memory_limit_scales_on_connections_alone() {
    let cluster = Cluster::autoscaled(1, 300).with_ready(1).spec(|spec| spec.resources.limits.clear()).each(|shard| {
        shard.load(3000, 480 * MIB);
        shard.memory_limit = None;
        shard.report.as_mut().unwrap().report.limit_bytes = 0;
    });
    let decision = Story::settled(cluster).pass(5);
    assert_eq!((decision.mode, decision.desired), (Mode::MemoryLimitUnknown, 2));
}

#[test]
fn the_target_of_the_spec_is_used_and_the_hard_cap_of_the_shard_bounds_it() {
    let spec = json!({
        "autoscaling": {"maxReplicas": 9, "connections": {"targetPerReplica": 12_000}},
        "limits": {"maxConnections": 20_000},
    });
    let mut story = Story::settled(Cluster::of(spec).with_ready(1).each(|shard| {
        shard.load(61_200, 60 * MIB);
        shard.report.as_mut().unwrap().report.hard_cap = 20_000;
    }));
    let decision = story.pass(5);
    assert_eq!(decision.numbers.target, 12_000);
    assert_eq!(decision.held.unwrap().gate, Gate::RateLimited, "5.1 shards, and five at once");
    let mut story = Story::settled(story.cluster.each(|shard| shard.report.as_mut().unwrap().report.hard_cap = 10_000));
    assert_eq!(story.pass(5).numbers.target, 9_500, "the file limit is lower: 95 % of it");
}
