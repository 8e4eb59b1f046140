//! Rows of who calls, and of how much one may: callers that an authenticator tells apart, and rates.

use mcp_server::auth::{Authenticator, Callers, Principal, Quota, Unauthenticated};
use mcp_server::library::{Code, Context, NoArguments, Program, Tool};
use mcp_server::limits::Limits;
use mcp_server::rate::{CALLS_PER_SECOND, Payer};
use mcp_server::shard::epoch_seconds;
use serde_json::{Value, json};

use crate::ask::Ask;
use crate::harness::{Answered, Running, arrives, config, slow};
use crate::leaks::answers;
use crate::row::{compare, is_kept};
use crate::table;
use crate::wire::Wire;

pub const NAMES: &[&str] = &[
    "caller-unknown",
    "caller-session",
    "caller-session-other",
    "caller-state",
    "caller-task",
    "caller-in-flight",
    "caller-streams",
    "rate-session",
    "rate-connection",
    "rate-caller",
    "rate-calls",
];

/// Ada and Bob; each may have one stream, one request at a time, and so many a second.
#[derive(Debug)]
struct Two {
    callers: Callers,
    rate: u32,
}

impl Authenticator for Two {
    fn authenticate(&self, headers: &::http::HeaderMap) -> Result<Principal, Unauthenticated> {
        self.callers.authenticate(headers)
    }

    fn quota(&self, _: &Principal, _: &Limits) -> Quota {
        Quota { streams: 1, in_flight: 1, requests_per_second: self.rate }
    }
}

fn program(rate: u32) -> Code {
    let form = || json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
    Program::new("test", "1")
        .authenticator(Two { callers: Callers::new([("red", "ada"), ("blue", "bob")]), rate })
        .tool(Tool::new("asks", "Asks."), move |call: Context, NoArguments {}| async move {
            let asked = call.elicit("name", "Who?", form()).await?;
            Ok(format!("Hello, {}!", asked.accepted().and_then(|form| form["name"].as_str()).unwrap_or("?")))
        })
        .tool(Tool::new("later", "Is a task.").as_task(), async |_: Context, NoArguments {}| Ok("Done."))
        .tool(Tool::new("whoami", "Says who calls."), async |call: Context, NoArguments {}| Ok(call.principal().name.clone()))
        .build()
        .unwrap()
}

async fn server() -> Running {
    Running::with_code(&config(), program(10_000)).await
}

fn by(ask: Ask, token: &str) -> Ask {
    ask.with("authorization", format!("Bearer {token}"))
}

async fn ask(server: &Running, ask: Ask) -> Answered {
    Wire::connect(server.addresses.data).await.ask(&ask.bytes()).await
}

/// Asks on a connection of its own, compares the answer, and sees what becomes of the connection.
async fn is_answered(name: &str, server: &Running, ask: Ask) -> Answered {
    let mut wire = Wire::connect(server.addresses.data).await;
    let answered = wire.ask(&ask.bytes()).await;
    compare(&table::of(name), &answered);
    let next = by(Ask::modern("server/discover", json!({})), "blue");
    assert_eq!(wire.ask(&next.bytes()).await.status, 200, "the connection is kept");
    answered
}

/// A session of Ada.
async fn session(server: &Running) -> String {
    let answered = ask(server, by(Ask::initialize("2025-11-25"), "red")).await;
    answered.header("mcp-session-id").unwrap_or_else(|| panic!("{answered:?}")).to_owned()
}

/// A modern call of a client that can be asked and follows tasks.
fn call(method: &str, mut params: Value) -> Ask {
    params["_meta"] = crate::harness::meta();
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
        json!({"elicitation": {}, "extensions": {"io.modelcontextprotocol/tasks": {}}});
    let task = params["taskId"].as_str().map(str::to_owned);
    let ask = Ask::modern(method, params);
    task.into_iter().fold(ask, |ask, task| ask.with("mcp-name", task))
}

#[tokio::test]
async fn caller_unknown() {
    let server = server().await;
    let session = session(&server).await;
    let delete = Ask::bare("DELETE").with("mcp-session-id", session.as_str());
    let asks = [Ask::modern("tools/list", json!({})), Ask::legacy(&session, "ping", &json!({})), Ask::get(&session), delete];
    for refused in asks.into_iter().chain([Ask::initialize("2025-11-25"), Ask::post("{")]) {
        for wrong in [refused.clone(), by(refused.clone(), "green"), refused.clone().with("authorization", "Basic red")] {
            let answered = is_answered("caller-unknown", &server, wrong).await;
            assert!(
                answered.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer ")),
                "{answered:?}"
            );
        }
    }
    // A preflight carries no credentials (Fetch §CORS preflight).
    let preflight = Ask::bare("OPTIONS").with("origin", crate::ask::ALLOWED).with("access-control-request-method", "POST");
    assert_eq!(ask(&server, preflight).await.status, 204);
    assert_eq!(ask(&server, by(Ask::legacy(&session, "ping", &json!({})), "red")).await.status, 200, "the session goes on");
}

