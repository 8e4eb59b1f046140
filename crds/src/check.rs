//! What the API server would say about a document, said without one: the structural schema, then the rules.
//!
//! ```text
//! Node (positions) → types, unknown fields, enums, bounds, required → pruned JSON → defaults → CEL rules
//! ```
//!
//! Two differences to the server, both on purpose: everything is reported together (there, a wrong type hides all rules),
//! and an unknown field comes with the known one it looks like.

mod nearest;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use kube::core::cel::{CompiledSchema, ErrorKind, Validator, compile_schema};
use serde_json::{Map, Value};

use crate::catalog::{Path, Step};
use crate::yaml::{Node, NodeValue, Position};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where in the document.
    pub path: Path,
    /// Where in the text.
    pub at: Position,
    /// What, and what to do about it.
    pub message: String,
}

/// A checked document.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What is wrong with it, in the order of the text.
    pub findings: Vec<Finding>,
    /// The document with defaults, and without what has no place in it: complete when there are no findings, else as much of
    /// it as can be used to look for more.
    pub value: Value,
}

/// A structural schema, its rules compiled once.
#[derive(Debug)]
pub struct Schema {
    value: Value,
    rules: CompiledSchema,
}

impl Schema {
    /// Compiles the rules of a schema.
    pub fn new(value: Value) -> Self {
        let rules = compile_schema(&value);
        Self { value, rules }
    }

    /// The schema itself.
    pub fn value(&self) -> &Value {
        &self.value
    }
}

/// Checks a document against a schema. `kept` are members of the root that the schema does not name.
pub fn check(schema: &Schema, document: &Node, kept: &[&str]) -> Checked {
    let mut checker = Checker { findings: Vec::new(), dropped: Vec::new(), kept };
    let pruned = checker.value(&schema.value, document, &Path::default()).unwrap_or_else(|| Value::Object(Map::new()));
    let value = with_defaults(&schema.value, pruned);
    checker.rules(&schema.rules, &value, document);
    let mut findings = checker.findings;
    findings.sort_by_key(|finding| finding.at);
    Checked { findings, value }
}

/// Applies the defaults of a schema, inside injected defaults too, as the API server does.
pub fn with_defaults(schema: &Value, mut value: Value) -> Value {
    apply_defaults(schema, &mut value);
    value
}

fn apply_defaults(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::Object(properties)) = schema.get("properties") {
                for (name, property) in properties {
                    if let Some(default) = property.get("default")
                        // Nulls of fields with a default are dropped first (structural schemas, Defaulting and Nullable).
                        && members.get(name).is_none_or(Value::is_null)
                    {
                        members.insert(name.clone(), default.clone());
                    }
                    if let Some(member) = members.get_mut(name) {
                        apply_defaults(property, member);
                    }
                }
            } else if let Some(values) = schema.get("additionalProperties") {
                members.values_mut().for_each(|member| apply_defaults(values, member));
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items {
                    apply_defaults(schema, item);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A walk over one document.
#[derive(Debug)]
struct Checker<'a> {
    findings: Vec<Finding>,
    /// Values that could not be used: a rule that speaks of one of them would only repeat the finding.
    dropped: Vec<Path>,
    kept: &'a [&'a str],
}

