//! Sockets → connections: accepts, counts, refuses politely, and lets go when the shard drains.

mod io;

use std::future::pending;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use self::io::Timed;
use crate::connection::{Connection, Doing, State};
use crate::drain::{Draining, Phase};
use crate::fault::Refused;
use crate::http;
use crate::limits::{HTTP2_STREAMS, REFUSAL_LANE, REFUSAL_TIME};
use crate::load::OpenConnection;
use crate::shard::Shard;

/// How long accepting rests after it failed for want of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Between two looks at a connection that is about to be let go.
const BREATH: Duration = Duration::from_millis(20);
/// Between two looks at a connection of a draining shard that has not asked for anything yet.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A peer that acknowledges nothing, or opens no window, for this long is gone.
const USER_TIMEOUT_MS: u32 = 60_000;
/// Idle peers are probed after this long, seconds, and three times at a sixth of it: a laptop that was shut must not hold
/// a connection for two hours.
const KEEP_ALIVE_SECONDS: u32 = 60;
/// Bytes the kernel takes for a peer before it asks us to wait: a peer that never reads costs kilobytes, not megabytes.
const NOTSENT_LOWAT: u32 = 16 << 10;
/// Time between HTTP/2 pings, and for their answer.
const HTTP2_PING: Duration = Duration::from_secs(30);
/// hyper's smallest read buffer, and so the smallest bound on a head.
const MIN_HEAD: usize = 8 << 10;

/// What counts for as long as a connection is open.
enum Admission {
    Counted(#[allow(dead_code, reason = "counts until dropped")] OpenConnection),
    Refused(Refused, #[allow(dead_code, reason = "counts until dropped")] OwnedSemaphorePermit),
}

/// Accepts until the process leaves and the last connection has gone. Until then a newcomer is answered, whatever the phase:
/// what waits in the kernel's queue when a socket is closed is reset.
pub async fn accept(listener: TcpListener, shard: Arc<Shard>) {
    let lane = Arc::new(Semaphore::new(REFUSAL_LANE));
    let connections = TaskTracker::new();
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
            Ok(counted) => Admission::Counted(counted),
            // While the lane is full, newcomers wait in the kernel's queue: late, but not refused.
            Err(why) => match Arc::clone(&lane).acquire_owned().await {
                Ok(permit) => Admission::Refused(why, permit),
                Err(_) => return,
            },
        };
        connections.spawn(serve(stream, Arc::clone(&shard), admission));
    }
}

/// Resolves when the process leaves and no connection is left.
async fn all_gone(shard: &Shard, connections: &TaskTracker) {
    shard.leave.cancelled().await;
    connections.close();
    connections.wait().await;
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

/// Serves one connection to its end.
async fn serve(stream: TcpStream, shard: Arc<Shard>, admission: Admission) {
    configure(&stream);
    let refused = match &admission {
        Admission::Counted(_) => None,
        Admission::Refused(why, _) => Some(*why),
    };
    let (head, read_time) = shard
        .serving()
        .map_or((MIN_HEAD, REFUSAL_TIME), |serving| (serving.limits.header.max(MIN_HEAD), serving.limits.read_time));
    let connection = Arc::new(Connection::new(refused));
    let (doing, socket) = (connection.doing(), stream.as_raw_fd());
    let io = TokioIo::new(Timed::new(stream, Arc::clone(&doing), read_time));
    let service = {
        let shard = Arc::clone(&shard);
        service_fn(move |request| http::handle(Arc::clone(&shard), Arc::clone(&connection), request))
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // The head's time is kept by the socket's wrapper: hyper's own would cut idle connections too.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(head).keep_alive(refused.is_none());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PING)
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX));
    let serving = builder.serve_connection(io, service);
    tokio::pin!(serving);
    let ended = if refused.is_some() {
        timeout(REFUSAL_TIME, serving).await.unwrap_or(Ok(()))
    } else {
        tokio::select! {
            biased;
            ended = serving.as_mut() => ended,
            () = goodbye(&shard, &doing, socket) => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        }
    };
    if let Err(error) = ended {
        debug!(error = %error, "a connection broke off");
    }
    drop(admission);
}

