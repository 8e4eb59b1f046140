//! The examples of autoscaling.md that were checked by hand, and its table of edges.

use jiff::SignedDuration;
use mcp_crds::cluster::{AutoscalingStatus, LoadStatus, SelectPolicy};
use mcp_crds::{McpClusterSpec, McpClusterStatus};
use serde_json::json;

use super::*;
use crate::stages::fixture::{Cluster, MIB, at, pending, ready};
use crate::stages::{Container, DrainReason, ObservedShard, Phase, ShedReason, Termination};

mod gates;

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
fn one_hot_shard_among_nine_cool_ones_is_shed_and_nothing_is_scaled() {
    let cluster = Cluster::autoscaled(1, 300).with_ready(10).each(at_permille(300, 547)).shard(4, at_permille(300, 977));
    let mut story = Story::settled(cluster);
    let first = story.pass(5);
    assert_eq!((first.desired, gate(&first)), (10, Some("HotShard")));
    assert_eq!(first.held.unwrap().message, "A new shard would not cool tools-4.");
    let shed = &first.sheds[0];
    assert_eq!((first.sheds.len(), shed.pod.name.as_str(), shed.streams), (1, "tools-4", 15), "at most 5 % of its streams");
    assert_eq!(shed.bytes, 512 * MIB * 977 / 1000 - 512 * MIB * 70 / 100);
    for _ in 0..300 {
        let later = story.pass(5);
        assert_eq!((later.desired, later.victims.len()), (10, 0));
    }
}

/// One hot shard among three cool ones, which obeys each order: its streams fall by what was asked, its memory to `after`.
fn obeying(after: impl Fn(u64, u64) -> u64, streams_leave: bool) -> (Vec<Decision>, Story) {
    let cluster =
        Cluster::autoscaled(1, 300).with_ready(4).each(|s| s.load(1000, 200 * MIB)).shard(1, |s| s.load(1000, 420 * MIB));
    let mut story = Story::settled(cluster);
    let mut decisions = vec![];
    for _ in 0..60 {
        let decision = story.pass(5);
        for shed in &decision.sheds {
            assert_eq!((shed.pod.name.as_str(), shed.reason), ("tools-1", ShedReason::Memory));
            story.change(|cluster| {
                cluster.shard(1, |shard| {
                    let report = shard.reported().unwrap();
                    let left = report.streams - if streams_leave { shed.streams } else { 0 };
                    shard.load(left, after(report.working_set_bytes, shed.streams));
                })
            });
        }
        decisions.push(decision);
    }
    (decisions, story)
}

#[test]
fn a_shard_whose_memory_falls_with_its_streams_is_shed_until_it_is_cool_and_not_replaced() {
    let (decisions, story) = obeying(|memory, streams| memory - streams * 380 * 1024, true);
    let sheds = decisions.iter().filter(|decision| !decision.sheds.is_empty()).count();
    assert!((2..=4).contains(&sheds), "{sheds}");
    assert!(decisions.iter().all(|decision| decision.retiring.is_empty() && decision.census.fruitless.is_empty()));
    assert!(decisions[..12].iter().all(|decision| decision.sheds.is_empty()), "streams may leave by themselves");
    assert!(decisions[12].census.shedding.contains("tools-1"));
    assert!(decisions.last().unwrap().census.shedding.is_empty());
    assert!(!words::is_hot(&Policy::of(&story.cluster.observed.cluster.spec), &member(&story, 1)));
}

#[test]
fn a_shard_whose_memory_stays_though_its_streams_end_is_told_after_a_step_and_replaced_after_two() {
    let (decisions, _) = obeying(|memory, _| memory, true);
    let told = decisions.iter().position(|decision| decision.census.fruitless.contains("tools-1")).unwrap();
    let replaced = decisions.iter().position(|decision| !decision.retiring.is_empty()).unwrap();
    assert_eq!((told, replaced), (24, 37), "a minute of patience, a minute, and another one");
    let replaced = &decisions[replaced];
    assert_eq!((replaced.retiring[0].name.as_str(), replaced.recycles.len()), ("tools-1", 0));
    assert_eq!(replaced.leaving, replaced.retiring, "it gets no new connections");
    assert_eq!((replaced.desired, replaced.create), (4, 1), "its successor comes first");
    assert!(replaced.sheds.is_empty(), "its streams leave by themselves");
}

