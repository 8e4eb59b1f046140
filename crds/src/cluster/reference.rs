//! docs/api.md: the resource as a reference, from the same schema the API server reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::conditions::{CONDITIONS, SCALE_REASONS};
use super::crd::{crd, generated};
use crate::{duration, rules as schema_rules};

/// Parts that Kubernetes documents: their type, not their fields.
const KUBERNETES: [(&str, &str); 6] = [
    ("spec.env", "core/v1 EnvVar"),
    ("spec.podTemplate.spec.affinity", "core/v1 Affinity"),
    ("spec.podTemplate.spec.imagePullSecrets", "core/v1 LocalObjectReference"),
    ("spec.podTemplate.spec.tolerations", "core/v1 Toleration"),
    ("spec.podTemplate.spec.topologySpreadConstraints", "core/v1 TopologySpreadConstraint"),
    ("status.conditions", "meta/v1 Condition"),
];

const HEAD: &str = "\
# McpCluster, v1alpha1

<!-- Generated from the Rust types by `cargo run -p mcp-crds --example generate`. Edit crds/src. -->

Group `mcpcluster.dev`, version `v1alpha1`, kind `McpCluster`, plural `mcpclusters`, short name `mcpc`, namespaced, with the
subresources `status` and `scale`. `kubectl explain mcpcluster.spec` prints the same text. Needs Kubernetes 1.31 or newer.

- A **duration** is up to four whole numbers with `h`, `m`, `s` or `ms`, for example `1h30m`. A **size** is a Kubernetes
  quantity of bytes, for example `512Mi`.
- Defaults are stored with the object, so an upgrade of the operator never moves an existing cluster.
- Client-side `kubectl apply` drops `null` inside `inputSchema`, `outputSchema`, `structuredContent` and `body.json`; use
  `kubectl apply --server-side`. A ConfigMap source keeps its text.
- **Rules** are checked by the API server when an object is written, and by `mcp-server --manifest` without one. A rule on
  one value stands with that value, a rule on several with the object that holds them. A size or duration out of its bounds
  is refused with `must be between …` or `must be a duration from … to …`.
";

/// The reference, as Markdown.
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    let schema = generated();
    let properties = &schema["properties"];
    let mut printed = BTreeMap::new();
    text.push_str("\n## Metadata\n");
    for message in messages(&schema) {
        let _ = writeln!(text, "\n- Rule: {message}.");
    }
    for part in ["spec", "status"] {
        let _ = write!(text, "\n## {}\n", if part == "spec" { "Spec" } else { "Status" });
        object(&mut text, part, &properties[part], &mut printed);
    }
    columns(&mut text);
    conditions(&mut text);
    text
}

/// An object: what it is, its fields, its rules; then the objects inside it.
fn object(text: &mut String, path: &str, schema: &Value, printed: &mut BTreeMap<String, String>) {
    let _ = write!(text, "\n### {path}\n\n");
    if let Some(description) = schema.get("description").and_then(Value::as_str) {
        let _ = writeln!(text, "{description}\n");
    }
    let nothing = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&nothing);
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !properties.is_empty() {
        text.push_str("| Field | Type | Bounds | Default | |\n|---|---|---|---|---|\n");
    }
    let mut inner = Vec::new();
    for (name, field) in properties {
        let path = format!("{path}.{name}");
        let required = if required.contains(&name.as_str()) { " (required)" } else { "" };
        let _ = writeln!(
            text,
            "| `{name}`{required} | {} | {} | {} | {} |",
            kind(&path, field),
            bounds(field),
            default(field),
            words(field)
        );
        if KUBERNETES.iter().any(|(known, _)| *known == path) {
            continue;
        }
        let (path, object) = match field.get("items") {
            Some(items) => (format!("{path}[]"), items),
            None => (path, field),
        };
        if object.get("properties").is_some() {
            inner.push((path, object));
        }
    }
    let mut told: Vec<String> = messages(schema).map(|message| format!("- Rule: {message}.")).collect();
    for (name, field) in properties {
        // Rules of an object stand with it; those of bounds are the bounds.
        for field in [Some(field), field.get("items")].into_iter().flatten() {
            if field.get("properties").is_none() && field.get(schema_rules::BOUNDS).is_none() {
                told.extend(messages(field).map(|message| format!("- Rule of `{name}`: {message}.")));
            }
        }
    }
    told.dedup();
    if !told.is_empty() {
        let _ = writeln!(text, "\n{}", told.join("\n"));
    }
    for (path, schema) in inner {
        // Shared shapes are printed once.
        let mut shape = schema.clone();
        if let Value::Object(shape) = &mut shape {
            shape.remove("description");
            shape.remove("default");
        }
        if let Some(first) = printed.get(&shape.to_string()) {
            let anchor: String = first.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
            let _ = write!(text, "\n### {path}\n\nThe same as [{first}](#{anchor}).\n");
        } else {
            printed.insert(shape.to_string(), path.clone());
            object(text, &path, schema, printed);
        }
    }
}

