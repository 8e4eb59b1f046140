//! Sockets → connections: accepts, counts, refuses politely, and lets go when the shard drains.

mod io;
mod serve;

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::warn;

use self::serve::BREATH;
pub use self::serve::Wire;
use crate::fault::Refused;
use crate::hub::Returned;
use crate::limits::REFUSAL_LANE;
use crate::load::OpenConnection;
use crate::place::Place;
use crate::shard::Shard;

/// How long accepting rests after it failed for want of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);
/// A peer that acknowledges nothing, or opens no window, for this long is gone.
const USER_TIMEOUT_MS: u32 = 60_000;
/// Idle peers are probed after this long, seconds, and three times at a sixth of it: a laptop that was shut must not hold
/// a connection for two hours.
const KEEP_ALIVE_SECONDS: u32 = 60;
/// Bytes the kernel takes for a peer before it asks us to wait: a peer that never reads costs kilobytes, not megabytes.
const NOTSENT_LOWAT: u32 = 16 << 10;

/// What counts for as long as a connection is open.
enum Admission {
    Counted(OpenConnection, Place),
    Refused(Refused, #[allow(dead_code, reason = "counts until dropped")] OwnedSemaphorePermit),
}

/// Accepts until the process leaves and the last connection has gone. Until then a newcomer is answered, whatever the phase:
/// what waits in the kernel's queue when a socket is closed is reset.
pub async fn accept(listener: TcpListener, shard: Arc<Shard>, connections: TaskTracker) {
    configure(&listener);
    let lane = Arc::new(Semaphore::new(REFUSAL_LANE));
    let mut spare = Spare::new();
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = all_gone(&shard, &connections) => match last(&listener) {
                None => return,
                Some(accepted) => accepted,
            },
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) if is_of_the_peer(&error) => continue,
            Err(error) => {
                warn!(%error, "cannot accept connections for a moment");
                spare.tell_one(&listener).await;
                sleep(BACK_OFF).await;
                continue;
            }
        };
        let admission = match shard.admit_connection() {
            Ok(counted) => Admission::Counted(counted, shard.load.place_in_time().await),
            // While the lane is full, newcomers wait in the kernel's queue: late, but not refused.
            Err(why) => match Arc::clone(&lane).acquire_owned().await {
                Ok(permit) => Admission::Refused(why, permit),
                Err(_) => return,
            },
        };
        connections.spawn(serve::serve(stream, Arc::clone(&shard), admission));
    }
}

/// Serves a connection that somebody else accepted, counted, and made ready, until it is over or the hub has it.
pub async fn serve<W: Wire>(wire: W, shard: Arc<Shard>, open: OpenConnection) {
    let place = shard.load.place_in_time().await;
    serve::serve(wire, shard, Admission::Counted(open, place)).await;
}

/// Takes connections back from the hub, whose clients have sent something: at once, or one after another where there is no room.
#[derive(Debug)]
pub struct Returns {
    shard: Arc<Shard>,
    connections: TaskTracker,
    queue: mpsc::UnboundedSender<(Returned, TaskTrackerToken)>,
}

impl Returns {
    /// With what takes those back that wait: it runs until this is dropped. No more wait than there are connections.
    pub fn new(shard: &Arc<Shard>, connections: TaskTracker) -> (Self, impl Future<Output = ()> + use<>) {
        let (queue, mut waiting) = mpsc::unbounded_channel();
        let returns = Self { shard: Arc::clone(shard), connections, queue };
        let (shard, connections) = (Arc::clone(shard), returns.connections.clone());
        let take = async move {
            while let Some((returned, _token)) = waiting.recv().await {
                let place = shard.load.place_in_time().await;
                resume(&shard, &connections, returned, place);
            }
        };
        (returns, take)
    }

    /// Takes one back.
    pub fn take(&self, returned: Returned) {
        match self.shard.load.place() {
            Some(place) => resume(&self.shard, &self.connections, returned, place),
            // It counts as a connection that is being served: the process does not end before.
            None => drop(self.queue.send((returned, self.connections.token()))),
        }
    }
}

fn resume(shard: &Arc<Shard>, connections: &TaskTracker, returned: Returned, place: Place) {
    connections.spawn(serve::resume(returned.socket, Arc::clone(shard), returned.open, place));
}

/// Resolves when the process leaves and no connection is left, here or in the hub.
async fn all_gone(shard: &Shard, connections: &TaskTracker) {
    shard.leave.cancelled().await;
    connections.close();
    connections.wait().await;
    while shard.hub.sockets() > 0 || !connections.is_empty() {
        sleep(BREATH).await;
    }
}

