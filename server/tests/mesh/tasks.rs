//! A task is followed through any shard, and no shard that is lost takes its state with it.

use std::sync::LazyLock;
use std::time::Duration;

use mcp_server::Ending;
use mcp_server::auth::Principal;
use mcp_server::library::{Arguments, Code, Context, NoArguments, Program, Tool};
use mcp_server::limits::MAX_TASK_RESULT;
use mcp_server::peers::wire::{Answer, Ask, Frame};
use mcp_server::session::{Incarnation, Tagger};
use mcp_server::shard::epoch_millis;
use mcp_server::tasks::TaskId;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Semaphore, broadcast};
use tokio::time::{Instant, timeout};

use super::cluster::{Cluster, eventually};
use super::harness::{Answered, Client, PATIENCE, Running, meta, modern, post};
use super::links::Stranger;

/// What a listener waits for at most: three times what is promised after a SIGKILL.
const ANSWERED: Duration = Duration::from_secs(15);

/// What the tool `tells` is to say.
static WORDS: LazyLock<broadcast::Sender<String>> = LazyLock::new(|| broadcast::channel(1024).0);
/// Calls of `tells` that listen.
static TELLING: Semaphore = Semaphore::const_new(0);

pub fn program() -> Code {
    let schema = || json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
    Program::new("test", "1")
        .tool(Tool::new("introduce", "Asks for a name.").as_task(), move |context: Context, _: NoArguments| async move {
            let asked = context.elicit("name", "Who?", schema()).await?;
            Ok(format!("Hello, {}!", asked.accepted().and_then(|form| form["name"].as_str()).unwrap_or("?")))
        })
        .tool(Tool::new("says", "Says it at once.").as_task(), async |context: Context, _: Arguments| {
            Ok(context.text("text").unwrap_or("Done.").to_owned())
        })
        .tool(Tool::new("lasts", "Does not end.").as_task(), async |_: Context, _: NoArguments| {
            std::future::pending::<Result<String, mcp_server::library::Failure>>().await
        })
        .tool(
            Tool::new("tells", "Says what it is told to, until the end.").as_task(),
            async |context: Context, _: NoArguments| {
                let mut words = WORDS.subscribe();
                TELLING.add_permits(1);
                while let Ok(word) = words.recv().await {
                    context.progress(1.0, None, Some(&word));
                }
                Ok("Done.")
            },
        )
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
    call(shard, "introduce").await
}

async fn call(shard: &Running, tool: &str) -> String {
    let created = send(shard, "tools/call", json!({"name": tool, "arguments": {}})).await.json();
    created["result"]["taskId"].as_str().unwrap_or_else(|| panic!("{created}")).to_owned()
}

/// The process that keeps the second record, as the id says, and its place among the shards.
fn keeper(cluster: &Cluster, id: &str) -> String {
    let opened = TaskId::open(id, &cluster.shard(0).shard.sessions.tagger(), &Principal::anonymous()).unwrap();
    let named = |(name, shard): (&String, &Running)| (shard.shard.sessions.incarnation() == opened.keeps).then(|| name.clone());
    cluster.shards.iter().find_map(named).expect("a shard that keeps it")
}

fn copies(shard: &Running) -> usize {
    shard.shard.tasks.counts().copies
}

/// The first answer about a task that is a state; how long it took, and no answer before it was "not found".
async fn answered(shard: &Running, id: &str) -> (Value, Duration) {
    let start = Instant::now();
    loop {
        let answered = timeout(ANSWERED, send(shard, "tasks/get", json!({"taskId": id}))).await.expect("an answer").json();
        if !answered["result"].is_null() {
            return (answered["result"].clone(), start.elapsed());
        }
        assert_ne!(answered["error"]["code"], -32602, "{answered}");
        assert!(start.elapsed() < ANSWERED, "no state: {answered}");
    }
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
    let cluster = Cluster::running(3, program).await;
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
}

