//! What a handler and its client say to each other while a request runs: one handler, both eras, over real sockets.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::{Client, PATIENCE, Running, config, meta, modern, post};
use mcp_server::exchange::Ask;
use mcp_server::library::{Arguments, Code, Context, Failure, Message, Program, Prompt, Read, Resource, Tool};
use mcp_server::mcp::elicitation::{Action, ElicitForm, ElicitResult};
use mcp_server::mcp::lifecycle::ClientCapabilities;
use mcp_server::mcp::logging::LoggingLevel;
use mcp_server::mcp::sampling::CreateMessage;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// Notifications of a handler that says far too much, of each kind.
const FLOOD: u32 = 2000;

/// What the tests know of the handlers.
#[derive(Default)]
struct Watch {
    runs: AtomicUsize,
    waiting: AtomicUsize,
    go: Notify,
}

/// Counts a handler that waits, until it ends or is dropped.
struct Waiting(Arc<Watch>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Watch {
    fn enter(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(Arc::clone(self))
    }

    async fn until_waiting(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.waiting.load(Ordering::SeqCst) != count {
            assert!(Instant::now() < deadline, "not {count} handlers wait");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn form() -> Value {
    json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]})
}

fn said(result: &ElicitResult) -> String {
    match result.action {
        Action::Accept => result.accepted().and_then(|form| form["name"].as_str()).unwrap_or("?").to_owned(),
        Action::Decline => "declined".to_owned(),
        Action::Cancel => "cancelled".to_owned(),
    }
}

fn program(watch: &Arc<Watch>) -> Code {
    let (runs, waits) = (Arc::clone(watch), Arc::clone(watch));
    Program::new("test", "1")
        .tool(Tool::new("introduce", "Asks for two names."), move |context: Context, _: Arguments| {
            let watch = Arc::clone(&runs);
            async move {
                watch.runs.fetch_add(1, Ordering::SeqCst);
                let _waiting = watch.enter();
                let first = context.elicit("first", "Who?", form()).await?;
                let second = context.elicit("second", "And who?", form()).await?;
                Ok(format!("{} and {}", said(&first), said(&second)))
            }
        })
        .tool(Tool::new("survey", "Asks three things at one time."), async |context: Context, _: Arguments| {
            let form = ElicitForm { message: "Who?".to_owned(), requested_schema: form() };
            let asks =
                [("who", Ask::Elicit(form)), ("what", Ask::Sample(CreateMessage::text("What?", 10))), ("where", Ask::ListRoots)];
            let asks = asks.map(|(key, ask)| (key.to_owned(), ask)).to_vec();
            let answers = context.ask_all(asks).await?;
            Ok(format!("{answers:?}"))
        })
        .tool(Tool::new("steps", "Says how far it is."), async |context: Context, _: Arguments| {
            for step in [0.0, 50.0, 100.0] {
                context.progress(step, Some(100.0), Some("at it"));
            }
            Ok("done")
        })
        .tool(Tool::new("flood", "Says far too much."), async |context: Context, _: Arguments| {
            for step in 0..FLOOD {
                context.progress(f64::from(step), None, None);
                context.log(LoggingLevel::Error, "x".repeat(1000));
                if step % 100 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            Ok("done")
        })
        .tool(Tool::new("chatty", "Logs."), async |context: Context, _: Arguments| {
            for level in [LoggingLevel::Debug, LoggingLevel::Info, LoggingLevel::Error] {
                context.log(level, json!({"level": level}));
            }
            Ok("done")
        })
        .tool(Tool::new("waits", "Waits for the test."), move |_: Context, _: Arguments| {
            let watch = Arc::clone(&waits);
            async move {
                let _waiting = watch.enter();
                watch.go.notified().await;
                Ok("done")
            }
        })
        .tool(Tool::new("needs", "Needs a model."), async |context: Context, _: Arguments| {
            context.require(ClientCapabilities::SAMPLING)?;
            Ok("done")
        })
        .prompt(Prompt::new("personal", "Asks for a name."), async |context: Context| {
            let name = said(&context.elicit("name", "Who?", form()).await?);
            Ok::<_, Failure>([Message::user(name)])
        })
        .resource(Resource::new("test://roots", "roots"), async |context: Context| {
            let roots = context.roots("roots").await?;
            Ok::<_, Failure>(Read::text(roots[0].uri.clone()))
        })
        .build()
        .unwrap()
}

async fn start() -> (Running, Arc<Watch>) {
    let watch = Arc::new(Watch::default());
    (Running::with_code(&config(), program(&watch)).await, watch)
}

fn able() -> Value {
    json!({"elicitation": {}, "sampling": {}, "roots": {}})
}

/// A legacy session of a client that can do all this.
async fn session(client: &mut Client, version: &str, capabilities: Value) -> String {
    let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}}});
    client.post(&[], &body.to_string()).await.header("mcp-session-id").unwrap().to_owned()
}

