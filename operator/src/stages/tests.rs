use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use mcp_crds::load::LoadReport;
use mcp_crds::quantity::Bytes;
use serde_json::{Value, json};

use super::*;

const INTERVAL: Duration = Duration::from_secs(5);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn pod(status: &Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": "tools-3", "uid": "u3", "creationTimestamp": at(0),
            "labels": {"mcpcluster.dev/state": "active", "mcpcluster.dev/placed": "true"},
            "annotations": {"mcpcluster.dev/template-hash": "t1", "mcpcluster.dev/born-drain-timeout": "5m"},
        },
        "spec": {"nodeName": "node-b", "containers": [
            {"name": "proxy", "resources": {"limits": {"memory": "64Mi"}}},
            {"name": "server", "resources": {"limits": {"memory": "512Mi"}}},
        ]},
        "status": status,
    }))
    .unwrap()
}

/// The shard `tools-3`.
fn read(pod: &Pod) -> ObservedShard {
    ObservedShard { index: 3, ..ObservedShard::read(pod) }
}

fn running(ready: bool, changed: i64, started: i64) -> ObservedShard {
    let status = json!({
        "phase": "Running", "podIP": "10.0.0.3",
        "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": at(changed)}],
        "containerStatuses": [{"name": "server", "image": "", "imageID": "", "ready": ready, "restartCount": 2,
            "state": {"running": {"startedAt": at(started)}}}],
    });
    read(&pod(&status))
}

fn reported(mut shard: ObservedShard, received: i64) -> ObservedShard {
    shard.report = Some(Received { report: LoadReport::default(), at: at(received) });
    shard
}

#[test]
fn a_running_pod_is_read_whole() {
    let shard = running(true, 8, 3);
    assert_eq!((shard.name.as_str(), shard.index, shard.uid.as_str()), ("tools-3", 3, "u3"));
    assert_eq!(shard.node.as_deref(), Some("node-b"));
    assert_eq!(shard.phase, Phase::Running);
    assert!(shard.ready && shard.placed && shard.draining.is_none() && shard.terminating.is_none());
    assert_eq!(shard.ready_since(), Some(at(8)));
    assert_eq!(shard.template_hash.as_deref(), Some("t1"));
    assert_eq!(shard.born_drain, Some(Duration::from_mins(5)));
    assert_eq!(shard.container, Container::Running { started: Some(at(3)) });
    assert_eq!(shard.restarts, 2);
    assert_eq!(shard.address.as_deref(), Some("10.0.0.3"));
    assert_eq!(shard.memory_limit, Some(Bytes(512 << 20)), "the limit is the server's, not the sidecar's");
}

#[test]
fn a_pod_that_the_injector_of_a_mesh_was_at_is_known_by_its_mark() {
    let mut injected = pod(&json!({"phase": "Running"}));
    assert_eq!(read(&injected).mesh, None);
    let annotations = injected.metadata.annotations.get_or_insert_default();
    annotations.insert("linkerd.io/proxy-version".into(), "edge-26.1.1".into());
    assert_eq!(read(&injected).mesh, Some("Linkerd"));
}

#[test]
fn the_words_of_kubelet_and_scheduler_are_kept() {
    let status = json!({
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient memory."}],
        "containerStatuses": [{"name": "server", "image": "", "imageID": "", "ready": false, "restartCount": 1,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "manifest unknown"}},
            "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": at(20)}}}],
    });
    let shard = read(&pod(&status));
    assert_eq!(shard.unschedulable.as_deref(), Some("0/3 nodes are available: 3 Insufficient memory."));
    assert_eq!(shard.container, Container::Waiting { reason: "ImagePullBackOff".into(), message: "manifest unknown".into() });
    assert_eq!(shard.oom_killed_at(), Some(at(20)));
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."});
    let shard = read(&pod(&evicted));
    assert_eq!(shard.phase_message.as_deref(), Some("Evicted: The node was low on resource: memory."));
    assert_eq!(shard.state(at(0), at(0), INTERVAL), ShardState::Finished);
}

