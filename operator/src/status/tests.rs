use mcp_crds::load::GuardStage;
use serde_json::json;

use super::*;
use crate::stages::fixture::{Cluster, MIB, TEMPLATE, at, ready};
use crate::stages::{
    CatalogRefusal, Container, Disruption, DrainReason, Failure, FailureReason, Gate, Held, Numbers, ObservedShard, Termination,
};

/// A pass: what was seen, decided and done.
struct Pass {
    cluster: Cluster,
    decision: Decision,
    applied: Applied,
    previous: Option<McpClusterStatus>,
    now: Timestamp,
}

impl Pass {
    /// A manual cluster of the size it has.
    fn of(cluster: Cluster) -> Self {
        let desired = u32::try_from(cluster.observed.shards.len()).unwrap();
        let numbers = Numbers { target: 12_000, bytes_per_load: 12 << 10, ..Numbers::default() };
        let decision = Decision { desired, mode: Mode::ManualReplicas, numbers, ..Decision::default() };
        Self { cluster, decision, applied: Applied::default(), previous: None, now: at(0) }
    }

    fn autoscaled(self) -> Self {
        self.mode(Mode::Deciding)
    }

    fn mode(mut self, mode: Mode) -> Self {
        self.decision.mode = mode;
        self
    }

    fn desired(mut self, desired: u32) -> Self {
        self.decision.desired = desired;
        self
    }

    fn held(mut self, gate: Gate) -> Self {
        self.decision.held = Some(Held { gate, message: "In words.".into() });
        self
    }

    fn failed(mut self, reason: FailureReason, object: &str, message: &str) -> Self {
        self.applied.failures.push(Failure { reason, object: object.into(), message: message.into() });
        self
    }

    fn catalog(mut self, catalog: CatalogOutcome) -> Self {
        self.cluster.observed.catalog = catalog;
        self
    }

    fn after(mut self, previous: &McpClusterStatus) -> Self {
        self.previous = Some(previous.clone());
        self
    }

    fn status(&self) -> McpClusterStatus {
        summarize(&self.cluster.observed, &self.decision, &self.applied, self.previous.as_ref(), self.now)
    }

    /// `True Serving: 3 of 3 shards serve generation 7.`
    fn condition(&self, kind: &str) -> String {
        let status = self.status();
        let found = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        if found.message.is_empty() {
            format!("{} {}", found.status, found.reason)
        } else {
            format!("{} {}: {}", found.status, found.reason, found.message)
        }
    }
}

fn waiting(reason: &str, message: &str) -> impl Fn(&mut ObservedShard) {
    let container = Container::Waiting { reason: reason.into(), message: message.into() };
    move |shard| shard.container = container.clone()
}

fn stage(stage: GuardStage, permille: u64) -> impl Fn(&mut ObservedShard) {
    move |shard| {
        shard.load(1000, 512 * MIB * permille / 1000);
        shard.report.as_mut().unwrap().report.stage = stage;
    }
}

/// The healthy cluster of the API's documentation.
fn healthy() -> Pass {
    let cluster = Cluster::autoscaled(1, 9).with_ready(6).each(|shard| {
        shard.load(10_200, 512 * MIB * 27 / 100);
        let report = &mut shard.report.as_mut().unwrap().report;
        report.hard_cap = 20_000;
        report.streams = 10_117;
    });
    Pass::of(cluster.shard(4, |shard| shard.load(10_200, 512 * MIB * 31 / 100))).autoscaled()
}

// === the whole ===

