//! Memory on real pods: options → for each side: manifests → clients → what became of pods and clients → a table.
//!
//! The clients are tasks of this process; the pods run on the local cluster, so that their control groups can be read.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod clients;
mod manifests;
mod metrics_server;
mod options;
mod story;
mod table;
mod tally;
mod watch;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics_server::MetricsServer;
use crate::options::{Options, Side};
use crate::story::Told;
use clap::Parser as _;
use mcp_tests::failure::While as _;
use mcp_tests::run::Definition;
use mcp_tests::target::Target;
use mcp_tests::{Failure, Namespace, Operated, Outcome, Run, claim};

/// No side takes longer.
const ENDS_WITHIN: Duration = Duration::from_mins(25);

fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(bench(options)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("memory-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn bench(options: Options) -> Outcome {
    std::fs::create_dir_all(&options.out).doing(&options.out.display().to_string())?;
    let target = Target::from_env(|name| std::env::var(name).ok()).map_err(Failure::new)?;
    claim!(target.is_local(), "the control groups of pods are read here, so this runs on the local cluster only");
    let run = Arc::new(Run::start(target, Definition::OfThisCheckout).await?);
    let interrupted = run.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.abandon().await;
            std::process::exit(130);
        }
    });
    let options = Arc::new(options);
    let told = Arc::<Mutex<Vec<Told>>>::default();
    let (telling, asked) = (told.clone(), options.clone());
    let played =
        Namespace::with(run.clone(), Operated::ByItsOwn, ENDS_WITHIN * 2, move |namespace| play(namespace, asked, telling)).await;
    let told = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
    write(&options, &told)?;
    played?;
    told.iter().filter(|told| told.side == Side::Ours).try_for_each(story::judge)?;
    run.finish().await
}

async fn play(namespace: Namespace, options: Arc<Options>, told: Arc<Mutex<Vec<Told>>>) -> Outcome {
    for object in manifests::echo() {
        namespace.apply(&object.to_string()).await?;
    }
    namespace.kubectl(&["rollout", "status", "deployment/echo", "--timeout=90s"]).await?;
    let keep = |one| told.lock().unwrap_or_else(PoisonError::into_inner).push(one);
    if options.only != Some(Side::Hpa) {
        keep(story::tell(&namespace, Side::Ours, &options, &serde_json::Value::Null).await?);
    }
    let Some(program) = options.metrics_server.as_ref().filter(|_| options.only != Some(Side::Ours)) else { return Ok(()) };
    let keys = story::keys(&namespace, &options).await?;
    namespace.cluster(manifests::NAME).delete().await?;
    say("starting metrics-server");
    let played = async {
        let _metrics_server = MetricsServer::start(&namespace, program, &options.out).await?;
        story::tell(&namespace, Side::Hpa, &options, &keys).await
    }
    .await;
    // A namespace does not end while an API of the cluster does not answer.
    MetricsServer::forget(&namespace).await?;
    keep(played?);
    Ok(())
}

/// Prints the table, and writes it and the JSON to the folder.
fn write(options: &Options, told: &[Told]) -> Outcome {
    let text = table::table(told);
    println!("{text}");
    for (name, content) in [("table.txt", text), ("results.json", format!("{:#}\n", table::json(told)))] {
        let path = options.out.join(name);
        std::fs::write(&path, content).doing(&path.display().to_string())?;
    }
    Ok(())
}

/// Progress, for who waits.
pub(crate) fn say(what: &str) {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    eprintln!("[{:4.0} s] {what}", BEGUN.get_or_init(Instant::now).elapsed().as_secs_f64());
}
