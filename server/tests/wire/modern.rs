//! 2026-07-28: metadata in the body, mirrored in headers.

use serde_json::{Value, json};

use crate::ask::{Ask, ID, request};
use crate::harness::{MODERN, meta};
use crate::row::{Row, row};
use crate::world::World;

fn list() -> Ask {
    Ask::modern("tools/list", json!({}))
}

fn greet() -> Ask {
    Ask::modern("tools/call", json!({"name": "greet"}))
}

fn mirror(arguments: &Value) -> Ask {
    Ask::modern("tools/call", json!({"name": "mirror", "arguments": arguments}))
}

/// A list request whose metadata is changed; the header stays.
fn with_meta(change: fn(&mut Value)) -> Ask {
    let mut meta = meta();
    change(&mut meta);
    list().body_of(request("tools/list", &json!({"_meta": meta})))
}

pub fn rows(world: &World) -> Vec<Row> {
    let mut rows = versions();
    rows.extend(headers());
    rows.extend(parameters());
    rows.extend(messages(world));
    rows
}

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

fn versions() -> Vec<Row> {
    let named = |version: &str| {
        let mut meta = meta();
        meta[VERSION] = json!(version);
        list().body_of(request("tools/list", &json!({"_meta": meta})))
    };
    vec![
        row("modern-version-header-missing", [list().without("mcp-protocol-version")]),
        row(
            "modern-version-differs",
            [
                list().with("mcp-protocol-version", "2025-11-25"),
                list().with("mcp-protocol-version", "1900-01-01"),
                list().with("mcp-protocol-version", ""),
                named("2025-11-25"),
                named("1900-01-01"),
            ],
        ),
        row(
            "modern-version-unsupported",
            [
                named("1900-01-01").with("mcp-protocol-version", "1900-01-01"),
                named("1900-01-01").without("mcp-protocol-version"),
                named("2025-11-25").with("mcp-protocol-version", "2025-11-25"),
            ],
        )
        .and(|_, answered| {
            let data = answered.json()["error"]["data"].clone();
            assert!(data["supported"].as_array().unwrap().contains(&json!(MODERN)), "{data}");
            assert!(data["requested"].is_string(), "{data}");
        }),
        row(
            "modern-meta-missing",
            [
                list().body_of(request("tools/list", &json!({}))),
                list().body_of(request("tools/list", &json!({"_meta": {}}))),
                with_meta(|meta| drop(meta.as_object_mut().unwrap().remove(VERSION))),
                with_meta(|meta| drop(meta.as_object_mut().unwrap().remove(CAPABILITIES))),
                with_meta(|meta| meta[VERSION] = json!(20_260_728)),
                with_meta(|meta| meta[CAPABILITIES] = json!([])),
                with_meta(|meta| meta[CAPABILITIES] = json!({"roots": 1})),
            ],
        ),
        row(
            "modern-log-level-malformed",
            [
                with_meta(|meta| meta["io.modelcontextprotocol/logLevel"] = json!("loud")),
                with_meta(|meta| meta["io.modelcontextprotocol/logLevel"] = json!(1)),
            ],
        ),
    ]
}

fn headers() -> Vec<Row> {
    let sent = |name: &str| greet().with("mcp-name", name);
    vec![
        row(
            "modern-header-twice",
            [
                list().and("mcp-protocol-version", MODERN),
                list().and("mcp-protocol-version", "2025-11-25"),
                list().and("mcp-method", "tools/list"),
                list().and("Mcp-Method", "tools/call"),
                greet().and("mcp-name", "greet"),
                greet().and("mcp-name", "other"),
            ],
        ),
        row(
            "modern-method-header",
            [
                list().without("mcp-method"),
                list().with("mcp-method", "tools/call"),
                list().with("mcp-method", "Tools/List"),
                list().with("mcp-method", "=?base64?dG9vbHMvbGlzdA==?="),
                list().with("mcp-method", ""),
                greet().without("mcp-method"),
            ],
        ),
        row(
            "modern-name-header",
            [
                greet().without("mcp-name"),
                sent("other"),
                sent("Greet"),
                sent(""),
                sent("gre et"),
                Ask::modern("resources/read", json!({"uri": "test://note"})).with("mcp-name", "test://other"),
                Ask::modern("prompts/get", json!({"name": "ask", "arguments": {"topic": "x"}})).without("mcp-name"),
                Ask::modern("tools/call", json!({})).with("mcp-name", "greet"),
                Ask::modern("tools/call", json!({"name": 1})).with("mcp-name", "1"),
            ],
        ),
        row(
            "modern-name-encoded",
            [
                sent("greet"),
                sent("  greet\t "),
                sent("=?base64?Z3JlZXQ=?="),
                greet().without("mcp-name").and("MCP-NAME", "greet"),
            ],
        ),
        row(
            "modern-name-encoding-malformed",
            [
                sent("=?base64?Z3JlZXQ?="),
                sent("=?base64?Z3Jl*XQ=?="),
                sent("=?base64?/w==?="),
                sent("=?BASE64?Z3JlZXQ=?="),
                sent("=?Base64?Z3JlZXQ=?="),
                sent("=?base64?Z3JlZXQ="),
                greet().with("mcp-name", b"gr\xe9et".to_vec()),
                greet().with("mcp-method", b"tools/c\xc3\xa4ll".to_vec()),
            ],
        ),
    ]
}

