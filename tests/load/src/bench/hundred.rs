//! A hundred thousand streams over six shards with the memory of a small container each, calls meanwhile, and one update to all.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use super::fan::{CALLS, Fan, SHARDS, calling, watching};
use super::figures::{Lab, Many, number};
use super::server::{Kind, Needs, Server};
use super::table::{Figure, Goal};

/// Of a shard, MiB.
const LIMIT: u32 = 512;
/// Between two looks at the memory of the shards.
const LOOK: Duration = Duration::from_secs(1);
/// Updates that are raised at the end.
const ROUNDS: usize = 9;

/// Held, called for some minutes, and told of updates; then the same of loops that only write.
pub(super) fn hundred(lab: &mut Lab) -> Result<(), String> {
    let Many { streams, seconds } = lab.scale.many;
    let server = limited(lab)?;
    let mut holders = watching(&server, streams)?;
    let most_opening = server.charged().into_iter().max().unwrap_or(0);
    let mut calls = calling(&server, seconds)?;
    let mut most = 0;
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        most = most.max(server.charged().into_iter().max().unwrap_or(0));
        sleep(LOOK);
    }
    let said = calls.hear("good")?;
    let ours = Fan::of(&server, &mut holders, ROUNDS)?;
    most = most.max(server.charged().into_iter().max().unwrap_or(0));
    let rss = server.rss() / server.pids.len().max(1) as u64;
    let guarded = server.metric("mcp_streams_shed_total");
    let end = holders.end()?;
    let rejected = server.metric("mcp_rejected_total");
    let of = format!("{streams} streams over {SHARDS} shards");
    let mut part = Figure::new(format!("{of}: memory of the fullest, of its {LIMIT} MiB"), "%", Goal::AtMost(60.0));
    part.ours.push(most as f64 * 100.0 / f64::from(LIMIT << 20));
    part.note = if server.is_limited() {
        format!(
            "its control group, without idle pages of files; {:.0} MiB, {:.0} once all were open",
            mib(most),
            mib(most_opening)
        )
    } else {
        format!("no control group could be made: RSS of the process, {:.0} MiB", mib(most))
    };
    let mut ended = Figure::new(format!("{of}: streams that ended"), "", Goal::AtMost(0.0));
    ended.ours.push(number(&end, "/ended_by_server"));
    let mut bad = Figure::new(format!("{of}: calls that failed, of {CALLS}/s for {seconds} s"), "", Goal::AtMost(0.0));
    let failures = ["/errors", "/lost", "/unanswered", "/refused_503", "/limited_429", "/not_connected"];
    bad.ours.push(failures.iter().map(|path| number(&said, path)).sum());
    bad.note = format!("answered {:.0} a second", number(&said, "/per_second"));
    let mut p95 = Figure::new(format!("{of}: p95 of these calls"), "µs", Goal::AtMost(10_000.0));
    p95.ours.push(number(&said, "/latency_us/p95"));
    p95.note = format!("p50 {}, p99 {}", number(&said, "/latency_us/p50"), number(&said, "/latency_us/p99"));
    lab.raw.push(json!({
        "figure": "hundred", "calls": said, "streams": end, "most": most, "after_opening": most_opening, "rss": rss,
        "limited": server.is_limited(), "shed": guarded, "rejected": rejected,
    }));
    for figure in [part, ended, bad, p95] {
        lab.add(figure);
    }
    drop(server);
    let loops = lab.start(Kind::Writes(SHARDS))?;
    let mut holders = watching(&loops, streams)?;
    let bare = Fan::of(&loops, &mut holders, ROUNDS)?;
    holders.end()?;
    Fan::figures(ours, bare, streams, lab);
    Ok(())
}

/// With limits where the machine lets us make control groups, and without them where it does not.
fn limited(lab: &Lab) -> Result<Server, String> {
    let needs = Needs { memory: Some(LIMIT), ..Needs::default() };
    lab.start_with(Kind::OursWithTools(SHARDS), needs).or_else(|why| {
        eprintln!("mcp-load: without memory limits ({why})");
        lab.start(Kind::OursWithTools(SHARDS))
    })
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
