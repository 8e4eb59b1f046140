//! Connections over TLS: the same path behind the same interface of the hub, inside hyper to their end.
#![allow(clippy::unwrap_used, clippy::panic)]

mod harness;
#[path = "harness/tls.rs"]
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use harness::{Answered, Client, Running, config, modern, post};
use mcp_server::mcp::subscriptions::Event;
use serde_json::json;
use tls::serve_tls;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

/// Where a shard is served over TLS.
struct Served {
    shard: Running,
    address: SocketAddr,
    trust: Arc<ClientConfig>,
}

impl Served {
    async fn start(keep_alive_ms: u64) -> Self {
        let mut config = config();
        config.transport.keep_alive_period_ms = keep_alive_ms;
        let shard = Running::start(&config).await;
        let (address, trust) = serve_tls(&shard.shard).await;
        Self { shard, address, trust }
    }

    async fn client(&self) -> Client<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.address).await.unwrap();
        let connector = TlsConnector::from(Arc::clone(&self.trust));
        Client::over(connector.connect("localhost".try_into().unwrap(), socket).await.unwrap())
    }

    /// A modern stream, on a connection that has served a call.
    async fn listen(&self) -> Client<TlsStream<TcpStream>> {
        let mut client = self.client().await;
        greeted(&client.modern("tools/call", json!({"name": "greet", "arguments": {"name": "Ada"}})).await);
        let (headers, body) = modern("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        client.socket.write_all(post(&headers, &body).as_bytes()).await.unwrap();
        client.until("acknowledged").await;
        client
    }

    /// The stream of a legacy session, the same.
    async fn get(&self) -> Client<TlsStream<TcpStream>> {
        let mut client = self.client().await;
        let (_, session) = client.initialize("2025-11-25").await;
        greeted(&client.legacy(&session, "tools/call", json!({"name": "greet", "arguments": {"name": "Ada"}})).await);
        let subscribed = client.legacy(&session, "resources/subscribe", json!({"uri": "test://note"})).await;
        assert!(subscribed.json()["error"].is_null(), "{subscribed:?}");
        let get =
            format!("GET /mcp HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\nmcp-session-id: {session}\r\n\r\n");
        client.socket.write_all(get.as_bytes()).await.unwrap();
        assert!(client.head().await.starts_with("HTTP/1.1 200"));
        client
    }
}

fn greeted(answered: &Answered) {
    assert_eq!(answered.json()["result"]["content"][0]["text"], "Hello, Ada!", "{answered:?}");
}

#[tokio::test]
async fn calls_streams_notifications_comments_and_a_drain_are_over_tls_what_they_are_without() {
    let served = Served::start(200).await;
    let (mut modern, mut legacy) = (served.listen().await, served.get().await);
    served.shard.shard.raise(&Event::ToolsChanged);
    served.shard.shard.raise(&Event::ResourceUpdated("test://note".into()));
    assert!(modern.until("notifications/tools/list_changed").await.contains("subscriptionId"));
    legacy.until("notifications/resources/updated").await;
    modern.until(":\n\n").await;
    legacy.until(":\n\n").await;
    assert_eq!(served.shard.shard.hub.counts().parked_streams, 0, "what is encrypted stays in hyper");
    served.shard.control("/drain", &json!({})).await;
    for (mut client, result) in [(modern, "\"resultType\":\"complete\""), (legacy, "")] {
        let rest = client.rest().await;
        assert!(rest.contains(result) && rest.ends_with("0\r\n\r\n"), "{rest}");
        assert_eq!(client.socket.read(&mut [0]).await.unwrap(), 0, "TLS says that it ends: nothing was cut off");
    }
}

#[tokio::test]
async fn an_idle_connection_stays_in_hyper_and_is_answered_when_it_goes_on() {
    let served = Served::start(60_000).await;
    let list = async |client: &mut Client<TlsStream<TcpStream>>| client.modern("tools/list", json!({})).await.status;
    let mut encrypted = served.client().await;
    assert_eq!(list(&mut encrypted).await, 200);
    // Idle for a shorter time than the other, and it leaves.
    let mut bare = served.shard.client().await;
    assert_eq!(bare.modern("tools/list", json!({})).await.status, 200);
    served.shard.until("parked", |shard| shard.hub.counts().parked_connections == 1).await;
    assert_eq!((served.shard.shard.hub.inside_hyper(), list(&mut encrypted).await), (1, 200));
}

#[tokio::test]
async fn a_client_that_goes_takes_its_stream_with_it_and_one_that_goes_on_ends_it() {
    let served = Served::start(60_000).await;
    for gone in [served.listen().await, served.get().await] {
        drop(gone);
    }
    served.shard.until("let go", |shard| shard.load.streams() == 0 && shard.load.connections() == 0).await;
    let mut followed = served.listen().await;
    followed.socket.write_all(b"x").await.unwrap();
    assert!(followed.rest().await.contains("\"resultType\":\"complete\""));
    served.shard.until("let go", |shard| shard.load.streams() == 0 && shard.load.connections() == 0).await;
}
