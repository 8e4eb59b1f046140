//! Conditions and their reasons: API, because alerts match them.

/// A condition of [`super::McpClusterStatus`], and the reasons it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConditionReasons {
    /// `type`.
    pub name: &'static str,
    /// The status of a cluster at rest.
    pub normal: &'static str,
    /// What it says.
    pub meaning: &'static str,
    /// Reasons of `True`.
    pub when_true: &'static [&'static str],
    /// Reasons of `False`.
    pub when_false: &'static [&'static str],
    /// Reasons of `Unknown`.
    pub unknown: &'static [&'static str],
}

/// Every condition, in the order of the status.
pub const CONDITIONS: [ConditionReasons; 8] = [
    ConditionReasons {
        name: "Ready",
        normal: "True",
        meaning: "Available, with a valid catalog, and this generation rolled out. Its reason names the worst thing now, also when True. Wait on it.",
        when_true: &["Serving", "MemoryPressure", "AtMaximum", "MetricsUnavailable", "Paused"],
        when_false: &[
            "NoShardReady",
            "ImagePullFailed",
            "CrashLooping",
            "OOMKilled",
            "Unschedulable",
            "QuotaExceeded",
            "AtCapacity",
            "ScaledToZero",
            "RolloutFrozen",
            "DeadlineExceeded",
            "ApplyFailed",
            "NameConflict",
            "CatalogInvalid",
            "RollingOut",
        ],
        unknown: &["Reconciling"],
    },
    ConditionReasons {
        name: "Available",
        normal: "True",
        meaning: "A new connection is served. Page on it.",
        when_true: &["ShardsReady"],
        when_false: &[
            "NoShardReady",
            "ImagePullFailed",
            "CrashLooping",
            "OOMKilled",
            "Unschedulable",
            "QuotaExceeded",
            "AtCapacity",
            "ScaledToZero",
        ],
        unknown: &["Reconciling"],
    },
    ConditionReasons {
        name: "Progressing",
        normal: "False",
        meaning: "Shards come or go.",
        when_true: &["ScalingOut", "ScalingIn", "RollingOut", "Replacing", "Recycling"],
        when_false: &["Settled", "Paused", "RolloutFrozen", "DeadlineExceeded", "ApplyFailed", "NameConflict"],
        unknown: &["Reconciling"],
    },
    ConditionReasons {
        name: "AutoscalingActive",
        normal: "True",
        meaning: "The operator decides the size, and has what it needs to decide.",
        when_true: &["Deciding", "MemoryTargetUnreachable"],
        when_false: &["ManualReplicas", "Paused", "MetricsUnavailable", "MemoryLimitUnknown"],
        unknown: &["Starting"],
    },
    ConditionReasons {
        name: "ScalingLimited",
        normal: "False",
        meaning: "The size that is wanted is held back; the message says by what, and what to do.",
        when_true: &[
            "AtMaximum",
            "AtMinimum",
            "RateLimited",
            "Stabilizing",
            "ShardSilent",
            "VictimsDoNotFit",
            "RecentOOMKill",
            "HotShard",
            "RolloutInProgress",
            "InvalidReport",
            "ClockMovedBack",
        ],
        when_false: &["WithinBounds", "ManualReplicas"],
        unknown: &["Starting"],
    },
    ConditionReasons {
        name: "MemoryPressure",
        normal: "False",
        meaning: "A shard uses more of its memory limit than it is meant to.",
        when_true: &["AboveTarget", "RefusingStreams", "Shedding", "ShedIneffective", "OOMKilled"],
        when_false: &["BelowTarget"],
        unknown: &["MetricsUnavailable"],
    },
    ConditionReasons {
        name: "Draining",
        normal: "False",
        meaning: "A shard ends its streams and requests.",
        when_true: &["ScaleIn", "Rollout", "NodeDrain", "Eviction", "Recycle", "DeadlineExceeded"],
        when_false: &["NoShardDraining"],
        unknown: &["Reconciling"],
    },
    ConditionReasons {
        name: "CatalogValid",
        normal: "True",
        meaning: "The catalog compiles, and is the one that is served.",
        when_true: &["Compiled"],
        when_false: &["Invalid", "SourceMissing", "SecretMissing", "DuplicateName", "TooLarge"],
        unknown: &["NotLoaded"],
    },
];

/// Values of `status.lastScale.reason`, and what they mean.
pub const SCALE_REASONS: [(&str, &str); 5] = [
    ("Connections", "There were more connections than the shards are meant to hold."),
    ("Memory", "The shards used more of their memory limit than they are meant to."),
    ("LowLoad", "Fewer shards hold the load."),
    ("Bounds", "`minReplicas` or `maxReplicas` moved."),
    ("Manual", "`spec.replicas` was written."),
];