/// One round of a modern client that can do all this.
async fn modern_round(client: &mut Client, method: &str, mut params: Value) -> Value {
    let mut able_meta = meta();
    able_meta["io.modelcontextprotocol/clientCapabilities"] = able();
    params["_meta"] = able_meta;
    client.modern(method, params).await.json()
}

/// An event stream being read.
struct Events {
    client: Client,
    text: String,
}

impl Events {
    /// Sends a legacy request and reads the head of its stream.
    async fn of_legacy(server: &Running, session: &str, id: &Value, method: &str, params: Value) -> Self {
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string();
        Self::of(server, &post(&[("mcp-session-id", session), ("mcp-protocol-version", "2025-11-25")], &body)).await
    }

    async fn of(server: &Running, request: &str) -> Self {
        let mut client = server.client().await;
        client.socket.write_all(request.as_bytes()).await.unwrap();
        let head = client.head().await.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200") && head.contains("text/event-stream"), "{head}");
        Self { client, text: String::new() }
    }

    /// The next message; none at the end of the stream.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                if let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")).filter(|data| !data.is_empty()) {
                    return Some(serde_json::from_str(data).unwrap());
                }
            } else if self.text.ends_with("0\r\n\r\n") {
                return None;
            } else {
                self.text += &self.client.until("\n").await;
            }
        }
    }

    async fn all(mut self) -> Vec<Value> {
        let mut all = vec![];
        while let Some(message) = self.next().await {
            all.push(message);
        }
        all
    }
}

async fn respond(client: &mut Client, session: &str, id: &Value, result: Value) -> u16 {
    let body = json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string();
    client.post(&[("mcp-session-id", session)], &body).await.status
}

fn accept(name: &str) -> Value {
    json!({"action": "accept", "content": {"name": name}})
}

fn text(result: &Value) -> &str {
    result["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text in {result}"))
}

#[tokio::test]
async fn a_modern_client_is_asked_round_by_round_and_any_shard_goes_on() {
    let (one, watch) = start().await;
    let other = Running::bind(Some(&config()), one.ring.clone(), Duration::from_millis(200), program(&watch)).await;
    other.until("ready", mcp_server::shard::Shard::is_ready).await;
    let (mut here, mut there) = (one.client().await, other.client().await);
    for (first, second, greeting) in [
        (accept("Ada"), accept("Eve"), "Ada and Eve"),
        (json!({"action": "decline"}), accept("Eve"), "declined and Eve"),
        (json!({"action": "cancel"}), json!({"action": "decline"}), "cancelled and declined"),
    ] {
        let before = watch.runs.load(Ordering::SeqCst);
        let asked = modern_round(&mut here, "tools/call", json!({"name": "introduce"})).await;
        let result = &asked["result"];
        assert_eq!(result["resultType"], "input_required", "{asked}");
        assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "test");
        let params = json!({"message": "Who?", "requestedSchema": form()});
        assert_eq!(result["inputRequests"], json!({"first": {"method": "elicitation/create", "params": params}}));
        let state = &result["requestState"];
        let more = json!({"name": "introduce", "requestState": state, "inputResponses": {"first": first}});
        let again = modern_round(&mut there, "tools/call", more).await;
        assert_eq!(again["result"]["inputRequests"].as_object().unwrap().keys().collect::<Vec<_>>(), ["second"]);
        assert_ne!(again["result"]["requestState"], *state);
        let state = &again["result"]["requestState"];
        let more = json!({"name": "introduce", "requestState": state, "inputResponses": {"second": second}});
        let done = modern_round(&mut here, "tools/call", more).await;
        assert_eq!((text(&done), &done["result"]["resultType"]), (greeting, &json!("complete")));
        assert_eq!(watch.runs.load(Ordering::SeqCst) - before, 3, "once for each round");
    }
}

