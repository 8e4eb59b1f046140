//! The tasks extension as clients see it: a call that goes on after its answer (`extensions/tasks/specification`).
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::{Answered, Client, PATIENCE, Running, config, meta, modern, post};
use mcp_server::Ending;
use mcp_server::exchange::Ask;
use mcp_server::library::{Answer, Context, Failure, NoArguments, Program, Tool};
use mcp_server::limits::MAX_TASK_RESULT;
use mcp_server::mcp::elicitation::ElicitForm;
use mcp_server::tasks::TaskId;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

const EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// What the test tells handlers, and they it.
#[derive(Clone, Debug, Default)]
struct Signals {
    go: Arc<Notify>,
    dropped: Arc<AtomicUsize>,
}

struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn ask(message: &str) -> Ask {
    let requested_schema = json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
    Ask::Elicit(ElicitForm { message: message.to_owned(), requested_schema })
}

fn program(signals: &Signals) -> Program {
    let waits = signals.clone();
    Program::new("test", "1")
        .tool(Tool::new("waits", "Waits.").as_task(), move |call: Context, NoArguments {}| {
            let (signals, guard) = (waits.clone(), Dropped(Arc::clone(&waits.dropped)));
            async move {
                let _guard = guard;
                call.progress(1.0, None, Some("Waiting."));
                signals.go.notified().await;
                Ok("Done.")
            }
        })
        .tool(Tool::new("short", "Is kept for a moment.").as_task().task_ttl(Duration::from_millis(100)), {
            async |_: Context, NoArguments {}| std::future::pending::<Result<Answer, Failure>>().await
        })
        .tool(Tool::new("fails", "Fails.").as_task(), async |_: Context, NoArguments {}| -> Result<Answer, Failure> {
            Err("no".into())
        })
        .tool(Tool::new("panics", "Panics.").as_task(), async |_: Context, NoArguments {}| -> Result<Answer, Failure> {
            panic!("a secret")
        })
        .tool(Tool::new("large", "Says much.").as_task(), async |_: Context, NoArguments {}| Ok("x".repeat(MAX_TASK_RESULT)))
        .tool(Tool::new("lies", "Breaks its promise.").as_task().output_schema(json!({"type": "object", "required": ["a"]})), {
            async |_: Context, NoArguments {}| Ok(json!({"b": 1}))
        })
        .tool(Tool::new("only", "Is a task or nothing.").as_task().needs_tasks(), async |_: Context, NoArguments {}| Ok("Done."))
        .tool(Tool::new("asks", "Asks.").as_task(), async |call: Context, NoArguments {}| {
            let both = call.ask_all(vec![("a".to_owned(), ask("A?")), ("b".to_owned(), ask("B?"))]).await?;
            let again = call.elicit("a", "A again?", json!({"type": "object"})).await?;
            Ok(format!("{} and {}", both.len(), json!(again.action)))
        })
}

struct Place {
    running: Running,
    client: Client,
    signals: Signals,
}

impl Place {
    async fn start() -> Self {
        let signals = Signals::default();
        let running = Running::with_code(&config(), program(&signals).build().unwrap()).await;
        let client = running.client().await;
        Self { running, client, signals }
    }

    /// A request of a client that follows tasks.
    async fn send(&mut self, method: &str, mut params: Value) -> Answered {
        params["_meta"] = declared();
        let (mut headers, body) = modern(method, params.clone());
        headers.extend(params["taskId"].as_str().map(|id| ("mcp-name".to_owned(), id.to_owned())));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.client.post(&headers, &body).await
    }

    async fn listen(&self, ids: &[&str]) -> Client {
        let (headers, body) = modern("subscriptions/listen", json!({"notifications": {"taskIds": ids}, "_meta": declared()}));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut listener = self.running.client().await;
        listener.socket.write_all(post(&headers, &body).as_bytes()).await.unwrap();
        listener
    }

    async fn begin(&mut self, tool: &str) -> String {
        let created = self.send("tools/call", json!({"name": tool, "arguments": {}})).await.json();
        assert_eq!(created["result"]["resultType"], "task", "{created}");
        created["result"]["taskId"].as_str().unwrap().to_owned()
    }