/// Resolves when a connection may be let go without a loss.
///
/// HTTP/2 has a way to say goodbye, and is told so somewhere between the time endpoints have forgotten the shard and the end
/// of the window, so that clients do not all come back at once. HTTP/1 has none but the header of a response: every response
/// of a draining shard carries it, and who asks for nothing is let go when the process leaves.
async fn goodbye(shard: &Shard, doing: &Doing, socket: RawFd) {
    let mut phase = shard.drain.watch();
    loop {
        let at = match *phase.borrow_and_update() {
            Phase::Draining(draining) if doing.now() == State::Http2 => Some(draining.since + spread(shard, &draining)),
            // Looked at again: its protocol is not known before its first request.
            Phase::Draining(_) if doing.now() == State::Head => Some(Instant::now() + LOOK_AGAIN),
            Phase::Draining(_) | Phase::Serving => None,
        };
        let time = async {
            match at {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = shard.leave.cancelled() => break,
            () = time => if doing.now() == State::Http2 { return },
            changed = phase.changed() => if changed.is_err() { break },
        }
    }
    shard.leave.cancelled().await;
    while !may_go(doing.now(), socket) {
        sleep(BREATH).await;
    }
}

/// Where in the window an HTTP/2 connection is told to go.
fn spread(shard: &Shard, draining: &Draining) -> Duration {
    let lag = shard.drain.lag();
    let room = draining.streams_end.duration_since(draining.since).saturating_sub(lag).as_millis();
    lag + Duration::from_millis(shard.jitter.between(0..u64::try_from(room).unwrap_or(u64::MAX)))
}

/// Whether hyper may be told to end a connection: it closes a quiet one at once, over a request that it has not read yet.
fn may_go(doing: State, socket: RawFd) -> bool {
    match doing {
        State::Busy | State::Http2 => true,
        // A request is on its way, and its response will be the last.
        State::Head => false,
        State::Idle => recv(socket, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) == Err(Errno::EAGAIN),
    }
}

fn configure(stream: &TcpStream) {
    // Each only makes a dead peer be noticed sooner; a socket without it still works.
    let _ = stream.set_nodelay(true);
    let _ = setsockopt(stream, sockopt::TcpUserTimeout, &USER_TIMEOUT_MS);
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(stream, sockopt::TcpKeepIdle, &KEEP_ALIVE_SECONDS);
    let _ = setsockopt(stream, sockopt::TcpKeepInterval, &(KEEP_ALIVE_SECONDS / 6));
    let _ = setsockopt(stream, sockopt::TcpKeepCount, &3);
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(NOTSENT_LOWAT);
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
mod tests {
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
        let accepting = tokio::spawn(accept(listener, shard));
        for mut client in waiting {
            let mut said = String::new();
            client.read_to_string(&mut said).await.unwrap();
            assert!(said.starts_with("HTTP/1.1 503") && said.contains("retry-after"), "{said}");
        }
        timeout(REFUSAL_TIME, accepting).await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "the listener is closed");
    }

    #[tokio::test]
    async fn the_queue_is_asked_past_what_the_runtime_knows() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        assert!(last(&listener).is_none());
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_, from) = last(&listener).unwrap().unwrap();
        assert_eq!(from, client.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_quiet_connection_may_go_and_one_with_an_unread_request_may_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let socket = server.as_raw_fd();
        assert!(may_go(State::Idle, socket));
        assert!(!may_go(State::Head, socket), "its first request may be on its way");
        client.write_all(REQUEST).await.unwrap();
        server.readable().await.unwrap();
        assert!(!may_go(State::Idle, socket));
        assert!(may_go(State::Busy, socket), "it says so in its response");
    }
}