#[tokio::test]
async fn a_legacy_client_is_asked_on_the_stream_of_its_request() {
    let (server, watch) = start().await;
    let mut client = server.client().await;
    for version in ["2025-11-25", "2025-06-18"] {
        let session = session(&mut client, version, able()).await;
        for (first, second, greeting) in [
            (accept("Ada"), accept("Eve"), "Ada and Eve"),
            (json!({"action": "decline"}), json!({"action": "cancel"}), "declined and cancelled"),
        ] {
            let before = watch.runs.load(Ordering::SeqCst);
            let mut events = Events::of_legacy(&server, &session, &json!("q"), "tools/call", json!({"name": "introduce"})).await;
            for answer in [first, second] {
                let asked = events.next().await.unwrap();
                assert_eq!(asked["method"], "elicitation/create");
                assert_eq!(respond(&mut client, &session, &asked["id"], answer.clone()).await, 202);
                assert_eq!(respond(&mut client, &session, &asked["id"], answer).await, 400, "only once");
            }
            let done = events.next().await.unwrap();
            assert_eq!((text(&done), &done["id"]), (greeting, &json!("q")));
            assert_eq!(events.next().await, None);
            assert_eq!(watch.runs.load(Ordering::SeqCst) - before, 1);
        }
    }
    assert_eq!(server.shard.asks.waiting(), 0);
}

#[tokio::test]
async fn three_kinds_of_question_are_asked_at_one_time() {
    let (server, _) = start().await;
    let mut client = server.client().await;
    let model = json!({"role": "assistant", "content": {"type": "text", "text": "That."}, "model": "m", "stopReason": "endTurn"});
    let roots = json!({"roots": [{"uri": "file:///home", "name": "home"}]});
    let asked = modern_round(&mut client, "tools/call", json!({"name": "survey"})).await;
    let requests = asked["result"]["inputRequests"].as_object().unwrap();
    let methods: Vec<_> = ["who", "what", "where"].map(|key| requests[key]["method"].as_str().unwrap()).to_vec();
    assert_eq!(methods, ["elicitation/create", "sampling/createMessage", "roots/list"]);
    let state = &asked["result"]["requestState"];
    let some = json!({"name": "survey", "requestState": state, "inputResponses": {"who": accept("Ada"), "what": model}});
    let again = modern_round(&mut client, "tools/call", some).await;
    assert_eq!(again["result"]["inputRequests"].as_object().unwrap().keys().collect::<Vec<_>>(), ["where"]);
    let state = &again["result"]["requestState"];
    let rest = json!({"name": "survey", "requestState": state, "inputResponses": {"where": roots}});
    let done = modern_round(&mut client, "tools/call", rest).await;
    for word in ["Ada", "That.", "file:///home"] {
        assert!(text(&done).contains(word), "{done}");
    }

    let session = session(&mut client, "2025-11-25", able()).await;
    let mut events = Events::of_legacy(&server, &session, &json!(1), "tools/call", json!({"name": "survey"})).await;
    let mut asked = vec![];
    for _ in 0..3 {
        asked.push(events.next().await.unwrap());
    }
    // All are asked before any is answered, and they may be answered in any order.
    for question in asked.iter().rev() {
        let answer = match question["method"].as_str().unwrap() {
            "elicitation/create" => accept("Ada"),
            "sampling/createMessage" => model.clone(),
            _ => roots.clone(),
        };
        assert_eq!(respond(&mut client, &session, &question["id"], answer).await, 202);
    }
    for word in ["Ada", "That.", "file:///home"] {
        let done = events.next().await;
        let Some(done) = done else { break };
        assert!(text(&done).contains(word), "{done}");
    }
}

