//! JSON Schemas of tools: compiled the same way by the compiler, which checks them, and by a shard, which uses them.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value};

/// The largest schema, as compact JSON: 64 KiB.
pub const MAX_SCHEMA_BYTES: usize = 64 << 10;
/// The deepest nesting of a schema.
pub const MAX_SCHEMA_DEPTH: usize = 32;
/// The most subschemas, counting every object: a bound on the work of one validation (MCP, Composition-Keyword Resource Use).
pub const MAX_SCHEMA_OBJECTS: usize = 2000;
/// The largest automaton one `pattern` may become: 1 MiB.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Why a schema cannot be used. The text is for whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SchemaError {
    message: String,
}

/// Compiles a schema: 2020-12 unless `$schema` names another draft, patterns on an engine that runs in linear time, no
/// reference outside the schema.
///
/// # Errors
/// When the schema exceeds a cap, is not valid in its dialect, or refers to another document.
pub fn compile(schema: &Value) -> Result<Validator, SchemaError> {
    let error = |message: String| SchemaError { message };
    check_size(schema).map_err(error)?;
    let draft = draft(schema).map_err(error)?;
    check_references(schema).map_err(error)?;
    jsonschema::options()
        .with_draft(draft)
        .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES))
        .should_validate_formats(false)
        .build(schema)
        .map_err(|invalid| {
            let place = invalid.instance_path().to_string();
            let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
            error(format!("is not a valid JSON Schema: {place}{}", shorten(&invalid.to_string())))
        })
}

/// Names of the arguments a schema declares: its `properties`, also those of subschemas that apply to the same object.
pub fn properties(schema: &Value) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![schema];
    while let Some(Value::Object(part)) = open.pop() {
        if let Some(Value::Object(properties)) = part.get("properties") {
            names.extend(properties.keys().map(String::as_str));
        }
        for keyword in ["allOf", "anyOf", "oneOf"] {
            if let Some(Value::Array(parts)) = part.get(keyword) {
                open.extend(parts);
            }
        }
        for keyword in ["if", "then", "else"] {
            open.extend(part.get(keyword));
        }
        for keyword in ["dependentSchemas"] {
            if let Some(Value::Object(parts)) = part.get(keyword) {
                open.extend(parts.values());
            }
        }
        if let Some(reference) = part.get("$ref").and_then(Value::as_str)
            && let Some(pointer) = reference.strip_prefix('#')
            && seen.insert(pointer)
        {
            open.extend(schema.pointer(pointer));
        }
    }
    names
}

/// What is wrong with the `x-mcp-header` annotations of an input schema (MCP 2026-07-28, Custom Headers from Tool
/// Parameters): clients drop a tool that breaks one of these rules.
pub fn header_problems(schema: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let mut seen = BTreeMap::new();
    let mut reachable = 0;
    if let Value::Object(root) = schema {
        walk_headers(root, &mut reachable, &mut seen, &mut problems);
    }
    if count_headers(schema) > reachable {
        problems.push(
            "`x-mcp-header` may only stand on properties that are reached from the root through `properties` alone".to_owned(),
        );
    }
    problems
}

fn walk_headers<'a>(
    object: &'a Map<String, Value>,
    reachable: &mut usize,
    seen: &mut BTreeMap<String, &'a str>,
    problems: &mut Vec<String>,
) {
    let Some(Value::Object(properties)) = object.get("properties") else { return };
    for (name, property) in properties {
        let Value::Object(property) = property else { continue };
        if let Some(header) = property.get("x-mcp-header") {
            *reachable += 1;
            match header.as_str() {
                Some(header) if is_token(header) => {
                    if let Some(other) = seen.insert(header.to_ascii_lowercase(), name) {
                        problems.push(format!("`x-mcp-header` of {name} and {other} are the same but for case"));
                    }
                }
                _ => {
                    problems.push(format!("`x-mcp-header` of {name} must be the rest of a header name: letters, digits and '-'"));
                }
            }
            if !matches!(property.get("type").and_then(Value::as_str), Some("integer" | "string" | "boolean")) {
                problems.push(format!("`x-mcp-header` of {name} needs `type: integer`, `string` or `boolean`"));
            }
        }
        walk_headers(property, reachable, seen, problems);
    }
}