#[test]
fn a_healthy_cluster_reads_as_documented() {
    let pass = healthy();
    let status = pass.status();
    assert_eq!(pass.condition("Ready"), "True Serving: 6 of 6 shards serve generation 7.");
    assert_eq!(pass.condition("Available"), "True ShardsReady: 6 shards take new connections; 58,800 more fit.");
    assert_eq!(pass.condition("Progressing"), "False Settled");
    assert_eq!(pass.condition("AutoscalingActive"), "True Deciding: 6 of 6 shards report.");
    assert_eq!(pass.condition("ScalingLimited"), "False WithinBounds");
    assert_eq!(pass.condition("MemoryPressure"), "False BelowTarget: Hottest shard at 31 % of 512Mi; target 70 %.");
    assert_eq!(pass.condition("Draining"), "False NoShardDraining");
    assert_eq!(pass.condition("CatalogValid"), "True Compiled: 42 tools.");
    assert_eq!(
        serde_json::to_value(status.load.unwrap()).unwrap(),
        json!({"connections": 61_200, "streams": 60_800, "capacity": 120_000, "targetPerReplica": 12_000,
            "bytesPerConnection": "12Ki", "memoryPercent": 28, "hottestMemoryPercent": 31})
    );
    assert_eq!(status.address.unwrap().url, "http://tools.agents.svc/mcp");
    assert_eq!(status.selector.as_deref(), Some("mcpcluster.dev/cluster=tools"));
    assert_eq!(status.image.as_deref(), Some("registry.example.com/mcp-server:1"));
    assert_eq!((status.replicas, status.ready_replicas, status.updated_replicas), (Some(6), Some(6), Some(6)));
    assert_eq!((status.draining_replicas, status.desired_replicas, status.observed_generation), (Some(0), Some(6), Some(7)));
    let catalog = status.catalog.unwrap();
    assert_eq!((catalog.revision.as_str(), catalog.shards, catalog.tools), ("5f2c9d", 6, 42));
    assert_eq!(status.hottest_shards.len(), 5);
    assert_eq!((status.hottest_shards[0].name.as_str(), status.hottest_shards[0].memory_percent), ("tools-4", 31));
}

#[test]
fn all_eight_conditions_are_there_from_the_first_pass() {
    let pass = Pass::of(Cluster::autoscaled(1, 9)).desired(1).mode(Mode::Starting).catalog(CatalogOutcome::NotLoaded);
    let conditions = pass.status().conditions;
    let kinds: Vec<_> = conditions.iter().map(|condition| condition.type_.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "Ready",
            "Available",
            "Progressing",
            "AutoscalingActive",
            "ScalingLimited",
            "MemoryPressure",
            "Draining",
            "CatalogValid"
        ]
    );
    assert!(conditions.iter().all(|condition| condition.observed_generation == Some(7) && !condition.reason.is_empty()));
    assert_eq!(pass.condition("Ready"), "Unknown Reconciling: The first shards are being created.");
    assert_eq!(pass.condition("Available"), "Unknown Reconciling: The first shards are being created.");
    assert_eq!(pass.condition("AutoscalingActive"), "Unknown Starting: No shard has reported yet.");
    assert_eq!(pass.condition("ScalingLimited"), "Unknown Starting: No shard has reported yet.");
    assert_eq!(pass.condition("MemoryPressure"), "Unknown MetricsUnavailable: No shard reports its memory.");
    assert_eq!(pass.condition("CatalogValid"), "Unknown NotLoaded: The catalog has not been read yet.");
}

#[test]
fn the_address_names_a_port_that_is_not_80() {
    let pass = Pass::of(Cluster::manual(1).spec(|spec| spec.service.port = Some(8443)));
    assert_eq!(pass.status().address.unwrap().url, "http://tools.agents.svc:8443/mcp");
}

// === Available and Ready ===

#[test]
fn shards_that_start_are_named() {
    let pass = Pass::of(Cluster::manual(2).with_pending(2)).after(&McpClusterStatus::default());
    assert_eq!(pass.condition("Available"), "False NoShardReady: No shard has started.");
    assert_eq!(pass.condition("Ready"), "False NoShardReady: tools-0, tools-1 are starting.");
    assert_eq!(pass.condition("Progressing"), "True ScalingOut: tools-0, tools-1 are starting.");
}

