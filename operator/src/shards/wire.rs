//! One exchange over HTTP/1.1 with a shard, and the connections that are kept between two of them.
//!
//! What is kept of a connection is its socket alone. Buffers and the state of HTTP exist while an exchange goes on: for thousands
//! of shards that are asked once in five seconds they would be most of the operator's memory.

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// An answer has about 600 bytes; room for a hundred times that.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// A connection is kept for this long after its last exchange.
const KEPT_FOR: Duration = Duration::from_secs(90);

/// Why there was no answer.
pub(super) type Broken = Box<dyn Error + Send + Sync>;

/// A status and a body.
pub(super) type Answer = (StatusCode, Bytes);

/// Connections to shards, by their address.
#[derive(Clone, Debug, Default)]
pub(super) struct Wire {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    idle: HashMap<SocketAddr, Idle>,
    swept: Option<Instant>,
}

/// A connection on which nothing is under way.
#[derive(Debug)]
struct Idle {
    socket: TcpStream,
    since: Instant,
}

// === impl Wire ===

impl Wire {
    /// Asks on the connection that is kept, if there is one. None when there is none, or it broke: a shard closes what is idle,
    /// perhaps at this very moment, and then has not answered.
    pub(super) async fn ask_again(&self, shard: SocketAddr, request: Request<Full<Bytes>>) -> Option<Answer> {
        let socket = self.take(shard)?;
        self.exchange(shard, socket, request).await.ok()
    }

    /// Asks on a new connection.
    ///
    /// # Errors
    /// When there is no connection, or it breaks before the answer is whole.
    pub(super) async fn ask(&self, shard: SocketAddr, request: Request<Full<Bytes>>) -> Result<Answer, Broken> {
        let socket = TcpStream::connect(shard).await?;
        socket.set_nodelay(true)?;
        self.exchange(shard, socket, request).await
    }

    /// One request and its answer; the connection is kept when both ends mean to.
    async fn exchange(&self, shard: SocketAddr, socket: TcpStream, request: Request<Full<Bytes>>) -> Result<Answer, Broken> {
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let mut connection = std::pin::pin!(connection.without_shutdown());
        let answer = async move {
            // Gone with this block: nothing more is asked, and the connection hands back its socket.
            let mut sender = sender;
            let response = sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await?.to_bytes();
            Ok::<_, Broken>((head, body))
        };
        let mut answer = std::pin::pin!(answer);
        let (head, body) = tokio::select! {
            biased;
            answer = &mut answer => answer?,
            // It ended by itself: whatever came is there by now.
            _ = &mut connection => return answer.await.map(|(head, body)| (head.status, body)),
        };
        if stays(head.version, &head.headers)
            && let Ok(parts) = connection.await
            && parts.read_buf.is_empty()
        {
            self.keep(shard, parts.io.into_inner());
        }
        Ok((head.status, body))
    }

    /// The connection to this shard, unless it was closed, or says something that nobody asked for.
    fn take(&self, shard: SocketAddr) -> Option<TcpStream> {
        let Idle { socket, since } = self.lock().idle.remove(&shard)?;
        (is_quiet(&socket) && since.elapsed() < KEPT_FOR).then_some(socket)
    }

