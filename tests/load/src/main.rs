//! `mcp-load`: puts any MCP server under load over Streamable HTTP, and measures.
//!
//! ```text
//! pure    target (what may be loaded)   request (bytes to send)   response (bytes as they come)   opening (steps of a client)
//!         schedule (when a call is due)   summary (latencies, JSON, tables)
//! edge    engine (connections on one epoll)   processes (the same work in several)
//! modes   calls   hold   fanout   idle   flood   abandon
//! bench   what `make bench` runs: servers in turn, pairs, medians, goals, plots
//! ```
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures of a measurement, far below 2^52"
)]
#![allow(clippy::format_push_string, reason = "requests and reports are short, and writing to a string cannot fail")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod abandon;
mod bench;
mod calls;
mod engine;
mod fanout;
mod flood;
mod hold;
mod idle;
mod opening;
mod processes;
mod request;
mod response;
mod schedule;
mod summary;
mod target;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, value_parser};
use fanout::Holders;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use request::Era;
use summary::Summary;
use target::Target;

/// Puts an MCP server under load, and measures. Only loopback and the local cluster (198.18.0.0/15) are ever loaded.
#[derive(Debug, Parser)]
#[command(
    name = "mcp-load",
    version,
    after_help = "Examples:\n  \
    mcp-load calls --url http://127.0.0.1:8080/mcp --connections 256 --seconds 10\n  \
    mcp-load calls --url http://127.0.0.1:8080/mcp --rate 2000 --connections 64 --seconds 30 --json\n  \
    mcp-load hold --url http://127.0.0.1:8080/mcp --streams 15000 --hold-seconds 60\n  \
    mcp-load fanout --url http://127.0.0.1:8080/mcp --streams 10000 --tool raise --uri bench://watched\n\n\
    Latencies are in microseconds; those of `calls --rate` count from the time a call was due."
)]
struct Flags {
    /// Run on this core alone.
    #[arg(long, global = true, value_name = "N")]
    core: Option<usize>,

    /// One line of JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Call a tool: as fast as it answers, or at a fixed rate.
    Calls(CallsFlags),
    /// Hold event streams until standard input ends, or for a time.
    Hold(HoldFlags),
    /// Hold event streams, raise updates by a tool, and tell when the last stream has each.
    Fanout(FanoutFlags),
    /// Open streams and drop them, again and again.
    Churn(ChurnFlags),
    /// Connections that call, are quiet, and call again.
    Idle(IdleFlags),
    /// Open sessions that nobody ends.
    Flood(FloodFlags),
    /// Call a slow tool and go before it answers.
    Abandon(AbandonFlags),
    /// Measure the figures of docs/benchmarks.md; `make bench` builds what it needs.
    Bench(bench::Flags),
}

#[derive(Clone, Debug, Args)]
struct Server {
    /// The endpoint; several are used in turn.
    #[arg(long = "url", value_name = "URL", required = true, value_delimiter = ',')]
    targets: Vec<Target>,

    /// The protocol's era.
    #[arg(long, value_enum, default_value = "modern")]
    era: Era,

    /// Connect from so many addresses in turn, of the loopback network or of the local cluster's client namespace: each has some 28,000 ports for one server.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = value_parser!(u8).range(1..=200))]
    sources: u8,
}

#[derive(Debug, Args)]
struct CallsFlags {
    #[command(flatten)]
    server: Server,
    /// Connections.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::builder::RangedU64ValueParser::<u64>::new().range(1..=15_000))]
    connections: u64,
    /// Seconds that are measured.
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    seconds: f64,
    /// Seconds before that.
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    warm_up: f64,
    /// Calls a second, whatever the answers do (open loop). Unset: each connection calls when it has its answer (closed loop).
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=1_000_000))]
    rate: Option<u64>,
    /// Requests sent ahead on each connection, of a closed loop.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..=64))]
    pipeline: u16,
    /// Of a hundred calls, so many are the last of their connection.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = value_parser!(u32).range(0..=100))]
    fresh: u32,
    /// Look for answers without ever sleeping, in a closed loop: then the server does not pay for waking this program. It
    /// takes the whole core
    #[arg(long, conflicts_with = "rate")]
    spin: bool,
    /// Sleep until the next call of an open loop is due, instead of watching the time on a core of its own. What that makes a
    /// call late is in its latency
    #[arg(long, requires = "rate")]
    sleep: bool,

    /// Call again at once after a 503, whatever Retry-After says.
    #[arg(long)]
    impatient: bool,
    /// The tool; it gets {"text": ...}.
    #[arg(long, value_name = "NAME", default_value = "echo")]
    tool: String,
    /// The text, instead of one of `--text-bytes`.
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Bytes of the text.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = value_parser!(u32).range(0..=1_000_000))]
    text_bytes: u32,
}

