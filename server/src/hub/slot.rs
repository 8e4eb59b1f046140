//! What is kept of one socket: a held stream, inside hyper or without it; an idle connection; one that is being closed.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::task::Waker;

use bytes::Bytes;

use super::encode::{Forms, Who};
use crate::limits::{INSIDE_HYPER, STALLED_PERIODS};
use crate::load::{HeldStream, OpenConnection};
use crate::mcp::subscriptions::Event;
use crate::sse;

/// What is in a place of the slab.
#[derive(Debug)]
pub(super) enum Slot {
    /// A held stream.
    Stream(Held),
    /// An idle keep-alive connection.
    Idle(Resting),
    /// A stream that has ended, whose client had sent something: what still comes is taken for a while, because a socket that is
    /// closed over unread bytes is reset, and its client may never read the end.
    Closing(Closing),
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) who: Box<Who>,
    /// Grows with every stream.
    pub(super) age: u64,
    /// There is one while the stream is in hyper, and while its socket cannot take bytes.
    pub(super) queue: Option<Box<Queue>>,
    /// Without hyper.
    pub(super) socket: Option<TcpStream>,
    pub(super) open: Option<OpenConnection>,
    pub(super) _counted: HeldStream,
    /// Bytes that may be queued.
    pub(super) backlog: u32,
    pub(super) way: Way,
    /// Its end is the end of the connection (HTTP/1.0).
    pub(super) is_unchunked: bool,
    /// It is to be ended soon.
    pub(super) is_doomed: bool,
}

/// Where a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// In hyper, which lets it go by dropping its body.
    InHyper,
    /// On its way from hyper: dropping the body means nothing.
    Leaving,
    /// Without hyper.
    Parked,
    /// The same, and its client has sent something.
    Followed,
}

#[derive(Debug)]
pub(super) struct Resting {
    pub(super) socket: TcpStream,
    pub(super) open: OpenConnection,
}

#[derive(Debug)]
pub(super) struct Closing {
    pub(super) socket: TcpStream,
    pub(super) _open: Option<OpenConnection>,
    /// Bytes that are still taken.
    pub(super) left: usize,
}

/// What waits for a stream.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    /// The rest of what a socket took a part of.
    out: Vec<u8>,
    sent: usize,
    /// Of what waits, about.
    bytes: usize,
    stalled: u8,
    waker: Option<Waker>,
    end: Option<End>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    Opened(Bytes),
    Event(Event),
    KeepAlive,
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With the completion result, after what is queued.
    Complete,
    /// At once: the reader took nothing.
    Cut,
    /// The completion result was sent.
    Done,
    /// The same, and the last chunk.
    Closed,
}

/// What hyper is to send next.
#[derive(Debug)]
pub(super) enum Next {
    Bytes(Bytes),
    Nothing,
    End,
    Cut,
}

/// What became of what waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// The socket takes no more.
    Blocked,
    /// All is sent.
    Free,
    /// All is sent, and the end of it.
    Finished,
    /// The client has gone.
    Broken,
}

/// The client has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// Writes what a socket takes now; 0 when it takes nothing.
pub(super) fn send(mut socket: &TcpStream, bytes: &[u8]) -> Result<usize, Gone> {
    loop {
        match socket.write(bytes) {
            Ok(0) => return Err(Gone),
            Ok(sent) => return Ok(sent),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(Gone),
        }
    }
}

/// Adds bytes as HTTP/1.1 frames them, or as they are (RFC 9112, 7.1 and 6.3).
pub(super) fn frame(out: &mut Vec<u8>, is_unchunked: bool, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if !is_unchunked {
        // To a vector there is no way to fail.
        let _ = write!(out, "{length:x}\r\n");
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    if !is_unchunked {
        out.extend_from_slice(b"\r\n");
    }
}

impl Slot {
    /// Whether the hub has its socket.
    pub(super) fn has_socket(&self) -> bool {
        match self {
            Self::Stream(held) => held.socket.is_some(),
            Self::Idle(_) | Self::Closing(_) => true,
        }
    }
}

// === impl Held ===

impl Held {
    /// Whether it goes on.
    pub(super) fn is_open(&self) -> bool {
        self.queue.as_ref().is_none_or(|queue| queue.end.is_none())
    }

    /// Bytes of memory that end with it, about.
    pub(super) fn bytes(&self) -> usize {
        let queued = self.queue.as_ref().map_or(0, |queue| queue.bytes + queue.out.capacity());
        let hyper = if self.socket.is_none() { INSIDE_HYPER } else { 0 };
        size_of::<Self>() + self.who.bytes() + queued + hyper
    }

    /// Bytes that wait.
    pub(super) fn queued(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.bytes + queue.out.len())
    }

    /// Queues something. Past the bound on the backlog nothing more is kept for the stream: it ends, with its result if its
    /// reader takes it before the next comment is due.
    pub(super) fn push(&mut self, waiting: Waiting) {
        let who = &self.who;
        let size = |waiting: &Waiting| match waiting {
            // Always the first, so never behind a backlog.
            Waiting::Opened(_) => 0,
            Waiting::KeepAlive => sse::KEEP_ALIVE.len(),
            Waiting::Event(event) => who.size(event),
        };
        self.queue.get_or_insert_default().push(waiting, self.backlog as usize, size);
    }

    /// Sends what waits.
    pub(super) fn flow(&mut self) -> Flow {
        let (Some(socket), Some(queue)) = (&self.socket, &mut self.queue) else { return Flow::Free };
        loop {
            while queue.sent < queue.out.len() {
                match send(socket, &queue.out[queue.sent..]) {
                    Ok(0) => return Flow::Blocked,
                    Ok(sent) => {
                        queue.sent += sent;
                        queue.stalled = 0;
                    }
                    Err(Gone) => return Flow::Broken,
                }
            }
            queue.out.clear();
            queue.sent = 0;
            match queue.next(&self.who) {
                Next::Bytes(bytes) => frame(&mut queue.out, self.is_unchunked, &[&bytes]),
                Next::Nothing => {
                    self.queue = None;
                    return Flow::Free;
                }
                Next::Cut => return Flow::Broken,
                Next::End if self.is_unchunked || queue.end == Some(End::Closed) => return Flow::Finished,
                Next::End => {
                    queue.out.extend_from_slice(b"0\r\n\r\n");
                    queue.end = Some(End::Closed);
                }
            }
        }
    }

    /// Keeps the rest of a message, of which a part was sent.
    pub(super) fn keep(&mut self, rest: &[u8]) {
        self.queue.get_or_insert_default().out = rest.to_vec();
    }
}

