use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::backend::{Answered, Asking};
use crate::dispatch::Caller;
use crate::exchange::Exchange;

fn compiled(parts: &Value) -> CompiledCatalog {
    let mut catalog = json!({
        "serverInfo": {"name": "hello", "version": "1"},
        "instructions": "Be kind.",
        "ttlMs": 60_000,
        "cacheScope": "private",
        "backends": [],
        "tools": [],
        "resources": [],
        "prompts": [],
    });
    for (name, value) in parts.as_object().unwrap() {
        catalog[name] = value.clone();
    }
    serde_json::from_value(catalog).unwrap()
}

fn build(parts: &Value) -> Result<Snapshot, BuildError> {
    Snapshot::build(&compiled(parts), "5f2c9d", Arc::new(Credentials::none()), &Clients::new([]).unwrap(), &Code::default())
}

fn greet() -> Value {
    json!({
        "definition": {
            "name": "greet",
            "inputSchema": {"type": "object", "properties": {"name": {"type": "string"}, "times": {"type": "integer"}}, "required": ["name"]},
        },
        "answer": {"template": {"content": [{"text": "Hello, {name}!"}]}},
    })
}

fn tool(name: &str, schema: &Value, answer: &Value) -> Value {
    json!({"definition": {"name": name, "inputSchema": {"type": "object"}, "outputSchema": schema}, "answer": answer})
}

fn nobody() -> (Caller, Exchange) {
    let caller = Caller::test();
    let exchange = Exchange::silent(caller.version, caller.capabilities);
    (caller, exchange)
}

async fn call(snapshot: &Snapshot, name: &str, arguments: Value) -> Value {
    let deadline = Instant::now() + Duration::from_secs(5);
    let arguments = arguments.as_object().cloned().unwrap();
    let (caller, exchange) = nobody();
    match snapshot.tool(name).unwrap().call(arguments, Asking { deadline, caller: &caller, exchange: &exchange }).await.unwrap() {
        Answered::Result(result) => json!(result),
        Answered::Task(task) => panic!("{task:?}"),
    }
}

fn items(page: &Page<'_>) -> Value {
    assert_eq!(page.next_cursor, None);
    serde_json::from_str(page.items.get()).unwrap()
}

#[tokio::test]
async fn a_template_tool_greets() {
    let snapshot = build(&json!({"tools": [greet()]})).unwrap();
    let result = call(&snapshot, "greet", json!({"name": "Ada"})).await;
    assert_eq!(result, json!({"content": [{"type": "text", "text": "Hello, Ada!"}]}));
    assert!(snapshot.tool("Greet").is_none(), "names are case-sensitive");
    assert_eq!(snapshot.server_info().name, "hello");
    assert_eq!((snapshot.hash(), snapshot.ttl_ms(), snapshot.instructions()), ("5f2c9d", 60_000, Some("Be kind.")));
}

#[test]
fn arguments_are_checked_and_each_violation_has_its_place() {
    let snapshot = build(&json!({"tools": [greet()]})).unwrap();
    let tool = snapshot.tool("greet").unwrap();
    assert_eq!(tool.check(&json!({"name": "Ada"})), Ok(()));
    let invalid = tool.check(&json!({"name": 7, "times": "x"})).unwrap_err();
    let paths: Vec<_> = invalid.violations.iter().map(|violation| violation.path.as_str()).collect();
    assert_eq!(paths, ["/name", "/times"]);
    assert!(invalid.to_string().starts_with("the arguments do not match the input schema: /name: 7 is not"), "{invalid}");
    assert!(tool.check(&json!({})).unwrap_err().to_string().contains("\"name\" is a required property"));
    assert!(tool.check(&json!([])).is_err());
}

#[test]
fn violations_are_bounded_in_number_and_length() {
    let properties: serde_json::Map<_, _> = (0..9).map(|n| (format!("p{n}"), json!({"type": "null"}))).collect();
    let mut tool = greet();
    tool["definition"]["inputSchema"] = json!({"type": "object", "properties": properties});
    let snapshot = build(&json!({"tools": [tool]})).unwrap();
    let arguments: serde_json::Map<_, _> = (0..9).map(|n| (format!("p{n}"), json!("x".repeat(10_000)))).collect();
    let invalid = snapshot.tool("greet").unwrap().check(&Value::Object(arguments)).unwrap_err();
    assert_eq!((invalid.violations.len(), invalid.more), (5, true));
    assert!(invalid.to_string().len() < 2000);
}

#[tokio::test]
async fn a_result_that_breaks_its_output_schema_is_withheld() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let template = json!({"template": {"structuredContent": {"n": "{n}"}}});
    let snapshot = build(&json!({"tools": [tool("count", &schema, &template)]})).unwrap();
    let good = call(&snapshot, "count", json!({"n": 1})).await;
    assert_eq!(good["structuredContent"], json!({"n": 1}));
    for arguments in [json!({"n": "hunter2"}), json!({})] {
        let bad = call(&snapshot, "count", arguments).await;
        assert_eq!(bad["isError"], true);
        assert!(bad.get("structuredContent").is_none());
        assert!(!bad.to_string().contains("hunter2"), "{bad}");
    }
}

