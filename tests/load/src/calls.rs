//! Calls of a tool: as fast as they are answered (closed loop), or at a rate whatever the answers do (open loop).
//!
//! In an open loop the latency of a call counts from the time it was due, so that a server which stalls is seen to stall in
//! every call that should have been made meanwhile (no coordinated omission).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::engine::{Engine, Happened, What};
use crate::opening::Opening;
use crate::request::{Call, Era};
use crate::response::Answer;
use crate::schedule::Schedule;
use crate::summary::{Latency, Progress, Summary, rate};
use crate::target::{Target, source};

/// Connections that are being opened at one time.
const OPENING: usize = 256;
/// For all connections to be ready.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// For the last answers of an open loop.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// What is driven, and how.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) targets: Vec<Target>,
    pub(crate) era: Era,
    pub(crate) sources: u8,
    pub(crate) connections: usize,
    pub(crate) tool: String,
    pub(crate) text: String,
    pub(crate) warm_up: Duration,
    pub(crate) span: Duration,
    /// Calls a second, of an open loop.
    pub(crate) rate: Option<u64>,
    /// Requests that are sent ahead on each connection, of a closed loop.
    pub(crate) pipeline: usize,
    /// Of a hundred answers, so many end their connection, and another takes its place.
    pub(crate) fresh: u32,
    /// A closed loop never sleeps, on a core that is its own: then no server pays for waking it, and a slower one no more than a
    /// faster.
    pub(crate) spins: bool,
    /// An open loop sleeps until the next call is due or an answer comes, where others need the core. What that makes a call late
    /// is in its latency, and the server pays for waking this program.
    pub(crate) sleeps: bool,
    /// Whether a client that is told to come back later does so.
    pub(crate) honors_retry_after: bool,
}

#[derive(Debug)]
enum Phase {
    Opening(Opening),
    Ready(Call),
}

#[derive(Debug)]
struct Line {
    n: usize,
    phase: Phase,
    /// The times its open calls count from.
    since: VecDeque<Instant>,
}

#[derive(Debug)]
struct Run<'a> {
    plan: &'a Plan,
    engine: Engine,
    lines: Vec<Option<Line>>,
    idle: VecDeque<usize>,
    resting: Vec<(Instant, usize)>,
    waiting: VecDeque<Instant>,
    next_id: u64,
    next_line: usize,
    answers: u64,
    measured_from: Instant,
    measured_to: Instant,
    counts: Counts,
}

#[derive(Debug)]
struct Counts {
    good: u64,
    bad: u64,
    refused: u64,
    limited: u64,
    lost: u64,
    unready: u64,
    body: usize,
    longest_retry_after: u64,
    latency: Latency,
    refusals: Latency,
    why: Option<String>,
}

/// Drives it, and tells what came of it.
pub(crate) fn run(plan: &Plan) -> Result<Summary, String> {
    let engine = Engine::new().map_err(|error| error.to_string())?;
    let now = Instant::now();
    let mut run = Run {
        plan,
        engine,
        lines: Vec::new(),
        idle: VecDeque::new(),
        resting: Vec::new(),
        waiting: VecDeque::new(),
        next_id: 0,
        next_line: 0,
        answers: 0,
        measured_from: now,
        measured_to: now,
        counts: Counts {
            good: 0,
            bad: 0,
            refused: 0,
            limited: 0,
            lost: 0,
            unready: 0,
            body: 0,
            longest_retry_after: 0,
            latency: Latency::new(),
            refusals: Latency::new(),
            why: None,
        },
    };
    run.open_all()?;
    let start = Instant::now();
    run.measured_from = start + plan.warm_up;
    run.measured_to = run.measured_from + plan.span;
    match plan.rate {
        None => run.closed_loop(),
        Some(rate) => run.open_loop(Schedule::new(start, rate, plan.warm_up + plan.span)),
    }
    Ok(run.summary())
}

// === impl Run ===

