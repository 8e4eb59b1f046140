//! What goes from step to step: [`Observed`] → [`Decision`] → [`Plan`] → [`Applied`] → status.
//!
//! Types and the questions they answer about themselves; no judgement about what to do.

#[cfg(test)]
pub(crate) mod fixture;
mod rolling;
mod shard;
#[cfg(test)]
mod tests;
mod urgency;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mcp_crds::McpCluster;
use mcp_crds::cluster::{LastScale, SourceStatus};

pub use rolling::{New, Rolling};
pub use shard::*;
pub use urgency::*;

/// Everything one pass knows about a cluster.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The resource.
    pub cluster: Arc<McpCluster>,
    /// Image of new shards: `spec.image`, or what `status.image` keeps, or the operator's own release.
    pub image: String,
    /// Every pod of the name pattern, in whatever state, by index.
    pub shards: Vec<ObservedShard>,
    /// Indexes whose name turned out to be taken by a pod that is not in `shards`.
    pub taken: BTreeSet<u32>,
    /// Hash of the pod template as it renders now; a shard born with another one is outdated.
    pub template_hash: String,
    /// What became of `spec.catalog`.
    pub catalog: CatalogOutcome,
    /// Hash of the configuration in the ConfigMap, from before this pass.
    pub published: Option<String>,
    /// When this process began to ask this cluster's shards for reports.
    pub watching_since: Timestamp,
    /// How often it asks.
    pub report_interval: Duration,
}

/// What became of `spec.catalog`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum CatalogOutcome {
    /// What it refers to has not been read yet.
    #[default]
    NotLoaded,
    /// It can be served.
    Compiled(CompiledCounts),
    /// It cannot: what was published before stays.
    Refused {
        /// In one word.
        reason: CatalogRefusal,
        /// Each error, without a full stop: `tools[create-ticket].http.body: {titel} is not in inputSchema`.
        errors: Vec<String>,
    },
}

/// What a compiled catalog consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompiledCounts {
    /// Hash of the configuration it became.
    pub hash: String,
    /// Tools.
    pub tools: usize,
    /// Resources.
    pub resources: usize,
    /// Resource templates.
    pub resource_templates: usize,
    /// Prompts.
    pub prompts: usize,
    /// Where entries came from.
    pub sources: Vec<SourceStatus>,
}

/// Why a catalog was refused: reasons of the condition `CatalogValid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatalogRefusal {
    /// It has errors.
    Invalid,
    /// A ConfigMap it names, or the key in it, is missing.
    SourceMissing,
    /// A Secret it names, or the key in it, is missing.
    SecretMissing,
    /// Two entries have one name.
    DuplicateName,
    /// Compressed, it does not fit a ConfigMap.
    TooLarge,
}

/// A pod, for a write that must hit this very pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodRef {
    /// Pod name.
    pub name: String,
    /// Pod uid.
    pub uid: String,
}

/// What the size should be, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Shards there should be; a rollout's surge comes on top.
    pub desired: u32,
    /// Shards missing to that. Cancelled drains come before new shards.
    pub create: u32,
    /// Shards to take away now, first ones first. None of them is deleted while it may hold work.
    pub victims: Vec<Victim>,
    /// Streams to end on hot shards.
    pub sheds: Vec<Shed>,
    /// Shards outside the size, because memory stays on them, without load or though their streams end: they are replaced, and
    /// keep their streams until these have left by themselves.
    pub retiring: Vec<PodRef>,
    /// Of these, the ones to drain now.
    pub recycles: Vec<PodRef>,
    /// Shards that are to go, soon or when others serve in their place. Whoever connects to them is sent away again: they get no
    /// new connections while others have room.
    pub leaving: Vec<PodRef>,
    /// The last change of size; of this pass when `scaled`.
    pub last_scale: Option<LastScale>,
    /// Whether this pass changed the size: one event.
    pub scaled: bool,
    /// What keeps the size from what load asks for.
    pub held: Option<Held>,
    /// Whether load decides at all.
    pub mode: Mode,
    /// Shards in each state that a reader of the decision asks for.
    pub census: Census,
    /// What the decision was computed from.
    pub numbers: Numbers,
    /// What a new leader must not forget.
    pub remembered: mcp_crds::cluster::AutoscalingStatus,
}

/// A shard to take away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// The pod.
    pub pod: PodRef,
    /// Streams it holds, that a drain ends.
    pub streams: u64,
}

/// Streams to end on a shard that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shed {
    /// The pod.
    pub pod: PodRef,
    /// Free this many bytes, the streams that own most first.
    pub bytes: u64,
    /// End at most this many streams.
    pub streams: u64,
    /// Why.
    pub reason: ShedReason,
}

/// Why streams of a shard that stays are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShedReason {
    /// It is over its memory target, and others have room.
    Memory,
    /// It is fuller than others, and `autoscaling.rebalance` allows to move some.
    Rebalance,
}

