//! A cluster of real shards on loopback, and the operator's part of it: who is a member.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use mcp_crds::control::KeyRing;
use mcp_crds::load::{LoadRequest, Member};
use mcp_crds::shard::ShardConfig;
use mcp_server::library::Code;
use mcp_server::peers::LIST_WAIT;
use mcp_server::session::generated_ring;
use mcp_server::shard::Shard;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep};

use super::harness::{Answered, Client, PATIENCE, Running, config, modern, post};

pub const LEGACY: &str = "2025-11-25";

/// The shards by name; those that were killed are gone from it.
pub struct Cluster {
    pub shards: BTreeMap<String, Running>,
    pub ring: KeyRing,
    config: ShardConfig,
    listed: Vec<Member>,
    epoch: u64,
    made: usize,
    program: fn() -> Code,
}

impl Cluster {
    /// So many shards, all begun at once and in step with each other.
    pub async fn of(count: usize) -> Self {
        Self::running(count, Code::default).await
    }

    /// The same with a program.
    pub async fn running(count: usize, program: fn() -> Code) -> Self {
        let mut config = config();
        config.limits.max_connections = 2_000;
        config.limits.max_request_size = 1 << 20;
        config.limits.max_in_flight_requests = 2_000;
        let mut cluster =
            Self { shards: BTreeMap::new(), ring: generated_ring(), config, listed: vec![], epoch: 0, made: 0, program };
        for _ in 0..count {
            cluster.create().await;
        }
        cluster.enlist();
        cluster.tell().await;
        cluster.until_whole().await;
        cluster
    }

    /// One more process, of which the operator has told nobody.
    pub async fn create(&mut self) -> String {
        let name = format!("c-{:02}", self.made);
        self.made += 1;
        let waits = (Duration::from_millis(200), LIST_WAIT);
        let shard = Running::member(&name, Some(&self.config), self.ring.clone(), waits, (self.program)()).await;
        // Before, it does not know the operator's key.
        shard.until("configured", |shard| shard.serving().is_some()).await;
        self.shards.insert(name.clone(), shard);
        name
    }

    /// The operator sees who is there.
    pub fn enlist(&mut self) {
        let members = self
            .shards
            .iter()
            .map(|(name, shard)| Member { name: name.clone(), address: shard.addresses.control.unwrap().to_string() });
        self.listed = members.collect();
        self.epoch += 1;
    }

    /// The operator sees one more, and not yet that another is gone.
    pub fn enlist_also(&mut self, name: &str) {
        let address = self.shards[name].addresses.control.unwrap().to_string();
        self.listed.push(Member { name: name.to_owned(), address });
        self.epoch += 1;
    }

    /// Tells every shard who is there, as the operator does when it asks for load.
    pub async fn tell(&self) {
        let request = LoadRequest { membership_epoch: self.epoch, members: Some(self.listed.clone()), serve: None };
        let request = serde_json::to_value(request).unwrap();
        let reports = join_all(self.shards.values().map(|shard| shard.load(&request))).await;
        assert!(reports.iter().all(|report| report.membership_epoch == self.epoch));
    }

    /// Waits until all are ready and connected with each other.
    pub async fn until_whole(&self) {
        let others = self.shards.len() - 1;
        for shard in self.shards.values() {
            shard.until("ready", Shard::is_ready).await;
            shard.until("connected with all", |shard| shard.peers.linked().len() == others).await;
        }
    }

    /// Ends a process as SIGKILL does: its sockets close, and it says nothing.
    pub async fn kill(&mut self, name: &str) {
        let shard = self.shards.remove(name).unwrap();
        shard.ended.abort();
        let _ = shard.ended.await;
    }

    pub fn shard(&self, n: usize) -> &Running {
        self.shards.values().nth(n).unwrap()
    }
}

/// Waits for a condition.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not {what} in {PATIENCE:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A modern stream, acknowledged.
pub async fn listen(shard: &Running, filter: Value) -> Client {
    let mut client = shard.client().await;
    let (headers, body) = modern("subscriptions/listen", json!({"notifications": filter}));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    client.socket.write_all(post(&headers, &body).as_bytes()).await.unwrap();
    client.until("acknowledged").await;
    client
}

/// The GET stream of a session.
pub async fn stream(shard: &Running, session: &str) -> Client {
    let mut client = shard.client().await;
    let get = format!("GET /mcp HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\nmcp-session-id: {session}\r\n\r\n");
    client.socket.write_all(get.as_bytes()).await.unwrap();
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    client
}

/// Reads until an event with this text has come whole; returns all that was read.
pub async fn until(client: &mut Client, text: &str) -> String {
    let mut said = client.until(text).await;
    while !said.rfind(text).is_some_and(|at| said[at..].contains("\n\n")) {
        said += &client.until("\n").await;
    }
    said
}

pub async fn open(shard: &Running) -> String {
    shard.client().await.initialize(LEGACY).await.1
}

pub async fn list_tools(shard: &Running, session: &str) -> Answered {
    shard.client().await.legacy(session, "tools/list", json!({})).await
}

pub async fn delete(client: &mut Client, session: &str) -> Answered {
    let request = format!("DELETE /mcp HTTP/1.1\r\nhost: localhost\r\nmcp-session-id: {session}\r\n\r\n");
    client.exchange(request.as_bytes()).await
}
