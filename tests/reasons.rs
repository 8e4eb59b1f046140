//! Reasons of conditions are API: each of them is produced by a test, and here is by which.
//!
//! [`REASONS`] must name every reason of the table in docs/api.md, and every test that it names must exist. Most are produced
//! on a real Kubernetes cluster; those that would cost minutes, or need a clock that is set back, by a test of the pure core.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;

use mcp_tests::record::{Reason, vocabulary};
use mcp_tests::run::read;

/// Where a reason is produced.
#[derive(Clone, Copy, Debug)]
enum By {
    /// A test of tests/cluster: `module::name`.
    Cluster(&'static str),
    /// A test of the operator's core: its file and its name. And why not on a cluster.
    Core(&'static str, &'static str, &'static str),
    /// By none yet: why.
    Nothing(&'static str),
}

use By::{Cluster, Core, Nothing};

const STATUS_AVAILABLE: &str = "operator/src/status/tests/available.rs";
const STATUS_MEMORY: &str = "operator/src/status/tests/memory.rs";
const STATUS_PROGRESS: &str = "operator/src/status/tests/progress.rs";
const SCALE: &str = "operator/src/scale/tests.rs";
const SCALE_EDGES: &str = "operator/src/scale/tests/edges.rs";
const SCALE_HOT: &str = "operator/src/scale/tests/hot.rs";
const PASSES: &str = "operator/src/reconcile/tests.rs";

const CATALOG: By = Cluster("conditions::a_catalog_that_cannot_be_served_says_why");
const FORBIDDEN: By = Cluster("conditions::what_is_not_allowed_is_told_in_the_words_of_who_forbids_it");
const SHARDS: By = Cluster("conditions::shards_that_crash_or_keep_silent_are_told_apart");
const LOAD: By = Cluster("conditions::what_load_asks_for_and_does_not_get_is_told");
const MOVES: By = Cluster("conditions::conditions_move_when_something_did_and_not_in_between");
const NAMES: By = Cluster("foreign::a_name_of_somebody_else_is_left_alone_until_it_is_free");
const IMAGE: By = Cluster("broken::a_bad_image_ends_in_the_kubelets_own_words");
const NO_NODE: By = Cluster("broken::an_unschedulable_shard_says_what_the_scheduler_said");
const FULL: By = Cluster("scaling::full_of_connections_is_unavailable");
const GOOD: By = Cluster("life::the_quickstart_becomes_ready_and_answers");
const ROLLED: By = Cluster("rollout::a_restart_replaces_one_at_a_time_and_stops_while_paused");
const FROZEN: By = Cluster("rollout::a_template_that_does_not_start_freezes_and_costs_nothing");

const REASONS: &[(&str, &str, &str, By)] = &[
    ("Ready", "True", "Serving", GOOD),
    ("Ready", "True", "MemoryPressure", LOAD),
    ("Ready", "True", "AtMaximum", LOAD),
    ("Ready", "True", "MetricsUnavailable", SHARDS),
    ("Ready", "True", "Paused", FORBIDDEN),
    ("Ready", "False", "NoShardReady", Core(STATUS_AVAILABLE, "shards_that_start_are_named", "passes in a second on a cluster")),
    ("Ready", "False", "ImagePullFailed", IMAGE),
    ("Ready", "False", "CrashLooping", SHARDS),
    ("Ready", "False", "OOMKilled", SHARDS),
    ("Ready", "False", "Unschedulable", NO_NODE),
    ("Ready", "False", "QuotaExceeded", FORBIDDEN),
    ("Ready", "False", "AtCapacity", FULL),
    ("Ready", "False", "ScaledToZero", FORBIDDEN),
    ("Ready", "False", "RolloutFrozen", FROZEN),
    (
        "Ready",
        "False",
        "DeadlineExceeded",
        Core(STATUS_AVAILABLE, "an_unschedulable_shard_says_what_the_scheduler_said", "takes ten minutes"),
    ),
    ("Ready", "False", "ApplyFailed", FORBIDDEN),
    ("Ready", "False", "NameConflict", NAMES),
    ("Ready", "False", "CatalogInvalid", CATALOG),
    ("Ready", "False", "RollingOut", ROLLED),
    ("Ready", "Unknown", "Reconciling", SHARDS),
    ("Available", "True", "ShardsReady", GOOD),
    ("Available", "False", "NoShardReady", CATALOG),
    ("Available", "False", "ImagePullFailed", IMAGE),
    ("Available", "False", "CrashLooping", SHARDS),
    ("Available", "False", "OOMKilled", SHARDS),
    ("Available", "False", "Unschedulable", NO_NODE),
    ("Available", "False", "QuotaExceeded", FORBIDDEN),
    ("Available", "False", "AtCapacity", FULL),
    ("Available", "False", "ScaledToZero", FORBIDDEN),
    ("Available", "Unknown", "Reconciling", SHARDS),
    ("Progressing", "True", "ScalingOut", SHARDS),
    ("Progressing", "True", "ScalingIn", MOVES),
    ("Progressing", "True", "RollingOut", ROLLED),
    ("Progressing", "True", "Replacing", MOVES),
    (
        "Progressing",
        "True",
        "Recycling",
        Core(STATUS_PROGRESS, "a_lost_shard_is_replaced_and_a_leaving_one_scales_in", "takes ten minutes"),
    ),
    ("Progressing", "False", "Settled", MOVES),
    ("Progressing", "False", "Paused", FORBIDDEN),
    ("Progressing", "False", "RolloutFrozen", FROZEN),
    (
        "Progressing",
        "False",
        "DeadlineExceeded",
        Core(STATUS_AVAILABLE, "an_unschedulable_shard_says_what_the_scheduler_said", "takes ten minutes"),
    ),
    ("Progressing", "False", "ApplyFailed", FORBIDDEN),
    ("Progressing", "False", "NameConflict", NAMES),
    ("Progressing", "Unknown", "Reconciling", Nothing("kept free: a first pass always knows what it began")),
    ("AutoscalingActive", "True", "Deciding", LOAD),
    (
        "AutoscalingActive",
        "True",
        "MemoryTargetUnreachable",
        Core(STATUS_MEMORY, "every_mode_has_its_reason", "an idle shard uses less than the least target"),
    ),
    ("AutoscalingActive", "False", "ManualReplicas", GOOD),
    ("AutoscalingActive", "False", "Paused", FORBIDDEN),
    ("AutoscalingActive", "False", "MetricsUnavailable", SHARDS),
    (
        "AutoscalingActive",
        "False",
        "MemoryLimitUnknown",
        Core(STATUS_MEMORY, "every_mode_has_its_reason", "the schema asks for a limit, and every shard reports one"),
    ),
    ("AutoscalingActive", "Unknown", "Starting", SHARDS),
    ("ScalingLimited", "True", "AtMaximum", LOAD),
    ("ScalingLimited", "True", "AtMinimum", LOAD),
    ("ScalingLimited", "True", "RateLimited", LOAD),
    ("ScalingLimited", "True", "Stabilizing", LOAD),
    ("ScalingLimited", "True", "ShardSilent", SHARDS),
    (
        "ScalingLimited",
        "True",
        "VictimsDoNotFit",
        Core(SCALE_EDGES, "what_a_victim_holds_must_fit_the_others_or_one_more_stays", "needs loads that are exact"),
    ),
    (
        "ScalingLimited",
        "True",
        "RecentOOMKill",
        Core(STATUS_MEMORY, "every_gate_has_its_reason", "an impostor that is killed reports no load to scale in for"),
    ),
    (
        "ScalingLimited",
        "True",
        "HotShard",
        Core(SCALE_HOT, "one_hot_shard_among_nine_cool_ones_is_shed_and_nothing_is_scaled", "needs loads that are exact"),
    ),
    (
        "ScalingLimited",
        "True",
        "RolloutInProgress",
        Core(
            SCALE_EDGES,
            "during_a_rollout_nothing_is_scaled_in_and_the_surge_does_not_count",
            "needs load that falls in the seconds of a rollout",
        ),
    ),
    (
        "ScalingLimited",
        "True",
        "InvalidReport",
        Core(SCALE_EDGES, "a_report_that_makes_no_sense_holds_the_size_and_is_named", "no shard sends one"),
    ),
    (
        "ScalingLimited",
        "True",
        "ClockMovedBack",
        Core(SCALE_EDGES, "a_clock_set_back_holds_everything_and_then_a_window_of_scale_in", "the clock is the machine's"),
    ),
    ("ScalingLimited", "False", "WithinBounds", LOAD),
    ("ScalingLimited", "False", "ManualReplicas", GOOD),
    ("ScalingLimited", "Unknown", "Starting", SHARDS),
    ("MemoryPressure", "True", "AboveTarget", LOAD),
    (
        "MemoryPressure",
        "True",
        "RefusingStreams",
        Core(STATUS_MEMORY, "memory_pressure_is_told_of_the_hottest_shard", "the shard's own guard is tested with the server"),
    ),
    (
        "MemoryPressure",
        "True",
        "Shedding",
        Core(STATUS_MEMORY, "memory_pressure_is_told_of_the_hottest_shard", "the shard's own guard is tested with the server"),
    ),
    (
        "MemoryPressure",
        "True",
        "ShedIneffective",
        Core(
            SCALE_HOT,
            "a_shard_whose_memory_stays_though_its_streams_end_is_told_after_a_step_and_replaced_after_two",
            "needs memory that does not fall",
        ),
    ),
    ("MemoryPressure", "True", "OOMKilled", SHARDS),
    ("MemoryPressure", "False", "BelowTarget", GOOD),
    ("MemoryPressure", "Unknown", "MetricsUnavailable", SHARDS),
    ("Draining", "True", "ScaleIn", MOVES),
    ("Draining", "True", "Rollout", ROLLED),
    ("Draining", "True", "NodeDrain", Cluster("disruption::a_drained_node_gives_its_shards_away_one_at_a_time")),
    ("Draining", "True", "Eviction", MOVES),
    (
        "Draining",
        "True",
        "Recycle",
        Core(SCALE, "an_idle_shard_stuck_at_300_mebibytes_is_recycled_and_the_others_scale_in", "takes ten minutes"),
    ),
    (
        "Draining",
        "True",
        "DeadlineExceeded",
        Core(STATUS_PROGRESS, "a_drain_past_its_timeout_is_told", "the server ends what it holds in time"),
    ),
    ("Draining", "False", "NoShardDraining", GOOD),
    ("Draining", "Unknown", "Reconciling", Nothing("kept free: whether a shard drains is known from its labels")),
    ("CatalogValid", "True", "Compiled", GOOD),
    ("CatalogValid", "False", "Invalid", CATALOG),
    ("CatalogValid", "False", "SourceMissing", CATALOG),
    ("CatalogValid", "False", "SecretMissing", CATALOG),
    ("CatalogValid", "False", "DuplicateName", CATALOG),
    ("CatalogValid", "False", "TooLarge", CATALOG),
    (
        "CatalogValid",
        "Unknown",
        "NotLoaded",
        Core(PASSES, "a_catalog_that_cannot_be_read_yet_is_not_loaded", "needs an API server that does not answer"),
    ),
];

#[test]
fn every_reason_of_the_api_is_produced_by_a_test_or_says_why_not() {
    let listed: Vec<Reason> =
        REASONS.iter().map(|(kind, status, reason, _)| ((*kind).into(), (*status).into(), (*reason).into())).collect();
    let unique: BTreeSet<Reason> = listed.iter().cloned().collect();
    assert_eq!(unique.len(), listed.len(), "a reason is listed twice");
    assert_eq!(unique, vocabulary().unwrap());
}

#[test]
fn every_test_that_produces_a_reason_exists_and_names_it() {
    let registered = read("tests/cluster/main.rs").unwrap();
    for (kind, status, reason, by) in REASONS {
        match by {
            Cluster(test) => {
                assert!(registered.contains(&format!(": {test};")), "{kind}={status} {reason}: no test {test}");
                let (module, name) = test.split_once("::").unwrap();
                let source = read(&format!("tests/cluster/{module}.rs")).unwrap();
                assert!(
                    source.contains(&format!("fn {name}(")) && source.contains(&format!("\"{reason}\"")),
                    "{reason} is not in {test}"
                );
            }
            Core(file, name, why) => {
                let source = read(file).unwrap();
                assert!(source.contains(&format!("fn {name}()")), "{kind}={status} {reason}: no test {name} in {file}");
                assert!(!why.is_empty());
            }
            Nothing(why) => assert!(!why.is_empty()),
        }
    }
}
