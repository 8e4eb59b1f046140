//! One connection, as its socket and its requests see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

use crate::fault::Refused;
use crate::rate::Bucket;

/// One connection.
#[derive(Debug)]
pub struct Connection {
    refused: Option<Refused>,
    doing: Arc<Doing>,
    /// What its requests without a session are counted in.
    pub bucket: Bucket,
}

/// What a connection does, shared between its socket, which gives up on a head that does not come, and its requests.
#[derive(Debug, Default)]
pub struct Doing {
    state: AtomicU8,
    leaves_bytes: AtomicBool,
}

/// A request of a connection is under way, until dropped.
#[derive(Debug)]
pub struct Busy(Arc<Doing>);

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

impl Connection {
    /// A new connection; its first head is due.
    pub fn new(refused: Option<Refused>) -> Self {
        Self { refused, doing: Arc::default(), bucket: Bucket::default() }
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
    pub fn busy(&self, http2: bool) -> Busy {
        self.doing.set(if http2 { State::Http2 } else { State::Busy });
        Busy(self.doing())
    }
}

impl Doing {
    /// What it does now.
    pub fn now(&self) -> State {
        [State::Busy, State::Idle, State::Http2]
            .into_iter()
            .find(|state| *state as u8 == self.state.load(Relaxed))
            .unwrap_or(State::Head)
    }

    /// It does something else.
    pub fn set(&self, state: State) {
        self.state.store(state as u8, Relaxed);
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

impl Drop for Busy {
    fn drop(&mut self) {
        // HTTP/2 stays what it is: its requests overlap.
        let _ = self.0.state.compare_exchange(State::Busy as u8, State::Idle as u8, Relaxed, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_due_at_first_and_nothing_is_after_a_request() {
        let connection = Connection::new(None);
        assert_eq!(connection.doing().now(), State::Head);
        let busy = connection.busy(false);
        assert_eq!(connection.doing().now(), State::Busy);
        drop(busy);
        assert_eq!(connection.doing().now(), State::Idle);
        drop(connection.busy(true));
        assert_eq!(connection.doing().now(), State::Http2);
    }
}
