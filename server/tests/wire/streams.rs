//! Rows that take several requests: one after another on a connection, or streams side by side.

use std::time::Duration;

use mcp_crds::shard::ShardConfig;
use mcp_server::Server;
use mcp_server::backend::Credentials;
use mcp_server::config::{Config, Source};
use mcp_server::manifest::Manifest;
use mcp_server::telemetry::LogLevel;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::ask::Ask;
use crate::harness::{Answered, PATIENCE, Running, config, publish, tool};
use crate::row::{compare, is_kept};
use crate::table;
use crate::wire::Wire;

pub const NAMES: &[&str] = &[
    "pipelined",
    "modern-id-twice",
    "listen-ids-apart",
    "legacy-initialize-again",
    "legacy-before-initialized",
    "legacy-second-stream",
    "legacy-id-in-flight",
    "legacy-delete",
];

fn listen(filter: &Value) -> Ask {
    Ask::modern("subscriptions/listen", json!({"notifications": filter}))
}

/// A session of a server.
async fn session(wire: &mut Wire) -> String {
    let answered = wire.ask(&Ask::initialize("2025-11-25").bytes()).await;
    answered.header("mcp-session-id").unwrap().to_owned()
}

/// Puts another catalog in force, in which the list of tools differs.
async fn flip(server: &Running, config: &mut ShardConfig) {
    config.catalog.tools.push(tool(&format!("more-{}", config.catalog.tools.len()), "More."));
    let hash = publish(server.folder.path(), config);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while server.load(&json!({"serve": hash})).await.catalog_hash != hash {
        assert!(tokio::time::Instant::now() < deadline, "the catalog was not put in force");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn pipelined() {
    let expected = table::of("pipelined");
    let server = Running::start(&config()).await;
    let mut wire = Wire::connect(server.addresses.data).await;
    let list = Ask::modern("tools/list", json!({}));
    let call = Ask::modern("tools/call", json!({"name": "greet", "arguments": {"name": "Ada"}}));
    wire.send(&[list.bytes(), call.bytes(), list.bytes()].concat()).await;
    let answers = [wire.response(false).await, wire.response(false).await, wire.response(false).await];
    for answered in &answers {
        compare(&expected, answered);
    }
    let of = |answered: &Answered, member: &str| answered.json()["result"].get(member).is_some();
    assert!(of(&answers[0], "tools") && of(&answers[1], "content") && of(&answers[2], "tools"), "{answers:?}");
    is_kept(&mut wire).await;
}

#[tokio::test]
async fn modern_id_twice() {
    let expected = table::of("modern-id-twice");
    let (slow, upstream) = crate::harness::slow().await;
    let server = Running::start(&slow).await;
    let mut busy = Wire::connect(server.addresses.data).await;
    busy.send(&Ask::modern("tools/call", json!({"name": "greet"})).bytes()).await;
    let mut call = crate::harness::arrives(&upstream).await;
    let mut other = Wire::connect(server.addresses.data).await;
    compare(&expected, &other.ask(&Ask::modern("tools/list", json!({})).bytes()).await);
    is_kept(&mut other).await;
    crate::leaks::answers(&mut call).await;
    compare(&expected, &busy.response(false).await);
    is_kept(&mut busy).await;
}

#[tokio::test]
async fn listen_ids_apart() {
    let expected = table::of("listen-ids-apart");
    let mut config = config();
    let server = Running::start(&config).await;
    let mut tools = Wire::connect(server.addresses.data).await;
    compare(&expected, &tools.ask(&listen(&json!({"toolsListChanged": true})).bytes()).await);
    tools.until("acknowledged").await;
    let mut prompts = Wire::connect(server.addresses.data).await;
    compare(&expected, &prompts.ask(&listen(&json!({"promptsListChanged": true})).bytes()).await);
    prompts.until("acknowledged").await;
    flip(&server, &mut config).await;
    tools.until("notifications/tools/list_changed").await;
    // The other one hears only its own, which comes second.
    config.catalog.prompts.clear();
    flip(&server, &mut config).await;
    let heard = prompts.until("list_changed").await;
    assert!(heard.contains("notifications/prompts/list_changed") && !heard.contains("notifications/tools"), "{heard}");
}

#[tokio::test]
async fn legacy_initialize_again() {
    let expected = table::of("legacy-initialize-again");
    let server = Running::start(&config()).await;
    let mut wire = Wire::connect(server.addresses.data).await;
    let first = session(&mut wire).await;
    let again = wire.ask(&Ask::initialize("2025-06-18").bytes()).await;
    compare(&expected, &again);
    let second = again.header("mcp-session-id").unwrap().to_owned();
    assert_ne!(first, second);
    for id in [&first, &second] {
        assert_eq!(wire.ask(&Ask::legacy(id, "ping", &json!({})).bytes()).await.status, 200, "both are served");
    }
    is_kept(&mut wire).await;
}

#[tokio::test]
async fn legacy_before_initialized() {
    let expected = table::of("legacy-before-initialized");
    let server = Running::start(&config()).await;
    let mut wire = Wire::connect(server.addresses.data).await;
    let session = session(&mut wire).await;
    for method in ["tools/list", "ping", "resources/list"] {
        compare(&expected, &wire.ask(&Ask::legacy(&session, method, &json!({})).bytes()).await);
    }
    is_kept(&mut wire).await;
}

#[tokio::test]
async fn legacy_second_stream() {
    let expected = table::of("legacy-second-stream");
    let mut config = config();
    let server = Running::start(&config).await;
    let session = session(&mut Wire::connect(server.addresses.data).await).await;
    let mut first = Wire::connect(server.addresses.data).await;
    compare(&expected, &first.ask(&Ask::get(&session).bytes()).await);
    flip(&server, &mut config).await;
    first.until("notifications/tools/list_changed").await;
    let mut second = Wire::connect(server.addresses.data).await;
    compare(&expected, &second.ask(&Ask::get(&session).bytes()).await);
    flip(&server, &mut config).await;
    second.until("notifications/tools/list_changed").await;
    // The first hears it no more: all it still says, when its client goes, are comments.
    drop(second);
    server.until("one stream", |shard| shard.load.streams() <= 1).await;
    server.ends.send(mcp_server::Ending::Drain).await.unwrap();
    let rest = first.rest().await;
    assert!(!rest.contains("list_changed"), "heard on both: {rest}");
}

#[tokio::test]
async fn legacy_id_in_flight() {
    let expected = table::of("legacy-id-in-flight");
    let (slow, upstream) = crate::harness::slow().await;
    let server = Running::start(&slow).await;
    let mut busy = Wire::connect(server.addresses.data).await;
    let session = session(&mut busy).await;
    let call = Ask::legacy(&session, "tools/call", &json!({"name": "greet"}));
    busy.send(&call.bytes()).await;
    let mut upstream_call = crate::harness::arrives(&upstream).await;
    let mut other = Wire::connect(server.addresses.data).await;
    compare(&expected, &other.ask(&call.bytes()).await);
    is_kept(&mut other).await;
    crate::leaks::answers(&mut upstream_call).await;
    let answered = busy.response(false).await;
    assert!(answered.json()["result"].is_object(), "the first goes on: {answered:?}");
}

/// A server that has no other shards.
async fn alone() -> std::net::SocketAddr {
    let local = "127.0.0.1:0".parse().unwrap();
    let settings = Config {
        source: Source::Manifest { file: None, keys: None },
        listen: local,
        admin_listen: local,
        control_listen: None,
        shard: "alone".to_owned(),
        drain_window: None,
        drain_timeout: None,
        endpoint_lag: Duration::ZERO,
        list_wait: Duration::ZERO,
        workers: 1,
        json_log: None,
    };
    let manifest = Manifest { config: config(), credentials: Credentials::none(), keys: None };
    let server = Server::bind(settings, Some(manifest), LogLevel::default()).await.unwrap();
    let address = server.addresses().unwrap().data;
    let (ends, endings) = mpsc::channel(1);
    tokio::spawn(async move {
        let _open = ends;
        server.run(endings).await;
    });
    address
}

#[tokio::test]
async fn legacy_delete() {
    let expected = table::of("legacy-delete");
    let address = alone().await;
    let mut wire = Wire::connect(address).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while wire.ask(&Ask::modern("server/discover", json!({})).bytes()).await.status != 200 {
        assert!(tokio::time::Instant::now() < deadline, "not ready");
        wire = Wire::connect(address).await;
    }
    let session = session(&mut wire).await;
    let delete = Ask::bare("DELETE").with("mcp-session-id", session.as_str());
    compare(&expected, &wire.ask(&delete.bytes()).await);
    is_kept(&mut wire).await;
    for ask in [Ask::legacy(&session, "ping", &json!({})), Ask::get(&session), delete] {
        assert_eq!(wire.ask(&ask.bytes()).await.status, 404);
    }
}
