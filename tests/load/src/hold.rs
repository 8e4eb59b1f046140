//! Held streams, in one process: opened in waves, watched until told to end.
//!
//! It speaks lines with whoever started it: `{"held": ...}` when all are open; for each line `round` it tells when the first and
//! the last stream had an update; at `end`, or when standard input ends, `{"end": ...}`.

use std::io::BufRead as _;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::engine::{Engine, Happened, What};
use crate::opening::Opening;
use crate::request::Era;
use crate::response::Event;
use crate::summary::{Latency, Progress, Summary, rate};
use crate::target::{Target, source};

/// For an update to reach all streams.
const ROUND_WITHIN: Duration = Duration::from_mins(1);

/// What is held.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) targets: Vec<Target>,
    pub(crate) era: Era,
    pub(crate) sources: u8,
    pub(crate) streams: usize,
    /// Number of the first, among those of all processes.
    pub(crate) first: usize,
    /// Streams opened at one time.
    pub(crate) wave: usize,
    /// Does not sleep while streams are opened.
    pub(crate) spins: bool,
    /// A resource that all are subscribed to, instead of one each.
    pub(crate) uri: Option<String>,
    /// Streams that are never read.
    pub(crate) mute: bool,
    /// For all to be open, and then held.
    pub(crate) open_within: Duration,
    pub(crate) hold_for: Option<Duration>,
}

#[derive(Debug)]
enum Line {
    Opening(Opening, Instant),
    /// Its number of updates in this round.
    Held(u32),
}

#[derive(Debug)]
struct Run<'a> {
    plan: &'a Plan,
    engine: Engine,
    lines: Vec<Option<Line>>,
    /// Streams still to be begun.
    next: usize,
    again: Vec<(Instant, usize)>,
    opening: usize,
    held: usize,
    counts: Counts,
    round: Option<Round>,
}

#[derive(Debug)]
struct Counts {
    refused: u64,
    failed: u64,
    ended: u64,
    completed: u64,
    keep_alives: u64,
    updates: u64,
    opened_in: Latency,
    why: Option<String>,
}

/// An update on its way to all streams.
#[derive(Debug)]
struct Round {
    began: Instant,
    waited_for: usize,
    delivered: usize,
    first: Option<SystemTime>,
}

/// Holds them, and speaks on standard output.
pub(crate) fn run(plan: &Plan, tell: &mut dyn FnMut(Value)) -> Result<Summary, String> {
    let mut run = Run {
        plan,
        engine: Engine::new().map_err(|error| error.to_string())?,
        lines: Vec::new(),
        next: 0,
        again: Vec::new(),
        opening: 0,
        held: 0,
        counts: Counts {
            refused: 0,
            failed: 0,
            ended: 0,
            completed: 0,
            keep_alives: 0,
            updates: 0,
            opened_in: Latency::new(),
            why: None,
        },
        round: None,
    };
    let start = Instant::now();
    run.open_all(start)?;
    let took = start.elapsed();
    tell(json!({
        "held": run.held, "seconds": took.as_secs_f64(), "per_second": rate(run.held as u64, took),
        "refused": run.counts.refused, "failed": run.counts.failed, "last_trouble": run.counts.why,
        "opening_us": run.counts.opened_in.json(),
    }));
    run.hold(&told(), tell);
    Ok(run.summary(took))
}

/// Lines of standard input.
fn told() -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

// === impl Run ===

