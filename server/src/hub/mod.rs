//! Sockets that have nothing to do: held streams, and idle connections. Neither has a task, a waker, a state of HTTP or a buffer.
//!
//! ```text
//! hyper → leave, arrive → a slot and a socket in our own epoll          notify → work: 64 writes, then calls get their turn
//! hyper → rest → the same ── bytes come → Returned → hyper              tick → comments, endings, stalled readers
//! ```
//! A stream begins in hyper, and is told through [`Stream`] there, as it is to its end over HTTP/2; [`crate::listener`] moves it
//! here when all it said is in its socket. One task does all the work, under one lock that no call takes.

mod ages;
mod encode;
mod index;
mod poller;
mod sessions;
mod slab;
mod slot;
mod state;
mod work;

use std::net::TcpStream;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

pub use encode::Kind;
use poller::Poller;
pub use slab::Ticket;
use slot::{Held, Next, Slot};
pub use state::Returned;
use state::State;

use crate::load::{HeldStream, OpenConnection};
use crate::mcp::subscriptions::Event;
use crate::session::{Incarnation, Record, SessionKey};

/// Keep-alive comments are spread over at most this many ticks of a period.
const TICKS: u32 = 128;
/// The shortest tick.
const SHORTEST_TICK: Duration = Duration::from_millis(10);
/// How often streams are looked at that may be too old.
const AGE_TICK: Duration = Duration::from_secs(1);
/// How often a drain ends its share of the streams.
const DRAIN_TICK: Duration = Duration::from_millis(100);

/// All held streams and idle connections of a shard. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Hub(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Woken when there is work, and when a drain starts or is cancelled.
    changed: Notify,
    /// End all streams, spread until then.
    ending: Mutex<Option<Instant>>,
    /// Connections inside hyper.
    inside: AtomicU64,
    runs: AtomicBool,
}

/// The connection's side of a stream that is inside hyper: events as bytes. Dropping it there lets the stream go.
#[derive(Debug)]
pub struct Stream {
    hub: Arc<Shared>,
    ticket: Ticket,
}

/// A stream that was cut because its reader did not take what was sent.
#[derive(Debug, thiserror::Error)]
#[error("the reader of the stream is too slow")]
pub struct Cut;

/// A connection is inside hyper, until dropped.
#[derive(Debug)]
pub struct Inside(Arc<Shared>);

/// What the hub does in which time: asked for at every tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two comments on a quiet stream.
    pub comments: Duration,
    /// How long a stream may be held; none: for ever.
    pub lifetime: Option<Duration>,
}

#[cfg(test)]
impl Pace {
    /// So much between two comments, and streams without end.
    pub(crate) fn of(comments: Duration) -> Self {
        Self { comments, lifetime: None }
    }
}

/// What the hub holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Held streams.
    pub streams: usize,
    /// Those without hyper.
    pub parked_streams: usize,
    /// Idle connections without hyper.
    pub parked_connections: usize,
    /// Sockets whose stream has ended, and whose client still sends.
    pub closing: usize,
    /// Bytes queued for streams.
    pub queued_bytes: usize,
    /// Streams that were cut since the start.
    pub cut: u64,
    /// Streams that were ended since the start because of their age.
    pub aged: u64,
}

impl Hub {
    /// Holds a stream. Its first event, if its kind has one, is queued already.
    pub fn hold(&self, kind: Kind, backlog: usize, counted: HeldStream) -> Stream {
        Stream { hub: Arc::clone(&self.0), ticket: lock(&self.0.state).hold(kind, backlog, counted) }
    }

    /// Sends an event on its way to every stream that wants it.
    pub fn notify(&self, event: &Event) {
        lock(&self.0.state).notify(event);
        self.0.changed.notify_one();
    }

    // === Sockets ===

    /// Whether sockets are taken: the hub runs.
    pub fn takes_sockets(&self) -> bool {
        self.0.runs.load(Relaxed)
    }

    /// A stream is about to leave hyper: dropping its [`Stream`] means nothing any more. Whether there still is one.
    pub fn leave(&self, stream: Ticket) -> bool {
        lock(&self.0.state).leave(stream)
    }

    /// The socket of a stream that left: everything said before is in it. `is_unchunked`: its end is the connection's.
    pub fn arrive(&self, stream: Ticket, socket: TcpStream, open: OpenConnection, is_unchunked: bool) {
        lock(&self.0.state).arrive(stream, socket, open, is_unchunked);
    }

