//! 2025-11-25, 2025-06-18, 2025-03-26: sessions and batches.

use serde_json::{Value, json};

use crate::ask::{Ask, ID};
use crate::row::{Row, row};
use crate::world::{LEGACY, World};

pub fn rows(world: &World) -> Vec<Row> {
    let mut rows = handshake(world);
    rows.extend(sessions(world));
    rows.extend(messages(world));
    rows.extend(batches(world));
    rows
}

fn initialize_with(params: &Value) -> Ask {
    Ask::post(json!({"jsonrpc": "2.0", "id": ID, "method": "initialize", "params": params}).to_string())
}

fn handshake(world: &World) -> Vec<Row> {
    let client = json!({"name": "t", "version": "1"});
    let odd = ["2024-11-05", "2026-07-28", "1.0", ""].map(Ask::initialize);
    let beside = [
        Ask::initialize("2025-06-18").with("mcp-protocol-version", "2026-07-28").with("mcp-method", "tools/call"),
        Ask::initialize("2025-06-18").with("mcp-protocol-version", "2025-11-25"),
        Ask::initialize("2025-06-18").with("mcp-protocol-version", "1900-01-01"),
    ];
    vec![
        row("legacy-initialize", LEGACY.map(Ask::initialize).into_iter().chain(odd).chain(beside)).and(|sent, answered| {
            let asked = LEGACY.into_iter().find(|version| String::from_utf8_lossy(sent).contains(&format!("\":\"{version}\"")));
            assert_eq!(answered.json()["result"]["protocolVersion"], asked.unwrap_or("2025-11-25"));
            let session = answered.header("mcp-session-id").unwrap();
            assert!(session.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{session}");
        }),
        row(
            "legacy-initialize-malformed",
            [
                initialize_with(&json!({"capabilities": {}, "clientInfo": client})),
                initialize_with(&json!({"protocolVersion": 1, "capabilities": {}, "clientInfo": client})),
                initialize_with(&json!({"protocolVersion": "2025-11-25", "clientInfo": client})),
                initialize_with(&json!({"protocolVersion": "2025-11-25", "capabilities": [], "clientInfo": client})),
                initialize_with(&json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": "t"})),
            ],
        )
        .and(|_, answered| assert_eq!(answered.header("mcp-session-id"), None)),
        row(
            "legacy-initialize-in-session",
            LEGACY.map(|version| Ask::initialize(version).with("mcp-session-id", world.session(version))),
        ),
        row(
            "legacy-initialize-dead-session",
            [
                Ask::initialize("2025-11-25").with("mcp-session-id", world.foreign.as_str()),
                Ask::initialize("2025-11-25").with("mcp-session-id", world.expired.as_str()),
                Ask::initialize("2025-11-25").with("mcp-session-id", "made-up"),
            ],
        ),
    ]
}

/// Ids that do not open: made up, forged, cut short, of other keys, past their time.
fn dead(world: &World) -> Vec<String> {
    let session = world.latest();
    let mut forged = session.to_owned();
    forged.replace_range(40..41, if &session[40..41] == "A" { "B" } else { "A" });
    vec![
        "made-up".to_owned(),
        forged,
        session[..session.len() - 1].to_owned(),
        format!("{session}A"),
        session.to_ascii_uppercase(),
        world.foreign.clone(),
        world.expired.clone(),
        "x".repeat(5000),
    ]
}

fn sessions(world: &World) -> Vec<Row> {
    let list = |session: &str| Ask::legacy(session, "tools/list", &json!({}));
    let notified = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let session = world.latest();
    let other = |session: &str| {
        [Ask::get(session), Ask::bare("DELETE").with("mcp-session-id", session), Ask::in_session(session, notified)]
    };
    // Arguments that break the schema: the code tells which revision's rules were taken.
    let strict = |version: &str| Ask::legacy(world.session(version), "tools/call", &json!({"name": "strict"}));
    vec![
        row(
            "legacy-session-missing",
            [
                list("x").without("mcp-session-id"),
                list("x").without("mcp-session-id").with("mcp-protocol-version", "2025-06-18"),
                list(""),
                list(session).and("mcp-session-id", session),
            ],
        ),
        row(
            "legacy-session-missing-other",
            other("x").into_iter().flat_map(|ask| {
                [ask.clone().without("mcp-session-id"), ask.with("mcp-session-id", session).and("mcp-session-id", session)]
            }),
        ),
        row(
            "legacy-session-unknown",
            dead(world).iter().map(|id| list(id)).chain([list("x").with("mcp-session-id", b"\xe9".to_vec())]),
        ),
        row("legacy-session-unknown-other", dead(world).iter().flat_map(|id| other(id))),
        row(
            "legacy-version-unsupported",
            [
                list(session).with("mcp-protocol-version", "1.0"),
                list(session).with("mcp-protocol-version", ""),
                list(session).with("mcp-protocol-version", "2024-11-05"),
                list(session).with("mcp-protocol-version", "2025-11-25").and("mcp-protocol-version", "2025-06-18"),
                list(session).with("mcp-protocol-version", "2025-11-25").and("mcp-protocol-version", "2025-11-25"),
            ],
        ),
        row(
            "legacy-version-of-token",
            [
                strict("2025-06-18"),
                strict("2025-06-18").with("mcp-protocol-version", "2025-11-25"),
                strict("2025-03-26").with("mcp-protocol-version", "2025-11-25"),
            ],
        ),
    ]
}

fn messages(world: &World) -> Vec<Row> {
    let session = world.latest();
    let call = |method: &str| Ask::legacy(session, method, &json!({}));
    let notified = |method: &str, params: &Value| {
        Ask::in_session(session, json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string())
    };
    let posted = |message: Value| Ask::in_session(session, message.to_string());
    let get = |accept: &str| Ask::get(session).with("accept", accept);
    vec![
        row("legacy-method-unknown", ["nope", "", "Tools/List", "server/discover", "subscriptions/listen"].map(call)),
        row(
            "legacy-notification",
            [
                notified("notifications/initialized", &json!({})),
                notified("notifications/nope", &json!({})),
                notified("notifications/roots/list_changed", &json!({})),
            ],
        ),
        row(
            "legacy-cancel-unknown",
            [
                notified("notifications/cancelled", &json!({"requestId": "never"})),
                notified("notifications/cancelled", &json!({"requestId": {}})),
                notified("notifications/cancelled", &json!({})),
            ],
        ),
        row(
            "legacy-response-unexpected",
            [
                posted(json!({"jsonrpc": "2.0", "id": ID, "result": {}})),
                posted(json!({"jsonrpc": "2.0", "id": "0123456789abcdef.1.0123456789abcdef", "result": {}})),
                posted(json!({"jsonrpc": "2.0", "id": ID, "error": {"code": 1, "message": "x"}})),
                posted(json!({"jsonrpc": "2.0", "result": {}})),
            ],
        ),
        row(
            "legacy-get",
            [
                Ask::get(session),
                Ask::get(session).without("accept"),
                get("*/*"),
                Ask::get(session).with("mcp-protocol-version", "2025-11-25"),
            ],
        ),
        row("legacy-get-refused", ["application/json", "text/html", "text/event-stream;q=0", ""].map(get)),
        row(
            "legacy-last-event-id",
            ["made-up", "", "0123456789abcdef.1.0123456789abcdef", "1"].map(|id| Ask::get(session).with("last-event-id", id)),
        ),
    ]
}

fn batches(world: &World) -> Vec<Row> {
    let old = world.session("2025-03-26");
    let ping = r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#;
    let call = r#"{"jsonrpc":"2.0","id":"b","method":"tools/call","params":{"name":"greet","arguments":{"name":"Ada"}}}"#;
    let notified = r#"{"jsonrpc":"2.0","method":"notifications/nope"}"#;
    let response = r#"{"jsonrpc":"2.0","id":3,"result":{}}"#;
    let initialize = String::from_utf8(Ask::initialize("2025-03-26").body().to_vec()).unwrap();
    let batch = |items: &[&str]| Ask::in_session(old, format!("[{}]", items.join(",")));
    vec![
        row(
            "legacy-batch-newer",
            ["2025-11-25", "2025-06-18"].map(|version| Ask::in_session(world.session(version), format!("[{ping}]"))),
        ),
        row("batch", [batch(&[ping, notified, call, "1", r#"{"jsonrpc":"2.0","id":9,"method":"nope"}"#])]).and(|_, answered| {
            let answers = answered.json();
            let [ping, call, broken, unknown] = &answers.as_array().unwrap()[..] else { panic!("{answers}") };
            assert_eq!((&ping["id"], &ping["result"]), (&json!(7), &json!({})));
            assert_eq!((&call["id"], &call["result"]["content"][0]["text"]), (&json!("b"), &json!("Hello, Ada!")));
            assert_eq!((broken.get("id"), &broken["error"]["code"]), (None, &json!(-32600)));
            assert_eq!((&unknown["id"], &unknown["error"]["code"]), (&json!(9), &json!(-32601)));
        }),
        row("batch-notifications", [batch(&[notified]), batch(&[notified, notified])]),
        row(
            "batch-with-responses",
            [batch(&[ping, response]), batch(&[response, ping]), batch(&[response]), batch(&[notified, response])],
        ),
        row("batch-with-initialize", [batch(&[ping, &initialize]), batch(&[&initialize])]),
        row("batch-too-long", [batch(&vec![ping; 33])]),
    ]
}
