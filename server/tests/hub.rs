//! What waits costs next to nothing: connections and streams that leave hyper, and come back, over real sockets.
#![allow(clippy::unwrap_used, clippy::panic)]

mod harness;

use std::time::Duration;

use harness::{Client, Running, config, modern, post};
use mcp_server::mcp::subscriptions::Event;
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;

fn request(method: &str, params: Value) -> String {
    let (headers, body) = modern(method, params);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    post(&headers, &body)
}

async fn listen(server: &Running, filter: Value) -> Client {
    let mut client = server.client().await;
    client.socket.write_all(request("subscriptions/listen", json!({"notifications": filter})).as_bytes()).await.unwrap();
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    client.until("acknowledged").await;
    client
}

async fn is_parked(server: &Running, streams: usize, connections: usize) {
    let parked = |shard: &mcp_server::shard::Shard| {
        let counts = shard.hub.counts();
        (counts.parked_streams, counts.parked_connections) == (streams, connections)
    };
    server.until("parked", parked).await;
}

#[tokio::test]
async fn an_idle_connection_leaves_hyper_and_is_answered_however_its_next_request_comes() {
    let server = Running::start(&config()).await;
    let list = request("tools/list", json!({}));
    let mut client = server.client().await;
    for pieces in [vec![list.clone()], vec![list.clone() + &list], vec![list[..9].to_owned(), list[9..].to_owned()]] {
        let expected = pieces.concat().matches("POST /mcp").count();
        assert_eq!(client.exchange(list.as_bytes()).await.status, 200);
        is_parked(&server, 0, 1).await;
        assert_eq!(server.shard.load.connections(), 1, "it counts on");
        for piece in pieces {
            client.socket.write_all(piece.as_bytes()).await.unwrap();
            server.until("back", |shard| shard.hub.counts().parked_connections == 0).await;
        }
        for _ in 0..expected {
            assert_eq!(client.response().await.status, 200);
        }
    }
    // Half a request behind a whole one stays with it.
    client.socket.write_all((list.clone() + &list[..40]).as_bytes()).await.unwrap();
    assert_eq!(client.response().await.status, 200);
    client.socket.write_all(&list.as_bytes()[40..]).await.unwrap();
    assert_eq!(client.response().await.status, 200);
    is_parked(&server, 0, 1).await;
    drop(client);
    server.until("gone", |shard| shard.hub.sockets() == 0 && shard.load.connections() == 0).await;
}

#[tokio::test]
async fn half_a_request_behind_another_is_waited_for_as_any_head_is() {
    let mut hasty = config();
    hasty.limits.read_timeout_ms = 300;
    let server = Running::start(&hasty).await;
    let list = request("tools/list", json!({}));
    let mut client = server.client().await;
    client.socket.write_all((list.clone() + &list[..40]).as_bytes()).await.unwrap();
    assert_eq!(client.response().await.status, 200);
    assert_eq!(client.rest().await, "", "it is given up");
    server.until("gone", |shard| shard.load.connections() == 0).await;
}

#[tokio::test]
async fn parked_streams_of_both_eras_hear_what_they_asked_for_and_nothing_else() {
    let server = Running::start(&config()).await;
    let mut wanted = listen(&server, json!({"resourceSubscriptions": ["test://a"], "toolsListChanged": true})).await;
    let mut other = listen(&server, json!({"resourceSubscriptions": ["test://b"]})).await;
    let mut legacy = server.client().await;
    let (_, session) = legacy.initialize("2025-11-25").await;
    let get = format!("GET /mcp HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\nmcp-session-id: {session}\r\n\r\n");
    legacy.socket.write_all(get.as_bytes()).await.unwrap();
    assert!(legacy.head().await.starts_with("HTTP/1.1 200"));
    is_parked(&server, 3, 0).await;
    server.shard.raise(&Event::ResourceUpdated("test://a".into()));
    server.shard.raise(&Event::ToolsChanged);
    assert!(wanted.until("tools/list_changed").await.contains("test://a"));
    assert!(!legacy.until("tools/list_changed").await.contains("test://"));
    server.shard.raise(&Event::ResourceUpdated("test://b".into()));
    let heard = other.until("updated").await;
    assert!(heard.contains("test://b") && !heard.contains("list_changed") && !heard.contains("test://a"), "{heard}");
    drop((wanted, other, legacy));
    server.until("gone", |shard| shard.hub.counts().streams == 0 && shard.load.connections() == 0).await;
}

#[tokio::test]
async fn a_peer_that_never_reads_costs_its_backlog_at_most_and_is_cut() {
    let mut config = config();
    config.limits.max_stream_backlog = 16 << 10;
    config.transport.keep_alive_period_ms = 100;
    let server = Running::start(&config).await;
    let uris: Vec<String> = (0..100).map(|n| format!("test://{n}/{}", "x".repeat(100))).collect();
    let deaf = listen(&server, json!({"resourceSubscriptions": uris})).await;
    let mut other = server.client().await;
    SockRef::from(&deaf.socket).set_recv_buffer_size(1024).unwrap();
    is_parked(&server, 1, 0).await;
    let deadline = tokio::time::Instant::now() + harness::PATIENCE * 3;
    while server.shard.hub.counts().cut == 0 {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", server.shard.hub.counts());
        for uri in &uris {
            server.shard.raise(&Event::ResourceUpdated(uri.as_str().into()));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(server.shard.hub.counts().queued_bytes <= 20 << 10, "{:?}", server.shard.hub.counts());
    }
    server.until("cut", |shard| shard.hub.counts().streams == 0 && shard.load.streams() == 0).await;
    assert_eq!(server.shard.hub.counts().queued_bytes, 0);
    assert_eq!(other.exchange(request("tools/list", json!({})).as_bytes()).await.status, 200);
}

#[tokio::test]
async fn a_drain_ends_parked_streams_of_every_kind_and_lets_idle_connections_go() {
    let server = Running::start(&config()).await;
    let mut stream = listen(&server, json!({"toolsListChanged": true})).await;
    let mut idle = server.client().await;
    assert_eq!(idle.exchange(request("tools/list", json!({})).as_bytes()).await.status, 200);
    is_parked(&server, 1, 1).await;
    server.ends.send(mcp_server::Ending::Drain).await.unwrap();
    let rest = stream.rest().await;
    assert!(rest.contains("\"complete\"") && rest.ends_with("0\r\n\r\n"), "{rest}");
    assert_eq!(idle.rest().await, "", "let go when the process leaves");
    tokio::time::timeout(harness::PATIENCE, server.ended).await.unwrap().unwrap();
    assert_eq!((server.shard.hub.sockets(), server.shard.load.connections()), (0, 0));
}
