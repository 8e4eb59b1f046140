//! `AutoscalingActive`, `ScalingLimited` and `MemoryPressure`.

use super::*;

#[test]
fn every_mode_has_its_reason() {
    let cluster = || Cluster::autoscaled(1, 9).with_ready(2);
    for (mode, active, limited) in [
        (Mode::Starting, "Unknown Starting", "Unknown Starting"),
        (Mode::Deciding, "True Deciding", "False WithinBounds"),
        (Mode::MemoryTargetUnreachable, "True MemoryTargetUnreachable", "False WithinBounds"),
        (Mode::MemoryLimitUnknown, "False MemoryLimitUnknown", "False WithinBounds"),
        (Mode::MetricsUnavailable, "False MetricsUnavailable", "True ShardSilent"),
        (Mode::ManualReplicas, "False ManualReplicas", "False ManualReplicas"),
        (Mode::Paused, "False Paused", "False WithinBounds"),
    ] {
        let pass = Pass::of(cluster()).mode(mode);
        assert!(pass.condition("AutoscalingActive").starts_with(active), "{}", pass.condition("AutoscalingActive"));
        assert!(pass.condition("ScalingLimited").starts_with(limited), "{}", pass.condition("ScalingLimited"));
    }
    let manual = Pass::of(Cluster::manual(2).with_ready(2));
    assert_eq!(manual.condition("AutoscalingActive"), "False ManualReplicas: `replicas` is 2.");
}

#[test]
fn shards_that_do_not_answer_name_the_mesh_they_are_in() {
    let told = |mesh| {
        let cluster = Cluster::autoscaled(1, 9).with_ready(2).each(|shard| shard.mesh = mesh);
        Pass::of(cluster).mode(Mode::MetricsUnavailable).condition("AutoscalingActive")
    };
    assert!(
        told(Some("Istio"))
            .ends_with("Istio is injected into the shards: with strict mTLS it closes a port that is not excluded.")
    );
    assert!(told(None).ends_with("A mesh with strict mTLS, or a NetworkPolicy, may close it."), "{}", told(None));
}

#[test]
fn every_gate_has_its_reason() {
    for (gate, reason) in [
        (Gate::AtMaximum, "AtMaximum"),
        (Gate::AtMinimum, "AtMinimum"),
        (Gate::RateLimited, "RateLimited"),
        (Gate::Stabilizing, "Stabilizing"),
        (Gate::ShardSilent, "ShardSilent"),
        (Gate::VictimsDoNotFit, "VictimsDoNotFit"),
        (Gate::RecentOomKill, "RecentOOMKill"),
        (Gate::HotShard, "HotShard"),
        (Gate::RolloutInProgress, "RolloutInProgress"),
        (Gate::InvalidReport, "InvalidReport"),
        (Gate::ClockMovedBack, "ClockMovedBack"),
    ] {
        let pass = Pass::of(Cluster::autoscaled(1, 9).with_ready(2)).autoscaled().held(gate);
        assert_eq!(pass.condition("ScalingLimited"), format!("True {reason}: In words."));
    }
}

#[test]
fn memory_pressure_is_told_of_the_hottest_shard() {
    let cluster = |change: &dyn Fn(&mut ObservedShard)| {
        Pass::of(Cluster::autoscaled(1, 9).with_ready(4).each(stage(GuardStage::Normal, 510)).shard(2, change)).autoscaled()
    };
    assert_eq!(
        cluster(&stage(GuardStage::Normal, 740)).condition("MemoryPressure"),
        "True AboveTarget: tools-2 at 74 % of 512Mi; target 70 %."
    );
    assert_eq!(
        cluster(&stage(GuardStage::Purging, 860)).condition("MemoryPressure"),
        "True RefusingStreams: tools-2 at 86 % of 512Mi takes no new streams; 3 other shards are below 52 %."
    );
    let shedding = cluster(&|shard| {
        stage(GuardStage::Shedding, 910)(shard);
        shard.report.as_mut().unwrap().report.shed_total = 214;
    });
    assert_eq!(
        shedding.condition("MemoryPressure"),
        "True Shedding: tools-2 at 91 % of 512Mi ended 214 streams, largest first, and takes no new ones; \
         3 other shards are below 52 %. Look for a heavy tool."
    );
    let mut shed = cluster(&stage(GuardStage::Normal, 770));
    shed.decision.census.shedding.insert("tools-2".into());
    assert_eq!(
        shed.condition("MemoryPressure"),
        "True Shedding: tools-2 at 77 % of 512Mi ends streams, largest first, and takes no new ones; \
         3 other shards are below 52 %. Look for a heavy tool."
    );
    shed.decision.census.fruitless.insert("tools-2".into());
    assert_eq!(
        shed.condition("MemoryPressure"),
        "True ShedIneffective: tools-2 at 77 % of 512Mi: its streams end and its memory does not fall. If the next step brings \
         nothing either, it is replaced. Look for a tool that keeps memory."
    );
    shed.decision.retiring = vec![crate::stages::PodRef { name: "tools-2".into(), uid: "uid-2".into() }];
    assert_eq!(shed.condition("Progressing"), "True Recycling: tools-2 keeps memory though its streams end, and is replaced.");
    let killed = cluster(&|shard| {
        let end = Termination { reason: "OOMKilled".into(), exit_code: 137, started: None, finished: Some(at(-60)) };
        shard.last_termination = Some(end);
    });
    assert_eq!(
        killed.condition("MemoryPressure"),
        "True OOMKilled: tools-2 was killed for memory. Raise `resources.limits.memory`."
    );
}

#[test]
fn pressure_that_was_told_stays_until_memory_is_two_points_below_the_target() {
    let at_permille =
        |permille| Pass::of(Cluster::autoscaled(1, 9).with_ready(1).each(stage(GuardStage::Normal, permille))).autoscaled();
    assert!(at_permille(690).condition("MemoryPressure").starts_with("False BelowTarget"));
    let above = at_permille(715).status();
    assert!(at_permille(690).after(&above).condition("MemoryPressure").starts_with("True AboveTarget"));
    assert!(at_permille(680).after(&above).condition("MemoryPressure").starts_with("False BelowTarget"));
}
