//! The CustomResourceDefinition, generated from the Rust types.
//!
//! ```text
//! Rust types → JSON Schema (schemars) → structural schema → CustomResourceDefinition → YAML
//! ```
//!
//! kube's own rewriter keeps `nullable` on every optional field and loses the description of an optional enum; here absence
//! is the only way to say nothing, so that `has(self.x)` in a rule means what it looks like.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceValidation, JSONSchemaProps,
};
use kube::CustomResourceExt as _;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::McpCluster;
use crate::check::Schema;
use crate::rules;

/// The CustomResourceDefinition of [`McpCluster`].
///
/// # Panics
/// Never: it is generated from types, and tests generate it.
pub fn crd() -> CustomResourceDefinition {
    let mut crd = McpCluster::crd();
    let schema: JSONSchemaProps =
        serde_json::from_value(schema().value().clone()).expect("a structural schema is JSONSchemaProps");
    for version in &mut crd.spec.versions {
        version.schema = Some(CustomResourceValidation { open_api_v3_schema: Some(schema.clone()) });
    }
    crd
}

/// [`crd`] as YAML: what is committed as `crds/mcpclusters.yaml`, and what `mcp-operator crd` prints.
///
/// # Panics
/// Never: see [`crd`].
pub fn crd_yaml() -> String {
    let mut crd = serde_json::to_value(crd()).expect("a CustomResourceDefinition serializes");
    whole_numbers(&mut crd);
    serde_yaml::to_string(&crd).expect("a JSON value serializes")
}

/// JSONSchemaProps holds bounds as floats; here all are whole, and are written so.
fn whole_numbers(value: &mut Value) {
    match value {
        #[allow(clippy::cast_possible_truncation)] // bounds of 32-bit integers
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0) {
                *number = (float as i64).into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(members) => members.values_mut().for_each(whole_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// The schema of a whole [`McpCluster`], as the API server reads it, with its rules compiled.
pub fn schema() -> &'static Schema {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
        let mut schema = generated();
        describe(&mut schema);
        Schema::new(schema)
    });
    &SCHEMA
}

/// The structural schema as the types give it: bounds beside the descriptions, not in them.
pub(super) fn generated() -> Value {
    let generator = SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .into_generator();
    let mut schema = generator.into_root_schema_for::<McpCluster>().to_value();
    structural(&mut schema);
    // What the operator did not write, it does not know: a default would make a zero of it.
    remove_defaults(&mut schema["properties"]["status"]);
    schema
}

fn remove_defaults(schema: &mut Value) {
    let Value::Object(object) = schema else { return };
    object.remove("default");
    if let Some(Value::Array(keys)) = object.get("x-kubernetes-list-map-keys").cloned()
        && let Some(Value::Object(items)) = object.get_mut("items")
    {
        // A key without default has to be there.
        let Value::Array(required) = items.entry("required").or_insert_with(|| json!([])) else { return };
        for key in keys {
            if !required.contains(&key) {
                required.push(key);
            }
        }
    }
    for keyword in ["properties", "items", "additionalProperties"] {
        match (keyword, object.get_mut(keyword)) {
            ("properties", Some(Value::Object(properties))) => properties.values_mut().for_each(remove_defaults),
            (_, Some(part)) => remove_defaults(part),
            (_, None) => {}
        }
    }
}

/// Rewrites a JSON Schema into the structural subset: no null, no unions, enums without variants' descriptions.
fn structural(schema: &mut Value) {
    if !schema.is_object() {
        *schema = json!({});
    }
    let Value::Object(object) = schema else { return };
    flatten_option(object);
    flatten_enum(object);
    for keyword in ["title", "$schema"] {
        object.remove(keyword);
    }
    // `false` is what pruning does anyway, and is forbidden beside properties.
    if object.get("additionalProperties").is_some_and(Value::is_boolean) {
        object.remove("additionalProperties");
    }
    if let Some(Value::String(description)) = object.get_mut("description") {
        *description = one_line(description);
    }
    // A default that sets nothing says nothing.
    if object.get("default").is_some_and(|default| default == &json!({}) || default == &json!([]) || default.is_null()) {
        object.remove("default");
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(structural);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(part) = object.get_mut(keyword) {
            structural(part);
        }
    }
}

/// Line breaks of the source are none of the reader's; paragraphs are.
fn one_line(text: &str) -> String {
    text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n")
}

/// Puts what `kubectl explain` does not show, bounds and defaults, at the end of each description.
fn describe(schema: &mut Value) {
    let Value::Object(object) = schema else { return };
    let bounds = match object.remove(rules::BOUNDS) {
        Some(Value::String(words)) => Some(words),
        _ => match (object.get("minimum"), object.get("maximum")) {
            (Some(min), Some(max)) => Some(format!("{min} to {max}")),
            (Some(min), None) => Some(format!("{min} or more")),
            (None, _) => None,
        },
    };
    let default = match object.get("default") {
        Some(Value::String(text)) => Some(text.clone()),
        Some(default @ (Value::Number(_) | Value::Bool(_))) => Some(default.to_string()),
        _ => None,
    };
    if let Some(Value::String(description)) = object.get_mut("description") {
        let extra = match (bounds, default) {
            (Some(bounds), Some(default)) => format!(" {bounds}, default {default}."),
            (Some(bounds), None) => format!(" {bounds}."),
            (None, Some(default)) => format!(" Default {default}."),
            (None, None) => String::new(),
        };
        description.push_str(&extra);
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(describe);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(part) = object.get_mut(keyword) {
            describe(part);
        }
    }
}

/// `type: [string, "null"]` and `anyOf: [T, null]` are T: absent means absent.
fn flatten_option(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get("type") {
        let mut types = types.iter().filter(|kind| *kind != "null");
        if let (Some(kind), None) = (types.next().cloned(), types.next()) {
            object.insert("type".to_owned(), kind);
        }
    }
    if let Some(Value::Array(parts)) = object.get("anyOf") {
        let mut parts = parts.iter().filter(|part| part.get("type") != Some(&json!("null")));
        if let (Some(Value::Object(part)), None) = (parts.next().cloned(), parts.next()) {
            object.remove("anyOf");
            for (keyword, value) in part {
                // The field's own description wins over its type's.
                object.entry(keyword).or_insert(value);
            }
            flatten_option(object);
        }
    }
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
}

/// `oneOf: [{const: A, description}, {enum: [B, C]}]` is `enum: [A, B, C]`.
fn flatten_enum(object: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = object.get("oneOf") else { return };
    let values: Option<Vec<Value>> = variants
        .iter()
        .map(|variant| match (variant.get("const"), variant.get("enum")) {
            (Some(value), _) => Some(vec![value.clone()]),
            (None, Some(Value::Array(values))) => Some(values.clone()),
            (None, _) => None,
        })
        .collect::<Option<Vec<_>>>()
        .map(|values| values.concat());
    if let Some(values) = values {
        object.remove("oneOf");
        object.insert("type".to_owned(), json!("string"));
        object.insert("enum".to_owned(), Value::Array(values));
    }
}
