//! The vocabulary in which the types of the resource state their bounds: each function is a schemars transform.
//!
//! ```text
//! #[schemars(transform = rules::rule("self.a < self.b", "`a` must be less than `b`"))]
//! #[schemars(transform = rules::span("1s", "10m", "15s"))]
//! #[schemars(transform = rules::list_map(&["name"], 32))]
//! ```
//!
//! They stand on the Rust types and nowhere else; the CustomResourceDefinition, `mcp-server --manifest` and the tests use
//! the schema that comes of them. A rule about one value stands on that value: the API server ratchets such a rule when it
//! is tightened, while a rule on `spec` would block every later edit, `kubectl scale` included.

use schemars::Schema;
use serde_json::{Value, json};

/// What a rule bounds, in words, for the description; taken out again when the schema is complete.
pub(crate) const BOUNDS: &str = "x-bounds";

/// A CEL rule, and what a person is told when it is broken.
pub(crate) fn rule(rule: impl Into<String>, message: impl Into<String>) -> impl FnMut(&mut Schema) {
    let (rule, message) = (rule.into(), message.into());
    move |schema| {
        let rule = json!({ "rule": rule, "message": message });
        match schema.ensure_object().entry("x-kubernetes-validations").or_insert_with(|| json!([])) {
            Value::Array(rules) => rules.push(rule),
            _ => unreachable!("only this function writes x-kubernetes-validations"),
        }
    }
}

/// A duration between two others, with an example of one.
pub(crate) fn span(min: &str, max: &str, example: &str) -> impl FnMut(&mut Schema) {
    let words = format!("{min} to {max}");
    let mut bound = rule(
        format!(
            "self.matches('{}') && duration(self) >= duration('{min}') && duration(self) <= duration('{max}')",
            crate::duration::PATTERN
        ),
        format!("must be a duration from {min} to {max} in h, m, s or ms, for example '{example}'"),
    );
    move |schema| {
        insert(schema, BOUNDS, words.as_str());
        bound(schema);
    }
}

/// A quantity of bytes between two others.
pub(crate) fn size(min: &str, max: &str) -> impl FnMut(&mut Schema) {
    let mut bound = rule(
        format!(
            "isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('{min}')) >= 0 && \
             quantity(string(self)).compareTo(quantity('{max}')) <= 0"
        ),
        format!("must be between {min} and {max}"),
    );
    let words = format!("{min} to {max}");
    move |schema| {
        insert(schema, BOUNDS, words.as_str());
        insert(schema, "maxLength", 32);
        bound(schema);
    }
}

/// A part of the shards, at least one of them: a count, or a percentage.
pub(crate) fn portion(field: &str) -> impl FnMut(&mut Schema) {
    let mut bound = rule(
        // A number differs from its digits as a string.
        "self == string(self) ? self.matches('^([1-9][0-9]?|100)%$') : string(self).matches('^([1-9][0-9]?|[12][0-9]{2}|300)$')",
        format!(
            "`{field}` must be a number from 1 to 300 or a percentage from '1%' to '100%': write for example 2 or '10%', or \
             leave `{field}` out for 10 %, at least one shard"
        ),
    );
    move |schema| {
        insert(schema, BOUNDS, "1 to 300, or 1% to 100%");
        insert(schema, "maxLength", 4);
        bound(schema);
    }
}

/// A string that matches a regular expression, in our words instead of the expression's.
pub(crate) fn matches(pattern: &str, message: &str) -> impl FnMut(&mut Schema) {
    rule(format!("self.matches('{}')", pattern.replace('\\', "\\\\")), message)
}

/// A name that becomes a label of metrics and part of messages.
pub(crate) fn label() -> impl FnMut(&mut Schema) {
    limited(
        40,
        matches("^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$", "use at most 40 lower-case letters, digits and '-', starting with a letter"),
    )
}

/// The name of a ConfigMap or Secret.
pub(crate) fn object_name() -> impl FnMut(&mut Schema) {
    limited(
        253,
        matches(
            "^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$",
            "must be the name of an object of the same namespace: lower-case letters, digits, '-' and '.'",
        ),
    )
}

/// A key of a ConfigMap or Secret.
pub(crate) fn object_key() -> impl FnMut(&mut Schema) {
    limited(
        253,
        rule(
            "self.matches('^[-._a-zA-Z0-9]{1,253}$') && self != '.' && !self.startsWith('..')",
            "must be a key of a ConfigMap or Secret: letters, digits, '-', '_' and '.'",
        ),
    )
}

/// MCP, Tool Names; ours for prompts too.
pub(crate) fn entry_name() -> impl FnMut(&mut Schema) {
    limited(128, matches("^[A-Za-z0-9_.-]{1,128}$", "use 1 to 128 letters, digits, '_', '-' and '.'"))
}

fn limited(max: u32, mut inner: impl FnMut(&mut Schema)) -> impl FnMut(&mut Schema) {
    move |schema| {
        insert(schema, "maxLength", max);
        inner(schema);
    }
}

