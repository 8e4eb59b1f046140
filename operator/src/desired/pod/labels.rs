//! The labels by which a shard is found, counted and routed to: what they may be, and what they are to be when they are not.

use std::collections::BTreeMap;

use crate::names;

/// Labels of a live shard that somebody changed or removed, with the value they are to have. The user's labels are not among
/// them: they are as the shard was born.
pub fn foreign_labels(cluster: &str, live: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let label = |key: &str| live.get(key).map(String::as_str);
    let drains = label(names::LABEL_STATE) == Some(names::STATE_DRAINING);
    let is_ours = |key: &str, born: &str| match key {
        names::LABEL_STATE => matches!(label(key), Some(names::STATE_ACTIVE | names::STATE_DRAINING)),
        names::LABEL_PLACED => matches!(label(key), Some(names::PLACED | names::NOT_PLACED)),
        _ => label(key) == Some(born),
    };
    let wrong = names::shard_labels(cluster).into_iter().filter(|(key, born)| !is_ours(key, born));
    wrong
        .map(|(key, born)| if key == names::LABEL_PLACED && drains { (key, names::NOT_PLACED.to_owned()) } else { (key, born) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(change: &[(&str, Option<&str>)]) -> BTreeMap<String, String> {
        let mut labels = names::shard_labels("tools");
        for (key, value) in change {
            match value {
                Some(value) => drop(labels.insert((*key).to_owned(), (*value).to_owned())),
                None => drop(labels.remove(*key)),
            }
        }
        labels
    }

    #[test]
    fn what_the_operator_itself_sets_is_not_foreign() {
        for (state, placed) in [("active", "true"), ("active", "false"), ("draining", "false"), ("draining", "true")] {
            let pod = pod(&[(names::LABEL_STATE, Some(state)), (names::LABEL_PLACED, Some(placed)), ("team", Some("a"))]);
            assert_eq!(foreign_labels("tools", &pod), []);
        }
    }

    #[test]
    fn a_removed_or_changed_label_is_named_with_what_it_is_to_be() {
        for (key, value, to_be) in [
            (names::LABEL_STATE, None, "active"),
            (names::LABEL_STATE, Some("broken"), "active"),
            (names::LABEL_PLACED, None, "true"),
            (names::LABEL_PLACED, Some("maybe"), "true"),
            (names::LABEL_CLUSTER, Some("other"), "tools"),
            (names::LABEL_MANAGED_BY, None, "mcp-operator"),
        ] {
            assert_eq!(foreign_labels("tools", &pod(&[(key, value)])), [(key.to_owned(), to_be.to_owned())]);
        }
        let draining = pod(&[(names::LABEL_STATE, Some("draining")), (names::LABEL_PLACED, None)]);
        assert_eq!(foreign_labels("tools", &draining), [(names::LABEL_PLACED.to_owned(), "false".to_owned())]);
    }
}
