//! Claims about the whole, on a real Kubernetes cluster: `make e2e`, or by hand:
//!
//! ```text
//! MCP_TEST_CLUSTER=local LOCAL_CLUSTER=target/release/local-cluster \
//!   cargo test -p mcp-tests --features cluster --test cluster -- [FILTER] [--test-threads N]
//! ```
//!
//! Each test has a namespace of its own. They mostly wait, so a few run side by side even on two cores; those that disturb
//! what others stand on come later, in groups ([`Group`]).
//!
//! `MCP_TEST_OPERATOR=own` gives every test an operator of its own, also those that need none: nothing is installed for the
//! whole cluster then but the CRD.

mod any_shard;
mod broken;
mod calls;
mod catalog;
mod conditions;
mod conformance;
mod crash;
mod disruption;
mod foreign;
mod guard;
mod keys;
mod life;
mod local_cluster;
mod lossless;
mod manifest;
mod node_loss;
mod placement;
mod pods;
mod pressure;
mod refusals;
mod removal;
mod rest;
mod roles;
mod rollout;
mod scaling;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use mcp_tests::run::Definition;
use mcp_tests::target::Target;
use mcp_tests::{Namespace, Operated, Outcome, Run, operator};
use tokio::runtime::Handle;

/// Side by side unless `--test-threads` says otherwise.
const TESTS_AT_ONCE: usize = 4;
/// `own`: an operator in the namespace of every test.
const ENV_OPERATOR: &str = "MCP_TEST_OPERATOR";

/// What a test needs of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    AnyCluster,
    /// The machine under the cluster is this one: its cgroups, its audit log.
    LocalCluster,
    /// That, and two nodes that take pods.
    TwoLocalNodes,
}

/// Which tests may run at the same time. The groups run in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    /// Side by side, under the operator that works in every namespace.
    Shared,
    /// Side by side, each with an operator of its own, which it may disturb. The one for every namespace is stopped meanwhile.
    Own,
    /// One at a time, each with an operator of its own: these disturb nodes, the control plane, or what belongs to the whole
    /// cluster.
    Alone,
    /// Over what all the others left in the audit log: skipped when not all of them ran.
    Last,
}

type Body = Box<dyn FnOnce(Namespace) -> BoxFuture<'static, Outcome> + Send>;

struct Test {
    name: &'static str,
    group: Group,
    needs: Needs,
    body: Body,
}

macro_rules! tests {
    ($($group:ident $needs:ident: $module:ident::$name:ident;)+) => {
        vec![$(Test {
            group: Group::$group,
            name: concat!(stringify!($module), "::", stringify!($name)),
            needs: Needs::$needs,
            body: Box::new(|namespace| $module::$name(namespace).boxed()),
        }),+]
    };
}

