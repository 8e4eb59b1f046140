//! What the operator's manifests let it do.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::apply::documents;
use crate::failure::{Outcome, While as _};
use crate::run::repository;

/// The role of the operator that works in every namespace.
pub const CLUSTER_WIDE: &str = "manifests/overlays/cluster-wide/roles.yaml";
/// The role of one that works in one.
pub const NAMESPACED: &str = "manifests/overlays/namespaced/roles.yaml";
/// Everything that is installed.
const MANIFESTS: [&str; 3] = ["manifests/base", "manifests/overlays/cluster-wide", "manifests/overlays/namespaced"];
/// Label of the operator's own objects; the roles for people have none.
const LABEL: &str = "app.kubernetes.io/name";

/// `group/resource verb`, one for each right that the roles in a file grant to the operator.
///
/// # Errors
/// When it cannot be read.
pub fn permissions(file: &str) -> Outcome<BTreeSet<String>> {
    granted(&repository().join(file))
}

/// The rights of all roles of both installations together.
///
/// # Errors
/// When one of the manifests cannot be read.
pub fn of_the_operator() -> Outcome<BTreeSet<String>> {
    let mut rights = BTreeSet::new();
    for folder in MANIFESTS {
        for entry in repository().join(folder).read_dir().doing(folder)? {
            let path: PathBuf = entry?.path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                rights.append(&mut granted(&path)?);
            }
        }
    }
    Ok(rights)
}

fn granted(file: &Path) -> Outcome<BTreeSet<String>> {
    let shown = file.display().to_string();
    let text = std::fs::read_to_string(file).doing(&shown)?;
    let is_role = |document: &&Value| {
        let kind = document["kind"].as_str().unwrap_or_default();
        ["Role", "ClusterRole"].contains(&kind) && document["metadata"]["labels"][LABEL] == "mcp-operator"
    };
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut found = BTreeSet::new();
    for role in documents(&text).doing(&shown)?.iter().filter(is_role) {
        for rule in role["rules"].as_array().into_iter().flatten() {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    found.extend(words(&rule["verbs"]).iter().map(|verb| format!("{group}/{resource} {verb}")));
                }
            }
        }
    }
    Ok(found)
}