#[test]
fn a_drain_mark_is_read_also_when_a_person_made_half_of_it() {
    let mut marked = pod(&json!({}));
    marked.metadata.labels.as_mut().unwrap().insert(crate::names::LABEL_STATE.into(), crate::names::STATE_DRAINING.into());
    assert_eq!(read(&marked).draining, Some(DrainMark::default()));
    let annotations = marked.metadata.annotations.as_mut().unwrap();
    annotations.insert(crate::names::ANNOTATION_DRAIN_REASON.into(), "Rollout".into());
    annotations.insert(crate::names::ANNOTATION_DRAIN_STARTED.into(), at(7).to_string());
    let mark = DrainMark { reason: Some(DrainReason::Rollout), started: Some(at(7)) };
    let shard = read(&marked);
    assert_eq!(shard.draining, Some(mark));
    assert_eq!(shard.state(at(100), at(0), INTERVAL), ShardState::Draining);
}

#[test]
fn a_shard_that_never_was_ready_is_pending_however_long_it_takes() {
    // The condition is set before the container starts, and never changes.
    let shard = running(false, 1, 3);
    assert!(!shard.was_ready() && !shard.may_hold_work());
    assert_eq!(shard.state(at(10_000), at(0), INTERVAL), ShardState::Pending);
}

#[test]
fn a_shard_that_was_ready_is_lost_after_thirty_seconds_not_before() {
    let shard = reported(running(false, 100, 3), 100);
    assert!(shard.was_ready() && shard.may_hold_work());
    assert_eq!(shard.state(at(105), at(0), INTERVAL), ShardState::Fresh);
    assert_eq!(shard.state(at(120), at(0), INTERVAL), ShardState::Silent);
    assert_eq!(shard.state(at(130), at(0), INTERVAL), ShardState::Silent);
    assert_eq!(shard.state(at(131), at(0), INTERVAL), ShardState::Lost);
}

#[test]
fn a_ready_shard_is_silent_after_three_intervals() {
    let shard = reported(running(true, 8, 3), 100);
    assert_eq!(shard.state(at(115), at(0), INTERVAL), ShardState::Fresh);
    assert_eq!(shard.state(at(116), at(0), INTERVAL), ShardState::Silent);
}

#[test]
fn a_new_leader_gives_shards_three_intervals_to_be_heard() {
    let shard = running(true, 8, 3);
    assert_eq!(shard.state(at(5_010), at(5_000), INTERVAL), ShardState::Pending);
    assert_eq!(shard.state(at(5_016), at(5_000), INTERVAL), ShardState::Silent);
}

#[test]
fn a_shard_deleted_by_someone_else_is_lost_and_one_we_drained_is_not() {
    let mut shard = reported(running(true, 8, 3), 100);
    shard.terminating = Some(at(101));
    assert_eq!(shard.state(at(102), at(0), INTERVAL), ShardState::Lost);
    shard.draining = Some(DrainMark::default());
    assert_eq!(shard.state(at(102), at(0), INTERVAL), ShardState::Draining);
}

#[test]
fn a_report_from_the_future_is_fresh() {
    assert_eq!(reported(running(true, 8, 3), 500).state(at(100), at(0), INTERVAL), ShardState::Fresh);
}

#[test]
fn a_quota_refusal_is_told_from_other_refusals() {
    let quota = "pods \"tools-1\" is forbidden: exceeded quota: memory, requested: limits.memory=512Mi";
    assert_eq!(FailureReason::of_response(403, quota), FailureReason::QuotaExceeded);
    assert_eq!(FailureReason::of_response(403, "violates PodSecurity"), FailureReason::ApplyFailed);
}

#[test]
fn a_shard_that_is_neither_ready_nor_heard_of_is_lost_without_waiting_any_longer() {
    let state = |shard: &ObservedShard, now: i64| shard.state(at(now), at(-1000), INTERVAL);
    // The node was cut at 100; Kubernetes noticed at 150.
    let cut = reported(running(false, 150, 3), 100);
    assert_eq!(state(&cut, 150), ShardState::Lost);
    // A container restart: not Ready for a moment, and heard of a moment ago.
    let restarted = reported(running(false, 150, 3), 148);
    assert_eq!(state(&restarted, 152), ShardState::Fresh);
    assert_eq!(state(&restarted, 178), ShardState::Silent);
    assert_eq!(state(&restarted, 179), ShardState::Lost);
    // Whom this process never heard it gives the whole time: it may be the one that cannot reach anybody.
    let unheard = running(false, 150, 3);
    assert_eq!((state(&unheard, 180), state(&unheard, 181)), (ShardState::Silent, ShardState::Lost));
    // Kubernetes is content: silent, whatever happens to the reports.
    assert_eq!(state(&reported(running(true, 8, 3), 100), 900), ShardState::Silent);
}