#[tokio::test]
async fn caller_session() {
    let server = server().await;
    let session = session(&server).await;
    for method in ["ping", "tools/list"] {
        is_answered("caller-session", &server, by(Ask::legacy(&session, method, &json!({})), "blue")).await;
    }
    let mut again = by(Ask::initialize("2025-11-25"), "blue");
    again = again.with("mcp-session-id", session.as_str());
    is_answered("caller-session", &server, again).await;
    let who = by(Ask::legacy(&session, "tools/call", &json!({"name": "whoami"})), "red");
    assert_eq!(ask(&server, who).await.json()["result"]["content"][0]["text"], "ada");
}

#[tokio::test]
async fn caller_session_other() {
    let server = server().await;
    let session = session(&server).await;
    let notice = json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string();
    let response = json!({"jsonrpc": "2.0", "id": "x", "result": {}}).to_string();
    let posted = [notice, response].map(|body| Ask::in_session(&session, body));
    let delete = Ask::bare("DELETE").with("mcp-session-id", session.as_str());
    for refused in posted.into_iter().chain([Ask::get(&session), delete]) {
        is_answered("caller-session-other", &server, by(refused, "blue")).await;
    }
    assert_eq!(ask(&server, by(Ask::legacy(&session, "ping", &json!({})), "red")).await.status, 200, "nothing has ended it");
}

#[tokio::test]
async fn caller_state() {
    let server = server().await;
    let asked = ask(&server, by(call("tools/call", json!({"name": "asks"})), "red")).await.json();
    let state = asked["result"]["requestState"].as_str().unwrap().to_owned();
    let answered = json!({"name": "asks", "requestState": state,
        "inputResponses": {"name": {"action": "accept", "content": {"name": "Ada"}}}});
    is_answered("caller-state", &server, by(call("tools/call", answered.clone()), "blue")).await;
    let hers = ask(&server, by(call("tools/call", answered), "red")).await.json();
    assert_eq!(hers["result"]["content"][0]["text"], "Hello, Ada!", "{hers}");
}

#[tokio::test]
async fn caller_task() {
    let server = server().await;
    let created = ask(&server, by(call("tools/call", json!({"name": "later"})), "red")).await.json();
    let task = created["result"]["taskId"].as_str().unwrap().to_owned();
    let update = call("tasks/update", json!({"taskId": task, "inputResponses": {}}));
    for refused in [call("tasks/get", json!({"taskId": task})), update, call("tasks/cancel", json!({"taskId": task}))] {
        is_answered("caller-task", &server, by(refused, "blue")).await;
    }
    let hers = ask(&server, by(call("tasks/get", json!({"taskId": task})), "red")).await.json();
    assert_eq!(hers["result"]["taskId"], task, "{hers}");
}

#[tokio::test]
async fn caller_in_flight() {
    let (slow, upstream) = slow().await;
    let server = Running::with_code(&slow, program(10_000)).await;
    let greet = Ask::modern("tools/call", json!({"name": "greet"}));
    let mut busy = Wire::connect(server.addresses.data).await;
    busy.send(&by(greet.clone(), "red").bytes()).await;
    let mut upstream_call = arrives(&upstream).await;
    let refused = is_answered("caller-in-flight", &server, by(greet, "red")).await;
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    answers(&mut upstream_call).await;
    assert_eq!(busy.response(false).await.status, 200, "what was accepted completes");
    let metrics = server.admin("/metrics").await.body;
    assert!(metrics.contains("mcp_rejected_total{reason=\"principal_in_flight\"} 1"), "{metrics}");
    server.until("nothing taken", |shard| shard.quotas.principals() == 0).await;
}