#[test]
fn a_bad_image_is_told_in_the_kubelets_words() {
    let words = "registry.example.com/mcp-server:0.4.22: manifest unknown";
    let pass = Pass::of(Cluster::manual(1).with_pending(1).shard(0, waiting("ImagePullBackOff", words)));
    assert_eq!(pass.condition("Available"), "False ImagePullFailed: No shard has started.");
    let ready = format!("False ImagePullFailed: tools-0: ImagePullBackOff: {words}. Correct spec.image.");
    assert_eq!(pass.condition("Ready"), ready);
}

#[test]
fn an_unschedulable_shard_says_what_the_scheduler_said() {
    let words = "0/3 nodes are available: 3 Insufficient memory.";
    let unschedulable = |shard: &mut ObservedShard| shard.unschedulable = Some(words.into());
    let alone = Pass::of(Cluster::manual(1).with_pending(1).shard(0, unschedulable));
    assert_eq!(alone.condition("Ready"), format!("False Unschedulable: tools-0: {words}"));
    let beside = Pass::of(Cluster::manual(3).with_ready(2).with_pending(1).shard(2, unschedulable));
    assert_eq!(beside.condition("Ready"), "True Serving: 2 of 3 shards serve generation 7.");
    assert_eq!(beside.condition("Progressing"), format!("True ScalingOut: tools-2: {words}"));
    let mut late = beside;
    late.now = at(600);
    late.cluster = late.cluster.heard(at(600));
    assert_eq!(late.condition("Progressing"), format!("False DeadlineExceeded: tools-2: {words}"));
    assert_eq!(late.condition("Ready"), format!("False DeadlineExceeded: tools-2: {words}"));
}

#[test]
fn a_crash_loop_and_a_kill_for_memory_are_told_apart() {
    let crash = |reason: &str, exit_code| {
        let end = Termination { reason: reason.into(), exit_code, ..Termination::default() };
        Pass::of(Cluster::manual(1).with_pending(1).shard(0, waiting("CrashLoopBackOff", "back-off 10s")).shard(0, |shard| {
            shard.last_termination = Some(end);
        }))
    };
    assert_eq!(
        crash("Error", 3).condition("Ready"),
        "False CrashLooping: tools-0: CrashLoopBackOff: back-off 10s (last exit code 3). See `kubectl logs tools-0 --previous`."
    );
    assert_eq!(
        crash("OOMKilled", 137).condition("Ready"),
        "False OOMKilled: tools-0: OOMKilled: back-off 10s. Raise spec.resources.limits.memory."
    );
}

#[test]
fn the_worst_of_several_troubles_is_told() {
    let pass = Pass::of(Cluster::manual(2).with_pending(2))
        .cluster_shard(0, |shard| shard.unschedulable = Some("0/1 nodes are available.".into()))
        .cluster_shard(1, waiting("ErrImagePull", "denied"));
    assert!(pass.condition("Ready").starts_with("False ImagePullFailed: tools-1: ErrImagePull: denied."));
}

impl Pass {
    fn cluster_shard(mut self, index: u32, change: impl Fn(&mut ObservedShard)) -> Self {
        self.cluster = self.cluster.shard(index, change);
        self
    }
}

#[test]
fn a_quota_that_leaves_no_room_is_told_verbatim() {
    let words = "pods \"tools-0\" is forbidden: exceeded quota: memory, requested: limits.memory=512Mi, used: 0, limited: 0";
    let none = Pass::of(Cluster::manual(1)).desired(1).failed(FailureReason::QuotaExceeded, "Pod tools-0", words);
    assert_eq!(none.condition("Available"), "False QuotaExceeded: No shard has started.");
    assert_eq!(none.condition("Ready"), format!("False QuotaExceeded: Pod tools-0: {words}."));
    let some = Pass::of(Cluster::manual(2).with_ready(1)).desired(2).failed(FailureReason::QuotaExceeded, "Pod tools-1", words);
    assert_eq!(some.condition("Ready"), format!("False QuotaExceeded: Pod tools-1: {words}."));
    assert_eq!(some.condition("Progressing"), format!("False ApplyFailed: Pod tools-1: {words}."));
    assert!(some.condition("Available").starts_with("True ShardsReady"));
}