#[test]
fn a_shard_whose_streams_do_not_leave_is_not_replaced_for_it() {
    let (decisions, _) = obeying(|memory, _| memory, false);
    assert!(decisions.iter().all(|decision| decision.retiring.is_empty() && decision.census.fruitless.is_empty()));
}

/// One warm shard among three cool ones, which gets no new streams: in each pass so many of its thousand leave, and memory
/// is what `after` makes of it.
fn left(story: &mut Story, each_pass: u64, after: impl Fn(u64, u64) -> u64) -> Decision {
    story.change(|cluster| {
        cluster.shard(1, |shard| {
            let report = shard.reported().unwrap();
            let (streams, memory) = (report.streams, report.working_set_bytes);
            let leave = each_pass.min(streams);
            shard.load(streams - leave, after(memory, leave));
        })
    });
    story.pass(5)
}

fn fenced_and_warm(mebibytes: u64) -> Story {
    let cluster = Cluster::autoscaled(4, 300).with_ready(4).each(|s| s.load(1000, 60 * MIB));
    Story::settled(cluster.shard(1, |shard| {
        shard.load(1000, mebibytes * MIB);
        shard.placed = false;
    }))
}

#[test]
fn no_stream_of_a_hot_shard_is_ended_while_they_leave_by_themselves_unless_it_is_urgent() {
    let sheds = |mebibytes, each_pass| {
        let mut story = fenced_and_warm(mebibytes);
        (0..24).any(|_| !left(&mut story, each_pass, |memory, _| memory).sheds.is_empty())
    };
    // 82 % of 512Mi: a hundredth a minute is ten.
    assert!(!sheds(420, 1));
    assert!(sheds(420, 0), "nobody leaves");
    assert!(sheds(440, 1), "86 %: it cannot wait");
}

#[test]
fn a_shard_whose_memory_stays_while_a_fifth_of_its_streams_leaves_is_replaced_and_one_whose_memory_falls_is_not() {
    let mut story = fenced_and_warm(370);
    let mut passes = 0;
    let told = loop {
        let decision = left(&mut story, 5, |memory, _| memory);
        passes += 1;
        if !decision.retiring.is_empty() || passes > 60 {
            break decision;
        }
    };
    assert_eq!(passes, 42, "the pass after the one in which 205 of 995 have left");
    assert_eq!((told.retiring[0].name.as_str(), told.desired, told.create), ("tools-1", 4, 1));
    assert_eq!((told.recycles.len(), told.leaving.len(), told.sheds.len()), (0, 1, 0), "it keeps what it has");
    assert!(told.census.fruitless.contains("tools-1"));
    let mut sound = fenced_and_warm(370);
    for _ in 0..100 {
        assert!(left(&mut sound, 5, |memory, leave| memory - leave * 330 * 1024).retiring.is_empty());
    }
    let mut placed = fenced_and_warm(370);
    placed.change(|cluster| cluster.shard(1, |shard| shard.placed = true));
    for _ in 0..100 {
        assert!(left(&mut placed, 5, |memory, _| memory).retiring.is_empty(), "others may have come");
    }
}

#[test]
fn a_shard_that_is_to_be_recycled_is_drained_when_next_to_nobody_is_left_or_after_an_hour() {
    let retiring = || {
        let mut story = fenced_and_warm(370);
        (0..42).for_each(|_| drop(left(&mut story, 5, |memory, _| memory)));
        story
    };
    let mut story = retiring();
    assert!(left(&mut story, 762, |_, _| 200 * MIB).recycles.is_empty(), "28 are left, of 2,800");
    let decision = left(&mut story, 1, |_, _| 200 * MIB);
    assert_eq!((decision.recycles.len(), decision.retiring.len()), (1, 1), "a shard that was cool in between too");
    let mut patient = retiring();
    assert!((0..719).all(|_| left(&mut patient, 0, |memory, _| memory).recycles.is_empty()));
    assert_eq!(left(&mut patient, 0, |memory, _| memory).recycles.len(), 1);
    let mut urgent = retiring();
    assert_eq!(left(&mut urgent, 0, |_, _| 440 * MIB).recycles.len(), 1, "its memory does not wait");
    let mut anew = retiring();
    anew.change(|cluster| cluster.shard(1, |shard| shard.report.as_mut().unwrap().report.incarnation = "another".into()));
    assert!(anew.pass(5).retiring.is_empty(), "a new process has not leaked");
}

