//! A program built on the library, as its clients see it: the same path, the same checks, the same limits as a catalog.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::{Client, Running, config, meta, modern, post, tool};
use mcp_crds::load::LoadReport;
use mcp_server::fault::Fault;
use mcp_server::library::{
    Answer, Arguments, Code, Context, Failure, Message, NoArguments, Program, Prompt, Read, Resource, ResourceTemplate, Tool,
};
use mcp_server::session::generated_ring;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize, JsonSchema)]
struct Add {
    a: i64,
    b: i64,
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
struct Sum {
    sum: i64,
}

/// One of everything, and what goes wrong.
fn program() -> Program {
    Program::new("test", "1")
        .tool(Tool::new("add", "Adds.").output::<Sum>(), async |_: Context, Add { a, b }| Ok(json!({"sum": a + b})))
        .tool(Tool::new("liar", "Breaks its promise.").output::<Sum>(), async |_: Context, NoArguments {}| {
            Ok(json!({"sum": "many"}))
        })
        .tool(Tool::new("panics", "Panics."), async |context: Context, NoArguments {}| -> Result<Answer, Failure> {
            panic!("the secret of {}", context.name())
        })
        .tool(Tool::new("refuses", "Refuses."), async |_: Context, _: Arguments| -> Result<Answer, Failure> { Err("not today")? })
        .tool(Tool::new("breaks", "Breaks off."), async |_: Context, _: Arguments| -> Result<Answer, Failure> {
            Err(Fault::InvalidParams("never".to_owned()).into())
        })
        .prompt(Prompt::new("haiku", "A haiku.").required("topic", "About what."), async |context: Context| {
            Ok([
                Message::user(format!("A haiku about {}.", context.text("topic").unwrap_or_default())),
                Message::assistant("Hm."),
            ])
        })
        .resource_template(
            ResourceTemplate::new("test://{box}/{id}", "thing").mime_type("text/plain"),
            async |context: Context| {
                Ok(format!("{} of {} at {}", context.text("id").unwrap(), context.text("box").unwrap(), context.name()))
            },
        )
        .resource(Resource::new("test://bytes", "bytes").mime_type("application/x-bytes"), async |context: Context| {
            assert_eq!(context.name(), "test://bytes");
            Ok(Read::bytes([0, 1]))
        })
}

fn code() -> Code {
    program().build().unwrap()
}

async fn start() -> (Running, Client) {
    let running = Running::with_code(&config(), code()).await;
    let client = running.client().await;
    (running, client)
}

fn names(answered: &Value, list: &str) -> Vec<String> {
    answered["result"][list].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_program_is_listed_and_called_beside_the_catalog_in_both_eras() {
    let (_running, mut client) = start().await;
    let listed = client.modern("tools/list", json!({})).await.json();
    assert_eq!(names(&listed, "tools"), ["add", "breaks", "greet", "liar", "panics", "refuses"], "one order for both");
    let add = &listed["result"]["tools"][0];
    assert_eq!(add["inputSchema"]["required"], json!(["a", "b"]));
    assert_eq!(add["outputSchema"]["properties"]["sum"]["type"], "integer");
    let (_, session) = client.initialize("2025-11-25").await;
    for (name, arguments, said) in
        [("add", json!({"a": 1, "b": 2}), "{\"sum\":3}"), ("greet", json!({"name": "Ada"}), "Hello, Ada!")]
    {
        let params = json!({"name": name, "arguments": arguments});
        let newest = client.modern("tools/call", params.clone()).await.json();
        let older = client.legacy(&session, "tools/call", params).await.json();
        for answered in [newest, older] {
            assert_eq!(answered["result"]["content"], json!([{"type": "text", "text": said}]), "{answered}");
        }
    }
}

#[tokio::test]
async fn prompts_and_resources_of_a_program_are_checked_and_answered_as_those_of_a_catalog() {
    let (_running, mut client) = start().await;
    assert_eq!(names(&client.modern("prompts/list", json!({})).await.json(), "prompts"), ["ask", "haiku"]);
    let got = client.modern("prompts/get", json!({"name": "haiku", "arguments": {"topic": "rust"}})).await.json();
    assert_eq!(got["result"]["description"], "A haiku.");
    assert_eq!(
        got["result"]["messages"],
        json!([
            {"role": "user", "content": {"type": "text", "text": "A haiku about rust."}},
            {"role": "assistant", "content": {"type": "text", "text": "Hm."}},
        ])
    );
    assert_eq!(client.modern("prompts/get", json!({"name": "haiku"})).await.error_code(), -32602);
    let read = client.modern("resources/read", json!({"uri": "test://a%20box/7"})).await.json();
    assert_eq!(
        read["result"]["contents"],
        json!([{"uri": "test://a%20box/7", "mimeType": "text/plain", "text": "7 of a box at test://a%20box/7"}])
    );
    let templates = client.modern("resources/templates/list", json!({})).await.json();
    assert_eq!(templates["result"]["resourceTemplates"][0]["uriTemplate"], "test://{box}/{id}");
    assert_eq!(names(&client.modern("resources/list", json!({})).await.json(), "resources"), ["bytes", "note"]);
    let read = client.modern("resources/read", json!({"uri": "test://bytes"})).await.json();
    assert_eq!(read["result"]["contents"], json!([{"uri": "test://bytes", "mimeType": "application/x-bytes", "blob": "AAE="}]));
}

#[tokio::test]
async fn arguments_and_results_of_a_program_meet_their_schemas_or_go_no_further() {
    let (_running, mut client) = start().await;
    let wrong = client.modern("tools/call", json!({"name": "add", "arguments": {"a": "1", "b": 2}})).await.json();
    assert_eq!(wrong["result"]["isError"], true, "{wrong}");
    assert!(wrong["result"]["content"][0]["text"].as_str().unwrap().contains("/a"), "{wrong}");
    let lie = client.modern("tools/call", json!({"name": "liar"})).await;
    assert!(lie.json()["result"]["isError"] == true && !lie.body.contains("many"), "{lie:?}");
}

#[tokio::test]
async fn a_panic_is_the_end_of_its_call_and_of_nothing_else() {
    let (running, mut client) = start().await;
    let panicked = client.modern("tools/call", json!({"name": "panics"})).await;
    assert_eq!(panicked.error_code(), -32603);
    assert!(!panicked.body.contains("secret"), "what a panic says stays here: {panicked:?}");
    let next = client.modern("tools/call", json!({"name": "add", "arguments": {"a": 1, "b": 1}})).await.json();
    assert_eq!(next["result"]["structuredContent"], json!({"sum": 2}), "on the same connection");
    assert_eq!(running.shard.load.in_flight(), 0);
    assert!(running.admin("/metrics").await.body.contains("mcp_handler_panics_total 1"));
}

#[tokio::test]
async fn a_handler_chooses_between_a_result_that_failed_and_an_error_of_the_protocol() {
    let (_running, mut client) = start().await;
    let told = client.modern("tools/call", json!({"name": "refuses"})).await.json();
    assert_eq!(told["result"]["content"], json!([{"type": "text", "text": "not today"}]));
    assert_eq!(told["result"]["isError"], true);
    assert_eq!(client.modern("tools/call", json!({"name": "breaks"})).await.error_code(), -32602);
}

#[tokio::test]
async fn a_name_in_both_is_refused_in_words_and_the_configuration_in_force_stays() {
    let mut both = config();
    both.catalog.tools.push(tool("add", "Mine."));
    both.catalog.tools.sort_by(|one, other| one.definition.name.cmp(&other.definition.name));
    let running = Running::bind(Some(&both), generated_ring(), Duration::from_millis(200), code()).await;
    // Until it has read its keys it takes no order.
    let patience = tokio::time::Instant::now() + harness::PATIENCE;
    let report = loop {
        assert!(tokio::time::Instant::now() < patience, "no error is reported");
        let answered = running.control("/load", &json!({})).await;
        match serde_json::from_str::<LoadReport>(&answered.body) {
            Ok(report) if !report.catalog_error.is_empty() => break report,
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert!(report.catalog_error.contains("tool add is in the catalog and in the program"), "{}", report.catalog_error);
    assert!(!running.shard.is_ready());
    harness::publish(running.folder.path(), &config());
    running.until("ready", mcp_server::shard::Shard::is_ready).await;
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_dropped_at_the_deadline() {
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&dropped);
    let program = Program::new("test", "1").tool(Tool::new("hangs", "Hangs."), move |_: Context, NoArguments {}| {
        let guard = Dropped(Arc::clone(&counted));
        async move {
            let _guard = guard;
            std::future::pending::<Result<&str, Failure>>().await
        }
    });
    let mut config = config();
    config.limits.request_timeout_ms = 50;
    let running = Running::with_code(&config, program.build().unwrap()).await;
    let answered = running.client().await.modern("tools/call", json!({"name": "hangs"})).await;
    assert!(answered.body.contains("50 ms"), "{answered:?}");
    running.until("dropped", |_| dropped.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test]
async fn events_a_program_raises_reach_the_streams_that_asked_for_them() {
    let program = program();
    let handle = program.handle();
    handle.tools_changed();
    let running = Running::with_code(&config(), program.build().unwrap()).await;
    let mut client = running.client().await;
    let mut params = json!({"notifications": {"promptsListChanged": true, "resourceSubscriptions": ["test://bytes"]}});
    params["_meta"] = meta();
    let (headers, body) = modern("subscriptions/listen", params);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    tokio::io::AsyncWriteExt::write_all(&mut client.socket, post(&headers, &body).as_bytes()).await.unwrap();
    client.until("acknowledged").await;
    handle.tools_changed();
    handle.resource_updated("test://other");
    handle.prompts_changed();
    handle.resource_updated("test://bytes");
    let heard = client.until("resources/updated").await;
    assert!(heard.contains("prompts/list_changed") && heard.contains("test://bytes"), "{heard}");
    assert!(!heard.contains("tools/list_changed") && !heard.contains("test://other"), "{heard}");
}

#[test]
fn everything_that_is_wrong_with_a_program_is_told_at_once() {
    let nothing = async |_: Context, NoArguments {}| Ok("");
    let invalid = Program::new("test", "1")
        .tool(Tool::new("a", ""), nothing)
        .tool(Tool::new("a", ""), nothing)
        .tool(Tool::new("no spaces", ""), nothing)
        .tool(Tool::new("b", "").input_schema(json!({"type": 7})), nothing)
        .resource(Resource::new("relative", "r"), async |_: Context| Ok(""))
        .build()
        .unwrap_err();
    for (problem, words) in invalid.0.iter().zip(["no spaces", "b: inputSchema", "a is there twice", "relative"]) {
        assert!(problem.contains(words) || invalid.0.iter().any(|problem| problem.contains(words)), "{words}: {invalid:?}");
    }
    assert_eq!(invalid.0.len(), 4, "{invalid:?}");
}

#[tokio::test]
async fn a_list_begun_with_one_program_is_ended_with_another() {
    let of = |tools: std::ops::Range<usize>| {
        let mut many = Program::new("test", "1");
        for n in tools {
            many = many.tool(Tool::new(format!("t{n:03}"), "One of many."), async |_: Context, NoArguments {}| Ok(""));
        }
        many.build().unwrap()
    };
    let running = Running::with_code(&config(), of(0..300)).await;
    let other = Running::with_code(&config(), of(200..400)).await;
    let first = running.client().await.modern("tools/list", json!({})).await.json();
    let cursor = first["result"]["nextCursor"].as_str().unwrap().to_owned();
    // One tool of the catalog comes before them.
    for (shard, rest) in [(&running, 249..300), (&other, 249..400)] {
        let page = shard.client().await.modern("tools/list", json!({"cursor": cursor})).await.json();
        let tools = page["result"]["tools"].as_array().unwrap();
        let is_coded = |name: &&Value| name.as_str().is_some_and(|name| name.len() == 4 && name.starts_with('t'));
        let there: Vec<_> = tools.iter().map(|tool| &tool["name"]).filter(is_coded).cloned().collect();
        assert_eq!(there, rest.map(|n| json!(format!("t{n:03}"))).collect::<Vec<_>>());
    }
}
