//! Parameters, in both eras.

use serde_json::{Value, json};

use crate::ask::Ask;
use crate::row::{Row, row};
use crate::world::{LEGACY, World};

/// One request in every version.
fn every(world: &World, method: &str, params: &Value) -> Vec<Ask> {
    let legacy = LEGACY.iter().map(|version| Ask::legacy(world.session(version), method, params));
    legacy.chain([Ask::modern(method, params.clone())]).collect()
}

fn all(world: &World, name: &'static str, requests: &[(&str, Value)]) -> Row {
    row(name, requests.iter().flat_map(|(method, params)| every(world, method, params)))
}

fn lists(params: &Value) -> Vec<(&'static str, Value)> {
    ["tools/list", "resources/list", "resources/templates/list", "prompts/list"].map(|method| (method, params.clone())).into()
}

pub fn rows(world: &World) -> Vec<Row> {
    let broken = [json!({}), json!({"n": "one"}), json!({"n": 1.5}), json!({"n": 1, "m": 2})];
    let strict = |version: &str| {
        let session = world.session(version);
        broken.iter().map(|given| Ask::legacy(session, "tools/call", &json!({"name": "strict", "arguments": given}))).collect()
    };
    let modern: Vec<_> =
        broken.iter().map(|given| Ask::modern("tools/call", json!({"name": "strict", "arguments": given}))).collect();
    let nothing = json!({"uri": "test://none"});
    vec![
        all(
            world,
            "name-missing",
            &[
                ("tools/call", json!({"arguments": {}})),
                ("tools/call", json!({})),
                ("prompts/get", json!({})),
                ("resources/read", json!({"name": "note"})),
            ],
        ),
        all(
            world,
            "name-malformed",
            &[
                ("tools/call", json!({"name": 1})),
                ("tools/call", json!({"name": null})),
                ("prompts/get", json!({"name": ["ask"]})),
                ("resources/read", json!({"uri": {}})),
            ],
        ),
        all(
            world,
            "arguments-malformed",
            &[
                ("tools/call", json!({"name": "greet", "arguments": []})),
                ("tools/call", json!({"name": "greet", "arguments": "x"})),
                ("tools/call", json!({"name": "greet", "arguments": 1})),
                ("prompts/get", json!({"name": "ask", "arguments": []})),
            ],
        ),
        all(
            world,
            "arguments-null",
            &[("tools/call", json!({"name": "mirror", "arguments": null})), ("tools/call", json!({"name": "mirror"}))],
        ),
        all(
            world,
            "cursor-unknown",
            &[lists(&json!({"cursor": "made-up"})), lists(&json!({"cursor": ""})), lists(&json!({"cursor": 1}))].concat(),
        ),
        all(
            world,
            "tool-unknown",
            &[
                ("tools/call", json!({"name": "none"})),
                ("tools/call", json!({"name": "Greet"})),
                ("tools/call", json!({"name": ""})),
            ],
        ),
        all(world, "prompt-unknown", &[("prompts/get", json!({"name": "none"}))]),
        all(
            world,
            "prompt-argument-missing",
            &[("prompts/get", json!({"name": "ask"})), ("prompts/get", json!({"name": "ask", "arguments": {"other": "x"}}))],
        ),
        row("resource-unknown-modern", [Ask::modern("resources/read", nothing.clone())])
            .and(|_, answered| assert_eq!(answered.json()["error"]["data"]["uri"], "test://none")),
        row("resource-unknown-legacy", LEGACY.map(|version| Ask::legacy(world.session(version), "resources/read", &nothing)))
            .and(|_, answered| assert_eq!(answered.json()["error"]["data"]["uri"], "test://none")),
        row("schema-violated", [modern, strict("2025-11-25")].concat())
            .and(|_, answered| assert!(answered.json()["result"]["content"][0]["text"].is_string(), "words for the model")),
        row("schema-violated-before", [strict("2025-06-18"), strict("2025-03-26")].concat()),
    ]
}