/// Who came since the runtime last looked; none when the queue is empty.
fn last(listener: &TcpListener) -> Option<std::io::Result<(TcpStream, SocketAddr)>> {
    let accept = || -> std::io::Result<_> {
        let (socket, address) = SockRef::from(listener).accept()?;
        socket.set_nonblocking(true)?;
        let address = address.as_socket().ok_or(ErrorKind::InvalidData)?;
        Ok((TcpStream::from_std(socket.into())?, address))
    };
    match accept() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        accepted => Some(accepted),
    }
}

/// What each accepted socket has from its listener, as Linux copies it: once, and not seven calls of the kernel for each connection.
fn configure(listener: &TcpListener) {
    // Each only makes a dead peer be noticed sooner, or an answer go sooner; a socket without it still works.
    let _ = setsockopt(listener, sockopt::TcpNoDelay, &true);
    let _ = setsockopt(listener, sockopt::TcpUserTimeout, &USER_TIMEOUT_MS);
    let _ = setsockopt(listener, sockopt::KeepAlive, &true);
    let _ = setsockopt(listener, sockopt::TcpKeepIdle, &KEEP_ALIVE_SECONDS);
    let _ = setsockopt(listener, sockopt::TcpKeepInterval, &(KEEP_ALIVE_SECONDS / 6));
    let _ = setsockopt(listener, sockopt::TcpKeepCount, &3);
    let _ = SockRef::from(listener).set_tcp_notsent_lowat(NOTSENT_LOWAT);
}

/// The peer went away between its SYN and our accept.
fn is_of_the_peer(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}

/// Binds an address. `[::]` falls back to `0.0.0.0` on a machine without IPv6.
///
/// # Errors
/// When it cannot be bound.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.ip() == std::net::Ipv6Addr::UNSPECIFIED && error.kind() != ErrorKind::AddrInUse => {
            TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

/// A descriptor kept for the moment when there is no other: with it one peer can still be told why.
struct Spare(Option<std::fs::File>);

impl Spare {
    fn new() -> Self {
        Self(std::fs::File::open("/dev/null").ok())
    }

    async fn tell_one(&mut self, listener: &TcpListener) {
        const FULL: &[u8] =
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        self.0 = None;
        if let Ok(Ok((stream, _))) = timeout(Duration::from_millis(1), listener.accept()).await
            && stream.writable().await.is_ok()
        {
            let _ = stream.try_write(FULL);
        }
        *self = Self::new();
    }
}

#[cfg(test)]
mod handover_tests;

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const REQUEST: &[u8] = b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}";

    #[tokio::test]
    async fn who_waits_in_the_kernels_queue_when_the_process_leaves_is_answered() {
        let shard = Arc::new(Shard::test());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = vec![];
        for _ in 0..3 {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(REQUEST).await.unwrap();
            waiting.push(client);
        }
        shard.leave.cancel();
        let accepting = tokio::spawn(accept(listener, shard, TaskTracker::new()));
        for mut client in waiting {
            let mut said = String::new();
            client.read_to_string(&mut said).await.unwrap();
            assert!(said.starts_with("HTTP/1.1 503") && said.contains("retry-after"), "{said}");
        }
        timeout(crate::limits::REFUSAL_TIME, accepting).await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "the listener is closed");
    }

    #[tokio::test]
    async fn an_accepted_socket_has_what_its_listener_was_given() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        configure(&listener);
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        assert!(socket.nodelay().unwrap());
        assert_eq!(getsockopt(&socket, sockopt::TcpUserTimeout).unwrap(), USER_TIMEOUT_MS);
        assert!(getsockopt(&socket, sockopt::KeepAlive).unwrap());
        assert_eq!(getsockopt(&socket, sockopt::TcpKeepIdle).unwrap(), 60);
        assert_eq!(getsockopt(&socket, sockopt::TcpKeepInterval).unwrap(), 10);
        assert_eq!(getsockopt(&socket, sockopt::TcpKeepCount).unwrap(), 3);
        assert_eq!(SockRef::from(&socket).tcp_notsent_lowat().unwrap(), NOTSENT_LOWAT);
    }

    #[tokio::test]
    async fn the_queue_is_asked_past_what_the_runtime_knows() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        assert!(last(&listener).is_none());
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_, from) = last(&listener).unwrap().unwrap();
        assert_eq!(from, client.local_addr().unwrap());
    }
}
