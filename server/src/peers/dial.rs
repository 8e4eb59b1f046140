//! Connections to peers begin here: dialed to the control port of a member, or accepted on our own by an HTTP upgrade, since
//! a shard's three ports are what network policies know.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use mcp_crds::shard::CONTROL_PORT;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::handshake::{self, Own, Stranger};
use super::link::{Link, Queue};
use super::wire::{Frame, Malformed, split};
use crate::ports::{Whole, text};
use crate::session::random;
use crate::shard::Shard;

/// The path of the upgrade.
pub const PATH: &str = "/peers";
/// The protocol it upgrades to.
const PROTOCOL: &str = "mcp-peers/1";
/// Time for a connection and its greeting.
const GREETING_TIME: Duration = Duration::from_secs(2);
/// Greetings under way at one time: until its proof anyone may be there.
const MAX_GREETINGS: usize = 128;
/// Bytes of the answer to the upgrade.
const MAX_HEAD: usize = 4 << 10;
/// Bytes of a greeting: a few names and proofs.
const MAX_GREETING: usize = 4 << 10;
/// Of a pair, the shard with the higher name lets the other dial first, for so long.
const COURTESY: Duration = Duration::from_millis(300);
/// Between two attempts: doubled from the first to the last, with jitter.
const BACK_OFF_MS: (u64, u64) = (50, 2_000);

