//! Whether a node is on its way out.
//!
//! # RBAC
//! get on nodes, for the whole cluster, and only with `--read-nodes`.

use kube::Client;
use serde::Deserialize;

/// Taints that those who remove nodes put on them before they evict the pods; `kubectl drain` makes the node unschedulable.
const LEAVING: [&str; 3] = ["ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted", "node.kubernetes.io/out-of-service"];

/// What is read of a node: a few bytes of the kilobytes it has.
#[derive(Debug, Default, Deserialize)]
struct Node {
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
struct Spec {
    #[serde(default)]
    unschedulable: bool,
    #[serde(default)]
    taints: Vec<Taint>,
}

#[derive(Debug, Deserialize)]
struct Taint {
    key: String,
}

/// Whether a node takes no more pods because somebody is about to empty it, or is gone already.
///
/// # Errors
/// When the API server does not say.
pub async fn is_leaving(client: &Client, name: &str) -> Result<bool, kube::Error> {
    let request = http::Request::get(format!("/api/v1/nodes/{name}")).body(vec![]).map_err(kube::Error::HttpError)?;
    match client.request::<Node>(request).await {
        Ok(node) => Ok(node.is_leaving()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
        Err(error) => Err(error),
    }
}

impl Node {
    fn is_leaving(&self) -> bool {
        self.spec.unschedulable || self.spec.taints.iter().any(|taint| LEAVING.contains(&taint.key.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_leaving(node: &str) -> bool {
        serde_json::from_str::<Node>(node).unwrap().is_leaving()
    }

    #[test]
    fn a_cordoned_node_leaves_and_so_does_one_that_an_autoscaler_removes() {
        assert!(is_leaving(r#"{"spec": {"unschedulable": true, "podCIDR": "10.0.0.0/24"}}"#));
        assert!(is_leaving(r#"{"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}}"#));
    }

    #[test]
    fn a_node_with_taints_of_its_own_stays() {
        assert!(!is_leaving(r#"{"spec": {"taints": [{"key": "dedicated", "value": "agents", "effect": "NoSchedule"}]}}"#));
        assert!(!is_leaving("{}"));
    }
}
