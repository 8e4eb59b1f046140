//! The operator at scale: options → network → site → story (rest, a lost leader, growth) → figures.
//!
//! The operators are processes of this machine, so that their memory and time are what the kernel counts. They reach a real API
//! server, and pods that only kwok plays; [`stub`] answers for all of those with what [`fleet`] says they would report.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod children;
mod exposition;
mod figures;
mod fleet;
mod manifests;
mod network;
mod options;
mod proc;
mod registry;
mod requests;
mod site;
mod story;
mod stub;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Instant;

use clap::Parser as _;
use mcp_tests::Outcome;
use mcp_tests::failure::While as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::options::{Cluster, Line, Options, Verb};
use crate::site::Site;
use crate::story::Story;

fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (cluster, options) = match Line::parse().verb {
        Verb::Run(options) => (options.cluster.clone(), Some(options)),
        Verb::Clear(cluster) => (cluster, None),
    };
    let done = begin(&cluster, options.as_ref());
    network::remove(&cluster.switch);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("scale-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn begin(cluster: &Cluster, options: Option<&Options>) -> Outcome {
    if let Some(options) = options {
        options.check()?;
        std::fs::create_dir_all(&options.out).doing(&options.out.display().to_string())?;
    }
    // Each fake pod is a connection here and one in the operator, which inherits the limit.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).doing("the limit of files")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).doing("the limit of files")?;
    network::enter(cluster)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().doing("starting")?;
    runtime.block_on(async {
        let site = Site::open(&cluster.kubeconfig).await?;
        site.clear().await.doing("removing what an earlier run left")?;
        match options {
            Some(options) => run(options, &site).await,
            None => Ok(()),
        }
    })
}

/// Measures, and removes everything whatever comes of it.
async fn run(options: &Options, site: &Site) -> Outcome {
    let fleet = stub::Shared::default();
    stub::start(fleet.clone())?;
    registry::follow(&site.client, &fleet);
    let mut story = Story::new(options, site, fleet, &options.out)?;
    let told = tokio::select! {
        told = async {
            site.prepare(options, &options.out).await?;
            story.tell().await
        } => told,
        () = told_to_stop() => Err(mcp_tests::Failure::new("told to stop")),
    };
    story.stop().await;
    // What was measured before it failed is worth reading, too; and before it is cleared away, which takes minutes.
    let failure = told.as_ref().err().map(ToString::to_string);
    let written = write(options, &story, failure.as_deref());
    say("removing everything");
    let cleared = site.clear().await.doing("removing what the run made");
    written?;
    told.and(cleared)
}

/// Prints the table, and writes it and the JSON to the folder.
fn write(options: &Options, story: &Story<'_>, failure: Option<&str>) -> Outcome {
    let mut text = story.figures.table();
    for note in &story.notes {
        let _ = writeln!(text, "\n{note}");
    }
    if let Some(failure) = failure {
        let _ = writeln!(text, "\nThe run failed: {failure}");
    }
    println!("{text}");
    let sizes = json!({
        "clusters": options.clusters, "shards": options.shards, "large": options.large, "factor": options.factor,
        "namespaces": options.namespaces, "nodes": options.nodes(), "restSeconds": options.rest,
    });
    let results = json!({"options": sizes, "figures": story.figures.json(), "notes": story.notes, "failure": failure});
    let put = |name: &str, content: String| {
        let path: &Path = &options.out.join(name);
        std::fs::write(path, content).doing(&path.display().to_string())
    };
    put("table.md", text)?;
    put("results.json", format!("{results:#}\n"))
}

async fn told_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Progress, for who waits.
pub(crate) fn say(what: &str) {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    eprintln!("[{:4.0} s] {what}", BEGUN.get_or_init(Instant::now).elapsed().as_secs_f64());
}
