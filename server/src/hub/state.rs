//! Everything the hub knows, behind its one lock, and what it does with it. No step takes longer than a few writes.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use socket2::SockRef;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ages::Ages;
use super::encode::{Kind, Wants, Who};
use super::index::Index;
use super::poller::{Happened, Poller};
use super::sessions::{self, Sessions};
use super::slab::{Slab, Ticket};
use super::slot::{self, Closing, Flow, Gone, Held, Next, Resting, Slot, Waiting, Way};
use super::work::Work;
use crate::load::{HeldStream, OpenConnection};
use crate::session::SessionKey;
use crate::sse;

/// What is taken of a client whose stream has ended, and for how long.
const CLOSING: (Duration, usize) = (Duration::from_secs(1), 4 << 20);

/// A connection whose client has sent something, which is still in the socket.
#[derive(Debug)]
pub struct Returned {
    /// Without the runtime.
    pub socket: TcpStream,
    /// It counts on.
    pub open: OpenConnection,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) slots: Slab<Slot>,
    pub(super) index: Index,
    pub(super) sessions: Sessions,
    /// There is one while the hub runs.
    pub(super) poller: Option<Poller>,
    pub(super) work: Work,
    /// To be given back to hyper.
    pub(super) returned: Vec<Returned>,
    /// When the sockets in [`Slot::Closing`] are closed, soonest first.
    pub(super) closing: std::collections::VecDeque<(Instant, Ticket)>,
    /// The process leaves: who rests is let go.
    pub(super) is_leaving: bool,
    /// Is told of sessions whose last stream here is gone.
    pub(super) released: Option<mpsc::Sender<SessionKey>>,
    pub(super) counts: super::Counts,
    pub(super) ages: Ages,
    /// Number of the next stream.
    pub(super) next_age: u64,
    scratch: Vec<u8>,
}

impl State {
    /// Holds a stream, in hyper until it arrives.
    pub(super) fn hold(&mut self, kind: Kind, backlog: usize, counted: HeldStream) -> Ticket {
        let opened = kind.opened();
        let who = match kind {
            Kind::Listen { id, filter, server_info } => {
                let uris = sessions::shared(&self.index, filter.resource_subscriptions.iter().map(String::as_str));
                let wants = Wants {
                    tools: filter.tools_list_changed,
                    prompts: filter.prompts_list_changed,
                    resources: filter.resources_list_changed,
                    uris,
                    tasks: filter.task_ids.into_iter().map(Into::into).collect(),
                };
                Who::Listen { id, wants, server_info }
            }
            Kind::Session { session } => Who::Session(session),
        };
        let mut held = Held {
            who: Box::new(who),
            age: self.next_age,
            queue: None,
            socket: None,
            open: None,
            _counted: counted,
            backlog: u32::try_from(backlog).unwrap_or(u32::MAX),
            way: Way::InHyper,
            is_unchunked: false,
            is_doomed: false,
        };
        held.push(Waiting::Opened(opened));
        self.next_age += 1;
        self.counts.streams += 1;
        let ticket = self.slots.insert(Slot::Stream(held));
        match self.stream(ticket).map(|held| &*held.who) {
            Some(Who::Session(session)) => {
                let session = *session;
                self.sessions.begin(&mut self.index, session, ticket);
            }
            Some(Who::Listen { .. }) => {
                if let Some(Slot::Stream(Held { who, .. })) = self.slots.get_mut(ticket)
                    && let Who::Listen { wants, .. } = &**who
                {
                    self.index.insert(ticket.place(), wants.wanted());
                }
            }
            None => {}
        }
        ticket
    }

    fn stream(&mut self, ticket: Ticket) -> Option<&mut Held> {
        match self.slots.get_mut(ticket)? {
            Slot::Stream(held) => Some(held),
            Slot::Idle(_) | Slot::Closing(_) => None,
        }
    }

    /// Changes a stream, and counts what waits for it.
    fn change<R>(&mut self, ticket: Ticket, change: impl FnOnce(&mut Held) -> R) -> Option<R> {
        let held = self.stream(ticket)?;
        let before = held.queued();
        let changed = change(held);
        let now = held.queued();
        self.counts.queued_bytes = (self.counts.queued_bytes + now).saturating_sub(before);
        Some(changed)
    }

    /// What hyper is to send next of a stream.
    pub(super) fn poll(&mut self, ticket: Ticket, waker: &std::task::Waker) -> Next {
        let next = |held: &mut Held| {
            let queue = held.queue.get_or_insert_default();
            queue.poll(&held.who, waker)
        };
        self.change(ticket, next).unwrap_or(Next::End)
    }

