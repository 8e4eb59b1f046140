//! The `McpCluster`: what a person writes, and what the operator answers.

mod autoscaling;
mod conditions;
mod crd;
mod pod;
mod reference;
mod settings;
mod status;

use k8s_openapi::api::core::v1::EnvVar;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use autoscaling::*;
pub use conditions::{CONDITIONS, ConditionReasons, SCALE_REASONS};
pub use crd::{crd, crd_yaml, schema};
pub use pod::*;
pub use reference::reference;
pub use settings::*;
pub use status::*;

use crate::catalog::Catalog;
use crate::rules;

/// Shards of an MCP server behind one endpoint, sized by the operator.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "mcpcluster.dev",
    version = "v1alpha1",
    kind = "McpCluster",
    plural = "mcpclusters",
    singular = "mcpcluster",
    shortname = "mcpc",
    namespaced,
    status = "McpClusterStatus",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')").message(
        "`metadata.name` becomes part of Service and Pod names: use at most 40 lower-case letters, digits and '-', starting with a letter"
    ),
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Available, with a valid catalog, and this generation rolled out."
    ),
    printcolumn(name = "Shards", type_ = "integer", json_path = ".status.readyReplicas", description = "Shards that are ready."),
    printcolumn(
        name = "Desired",
        type_ = "integer",
        json_path = ".status.desiredReplicas",
        description = "Shards there should be."
    ),
    printcolumn(
        name = "Connections",
        type_ = "integer",
        json_path = ".status.load.connections",
        description = "Connections of all shards, to three figures."
    ),
    printcolumn(
        name = "Memory%",
        type_ = "integer",
        json_path = ".status.load.hottestMemoryPercent",
        description = "Use of the memory limit by the hottest shard: a mean hides the one that dies."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "The worst thing now, also when Ready."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Draining",
        type_ = "integer",
        json_path = ".status.drainingReplicas",
        priority = 1,
        description = "Shards that are ending their streams and requests."
    ),
    printcolumn(
        name = "Streams",
        type_ = "integer",
        json_path = ".status.load.streams",
        priority = 1,
        description = "Held event streams of all shards, to three figures."
    ),
    printcolumn(
        name = "Capacity",
        type_ = "integer",
        json_path = ".status.load.capacity",
        priority = 1,
        description = "Connections the present shards can hold."
    ),
    printcolumn(
        name = "Hottest",
        type_ = "string",
        json_path = ".status.hottestShards[0].name",
        priority = 1,
        description = "The shard that uses most of its memory limit."
    ),
    printcolumn(
        name = "Tools",
        type_ = "integer",
        json_path = ".status.catalog.tools",
        priority = 1,
        description = "Tools agents see."
    ),
    printcolumn(
        name = "Last Scale",
        type_ = "string",
        json_path = ".status.lastScale.reason",
        priority = 1,
        description = "Why the size last changed."
    ),
    printcolumn(
        name = "URL",
        type_ = "string",
        json_path = ".status.address.url",
        priority = 1,
        description = "Where clients connect."
    ),
    doc = "An McpCluster is an MCP server made of shards: pods that hold the connections of agents, placed, scaled and drained by the operator, behind one Service."
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    transform = rules::rule(
        "has(self.resources) && has(self.resources.limits) && 'memory' in self.resources.limits",
        "`resources.limits.memory` must be set: shards are scaled, and kept from the OOM killer, by how much of it they use; start with 512Mi"
    ),
    transform = rules::rule(
        "!(has(self.replicas) && has(self.autoscaling))",
        "set `replicas` (you decide the size) or `autoscaling` (the operator does), not both: to change the size of an autoscaled cluster, change `autoscaling.minReplicas` or `maxReplicas`"
    ),
    transform = rules::rule(
        "has(self.autoscaling) || has(self.replicas) || !has(oldSelf.autoscaling)",
        "removing `autoscaling` leaves the size open: set `replicas` in the same change, for example to the present `status.replicas`"
    ),
    transform = rules::rule(
        "!has(self.autoscaling) || !has(self.autoscaling.connections) || !has(self.autoscaling.connections.targetPerReplica) || \
         self.autoscaling.connections.targetPerReplica <= self.limits.maxConnections",
        "`autoscaling.connections.targetPerReplica` must be less than or equal to `limits.maxConnections`, or shards refuse connections before the operator adds one"
    ),
    transform = rules::rule(
        "duration(self.limits.requestTimeout) <= duration(self.drain.timeout)",
        "`drain.timeout` must be at least `limits.requestTimeout`, or a drain would cut requests that were accepted: raise the one or lower the other"
    ),
    transform = rules::rule(
        "self.service.type == 'ClusterIP' || has(self.auth)",
        "a Service of type NodePort or LoadBalancer is reachable from outside: say who may call in `auth`, or set `auth: {anonymous: {}}`"
    ),
    transform = rules::rule(
        "!has(self.auth) || has(self.auth.anonymous) || !has(self.catalog) || self.catalog.cache.scope == 'private'",
        "with `auth` set, lists differ from caller to caller: set `catalog.cache.scope` to 'private'"
    )
)]
pub struct McpClusterSpec {
    /// Server image. Unset: the operator's own release; `status.image` tells which, and no upgrade of the operator moves it. A
    /// change replaces the shards.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// When the kubelet pulls the image: Always, each time a container starts; IfNotPresent, when the node does not have it;
    /// Never. Unset: Always for the tag `latest`, otherwise IfNotPresent. A change replaces the shards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// Environment of the server container (core/v1 EnvVar). Names that start with `MCP_` belong to the operator. A change
    /// replaces the shards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::core(), transform = rules::list_map(&["name"], 64), transform = rules::rule(
        "self.all(e, !e.name.startsWith('MCP_'))",
        "variables that start with 'MCP_' are set by the operator: use the field of this resource that does the same, or another name"
    ))]
    pub env: Vec<EnvVar>,
    /// Resources of the server container (core/v1 ResourceRequirements). `limits.memory` is the one value you must give; start
    /// with 512Mi. A change replaces the shards.
    #[serde(default)]
    pub resources: Resources,
    /// Shards, when you decide the size; `kubectl scale` writes it. Not together with `autoscaling`; with neither, one shard.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 300))]
    pub replicas: Option<i32>,
    /// Shards, when the operator decides the size, from connections and memory. Not together with `replicas`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Limits of one shard. Past a limit clients get 503 and Retry-After; accepted work completes.
    #[serde(default)]
    pub limits: Limits,
    /// How a shard ends: its streams, then its requests. A node drain uses the value the shard was born with.
    #[serde(default)]
    pub drain: Drain,
    /// How a changed template replaces shards: new ones first, then old ones drain, until all have the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// How many shards Kubernetes may take away at one time, as a node drain does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disruption: Option<Disruption>,
    /// While true, nothing is created, drained or deleted; status goes on.
    #[serde(default)]
    pub paused: bool,
    /// What agents see: tools, resources and prompts, in MCP's own names and values. Taken whole or not at all: while it is
    /// wrong, shards serve the last good one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog: Option<Catalog>,
    /// How clients connect. Shards take a change live.
    #[serde(default)]
    pub transport: Transport,
    /// The Service in front of the shards.
    #[serde(default)]
    pub service: Service,
    /// Who may call. Absent: anyone who can reach the Service, which is then only of type ClusterIP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// `{}` closes the control port to all but the operator and the shards of the same cluster. Absent: no NetworkPolicy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicy>,
    /// The pod around the server container: a typed part of core/v1 PodTemplateSpec. A change replaces the shards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// What shards log.
    #[serde(default)]
    pub logging: Logging,
}
