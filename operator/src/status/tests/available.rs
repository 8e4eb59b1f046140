//! `Available` and `Ready`.

use super::*;

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
fn shards_that_are_full_of_streams_are_at_capacity_though_connections_are_left() {
    let with_streams = |streams: u64| {
        let cluster = Cluster::manual(2).with_ready(2).each(|shard| shard.load(streams, 60 * MIB));
        Pass::of(cluster.spec(|spec| spec.limits.max_streams = Some(1000))).condition("Available")
    };
    assert_eq!(with_streams(1000), "False AtCapacity: 2 of 2 shards are full.");
    assert_eq!(with_streams(400), "True ShardsReady: 2 shards take new connections; 1,200 more fit.");
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
