//! What waits to be written on the event stream of a POST. Bounded: a reader that takes nothing makes nothing grow.
//!
//! The stream of a legacy request can be resumed once it has begun (see [`super::resume`]): then what was sent is kept as well,
//! within bytes, and a reader that comes later begins where the one before it ended.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::time::{Duration, Instant};

use super::lock;
use super::resume::{self, Kept, POLLED_SINCE};
use crate::limits::MAX_REPLAY;
use crate::mcp::version::Version;
use crate::session::SessionKey;
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
pub(super) struct State {
    events: VecDeque<Event>,
    /// The newest event, and the newest that a reader took: they count from one.
    newest: u64,
    taken: u64,
    open: bool,
    outlives: bool,
    /// Whose request it is, in a legacy session.
    pub(super) owner: Option<(SessionKey, Version)>,
    /// The handler wants the connection closed.
    pub(super) closing: bool,
    /// The stream has begun and can be resumed.
    pub(super) kept: Option<Kept>,
    waker: Option<Waker>,
    dropped: u64,
    /// Log messages that may still be sent, and since when that is counted.
    allowance: u32,
    counted: Option<Instant>,
}

#[derive(Debug)]
struct Event {
    number: u64,
    what: What,
    bytes: Bytes,
    /// It has its place in what is kept, and stays after it was sent.
    stays: bool,
}

#[derive(Debug)]
enum What {
    Progress(Box<RawValue>),
    Log,
    Request,
    Response,
}

/// What a reader of a stream that can be resumed gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// An event, with its number.
    Event(u64, Bytes),
    /// The stream, or this connection to it, ends.
    End,
}

