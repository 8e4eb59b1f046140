//! Held streams: who holds one, what is queued for it, and how it ends.
//!
//! ```text
//! hold → Stream (polled by the connection)      notify → queues, newest wins      tick → keep-alives, endings, stalls
//! ```
//! A stream owns no task and no timer: one task ticks for all. This version keeps the connection underneath in hyper;
//! nothing in the interface knows that.

mod encode;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

pub use encode::Kind;

use crate::limits::STALLED_PERIODS;
use crate::load::HeldStream;
use crate::mcp::subscriptions::Event;
use crate::session::{Incarnation, SessionKey};
use crate::sse;

/// Keep-alive comments are spread over this many ticks of a period.
const TICKS: u32 = 16;
/// How often a drain ends its share of the streams.
const DRAIN_TICK: Duration = Duration::from_millis(100);

/// All held streams of a shard. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Hub(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Woken when a drain starts or is cancelled.
    changed: Notify,
    /// Is told of sessions whose last stream here is gone.
    released: OnceLock<mpsc::Sender<SessionKey>>,
}

#[derive(Debug, Default)]
struct State {
    slots: Vec<Option<Arc<Slot>>>,
    free: Vec<usize>,
    next: u64,
    /// Streams of a legacy session, newest last: only the newest is sent to (2025-11-25 `basic/transports` §Multiple Connections).
    sessions: HashMap<SessionKey, Vec<usize>>,
    /// Resources a legacy session is subscribed to.
    subscriptions: HashMap<SessionKey, BTreeSet<Arc<str>>>,
    /// When the newest stream here of a session began, microseconds since the epoch.
    opened: HashMap<SessionKey, u64>,
    /// Sessions with a stream here and a newer one on another shard, which is sent to in its place.
    newer: HashMap<SessionKey, Incarnation>,
    /// End all streams, spread until then.
    ending: Option<Instant>,
}

#[derive(Debug)]
struct Slot {
    kind: Kind,
    /// Grows with every stream: the order of age.
    age: u64,
    backlog: usize,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    stalled: u8,
    waker: Option<Waker>,
    end: Option<End>,
}

#[derive(Debug, PartialEq, Eq)]
enum Waiting {
    Opened,
    Event(Event),
    KeepAlive,
}

impl Waiting {
    /// Whether the newer stands for the older.
    fn replaces(&self, older: &Self) -> bool {
        match (self, older) {
            (Self::Event(newer), Self::Event(older)) => newer.replaces(older),
            (newer, older) => newer == older,
        }
    }
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With the completion result, after what is queued.
    Complete,
    /// At once: the reader took nothing.
    Cut,
    /// The completion result was sent.
    Done,
}

/// The connection's side of a held stream: events as bytes. Dropping it lets the stream go.
#[derive(Debug)]
pub struct Stream {
    hub: Arc<Shared>,
    index: usize,
    slot: Arc<Slot>,
    _counted: HeldStream,
}

/// A stream that was cut because its reader did not take what was sent.
#[derive(Debug, thiserror::Error)]
#[error("the reader of the stream is too slow")]
pub struct Cut;

/// What the hub holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Held streams.
    pub streams: usize,
    /// Bytes queued for them.
    pub queued_bytes: usize,
}

impl Hub {
    /// Holds a stream. Its first event, if its kind has one, is queued already.
    pub fn hold(&self, kind: Kind, backlog: usize, counted: HeldStream) -> Stream {
        let mut state = lock(&self.0.state);
        let age = state.next;
        state.next += 1;
        let queue = Queue { waiting: VecDeque::from([Waiting::Opened]), ..Queue::default() };
        let slot = Arc::new(Slot { kind, age, backlog, queue: Mutex::new(queue) });
        let index = state.free.pop().unwrap_or_else(|| {
            state.slots.push(None);
            state.slots.len() - 1
        });
        if let Kind::Session { session } = &slot.kind {
            state.sessions.entry(*session).or_default().push(index);
            state.newer.remove(session);
        }
        state.slots[index] = Some(Arc::clone(&slot));
        Stream { hub: Arc::clone(&self.0), index, slot, _counted: counted }
    }

    /// Queues an event for every stream that wants it.
    pub fn notify(&self, event: &Event) {
        let state = lock(&self.0.state);
        for (index, slot) in state.slots.iter().enumerate() {
            let Some(slot) = slot else { continue };
            let wanted = match &slot.kind {
                Kind::Listen { filter, .. } => filter.wants(event),
                Kind::Session { session } => {
                    !state.newer.contains_key(session)
                        && state.sessions.get(session).and_then(|streams| streams.last()) == Some(&index)
                        && match event {
                            Event::ResourceUpdated(uri) => {
                                state.subscriptions.get(session).is_some_and(|uris| uris.contains(uri))
                            }
                            Event::ToolsChanged | Event::PromptsChanged | Event::ResourcesChanged => true,
                            // There are no tasks in these revisions.
                            Event::TaskChanged { .. } => false,
                        }
                }
            };
            if wanted {
                slot.push(Waiting::Event(event.clone()));
            }
        }
    }

