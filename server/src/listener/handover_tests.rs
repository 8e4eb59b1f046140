//! Streams that leave hyper over a socket which takes a few bytes at a time, with clients that notify, pipeline, end or break off
//! at every point: what arrives is exactly what was said.

use std::io;
use std::net::TcpStream as StdStream;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::Admission;
use super::serve::{Wire, serve};
use crate::backend::{Clients, Credentials};
use crate::hub::Pace;
use crate::library::Code;
use crate::limits::Jitter;
use crate::manifest;
use crate::mcp::subscriptions::Event;
use crate::serving::Serving;
use crate::shard::Shard;
use crate::sse;

const STREAMS: u64 = 10_000;
/// Streams at one time.
const AT_ONCE: u64 = 100;
const PATIENCE: Duration = Duration::from_mins(1);

/// Takes 1 to 64 bytes a write, and nothing in between.
struct Slow {
    socket: TcpStream,
    jitter: Jitter,
    rests: bool,
    vectored: bool,
}

impl AsyncRead for Slow {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Slow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.rests = !self.rests;
        if self.rests {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = usize::try_from(self.jitter.between(1..65)).unwrap();
        Pin::new(&mut self.socket).poll_write(cx, &bytes[..bytes.len().min(most)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }
}

impl AsRawFd for Slow {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Wire for Slow {
    const IS_BARE: bool = true;

    fn into_std(self) -> io::Result<StdStream> {
        self.socket.into_std()
    }
}

/// What the client does.
#[derive(Clone, Copy, Debug)]
enum Ends {
    /// Hears an event that is raised while the stream moves, then sends a byte, which ends it.
    Listens,
    /// Sends another request with the first.
    Pipelines,
    /// Ends its side after so many bytes.
    Fin(u64),
    /// Breaks off after so many bytes.
    Reset(u64),
}

fn serving(shard: &Shard) -> Arc<Serving> {
    let manifest = manifest::without_file("t", "1", None).unwrap();
    let clients = Clients::from_environment().unwrap();
    let (environment, credentials) = (shard.environment, Arc::new(Credentials::none()));
    Arc::new(Serving::build(&manifest.config, "test", &environment, credentials, &clients, &Code::default()).unwrap())
}

fn request(n: u64, http10: bool) -> String {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{n},"method":"subscriptions/listen","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{{"name":"t","version":"1"}},"io.modelcontextprotocol/clientCapabilities":{{}}}},"notifications":{{"resourceSubscriptions":["test://{n}"]}}}}}}"#
    );
    let version = if http10 { "1.0" } else { "1.1" };
    format!(
        "POST /mcp HTTP/{version}\r\nhost: localhost\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: subscriptions/listen\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn event(json: &str) -> String {
    format!("event: message\ndata: {json}\n\n")
}

/// The events of a body, which is whole: every chunk an event, and an end. Comments may stand between them.
fn events(body: &[u8], http10: bool) -> String {
    if http10 {
        return String::from_utf8(body.to_vec()).unwrap().replace("\n\n:\n\n", "\n\n");
    }
    let (mut rest, mut events) = (body, String::new());
    loop {
        let line = rest.windows(2).position(|pair| pair == b"\r\n").expect("a chunk has a length");
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        let (chunk, after) = rest[line + 2..].split_at(length);
        assert!(after.starts_with(b"\r\n"), "a chunk ends where it says");
        rest = &after[2..];
        if length == 0 {
            assert!(rest.is_empty(), "nothing follows the end");
            return events;
        }
        if chunk != sse::KEEP_ALIVE {
            events.push_str(std::str::from_utf8(chunk).unwrap());
        }
    }
}

/// Reads until something was read, or the end; whether there is more.
async fn more(socket: &mut TcpStream, read: &mut Vec<u8>) -> bool {
    timeout(PATIENCE, socket.read_buf(read)).await.expect("bytes in time").is_ok_and(|bytes| bytes > 0)
}

/// One stream, and what its client read of it.
async fn client(mut socket: TcpStream, shard: Arc<Shard>, n: u64, ends: Ends) -> Vec<u8> {
    let http10 = n.is_multiple_of(7);
    let mut sent = request(n, http10);
    if matches!(ends, Ends::Pipelines) {
        sent.push_str(&request(n, http10));
    }
    // In two pieces, so that it begins anywhere.
    let (first, second) = sent.as_bytes().split_at(usize::try_from(n % 97).unwrap());
    socket.write_all(first).await.unwrap();
    tokio::task::yield_now().await;
    socket.write_all(second).await.unwrap();
    let mut read = Vec::new();
    match ends {
        Ends::Listens => {
            more(&mut socket, &mut read).await;
            // It is held, and on its way somewhere.
            shard.hub.notify(&Event::ResourceUpdated(format!("test://{n}").into()));
            while !String::from_utf8_lossy(&read).contains("updated") {
                assert!(more(&mut socket, &mut read).await, "the notification: {}", String::from_utf8_lossy(&read));
            }
            socket.write_all(b"x").await.unwrap();
            while more(&mut socket, &mut read).await {}
        }
        Ends::Pipelines => while more(&mut socket, &mut read).await {},
        Ends::Fin(after) | Ends::Reset(after) => {
            // At most all it says by itself: the acknowledgment, which a comment may follow in the same breath.
            let is_all = |read: &[u8]| read.windows(3).any(|end| end == b"}\n\n");
            while (read.len() as u64) < after && !is_all(&read) && more(&mut socket, &mut read).await {}
            if matches!(ends, Ends::Reset(_)) {
                SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
            } else {
                socket.shutdown().await.unwrap();
                while more(&mut socket, &mut read).await {}
            }
        }
    }
    read
}

/// What was read is what was said.
fn check(n: u64, ends: Ends, read: &[u8]) {
    let http10 = n.is_multiple_of(7);
    let acknowledged = event(&format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{n}}},"notifications":{{"resourceSubscriptions":["test://{n}"]}}}}}}"#
    ));
    let updated = event(&format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{n}}},"uri":"test://{n}"}}}}"#
    ));
    let completed = event(&format!(
        r#"{{"jsonrpc":"2.0","id":{n},"result":{{"resultType":"complete","_meta":{{"io.modelcontextprotocol/subscriptionId":{n},"io.modelcontextprotocol/serverInfo":{{"name":"t","version":"1"}}}}}}}}"#
    ));
    let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return assert!(matches!(ends, Ends::Fin(_) | Ends::Reset(_)), "{ends:?} without a head");
    };
    let (head, body) = (String::from_utf8_lossy(&read[..end]), &read[end + 4..]);
    assert!(head.starts_with(if http10 { "HTTP/1.0 200" } else { "HTTP/1.1 200" }), "{head}");
    assert_eq!(head.contains("transfer-encoding: chunked"), !http10, "{head}");
    let expected = match ends {
        Ends::Listens => format!("{acknowledged}{updated}{completed}"),
        Ends::Pipelines => format!("{acknowledged}{completed}"),
        Ends::Fin(_) | Ends::Reset(_) => {
            let said = String::from_utf8_lossy(body);
            let text = said.split_once("\r\n").map_or("", |(_, text)| text);
            let text = if http10 { &said } else { text };
            let most = text.len().min(acknowledged.len());
            return assert_eq!(text[..most], acknowledged[..most], "{n} {ends:?}");
        }
    };
    assert_eq!(events(body, http10), expected, "{n} {ends:?}");
}

