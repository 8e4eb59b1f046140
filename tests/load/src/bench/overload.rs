//! Ten times what a shard may do: a tool that takes 50 ms, a shard that takes a hundred requests at one time, and 20,000 a second.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::figures::{Lab, SETTLE, number};
use super::server::{Kind, Needs, Server, load, measure};
use super::table::{Figure, Goal, median};

/// Requests at one time; with 50 ms each (`mcp_baseline::SLOW`) they make `CAPACITY`.
const IN_FLIGHT: u32 = 100;
/// Calls a second.
const CAPACITY: u32 = 2000;
const OFFERED: u32 = 10 * CAPACITY;
const CONNECTIONS: u32 = 2000;
/// What is normal: half of what it may do.
const NORMAL: u32 = CAPACITY / 2;
/// Memory that a wave of connections needs is there by then.
const WARM_UP: u64 = 5;
/// It is normal again within this, or it is told that it is not.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// What it costs to refuse, and what a shard is like while it refuses nine of ten.
pub(super) fn overload(lab: &mut Lab) -> Result<(), String> {
    let needs = Needs { in_flight: Some(IN_FLIGHT), ..Needs::default() };
    let server = lab.start_with(Kind::OursWithTools(1), needs)?;
    for (tool, fresh) in [("echo", 0), ("echo", 50), ("slow", 0)] {
        cost(lab, &server, tool, fresh)?;
    }
    let normal = calls(&server, NORMAL, 3, 0.5)?;
    let p99 = number(&normal, "/latency_us/p99");
    let seconds = lab.scale.overload_seconds;
    let mut flood = load(&[
        "calls",
        &format!("--url={}", server.urls[0]),
        "--tool=slow",
        &format!("--rate={OFFERED}"),
        &format!("--connections={CONNECTIONS}"),
        "--fresh=50",
        "--impatient",
        "--sources=100",
        &format!("--warm-up={WARM_UP}"),
        &format!("--seconds={seconds}"),
    ])?;
    sleep(Duration::from_secs(WARM_UP));
    let mut rss = Vec::new();
    for _ in 0..seconds {
        sleep(Duration::from_secs(1));
        rss.push(server.rss());
    }
    let said = flood.hear("good")?;
    let ended = Instant::now();
    let (back, after) = back_to_normal(&server, p99, ended)?;
    let of = format!("{OFFERED}/s where {CAPACITY}/s may be, {CONNECTIONS} connections, half of the calls on new ones");
    let mut accepted =
        Figure::new(format!("{of}: p99 of the accepted, from the time they were due"), "µs", Goal::AtMost(500_000.0));
    accepted.ours.push(number(&said, "/latency_us/p99"));
    accepted.note = format!("{} accepted a second; p99 {p99} at {NORMAL}/s before", number(&said, "/per_second"));
    let mut other = Figure::new("answers that were neither a result nor a 503, calls lost", "", Goal::AtMost(0.0));
    let others = ["/errors", "/lost", "/unanswered", "/limited_429", "/not_connected"];
    other.ours.push(others.iter().map(|path| number(&said, path)).sum());
    other.note = format!("{} results, {} times 503 in {seconds} s", said["good"], said["refused_503"]);
    // It goes up and down by thousands of connections that come and go each second.
    let kib: Vec<_> = rss.iter().map(|bytes| *bytes as f64 / 1024.0).collect();
    let third = kib.len().div_ceil(3);
    let (first, last) = (median(&kib[..third]), median(&kib[kib.len() - third..]));
    let mut grown = Figure::new("RSS meanwhile: median of the last third, less that of the first", "KiB", Goal::AtMost(1024.0));
    grown.ours.extend(first.zip(last).map(|(first, last)| last - first));
    let bounds = (kib.iter().copied().fold(f64::INFINITY, f64::min), kib.iter().copied().fold(0.0, f64::max));
    grown.note = format!("between {:.0} and {:.0} KiB, once a second", bounds.0, bounds.1);
    let mut normal_again = Figure::new("seconds until it is normal again", "s", Goal::AtMost(10.0));
    normal_again.ours.push(back.as_secs_f64());
    normal_again.note =
        format!("no 503, and p99 at {NORMAL}/s at most 1.5 times that before: {}", number(&after, "/latency_us/p99"));
    lab.raw.push(json!({ "figure": "overload", "before": normal, "said": said, "after": after, "rss": rss }));
    for figure in [accepted, other, grown, normal_again] {
        lab.add(figure);
    }
    Ok(())
}