// === impl Queue ===

impl Queue {
    fn push(&mut self, waiting: Waiting, backlog: usize, size: impl Fn(&Waiting) -> usize) {
        if self.end.is_some() || self.waiting.contains(&waiting) {
            return;
        }
        if let Some(older) = self.waiting.iter().position(|older| waiting.replaces(older))
            && let Some(older) = self.waiting.remove(older)
        {
            self.bytes = self.bytes.saturating_sub(size(&older));
        }
        let bytes = self.bytes + size(&waiting);
        if bytes > backlog {
            self.waiting.retain(|waiting| matches!(waiting, Waiting::Opened(_)));
            (self.bytes, self.end, self.stalled) = (0, Some(End::Complete), STALLED_PERIODS.saturating_sub(1));
        } else {
            self.bytes = bytes;
            self.waiting.push_back(waiting);
        }
        self.wake();
    }

    /// What is to be sent next.
    fn next(&mut self, who: &Who) -> Next {
        if let Some(waiting) = self.waiting.pop_front() {
            return Next::Bytes(match waiting {
                Waiting::Opened(bytes) => bytes,
                Waiting::Event(event) => {
                    self.bytes = self.bytes.saturating_sub(who.size(&event));
                    Forms::of(&event).parts(who).concat().into()
                }
                Waiting::KeepAlive => {
                    self.bytes = self.bytes.saturating_sub(sse::KEEP_ALIVE.len());
                    sse::KEEP_ALIVE
                }
            });
        }
        match self.end {
            None => Next::Nothing,
            Some(End::Complete) => {
                self.end = Some(End::Done);
                who.completed().map_or(Next::End, Next::Bytes)
            }
            Some(End::Cut) => Next::Cut,
            Some(End::Done | End::Closed) => Next::End,
        }
    }

    /// What hyper is to send next: it has taken all before. `waker` is woken when there is something.
    pub(super) fn poll(&mut self, who: &Who, waker: &Waker) -> Next {
        self.stalled = 0;
        let next = self.next(who);
        if matches!(next, Next::Nothing) && !self.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
        next
    }

    /// A period went by. Whether the reader has taken nothing for too long.
    pub(super) fn stalls(&mut self) -> bool {
        self.stalled = self.stalled.saturating_add(1);
        self.stalled >= STALLED_PERIODS
    }

    /// Whether nothing waits, and nothing is ending.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.out.is_empty() && self.end.is_none()
    }

    /// It ends with its result, after what waits; whether it was open.
    pub(super) fn end(&mut self) -> bool {
        let was_open = self.end.is_none();
        if was_open {
            self.end = Some(End::Complete);
            self.wake();
        }
        was_open
    }

    /// It ends at once; whether it goes on until now.
    pub(super) fn cut(&mut self) -> bool {
        let goes_on = matches!(self.end, None | Some(End::Complete));
        if goes_on {
            self.end = Some(End::Cut);
            self.waiting.clear();
            self.bytes = 0;
            self.wake();
        }
        goes_on
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

// === impl Waiting ===

impl Waiting {
    /// Whether the newer stands for the older.
    fn replaces(&self, older: &Self) -> bool {
        match (self, older) {
            (Self::Event(newer), Self::Event(older)) => newer.replaces(older),
            (newer, older) => newer == older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_waits_takes_a_cache_line() {
        assert!(size_of::<Slot>() <= 56, "{}", size_of::<Slot>());
        assert!(size_of::<super::super::slab::Place<Slot>>() <= 64, "{}", size_of::<super::super::slab::Place<Slot>>());
    }
}