#[test]
fn a_drain_on_a_lost_node_is_no_drain_any_more() {
    let state = |shard: &ObservedShard, now: i64| shard.state(at(now), at(-1000), INTERVAL);
    let draining = |mut shard: ObservedShard| {
        shard.draining = Some(DrainMark { reason: Some(DrainReason::ScaleIn), started: Some(at(90)) });
        shard
    };
    let cut = draining(reported(running(false, 150, 3), 100));
    assert_eq!(state(&cut, 150), ShardState::Lost);
    assert_eq!(state(&draining(reported(running(true, 8, 3), 100)), 149), ShardState::Draining, "Ready, as far as is known");
    let ending = draining(reported(running(false, 150, 3), 148));
    assert_eq!(state(&ending, 152), ShardState::Draining, "its process has just ended");
}

#[test]
fn the_time_a_pod_was_told_to_end_is_its_deletion_without_the_grace_period() {
    let mut pod = pod(&json!({}));
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(335)));
    pod.metadata.deletion_grace_period_seconds = Some(35);
    let shard = read(&pod);
    assert_eq!((shard.terminating, shard.told_to_end), (Some(at(335)), Some(at(300))));
}

#[test]
fn why_kubernetes_takes_a_pod_away_is_read_from_its_condition() {
    let disruption = |status: &str, reason: &str| {
        let condition = json!({"type": "DisruptionTarget", "status": status, "reason": reason});
        read(&pod(&json!({"conditions": [condition]}))).disruption
    };
    assert_eq!(disruption("True", "EvictionByEvictionAPI"), Some(Disruption::Evicted));
    assert_eq!(disruption("True", "DeletionByTaintManager"), Some(Disruption::Tainted));
    assert_eq!(disruption("True", "PreemptionByScheduler"), Some(Disruption::Other));
    assert_eq!(disruption("False", "EvictionByEvictionAPI"), None);
    assert_eq!(running(true, 8, 3).disruption, None);
}

#[test]
fn between_two_crashes_a_shard_is_in_trouble_and_not_after_it_was_ready_again() {
    let ended = |mut shard: ObservedShard, reason: &str| {
        shard.last_termination = Some(Termination { reason: reason.into(), exit_code: 1, ..Termination::default() });
        shard
    };
    let trouble = |shard: &ObservedShard| shard.trouble(at(120)).map(|trouble| (trouble.kind, trouble.words));
    let crashed = ended(running(false, 1, 100), "Error");
    assert_eq!(trouble(&crashed), Some((TroubleKind::CrashLooping, "Error (exit code 1)".into())));
    let killed = ended(running(false, 1, 100), "OOMKilled");
    assert_eq!(trouble(&killed), Some((TroubleKind::OomKilled, "OOMKilled".into())));
    let back = ended(running(false, 110, 100), "Error");
    assert_eq!(trouble(&back).map(|(kind, _)| kind), Some(TroubleKind::NotReady));
}

#[test]
fn a_shard_that_does_not_become_ready_says_so_in_the_kubelets_words() {
    let status = json!({
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": at(1),
            "reason": "ContainersNotReady", "message": "containers with unready status: [server]"}],
        "containerStatuses": [{"name": "server", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"running": {"startedAt": at(3)}}}],
    });
    let shard = read(&pod(&status));
    assert_eq!(shard.trouble(at(60)), None, "it starts");
    let words = "ContainersNotReady: containers with unready status: [server]";
    assert_eq!(shard.trouble(at(700)), Some(Trouble { kind: TroubleKind::NotReady, words: words.into() }));
}
