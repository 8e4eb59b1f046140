//! A response, or a cancellation, that a client posts to another shard than the one that waits for it.

use mcp_server::library::{Arguments, Code, Context, Program, Tool};
use mcp_server::shard::Shard;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::cluster::{Cluster, until};
use super::harness::{Client, Running, post};

const VERSION: (&str, &str) = ("mcp-protocol-version", "2025-11-25");

fn program() -> Code {
    let schema = || json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
    Program::new("test", "1")
        .tool(Tool::new("introduce", "Asks for a name."), move |context: Context, _: Arguments| async move {
            let asked = context.elicit("name", "Who?", schema()).await?;
            Ok(format!("Hello, {}!", asked.accepted().and_then(|form| form["name"].as_str()).unwrap_or("?")))
        })
        .build()
        .unwrap()
}

/// A session of a client that can be asked.
async fn open(shard: &Running) -> String {
    let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": {"name": "t", "version": "1"}}});
    let answered = shard.client().await.post(&[], &body.to_string()).await;
    answered.header("mcp-session-id").unwrap().to_owned()
}

/// Calls the tool, and returns its stream and the id of the question.
async fn asked(shard: &Running, session: &str, id: u32) -> (Client, String) {
    let mut client = shard.client().await;
    let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "introduce"}}).to_string();
    client.socket.write_all(post(&[("mcp-session-id", session), VERSION], &call).as_bytes()).await.unwrap();
    let said = until(&mut client, "requestedSchema").await;
    let data = said.lines().find_map(|line| line.strip_prefix("data: ").filter(|data| data.contains("elicitation"))).unwrap();
    let question: Value = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {said}"));
    (client, question["id"].as_str().unwrap().to_owned())
}

async fn respond(shard: &Running, session: &str, id: &str) -> u16 {
    let body = json!({"jsonrpc": "2.0", "id": id, "result": {"action": "accept", "content": {"name": "Ada"}}}).to_string();
    shard.client().await.post(&[("mcp-session-id", session), VERSION], &body).await.status
}

#[tokio::test]
async fn a_response_posted_to_any_shard_reaches_the_one_that_asked_once() {
    let cluster = Cluster::running(3, program).await;
    let session = open(cluster.shard(0)).await;
    for (id, answers) in [1, 2, 0].into_iter().enumerate() {
        let (mut client, question) = asked(cluster.shard(0), &session, u32::try_from(id).unwrap()).await;
        let stranger = open(cluster.shard(0)).await;
        assert_eq!(respond(cluster.shard(answers), &stranger, &question).await, 400, "of another session");
        assert_eq!(respond(cluster.shard(answers), &session, &question).await, 202);
        client.until("Hello, Ada!").await;
        assert_eq!(respond(cluster.shard(answers), &session, &question).await, 400, "nobody waits any more");
        assert_eq!(respond(cluster.shard(answers), &session, &question.replace('.', "")).await, 400, "forged");
    }
}

#[tokio::test]
async fn a_cancellation_posted_to_any_shard_ends_the_request_where_it_runs() {
    let cluster = Cluster::running(3, program).await;
    let session = open(cluster.shard(0)).await;
    let (mut client, _) = asked(cluster.shard(1), &session, 7).await;
    let notice =
        |id: u32| json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}).to_string();
    let headers = [("mcp-session-id", session.as_str()), VERSION];
    // Neither another request of the session nor the request of another session.
    let stranger = open(cluster.shard(0)).await;
    let other = [("mcp-session-id", stranger.as_str()), VERSION];
    assert_eq!(cluster.shard(2).client().await.post(&headers, &notice(8)).await.status, 202);
    assert_eq!(cluster.shard(2).client().await.post(&other, &notice(7)).await.status, 202);
    assert_eq!(cluster.shard(1).shard.load.in_flight(), 1);
    assert_eq!(cluster.shard(2).client().await.post(&headers, &notice(7)).await.status, 202);
    cluster.shard(1).until("idle", |shard: &Shard| shard.load.in_flight() == 0).await;
    // The last chunk.
    assert!(!client.until("0\r\n\r\n").await.contains("\"result\""), "a cancelled request is not answered");
}