static GREETINGS: Semaphore = Semaphore::const_new(MAX_GREETINGS);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("no address: {0:?}")]
    Address(String),
    #[error("cannot connect")]
    Io(#[from] std::io::Error),
    #[error("nothing came for {} s", GREETING_TIME.as_secs())]
    Late,
    #[error("it does not take peers yet")]
    Starting,
    #[error("it answered {0:?}")]
    Refused(String),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Stranger(#[from] Stranger),
}

impl Failed {
    /// Whether it shows that no process is serving there.
    fn is_down(&self) -> bool {
        match self {
            Self::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
            // Our own address in the list under another name: nobody else is there.
            Self::Starting | Self::Stranger(Stranger::Myself) => true,
            Self::Address(_) | Self::Late | Self::Refused(_) | Self::Malformed(_) | Self::Stranger(_) => false,
        }
    }
}

/// A connection that was greeted.
struct Greeted {
    link: Arc<Link>,
    queue: Queue,
    socket: TcpStream,
    read: BytesMut,
}

/// Keeps a connection to one member until aborted.
pub(super) async fn keep(shard: Arc<Shard>, name: String, address: String) {
    let peers = &shard.peers;
    let mut changed = peers.changed.subscribe();
    let mut delay = BACK_OFF_MS.0;
    let mut complained = false;
    loop {
        while peers.is_linked(&name) {
            (delay, complained) = (BACK_OFF_MS.0, false);
            if changed.changed().await.is_err() {
                return;
            }
        }
        if peers.name > name {
            // Asked between two changes, never while one is looked at: who changes the links tells of it.
            let linked = async { while !peers.is_linked(&name) && changed.changed().await.is_ok() {} };
            let _ = timeout(COURTESY, linked).await;
            if peers.is_linked(&name) {
                continue;
            }
        }
        match timeout(GREETING_TIME, dial(&shard, &address)).await.unwrap_or(Err(Failed::Late)) {
            Ok(greeted) => begin(&shard, greeted),
            Err(failed) => {
                let is_down = failed.is_down();
                match failed {
                    Failed::Stranger(Stranger::Myself) => {}
                    // Keys reach the shards at different moments; that lasts.
                    Failed::Stranger(why) if !complained && delay >= BACK_OFF_MS.1 => {
                        complained = true;
                        warn!(peer = name, address, %why, "a member does not let this shard in");
                    }
                    failed => debug!(peer = name, address, error = %failed, "no connection to a peer"),
                }
                if is_down {
                    peers.down(&name);
                }
            }
        }
        sleep(Duration::from_millis(peers.jitter.between(delay / 2..delay + 1))).await;
        delay = (delay * 2).min(BACK_OFF_MS.1);
    }
}

/// Answers the upgrade of a peer.
pub fn accept(shard: &Arc<Shard>, request: &mut Whole) -> Response<Full<Bytes>> {
    let asks = |name, value: &str| {
        request.headers().get(name).and_then(|given| given.to_str().ok()).is_some_and(|given| given.eq_ignore_ascii_case(value))
    };
    if !asks(header::CONNECTION, "upgrade") || !asks(header::UPGRADE, PROTOCOL) {
        return text(StatusCode::UPGRADE_REQUIRED, format!("peers speak {PROTOCOL} here\n"));
    }
    if !*shard.peers.begun.borrow() || shard.standalone {
        return text(StatusCode::SERVICE_UNAVAILABLE, "not yet\n");
    }
    let Ok(greeting) = GREETINGS.try_acquire() else {
        return text(StatusCode::TOO_MANY_REQUESTS, "too many greetings at one time\n");
    };
    let (upgraded, shard) = (hyper::upgrade::on(request), Arc::clone(shard));
    tokio::spawn(async move {
        let greeted = timeout(GREETING_TIME, async {
            let parts = upgraded.await.ok()?.downcast::<TokioIo<TcpStream>>().ok()?;
            greet(&shard, parts.io.into_inner(), BytesMut::from(&parts.read_buf[..])).await
        });
        let greeted = greeted.await;
        drop(greeting);
        if let Ok(Some(greeted)) = greeted {
            begin(&shard, greeted);
        }
    });
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    response
}

/// Registers a connection and runs it, if it is the one to keep.
fn begin(shard: &Arc<Shard>, greeted: Greeted) {
    let Greeted { link, queue, socket, read } = greeted;
    if !shard.peers.register(&link) {
        return;
    }
    debug!(peer = link.name, "connected to a peer");
    let shard = Arc::clone(shard);
    tokio::spawn(async move {
        let stop = shard.peers.stop.clone();
        let ended = tokio::select! {
            ended = link.run(&shard, socket, read, queue) => ended,
            () = stop.cancelled() => super::link::Ended::Closed,
        };
        link.close();
        shard.peers.unregister(&shard, &link, &ended);
    });
}

/// The dialer's half of the greeting.
async fn dial(shard: &Shard, address: &str) -> Result<Greeted, Failed> {
    let mut socket = TcpStream::connect(control_address(address)?).await?;
    socket.set_nodelay(true)?;
    let head = format!(
        "GET {PATH} HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: {PROTOCOL}\r\ncontent-length: 0\r\n\r\n",
        socket.peer_addr()?
    );
    socket.write_all(head.as_bytes()).await?;
    let mut read = BytesMut::new();
    upgraded(&mut socket, &mut read).await?;
    let ring = shard.sessions.ring();
    let hello = handshake::hello(&own(shard), &ring);
    send(&mut socket, &Frame::Hello(hello.clone())).await?;
    let Frame::Welcome(welcome) = receive(&mut socket, &mut read).await? else { return Err(Stranger::Silent.into()) };
    let proof = handshake::prove(&ring, &hello, &welcome)?;
    send(&mut socket, &Frame::Proof(proof)).await?;
    let (link, queue) = Link::new(welcome.incarnation, welcome.name, hello.incarnation);
    Ok(Greeted { link, queue, socket, read })
}

/// The acceptor's half.
async fn greet(shard: &Shard, mut socket: TcpStream, mut read: BytesMut) -> Option<Greeted> {
    let greeting = async {
        socket.set_nodelay(true)?;
        let Frame::Hello(hello) = receive(&mut socket, &mut read).await? else { return Err(Stranger::Silent.into()) };
        let ring = shard.sessions.ring();
        let welcome = handshake::welcome(&own(shard), &ring, &hello)?;
        send(&mut socket, &Frame::Welcome(welcome.clone())).await?;
        let Frame::Proof(proof) = receive(&mut socket, &mut read).await? else { return Err(Stranger::Silent.into()) };
        handshake::verify(&ring, &hello, &welcome, &proof)?;
        Ok::<_, Failed>(hello)
    };
    match greeting.await {
        Ok(hello) => {
            let (link, queue) = Link::new(hello.incarnation, hello.name, hello.incarnation);
            Some(Greeted { link, queue, socket, read })
        }
        Err(failed) => {
            if let Failed::Stranger(Stranger::NoCommonKey | Stranger::Forged | Stranger::Silent) | Failed::Malformed(_) = failed {
                shard.peers.metrics.strangers.inc();
            }
            debug!(error = %failed, "a greeting failed");
            None
        }
    }
}

fn own(shard: &Shard) -> Own {
    Own { incarnation: shard.peers.incarnation, name: shard.peers.name.clone(), nonce: random() }
}

/// A member's address is that of its pod; with a port, it is that of its control port.
fn control_address(address: &str) -> Result<SocketAddr, Failed> {
    let pod = || address.parse::<IpAddr>().map(|address| SocketAddr::new(address, CONTROL_PORT));
    address.parse().or_else(|_| pod()).map_err(|_| Failed::Address(address.to_owned()))
}

/// Reads the answer to the upgrade; what comes behind it stays in `read`.
async fn upgraded(socket: &mut TcpStream, read: &mut BytesMut) -> Result<(), Failed> {
    let end = loop {
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 4;
        }
        if read.len() > MAX_HEAD {
            return Err(Malformed::new("a head without an end").into());
        }
        more(socket, read).await?;
    };
    let head = read.split_to(end);
    let line = head[..].split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).into_owned();
    match line.split(' ').nth(1) {
        Some("101") => Ok(()),
        Some("503") => Err(Failed::Starting),
        _ => Err(Failed::Refused(line)),
    }
}

async fn send(socket: &mut TcpStream, frame: &Frame) -> Result<(), Failed> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    Ok(socket.write_all(&bytes).await?)
}

async fn receive(socket: &mut TcpStream, read: &mut BytesMut) -> Result<Frame, Failed> {
    loop {
        if let Some((frame, length)) = split(read)? {
            let frame = Frame::decode(frame);
            read.advance(length);
            return Ok(frame?);
        }
        if read.len() > MAX_GREETING {
            return Err(Malformed::new("a greeting that is too long").into());
        }
        more(socket, read).await?;
    }
}

async fn more(socket: &mut TcpStream, read: &mut BytesMut) -> Result<(), Failed> {
    match socket.read_buf(read).await? {
        0 => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_without_a_port_is_reached_on_the_control_port() {
        for (address, expected) in [
            ("10.1.2.3", "10.1.2.3:9091"),
            ("10.1.2.3:7", "10.1.2.3:7"),
            ("fd00::1", "[fd00::1]:9091"),
            ("[fd00::1]:7", "[fd00::1]:7"),
        ] {
            assert_eq!(control_address(address).unwrap().to_string(), expected);
        }
        assert!(control_address("name").is_err());
    }
}
