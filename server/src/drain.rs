//! The graceful end of a shard: pure phases, and the one place that says which phase it is.
//!
//! ```text
//! Serving → Draining: 10 s as ever (endpoints lag) → new connections get 503 → streams have ended over the window
//!         → requests have finished, or the timeout → the process exits, if it was a signal
//! ```
//!
//! `POST /drain` and SIGTERM are one path: what comes second continues what the first began. There is no `preStop` hook: it
//! would delay the signal, while here the first 10 s already tell every client to connect anew, and streams begin to end.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How long new connections still come after placement is off, and are answered as ever.
pub const ENDPOINT_LAG: Duration = Duration::from_secs(10);

/// What a shard does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It serves.
    Serving,
    /// It ends.
    Draining(Draining),
}

/// A drain under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draining {
    /// When it began.
    pub since: Instant,
    /// When the last stream is to end; from the start on they end evenly.
    pub streams_end: Instant,
    /// Requests may take until then.
    pub deadline: Instant,
    /// The process exits at the end: it was told by a signal, which nothing undoes.
    pub exits: bool,
}

impl Phase {
    /// Begins a drain. One that is under way goes on: a SIGTERM after `POST /drain` does not wait again, and an order that is
    /// repeated moves no end further away.
    #[must_use]
    pub fn begin(self, now: Instant, window: Duration, timeout: Duration, exits: bool) -> Self {
        let (streams_end, deadline) = (now + window, now + timeout);
        Self::Draining(match self {
            Self::Serving => Draining { since: now, streams_end, deadline, exits },
            Self::Draining(before) => Draining {
                since: before.since,
                streams_end: before.streams_end.min(streams_end),
                deadline: before.deadline.min(deadline),
                exits: exits || before.exits,
            },
        })
    }

    /// Undoes a drain, unless the process is to exit.
    #[must_use]
    pub fn cancel(self) -> Self {
        match self {
            Self::Draining(draining) if draining.exits => self,
            Self::Draining(_) | Self::Serving => Self::Serving,
        }
    }

    /// The drain under way.
    pub fn draining(self) -> Option<Draining> {
        match self {
            Self::Serving => None,
            Self::Draining(draining) => Some(draining),
        }
    }
}

impl Draining {
    /// Whether what is new is refused: endpoints have had the time to forget this shard.
    pub fn refuses(&self, now: Instant, lag: Duration) -> bool {
        now.duration_since(self.since) >= lag
    }

    /// Whether the process may exit.
    pub fn is_over(&self, now: Instant, lag: Duration, streams: u64, in_flight: u64) -> bool {
        let idle = streams == 0 && in_flight == 0;
        self.exits && (now >= self.deadline || (idle && self.refuses(now, lag)))
    }
}

/// The phase of this shard, for all who must know.
#[derive(Debug)]
pub struct Drain {
    phase: watch::Sender<Phase>,
    lag: Duration,
}

impl Drain {
    /// Serving. `lag` is [`ENDPOINT_LAG`] but in tests.
    pub fn new(lag: Duration) -> Self {
        Self { phase: watch::Sender::new(Phase::Serving), lag }
    }

    /// Begins a drain.
    pub fn begin(&self, window: Duration, timeout: Duration, exits: bool) {
        self.phase.send_modify(|phase| *phase = phase.begin(Instant::now(), window, timeout, exits));
    }

    /// Undoes a drain. `false` when the process is to exit.
    #[must_use]
    pub fn cancel(&self) -> bool {
        self.phase.send_modify(|phase| *phase = phase.cancel());
        self.phase() == Phase::Serving
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether a drain is under way.
    pub fn is_draining(&self) -> bool {
        self.phase() != Phase::Serving
    }

    /// Whether what is new is refused.
    pub fn refuses(&self) -> bool {
        self.phase().draining().is_some_and(|draining| draining.refuses(Instant::now(), self.lag))
    }

    /// Tells of changes.
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// How long the endpoints may lag.
    pub fn lag(&self) -> Duration {
        self.lag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);
    const TIMEOUT: Duration = Duration::from_mins(5);

    fn after(seconds: u64, start: Instant) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn new_work_is_answered_while_endpoints_lag() {
        let start = Instant::now();
        let draining = Phase::Serving.begin(start, WINDOW, TIMEOUT, true).draining().unwrap();
        assert!(!draining.refuses(after(9, start), ENDPOINT_LAG));
        assert!(draining.refuses(after(10, start), ENDPOINT_LAG));
    }

    #[test]
    fn an_idle_shard_exits_after_the_lag_and_not_after_the_window() {
        let start = Instant::now();
        let draining = Phase::Serving.begin(start, WINDOW, TIMEOUT, true).draining().unwrap();
        assert!(!draining.is_over(after(9, start), ENDPOINT_LAG, 0, 0));
        assert!(draining.is_over(after(10, start), ENDPOINT_LAG, 0, 0));
    }

    #[test]
    fn a_busy_shard_exits_when_the_last_request_is_done_or_at_the_timeout() {
        let start = Instant::now();
        let draining = Phase::Serving.begin(start, WINDOW, TIMEOUT, true).draining().unwrap();
        assert!(!draining.is_over(after(299, start), ENDPOINT_LAG, 0, 1));
        assert!(!draining.is_over(after(59, start), ENDPOINT_LAG, 1, 0));
        assert!(draining.is_over(after(61, start), ENDPOINT_LAG, 0, 0));
        assert!(draining.is_over(after(300, start), ENDPOINT_LAG, 9, 9));
    }

    #[test]
    fn a_drain_by_the_operator_does_not_exit_and_can_be_undone() {
        let start = Instant::now();
        let phase = Phase::Serving.begin(start, WINDOW, TIMEOUT, false);
        assert!(!phase.draining().unwrap().is_over(after(999, start), ENDPOINT_LAG, 0, 0));
        assert_eq!(phase.cancel(), Phase::Serving);
    }

    #[test]
    fn a_signal_after_the_operators_drain_does_not_wait_again_and_is_not_undone() {
        let start = Instant::now();
        let phase = Phase::Serving.begin(start, WINDOW, TIMEOUT, false).begin(after(30, start), WINDOW, TIMEOUT, true);
        let draining = phase.draining().unwrap();
        assert_eq!((draining.since, draining.streams_end), (start, start + WINDOW));
        assert!(!draining.is_over(after(299, start), ENDPOINT_LAG, 0, 1));
        assert!(draining.is_over(after(31, start), ENDPOINT_LAG, 0, 0));
        assert!(draining.is_over(after(300, start), ENDPOINT_LAG, 1, 1), "the deadline of the first order");
        assert_eq!(phase.cancel(), phase);
    }

    #[test]
    fn an_order_that_is_repeated_with_what_is_left_of_its_time_changes_nothing() {
        let start = Instant::now();
        let phase = Phase::Serving.begin(start, WINDOW, TIMEOUT, false);
        let left = Duration::from_secs(TIMEOUT.as_secs() - 20);
        assert_eq!(phase.begin(after(20, start), WINDOW, left, false), phase);
        let hurried = phase.begin(after(20, start), Duration::from_secs(5), left, false).draining().unwrap();
        assert_eq!((hurried.since, hurried.streams_end), (start, after(25, start)));
    }
}
