//! A stream that one shard keeps is resumed through any.

use mcp_server::library::{Arguments, Code, Context, Program, Tool};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::cluster::{Cluster, eventually, until};
use crate::harness::{Client, Running, post};

const VERSION: (&str, &str) = ("mcp-protocol-version", "2025-11-25");

fn program() -> Code {
    Program::new("test", "1")
        .tool(Tool::new("asks", "Asks for two names."), async |call: Context, _: Arguments| {
            let form = json!({"type": "object", "properties": {"name": {"type": "string"}}});
            let mut names = vec![];
            for key in ["first", "second"] {
                let answer = call.elicit(key, &format!("The {key}?"), form.clone()).await?;
                names.push(answer.accepted().map(|form| form["name"].to_string()).unwrap_or_default());
            }
            Ok(names.join(" and "))
        })
        .build()
        .unwrap()
}

async fn open(shard: &Running) -> String {
    let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": {"name": "t", "version": "1"}}});
    shard.client().await.post(&[], &body.to_string()).await.header("mcp-session-id").unwrap().to_owned()
}

fn last<'a>(said: &'a str, field: &str) -> &'a str {
    said.lines().filter_map(|line| line.strip_prefix(field)).rfind(|text| !text.is_empty()).unwrap()
}

async fn answer(shard: &Running, session: &str, said: &str, name: &str) -> u16 {
    let question: Value = serde_json::from_str(last(said, "data: ")).unwrap();
    let result = json!({"action": "accept", "content": {"name": name}});
    let body = json!({"jsonrpc": "2.0", "id": question["id"], "result": result}).to_string();
    shard.client().await.post(&[("mcp-session-id", session), VERSION], &body).await.status
}

/// Calls on a shard, reads the first question, and is cut.
async fn cut(shard: &Running, session: &str) -> String {
    let mut client = shard.client().await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "asks"}}).to_string();
    client.socket.write_all(post(&[("mcp-session-id", session), VERSION], &call).as_bytes()).await.unwrap();
    until(&mut client, "The first?").await
}

/// GET with the id that was heard last; the status, and the stream.
async fn resume(shard: &Running, session: &str, said: &str) -> (u16, Client) {
    let mut client = shard.client().await;
    let id = last(said, "id: ");
    let get = format!(
        "GET /mcp HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\nmcp-session-id: {session}\r\nlast-event-id: {id}\r\n\r\n"
    );
    client.socket.write_all(get.as_bytes()).await.unwrap();
    let status = client.head().await.split(' ').nth(1).unwrap().parse().unwrap();
    (status, client)
}

async fn nothing_is_left(cluster: &Cluster) {
    for n in 0..cluster.shards.len() {
        let shard = &cluster.shard(n).shard;
        eventually("as it was", async || {
            let load = &shard.load;
            [load.streams(), load.unfinished(), load.orphans(), load.replay_bytes(), shard.resumes.kept() as u64] == [0; 5]
        })
        .await;
    }
}

#[tokio::test]
async fn a_stream_is_resumed_through_any_shard_and_again_through_another() {
    let cluster = Cluster::running(3, program).await;
    let session = open(cluster.shard(0)).await;
    let stranger = open(cluster.shard(0)).await;
    let said = cut(cluster.shard(1), &session).await;
    assert_eq!(resume(cluster.shard(2), &stranger, &said).await.0, 400, "of another session");
    let (status, mut client) = resume(cluster.shard(2), &session, &said).await;
    assert_eq!(status, 200);
    assert_eq!(answer(cluster.shard(0), &session, &said, "Ada").await, 202);
    let more = until(&mut client, "The second?").await;
    assert!(!more.contains("The first?"), "heard twice: {more}");
    // Cut again: another shard, and then the one that keeps it.
    drop(client);
    let (status, mut old) = resume(cluster.shard(0), &session, &more).await;
    assert_eq!(status, 200);
    let (status, mut client) = resume(cluster.shard(1), &session, &more).await;
    assert_eq!(status, 200);
    assert!(!old.until("0\r\n\r\n").await.contains("data: {"), "the one before it ends");
    assert_eq!(answer(cluster.shard(2), &session, &more, "Eve").await, 202);
    let done = client.until("0\r\n\r\n").await;
    assert!(done.contains("Ada") && done.contains("Eve") && done.contains("\"id\":1"), "{done}");
    for n in 0..3 {
        assert_eq!(resume(cluster.shard(n), &session, &more).await.0, 400, "it was read to its end");
    }
    nothing_is_left(&cluster).await;
}

#[tokio::test]
async fn a_result_is_fetched_through_another_shard_after_its_end() {
    let cluster = Cluster::running(2, program).await;
    let session = open(cluster.shard(0)).await;
    let said = cut(cluster.shard(0), &session).await;
    let (_, mut client) = resume(cluster.shard(0), &session, &said).await;
    assert_eq!(answer(cluster.shard(1), &session, &said, "Ada").await, 202);
    let more = until(&mut client, "The second?").await;
    drop(client);
    cluster.shard(0).until("alone", |shard| shard.load.orphans() == 1).await;
    assert_eq!(answer(cluster.shard(1), &session, &more, "Eve").await, 202);
    cluster.shard(0).until("ended", |shard| shard.load.in_flight() == 0).await;
    let (status, mut client) = resume(cluster.shard(1), &session, &more).await;
    assert_eq!(status, 200);
    assert!(client.until("0\r\n\r\n").await.contains("Eve"));
    nothing_is_left(&cluster).await;
}

#[tokio::test]
async fn a_stream_whose_shard_is_gone_is_refused_and_not_waited_for() {
    let mut cluster = Cluster::running(2, program).await;
    let session = open(cluster.shard(0)).await;
    let said = cut(cluster.shard(1), &session).await;
    let name = cluster.shards.keys().next_back().unwrap().clone();
    cluster.kill(&name).await;
    let shard = &cluster.shard(0).shard;
    eventually("alone", async || shard.peers.linked().is_empty()).await;
    assert_eq!(resume(cluster.shard(0), &session, &said).await.0, 400);
}
