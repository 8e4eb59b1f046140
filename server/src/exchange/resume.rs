//! Streams of legacy requests that can be resumed (2025-11-25 `basic/transports` §Resumability and Redelivery).
//!
//! ```text
//! POST → stream begins → its request runs as a task of its own → events, kept within bytes → a reader: the POST's connection
//!        connection goes, or the handler closes it → the request goes on → GET with Last-Event-ID → another reader
//! ```
//! A stream has one reader at a time: who comes later takes over, because a connection may be dead before its server knows. It
//! is forgotten when its response was fetched, or [`RESULT_KEPT`] after its request ended.
//!
//! An event's id is `{incarnation}.{slot}.{number}.{mac}`: any shard finds the one that keeps the stream, and nobody who did not
//! get the id from us, in this session, can resume it.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::outbox::Taken;
use super::{Outbox, id, lock};
use crate::jsonrpc::{self, ErrorObject};
use crate::limits::{MAX_FORWARDED_RESUMES, MAX_ORPHANS, MAX_REPLAY, RESULT_KEPT};
use crate::load::{InFlight, Load, Orphan, ReplayBytes, Unfetched};
use crate::mcp::version::Version;
use crate::session::{Incarnation, SessionKey, Tagger};
use crate::sse;

/// From this version on a stream begins with an id without data; clients of older ones cannot read such an event.
pub const POLLED_SINCE: Version = Version::V2025_11_25;
/// What a tag on an id is for.
const PURPOSE: &str = "mcp-server event id v1";
/// Bytes of events that another shard gets at one time; one event may be larger.
const BATCH: usize = 256 << 10;

/// The streams of this shard that can be resumed.
#[derive(Debug)]
pub struct Resumes {
    incarnation: Incarnation,
    tagger: Tagger,
    next: AtomicU64,
    streams: Mutex<HashMap<u64, (SessionKey, Arc<Outbox>)>>,
    load: Arc<Load>,
    forwards: Arc<Semaphore>,
    counts: [AtomicU64; Resumed::ALL.len()],
}

/// How an attempt to resume a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// On the shard that keeps it.
    Here,
    /// Through another.
    Elsewhere,
    /// Not at all: the id is forged, or the stream is forgotten.
    Refused,
}

/// Where an event id belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// Stream and event of this shard.
    Here(u64, u64),
    /// Stream and event of the process with this boot nonce.
    Elsewhere(Incarnation, u64, u64),
    /// Nowhere: this server never gave that id to this session.
    Forged,
}

/// What another shard gets of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// As whom it goes on.
    pub reader: u64,
    /// The newest event it has then.
    pub after: u64,
    /// Nothing more will come.
    pub ended: bool,
    /// The events, as they go over the wire.
    pub events: String,
}

/// Reads a stream, until dropped; it may be resumed then.
#[derive(Debug)]
pub struct Reader {
    outbox: Arc<Outbox>,
    number: u64,
    after: u64,
    first: Option<Bytes>,
}

/// What is kept of a stream.
#[derive(Debug)]
pub(super) struct Kept {
    name: Name,
    load: Arc<Load>,
    bytes: ReplayBytes,
    reader: u64,
    attached: bool,
    /// The newest event that a client must not miss and that is not kept any more.
    pub(super) lost: u64,
    /// The request has ended.
    pub(super) ended: bool,
    /// Nobody can come back for it.
    pub(super) forgotten: bool,
    /// What is answered when the response is too large to be kept.
    pub(super) instead: Bytes,
    in_flight: Option<InFlight>,
    orphan: Option<Orphan>,
    unfetched: Option<Unfetched>,
    abort: Option<AbortHandle>,
    done: Arc<Notify>,
}

#[derive(Debug)]
struct Name {
    incarnation: Incarnation,
    slot: u64,
    session: SessionKey,
    tagger: Tagger,
}

/// A stream that is known, until dropped.
struct Known {
    resumes: Arc<Resumes>,
    slot: u64,
    outbox: Arc<Outbox>,
}

impl Resumed {
    /// All.
    pub const ALL: [Self; 3] = [Self::Here, Self::Elsewhere, Self::Refused];

    /// Label of its metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Elsewhere => "elsewhere",
            Self::Refused => "refused",
        }
    }
}

impl Resumes {
    /// None yet, of a process with this boot nonce.
    pub fn new(incarnation: Incarnation, tagger: Tagger, load: Arc<Load>) -> Self {
        Self {
            incarnation,
            tagger,
            next: AtomicU64::new(1),
            streams: Mutex::default(),
            load,
            forwards: Arc::new(Semaphore::new(MAX_FORWARDED_RESUMES)),
            counts: Default::default(),
        }
    }

