//! What the operator may do, by its manifests: as little as its promises.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;

use mcp_tests::roles::{self, CLUSTER_WIDE, NAMESPACED};

fn permissions(file: &str) -> BTreeSet<String> {
    roles::permissions(file).unwrap()
}

/// The verbs granted on a resource.
fn verbs(file: &str, resource: &str) -> Vec<String> {
    let prefix = format!("{resource} ");
    permissions(file).iter().filter_map(|permission| permission.strip_prefix(&prefix).map(str::to_owned)).collect()
}

#[test]
fn nothing_writes_a_spec() {
    for file in [CLUSTER_WIDE, NAMESPACED] {
        assert_eq!(verbs(file, "mcpcluster.dev/mcpclusters"), ["get", "list", "watch"], "{file}");
        assert_eq!(verbs(file, "mcpcluster.dev/mcpclusters/status"), ["patch"], "{file}");
    }
}

#[test]
fn secrets_are_never_listed_watched_or_deleted() {
    for file in [CLUSTER_WIDE, NAMESPACED] {
        assert_eq!(verbs(file, "/secrets"), ["create", "get", "patch"], "{file}");
    }
}

#[test]
fn nothing_is_granted_by_wildcard_nor_on_roles_or_processes_in_pods() {
    for file in [CLUSTER_WIDE, NAMESPACED] {
        for permission in permissions(file) {
            let never = ["*", "rbac.authorization.k8s.io", "pods/exec", "pods/attach", "deletecollection", "impersonate"];
            assert!(!never.iter().any(|part| permission.contains(part)), "{file} grants {permission}");
        }
    }
}

#[test]
fn both_overlays_grant_the_same_but_for_looking_at_a_node_which_a_role_cannot_grant() {
    let mut cluster_wide = permissions(CLUSTER_WIDE);
    assert!(cluster_wide.remove("/nodes get"), "{cluster_wide:?}");
    assert_eq!(cluster_wide, permissions(NAMESPACED));
}

/// Owner references without `blockOwnerDeletion` need no right on finalizers, and nothing of ours has one.
#[test]
fn nothing_is_granted_on_finalizers() {
    let granted = roles::of_the_operator().unwrap();
    assert!(granted.contains("/pods create"), "{granted:?}");
    assert!(granted.iter().all(|permission| !permission.contains("finalizers")), "{granted:?}");
}