#[test]
fn a_third_of_the_shards_is_recycled_at_a_time() {
    let mut story = Story::settled(Cluster::autoscaled(7, 300).with_ready(7).each(|s| s.load(0, 300 * MIB)));
    assert!(story.pass(600).retiring.is_empty());
    assert_eq!(story.pass(10).retiring.len(), 2);
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
    assert_eq!(
        decision.last_scale.unwrap().message,
        "Shards use 183Mi more than the memory target of 70 % leaves, and one holds 318Mi: 2 to 3."
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

// === Edges ===

#[test]
fn the_first_shards_are_the_minimum_and_no_change_of_size() {
    let decision = Story::of(Cluster::autoscaled(3, 9)).decide();
    assert_eq!((decision.desired, decision.create, decision.scaled, decision.mode), (3, 3, false, Mode::Starting));
    let decision = Story::of(Cluster::of(json!({}))).decide();
    assert_eq!((decision.desired, decision.create, decision.mode), (1, 1, Mode::ManualReplicas));
}

#[test]
fn a_new_leader_goes_on_where_the_last_one_stopped() {
    let status = McpClusterStatus {
        desired_replicas: Some(6),
        load: Some(LoadStatus { bytes_per_connection: Some("12Ki".into()), ..LoadStatus::default() }),
        autoscaling: Some(AutoscalingStatus {
            window_start_time: Some(Time(at(-5000))),
            window_highest: Some(6),
            last_oom_kill_time: Some(Time(at(-1000))),
        }),
        ..McpClusterStatus::default()
    };
    let mut story = Story::of(Cluster::autoscaled(1, 9).with_ready(6).each(|shard| shard.report = None));
    story.history = History::restore(Some(&status), at(0));
    story.cluster.observed.watching_since = at(0);
    let decision = story.silence(1);
    assert_eq!((decision.desired, decision.victims.len(), decision.mode), (6, 0, Mode::Starting), "nobody was heard yet");
    story.change(|cluster| cluster.each(|shard| shard.report = ready(shard.index).report));
    let decision = story.pass(595);
    assert_eq!((decision.desired, gate(&decision)), (6, Some("Stabilizing")), "the highest of the window is six");
    let decision = story.pass(30);
    assert_eq!((decision.desired, gate(&decision)), (6, Some("RecentOOMKill")));
    assert_eq!(story.pass(200).desired, 5, "thirty minutes after the kill");
    let kept = story.decide().remembered;
    assert_eq!((kept.window_start_time, kept.last_oom_kill_time), (Some(Time(at(-5000))), Some(Time(at(-1000)))));
}

#[test]
fn a_leader_without_a_status_waits_a_full_window_before_it_scales_in() {
    let mut story = Story::of(Cluster::autoscaled(1, 9).with_ready(6));
    story.history = History::restore(None, at(0));
    let decision = story.pass(595);
    assert_eq!((decision.desired, gate(&decision)), (6, Some("Stabilizing")));
    assert_eq!(story.pass(10).desired, 5);
}

#[test]
fn an_observation_with_a_hole_starts_anew() {
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(6).each(|s| s.load(2700, 60 * MIB)));
    story.pass(60);
    story.now += SignedDuration::from_mins(30);
    story.change(|cluster| cluster.each(|s| s.load(0, 60 * MIB)));
    assert_eq!(story.pass(590).desired, 6);
    assert_eq!(story.pass(20).desired, 5);
}

#[test]
fn unschedulable_pods_do_not_run_away_and_go_first_and_at_once_when_load_falls() {
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(2).each(|s| s.load(4000, 60 * MIB)));
    assert_eq!(story.pass(5).desired, 3);
    story.change(|cluster| cluster.with_pending(1).shard(2, |s| s.unschedulable = Some("0/3 nodes are available.".into())));
    for _ in 0..400 {
        assert_eq!(story.pass(5).desired, 3);
    }
    story.change(|cluster| {
        cluster.each(|shard| {
            if shard.ready {
                shard.load(1900, 60 * MIB);
            }
        })
    });
    let decision = story.pass(605);
    assert_eq!((decision.desired, victims(&decision)), (2, vec!["tools-2"]), "once the window agrees");
    // A closed gate holds what may hold work; a pod that never started needs no permission.
    let mut blocked = Story::settled(Cluster::autoscaled(1, 300).with_ready(2).with_pending(1).each(|s| {
        if s.ready {
            s.load(1900, 60 * MIB);
        }
    }));
    blocked.history.last_oom_kill = Some(at(-60));
    let decision = blocked.pass(5);
    assert_eq!((decision.desired, victims(&decision)), (2, vec!["tools-2"]));
}