    async fn get(&mut self, id: &str) -> Value {
        let answered = self.send("tasks/get", json!({"taskId": id})).await.json();
        assert_eq!(answered["result"]["resultType"], "complete", "{answered}");
        answered["result"].clone()
    }

    /// Polls until a task is in a state.
    async fn until(&mut self, id: &str, status: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let task = self.get(id).await;
            if task["status"] == status {
                return task;
            }
            assert!(Instant::now() < deadline, "not {status}: {task}");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

fn declared() -> Value {
    let mut meta = meta();
    meta["io.modelcontextprotocol/clientCapabilities"] = json!({"elicitation": {}, "extensions": {EXTENSION: {}}});
    meta
}

#[tokio::test]
async fn a_call_becomes_a_task_and_its_result_is_that_of_the_call() {
    let mut place = Place::start().await;
    let discovered = place.send("server/discover", json!({})).await.json();
    assert_eq!(discovered["result"]["capabilities"]["extensions"], json!({EXTENSION: {}}));
    let id = place.begin("waits").await;
    let working = place.get(&id).await;
    assert_eq!((&working["status"], &working["statusMessage"]), (&json!("working"), &json!("Waiting.")));
    assert_eq!((&working["ttlMs"], working.get("result")), (&json!(1_800_000), None));
    assert_eq!((place.running.shard.load.tasks(), place.running.shard.load.unfinished()), (1, 1));
    place.signals.go.notify_one();
    let done = place.until(&id, "completed").await;
    assert_eq!(done["result"], json!({"resultType": "complete", "content": [{"type": "text", "text": "Done."}]}));
    assert_eq!(place.running.shard.load.tasks(), 0);
    assert_eq!(place.until(&id, "completed").await, done, "it is kept");
}

#[tokio::test]
async fn only_errors_of_the_protocol_fail_a_task() {
    let mut place = Place::start().await;
    let id = place.begin("fails").await;
    assert_eq!(place.until(&id, "completed").await["result"]["isError"], true);
    let id = place.begin("lies").await;
    let withheld = place.until(&id, "completed").await;
    assert!(withheld["result"]["isError"] == true && withheld["result"].get("structuredContent").is_none(), "{withheld}");
    for (tool, words) in [("panics", "internal error"), ("large", "bytes")] {
        let id = place.begin(tool).await;
        let failed = place.until(&id, "failed").await;
        assert_eq!(failed["error"]["code"], -32603, "{failed}");
        assert!(failed["error"]["message"].as_str().unwrap().contains(words) && failed.get("result").is_none(), "{failed}");
        assert!(!failed.to_string().contains("secret"));
    }
}

#[tokio::test]
async fn a_client_that_cannot_follow_a_task_waits_for_the_result_or_is_refused() {
    let mut place = Place::start().await;
    let waited = place.client.modern("tools/call", json!({"name": "fails"})).await.json();
    assert_eq!((&waited["result"]["resultType"], &waited["result"]["isError"]), (&json!("complete"), &json!(true)));
    let id = place.begin("waits").await;
    let named = [("mcp-name", id.as_str())];
    for (method, params) in [
        ("tools/call", json!({"name": "only"})),
        ("subscriptions/listen", json!({"notifications": {"taskIds": [id]}})),
        ("tasks/get", json!({"taskId": id})),
        ("tasks/update", json!({"taskId": id, "inputResponses": {}})),
        ("tasks/cancel", json!({"taskId": id})),
    ] {
        let (headers, body) = modern(method, params);
        let mut headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        headers.extend(named.iter().filter(|_| method.starts_with("tasks/")));
        let refused = place.client.post(&headers, &body).await;
        assert_eq!((refused.status, refused.error_code()), (400, -32021), "{method}: {refused:?}");
        assert_eq!(refused.json()["error"]["data"], json!({"requiredCapabilities": {"extensions": {EXTENSION: {}}}}));
    }
}

#[tokio::test]
async fn older_revisions_know_no_tasks() {
    let mut place = Place::start().await;
    let (initialized, session) = place.client.initialize("2025-11-25").await;
    let capabilities = &initialized.json()["result"]["capabilities"];
    assert!(capabilities.get("tasks").is_none() && capabilities.get("extensions").is_none(), "{capabilities}");
    let params = json!({"name": "fails", "arguments": {}, "task": {"ttl": 1000}});
    let ignored = place.client.legacy(&session, "tools/call", params).await.json();
    assert_eq!(ignored["result"]["isError"], true, "answered as ever: {ignored}");
    assert_eq!(place.client.legacy(&session, "tasks/get", json!({"taskId": "x"})).await.error_code(), -32601);
}

#[tokio::test]
async fn a_task_asks_through_its_state_and_loses_no_answer() {
    let mut place = Place::start().await;
    let id = place.begin("asks").await;
    let asking = place.until(&id, "input_required").await;
    assert_eq!(asking["inputRequests"]["a"]["method"], "elicitation/create");
    assert_eq!(asking["inputRequests"]["b"]["params"]["message"], "B?");
    let named = |name: &str| json!({"action": "accept", "content": {"name": name}});
    let bad = place.send("tasks/update", json!({"taskId": id, "inputResponses": {"a": named("x"), "b": 7}})).await;
    assert_eq!(bad.error_code(), -32602);
    assert_eq!(place.get(&id).await["inputRequests"].as_object().unwrap().len(), 2, "nothing of it was taken");
    let sent = json!({"taskId": id, "inputResponses": {"a": named("x"), "never": named("y")}});
    let acknowledged = place.send("tasks/update", sent.clone()).await.json();
    assert_eq!(acknowledged["result"]["resultType"], "complete");
    assert!(acknowledged["result"].get("taskId").is_none(), "{acknowledged}");
    let rest = place.get(&id).await;
    assert_eq!((&rest["status"], rest["inputRequests"].as_object().unwrap().len()), (&json!("input_required"), 1));
    place.send("tasks/update", sent).await.json();
    place.send("tasks/update", json!({"taskId": id, "inputResponses": {"b": named("z")}})).await.json();
    let again = loop {
        let again = place.until(&id, "input_required").await;
        if again["inputRequests"].get("b").is_none() {
            break again;
        }
    };
    let keys: Vec<_> = again["inputRequests"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["a.2"], "no key is used twice");
    place.send("tasks/update", json!({"taskId": id, "inputResponses": {"a.2": {"action": "decline"}}})).await.json();
    assert_eq!(place.until(&id, "completed").await["result"]["content"][0]["text"], "2 and \"decline\"");
}

#[tokio::test]
async fn a_cancelled_task_drops_its_handler_and_stays_cancelled() {
    let mut place = Place::start().await;
    let id = place.begin("waits").await;
    place.until(&id, "working").await;
    let acknowledged = place.send("tasks/cancel", json!({"taskId": id})).await.json();
    assert_eq!(acknowledged["result"]["resultType"], "complete");
    place.until(&id, "cancelled").await;
    let dropped = Arc::clone(&place.signals.dropped);
    place.running.until("dropped", |_| dropped.load(Ordering::Relaxed) == 1).await;
    assert_eq!(place.running.shard.load.tasks(), 0);
    place.send("tasks/cancel", json!({"taskId": id})).await.json();
    place.send("tasks/update", json!({"taskId": id, "inputResponses": {}})).await.json();
    assert_eq!(place.get(&id).await["status"], "cancelled");
}

#[tokio::test]
async fn an_id_that_was_not_given_to_the_caller_is_none() {
    let mut place = Place::start().await;
    let id = place.begin("waits").await;
    let tagger = place.running.shard.sessions.tagger();
    let mine = TaskId::open(&id, &tagger, &mcp_server::auth::Principal::anonymous()).unwrap();
    let eves = mine.seal(&tagger, &mcp_server::auth::Principal { name: "eve".to_owned() });
    for wrong in ["x".to_owned(), format!("{id}A"), eves] {
        for method in ["tasks/get", "tasks/cancel", "tasks/update"] {
            let answered = place.send(method, json!({"taskId": wrong, "inputResponses": {}})).await;
            assert_eq!(answered.error_code(), -32602, "{method} {wrong}");
        }
    }
    assert_eq!(place.get(&id).await["status"], "working");
}

#[tokio::test]
async fn a_task_of_a_process_that_is_gone_has_failed_until_its_ttl_and_is_unknown_after_it() {
    let mut place = Place::start().await;
    let id = place.begin("waits").await;
    let (tagger, anonymous) = (place.running.shard.sessions.tagger(), mcp_server::auth::Principal::anonymous());
    let mine = TaskId::open(&id, &tagger, &anonymous).unwrap();
    let gone = TaskId { runs: [9; 16], ..mine }.seal(&tagger, &anonymous);
    let failed = place.get(&gone).await;
    assert_eq!(
        (&failed["status"], &failed["taskId"], &failed["error"]["code"]),
        (&json!("failed"), &json!(gone), &json!(-32603))
    );
    for method in ["tasks/cancel", "tasks/update"] {
        let answered = place.send(method, json!({"taskId": gone, "inputResponses": {}})).await.json();
        assert_eq!(answered["result"]["resultType"], "complete", "as of any that has ended: {answered}");
    }
    let over = TaskId { runs: [9; 16], created: mine.created - u64::from(mine.ttl) - 1, ..mine }.seal(&tagger, &anonymous);
    assert_eq!(place.send("tasks/get", json!({"taskId": over})).await.error_code(), -32602);
    assert_eq!(place.get(&id).await["status"], "working", "a number of another process is not one of ours");
}

#[tokio::test]
async fn who_listens_to_a_task_hears_all_of_its_state() {
    let mut place = Place::start().await;
    let id = place.begin("waits").await;
    let mut listener = place.listen(&[&id, "forged"]).await;
    let acknowledged = listener.until("acknowledged").await;
    assert!(!acknowledged.contains("forged"), "{acknowledged}");
    place.signals.go.notify_one();
    let mut heard = String::new();
    while !heard.contains("completed") {
        heard.push_str(&listener.until("\n\n").await);
    }
    let event = heard.lines().filter_map(|line| line.strip_prefix("data: ")).find(|data| data.contains("completed")).unwrap();
    let event: Value = serde_json::from_str(event).unwrap();
    assert_eq!(event["method"], "notifications/tasks");
    let mut told = event["params"].clone();
    assert_eq!(told.as_object_mut().unwrap().remove("_meta").unwrap()["io.modelcontextprotocol/subscriptionId"], 1);
    let mut task = place.get(&id).await;
    for of_the_result in ["_meta", "resultType"] {
        task.as_object_mut().unwrap().remove(of_the_result);
    }
    assert_eq!(told, task);
}

#[tokio::test]
async fn who_listens_too_late_hears_how_it_ended() {
    let mut place = Place::start().await;
    let id = place.begin("fails").await;
    place.until(&id, "completed").await;
    place.listen(&[&id]).await.until("\"status\":\"completed\"").await;
}

#[tokio::test]
async fn a_task_ends_with_its_ttl_and_is_forgotten_after_it() {
    let mut place = Place::start().await;
    let id = place.begin("short").await;
    let failed = place.until(&id, "failed").await;
    assert!(failed["error"]["message"].as_str().unwrap().contains("ttl"), "{failed}");
    place.running.until("forgotten", |shard| shard.tasks.counts().kept == 0).await;
    assert_eq!(place.send("tasks/get", json!({"taskId": id})).await.error_code(), -32602);
}

#[tokio::test]
async fn a_drain_waits_for_a_task_that_runs() {
    let mut place = Place::start().await;
    let id = place.begin("waits").await;
    place.until(&id, "working").await;
    place.running.ends.send(Ending::Drain).await.unwrap();
    place.running.until("past the time new work is answered", |shard| shard.drain.refuses()).await;
    assert!(timeout(Duration::from_millis(300), &mut place.running.ended).await.is_err(), "it ended before its task");
    place.signals.go.notify_one();
    timeout(PATIENCE, &mut place.running.ended).await.expect("it ends after its task").unwrap();
}
