//! `spec.autoscaling`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The operator decides the size, from connections and memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Autoscaling {
    /// Never fewer shards.
    #[serde(default = "default_min_replicas")]
    pub min_replicas: i32,
    /// Never more shards.
    pub max_replicas: i32,
    /// By connections.
    #[serde(default)]
    pub connections: ConnectionTarget,
    /// By memory.
    #[serde(default)]
    pub memory: MemoryTarget,
    /// How fast, and after which window: `autoscaling/v2` word for word.
    #[serde(default)]
    pub behavior: Behavior,
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
    pub target_per_replica: Option<i32>,
}

/// Scaling by memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct MemoryTarget {
    /// Percentage of the memory limit (not of the request) a shard is meant to use; at most 75.
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
    /// Out.
    pub scale_up: ScaleUp,
    /// In.
    pub scale_down: ScaleDown,
}

/// Scaling out. By default at once, by at most the larger of four shards and 100 % in 15 s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ScaleUp {
    /// Takes the lowest recommendation of this many seconds.
    pub stabilization_window_seconds: i32,
    /// Which policy counts when there are several.
    pub select_policy: SelectPolicy,
    /// Bounds of the change.
    pub policies: Vec<ScalingPolicy>,
}

/// Scaling in. By default the highest recommendation of 600 s, by at most the larger of one shard and 10 % in 60 s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ScaleDown {
    /// Takes the highest recommendation of this many seconds.
    pub stabilization_window_seconds: i32,
    /// Which policy counts when there are several. `Disabled`: never scale in.
    pub select_policy: SelectPolicy,
    /// Bounds of the change.
    pub policies: Vec<ScalingPolicy>,
}

/// A bound on the change within a period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScalingPolicy {
    /// What `value` counts.
    #[serde(rename = "type")]
    pub kind: PolicyType,
    /// Shards, or percent of them.
    pub value: i32,
    /// Within which time, seconds.
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
