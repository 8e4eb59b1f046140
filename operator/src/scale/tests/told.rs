//! What is said of a decision, where two things could be said.

use super::*;

fn message(decision: &Decision) -> &str {
    &decision.held.as_ref().unwrap().message
}

#[test]
fn where_memory_asks_for_as_many_as_connections_do_connections_are_told() {
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(2).each(|s| {
        s.load(3000, 450 * MIB);
        // Too new to say what a connection costs.
        s.ready_changed = Some(at(-30));
    }));
    let decision = story.pass(5);
    assert_eq!((decision.numbers.by_memory, decision.numbers.by_connections), (3, 3));
    let scale = decision.last_scale.unwrap();
    assert_eq!(
        (scale.reason.as_str(), scale.message.as_str()),
        ("Connections", "6,000 connections need 2.2 shards at 2,800 each: 2 to 3.")
    );
}

#[test]
fn a_bound_in_either_direction_is_named_as_the_field_that_sets_it() {
    let loaded = |load| Story::settled(Cluster::autoscaled(1, 99).with_ready(1).each(|s| s.load(load, 60 * MIB)));
    let rate = "Load asks for 10 shards; `autoscaling.behavior.scaleUp` allows no faster change.";
    assert_eq!(message(&loaded(28_000).pass(5)), rate);
    let mut story = loaded(2000);
    let behavior = |spec: &mut McpClusterSpec| {
        let behavior = &mut spec.autoscaling.as_mut().unwrap().behavior;
        (behavior.scale_up.stabilization_window_seconds, behavior.scale_down.stabilization_window_seconds) = (60, 300);
    };
    story.spec(behavior).pass(60);
    story.change(|cluster| cluster.each(|s| s.load(3900, 60 * MIB)));
    assert_eq!(message(&story.pass(5)), "Load asks for 2 shards; it has to ask for 60 s.");
}

#[test]
fn which_shards_are_still_to_be_replaced_is_told_after_an_hour() {
    let outdated = Cluster::autoscaled(1, 9).with_ready(3).shard(2, |s| s.template_hash = Some("template-0".into()));
    let mut story = Story::settled(outdated);
    assert_eq!(message(&story.pass(5)), "Shards are being replaced: nothing is scaled in.");
    assert!(message(&story.pass(3700)).contains(" Still to be replaced: tools-2. "));
}

#[test]
fn a_shard_that_was_killed_half_an_hour_ago_is_not_named_any_more() {
    let killed = |second| {
        let end = Termination { reason: "OOMKilled".into(), finished: Some(at(second)), ..Termination::default() };
        move |s: &mut ObservedShard| s.last_termination = Some(end)
    };
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(3).shard(0, killed(-1795)).shard(1, killed(-60)));
    let told = message(&story.pass(5)).to_owned();
    assert_eq!(told, "tools-1 was killed for memory within 30 minutes: nothing is scaled in.");
}

#[test]
fn a_shard_that_was_killed_and_is_gone_is_told_without_its_name() {
    let end = Termination { reason: "OOMKilled".into(), finished: Some(at(-60)), ..Termination::default() };
    let mut story = Story::settled(Cluster::autoscaled(1, 9).with_ready(4).shard(3, |s| s.last_termination = Some(end)));
    story.pass(5);
    story.change(|mut cluster| {
        cluster.observed.shards.remove(3);
        cluster
    });
    let told = message(&story.pass(5)).to_owned();
    assert_eq!(told, "A shard that is gone was killed for memory within 30 minutes: nothing is scaled in.");
}
