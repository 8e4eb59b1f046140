//! The figures of docs/benchmarks.md: servers in turn, pairs, medians, goals.
//!
//! ```text
//! figures   calls, streams, idle connections         hostile   sessions, calls and peers that are left alone
//! overload  ten times what a shard may do            fan       one update to all streams
//! hundred   100,000 streams over six small shards    server    ours, hyper, the SDK: started on one core
//! proc      CPU and memory, as the kernel counts     table     samples → medians, ratios, goals
//! plot      lines as SVG
//! ```

mod fan;
mod figures;
mod hostile;
mod hundred;
mod overload;
mod plot;
mod proc;
mod server;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use clap::Args;
use figures::{Lab, Many, Scale};
use serde_json::json;

use crate::pin;

/// A group of figures, by the name that `--only` takes.
type Measure = fn(&mut Lab) -> Result<(), String>;
const ALL: [(&str, Measure); 11] = [
    ("calls", figures::calls),
    ("open", figures::open_loop),
    ("streams", figures::streams),
    ("legacy", figures::legacy_streams),
    ("idle", figures::idle),
    ("initialize", hostile::initialize),
    ("abandoned", hostile::abandoned),
    ("mute", hostile::mute),
    ("fanout", fan::fan_out),
    ("overload", overload::overload),
    ("hundred", hundred::hundred),
];

/// What is measured, and with what.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Folder of the binaries: mcp-server, fleet, baseline-hyper, baseline-rmcp, baseline-writes, baseline-ours.
    #[arg(long, value_name = "DIR", default_value = "target/release")]
    binaries: PathBuf,

    /// Only these groups: calls, open, streams, legacy, idle, initialize, abandoned, mute, fanout, overload, hundred.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,

    /// Pairs of samples; the default of 9 is what docs/benchmarks.md is made of.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=99))]
    pairs: u16,

    /// Pairs of what takes long: memory, idle connections, floods.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=99))]
    few: u16,

    /// Seconds of a sample of calls.
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    seconds: f64,

    /// Streams that are held.
    #[arg(long, value_name = "N", default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    streams: u32,

    /// Streams of the group `hundred`, over six shards.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=110_000))]
    hundred_streams: u32,

    /// Seconds of calls in the group `hundred`.
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u16).range(5..=3600))]
    hundred_seconds: u16,

    /// See whether it works: few and short samples that prove nothing.
    #[arg(long)]
    quick: bool,

    /// Folder for the results, as JSON and as a table.
    #[arg(long, value_name = "DIR", default_value = ".cache/bench")]
    out: PathBuf,

    /// Folder for plots; without it none is drawn.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

/// Measures, prints the table, and writes the results.
pub(crate) fn run(flags: &Flags) -> Result<(), String> {
    if let Some(unknown) = flags.only.iter().find(|name| !ALL.iter().any(|(known, _)| known == name)) {
        let names: Vec<_> = ALL.iter().map(|(name, _)| *name).collect();
        return Err(format!("--only {unknown}: there are {}", names.join(", ")));
    }
    pin(server::CORES.1).map_err(|why| format!("two cores are needed, one for the server and one for the load: {why}"))?;
    let commit = said(&["git", "describe", "--always", "--dirty"]);
    let mut lab = Lab {
        binaries: fs::canonicalize(&flags.binaries).map_err(|error| format!("{}: {error}", flags.binaries.display()))?,
        scratch: tempfile::TempDir::new().map_err(|error| error.to_string())?,
        scale: scale(flags),
        figures: Vec::new(),
        raw: Vec::new(),
        plots: flags.plots.clone(),
        notes: format!("commit {commit}"),
    };
    let start = Instant::now();
    let mut failed = Vec::new();
    for (name, measure) in ALL {
        if !flags.only.is_empty() && !flags.only.iter().any(|only| only == name) {
            continue;
        }
        eprintln!("mcp-load: {name}, {:.0} s after the start", start.elapsed().as_secs_f64());
        // One that fails does not take the others with it.
        if let Err(why) = measure(&mut lab) {
            eprintln!("mcp-load: {name}: {why}");
            failed.push(format!("{name}: {why}"));
        }
        // After each: what was measured for half an hour is not lost to what comes after it.
        write_down(&lab, &commit, &failed, start, &flags.out)?;
    }
    println!("{}", table::table(&lab.figures));
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

/// Writes what there is so far.
fn write_down(lab: &Lab, commit: &str, failed: &[String], start: Instant, out: &Path) -> Result<(), String> {
    let results = json!({
        "commit": commit,
        "machine": machine(),
        "load_average": fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
        "scale": format!("{:?}", lab.scale),
        "seconds": start.elapsed().as_secs_f64(),
        "figures": lab.figures.iter().map(table::Figure::json).collect::<Vec<_>>(),
        "failed": failed,
        "samples": lab.raw,
    });
    let write = |name: &str, text: &str| fs::write(out.join(name), text);
    fs::create_dir_all(out)
        .and_then(|()| write("results.json", &format!("{results:#}\n")))
        .and_then(|()| write("table.md", &format!("{}\n", table::table(&lab.figures))))
        .map_err(|error| format!("{}: {error}", out.display()))
}

fn scale(flags: &Flags) -> Scale {
    if flags.quick {
        return Scale {
            pairs: 2,
            seconds: 0.5,
            streams: 2000,
            few: 1,
            sessions: 5000,
            abandoned: 2000,
            mute_seconds: 6,
            overload_seconds: 5,
            many: Many { streams: 6000, seconds: 8 },
        };
    }
    Scale {
        pairs: usize::from(flags.pairs),
        seconds: flags.seconds,
        streams: flags.streams as usize,
        few: usize::from(flags.few),
        sessions: 60_000,
        abandoned: 30_000,
        mute_seconds: 60,
        overload_seconds: 60,
        many: Many { streams: flags.hundred_streams as usize, seconds: u64::from(flags.hundred_seconds) },
    }
}

/// The processor, the kernel and the limit of files.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1)).unwrap_or("unknown").to_owned();
    // Those of the machine: this process has pinned itself to one.
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    format!("{model}, {cores} cores, Linux {}", said(&["uname", "-r"]))
}

fn said(command: &[&str]) -> String {
    let [program, arguments @ ..] = command else { return String::new() };
    let output = Command::new(program).args(arguments).output();
    output.map_or("unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
