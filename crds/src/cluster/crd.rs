//! The CustomResourceDefinition, generated from the Rust types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use super::McpCluster;

/// The CustomResourceDefinition of [`McpCluster`].
pub fn crd() -> CustomResourceDefinition {
    McpCluster::crd()
}

/// [`crd`] as YAML: what is committed as `crds/mcpclusters.yaml`, and what `mcp-operator crd` prints.
///
/// # Panics
/// Never: the document is generated from types, and tests generate it.
pub fn crd_yaml() -> String {
    serde_yaml::to_string(&crd()).expect("a CustomResourceDefinition serializes")
}