#[tokio::test]
async fn prompts_and_resources_ask_too_and_nothing_else_does() {
    let (server, _) = start().await;
    let mut client = server.client().await;
    let asked = modern_round(&mut client, "prompts/get", json!({"name": "personal"})).await;
    let state = &asked["result"]["requestState"];
    let more = json!({"name": "personal", "requestState": state, "inputResponses": {"name": accept("Ada")}});
    let got = modern_round(&mut client, "prompts/get", more).await;
    assert_eq!(got["result"]["messages"][0]["content"]["text"], "Ada", "{got}");
    let asked = modern_round(&mut client, "resources/read", json!({"uri": "test://roots"})).await;
    assert_eq!(asked["result"]["inputRequests"]["roots"], json!({"method": "roots/list", "params": {}}));
    assert!(asked["result"].get("ttlMs").is_none(), "an unfinished read is not for keeping");
    let answers = json!({"roots": {"roots": [{"uri": "file:///a"}]}});
    let read = modern_round(&mut client, "resources/read", json!({"uri": "test://roots", "inputResponses": answers})).await;
    assert_eq!(read["result"]["contents"][0]["text"], "file:///a");
    assert_eq!(
        (&read["result"]["ttlMs"], &read["result"]["cacheScope"]),
        (&json!(0), &json!("private")),
        "it depends on answers"
    );
    let listed = modern_round(&mut client, "tools/list", json!({"requestState": "made up", "inputResponses": 7})).await;
    assert_eq!(listed["result"]["resultType"], "complete", "it is not read where it means nothing");
}

#[tokio::test]
async fn a_state_that_was_touched_or_belongs_elsewhere_is_refused() {
    let (server, _) = start().await;
    let mut client = server.client().await;
    let asked = modern_round(&mut client, "tools/call", json!({"name": "introduce", "arguments": {"a": 1}})).await;
    let state = asked["result"]["requestState"].as_str().unwrap();
    let with = |state: Value, arguments: Value| json!({"name": "introduce", "arguments": arguments, "requestState": state, "inputResponses": {"first": accept("Ada")}});
    for refused in [
        with(json!(format!("{state}-TAMPERED")), json!({"a": 1})),
        with(json!(""), json!({"a": 1})),
        with(json!(7), json!({"a": 1})),
        with(json!(null), json!({"a": 1})),
        with(json!(state), json!({"a": 2})),
        json!({"name": "introduce", "inputResponses": null}),
        json!({"name": "introduce", "inputResponses": {"first": 12345}}),
    ] {
        let refused = modern_round(&mut client, "tools/call", refused).await;
        assert_eq!(refused["error"]["code"], -32602, "{refused}");
    }
    let went_on = modern_round(&mut client, "tools/call", with(json!(state), json!({"a": 1}))).await;
    assert_eq!(went_on["result"]["resultType"], "input_required");
}