#[derive(Clone, Debug, Args)]
struct HoldFlags {
    #[command(flatten)]
    server: Server,
    /// Streams.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::builder::RangedU64ValueParser::<u64>::new().range(1..=1_000_000))]
    streams: u64,
    /// Processes that hold them; one may have as many files as its limit says.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..=64))]
    processes: u16,
    /// Streams that are opened at one time.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = value_parser!(u32).range(1..=100_000))]
    wave: u32,
    /// Look for answers without ever sleeping while streams are opened: then the server does not pay for waking this program
    #[arg(long)]
    spin: bool,
    /// One resource that all are subscribed to, instead of one each.
    #[arg(long)]
    uri: Option<String>,
    /// Never read: streams of the modern era, whose buffers fill up.
    #[arg(long)]
    mute: bool,
    /// For all streams to be open, seconds.
    #[arg(long, value_name = "N", default_value_t = 120)]
    open_within: u64,
    /// Hold them so long. Unset: until standard input ends.
    #[arg(long, value_name = "N")]
    hold_seconds: Option<u64>,
    #[arg(long, hide = true)]
    worker: bool,
    #[arg(long, hide = true, default_value_t = 0)]
    first: u64,
}

#[derive(Debug, Args)]
struct FanoutFlags {
    #[command(flatten)]
    hold: HoldFlags,
    /// The tool that raises the update; it is called at the first URL.
    #[arg(long, value_name = "NAME", default_value = "raise")]
    tool: String,
    /// Updates.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = value_parser!(u16).range(1..=10_000))]
    rounds: u16,
}

#[derive(Debug, Args)]
struct ChurnFlags {
    #[command(flatten)]
    hold: HoldFlags,
    /// How often all are opened and dropped.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = value_parser!(u16).range(1..=10_000))]
    rounds: u16,
}

#[derive(Debug, Args)]
struct IdleFlags {
    #[command(flatten)]
    server: Server,
    /// Connections.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::builder::RangedU64ValueParser::<u64>::new().range(1..=15_000))]
    connections: u64,
    /// Connections that are opened at one time.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = value_parser!(u32).range(1..=100_000))]
    wave: u32,
    /// How long they are quiet.
    #[arg(long, value_name = "SECONDS", default_value_t = 6.0)]
    quiet: f64,
    /// So many call again, one after the other, when a line comes on standard input.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    again: u64,
}

#[derive(Debug, Args)]
struct FloodFlags {
    #[command(flatten)]
    server: Server,
    /// Sessions.
    #[arg(long, value_name = "N", default_value_t = 60_000, value_parser = value_parser!(u64).range(1..=10_000_000))]
    sessions: u64,
    /// Connections at one time.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::builder::RangedU64ValueParser::<u64>::new().range(1..=15_000))]
    connections: u64,
}

#[derive(Debug, Args)]
struct AbandonFlags {
    #[command(flatten)]
    server: Server,
    /// The tool; slow, or nothing is abandoned.
    #[arg(long, value_name = "NAME", default_value = "wait")]
    tool: String,
    /// Calls.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::builder::RangedU64ValueParser::<u64>::new().range(1..=10_000_000))]
    calls: u64,
    /// Open at one time.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::builder::RangedU64ValueParser::<u64>::new().range(1..=15_000))]
    at_once: u64,
    /// From a call to the close of its connection, milliseconds.
    #[arg(long, value_name = "N", default_value_t = 20)]
    after: u64,
}

/// The longest any mode runs.
const LONGEST: Duration = Duration::from_hours(2);

fn main() -> ExitCode {
    let flags = Flags::parse();
    match run(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("mcp-load: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags) -> Result<(), String> {
    if let Some(core) = flags.core {
        pin(core)?;
    }
    let json = flags.json;
    let summary = match flags.mode {
        Mode::Calls(calls) => calls::run(&calls.plan()?)?,
        Mode::Hold(hold) => return run_hold(&hold, json),
        Mode::Fanout(flags) => {
            let (target, era) = (flags.hold.server.targets[0].clone(), flags.hold.server.era);
            let (holders, said) = flags.hold.start()?;
            eprintln!("mcp-load: {said}");
            fanout::run(holders, &target, era, &flags.tool, usize::from(flags.rounds))?
        }
        Mode::Churn(flags) => {
            let mut summary = Summary::default().with("rounds", flags.rounds);
            for round in 1..=flags.rounds {
                let (holders, said) = flags.hold.start()?;
                eprintln!("mcp-load: round {round}: {said}");
                summary = summary.with("last", holders.end()?);
            }
            summary
        }
        Mode::Idle(idle) => {
            let plan = idle::Plan {
                target: idle.server.targets[0].clone(),
                era: idle.server.era,
                sources: idle.server.sources,
                connections: size(idle.connections),
                wave: idle.wave as usize,
                quiet: seconds(idle.quiet)?,
                again: size(idle.again),
                within: LONGEST,
            };
            idle::run(&plan, &mut |said| println!("{said}"))?
        }
        Mode::Flood(flood) => {
            let target = &flood.server.targets[0];
            flood::run(target, flood.server.sources, flood.sessions, size(flood.connections), LONGEST)?
        }
        Mode::Abandon(abandon) => abandon::run(&abandon::Plan {
            target: abandon.server.targets[0].clone(),
            era: abandon.server.era,
            sources: abandon.server.sources,
            tool: abandon.tool,
            calls: size(abandon.calls),
            at_once: size(abandon.at_once),
            after: Duration::from_millis(abandon.after),
            within: LONGEST,
        })?,
        Mode::Bench(flags) => return bench::run(&flags),
    };
    summary.print(json);
    Ok(())
}

fn run_hold(hold: &HoldFlags, json: bool) -> Result<(), String> {
    if hold.worker || hold.processes == 1 {
        let mut speak = |said| {
            if json || hold.worker {
                println!("{said}");
            } else {
                eprintln!("mcp-load: {said}");
            }
        };
        hold::run(&hold.plan()?, &mut speak)?.print(json || hold.worker);
        return Ok(());
    }
    let (holders, said) = hold.start()?;
    println!("{said}");
    match hold.hold_seconds {
        Some(span) => std::thread::sleep(Duration::from_secs(span)),
        None => drop(std::io::stdin().read_line(&mut String::new())),
    }
    println!("{}", holders.end()?);
    Ok(())
}

/// Keeps this process, and those it starts, on one core.
fn pin(core: usize) -> Result<(), String> {
    let mut cores = CpuSet::new();
    cores.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &cores)).map_err(|error| format!("core {core}: {error}"))
}