/// Annotations anywhere in the schema: members named `x-mcp-header` of anything that is not a map of properties.
fn count_headers(schema: &Value) -> usize {
    match schema {
        Value::Array(items) => items.iter().map(count_headers).sum(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| match (name.as_str(), value) {
                ("x-mcp-header", _) => 1,
                ("properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas", Value::Object(parts)) => {
                    parts.values().map(count_headers).sum()
                }
                ("const" | "enum" | "default" | "examples", _) => 0,
                _ => count_headers(value),
            })
            .sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// RFC 9110, 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn draft(schema: &Value) -> Result<Draft, String> {
    let Some(dialect) = schema.get("$schema") else { return Ok(Draft::Draft202012) };
    match dialect.as_str().map(|uri| uri.trim_end_matches('#')) {
        Some("https://json-schema.org/draft/2020-12/schema") => Ok(Draft::Draft202012),
        Some("https://json-schema.org/draft/2019-09/schema") => Ok(Draft::Draft201909),
        Some("http://json-schema.org/draft-07/schema" | "https://json-schema.org/draft-07/schema") => Ok(Draft::Draft7),
        _ => Err(format!("dialect {dialect} is not supported: leave `$schema` out for 2020-12, or use 2019-09 or draft-07")),
    }
}

fn check_size(schema: &Value) -> Result<(), String> {
    let mut open = vec![(schema, 1)];
    let mut objects = 0;
    while let Some((value, depth)) = open.pop() {
        if depth > MAX_SCHEMA_DEPTH {
            return Err(format!("is nested deeper than {MAX_SCHEMA_DEPTH} levels"));
        }
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(members) => {
                objects += 1;
                open.extend(members.values().map(|member| (member, depth + 1)));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    if objects > MAX_SCHEMA_OBJECTS {
        return Err(format!("has {objects} objects; at most {MAX_SCHEMA_OBJECTS}"));
    }
    let bytes = schema.to_string().len();
    if bytes > MAX_SCHEMA_BYTES {
        return Err(format!("has {bytes} bytes; at most {MAX_SCHEMA_BYTES}"));
    }
    Ok(())
}

/// MCP, `$ref` Resolution: nothing is fetched, so a reference elsewhere is an error now and not a hole later.
fn check_references(schema: &Value) -> Result<(), String> {
    let mut open = vec![schema];
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(members) => {
                for keyword in ["$ref", "$dynamicRef", "$recursiveRef"] {
                    if let Some(reference) = members.get(keyword).and_then(Value::as_str)
                        && !reference.starts_with('#')
                    {
                        return Err(format!("`{keyword}: {reference}` leaves the schema: copy what it names into `$defs`"));
                    }
                }
                open.extend(members.values());
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    Ok(())
}

/// Error texts of the validator quote the instance; a message has to stay readable.
pub(super) fn shorten(text: &str) -> String {
    const LIMIT: usize = 200;
    if text.chars().count() <= LIMIT { text.to_owned() } else { text.chars().take(LIMIT).chain("…".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(schema: &Value) -> String {
        compile(schema).expect_err(&schema.to_string()).to_string()
    }

    #[test]
    fn the_default_dialect_is_2020_12_and_others_are_honored() {
        let tuple = json!({"type": "array", "prefixItems": [{"type": "integer"}]});
        assert!(!compile(&tuple).unwrap().is_valid(&json!(["a"])));
        let mut old = tuple.clone();
        old["$schema"] = "http://json-schema.org/draft-07/schema#".into();
        assert!(compile(&old).unwrap().is_valid(&json!(["a"])), "draft-07 does not know prefixItems");
        assert!(refusal(&json!({"$schema": "https://example.com/mine"})).contains("is not supported"));
    }

    #[test]
    fn a_reference_elsewhere_is_refused() {
        for reference in ["https://example.com/s.json", "other.json#/x", "file:///etc/passwd"] {
            assert!(refusal(&json!({"properties": {"a": {"$ref": reference}}})).contains("leaves the schema"));
        }
        assert!(compile(&json!({"$defs": {"x": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/x"}}})).is_ok());
    }

    #[test]
    fn patterns_that_backtrack_are_refused() {
        assert!(refusal(&json!({"properties": {"a": {"pattern": "(?=x)y"}}})).contains("is not a valid JSON Schema"));
        assert!(refusal(&json!({"pattern": "(((a{1,100}){1,100}){1,100}){1,100}"})).contains("is not a valid JSON Schema"));
    }

    #[test]
    fn caps_hold() {
        let mut deep = json!({});
        for _ in 0..MAX_SCHEMA_DEPTH {
            deep = json!({"not": deep});
        }
        assert!(refusal(&deep).contains("deeper"));
        assert!(refusal(&json!({"description": "x".repeat(MAX_SCHEMA_BYTES)})).contains("bytes"));
        let wide = (0..MAX_SCHEMA_OBJECTS).map(|n| (format!("p{n}"), json!({}))).collect::<Map<_, _>>();
        assert!(refusal(&json!({"properties": wide})).contains("objects"));
    }

    #[test]
    fn properties_are_found_behind_composition() {
        let schema = json!({
            "properties": {"a": {"properties": {"inner": {}}}},
            "allOf": [{"$ref": "#/$defs/more"}, {"if": {}, "then": {"properties": {"c": {}}}}],
            "$defs": {"more": {"properties": {"b": {}}, "allOf": [{"$ref": "#/$defs/more"}]}},
        });
        assert_eq!(properties(&schema), BTreeSet::from(["a", "b", "c"]));
    }

    #[test]
    fn header_annotations_follow_the_specification() {
        let problems = |properties: Value| header_problems(&json!({"type": "object", "properties": properties}));
        assert_eq!(problems(json!({"region": {"type": "string", "x-mcp-header": "Region"}})), Vec::<String>::new());
        assert_eq!(problems(json!({"x-mcp-header": {"type": "string"}})), Vec::<String>::new(), "a property of that name");
        assert!(problems(json!({"a": {"type": "number", "x-mcp-header": "A"}}))[0].contains("needs `type"));
        assert!(problems(json!({"a": {"type": "string", "x-mcp-header": "A b"}}))[0].contains("header name"));
        let twice = json!({"a": {"type": "string", "x-mcp-header": "R"}, "b": {"type": "string", "x-mcp-header": "r"}});
        assert!(problems(twice)[0].contains("but for case"));
        let hidden = json!({"a": {"type": "array", "items": {"type": "string", "x-mcp-header": "R"}}});
        assert!(problems(hidden)[0].contains("through `properties` alone"));
    }
}