fn parameters() -> Vec<Row> {
    let eu = || mirror(&json!({"region": "eu"}));
    let sized = |size: Value, sent: &str| mirror(&json!({"page": {"size": size}})).with("mcp-param-size", sent);
    vec![
        row(
            "modern-param",
            [
                eu().with("mcp-param-region", "eu"),
                eu().with("MCP-PARAM-REGION", "=?base64?ZXU=?="),
                mirror(&json!({"region": "Hello, 世界"})).with("mcp-param-region", "=?base64?SGVsbG8sIOS4lueVjA==?="),
                mirror(&json!({"region": " x "})).with("mcp-param-region", "=?base64?IHgg?="),
                mirror(&json!({"region": "=?base64?literal?="})).with("mcp-param-region", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
                sized(json!(42), "42"),
                sized(json!(42), "42.0"),
                sized(json!(-7), "-7"),
                sized(json!(9_007_199_254_740_993_u64), "9007199254740993"),
                mirror(&json!({"dry": true})).with("mcp-param-dry", "true"),
                mirror(&json!({"page": {}})),
                mirror(&json!({})).with("mcp-param-other", "x"),
            ],
        ),
        row("modern-param-null", [mirror(&json!({"region": null})), mirror(&json!({"page": {"size": null}}))]),
        row(
            "modern-param-differs",
            [
                eu(),
                eu().with("mcp-param-region", "us"),
                eu().with("mcp-param-region", "EU"),
                eu().with("mcp-param-region", "eu").and("mcp-param-region", "eu"),
                eu().with("mcp-param-region", "=?base64?ZXU?="),
                eu().with("mcp-param-region", b"\xe9u".to_vec()),
                mirror(&json!({})).with("mcp-param-region", "eu"),
                mirror(&json!({"region": null})).with("mcp-param-region", "eu"),
                sized(json!(42), "43"),
                sized(json!(42), "042"),
                sized(json!(42), "forty-two"),
                sized(json!(9_007_199_254_740_993_u64), "9007199254740992"),
                sized(json!(1), "inf"),
                mirror(&json!({"dry": true})).with("mcp-param-dry", "True"),
                mirror(&json!({"dry": true})).with("mcp-param-dry", "1"),
            ],
        ),
    ]
}

fn messages(world: &World) -> Vec<Row> {
    let notified = |method: &str| Ask::modern_body(json!({"jsonrpc": "2.0", "method": method}).to_string());
    let listen = |params: Value| Ask::modern("subscriptions/listen", params);
    let response = json!({"jsonrpc": "2.0", "id": ID, "result": {}}).to_string();
    let failure = json!({"jsonrpc": "2.0", "id": ID, "error": {"code": 1, "message": "x"}}).to_string();
    let batch = format!("[{}]", String::from_utf8_lossy(list().body()));
    vec![
        row(
            "modern-method-unknown",
            [Ask::modern("tools/nope", json!({})), Ask::modern("", json!({})), Ask::modern("Tools/List", json!({}))],
        ),
        row(
            "modern-method-removed",
            ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"]
                .map(|method| Ask::modern(method, json!({"uri": "test://note"}))),
        ),
        row("modern-response", [Ask::modern_body(response), Ask::modern_body(failure)]),
        row(
            "modern-notification",
            [
                notified("notifications/cancelled"),
                notified("notifications/nope"),
                notified("notifications/initialized").with("mcp-method", "other"),
            ],
        ),
        row("modern-batch", [Ask::modern_body(batch.clone()), list().body_of(batch)]),
        row(
            "modern-get",
            ["GET", "DELETE"].into_iter().flat_map(|method| {
                let bare = Ask::bare(method).with("accept", "text/event-stream").with("mcp-protocol-version", MODERN);
                [bare.clone(), bare.with("mcp-session-id", world.latest())]
            }),
        )
        .and(|_, answered| assert_eq!(answered.header("allow"), Some("POST"))),
        row(
            "modern-session-ignored",
            [
                list().with("mcp-session-id", world.latest()),
                list().with("mcp-session-id", "made-up"),
                list().with("mcp-session-id", "a").and("mcp-session-id", "b"),
                list().with("last-event-id", "made-up"),
            ],
        )
        .and(|_, answered| assert_eq!(answered.header("mcp-session-id"), None)),
        row("listen-json-only", [listen(json!({"notifications": {}})).with("accept", "application/json")]),
        row(
            "listen-malformed",
            [
                listen(json!({})),
                listen(json!({"notifications": []})),
                listen(json!({"notifications": {"toolsListChanged": "yes"}})),
                listen(json!({"notifications": {"resourceSubscriptions": "test://note"}})),
            ],
        ),
    ]
}
