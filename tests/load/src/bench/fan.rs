//! One update to all streams over six shards, and over as many loops that write the same bytes to the same number of sockets.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::figures::{Lab, number, order};
use super::server::{CORES, Kind, Server, load};
use super::table::{Figure, Goal};
use crate::fanout::{Holders, round};
use crate::request::Era;
use crate::target::Target;

pub(super) const SHARDS: usize = 6;
/// The resource all are subscribed to: `mcp_baseline::RAISED`.
const WATCHED: &str = "bench://watched";
/// Calls a second meanwhile, over all shards.
pub(super) const CALLS: u32 = 5000;
/// A process of the load may have so many streams: its files are limited to 20,000.
const OF_ONE_PROCESS: usize = 14_000;
/// From one update to the next, while calls go on.
const APART: Duration = Duration::from_secs(1);

/// What one server did with some updates.
#[derive(Debug, Default)]
pub(super) struct Fan {
    /// From the raise to the last delivery, µs.
    to_last: Vec<f64>,
    /// CPU of all processes, µs.
    cpu: Vec<f64>,
    /// From the raise to the last delivery while calls go on, µs.
    among_calls: Vec<f64>,
    /// What the calls took meanwhile, of each turn.
    calls: Vec<Value>,
    missed: u64,
}

/// Streams of the modern era that all have the same resource.
pub(super) fn watching(server: &Server, streams: usize) -> Result<Holders, String> {
    let arguments = [
        "hold".to_owned(),
        format!("--url={}", server.urls.join(",")),
        format!("--uri={WATCHED}"),
        "--open-within=600".to_owned(),
        "--sources=16".to_owned(),
        format!("--core={}", CORES.1),
    ];
    let (holders, said) = Holders::start(&arguments, streams, streams.div_ceil(OF_ONE_PROCESS))?;
    eprintln!("mcp-load: {}: {said}", server.kind.name());
    Ok(holders)
}

/// Calls over all shards, for a time.
pub(super) fn calling(server: &Server, seconds: u64) -> Result<crate::processes::Worker, String> {
    load(&[
        "calls",
        &format!("--url={}", server.urls.join(",")),
        &format!("--rate={CALLS}"),
        "--connections=96",
        "--warm-up=1",
        // Those that hold the streams read their events on the same core.
        "--sleep",
        &format!("--seconds={seconds}"),
    ])
}

impl Fan {
    /// Some updates to streams that are held, each raised at one shard alone; each of several loops is told by itself.
    pub(super) fn of(server: &Server, holders: &mut Holders, rounds: usize) -> Result<Self, String> {
        let targets = server.urls.iter().map(|url| url.parse()).collect::<Result<Vec<Target>, _>>()?;
        let raise_at = if matches!(server.kind, Kind::Writes(_)) { &targets[..] } else { &targets[..1] };
        let mut fan = Self::default();
        for _ in 0..rounds {
            let before = server.cpu();
            let done = round(holders, raise_at, Era::Modern, "raise")?;
            fan.cpu.push(server.cpu().saturating_sub(before).as_secs_f64() * 1e6);
            fan.to_last.push(done.took.as_secs_f64() * 1e6);
            fan.missed += done.wanted - done.reached;
        }
        let mut calls = calling(server, rounds as u64 + 2)?;
        sleep(Duration::from_secs(2));
        for _ in 0..rounds {
            let began = Instant::now();
            let done = round(holders, raise_at, Era::Modern, "raise")?;
            fan.among_calls.push(done.took.as_secs_f64() * 1e6);
            fan.missed += done.wanted - done.reached;
            sleep(APART.saturating_sub(began.elapsed()));
        }
        fan.calls.push(calls.hear("good")?);
        Ok(fan)
    }

    /// With another turn.
    fn add(&mut self, more: Self) {
        self.to_last.extend(more.to_last);
        self.cpu.extend(more.cpu);
        self.among_calls.extend(more.among_calls);
        self.calls.extend(more.calls);
        self.missed += more.missed;
    }