#[test]
fn full_shards_are_at_capacity_and_an_unheard_one_is_not() {
    let full = Pass::of(Cluster::manual(2).with_ready(2).each(|shard| shard.load(4000, 60 * MIB)));
    assert_eq!(full.condition("Available"), "False AtCapacity: 2 of 2 shards are full.");
    assert_eq!(full.condition("Ready"), "False AtCapacity: 2 of 2 shards are full.");
    let unheard = full.cluster_shard(1, |shard| shard.report = None);
    assert_eq!(unheard.condition("Available"), "True ShardsReady: 2 shards take new connections.");
}

#[test]
fn fenced_shards_do_not_take_new_connections() {
    let pass = Pass::of(Cluster::manual(3).with_ready(3).shard(0, |shard| shard.placed = false));
    assert_eq!(pass.condition("Available"), "True ShardsReady: 2 shards take new connections; 12,000 more fit.");
}

#[test]
fn no_replicas_are_scaled_to_zero() {
    let pass = Pass::of(Cluster::manual(0)).after(&McpClusterStatus::default());
    assert_eq!(pass.condition("Available"), "False ScaledToZero: `replicas` is 0.");
    assert_eq!(pass.condition("Ready"), "False ScaledToZero: `replicas` is 0.");
}

#[test]
fn shards_that_were_ready_and_are_not_are_told_so() {
    let pass = Pass::of(Cluster::manual(1).with_ready(1).shard(0, |shard| {
        shard.ready = false;
        shard.ready_changed = Some(at(-5));
    }));
    assert_eq!(pass.condition("Available"), "False NoShardReady: No shard is Ready.");
}

#[test]
fn a_name_that_is_taken_and_a_refused_write_are_told_verbatim() {
    let pass = Pass::of(Cluster::manual(1).with_ready(1))
        .failed(FailureReason::ApplyFailed, "ConfigMap tools-config", "etcdserver: request timed out")
        .failed(FailureReason::NameConflict, "Service tools", "exists, and belongs to someone else");
    assert_eq!(pass.condition("Ready"), "False NameConflict: Service tools: exists, and belongs to someone else.");
    assert_eq!(pass.condition("Progressing"), "False NameConflict: Service tools: exists, and belongs to someone else.");
}

#[test]
fn growing_is_not_being_broken() {
    let pass = Pass::of(Cluster::autoscaled(1, 9).with_ready(7).with_pending(2)).autoscaled();
    assert_eq!(pass.condition("Ready"), "True Serving: 7 of 9 shards serve generation 7.");
    assert_eq!(pass.condition("Progressing"), "True ScalingOut: tools-7, tools-8 are starting.");
    assert_eq!(
        Pass::of(Cluster::manual(3).with_ready(1)).desired(3).condition("Progressing"),
        "True ScalingOut: 2 shards are being created."
    );
}

#[test]
fn ready_waits_until_every_shard_serves_what_was_published() {
    let pass = Pass::of(Cluster::manual(3).with_ready(3))
        .cluster_shard(1, |shard| shard.report.as_mut().unwrap().report.catalog_hash = "0ld".into());
    assert_eq!(pass.condition("Ready"), "False RollingOut: tools-1 does not serve revision 5f2c9d yet.");
    assert_eq!(pass.status().catalog.unwrap().shards, 2);
    let broken = pass.cluster_shard(1, |shard| shard.report.as_mut().unwrap().report.catalog_error = "it does not unpack".into());
    assert_eq!(broken.condition("Ready"), "False RollingOut: tools-1: it does not unpack.");
}

