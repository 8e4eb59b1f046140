//! A catalog that changes: whoever hears of a new list gets it from any shard, and what was begun before is ended.

use mcp_crds::shard::ShardConfig;
use mcp_server::mcp::subscriptions::Event;
use serde_json::{Value, json};

use super::cluster::{Cluster, eventually, listen, open, stream};
use super::harness::{Running, config, publish, tool};

const CHANGED: &str = "notifications/tools/list_changed";
const SHARDS: usize = 3;

/// A catalog of so many tools of this name: more than a page of them.
fn catalog(name: &str, tools: usize) -> ShardConfig {
    let mut config = config();
    config.limits.max_connections = 2_000;
    config.limits.max_in_flight_requests = 2_000;
    config.catalog.tools = (0..tools).map(|n| tool(&format!("{name}-{n:03}"), "Hello.")).collect();
    config
}

/// Shows the configuration to every shard, as the kubelet does, and waits until each could serve it.
async fn stage(cluster: &Cluster, config: &ShardConfig) -> String {
    let mut hash = String::new();
    for shard in cluster.shards.values() {
        hash = publish(shard.folder.path(), config);
    }
    for shard in cluster.shards.values() {
        eventually("staged", async || shard.load(&json!({})).await.catalog_staged == hash).await;
    }
    hash
}

/// The operator has a shard go over to it.
async fn flip(shard: &Running, hash: &str) {
    assert_eq!(shard.load(&json!({"serve": hash})).await.catalog_hash, hash);
}

async fn list(shard: &Running, cursor: Option<&str>) -> Value {
    let params = cursor.map_or_else(|| json!({}), |cursor| json!({"cursor": cursor}));
    shard.client().await.modern("tools/list", params).await.json()
}

fn first_name(page: &Value) -> &str {
    page["result"]["tools"][0]["name"].as_str().unwrap_or_else(|| panic!("{page}"))
}

#[tokio::test]
async fn who_hears_of_a_new_list_gets_it_from_every_shard() {
    let cluster = Cluster::of(SHARDS).await;
    let mut modern = listen(cluster.shard(0), json!({"toolsListChanged": true, "resourceSubscriptions": ["test://mark"]})).await;
    let session = open(cluster.shard(1)).await;
    let mut legacy = stream(cluster.shard(1), &session).await;
    let hash = stage(&cluster, &catalog("new", 2)).await;
    for n in 0..SHARDS - 1 {
        flip(cluster.shard(n), &hash).await;
    }
    assert_eq!(first_name(&list(cluster.shard(SHARDS - 1), None).await), "greet", "one has not gone over yet");
    // So nobody is told: what is raised later comes first.
    cluster.shard(SHARDS - 1).shard.raise(&Event::ResourceUpdated("test://mark".into()));
    assert!(!modern.until("test://mark").await.contains(CHANGED), "told while a shard would have answered with the old list");
    flip(cluster.shard(SHARDS - 1), &hash).await;
    assert_eq!(modern.until(CHANGED).await.matches(CHANGED).count(), 1);
    legacy.until(CHANGED).await;
    let mut clients = Vec::new();
    for shard in cluster.shards.values() {
        clients.push(shard.client().await);
    }
    for n in 0..1_000 {
        let listed = clients[n % SHARDS].modern("tools/list", json!({})).await.json();
        assert_eq!(first_name(&listed), "new-000", "list {n}");
    }
}

#[tokio::test]
async fn a_shard_that_is_gone_keeps_nobody_from_being_told() {
    let mut cluster = Cluster::of(SHARDS).await;
    let mut modern = listen(cluster.shard(0), json!({"toolsListChanged": true})).await;
    let hash = stage(&cluster, &catalog("new", 2)).await;
    flip(cluster.shard(0), &hash).await;
    flip(cluster.shard(1), &hash).await;
    cluster.kill("c-02").await;
    modern.until(CHANGED).await;
}

#[tokio::test]
async fn a_list_that_was_begun_before_a_flip_is_ended_on_any_shard() {
    let mut cluster = Cluster::of(SHARDS).await;
    let hash = stage(&cluster, &catalog("tool", 600)).await;
    for shard in cluster.shards.values() {
        flip(shard, &hash).await;
    }
    let first = list(cluster.shard(0), None).await;
    // Twice, and in between begins a shard that has never seen the catalog it was begun in.
    let mut other = catalog("tool", 800);
    other.catalog.tools.retain(|tool| tool.definition.name != "tool-400");
    other.catalog.tools.push(tool("another", "Hello."));
    for config in [catalog("tool", 700), other] {
        let hash = stage(&cluster, &config).await;
        for shard in cluster.shards.values() {
            flip(shard, &hash).await;
        }
        cluster.create().await;
        cluster.enlist();
        cluster.tell().await;
        cluster.until_whole().await;
        let hash = stage(&cluster, &config).await;
        for shard in cluster.shards.values() {
            flip(shard, &hash).await;
        }
    }
    let names = |page: &Value| -> Vec<String> {
        let tools = page["result"]["tools"].as_array().unwrap_or_else(|| panic!("{page}"));
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    };
    for begin in 0..cluster.shards.len() {
        let (mut page, mut all) = (first.clone(), names(&first));
        for n in begin.. {
            let Some(at) = page["result"]["nextCursor"].as_str() else { break };
            page = list(cluster.shard(n % cluster.shards.len()), Some(at)).await;
            all.extend(names(&page));
        }
        let expected: Vec<_> = (0..800).filter(|n| *n != 400).map(|n| format!("tool-{n:03}")).collect();
        assert_eq!(all, expected, "each that is there, once; begun in another catalog");
    }
    assert_eq!(first_name(&list(cluster.shard(1), None).await), "another");
}
