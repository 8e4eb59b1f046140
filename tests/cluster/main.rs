//! Claims about the whole, on a real Kubernetes cluster: `make e2e`, or by hand:
//!
//! ```text
//! MCP_TEST_CLUSTER=local LOCAL_CLUSTER=target/release/local-cluster \
//!   cargo test -p mcp-tests --features cluster --test cluster -- [FILTER] [--test-threads N]
//! ```
//!
//! Each test has a namespace of its own. They mostly wait, so a few run side by side even on two cores.

mod broken;
mod calls;
mod catalog;
mod life;
mod manifest;
mod refusals;
mod scaling;

use std::process::ExitCode;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use mcp_tests::target::Target;
use mcp_tests::{Namespace, Outcome, Run};
use tokio::runtime::Handle;

/// Side by side unless `--test-threads` says otherwise.
const TESTS_AT_ONCE: usize = 4;

/// What a test needs of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    AnyCluster,
    /// The machine under the cluster is this one: its cgroups, its audit log.
    LocalCluster,
}

type Body = Box<dyn FnOnce(Namespace) -> BoxFuture<'static, Outcome> + Send>;

struct Test {
    name: &'static str,
    needs: Needs,
    body: Body,
}

macro_rules! tests {
    ($($needs:ident: $module:ident::$name:ident;)+) => {
        vec![$(Test {
            name: concat!(stringify!($module), "::", stringify!($name)),
            needs: Needs::$needs,
            body: Box::new(|namespace| $module::$name(namespace).boxed()),
        }),+]
    };
}

/// Every test, the longest first.
fn tests() -> Vec<Test> {
    tests! {
        AnyCluster: scaling::streams_over_target_scale_out_and_their_end_scales_in_through_a_drain;
        AnyCluster: scaling::memory_over_target_scales_out;
        AnyCluster: catalog::a_broken_catalog_is_refused_and_new_shards_serve_the_last_good_one;
        AnyCluster: scaling::full_shards_answer_503_and_retry_after;
        AnyCluster: scaling::full_of_connections_is_unavailable;
        AnyCluster: life::deleting_a_cluster_leaves_no_object_behind;
        LocalCluster: life::an_operator_at_rest_writes_nothing;
        AnyCluster: catalog::a_change_reaches_every_shard_without_a_restart;
        AnyCluster: life::a_deleted_shard_is_replaced_and_no_call_fails;
        AnyCluster: scaling::kubectl_scale_is_honoured_in_manual_mode;
        AnyCluster: calls::tools_answer_in_both_eras_through_the_service;
        AnyCluster: calls::columns_tell_the_truth;
        AnyCluster: calls::an_http_backend_is_called_with_its_credential;
        AnyCluster: calls::shards_report_the_limit_they_run_under;
        LocalCluster: calls::the_kernel_enforces_the_limit_in_the_spec;
        AnyCluster: broken::a_bad_image_ends_in_the_kubelets_own_words;
        AnyCluster: broken::an_unschedulable_shard_says_what_the_scheduler_said;
        AnyCluster: life::the_quickstart_becomes_ready_and_answers;
        AnyCluster: refusals::invalid_manifests_are_refused_with_our_messages;
        AnyCluster: refusals::invalid_edits_are_refused_with_our_messages;
        AnyCluster: refusals::kubectl_scale_is_refused_while_autoscaling;
        AnyCluster: refusals::every_sample_is_accepted;
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
    let run = Arc::new(runtime.block_on(Run::start(target)).map_err(|why| why.to_string())?);
    runtime.spawn(end_when_interrupted(run.clone()));
    let trials = tests().into_iter().map(|test| trial(test, &run, runtime.handle())).collect();
    let conclusion = libtest_mimic::run(arguments, trials);
    if let Err(why) = runtime.block_on(run.finish()) {
        eprintln!("error: {why}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(conclusion.exit_code())
}

fn trial(test: Test, run: &Arc<Run>, runtime: &Handle) -> Trial {
    let (run, runtime) = (run.clone(), runtime.clone());
    Trial::ignorable_test(test.name, move || {
        if test.needs == Needs::LocalCluster && !run.target.is_local() {
            return Ok(Completion::ignored_with("needs local-cluster: looks at the machine under the cluster"));
        }
        let outcome = runtime.block_on(Namespace::with(run, test.body));
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
