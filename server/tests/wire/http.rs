//! HTTP/1: methods, framing, media types.

use serde_json::json;

use crate::ask::Ask;
use crate::row::{Row, raw, row};
use crate::world::World;

fn list() -> Ask {
    Ask::modern("tools/list", json!({}))
}

pub fn rows(world: &World) -> Vec<Row> {
    let mut rows = methods();
    rows.extend(framing(world));
    rows.extend(media(world));
    rows
}

fn methods() -> Vec<Row> {
    let others = ["PUT", "PATCH", "TRACE", "BREW"].map(Ask::bare);
    let with_body = list().line("PUT /mcp HTTP/1.1");
    vec![
        row("method-other", others.into_iter().chain([with_body]))
            .and(|_, answered| assert_eq!(answered.header("allow"), Some("POST, GET, DELETE"))),
        row("method-head", [Ask::bare("HEAD")])
            .and(|_, answered| assert_eq!(answered.header("allow"), Some("POST, GET, DELETE"))),
    ]
}

fn framing(world: &World) -> Vec<Row> {
    let whole = list().bytes();
    let text = String::from_utf8(list().body().to_vec()).unwrap();
    let chunk = |size: &str| format!("{size}\r\n{text}\r\n0\r\n\r\n");
    let size = format!("{:x}", text.len());
    let (first, second) = text.split_at(9);
    let trailers =
        format!("9;a=b;c=\"d\"\r\n{first}\r\n{:X}\r\n{second}\r\n0\r\nx-trailer: 1\r\nmcp-method: nope\r\n\r\n", second.len());
    let old = list().line("POST /mcp HTTP/1.0");
    let many = (0..150).fold(list(), |ask, n| ask.and(&format!("x-{n}"), "1"));
    vec![
        raw(
            "not-http",
            [b"HELO there\r\n\r\n".to_vec(), b"\0\0\0\0\r\n\r\n".to_vec(), b"{\"jsonrpc\":\"2.0\"}\r\n\r\n".to_vec()],
        ),
        raw("header-name-bad", [b"POST /mcp HTTP/1.1\r\nhost: localhost\r\nbad name: x\r\n\r\n".to_vec()]),
        row(
            "head-too-large",
            [list().with("x-large", "x".repeat(100 << 10)), list().line(&format!("POST /{} HTTP/1.1", "x".repeat(100 << 10)))],
        ),
        row("headers-too-many", [many]),
        row(
            "length-malformed",
            ["x", "-1", "1, 2", ""]
                .map(|length| list().with("content-length", length))
                .into_iter()
                .chain([list().with("content-length", "5").and("content-length", "6")]),
        ),
        row("coding-unknown", [list().with("transfer-encoding", "gzip"), list().with("transfer-encoding", "chunked, gzip")]),
        row(
            "length-and-chunked",
            [
                list().chunks(chunk(&size)).with("content-length", "3"),
                list()
                    .chunks(chunk(&size))
                    .without("transfer-encoding")
                    .and("content-length", "3")
                    .and("transfer-encoding", "chunked"),
            ],
        ),
        row("chunked", [list().chunks(chunk(&size)), list().chunks(trailers)]),
        row(
            "chunk-malformed",
            [list().chunks(chunk("x")), list().chunks(chunk("-1")), list().chunks(chunk("fffffffffffffffff"))],
        ),
        raw("more-than-length", [[whole.clone(), b"and more\r\n\r\n".to_vec()].concat()]).then_hears("HTTP/1.1 400"),
        row("http10", [old.clone()]).and(|_, answered| assert!(answered.head.starts_with("HTTP/1.0 200"), "{answered:?}")),
        row("http10-keep-alive", [old.with("connection", "keep-alive")])
            .and(|_, answered| assert_eq!(answered.header("connection"), Some("keep-alive"))),
        row("http10-stream", [Ask::get(world.latest()).line("GET /mcp HTTP/1.0")]).and(|_, answered| {
            assert!(
                answered.header("transfer-encoding").is_none() && answered.header("content-length").is_none(),
                "{answered:?}"
            );
        }),
        row("connection-close", [list().with("connection", "close"), list().with("connection", "Keep-Alive, Close")]),
        row("expect-continue", [list().with("expect", "100-continue")])
            .and(|_, answered| assert!(answered.head.starts_with("HTTP/1.1 100"), "{answered:?}")),
        raw("expect-refused", [head_of(&list().with("expect", "100-continue").with("content-type", "text/plain"))])
            .and(|_, answered| assert!(answered.head.starts_with("HTTP/1.1 415"), "no leave to send it: {answered:?}")),
        row("expect-unknown", [list().with("expect", "everything")]),
        raw("body-declared-too-large", [head_of(&list().with("content-length", "10000000000"))]),
        row("body-too-large", [list().chunks(format!("50000\r\n{}\r\n0\r\n\r\n", "x".repeat(0x50000)))]),
        raw("body-cut", [whole[..whole.len() - 9].to_vec(), list().chunks(format!("{size}\r\n{first}")).bytes()]).then_ends(),
    ]
}

fn media(world: &World) -> Vec<Row> {
    let typed = |media: &str| list().with("content-type", media);
    let accepting = |accept: &str| list().with("accept", accept);
    vec![
        row(
            "content-type",
            [
                list().without("content-type"),
                typed("text/plain"),
                typed("application/jsonx"),
                typed("application/x-www-form-urlencoded"),
                list().and("content-type", "text/plain"),
                Ask::legacy(world.latest(), "ping", &json!({})).with("content-type", "text/plain"),
            ],
        ),
        row(
            "content-type-charset",
            ["application/json;charset=utf-8", "Application/JSON; Charset=UTF-8", "application/json ;"].map(typed),
        ),
        row(
            "accept-lenient",
            ["*/*", "application/json", "application/*", "application/json;q=0.1, text/event-stream;q=0.9"]
                .map(accepting)
                .into_iter()
                .chain([list().without("accept"), list().with("accept", "application/json").and("accept", "text/event-stream")]),
        ),
        row("accept-refused", ["text/event-stream", "text/html", "*/*, application/json;q=0", ""].map(accepting)),
    ]
}

/// A request without its body.
fn head_of(ask: &Ask) -> Vec<u8> {
    let bytes = ask.bytes();
    bytes[..bytes.len() - ask.body().len()].to_vec()
}
