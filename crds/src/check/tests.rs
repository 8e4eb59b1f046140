use serde_json::json;

use super::*;
use crate::yaml;

fn findings(schema: Value, text: &str) -> Vec<String> {
    let document = yaml::read(text).unwrap().remove(0);
    check(&Schema::new(schema), &document, &["kind"])
        .findings
        .iter()
        .map(|finding| format!("{}:{}: {}: {}", finding.at.line, finding.at.column, finding.path, finding.message))
        .collect()
}

fn sample() -> Value {
    json!({
        "type": "object",
        "required": ["name"],
        "x-kubernetes-validations": [{"rule": "self.low <= self.high", "message": "`low` must not exceed `high`"}],
        "properties": {
            "name": {"type": "string", "maxLength": 5},
            "low": {"type": "integer", "minimum": 1, "default": 1},
            "high": {"type": "integer", "default": 10},
            "mode": {"type": "string", "enum": ["Fast", "Slow"]},
            "size": {"x-kubernetes-int-or-string": true},
            "free": {"x-kubernetes-preserve-unknown-fields": true},
            "items": {
                "type": "array", "maxItems": 2, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
                "items": {"type": "object", "properties": {"id": {"type": "string"}, "live": {"type": "boolean", "default": true}}},
            },
        },
    })
}

#[test]
fn everything_is_reported_together_with_its_place() {
    let found =
        findings(sample(), "kind: X\nlow: 20\nmoed: Fast\nmode: fast\nsize: true\nitems:\n- id: a\n- {id: a, live: 1}\n- 3\n");
    assert_eq!(
        found,
        [
            "1:1: name: must be set",
            "1:1: : `low` must not exceed `high`",
            "3:1: moed: unknown field; did you mean `mode`?",
            "4:1: mode: \"fast\" is none of Fast, Slow; did you mean Fast?",
            "5:1: size: must be an integer or a string, not true, a boolean",
            "6:1: items: must have at most 2 items, not 3",
            "8:3: items[1]: duplicate a",
            "8:11: items[1].live: must be true or false, not 1, a number",
            "9:3: items[2]: must be a map, not 3, a number",
        ]
    );
}

#[test]
fn defaults_come_before_rules() {
    assert_eq!(findings(sample(), "name: a\nhigh: 0\n"), ["1:1: : `low` must not exceed `high`"]);
    assert_eq!(findings(sample(), "name: a\nhigh: 5\n"), Vec::<String>::new());
}

#[test]
fn a_rule_about_a_value_that_cannot_be_used_is_not_repeated() {
    assert_eq!(findings(sample(), "name: a\nhigh: ten\n"), ["2:1: high: must be an integer, not \"ten\", a string"]);
}

#[test]
fn defaults_reach_into_defaults_and_nulls_make_room_for_them() {
    let schema = json!({
        "type": "object",
        "properties": {"a": {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 3}}}},
    });
    assert_eq!(with_defaults(&schema, json!({})), json!({"a": {"b": 3}}));
    assert_eq!(with_defaults(&schema, json!({"a": {"b": null}})), json!({"a": {"b": 3}}));
    assert_eq!(findings(schema.clone(), "a:\n"), Vec::<String>::new());
}

#[test]
fn free_form_is_kept_as_it_is() {
    let document = yaml::read("name: a\nfree: {any: [1, {thing: null}]}\n").unwrap().remove(0);
    let checked = check(&Schema::new(sample()), &document, &[]);
    assert_eq!(checked.findings, []);
    assert_eq!(checked.value["free"], json!({"any": [1, {"thing": null}]}));
}
