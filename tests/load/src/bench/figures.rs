//! What one server does: calls, streams, idle connections, one function for each group. Servers take turns, so that what the
//! machine does meanwhile is in all of them.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::plot::{Axes, Line, svg};
use super::server::{Kind, Needs, Server, load, measure};
use super::table::{Figure, Goal};
use crate::request::Era;

/// Where a rate or single connections are measured, so many are opened at one time: who finds the queue of a listener full tries again after a
/// second, and the shortest of them is full of 500.
const WAVE: &str = "--wave=100";

/// Memory is read when the process has been quiet for a moment.
pub(super) const SETTLE: Duration = Duration::from_millis(1500);

/// How much is measured.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    pub(super) pairs: usize,
    /// Seconds of one sample of calls.
    pub(super) seconds: f64,
    pub(super) streams: usize,
    /// Pairs of what takes long: memory, idle connections, floods.
    pub(super) few: usize,
    pub(super) sessions: usize,
    pub(super) abandoned: usize,
    pub(super) mute_seconds: u64,
    pub(super) overload_seconds: u64,
    /// Of the group `hundred`.
    pub(super) many: Many,
}

/// Streams over six shards, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Many {
    pub(super) streams: usize,
    pub(super) seconds: u64,
}

/// Where things are, and what was measured.
#[derive(Debug)]
pub(super) struct Lab {
    pub(super) binaries: PathBuf,
    pub(super) scratch: tempfile::TempDir,
    pub(super) scale: Scale,
    pub(super) figures: Vec<Figure>,
    pub(super) raw: Vec<Value>,
    pub(super) plots: Option<PathBuf>,
    /// Kept for `plots`.
    pub(super) notes: String,
}

pub(super) const ERAS: [Era; 2] = [Era::Modern, Era::Legacy];

impl Lab {
    pub(super) fn start(&self, kind: Kind) -> Result<Server, String> {
        self.start_with(kind, Needs::default())
    }

    pub(super) fn start_with(&self, kind: Kind, needs: Needs) -> Result<Server, String> {
        Server::start(kind, needs, &self.binaries, self.scratch.path())
    }

    fn three(&self) -> Result<[Server; 3], String> {
        Ok([self.start(Kind::Ours(1))?, self.start(Kind::Hyper)?, self.start(Kind::Sdk)?])
    }

    pub(super) fn add(&mut self, figure: Figure) {
        eprintln!("{}", super::table::table(std::slice::from_ref(&figure)).lines().nth(2).unwrap_or_default());
        self.figures.push(figure);
    }
}

/// Which server begins changes from pair to pair.
pub(super) fn order<T>(items: &[T], pair: usize) -> impl Iterator<Item = (usize, &T)> {
    (0..items.len()).map(move |n| (n + pair) % items.len()).map(move |n| (n, &items[n]))
}

pub(super) fn samples(figure: &mut Figure, server: usize) -> &mut Vec<f64> {
    match server {
        0 => &mut figure.ours,
        1 => &mut figure.hyper,
        _ => &mut figure.sdk,
    }
}

pub(super) fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// CPU per call, calls per second, and p99 of saturation.
pub(super) fn calls(lab: &mut Lab) -> Result<(), String> {
    let servers = lab.three()?;
    for era in ERAS {
        for connections in [32, 256] {
            let of = format!("{}, {connections} connections", era.name());
            let mut cpu = Figure::new(format!("CPU per tools/call, {of}"), "µs", Goal::AtMostTimes(1.33));
            let mut rate = Figure::new(format!("calls per second, {of}"), "1/s", Goal::AtLeastTimes(0.75));
            let goal = if connections == 256 { Goal::AtMostTimes(2.0) } else { Goal::None };
            let mut p99 = Figure::new(format!("p99 saturated, {of}"), "µs", goal);
            let mut bodies = [0.0; 3];
            for pair in 0..lab.scale.pairs {
                for (n, server) in order(&servers, pair) {
                    let before = server.cpu();
                    let said = measure(
                        &[
                            "calls",
                            &format!("--url={}", server.urls[0]),
                            &format!("--era={}", era.name()),
                            &format!("--connections={connections}"),
                            &format!("--seconds={}", lab.scale.seconds),
                            "--warm-up=0.2",
                            "--spin",
                        ],
                        "good",
                    )?;
                    let spent = server.cpu().saturating_sub(before);
                    if said["errors"] != 0 || said["lost"] != 0 {
                        return Err(format!("{}: {said}", server.kind.name()));
                    }
                    samples(&mut cpu, n).push(spent.as_secs_f64() * 1e6 / number(&said, "/answers"));
                    samples(&mut rate, n).push(number(&said, "/per_second"));
                    samples(&mut p99, n).push(number(&said, "/latency_us/p99"));
                    bodies[n] = number(&said, "/body_bytes");
                    lab.raw.push(json!({ "figure": of, "server": server.kind.name(), "pair": pair, "cpu_s": spent.as_secs_f64(), "said": said }));
                }
            }
            cpu.note = format!("bodies {} / {} / {} B", bodies[0], bodies[1], bodies[2]);
            lab.add(cpu);
            lab.add(rate);
            lab.add(p99);
        }
    }
    Ok(())
}

