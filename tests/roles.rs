//! What the operator may do, by its manifests: as little as its promises.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use mcp_tests::apply::documents;
use serde_json::Value;

const CLUSTER_WIDE: &str = "manifests/overlays/cluster-wide/roles.yaml";
const NAMESPACED: &str = "manifests/overlays/namespaced/roles.yaml";

/// `group/resource verb`, one for each permission of the operator's role.
fn permissions(file: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(file);
    let documents = documents(&std::fs::read_to_string(path).unwrap()).unwrap();
    let role = documents.iter().find(|document| ["Role", "ClusterRole"].contains(&document["kind"].as_str().unwrap_or_default()));
    let words = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut found = BTreeSet::new();
    for rule in role.unwrap()["rules"].as_array().unwrap() {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                found.extend(words(&rule["verbs"]).iter().map(|verb| format!("{group}/{resource} {verb}")));
            }
        }
    }
    found
}

/// The verbs granted on a resource.
fn verbs(file: &str, resource: &str) -> Vec<String> {
    let prefix = format!("{resource} ");
    permissions(file).iter().filter_map(|permission| permission.strip_prefix(&prefix).map(str::to_owned)).collect()
}

#[test]
fn nothing_writes_a_spec() {
    for file in [CLUSTER_WIDE, NAMESPACED] {
        assert_eq!(verbs(file, "mcpcluster.dev/mcpclusters"), ["list", "watch"], "{file}");
        assert_eq!(verbs(file, "mcpcluster.dev/mcpclusters/status"), ["patch"], "{file}");
    }
}

#[test]
fn secrets_are_never_listed_or_watched() {
    for file in [CLUSTER_WIDE, NAMESPACED] {
        assert_eq!(verbs(file, "/secrets"), ["create", "get", "patch"], "{file}");
    }
}

#[test]
fn nothing_is_granted_by_wildcard_nor_on_roles_nodes_or_processes_in_pods() {
    for file in [CLUSTER_WIDE, NAMESPACED] {
        for permission in permissions(file) {
            let never =
                ["*", "rbac.authorization.k8s.io", "/nodes", "pods/exec", "pods/attach", "deletecollection", "impersonate"];
            assert!(!never.iter().any(|part| permission.contains(part)), "{file} grants {permission}");
        }
    }
}

#[test]
fn both_overlays_grant_the_same() {
    assert_eq!(permissions(CLUSTER_WIDE), permissions(NAMESPACED));
}