#[tokio::test]
async fn ten_thousand_streams_leave_hyper_byte_by_byte_and_lose_none() {
    let shard = Arc::new(Shard::test());
    shard.serve(&serving(&shard));
    let hub = shard.hub.clone();
    let running = tokio::spawn(async move { hub.run(|| Pace::of(Duration::from_mins(10)), |_| {}).await });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let jitter = Jitter::new(1);
    let (mut servers, mut clients) = (JoinSet::new(), JoinSet::new());
    for n in 1..=STREAMS {
        let ends = match n % 5 {
            0 | 1 => Ends::Listens,
            2 => Ends::Pipelines,
            3 => Ends::Fin(jitter.between(0..700)),
            _ => Ends::Reset(jitter.between(0..700)),
        };
        let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let socket = accepted.unwrap().0;
        let slow = Slow { socket, jitter: Jitter::new(n), rests: false, vectored: n % 3 == 0 };
        let admission = Admission::Counted(shard.admit_connection().unwrap(), shard.load.place().unwrap());
        servers.spawn(serve(slow, Arc::clone(&shard), admission));
        let shard = Arc::clone(&shard);
        clients.spawn(async move { (n, ends, client(connected.unwrap(), shard, n, ends).await) });
        while clients.len() as u64 >= AT_ONCE {
            let (n, ends, read) = clients.join_next().await.unwrap().unwrap();
            check(n, ends, &read);
        }
    }
    while let Some(finished) = clients.join_next().await {
        let (n, ends, read) = finished.unwrap();
        check(n, ends, &read);
    }
    while servers.join_next().await.is_some() {}
    let start = Instant::now();
    while shard.hub.sockets() > 0 || shard.load.connections() > 0 || shard.load.streams() > 0 || shard.load.in_flight() > 0 {
        assert!(start.elapsed() < PATIENCE, "{:?}, {} connections", shard.hub.counts(), shard.load.connections());
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(shard.hub.counts().streams, 0);
    running.abort();
}