#[tokio::test]
async fn a_client_that_lacks_a_capability_is_told_which() {
    let (server, _) = start().await;
    let mut client = server.client().await;
    for (tool, missing) in [("needs", json!({"sampling": {}})), ("introduce", json!({"elicitation": {"form": {}}}))] {
        let refused = client.modern("tools/call", json!({"name": tool})).await;
        assert_eq!((refused.status, refused.error_code()), (400, -32021));
        assert_eq!(refused.json()["error"]["data"]["requiredCapabilities"], missing);
        let session = session(&mut client, "2025-11-25", json!({})).await;
        let refused = client.legacy(&session, "tools/call", json!({"name": tool})).await;
        assert_eq!((refused.status, refused.error_code()), (200, -32600));
        assert_eq!(refused.json()["error"]["data"]["requiredCapabilities"], missing);
    }
    let session = session(&mut client, "2025-03-26", able()).await;
    let refused = client.legacy(&session, "tools/call", json!({"name": "introduce"})).await;
    assert_eq!(refused.error_code(), -32600, "that version has no elicitation, whatever its client declares");
}

#[tokio::test]
async fn progress_comes_before_the_result_for_who_asked_for_it() {
    let (server, _) = start().await;
    let mut client = server.client().await;
    let quiet = client.modern("tools/call", json!({"name": "steps"})).await;
    assert_eq!(quiet.header("content-type"), Some("application/json"));
    let mut with_token = meta();
    with_token["progressToken"] = json!("p");
    let (headers, body) = modern("tools/call", json!({"name": "steps", "_meta": with_token}));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let newest = Events::of(&server, &post(&headers, &body)).await.all().await;
    let session = session(&mut client, "2025-11-25", json!({})).await;
    let params = json!({"name": "steps", "_meta": {"progressToken": "p"}});
    let older = Events::of_legacy(&server, &session, &json!(1), "tools/call", params).await.all().await;
    for heard in [newest, older] {
        let steps: Vec<_> = heard[..3].iter().map(|step| step["params"].clone()).collect();
        let step = |progress: u8| json!({"progressToken": "p", "progress": progress, "total": 100, "message": "at it"});
        assert_eq!(steps, [step(0), step(50), step(100)]);
        assert_eq!((heard.len(), text(&heard[3])), (4, "done"));
    }
    let mut json_only = headers.clone();
    json_only.push(("accept", "application/json"));
    let dropped = client.post(&json_only, &body).await;
    assert_eq!(text(&dropped.json()), "done", "who takes no event stream gets the result");
}

#[tokio::test]
async fn log_messages_are_heard_by_who_asked_for_their_level() {
    let (server, _) = start().await;
    let mut client = server.client().await;
    assert_eq!(client.modern("server/discover", json!({})).await.json()["result"]["capabilities"]["logging"], json!({}));
    let quiet = client.modern("tools/call", json!({"name": "chatty"})).await;
    assert_eq!(quiet.header("content-type"), Some("application/json"));
    let levels =
        |heard: &[Value]| heard.iter().map(|log| log["params"]["level"].as_str().unwrap_or("-").to_owned()).collect::<Vec<_>>();
    for (level, expected) in [("debug", vec!["debug", "info", "error", "-"]), ("warning", vec!["error", "-"])] {
        let mut with_level = meta();
        with_level["io.modelcontextprotocol/logLevel"] = json!(level);
        let (headers, body) = modern("tools/call", json!({"name": "chatty", "_meta": with_level}));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let heard = Events::of(&server, &post(&headers, &body)).await.all().await;
        assert_eq!(levels(&heard), expected);
        assert_eq!((&heard[0]["method"], &heard[0]["params"]["logger"]), (&json!("notifications/message"), &json!("chatty")));

        let session = session(&mut client, "2025-11-25", json!({})).await;
        let quiet = client.legacy(&session, "tools/call", json!({"name": "chatty"})).await;
        assert_eq!(quiet.header("content-type"), Some("application/json"), "nobody set a level yet");
        client.legacy(&session, "logging/setLevel", json!({"level": level})).await;
        let heard = Events::of_legacy(&server, &session, &json!(1), "tools/call", json!({"name": "chatty"})).await.all().await;
        assert_eq!(levels(&heard), expected);
    }
}

