//! Keep-alive connections that have made one call, are quiet for a while, and call again.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::engine::{Engine, What};
use crate::opening::Opening;
use crate::request::{Call, Era};
use crate::summary::{Latency, Progress, Summary};
use crate::target::{Target, source};

/// How many, and how long they are quiet.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) era: Era,
    pub(crate) sources: u8,
    pub(crate) connections: usize,
    pub(crate) wave: usize,
    pub(crate) quiet: Duration,
    /// Of the connections, so many call again, one after the other.
    pub(crate) again: usize,
    pub(crate) within: Duration,
}

/// Tells `{"idle": ...}` when the quiet time is over, and waits for a line before the calls that follow.
pub(crate) fn run(plan: &Plan, tell: &mut dyn FnMut(Value)) -> Result<Summary, String> {
    let mut engine = Engine::new().map_err(|error| error.to_string())?;
    let mut openings: Vec<Option<Opening>> = Vec::new();
    let (mut begun, mut ready, mut opening, mut lost) = (0, 0, 0, 0);
    let mut progress = Progress::new();
    let start = Instant::now();
    while ready < plan.connections {
        if opening == 0 {
            for _ in 0..plan.wave.min(plan.connections - begun) {
                let from = source(plan.target.address, begun, plan.sources);
                let index =
                    engine.connect(plan.target.address, from, false).map_err(|error| format!("no connection: {error}"))?;
                openings.resize(openings.len().max(index + 1), None);
                openings[index] = Some(Opening::called(plan.era, begun));
                begun += 1;
                opening += 1;
            }
        }
        for happened in engine.turn(Duration::from_millis(50)) {
            let Some(Some(line)) = openings.get_mut(happened.connection) else { continue };
            match happened.what {
                What::Closed(why) => return Err(format!("a connection was closed before its call: {why}")),
                What::Answer(answer) if answer.status >= 300 => return Err(format!("status {}", answer.status)),
                What::Connected | What::Answer(_) => {
                    if let What::Answer(answer) = &happened.what
                        && answer.session.is_some()
                    {
                        line.session.clone_from(&answer.session);
                    }
                    if let Some((bytes, _)) = line.next(&plan.target, plan.era, None) {
                        engine.send(happened.connection, &bytes);
                    } else {
                        ready += 1;
                        opening -= 1;
                    }
                }
                What::Opened | What::Event(_) => {}
            }
        }
        let now = Instant::now();
        progress.tell(now, || format!("{ready} of {} connections have called", plan.connections));
        if now.duration_since(start) > plan.within {
            return Err(format!("{ready} of {} connections have called", plan.connections));
        }
    }
    let quiet_until = Instant::now() + plan.quiet;
    while Instant::now() < quiet_until {
        for happened in engine.turn(Duration::from_millis(50)) {
            if let What::Closed(_) = happened.what {
                openings[happened.connection] = None;
                lost += 1;
            }
        }
    }
    tell(json!({ "idle": plan.connections - lost, "closed_by_server": lost }));
    let _ = std::io::stdin().read_line(&mut String::new());
    let mut latency = Latency::new();
    let mut silent = 0;
    let there = openings.iter().enumerate().filter_map(|(index, line)| Some((index, line.as_ref()?)));
    for (index, line) in there.take(plan.again) {
        let mut call = Call::new(&plan.target, plan.era, "echo", "again", line.session.as_deref());
        let since = Instant::now();
        engine.send(index, call.with_id(2));
        let mut answered = None;
        while answered.is_none() && since.elapsed() < Duration::from_secs(5) {
            // No sleep: a call is answered in microseconds.
            for happened in engine.turn(Duration::ZERO) {
                if happened.connection == index && matches!(happened.what, What::Answer(_) | What::Closed(_)) {
                    answered = matches!(happened.what, What::Answer(_)).then_some(happened.at);
                }
            }
        }
        match answered {
            Some(at) => latency.add(at - since),
            None => silent += 1,
        }
    }
    Ok(Summary::default()
        .with("connections", plan.connections)
        .with("closed_by_server", lost)
        .with("unanswered", silent)
        .with("next_call_us", latency.json()))
}