#[test]
fn a_maximum_below_the_size_drains_one_at_a_time_through_every_gate() {
    let mut story = Story::settled(Cluster::autoscaled(1, 10).with_ready(10).each(|s| s.load(2700, 60 * MIB)));
    story.history.last_oom_kill = Some(at(-60));
    story.pass(5);
    story.spec(|spec| spec.autoscaling.as_mut().unwrap().max_replicas = 7);
    let decision = story.pass(5);
    assert_eq!((decision.desired, decision.victims.len(), decision.scaled), (7, 1, true));
    let scale = decision.last_scale.clone().unwrap();
    assert_eq!((scale.reason.as_str(), scale.message.as_str()), ("Bounds", "`autoscaling.maxReplicas` is 7: 10 to 7."));
    let index: u32 = decision.victims[0].pod.name["tools-".len()..].parse().unwrap();
    story.change(|cluster| cluster.shard(index, |s| s.drain(DrainReason::ScaleIn, at(0))));
    let decision = story.pass(5);
    assert_eq!((decision.desired, decision.victims.len(), decision.create), (7, 0, 0), "one drain at a time");
    story.change(|mut cluster| {
        cluster.observed.shards.retain(|s| s.draining.is_none());
        cluster
    });
    assert_eq!(story.pass(5).victims.len(), 1);
}

#[test]
fn a_minimum_above_the_size_is_met_at_once() {
    let mut story = Story::settled(Cluster::autoscaled(1, 100).with_ready(2).each(|s| s.load(2700, 60 * MIB)));
    story.pass(5);
    story.spec(|spec| spec.autoscaling.as_mut().unwrap().min_replicas = 40);
    let decision = story.pass(5);
    assert_eq!((decision.desired, decision.create), (40, 38));
    assert_eq!(decision.last_scale.unwrap().message, "`autoscaling.minReplicas` is 40: 2 to 40.");
}

#[test]
fn load_that_returns_while_a_victim_drains_asks_for_a_shard_again() {
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(3).each(|s| s.load(1000, 60 * MIB)));
    story.pass(600);
    let decision = story.pass(5);
    assert_eq!(decision.desired, 2);
    story.change(|cluster| cluster.shard(2, |s| s.drain(DrainReason::ScaleIn, at(0))));
    assert_eq!(story.pass(5).create, 0);
    story.change(|cluster| cluster.each(|s| s.load(2500, 60 * MIB)));
    let decision = story.pass(5);
    assert_eq!((decision.desired, decision.create), (3, 1));
}

#[test]
fn during_a_rollout_nothing_is_scaled_in_and_the_surge_does_not_count() {
    let outdate = |shard: &mut ObservedShard| shard.template_hash = Some("template-0".into());
    for bounds in [(1, 3), (3, 3)] {
        let cluster = Cluster::autoscaled(bounds.0, bounds.1).with_ready(3).each(|s| s.load(2700, 60 * MIB)).each(outdate);
        let mut story = Story::settled(cluster);
        story.pass(5);
        story.change(|cluster| cluster.with_pending(1));
        let decision = story.pass(5);
        assert_eq!((decision.desired, decision.create, decision.victims.len(), decision.numbers.current), (3, 0, 0, 3));
        assert!(decision.census.surge.contains("tools-3"));
    }
    let mut idle = Story::settled(Cluster::autoscaled(1, 9).with_ready(4).each(outdate));
    let decision = idle.pass(605);
    assert_eq!((decision.desired, gate(&decision)), (4, Some("RolloutInProgress")));
}

