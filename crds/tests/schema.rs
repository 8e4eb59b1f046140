//! What holds for every field of the schema.
#![allow(clippy::unwrap_used, clippy::panic)]

use mcp_crds::cluster;
use serde_json::{Map, Value};

/// Every node of the schema with its path.
fn nodes() -> Vec<(String, &'static Map<String, Value>)> {
    let mut nodes = Vec::new();
    let mut open = vec![(String::new(), cluster::schema().value())];
    while let Some((path, node)) = open.pop() {
        let node = node.as_object().unwrap_or_else(|| panic!("{path} is an object"));
        nodes.push((path.clone(), node));
        if let Some(Value::Object(properties)) = node.get("properties") {
            open.extend(properties.iter().map(|(name, property)| (format!("{path}.{name}"), property)));
        }
        open.extend(node.get("items").map(|items| (format!("{path}[]"), items)));
        open.extend(node.get("additionalProperties").map(|values| (format!("{path}{{}}"), values)));
    }
    nodes
}

fn is(node: &Map<String, Value>, kind: &str) -> bool {
    node.get("type").is_some_and(|written| written == kind)
}

/// Fails with all fields that break a claim.
fn all(what: &str, holds: impl Fn(&str, &Map<String, Value>) -> bool) {
    let broken: Vec<_> = nodes().into_iter().filter(|(path, node)| !holds(path, node)).map(|(path, _)| path).collect();
    assert!(broken.is_empty(), "{what}: not {broken:#?}");
}

#[test]
fn it_is_structural() {
    all("no unions, references or nulls", |_, node| {
        ["anyOf", "oneOf", "allOf", "not", "$ref", "nullable", "title", "const"]
            .iter()
            .all(|keyword| !node.contains_key(*keyword))
    });
    all("a type, or anything", |_, node| {
        node.contains_key("type")
            || node.contains_key("x-kubernetes-int-or-string")
            || node.contains_key("x-kubernetes-preserve-unknown-fields")
    });
}

#[test]
fn every_field_is_documented() {
    all("a description", |path, node| {
        path.is_empty() || path.ends_with("[]") || path.ends_with("{}") || node.get("description").is_some_and(|text| text != "")
    });
}

#[test]
fn everything_is_bounded() {
    let spec = |path: &str| path.starts_with(".spec");
    all("a longest string", |path, node| {
        !spec(path) || !is(node, "string") || node.contains_key("maxLength") || node.contains_key("enum")
    });
    all("a longest list", |path, node| !spec(path) || !is(node, "array") || node.contains_key("maxItems"));
    all("a largest map", |path, node| {
        !spec(path) || !node.contains_key("additionalProperties") || node.contains_key("maxProperties")
    });
    // Types of core/v1 say themselves what they admit.
    let ours = |path: &str| spec(path) && !path.starts_with(".spec.podTemplate.spec") && !path.starts_with(".spec.env");
    all("a range", |path, node| {
        !ours(path)
            || !is(node, "integer")
            || (node.contains_key("minimum") && (node.contains_key("maximum") || node.contains_key("x-kubernetes-validations")))
    });
    all("a range of sizes", |path, node| {
        !ours(path)
            || !node.contains_key("x-kubernetes-int-or-string")
            || path.ends_with("{}")
            || node.contains_key("x-kubernetes-validations")
    });
}

#[test]
fn lists_say_how_they_merge() {
    all("a list type", |_, node| !is(node, "array") || node.contains_key("x-kubernetes-list-type"));
    all("keys that are there", |_, node| {
        let keys = node.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten();
        keys.filter_map(Value::as_str).all(|key| {
            let items = &node["items"];
            let required = items["required"].as_array().is_some_and(|required| required.iter().any(|name| name == key));
            required || items["properties"][key].get("default").is_some()
        })
    });
}

#[test]
fn numbers_are_signed_and_whole() {
    all("no floats, no unsigned", |_, node| {
        !is(node, "number")
            && node.get("format").is_none_or(|format| ["int32", "int64", "date-time"].iter().any(|known| format == known))
    });
}

#[test]
fn defaults_pass_the_rules_as_they_are_written() {
    // The API server checks a default before the defaults inside it.
    for (path, node) in nodes() {
        let Some(default) = node.get("default") else { continue };
        let schema = Value::Object(node.clone());
        let complete = mcp_crds::check::with_defaults(&schema, default.clone());
        assert_eq!(&complete, default, "the default of {path} is written out");
        kube::core::cel::Validator::new().validate(&schema, default, None).unwrap_or_else(|errors| panic!("{path}: {errors}"));
    }
}

#[test]
fn every_rule_has_a_message_of_its_own_words() {
    for (path, node) in nodes() {
        for rule in node.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
            let message = rule["message"].as_str().unwrap_or_default();
            assert!(message.len() > 10 && !message.contains("self."), "{path}: {message:?}");
        }
    }
}
