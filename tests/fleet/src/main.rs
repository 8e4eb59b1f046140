//! `fleet`: shards as processes on this machine, without Kubernetes, and a command that is run against them.
//!
//! ```text
//! folders    an McpCluster file → the configuration, keys and credentials that the operator would mount
//! shard      one process, started as its pod would start it   group   the memory limit of its container
//! operator   the operator's part: signed POST /load, the membership, the configuration to serve
//! proxy      one address in front of several shards: every HTTP request goes to the next one
//! rolling    a rollout, when the command asks for one: another process for each shard, and the old one drained
//! tally      what the proxy saw: how many requests of sessions were answered by a shard that did not open them
//! ```
//!
//! One shard is reached directly. The command finds the endpoint in `MCP_URL`; its exit status is ours, unless the proxy's
//! tally says that the run proved nothing.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod folders;
mod group;
mod operator;
mod proxy;
mod rolling;
mod shard;
mod tally;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use clap::Parser;
use folders::Folders;
use group::Group;
use operator::Operator;
use proxy::{Proxy, Upstreams};
use rolling::{Progress, Rolling};
use shard::Shard;
use tally::Tally;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// Where the command finds the endpoint.
const ENV_URL: &str = "MCP_URL";
/// Where it asks for a rollout.
const ENV_ROLL_URL: &str = "MCP_ROLL_URL";

/// Where the command finds the shards when there is no proxy: JSON, one object each with `url`, `admin`, `pid` and `group`.
const ENV_SHARDS: &str = "MCP_SHARDS";

/// Starts shards on this machine, then runs a command against them.
#[derive(Debug, Parser)]
#[command(
    name = "fleet",
    after_help = "Example:\n  fleet --server target/debug/mcp-server --manifest tools.yaml --shards 3 -- curl ..."
)]
struct Flags {
    /// The binary of a shard: `mcp-server`, or a server of your own on the library.
    #[arg(long, value_name = "FILE")]
    server: PathBuf,

    /// The McpCluster file that the shards serve.
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,

    /// How many shards. With more than one, a proxy in front of them gives every HTTP request to the next one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: u16,

    /// Folder for the log of each shard, and for a line about every request that the proxy carried.
    #[arg(long, value_name = "DIR")]
    logs: PathBuf,

    /// Do not judge where requests went: for a command that hardly uses sessions.
    #[arg(long)]
    any_spread: bool,

    /// Replace every shard when the command asks for it with a POST to MCP_ROLL_URL.
    #[arg(long)]
    rolling: bool,

    /// No proxy: the command finds the shards in `MCP_SHARDS`.
    #[arg(long, conflicts_with = "rolling")]
    direct: bool,

    /// Each shard in a control group of its own with this memory limit, as its container would be. Needs root.
    #[arg(long, value_name = "MIB", conflicts_with = "rolling", value_parser = clap::value_parser!(u32).range(16..))]
    memory_limit: Option<u32>,

    /// The command, and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let (mut terminate, mut interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(why), _) | (_, Err(why)) => return failed(&why.to_string()),
    };
    // Whatever ends it, the shards end with it: they are dropped.
    tokio::select! {
        done = run(Flags::parse()) => done.unwrap_or_else(|why| failed(&why)),
        _ = terminate.recv() => ExitCode::from(128 + 15),
        _ = interrupt.recv() => ExitCode::from(128 + 2),
    }
}

fn failed(why: &str) -> ExitCode {
    eprintln!("fleet: {why}");
    ExitCode::FAILURE
}

async fn run(flags: Flags) -> Result<ExitCode, String> {
    std::fs::create_dir_all(&flags.logs).map_err(|error| format!("{}: {error}", flags.logs.display()))?;
    let front = match flags.shards {
        1 if !flags.rolling => None,
        _ if flags.direct => None,
        _ => Some(listener().await?),
    };
    let addresses = shard::free_addresses(flags.shards)?;
    let first = addresses.first().map(|addresses| addresses.data);
    let entrance = match &front {
        Some(front) => front.local_addr().map_err(|error| error.to_string())?,
        None => first.ok_or("no shard")?,
    };
    let folders = Folders::of(&flags.manifest, entrance.port())?;
    let upstreams = Arc::new(Upstreams::default());
    let mut shards = Vec::new();
    for (number, addresses) in addresses.into_iter().enumerate() {
        let name = format!("fleet-{}-{number}", std::process::id());
        let group = flags.memory_limit.map(|mib| Group::new(&name, u64::from(mib) << 20)).transpose()?;
        shards.push(Shard::start(&flags.server, number, addresses, &folders, &flags.logs, group)?);
        upstreams.add(number, addresses.data);
    }
    let operator = Arc::new(Operator::new(&folders, &shards));
    operator.until_serving(&mut shards).await?;
    let asking = Arc::clone(&operator);
    let operating = tokio::spawn(async move { asking.keep_asking().await });

    let tally = Arc::new(Tally::new(shards.len()));
    let proxying = front.map(|front| {
        let log = flags.logs.join("requests.log");
        tokio::spawn(Proxy::new(Arc::clone(&upstreams), Arc::clone(&tally), &log).serve(front))
    });
    let seen = serde_json::Value::from(shards.iter().map(Shard::told).collect::<Vec<_>>()).to_string();
    let shards = Arc::new(tokio::sync::Mutex::new(shards));
    let mut told = vec![(ENV_URL, entrance.port())];
    let mut rolls = None;
    if flags.rolling {
        let listener = listener().await?;
        told.push((ENV_ROLL_URL, listener.local_addr().map_err(|error| error.to_string())?.port()));
        let rolling = Rolling {
            server: flags.server,
            logs: flags.logs,
            folders,
            operator,
            upstreams,
            tally: Arc::clone(&tally),
            shards: Arc::clone(&shards),
            progress: Mutex::new(Progress::default()),
        };
        rolls = Some(tokio::spawn(Arc::new(rolling).serve(listener)));
    }

    let status = command(&flags.command, &told, &seen).await?;
    operating.abort();
    // A shard that died took what it should have shown with it.
    for shard in &mut *shards.lock().await {
        shard.still_runs()?;
    }
    if let Some(rolls) = rolls {
        rolls.abort();
    }
    if let Some(proxying) = proxying {
        proxying.abort();
        println!("{}", tally.summary());
        if !flags.any_spread {
            tally.verdict()?;
        }
    }
    Ok(status)
}

async fn listener() -> Result<TcpListener, String> {
    TcpListener::bind(("127.0.0.1", 0)).await.map_err(|error| format!("no free port: {error}"))
}

/// Runs it; it is told ports as URLs.
async fn command(command: &[String], told: &[(&str, u16)], shards: &str) -> Result<ExitCode, String> {
    let [program, arguments @ ..] = command else { return Err("no command".to_owned()) };
    // The official suite fails any host but localhost.
    let urls = told.iter().map(|(name, port)| (*name, format!("http://localhost:{port}/mcp")));
    let mut child = Command::new(program);
    let child = child.args(arguments).envs(urls).env(ENV_SHARDS, shards);
    let status = child.kill_on_drop(true).status().await;
    let status = status.map_err(|error| format!("{program}: {error}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
