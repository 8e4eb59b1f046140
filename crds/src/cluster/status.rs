//! `status`: what the operator answers. Reasons are API: alerts match them, messages are for people.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// What the operator sees and decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct McpClusterStatus {
    /// The generation of the resource this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where clients connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// Label selector of the shards, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub selector: Option<String>,
    /// Image of the shards: what `spec.image` became.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub image: Option<String>,
    /// What an unset `spec.image` stands for in this cluster: the operator's own release when it was first unset. An upgrade of
    /// the operator does not move it, nor does an image that is set and taken out again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub default_image: Option<String>,
    /// Shards that exist and are not draining.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Of these, the ready ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Of these, the ones with the current template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_replicas: Option<i32>,
    /// Shards that are draining: no new connections, the present ones end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draining_replicas: Option<i32>,
    /// Shards there should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// Load of all shards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadStatus>,
    /// What is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog: Option<CatalogStatus>,
    /// The last change of size, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_scale: Option<LastScale>,
    /// What a new leader must not forget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<AutoscalingStatus>,
    /// The shards that use most of their memory limit, five at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list(5))]
    pub hottest_shards: Vec<HotShard>,
    /// Ready, Available, Progressing, AutoscalingActive, ScalingLimited, MemoryPressure, Draining and CatalogValid. Reasons are API:
    /// alerts match them. Messages are for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::core(), transform = rules::conditions())]
    pub conditions: Vec<Condition>,
}

/// Where clients connect (Knative's Addressable shape).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// URL of the MCP endpoint.
    #[schemars(length(max = 2048))]
    pub url: String,
}

/// Load of all shards; counts are rounded to three figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadStatus {
    /// Connections of all shards.
    pub connections: i64,
    /// Held event streams of all shards.
    pub streams: i64,
    /// Connections the present shards can hold.
    pub capacity: i64,
    /// Connections a shard is meant to hold: what the target became.
    pub target_per_replica: i64,
    /// Learnt memory of one connection, as a quantity.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub bytes_per_connection: Option<String>,
    /// Mean use of the memory limits, percent. Absent while no shard reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_percent: Option<i32>,
    /// Use of the hottest shard's memory limit, percent: a mean hides the one that dies. Absent while no shard reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hottest_memory_percent: Option<i32>,
}

/// What is served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CatalogStatus {
    /// First six digits of the published configuration's hash.
    #[schemars(length(max = 64))]
    pub revision: String,
    /// Shards that serve it.
    pub shards: i32,
    /// Tools.
    pub tools: i32,
    /// Resources.
    pub resources: i32,
    /// Resource templates.
    pub resource_templates: i32,
    /// Prompts.
    pub prompts: i32,
    /// Where entries came from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list_map(&["name"], 32))]
    pub sources: Vec<SourceStatus>,
}

/// A source of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SourceStatus {
    /// Its name in `spec.catalog.sources`.
    #[schemars(length(max = 64))]
    pub name: String,
    /// Tools it brought.
    pub tools: i32,
    /// Whether it could be read.
    pub ready: bool,
}

/// A change of size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastScale {
    /// When it was decided.
    pub time: Time,
    /// Shards before.
    pub from: i32,
    /// Shards after.
    pub to: i32,
    /// Connections, Memory, LowLoad, Bounds or Manual.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// The numbers, in words.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// What a new leader must not forget.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AutoscalingStatus {
    /// Start of unbroken observation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_start_time: Option<Time>,
    /// Highest recommendation of the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_highest: Option<i32>,
    /// The last OOM kill of a shard.
    #[serde(rename = "lastOOMKillTime", skip_serializing_if = "Option::is_none")]
    pub last_oom_kill_time: Option<Time>,
}

/// A shard that uses much of its memory limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HotShard {
    /// Name of its pod.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its connections.
    pub connections: i64,
    /// Its use of the limit, percent.
    pub memory_percent: i32,
    /// Node it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node_name: Option<String>,
}
