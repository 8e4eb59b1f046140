//! One connection: which protocol it speaks, hyper around it, and the moment it needs hyper no more.
//!
//! ```text
//! socket → first bytes → HTTP/2: hyper to the end
//!                      → HTTP/1: hyper ⇄ hub        a held stream goes there, and an idle connection, until bytes come
//! ```
//! An HTTP/1 connection leaves hyper when everything it was given is in the socket and everything it has read was used: see
//! [`Doing`]. Then the socket alone is kept, by the hub.

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::TcpStream as StdStream;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tracing::debug;

use super::Admission;
use super::io::{Protocol, Timed};
use crate::connection::{Connection, Doing, Input, State};
use crate::drain::{Draining, Phase};
use crate::http::{self, ReplyBody};
use crate::hub::Ticket;
use crate::limits::{HTTP2_STREAMS, REFUSAL_TIME};
use crate::load::OpenConnection;
use crate::place::Place;
use crate::shard::Shard;

/// Between two looks at a connection that is about to be let go.
pub(super) const BREATH: Duration = Duration::from_millis(20);
/// Between two looks at a connection of a draining shard that has not asked for anything yet.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Time between HTTP/2 pings, and for their answer.
const HTTP2_PING: Duration = Duration::from_secs(30);
/// hyper's smallest read buffer, and so the smallest bound on a head.
const MIN_HEAD: usize = 8 << 10;
/// How long a connection is idle before it goes to the hub: long enough that a client which asks one thing after another stays.
const IDLE: Duration = Duration::from_secs(2);
/// The same while more than [`CROWD`] connections are inside hyper, 20 KB each, or there is no room for another.
const IDLE_IN_A_CROWD: Duration = Duration::from_millis(50);
/// How many connections may be idle inside hyper before they leave sooner.
const CROWD: u64 = 256;

/// What carries a connection.
pub trait Wire: AsyncRead + AsyncWrite + AsRawFd + Unpin + Send + 'static {
    /// Whether the socket is all there is of it, so that the hub can keep the connection without hyper. One that encrypts has a
    /// state of its own beside the socket, and stays in hyper to its end, as HTTP/2 does.
    const IS_BARE: bool;

    /// The socket without the runtime. Never asked for of one that is not bare.
    ///
    /// # Errors
    /// When the runtime does not let it go.
    fn into_std(self) -> io::Result<StdStream>;
}

impl Wire for TcpStream {
    const IS_BARE: bool = true;

    fn into_std(self) -> io::Result<StdStream> {
        Self::into_std(self)
    }
}

/// How a connection left hyper.
enum Left {
    /// It is over.
    Ended(hyper::Result<()>),
    /// It holds a stream, and says nothing else any more.
    Holding(Ticket),
    /// It is idle.
    Idle,
    /// Its stream was followed by bytes, which end it.
    Followed(Ticket),
}

/// Serves a new connection to its end, or until the hub has it.
pub(super) async fn serve<S: Wire>(socket: S, shard: Arc<Shard>, admission: Admission) {
    let refused = match &admission {
        Admission::Counted(..) => None,
        Admission::Refused(why, _) => Some(*why),
    };
    let connection = Arc::new(Connection::new(refused, &shard.load));
    let (_, read_time) = head_limits(&shard);
    let mut io = Timed::new(socket, connection.doing(), read_time);
    let ended = match admission {
        Admission::Counted(open, place) => match poll_fn(|cx| io.poll_protocol(cx)).await {
            Ok(Protocol::Http1) => return http1(io, shard, connection, open, place).await,
            Ok(Protocol::Http2) => Box::pin(http2(io, shard, connection, open, place)).await,
            Err(error) => return debug!(%error, "a connection said nothing"),
        },
        Admission::Refused(_, _lane) => {
            let serving = Box::pin(async {
                let protocol = poll_fn(|cx| io.poll_protocol(cx)).await;
                let (io, service) = (TokioIo::new(io), service(&shard, &connection));
                match protocol {
                    Ok(Protocol::Http1) => http1_builder(&shard).keep_alive(false).serve_connection(io, service).await,
                    Ok(Protocol::Http2) => http2_builder(&shard).serve_connection(io, service).await,
                    Err(_) => Ok(()),
                }
            });
            timeout(REFUSAL_TIME, serving).await.unwrap_or(Ok(()))
        }
    };
    tell(ended);
}

