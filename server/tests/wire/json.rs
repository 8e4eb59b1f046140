//! JSON and JSON-RPC: what is a message, and what is not.

use serde_json::json;

use crate::ask::Ask;
use crate::row::{Row, row};
use crate::world::World;

/// The same body in both eras.
fn both(world: &World, body: impl AsRef<[u8]>) -> [Ask; 2] {
    [Ask::modern_body(body.as_ref()), Ask::in_session(world.latest(), body.as_ref())]
}

/// Each body in both eras.
fn each(world: &World, name: &'static str, bodies: &[&str]) -> Row {
    row(name, bodies.iter().flat_map(|body| both(world, body)))
}

fn nested(depth: usize, closed: bool) -> String {
    let close = if closed { format!("{}}}}}", "]".repeat(depth)) } else { String::new() };
    format!(r#"{{"jsonrpc":"2.0","id":7,"method":"ping","params":{{"x":{}{close}"#, "[".repeat(depth))
}

pub fn rows(world: &World) -> Vec<Row> {
    let meta = crate::harness::meta().to_string();
    let modern = |body: String| Ask::modern("server/discover", json!({})).body_of(body);
    let ids = ["1", "\"1\"", "-1", "0", "18446744073709551616", "\"\"", r#""a\u0062\"""#];
    let members: Vec<_> = (0..126).map(|n| format!(r#""m{n}":0,"#)).collect();
    let members = members.concat();
    vec![
        each(world, "json-malformed", &["{", "nonsense", r#"{"jsonrpc":"2.0","id":7,"method":"#, "{}{}", "{'a':1}", "\u{feff}{}", "[1,", "NaN"]),
        row("json-not-utf8", [&b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"\xff\"}"[..], b"\xff\xfe{}", b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\",\"params\":{\"x\":\"\xc3\x28\"}}"]
            .iter()
            .flat_map(|body| both(world, body))),
        each(world, "body-empty", &["", " \r\n\t"]),
        row("json-deep", [nested(200, true), nested(200, false), nested(100_000, true), "[".repeat(100_000), "{\"a\":".repeat(40_000)]
            .iter()
            .flat_map(|body| both(world, body))),
        row("json-depth-of-text", [modern(format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"server/discover","params":{{"x":"{}","_meta":{meta}}}}}"#,
            "[{\\\"[".repeat(500),
        ))]),
        each(world, "jsonrpc-version", &[
            r#"{"id":7,"method":"ping"}"#,
            r#"{"jsonrpc":"1.0","id":7,"method":"ping"}"#,
            r#"{"jsonrpc":2.0,"id":7,"method":"ping"}"#,
            r#"{"jsonrpc":null,"id":7,"method":"ping"}"#,
        ]),
        row("id-malformed", ["null", "1.5", "1e3", "true", "{}", "[7]", r#""\ud800""#, &format!("\"{}\"", "x".repeat(600))]
            .iter()
            .flat_map(|id| both(world, format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#)))),
        row("id-keeps-its-type", ids.iter().flat_map(|id| {
            let body = |params: &str, method: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"{params}}}"#);
            [modern(body(&format!(r#","params":{{"_meta":{meta}}}"#), "server/discover")), Ask::in_session(world.latest(), body("", "ping"))]
        }))
        .and(|sent, answered| {
            let id = |text: &str| text.split(r#""id":"#).nth(1).unwrap().split(&[',', '}']).next().unwrap().to_owned();
            let body = String::from_utf8_lossy(sent).into_owned();
            assert_eq!(id(&answered.body), id(&body));
        }),
        each(world, "method-malformed", &[r#"{"jsonrpc":"2.0","id":7}"#, r#"{"jsonrpc":"2.0","id":7,"method":1}"#, r#"{"jsonrpc":"2.0","id":7,"method":null}"#]),
        each(world, "params-malformed", &[
            r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":[]}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":"x"}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":null}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":{"_meta":[]}}"#,
        ]),
        each(world, "not-an-object", &["1", "\"x\"", "null", "true"]),
        each(world, "key-twice", &[
            r#"{"jsonrpc":"2.0","id":7,"method":"ping","method":"tools/list"}"#,
            r#"{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"ping","m\u0065thod":"tools/list"}"#,
        ]),
        each(world, "key-twice-in-params", &[
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"greet","name":"other"}}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"greet","n\u0061me":"other"}}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":{"_meta":{"a":1,"a":2}}}"#,
        ]),
        row("key-twice-in-arguments", [Ask::modern("tools/call", json!({"name": "mirror"}))
            .body_of(format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"mirror","arguments":{{"region":"us","region":"eu"}},"_meta":{meta}}}}}"#))
            .with("mcp-param-region", "eu")]),
        each(world, "members-too-many", &[&format!(r#"{{{members}"jsonrpc":"2.0","id":7,"method":"ping"}}"#)]),
        each(world, "result-and-error", &[r#"{"jsonrpc":"2.0","id":7,"result":{},"error":{"code":1,"message":"x"}}"#]),
        each(world, "batch-empty", &["[]", " [ ] "]),
    ]
}
