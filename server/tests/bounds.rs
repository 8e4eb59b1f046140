//! Limits: what is over one is told so, and what was accepted completes.
#![allow(clippy::unwrap_used, clippy::panic)]

mod harness;

use std::time::Duration;

use harness::{Client, MODERN, Running, arrives, config, meta, modern, post, slow};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

/// A modern listen request as bytes.
fn listen(filter: &serde_json::Value) -> String {
    let (headers, body) = modern("subscriptions/listen", json!({"notifications": filter}));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    post(&headers, &body)
}

#[tokio::test]
async fn past_the_connections_a_client_is_told_when_to_come_back_and_never_refused() {
    let mut few = config();
    few.limits.max_connections = 2;
    let server = Running::start(&few).await;
    let mut held = [server.client().await, server.client().await];
    for client in &mut held {
        assert_eq!(client.modern("tools/list", json!({})).await.status, 200);
    }
    for _ in 0..5 {
        let mut late = server.client().await;
        let refused = late.modern("tools/list", json!({})).await;
        assert_eq!((refused.status, refused.error_code()), (503, -32603));
        let delay: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=6).contains(&delay));
        assert_eq!(refused.header("connection"), Some("close"));
        assert_eq!(late.rest().await, "");
    }
    for client in &mut held {
        assert_eq!(client.modern("tools/list", json!({})).await.status, 200, "accepted connections go on");
    }
    drop(held);
    server.until("free", |shard| shard.load.connections() == 0).await;
    assert_eq!(server.client().await.modern("tools/list", json!({})).await.status, 200);
    let report = server.load(&json!({})).await;
    assert_eq!((report.rejected_total, report.hard_cap), (5, 2));
    assert!(report.retry_after_mean_ms >= 1000);
}

#[tokio::test]
async fn past_the_streams_a_client_is_told_when_to_come_back() {
    let mut few = config();
    few.limits.max_streams = 1;
    let server = Running::start(&few).await;
    let mut first = server.client().await;
    first.socket.write_all(listen(&json!({"toolsListChanged": true})).as_bytes()).await.unwrap();
    first.until("acknowledged").await;
    let refused = server.client().await.exchange(listen(&json!({})).as_bytes()).await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    drop(first);
    server.until("free", |shard| shard.load.streams() == 0).await;
    let mut second = server.client().await;
    second.socket.write_all(listen(&json!({})).as_bytes()).await.unwrap();
    second.until("acknowledged").await;
}

#[tokio::test]
async fn bodies_and_heads_have_a_largest_size() {
    let server = Running::start(&config()).await;
    let large = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"x":"{}"}}}}"#, "x".repeat(70_000));
    assert_eq!(server.client().await.post(&[], &large).await.status, 413);
    let mut chunked = server.client().await;
    let head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunks = format!("11170\r\n{}\r\n0\r\n\r\n", "x".repeat(70_000));
    chunked.socket.write_all(head.as_bytes()).await.unwrap();
    let _ = chunked.socket.write_all(chunks.as_bytes()).await;
    assert_eq!(chunked.response().await.status, 413);
    let header = "x".repeat(20_000);
    assert_eq!(server.client().await.post(&[("x-long", &header)], PING).await.status, 431);
}

#[tokio::test]
async fn json_has_a_deepest_nesting() {
    let server = Running::start(&config()).await;
    let deep = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"x":{}1{}}}}}"#, "[".repeat(40), "]".repeat(40));
    let refused = server.client().await.post(&[], &deep).await;
    assert_eq!((refused.status, refused.error_code()), (400, -32700));
}