    /// A stream that left does not arrive.
    pub fn forget(&self, stream: Ticket) {
        lock(&self.0.state).remove(stream);
    }

    /// Ends a stream with its result.
    pub fn end(&self, stream: Ticket) {
        lock(&self.0.state).end(stream);
    }

    /// An idle connection, until its client sends something.
    pub fn rest(&self, socket: TcpStream, open: OpenConnection) {
        lock(&self.0.state).rest(socket, open);
        self.0.changed.notify_one();
    }

    /// The process leaves: who rests is let go, but for those whose request waits in the socket.
    pub fn let_go(&self) {
        let mut state = lock(&self.0.state);
        state.is_leaving = true;
        let resting: Vec<_> = state.slots.iter().filter(|(_, slot)| matches!(slot, Slot::Idle(_))).map(|(at, _)| at).collect();
        for ticket in resting {
            state.let_go(ticket);
        }
        self.0.changed.notify_one();
    }

    /// Sockets that are here.
    pub fn sockets(&self) -> usize {
        let counts = self.counts();
        counts.parked_streams + counts.parked_connections + counts.closing
    }

    /// A connection is inside hyper until this is dropped.
    pub fn inside(&self) -> Inside {
        self.0.inside.fetch_add(1, Relaxed);
        Inside(Arc::clone(&self.0))
    }

    /// Connections inside hyper.
    pub fn inside_hyper(&self) -> u64 {
        self.0.inside.load(Relaxed)
    }

    // === Legacy sessions ===

    /// A stream of a session began here at a time, microseconds since the epoch.
    pub fn opened(&self, session: SessionKey, at: u64) {
        self.change(session, |session| session.opened = NonZeroU64::new(at));
    }

    /// A stream of a session began on another process at a time; `own` is this one. The newest of all is sent to.
    pub fn opened_elsewhere(&self, session: SessionKey, at: u64, other: Incarnation, own: Incarnation) {
        self.change(session, |session| {
            if session.opened.is_some_and(|here| (here.get(), own) < (at, other)) {
                session.newer = Some(Box::new(other));
            }
        });
    }

    fn change<R>(&self, session: SessionKey, change: impl FnOnce(&mut sessions::Session) -> R) -> Option<R> {
        let State { sessions, index, .. } = &mut *lock(&self.0.state);
        sessions.change(index, session, change)
    }

    /// The last stream of a session on another process is gone, or with `None` the process is. Returns the sessions that
    /// are sent to here again, with the time their stream began.
    pub fn closed_elsewhere(&self, session: Option<SessionKey>, other: Incarnation) -> Vec<(SessionKey, u64)> {
        let State { sessions, index, .. } = &mut *lock(&self.0.state);
        let yielded = |(key, kept): (SessionKey, &sessions::Session)| {
            (kept.newer.as_deref() == Some(&other) && session.is_none_or(|session| session == key)).then_some(key)
        };
        let back: Vec<_> = match session {
            Some(session) => sessions.get(session).and_then(|kept| yielded((session, kept))).into_iter().collect(),
            None => sessions.iter().filter_map(yielded).collect(),
        };
        let again = |key: SessionKey| {
            let opened = sessions.change(index, key, |session| {
                session.newer = None;
                session.opened
            });
            Some((key, opened??.get()))
        };
        back.into_iter().filter_map(again).collect()
    }

    /// Sessions whose newest stream is here, with the time it began.
    pub fn newest_here(&self) -> Vec<(SessionKey, u64)> {
        let state = lock(&self.0.state);
        let here = state.sessions.iter().filter(|(_, session)| session.newer.is_none());
        here.filter_map(|(key, session)| Some((key, session.opened?.get()))).collect()
    }

    /// From now on `released` is told of sessions whose last stream here is gone.
    pub fn tell_released(&self, released: mpsc::Sender<SessionKey>) {
        lock(&self.0.state).released.get_or_insert(released);
    }

    /// What a legacy session is subscribed to may have changed, or a stream of it has begun: it hears of what its record says now,
    /// if it has a stream here; nothing is kept of one that has none. The record is asked for while the hub is locked: of
    /// several at once the last to change anything is the last to ask.
    pub fn refresh(&self, session: SessionKey, record: impl FnOnce() -> Option<Record>) {
        let State { sessions, index, .. } = &mut *lock(&self.0.state);
        if sessions.get(session).is_some() {
            let uris = record().map(|record| sessions::shared(index, record.uris.iter()));
            sessions.change(index, session, |session| session.uris = uris.unwrap_or_default());
        }
    }