pub(super) fn holding(server: &Server, era: Era, streams: usize) -> [String; 4] {
    [
        "hold".to_owned(),
        format!("--url={}", server.urls.join(",")),
        format!("--era={}", era.name()),
        format!("--streams={streams}"),
    ]
}

pub(super) fn hold(arguments: &[String]) -> Result<(crate::processes::Worker, Value), String> {
    let mut worker = load(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
    let said = worker.hear("held")?;
    Ok((worker, said))
}

/// Latency at 2,000 calls a second while streams are held.
pub(super) fn open_loop(lab: &mut Lab) -> Result<(), String> {
    let servers = lab.three()?;
    let streams = lab.scale.streams;
    let mut holders = Vec::new();
    for server in &servers {
        holders.push(hold(&holding(server, Era::Modern, streams))?.0);
    }
    let of = format!("2,000 calls/s open loop, {streams} streams held");
    let mut figures = ["p50", "p95", "p99"].map(|quantile| {
        let goal = if quantile == "p50" { Goal::None } else { Goal::AtMostTimes(2.0) };
        Figure::new(format!("{quantile}, {of}"), "µs", goal)
    });
    for pair in 0..lab.scale.pairs {
        for (n, server) in order(&servers, pair) {
            let said = open_calls(server, 2000, lab.scale.seconds.max(1.0) * 1.5)?;
            for (figure, path) in figures.iter_mut().zip(["/latency_us/p50", "/latency_us/p95", "/latency_us/p99"]) {
                samples(figure, n).push(number(&said, path));
            }
            lab.raw.push(json!({ "figure": of, "server": server.kind.name(), "pair": pair, "said": said }));
        }
    }
    for holder in &mut holders {
        let end = holder.end("end")?;
        if end["ended_by_server"] != 0 {
            figures[0].note = format!("{} streams were ended", end["ended_by_server"]);
        }
    }
    for figure in figures {
        lab.add(figure);
    }
    if lab.plots.is_some() {
        latency_plot(lab, &servers)?;
    }
    Ok(())
}

pub(super) fn open_calls(server: &Server, rate: usize, seconds: f64) -> Result<Value, String> {
    measure(
        &[
            "calls",
            &format!("--url={}", server.urls[0]),
            "--connections=64",
            &format!("--rate={rate}"),
            &format!("--seconds={seconds}"),
            "--warm-up=0.3",
        ],
        "good",
    )
}

fn latency_plot(lab: &mut Lab, servers: &[Server; 3]) -> Result<(), String> {
    let mut lines: Vec<_> = servers.iter().map(|server| Line { name: server.kind.name(), points: vec![] }).collect();
    for rate in [1000, 5000, 10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 70_000] {
        for (line, server) in lines.iter_mut().zip(servers) {
            // Past saturation a line only says how long it was measured.
            if line.points.last().is_some_and(|(_, p99)| *p99 > 50_000.0) {
                continue;
            }
            let said = open_calls(server, rate, lab.scale.seconds)?;
            line.points.push((rate as f64, number(&said, "/latency_us/p99")));
            lab.raw.push(json!({ "plot": "latency", "server": line.name, "rate": rate, "said": said }));
        }
    }
    let title = format!("p99 of tools/call, open loop, 64 connections ({})", lab.notes);
    let axes = Axes { title: &title, x: "calls per second, as scheduled", y: "p99, µs", log: true };
    lab.write_plot("latency-against-load.svg", &svg(axes, &lines))
}

/// What one held stream takes, and how fast streams are opened.
pub(super) fn streams(lab: &mut Lab) -> Result<(), String> {
    let count = lab.scale.streams;
    let mut bytes = Figure::new(format!("RSS per held modern stream, {count} of them"), "B", Goal::AtMost(512.0));
    bytes.note = String::from("growth from before the first connection, each stream's connection having served a call");
    for pair in 0..lab.scale.few {
        for (n, kind) in order(&[Kind::Ours(1), Kind::Hyper, Kind::Sdk], pair) {
            let (grown, said) = grown(lab, *kind, Era::Modern, count)?;
            samples(&mut bytes, n).push(grown as f64 / count as f64);
            lab.raw.push(json!({ "figure": "streams", "server": kind.name(), "pair": pair, "rss_growth": grown, "said": said }));
        }
    }
    lab.add(bytes);
    opened(lab, Era::Modern, Kind::Ours(1))?;
    if lab.plots.is_some() {
        memory_plot(lab)?;
    }
    Ok(())
}

/// How fast streams are opened, by new processes. Several shards are asked over two connections for each stream, and so are
/// those they are compared with.
fn opened(lab: &mut Lab, era: Era, ours: Kind) -> Result<(), String> {
    let mut rate = Figure::new(format!("{} streams opened per second", era.name()), "1/s", Goal::AtLeastTimes(0.7));
    let is_split = matches!(ours, Kind::Ours(2..));
    if is_split {
        rate.name += ", each over two connections";
        rate.note = String::from("ours: six shards on one core; the others: one process");
    }
    for pair in 0..lab.scale.few {
        for (n, kind) in order(&[ours, Kind::Hyper, Kind::Sdk], pair) {
            let mut server = lab.start(*kind)?;
            if is_split && server.urls.len() == 1 {
                server.urls.extend_from_within(..);
            }
            let mut arguments = holding(&server, era, lab.scale.streams).to_vec();
            arguments.extend([WAVE.to_owned(), "--spin".to_owned()]);
            let (mut holder, said) = hold(&arguments)?;
            holder.end("end")?;
            samples(&mut rate, n).push(number(&said, "/per_second"));
            lab.raw.push(json!({ "figure": rate.name, "server": kind.name(), "pair": pair, "said": said }));
        }
    }
    lab.add(rate);
    Ok(())
}

/// Growth of RSS by held streams, of a new process.
fn grown(lab: &Lab, kind: Kind, era: Era, count: usize) -> Result<(u64, Value), String> {
    let server = lab.start(kind)?;
    sleep(Duration::from_millis(300));
    let before = server.rss();
    let (mut holder, said) = hold(&holding(&server, era, count))?;
    sleep(SETTLE);
    let after = server.rss();
    holder.end("end")?;
    Ok((after.saturating_sub(before), said))
}

fn memory_plot(lab: &mut Lab) -> Result<(), String> {
    let mut lines = Vec::new();
    for kind in [Kind::Ours(1), Kind::Hyper, Kind::Sdk] {
        let mut points = vec![(0.0, 0.0)];
        for count in [2000, 5000, 10_000, 15_000] {
            let (grown, _) = grown(lab, kind, Era::Modern, count)?;
            points.push((count as f64, grown as f64 / f64::from(1 << 20)));
        }
        lab.raw.push(json!({ "plot": "memory", "server": kind.name(), "points": points }));
        lines.push(Line { name: kind.name(), points });
    }
    let title = format!("Growth of RSS by held modern streams ({})", lab.notes);
    let axes = Axes { title: &title, x: "held streams", y: "MiB", log: false };
    lab.write_plot("memory-against-streams.svg", &svg(axes, &lines))
}

/// The same of the legacy era: six shards of ours, each next request of a session to another.
pub(super) fn legacy_streams(lab: &mut Lab) -> Result<(), String> {
    let count = lab.scale.streams;
    let mut bytes = Figure::new(format!("RSS per held legacy stream, {count} of them"), "B", Goal::AtMost(1024.0));
    bytes.note = String::from("ours: six shards, summed; the others: one process");
    for pair in 0..lab.scale.few {
        for (n, kind) in order(&[Kind::Ours(6), Kind::Hyper, Kind::Sdk], pair) {
            let (grown, said) = grown(lab, *kind, Era::Legacy, count)?;
            samples(&mut bytes, n).push(grown as f64 / count as f64);
            lab.raw.push(json!({ "figure": "legacy", "server": kind.name(), "pair": pair, "rss_growth": grown, "said": said }));
        }
    }
    lab.add(bytes);
    opened(lab, Era::Legacy, Kind::Ours(1))?;
    opened(lab, Era::Legacy, Kind::Ours(6))
}

/// A connection that has called, and is quiet.
pub(super) fn idle(lab: &mut Lab) -> Result<(), String> {
    let count = lab.scale.streams.min(10_000);
    let mut bytes =
        Figure::new(format!("RSS per idle keep-alive connection, {count} of them, after 6 s"), "B", Goal::AtMost(1024.0));
    let mut call = Figure::new("its next call, p50", "µs", Goal::AtMostMore(1000.0));
    for pair in 0..lab.scale.few {
        for (n, kind) in order(&[Kind::Ours(1), Kind::Hyper, Kind::Sdk], pair) {
            let server = lab.start(*kind)?;
            sleep(Duration::from_millis(300));
            let before = server.rss();
            let mut worker = load(&["idle", &format!("--url={}", server.urls[0]), &format!("--connections={count}"), WAVE])?;
            worker.hear("idle")?;
            let grown = server.rss().saturating_sub(before);
            worker.tell("again");
            let said = worker.hear("next_call_us")?;
            samples(&mut bytes, n).push(grown as f64 / count as f64);
            samples(&mut call, n).push(number(&said, "/next_call_us/p50"));
            lab.raw.push(json!({ "figure": "idle", "server": kind.name(), "pair": pair, "rss_growth": grown, "said": said }));
        }
    }
    lab.add(bytes);
    lab.add(call);
    Ok(())
}

impl Lab {
    fn write_plot(&self, name: &str, text: &str) -> Result<(), String> {
        let Some(folder) = &self.plots else { return Ok(()) };
        let path = folder.join(name);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|error| format!("{}: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_begins_in_turn() {
        let firsts: Vec<_> = (0..3).map(|pair| order(&["a", "b", "c"], pair).next().unwrap().0).collect();
        assert_eq!(firsts, [0, 1, 2]);
        assert_eq!(order(&["a", "b"], 7).count(), 2);
    }
}
