//! Clients that stop: whatever they had begun, everything that was taken for them is given back.
//!
//! Each test goes through several such clients, waits until the shard saw them, and then until connections, streams, requests in
//! flight, orphans and reserved bytes are where they were before.

use std::time::Duration;

use mcp_crds::catalog::{ContentBlock, ToolOutput};
use mcp_crds::shard::ShardConfig;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval};

use crate::ask::Ask;
use crate::harness::{PATIENCE, Running, arrives, config, slow};
use crate::row::compare;
use crate::table::{self, Connection};
use crate::wire::Wire;

pub const NAMES: &[&str] = &[
    "head-slow",
    "body-slow",
    "gone-in-head",
    "gone-in-body",
    "gone-in-call",
    "gone-in-response",
    "gone-in-stream",
    "gone-behind-pipelined",
    "behind-stream",
    "half-closed",
    "half-closed-quick",
];

/// How many clients do the same.
const CLIENTS: usize = 8;

/// The answer of a REST API.
pub async fn answers(call: &mut TcpStream) {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    call.write_all(answer).await.unwrap();
}

/// Everything is given back, by every count there is.
async fn nothing_is_left(server: &Running) {
    server
        .until("as it was", |shard| {
            let load = &shard.load;
            (load.connections(), load.streams(), load.in_flight(), load.orphans(), load.body_bytes()) == (0, 0, 0, 0, 0)
        })
        .await;
    let report = server.load(&json!({})).await;
    assert_eq!((report.connections, report.streams), (0, 0));
    let metrics = server.admin("/metrics").await.body;
    for series in ["mcp_connections 0", "mcp_streams 0"] {
        assert!(metrics.lines().any(|line| line == series), "{series} in {metrics}");
    }
}

/// No answer at all: the connection ends.
fn is_silent(name: &str) {
    let expected = table::of(name);
    assert_eq!((expected.status, expected.connection), (None, Connection::Closed));
}

/// One byte a second, or as close to it as the test has time for, until the server has enough.
async fn trickle(wire: &mut Wire, bytes: &[u8]) {
    let start = Instant::now();
    let mut clock = interval(Duration::from_millis(50));
    for byte in bytes.iter().cycle() {
        clock.tick().await;
        assert!(start.elapsed() < PATIENCE, "still taking bytes");
        let ended = wire.socket.write_all(&[*byte]).await.is_err();
        let mut peeked = [0; 1];
        let heard = tokio::time::timeout(Duration::from_millis(1), wire.socket.peek(&mut peeked)).await.is_ok();
        if ended || heard {
            return;
        }
    }
}

fn hasty() -> ShardConfig {
    let mut config = config();
    config.limits.read_timeout_ms = 500;
    config
}