    /// A stream of a session began here at a time, microseconds since the epoch.
    pub fn opened(&self, session: SessionKey, at: u64) {
        let mut state = lock(&self.0.state);
        if state.sessions.contains_key(&session) {
            state.opened.insert(session, at);
        }
    }

    /// A stream of a session began on another process at a time; `own` is this one. The newest of all is sent to.
    pub fn opened_elsewhere(&self, session: SessionKey, at: u64, other: Incarnation, own: Incarnation) {
        let mut state = lock(&self.0.state);
        if state.opened.get(&session).is_some_and(|here| (*here, own) < (at, other)) {
            state.newer.insert(session, other);
        }
    }

    /// The last stream of a session on another process is gone, or with `None` the process is. Returns the sessions that
    /// are sent to here again, with the time their stream began.
    pub fn closed_elsewhere(&self, session: Option<SessionKey>, other: Incarnation) -> Vec<(SessionKey, u64)> {
        let mut state = lock(&self.0.state);
        let back = |(yielded, to): (&SessionKey, &Incarnation)| {
            (*to == other && session.is_none_or(|session| session == *yielded)).then_some(*yielded)
        };
        let back: Vec<_> = state.newer.iter().filter_map(back).collect();
        for session in &back {
            state.newer.remove(session);
        }
        back.into_iter().filter_map(|session| Some((session, *state.opened.get(&session)?))).collect()
    }

    /// Sessions whose newest stream is here, with the time it began.
    pub fn newest_here(&self) -> Vec<(SessionKey, u64)> {
        let state = lock(&self.0.state);
        let here = state.opened.iter().filter(|(session, _)| !state.newer.contains_key(session));
        here.map(|(session, at)| (*session, *at)).collect()
    }

    /// From now on `released` is told of sessions whose last stream here is gone.
    pub fn tell_released(&self, released: mpsc::Sender<SessionKey>) {
        let _ = self.0.released.set(released);
    }

    /// A legacy session is subscribed to these resources, and to no others.
    pub fn subscribed(&self, session: SessionKey, uris: &BTreeSet<Arc<str>>) {
        let mut state = lock(&self.0.state);
        if uris.is_empty() {
            state.subscriptions.remove(&session);
        } else {
            state.subscriptions.insert(session, uris.clone());
        }
    }

    /// Legacy sessions of which something is kept here: a stream, or subscriptions.
    pub fn sessions(&self) -> Vec<SessionKey> {
        let state = lock(&self.0.state);
        let quiet = state.subscriptions.keys().filter(|session| !state.sessions.contains_key(session));
        state.sessions.keys().chain(quiet).copied().collect()
    }

    /// Ends the streams of a session and forgets its subscriptions.
    pub fn end_session(&self, session: SessionKey) {
        let mut state = lock(&self.0.state);
        state.subscriptions.remove(&session);
        for index in state.sessions.get(&session).into_iter().flatten() {
            if let Some(slot) = &state.slots[*index] {
                slot.end(End::Complete);
            }
        }
    }

    /// Ends all streams, those of now and those still to come, spread evenly until a moment. Oldest first.
    pub fn end_all(&self, until: Instant) {
        lock(&self.0.state).ending = Some(until);
        self.0.changed.notify_one();
    }

    /// Undoes [`Hub::end_all`] for the streams that still are.
    pub fn keep_all(&self) {
        lock(&self.0.state).ending = None;
        self.0.changed.notify_one();
    }

    /// Ends some streams now: those with the most queued bytes first, then the oldest. Returns how many.
    pub fn shed(&self, streams: usize) -> usize {
        let mut open = self.open();
        open.sort_by_key(|(age, queued, _)| (std::cmp::Reverse(*queued), *age));
        open.iter().take(streams).filter(|(_, _, slot)| slot.end(End::Complete)).count()
    }

    /// How many streams are held, and what is queued for them.
    pub fn counts(&self) -> Counts {
        let state = lock(&self.0.state);
        let slots = state.slots.iter().flatten();
        slots.fold(Counts { streams: 0, queued_bytes: 0 }, |counts, slot| Counts {
            streams: counts.streams + 1,
            queued_bytes: counts.queued_bytes + lock(&slot.queue).bytes,
        })
    }

