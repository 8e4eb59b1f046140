//! The opt-in NetworkPolicy: closes the control port to all but the operator and the shards of the same cluster.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mcp_crds::McpCluster;
use mcp_crds::shard;

use super::{Surroundings, metadata, name_of};
use crate::names;

/// Label Kubernetes puts on every namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The policy, when the spec asks for one.
pub fn network_policy(cluster: &McpCluster, surroundings: &Surroundings) -> Option<NetworkPolicy> {
    cluster.spec.network_policy.as_ref()?;
    let name = name_of(cluster);
    let operator = NetworkPolicyPeer {
        namespace_selector: Some(labelled(NAMESPACE_NAME, &surroundings.operator_namespace)),
        pod_selector: Some(labelled(names::LABEL_APP_NAME, names::MANAGED_BY)),
        ip_block: None,
    };
    let shards = NetworkPolicyPeer { pod_selector: Some(shards_of(name)), ..NetworkPolicyPeer::default() };
    Some(NetworkPolicy {
        metadata: metadata(cluster, names::network_policy(name)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(shards_of(name)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                // The admin port stays open: the kubelet and Prometheus come from addresses no selector names.
                NetworkPolicyIngressRule { from: None, ports: Some(vec![port(shard::DATA_PORT), port(shard::ADMIN_PORT)]) },
                NetworkPolicyIngressRule { from: Some(vec![operator, shards]), ports: Some(vec![port(shard::CONTROL_PORT)]) },
            ]),
            egress: None,
        }),
    })
}

fn shards_of(cluster: &str) -> LabelSelector {
    LabelSelector { match_labels: Some(names::shard_selector(cluster)), ..LabelSelector::default() }
}

fn labelled(key: &str, value: &str) -> LabelSelector {
    LabelSelector { match_labels: Some(BTreeMap::from([(key.to_owned(), value.to_owned())])), ..LabelSelector::default() }
}

fn port(port: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(port))),
        protocol: Some("TCP".to_owned()),
        ..NetworkPolicyPort::default()
    }
}