#[test]
fn what_a_rollout_leaves_over_is_drained_as_soon_as_it_fits() {
    let mut story = Story::settled(Cluster::autoscaled(3, 9).with_ready(3).each(|s| s.load(1500, 60 * MIB)));
    story.pass(5);
    story.change(|cluster| cluster.with_ready(1).shard(3, |s| s.load(0, 40 * MIB)));
    let decision = story.pass(5);
    assert_eq!((decision.desired, victims(&decision)), (3, vec!["tools-3"]));
}

#[test]
fn of_outdated_shards_the_one_that_serves_nobody_goes_first() {
    let old = |s: &mut ObservedShard| {
        s.template_hash = Some("template-0".into());
        s.load(100, 60 * MIB);
    };
    let cluster = Cluster::manual(2).with_ready(5).each(old).shard(1, |s| {
        s.ready = false;
        s.ready_changed = Some(at(-3));
    });
    assert_eq!(victims(&Story::of(cluster).decide())[0], "tools-1");
}

#[test]
fn outdated_shards_are_the_first_victims_when_a_person_shrinks_the_cluster() {
    let cluster = Cluster::manual(3).with_ready(4).each(|s| s.load(10, 60 * MIB)).shard(1, |s| s.load(500, 60 * MIB));
    let mut story = Story::of(cluster.shard(1, |s| s.template_hash = Some("template-0".into())));
    story.cluster.observed.shards[1].template_hash = Some("template-0".into());
    let decision = story.decide();
    // The fourth shard is the rollout's surge; with one more gone it is the outdated one.
    assert_eq!((decision.desired, decision.victims.len()), (3, 0));
    story.spec(|spec| spec.replicas = Some(2));
    assert_eq!(victims(&story.decide()), ["tools-1"]);
}

#[test]
fn a_clock_set_back_holds_everything_and_then_a_window_of_scale_in() {
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(3).each(|s| s.load(4000, 60 * MIB)));
    story.pass(5);
    let desired = story.pass(20).desired;
    story.now = at(-3600);
    story.change(|cluster| cluster.each(|s| s.load(4000, 60 * MIB)).heard(at(-3600)));
    let decision = story.decide();
    assert_eq!((decision.desired, gate(&decision)), (desired, Some("ClockMovedBack")));
    story.change(|cluster| cluster.each(|s| s.load(0, 60 * MIB)));
    let decision = story.pass(590);
    assert_eq!((decision.desired, decision.victims.len(), gate(&decision)), (desired, 0, Some("ClockMovedBack")));
    assert!(story.pass(30).desired < desired, "time goes on, and so does the operator");
}

#[test]
fn a_report_that_makes_no_sense_holds_the_size_and_is_named() {
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(2).each(|s| s.load(3500, 60 * MIB)));
    story.change(|cluster| cluster.shard(1, |s| s.report.as_mut().unwrap().report.connections = u64::MAX));
    let decision = story.pass(5);
    assert_eq!((decision.desired, gate(&decision)), (2, Some("InvalidReport")));
    assert_eq!(decision.held.unwrap().message, "The load report of tools-1 makes no sense: the size stays.");
}

#[test]
fn a_silent_shard_holds_scale_in_is_named_and_after_an_hour_so_is_the_remedy() {
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(3));
    story.history.observed_since = Some(at(0));
    let silent = |story: &mut Story, seconds: i64| {
        let mut decision = None;
        for _ in 0..seconds / 5 {
            let quiet = story.cluster.observed.shards[1].report.clone();
            story.now += SignedDuration::from_secs(5);
            story.change(|cluster| cluster.heard(at(0)));
            let now = story.now;
            story.change(|cluster| cluster.heard(now).shard(1, |s| s.report = quiet));
            decision = Some(story.decide());
        }
        decision.unwrap()
    };
    let decision = silent(&mut story, 900);
    assert_eq!((decision.desired, gate(&decision)), (3, Some("ShardSilent")));
    assert_eq!(decision.held.unwrap().message, "No load report from tools-1: nothing is scaled in.");
    let message = silent(&mut story, 3600).held.unwrap().message;
    assert_eq!(message, "No load report from tools-1: nothing is scaled in. Look at its log, or delete the pod: it is replaced.");
}

