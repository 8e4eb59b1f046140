//! Who counts as what: recycled, surge, part of a rollout.

use super::*;

fn retiring(decision: &Decision) -> Vec<&str> {
    decision.retiring.iter().map(|pod| pod.name.as_str()).collect()
}

/// Three shards with load, and one with memory but without.
fn one_poisoned() -> Cluster {
    Cluster::autoscaled(3, 300).with_ready(4).each(|s| s.load(700, 60 * MIB)).shard(2, |s| s.load(0, 300 * MIB))
}

#[test]
fn a_shard_that_drains_to_be_recycled_takes_its_place_in_the_third_and_one_that_drains_to_scale_in_does_not() {
    let with = |reason| Story::settled(one_poisoned().shard(3, |s| s.drain(reason, at(0)))).pass(610);
    assert_eq!(retiring(&with(DrainReason::Recycle)), [""; 0]);
    assert_eq!(retiring(&with(DrainReason::ScaleIn)), ["tools-2"]);
}

#[test]
fn of_those_to_be_recycled_the_poisoned_one_goes_before_one_that_leaks() {
    let mut story = Story::settled(one_poisoned().shard(3, |s| s.terminating = Some(at(-5))));
    assert!(story.pass(600).retiring.is_empty());
    story.history.seen[0].leaks = true;
    assert_eq!(retiring(&story.pass(5)), ["tools-2"]);
}

#[test]
fn a_shard_that_leaks_is_no_evidence_of_what_load_costs_even_before_its_turn_to_be_recycled() {
    let mut story = Story::settled(Cluster::autoscaled(3, 300).with_ready(3).each(|s| s.load(1000, 60 * MIB)));
    let before = story.pass(5).numbers.bytes_per_load;
    story.change(|cluster| cluster.each(|s| s.load(1000, if s.index > 0 { 300 * MIB } else { 60 * MIB })));
    for seen in &mut story.history.seen[1..] {
        seen.leaks = true;
    }
    let decision = story.pass(1200);
    assert_eq!(retiring(&decision), ["tools-1"], "a third");
    let after = decision.numbers.bytes_per_load;
    assert!(after <= before + 64, "{before} and {after}");
}

#[test]
fn a_shard_that_drains_is_no_surge_however_new_it_is() {
    let outdate = |shard: &mut ObservedShard| shard.template_hash = Some("template-0".into());
    let cluster = Cluster::autoscaled(3, 9).with_ready(3).each(|s| s.load(2700, 60 * MIB)).each(outdate).with_pending(2);
    let mut story = Story::of(cluster.shard(4, |s| {
        s.created = Some(at(-1));
        s.drain(DrainReason::ScaleIn, at(0));
    }));
    story.history.desired = Some(3);
    let decision = story.pass(5);
    assert_eq!(
        (decision.numbers.current, decision.census.surge.into_iter().collect::<Vec<_>>()),
        (3, vec!["tools-3".to_owned()])
    );
}

#[test]
fn a_drain_for_a_rollout_is_part_of_it_and_one_that_scales_in_is_not() {
    let with = |reason| {
        let mut story = Story::of(Cluster::autoscaled(1, 9).with_ready(4).shard(3, |s| s.drain(reason, at(-20))));
        story.history.desired = Some(3);
        let decision = story.pass(5);
        (decision.desired, gate(&decision))
    };
    assert_eq!(with(DrainReason::Rollout), (3, Some("RolloutInProgress")));
    assert_eq!(with(DrainReason::ScaleIn), (2, Some("RateLimited")));
}
