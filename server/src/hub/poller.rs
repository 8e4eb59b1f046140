//! The hub's own epoll descriptor: no waker and no registration with the runtime for each socket, one for all of them.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::slab::Ticket;

/// Events that are looked at in one turn.
pub(super) const EVENTS: usize = 64;

/// Where sockets are watched.
#[derive(Clone, Debug)]
pub(super) struct Poller(Arc<Epoll>);

/// What happened to a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Happened {
    pub(super) ticket: Ticket,
    /// Bytes came, or the client has ended its side.
    pub(super) is_readable: bool,
    /// It takes bytes.
    pub(super) is_writable: bool,
    /// The client has ended its side, or all of it.
    pub(super) is_over: bool,
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

impl Poller {
    /// A descriptor that the runtime watches.
    pub(super) fn new() -> io::Result<(Self, AsyncFd<Self>)> {
        let poller = Self(Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?));
        #[allow(deprecated, reason = "what follows it is unsafe for types that may close their descriptor; this one owns it")]
        let watched = AsyncFd::with_interest(poller.clone(), Interest::READABLE)?;
        Ok((poller, watched))
    }

    /// Watches a socket: what has happened before is told, too. `writes` tells of room for bytes.
    pub(super) fn watch(&self, socket: &TcpStream, ticket: Ticket, writes: bool) -> io::Result<()> {
        Ok(self.0.add(socket, event(ticket, writes))?)
    }

    /// Tells the same of a socket under another ticket, from now on.
    pub(super) fn rename(&self, socket: &TcpStream, ticket: Ticket) -> io::Result<()> {
        Ok(self.0.modify(socket, &mut event(ticket, false))?)
    }

    /// Watches a socket no more. One that is closed needs no such word.
    pub(super) fn release(&self, socket: &TcpStream) {
        // It is watched, so there is no way to fail.
        let _ = self.0.delete(socket);
    }

    /// What has happened, at most [`EVENTS`] of it; whether there may be more.
    pub(super) fn look(&self, happened: &mut Vec<Happened>) -> bool {
        let mut events = [EpollEvent::empty(); EVENTS];
        // Interrupted or nothing there: the next look finds it.
        let found = self.0.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        let over = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        happened.clear();
        happened.extend(events[..found].iter().filter_map(|event| {
            let flags = event.events();
            Some(Happened {
                ticket: Ticket::from_bits(event.data())?,
                is_readable: flags.intersects(EpollFlags::EPOLLIN),
                is_writable: flags.intersects(EpollFlags::EPOLLOUT),
                is_over: flags.intersects(over),
            })
        }));
        found == EVENTS
    }
}

fn event(ticket: Ticket, writes: bool) -> EpollEvent {
    let reads = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
    EpollEvent::new(if writes { reads | EpollFlags::EPOLLOUT } else { reads }, ticket.to_bits())
}
