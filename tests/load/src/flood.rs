//! `initialize`, again and again, of sessions that nobody ends.

use std::time::{Duration, Instant};

use crate::engine::{Engine, What};
use crate::request;
use crate::summary::{Latency, Progress, Summary, rate};
use crate::target::{Target, source};

/// How many sessions, over how many connections at one time.
pub(crate) fn run(target: &Target, sources: u8, sessions: u64, connections: usize, within: Duration) -> Result<Summary, String> {
    let mut engine = Engine::new().map_err(|error| error.to_string())?;
    let ask = request::initialize(target);
    let (mut sent, mut opened, mut refused, mut failed, mut lost) = (0, 0, 0, 0, 0);
    let mut since = Vec::new();
    let mut latency = Latency::new();
    let mut progress = Progress::new();
    let start = Instant::now();
    let connect = |engine: &mut Engine, n: usize| engine.connect(target.address, source(target.address, n, sources), false);
    for n in 0..connections {
        connect(&mut engine, n).map_err(|error| format!("no connection: {error}"))?;
    }
    let mut next = connections;
    while opened + refused + failed + lost < sessions {
        let now = Instant::now();
        if now.duration_since(start) > within {
            return Err(format!("{opened} of {sessions} sessions in {within:?}"));
        }
        for happened in engine.turn(Duration::from_millis(100)) {
            let index = happened.connection;
            if since.len() <= index {
                since.resize(index + 1, now);
            }
            match happened.what {
                What::Connected => {}
                What::Answer(answer) => {
                    latency.add(happened.at - since[index]);
                    match answer.status {
                        200 if answer.session.is_some() => opened += 1,
                        503 | 429 => refused += 1,
                        _ => failed += 1,
                    }
                    if answer.closes {
                        engine.close(index);
                        let _ = connect(&mut engine, next);
                        next += 1;
                        continue;
                    }
                }
                What::Closed(_) => {
                    lost += 1;
                    let _ = connect(&mut engine, next);
                    next += 1;
                    continue;
                }
                What::Opened | What::Event(_) => continue,
            }
            if sent < sessions {
                since[index] = happened.at;
                engine.send(index, &ask);
                sent += 1;
            }
        }
        progress.tell(now, || format!("{opened} of {sessions} sessions, {refused} refused"));
    }
    Ok(Summary::default()
        .with("sessions", opened)
        .with("refused", refused)
        .with("failed", failed)
        .with("lost", lost)
        .with("seconds", start.elapsed().as_secs_f64())
        .with("per_second", rate(opened, start.elapsed()))
        .with("latency_us", latency.json()))
}