#[test]
fn ready_does_not_flicker_while_shards_go_over_to_a_new_catalog() {
    let before = Pass::of(Cluster::manual(3).with_ready(3)).status();
    let flipping = |since: i64| {
        let mut pass = Pass::of(Cluster::manual(3).with_ready(3)).after(&before);
        pass.applied = Applied { published: Some("abcdef01".into()), published_since: Some(at(since)), ..Applied::default() };
        let mut cluster = (*pass.cluster.observed.cluster).clone();
        cluster.metadata.generation = Some(8);
        pass.cluster.observed.cluster = cluster.into();
        pass
    };
    let ready = |pass: &Pass| pass.status().conditions.into_iter().find(|condition| condition.type_ == "Ready").unwrap();
    let kept = ready(&flipping(-40));
    assert_eq!((kept.status.as_str(), kept.observed_generation), ("True", Some(7)), "and `kubectl wait` goes on waiting");
    assert_eq!(ready(&flipping(-45)).reason, "RollingOut", "but not for ever");
    let unloadable = flipping(0).cluster_shard(1, |shard| shard.report.as_mut().unwrap().report.catalog_error = "no".into());
    assert_eq!(unloadable.condition("Ready"), "False RollingOut: tools-1: no.");
    let mut unknown = flipping(0);
    unknown.applied.published_since = None;
    assert_eq!(ready(&unknown).reason, "RollingOut", "a new process does not know since when");
    let mut other = flipping(0);
    other.cluster.observed.template_hash = "another".into();
    assert_eq!(ready(&other).reason, "RollingOut", "a template is rolled out, not flipped");
}

#[test]
fn what_keeps_the_first_shard_from_being_created_is_the_reason_of_ready() {
    let none = || Pass::of(Cluster::manual(1)).desired(1).after(&McpClusterStatus::default());
    let conflict = none().failed(FailureReason::NameConflict, "ServiceAccount tools-shard", "it is not ours");
    assert_eq!(conflict.condition("Ready"), "False NameConflict: ServiceAccount tools-shard: it is not ours.");
    assert_eq!(conflict.condition("Available"), "False NoShardReady: No shard has started.");
}

#[test]
fn a_broken_catalog_is_told_and_the_last_good_one_stays() {
    let errors =
        ["tools[create-ticket].http.body: {titel} is not in inputSchema", "source billing, line 41: duplicate tool refund"];
    let refused = CatalogOutcome::Refused { reason: CatalogRefusal::Invalid, errors: errors.map(str::to_owned).to_vec() };
    let before = healthy().status();
    let pass = Pass::of(Cluster::manual(3).with_ready(3)).catalog(refused.clone()).after(&before);
    assert_eq!(
        pass.condition("CatalogValid"),
        "False Invalid: 2 errors. tools[create-ticket].http.body: {titel} is not in inputSchema. \
         source billing, line 41: duplicate tool refund. Revision 5f2c9d stays."
    );
    assert_eq!(pass.condition("Ready"), "False CatalogInvalid: 3 shards serve the last good catalog, revision 5f2c9d.");
    let mut known = pass;
    known.applied.published_generation = Some(6);
    assert_eq!(known.condition("Ready"), "False CatalogInvalid: 3 shards serve the catalog of generation 6.");
    let pass = known;
    assert_eq!(pass.status().catalog.unwrap().tools, 42, "what is served is counted");
    let mut never = Pass::of(Cluster::manual(1)).desired(1).catalog(refused);
    never.cluster.observed.published = None;
    assert_eq!(
        never.condition("Ready"),
        "False CatalogInvalid: There is no valid catalog to start shards with. \
         tools[create-ticket].http.body: {titel} is not in inputSchema."
    );
    assert_eq!(never.condition("Available"), "False NoShardReady: No shard has started.");
    assert!(never.condition("CatalogValid").ends_with("Nothing is served before it is correct."));
    let missing = Pass::of(Cluster::manual(1).with_ready(1)).catalog(CatalogOutcome::Refused {
        reason: CatalogRefusal::SecretMissing,
        errors: vec!["Secret tickets is missing".into()],
    });
    assert_eq!(
        missing.condition("CatalogValid"),
        "False SecretMissing: 1 error. Secret tickets is missing. Revision 5f2c9d stays."
    );
}