#[tokio::test]
async fn a_task_whose_shard_is_killed_is_answered_by_any_other_and_has_failed_if_it_had_not_ended() {
    let mut cluster = Cluster::running(3, program).await;
    let (asks, ends) = (begin(cluster.shard(0)).await, call(cluster.shard(0), "says").await);
    until(cluster.shard(1), &asks, "input_required").await;
    let before = until(cluster.shard(0), &ends, "completed").await;
    let mut listener = follow(cluster.shard(1), &asks).await;
    listener.until("input_required").await;
    cluster.kill("c-00").await;
    let killed = Instant::now();
    for shard in cluster.shards.values() {
        let (open, took) = answered(shard, &asks).await;
        assert!(["input_required", "failed"].contains(&open["status"].as_str().unwrap()), "{open}");
        println!("tasks/get of a task whose shard was killed: {took:?}");
        let (ended, _) = answered(shard, &ends).await;
        assert_eq!(ended, before, "its result is kept");
    }
    for shard in cluster.shards.values() {
        let failed = until(shard, &asks, "failed").await;
        assert_eq!(failed["error"]["code"], -32603, "{failed}");
        assert!(failed["error"]["message"].as_str().unwrap().contains("ended before the task did"), "{failed}");
        let acknowledged = send(shard, "tasks/update", json!({"taskId": asks, "inputResponses": {}})).await.json();
        assert_eq!(acknowledged["result"]["resultType"], "complete", "{acknowledged}");
    }
    listener.until("\"status\":\"failed\"").await;
    println!("the failure was told {:?} after the kill", killed.elapsed());
}

#[tokio::test]
async fn a_task_outlives_its_keeper_and_then_its_own_shard() {
    let mut cluster = Cluster::running(3, program).await;
    let id = call(cluster.shard(0), "says").await;
    let done = until(cluster.shard(0), &id, "completed").await;
    let first = keeper(&cluster, &id);
    cluster.kill(&first).await;
    let second = cluster.shards.keys().find(|name| *name != "c-00").unwrap().clone();
    cluster.shards[&second].until("kept by the third", |shard| shard.tasks.counts().copies == 1).await;
    cluster.kill("c-00").await;
    assert_eq!(answered(&cluster.shards[&second], &id).await.0, done);
    // It finds a second record again when there is who can have it, and that answers when it is the last.
    let newcomer = cluster.create().await;
    cluster.enlist();
    cluster.tell().await;
    cluster.until_whole().await;
    cluster.shards[&newcomer].until("kept by the newcomer", |shard| shard.tasks.counts().copies == 1).await;
    cluster.kill(&second).await;
    assert_eq!(answered(&cluster.shards[&newcomer], &id).await.0, done);
}

#[tokio::test]
async fn a_task_that_lost_both_its_shards_at_once_has_failed_and_says_why() {
    let mut cluster = Cluster::running(3, program).await;
    let id = call(cluster.shard(0), "says").await;
    until(cluster.shard(0), &id, "completed").await;
    let keeper = keeper(&cluster, &id);
    let (one, other) = (cluster.shards.remove("c-00").unwrap(), cluster.shards.remove(&keeper).unwrap());
    one.ended.abort();
    other.ended.abort();
    let (failed, took) = answered(cluster.shard(0), &id).await;
    println!("tasks/get of a task that lost both its shards: {took:?}");
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!(-32603)), "{failed}");
    assert!(failed["error"]["message"].as_str().unwrap().contains("ran and kept"), "{failed}");
}

#[tokio::test]
async fn a_shard_alone_makes_tasks_and_finds_a_keeper_when_another_comes() {
    let mut cluster = Cluster::running(1, program).await;
    let id = call(cluster.shard(0), "says").await;
    let done = until(cluster.shard(0), &id, "completed").await;
    let newcomer = cluster.create().await;
    cluster.enlist();
    cluster.tell().await;
    cluster.until_whole().await;
    cluster.shards[&newcomer].until("kept", |shard| shard.tasks.counts().copies == 1).await;
    cluster.kill("c-00").await;
    assert_eq!(answered(&cluster.shards[&newcomer], &id).await.0, done);
}