    /// Legacy sessions with a stream here.
    pub fn sessions(&self) -> Vec<SessionKey> {
        lock(&self.0.state).sessions.iter().map(|(key, _)| key).collect()
    }

    /// Ends the streams of a session.
    pub fn end_session(&self, session: SessionKey) {
        let mut state = lock(&self.0.state);
        let streams = state.sessions.get(session).map(|session| session.streams.clone());
        for stream in streams.into_iter().flatten() {
            state.end(stream);
        }
    }

    // === Endings ===

    /// Ends all streams, those of now and those still to come, spread evenly until a moment. Oldest first.
    pub fn end_all(&self, until: Instant) {
        *lock(&self.0.ending) = Some(until);
        self.0.changed.notify_one();
    }

    /// Undoes [`Hub::end_all`] for the streams that still are.
    pub fn keep_all(&self) {
        *lock(&self.0.ending) = None;
        self.0.changed.notify_one();
    }

    /// Ends some streams: those that own the most bytes first, which those inside hyper do, then the oldest. Returns how many.
    pub fn shed(&self, streams: usize) -> usize {
        let mut state = lock(&self.0.state);
        let mut open = state.open();
        open.sort_unstable_by_key(|(bytes, age, _)| (std::cmp::Reverse(*bytes), *age));
        open.truncate(streams);
        let shed = open.len();
        state.doom(open.into_iter().map(|(_, _, ticket)| ticket));
        drop(state);
        self.0.changed.notify_one();
        shed
    }

    /// What is held.
    pub fn counts(&self) -> Counts {
        lock(&self.0.state).counts
    }

    // === The task ===

    /// Works until dropped: tells streams, sends comments, ends what is to end. `take` goes on with connections whose client has
    /// sent something.
    pub async fn run(&self, pace: impl Fn() -> Pace, take: impl Fn(Returned)) {
        let watched = match Poller::new() {
            Ok((poller, watched)) => {
                lock(&self.0.state).poller = Some(poller);
                self.0.runs.store(true, Relaxed);
                Some(watched)
            }
            Err(error) => {
                tracing::warn!(%error, "held streams and idle connections stay in hyper");
                None
            }
        };
        let _closes = CloseAll(&self.0);
        let (mut turn, mut next_tick) = (0, Instant::now());
        let (mut next_ending, mut owed) = (Instant::now(), 0);
        let (start, mut next_look) = (Instant::now(), Instant::now());
        let mut happened = Vec::with_capacity(poller::EVENTS);
        loop {
            let (more, returned) = lock(&self.0.state).turn(&mut happened);
            returned.into_iter().for_each(&take);
            let closing = lock(&self.0.state).closing.front().map(|(at, _)| *at);
            if self.ending().is_none() {
                next_ending = Instant::now() + DRAIN_TICK;
            }
            // Ticks first: work without end, or sockets that are never quiet, must not keep them back.
            tokio::select! {
                biased;
                () = sleep_until(next_tick) => {
                    let period = pace().comments;
                    let step = u32::try_from(period.as_millis() / SHORTEST_TICK.as_millis()).unwrap_or(TICKS).clamp(1, TICKS);
                    if lock(&self.0.state).comments(turn % step, step) {
                        turn = (turn + 1) % step;
                    }
                    next_tick = Instant::now() + (period / step).max(Duration::from_millis(1));
                }
                () = sleep_until(next_look) => {
                    next_look = Instant::now() + AGE_TICK;
                    lock(&self.0.state).end_old(start.elapsed(), pace().lifetime);
                }
                () = sleep_until(next_ending), if self.ending().is_some() => {
                    next_ending = Instant::now() + DRAIN_TICK;
                    // Asked again: a drain that was undone a moment ago ends nothing.
                    owed = self.ending().map_or(0, |until| self.end_share(until, Instant::now(), owed));
                }
                // Calls get their turn.
                () = tokio::task::yield_now(), if more => {}
                () = self.0.changed.notified(), if !more => {}
                () = readable(watched.as_ref()), if !more => {}
                () = sleep_until(closing.unwrap_or(next_tick)), if !more && closing.is_some() => {}
            }
        }
    }

    fn ending(&self) -> Option<Instant> {
        *lock(&self.0.ending)
    }