/// A list whose items are known by some of their fields: two teams can own two items of it.
pub(crate) fn list_map(keys: &'static [&'static str], max: u32) -> impl FnMut(&mut Schema) {
    move |schema| {
        insert(schema, "x-kubernetes-list-type", "map");
        insert(schema, "x-kubernetes-list-map-keys", keys);
        insert(schema, "maxItems", max);
    }
}

/// A list of metav1.Condition, as every controller writes it.
pub(crate) fn conditions() -> impl FnMut(&mut Schema) {
    list_map(&["type"], 16)
}

/// A list without order, each value once.
pub(crate) fn list_set(max: u32) -> impl FnMut(&mut Schema) {
    move |schema| {
        insert(schema, "x-kubernetes-list-type", "set");
        insert(schema, "maxItems", max);
    }
}

/// A list whose order matters: one owner.
pub(crate) fn list(max: u32) -> impl FnMut(&mut Schema) {
    move |schema| {
        insert(schema, "x-kubernetes-list-type", "atomic");
        insert(schema, "maxItems", max);
    }
}

/// Bounds of a map from strings to strings.
pub(crate) fn string_map(max: u32, max_length: u32) -> impl FnMut(&mut Schema) {
    move |schema| {
        insert(schema, "maxProperties", max);
        if let Some(Value::Object(values)) = schema.ensure_object().get_mut("additionalProperties") {
            values.insert("maxLength".to_owned(), max_length.into());
        }
    }
}

/// Bounds of a map from strings to quantities.
pub(crate) fn quantity_map() -> impl FnMut(&mut Schema) {
    let mut quantities =
        rule("self.all(k, isQuantity(string(self[k])))", "each must be a quantity, for example cpu '500m' or memory '512Mi'");
    move |schema| {
        insert(schema, "maxProperties", 16);
        insert(schema, "additionalProperties", json!({ "x-kubernetes-int-or-string": true, "maxLength": 32 }));
        quantities(schema);
    }
}

/// An object with exactly one member, where a rule cannot count them: CEL does not see members that may be any value.
pub(crate) fn one_member() -> impl FnMut(&mut Schema) {
    |schema| {
        insert(schema, "minProperties", 1);
        insert(schema, "maxProperties", 1);
    }
}

/// Any JSON value: the API server keeps what it does not know.
pub(crate) fn any_value() -> impl FnMut(&mut Schema) {
    |schema| insert(schema, "x-kubernetes-preserve-unknown-fields", true)
}

/// Any JSON object.
pub(crate) fn any_object() -> impl FnMut(&mut Schema) {
    |schema| {
        insert(schema, "type", "object");
        insert(schema, "x-kubernetes-preserve-unknown-fields", true);
    }
}

/// A type of core/v1: its descriptions are cut to their first sentence, and what it leaves unbounded is bounded.
pub(crate) fn core() -> impl FnMut(&mut Schema) {
    |schema| {
        let description = schema.get("description").cloned();
        let mut value = Value::Object(std::mem::take(schema.ensure_object()));
        bound_core(&mut value);
        if let (Value::Object(object), Some(description)) = (&mut value, description) {
            object.insert("description".to_owned(), description);
        }
        if let Ok(bounded) = Schema::try_from(value) {
            *schema = bounded;
        }
    }
}

fn bound_core(schema: &mut Value) {
    let Value::Object(object) = schema else { return };
    if let Some(Value::String(description)) = object.get_mut("description") {
        *description = first_sentence(description);
    }
    let is = |name: &str| match object.get("type") {
        Some(Value::String(one)) => one == name,
        Some(Value::Array(several)) => several.iter().any(|one| one == name),
        _ => false,
    };
    let (string, array, map) = (is("string"), is("array"), is("object") && object.contains_key("additionalProperties"));
    if string && !object.contains_key("enum") {
        object.entry("maxLength").or_insert(json!(4096));
    }
    if array {
        object.entry("maxItems").or_insert(json!(64));
        object.entry("x-kubernetes-list-type").or_insert(json!("atomic"));
    }
    if map {
        object.entry("maxProperties").or_insert(json!(64));
    }
    for keyword in ["properties", "items", "additionalProperties", "anyOf", "oneOf"] {
        match (keyword, object.get_mut(keyword)) {
            ("properties", Some(Value::Object(parts))) => parts.values_mut().for_each(bound_core),
            (_, Some(Value::Array(parts))) => parts.iter_mut().for_each(bound_core),
            (_, Some(part)) => bound_core(part),
            (_, None) => {}
        }
    }
}

/// Up to the first full stop that ends a sentence.
fn first_sentence(text: &str) -> String {
    let text = text.split("\n\n").next().unwrap_or(text).replace('\n', " ");
    let end = text
        .match_indices(". ")
        .map(|(at, _)| at)
        .find(|at| !["e.g", "i.e", "etc"].iter().any(|short| text[..*at].ends_with(short)));
    text[..end.map_or(text.len(), |at| at + 1)].trim().to_owned()
}

fn insert(schema: &mut Schema, key: &str, value: impl Into<Value>) {
    schema.insert(key.to_owned(), value.into());
}