#[tokio::test]
async fn shards_that_drain_hand_over_what_they_know_of_tasks() {
    let mut cluster = Cluster::running(4, program).await;
    let (ends, lasts) = (call(cluster.shard(0), "says").await, call(cluster.shard(0), "lasts").await);
    let done = until(cluster.shard(1), &ends, "completed").await;
    // Who runs them and who keeps them go at the same time: none hands to the other.
    let mut leaving = vec!["c-00".to_owned()];
    leaving.extend([keeper(&cluster, &ends), keeper(&cluster, &lasts)]);
    leaving.sort();
    leaving.dedup();
    for name in &leaving {
        cluster.shards[name].ends.send(Ending::Drain).await.unwrap();
    }
    for name in &leaving {
        let shard = cluster.shards.get_mut(name).unwrap();
        timeout(PATIENCE, &mut shard.ended).await.expect("it ends").unwrap();
        cluster.shards.remove(name);
    }
    for shard in cluster.shards.values() {
        assert_eq!(answered(shard, &ends).await.0, done);
        let failed = answered(shard, &lasts).await.0;
        assert_eq!(failed["status"], "failed");
        assert!(failed["error"]["message"].as_str().unwrap().contains("had to end"), "it outlived the deadline: {failed}");
    }
}

#[tokio::test]
async fn a_rollout_of_every_shard_loses_no_result() {
    let mut cluster = Cluster::running(2, program).await;
    let mut done = Vec::new();
    for shard in cluster.shards.values() {
        for _ in 0..5 {
            let id = call(shard, "says").await;
            done.push((until(shard, &id, "completed").await, id));
        }
    }
    for name in ["c-00", "c-01"] {
        cluster.create().await;
        cluster.enlist();
        cluster.tell().await;
        cluster.until_whole().await;
        cluster.shards[name].ends.send(Ending::Drain).await.unwrap();
        let mut old = cluster.shards.remove(name).unwrap();
        timeout(PATIENCE, &mut old.ended).await.expect("it ends").unwrap();
        cluster.enlist();
        cluster.tell().await;
    }
    for shard in cluster.shards.values() {
        for (state, id) in &done {
            assert_eq!(answered(shard, id).await.0, *state);
        }
    }
}

#[tokio::test]
async fn who_listens_anywhere_hears_what_a_task_is_and_soon_what_it_becomes() {
    let cluster = Cluster::running(3, program).await;
    let ended = call(cluster.shard(0), "says").await;
    until(cluster.shard(0), &ended, "completed").await;
    follow(cluster.shard(2), &ended).await.until("\"status\":\"completed\"").await;
    let id = call(cluster.shard(0), "tells").await;
    TELLING.acquire().await.unwrap().forget();
    let mut listeners = [follow(cluster.shard(1), &id).await, follow(cluster.shard(2), &id).await];
    for client in &mut listeners {
        client.until("\"status\":\"working\"").await;
    }
    let mut took = Vec::new();
    for n in 0..200 {
        let word = format!("word-{n:03}");
        let start = Instant::now();
        WORDS.send(word.clone()).unwrap();
        for client in &mut listeners {
            client.until(&word).await;
        }
        took.push(start.elapsed());
    }
    took.sort_unstable();
    println!("a task's change, read from streams of two other shards: p50 {:?} p99 {:?}", took[100], took[198]);
}

/// Speaks of tasks as a peer does.
struct Peer {
    stranger: Stranger,
    tagger: Tagger,
    asked: u64,
}

impl Peer {
    async fn connect(cluster: &Cluster, shard: &Running, incarnation: Incarnation) -> Self {
        let mut stranger = Stranger::dial(shard).await;
        stranger.greet_as(&cluster.ring, "c-97", incarnation).await.unwrap();
        Self { stranger, tagger: shard.shard.sessions.tagger(), asked: 0 }
    }

    /// Has a shard keep a task; what it says.
    async fn keep(&mut self, id: TaskId, sealed: Option<String>, text: &str) -> Option<Value> {
        let sealed = sealed.unwrap_or_else(|| id.seal(&self.tagger, &Principal::anonymous()));
        let task = json!({"state": {"Completed": {"text": text}}, "message": null, "created": id.created, "updated": id.created,
            "ttl": id.ttl, "poll_interval": 1000});
        let request = json!({"Keep": {"version": 9, "task": task, "leaving": false}});
        self.ask(&json!({"principal": Principal::anonymous().name, "id": sealed, "request": request}).to_string()).await
    }