    /// Ends the share of the streams that is due after one more tick, so that the last ends at `until`: the fraction of a
    /// stream that a tick owes is carried to the next.
    fn end_share(&self, until: Instant, now: Instant, owed: u128) -> u128 {
        let mut state = lock(&self.0.state);
        let mut open = state.open();
        let left = until.saturating_duration_since(now).as_millis();
        let owed = owed + open.len() as u128 * DRAIN_TICK.as_millis();
        let share = owed.checked_div(left).and_then(|share| usize::try_from(share).ok()).unwrap_or(usize::MAX);
        open.sort_unstable_by_key(|(_, age, _)| *age);
        state.doom(open.into_iter().take(share).map(|(_, _, ticket)| ticket));
        owed.checked_rem(left).unwrap_or(0)
    }
}

/// Resolves when something may have happened to a socket.
async fn readable(watched: Option<&tokio::io::unix::AsyncFd<Poller>>) {
    match watched {
        // Cleared before it is looked at: what happens meanwhile is told again.
        Some(watched) => match watched.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

impl State {
    /// Looks at sockets, does some of the work, and takes out what goes back to hyper. Whether there is more to do.
    fn turn(&mut self, happened: &mut Vec<poller::Happened>) -> (bool, Vec<Returned>) {
        let more = self.poller.clone().is_some_and(|poller| poller.look(happened));
        for what in happened.drain(..) {
            self.happened(what);
        }
        let now = Instant::now();
        while let Some((_, ticket)) = self.closing.pop_front_if(|(at, _)| *at <= now) {
            self.remove(ticket);
        }
        let more = self.work() || more;
        (more, std::mem::take(&mut self.returned))
    }

    /// Streams that are not ending.
    fn held(&self) -> impl Iterator<Item = (Ticket, &Held)> {
        self.slots.iter().filter_map(|(ticket, slot)| match slot {
            Slot::Stream(held) if held.is_open() && !held.is_doomed => Some((ticket, held)),
            Slot::Stream(_) | Slot::Idle(_) | Slot::Closing(_) => None,
        })
    }

    /// The same: bytes they own, age.
    fn open(&self) -> Vec<(usize, u64, Ticket)> {
        self.held().map(|(ticket, held)| (held.bytes(), held.age, ticket)).collect()
    }

    /// Ends the streams whose time is over; `now` counts from the start.
    fn end_old(&mut self, now: Duration, lifetime: Option<Duration>) {
        self.ages.mark(now, self.next_age, lifetime);
        let Some(lifetime) = lifetime else { return };
        let is_old = |held: &Held| self.ages.is_over(held.age, now, lifetime);
        let old: Vec<_> = self.held().filter(|(_, held)| is_old(held)).map(|(ticket, _)| ticket).collect();
        self.counts.aged += old.len() as u64;
        self.doom(old.into_iter());
    }

    /// These are to end: those inside hyper at once, the others one after another.
    fn doom(&mut self, streams: impl Iterator<Item = Ticket>) {
        for ticket in streams {
            let Some(Slot::Stream(held)) = self.slots.get_mut(ticket) else { continue };
            held.is_doomed = true;
            if held.socket.is_some() {
                self.work.endings.push_back(ticket);
            } else {
                self.end(ticket);
            }
        }
    }
}

/// Closes all sockets when the hub runs no more.
struct CloseAll<'a>(&'a Shared);

impl Drop for CloseAll<'_> {
    fn drop(&mut self) {
        self.0.runs.store(false, Relaxed);
        let mut state = lock(&self.0.state);
        state.poller = None;
        let here: Vec<_> = state.slots.iter().filter(|(_, slot)| slot.has_socket()).map(|(ticket, _)| ticket).collect();
        for ticket in here {
            state.remove(ticket);
        }
        state.returned.clear();
    }
}

// === impl Stream ===

impl Stream {
    /// What names it.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// The next bytes to send; none when the stream has ended.
    ///
    /// # Errors
    /// When it was cut: the connection is to be closed without an end of body.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        match lock(&self.hub.state).poll(self.ticket, cx.waker()) {
            Next::Bytes(bytes) => Poll::Ready(Some(Ok(bytes))),
            Next::Nothing => Poll::Pending,
            Next::End => Poll::Ready(None),
            Next::Cut => Poll::Ready(Some(Err(Cut))),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        lock(&self.hub.state).dropped(self.ticket);
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
