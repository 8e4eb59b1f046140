//! Which fields of an object are ours, as the API server keeps it in `managedFields`.
//!
//! A foreign change of a field that we applied takes it out of our entry, whoever makes it and however; a change beside our
//! fields does not touch it. So whether an object still is as we rendered it can be told from its metadata alone, also by a
//! process that did not apply it: every leaf of what is rendered must be in our entry.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde::Serialize;
use serde_json::Value;

use crate::names;

/// Metadata that the API server sets, or that names the object: never in an entry.
const NOT_MANAGED: [&str; 6] = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp", "managedFields"];

/// Our own entry of `managedFields`, as JSON: the others are nothing a pass reads. As a tree of maps it takes ten times the
/// memory.
pub fn ours(metadata: &ObjectMeta) -> Option<String> {
    let entry = metadata.managed_fields.iter().flatten().find(|entry| is_ours(entry))?;
    Some(entry.fields_v1.as_ref()?.0.to_string())
}

/// The first field of `rendered` that is no longer ours: `spec.selector`. None when all of them are in `ours`, our entry.
pub fn lost<K: Serialize>(rendered: &K, ours: Option<&str>) -> Option<String> {
    let owned = ours.and_then(|ours| serde_json::from_str::<Value>(ours).ok());
    let Some(owned) = owned else { return Some("every field".to_owned()) };
    let mut rendered = serde_json::to_value(rendered).ok()?;
    if let Some(object) = rendered.as_object_mut() {
        object.retain(|name, _| !matches!(name.as_str(), "apiVersion" | "kind" | "status"));
    }
    if let Some(metadata) = rendered.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|name, _| !NOT_MANAGED.contains(&name.as_str()));
    }
    missing("", &owned, &rendered)
}

/// Digest of our entry.
pub fn digest(ours: Option<&str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    ours.hash(&mut hasher);
    hasher.finish()
}

/// Who wrote this object last, of those who are not us and do not only write its status.
pub fn last_other(metadata: &ObjectMeta) -> Option<String> {
    let others = metadata.managed_fields.iter().flatten().filter(|entry| !is_ours(entry) && entry.subresource.is_none());
    others.max_by_key(|entry| entry.time.as_ref().map(|time| time.0)).and_then(|entry| entry.manager.clone())
}

fn is_ours(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(names::FIELD_MANAGER)
        && entry.operation.as_deref() == Some("Apply")
        && entry.subresource.is_none()
}

/// The first leaf of `rendered` that `owned`, a set of fields in the form `FieldsV1`, does not hold.
///
/// `f:name` is a member, `k:{…}` the element of a list with these keys, `v:…` an element that is its own key. A field without
/// fields below it is owned whole.
fn missing(path: &str, owned: &Value, rendered: &Value) -> Option<String> {
    let owned = owned.as_object().filter(|owned| !owned.is_empty())?;
    match rendered {
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{}", member(name)) };
            match owned.get(&format!("f:{name}")) {
                Some(below) => missing(&path, below, value),
                None => Some(path),
            }
        }),
        Value::Array(elements) => elements.iter().find_map(|element| match element_of(owned, element) {
            Some(below) => missing(&format!("{path}[]"), below, element),
            None => Some(format!("{path}[]")),
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// What is owned of an element of a list.
fn element_of<'a>(owned: &'a serde_json::Map<String, Value>, element: &Value) -> Option<&'a Value> {
    owned.iter().find_map(|(key, below)| {
        let (form, text) = key.split_once(':')?;
        let key: Value = serde_json::from_str(text).ok()?;
        let is_it = match form {
            "k" => key.as_object()?.iter().all(|(name, value)| element.get(name) == Some(value)),
            "v" => key == *element,
            _ => false,
        };
        is_it.then_some(below)
    })
}