    async fn ask(&mut self, text: &str) -> Option<Value> {
        self.asked += 1;
        self.stranger.say(&Frame::Ask { number: self.asked, ask: Ask::Task(text.to_owned()) }).await;
        loop {
            match self.stranger.hear().await.expect("an answer") {
                Frame::Answer { number, answer } if number == self.asked => {
                    return match answer {
                        Answer::Task(said) => Some(serde_json::from_str(&said).unwrap()),
                        Answer::Unknown => None,
                        other => panic!("{other:?}"),
                    };
                }
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn a_peer_cannot_speak_for_a_task_that_another_shard_runs_nor_make_up_an_id() {
    let cluster = Cluster::running(2, program).await;
    let id = begin(cluster.shard(0)).await;
    let asking = until(cluster.shard(1), &id, "input_required").await;
    let tagger = cluster.shard(0).shard.sessions.tagger();
    let opened = TaskId::open(&id, &tagger, &Principal::anonymous()).unwrap();
    for shard in cluster.shards.values() {
        let mut peer = Peer::connect(&cluster, shard, [7; 16]).await;
        let refused = peer.keep(opened, Some(id.clone()), "forged").await.expect("read");
        assert!(refused["Forged"].is_string(), "{refused}");
        let longer = TaskId { runs: [7; 16], ttl: opened.ttl + 1, ..opened };
        assert_eq!(peer.keep(longer, Some(id.clone()), "forged").await, Some(refused), "the id counts, not who says it");
        let mut made_up = id.clone();
        made_up.replace_range(9..10, if &id[9..10] == "A" { "B" } else { "A" });
        assert_eq!(peer.keep(opened, Some(made_up), "forged").await, None, "no id of ours");
        assert_eq!(peer.ask("{").await, None);
        assert_eq!(peer.ask("{\"principal\":\"eve\",\"id\":\"x\",\"request\":\"Forget\"}").await, None);
        let forget = json!({"principal": Principal::anonymous().name, "id": id, "request": "Forget"}).to_string();
        peer.ask(&forget).await;
    }
    assert_eq!((copies(cluster.shard(0)), copies(cluster.shard(1))), (0, 1));
    for shard in cluster.shards.values() {
        assert_eq!(send(shard, "tasks/get", json!({"taskId": id})).await.json()["result"], asking);
    }
}

#[tokio::test]
async fn where_no_shard_has_room_for_a_second_record_no_task_is_made() {
    let cluster = Cluster::running(2, program).await;
    let mut peer = Peer::connect(&cluster, cluster.shard(1), [7; 16]).await;
    let text = "x".repeat(MAX_TASK_RESULT - 1024);
    let mut number = 0;
    loop {
        number += 1;
        let id = TaskId { runs: [7; 16], keeps: [8; 16], number, created: epoch_millis(), ttl: 3_600_000 };
        match peer.keep(id, None, &text).await.expect("read") {
            said if said == "Done" => {}
            said => {
                assert_eq!(said, "Full");
                break;
            }
        }
    }
    // What is left takes no new record either.
    let id = TaskId { runs: [7; 16], keeps: [8; 16], number: 0, created: epoch_millis(), ttl: 3_600_000 };
    let most = usize::try_from(cluster.shard(1).shard.load.budgets().task_copies).unwrap();
    let left = most - cluster.shard(1).shard.tasks.counts().copy_bytes;
    assert_eq!(peer.keep(id, None, &"x".repeat(left - 700)).await.unwrap(), "Done");
    let refused = send(cluster.shard(0), "tools/call", json!({"name": "lasts", "arguments": {}})).await;
    assert_eq!((refused.status, refused.error_code()), (503, -32603), "{refused:?}");
    assert!(refused.header("retry-after").is_some() && refused.body.contains("all the tasks it may"), "{refused:?}");
    assert_eq!(cluster.shard(0).shard.tasks.counts().kept, 0, "nothing is left of it");
    assert!(cluster.shard(1).shard.tasks.counts().copy_bytes <= most);
    let metrics = cluster.shard(1).admin("/metrics").await.body;
    assert!(metrics.contains("mcp_task_copies_refused_total 2"), "{metrics}");
}