#[test]
fn all_shards_silent_is_no_reason_to_change_anything() {
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(3).each(|s| s.load(2000, 60 * MIB)));
    story.pass(5);
    let decision = story.silence(60);
    assert_eq!((decision.desired, decision.mode, decision.victims.len()), (3, Mode::MetricsUnavailable, 0));
}

#[test]
fn a_kill_for_memory_is_seen_in_the_pod_and_in_the_report() {
    let killed = Termination { reason: "OOMKilled".into(), exit_code: 137, started: Some(at(-9000)), finished: Some(at(-100)) };
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(3).shard(1, |s| s.last_termination = Some(killed)));
    let decision = story.pass(605);
    assert_eq!((decision.desired, gate(&decision)), (3, Some("RecentOOMKill")));
    assert_eq!(decision.remembered.last_oom_kill_time, Some(Time(at(-100))));
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(3));
    story.pass(5);
    story.change(|cluster| cluster.shard(0, |s| s.report.as_mut().unwrap().report.oom_kill_total = 1));
    assert_eq!(gate(&story.pass(605)), Some("RecentOOMKill"));
}

#[test]
fn what_a_victim_holds_must_fit_the_others_or_one_more_stays() {
    // 2 × 1,990 and 1 × 20: on average two shards are enough for Tdn = 2,000, but a hot one has no room for it.
    let spec = |max: i32| Cluster::autoscaled(1, max);
    let cluster = spec(9)
        .with_ready(3)
        .shard(0, |s| s.load(3000, 60 * MIB))
        .shard(1, |s| s.load(500, 60 * MIB))
        .shard(2, |s| s.load(499, 60 * MIB));
    let mut story = Story::settled(cluster);
    let decision = story.pass(605);
    assert_eq!((decision.desired, victims(&decision)), (2, vec!["tools-2"]), "fits the cool one");
    let cluster = spec(9).with_ready(2).shard(0, |s| s.load(3000, 60 * MIB)).shard(1, |s| s.load(0, 60 * MIB));
    let mut story = Story::settled(cluster);
    assert_eq!(story.pass(605).desired, 2, "3,000 are more than Tdn");
    let heavy = spec(9)
        .with_ready(3)
        .shard(0, |s| s.load(300, 300 * MIB))
        .shard(1, |s| s.load(2, 290 * MIB))
        .shard(2, |s| s.load(900, 80 * MIB));
    let mut story = Story::settled(heavy);
    let decision = story.pass(5);
    assert!(decision.victims.iter().all(|v| v.pod.name != "tools-1"), "its bytes fit nowhere: {decision:?}");
}

#[test]
fn what_a_hot_shard_has_too_much_needs_room_before_a_victim_does() {
    // 169 MiB of the victim would fit the 175 MiB that two others have, but the hot one has 90 MiB to give away first.
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(5).each(|shard| {
        let streams = [408, 190, 338, 169, 169][shard.index as usize];
        shard.load(streams, (40 + streams) * MIB);
    }));
    story.history.smooth(Some(856_811.0), at(0));
    let decision = story.pass(5);
    assert_eq!((decision.desired, decision.numbers.raw, gate(&decision)), (5, 4, Some("HotShard")));
}

#[test]
fn what_exists_beyond_the_size_stays_while_it_fits_nowhere() {
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(4).each(|s| s.load(1990, 60 * MIB)));
    story.history.desired = Some(3);
    let decision = story.pass(5);
    assert_eq!((decision.desired, decision.victims.len(), gate(&decision)), (3, 0, Some("VictimsDoNotFit")));
}