/// A member whose own name has dots is quoted, so that the path stays readable.
fn member(name: &str) -> String {
    if name.contains(['.', '/']) { format!("{name:?}") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

    use super::*;

    /// The entry that the API server 1.35 answers with for [`service`], word for word.
    fn fields() -> Value {
        json!({
            "f:metadata": {
                "f:annotations": {"f:mcpcluster.dev/rendered-hash": {}},
                "f:labels": {"f:app.kubernetes.io/name": {}, "f:mcpcluster.dev/cluster": {}},
                "f:ownerReferences": {"k:{\"uid\":\"u\"}": {}},
            },
            "f:spec": {
                "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}},
                "f:selector": {},
                "f:type": {},
            },
        })
    }

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {
                "name": "tools", "namespace": "agents", "uid": "s",
                "annotations": {"mcpcluster.dev/rendered-hash": "a"},
                "labels": {"app.kubernetes.io/name": "mcp-server", "mcpcluster.dev/cluster": "tools"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "McpCluster", "name": "tools", "uid": "u", "controller": true}],
            },
            "spec": {
                "type": "ClusterIP",
                "selector": {"mcpcluster.dev/cluster": "tools", "mcpcluster.dev/placed": "true"},
                "ports": [{"name": "mcp", "port": 80, "protocol": "TCP", "targetPort": "mcp"}],
            },
        }))
        .unwrap()
    }

    fn live(fields: &Value) -> ObjectMeta {
        let entry = |manager: &str, operation: &str, time: &str, fields: &Value| json!({"manager": manager, "operation": operation, "apiVersion": "v1", "time": time, "fieldsType": "FieldsV1", "fieldsV1": fields});
        let theirs = json!({"f:spec": {"f:selector": {}}});
        serde_json::from_value(json!({"managedFields": [
            entry("mcp-operator", "Apply", "2026-11-23T10:00:00Z", fields),
            entry("mcp-operator", "Update", "2026-11-23T10:00:00Z", &json!({})),
            entry("argocd", "Update", "2026-11-23T09:00:00Z", &theirs),
            entry("kubectl-edit", "Update", "2026-11-23T11:00:00Z", &theirs),
        ]}))
        .unwrap()
    }

    #[test]
    fn an_object_nobody_touched_has_lost_nothing() {
        assert_eq!(lost(&service(), ours(&live(&fields())).as_deref()), None);
    }

    #[test]
    fn each_field_that_somebody_took_is_named() {
        for (pointer, named) in [
            ("/f:spec/f:selector", "spec.selector"),
            ("/f:spec/f:type", "spec.type"),
            ("/f:spec/f:ports/k:{\"port\":80,\"protocol\":\"TCP\"}/f:targetPort", "spec.ports[].targetPort"),
            ("/f:spec/f:ports/k:{\"port\":80,\"protocol\":\"TCP\"}", "spec.ports[]"),
            ("/f:metadata/f:labels", "metadata.labels"),
            ("/f:metadata/f:labels/f:mcpcluster.dev~1cluster", "metadata.labels.\"mcpcluster.dev/cluster\""),
            ("/f:metadata/f:ownerReferences/k:{\"uid\":\"u\"}", "metadata.ownerReferences[]"),
        ] {
            let mut fields = fields();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let name = name.replace("~1", "/");
            // What the API server leaves is never an empty entry, but for the last field.
            let parent = fields.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            parent.remove(&name).unwrap();
            parent.entry("f:another").or_insert(json!({}));
            assert_eq!(lost(&service(), Some(&fields.to_string())).as_deref(), Some(named));
        }
    }

    #[test]
    fn without_an_entry_everything_is_lost() {
        let mut live = live(&fields());
        live.managed_fields.as_mut().unwrap().remove(0);
        assert_eq!(ours(&live), None, "what is created with POST is another entry");
        live.managed_fields = None;
        assert_eq!(ours(&live), None);
        assert_eq!(lost(&service(), None).as_deref(), Some("every field"));
    }

    #[test]
    fn only_our_entry_counts_and_the_last_of_the_others_is_named() {
        let metadata = live(&fields());
        assert_eq!(last_other(&metadata).as_deref(), Some("kubectl-edit"));
        let entry = ours(&metadata);
        assert_eq!(entry, Some(fields().to_string()));
        assert_eq!(digest(entry.as_deref()), digest(ours(&metadata).as_deref()));
        assert_ne!(digest(entry.as_deref()), digest(None));
    }

    #[test]
    fn elements_that_are_their_own_key_are_found() {
        let owned = json!({"f:finalizers": {"v:\"a\"": {}}});
        assert_eq!(missing("", &owned, &json!({"finalizers": ["a"]})), None);
        assert_eq!(missing("", &owned, &json!({"finalizers": ["a", "b"]})).as_deref(), Some("finalizers[]"));
    }
}
