//! What is raised on one shard is heard on all, once.

use std::time::Duration;

use mcp_server::mcp::subscriptions::Event;
use mcp_server::peers::wire::Frame;
use serde_json::json;
use tokio::time::Instant;

use super::cluster::{Cluster, eventually, listen, open, stream};
use super::harness::Client;
use super::links::Stranger;

const UPDATED: &str = "notifications/resources/updated";
const TOOLS: &str = "notifications/tools/list_changed";

fn updated(uri: &str) -> Event {
    Event::ResourceUpdated(uri.into())
}

/// Reads until `last` and asserts that `method` was among it once.
async fn heard_once(client: &mut Client, method: &str, last: &str) {
    let said = client.until(last).await;
    assert_eq!(said.matches(method).count(), 1, "{said}");
}

#[tokio::test]
async fn an_event_of_one_shard_is_heard_once_on_every_other_in_both_eras() {
    let cluster = Cluster::of(3).await;
    let filter = json!({"resourceSubscriptions": ["test://a"], "toolsListChanged": true, "promptsListChanged": true});
    let mut modern = Vec::new();
    let mut legacy = Vec::new();
    for shard in cluster.shards.values() {
        modern.push(listen(shard, filter.clone()).await);
        let session = open(cluster.shard(0)).await;
        legacy.push(stream(shard, &session).await);
    }
    let raise = |event: &Event| cluster.shard(0).shard.raise(event);
    raise(&updated("test://a"));
    raise(&updated("test://b"));
    raise(&Event::ToolsChanged);
    raise(&Event::PromptsChanged);
    for client in &mut modern {
        let said = client.until("prompts/list_changed").await;
        assert_eq!((said.matches(UPDATED).count(), said.matches(TOOLS).count()), (1, 1), "{said}");
        assert!(!said.contains("test://b"), "{said}");
    }
    for client in &mut legacy {
        heard_once(client, TOOLS, "prompts/list_changed").await;
    }
    // One is sent to each of two peers, and nothing is passed on.
    for (shard, (sent, heard)) in cluster.shards.values().zip([(8, 0), (0, 4), (0, 4)]) {
        let metrics = shard.admin("/metrics").await.body;
        assert!(metrics.contains(&format!("mcp_peer_events_sent_total {sent}\n")), "{metrics}");
        assert!(metrics.contains(&format!("mcp_peer_events_heard_total {heard}\n")), "{metrics}");
    }
}

#[tokio::test]
async fn events_are_soon_heard_elsewhere() {
    let cluster = Cluster::of(3).await;
    let uris: Vec<_> = (0..200).map(|n| format!("test://{n:03}")).collect();
    let mut client = listen(cluster.shard(2), json!({"resourceSubscriptions": uris})).await;
    let mut took = Vec::new();
    for uri in &uris {
        let start = Instant::now();
        cluster.shard(0).shard.raise(&updated(uri));
        client.until(uri).await;
        took.push(start.elapsed());
    }
    took.sort_unstable();
    println!("raised on one shard, read from a stream of another: p50 {:?} p99 {:?}", took[100], took[198]);
    assert!(took[198] < Duration::from_millis(750), "three times what is promised: {:?}", took[198]);
}

#[tokio::test]
async fn what_is_raised_while_a_connection_is_down_is_heard_when_it_is_back_and_a_repetition_is_not() {
    let cluster = Cluster::of(2).await;
    let shard = cluster.shard(0);
    let mut client = listen(shard, json!({"resourceSubscriptions": ["test://1", "test://2", "test://3", "test://4"]})).await;
    let incarnation = [9; 16];
    let mut first = Stranger::dial(shard).await;
    first.greet_as(&cluster.ring, "c-97", incarnation).await.unwrap();
    assert_eq!(first.hear().await, Some(Frame::Heard(None)));
    for number in [1, 2, 2, 1] {
        first.say(&Frame::Event { number, event: updated(&format!("test://{number}")) }).await;
    }
    client.until("test://2").await;
    drop(first);
    eventually("without it", async || shard.shard.peers.linked().len() == 1).await;
    // It comes back, is told what was heard, and sends what it is not sure of again.
    shard.shard.raise(&updated("test://0"));
    let mut second = Stranger::dial(shard).await;
    second.greet_as(&cluster.ring, "c-97", incarnation).await.unwrap();
    assert_eq!(second.hear().await, Some(Frame::Heard(Some(2))));
    second.say(&Frame::Heard(Some(0))).await;
    for number in [1, 2, 3, 4] {
        second.say(&Frame::Event { number, event: updated(&format!("test://{number}")) }).await;
    }
    let said = client.until("test://4").await;
    assert!(said.contains("test://3") && !said.contains("test://1") && !said.contains("test://2"), "{said}");
    // And hears what was raised while it was away.
    loop {
        match second.hear().await.expect("an event") {
            Frame::Event { number, event } => {
                assert_eq!((number, event), (1, updated("test://0")));
                break;
            }
            Frame::Revoked { .. } | Frame::Beat => {}
            other => panic!("{other:?}"),
        }
    }
}
