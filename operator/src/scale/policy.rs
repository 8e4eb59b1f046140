//! The spec, reduced to what a decision needs.

use mcp_crds::McpClusterSpec;
use mcp_crds::cluster::{ScaleDown, ScaleUp};
use mcp_crds::quantity::Bytes;

/// Percent of a shard's hard cap it is meant to hold, when the spec does not say.
const TARGET_OF_HARD_CAP: u64 = 70;
/// Memory target of a cluster without autoscaling, percent: for what status says about its load.
const DEFAULT_MEMORY_TARGET: u64 = 70;

/// How a cluster wants to be sized.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub(super) size: Size,
    pub(super) paused: bool,
    pub(super) target_per_replica: Option<u64>,
    pub(super) max_connections: u64,
    pub(super) max_streams: u64,
    pub(super) memory_percent: u64,
    /// Memory limit of a new shard, bytes.
    pub(super) memory_limit: Option<u64>,
    /// Free capacity to keep.
    pub(super) buffer: u64,
    /// Percent of all streams that may be ended in a minute to move them to new shards.
    pub(super) rebalance: Option<u64>,
    pub(super) up: ScaleUp,
    pub(super) down: ScaleDown,
}

/// Who decides the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// A person, or a program that writes `spec.replicas`.
    Fixed(u32),
    /// Load, within bounds.
    ByLoad { min: u32, max: u32 },
}

impl Policy {
    /// Reads the spec. What schema and rules keep out (negative counts, `min` over `max`) is bent to the nearest sense.
    pub fn of(spec: &McpClusterSpec) -> Self {
        let count = |value: i32| u32::try_from(value).unwrap_or(0);
        let limit = spec.resources.limits.get("memory").and_then(|quantity| Bytes::try_from(quantity).ok());
        let autoscaling = spec.autoscaling.as_ref();
        let size = match autoscaling {
            Some(bounds) => {
                let max = count(bounds.max_replicas).max(1);
                Size::ByLoad { min: count(bounds.min_replicas).min(max), max }
            }
            None => Size::Fixed(spec.replicas.map_or(1, count)),
        };
        let behavior = autoscaling.map(|autoscaling| autoscaling.behavior.clone()).unwrap_or_default();
        Self {
            size,
            paused: spec.paused,
            target_per_replica: autoscaling
                .and_then(|autoscaling| autoscaling.connections.target_per_replica)
                .and_then(|target| u64::try_from(target).ok())
                .filter(|target| *target > 0),
            max_connections: u64::from(count(spec.limits.max_connections)).max(1),
            max_streams: u64::from(count(spec.limits.streams())).max(1),
            memory_percent: autoscaling
                .and_then(|autoscaling| u64::try_from(autoscaling.memory.target_percent).ok())
                .unwrap_or(DEFAULT_MEMORY_TARGET)
                .clamp(1, 100),
            memory_limit: limit.map(|bytes| bytes.0).filter(|bytes| *bytes > 0),
            buffer: autoscaling
                .and_then(|autoscaling| autoscaling.connections.buffer)
                .and_then(|buffer| u64::try_from(buffer).ok())
                .unwrap_or(0),
            rebalance: autoscaling
                .and_then(|autoscaling| autoscaling.rebalance)
                .and_then(|rebalance| u64::try_from(rebalance.max_percent_per_minute).ok())
                .filter(|percent| *percent > 0),
            up: behavior.scale_up,
            down: behavior.scale_down,
        }
    }

    /// Load a shard is meant to hold, from its hard cap alone.
    pub(super) fn target(&self, hard_cap: u64) -> u64 {
        self.target_per_replica.unwrap_or(hard_cap.saturating_mul(TARGET_OF_HARD_CAP) / 100)
    }

    /// The size, if a person decides it.
    pub(super) fn fixed(&self) -> Option<u32> {
        match self.size {
            Size::Fixed(size) => Some(size),
            Size::ByLoad { .. } => None,
        }
    }

    /// The size nearest to this one that the bounds allow.
    pub(super) fn bound(&self, size: u32) -> u32 {
        match self.size {
            Size::Fixed(fixed) => fixed,
            Size::ByLoad { min, max } => size.clamp(min, max),
        }
    }
}
