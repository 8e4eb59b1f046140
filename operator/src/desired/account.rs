//! The ServiceAccount of the shards: a name without any right, whose token is not mounted.

use k8s_openapi::api::core::v1::ServiceAccount;
use mcp_crds::McpCluster;

use super::{metadata, name_of};
use crate::names;

/// The cluster's own ServiceAccount; none when the spec names one of the user's.
pub fn service_account(cluster: &McpCluster) -> Option<ServiceAccount> {
    let theirs = cluster.spec.pod_template.as_ref().is_some_and(|template| template.spec.service_account_name.is_some());
    (!theirs).then(|| ServiceAccount {
        metadata: metadata(cluster, names::service_account(name_of(cluster))),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    })
}
