//! Both eras on one URL, over real sockets.
#![allow(clippy::unwrap_used, clippy::panic)]

mod harness;

use harness::{MODERN, Running, arrives, config, meta, modern, slow};
use serde_json::json;

#[tokio::test]
async fn a_modern_client_discovers_lists_and_calls() {
    let server = Running::start(&config()).await;
    let mut client = server.client().await;
    let discovered = client.modern("server/discover", json!({})).await;
    let result = &discovered.json()["result"];
    assert_eq!(discovered.status, 200);
    assert_eq!(result["resultType"], "complete");
    assert!(result["supportedVersions"].as_array().unwrap().contains(&json!(MODERN)));
    assert_eq!(result["capabilities"]["tools"], json!({"listChanged": true}));
    assert_eq!(result["instructions"], "Be kind.");
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "test");
    assert_eq!((&result["ttlMs"], &result["cacheScope"]), (&json!(60_000), &json!("public")));
    let listed = client.modern("tools/list", json!({})).await.json();
    assert_eq!(listed["result"]["tools"][0]["name"], "greet");
    assert_eq!(listed["result"]["ttlMs"], 60_000);
    let called = client.modern("tools/call", json!({"name": "greet", "arguments": {"name": "Ada"}})).await.json();
    assert_eq!(called["id"], 1);
    assert_eq!(called["result"]["content"][0]["text"], "Hello, Ada!");
    assert_eq!(called["result"]["resultType"], "complete");
    assert!(called["result"].get("ttlMs").is_none());
}

#[tokio::test]
async fn a_modern_client_reads_resources_and_prompts() {
    let server = Running::start(&config()).await;
    let mut client = server.client().await;
    let read = client.modern("resources/read", json!({"uri": "test://note"})).await.json();
    assert_eq!(read["result"]["contents"][0]["text"], "A note.");
    assert_eq!(read["result"]["cacheScope"], "public");
    let missing = client.modern("resources/read", json!({"uri": "test://none"})).await;
    assert_eq!(missing.error_code(), -32602);
    assert_eq!(missing.json()["error"]["data"]["uri"], "test://none");
    let prompt = client.modern("prompts/get", json!({"name": "ask", "arguments": {"topic": "tea"}})).await.json();
    assert_eq!(prompt["result"]["messages"][0]["content"]["text"], "Tell me about tea.");
    assert_eq!(client.modern("prompts/get", json!({"name": "ask"})).await.error_code(), -32602);
    let templates = client.modern("resources/templates/list", json!({})).await.json();
    assert_eq!(templates["result"]["resourceTemplates"], json!([]));
}

#[tokio::test]
async fn what_the_model_can_correct_is_a_result_and_what_it_cannot_is_an_error() {
    let server = Running::start(&config()).await;
    let mut client = server.client().await;
    let wrong = client.modern("tools/call", json!({"name": "greet", "arguments": {"name": 7}})).await;
    assert_eq!((wrong.status, &wrong.json()["result"]["isError"]), (200, &json!(true)));
    let unknown = client.modern("tools/call", json!({"name": "nothing"})).await;
    assert_eq!(unknown.error_code(), -32602);
}

#[tokio::test]
async fn modern_requests_are_checked_in_the_order_of_the_specification() {
    let server = Running::start(&config()).await;
    let mut client = server.client().await;
    let bare = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let missing = client.post(&[("mcp-protocol-version", MODERN), ("mcp-method", "tools/list")], bare).await;
    assert_eq!((missing.status, missing.error_code()), (400, -32602));

    let mut old = meta();
    old["io.modelcontextprotocol/protocolVersion"] = json!("1900-01-01");
    let unsupported = client.modern("tools/list", json!({"_meta": old})).await;
    assert_eq!((unsupported.status, unsupported.error_code()), (400, -32022));
    assert_eq!(unsupported.json()["error"]["data"]["requested"], "1900-01-01");
    assert!(unsupported.json()["error"]["data"]["supported"].as_array().unwrap().contains(&json!(MODERN)));

    for method in ["initialize", "ping", "logging/setLevel", "no/such"] {
        let unknown = client.modern(method, json!({})).await;
        assert_eq!((unknown.status, unknown.error_code()), (404, -32601), "{method}");
    }
}