/// CPU of a 503 while every place is taken, and of a call while none is. Both as fast as they are answered; fewer connections
/// call than there are places, so that none is refused.
fn cost(lab: &mut Lab, server: &Server, tool: &str, fresh: u32) -> Result<(), String> {
    let of = if fresh == 0 { "kept connections".to_owned() } else { format!("{fresh} % on new connections") };
    let mut ratio = Figure::new(format!("CPU of a 503, of that of a call of {tool}, {of}"), "×", Goal::AtMost(0.5));
    let (mut refused, mut called) = (Vec::new(), Vec::new());
    for pair in 0..lab.scale.few {
        let mut sample = |refusing: bool| {
            let mut places = None;
            if refusing {
                places = Some(taken(server, lab.scale.seconds)?);
            }
            let before = server.cpu();
            let said = measure(
                &[
                    "calls",
                    &format!("--url={}", server.urls[0]),
                    &format!("--tool={tool}"),
                    &format!("--connections={}", if tool == "slow" { IN_FLIGHT - 10 } else { 32 }),
                    "--impatient",
                    &format!("--fresh={fresh}"),
                    "--sources=100",
                    &format!("--seconds={}", lab.scale.seconds),
                    "--warm-up=0.2",
                ],
                "good",
            )?;
            let spent = server.cpu().saturating_sub(before).as_secs_f64() * 1e6 / number(&said, "/answers");
            if let Some(mut places) = places {
                places.hear("good")?;
                sleep(SETTLE);
            }
            let wrong = if refusing { "/good" } else { "/refused_503" };
            if number(&said, wrong) + number(&said, "/errors") > 0.0 {
                return Err(format!("a mix of what should be one: {said}"));
            }
            lab.raw
                .push(json!({ "figure": "cost of a 503", "tool": tool, "fresh": fresh, "refusing": refusing, "cpu_us": spent, "said": said }));
            if refusing { &mut refused } else { &mut called }.push(spent);
            Ok::<_, String>(())
        };
        sample(pair % 2 == 0)?;
        sample(pair % 2 == 1)?;
    }
    ratio.ours = refused.iter().zip(&called).map(|(refused, called)| refused / called).collect();
    let middle = |samples: &[f64]| median(samples).unwrap_or(f64::NAN);
    ratio.note = format!("{:.1} of {:.1} µs", middle(&refused), middle(&called));
    lab.add(ratio);
    Ok(())
}

/// Every place of the shard, by calls that take a minute, for that long and a little more.
fn taken(server: &Server, seconds: f64) -> Result<crate::processes::Worker, String> {
    let worker = load(&[
        "calls",
        &format!("--url={}", server.urls[0]),
        "--tool=wait",
        // Calls before may still be ending.
        "--impatient",
        &format!("--connections={IN_FLIGHT}"),
        "--warm-up=0",
        &format!("--seconds={}", seconds + 5.0),
    ])?;
    for _ in 0..500 {
        if server.metric("mcp_requests_in_flight") >= f64::from(IN_FLIGHT) {
            return Ok(worker);
        }
        sleep(Duration::from_millis(20));
    }
    Err(format!("{IN_FLIGHT} calls did not take all places"))
}

fn calls(server: &Server, rate: u32, seconds: u64, warm_up: f64) -> Result<Value, String> {
    measure(
        &[
            "calls",
            &format!("--url={}", server.urls[0]),
            "--tool=slow",
            &format!("--rate={rate}"),
            "--connections=200",
            &format!("--seconds={seconds}"),
            &format!("--warm-up={warm_up}"),
        ],
        "good",
    )
}

/// From the end of the overload to the first second that is as it was before.
fn back_to_normal(server: &Server, p99: f64, ended: Instant) -> Result<(Duration, Value), String> {
    loop {
        let began = ended.elapsed();
        let said = calls(server, NORMAL, 1, 0.0)?;
        let is_normal = number(&said, "/refused_503") == 0.0 && number(&said, "/latency_us/p99") <= p99 * 1.5;
        if is_normal || began > BACK_WITHIN {
            return Ok((began, said));
        }
    }
}
