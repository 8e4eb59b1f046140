//! From where a request comes, and to where it goes.

use serde_json::json;

use crate::ask::{ALLOWED, Ask, FOREIGN};
use crate::row::{Row, row};
use crate::world::World;

/// Every method, in both eras.
fn everything(world: &World) -> Vec<Ask> {
    let session = world.latest();
    vec![
        Ask::modern("tools/list", json!({})),
        Ask::legacy(session, "tools/list", &json!({})),
        Ask::initialize("2025-11-25"),
        Ask::get(session),
        Ask::bare("DELETE").with("mcp-session-id", session),
        Ask::bare("PUT"),
        Ask::bare("OPTIONS").with("access-control-request-method", "POST"),
    ]
}

pub fn rows(world: &World) -> Vec<Row> {
    let list = || Ask::modern("tools/list", json!({}));
    let all = |change: fn(Ask) -> Ask| everything(world).into_iter().map(change).collect::<Vec<_>>();
    vec![
        row(
            "path-unknown",
            [list().line("POST /other HTTP/1.1"), Ask::bare("GET").line("GET / HTTP/1.1"), list().line("POST /mcp/ HTTP/1.1")],
        ),
        row("origin-foreign", all(|ask| ask.with("origin", FOREIGN))),
        row("origin-null", all(|ask| ask.with("origin", "null"))),
        row("origin-twice", all(|ask| ask.with("origin", ALLOWED).and("origin", FOREIGN))),
        row("origin-allowed", [list().with("origin", ALLOWED), list().with("origin", "HTTPS://Chat.example.com")])
            .and(|_, answered| assert!(answered.header("access-control-allow-origin").is_some(), "{answered:?}")),
        row("host-foreign", all(|ask| ask.with("host", "evil.example.com"))),
        row(
            "host-allowed",
            ["hello.default.svc", "HELLO.default.svc:80", "hello.default.svc.", "localhost:1", "127.0.0.1", "[::1]:8080"]
                .map(|host| list().with("host", host)),
        ),
        row(
            "host-missing",
            [list().without("host"), list().without("host").line("POST /mcp HTTP/1.0"), Ask::bare("GET").without("host")],
        ),
        row("host-twice", [list().and("host", "localhost"), list().and("host", "evil.example.com")]),
        row("preflight", [Ask::bare("OPTIONS").with("origin", ALLOWED).with("access-control-request-method", "POST")]).and(
            |_, answered| {
                assert_eq!(answered.header("access-control-allow-origin"), Some(ALLOWED));
                for header in ["Mcp-Session-Id", "MCP-Protocol-Version", "Last-Event-ID", "Mcp-Name"] {
                    assert!(answered.header("access-control-allow-headers").unwrap().contains(header), "{header}");
                }
            },
        ),
        row(
            "options",
            [
                Ask::bare("OPTIONS"),
                Ask::bare("OPTIONS").with("origin", ALLOWED),
                Ask::bare("OPTIONS").with("access-control-request-method", "POST"),
            ],
        )
        .and(|_, answered| assert_eq!(answered.header("allow"), Some("POST, GET, DELETE"))),
    ]
}