#[tokio::test]
async fn headers_that_differ_from_the_body_are_refused() {
    let server = Running::start(&config()).await;
    let mut client = server.client().await;
    let (_, body) = modern("tools/call", json!({"name": "greet"}));
    let version = ("mcp-protocol-version", MODERN);
    let method = ("mcp-method", "tools/call");
    let name = ("mcp-name", "greet");
    for headers in [
        vec![method, name],
        vec![version, name],
        vec![version, method],
        vec![("mcp-protocol-version", "2025-11-25"), method, name],
        vec![version, ("mcp-method", "tools/list"), name],
        vec![version, ("mcp-method", "Tools/Call"), name],
        vec![version, method, ("mcp-name", "other")],
        vec![version, method, ("mcp-name", "=?base64?Z3JlZXQ?=")],
        vec![version, method, name, ("mcp-name", "greet")],
    ] {
        let refused = client.post(&headers, &body).await;
        assert_eq!((refused.status, refused.error_code()), (400, -32020), "{headers:?}");
        assert_eq!(refused.json()["id"], 1);
    }
    for name in ["greet", "  greet  ", "=?base64?Z3JlZXQ=?="] {
        assert_eq!(client.post(&[version, method, ("Mcp-Name", name)], &body).await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn a_legacy_client_initializes_and_calls_with_its_session() {
    let server = Running::start(&config()).await;
    let mut client = server.client().await;
    for (asked, agreed) in [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2025-03-26", "2025-03-26"),
        ("2024-11-05", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
    ] {
        let (answered, _) = client.initialize(asked).await;
        assert_eq!(answered.json()["result"]["protocolVersion"], agreed);
        assert_eq!(answered.json()["result"]["serverInfo"]["version"], "7");
    }
    let (_, session) = client.initialize("2025-11-25").await;
    assert!(session.len() <= 512 && session.bytes().all(|byte| byte.is_ascii_graphic()));
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let accepted = client.post(&[("mcp-session-id", &session)], initialized).await;
    assert_eq!((accepted.status, accepted.body.as_str()), (202, ""));
    assert_eq!(client.legacy(&session, "ping", json!({})).await.json()["result"], json!({}));
    assert_eq!(client.legacy(&session, "logging/setLevel", json!({"level": "debug"})).await.json()["result"], json!({}));
    assert_eq!(client.legacy(&session, "logging/setLevel", json!({"level": "loud"})).await.error_code(), -32602);
    let called = client.legacy(&session, "tools/call", json!({"name": "greet", "arguments": {"name": "Ada"}})).await.json();
    assert_eq!(called["result"], json!({"content": [{"type": "text", "text": "Hello, Ada!"}]}));
    let missing = client.legacy(&session, "resources/read", json!({"uri": "test://none"})).await;
    assert_eq!(missing.error_code(), -32002);
    let unknown = client.legacy(&session, "server/discover", json!({})).await;
    assert_eq!((unknown.status, unknown.error_code()), (200, -32601));
}

#[tokio::test]
async fn a_session_is_needed_and_must_be_ours() {
    let server = Running::start(&config()).await;
    let mut client = server.client().await;
    let (_, session) = client.initialize("2025-11-25").await;
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    assert_eq!(client.post(&[], list).await.status, 400);
    assert_eq!(client.post(&[("mcp-session-id", "made-up")], list).await.status, 404);
    let mut forged = session.clone();
    forged.replace_range(40..41, if &session[40..41] == "A" { "B" } else { "A" });
    assert_eq!(client.post(&[("mcp-session-id", &forged)], list).await.status, 404);
    let bad_version = client.post(&[("mcp-session-id", &session), ("mcp-protocol-version", "1.0")], list).await;
    assert_eq!(bad_version.status, 400);
    assert_eq!(client.post(&[("mcp-session-id", &session)], list).await.status, 200);
}

#[tokio::test]
async fn any_shard_with_the_keys_serves_the_session_and_one_with_others_does_not() {
    let one = Running::start(&config()).await;
    let lag = std::time::Duration::from_millis(200);
    let two = Running::with_keys(Some(&config()), one.ring.clone(), lag).await;
    let stranger = Running::start(&config()).await;
    let (_, session) = one.client().await.initialize("2025-06-18").await;
    assert_eq!(two.client().await.legacy(&session, "tools/list", json!({})).await.status, 200);
    assert_eq!(stranger.client().await.legacy(&session, "tools/list", json!({})).await.status, 404);
}

#[tokio::test]
async fn an_expired_session_is_not_found() {
    let mut short = config();
    short.transport.session_lifetime_ms = 0;
    let server = Running::start(&short).await;
    let mut client = server.client().await;
    let (_, session) = client.initialize("2025-11-25").await;
    assert_eq!(client.legacy(&session, "ping", json!({})).await.status, 404);
}

#[tokio::test]
async fn batches_are_answered_in_the_one_version_that_has_them() {
    let server = Running::start(&config()).await;
    let mut client = server.client().await;
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/x"},{"jsonrpc":"2.0","id":"b","method":"nope"}]"#;
    let (_, session) = client.initialize("2025-03-26").await;
    let answered = client.post(&[("mcp-session-id", &session)], batch).await.json();
    assert_eq!(answered.as_array().unwrap().len(), 2);
    assert_eq!((&answered[0]["id"], &answered[1]["error"]["code"]), (&json!(1), &json!(-32601)));
    let silent = client.post(&[("mcp-session-id", &session)], r#"[{"jsonrpc":"2.0","method":"notifications/x"}]"#).await;
    assert_eq!(silent.status, 202);
    let (_, newer) = client.initialize("2025-06-18").await;
    assert_eq!(client.post(&[("mcp-session-id", &newer)], batch).await.status, 400);
}

#[tokio::test]
async fn a_session_that_its_client_ended_is_not_found() {
    let server = Running::start(&config()).await;
    let mut client = server.client().await;
    let (_, session) = client.initialize("2025-11-25").await;
    let delete = format!("DELETE /mcp HTTP/1.1\r\nhost: localhost\r\nmcp-session-id: {session}\r\n\r\n");
    assert_eq!(client.exchange(delete.as_bytes()).await.status, 204);
    assert_eq!(client.legacy(&session, "ping", json!({})).await.status, 404);
    assert_eq!(client.exchange(delete.as_bytes()).await.status, 404);
}

#[tokio::test]
async fn a_modern_call_ends_with_its_connection() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (config, upstream) = slow().await;
    let server = Running::start(&config).await;
    let mut client = server.client().await;
    let (headers, body) = modern("tools/call", json!({"name": "greet"}));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    client.socket.write_all(harness::post(&headers, &body).as_bytes()).await.unwrap();
    let mut call = arrives(&upstream).await;
    drop(client);
    assert_eq!(call.read(&mut [0; 8]).await.unwrap_or(0), 0, "the call upstream is cancelled");
    server.until("idle", |shard| shard.load.in_flight() == 0).await;
}

#[tokio::test]
async fn a_legacy_call_runs_on_when_its_connection_goes() {
    use tokio::io::AsyncWriteExt as _;
    let (config, upstream) = slow().await;
    let server = Running::start(&config).await;
    let mut client = server.client().await;
    let (_, session) = client.initialize("2025-11-25").await;
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "greet"}}).to_string();
    client.socket.write_all(harness::post(&[("mcp-session-id", &session)], &body).as_bytes()).await.unwrap();
    let mut call = arrives(&upstream).await;
    drop(client);
    server.until("orphaned", |shard| shard.load.orphans() == 1).await;
    call.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    server.until("done", |shard| shard.load.orphans() == 0 && shard.load.in_flight() == 0).await;
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_told_so() {
    let (mut config, upstream) = slow().await;
    config.limits.request_timeout_ms = 300;
    let server = Running::start(&config).await;
    let mut client = server.client().await;
    let (called, _call) = tokio::join!(client.modern("tools/call", json!({"name": "greet"})), arrives(&upstream));
    let told = called.json();
    assert!(told["result"]["isError"] == true || told["error"]["code"] == -32603, "{told}");
    assert_eq!(client.modern("tools/list", json!({})).await.status, 200);
}

#[tokio::test]
async fn mirrored_parameters_are_compared_with_their_headers() {
    let mut config = config();
    config.catalog.tools[0].definition.input_schema =
        json!({"type": "object", "properties": {"name": {"type": "string", "x-mcp-header": "Who"}}});
    let server = Running::start(&config).await;
    let mut client = server.client().await;
    let (headers, body) = modern("tools/call", json!({"name": "greet", "arguments": {"name": "Ada"}}));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let with = |value: &'static str| [headers.clone(), vec![("mcp-param-who", value)]].concat();
    assert_eq!(client.post(&with("Ada"), &body).await.status, 200);
    for refused in [client.post(&headers, &body).await, client.post(&with("Eve"), &body).await] {
        assert_eq!((refused.status, refused.error_code()), (400, -32020));
    }
}
