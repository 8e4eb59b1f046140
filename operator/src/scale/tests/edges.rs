//! Edges: the first pass, new leaders, holes in what is observed, rollouts, silence, kills, clocks.

use super::*;

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
    assert_eq!(gate(&story.pass(10)), Some("Stabilizing"), "a window after the clock was set back");
    assert!(story.pass(20).desired < desired, "time goes on, and so does the operator");
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
    assert_eq!(gate(&decision), Some("AtMinimum"), "they fit");
    story.change(|cluster| cluster.shard(5, |s| s.load(1, 60 * MIB)));
    assert_eq!(victims(&story.pass(5)), ["tools-5", "tools-29", "tools-28"]);
    story.change(|cluster| {
        (27..30).fold(cluster, |cluster, index| cluster.shard(index, |s| s.drain(DrainReason::ScaleIn, at(10))))
    });
    let decision = story.pass(5);
    assert_eq!((decision.victims.len(), gate(&decision)), (0, Some("AtMinimum")), "a tenth drains already");
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