    /// Ticks until dropped: keep-alive comments on quiet streams, endings of a drain, cuts of stalled readers.
    /// `period` gives the time between two comments, asked for at every tick.
    pub async fn run(&self, period: impl Fn() -> Duration) {
        let mut turn = 0;
        let mut next_tick = Instant::now();
        let mut owed = 0;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next_tick) => {
                    self.keep_alive(turn);
                    turn = (turn + 1) % TICKS as usize;
                    next_tick = Instant::now() + (period() / TICKS).max(Duration::from_millis(1));
                }
                () = tokio::time::sleep(DRAIN_TICK), if self.ending().is_some() => {
                    // Asked again: a drain that was undone a moment ago ends nothing.
                    owed = self.ending().map_or(0, |until| self.end_share(until, Instant::now(), owed));
                }
                () = self.0.changed.notified() => {}
            }
        }
    }

    fn ending(&self) -> Option<Instant> {
        lock(&self.0.state).ending
    }

    fn keep_alive(&self, turn: usize) {
        let state = lock(&self.0.state);
        for slot in state.slots.iter().skip(turn).step_by(TICKS as usize).flatten() {
            slot.keep_alive();
        }
    }

    /// Ends the share of the streams that is due after one more tick, so that the last ends at `until`: the fraction of a
    /// stream that a tick owes is carried to the next.
    fn end_share(&self, until: Instant, now: Instant, owed: u128) -> u128 {
        let mut open = self.open();
        let left = until.saturating_duration_since(now).as_millis();
        let owed = owed + open.len() as u128 * DRAIN_TICK.as_millis();
        let share = owed.checked_div(left).and_then(|share| usize::try_from(share).ok()).unwrap_or(usize::MAX);
        open.sort_by_key(|(age, _, _)| *age);
        for (_, _, slot) in open.iter().take(share) {
            slot.end(End::Complete);
        }
        owed.checked_rem(left).unwrap_or(0)
    }

    /// Streams that are not ending: age, queued bytes.
    fn open(&self) -> Vec<(u64, usize, Arc<Slot>)> {
        let state = lock(&self.0.state);
        let slots = state.slots.iter().flatten();
        slots
            .filter_map(|slot| {
                let queue = lock(&slot.queue);
                queue.end.is_none().then(|| (slot.age, queue.bytes, Arc::clone(slot)))
            })
            .collect()
    }
}

// === impl Slot ===

impl Slot {
    fn push(&self, waiting: Waiting) {
        let mut queue = lock(&self.queue);
        if queue.end.is_some() || queue.waiting.contains(&waiting) {
            return;
        }
        let bytes = self.kind.size(&waiting);
        if let Some(older) = queue.waiting.iter().position(|older| waiting.replaces(older))
            && let Some(older) = queue.waiting.remove(older)
        {
            queue.bytes = queue.bytes.saturating_sub(self.kind.size(&older));
        }
        if queue.bytes + bytes > self.backlog {
            queue.end = Some(End::Cut);
            queue.waiting.clear();
        } else {
            queue.bytes += bytes;
            queue.waiting.push_back(waiting);
        }
        queue.wake();
    }

    /// A quiet stream gets a comment; one that has not taken its backlog for some periods is cut.
    fn keep_alive(&self) {
        let mut queue = lock(&self.queue);
        if queue.waiting.is_empty() {
            drop(queue);
            self.push(Waiting::KeepAlive);
            return;
        }
        queue.stalled += 1;
        if queue.stalled >= STALLED_PERIODS && queue.end != Some(End::Done) {
            queue.end = Some(End::Cut);
            queue.waiting.clear();
            queue.wake();
        }
    }

    /// Whether it was still open.
    fn end(&self, end: End) -> bool {
        let mut queue = lock(&self.queue);
        let open = queue.end.is_none();
        if open {
            queue.end = Some(end);
            queue.wake();
        }
        open
    }
}

impl Queue {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

// === impl Stream ===

impl Stream {
    /// The next bytes to send; none when the stream has ended.
    ///
    /// # Errors
    /// When it was cut: the connection is to be closed without an end of body.
    pub fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        let slot = &self.slot;
        let mut queue = lock(&slot.queue);
        queue.stalled = 0;
        if let Some(waiting) = queue.waiting.pop_front() {
            queue.bytes = queue.bytes.saturating_sub(slot.kind.size(&waiting));
            let bytes = match waiting {
                Waiting::Opened => slot.kind.opened(),
                Waiting::Event(event) => slot.kind.event(&event),
                Waiting::KeepAlive => sse::KEEP_ALIVE,
            };
            return Poll::Ready(Some(Ok(bytes)));
        }
        match queue.end {
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(End::Complete) => {
                queue.end = Some(End::Done);
                Poll::Ready(slot.kind.completed().map(Ok))
            }
            Some(End::Cut) => Poll::Ready(Some(Err(Cut))),
            Some(End::Done) => Poll::Ready(None),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = lock(&self.hub.state);
        state.slots[self.index] = None;
        state.free.push(self.index);
        if let Kind::Session { session } = &self.slot.kind
            && let Some(streams) = state.sessions.get_mut(session)
        {
            streams.retain(|index| *index != self.index);
            if streams.is_empty() {
                state.sessions.remove(session);
                let was_newest = state.opened.remove(session).is_some() && state.newer.remove(session).is_none();
                if let Some(released) = self.hub.released.get().filter(|_| was_newest) {
                    // When it is full an older stream elsewhere stays quiet until the session opens another.
                    let _ = released.try_send(*session);
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
