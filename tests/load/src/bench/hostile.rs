//! Clients that take and give nothing back: sessions that nobody ends, calls whose clients go, peers that never read.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::figures::{ERAS, Lab, SETTLE, hold, holding, number, open_calls, samples};
use super::proc;
use super::server::{Kind, load, measure};
use super::table::{Figure, Goal};
use crate::request::Era;
use crate::target::Target;

/// Sessions that nobody ends.
pub(super) fn initialize(lab: &mut Lab) -> Result<(), String> {
    let sessions = lab.scale.sessions;
    let mut grown = Figure::new(format!("RSS after {sessions} initialize never closed"), "KiB", Goal::AtMost(1024.0));
    for pair in 0..lab.scale.few {
        for (n, kind) in [(0, Kind::Ours(1)), (2, Kind::Sdk)] {
            if n == 2 && pair > 0 {
                continue;
            }
            let server = lab.start(kind)?;
            // The first requests of a process are not those that are counted: buffers and tables are made then.
            let warm = ["calls", &format!("--url={}", server.urls[0]), "--era=legacy", "--seconds=0.5", "--warm-up=0.2"];
            measure(&warm, "good")?;
            sleep(Duration::from_millis(500));
            let before = server.rss();
            let arguments = ["flood", &format!("--url={}", server.urls[0]), &format!("--sessions={sessions}")];
            let said = measure(&arguments, "sessions")?;
            sleep(Duration::from_millis(500));
            let after = server.rss();
            samples(&mut grown, n).push((after as f64 - before as f64) / 1024.0);
            lab.raw
                .push(json!({ "figure": "initialize", "server": kind.name(), "before": before, "after": after, "said": said }));
        }
    }
    lab.add(grown);
    Ok(())
}

/// Calls of a minute whose clients go.
pub(super) fn abandoned(lab: &mut Lab) -> Result<(), String> {
    let calls = lab.scale.abandoned;
    for era in ERAS {
        let mut left = Figure::new(
            format!("calls that run on after {calls} were abandoned, {}", era.name()),
            "",
            Goal::AtMost(if era == Era::Modern { 0.0 } else { 256.0 }),
        );
        let mut grown = Figure::new(format!("RSS after {calls} abandoned calls, {}", era.name()), "KiB", Goal::None);
        for (n, kind) in [(0, Kind::OursWithTools(1)), (2, Kind::Sdk)] {
            let server = lab.start(kind)?;
            let before = server.rss();
            let said = measure(
                &[
                    "abandon",
                    &format!("--url={}", server.urls[0]),
                    &format!("--era={}", era.name()),
                    &format!("--calls={calls}"),
                    "--at-once=500",
                ],
                "abandoned",
            )?;
            sleep(SETTLE);
            let (after, running) = (server.rss(), server.metric("mcp_requests_in_flight"));
            samples(&mut grown, n).push((after as f64 - before as f64) / 1024.0);
            if n == 0 {
                left.ours.push(running);
                left.note = format!("abandoned {}, refused with 503 {}", said["abandoned"], said["refused_503"]);
            }
            lab.raw.push(json!({ "figure": "abandoned", "era": era.name(), "server": kind.name(), "running": running, "before": before, "after": after, "said": said }));
        }
        lab.add(left);
        lab.add(grown);
    }
    Ok(())
}

/// Four keep-alive periods of 25 s, which each peer begins when it takes nothing more, and patience.
const ENDED_WITHIN: Duration = Duration::from_mins(5);

/// Peers that never read, and events that are meant for them.
pub(super) fn mute(lab: &mut Lab) -> Result<(), String> {
    const PEERS: usize = 1000;
    let server = lab.start(Kind::OursWithTools(1))?;
    let uri = format!("bench://{}", "m".repeat(900));
    let p95 = |said: &Value| number(said, "/latency_us/p95");
    let alone = p95(&open_calls(&server, 1000, 2.5)?);
    let port = server.urls[0].parse::<Target>()?.address.port();
    let (rss, kernel) = (server.rss(), proc::socket_memory(port));
    let mut arguments = holding(&server, Era::Modern, PEERS).to_vec();
    arguments.extend(["--mute".to_owned(), format!("--uri={uri}")]);
    let (mut holder, _) = hold(&arguments)?;
    let seconds = lab.scale.mute_seconds;
    let mut most = (0, 0);
    let mut others = Vec::new();
    let began = Instant::now();
    let mut raising = load(&[
        "calls",
        &format!("--url={}", server.urls[0]),
        "--tool=raise",
        &format!("--text={uri}"),
        "--rate=10",
        "--connections=2",
        "--warm-up=0",
        &format!("--seconds={seconds}"),
    ])?;
    for _ in 0..seconds / 3 {
        others.push(p95(&open_calls(&server, 1000, 2.5)?));
        most = (most.0.max(server.rss().saturating_sub(rss)), most.1.max(proc::socket_memory(port).saturating_sub(kernel)));
    }
    let raised = raising.hear("good")?;
    // The kernel ends a connection whose peer takes nothing for a minute; the shard would after four keep-alive periods.
    let left = server.metric("mcp_streams");
    while server.metric("mcp_streams") > 0.0 && began.elapsed() < ENDED_WITHIN {
        sleep(Duration::from_secs(1));
        most = (most.0.max(server.rss().saturating_sub(rss)), most.1.max(proc::socket_memory(port).saturating_sub(kernel)));
    }
    let (held, took) = (server.metric("mcp_streams"), began.elapsed());
    holder.end("end")?;
    let mut user = Figure::new(format!("memory per peer of {PEERS} that never read"), "KiB", Goal::AtMost(64.0));
    user.ours.push((most.0 + most.1) as f64 / PEERS as f64 / 1024.0);
    user.note = format!(
        "most within {seconds} s, 10 events/s of 1 KB: user {:.1}, kernel {:.1}, both ends of the sockets",
        most.0 as f64 / PEERS as f64 / 1024.0,
        most.1 as f64 / PEERS as f64 / 1024.0
    );
    let mut ended =
        Figure::new(format!("of them still held {:.0} s after the first event", took.as_secs_f64()), "", Goal::AtMost(0.0));
    ended.ours.push(held);
    ended.note = format!("{left} after {seconds} s");
    let mut calls = Figure::new("p95 of 1,000 other calls/s meanwhile", "µs", Goal::None);
    calls.note = format!("{alone} before there were any");
    calls.ours.clone_from(&others);
    lab.raw.push(json!({ "figure": "mute", "raised": raised, "calls_p95": others, "alone": alone, "ended_s": took.as_secs_f64(), "left": left, "most": [most.0, most.1] }));
    for figure in [user, ended, calls] {
        lab.add(figure);
    }
    Ok(())
}
