//! `mcp-server`: flags and signals around the library.

use std::process::ExitCode;

use clap::Parser as _;
use mcp_server::config::{Config, Flags, Source};
use mcp_server::{Ending, error, manifest, telemetry, watch};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// A setting or the manifest is wrong.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let config = match Config::new(Flags::parse()) {
        Ok(config) => config,
        Err(invalid) => {
            for problem in invalid.0 {
                eprintln!("error: {problem}");
            }
            eprintln!("\nmcp-server --help tells more.");
            return ExitCode::from(WRONG);
        }
    };
    let manifest = match &config.source {
        Source::Folders(_) => None,
        Source::Manifest { file, keys } => match manifest::read(file, keys.as_deref()) {
            Ok(manifest) => Some(manifest),
            Err(refused) => {
                eprintln!("{refused}");
                return ExitCode::from(WRONG);
            }
        },
    };
    let json = config.json_log.unwrap_or_else(|| watch::says_json(&config.source));
    let log = match telemetry::init(json, "info") {
        Ok(log) => log,
        Err(error) => {
            eprintln!("error: {}", error::report(&error));
            return ExitCode::FAILURE;
        }
    };
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(config.workers).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        let endings = endings(matches!(config.source, Source::Manifest { .. }))?;
        mcp_server::run(config, manifest, log, endings).await.map_err(|error| error::report(&error))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Signals → what they ask for. On a laptop Ctrl-C ends at once; in a pod it drains as SIGTERM does.
fn endings(on_a_laptop: bool) -> Result<mpsc::Receiver<Ending>, String> {
    let cannot = |error: std::io::Error| format!("cannot listen to signals: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        loop {
            let ending = tokio::select! {
                _ = terminate.recv() => Ending::Drain,
                _ = interrupt.recv() => if on_a_laptop { Ending::Now } else { Ending::Drain },
            };
            if sender.send(ending).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Takes all the descriptors the process may have: connections are counted against them.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, soft, hard, "cannot raise the limit of open files");
    }
}