#[tokio::test]
async fn head_slow() {
    is_silent("head-slow");
    let server = Running::start(&hasty()).await;
    let mut wire = Wire::connect(server.addresses.data).await;
    wire.send(b"POST /mcp HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await;
    trickle(&mut wire, b"x").await;
    assert_eq!(wire.rest().await, "");
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn body_slow() {
    let expected = table::of("body-slow");
    let server = Running::start(&hasty()).await;
    for ask in
        [Ask::modern("tools/list", json!({})).with("content-length", "60000"), Ask::modern("tools/list", json!({})).chunks("")]
    {
        let mut wire = Wire::connect(server.addresses.data).await;
        wire.send(&ask.bytes()).await;
        trickle(&mut wire, if ask.body().is_empty() { b"1\r\nx\r\n" } else { b"x" }).await;
        compare(&expected, &wire.response(false).await);
        assert_eq!(wire.rest().await, "");
    }
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn gone_in_head() {
    is_silent("gone-in-head");
    let server = Running::start(&config()).await;
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        let mut wire = Wire::connect(server.addresses.data).await;
        wire.send(&Ask::modern("tools/list", json!({})).bytes()[..n * 8]).await;
        clients.push(wire);
    }
    server.until("connected", |shard| shard.load.connections() == CLIENTS as u64).await;
    drop(clients);
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn gone_in_body() {
    is_silent("gone-in-body");
    let server = Running::start(&config()).await;
    let ask = Ask::modern("tools/list", json!({}));
    let (whole, chunked) = (ask.bytes(), ask.clone().chunks("8\r\n{\"jsonrp\r\n").bytes());
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        let mut wire = Wire::connect(server.addresses.data).await;
        wire.send(if n % 2 == 0 { &whole[..whole.len() - 1 - n] } else { &chunked }).await;
        clients.push(wire);
    }
    server.until("reading", |shard| shard.load.in_flight() == CLIENTS as u64 && shard.load.body_bytes() > 0).await;
    drop(clients);
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn gone_in_call() {
    is_silent("gone-in-call");
    let (config, upstream) = slow().await;
    let server = Running::start(&config).await;
    let mut modern = Wire::connect(server.addresses.data).await;
    modern.send(&Ask::modern("tools/call", json!({"name": "greet"})).bytes()).await;
    let mut call = arrives(&upstream).await;
    drop(modern);
    assert_eq!(call.read(&mut [0; 8]).await.unwrap_or(0), 0, "the call upstream is stopped");
    nothing_is_left(&server).await;
    let mut legacy = Wire::connect(server.addresses.data).await;
    let session = legacy.ask(&Ask::initialize("2025-11-25").bytes()).await.header("mcp-session-id").unwrap().to_owned();
    legacy.send(&Ask::legacy(&session, "tools/call", &json!({"name": "greet"})).bytes()).await;
    let mut call = arrives(&upstream).await;
    drop(legacy);
    server.until("orphaned", |shard| shard.load.orphans() == 1 && shard.load.connections() == 0).await;
    answers(&mut call).await;
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn gone_in_response() {
    is_silent("gone-in-response");
    let mut config = config();
    // More than the buffers of two sockets take.
    let text = Some("x".repeat(8 << 20));
    config.catalog.tools[0].answer = mcp_crds::catalog::Answer::Static(ToolOutput {
        content: vec![ContentBlock { text, ..ContentBlock::default() }],
        ..ToolOutput::default()
    });
    let server = Running::start(&config).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::connect(server.addresses.data).await;
        wire.send(&Ask::modern("tools/call", json!({"name": "greet"})).bytes()).await;
        let mut first = [0; 1024];
        wire.socket.read_exact(&mut first).await.unwrap();
        assert!(first.starts_with(b"HTTP/1.1 200"));
        clients.push(wire);
    }
    assert_eq!(server.shard.load.connections(), 2);
    drop(clients);
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn gone_in_stream() {
    is_silent("gone-in-stream");
    let server = Running::start(&config()).await;
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        let mut wire = Wire::connect(server.addresses.data).await;
        let ask = if n % 2 == 0 {
            Ask::modern("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}))
        } else {
            let session = wire.ask(&Ask::initialize("2025-11-25").bytes()).await.header("mcp-session-id").unwrap().to_owned();
            Ask::get(&session)
        };
        assert_eq!(wire.ask(&ask.bytes()).await.status, 200);
        clients.push(wire);
    }
    server.until("held", |shard| shard.load.streams() == CLIENTS as u64).await;
    drop(clients);
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn gone_behind_pipelined() {
    is_silent("gone-behind-pipelined");
    let (config, upstream) = slow().await;
    let server = Running::start(&config).await;
    let more = Ask::modern("tools/list", json!({})).bytes();
    let mut call = Wire::connect(server.addresses.data).await;
    call.send(&[Ask::modern("tools/call", json!({"name": "greet"})).bytes(), more.clone()].concat()).await;
    let mut upstream_call = arrives(&upstream).await;
    drop(call);
    let start = Instant::now();
    assert_eq!(upstream_call.read(&mut [0; 8]).await.unwrap_or(0), 0, "the call upstream is stopped");
    eprintln!("a call behind which another was sent stopped {:?} after its client went", start.elapsed());
    let mut stream = Wire::connect(server.addresses.data).await;
    let listen = Ask::modern("subscriptions/listen", json!({"notifications": {}}));
    assert_eq!(stream.ask(&listen.bytes()).await.status, 200);
    stream.until("acknowledged").await;
    stream.send(&more).await;
    drop(stream);
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn behind_stream() {
    let expected = table::of("behind-stream");
    let server = Running::start(&config()).await;
    let mut wire = Wire::connect(server.addresses.data).await;
    let listen = Ask::modern("subscriptions/listen", json!({"notifications": {}}));
    let discover = Ask::modern("server/discover", json!({})).bytes();
    wire.send(&[listen.bytes(), discover.clone()].concat()).await;
    compare(&expected, &wire.response(false).await);
    let rest = wire.rest().await;
    assert!(rest.contains("acknowledged") && rest.contains("\"resultType\":\"complete\""), "it ends with its result: {rest}");
    assert!(!rest.contains("HTTP/1.1"), "and nothing was answered behind it: {rest}");
    // The same once the stream is held without hyper.
    let mut wire = Wire::connect(server.addresses.data).await;
    assert_eq!(wire.ask(&listen.bytes()).await.status, 200);
    wire.until("acknowledged").await;
    server.until("parked", |shard| shard.hub.counts().parked_streams == 1).await;
    wire.send(&discover).await;
    let rest = wire.rest().await;
    assert!(rest.contains("\"resultType\":\"complete\"") && rest.ends_with("0\r\n\r\n"), "the result, and the end: {rest}");
    assert!(!rest.contains("HTTP/1.1"), "nothing was answered: {rest}");
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn half_closed() {
    is_silent("half-closed");
    let (config, upstream) = slow().await;
    let server = Running::start(&config).await;
    for behind in [&b""[..], b"POST /mcp HTTP/1.1\r\nhost: localhost\r\n"] {
        let mut wire = Wire::connect(server.addresses.data).await;
        wire.send(&[&Ask::modern("tools/call", json!({"name": "greet"})).bytes(), behind].concat()).await;
        let mut call = arrives(&upstream).await;
        wire.socket.shutdown().await.unwrap();
        assert_eq!(wire.rest().await, "");
        assert_eq!(call.read(&mut [0; 8]).await.unwrap_or(0), 0, "the call upstream is stopped");
    }
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn half_closed_quick() {
    let expected = table::of("half-closed-quick");
    let server = Running::start(&config()).await;
    for ask in [Ask::modern("tools/call", json!({"name": "greet"})), Ask::modern("tools/list", json!({}))] {
        let mut wire = Wire::connect(server.addresses.data).await;
        wire.send(&ask.bytes()).await;
        wire.socket.shutdown().await.unwrap();
        let answered = wire.response(false).await;
        assert_eq!((Some(answered.status), answered.json()["id"].as_u64()), (expected.status, Some(crate::ask::ID)));
        assert_eq!(wire.rest().await, "");
    }
    nothing_is_left(&server).await;
}
