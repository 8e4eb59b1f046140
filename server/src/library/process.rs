//! A process: flags and signals around a program.

use std::process::ExitCode;

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Program;
use crate::config::{Config, Flags, Source};
use crate::{Ending, error, heap, manifest, telemetry, watch};

/// A setting, the manifest or the program is wrong.
const WRONG: u8 = 2;

/// Reads the flags, runs, and ends as it is told.
pub(super) fn main(program: Program) -> ExitCode {
    heap::settle();
    let (name, version, has_code) = (program.name.clone(), program.version.clone(), program.has_code());
    let code = match program.build() {
        Ok(code) => code,
        Err(invalid) => return wrong(&invalid.0),
    };
    let config = match Config::new(Flags { has_code, ..Flags::parse() }) {
        Ok(config) => config,
        Err(invalid) => {
            let ended = wrong(&invalid.0);
            eprintln!("\n--help tells more.");
            return ended;
        }
    };
    let manifest = match &config.source {
        Source::Folders(_) => Ok(None),
        Source::Manifest { file: Some(file), keys } => manifest::read(file, keys.as_deref()).map(Some),
        Source::Manifest { file: None, keys } => manifest::without_file(&name, &version, keys.as_deref()).map(Some),
    };
    let manifest = match manifest {
        Ok(manifest) => manifest,
        Err(refused) => {
            eprintln!("{refused}");
            return ExitCode::from(WRONG);
        }
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
    // One worker needs none of what several share.
    let runtime = match config.workers {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        workers => tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build(),
    };
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        let endings = endings(matches!(config.source, Source::Manifest { .. }))?;
        crate::run(config, manifest, log, code, endings).await.map_err(|error| error::report(&error))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wrong(problems: &[String]) -> ExitCode {
    for problem in problems {
        eprintln!("error: {problem}");
    }
    ExitCode::from(WRONG)
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