/// Goes on with an idle connection whose client has sent something, which is still in the socket.
pub(super) async fn resume(socket: StdStream, shard: Arc<Shard>, open: OpenConnection, place: Place) {
    let connection = Arc::new(Connection::new(None, &shard.load));
    let (_, read_time) = head_limits(&shard);
    match TcpStream::from_std(socket) {
        Ok(socket) => http1(Timed::new(socket, connection.doing(), read_time), shard, connection, open, place).await,
        Err(error) => debug!(%error, "the runtime does not take a connection back"),
    }
}

fn tell(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        debug!(error = %error, "a connection broke off");
    }
}

/// Bytes of a head, and the time for it.
fn head_limits(shard: &Shard) -> (usize, Duration) {
    shard.serving().map_or((MIN_HEAD, REFUSAL_TIME), |serving| (serving.limits.header.max(MIN_HEAD), serving.limits.read_time))
}

fn http1_builder(shard: &Shard) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // The head's time is kept by the socket's wrapper: hyper's own would cut idle connections too.
    builder.header_read_timeout(None).max_buf_size(head_limits(shard).0);
    builder
}

fn http2_builder(shard: &Shard) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PING)
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(u32::try_from(head_limits(shard).0).unwrap_or(u32::MAX));
    builder
}

/// Serves HTTP/1 until it is over or the hub has it.
async fn http1<S: Wire>(
    mut io: Timed<S>,
    shard: Arc<Shard>,
    connection: Arc<Connection>,
    open: OpenConnection,
    mut place: Place,
) {
    let (doing, socket) = (connection.doing(), io.as_raw_fd());
    let _inside = shard.hub.inside();
    loop {
        let service = service_fn(|request| http::handle(&shard, &connection, request));
        let mut serving = http1_builder(&shard).serve_connection(TokioIo::new(io), service);
        let mut idle = Idle::default();
        let farewell = pin!(goodbye(&shard, &doing, socket));
        let mut goodbye = Goodbye::new(&shard, farewell);
        let mut is_leaving = false;
        let left = poll_fn(|cx| {
            loop {
                if let Poll::Ready(ended) = Pin::new(&mut serving).poll(cx) {
                    return Poll::Ready(Left::Ended(ended));
                }
                if doing.requests() > 0 {
                    place.asks();
                }
                if let Some(left) = left(&shard, &doing, &mut idle, S::IS_BARE && shard.hub.takes_sockets(), cx) {
                    return Poll::Ready(left);
                }
                if is_leaving || goodbye.poll_due(&shard, cx).is_pending() {
                    return Poll::Pending;
                }
                is_leaving = true;
                Pin::new(&mut serving).graceful_shutdown();
            }
        });
        match left.await {
            Left::Ended(ended) => return tell(ended),
            Left::Followed(stream) => {
                // Through hyper: it has read what followed.
                doing.leave_bytes();
                shard.hub.end(stream);
                return tell(serving.await);
            }
            Left::Holding(stream) => {
                // What the body and the service hold goes with them; the stream stays.
                if shard.hub.leave(stream) {
                    let parts = serving.into_parts();
                    debug_assert!(parts.read_buf.is_empty(), "hyper reads when it has nothing left");
                    match parts.io.into_inner().into_socket().into_std() {
                        Ok(socket) => shard.hub.arrive(stream, socket, open, doing.is_http10()),
                        Err(_) => shard.hub.forget(stream),
                    }
                }
                return;
            }
            Left::Idle => {
                let parts = serving.into_parts();
                let socket = parts.io.into_inner().into_socket();
                if parts.read_buf.is_empty() {
                    if let Ok(socket) = socket.into_std() {
                        shard.hub.rest(socket, open);
                    }
                    return;
                }
                // The beginning of a request that came behind another.
                doing.set(State::Head);
                io = Timed::new(socket, connection.doing(), head_limits(&shard).1).with_ahead(parts.read_buf.into());
            }
        }
    }
}