impl Outbox {
    /// Empty; `open` when the client takes an event stream.
    pub fn new(open: bool) -> Self {
        Self(Mutex::new(State {
            events: VecDeque::new(),
            newest: 0,
            taken: 0,
            open,
            outlives: false,
            owner: None,
            closing: false,
            kept: None,
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
        let waiting = state.waiting().filter(|event| matches!(event.what, What::Progress(_))).count();
        if waiting < MAX_WAITING_PROGRESS {
            state.notify(What::Progress(token.to_owned()), event);
            return;
        }
        state.dropped += 1;
        state.replace_progress(token, event);
    }

    /// A log message.
    pub(super) fn log(&self, json: &[u8]) {
        let mut state = self.state();
        if !state.open {
            return;
        }
        let waiting = state.waiting().filter(|event| matches!(event.what, What::Log)).count();
        if waiting >= MAX_WAITING_LOGS || !state.may_log(Instant::now()) {
            state.dropped += 1;
            return;
        }
        state.notify(What::Log, sse::message(json));
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
        let event = sse::message(json);
        let stays = state.reserve(event.len());
        if !stays && state.is_alone() {
            return Err(Closed);
        }
        state.push(What::Request, event, stays);
        Ok(())
    }

    /// The reader is gone for good: nothing is kept from now on. What was never sent, and whether the request goes on without
    /// its client.
    pub fn close(&self) -> (u64, bool) {
        let mut state = self.state();
        state.open = false;
        state.events = VecDeque::new();
        state.wake();
        (state.dropped, state.outlives)
    }

    /// The request goes on when its client goes away (2025-11-25 `basic/transports` §Sending Messages, 6).
    pub fn outlive_client(&self) {
        self.state().outlives = true;
    }

    /// The same, and its stream, once it begins, can be resumed by its session.
    pub fn belongs_to(&self, session: SessionKey, version: Version) {
        let mut state = self.state();
        state.outlives = true;
        state.owner = Some((session, version));
    }

    /// Whether it does; a request of 2026-07-28 ends with its connection.
    pub fn outlives_client(&self) -> bool {
        self.state().outlives
    }

    /// Whose it is, if its stream could be resumed.
    pub fn owner(&self) -> Option<(SessionKey, Version)> {
        self.state().owner
    }

    /// Has the connection closed and the stream go on without it: the client comes back for the rest (2025-11-25
    /// `basic/transports` §Sending Messages, 6). `false` when it would not, and the stream stays as it is: another version of
    /// the protocol, nobody who reads, or as many requests without a client as there may be.
    pub(super) fn close_stream(&self) -> bool {
        let mut state = self.state();
        let may = state.open && state.owner.is_some_and(|(_, version)| version >= POLLED_SINCE);
        let closes = may && state.kept.as_mut().is_none_or(Kept::may_be_left);
        if closes {
            state.closing = true;
            state.wake();
        }
        closes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.state().waiting().next().is_none()
    }

    /// Notifications that were never sent.
    pub fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// Whether something waits, or the connection is to be closed; else the task is woken when it does.
    pub fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.waiting().next().is_none() && !state.closing {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// The next event of a stream that cannot be resumed.
    pub fn poll_next(&self, cx: &Context<'_>) -> Poll<Bytes> {
        let mut state = self.state();
        let Some(event) = state.events.pop_front() else {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        state.taken = event.number;
        Poll::Ready(event.bytes)
    }

    // What a stream that can be resumed needs.

    /// It begins, for a first reader.
    pub(super) fn begin(&self, mut kept: Kept) -> u64 {
        let mut state = self.state();
        let reader = kept.attach();
        state.closing = state.closing && kept.may_be_left();
        state.kept = Some(kept);
        // One after the other takes its place in what is kept: to make room for one may cost another.
        let said = std::mem::take(&mut state.events);
        for event in said {
            let stays = state.reserve(event.bytes.len());
            state.events.push_back(Event { stays, ..event });
        }
        reader
    }

    /// Another reader comes, on this shard or through another, and has all up to an event: the one before it ends. None when
    /// there is nothing to come back for, or what comes next was too much to be kept.
    pub(super) fn attach(&self, after: u64, elsewhere: bool) -> Option<u64> {
        let mut state = self.state();
        let (open, newest) = (state.open, state.newest);
        let kept = state.kept.as_mut()?;
        if !open || kept.forgotten || after > newest || after < kept.lost || (kept.ended && after == newest) {
            return None;
        }
        let reader = if elsewhere { kept.attach_elsewhere()? } else { kept.attach() };
        state.wake();
        Some(reader)
    }

    /// The next event behind one, for a reader; the end when there is none, or another reader came.
    pub(super) fn take(&self, reader: u64, after: u64, cx: &Context<'_>) -> Poll<Taken> {
        let mut state = self.state();
        if state.kept.as_ref().is_none_or(|kept| kept.reader() != reader) || !state.open {
            return Poll::Ready(Taken::End);
        }
        let State { events, kept: Some(kept), taken, .. } = &mut *state else { return Poll::Ready(Taken::End) };
        if let Some(at) = events.iter().position(|event| event.number > after) {
            let Event { number, stays, bytes, what } = &events[at];
            let (number, with_id) = (*number, sse::with_id(&kept.id(*number), bytes));
            *taken = number.max(*taken);
            if !stays {
                if matches!(what, What::Request | What::Response) {
                    kept.lost = number;
                }
                events.remove(at);
            }
            return Poll::Ready(Taken::Event(number, with_id));
        }
        if kept.ended {
            kept.fetched();
            return Poll::Ready(Taken::End);
        }
        if state.closing {
            state.closing = false;
            return Poll::Ready(Taken::End);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether there is an event behind one.
    pub(super) fn has_behind(&self, after: u64) -> bool {
        self.state().events.iter().any(|event| event.number > after)
    }

    /// A reader goes. The stream goes on without one: what has no place in what is kept is given up. Where as many
    /// go on without a client as may, it ends.
    pub(super) fn detach(&self, reader: u64) {
        let mut state = self.state();
        let Some(kept) = state.kept.as_mut().filter(|kept| kept.reader() == reader && kept.is_attached()) else { return };
        if !kept.leave() {
            kept.abort();
            return;
        }
        let State { events, kept: Some(kept), dropped, taken, open, .. } = &mut *state else { return };
        if kept.forgotten {
            *open = false;
            events.clear();
            return;
        }
        events.retain_mut(|event| {
            if event.stays {
                return true;
            }
            match event.what {
                What::Progress(_) | What::Log => *dropped += u64::from(event.number > *taken),
                What::Request => kept.lost = event.number,
                What::Response => {
                    event.bytes = kept.instead.clone();
                    return true;
                }
            }
            false
        });
    }

    /// The request has ended: with a response, or without a word.
    pub(super) fn end(&self, response: Option<&[u8]>) {
        let mut state = self.state();
        if state.kept.as_ref().is_none_or(|kept| kept.ended) {
            return;
        }
        if let Some(response) = response.filter(|_| state.open) {
            let event = sse::message(response);
            let stays = state.reserve(event.len());
            let instead = if stays { Bytes::new() } else { resume::instead_of(response) };
            let event = if !stays && state.is_alone() { instead.clone() } else { event };
            state.push(What::Response, event, stays);
            if let Some(kept) = &mut state.kept {
                kept.instead = instead;
            }
        }
        let open = state.open;
        if let Some(kept) = &mut state.kept {
            kept.end();
            if !open {
                kept.fetched();
            }
        }
        state.wake();
    }

    /// Nobody can come back: what was read is kept no longer, and where nobody reads, nothing is.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        let State { events, kept: Some(kept), taken, open, .. } = &mut *state else { return };
        kept.forget();
        if kept.is_attached() {
            events.retain(|event| event.number > *taken);
        } else {
            *open = false;
            events.clear();
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

// === impl State ===

impl State {
    fn waiting(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| event.number > self.taken)
    }

    fn notify(&mut self, what: What, event: Bytes) {
        let stays = self.reserve(event.len());
        if !stays && self.is_alone() {
            self.dropped += 1;
        } else {
            self.push(what, event, stays);
        }
    }

    fn push(&mut self, what: What, event: Bytes, stays: bool) {
        self.newest += 1;
        self.events.push_back(Event { number: self.newest, what, bytes: event, stays });
        self.wake();
    }

    /// The newest progress that waits says something else from now on.
    fn replace_progress(&mut self, token: &RawValue, event: Bytes) {
        let sent = self.taken;
        let is_same = |event: &&mut Event| matches!(&event.what, What::Progress(of) if of.get() == token.get());
        let newest = self.events.iter_mut().rev().take_while(|event| event.number > sent).find(is_same);
        let Some(newest) = newest else { return };
        if let Some(kept) = self.kept.as_mut().filter(|_| newest.stays) {
            kept.free(newest.bytes.len());
            newest.stays = kept.reserve(event.len());
        }
        newest.bytes = event;
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The stream goes on, and nobody reads it.
    fn is_alone(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| !kept.is_attached())
    }

    /// Makes place for an event in what is kept; notifications go first, the oldest before the others.
    fn reserve(&mut self, length: usize) -> bool {
        let Some(kept) = &mut self.kept else { return false };
        while !kept.reserve(length) {
            let is_notification = |event: &Event| event.stays && matches!(event.what, What::Progress(_) | What::Log);
            let Some(at) = self.events.iter().position(is_notification).filter(|_| length <= MAX_REPLAY) else { return false };
            if let Some(event) = self.events.remove(at) {
                kept.free(event.bytes.len());
                self.dropped += u64::from(event.number > self.taken);
            }
        }
        true
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
