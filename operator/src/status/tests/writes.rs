//! What is written, and when: little, and at the promised rates.

use super::*;

#[test]
fn a_time_moves_only_with_the_status_of_its_condition() {
    let first = healthy().status();
    let mut later = healthy().after(&first);
    later.now = at(600);
    later.cluster = later.cluster.heard(at(600));
    later.decision.held = Some(Held { gate: Gate::AtMaximum, message: "In words.".into() });
    let later = later.status();
    let time = |status: &McpClusterStatus, kind: &str| {
        status.conditions.iter().find(|condition| condition.type_ == kind).unwrap().last_transition_time.0
    };
    assert_eq!(time(&later, "Ready"), at(0), "another reason, the same status");
    assert_eq!(time(&later, "ScalingLimited"), at(600));
}

#[test]
fn an_operator_at_rest_writes_nothing() {
    let first = healthy().status();
    for seconds in [5, 60, 3600, 86_400] {
        let mut later = healthy().after(&first);
        later.now = at(seconds);
        later.cluster = later.cluster.heard(at(seconds));
        let later = later.status();
        assert_eq!(later, first);
        assert_eq!(worth_patching(Some(&first), &later, Some(at(0)), at(seconds)), None);
    }
}

#[test]
fn small_moves_wait_a_minute_and_large_ones_do_not() {
    let first = healthy().status();
    let with_load = |streams| {
        let mut pass = healthy().after(&first);
        pass.cluster = pass.cluster.shard(0, |shard| shard.load(streams, 512 * MIB * 27 / 100));
        pass.status()
    };
    let unnoticed = with_load(10_230);
    assert_eq!(unnoticed.load.as_ref().unwrap().connections, 61_200, "rounded to the same three figures");
    let small = with_load(11_000);
    assert_eq!(worth_patching(Some(&first), &small, Some(at(0)), at(59)), None);
    assert_eq!(worth_patching(Some(&first), &small, Some(at(0)), at(60)), Some(Urgency::Numbers));
    assert_eq!(worth_patching(Some(&first), &with_load(17_000), Some(at(0)), at(5)), Some(Urgency::Numbers));
}

#[test]
fn a_changed_reason_or_size_or_the_first_status_is_written_at_once() {
    let first = healthy().status();
    assert_eq!(worth_patching(None, &first, None, at(0)), Some(Urgency::Conditions));
    let held = healthy().held(Gate::AtMaximum).after(&first).status();
    assert_eq!(worth_patching(Some(&first), &held, Some(at(0)), at(1)), Some(Urgency::Conditions));
    let sized = healthy().desired(7).after(&first).status();
    assert_eq!(worth_patching(Some(&first), &sized, Some(at(0)), at(1)), Some(Urgency::Conditions));
}

#[test]
fn percentages_stay_until_they_moved_two_points() {
    let at_percent =
        |percent: u64| Pass::of(Cluster::manual(1).with_ready(1).each(move |s| s.load(1, 512 * MIB * percent / 100 + MIB)));
    let first = at_percent(30).status();
    let percents = |status: &McpClusterStatus| status.load.as_ref().unwrap().hottest_memory_percent.unwrap();
    assert_eq!(percents(&at_percent(31).after(&first).status()), percents(&first));
    assert_eq!(percents(&at_percent(32).after(&first).status()), percents(&first) + 2);
}

#[test]
fn digits_of_names_are_not_numbers() {
    assert_eq!(without_digits("tools-1 at 91 % of 512Mi, 1,200 more."), "tools-1 at  % of 512Mi,  more.");
}

#[test]
fn the_last_scale_outlives_a_pass_that_has_none_and_times_are_whole_seconds() {
    let scale = LastScale {
        time: Time("2026-11-23T17:02:11.123456Z".parse().unwrap()),
        from: 5,
        to: 6,
        reason: "Connections".into(),
        message: "61,200 connections need 5.1 shards at 12,000 each: 5 to 6.".into(),
    };
    let mut pass = healthy();
    pass.decision.last_scale = Some(scale);
    let first = pass.status();
    let kept = healthy().after(&first).status().last_scale.unwrap();
    assert_eq!(kept.time.0.to_string(), "2026-11-23T17:02:11Z");
}

#[test]
fn a_window_is_kept_for_the_next_leader_of_an_autoscaled_cluster_only() {
    let mut pass = healthy();
    pass.decision.remembered.window_highest = Some(6);
    assert_eq!(pass.status().autoscaling.unwrap().window_highest, Some(6));
    assert_eq!(pass.mode(Mode::ManualReplicas).status().autoscaling, None);
}

#[test]
fn a_shard_that_reports_no_limit_has_the_one_of_its_pod() {
    let pass = Pass::of(Cluster::manual(1).with_ready(1).shard(0, |shard| {
        *shard = ready(0);
        shard.report.as_mut().unwrap().report.limit_bytes = 0;
    }));
    assert_eq!(pass.status().load.unwrap().hottest_memory_percent, Some(8));
}

/// Ten minutes of an operator that looks every five seconds and writes what is worth it; when it wrote, in seconds, and why.
fn writes(load: impl Fn(i64) -> Pass) -> Vec<(i64, Urgency)> {
    let (mut written, mut last, mut writes) = (load(0).status(), at(0), vec![]);
    for seconds in (5..=600).step_by(5) {
        let mut pass = load(seconds).after(&written);
        pass.now = at(seconds);
        pass.cluster = pass.cluster.heard(at(seconds));
        let status = pass.status();
        if let Some(urgency) = worth_patching(Some(&written), &status, Some(last), at(seconds)) {
            (written, last) = (status, at(seconds));
            writes.push((seconds, urgency));
        }
    }
    writes
}