impl Run<'_> {
    fn open_all(&mut self, start: Instant) -> Result<(), String> {
        let mut progress = Progress::new();
        let wait = Duration::from_millis(if self.plan.spins { 0 } else { 50 });
        while self.held < self.plan.streams {
            let now = Instant::now();
            if self.opening == 0 {
                // A wave begins when the one before is through.
                let due: Vec<_> = self.again.extract_if(.., |(at, _)| *at <= now).map(|(_, n)| n).collect();
                let new = self.plan.wave.saturating_sub(due.len()).min(self.plan.streams - self.next);
                for n in due.into_iter().chain(self.next..self.next + new) {
                    self.begin(n)?;
                }
                self.next += new;
            }
            for happened in self.engine.turn(wait) {
                self.happened(&happened);
            }
            progress.tell(now, || format!("{} of {} streams are open", self.held, self.plan.streams));
            if now.duration_since(start) > self.plan.open_within {
                let why = self.counts.why.as_deref().unwrap_or("no answer");
                return Err(format!("{} of {} streams are open: {why}", self.held, self.plan.streams));
            }
        }
        Ok(())
    }

    fn target(&self, n: usize) -> &Target {
        &self.plan.targets[n % self.plan.targets.len()]
    }

    fn begin(&mut self, n: usize) -> Result<(), String> {
        self.connect(Opening::stream(self.plan.era, self.plan.first + n), n, Instant::now())
    }

    /// Connects for the next step. `n` chooses the server.
    fn connect(&mut self, opening: Opening, n: usize, since: Instant) -> Result<(), String> {
        let address = self.target(n).address;
        let from = source(address, opening.n, self.plan.sources);
        let index = self.engine.connect(address, from, self.plan.mute).map_err(|error| format!("no connection: {error}"))?;
        if self.lines.len() <= index {
            self.lines.resize_with(index + 1, || None);
        }
        self.lines[index] = Some(Line::Opening(opening, since));
        self.opening += 1;
        Ok(())
    }

    fn hold(&mut self, told: &Receiver<String>, tell: &mut dyn FnMut(Value)) {
        let start = Instant::now();
        let mut progress = Progress::new();
        loop {
            for happened in self.engine.turn(Duration::from_millis(if self.round.is_some() { 1 } else { 10 })) {
                self.happened(&happened);
            }
            let now = Instant::now();
            if let Some(round) = &self.round
                && (round.delivered >= round.waited_for || now.duration_since(round.began) > ROUND_WITHIN)
            {
                let nanos = |at: SystemTime| at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
                tell(json!({
                    "round": round.delivered, "of": round.waited_for,
                    "first_ns": round.first.map(nanos), "last_ns": nanos(SystemTime::now()),
                }));
                self.round = None;
            }
            match told.try_recv() {
                Ok(line) if line == "round" => {
                    for line in self.lines.iter_mut().flatten() {
                        if let Line::Held(updates) = line {
                            *updates = 0;
                        }
                    }
                    self.round = Some(Round { began: now, waited_for: self.held, delivered: 0, first: None });
                    tell(json!({ "armed": self.held }));
                }
                Ok(_) => return,
                Err(TryRecvError::Disconnected) if self.plan.hold_for.is_none() => return,
                Err(_) => {}
            }
            if self.plan.hold_for.is_some_and(|span| now.duration_since(start) > span) {
                return;
            }
            progress.tell(now, || {
                format!("{} streams are held, {} have ended, {} updates came", self.held, self.counts.ended, self.counts.updates)
            });
        }
    }

    fn happened(&mut self, happened: &Happened) {
        let index = happened.connection;
        let Some(Some(line)) = self.lines.get_mut(index) else { return };
        match (&happened.what, line) {
            (What::Connected, Line::Opening(..)) => self.step(index),
            (What::Answer(answer), Line::Opening(opening, since)) => {
                if answer.session.is_some() {
                    opening.session.clone_from(&answer.session);
                }
                let (n, since) = (opening.n - self.plan.first, *since);
                if answer.status >= 300 || (answer.closes && !opening.has_just_a_session()) {
                    let delay = answer.retry_after.unwrap_or(1);
                    self.counts.why = Some(format!("status {}", answer.status));
                    self.counts.refused += 1;
                    self.give_up(index);
                    self.again.push((happened.at + Duration::from_secs(delay), n));
                } else if opening.has_just_a_session() && self.plan.targets.len() > 1 {
                    // Behind a round robin the next request goes to another server.
                    let opening = opening.clone();
                    self.give_up(index);
                    if let Err(why) = self.connect(opening, n + 1, since) {
                        self.counts.why = Some(why);
                        self.again.push((happened.at + Duration::from_secs(1), n));
                    }
                } else {
                    self.step(index);
                }
            }
            (What::Opened, Line::Opening(_, since)) => {
                let took = happened.at.duration_since(*since);
                // The stream of a call is none that is held.
                if self.is_stream(index) {
                    self.counts.opened_in.add(took);
                    self.open(index);
                }
            }
            (What::Event(event), Line::Held(updates)) => match event {
                Event::KeepAlive => self.counts.keep_alives += 1,
                Event::Updated => {
                    self.counts.updates += 1;
                    *updates += 1;
                    if let (1, Some(round)) = (*updates, &mut self.round) {
                        round.delivered += 1;
                        round.first.get_or_insert_with(SystemTime::now);
                    }
                }
                Event::Result => self.counts.completed += 1,
                Event::Other => {}
            },
            (What::Closed(why), Line::Opening(opening, _)) => {
                let n = opening.n - self.plan.first;
                self.counts.why = Some((*why).to_owned());
                self.counts.failed += 1;
                self.give_up(index);
                self.again.push((happened.at + Duration::from_secs(1), n));
            }
            (What::Closed(_) | What::Answer(_), Line::Held(_)) => {
                self.lines[index] = None;
                self.engine.close(index);
                self.held -= 1;
                self.counts.ended += 1;
                if let Some(round) = &mut self.round {
                    round.waited_for = round.waited_for.min(self.held);
                }
            }
            (What::Event(_), Line::Opening(..)) | (What::Connected | What::Opened, Line::Held(_)) => {}
        }
    }

    /// Whether the steps are done but for the stream itself.
    fn is_stream(&self, index: usize) -> bool {
        matches!(self.lines.get(index), Some(Some(Line::Opening(opening, _))) if opening.is_done())
    }

    fn open(&mut self, index: usize) {
        self.lines[index] = Some(Line::Held(0));
        self.opening -= 1;
        self.held += 1;
    }

    fn step(&mut self, index: usize) {
        let Some(Some(Line::Opening(opening, _))) = self.lines.get_mut(index) else { return };
        let n = opening.n - self.plan.first;
        // With several servers the second connection of a session is to the next.
        let shift = usize::from(opening.session.is_some() && self.plan.targets.len() > 1);
        let target = &self.plan.targets[(n + shift) % self.plan.targets.len()];
        if self.plan.mute {
            // A peer that never reads sends all it has to say at once.
            let mut opening = Opening::only_stream(opening.n);
            if let Some((bytes, _)) = opening.next(target, self.plan.era, self.plan.uri.as_deref()) {
                self.engine.send(index, &bytes);
            }
            return self.open(index);
        }
        if let Some((bytes, _)) = opening.next(target, self.plan.era, self.plan.uri.as_deref()) {
            self.engine.send(index, &bytes);
        }
    }

    fn give_up(&mut self, index: usize) {
        self.lines[index] = None;
        self.engine.close(index);
        self.opening -= 1;
    }

    fn summary(self, opened_in: Duration) -> Summary {
        let counts = self.counts;
        Summary::default()
            .with("end", self.held)
            .with("era", self.plan.era.name())
            .with("streams", self.plan.streams)
            .with("opened_in_s", opened_in.as_secs_f64())
            .with("per_second", rate(self.plan.streams as u64, opened_in))
            .with("refused", counts.refused)
            .with("failed", counts.failed)
            .with("ended_by_server", counts.ended)
            .with("completed", counts.completed)
            .with("keep_alives", counts.keep_alives)
            .with("updates", counts.updates)
            .with("opening_us", counts.opened_in.json())
    }
}
