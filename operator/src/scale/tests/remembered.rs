//! What is remembered of shards that go and of load that comes, and what a report leaves out.

use super::*;

fn four() -> Story {
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(4).each(|s| s.load(2000, 60 * MIB)));
    assert_eq!(story.pass(60).numbers.demand, 8000);
    story
}

#[test]
fn clients_of_a_pod_that_is_gone_from_between_others_are_missed() {
    let mut story = four();
    story.change(|mut cluster| {
        cluster.observed.shards.remove(1);
        cluster
    });
    assert_eq!(story.pass(5).numbers.demand, 8000);
}

#[test]
fn clients_of_a_pod_that_ends_are_missed_once_and_not_again_when_it_is_gone() {
    let mut story = four();
    story.change(|cluster| cluster.shard(3, |s| s.terminating = Some(at(60))));
    assert_eq!(story.pass(5).numbers.demand, 8000);
    assert_eq!(story.pass(310).numbers.demand, 6000, "they stay away");
    story.change(|mut cluster| {
        cluster.observed.shards.pop();
        cluster
    });
    assert_eq!(story.pass(5).numbers.demand, 6000);
}

#[test]
fn clients_are_waited_for_no_longer_because_a_shard_without_any_went() {
    let last = |change: fn(Cluster) -> Cluster| {
        let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(5).each(|s| s.load(2000, 60 * MIB)));
        story.change(|cluster| cluster.shard(1, |s| s.load(0, 40 * MIB)).shard(4, |s| s.load(0, 40 * MIB)));
        story.pass(60);
        story.change(|cluster| cluster.shard(2, |s| s.terminating = Some(at(60))));
        assert_eq!(story.pass(200).numbers.demand, 6000);
        story.change(change);
        story.pass(5);
        story.pass(105).numbers.demand
    };
    assert_eq!(last(|cluster| cluster), 4000, "they stay away");
    assert_eq!(
        last(|mut cluster| {
            cluster.observed.shards.remove(1);
            cluster
        }),
        4000,
        "one from between others"
    );
    assert_eq!(
        last(|mut cluster| {
            cluster.observed.shards.pop();
            cluster
        }),
        4000,
        "the last one"
    );
    assert_eq!(last(|cluster| cluster.shard(1, |s| s.terminating = Some(at(260)))), 4000, "one that ends");
    assert_eq!(
        last(|cluster| cluster.shard(1, |s| s.report.as_mut().unwrap().report.incarnation = "again".into())),
        4000,
        "one whose process starts again"
    );
}

#[test]
fn what_was_there_more_than_three_minutes_ago_bounds_no_growth() {
    let mut history = History::default();
    history.note_total(8000, at(0));
    history.note_total(2000, at(240));
    assert_eq!(history.growth(4000, at(280)), 1000, "half of what came in 40 s: a start takes 20");
}

#[test]
fn a_shard_is_evidence_of_what_a_connection_costs_when_it_has_been_ready_for_more_than_a_minute() {
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(1).each(|s| {
        s.load(1000, 400 * MIB);
        s.ready_changed = Some(at(0));
    }));
    assert_eq!(story.pass(60).numbers.bytes_per_load, 16 << 10);
    assert!(story.pass(5).numbers.bytes_per_load > 300 << 10);
}

#[test]
fn a_start_takes_what_nine_of_ten_took() {
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(10).each(|s| {
        s.load(100, 60 * MIB);
        s.ready_changed = s.created.map(|created| created + SignedDuration::from_secs(1 + i64::from(s.index)));
    }));
    story.pass(120);
    assert_eq!(story.history.growth(1000 + 6000, story.now), 900, "9 s, of 6,000 in a minute");
}

#[test]
fn what_came_within_half_a_minute_is_no_trend() {
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(2).each(|s| s.load(100, 60 * MIB)));
    story.pass(5);
    story.change(|cluster| cluster.each(|s| s.load(1000, 60 * MIB)));
    assert_eq!(story.pass(5).numbers.growth, 0);
}

#[test]
fn a_new_leader_knows_from_status_what_a_connection_costs() {
    let load = LoadStatus { bytes_per_connection: Some("64Ki".into()), ..LoadStatus::default() };
    let status = McpClusterStatus { load: Some(load), ..McpClusterStatus::default() };
    let mut story = Story::of(Cluster::autoscaled(1, 9).with_ready(1));
    story.history = History::restore(Some(&status), at(0));
    assert_eq!(story.pass(5).numbers.bytes_per_load, 64 << 10);
}