#[test]
fn what_exists_beyond_the_size_leaves_a_tenth_at_a_time_and_those_with_the_fewest_streams_first() {
    let mut story =
        Story::settled(Cluster::autoscaled(20, 60).with_ready(30).each(|s| s.load(u64::from(100 - s.index), 60 * MIB)));
    story.history.desired = Some(20);
    let decision = story.pass(5);
    assert_eq!((decision.desired, victims(&decision)), (20, vec!["tools-29", "tools-28", "tools-27"]));
    story.change(|cluster| cluster.shard(5, |s| s.load(1, 60 * MIB)));
    assert_eq!(victims(&story.pass(5)), ["tools-5", "tools-29", "tools-28"]);
}

#[test]
fn a_maximum_below_an_idle_cluster_drains_one_at_a_time_too() {
    let mut story = Story::settled(Cluster::autoscaled(1, 20).with_ready(20).each(|s| s.load(2, 60 * MIB)));
    story.history.observed_since = Some(at(0));
    story.pass(5);
    story.history.observed_since = Some(at(-50_000));
    story.spec(|spec| spec.autoscaling.as_mut().unwrap().max_replicas = 2);
    let decision = story.pass(5);
    assert_eq!((decision.desired, decision.victims.len()), (2, 1));
}

#[test]
fn memory_that_a_starting_shard_will_hold_is_not_bought_twice() {
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(2).each(|s| s.load(0, 450 * MIB)));
    assert_eq!(story.pass(5).desired, 3);
    story.change(|cluster| cluster.with_pending(1));
    assert_eq!(story.pass(60).desired, 3);
}

#[test]
fn a_silent_shard_counts_as_full() {
    let cluster = Cluster::autoscaled(1, 9).with_ready(3).each(|s| s.load(2700, 60 * MIB)).shard(1, |s| s.load(100, 60 * MIB));
    let mut story = Story::settled(cluster);
    assert_eq!(story.pass(5).numbers.demand, 5500);
    story.change(|cluster| cluster.shard(1, |s| s.report.as_mut().unwrap().at = at(-60)));
    assert_eq!(story.decide().numbers.demand, 8200);
}

#[test]
fn what_a_connection_costs_is_learnt_slowly_and_never_less_than_four_kibibytes() {
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(2).each(|s| s.load(2000, 40 * MIB)));
    assert_eq!(story.pass(5).numbers.bytes_per_load, 4096);
    story.change(|cluster| cluster.each(|s| s.load(2000, 240 * MIB)));
    let learnt = [5, 300, 3600].map(|seconds| story.pass(seconds).numbers.bytes_per_load);
    assert!(learnt[0] < 6 << 10 && (40 << 10..90 << 10).contains(&learnt[1]) && learnt[2] > 90 << 10, "{learnt:?}");
}

#[test]
fn the_rate_of_scale_in_is_a_tenth_a_minute() {
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(100));
    let first = story.pass(5);
    assert_eq!((first.desired, first.victims.len(), gate(&first)), (90, 10, Some("RateLimited")));
    story.change(|mut cluster| {
        cluster.observed.shards.retain(|s| first.victims.iter().all(|v| v.pod.uid != s.uid));
        cluster
    });
    assert_eq!(story.pass(50).desired, 90);
    assert_eq!(story.pass(10).desired, 81);
}

#[test]
fn scale_down_disabled_never_scales_in() {
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(3));
    story.spec(|spec| spec.autoscaling.as_mut().unwrap().behavior.scale_down.select_policy = SelectPolicy::Disabled);
    let decision = story.pass(3600);
    assert_eq!((decision.desired, gate(&decision)), (3, Some("RateLimited")));
}

#[test]
fn a_window_of_scale_out_takes_the_lowest_recommendation() {
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(1).each(|s| s.load(2000, 60 * MIB)));
    story.spec(|spec| spec.autoscaling.as_mut().unwrap().behavior.scale_up.stabilization_window_seconds = 60);
    story.pass(60);
    story.change(|cluster| cluster.each(|s| s.load(3900, 60 * MIB)));
    let decision = story.pass(5);
    assert_eq!((decision.desired, gate(&decision)), (1, Some("Stabilizing")));
    assert!(story.pass(65).desired >= 2);
}