/// Whether a connection that waits can wait without hyper: there is somebody who takes it.
fn left(shard: &Shard, doing: &Doing, idle: &mut Idle, is_taken: bool, cx: &mut Context<'_>) -> Option<Left> {
    if !doing.is_flushed() || doing.leaves_bytes() {
        return None;
    }
    match (doing.now(), doing.held(), doing.input()) {
        (State::Busy, Some(stream), Input::Nothing) if is_taken => Some(Left::Holding(stream)),
        (State::Busy, Some(stream), Input::Bytes) => Some(Left::Followed(stream)),
        (State::Idle, _, Input::Nothing) if is_taken => idle.poll_over(shard, doing, cx).is_ready().then_some(Left::Idle),
        (State::Head | State::Busy | State::Idle | State::Http2, _, _) => None,
    }
}

/// A farewell that is awaited beside the requests of a connection. While the shard serves it is asked once and then left alone: it
/// has the waker of this task, and most of what wakes that is a request.
struct Goodbye<F> {
    farewell: F,
    phase: watch::Receiver<Phase>,
    was_asked: bool,
}

impl<F: Future<Output = ()> + Unpin> Goodbye<F> {
    fn new(shard: &Shard, farewell: F) -> Self {
        Self { farewell, phase: shard.drain.watch(), was_asked: false }
    }

    /// Asks again when its answer may be another.
    fn poll_due(&mut self, shard: &Shard, cx: &mut Context<'_>) -> Poll<()> {
        let changed = self.phase.has_changed().unwrap_or(true);
        if self.was_asked && !changed && !shard.drain.is_draining() && !shard.leave.is_cancelled() {
            return Poll::Pending;
        }
        self.was_asked = true;
        self.phase.mark_unchanged();
        // Not bound to the budget of the task: out of budget it would not have our waker.
        pin!(unconstrained(&mut self.farewell)).poll(cx)
    }
}

/// The timer of a connection that may be idle. It is set once in its time, not for each request.
#[derive(Default)]
struct Idle {
    timer: Option<Pin<Box<Sleep>>>,
    /// Requests when it was set.
    requests: u32,
}

impl Idle {
    /// Whether the connection has been idle for long enough.
    fn poll_over(&mut self, shard: &Shard, doing: &Doing, cx: &mut Context<'_>) -> Poll<()> {
        let time = || {
            let is_crowded = shard.hub.inside_hyper() > CROWD || shard.load.is_crowded();
            if is_crowded { IDLE_IN_A_CROWD } else { IDLE }
        };
        let timer = match &mut self.timer {
            // Its waker is this task's: nothing is to be done before it has run out.
            Some(timer) if !timer.is_elapsed() => return Poll::Pending,
            Some(timer) => timer,
            None => {
                self.requests = doing.requests();
                self.timer.insert(Box::pin(sleep(time())))
            }
        };
        // Not bound to the budget of the task: out of budget it would not be set.
        while pin!(unconstrained(timer.as_mut())).poll(cx).is_ready() {
            if self.requests == doing.requests() {
                return Poll::Ready(());
            }
            self.requests = doing.requests();
            timer.as_mut().reset(Instant::now() + time());
        }
        Poll::Pending
    }
}

/// Serves HTTP/2 to its end: its streams stay in hyper, because they share one connection.
async fn http2<S: Wire>(
    io: Timed<S>,
    shard: Arc<Shard>,
    connection: Arc<Connection>,
    _open: OpenConnection,
    mut place: Place,
) -> hyper::Result<()> {
    let (doing, socket) = (connection.doing(), io.as_raw_fd());
    // It stays inside hyper to its end, whatever it asks for.
    place.asks();
    let mut serving = pin!(http2_builder(&shard).serve_connection(TokioIo::new(io), service(&shard, &connection)));
    tokio::select! {
        biased;
        ended = serving.as_mut() => ended,
        () = goodbye(&shard, &doing, socket) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    }
}

/// What answers the requests of a connection.
fn service(
    shard: &Arc<Shard>,
    connection: &Arc<Connection>,
) -> impl HttpService<Incoming, ResBody = ReplyBody, Error = Infallible, Future: Send> + Send + use<> {
    let (shard, connection) = (Arc::clone(shard), Arc::clone(connection));
    service_fn(move |request| http::handle(&shard, &connection, request))
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    const REQUEST: &[u8] = b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}";

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