/// Whether load decides the size: reasons of the condition `AutoscalingActive`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// No shard has been heard yet.
    #[default]
    Starting,
    /// Connections and memory decide.
    Deciding,
    /// Connections alone decide: without any load a shard already uses its memory target.
    MemoryTargetUnreachable,
    /// Connections alone decide: the limit the shards run under cannot be read.
    MemoryLimitUnknown,
    /// No shard reports: the size is held.
    MetricsUnavailable,
    /// `spec.replicas`, or nothing, decides.
    ManualReplicas,
    /// `spec.paused`: nothing changes.
    Paused,
}

/// A gate that holds the size: reasons of the condition `ScalingLimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// Load asks for more than `maxReplicas`.
    AtMaximum,
    /// Load asks for less than `minReplicas`.
    AtMinimum,
    /// `behavior` allows no more within its period.
    RateLimited,
    /// The stabilization window has not passed.
    Stabilizing,
    /// A shard does not report.
    ShardSilent,
    /// What the next victim holds does not fit the others.
    VictimsDoNotFit,
    /// A shard was killed for memory lately.
    RecentOomKill,
    /// A new shard would not cool the hot one.
    HotShard,
    /// Shards are being replaced.
    RolloutInProgress,
    /// A report makes no sense.
    InvalidReport,
    /// The clock moved back.
    ClockMovedBack,
}

/// A gate, and what to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub gate: Gate,
    /// Who and what, and after an hour what to do. Never an age.
    pub message: String,
}

/// Shards by state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Pods beyond `desired` that a rollout made.
    pub surge: BTreeSet<String>,
    /// Shards whose memory stays without load.
    pub poisoned: BTreeSet<String>,
    /// Shards whose streams are being ended for want of memory.
    pub shedding: BTreeSet<String>,
    /// Of these, the ones whose memory did not fall when streams ended.
    pub fruitless: BTreeSet<String>,
}

/// What a decision was computed from (autoscaling.md, "The decision").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// cur: pending, fresh and silent shards, without surge.
    pub current: u32,
    /// D: load of all shards, and of those lost whose clients are not back.
    pub demand: u64,
    /// Load that comes while a shard starts.
    pub growth: u64,
    /// Clients that were refused and wait to come back.
    pub waiting: u64,
    /// k: bytes of one unit of load.
    pub bytes_per_load: u64,
    /// Bytes a shard has for load; zero or less when the target is below what an idle shard uses.
    pub slot: i64,
    /// T: load a shard is meant to hold.
    pub target: u64,
    /// Tdn: load the shards that remain after a scale-in may hold.
    pub target_down: u64,
    /// The most load a shard can hold: connections, or fewer where streams come to their limit first.
    pub hard_cap: u64,
    /// nC: shards that the load needs.
    pub by_connections: u32,
    /// nM: shards that memory needs.
    pub by_memory: u32,
    /// What load asks for now, before windows, rates and bounds.
    pub raw: u32,
    /// Percent of its memory limit that a shard is meant to use; 0 when nothing was decided.
    pub memory_percent: u64,
}

/// Why a shard is drained: reasons of the condition `Draining`, and values of an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainReason {
    /// No longer needed.
    ScaleIn,
    /// Born with an outdated template.
    Rollout,
    /// Its memory stays without load.
    Recycle,
    /// Not Ready for too long, and replaced.
    Eviction,
    /// Its node goes away.
    NodeDrain,
}

/// What to do with pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Indexes of shards to create, with POST.
    pub create: Vec<u32>,
    /// Drains to start, and those under way whose shard does not say that it drains: mark, take out of placement, call.
    pub drain: Vec<DrainStep>,
    /// Drains to undo: mark active, place, call.
    pub cancel: Vec<PodRef>,
    /// Pods to delete, with their uid and never by force.
    pub delete: Vec<DeleteStep>,
}

/// A drain to start or to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainStep {
    /// The pod.
    pub pod: PodRef,
    /// Why.
    pub reason: DrainReason,
    /// Since when: this pass, or the mark it carries.
    pub started: Timestamp,
    /// Whether the pod carries the mark already, and only the call is to be repeated.
    pub marked: bool,
}

/// A change of placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementStep {
    /// The pod.
    pub pod: PodRef,
    /// Whether the client Service is to send new connections to it.
    pub placed: bool,
}

/// A pod to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteStep {
    /// The pod.
    pub pod: PodRef,
    /// Why it may go.
    pub reason: DeleteReason,
}

/// Why a pod may be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeleteReason {
    /// Drained: no streams, no requests.
    Drained,
    /// It never took a connection.
    NeverReady,
    /// Its process is not running.
    NotRunning,
    /// `drain.timeout` has passed.
    DeadlineExceeded,
    /// The pod ended for good.
    Finished,
    /// It is neither Ready nor heard of, and has been replaced: its node is gone or cut off. Should it live after all, its end
    /// is a drain as well.
    Lost,
}