impl Checker<'_> {
    fn report(&mut self, path: &Path, at: Position, message: impl Into<String>) {
        self.findings.push(Finding { path: path.clone(), at, message: message.into() });
    }

    /// Checks a value; what can be used of it.
    fn value(&mut self, schema: &Value, node: &Node, path: &Path) -> Option<Value> {
        if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
            return self.int_or_string(schema, node, path);
        }
        let free = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        let Some(kind) = schema.get("type").and_then(Value::as_str) else {
            // Anything goes.
            return Some(node.to_json());
        };
        match (kind, &node.value) {
            ("object", NodeValue::Map(_)) if free => Some(node.to_json()),
            ("object", NodeValue::Map(members)) => Some(self.object(schema, members, node.at, path)),
            ("array", NodeValue::List(items)) => Some(self.array(schema, items, node.at, path)),
            ("string", NodeValue::Text(text)) => self.string(schema, text, node.at, path),
            ("boolean", NodeValue::Bool(flag)) => Some(Value::Bool(*flag)),
            ("integer", NodeValue::Number(number)) if number.is_i64() || number.is_u64() => {
                self.number(schema, number.as_f64().unwrap_or(f64::INFINITY), node.at, path).then(|| node.to_json())
            }
            ("number", NodeValue::Number(number)) => {
                self.number(schema, number.as_f64().unwrap_or(f64::INFINITY), node.at, path).then(|| node.to_json())
            }
            _ => {
                self.wrong_type(article(kind), node, path);
                None
            }
        }
    }

    fn wrong_type(&mut self, expected: &str, node: &Node, path: &Path) {
        let actual = match &node.value {
            NodeValue::Null => "empty (null)".to_owned(),
            NodeValue::Bool(flag) => format!("{flag}, a boolean"),
            NodeValue::Number(number) => format!("{number}, a number"),
            NodeValue::Text(text) => format!("{:?}, a string", text.chars().take(40).collect::<String>()),
            NodeValue::List(_) => "a list".to_owned(),
            NodeValue::Map(_) => "a map".to_owned(),
        };
        let scalar = matches!(node.value, NodeValue::Bool(_) | NodeValue::Number(_));
        let hint = if scalar && expected == article("string") { ": put it in quotes" } else { "" };
        self.report(path, node.at, format!("must be {expected}, not {actual}{hint}"));
        self.dropped.push(path.clone());
    }

    fn object(&mut self, schema: &Value, members: &[(String, Node)], at: Position, path: &Path) -> Value {
        let mut value = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object);
        let values = schema.get("additionalProperties");
        for (name, member) in members {
            let path = path.key(name);
            if let Some(property) = properties.and_then(|properties| properties.get(name)) {
                // A null where null is no value: as if it were not written.
                if member.value == NodeValue::Null && property.get("default").is_some() {
                    continue;
                }
                if let Some(member) = self.value(property, member, &path) {
                    value.insert(name.clone(), member);
                }
            } else if let Some(values) = values {
                if let Some(member) = self.value(values, member, &path) {
                    value.insert(name.clone(), member);
                }
            } else if path.steps().len() == 1 && self.kept.contains(&name.as_str()) {
                value.insert(name.clone(), member.to_json());
            } else {
                let known = properties.into_iter().flat_map(Map::keys).map(String::as_str);
                let hint = nearest::nearest(name, known).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
                self.report(&path, member.at, format!("unknown field{hint}"));
            }
        }
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !members.iter().any(|(written, _)| written == name) {
                self.report(&path.key(name), at, "must be set");
            }
        }
        let count = members.len();
        self.bound(schema, "minProperties", count, |count, bound| count < bound, "members", at, path);
        self.bound(schema, "maxProperties", count, |count, bound| count > bound, "members", at, path);
        Value::Object(value)
    }

    fn array(&mut self, schema: &Value, items: &[Node], at: Position, path: &Path) -> Value {
        let item_schema = schema.get("items").unwrap_or(&Value::Null);
        let mut values = Vec::new();
        let keys: Vec<&str> = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
            Some("map") => {
                schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
            }
            _ => Vec::new(),
        };
        let set = schema.get("x-kubernetes-list-type").and_then(Value::as_str) == Some("set");
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let path = path.index(index);
            let identity = if set {
                Some(item.to_json().to_string())
            } else if keys.is_empty() {
                None
            } else {
                keys.iter().map(|key| item.text(key)).collect::<Option<Vec<_>>>().map(|names| names.join(", "))
            };
            if let Some(identity) = identity
                && !seen.insert(identity.clone())
            {
                self.report(&path, item.at, format!("duplicate {identity}"));
            }
            // An item that cannot be used keeps its place, so that the next one keeps its index.
            values.push(self.value(item_schema, item, &path).unwrap_or_default());
        }
        self.bound(schema, "minItems", items.len(), |count, bound| count < bound, "items", at, path);
        self.bound(schema, "maxItems", items.len(), |count, bound| count > bound, "items", at, path);
        Value::Array(values)
    }

    fn string(&mut self, schema: &Value, text: &str, at: Position, path: &Path) -> Option<Value> {
        if let Some(Value::Array(values)) = schema.get("enum")
            && !values.iter().any(|value| value == text)
        {
            let supported = values.iter().filter_map(Value::as_str).collect::<Vec<_>>();
            let hint = nearest::nearest(text, supported.iter().copied()).map(|name| format!("; did you mean {name}?"));
            self.report(path, at, format!("{text:?} is none of {}{}", supported.join(", "), hint.unwrap_or_default()));
            self.dropped.push(path.clone());
            return None;
        }
        let length = text.chars().count();
        self.bound(schema, "minLength", length, |count, bound| count < bound, "characters", at, path);
        self.bound(schema, "maxLength", length, |count, bound| count > bound, "characters", at, path);
        Some(Value::String(text.to_owned()))
    }

    /// Whether a number is within its bounds.
    fn number(&mut self, schema: &Value, number: f64, at: Position, path: &Path) -> bool {
        let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
        let message = match (bound("minimum"), bound("maximum")) {
            (Some(min), _) if number < min => format!("must be at least {min}"),
            (_, Some(max)) if number > max => format!("must be at most {max}"),
            _ => return true,
        };
        self.report(path, at, message);
        true
    }

    fn int_or_string(&mut self, schema: &Value, node: &Node, path: &Path) -> Option<Value> {
        match &node.value {
            NodeValue::Number(number) if number.is_i64() || number.is_u64() => Some(node.to_json()),
            NodeValue::Text(text) => self.string(schema, text, node.at, path),
            _ => {
                self.wrong_type("an integer or a string", node, path);
                None
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn bound(
        &mut self,
        schema: &Value,
        keyword: &str,
        count: usize,
        broken: fn(usize, usize) -> bool,
        what: &str,
        at: Position,
        path: &Path,
    ) {
        let Some(bound) = schema.get(keyword).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok()) else {
            return;
        };
        if broken(count, bound) {
            let side = if keyword.starts_with("min") { "at least" } else { "at most" };
            self.report(path, at, format!("must have {side} {bound} {what}, not {count}"));
        }
    }

    fn rules(&mut self, rules: &CompiledSchema, value: &Value, document: &Node) {
        let Err(errors) = Validator::new().validate_compiled(rules, value, None) else { return };
        for error in errors {
            let path = parse_path(&error.field_path);
            let at = document.position(&path);
            let spoken_of = self.dropped.iter().any(|dropped| reads(&error.rule, &path, dropped));
            match error.kind {
                ErrorKind::ValidationFailure if spoken_of => {}
                ErrorKind::ValidationFailure => self.report(&path, at, error.message),
                // The server would print the error and the message of the rule; the value it choked on has a finding of its own.
                _ if !self.findings.is_empty() => {}
                _ => self.report(&path, at, format!("a rule cannot be evaluated: {} ({})", error.message, error.rule)),
            }
        }
    }
}

/// Whether a rule at a path reads a value below it: whether it names every field on the way.
fn reads(rule: &str, at: &Path, value: &Path) -> bool {
    value.steps().strip_prefix(at.steps()).is_some_and(|below| {
        below.iter().all(|step| match step {
            Step::Field(name) => mentions(rule, name),
            Step::Index(_) | Step::Named { .. } => true,
        })
    })
}

fn mentions(rule: &str, name: &str) -> bool {
    rule.match_indices(name).any(|(at, _)| {
        let before = rule[..at].chars().next_back();
        let after = rule[at + name.len()..].chars().next();
        let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !word(before) && !word(after)
    })
}

fn article(kind: &str) -> &'static str {
    match kind {
        "object" => "a map",
        "array" => "a list",
        "string" => "a string",
        "boolean" => "true or false",
        "integer" => "an integer",
        _ => "a number",
    }
}

/// `spec.catalog.tools[0].http` as a path.
fn parse_path(text: &str) -> Path {
    let mut path = Path::default();
    for part in text.split('.').filter(|part| !part.is_empty()) {
        let (name, indexes) = part.split_once('[').unwrap_or((part, ""));
        if !name.is_empty() {
            path = path.key(name);
        }
        for index in indexes.split('[') {
            if let Ok(index) = index.trim_end_matches(']').parse() {
                path = path.index(index);
            }
        }
    }
    path
}