#[test]
fn a_sample_that_is_no_number_or_nothing_changes_nothing() {
    let mut history = History::default();
    let learnt = history.smooth(Some(5000.0), at(0));
    for (second, sample) in (60..).step_by(60).zip([f64::NAN, f64::INFINITY, 0.0, -1.0]) {
        assert_eq!(history.smooth(Some(sample), at(second)), learnt);
    }
}

#[test]
fn nobody_is_sent_away_during_a_rollout() {
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(5));
    story.spec(|spec| spec.autoscaling.as_mut().unwrap().behavior.scale_down.select_policy = SelectPolicy::Disabled);
    assert_eq!(story.pass(200).leaving.len(), 4);
    story.change(|cluster| cluster.shard(0, |s| s.template_hash = Some("template-0".into())));
    assert!(story.pass(5).leaving.is_empty());
}

#[test]
fn a_base_or_a_hard_cap_that_is_not_reported_is_the_usual_one() {
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(1));
    story.change(|cluster| {
        cluster.each(|s| {
            let report = &mut s.report.as_mut().unwrap().report;
            (report.base_bytes, report.hard_cap) = (0, 0);
        })
    });
    let numbers = story.pass(5).numbers;
    assert_eq!((numbers.slot, numbers.hard_cap), (i64::try_from(512 * MIB * 70 / 100 - 40 * MIB).unwrap(), 4000));
}

#[test]
fn clients_of_a_shard_that_is_silent_are_there_until_it_is_not_ready_and_are_waited_for_from_then_on() {
    let mut story = four();
    assert_eq!(story.pass_without(3, 240).numbers.demand, 8800, "it may be full");
    let now = story.now;
    story.change(|cluster| {
        cluster.shard(3, |s| {
            s.ready = false;
            s.ready_changed = Some(now);
        })
    });
    assert_eq!(story.pass_without(3, 100).numbers.demand, 8000);
    assert_eq!(story.pass_without(3, 240).numbers.demand, 6000, "they stay away");
}

#[test]
fn clients_that_came_since_a_lost_shard_was_last_heard_may_be_its_own() {
    let mut story = four();
    story.change(|cluster| cluster.shard(0, |s| s.load(2500, 60 * MIB)));
    assert_eq!(story.pass_without(3, 5).numbers.demand, 8500);
    story.change(|mut cluster| {
        cluster.observed.shards.pop();
        cluster
    });
    assert_eq!(story.pass(5).numbers.demand, 8000);
}

#[test]
fn clients_that_are_all_back_and_leave_again_are_not_waited_for() {
    let mut story = four();
    story.change(|mut cluster| {
        cluster.observed.shards.pop();
        cluster.shard(0, |s| s.load(4000, 60 * MIB))
    });
    assert_eq!(story.pass(10).numbers.demand, 8000);
    story.change(|cluster| cluster.shard(0, |s| s.load(3500, 60 * MIB)));
    assert_eq!(story.pass(5).numbers.demand, 7500);
}

#[test]
fn what_a_process_refused_before_its_first_report_was_refused_at_a_time_that_nobody_knows() {
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(1).each(|s| s.load(2000, 60 * MIB)));
    story.pass(120);
    story.change(|cluster| {
        cluster.shard(0, |s| {
            let report = &mut s.report.as_mut().unwrap().report;
            report.incarnation = "again".into();
            (report.rejected_total, report.retry_after_mean_ms, report.oom_kill_total) = (2500, 2000, 1);
        })
    });
    let decision = story.pass(5);
    assert_eq!((decision.numbers.waiting, decision.desired), (0, 1));
    assert_eq!(decision.remembered.last_oom_kill_time, None);
}

#[test]
fn who_was_heard_once_does_not_start_for_the_first_time() {
    let mut story = Story::settled(Cluster::autoscaled(2, 9).with_ready(2));
    story.pass(5);
    story.change(|_| Cluster::autoscaled(2, 9).with_pending(2));
    assert_eq!(story.pass(5).mode, Mode::MetricsUnavailable);
    assert_eq!(Story::settled(Cluster::autoscaled(2, 9).with_pending(2)).pass(5).mode, Mode::Starting);
}