/// What a pass did, and what refused it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// Hash of the configuration in the ConfigMap now.
    pub published: Option<String>,
    /// Generation of the resource that published it.
    pub published_generation: Option<i64>,
    /// When it was published; none when that is not known, and long ago.
    pub published_since: Option<Timestamp>,
    /// What could not be written, in this pass or in one whose retry is not due yet.
    pub failures: Vec<Failure>,
}

/// A write that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In one word.
    pub reason: FailureReason,
    /// Kind and name: `Service tools`.
    pub object: String,
    /// The API server's words.
    pub message: String,
}

/// Why a write was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureReason {
    /// An object of that name exists and is not ours.
    NameConflict,
    /// A ResourceQuota leaves no room for a pod.
    QuotaExceeded,
    /// Anything else: admission, LimitRange, validation, the API server itself.
    ApplyFailed,
}

// === impl Observed ===

impl Observed {
    /// What this shard is to the sums and gates.
    pub fn state(&self, shard: &ObservedShard, now: Timestamp) -> ShardState {
        shard.state(now, self.watching_since, self.report_interval)
    }

    /// Whether the shard was born with another template than the one that renders now.
    pub fn is_outdated(&self, shard: &ObservedShard) -> bool {
        shard.template_hash.as_deref() != Some(self.template_hash.as_str())
    }

    /// Name of the resource.
    pub fn name(&self) -> &str {
        self.cluster.metadata.name.as_deref().unwrap_or_default()
    }

    /// Whether the resource is being deleted: then nothing is created.
    pub fn is_deleted(&self) -> bool {
        self.cluster.metadata.deletion_timestamp.is_some()
    }

    /// Whether there is a configuration for a new shard to start with: published before, or about to be.
    pub fn has_configuration(&self) -> bool {
        self.published.is_some()
            || match self.catalog {
                CatalogOutcome::Compiled(_) => true,
                CatalogOutcome::NotLoaded | CatalogOutcome::Refused { .. } => false,
            }
    }
}

// === impl reasons ===

impl Gate {
    /// All of them.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 11] = [
        Self::AtMaximum,
        Self::AtMinimum,
        Self::RateLimited,
        Self::Stabilizing,
        Self::ShardSilent,
        Self::VictimsDoNotFit,
        Self::RecentOomKill,
        Self::HotShard,
        Self::RolloutInProgress,
        Self::InvalidReport,
        Self::ClockMovedBack,
    ];

    /// The reason in the condition `ScalingLimited`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtMaximum => "AtMaximum",
            Self::AtMinimum => "AtMinimum",
            Self::RateLimited => "RateLimited",
            Self::Stabilizing => "Stabilizing",
            Self::ShardSilent => "ShardSilent",
            Self::VictimsDoNotFit => "VictimsDoNotFit",
            Self::RecentOomKill => "RecentOOMKill",
            Self::HotShard => "HotShard",
            Self::RolloutInProgress => "RolloutInProgress",
            Self::InvalidReport => "InvalidReport",
            Self::ClockMovedBack => "ClockMovedBack",
        }
    }
}

impl DrainReason {
    /// The reason in the condition `Draining`, and the annotation's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScaleIn => "ScaleIn",
            Self::Rollout => "Rollout",
            Self::Recycle => "Recycle",
            Self::Eviction => "Eviction",
            Self::NodeDrain => "NodeDrain",
        }
    }

    /// Reads the annotation's value.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::ScaleIn, Self::Rollout, Self::Recycle, Self::Eviction, Self::NodeDrain]
            .into_iter()
            .find(|reason| reason.as_str() == text)
    }
}

impl DeleteReason {
    /// In one word, for events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drained => "Drained",
            Self::NeverReady => "NeverReady",
            Self::NotRunning => "NotRunning",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::Finished => "Finished",
            Self::Lost => "Lost",
        }
    }
}

impl CatalogRefusal {
    /// The reason in the condition `CatalogValid`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid",
            Self::SourceMissing => "SourceMissing",
            Self::SecretMissing => "SecretMissing",
            Self::DuplicateName => "DuplicateName",
            Self::TooLarge => "TooLarge",
        }
    }
}

impl FailureReason {
    /// The reason in a condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NameConflict => "NameConflict",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::ApplyFailed => "ApplyFailed",
        }
    }

    /// What a refusal of the API server is, by its HTTP code and message.
    pub fn of_response(code: u16, message: &str) -> Self {
        if code == 403 && message.contains("exceeded quota") { Self::QuotaExceeded } else { Self::ApplyFailed }
    }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.create.is_empty() && self.drain.is_empty() && self.cancel.is_empty() && self.delete.is_empty()
    }
}