#[test]
fn many_errors_do_not_fill_the_status() {
    let errors = (0..100).map(|n| format!("tools[{n}]: wrong")).collect();
    let pass =
        Pass::of(Cluster::manual(1).with_ready(1)).catalog(CatalogOutcome::Refused { reason: CatalogRefusal::Invalid, errors });
    let told = pass.condition("CatalogValid");
    assert!(told.contains("100 errors. tools[0]: wrong.") && told.contains("And more.") && !told.contains("tools[10]"), "{told}");
}

#[test]
fn the_reason_names_the_worst_thing_also_when_ready() {
    let full = Pass::of(Cluster::autoscaled(1, 3).with_ready(3)).autoscaled().held(Gate::AtMaximum);
    assert_eq!(full.condition("Ready"), "True AtMaximum: In words.");
    let hot = Pass::of(Cluster::autoscaled(1, 3).with_ready(3).shard(2, stage(GuardStage::Shedding, 910)))
        .autoscaled()
        .held(Gate::AtMaximum);
    assert_eq!(hot.condition("Ready"), "True MemoryPressure: tools-2 is at 91 % of 512Mi.");
    let mut silent = Pass::of(Cluster::manual(3).with_ready(3));
    silent.now = at(60);
    assert_eq!(silent.condition("Ready"), "True MetricsUnavailable: No shard reports its load.");
    let paused = Pass::of(Cluster::manual(3).with_ready(3).spec(|spec| spec.paused = true)).mode(Mode::Paused);
    assert!(paused.condition("Ready").starts_with("True Paused"));
    assert!(paused.condition("Progressing").starts_with("False Paused"));
    assert!(paused.condition("AutoscalingActive").starts_with("False Paused"));
}

// === Progressing and Draining ===

#[test]
fn a_rollout_is_told_and_so_is_what_freezes_it() {
    let outdate = |shard: &mut ObservedShard| shard.template_hash = Some("template-0".into());
    let cluster = Cluster::manual(3).with_ready(3).shard(0, outdate).shard(1, outdate);
    let rolling = Pass::of(cluster.clone());
    assert_eq!(rolling.condition("Progressing"), "True RollingOut: To be replaced: tools-0, tools-1.");
    assert_eq!(rolling.condition("Ready"), "False RollingOut: 1 of 3 shards have the current template.");
    assert_eq!(rolling.status().updated_replicas, Some(1));
    let frozen = Pass::of(cluster.with_pending(1).shard(3, waiting("ErrImagePull", "denied"))).desired(3);
    assert_eq!(frozen.condition("Progressing"), "False RolloutFrozen: tools-3: ErrImagePull: denied. Correct spec.image.");
    assert_eq!(frozen.condition("Ready"), "False RolloutFrozen: tools-3: ErrImagePull: denied. Correct spec.image.");
    assert!(frozen.condition("Available").starts_with("True ShardsReady"));
    let mute = Cluster::manual(3).with_ready(4).each(outdate).shard(3, |shard| shard.template_hash = Some(TEMPLATE.into()));
    let mute = Pass::of(mute.shard(3, |shard| shard.report.as_mut().unwrap().at = at(-60))).desired(3);
    let words = "False RolloutFrozen: tools-3: Ready, but it does not report its load on the control port (9091).";
    assert_eq!(mute.condition("Progressing"), words);
    let taken_back = Pass::of(Cluster::manual(3).with_ready(3).with_pending(1).shard(3, |shard| {
        outdate(shard);
        shard.terminating = Some(at(-1));
    }));
    assert!(taken_back.desired(3).condition("Progressing").starts_with("False Settled"));
    let last = Pass::of(Cluster::manual(2).with_ready(3).shard(0, |shard| shard.drain(DrainReason::Rollout, at(-5)))).desired(2);
    assert_eq!(last.condition("Progressing"), "True RollingOut: The last outdated shard is draining.");
}