    fn keep(&self, shard: SocketAddr, socket: TcpStream) {
        let (now, mut kept) = (Instant::now(), self.lock());
        kept.idle.insert(shard, Idle { socket, since: now });
        if kept.swept.is_none_or(|swept| now - swept >= KEPT_FOR) {
            kept.swept = Some(now);
            kept.idle.retain(|_, idle| now - idle.since < KEPT_FOR);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nothing came on a connection, not even its end. The kernel is asked: the runtime may not have heard yet.
fn is_quiet(socket: &TcpStream) -> bool {
    let look = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    recv(socket.as_raw_fd(), &mut [0], look) == Err(Errno::EAGAIN)
}

/// Whether the shard leaves the connection open (RFC 9112, section 9.3).
fn stays(version: Version, headers: &HeaderMap) -> bool {
    let mut options = headers.get_all(header::CONNECTION).iter().flat_map(|value| value.to_str().unwrap_or("close").split(','));
    version == Version::HTTP_11 && !options.any(|option| option.trim().eq_ignore_ascii_case("close"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const REPORT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

    fn request() -> Request<Full<Bytes>> {
        Request::post("/load").header(header::HOST, "shard").body(Full::new(Bytes::from_static(b"{}"))).unwrap()
    }

    async fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Answers the next request of a connection.
    async fn answer(socket: &mut TcpStream, with: &str) {
        let mut read = vec![];
        while !read.ends_with(b"\r\n\r\n{}") {
            assert!(socket.read_buf(&mut read).await.unwrap() > 0);
        }
        socket.write_all(with.as_bytes()).await.unwrap();
    }

    async fn asked(wire: &Wire, shard: SocketAddr, listener: &TcpListener, with: &str) -> TcpStream {
        let answering = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            answer(&mut socket, with).await;
            socket
        };
        let (got, socket) = tokio::join!(wire.ask(shard, request()), answering);
        assert_eq!(got.unwrap(), (StatusCode::OK, Bytes::from_static(b"{}")));
        socket
    }

    #[tokio::test]
    async fn the_next_question_takes_the_connection_of_the_last() {
        let (listener, shard) = listen().await;
        let wire = Wire::default();
        assert!(wire.ask_again(shard, request()).await.is_none(), "there is none yet");
        let mut socket = asked(&wire, shard, &listener, REPORT).await;
        for _ in 0..3 {
            let (got, ()) = tokio::join!(wire.ask_again(shard, request()), answer(&mut socket, REPORT));
            assert_eq!(got, Some((StatusCode::OK, Bytes::from_static(b"{}"))));
        }
    }

    #[tokio::test]
    async fn a_connection_that_the_shard_means_to_close_is_not_kept() {
        let (listener, shard) = listen().await;
        let wire = Wire::default();
        for head in ["HTTP/1.1 200 OK\r\nConnection: Keep-Alive, Close\r\n", "HTTP/1.0 200 OK\r\n"] {
            let _socket = asked(&wire, shard, &listener, &format!("{head}content-length: 2\r\n\r\n{{}}")).await;
            assert!(wire.lock().idle.is_empty(), "{head}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_the_shard_closed_or_spoke_on_is_asked_nothing() {
        let (listener, shard) = listen().await;
        let wire = Wire::default();
        for says in [&b""[..], b"HTTP/1.1 408 Request Timeout\r\n\r\n"] {
            let mut socket = asked(&wire, shard, &listener, REPORT).await;
            socket.write_all(says).await.unwrap();
            drop(socket);
            assert!(wire.ask_again(shard, request()).await.is_none());
            assert!(wire.lock().idle.is_empty());
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_given_up() {
        let (listener, shard) = listen().await;
        let wire = Wire::default();
        let flood = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            answer(&mut socket, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            let chunk = format!("2000\r\n{}\r\n", "x".repeat(0x2000));
            while socket.write_all(chunk.as_bytes()).await.is_ok() {}
        };
        let (got, ()) = tokio::join!(wire.ask(shard, request()), flood);
        got.unwrap_err();
        assert!(wire.lock().idle.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_asked_any_more_is_closed() {
        let (listener, shard) = listen().await;
        let wire = Wire::default();
        let mut gone = asked(&wire, shard, &listener, REPORT).await;
        tokio::time::advance(KEPT_FOR).await;
        let (other, another) = listen().await;
        let _socket = asked(&wire, another, &other, REPORT).await;
        assert_eq!(wire.lock().idle.keys().collect::<Vec<_>>(), [&another]);
        assert_eq!(gone.read(&mut [0]).await.unwrap(), 0, "the shard hears of it");
    }
}
