//! The PodDisruptionBudget, with an integer: for a percentage or `maxUnavailable` the disruption controller would ask our
//! scale subresource for `spec.replicas`; while that is unset every node drain would hang.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mcp_crds::McpCluster;

use super::{metadata, name_of};
use crate::names;

/// Of how many active shards one may be evicted at a time.
const SHARDS_PER_EVICTION: u32 = 10;

/// The budget for this many active shards: 10 %, but always one, may go at a time.
pub fn disruption_budget(cluster: &McpCluster, active: u32) -> PodDisruptionBudget {
    let name = name_of(cluster);
    let mut selector = names::shard_selector(name);
    selector.insert(names::LABEL_STATE.to_owned(), names::STATE_ACTIVE.to_owned());
    PodDisruptionBudget {
        metadata: metadata(cluster, names::disruption_budget(name)),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(i32::try_from(min_available(active)).unwrap_or(i32::MAX))),
            selector: Some(LabelSelector { match_labels: Some(selector), ..LabelSelector::default() }),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

fn min_available(active: u32) -> u32 {
    active.saturating_sub((active / SHARDS_PER_EVICTION).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shard_may_always_go_and_never_more_than_a_tenth() {
        for (active, min) in [(0, 0), (1, 0), (2, 1), (10, 9), (19, 18), (20, 18), (300, 270)] {
            assert_eq!(min_available(active), min, "{active}");
        }
    }
}