/// From -1 to 1, without a pattern.
fn noise(seconds: i64, shard: u32) -> f64 {
    let mixed = (seconds.unsigned_abs() * 31 + u64::from(shard) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    f64::from(u32::try_from(mixed >> 48).unwrap()) / 32_768.0 - 1.0
}

/// Six shards whose streams and memory move by so many percent around the healthy ones.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "small, positive")]
fn restless(seconds: i64, streams: f64, memory: f64) -> Pass {
    let mut pass = healthy();
    let around = |mean: u64, percent: f64, shard| (mean as f64 * (1.0 + percent / 100.0 * noise(seconds, shard))) as u64;
    pass.cluster = pass.cluster.each(|shard| {
        shard.load(around(10_200, streams, shard.index), around(512 * MIB * 27 / 100, memory, shard.index + 100));
    });
    // What is learnt from the memory of all shards moves with it.
    pass.decision.numbers.bytes_per_load = around(12 << 10, memory, 200);
    pass.decision.numbers.target = around(12_000, memory, 200);
    pass
}

#[test]
fn memory_that_fidgets_is_never_written() {
    assert_eq!(writes(|seconds| restless(seconds, 0.0, 3.0)), []);
}

/// Pages of the binary that are counted to a shard as they are used, for an hour, among a handful of connections.
#[test]
fn what_a_few_connections_seem_to_cost_is_not_written_and_what_many_cost_is() {
    let learning = |streams: u64| {
        writes(move |seconds| {
            let mut pass = healthy();
            pass.cluster = pass.cluster.each(|shard| shard.load(streams, 512 * MIB * 27 / 100));
            let learnt = (12 << 10) + u64::try_from(seconds).unwrap() * 20;
            pass.decision.numbers.bytes_per_load = learnt;
            pass.decision.numbers.target = 12_000 * (12 << 10) / learnt;
            pass
        })
    };
    assert_eq!(learning(5), []);
    let writes = learning(10_200);
    assert!(!writes.is_empty() && writes.len() <= 10, "{writes:?}");
}

#[test]
fn load_that_fidgets_is_written_once_a_minute_at_most() {
    let writes = writes(|seconds| restless(seconds, 5.0, 3.0));
    assert!(writes.len() >= 9, "numbers that moved are written in the end: {writes:?}");
    assert!(writes.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 60), "{writes:?}");
    assert!(writes.iter().all(|(_, urgency)| *urgency == Urgency::Numbers), "{writes:?}");
}

#[test]
fn a_move_of_a_tenth_is_written_when_it_is_seen() {
    let stepped = |percent: u64| {
        writes(move |seconds| {
            let mut pass = healthy();
            let streams = if seconds < 305 { 10_200 } else { 10_200 + 10_200 * percent / 100 };
            pass.cluster = pass.cluster.each(|shard| shard.load(streams, 512 * MIB * 27 / 100));
            pass
        })
    };
    assert_eq!(stepped(11), [(305, Urgency::Numbers)]);
    assert_eq!(stepped(9), [(305, Urgency::Numbers)], "a small move is written too, when the last write is old");
    // Right after another write, a large move does not wait and a small one does.
    let twice = |percent: u64| {
        writes(move |seconds| {
            let mut pass = healthy();
            let streams = match seconds {
                ..305 => 10_200,
                305..320 => 15_000,
                320.. => 15_000 + 15_000 * percent / 100,
            };
            pass.cluster = pass.cluster.each(|shard| shard.load(streams, 512 * MIB * 27 / 100));
            pass
        })
    };
    assert_eq!(twice(11), [(305, Urgency::Numbers), (320, Urgency::Numbers)]);
    assert_eq!(twice(9), [(305, Urgency::Numbers), (365, Urgency::Numbers)]);
}

#[test]
fn a_condition_is_written_when_it_is_seen_and_takes_the_numbers_along() {
    let held = writes(|seconds| {
        let pass = restless(seconds, 5.0, 3.0);
        if seconds == 310 { pass.held(Gate::AtMaximum) } else { pass }
    });
    let about = |urgency| held.iter().filter(|(_, what)| *what == urgency).map(|(seconds, _)| *seconds).collect::<Vec<_>>();
    assert_eq!(about(Urgency::Conditions), [310, 315]);
    let numbers = about(Urgency::Numbers);
    assert!(numbers.iter().all(|seconds| !(316..375).contains(seconds)), "{held:?}");
}

#[test]
fn two_shards_that_are_equally_hot_do_not_take_turns() {
    let pressed = |seconds: i64| {
        let mut pass = restless(seconds, 0.0, 0.0);
        pass.cluster = pass.cluster.each(|shard| {
            let hot = 760 + if (seconds / 5 + i64::from(shard.index)) % 2 == 0 { 5 } else { 0 };
            stage(GuardStage::Normal, if shard.index < 2 { hot } else { 270 })(shard);
        });
        pass
    };
    assert!(
        pressed(0).condition("MemoryPressure").starts_with("True AboveTarget: tools-0 at 76 %"),
        "{}",
        pressed(0).condition("MemoryPressure")
    );
    assert_eq!(writes(pressed), []);
}

#[test]
fn a_target_that_the_spec_moved_is_shown_as_it_is() {
    let first = healthy().status();
    let mut pass = healthy().after(&first);
    pass.decision.numbers.target = 12_100;
    let target = |pass: &Pass| pass.status().load.unwrap().target_per_replica;
    assert_eq!(target(&pass), 12_000, "learnt anew, and hardly moved");
    let mut cluster = (*pass.cluster.observed.cluster).clone();
    cluster.metadata.generation = Some(8);
    pass.cluster.observed.cluster = cluster.into();
    assert_eq!(target(&pass), 12_100);
}