#[tokio::test]
async fn a_reader_that_takes_nothing_makes_nothing_grow() {
    let (server, _) = start().await;
    let mut noisy = meta();
    noisy["progressToken"] = json!(1);
    noisy["io.modelcontextprotocol/logLevel"] = json!("debug");
    let (headers, body) = modern("tools/call", json!({"name": "flood", "_meta": noisy}));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let heard = Events::of(&server, &post(&headers, &body)).await.all().await;
    assert_eq!(text(heard.last().unwrap()), "done");
    let steps: Vec<_> = heard.iter().filter_map(|step| step["params"]["progress"].as_u64()).collect();
    assert!(steps.is_sorted() && steps.len() < FLOOD as usize, "{} of them", steps.len());
    assert_eq!(steps.last(), Some(&u64::from(FLOOD - 1)), "the newest is heard");
    server.until("counted", |shard| shard.load.unsaid_total() > 0).await;
    let metrics = server.admin("/metrics").await.body;
    assert!(metrics.contains("mcp_notifications_dropped_total"), "{metrics}");
}

#[tokio::test]
async fn a_legacy_request_is_cancelled_by_its_own_session_and_ends_without_an_answer() {
    let (server, watch) = start().await;
    let mut client = server.client().await;
    let mine = session(&mut client, "2025-11-25", able()).await;
    let other = session(&mut client, "2025-11-25", able()).await;
    let mut events = Events::of_legacy(&server, &mine, &json!("q"), "tools/call", json!({"name": "introduce"})).await;
    let asked = events.next().await.unwrap();
    let cancel =
        |id: Value| json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}).to_string();
    for (session, id) in [(&other, json!("q")), (&mine, json!("r")), (&mine, json!(7)), (&mine, json!({}))] {
        assert_eq!(client.post(&[("mcp-session-id", session)], &cancel(id)).await.status, 202);
        assert_eq!(watch.waiting.load(Ordering::SeqCst), 1);
    }
    assert_eq!(client.post(&[("mcp-session-id", &mine)], &cancel(json!("q"))).await.status, 202);
    watch.until_waiting(0).await;
    let taken_back = events.next().await.unwrap();
    assert_eq!(taken_back["method"], "notifications/cancelled");
    assert_eq!(taken_back["params"]["requestId"], asked["id"]);
    assert_eq!(events.next().await, None, "and no answer");
    assert_eq!(respond(&mut client, &mine, &asked["id"], accept("Ada")).await, 400);
    assert_eq!((server.shard.asks.waiting(), server.shard.calls.running()), (0, 0));
}

#[tokio::test]
async fn a_request_cancelled_before_its_head_ends_as_an_empty_stream() {
    let (server, watch) = start().await;
    let mut client = server.client().await;
    let session = session(&mut client, "2025-11-25", json!({})).await;
    let body = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "waits"}}).to_string();
    let mut caller = server.client().await;
    caller.socket.write_all(post(&[("mcp-session-id", &session)], &body).as_bytes()).await.unwrap();
    watch.until_waiting(1).await;
    let again = client.post(&[("mcp-session-id", &session)], &body).await;
    assert_eq!((again.status, again.error_code(), &again.json()["id"]), (400, -32600, &json!(5)), "its id is taken");
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5,"reason":"enough"}}"#;
    assert_eq!(client.post(&[("mcp-session-id", &session)], cancel).await.status, 202);
    let ended = caller.response().await;
    assert_eq!((ended.status, ended.body.as_str(), ended.header("content-type")), (200, "", Some("text/event-stream")));
    watch.until_waiting(0).await;
    watch.go.notify_one();
    assert_eq!(text(&client.post(&[("mcp-session-id", &session)], &body).await.json()), "done", "its id is free again");
}

