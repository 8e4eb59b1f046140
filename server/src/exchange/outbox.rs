//! What waits to be written on the event stream of a POST. Bounded: a reader that takes nothing makes nothing grow.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::time::{Duration, Instant};

use super::lock;
use crate::sse;

/// Log messages that wait for a slow reader.
pub const MAX_WAITING_LOGS: usize = 64;
/// Progress notifications that wait for a slow reader; past it the newest stands for the one before.
pub const MAX_WAITING_PROGRESS: usize = 16;
/// Log messages a request may send at once; and how often it may send another after that.
pub const LOG_BURST: u32 = 256;
/// See [`LOG_BURST`].
pub const LOG_INTERVAL: Duration = Duration::from_millis(20);

/// What one POST has to say before its result, and whether anybody must be there to hear it.
#[derive(Debug)]
pub struct Outbox(Mutex<State>);

/// Nobody reads the stream any more, or nobody ever did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client takes no event stream")]
pub struct Closed;

#[derive(Debug)]
struct State {
    waiting: VecDeque<Waiting>,
    open: bool,
    outlives: bool,
    waker: Option<Waker>,
    dropped: u64,
    /// Log messages that may still be sent, and since when that is counted.
    allowance: u32,
    counted: Option<Instant>,
}

#[derive(Debug)]
enum Waiting {
    Progress(Box<RawValue>, Bytes),
    Log(Bytes),
    Request(Bytes),
}

impl Outbox {
    /// Empty; `open` when the client takes an event stream.
    pub fn new(open: bool) -> Self {
        Self(Mutex::new(State {
            waiting: VecDeque::new(),
            open,
            outlives: false,
            waker: None,
            dropped: 0,
            allowance: LOG_BURST,
            counted: None,
        }))
    }

    /// A progress notification.
    pub(super) fn progress(&self, token: &RawValue, json: &[u8]) {
        let mut state = self.state();
        if !state.open {
            return;
        }
        let event = sse::message(json);
        let waiting = state.waiting.iter().filter(|waiting| matches!(waiting, Waiting::Progress(..))).count();
        if waiting < MAX_WAITING_PROGRESS {
            state.push(Waiting::Progress(token.to_owned(), event));
            return;
        }
        let newest = state.waiting.iter_mut().rev().find_map(|waiting| match waiting {
            Waiting::Progress(of, event) if of.get() == token.get() => Some(event),
            Waiting::Progress(..) | Waiting::Log(_) | Waiting::Request(_) => None,
        });
        if let Some(newest) = newest {
            *newest = event;
        }
        state.dropped += 1;
    }

    /// A log message.
    pub(super) fn log(&self, json: &[u8]) {
        let mut state = self.state();
        if !state.open {
            return;
        }
        let waiting = state.waiting.iter().filter(|waiting| matches!(waiting, Waiting::Log(_))).count();
        if waiting >= MAX_WAITING_LOGS || !state.may_log(Instant::now()) {
            state.dropped += 1;
            return;
        }
        state.push(Waiting::Log(sse::message(json)));
    }

    /// Counts something that was too large to be sent.
    pub(super) fn drop_one(&self) {
        self.state().dropped += 1;
    }

    /// A request to the client, or word that it needs no answer. How many there are is bounded where they are made.
    ///
    /// # Errors
    /// When nobody would read it.
    pub(super) fn request(&self, json: &[u8]) -> Result<(), Closed> {
        let mut state = self.state();
        if !state.open {
            return Err(Closed);
        }
        state.push(Waiting::Request(sse::message(json)));
        Ok(())
    }

    /// The reader is gone: nothing is kept from now on.
    pub fn close(&self) {
        let mut state = self.state();
        state.open = false;
        state.waiting = VecDeque::new();
        state.waker = None;
    }

    /// The request goes on when its client goes away (2025-11-25 `basic/transports` §Sending Messages, 6).
    pub fn outlive_client(&self) {
        self.state().outlives = true;
    }

    /// Whether it does; a request of 2026-07-28 ends with its connection.
    pub fn outlives_client(&self) -> bool {
        self.state().outlives
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.state().waiting.is_empty()
    }

    /// Notifications that were never sent.
    pub fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// Whether something waits; else the task is woken when it does.
    pub fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.waiting.is_empty() {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// The next event.
    pub fn poll_next(&self, cx: &Context<'_>) -> Poll<Bytes> {
        let mut state = self.state();
        match state.waiting.pop_front() {
            Some(Waiting::Progress(_, event) | Waiting::Log(event) | Waiting::Request(event)) => Poll::Ready(event),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

// === impl State ===

impl State {
    fn push(&mut self, waiting: Waiting) {
        self.waiting.push_back(waiting);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn may_log(&mut self, now: Instant) -> bool {
        let counted = *self.counted.get_or_insert(now);
        let earned = now.duration_since(counted).as_millis() / LOG_INTERVAL.as_millis();
        if let Ok(earned) = u32::try_from(earned)
            && earned > 0
        {
            self.allowance = self.allowance.saturating_add(earned).min(LOG_BURST);
            self.counted = Some(now);
        }
        let may = self.allowance > 0;
        self.allowance = self.allowance.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Box<RawValue> {
        RawValue::from_string("1".to_owned()).unwrap()
    }

    fn read(outbox: &Outbox) -> Vec<String> {
        let mut read = vec![];
        let cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(event) = outbox.poll_next(&cx) {
            read.push(String::from_utf8(event.to_vec()).unwrap().replace("event: message\ndata: ", "").trim().to_owned());
        }
        read
    }

    #[tokio::test]
    async fn events_come_in_order_and_a_slow_reader_hears_the_newest_progress() {
        let outbox = Outbox::new(true);
        for n in 0..MAX_WAITING_PROGRESS + 5 {
            outbox.progress(&token(), n.to_string().as_bytes());
        }
        outbox.log(b"log");
        let read = read(&outbox);
        assert_eq!(read.len(), MAX_WAITING_PROGRESS + 1);
        assert_eq!((read[0].as_str(), read[MAX_WAITING_PROGRESS - 1].as_str()), ("0", "20"));
        assert_eq!((read[MAX_WAITING_PROGRESS].as_str(), outbox.dropped()), ("log", 5));
    }

    #[tokio::test]
    async fn log_messages_past_the_bound_are_dropped_and_counted() {
        let outbox = Outbox::new(true);
        for _ in 0..MAX_WAITING_LOGS + 3 {
            outbox.log(b"x");
        }
        assert_eq!((read(&outbox).len(), outbox.dropped()), (MAX_WAITING_LOGS, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_logs_without_end_is_slowed_down() {
        let outbox = Outbox::new(true);
        let mut said = 0;
        for _ in 0..LOG_BURST + 10 {
            outbox.log(b"x");
            said += read(&outbox).len();
        }
        assert_eq!((said, outbox.dropped()), (LOG_BURST as usize, 10));
        tokio::time::advance(LOG_INTERVAL).await;
        outbox.log(b"x");
        outbox.log(b"x");
        assert_eq!((read(&outbox).len(), outbox.dropped()), (1, 11));
    }

    #[tokio::test]
    async fn where_nobody_reads_nothing_is_kept() {
        let outbox = Outbox::new(true);
        outbox.log(b"x");
        outbox.close();
        outbox.log(b"x");
        outbox.progress(&token(), b"1");
        assert_eq!(outbox.request(b"{}"), Err(Closed));
        assert_eq!((outbox.is_empty(), outbox.dropped()), (true, 0));
    }
}
