//! `spec.autoscaling`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// The operator decides the size, from connections and memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = rules::rule(
    "self.minReplicas <= self.maxReplicas",
    "`minReplicas` must be less than or equal to `maxReplicas`"
))]
pub struct Autoscaling {
    /// Never fewer shards than this.
    #[serde(default = "default_min_replicas")]
    #[schemars(range(min = 1, max = 300))]
    pub min_replicas: i32,
    /// Never more shards than this.
    #[schemars(range(min = 1, max = 300))]
    pub max_replicas: i32,
    /// Scaling by connections. The larger of what connections and memory ask for counts.
    #[serde(default)]
    pub connections: ConnectionTarget,
    /// Scaling by memory.
    #[serde(default)]
    pub memory: MemoryTarget,
    /// How fast the size may change, and after which window: `behavior` of autoscaling/v2 HorizontalPodAutoscaler, word for
    /// word, so that yours pastes in.
    #[serde(default)]
    pub behavior: Behavior,
    /// Moves streams from the fullest shards to new ones by ending some, so that agents connect again. Unset: streams stay where
    /// they are, and only memory moves them; not every client takes a graceful end as a reason to reconnect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<Rebalance>,
}

/// Moving streams to new shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Rebalance {
    /// Of all streams of the cluster, at most this percentage is ended in a minute.
    #[schemars(range(min = 1), transform = rules::rule(
        "self <= 5",
        "must be at most 5: every stream that ends is an agent that has to connect again; a fleet moves by 1 % a minute in an hour"
    ))]
    pub max_percent_per_minute: i32,
}

impl Default for Rebalance {
    fn default() -> Self {
        Self { max_percent_per_minute: 1 }
    }
}

fn default_min_replicas() -> i32 {
    1
}

/// Scaling by connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionTarget {
    /// Connections a shard is meant to hold: the larger of TCP connections, and streams plus requests. Unset: 70 % of the
    /// shard's hard cap (`limits.maxConnections`, or its file limit when that is lower).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub target_per_replica: Option<i32>,
    /// Connections that the shards together keep free beyond the load there is, for what comes at once. Unset: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub buffer: Option<i32>,
}

/// Scaling by memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct MemoryTarget {
    /// Percentage of the memory limit (not of the request) a shard is meant to use; at most 75, because shards refuse new
    /// streams at 80.
    #[schemars(range(min = 10), transform = rules::rule(
        "self <= 75",
        "must be at most 75: shards refuse new streams at 80 % of their memory limit, so the operator has to act before that"
    ))]
    pub target_percent: i32,
}

impl Default for MemoryTarget {
    fn default() -> Self {
        Self { target_percent: 70 }
    }
}

/// Speed of scaling in each direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Behavior {
    /// Scaling out.
    pub scale_up: ScaleUp,
    /// Scaling in. Shards that go are drained first.
    pub scale_down: ScaleDown,
}

/// Scaling out. By default at once, by at most the larger of four shards and 100 % in 15 s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ScaleUp {
    /// Takes the lowest recommendation of this many seconds, so that a short peak adds no shard.
    #[schemars(range(min = 0, max = 3600))]
    pub stabilization_window_seconds: i32,
    /// Which policy counts when there are several: Max, the largest change; Min, the smallest; Disabled, no scaling out.
    pub select_policy: SelectPolicy,
    /// Bounds of the change.
    #[schemars(length(min = 1), transform = rules::list(8))]
    pub policies: Vec<ScalingPolicy>,
}

/// Scaling in. By default the highest recommendation of 600 s, by at most the larger of one shard and 10 % in 60 s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ScaleDown {
    /// Takes the highest recommendation of this many seconds, so that a short dip takes no shard away.
    #[schemars(range(min = 0, max = 3600))]
    pub stabilization_window_seconds: i32,
    /// Which policy counts when there are several: Max, the largest change; Min, the smallest; Disabled, no scaling in.
    pub select_policy: SelectPolicy,
    /// Bounds of the change.
    #[schemars(length(min = 1), transform = rules::list(8))]
    pub policies: Vec<ScalingPolicy>,
}

/// A bound on the change within a period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScalingPolicy {
    /// What `value` counts: Pods, shards; Percent, percent of the shards there are.
    #[serde(rename = "type")]
    pub kind: PolicyType,
    /// Shards, or percent of them.
    #[schemars(range(min = 1, max = 10_000))]
    pub value: i32,
    /// Within this many seconds.
    #[schemars(range(min = 1, max = 1800))]
    pub period_seconds: i32,
}

/// What a policy counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PolicyType {
    /// Shards.
    Pods,
    /// Percent of the shards.
    Percent,
}

/// Which of several policies counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SelectPolicy {
    /// The largest change.
    #[default]
    Max,
    /// The smallest change.
    Min,
    /// None: no scaling in this direction.
    Disabled,
}

impl Default for ScaleUp {
    fn default() -> Self {
        Self {
            stabilization_window_seconds: 0,
            select_policy: SelectPolicy::Max,
            policies: vec![
                ScalingPolicy { kind: PolicyType::Pods, value: 4, period_seconds: 15 },
                ScalingPolicy { kind: PolicyType::Percent, value: 100, period_seconds: 15 },
            ],
        }
    }
}

impl Default for ScaleDown {
    fn default() -> Self {
        Self {
            stabilization_window_seconds: 600,
            select_policy: SelectPolicy::Max,
            policies: vec![
                ScalingPolicy { kind: PolicyType::Pods, value: 1, period_seconds: 60 },
                ScalingPolicy { kind: PolicyType::Percent, value: 10, period_seconds: 60 },
            ],
        }
    }
}
