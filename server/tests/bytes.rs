//! What a connection that waits keeps on the heap, by an allocator that counts. A binary of its own: nothing else allocates here.
//!
//! Clients are bare sockets without a heap, so everything counted is the server's.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tests/counting.rs"]
mod counting;
mod harness;
#[path = "harness/tls.rs"]
mod tls;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use counting::{Counting, live};
use harness::{Running, config, meta, post};
use mcp_server::hub::Hub;
use mcp_server::session::{Change, SessionKey, Sessions, generated_ring, random};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, StreamOwned};

/// Connections of a kind.
const EACH: usize = 2_000;
/// The same over TLS, which are dearer.
const ENCRYPTED: usize = 500;
/// Bytes a held modern stream may keep over TLS, inside hyper.
const TLS: isize = 48 << 10;
/// Bytes a held modern stream may keep, with list flags, one URI of 60 bytes and an id of 36.
const STREAM: isize = 512;
/// Bytes a held legacy stream may keep where it is held, with a subscription to a URI of 60 bytes: the session's record included.
const LEGACY: isize = 768;
/// Bytes a record of such a subscription may take, which every shard keeps.
const RECORD: isize = 96;
/// Bytes an idle connection may keep.
const IDLE: isize = 1_024;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn request(method: &str, id: &str, params: serde_json::Value) -> String {
    let mut params = params;
    params["_meta"] = meta();
    let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string();
    post(&[("mcp-protocol-version", harness::MODERN), ("mcp-method", method)], &body)
}

/// A connection that has served a POST.
fn served(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    list(&mut socket);
    socket
}

fn list(socket: &mut (impl Read + Write)) {
    socket.write_all(request("tools/list", "1", json!({})).as_bytes()).unwrap();
    heard(socket, "\"resultType\"");
}

fn heard(socket: &mut impl Read, text: &str) -> String {
    let (mut bytes, mut read) = ([0; 8192], 0);
    while !String::from_utf8_lossy(&bytes[..read]).contains(text) {
        let more = socket.read(&mut bytes[read..]).unwrap();
        assert!(more > 0, "ended without {text}");
        read += more;
    }
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

fn stream(address: SocketAddr, n: usize) -> TcpStream {
    let mut socket = served(address);
    listen(&mut socket, n);
    socket
}

/// A modern stream over TLS. Of its client the socket is kept, and nothing on the heap.
fn encrypted_stream((address, trust): &(SocketAddr, Arc<ClientConfig>), n: usize) -> TcpStream {
    let client = ClientConnection::new(Arc::clone(trust), "localhost".try_into().unwrap()).unwrap();
    let mut encrypted = StreamOwned::new(client, TcpStream::connect(address).unwrap());
    list(&mut encrypted);
    listen(&mut encrypted, n);
    encrypted.sock
}

fn listen(socket: &mut (impl Read + Write), n: usize) {
    let filter = json!({"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true,
                        "resourceSubscriptions": [uri(n)]});
    let listen = request("subscriptions/listen", &format!("{n:0>36}"), json!({"notifications": filter}));
    socket.write_all(listen.as_bytes()).unwrap();
    heard(socket, "acknowledged");
}

/// The stream of a legacy session that has subscribed on the same connection.
fn legacy_stream(address: SocketAddr, n: usize) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    let mut ask = |session: &str, method: &str, params: serde_json::Value| {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        socket.write_all(post(&[("mcp-session-id", session)], &body).as_bytes()).unwrap();
        heard(&mut socket, "\"result\"")
    };
    let client = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let answered = ask("", "initialize", client);
    let session = answered.lines().find_map(|line| line.strip_prefix("mcp-session-id: ")).unwrap();
    ask(session, "resources/subscribe", json!({"uri": uri(n)}));
    let get = format!("GET /mcp HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\nmcp-session-id: {session}\r\n\r\n");
    socket.write_all(get.as_bytes()).unwrap();
    heard(&mut socket, ":\n\n");
    socket
}

/// Of 60 bytes.
fn uri(n: usize) -> String {
    format!("test://{n:0>53}")
}

/// What records of sessions take, each with one subscription.
fn records() -> isize {
    let sessions = Sessions::new(random(), generated_ring()).unwrap();
    let before = live();
    for number in 0..EACH {
        let session = SessionKey { incarnation: [1; 16], number: number as u64 };
        sessions.change(session, u64::MAX, &Change::Subscribe(uri(number).into()), 1).unwrap();
    }
    (live() - before) / EACH.cast_signed()
}

/// Heap of the server for each of some connections.
fn for_each(
    runtime: &tokio::runtime::Runtime,
    server: &Running,
    open: impl Fn(usize) -> TcpStream,
    each: usize,
    is_quiet: impl Fn(&Hub) -> bool,
) -> isize {
    let mut sockets = Vec::with_capacity(each);
    let before = live();
    sockets.extend((0..each).map(open));
    runtime.block_on(server.until("quiet", |shard| is_quiet(&shard.hub)));
    let grown = live() - before;
    std::mem::forget(sockets);
    grown / each.cast_signed()
}

/// So many sockets are with the hub, and none is in hyper.
fn parked(sockets: usize) -> impl Fn(&Hub) -> bool {
    move |hub| hub.sockets() == sockets && hub.inside_hyper() == 0
}

#[test]
fn a_stream_and_an_idle_connection_keep_next_to_nothing() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    assert!(hard > EACH as u64 * 8, "{hard} files are too few for this test");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut config = config();
    (config.limits.max_connections, config.limits.max_streams) = (10_000, 10_000);
    let server = runtime.block_on(Running::start(&config));
    let address = server.addresses.data;
    // What is made once, for the first.
    let _first = (stream(address, EACH + 1), served(address));
    runtime.block_on(server.until("parked", |shard| shard.hub.sockets() == 2));
    let streams = for_each(&runtime, &server, |n| stream(address, n), EACH, parked(2 + EACH));
    let idle = for_each(&runtime, &server, |_| served(address), EACH, parked(2 + 2 * EACH));
    let legacy = for_each(&runtime, &server, |n| legacy_stream(address, n), EACH, parked(2 + 3 * EACH));
    let over_tls = runtime.block_on(tls::serve_tls(&server.shard));
    let _first = encrypted_stream(&over_tls, 0);
    let in_hyper = |hub: &Hub| hub.inside_hyper() == 1 + ENCRYPTED as u64;
    let encrypted = for_each(&runtime, &server, |n| encrypted_stream(&over_tls, n), ENCRYPTED, in_hyper);
    let record = records();
    println!("live bytes: {streams} for each held stream, {idle} for each idle connection");
    println!("{legacy} for each held legacy stream with the record of its session, {record} for a record on every other shard");
    assert!((0..=STREAM).contains(&streams), "{streams} bytes for each stream");
    println!("{encrypted} for each held stream over TLS");
    assert!((0..=TLS).contains(&encrypted), "{encrypted} bytes for each stream over TLS");
    assert!((0..=IDLE).contains(&idle), "{idle} bytes for each idle connection");
    assert!((0..=LEGACY).contains(&legacy), "{legacy} bytes for each legacy stream");
    assert!((0..=RECORD).contains(&record), "{record} bytes for each record");
    assert_eq!(server.shard.load.streams(), 2 + (2 * EACH + ENCRYPTED) as u64);
}