#[tokio::test]
async fn caller_streams() {
    let server = server().await;
    let listen = Ask::modern("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    let session = session(&server).await;
    let mut held = Wire::connect(server.addresses.data).await;
    held.send(&by(listen.clone(), "red").bytes()).await;
    held.until("acknowledged").await;
    for refused in [listen.clone(), Ask::get(&session)] {
        let refused = is_answered("caller-streams", &server, by(refused, "red")).await;
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
    }
    let mut his = Wire::connect(server.addresses.data).await;
    his.send(&by(listen, "blue").bytes()).await;
    his.until("acknowledged").await;
    drop((held, his));
    server.until("nothing taken", |shard| shard.quotas.principals() == 0).await;
}

/// Takes so much out of a bucket that it is empty for a minute.
fn overdraw(server: &Running, payer: Payer<'_>, rate: u32) {
    server.shard.rates.take(payer, rate, rate * 60).unwrap();
}

/// Too many: told when to come back, and counted for what made them.
async fn is_limited(name: &str, server: &Running, ask: Ask, payer: &str) {
    let mut wire = Wire::connect(server.addresses.data).await;
    let answered = wire.ask(&ask.bytes()).await;
    compare(&table::of(name), &answered);
    let delay: u64 = answered.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=62).contains(&delay), "{answered:?}");
    let metrics = server.admin("/metrics").await.body;
    let series = format!("mcp_rate_limited_total{{payer=\"{payer}\"}}");
    assert!(metrics.lines().any(|line| line.starts_with(&series) && !line.ends_with(" 0")), "{metrics}");
}

#[tokio::test]
async fn rate_session() {
    let mut config = config();
    config.limits.requests_per_second = Some(3);
    let server = Running::start(&config).await;
    let session = server.client().await.initialize("2025-11-25").await.1;
    let (key, _) = server.shard.sessions.open(&session, epoch_seconds()).unwrap();
    overdraw(&server, Payer::Session(key), 3);
    for method in ["ping", "tools/list"] {
        is_limited("rate-session", &server, Ask::legacy(&session, method, &json!({})), "session").await;
    }
    let mut wire = Wire::connect(server.addresses.data).await;
    assert_eq!(wire.ask(&Ask::legacy(&session, "ping", &json!({})).bytes()).await.status, 429);
    is_kept(&mut wire).await;
}

#[tokio::test]
async fn rate_connection() {
    let mut config = config();
    config.limits.requests_per_second = Some(1);
    let server = Running::start(&config).await;
    let list = Ask::modern("tools/list", json!({})).bytes();
    let mut wire = Wire::connect(server.addresses.data).await;
    // Written at once: a second's worth is one.
    wire.send(&list.repeat(20)).await;
    let mut limited = 0;
    for _ in 0..20 {
        let answered = wire.response(false).await;
        if answered.status != 200 {
            compare(&table::of("rate-connection"), &answered);
            assert!(answered.header("retry-after").is_some(), "{answered:?}");
            limited += 1;
        }
    }
    assert!(limited > 0, "nothing bounds it");
    assert_eq!(ask(&server, Ask::modern("tools/list", json!({}))).await.status, 200, "another connection");
}

#[tokio::test]
async fn rate_caller() {
    let server = Running::with_code(&config(), program(5)).await;
    let session = session(&server).await;
    overdraw(&server, Payer::Principal("ada"), 5);
    for refused in [Ask::modern("tools/list", json!({})), Ask::legacy(&session, "ping", &json!({}))] {
        is_limited("rate-caller", &server, by(refused, "red"), "principal").await;
    }
    assert_eq!(ask(&server, by(Ask::modern("tools/list", json!({})), "blue")).await.status, 200, "another caller");
}

#[tokio::test]
async fn rate_calls() {
    let server = Running::start(&config()).await;
    let session = server.client().await.initialize("2025-11-25").await.1;
    let (key, _) = server.shard.sessions.open(&session, epoch_seconds()).unwrap();
    overdraw(&server, Payer::Session(key), CALLS_PER_SECOND);
    let reference = json!({"ref": {"type": "ref/prompt", "name": "ask"}, "argument": {"name": "topic", "value": ""}});
    for (method, params) in [("tools/call", json!({"name": "greet"})), ("completion/complete", reference)] {
        is_limited("rate-calls", &server, Ask::legacy(&session, method, &params), "session").await;
    }
    assert_eq!(ask(&server, Ask::legacy(&session, "tools/list", &json!({}))).await.status, 200, "only these are bound");
}

#[tokio::test]
async fn where_callers_are_told_apart_no_cache_may_give_one_s_answer_to_another() {
    let told_apart = server().await;
    let anyone = Running::start(&config()).await;
    for method in ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "server/discover"] {
        let asked = Ask::modern(method, json!({}));
        let scope = |answered: Answered| answered.json()["result"]["cacheScope"].clone();
        assert_eq!(scope(ask(&told_apart, by(asked.clone(), "red")).await), "private", "{method}");
        assert_eq!(scope(ask(&anyone, asked).await), "public", "{method}: as the catalog says");
    }
}