    /// Hyper has dropped a stream's body.
    pub(super) fn dropped(&mut self, ticket: Ticket) {
        if self.stream(ticket).is_some_and(|held| held.way == Way::InHyper) {
            self.remove(ticket);
        }
    }

    /// A stream is about to leave hyper: nothing but its socket is missing.
    pub(super) fn leave(&mut self, ticket: Ticket) -> bool {
        self.stream(ticket).map(|held| held.way = Way::Leaving).is_some()
    }

    /// The socket of a stream arrives: everything said before is in it.
    pub(super) fn arrive(&mut self, ticket: Ticket, socket: TcpStream, open: OpenConnection, is_unchunked: bool) {
        let watched = self.poller.as_ref().is_some_and(|poller| poller.watch(&socket, ticket, true).is_ok());
        let Some(held) = self.stream(ticket).filter(|_| watched) else { return self.remove(ticket) };
        (held.socket, held.open, held.is_unchunked, held.way) = (Some(socket), Some(open), is_unchunked, Way::Parked);
        self.counts.parked_streams += 1;
        self.flow(ticket);
    }

    /// An idle connection rests until its client sends something.
    pub(super) fn rest(&mut self, socket: TcpStream, open: OpenConnection) {
        let Some(poller) = self.poller.clone() else { return };
        let ticket = self.slots.insert(Slot::Idle(Resting { socket, open }));
        self.counts.parked_connections += 1;
        if let Some(Slot::Idle(resting)) = self.slots.get_mut(ticket)
            && poller.watch(&resting.socket, ticket, false).is_err()
        {
            return self.remove(ticket);
        }
        if self.is_leaving {
            self.let_go(ticket);
        }
    }

    /// Ends a stream with its result, after what waits for it. Whether it was open.
    pub(super) fn end(&mut self, ticket: Ticket) -> bool {
        let ended = self.change(ticket, |held| held.queue.get_or_insert_default().end());
        let ended = ended.unwrap_or(false);
        if ended {
            self.flow(ticket);
        }
        ended
    }

    /// Ends a stream at once, without its result: its reader takes nothing, and what the kernel keeps for it is dropped.
    fn cut(&mut self, ticket: Ticket) {
        let Some(held) = self.stream(ticket) else { return };
        if let Some(socket) = &held.socket {
            let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
            self.counts.cut += 1;
            self.remove(ticket);
        } else if self.change(ticket, |held| held.queue.get_or_insert_default().cut()) == Some(true) {
            self.counts.cut += 1;
        }
    }

    /// Sends what waits for a stream that is here.
    fn flow(&mut self, ticket: Ticket) {
        match self.change(ticket, |held| if held.socket.is_some() { held.flow() } else { Flow::Blocked }) {
            Some(Flow::Finished) => self.finish(ticket),
            Some(Flow::Broken) => self.remove(ticket),
            Some(Flow::Blocked | Flow::Free) | None => {}
        }
    }

