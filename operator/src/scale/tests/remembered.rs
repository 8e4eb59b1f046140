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
    for sample in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
        assert_eq!(history.smooth(Some(sample), at(60)), learnt);
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
