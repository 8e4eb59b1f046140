//! Manifests of the tests: small shards that start, answer and drain quickly.

use serde_json::{Value, json};

/// An `McpCluster` of small, quick shards; members of `spec` replace the ones here.
pub(crate) fn small(name: &str, spec: &Value) -> Value {
    let mut manifest = json!({
        "apiVersion": "mcpcluster.dev/v1alpha1",
        "kind": "McpCluster",
        "metadata": {"name": name},
        "spec": {
            "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}},
            "limits": {"requestTimeout": "5s"},
            "drain": {"window": "2s", "timeout": "20s"},
            "catalog": {"tools": [greet("Hello."), echo()]},
        },
    });
    merge(&mut manifest["spec"], spec);
    manifest
}

/// A tool that always answers `text`.
pub(crate) fn greet(text: &str) -> Value {
    json!({"name": "greet", "description": "Greets the caller.", "static": {"content": [{"text": text}]}})
}

/// A tool that answers with its argument.
pub(crate) fn echo() -> Value {
    json!({
        "name": "echo",
        "inputSchema": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
        "template": {"content": [{"text": "You said {word}."}]},
    })
}

/// JSON merge patch (RFC 7386).
fn merge(into: &mut Value, patch: &Value) {
    let (Value::Object(target), Value::Object(members)) = (&mut *into, patch) else {
        *into = patch.clone();
        return;
    };
    for (name, value) in members {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}