#[test]
fn load_above_the_maximum_is_told() {
    let mut story = Story::settled(Cluster::autoscaled(1, 2).with_ready(2).each(|s| s.load(3900, 60 * MIB)));
    let decision = story.pass(5);
    assert_eq!((decision.desired, gate(&decision)), (2, Some("AtMaximum")));
    assert_eq!(decision.held.unwrap().message, "Load asks for 3 shards; `autoscaling.maxReplicas` is 2.");
    let message = story.pass(3700).held.unwrap().message;
    assert_eq!(message, "Load asks for 3 shards; `autoscaling.maxReplicas` is 2. Raise `autoscaling.maxReplicas`.");
}

#[test]
fn a_paused_cluster_decides_nothing() {
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(2).each(|s| s.load(3900, 60 * MIB)));
    story.spec(|spec| spec.paused = true);
    let decision = story.pass(5);
    assert_eq!((decision.desired, decision.mode, decision.scaled), (2, Mode::Paused, false));
    assert!(decision.sheds.is_empty() && decision.victims.is_empty());
}

#[test]
fn replicas_are_honored_a_tenth_at_a_time_down_and_at_once_up() {
    let mut story = Story::of(Cluster::manual(30).with_ready(30).each(|s| s.load(10, 60 * MIB)));
    assert!(!story.decide().scaled);
    story.spec(|spec| spec.replicas = Some(5));
    let decision = story.pass(5);
    assert_eq!((decision.desired, decision.victims.len(), decision.mode), (5, 3, Mode::ManualReplicas));
    let scale = decision.last_scale.clone().unwrap();
    assert_eq!((scale.reason.as_str(), scale.message.as_str()), ("Manual", "`replicas` is 5: 30 to 5."));
    story.change(|cluster| {
        cluster.each(|s| {
            if decision.victims.iter().any(|v| v.pod.uid == s.uid) {
                s.drain(DrainReason::ScaleIn, at(0));
            }
        })
    });
    assert_eq!(story.pass(5).victims.len(), 0, "three drain already");
    story.spec(|spec| spec.replicas = Some(60));
    assert_eq!(story.pass(5).create, 33);
    story.spec(|spec| spec.replicas = Some(0));
    assert_eq!(story.pass(5).desired, 0);
}

#[test]
fn nothing_but_the_chosen_victims_is_named_and_they_spread_over_nodes() {
    let mut story = Story::of(Cluster::manual(1).with_ready(4).each(|s| s.node = Some("node-a".into())));
    story.change(|cluster| cluster.shard(3, |s| s.node = Some("node-b".into())));
    assert_eq!(victims(&story.decide()), ["tools-2"], "the crowded node loses one");
    story.change(|cluster| cluster.shard(0, |s| s.ready = false).shard(0, |s| s.ready_changed = Some(at(-3))));
    assert_eq!(victims(&story.decide()), ["tools-0"], "an unhealthy one goes first");
    story.change(|cluster| cluster.with_pending(2));
    assert_eq!(victims(&story.decide()), ["tools-5", "tools-4", "tools-0"], "pods that never started all go at once");
}

#[test]
fn a_pod_that_ended_for_good_counts_for_nothing() {
    let mut story = Story::settled(Cluster::autoscaled(2, 9).with_ready(2).shard(1, |s| s.phase = Phase::Failed));
    let decision = story.pass(5);
    assert_eq!((decision.desired, decision.create), (2, 1));
}

#[test]
fn a_restarted_container_loses_its_connections_and_demand_does_not_forget_them() {
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(2).each(|s| s.load(2700, 60 * MIB)));
    story.pass(60);
    story.change(|cluster| {
        cluster.shard(1, |s| {
            s.load(0, 40 * MIB);
            s.container = Container::Running { started: Some(at(60)) };
            s.report.as_mut().unwrap().report.incarnation = "again".into();
        })
    });
    let decision = story.pass(5);
    assert_eq!((decision.numbers.demand, decision.numbers.growth), (5400, 0));
}

#[test]
fn an_idle_cluster_at_its_minimum_of_one_is_within_bounds_and_one_at_three_says_so() {
    assert_eq!(gate(&Story::settled(Cluster::autoscaled(1, 9).with_ready(1)).pass(700)), None);
    let decision = Story::settled(Cluster::autoscaled(3, 9).with_ready(3)).pass(700);
    assert_eq!((decision.desired, gate(&decision)), (3, Some("AtMinimum")));
}