    /// Begins the stream of a legacy request: from here on the request runs whether its stream is read or not. `response` gives
    /// the JSON of its response, none when it ends without one; `retry_ms` is how long a client waits before it comes back.
    pub fn begin(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        (session, version): (SessionKey, Version),
        response: impl Future<Output = Option<Vec<u8>>> + Send + 'static,
        in_flight: Option<InFlight>,
        retry_ms: u64,
    ) -> Reader {
        let slot = self.next.fetch_add(1, Relaxed);
        let name = Name { incarnation: self.incarnation, slot, session, tagger: self.tagger.clone() };
        let first = (version >= POLLED_SINCE).then(|| sse::priming(&name.id(0), retry_ms));
        let done = Arc::new(Notify::new());
        let kept = Kept {
            name,
            load: Arc::clone(&self.load),
            bytes: self.load.replay(),
            reader: 0,
            attached: false,
            lost: 0,
            ended: false,
            forgotten: false,
            instead: Bytes::new(),
            in_flight,
            orphan: None,
            unfetched: None,
            abort: None,
            done: Arc::clone(&done),
        };
        let number = outbox.begin(kept);
        lock(&self.streams).insert(slot, (session, Arc::clone(outbox)));
        let known = Known { resumes: Arc::clone(self), slot, outbox: Arc::clone(outbox) };
        let task = tokio::spawn(async move {
            let response = response.await;
            known.outbox.end(response.as_deref());
            drop(response);
            // Whoever still reads it then goes on reading, and cannot come back.
            let _ = timeout(RESULT_KEPT, done.notified()).await;
            drop(known);
        });
        if let Some(kept) = &mut outbox.state().kept {
            kept.abort = Some(task.abort_handle());
        }
        Reader { outbox: Arc::clone(outbox), number, after: 0, first }
    }

    /// Where an id belongs that a client of a session brought.
    pub fn find(&self, session: SessionKey, id: &str) -> Whereabouts {
        let Some((incarnation, [slot, number], tag)) = id::read(id) else { return Whereabouts::Forged };
        if !self.tagger.verify(PURPOSE, &tagged(incarnation, slot, number, session), &tag) {
            return Whereabouts::Forged;
        }
        if incarnation == self.incarnation {
            Whereabouts::Here(slot, number)
        } else {
            Whereabouts::Elsewhere(incarnation, slot, number)
        }
    }

    /// Resumes a stream behind an event; none when it is forgotten, or all of it was read.
    pub fn resume(&self, session: SessionKey, slot: u64, after: u64) -> Option<Reader> {
        let outbox = self.of(session, slot)?;
        let number = outbox.attach(after, false)?;
        Some(Reader { outbox, number, after, first: None })
    }

    /// What another shard hands on: events behind one, as soon as there are any, at the latest after `wait`. `reader` is 0 when
    /// it begins to. None when the stream is forgotten.
    pub async fn batch(&self, session: SessionKey, slot: u64, after: u64, reader: u64, wait: Duration) -> Option<Batch> {
        let outbox = self.of(session, slot)?;
        let reader = if reader == 0 { outbox.attach(after, true)? } else { reader };
        let mut batch = Batch { reader, after, ended: false, events: String::new() };
        // The end is told on its own: who asks for it has taken what came before.
        let all = poll_fn(|cx| {
            while batch.events.is_empty() || (batch.events.len() < BATCH && outbox.has_behind(batch.after)) {
                match outbox.take(reader, batch.after, cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Taken::End) => {
                        batch.ended = true;
                        break;
                    }
                    Poll::Ready(Taken::Event(number, event)) => {
                        batch.after = number;
                        batch.events.push_str(&String::from_utf8_lossy(&event));
                    }
                }
            }
            Poll::Ready(())
        });
        let _ = timeout(wait, all).await;
        Some(batch)
    }

    /// Room to hand on a stream of another shard; none when as many are as may be.
    pub fn forward(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.forwards).try_acquire_owned().ok()
    }

    /// Forgets the streams of a session that is over: nobody may come back for them. Who reads one goes on reading.
    pub fn end_session(&self, session: SessionKey) {
        let gone: Vec<_> = lock(&self.streams).extract_if(|_, (of, _)| *of == session).collect();
        for (_, (_, outbox)) in &gone {
            outbox.forget();
        }
    }

    /// Counts an attempt.
    pub fn count(&self, resumed: Resumed) {
        self.counts[resumed as usize].fetch_add(1, Relaxed);
    }

    /// Attempts since the start that ended like this.
    pub fn counted(&self, resumed: Resumed) -> u64 {
        self.counts[resumed as usize].load(Relaxed)
    }

    /// How many can be resumed.
    pub fn kept(&self) -> usize {
        lock(&self.streams).len()
    }

    fn of(&self, session: SessionKey, slot: u64) -> Option<Arc<Outbox>> {
        lock(&self.streams).get(&slot).filter(|(of, _)| *of == session).map(|(_, outbox)| Arc::clone(outbox))
    }
}

