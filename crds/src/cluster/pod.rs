//! `spec.resources`, `spec.podTemplate` and the Service: the Kubernetes parts, with Kubernetes' own names.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, LocalObjectReference, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// Resources of the server container (core/v1 ResourceRequirements).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(transform = rules::rule(
    "!has(self.limits) || !('memory' in self.limits) || !isQuantity(string(self.limits['memory'])) || \
     quantity(string(self.limits['memory'])).compareTo(quantity('64Mi')) >= 0",
    "`limits.memory` must be at least 64Mi (half a byte is written '500m'; half a gibibyte is '512Mi')"
))]
#[schemars(transform = rules::rule(
    "!has(self.requests) || !has(self.limits) || ['cpu', 'memory'].all(r, !(r in self.requests) || !(r in self.limits) || \
     !isQuantity(string(self.requests[r])) || !isQuantity(string(self.limits[r])) || \
     quantity(string(self.requests[r])).compareTo(quantity(string(self.limits[r]))) <= 0)",
    "`requests` must not exceed `limits`: no node would accept the pod"
))]
pub struct Resources {
    /// The most the container may use, by resource (`memory`, `cpu`). `memory` must be set: shards are scaled, and kept from
    /// the OOM killer, by how much of it they use.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(transform = rules::quantity_map())]
    pub limits: BTreeMap<String, Quantity>,
    /// What the scheduler reserves, by resource. Memory: by default the limit, because a node under pressure evicts pods over
    /// their request first.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(transform = rules::quantity_map())]
    pub requests: BTreeMap<String, Quantity>,
}

/// When the kubelet pulls the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// Each time a container starts.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// The node must have it.
    Never,
}

/// A typed part of core/v1 PodTemplateSpec.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PodTemplate {
    /// Labels and annotations.
    pub metadata: PodMetadata,
    /// Scheduling and identity.
    pub spec: PodSpec,
}

/// Labels and annotations of the pods. Labels under `mcpcluster.dev/` belong to the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(transform = rules::rule(
    "!has(self.labels) || self.labels.all(k, !k.startsWith('mcpcluster.dev/'))",
    "labels under 'mcpcluster.dev/' decide which shards get traffic and belong to the operator: use another prefix"
))]
pub struct PodMetadata {
    /// Labels of the pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(transform = rules::string_map(32, 63))]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pods. A changed `kubectl.kubernetes.io/restartedAt` replaces the shards one by one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(transform = rules::string_map(64, 16_384))]
    pub annotations: BTreeMap<String, String>,
}

/// Scheduling and identity of the pods, with the names and meanings of core/v1 PodSpec.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PodSpec {
    /// Affinity of the pods to nodes and to other pods (core/v1 Affinity).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = rules::core())]
    pub affinity: Option<Affinity>,
    /// Secrets the image is pulled with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::core(), transform = rules::list_map(&["name"], 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Labels a node must carry.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(transform = rules::string_map(32, 63))]
    pub node_selector: BTreeMap<String, String>,
    /// Priority class of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Runtime class of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
    /// A ServiceAccount of yours; by default one of the McpCluster's own, without any right. No token of it is mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Taints the pods tolerate (core/v1 Toleration), beside not-ready and unreachable for 30 s.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::core(), transform = rules::list(32))]
    pub tolerations: Vec<Toleration>,
    /// How the pods are spread (core/v1 TopologySpreadConstraint); by default over nodes, ScheduleAnyway; zones are preferred
    /// apart by affinity. Without a labelSelector it means the shards of this McpCluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::core(), transform = rules::list_map(&["topologyKey", "whenUnsatisfiable"], 8))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
}

/// The Service clients connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Service {
    /// From where it is reached: ClusterIP, inside the cluster only; NodePort, on a port of every node; LoadBalancer, through
    /// a load balancer of the infrastructure. The last two need `auth`.
    #[serde(rename = "type")]
    pub kind: ServiceType,
    /// Port of the Service. Unset: 80.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<i32>,
    /// Annotations of the Service, for example those of a load balancer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(transform = rules::string_map(64, 16_384))]
    pub annotations: BTreeMap<String, String>,
    /// Labels of the Service.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(transform = rules::string_map(32, 63), transform = rules::rule(
        "self.all(k, !k.startsWith('mcpcluster.dev/'))",
        "labels under 'mcpcluster.dev/' belong to the operator: use another prefix"
    ))]
    pub labels: BTreeMap<String, String>,
}

/// Type of the Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Inside the cluster only.
    #[default]
    ClusterIP,
    /// On a port of every node.
    NodePort,
    /// Behind a load balancer of the infrastructure.
    LoadBalancer,
}
