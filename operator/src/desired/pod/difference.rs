//! The first difference between two templates, so that a rollout explains itself.

use serde_json::Value;

/// Longest value that is shown whole.
const LONGEST: usize = 80;

/// The first difference in the order of the document: `spec.containers[0].image: "a" → "b"`. None when they are equal.
///
/// Elements of a list that carry a `name`, a `key` or a `topologyKey` are compared by it, so that an inserted variable is one
/// difference and not a change of all that follow.
pub fn difference(old: &Value, new: &Value) -> Option<String> {
    at("", old, new)
}

fn at(path: &str, old: &Value, new: &Value) -> Option<String> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
            keys.sort();
            keys.dedup();
            keys.into_iter().find_map(|key| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{}", member(key)) };
                either(&path, old.get(key), new.get(key))
            })
        }
        (Value::Array(old), Value::Array(new)) => match (keyed(old), keyed(new)) {
            (Some(_), Some(_)) => named(path, old, new),
            _ => (0..old.len().max(new.len())).find_map(|i| either(&format!("{path}[{i}]"), old.get(i), new.get(i))),
        },
        (old, new) if old == new => None,
        (old, new) => Some(format!("{path}: {} → {}", show(old), show(new))),
    }
}

fn either(path: &str, old: Option<&Value>, new: Option<&Value>) -> Option<String> {
    match (old, new) {
        (Some(old), Some(new)) => at(path, old, new),
        (Some(old), None) => Some(format!("{path}: {} → unset", show(old))),
        (None, Some(new)) => Some(format!("{path}: unset → {}", show(new))),
        (None, None) => None,
    }
}

/// Lists whose elements all have a key: removed ones first, then added and changed ones, then another order.
fn named(path: &str, old: &[Value], new: &[Value]) -> Option<String> {
    let find = |all: &[Value], wanted: &str| all.iter().position(|element| key_of(element) == Some(wanted));
    let keys = old.iter().chain(new).filter_map(key_of);
    for key in keys {
        let (before, after) = (find(old, key), find(new, key));
        let index = after.or(before).unwrap_or_default();
        let here = if new.len() == 1 && old.len() == 1 { format!("{path}[{index}]") } else { format!("{path}[{key}]") };
        if let Some(text) = either(&here, before.map(|i| &old[i]), after.map(|i| &new[i])) {
            return Some(text);
        }
    }
    (old != new).then(|| format!("{path}: another order"))
}

/// The elements' keys, when every element has one and no two the same.
fn keyed(all: &[Value]) -> Option<Vec<&str>> {
    let mut keys = all.iter().map(key_of).collect::<Option<Vec<_>>>()?;
    keys.sort_unstable();
    let count = keys.len();
    keys.dedup();
    (keys.len() == count).then_some(keys)
}

fn key_of(element: &Value) -> Option<&str> {
    ["name", "mountPath", "topologyKey", "key"].into_iter().find_map(|key| element.get(key)?.as_str())
}

/// A member whose own name has dots is quoted, so that the path stays readable.
fn member(key: &str) -> String {
    if key.contains(['.', '/']) { format!("{key:?}") } else { key.to_owned() }
}

fn show(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equal_templates_have_no_difference() {
        let template = json!({"spec": {"containers": [{"name": "server", "image": "a"}]}});
        assert_eq!(difference(&template, &template), None);
    }

    #[test]
    fn a_difference_is_named_by_its_path_and_both_values() {
        for (old, new, named) in [
            (
                json!({"spec": {"containers": [{"name": "server", "image": "a"}]}}),
                json!({"spec": {"containers": [{"name": "server", "image": "b"}]}}),
                "spec.containers[0].image: a → b",
            ),
            (
                json!({"spec": {}}),
                json!({"spec": {"nodeSelector": {"zone": "b"}}}),
                "spec.nodeSelector: unset → {\"zone\":\"b\"}",
            ),
            (
                json!({"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "1"}}}),
                json!({"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2"}}}),
                "metadata.annotations.\"kubectl.kubernetes.io/restartedAt\": 1 → 2",
            ),
            (json!({"spec": {"priorityClassName": "a"}}), json!({"spec": {}}), "spec.priorityClassName: a → unset"),
            (json!({"drop": ["ALL"]}), json!({"drop": []}), "drop[0]: ALL → unset"),
        ] {
            assert_eq!(difference(&old, &new).as_deref(), Some(named));
        }
    }

    #[test]
    fn an_inserted_variable_is_one_difference() {
        let old = json!({"env": [{"name": "A", "value": "1"}, {"name": "C", "value": "3"}]});
        let new = json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "C", "value": "3"}]});
        assert_eq!(difference(&old, &new).as_deref(), Some("env[B]: unset → {\"name\":\"B\",\"value\":\"2\"}"));
    }

    #[test]
    fn another_order_is_a_difference() {
        let old = json!([{"name": "A"}, {"name": "B"}]);
        let new = json!([{"name": "B"}, {"name": "A"}]);
        assert!(difference(&old, &new).unwrap().contains("another order"));
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let text = difference(&json!("é".repeat(500)), &json!("b")).unwrap();
        assert!(text.contains("…") && text.len() < 300, "{text}");
    }
}
