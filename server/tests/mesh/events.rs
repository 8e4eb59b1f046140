//! What is raised on one shard is heard on all, once.

use std::sync::Arc;

use futures::future::join_all;
use mcp_server::mcp::subscriptions::Event;
use mcp_server::peers::wire::Frame;
use serde_json::json;
use tokio::time::Instant;

use super::cluster::{Cluster, eventually, listen, open, stream};
use super::harness::Client;
use super::links::Stranger;
use super::tasks::{begin, follow, program};

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
async fn events_are_soon_heard_on_every_other_shard_in_both_eras_those_of_tasks_included() {
    const SHARDS: usize = 6;
    const ROUNDS: usize = 200;
    let cluster = Cluster::running(SHARDS, program).await;
    let uris: Vec<_> = (0..ROUNDS).map(|n| format!("test://{n:03}")).collect();
    let raiser = cluster.shard(0);
    let task: Arc<str> = begin(raiser).await.into();
    let (mut modern, mut legacy, mut tasks) = (vec![], vec![], vec![]);
    for shard in cluster.shards.values().skip(1) {
        modern.push(listen(shard, json!({"resourceSubscriptions": uris})).await);
        tasks.push(follow(shard, &task).await);
    }
    // The stream of a session is on one shard; each has one of its own.
    for shard in cluster.shards.values().skip(1) {
        let session = open(raiser).await;
        for uri in &uris {
            let answered = shard.client().await.legacy(&session, "resources/subscribe", json!({"uri": uri})).await;
            assert_eq!(answered.status, 200, "{answered:?}");
        }
        legacy.push(stream(shard, &session).await);
    }
    let mut took = Vec::new();
    for (n, uri) in uris.iter().enumerate() {
        let state = json!({"taskId": &*task, "status": "working", "statusMessage": format!("step {n}.")}).to_string();
        let start = Instant::now();
        raiser.shard.raise(&updated(uri));
        raiser.shard.raise(&Event::TaskChanged { id: Arc::clone(&task), task: state.as_str().into() });
        let step = format!("step {n}.");
        let waits = modern.iter_mut().map(|client| (client, uri.as_str()));
        let waits = waits.chain(legacy.iter_mut().map(|client| (client, uri.as_str())));
        let waits = waits.chain(tasks.iter_mut().map(|client| (client, step.as_str())));
        let heard = join_all(waits.map(|(client, text)| async move {
            client.until(text).await;
            start.elapsed()
        }));
        took.extend(heard.await);
    }
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    println!(
        "raised on one of {SHARDS} shards, read from {} streams of the others, both eras and tasks: p50 {:?} p99 {:?} max {:?}",
        3 * (SHARDS - 1),
        at(50),
        at(99),
        at(100)
    );
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
            Frame::Revoked { .. } | Frame::Serves(_) | Frame::Beat => {}
            other => panic!("{other:?}"),
        }
    }
}