#[test]
fn a_pod_left_on_a_dead_node_is_mentioned_and_no_reason_to_go_on_about() {
    let dead = |shard: &mut ObservedShard| {
        shard.ready = false;
        shard.ready_changed = Some(at(-300));
        shard.report.as_mut().unwrap().at = at(-350);
        shard.terminating = Some(at(-200));
        shard.node = Some("node-2".into());
    };
    let replaced =
        |pending: u32| Pass::of(Cluster::manual(2).with_ready(3 - pending).with_pending(pending).shard(1, dead)).desired(2);
    assert_eq!(replaced(1).condition("Progressing"), "True Replacing: tools-1 is replaced.");
    let settled = replaced(0);
    assert_eq!(
        settled.condition("Progressing"),
        "False Settled: tools-1 is left on node-2, which does not answer: it ends when it is back, or when the Node is removed."
    );
    assert_eq!(settled.condition("Draining"), "False NoShardDraining");
    assert!(settled.condition("Ready").starts_with("True Serving"));
}

#[test]
fn a_lost_shard_is_replaced_and_a_leaving_one_scales_in() {
    let lost = Pass::of(Cluster::manual(2).with_ready(2).shard(1, |shard| shard.terminating = Some(at(-1))));
    assert_eq!(lost.condition("Progressing"), "True Replacing: tools-1 is replaced.");
    assert_eq!(lost.condition("Draining"), "True Eviction: tools-1 was deleted, and ends its streams by itself.");
    let drained = |node_leaves: Option<bool>| {
        Pass::of(Cluster::manual(3).with_ready(3).each(|shard| {
            if shard.index < 2 {
                shard.terminating = Some(at(300));
                shard.disruption = Some(Disruption::Evicted);
                shard.node = Some("node-2".into());
                shard.node_leaves = node_leaves;
            }
        }))
    };
    let words = "tools-0, tools-1 were evicted, and end their streams by themselves.";
    assert_eq!(drained(Some(true)).condition("Draining"), format!("True NodeDrain: node-2 is drained: {words}"));
    assert_eq!(drained(None).condition("Draining"), format!("True NodeDrain: {words}"), "we may not look");
    let words = "tools-0, tools-1 were deleted, and end their streams by themselves.";
    assert_eq!(drained(Some(false)).condition("Draining"), format!("True Eviction: {words}"));
    let leaving = Pass::of(Cluster::manual(2).with_ready(3).shard(2, |shard| {
        shard.drain(DrainReason::ScaleIn, at(-5));
        shard.load(1316, 60 * MIB);
    }))
    .desired(2);
    assert_eq!(leaving.condition("Progressing"), "True ScalingIn: tools-2 leaves.");
    assert_eq!(leaving.condition("Draining"), "True ScaleIn: tools-2: 1,320 streams left.");
    assert_eq!((leaving.status().replicas, leaving.status().draining_replicas), (Some(2), Some(1)));
    let recycled =
        Pass::of(Cluster::manual(2).with_ready(3).shard(2, |shard| shard.drain(DrainReason::Recycle, at(-5)))).desired(2);
    assert!(recycled.condition("Progressing").starts_with("True Recycling: tools-2"));
    assert!(recycled.condition("Draining").starts_with("True Recycle"));
}

#[test]
fn a_drain_past_its_timeout_is_told() {
    let pass =
        Pass::of(Cluster::manual(1).with_ready(2).shard(1, |shard| shard.drain(DrainReason::ScaleIn, at(-301)))).desired(1);
    assert_eq!(pass.condition("Draining"), "True DeadlineExceeded: tools-1 did not end within `drain.timeout`.");
}

// === autoscaling and memory ===

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

// === writing little ===

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

// === the promised rates ===

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
