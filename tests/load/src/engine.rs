//! Many HTTP/1.1 connections on one thread: one epoll descriptor, one buffer to read into, no task for each.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::response::{Answer, Event, Read, Reader};

/// Readinesses taken at once: few, so that the time of each is the time it was read at.
const AT_ONCE: usize = 64;
const BUFFER: usize = 64 << 10;

/// Something that happened to a connection.
#[derive(Clone, Debug)]
pub(crate) struct Happened {
    pub(crate) connection: usize,
    pub(crate) at: Instant,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Connected,
    /// The head of an event stream.
    Opened,
    Event(Event),
    Answer(Answer),
    /// The other side ended it; why, in a word.
    Closed(&'static str),
}

#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    reader: Reader,
    connected: bool,
    muted: bool,
    unsent: Vec<u8>,
}

/// The connections. An index is given again only after the next turn, so that what happened is never taken for another's.
#[derive(Debug)]
pub(crate) struct Engine {
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    freed: Vec<usize>,
    buffer: Vec<u8>,
}

impl Engine {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, connections: Vec::new(), free: Vec::new(), freed: Vec::new(), buffer: vec![0; BUFFER] })
    }

    /// Begins to connect.
    pub(crate) fn connect(&mut self, to: SocketAddr, from: Option<IpAddr>, muted: bool) -> io::Result<usize> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if muted {
            // A peer that never reads takes little itself: what is measured is the server's side.
            socket.set_recv_buffer_size(4096)?;
        }
        if let Some(from) = from {
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            socket.bind(&SockAddr::from(SocketAddr::new(from, 0)))?;
        }
        match socket.connect(&SockAddr::from(to)) {
            Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let connection = Connection { socket: socket.into(), reader: Reader::new(), connected: false, muted, unsent: Vec::new() };
        self.epoll.add(&connection.socket, EpollEvent::new(EpollFlags::EPOLLOUT, index as u64))?;
        self.connections[index] = Some(connection);
        Ok(index)
    }

    /// Sends now what goes, and the rest when it can.
    pub(crate) fn send(&mut self, index: usize, bytes: &[u8]) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        if !connection.unsent.is_empty() || !connection.connected {
            connection.unsent.extend_from_slice(bytes);
            return;
        }
        // A connection that is gone is told of at the next turn.
        let sent = match connection.socket.write(bytes) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => return,
        };
        if sent < bytes.len() {
            connection.unsent.extend_from_slice(&bytes[sent..]);
            let wanted = connection.wanted();
            let _ = self.epoll.modify(&connection.socket, &mut EpollEvent::new(wanted, index as u64));
        }
    }

    /// Closes it, with a FIN, or with a reset when something is unread.
    pub(crate) fn close(&mut self, index: usize) {
        if self.connections.get_mut(index).and_then(Option::take).is_some() {
            self.freed.push(index);
        }
    }

    /// Waits for what happens next, no longer than that. A wait under a millisecond does not sleep.
    pub(crate) fn turn(&mut self, wait: Duration) -> Vec<Happened> {
        self.free.append(&mut self.freed);
        let mut ready = [EpollEvent::empty(); AT_ONCE];
        let wait = u16::try_from(wait.as_millis()).unwrap_or(u16::MAX);
        let count = self.epoll.wait(&mut ready, EpollTimeout::from(wait)).unwrap_or(0);
        let mut happened = Vec::with_capacity(count);
        for event in &ready[..count] {
            let index = usize::try_from(event.data()).unwrap_or(usize::MAX);
            self.ready(index, event.events(), &mut happened);
        }
        happened
    }

    /// The same, and sleeps through a wait of any length.
    pub(crate) fn sleep(&mut self, wait: Duration) -> Vec<Happened> {
        let _ = ppoll(&mut [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)], Some(wait.into()), None);
        self.turn(Duration::ZERO)
    }

    fn ready(&mut self, index: usize, events: EpollFlags, happened: &mut Vec<Happened>) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        let mut tell = |what| happened.push(Happened { connection: index, at: Instant::now(), what });
        if events.contains(EpollFlags::EPOLLOUT) {
            match connection.writable(&self.epoll, index) {
                Ok(true) => tell(What::Connected),
                Ok(false) => {}
                Err(why) => {
                    self.close(index);
                    return tell(What::Closed(why));
                }
            }
        }
        let gone = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        if connection.muted {
            if events.intersects(gone) && connection.connected {
                self.close(index);
                tell(What::Closed("ended"));
            }
            return;
        }
        if !events.intersects(gone | EpollFlags::EPOLLIN) {
            return;
        }
        loop {
            let read = match connection.socket.read(&mut self.buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    let why = if error.kind() == ErrorKind::ConnectionRefused { "refused" } else { "reset" };
                    self.close(index);
                    return tell(What::Closed(why));
                }
            };
            let taken = connection.reader.take(&self.buffer[..read], |read| {
                tell(match read {
                    Read::Opened => What::Opened,
                    Read::Event(event) => What::Event(event),
                    Read::Answer(answer) => What::Answer(answer),
                });
            });
            let why = if read == 0 { Some("ended") } else { taken.err().map(|_| "malformed") };
            if let Some(why) = why {
                self.close(index);
                return tell(What::Closed(why));
            }
            if read < self.buffer.len() {
                return;
            }
        }
    }
}