/// What a leader wrote when it had scaled from a size to another at the start of the story.
fn scaled(from: i32, to: i32) -> McpClusterStatus {
    let message = "500 connections fit 90 shards at 2,000 each: 100 to 90.".to_owned();
    McpClusterStatus {
        desired_replicas: Some(to),
        last_scale: Some(LastScale { time: Time(at(0)), from, to, reason: "LowLoad".to_owned(), message }),
        autoscaling: Some(AutoscalingStatus { window_start_time: Some(Time(at(-5000))), ..AutoscalingStatus::default() }),
        ..McpClusterStatus::default()
    }
}

#[test]
fn a_new_leader_counts_the_last_change_as_its_own_and_goes_on_telling_of_it() {
    let mut story = Story::of(Cluster::autoscaled(1, 300).with_ready(90));
    story.spec(|spec| spec.autoscaling.as_mut().unwrap().behavior.scale_down.stabilization_window_seconds = 0);
    story.history = History::restore(Some(&scaled(100, 90)), at(0));
    let decision = story.pass(50);
    assert_eq!((decision.desired, gate(&decision)), (90, Some("RateLimited")), "ten went less than a minute ago");
    assert_eq!(decision.last_scale, scaled(100, 90).last_scale);
    assert_eq!(story.pass(10).desired, 81);
}

#[test]
fn a_new_leader_takes_no_bytes_for_no_knowledge() {
    let load = LoadStatus { bytes_per_connection: Some("0".into()), ..LoadStatus::default() };
    let status = McpClusterStatus { desired_replicas: Some(2), load: Some(load), ..McpClusterStatus::default() };
    let mut story = Story::of(Cluster::autoscaled(1, 9).with_ready(2).each(|s| s.load(1000, 240 * MIB)));
    story.history = History::restore(Some(&status), at(0));
    assert!(story.pass(5).numbers.bytes_per_load > 150 << 10, "what is measured first is taken as it is");
}

#[test]
fn a_clock_that_is_set_back_by_a_second_has_not_moved_back() {
    let mut history = History::default();
    assert!(!history.begin(at(10)));
    assert!(!history.begin(at(9)));
    assert!(history.begin(at(7)));
}

#[test]
fn passes_a_minute_apart_are_one_observation() {
    let mut history = History::default();
    history.begin(at(0));
    history.begin(at(60));
    assert_eq!(history.observed_since, Some(at(0)));
    history.begin(at(121));
    assert_eq!(history.observed_since, Some(at(121)));
}

/// A new leader's memory where status says that a shard was missing.
fn blind_since(second: i64) -> History {
    let status = McpClusterStatus { desired_replicas: Some(6), ready_replicas: Some(5), ..McpClusterStatus::default() };
    let mut history = History::restore(Some(&status), at(second));
    history.begin(at(second));
    history
}

#[test]
fn a_leader_that_found_shards_missing_sees_growth_three_minutes_later_to_the_second() {
    let mut history = blind_since(0);
    history.note_total(100, at(140));
    assert_eq!((history.growth(200, at(179)), history.growth(200, at(180)) > 0), (0, true));
}

#[test]
fn a_leader_that_found_shards_missing_sees_growth_three_minutes_after_its_clock_was_set_back() {
    let mut history = blind_since(1000);
    assert!(history.begin(at(0)));
    history.note_total(100, at(60));
    assert_eq!(history.growth(200, at(100)), 0);
    history.note_total(100, at(150));
    assert!(history.growth(200, at(185)) > 0);
}

#[test]
fn what_grew_for_half_a_minute_is_a_trend() {
    let mut history = History::default();
    history.note_total(1000, at(0));
    assert_eq!((history.growth(2000, at(29)), history.growth(2000, at(30)) > 0), (0, true));
}

#[test]
fn what_is_noted_again_at_the_same_moment_and_what_is_recommended_again_takes_no_room() {
    let (mut once, mut again) = (History::default(), History::default());
    once.note_total(1000, at(0));
    again.note_total(1000, at(0));
    again.note_total(1000, at(0));
    (0..100).for_each(|second| again.recommend(3, at(second)));
    once.recommend(3, at(99));
    assert_eq!(once, again);
}