#[test]
fn a_static_answer_that_breaks_its_schema_and_everything_else_wrong_is_told_at_once() {
    let fixed = json!({"static": {"structuredContent": {"n": "x"}}});
    let http = json!({"http": {"backend": "gone", "method": "GET", "url": "http://h/", "maxSize": 1, "timeoutMs": 1}});
    let metadata = json!({"http": {"method": "GET", "url": "http://169.254.169.254/{x}", "maxSize": 1, "timeoutMs": 1}});
    let decimal = json!({"http": {"method": "GET", "url": "http://2852039166/", "maxSize": 1, "timeoutMs": 1}});
    let error = build(&json!({
        "tools": [
            tool("a", &json!({"properties": {"n": {"type": "integer"}}}), &fixed),
            tool("b", &json!({"type": "no such type"}), &fixed),
            tool("c", &json!({}), &http),
            tool("d", &json!({}), &metadata),
            tool("e", &json!({}), &decimal),
        ],
        "resources": [{"definition": {"uri": "a://b", "name": "b", "annotations": {"priority": "high"}}, "contents": {"text": ""}}],
        "prompts": [{"name": "p", "messages": [{"role": "user", "content": {"type": "image"}}]}],
    }))
    .unwrap_err();
    let expected = [
        "tool a: its static answer",
        "tool b: outputSchema",
        "tool c: there is no backend gone",
        "tool d: 169.254.169.254 is a link-local",
        "tool e: 169.254.169.254",
        "prompt p: a block of type image without `data`",
        "resource a://b: annotations.priority",
    ];
    for problem in expected {
        assert!(error.problems.iter().any(|found| found.contains(problem)), "{problem}: {:#?}", error.problems);
    }
    assert_eq!(error.problems.len(), expected.len(), "{:#?}", error.problems);
}

#[test]
fn lists_show_definitions_and_not_what_answers() {
    let snapshot = build(&json!({
        "tools": [greet()],
        "resources": [{
            "definition": {"uri": "docs://a", "name": "a", "size": 2, "annotations": {"priority": "0.8"}},
            "contents": {"text": "hi"},
        }],
        "prompts": [{
            "name": "triage",
            "arguments": [{"name": "ticket", "required": true}],
            "messages": [{"role": "user", "content": {"text": "Triage {ticket}."}}],
        }],
    }))
    .unwrap();
    assert_eq!(items(&snapshot.tools_page(None).unwrap()), json!([greet()["definition"]]));
    let resource = json!({"uri": "docs://a", "name": "a", "size": 2, "annotations": {"priority": 0.8}});
    assert_eq!(items(&snapshot.resources_page(None).unwrap()), json!([resource]));
    let prompt = json!({"name": "triage", "arguments": [{"name": "ticket", "required": true}]});
    assert_eq!(items(&snapshot.prompts_page(None).unwrap()), json!([prompt]));
}

#[tokio::test]
async fn older_clients_are_not_shown_output_schemas_of_lists() {
    let list = tool("list", &json!({"type": "array"}), &json!({"static": {"structuredContent": [1]}}));
    let object = tool("object", &json!({"type": "object"}), &json!({"static": {"structuredContent": {}}}));
    let snapshot = build(&json!({"tools": [list, object]})).unwrap();
    let modern = items(&snapshot.tools_page(None).unwrap());
    assert_eq!(modern[0]["outputSchema"], json!({"type": "array"}));
    let legacy = items(&snapshot.legacy_tools_page(None).unwrap());
    assert_eq!((legacy[0].get("outputSchema"), &legacy[1]), (None, &modern[1]));
    let only_objects = build(&json!({"tools": [greet()]})).unwrap();
    assert_eq!(items(&only_objects.legacy_tools_page(None).unwrap()), items(&only_objects.tools_page(None).unwrap()));
}

#[tokio::test]
async fn static_resources_are_read() {
    let snapshot = build(&json!({"resources": [
        {"definition": {"uri": "docs://a", "name": "a", "mimeType": "text/markdown"}, "contents": {"text": "# A {x}"}},
        {"definition": {"uri": "docs://b", "name": "b"}, "contents": {"blob": "AAE="}},
    ]}))
    .unwrap();
    let (caller, exchange) = nobody();
    let asking = Asking { deadline: Instant::now(), caller: &caller, exchange: &exchange };
    let text = snapshot.resource("docs://a").unwrap().read(asking).await.unwrap();
    assert_eq!(json!(text), json!({"contents": [{"uri": "docs://a", "mimeType": "text/markdown", "text": "# A {x}"}]}));
    let blob = snapshot.resource("docs://b").unwrap().read(asking).await.unwrap();
    assert_eq!(json!(blob), json!({"contents": [{"uri": "docs://b", "blob": "AAE="}]}));
    assert!(snapshot.resource("docs://c").is_none());
}

#[tokio::test]
async fn prompts_want_their_required_arguments_as_strings() {
    let snapshot = build(&json!({"prompts": [{
        "name": "triage",
        "description": "Triage.",
        "arguments": [{"name": "ticket", "required": true}, {"name": "tone"}],
        "messages": [
            {"role": "user", "content": {"text": "Triage {ticket}{tone}."}},
            {"role": "assistant", "content": {"type": "resource_link", "uri": "tickets://{ticket}", "name": "it"}},
        ],
    }]}))
    .unwrap();
    let (caller, exchange) = nobody();
    let asking = Asking { deadline: Instant::now(), caller: &caller, exchange: &exchange };
    let get = |arguments: Value| snapshot.prompt("triage").unwrap().get(arguments.as_object().unwrap().clone(), asking);
    assert_eq!(
        json!(get(json!({"ticket": "T/1", "other": 7})).await.unwrap()),
        json!({"description": "Triage.", "messages": [
            {"role": "user", "content": {"type": "text", "text": "Triage T/1."}},
            {"role": "assistant", "content": {"type": "resource_link", "uri": "tickets://T%2F1", "name": "it"}},
        ]})
    );
    assert_eq!(get(json!({"tone": "x"})).await, Err(PromptError::Missing(vec!["ticket".to_owned()])));
    assert_eq!(get(json!({"ticket": 1})).await, Err(PromptError::NotAString("ticket".to_owned())));
}