fn seconds(span: f64) -> Result<Duration, String> {
    let span = Duration::try_from_secs_f64(span).map_err(|error| format!("{span} seconds: {error}"))?;
    if span > LONGEST { Err(format!("{span:?} is more than {LONGEST:?}")) } else { Ok(span) }
}

fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

// === impl CallsFlags ===

impl CallsFlags {
    fn plan(self) -> Result<calls::Plan, String> {
        Ok(calls::Plan {
            targets: self.server.targets,
            era: self.server.era,
            sources: self.server.sources,
            connections: size(self.connections),
            tool: self.tool,
            text: self.text.unwrap_or_else(|| "x".repeat(self.text_bytes as usize)),
            warm_up: seconds(self.warm_up)?,
            span: seconds(self.seconds)?,
            rate: self.rate,
            pipeline: usize::from(self.pipeline),
            fresh: self.fresh,
            spins: self.spin,
            sleeps: self.sleep,
            honors_retry_after: !self.impatient,
        })
    }
}

// === impl HoldFlags ===

impl HoldFlags {
    fn plan(&self) -> Result<hold::Plan, String> {
        if self.mute && self.server.era == Era::Legacy {
            return Err("--mute is of the modern era: a session cannot be opened without reading its id".to_owned());
        }
        Ok(hold::Plan {
            targets: self.server.targets.clone(),
            era: self.server.era,
            sources: self.server.sources,
            streams: size(self.streams),
            first: size(self.first),
            wave: self.wave as usize,
            spins: self.spin,
            uri: self.uri.clone(),
            mute: self.mute,
            open_within: Duration::from_secs(self.open_within),
            hold_for: self.hold_seconds.map(Duration::from_secs),
        })
    }

    /// As the arguments of a worker, without its share.
    fn arguments(&self) -> Vec<String> {
        let urls: Vec<_> = self.server.targets.iter().map(|target| format!("http://{}{}", target.address, target.path)).collect();
        let mut arguments = vec![
            "hold".to_owned(),
            format!("--url={}", urls.join(",")),
            format!("--era={}", self.server.era.name()),
            format!("--sources={}", self.server.sources),
            format!("--wave={}", self.wave),
            format!("--open-within={}", self.open_within),
        ];
        arguments.extend(self.uri.iter().map(|uri| format!("--uri={uri}")));
        let switches = [(self.mute, "--mute"), (self.spin, "--spin")];
        arguments.extend(switches.into_iter().filter(|(is_on, _)| *is_on).map(|(_, name)| name.to_owned()));
        arguments
    }

    fn start(&self) -> Result<(Holders, serde_json::Value), String> {
        self.plan()?;
        Holders::start(&self.arguments(), size(self.streams), usize::from(self.processes))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Flags::command().debug_assert();
    }

    #[test]
    fn a_worker_is_started_with_the_same_plan() {
        let urls = "--url=http://127.0.0.1:1/mcp,http://[::1]:2/x";
        let flags = Flags::parse_from(["mcp-load", "hold", urls, "--mute", "--spin", "--uri=a:b"]);
        let Mode::Hold(hold) = flags.mode else { panic!() };
        let mut arguments = vec!["mcp-load".to_owned()];
        arguments.extend(hold.arguments());
        let Mode::Hold(again) = Flags::parse_from(arguments).mode else { panic!() };
        assert_eq!(format!("{:?}", again.plan().unwrap()), format!("{:?}", hold.plan().unwrap()));
    }

    #[test]
    fn an_address_outside_is_refused_before_anything_is_sent() {
        assert!(Flags::try_parse_from(["mcp-load", "calls", "--url=http://93.184.215.14:80/"]).is_err());
    }
}
