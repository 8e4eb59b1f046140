//! Sockets → connections: accepts, counts, refuses politely, and lets go when the shard drains.

mod io;

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::io::Timed;
use crate::connection::Connection;
use crate::drain::Phase;
use crate::fault::Refused;
use crate::http;
use crate::limits::{HTTP2_STREAMS, REFUSAL_LANE, REFUSAL_TIME};
use crate::load::OpenConnection;
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
/// Time between HTTP/2 pings, and for their answer.
const HTTP2_PING: Duration = Duration::from_secs(30);
/// hyper's smallest read buffer, and so the smallest bound on a head.
const MIN_HEAD: usize = 8 << 10;

/// What counts for as long as a connection is open.
enum Admission {
    Counted(#[allow(dead_code, reason = "counts until dropped")] OpenConnection),
    Refused(Refused, #[allow(dead_code, reason = "counts until dropped")] OwnedSemaphorePermit),
}

/// Accepts until told to stop; connections live on.
pub async fn accept(listener: TcpListener, shard: Arc<Shard>, stop: CancellationToken) {
    let lane = Arc::new(Semaphore::new(REFUSAL_LANE));
    let mut spare = Spare::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
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
        tokio::spawn(serve(stream, Arc::clone(&shard), admission));
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
    let io = TokioIo::new(Timed::new(stream, connection.doing(), read_time));
    let mut phase = shard.drain.watch();
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
            ended = serving.as_mut() => ended,
            () = time_to_go(&shard, &mut phase) => {
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

/// Resolves when this connection is to be let go after the request it is in: somewhere between the time endpoints have
/// forgotten the shard and the end of the window, so that clients do not all come back at once.
async fn time_to_go(shard: &Shard, phase: &mut watch::Receiver<Phase>) {
    loop {
        let now = *phase.borrow_and_update();
        let change = match now {
            Phase::Serving => tokio::select! {
                () = shard.leave.cancelled() => return,
                change = phase.changed() => change,
            },
            Phase::Draining(draining) => {
                let lag = shard.drain.lag();
                let spread = draining.window.saturating_sub(lag).as_millis();
                let at = lag + Duration::from_millis(shard.jitter.between(0..u64::try_from(spread).unwrap_or(u64::MAX)));
                tokio::select! {
                    () = shard.leave.cancelled() => return,
                    () = tokio::time::sleep_until(draining.since + at) => return,
                    change = phase.changed() => change,
                }
            }
        };
        if change.is_err() {
            return shard.leave.cancelled().await;
        }
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
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(NOTSENT_LOWAT);
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
