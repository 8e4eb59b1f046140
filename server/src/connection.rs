//! One connection, as its socket and its requests see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;

use crate::fault::Refused;
use crate::hub::Ticket;
use crate::load::{Load, OwedBytes, Owing};
use crate::rate::Bucket;
use crate::session::Remembered;

/// One connection.
#[derive(Debug)]
pub struct Connection {
    refused: Option<Refused>,
    doing: Arc<Doing>,
    /// What its requests without a session are counted in.
    pub bucket: Bucket,
    /// The session that its last request named.
    pub session: Remembered,
}

/// What a connection does, shared between its socket, which gives up on a head that does not come, its requests, and the loop
/// that serves it, which takes it out of hyper when there is nothing left to do.
#[derive(Debug, Default)]
pub struct Doing {
    state: AtomicU8,
    leaves_bytes: AtomicBool,
    /// Requests that began.
    requests: AtomicU32,
    /// The stream it holds; 0 when it holds none.
    held: AtomicU64,
    /// The answer is HTTP/1.0: no chunks, its end is the end of the connection.
    is_http10: AtomicBool,
    /// hyper was given something to send that may not be in the socket yet.
    unsent: AtomicBool,
    input: AtomicU8,
    owing: Owing,
}

/// A request of a connection is under way, until dropped.
#[derive(Debug)]
pub struct Busy {
    doing: Arc<Doing>,
    owes: bool,
}

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// A head is due, or being received.
    Head,
    /// A request is being answered.
    Busy,
    /// Nothing is due: a quiet client is welcome.
    Idle,
    /// It watches itself, with pings.
    Http2,
}

/// What the last read of a socket found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Input {
    /// Bytes, which hyper may not have looked at.
    Bytes,
    /// Nothing. While a request is answered hyper reads only when it has looked at all it has, so there is nothing behind it.
    Nothing,
    /// That the client has ended its side.
    End,
}

impl Connection {
    /// A new connection of a shard; its first head is due.
    pub fn new(refused: Option<Refused>, load: &Arc<Load>) -> Self {
        let doing = Doing { owing: Owing::of(Arc::clone(load)), ..Doing::default() };
        Self { refused, doing: Arc::new(doing), bucket: Bucket::default(), session: Remembered::default() }
    }

    /// Why all of its requests are answered with 503.
    pub fn refused(&self) -> Option<Refused> {
        self.refused
    }

    /// What it does.
    pub fn doing(&self) -> Arc<Doing> {
        Arc::clone(&self.doing)
    }

    /// A request begins.
    pub fn busy(&self, version: http::Version) -> Busy {
        self.doing.set(if version == http::Version::HTTP_2 { State::Http2 } else { State::Busy });
        self.doing.is_http10.store(version == http::Version::HTTP_10, Relaxed);
        self.doing.requests.fetch_add(1, Relaxed);
        Busy { doing: self.doing(), owes: false }
    }
}

impl Doing {
    /// What it does now.
    pub fn now(&self) -> State {
        match self.state.load(Relaxed) {
            1 => State::Busy,
            2 => State::Idle,
            3 => State::Http2,
            _ => State::Head,
        }
    }

    /// It does something else.
    pub fn set(&self, state: State) {
        self.state.store(state as u8, Relaxed);
    }

    /// Requests that began since the start; wraps.
    pub fn requests(&self) -> u32 {
        self.requests.load(Relaxed)
    }

    /// The stream its request is answered with.
    pub fn held(&self) -> Option<Ticket> {
        Ticket::from_bits(self.held.load(Relaxed))
    }

    /// Whether an answer is there that its client has not taken.
    pub fn owes_an_answer(&self) -> bool {
        self.owing.is_owing()
    }

    /// Whether its client keeps others from being answered. HTTP/2 has many requests on a connection: it is never cut for one.
    pub fn keeps_others_waiting(&self) -> bool {
        self.now() != State::Http2 && self.owing.keeps_others_waiting(Instant::now())
    }

    /// Whether the end of an answer without a length is the end of the connection.
    pub fn is_http10(&self) -> bool {
        self.is_http10.load(Relaxed)
    }

    /// What hyper was given is in the socket: it flushes when it has nothing left to write.
    pub fn flushed(&self) {
        self.unsent.store(false, Relaxed);
    }

    /// Whether all that hyper was given is in the socket.
    pub fn is_flushed(&self) -> bool {
        !self.unsent.load(Relaxed)
    }

    /// The socket was read.
    pub fn found(&self, input: Input) {
        self.input.store(input as u8, Relaxed);
    }

    /// What the last read found.
    pub fn input(&self) -> Input {
        match self.input.load(Relaxed) {
            0 => Input::Bytes,
            1 => Input::Nothing,
            _ => Input::End,
        }
    }

    /// Its last request is answered, and not all of it was read.
    pub fn leave_bytes(&self) {
        self.leaves_bytes.store(true, Relaxed);
    }

    /// Whether bytes may be left that nobody reads.
    pub fn leaves_bytes(&self) -> bool {
        self.leaves_bytes.load(Relaxed)
    }
}

impl Busy {
    /// hyper is given something to send.
    pub fn says(&self) {
        self.doing.unsent.store(true, Relaxed);
    }

    /// So many bytes of the answer are there, and wait until the client takes them.
    pub fn owes(&mut self, bytes: usize) -> OwedBytes {
        self.owes = true;
        self.doing.owing.owe(bytes)
    }

    /// The answer is a held stream.
    pub fn holds(&self, stream: Ticket) {
        self.doing.held.store(stream.to_bits(), Relaxed);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.owes {
            self.doing.owing.paid();
        }
        // HTTP/2 stays what it is: its requests overlap.
        let _ = self.doing.state.compare_exchange(State::Busy as u8, State::Idle as u8, Relaxed, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_due_at_first_and_nothing_is_after_a_request() {
        let connection = Connection::new(None, &Arc::default());
        assert_eq!(connection.doing().now(), State::Head);
        let busy = connection.busy(http::Version::HTTP_11);
        assert_eq!(connection.doing().now(), State::Busy);
        drop(busy);
        assert_eq!(connection.doing().now(), State::Idle);
        drop(connection.busy(http::Version::HTTP_2));
        assert_eq!(connection.doing().now(), State::Http2);
    }
}