/// Every test; of each group, the longest first.
fn tests() -> Vec<Test> {
    tests! {
        Shared AnyCluster: scaling::streams_over_target_scale_out_and_their_end_scales_in_through_a_drain;
        Shared AnyCluster: conformance::the_official_suite_passes_through_the_service;
        Shared AnyCluster: rollout::a_restart_replaces_one_at_a_time_and_stops_while_paused;
        Shared AnyCluster: scaling::memory_over_target_scales_out;
        Shared AnyCluster: rollout::a_template_that_does_not_start_freezes_and_costs_nothing;
        Shared AnyCluster: rollout::a_rollout_completes_at_min_equal_to_max_several_at_a_time;
        Shared AnyCluster: catalog::a_broken_catalog_is_refused_and_new_shards_serve_the_last_good_one;
        Shared AnyCluster: conditions::what_load_asks_for_and_does_not_get_is_told;
        Shared AnyCluster: conditions::shards_that_crash_or_keep_silent_are_told_apart;
        Shared AnyCluster: conditions::what_is_not_allowed_is_told_in_the_words_of_who_forbids_it;
        Shared AnyCluster: conditions::a_catalog_that_cannot_be_served_says_why;
        Shared AnyCluster: conditions::conditions_move_when_something_did_and_not_in_between;
        Shared AnyCluster: pods::what_admission_adds_to_a_pod_is_no_drift;
        Shared AnyCluster: pods::a_pod_that_ends_is_replaced_at_once_whatever_becomes_of_its_name;
        Shared AnyCluster: pods::a_resize_in_place_is_accepted_and_shown;
        Shared AnyCluster: foreign::what_others_change_or_delete_is_put_back;
        Shared AnyCluster: foreign::a_name_of_somebody_else_is_left_alone_until_it_is_free;
        Shared AnyCluster: foreign::another_controller_is_not_fought_for_ever;
        Shared AnyCluster: foreign::what_an_orphaning_deletion_left_is_adopted;
        Shared AnyCluster: scaling::full_shards_answer_503_and_retry_after;
        Shared AnyCluster: scaling::full_of_connections_is_unavailable;
        Shared AnyCluster: life::deleting_a_cluster_leaves_no_object_behind;
        Shared LocalCluster: rest::status_follows_load_at_the_promised_rate;
        Shared LocalCluster: guard::a_shard_next_to_its_memory_limit_refuses_ends_streams_and_is_not_killed;
        Shared LocalCluster: any_shard::a_killed_shard_takes_no_session_with_it;
        Shared LocalCluster: any_shard::a_task_whose_shard_is_killed_is_never_unknown;
        Shared AnyCluster: any_shard::who_heard_of_a_new_list_gets_it_through_the_service;
        Shared AnyCluster: catalog::a_change_reaches_every_shard_without_a_restart;
        Shared AnyCluster: life::a_deleted_shard_is_replaced_and_no_call_fails;
        Shared AnyCluster: scaling::kubectl_scale_is_honoured_in_manual_mode;
        Shared AnyCluster: calls::tools_answer_in_both_eras_through_the_service;
        Shared AnyCluster: calls::columns_tell_the_truth;
        Shared AnyCluster: calls::an_http_backend_is_called_with_its_credential;
        Shared AnyCluster: calls::shards_report_the_limit_they_run_under;
        Shared LocalCluster: calls::the_kernel_enforces_the_limit_in_the_spec;
        Shared AnyCluster: broken::a_bad_image_ends_in_the_kubelets_own_words;
        Shared AnyCluster: broken::an_unschedulable_shard_says_what_the_scheduler_said;
        Shared AnyCluster: life::the_quickstart_becomes_ready_and_answers;
        Shared AnyCluster: refusals::invalid_manifests_are_refused_with_our_messages;
        Alone TwoLocalNodes: disruption::a_drained_node_gives_its_shards_away_one_at_a_time;
        Alone TwoLocalNodes: node_loss::a_lost_node_is_replaced_elsewhere_and_leaves_nothing_twice_when_it_returns;
        Alone TwoLocalNodes: node_loss::a_node_without_its_kubelet_gives_its_streams_away_gracefully;
        Alone TwoLocalNodes: pressure::a_node_that_runs_out_of_memory_costs_only_the_shard_that_requested_too_little;
        Alone TwoLocalNodes: any_shard::a_task_that_was_given_up_by_mistake_has_one_end_on_every_shard;
        Alone TwoLocalNodes: local_cluster::a_cut_node_is_not_reached_and_a_joined_one_is;
        Alone LocalCluster: local_cluster::parts_pause_go_on_end_and_start;
        Alone LocalCluster: local_cluster::another_checkout_is_refused_and_told_whose_the_cluster_is;
        Shared AnyCluster: refusals::invalid_edits_are_refused_with_our_messages;
        Shared AnyCluster: refusals::kubectl_scale_is_refused_while_autoscaling;
        Shared AnyCluster: refusals::every_sample_is_accepted;
        Own LocalCluster: rest::an_operator_at_rest_writes_nothing;
        Own LocalCluster: crash::killed_at_twenty_moments_it_loses_and_doubles_nothing;
        Own LocalCluster: crash::a_leader_that_was_stopped_past_its_lease_writes_nothing;
        Own LocalCluster: crash::a_dead_leader_is_followed_and_work_goes_on;
        Own AnyCluster: crash::an_upgrade_of_the_operator_restarts_no_shard_and_loses_nothing;
        Own AnyCluster: removal::a_namespace_ends_by_itself;
        Own AnyCluster: removal::deleting_a_cluster_needs_no_operator;
        Own AnyCluster: removal::shards_serve_without_an_operator_which_takes_over_later;
        Own LocalCluster: roles::an_operator_of_one_namespace_leaves_others_alone;
        Alone AnyCluster: removal::the_definition_may_go_and_come_back_under_a_running_operator;
        Last LocalCluster: roles::every_right_was_used_and_no_request_was_denied;
        Last LocalCluster: roles::the_lease_is_renewed_before_other_requests;
        Own AnyCluster: keys::keys_rotate_once_and_no_session_is_refused_before_its_end;
        Own LocalCluster: lossless::nothing_is_lost_by_scale_in_deletion_eviction_and_rollout;
        Own LocalCluster: lossless::without_placement_a_drain_refuses_calls_and_the_count_shows_it;
        Own LocalCluster: placement::a_full_shard_is_fenced_while_another_has_room_and_comes_back;
        Alone LocalCluster: lossless::nothing_is_lost_by_a_node_drain;
        Alone LocalCluster: crash::an_api_server_that_stands_still_for_a_minute_costs_nothing;
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(TESTS_AT_ONCE));
    if arguments.list {
        let listed = tests().into_iter().map(|test| Trial::test(test.name, || Ok(()))).collect();
        return libtest_mimic::run(&arguments, listed).exit_code();
    }
    // kube and reqwest both take the process's provider of cryptography; a second installation is no harm.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(&arguments) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let target = Target::from_env(|name| std::env::var(name).ok())?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(|e| e.to_string())?;
    println!("cluster: {}", target.describe());
    let always_own = std::env::var(ENV_OPERATOR).is_ok_and(|value| value == "own");
    let definition = if always_own { Definition::OfThisCheckout } else { Definition::Installed };
    let run = Arc::new(runtime.block_on(Run::start(target, definition)).map_err(|why| why.to_string())?);
    runtime.spawn(end_when_interrupted(run.clone()));
    let mut stopped = None;
    let mut failed = false;
    let is_whole = arguments.filter.is_none() && arguments.skip.is_empty() && !always_own;
    for group in [Group::Shared, Group::Own, Group::Alone, Group::Last] {
        let operated = group.operated(always_own);
        let of_group = |test: &Test| test.group == group && is_asked_for(arguments, test.name);
        let tests: Vec<_> = tests().into_iter().filter(of_group).collect();
        if tests.is_empty() {
            continue;
        }
        if operated == Operated::ByItsOwn && stopped.is_none() {
            stopped = runtime.block_on(operator::stop_cluster_wide(&run)).map_err(|why| why.to_string())?;
        }
        println!("\n{}", group.describe());
        let trials = tests.into_iter().map(|test| trial(test, operated, is_whole, &run, runtime.handle())).collect();
        let mut arguments = arguments.clone();
        if group == Group::Alone {
            arguments.test_threads = Some(1);
        }
        failed |= libtest_mimic::run(&arguments, trials).has_failed();
    }
    if let Some(replicas) = stopped {
        runtime.block_on(operator::scale_cluster_wide(&run, replicas)).map_err(|why| why.to_string())?;
    }
    if let Err(why) = runtime.block_on(run.finish()) {
        eprintln!("error: {why}");
        failed = true;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// As libtest-mimic filters: a group of which nothing is asked for is not prepared.
fn is_asked_for(arguments: &Arguments, name: &str) -> bool {
    let matches = |filter: &str| if arguments.exact { name == filter } else { name.contains(filter) };
    arguments.filter.as_deref().is_none_or(matches) && !arguments.skip.iter().any(|skip| matches(skip))
}

// === impl Group ===

impl Group {
    fn describe(self) -> &'static str {
        match self {
            Self::Shared => "side by side, one operator for every namespace:",
            Self::Own => "side by side, an operator in each namespace:",
            Self::Alone => "one at a time, an operator in each namespace:",
            Self::Last => "over what all of them left behind:",
        }
    }

    /// Who works in the namespace of a test.
    fn operated(self, always_own: bool) -> Operated {
        match self {
            Self::Shared if !always_own => Operated::ClusterWide,
            Self::Shared | Self::Own | Self::Alone => Operated::ByItsOwn,
            Self::Last => Operated::ByNobody,
        }
    }

    /// No test takes longer; one that would is stopped and explained like any other failure.
    fn ends_within(self) -> Duration {
        match self {
            Self::Shared | Self::Last => Duration::from_mins(6),
            // One of them rests, for as long as it is asked to.
            Self::Own => Duration::from_mins(10) + rest::longer(),
            Self::Alone => Duration::from_mins(15),
        }
    }
}

fn trial(test: Test, operated: Operated, is_whole: bool, run: &Arc<Run>, runtime: &Handle) -> Trial {
    let (run, runtime) = (run.clone(), runtime.clone());
    Trial::ignorable_test(test.name, move || {
        if test.needs != Needs::AnyCluster && !run.target.is_local() {
            return Ok(Completion::ignored_with("needs local-cluster: looks at the machine under the cluster"));
        }
        if test.group == Group::Last && !is_whole {
            return Ok(Completion::ignored_with("needs the whole suite: looks at what all tests together asked for"));
        }
        if test.needs == Needs::TwoLocalNodes && runtime.block_on(run.nodes()).map_err(|why| why.to_string())? < 2 {
            return Ok(Completion::ignored_with("needs two nodes: `local-cluster join node-2` adds one"));
        }
        let outcome = runtime.block_on(Namespace::with(run, operated, test.group.ends_within(), test.body));
        outcome.map(|()| Completion::Completed).map_err(|why| Failed::from(why.to_string()))
    })
}

/// Ctrl-C removes what the run made.
async fn end_when_interrupted(run: Arc<Run>) {
    if tokio::signal::ctrl_c().await.is_ok() {
        eprintln!("interrupted: deleting the test namespaces");
        run.abandon().await;
        std::process::exit(130);
    }
}