#[tokio::test]
async fn a_response_that_answers_nothing_is_refused() {
    let (server, _) = start().await;
    let mut client = server.client().await;
    let mine = session(&mut client, "2025-11-25", able()).await;
    let other = session(&mut client, "2025-11-25", able()).await;
    let mut events = Events::of_legacy(&server, &mine, &json!(1), "tools/call", json!({"name": "introduce"})).await;
    let id = events.next().await.unwrap()["id"].as_str().unwrap().to_owned();
    let forged = format!("{}0", &id[..id.len() - 1]);
    let forged = if forged == id { format!("{}1", &id[..id.len() - 1]) } else { forged };
    for (session, id) in [(&mine, json!("x")), (&mine, json!(1)), (&mine, json!(forged)), (&other, json!(id))] {
        let body = json!({"jsonrpc": "2.0", "id": id, "result": accept("Eve")}).to_string();
        let refused = client.post(&[("mcp-session-id", session)], &body).await;
        assert_eq!((refused.status, refused.error_code()), (400, -32600), "{id}");
    }
    assert_eq!(respond(&mut client, &mine, &json!(id), accept("Ada")).await, 202);
    assert_eq!(events.next().await.unwrap()["params"]["message"], "And who?");
}

#[tokio::test]
async fn a_client_that_rejects_a_question_ends_the_request_with_its_reason() {
    let (server, _) = start().await;
    let mut client = server.client().await;
    let session = session(&mut client, "2025-11-25", able()).await;
    let mut events = Events::of_legacy(&server, &session, &json!(1), "tools/call", json!({"name": "introduce"})).await;
    let id = events.next().await.unwrap()["id"].clone();
    let body = json!({"jsonrpc": "2.0", "id": id, "error": {"code": -1, "message": "User rejected it"}}).to_string();
    assert_eq!(client.post(&[("mcp-session-id", &session)], &body).await.status, 202);
    let failed = events.next().await.unwrap();
    assert!(failed["error"]["message"].as_str().unwrap().contains("User rejected it"), "{failed}");
}

#[tokio::test]
async fn who_takes_no_event_stream_cannot_be_asked_in_a_session() {
    let (server, _) = start().await;
    let mut client = server.client().await;
    let session = session(&mut client, "2025-11-25", able()).await;
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "introduce"}}).to_string();
    let refused = client.post(&[("mcp-session-id", &session), ("accept", "application/json")], &body).await;
    let told = refused.json();
    assert!(told["error"]["message"].as_str().unwrap().contains("event stream"), "{told}");
}

#[tokio::test]
async fn the_deadline_ends_a_question_and_takes_it_back() {
    let mut short = config();
    short.limits.request_timeout_ms = 300;
    let server = Running::with_code(&short, program(&Arc::default())).await;
    let mut client = server.client().await;
    let session = session(&mut client, "2025-11-25", able()).await;
    let heard = Events::of_legacy(&server, &session, &json!(1), "tools/call", json!({"name": "introduce"})).await.all().await;
    let methods: Vec<_> = heard.iter().map(|message| message["method"].as_str().unwrap_or("-")).collect();
    assert_eq!(methods, ["elicitation/create", "notifications/cancelled", "-"]);
    assert_eq!(heard[2]["error"]["code"], -32603);
    assert_eq!(server.shard.asks.waiting(), 0);
}

#[tokio::test]
async fn the_end_of_its_session_ends_a_question() {
    let (server, _) = start().await;
    let mut client = server.client().await;
    let session = session(&mut client, "2025-11-25", able()).await;
    let mut events = Events::of_legacy(&server, &session, &json!(1), "tools/call", json!({"name": "introduce"})).await;
    assert_eq!(events.next().await.unwrap()["method"], "elicitation/create");
    let delete = format!("DELETE /mcp HTTP/1.1\r\nhost: localhost\r\nmcp-session-id: {session}\r\n\r\n");
    assert_eq!(client.exchange(delete.as_bytes()).await.status, 204);
    let failed = events.next().await.unwrap();
    assert!(failed["error"]["message"].as_str().unwrap().contains("session was ended"), "{failed}");
    assert_eq!(server.shard.asks.waiting(), 0);
}