// === impl Connection ===

impl Connection {
    fn wanted(&self) -> EpollFlags {
        let read = if self.muted { EpollFlags::EPOLLRDHUP } else { EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP };
        if self.unsent.is_empty() { read } else { read | EpollFlags::EPOLLOUT }
    }

    /// Whether it is connected just now.
    fn writable(&mut self, epoll: &Epoll, index: usize) -> Result<bool, &'static str> {
        let connecting = !self.connected;
        if connecting {
            if let Ok(Some(error)) = self.socket.take_error() {
                return Err(if error.kind() == ErrorKind::ConnectionRefused { "refused" } else { "unreachable" });
            }
            self.connected = true;
        }
        if !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Err("reset"),
            }
        }
        epoll.modify(&self.socket, &mut EpollEvent::new(self.wanted(), index as u64)).map_err(|_| "lost")?;
        Ok(connecting)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn until(engine: &mut Engine, found: impl Fn(&What) -> bool) -> What {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            for happened in engine.turn(Duration::from_millis(100)) {
                if found(&happened.what) {
                    return happened.what;
                }
            }
        }
        panic!("it did not happen")
    }

    #[test]
    fn what_is_sent_before_the_connection_is_there_arrives_and_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut engine = Engine::new().unwrap();
        let to = listener.local_addr().unwrap();
        let connection = engine.connect(to, Some([127, 0, 0, 7].into()), false).unwrap();
        engine.send(connection, b"ask");
        until(&mut engine, |what| matches!(what, What::Connected));
        let (mut peer, from) = listener.accept().unwrap();
        assert_eq!(from.ip().to_string(), "127.0.0.7");
        let mut asked = [0; 3];
        peer.read_exact(&mut asked).unwrap();
        peer.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").unwrap();
        let What::Answer(answer) = until(&mut engine, |what| matches!(what, What::Answer(_))) else { panic!() };
        assert_eq!(answer.status, 202);
        drop(peer);
        until(&mut engine, |what| matches!(what, What::Closed("ended")));
    }

    #[test]
    fn it_sleeps_through_part_of_a_millisecond_and_no_longer_than_until_something_happens() {
        let mut engine = Engine::new().unwrap();
        let (wait, start) = (Duration::from_micros(700), Instant::now());
        assert!(engine.sleep(wait).is_empty());
        assert!(start.elapsed() >= wait);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        engine.connect(listener.local_addr().unwrap(), None, false).unwrap();
        let start = Instant::now();
        assert!(matches!(engine.sleep(PATIENCE)[..], [Happened { what: What::Connected, .. }]));
        assert!(start.elapsed() < PATIENCE);
    }

    #[test]
    fn a_port_where_nobody_listens_is_told() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut engine = Engine::new().unwrap();
        engine.connect(gone, None, false).unwrap();
        until(&mut engine, |what| matches!(what, What::Closed("refused")));
    }
}