#[tokio::test]
async fn what_is_not_json_rpc_is_refused_by_its_media_type_or_its_form() {
    let server = Running::start(&config()).await;
    let mut client = server.client().await;
    assert_eq!(client.post(&[("content-type", "text/plain")], PING).await.status, 415);
    assert_eq!(client.post(&[("accept", "text/html")], PING).await.status, 406);
    let broken = client.post(&[], "{").await;
    assert_eq!((broken.status, broken.error_code()), (400, -32700));
    let twice = client.post(&[], r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}"#).await;
    assert_eq!((twice.status, twice.error_code()), (400, -32600));
    let put = client.exchange(b"PUT /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(put.status, 405);
    assert!(put.header("allow").unwrap().contains("POST"));
    let elsewhere = client.exchange(b"GET /other HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(elsewhere.status, 404);
}

#[tokio::test]
async fn a_page_of_another_origin_and_a_rebound_name_get_403() {
    let server = Running::start(&config()).await;
    let mut client = server.client().await;
    let (headers, body) = modern("tools/list", json!({}));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let with = |extra: (&'static str, &'static str)| [headers.clone(), vec![extra]].concat();
    for bad in [
        ("host", "evil.example.com"),
        ("origin", "https://evil.example.com"),
        ("origin", "http://localhost:3000"),
        ("origin", "null"),
    ] {
        assert_eq!(client.post(&with(bad), &body).await.status, 403, "{bad:?}");
    }
    for good in [("host", "hello.default.svc:8080"), ("host", "127.0.0.1:8080")] {
        assert_eq!(client.post(&with(good), &body).await.status, 200, "{good:?}");
    }
    let shared = client.post(&with(("origin", "https://chat.example.com")), &body).await;
    assert_eq!(shared.status, 200);
    assert_eq!(shared.header("access-control-allow-origin"), Some("https://chat.example.com"));
}

#[tokio::test]
async fn a_sender_that_stops_is_given_up_and_a_quiet_client_is_not() {
    let mut hasty = config();
    hasty.limits.read_timeout_ms = 200;
    let server = Running::start(&hasty).await;
    let mut quiet = server.client().await;
    assert_eq!(quiet.modern("tools/list", json!({})).await.status, 200);
    let mut head = server.client().await;
    head.socket.write_all(b"POST /mcp HTTP/1.1\r\nhost: loc").await.unwrap();
    assert_eq!(head.rest().await, "");
    let mut body = server.client().await;
    let (headers, text) = modern("tools/list", json!({}));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let request = post(&headers, &text);
    body.socket.write_all(&request.as_bytes()[..request.len() - 5]).await.unwrap();
    assert_eq!(body.response().await.status, 408);
    // Both took longer than the read timeout, during which the first client said nothing.
    assert_eq!(quiet.modern("tools/list", json!({})).await.status, 200);
}

#[tokio::test]
async fn a_body_is_reserved_before_it_is_read_and_returned_when_its_sender_goes() {
    let mut config = config();
    config.limits.max_request_size = 1 << 20;
    config.limits.read_timeout_ms = 20_000;
    let server = Running::start(&config).await;
    let mut slow: Vec<Client> = Vec::new();
    for _ in 0..10 {
        let mut client = server.client().await;
        let head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1048576\r\n\r\n{";
        client.socket.write_all(head.as_bytes()).await.unwrap();
        slow.push(client);
    }
    let reserved = slow.len() as u64 * (1 << 20);
    server.until("reserved", |shard| shard.load.body_bytes() == reserved).await;
    drop(slow);
    server.until("returned", |shard| shard.load.body_bytes() == 0).await;
}

#[tokio::test]
async fn without_a_configuration_a_shard_is_alive_not_ready_and_says_so() {
    let lag = Duration::from_millis(100);
    let server = Running::with_keys(None, mcp_server::session::generated_ring(), lag).await;
    assert_eq!(server.admin("/livez").await.status, 200);
    assert_eq!(server.admin("/readyz").await.status, 503);
    let (headers, body) = modern("tools/list", json!({"_meta": meta()}));
    assert_eq!(headers[0].1, MODERN);
    assert_eq!(server.client().await.post(&[], &body).await.status, 503);
    harness::publish(server.folder.path(), &config());
    server.until("ready", mcp_server::shard::Shard::is_ready).await;
    assert_eq!(server.admin("/readyz").await.status, 200);
}

#[tokio::test]
async fn while_answers_that_nobody_takes_fill_their_part_newcomers_wait_and_no_longer() {
    let server = Running::start(&config()).await;
    let mut client = server.client().await;
    let owed = server.shard.load.owe(1 << 40);
    let refused = client.modern("tools/list", json!({})).await;
    assert_eq!((refused.status, refused.error_code()), (503, -32603));
    assert!(refused.header("retry-after").is_some() && refused.body.contains("answers"), "{}", refused.body);
    let metrics = server.admin("/metrics").await.body;
    assert!(metrics.contains(r#"mcp_rejected_total{reason="answer_bytes"} 1"#), "{metrics}");
    drop(owed);
    assert_eq!(client.modern("tools/list", json!({})).await.status, 200);
}

#[tokio::test]
async fn past_the_requests_in_flight_newcomers_wait_and_the_accepted_one_completes() {
    let (mut config, upstream) = slow().await;
    config.limits.max_in_flight_requests = 1;
    let server = Running::start(&config).await;
    let mut first = server.client().await;
    let accepted = async {
        let call = async {
            let mut call = arrives(&upstream).await;
            let refused = server.client().await.modern("tools/list", json!({})).await;
            assert_eq!((refused.status, refused.error_code()), (503, -32603));
            assert!(refused.header("retry-after").is_some());
            let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
            call.write_all(answer).await.unwrap();
        };
        tokio::join!(first.modern("tools/call", json!({"name": "greet"})), call).0
    };
    let accepted = accepted.await;
    assert_eq!((accepted.status, accepted.json()["result"]["isError"].as_bool()), (200, None));
    assert_eq!(server.client().await.modern("tools/list", json!({})).await.status, 200);
}

#[tokio::test]
async fn a_tool_answers_no_more_calls_at_one_time_than_it_may_and_others_are_answered_meanwhile() {
    let (mut config, upstream) = slow().await;
    config.catalog.tools[0].max_in_flight_requests = Some(1);
    config.catalog.tools.push(harness::tool("other", "Hello."));
    let server = Running::start(&config).await;
    let mut first = server.client().await;
    let call = async {
        let mut call = arrives(&upstream).await;
        let busy = server.client().await.modern("tools/call", json!({"name": "greet"})).await.json();
        assert_eq!(busy["result"]["isError"], true, "{busy}");
        assert_eq!(
            busy["result"]["content"][0]["text"],
            "The tool greet is busy: it answers at most 1 call at one time. Try again in a moment."
        );
        let other = server.client().await.modern("tools/call", json!({"name": "other"})).await.json();
        assert_eq!(other["result"]["isError"].as_bool(), None, "{other}");
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        call.write_all(answer).await.unwrap();
    };
    let (accepted, ()) = tokio::join!(first.modern("tools/call", json!({"name": "greet"})), call);
    assert_eq!((accepted.status, accepted.json()["result"]["isError"].as_bool()), (200, None));
    assert!(server.admin("/metrics").await.body.contains(r#"backend="tool:greet""#));
}