#[tokio::test]
async fn a_legacy_question_outlives_its_connection_and_its_answer_is_taken() {
    let (server, watch) = start().await;
    let mut client = server.client().await;
    let session = session(&mut client, "2025-11-25", able()).await;
    let mut events = Events::of_legacy(&server, &session, &json!(1), "tools/call", json!({"name": "introduce"})).await;
    let id = events.next().await.unwrap()["id"].clone();
    drop(events);
    server.until("orphaned", |shard| shard.load.orphans() == 1).await;
    assert_eq!(respond(&mut client, &session, &id, accept("Ada")).await, 202);
    // Its second question waits for a client that comes back; when none can any more, it ends.
    server.until("asked again", |shard| shard.asks.waiting() == 1).await;
    let delete = format!("DELETE /mcp HTTP/1.1\r\nhost: localhost\r\nmcp-session-id: {session}\r\n\r\n");
    client.exchange(delete.as_bytes()).await;
    watch.until_waiting(0).await;
    server.until("done", |shard| shard.load.orphans() == 0 && shard.load.unfinished() == 0).await;
}

#[tokio::test]
async fn a_modern_call_ends_with_its_connection_whatever_its_reply_was_to_be() {
    // Longer than the test waits: it is not the deadline that ends them.
    let mut patient = config();
    patient.limits.request_timeout_ms = 120_000;
    let watch = Arc::new(Watch::default());
    let server = Running::with_code(&patient, program(&watch)).await;
    let (headers, body) = modern("tools/call", json!({"name": "waits"}));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let json_only = [headers.clone(), vec![("accept", "application/json")]].concat();
    let (list, listing) = modern("tools/list", json!({}));
    let list: Vec<_> = list.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let pipelined = post(&headers, &body) + &post(&list, &listing);
    let with_session = [headers.clone(), vec![("mcp-session-id", "x")]].concat();
    for sent in [post(&headers, &body), post(&json_only, &body), post(&with_session, &body), pipelined] {
        let mut client = server.client().await;
        client.socket.write_all(sent.as_bytes()).await.unwrap();
        watch.until_waiting(1).await;
        drop(client);
        timeout(PATIENCE, watch.until_waiting(0)).await.unwrap();
        server.until("idle", |shard| shard.load.in_flight() == 0 && shard.load.orphans() == 0).await;
    }
}

#[tokio::test]
async fn requests_of_a_batch_speak_on_its_one_stream() {
    let (server, _) = start().await;
    let mut client = server.client().await;
    let session = session(&mut client, "2025-03-26", able()).await;
    let steps = |id: u8| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "steps", "_meta": {"progressToken": id}}});
    let ask = json!({"jsonrpc": "2.0", "id": 3, "method": "resources/read", "params": {"uri": "test://roots"}});
    let batch = json!([steps(1), ask, steps(2)]).to_string();
    let mut events = Events::of(&server, &post(&[("mcp-session-id", &session)], &batch)).await;
    for _ in 0..3 {
        assert_eq!(events.next().await.unwrap()["params"]["progressToken"], 1);
    }
    let asked = events.next().await.unwrap();
    assert_eq!(asked["method"], "roots/list");
    let roots = json!([{"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": [{"uri": "file:///a"}]}}]).to_string();
    assert_eq!(client.post(&[("mcp-session-id", &session)], &roots).await.status, 202);
    for _ in 0..3 {
        assert_eq!(events.next().await.unwrap()["params"]["progressToken"], 2);
    }
    let answers = events.next().await.unwrap();
    assert_eq!((answers.as_array().unwrap().len(), &answers[1]["result"]["contents"][0]["text"]), (3, &json!("file:///a")));
    assert_eq!(events.next().await, None);
}
