//! The PodDisruptionBudget, with an integer: for a percentage or `maxUnavailable` the disruption controller would ask our
//! scale subresource for `spec.replicas`; while that is unset every node drain would hang.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mcp_crds::McpCluster;

use super::{metadata, name_of};
use crate::names;

/// The budget for this many active shards: what `disruption.maxUnavailable` leaves of them.
pub fn disruption_budget(cluster: &McpCluster, active: u32) -> PodDisruptionBudget {
    let name = name_of(cluster);
    let mut selector = names::shard_selector(name);
    selector.insert(names::LABEL_STATE.to_owned(), names::STATE_ACTIVE.to_owned());
    PodDisruptionBudget {
        metadata: metadata(cluster, names::disruption_budget(name)),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(i32::try_from(min_available(cluster, active)).unwrap_or(i32::MAX))),
            selector: Some(LabelSelector { match_labels: Some(selector), ..LabelSelector::default() }),
            // A shard that does not serve protects nobody, and would hang the drain of its node for ever.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

/// One may always go: of a lone shard as much as of three hundred.
fn min_available(cluster: &McpCluster, active: u32) -> u32 {
    let written = cluster.spec.disruption.as_ref().and_then(|disruption| disruption.max_unavailable.clone());
    active.saturating_sub(written.unwrap_or_default().rounded_down(active))
}

#[cfg(test)]
mod tests {
    use mcp_crds::cluster::Disruption;
    use mcp_crds::portion::Portion;

    use super::super::samples;
    use super::*;

    fn min(max_unavailable: Option<Portion>, active: u32) -> u32 {
        let mut cluster = samples::quickstart();
        cluster.spec.disruption = max_unavailable.map(|portion| Disruption { max_unavailable: Some(portion) });
        match disruption_budget(&cluster, active).spec.unwrap().min_available {
            Some(IntOrString::Int(min)) => u32::try_from(min).unwrap(),
            other => panic!("{other:?} is no integer"),
        }
    }

    #[test]
    fn one_shard_may_always_go_and_never_more_than_a_tenth() {
        for (active, expected) in [(0, 0), (1, 0), (2, 1), (10, 9), (19, 18), (20, 18), (300, 270)] {
            assert_eq!(min(None, active), expected, "{active}");
        }
    }

    #[test]
    fn as_many_may_go_as_the_spec_says_and_one_if_that_is_none() {
        let percent = |text: &str| Some(Portion::Percent(text.into()));
        for (portion, active, expected) in [
            (Some(Portion::Count(3)), 10, 7),
            (Some(Portion::Count(3)), 3, 0),
            (Some(Portion::Count(3)), 1, 0),
            (percent("25%"), 10, 8),
            (percent("25%"), 3, 2),
            (percent("100%"), 10, 0),
            (percent("1%"), 10, 9),
        ] {
            assert_eq!(min(portion.clone(), active), expected, "{portion:?} of {active}");
        }
    }

    #[test]
    fn it_counts_what_stays_and_lets_the_broken_go() {
        let spec = disruption_budget(&samples::quickstart(), 3).spec.unwrap();
        let selector = spec.selector.unwrap().match_labels.unwrap();
        assert_eq!(selector[names::LABEL_STATE], names::STATE_ACTIVE);
        assert_eq!(spec.unhealthy_pod_eviction_policy.as_deref(), Some("AlwaysAllow"));
        assert_eq!(spec.max_unavailable, None, "the disruption controller would ask for `spec.replicas`");
    }
}
