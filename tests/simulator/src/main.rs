//! `mcp-simulate`: traces under the operator's decisions and under the stock autoscalers, and what each cost.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand, ValueEnum};
use mcp_simulator::policy::Name;
use mcp_simulator::run::{self, Outcome};
use mcp_simulator::trace::{self, Trace};
use mcp_simulator::world::Placement;
use mcp_simulator::{bench, plot, table};

/// Traffic that the operator's own decisions meet, second by second, and the stock autoscalers beside them.
#[derive(Parser)]
#[command(name = "mcp-simulate", version)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run trace files, and print the table: policy by trace.
    Run(Run),
    /// Run traces drawn from seeds, and check what every decision must hold; fails when one does not.
    Random {
        /// How many traces.
        #[arg(long, default_value_t = 200)]
        count: u64,
        /// The first seed; `random` draws it from the clock.
        #[arg(long, default_value = "1")]
        from: String,
        /// Print a trace as YAML instead of running it: to keep one that failed.
        #[arg(long)]
        show: Option<u64>,
    },
    /// Measure how long one decision takes.
    BenchDecide {
        /// Shards of the cluster.
        #[arg(long, default_value_t = 1000)]
        shards: u32,
        /// Decisions.
        #[arg(long, default_value_t = 2000)]
        times: usize,
    },
    /// Measure how long a day of constant load takes to simulate.
    BenchDay {
        /// Shards of the cluster.
        #[arg(long, default_value_t = 1000)]
        shards: u32,
    },
}

#[derive(clap::Args)]
struct Run {
    /// A trace file, or a folder of them.
    #[arg(default_value = "tests/traces")]
    traces: PathBuf,
    /// Seeds 1 to this.
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// Only this policy; may be given again.
    #[arg(long)]
    policy: Vec<PolicyName>,
    /// How the Service picks an endpoint: at random, as kube-proxy does, or the one with the fewest connections.
    #[arg(long, default_value = "random")]
    placement: PlacementName,
    /// Write everything to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write a picture of each trace to this folder.
    #[arg(long)]
    plots: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum PolicyName {
    Ours,
    Hpa,
    Kpa,
}

#[derive(Clone, Copy, ValueEnum)]
enum PlacementName {
    Random,
    LeastLoaded,
}

fn main() -> ExitCode {
    match Flags::parse().command {
        Command::Run(flags) => finish(compare(&flags)),
        Command::Random { count, from, show } => finish(random(count, &from, show)),
        Command::BenchDecide { shards, times } => finish(bench_decide(shards, times)),
        Command::BenchDay { shards } => finish(bench_day(shards)),
    }
}

fn finish(result: Result<bool, Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mcp-simulate: {error}");
            ExitCode::from(2)
        }
    }
}

/// Prints the table; false when a property did not hold.
fn compare(flags: &Run) -> Result<bool, Box<dyn Error>> {
    let policies: Vec<_> = match flags.policy.as_slice() {
        [] => Name::ALL.to_vec(),
        chosen => chosen.iter().map(|name| (*name).into()).collect(),
    };
    let seeds: Vec<_> = (1..=flags.seeds.max(1)).collect();
    // Now, and not when minutes of work would be lost with them.
    for folder in flags.json.as_deref().and_then(Path::parent).into_iter().chain(flags.plots.as_deref()) {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let mut outcomes = vec![];
    for trace in Trace::read(&flags.traces)? {
        let trace = Arc::new(trace);
        for policy in &policies {
            eprintln!("{} {}", trace.name, policy.as_str());
            outcomes.push(run::outcome(&trace, *policy, &seeds, flags.placement.into()));
        }
    }
    print!("{}", table::text(&outcomes));
    let verdicts = table::verdicts(&outcomes);
    println!();
    for verdict in &verdicts {
        println!("{}", table::line(verdict));
    }
    if let Some(path) = &flags.json {
        write(path, &serde_json::to_string_pretty(&serde_json::json!({"outcomes": outcomes, "verdicts": verdicts}))?)?;
    }
    if let Some(folder) = &flags.plots {
        for of in outcomes.chunk_by(|one, next| one.trace == next.trace) {
            write(&folder.join(format!("{}.svg", of[0].trace)), &plot::svg(&of.iter().collect::<Vec<_>>()))?;
        }
    }
    Ok(report_broken(&outcomes))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn report_broken(outcomes: &[Outcome]) -> bool {
    let broken = outcomes.iter().flat_map(|outcome| &outcome.broken);
    let mut held = true;
    for (seed, what) in broken {
        held = false;
        eprintln!("seed {seed}: {what}");
    }
    held
}

/// Runs drawn traces under ours; false when a property did not hold, or a shard was killed for memory.
fn random(count: u64, from: &str, show: Option<u64>) -> Result<bool, Box<dyn Error>> {
    if let Some(seed) = show {
        print!("{}", serde_yaml::to_string(&trace::random::draw(seed))?);
        return Ok(true);
    }
    let from = match from {
        "random" => std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() * 1000,
        number => number.parse().map_err(|_| format!("--from {number:?}: a number, or `random`"))?,
    };
    let mut failed = 0;
    for seed in from..from + count {
        let problem = match run::run(&Arc::new(trace::random::draw(seed)), Name::Ours, seed, Placement::Random) {
            Ok(score) if score.oom_kills == 0 => continue,
            Ok(score) => format!("{} kills for memory", score.oom_kills),
            Err(broken) => broken,
        };
        failed += 1;
        println!("seed {seed}: {problem}");
    }
    println!("{count} traces from seed {from}: {failed} failed");
    Ok(failed == 0)
}

fn bench_decide(shards: u32, times: usize) -> Result<bool, Box<dyn Error>> {
    let taken = bench::decide(shards, times)?;
    println!("decide, {shards} shards: median {:?}, p99 {:?} of {times}", taken.median, taken.p99);
    Ok(true)
}

fn bench_day(shards: u32) -> Result<bool, Box<dyn Error>> {
    let begun = std::time::Instant::now();
    run::run(&Arc::new(bench::constant(shards, 86_400)), Name::Ours, 1, Placement::Random)?;
    println!("a day of {shards} shards: {:.1} s", begun.elapsed().as_secs_f64());
    Ok(true)
}

impl From<PolicyName> for Name {
    fn from(name: PolicyName) -> Self {
        match name {
            PolicyName::Ours => Self::Ours,
            PolicyName::Hpa => Self::Hpa,
            PolicyName::Kpa => Self::Kpa,
        }
    }
}

impl From<PlacementName> for Placement {
    fn from(name: PlacementName) -> Self {
        match name {
            PlacementName::Random => Self::Random,
            PlacementName::LeastLoaded => Self::LeastLoaded,
        }
    }
}