    /// As rows: ours, and the loops.
    pub(super) fn figures(ours: Self, loops: Self, streams: usize, lab: &mut Lab) {
        lab.raw
            .push(json!({ "figure": "fanout", "streams": streams, "ours": format!("{ours:?}"), "loops": format!("{loops:?}") }));
        let of = format!("one update to {streams} streams");
        let figure = |name: String, goal, ours, hyper| Figure { ours, hyper, ..Figure::new(name, "µs", goal) };
        let p95 = |fan: &Self| fan.calls.iter().map(|calls| number(calls, "/latency_us/p95")).collect();
        let (our_p95, loops_p95) = (p95(&ours), p95(&loops));
        let failures = ["/errors", "/lost", "/unanswered", "/refused_503", "/limited_429"];
        let bad: f64 = ours.calls.iter().flat_map(|calls| failures.map(|path| number(calls, path))).sum();
        let mut rows = [
            figure(format!("{of}: raise to last delivery"), Goal::AtMostTimes(1.5), ours.to_last, loops.to_last),
            figure(format!("{of}: CPU of all shards"), Goal::AtMostTimes(1.5), ours.cpu, loops.cpu),
            figure(format!("{of}, {CALLS} calls/s meanwhile"), Goal::AtMostTimes(1.5), ours.among_calls, loops.among_calls),
            figure(format!("p95 of {CALLS} calls/s meanwhile"), Goal::AtMost(10_000.0), our_p95, loops_p95),
        ];
        rows[0].note =
            format!("ours: {SHARDS} shards; hyper's column: {SHARDS} loops that only write; not delivered: {}", ours.missed);
        rows[3].note = format!("one update a second; calls that failed: {bad}");
        for row in rows {
            lab.add(row);
        }
    }
}

/// At the size of the other groups: both hold at the same time, and take turns.
pub(super) fn fan_out(lab: &mut Lab) -> Result<(), String> {
    let (streams, rounds) = (lab.scale.streams, lab.scale.pairs);
    let servers = [lab.start(Kind::OursWithTools(SHARDS))?, lab.start(Kind::Writes(SHARDS))?];
    let mut holders = [watching(&servers[0], streams)?, watching(&servers[1], streams)?];
    let mut fans = [Fan::default(), Fan::default()];
    // Three turns: what the machine does meanwhile is in both.
    for turn in 0..3 {
        for (n, server) in order(&servers, turn) {
            let more = Fan::of(server, &mut holders[n], rounds.div_ceil(3))?;
            fans[n].add(more);
        }
    }
    for holders in holders {
        holders.end()?;
    }
    drop(servers);
    let [ours, loops] = fans;
    Fan::figures(ours, loops, streams, lab);
    alone(lab)
}

/// The same calls of one shard, which holds all streams and shares its core with nobody.
fn alone(lab: &mut Lab) -> Result<(), String> {
    let (streams, rounds) = (lab.scale.streams, lab.scale.pairs);
    let server = lab.start(Kind::OursWithTools(1))?;
    let mut holders = watching(&server, streams)?;
    let fan = Fan::of(&server, &mut holders, rounds)?;
    holders.end()?;
    let name = format!("p95 of {CALLS} calls/s of one shard with {streams} streams and the core to itself");
    let mut p95 = Figure::new(name, "µs", Goal::AtMost(10_000.0));
    p95.ours.extend(fan.calls.iter().map(|calls| number(calls, "/latency_us/p95")));
    let longest = fan.calls.iter().map(|calls| number(calls, "/latency_us/max")).fold(0.0, f64::max);
    p95.note = format!("one update a second; not delivered: {}; the longest {longest}", fan.missed);
    lab.raw.push(json!({ "figure": "fanout of one shard", "streams": streams, "ours": format!("{fan:?}") }));
    lab.add(p95);
    Ok(())
}
