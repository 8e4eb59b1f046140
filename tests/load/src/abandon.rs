//! Calls of a slow tool whose clients go before the answer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::engine::{Engine, What};
use crate::opening::Opening;
use crate::request::{Call, Era};
use crate::summary::{Progress, Summary};
use crate::target::{Target, source};

/// What is called, and how soon it is abandoned.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) era: Era,
    pub(crate) sources: u8,
    pub(crate) tool: String,
    pub(crate) calls: usize,
    /// Open at one time.
    pub(crate) at_once: usize,
    /// From the call to the close.
    pub(crate) after: Duration,
    pub(crate) within: Duration,
}

/// Calls, goes, and tells how often that was, and how often it was refused.
pub(crate) fn run(plan: &Plan) -> Result<Summary, String> {
    let mut engine = Engine::new().map_err(|error| error.to_string())?;
    let mut openings: Vec<Option<Opening>> = Vec::new();
    let mut called: VecDeque<(Instant, usize)> = VecDeque::new();
    let mut waits = Vec::new();
    let (mut begun, mut open, mut abandoned, mut refused, mut answered, mut failed) = (0, 0, 0, 0, 0, 0);
    let mut longest_retry_after = 0;
    let mut why = None;
    let mut progress = Progress::new();
    let start = Instant::now();
    while begun < plan.calls || open > 0 {
        let now = Instant::now();
        if now.duration_since(start) > plan.within {
            return Err(format!("{abandoned} calls abandoned, {refused} refused in {:?}", plan.within));
        }
        while open < plan.at_once && begun < plan.calls {
            let from = source(plan.target.address, begun, plan.sources);
            let Ok(index) = engine.connect(plan.target.address, from, false) else { break };
            if openings.len() <= index {
                openings.resize(index + 1, None);
                waits.resize(index + 1, false);
            }
            openings[index] = Some(Opening::caller(plan.era, begun));
            waits[index] = false;
            begun += 1;
            open += 1;
        }
        while let Some((at, index)) = called.front().copied().filter(|(at, _)| *at <= now) {
            called.pop_front();
            // The index may have been given to another since: its time is its own.
            if waits[index] && openings[index].is_some() && at <= now {
                engine.close(index);
                openings[index] = None;
                abandoned += 1;
                open -= 1;
            }
        }
        for happened in engine.turn(Duration::from_millis(1)) {
            let index = happened.connection;
            let Some(Some(opening)) = openings.get_mut(index) else { continue };
            let mut over = false;
            match happened.what {
                What::Answer(answer) if waits[index] => {
                    longest_retry_after = longest_retry_after.max(answer.retry_after.unwrap_or(0));
                    match answer.status {
                        503 => refused += 1,
                        _ => answered += 1,
                    }
                    over = true;
                }
                What::Answer(answer) if answer.status >= 300 => {
                    longest_retry_after = longest_retry_after.max(answer.retry_after.unwrap_or(0));
                    refused += 1;
                    over = true;
                }
                What::Connected | What::Answer(_) => {
                    if let What::Answer(answer) = &happened.what
                        && answer.session.is_some()
                    {
                        opening.session.clone_from(&answer.session);
                    }
                    if let Some((bytes, _)) = opening.next(&plan.target, plan.era, None) {
                        engine.send(index, &bytes);
                    } else {
                        let session = opening.session.as_deref();
                        let mut call = Call::new(&plan.target, plan.era, &plan.tool, "x", session);
                        engine.send(index, call.with_id(opening.n as u64));
                        waits[index] = true;
                        called.push_back((happened.at + plan.after, index));
                    }
                }
                What::Closed(said) => {
                    failed += 1;
                    why = Some(said);
                    over = true;
                }
                What::Opened | What::Event(_) => {}
            }
            if over {
                engine.close(index);
                openings[index] = None;
                called.retain(|(_, called)| *called != index);
                open -= 1;
            }
        }
        progress.tell(now, || format!("{abandoned} of {} calls abandoned, {refused} refused", plan.calls));
    }
    Ok(Summary::default()
        .with("era", plan.era.name())
        .with("abandoned", abandoned)
        .with("refused_503", refused)
        .with("answered", answered)
        .with("failed", failed)
        .with("last_trouble", why)
        .with("longest_retry_after_s", longest_retry_after)
        .with("seconds", start.elapsed().as_secs_f64()))
}