impl Run<'_> {
    fn open_all(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + READY_WITHIN;
        let mut progress = Progress::new();
        while self.idle.len() < self.plan.connections {
            let opened = self.lines.iter().flatten().count();
            let opening = opened - self.idle.len();
            for _ in 0..OPENING.saturating_sub(opening).min(self.plan.connections - opened) {
                self.open()?;
            }
            for happened in self.engine.turn(Duration::from_millis(100)) {
                self.happened(&happened);
            }
            let now = Instant::now();
            progress.tell(now, || format!("{} of {} connections are ready", self.idle.len(), self.plan.connections));
            if now > deadline {
                let why = self.counts.why.as_deref().unwrap_or("no answer");
                return Err(format!("{} of {} connections are ready: {why}", self.idle.len(), self.plan.connections));
            }
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), String> {
        let n = self.next_line;
        self.next_line += 1;
        let target = &self.plan.targets[n % self.plan.targets.len()];
        let from = source(target.address, n, self.plan.sources);
        let index = self.engine.connect(target.address, from, false).map_err(|error| format!("no connection: {error}"))?;
        if self.lines.len() <= index {
            self.lines.resize_with(index + 1, || None);
        }
        let phase = Phase::Opening(Opening::caller(self.plan.era, n));
        self.lines[index] = Some(Line { n, phase, since: VecDeque::new() });
        Ok(())
    }

    fn closed_loop(&mut self) {
        let mut progress = Progress::new();
        for index in std::mem::take(&mut self.idle) {
            for _ in 0..self.plan.pipeline {
                self.call(index, Instant::now());
            }
        }
        loop {
            let now = Instant::now();
            if now >= self.measured_to {
                return;
            }
            self.wake(now);
            for index in std::mem::take(&mut self.idle) {
                for _ in 0..self.plan.pipeline {
                    self.call(index, now);
                }
            }
            let wait = match (self.plan.spins, self.resting.is_empty()) {
                (true, _) => 0,
                (false, true) => 100,
                (false, false) => 1,
            };
            let wait = Duration::from_millis(wait).min(self.measured_to - now);
            for happened in self.engine.turn(wait) {
                self.happened(&happened);
            }
            progress.tell(now, || format!("{} calls answered", self.answers));
        }
    }

    fn open_loop(&mut self, mut schedule: Schedule) {
        if self.plan.sleeps {
            // The kernel may make a sleep 50 µs longer. Where it does not let us say so, it does.
            let _ = nix::sys::prctl::set_timerslack(1);
        }
        let mut progress = Progress::new();
        loop {
            let now = Instant::now();
            self.wake(now);
            while let Some(due) = schedule.take(now) {
                self.waiting.push_back(due);
            }
            while !self.waiting.is_empty()
                && let Some(index) = self.idle.pop_front()
            {
                if self.lines[index].is_some()
                    && let Some(due) = self.waiting.pop_front()
                {
                    self.call(index, due);
                }
            }
            let wait = match schedule.due() {
                Some(due) => due.saturating_duration_since(Instant::now()),
                None if self.is_quiet() || now > self.measured_to + ANSWERED_WITHIN => return,
                None => Duration::from_millis(10),
            };
            let happened = if self.plan.sleeps { self.engine.sleep(wait) } else { self.engine.turn(wait) };
            for happened in happened {
                self.happened(&happened);
            }
            progress.tell(now, || format!("{} calls answered, {} wait for a connection", self.answers, self.waiting.len()));
        }
    }

    fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.lines.iter().flatten().all(|line| line.since.is_empty())
    }

    fn wake(&mut self, now: Instant) {
        let awake = self.resting.extract_if(.., |(until, _)| *until <= now);
        self.idle.extend(awake.map(|(_, index)| index));
    }

    fn call(&mut self, index: usize, since: Instant) {
        let Some(Some(line)) = self.lines.get_mut(index) else { return };
        let Phase::Ready(call) = &mut line.phase else { return };
        line.since.push_back(since);
        self.next_id += 1;
        self.engine.send(index, call.with_id(self.next_id));
    }

    fn happened(&mut self, happened: &Happened) {
        let index = happened.connection;
        let Some(Some(line)) = self.lines.get_mut(index) else { return };
        match &happened.what {
            What::Connected => self.step(index),
            What::Answer(answer) => match &mut line.phase {
                Phase::Opening(opening) => {
                    if answer.session.is_some() {
                        opening.session.clone_from(&answer.session);
                    }
                    if answer.status >= 300 || answer.closes {
                        self.counts.why = Some(format!("status {}", answer.status));
                        return self.lose(index);
                    }
                    self.step(index);
                }
                Phase::Ready(_) => {
                    let since = line.since.pop_front().unwrap_or(happened.at);
                    self.count(answer, since, happened.at);
                    self.answers += 1;
                    let is_last = self.answers * u64::from(self.plan.fresh) % 100 < u64::from(self.plan.fresh) || answer.closes;
                    if is_last {
                        return self.lose(index);
                    }
                    self.again(index, answer, happened.at);
                }
            },
            What::Closed(why) => {
                self.counts.why = Some((*why).to_owned());
                self.lose(index);
            }
            What::Opened | What::Event(_) => {}
        }
    }

    /// The next step of a connection that is being opened.
    fn step(&mut self, index: usize) {
        let Some(Some(line)) = self.lines.get_mut(index) else { return };
        let Phase::Opening(opening) = &mut line.phase else { return };
        let target = &self.plan.targets[line.n % self.plan.targets.len()];
        if let Some((bytes, _)) = opening.next(target, self.plan.era, None) {
            self.engine.send(index, &bytes);
        } else {
            let session = opening.session.take();
            line.phase = Phase::Ready(Call::new(target, self.plan.era, &self.plan.tool, &self.plan.text, session.as_deref()));
            self.idle.push_back(index);
        }
    }

    /// What a connection does after an answer.
    fn again(&mut self, index: usize, answer: &Answer, now: Instant) {
        let rests = answer.retry_after.filter(|_| self.plan.honors_retry_after && matches!(answer.status, 429 | 503));
        let waits_for_more = matches!(self.lines.get(index), Some(Some(line)) if !line.since.is_empty());
        match (rests, self.plan.rate) {
            // Of several requests that were sent ahead the last answer decides.
            (Some(_), _) if waits_for_more => {}
            (Some(seconds), _) => self.resting.push((now + Duration::from_secs(seconds), index)),
            (None, Some(_)) => self.idle.push_back(index),
            (None, None) => self.call(index, now),
        }
    }

    /// A connection is gone or given up; another takes its place.
    fn lose(&mut self, index: usize) {
        self.engine.close(index);
        let Some(line) = self.lines[index].take() else { return };
        match line.phase {
            Phase::Opening(_) => self.counts.unready += 1,
            Phase::Ready(_) => self.counts.lost += line.since.iter().filter(|since| **since >= self.measured_from).count() as u64,
        }
        self.idle.retain(|idle| *idle != index);
        self.resting.retain(|(_, resting)| *resting != index);
        // A server that takes nobody is not knocked at without end.
        if self.counts.unready < 10_000_000 && self.open().is_err() {
            self.counts.unready += 1;
        }
    }

    fn count(&mut self, answer: &Answer, since: Instant, at: Instant) {
        // A closed loop counts what was answered in its time, an open one what was due in it.
        let counted_at = if self.plan.rate.is_some() { since } else { at };
        if counted_at < self.measured_from || counted_at >= self.measured_to {
            return;
        }
        let took = at.saturating_duration_since(since);
        let counts = &mut self.counts;
        if answer.good {
            counts.good += 1;
            counts.body = answer.body;
            counts.latency.add(took);
            return;
        }
        match answer.status {
            503 => counts.refused += 1,
            429 => counts.limited += 1,
            status => {
                counts.bad += 1;
                counts.why = Some(format!("status {status} without a result"));
                return;
            }
        }
        counts.longest_retry_after = counts.longest_retry_after.max(answer.retry_after.unwrap_or(0));
        counts.refusals.add(took);
    }

    fn summary(self) -> Summary {
        let counts = self.counts;
        let unanswered: usize = self.lines.iter().flatten().map(|line| line.since.len()).sum::<usize>() + self.waiting.len();
        let unanswered = if self.plan.rate.is_some() { unanswered } else { 0 };
        Summary::default()
            .with("era", self.plan.era.name())
            .with("connections", self.plan.connections)
            .with("loop", if self.plan.rate.is_some() { "open" } else { "closed" })
            .with("seconds", self.plan.span.as_secs_f64())
            .with("answers", self.answers)
            .with("good", counts.good)
            .with("per_second", rate(counts.good, self.plan.span))
            .with("refused_503", counts.refused)
            .with("limited_429", counts.limited)
            .with("errors", counts.bad)
            .with("lost", counts.lost)
            .with("unanswered", unanswered)
            .with("not_connected", counts.unready)
            .with("body_bytes", counts.body)
            .with("longest_retry_after_s", counts.longest_retry_after)
            .with("last_trouble", counts.why.map_or(Value::Null, Value::from))
            .with("latency_us", counts.latency.json())
            .with("refusal_us", counts.refusals.json())
    }
}