fn kind(path: &str, field: &Value) -> String {
    if let Some((_, kubernetes)) = KUBERNETES.iter().find(|(known, _)| *known == path) {
        let list = if field["type"] == "array" { "list of " } else { "" };
        return format!("{list}{kubernetes}{}", merging(field));
    }
    if let Some(Value::Array(values)) = field.get("enum") {
        return values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    match field.get("type").and_then(Value::as_str) {
        None if field.get("x-kubernetes-int-or-string").is_some() => {
            if is_portion(field) {
                "number or percentage".to_owned()
            } else {
                "size".to_owned()
            }
        }
        None => "any value".to_owned(),
        Some("string") if is_duration(field) => "duration".to_owned(),
        Some("string") if field.get("format").is_some() => "time".to_owned(),
        Some("array") => format!("list of {}{}", kind("", &field["items"]), merging(field)),
        Some("object") if field.get("additionalProperties").is_some() => {
            let quantities = field["additionalProperties"].get("x-kubernetes-int-or-string").is_some();
            format!("map of {}", if quantities { "quantities" } else { "strings" })
        }
        Some("object") if field.get("x-kubernetes-preserve-unknown-fields").is_some() => "any object".to_owned(),
        Some(kind) => kind.to_owned(),
    }
}

fn is_duration(field: &Value) -> bool {
    has_rule(field, duration::PATTERN)
}

/// Of the two kinds of values that are numbers or strings, the one whose number is a count.
fn is_portion(field: &Value) -> bool {
    has_rule(field, "%$")
}

fn has_rule(field: &Value, part: &str) -> bool {
    let rules = field["x-kubernetes-validations"].as_array();
    rules.into_iter().flatten().any(|rule| rule["rule"].as_str().is_some_and(|rule| rule.contains(part)))
}

/// How a list merges under server-side apply.
fn merging(field: &Value) -> String {
    match field.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("map") => {
            let keys = field["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
            format!(", by {}", keys.filter_map(Value::as_str).map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" and "))
        }
        Some("set") => ", each once".to_owned(),
        _ => String::new(),
    }
}

fn bounds(field: &Value) -> String {
    let number = |name: &str| field.get(name).map(ToString::to_string);
    let range = |min: Option<String>, max: Option<String>, what: &str| match (min, max) {
        (Some(min), Some(max)) => format!("{min} to {max}{what}"),
        (Some(min), None) => format!("{min} or more{what}"),
        (None, Some(max)) => format!("at most {max}{what}"),
        (None, None) => String::new(),
    };
    if let Some(Value::String(words)) = field.get(schema_rules::BOUNDS) {
        return words.clone();
    }
    match field.get("type").and_then(Value::as_str) {
        Some("integer") => range(number("minimum"), number("maximum"), ""),
        Some("array") => range(number("minItems"), number("maxItems"), " items"),
        Some("object") => range(number("minProperties"), number("maxProperties"), " members"),
        // Of these the rule speaks.
        Some("string") if field.get("enum").is_none() && !is_duration(field) => range(None, number("maxLength"), " characters"),
        _ => String::new(),
    }
}

fn default(field: &Value) -> String {
    match field.get("default") {
        None => String::new(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => format!("`{value}`"),
        Some(_) => "see below".to_owned(),
    }
}

fn words(field: &Value) -> String {
    let description = field.get("description").and_then(Value::as_str).unwrap_or_default();
    description.replace("\n\n", " ").replace('|', "\\|")
}

fn messages(schema: &Value) -> impl Iterator<Item = &str> {
    schema["x-kubernetes-validations"].as_array().into_iter().flatten().filter_map(|rule| rule["message"].as_str())
}

fn columns(text: &mut String) {
    text.push_str("\n## Columns\n\n`kubectl get mcpc` prints these; those marked wide come with `-o wide`.\n\n");
    text.push_str("| Column | | From |\n|---|---|---|\n");
    for version in crd().spec.versions {
        for column in version.additional_printer_columns.into_iter().flatten() {
            let wide = if column.priority.is_some_and(|priority| priority > 0) { " (wide)" } else { "" };
            let description = column.description.unwrap_or_default();
            let _ = writeln!(text, "| {}{wide} | {description} | `{}` |", column.name.to_uppercase(), column.json_path);
        }
    }
}

fn conditions(text: &mut String) {
    text.push_str(
        "\n## Conditions and reasons\n\nReasons are API: alerts match them. Messages are for people and may change. Every condition is there from the first\n\
         pass of the operator, with `observedGeneration`. Page on `Available`, wait on `Ready`.\n\n\
         | Condition | Normally | True | False | Unknown |\n|---|---|---|---|---|\n",
    );
    for condition in CONDITIONS {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            condition.name,
            condition.normal,
            condition.when_true.join(", "),
            condition.when_false.join(", "),
            condition.unknown.join(", ")
        );
    }
    text.push('\n');
    for condition in CONDITIONS {
        let _ = writeln!(text, "- **{}**: {}", condition.name, condition.meaning);
    }
    text.push_str("\n`status.lastScale.reason`:\n\n");
    for (reason, meaning) in SCALE_REASONS {
        let _ = writeln!(text, "- **{reason}**: {meaning}");
    }
}
