//! A task is followed through any shard.

use mcp_server::library::{Code, Context, NoArguments, Program, Tool};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::cluster::{Cluster, eventually};
use super::harness::{Answered, Client, Running, meta, modern, post};

pub fn program() -> Code {
    let schema = || json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
    Program::new("test", "1")
        .tool(Tool::new("introduce", "Asks for a name.").as_task(), move |context: Context, _: NoArguments| async move {
            let asked = context.elicit("name", "Who?", schema()).await?;
            Ok(format!("Hello, {}!", asked.accepted().and_then(|form| form["name"].as_str()).unwrap_or("?")))
        })
        .build()
        .unwrap()
}

async fn send(shard: &Running, method: &str, mut params: Value) -> Answered {
    params["_meta"] = meta();
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
        json!({"elicitation": {}, "extensions": {"io.modelcontextprotocol/tasks": {}}});
    let (mut headers, body) = modern(method, params.clone());
    headers.extend(params["taskId"].as_str().map(|id| ("mcp-name".to_owned(), id.to_owned())));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    shard.client().await.post(&headers, &body).await
}

pub async fn begin(shard: &Running) -> String {
    let created = send(shard, "tools/call", json!({"name": "introduce", "arguments": {}})).await.json();
    created["result"]["taskId"].as_str().unwrap().to_owned()
}

/// A stream of what becomes of a task.
pub async fn follow(shard: &Running, id: &str) -> Client {
    let mut declared = meta();
    declared["io.modelcontextprotocol/clientCapabilities"] = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    let (headers, body) = modern("subscriptions/listen", json!({"notifications": {"taskIds": [id]}, "_meta": declared}));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut client = shard.client().await;
    client.socket.write_all(post(&headers, &body).as_bytes()).await.unwrap();
    client.until("acknowledged").await;
    client
}

async fn until(shard: &Running, id: &str, status: &str) -> Value {
    let mut task = Value::Null;
    eventually(status, async || {
        task = send(shard, "tasks/get", json!({"taskId": id})).await.json()["result"].clone();
        task["status"] == status
    })
    .await;
    task
}

#[tokio::test]
async fn a_task_is_followed_answered_and_cancelled_through_any_shard() {
    let mut cluster = Cluster::running(3, program).await;
    let id = begin(cluster.shard(0)).await;
    let asked = until(cluster.shard(1), &id, "input_required").await;
    assert_eq!(asked["inputRequests"]["name"]["method"], "elicitation/create");
    let answer = |name: Value| json!({"taskId": id, "inputResponses": {"name": {"action": "accept", "content": {"name": name}}}});
    let refused = send(cluster.shard(2), "tasks/update", answer(json!(7))).await;
    assert_eq!(refused.error_code(), -32602, "as where it runs");
    let taken = send(cluster.shard(2), "tasks/update", answer(json!("Ada"))).await;
    assert_eq!(taken.json()["result"]["resultType"], "complete");
    let done = until(cluster.shard(1), &id, "completed").await;
    assert_eq!(done["result"]["content"][0]["text"], "Hello, Ada!");

    let other = begin(cluster.shard(0)).await;
    send(cluster.shard(1), "tasks/cancel", json!({"taskId": other})).await;
    until(cluster.shard(2), &other, "cancelled").await;

    let runs = cluster.shards.keys().next().unwrap().clone();
    cluster.kill(&runs).await;
    let lost = send(cluster.shard(0), "tasks/get", json!({"taskId": id})).await;
    assert_eq!(lost.error_code(), -32603, "never taken for one that was forgotten: {lost:?}");
}