/// The response of a request whose response was too large to be kept.
pub(super) fn instead_of(response: &[u8]) -> Bytes {
    #[derive(Deserialize)]
    struct Answered<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    let id = serde_json::from_slice(response).ok().and_then(|Answered { id }| id);
    let message = "the client was away when the response came, and it is larger than is kept for it; call again";
    sse::message(&jsonrpc::failure(id, &ErrorObject::new(jsonrpc::INTERNAL_ERROR, message)))
}

fn tagged(incarnation: Incarnation, slot: u64, number: u64, session: SessionKey) -> Vec<u8> {
    let (of, at) = (session.number.to_be_bytes(), number.to_be_bytes());
    [&incarnation[..], &slot.to_be_bytes(), &at, &session.incarnation, &of].concat()
}

// === impl Name ===

impl Name {
    fn id(&self, number: u64) -> String {
        let tag = self.tagger.tag(PURPOSE, &tagged(self.incarnation, self.slot, number, self.session));
        id::write(self.incarnation, &[self.slot, number], &tag)
    }
}

// === impl Kept ===

impl Kept {
    pub(super) fn id(&self, number: u64) -> String {
        self.name.id(number)
    }

    pub(super) fn reader(&self) -> u64 {
        self.reader
    }

    pub(super) fn is_attached(&self) -> bool {
        self.attached
    }

    /// A reader on this shard comes.
    pub(super) fn attach(&mut self) -> u64 {
        self.attached = true;
        self.orphan = None;
        self.unfetched = None;
        self.reader += 1;
        self.reader
    }

    /// A reader on another shard comes. This one cannot see it go: the stream counts as one without a client.
    pub(super) fn attach_elsewhere(&mut self) -> Option<u64> {
        if !self.leave() {
            return None;
        }
        self.reader += 1;
        Some(self.reader)
    }

    /// Whether its client may go while the request runs on; from then on there is room for that.
    pub(super) fn may_be_left(&mut self) -> bool {
        if self.ended || !self.attached {
            return false;
        }
        self.orphan = self.orphan.take().or_else(|| self.load.orphan(MAX_ORPHANS));
        self.orphan.is_some()
    }

    /// Its reader goes; `false` when as many are without one as may be.
    pub(super) fn leave(&mut self) -> bool {
        if self.forgotten && self.ended {
            self.fetched();
            return true;
        }
        self.orphan = self.orphan.take().or_else(|| self.load.orphan(MAX_ORPHANS));
        if self.orphan.is_none() {
            return false;
        }
        self.attached = false;
        if self.ended {
            self.wait_for_client();
        }
        true
    }

    /// The request has ended.
    pub(super) fn end(&mut self) {
        self.ended = true;
        match (self.attached, self.forgotten) {
            (true, _) => {}
            (false, false) => self.wait_for_client(),
            (false, true) => self.fetched(),
        }
    }

    fn wait_for_client(&mut self) {
        self.in_flight = None;
        self.unfetched = self.unfetched.take().or_else(|| Some(self.load.unfetched()));
    }

    /// All of it was read.
    pub(super) fn fetched(&mut self) {
        self.attached = false;
        (self.in_flight, self.orphan, self.unfetched) = (None, None, None);
        self.done.notify_one();
    }

    /// Nobody can come back for it any more; who reads it goes on reading.
    pub(super) fn forget(&mut self) {
        self.forgotten = true;
        self.free(self.bytes.bytes());
        if self.ended && !self.attached {
            self.fetched();
        }
    }

    /// Ends the request.
    pub(super) fn abort(&self) {
        if let Some(abort) = &self.abort {
            abort.abort();
        }
    }

    /// Takes place for so many bytes.
    pub(super) fn reserve(&mut self, length: usize) -> bool {
        !self.forgotten && self.bytes.bytes() + length <= MAX_REPLAY && self.bytes.grow(length)
    }

    /// Gives place back.
    pub(super) fn free(&mut self, length: usize) {
        self.bytes.shrink(length);
    }
}

// === impl Reader ===

impl Stream for Reader {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        match self.outbox.take(self.number, self.after, cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Taken::End) => Poll::Ready(None),
            Poll::Ready(Taken::Event(number, event)) => {
                self.after = number;
                Poll::Ready(Some(event))
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.outbox.detach(self.number);
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        lock(&self.resumes.streams).remove(&self.slot);
        // Where the request was ended before its end, nobody is left waiting for it.
        self.outbox.end(None);
        self.outbox.forget();
        self.resumes.load.unsaid(self.outbox.dropped());
    }
}

#[cfg(test)]
mod tests;
