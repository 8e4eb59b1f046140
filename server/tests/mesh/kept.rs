//! What a session changes of itself holds on every shard, and outlives any one of them.

use mcp_server::mcp::logging::LoggingLevel;
use mcp_server::mcp::subscriptions::Event;
use serde_json::{Value, json};

use super::cluster::{Cluster, delete, open, stream, until};
use super::harness::{Answered, Client, Running};

const UPDATED: &str = "notifications/resources/updated";

async fn ask(shard: &Running, session: &str, method: &str, params: Value) -> Answered {
    let answered = shard.client().await.legacy(session, method, params).await;
    assert!(answered.status == 200 && answered.json()["error"].is_null(), "{answered:?}");
    answered
}

async fn subscribe(shard: &Running, session: &str, uri: &str) {
    ask(shard, session, "resources/subscribe", json!({"uri": uri})).await;
}

fn raise(shard: &Running, uri: &str) {
    shard.shard.raise(&Event::ResourceUpdated(uri.into()));
}

/// The URIs of which a stream hears up to one of them.
async fn heard(client: &mut Client, last: &str) -> Vec<String> {
    let said = until(client, last).await;
    let messages = said.lines().filter_map(|line| line.strip_prefix("data: "));
    let messages =
        messages.map(|json| serde_json::from_str::<Value>(json).unwrap()).filter(|message| message["method"] == UPDATED);
    messages.map(|message| message["params"]["uri"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_subscription_made_on_one_shard_is_heard_where_the_stream_is_whoever_raises_it() {
    let cluster = Cluster::of(3).await;
    let session = open(cluster.shard(0)).await;
    let mut held = stream(cluster.shard(2), &session).await;
    let stranger = open(cluster.shard(0)).await;
    let mut deaf = stream(cluster.shard(2), &stranger).await;
    subscribe(cluster.shard(1), &session, "test://a").await;
    subscribe(cluster.shard(0), &session, "test://b").await;
    subscribe(cluster.shard(0), &stranger, "test://end").await;
    subscribe(cluster.shard(2), &session, "test://end").await;
    for shard in cluster.shards.values() {
        raise(shard, "test://a");
    }
    raise(cluster.shard(0), "test://other");
    heard(&mut held, "test://a").await;
    ask(cluster.shard(1), &session, "resources/unsubscribe", json!({"uri": "test://a"})).await;
    raise(cluster.shard(0), "test://a");
    raise(cluster.shard(0), "test://b");
    raise(cluster.shard(0), "test://end");
    let uris = heard(&mut held, "test://end").await;
    // The two later ones of the first three may come behind: nothing was subscribed to in between.
    assert_eq!(uris.iter().filter(|uri| *uri != "test://a").collect::<Vec<_>>(), ["test://b", "test://end"]);
    assert_eq!(heard(&mut deaf, "test://end").await, ["test://end"]);
}

#[tokio::test]
async fn a_new_session_is_told_that_it_may_subscribe() {
    let cluster = Cluster::of(1).await;
    let (answered, _) = cluster.shard(0).client().await.initialize("2025-11-25").await;
    assert_eq!(answered.json()["result"]["capabilities"]["resources"]["subscribe"], true);
}

#[tokio::test]
async fn changes_of_one_session_made_on_all_shards_at_once_are_all_kept_by_each() {
    let cluster = Cluster::of(3).await;
    let session = open(cluster.shard(1)).await;
    let changes = cluster.shards.values().enumerate().map(|(n, shard)| {
        let session = &session;
        async move {
            for m in 0..20 {
                subscribe(shard, session, &format!("test://{n}/{m}")).await;
            }
        }
    });
    futures::future::join_all(changes).await;
    ask(cluster.shard(2), &session, "logging/setLevel", json!({"level": "warning"})).await;
    for shard in cluster.shards.values() {
        let (key, _) = shard.shard.sessions.open(&session, mcp_server::shard::epoch_seconds()).unwrap();
        let record = shard.shard.sessions.record(key).unwrap();
        assert_eq!((record.uris.len(), record.level), (60, Some(LoggingLevel::Warning)));
        assert_eq!(shard.shard.sessions.levels.get(key), Some(LoggingLevel::Warning));
    }
}

#[tokio::test]
async fn who_kept_a_session_may_die_and_nothing_is_lost() {
    let mut cluster = Cluster::of(3).await;
    let session = open(cluster.shard(0)).await;
    let mut held = stream(cluster.shard(2), &session).await;
    subscribe(cluster.shard(1), &session, "test://before").await;
    cluster.kill("c-00").await;
    // At once: nobody has noticed.
    subscribe(&cluster.shards["c-01"], &session, "test://after").await;
    let newcomer = cluster.create().await;
    cluster.enlist();
    cluster.tell().await;
    cluster.until_whole().await;
    raise(&cluster.shards[&newcomer], "test://before");
    raise(&cluster.shards["c-01"], "test://after");
    let mut uris = heard(&mut held, "test://after").await;
    if uris.len() < 2 {
        uris.extend(heard(&mut held, "test://before").await);
    }
    uris.sort_unstable();
    assert_eq!(uris, ["test://after", "test://before"]);
    // And on the shard that began after all of it.
    let mut moved = stream(&cluster.shards[&newcomer], &session).await;
    cluster.kill("c-01").await;
    cluster.kill("c-02").await;
    raise(&cluster.shards[&newcomer], "test://after");
    assert_eq!(heard(&mut moved, "test://after").await, ["test://after"]);
}

#[tokio::test]
async fn of_a_session_that_ended_nothing_is_kept_anywhere() {
    let cluster = Cluster::of(3).await;
    let session = open(cluster.shard(0)).await;
    subscribe(cluster.shard(1), &session, "test://a").await;
    assert_eq!(delete(&mut cluster.shard(2).client().await, &session).await.status, 204);
    for shard in cluster.shards.values() {
        assert_eq!(shard.shard.sessions.records(0), []);
        assert_eq!(shard.shard.hub.sessions(), []);
    }
}

#[tokio::test]
async fn of_two_streams_of_a_session_on_two_shards_the_newer_is_sent_to_and_the_older_when_that_is_gone() {
    let cluster = Cluster::of(3).await;
    let session = open(cluster.shard(0)).await;
    let (key, _) = cluster.shard(0).shard.sessions.open(&session, mcp_server::shard::epoch_seconds()).unwrap();
    let newest_on = |n: usize| {
        let newest = move |shard: &mcp_server::shard::Shard| shard.hub.newest_here().iter().any(|(session, _)| *session == key);
        let shards: Vec<_> = cluster.shards.values().collect();
        async move {
            for (m, shard) in shards.into_iter().enumerate() {
                shard.until("sent to, or not", |shard| newest(shard) == (m == n)).await;
            }
        }
    };
    let mut streams = vec![];
    for n in 0..3 {
        streams.push(stream(cluster.shard(n), &session).await);
        newest_on(n).await;
    }
    cluster.shard(0).shard.raise(&Event::ToolsChanged);
    until(&mut streams[2], "tools/list_changed").await;
    drop(streams.pop());
    newest_on(1).await;
    cluster.shard(2).shard.raise(&Event::PromptsChanged);
    assert!(!until(&mut streams[1], "prompts/list_changed").await.contains("tools"));
    // And the oldest, when it is the only one.
    drop(streams.pop());
    newest_on(0).await;
    cluster.shard(1).shard.raise(&Event::ResourcesChanged);
    let said = until(&mut streams[0], "resources/list_changed").await;
    assert!(!said.contains("tools") && !said.contains("prompts"), "{said}");
}

#[tokio::test]
async fn what_is_too_long_for_a_peer_is_refused_and_no_connection_suffers() {
    let cluster = Cluster::of(2).await;
    let session = open(cluster.shard(0)).await;
    let shard = cluster.shard(1);
    let long = "x".repeat(100 << 10);
    let answered = shard.client().await.legacy(&session, "resources/subscribe", json!({"uri": long})).await;
    assert!(answered.json()["error"]["message"].as_str().unwrap().contains("too many"), "{answered:?}");
    let notice = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "x".repeat(100 << 10)}});
    let mut client = shard.client().await;
    assert!(client.post(&[("mcp-session-id", &session)], &notice.to_string()).await.status < 500);
    raise(shard, &"x".repeat(100 << 10));
    subscribe(shard, &session, "test://a").await;
    let metrics = shard.admin("/metrics").await.body;
    assert!(
        metrics.contains("mcp_sessions_refused_total{what=\"record\"} 1") && !metrics.contains("links_ended_total{"),
        "{metrics}"
    );
}
