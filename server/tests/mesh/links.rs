//! Who is let into the mesh, and what becomes of connections.

use mcp_crds::control::KeyRing;
use mcp_server::peers::handshake::{self, Own};
use mcp_server::peers::wire::{Frame, split};
use mcp_server::session::{Incarnation, generated_ring, random};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::cluster::{Cluster, eventually};
use super::harness::{Client, PATIENCE, Running};

/// Somebody who speaks to the control port, byte by byte.
pub struct Stranger {
    socket: TcpStream,
    read: Vec<u8>,
}

impl Stranger {
    /// Upgraded, and not greeted.
    pub async fn dial(shard: &Running) -> Self {
        let mut client = Client::connect(shard.addresses.control.unwrap()).await;
        client
            .socket
            .write_all(b"GET /peers HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: mcp-peers/1\r\n\r\n")
            .await
            .unwrap();
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        Self { socket: client.socket, read: Vec::new() }
    }

    /// Greets with a ring; none when the other side hangs up.
    pub async fn greet(&mut self, ring: &KeyRing, name: &str) -> Option<()> {
        self.greet_as(ring, name, random()).await
    }

    /// The same as a certain process.
    pub async fn greet_as(&mut self, ring: &KeyRing, name: &str, incarnation: Incarnation) -> Option<()> {
        let own = Own { incarnation, name: name.to_owned(), nonce: random() };
        let hello = handshake::hello(&own, ring);
        self.say(&Frame::Hello(hello.clone())).await;
        let Frame::Welcome(welcome) = self.hear().await? else { panic!("no welcome") };
        let proof = handshake::prove(ring, &hello, &welcome).unwrap();
        self.say(&Frame::Proof(proof)).await;
        Some(())
    }

    pub async fn say(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.socket.write_all(&bytes).await.unwrap();
    }

    /// The next frame; none at the end of the connection.
    pub async fn hear(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, length)) = split(&self.read).unwrap() {
                let frame = Frame::decode(frame).unwrap();
                self.read.drain(..length);
                return Some(frame);
            }
            let read = timeout(PATIENCE, self.socket.read_buf(&mut self.read)).await.expect("bytes or an end in time");
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

#[tokio::test]
async fn who_does_not_hold_a_key_of_the_cluster_is_not_let_in() {
    let cluster = Cluster::of(2).await;
    let shard = cluster.shard(0);
    assert_eq!(Stranger::dial(shard).await.greet(&generated_ring(), "c-09").await, None, "another cluster's key");
    // The id of the key is no secret; the key is.
    let mut guessed = generated_ring();
    guessed.control[0].id.clone_from(&cluster.ring.control[0].id);
    let mut stranger = Stranger::dial(shard).await;
    let own = Own { incarnation: random(), name: "c-09".to_owned(), nonce: random() };
    let hello = handshake::hello(&own, &guessed);
    stranger.say(&Frame::Hello(hello.clone())).await;
    let Some(Frame::Welcome(welcome)) = stranger.hear().await else { panic!("no welcome") };
    assert!(handshake::prove(&guessed, &hello, &welcome).is_err(), "the shard has proved that it is none of his");
    stranger.say(&Frame::Proof([7; 32])).await;
    assert_eq!(stranger.hear().await, None);
    // And who says something else than a greeting.
    let mut stranger = Stranger::dial(shard).await;
    stranger.say(&Frame::Beat).await;
    assert_eq!(stranger.hear().await, None);
    assert_eq!(shard.shard.peers.linked(), ["c-01"]);
    let metrics = shard.admin("/metrics").await.body;
    assert!(metrics.contains("mcp_peer_strangers_total 3"), "{metrics}");
    let refused =
        Client::connect(shard.addresses.control.unwrap()).await.exchange(b"GET /peers HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(refused.status, 426);
}

#[tokio::test]
async fn a_frame_that_is_none_ends_its_connection_and_no_other() {
    let cluster = Cluster::of(2).await;
    let mut member = Stranger::dial(cluster.shard(0)).await;
    member.greet(&cluster.ring, "c-98").await.unwrap();
    member.socket.write_all(&[0xff; 64]).await.unwrap();
    while member.hear().await.is_some() {}
    eventually("rid of it", async || cluster.shard(0).shard.peers.linked() == ["c-01"]).await;
    assert!(cluster.shard(0).admin("/metrics").await.body.contains("mcp_peer_links_ended_total{why=\"malformed\"} 1"));
}

#[tokio::test]
async fn a_pair_that_dials_each_other_keeps_one_connection_and_a_shard_that_is_killed_is_forgotten() {
    let mut cluster = Cluster::of(3).await;
    cluster.kill("c-01").await;
    for shard in cluster.shards.values() {
        shard.until("without it", |shard| shard.peers.linked().len() == 1).await;
    }
    cluster.create().await;
    cluster.enlist();
    cluster.tell().await;
    cluster.until_whole().await;
    assert_eq!(cluster.shard(0).shard.peers.linked(), ["c-02", "c-03"]);
}

#[tokio::test]
async fn a_shard_alone_is_ready_as_soon_as_it_is_told_so() {
    let cluster = Cluster::of(1).await;
    assert!(cluster.shard(0).shard.is_ready());
}

#[tokio::test]
async fn a_member_where_nobody_listens_keeps_nobody_from_being_ready() {
    let mut cluster = Cluster::of(2).await;
    // On the list still, and its port is closed.
    cluster.kill("c-01").await;
    let newcomer = cluster.create().await;
    cluster.enlist_also(&newcomer);
    cluster.tell().await;
    cluster.shards[&newcomer].until("ready", mcp_server::shard::Shard::is_ready).await;
    assert_eq!(cluster.shards[&newcomer].shard.peers.linked(), ["c-00"]);
}
