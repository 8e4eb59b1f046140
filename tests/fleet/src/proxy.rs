//! One address in front of several shards. Every HTTP request goes to the next shard in turn, over a connection of its own:
//! GET, DELETE, posted responses and resumes too. Bodies pass as they come.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::client;
use hyper::server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::tally::Tally;

const SESSION: &str = "mcp-session-id";

type Body = Either<Incoming, Full<Bytes>>;

/// Shares requests out.
#[derive(Debug)]
pub(crate) struct Proxy {
    upstreams: Arc<Upstreams>,
    next: AtomicUsize,
    tally: Arc<Tally>,
    log: Mutex<Option<File>>,
}

/// The shards that requests are shared out to.
#[derive(Debug, Default)]
pub(crate) struct Upstreams(RwLock<Vec<Arc<Upstream>>>);

/// One of them. It is in use until the head of its answer has come.
#[derive(Debug)]
pub(crate) struct Upstream {
    number: usize,
    address: SocketAddr,
}

// === impl Upstreams ===

impl Upstreams {
    /// From now on it has its turn.
    pub(crate) fn add(&self, number: usize, address: SocketAddr) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(Upstream { number, address }));
    }

    /// From now on it has none.
    pub(crate) fn take_out(&self, number: usize) -> Option<Arc<Upstream>> {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let place = all.iter().position(|upstream| upstream.number == number)?;
        Some(all.remove(place))
    }

    fn turn(&self, n: usize) -> Option<Arc<Upstream>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(n.checked_rem(all.len())?).map(Arc::clone)
    }
}

// === impl Proxy ===

impl Proxy {
    /// In front of these shards; a line about every request goes to a file.
    pub(crate) fn new(upstreams: Arc<Upstreams>, tally: Arc<Tally>, log: &Path) -> Self {
        let log = File::create(log).inspect_err(|error| eprintln!("fleet: {}: {error}", log.display())).ok();
        Self { upstreams, next: AtomicUsize::new(0), tally, log: Mutex::new(log) }
    }

    /// Serves for ever.
    pub(crate) async fn serve(self, front: TcpListener) {
        let proxy = Arc::new(self);
        loop {
            let Ok((socket, _)) = front.accept().await else { continue };
            let _ = socket.set_nodelay(true);
            let proxy = Arc::clone(&proxy);
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let proxy = Arc::clone(&proxy);
                    async move { Ok::<_, Infallible>(proxy.carry(request).await) }
                });
                // A client that goes away drops what it waited for, and with that the shard's connection.
                let _ = server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
            });
        }
    }

    fn turn(&self) -> Option<Arc<Upstream>> {
        self.upstreams.turn(self.next.fetch_add(1, Relaxed))
    }

    async fn carry(&self, request: Request<Incoming>) -> Response<Body> {
        let session = session(request.headers()).map(str::to_owned);
        let mut turn = self.turn();
        if turn.as_ref().is_some_and(|upstream| self.tally.moves_on(session.as_deref(), upstream.number)) {
            turn = self.turn();
        }
        let Some(upstream) = turn else { return bad_gateway("no shard has its turn") };
        let shard = upstream.number;
        let owner = self.tally.request(request.method().as_str(), session.as_deref(), shard);
        let line = format!("{} shard {shard} owner {owner:?} {}", request.method(), note(request.headers()));
        let response = match forward(upstream.address, request).await {
            Ok(response) => response,
            Err(why) => bad_gateway(&format!("shard {shard}: {why}")),
        };
        if let Some(opened) = self::session(response.headers()) {
            self.tally.opened(opened, shard);
        }
        if let Some(log) = self.log.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let _ = writeln!(log, "{line} → {}", response.status().as_u16());
        }
        response
    }
}

fn bad_gateway(why: &str) -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::from(format!("{why}\n"))));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

fn session(headers: &HeaderMap) -> Option<&str> {
    headers.get(SESSION)?.to_str().ok()
}

/// What tells requests apart in the log.
fn note(headers: &HeaderMap) -> String {
    let names = ["mcp-protocol-version", "mcp-method", "mcp-name", "last-event-id"];
    let values = names.iter().filter_map(|name| headers.get(*name)).map(|value| String::from_utf8_lossy(value.as_bytes()));
    values.collect::<Vec<_>>().join(" ")
}

/// One request over one connection, which is not kept: what the client says of its own connection ends here.
async fn forward(shard: SocketAddr, mut request: Request<Incoming>) -> Result<Response<Body>, String> {
    let socket = TcpStream::connect(shard).await.map_err(|error| error.to_string())?;
    let _ = socket.set_nodelay(true);
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let mut response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    response.headers_mut().remove(CONNECTION);
    Ok(response.map(Either::Left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A shard that says its name in every answer, and opens a session of that name.
    async fn shard(name: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    assert!(socket.read_buf(&mut head).await.unwrap() > 0);
                }
                let answer = format!("HTTP/1.1 200 OK\r\nmcp-session-id: {name}\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        address
    }

    fn upstreams(shards: &[SocketAddr]) -> Arc<Upstreams> {
        let upstreams = Upstreams::default();
        for (number, address) in shards.iter().enumerate() {
            upstreams.add(number, *address);
        }
        Arc::new(upstreams)
    }

    #[test]
    fn who_was_taken_out_has_no_turn_and_a_newcomer_has() {
        let upstreams = upstreams(&["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()]);
        upstreams.add(2, "127.0.0.1:3".parse().unwrap());
        assert!(upstreams.take_out(0).is_some() && upstreams.take_out(0).is_none());
        let turns: Vec<_> = (0..4).map(|n| upstreams.turn(n).unwrap().number).collect();
        assert_eq!(turns, [1, 2, 1, 2]);
    }

    #[tokio::test]
    async fn every_request_of_a_connection_goes_to_the_next_shard() {
        let shards = vec![shard("a").await, shard("b").await, shard("c").await];
        let folder = tempfile::tempdir().unwrap();
        let tally = Arc::new(Tally::new(3));
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        tokio::spawn(Proxy::new(upstreams(&shards), Arc::clone(&tally), &folder.path().join("log")).serve(front));
        let mut socket = TcpStream::connect(address).await.unwrap();
        // The first is answered by `a`, which opens the session `a`; every second time it would come back there it moves on.
        for name in ["a", "b", "c", "b", "c", "a", "b", "c", "b", "c", "a"] {
            socket.write_all(b"DELETE /mcp HTTP/1.1\r\nhost: x\r\nmcp-session-id: a\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(format!("\r\n\r\n{name}").as_bytes()) {
                assert!(socket.read_buf(&mut answer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
            }
        }
        assert_eq!(tally.verdict(), Ok(()), "{}", tally.summary());
        assert!(tally.summary().contains("DELETE 8 of 10"), "{}", tally.summary());
    }

    #[tokio::test]
    async fn a_shard_that_does_not_listen_is_a_bad_gateway() {
        let closed = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let folder = tempfile::tempdir().unwrap();
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        tokio::spawn(Proxy::new(upstreams(&[closed]), Arc::new(Tally::new(1)), &folder.path().join("log")).serve(front));
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET /mcp HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    }
}