    /// Tells a stream: in parts that are sent now, or as what is to be queued.
    pub(super) fn tell(
        &mut self,
        ticket: Ticket,
        parts: impl FnOnce(&Who, bool, &mut Vec<u8>),
        waiting: impl FnOnce() -> Waiting,
    ) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let told = self.change(ticket, |held| {
            let (Some(socket), None) = (&held.socket, &held.queue) else {
                held.push(waiting());
                return Ok(());
            };
            scratch.clear();
            parts(&held.who, held.is_unchunked, &mut scratch);
            match slot::send(socket, &scratch)? {
                0 => held.push(waiting()),
                sent if sent < scratch.len() => held.keep(&scratch[sent..]),
                _ => {}
            }
            Ok(())
        });
        // Kept for the next; a large one is not.
        if scratch.capacity() <= 4 << 10 {
            self.scratch = scratch;
        }
        if told == Some(Err(Gone)) {
            self.remove(ticket);
        }
    }

    /// A quiet stream hears a comment; one that has taken nothing of what waits for some periods is cut.
    pub(super) fn comment(&mut self, ticket: Ticket) {
        let Some(held) = self.stream(ticket) else { return };
        let stalls = match &mut held.queue {
            Some(queue) if !queue.is_quiet() => queue.stalls(),
            Some(_) | None => {
                let comment =
                    |_: &Who, is_unchunked: bool, out: &mut Vec<u8>| slot::frame(out, is_unchunked, &[&sse::KEEP_ALIVE]);
                return self.tell(ticket, comment, || Waiting::KeepAlive);
            }
        };
        if stalls {
            self.cut(ticket);
        }
    }

    /// Something happened to a socket.
    pub(super) fn happened(&mut self, what: Happened) {
        let Happened { ticket, is_readable, is_writable, is_over } = what;
        match self.slots.get_mut(ticket) {
            None => {}
            Some(Slot::Idle(_)) if is_over => self.let_go(ticket),
            Some(Slot::Idle(_)) => self.give_back(ticket),
            Some(Slot::Stream(_)) if is_over => self.remove(ticket),
            Some(Slot::Stream(held)) => {
                if is_readable && held.way != Way::Followed {
                    // It has said `Connection: close`: nothing that follows is answered, and it costs no memory.
                    held.way = Way::Followed;
                    self.end(ticket);
                }
                if is_writable {
                    self.flow(ticket);
                }
            }
            Some(Slot::Closing(closing)) => {
                let goes_on = closing.goes_on();
                if !goes_on {
                    self.remove(ticket);
                }
            }
        }
    }

    /// A resting connection whose client has gone, or that is let go, unless a request of it waits.
    pub(super) fn let_go(&mut self, ticket: Ticket) {
        let Some(Slot::Idle(Resting { socket, .. })) = self.slots.get_mut(ticket) else { return };
        match recv(socket.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
            Ok(1..) => self.give_back(ticket),
            Ok(0) | Err(_) => self.remove(ticket),
        }
    }

    fn give_back(&mut self, ticket: Ticket) {
        if let Some(Slot::Idle(Resting { socket, open })) = self.take(ticket) {
            if let Some(poller) = &self.poller {
                poller.release(&socket);
            }
            self.returned.push(Returned { socket, open });
        }
    }

    /// A stream has said its last.
    fn finish(&mut self, ticket: Ticket) {
        let Some(Slot::Stream(Held { socket: Some(socket), open, way, .. })) = self.take(ticket) else { return };
        let _ = socket.shutdown(Shutdown::Write);
        if way != Way::Followed {
            return;
        }
        let closing = self.slots.insert(Slot::Closing(Closing { socket, _open: open, left: CLOSING.1 }));
        self.counts.closing += 1;
        if let (Some(Slot::Closing(Closing { socket, .. })), Some(poller)) = (self.slots.get_mut(closing), &self.poller) {
            // What is there already is told at once.
            let _ = poller.rename(socket, closing);
        }
        self.closing.push_back((Instant::now() + CLOSING.0, closing));
    }

    /// Closes a socket, or forgets a stream in hyper.
    pub(super) fn remove(&mut self, ticket: Ticket) {
        drop(self.take(ticket));
    }

    /// Takes out a slot, and all that leads to it.
    fn take(&mut self, ticket: Ticket) -> Option<Slot> {
        let taken = self.slots.remove(ticket)?;
        match &taken {
            Slot::Idle(_) => self.counts.parked_connections -= 1,
            Slot::Closing(_) => self.counts.closing -= 1,
            Slot::Stream(held) => {
                self.counts.streams -= 1;
                self.counts.parked_streams -= usize::from(held.socket.is_some());
                self.counts.queued_bytes = self.counts.queued_bytes.saturating_sub(held.queued());
                match &*held.who {
                    Who::Listen { wants, .. } => self.index.remove(ticket.place(), wants.wanted()),
                    Who::Session(session) => self.left_session(*session, ticket),
                }
            }
        }
        Some(taken)
    }

    fn left_session(&mut self, session: SessionKey, ticket: Ticket) {
        let was_newest = self.sessions.change(&mut self.index, session, |session| {
            session.streams = session.streams.iter().copied().filter(|stream| *stream != ticket).collect();
            session.streams.is_empty() && session.opened.take().is_some() && session.newer.take().is_none()
        });
        if let Some(released) = self.released.as_ref().filter(|_| was_newest == Some(true)) {
            // When it is full an older stream elsewhere stays quiet until the session opens another.
            let _ = released.try_send(session);
        }
    }
}

// === impl Closing ===

impl Closing {
    /// Takes what has come; whether there may be more.
    fn goes_on(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN) => return true,
                Err(Errno::EINTR) => {}
                Ok(0) | Err(_) => return false,
                Ok(taken) if taken >= self.left => return false,
                Ok(taken) => self.left -= taken,
            }
        }
    }
}
