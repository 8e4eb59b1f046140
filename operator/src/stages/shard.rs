//! A pod, reduced to what judgement needs.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use mcp_crds::duration;
use mcp_crds::load::LoadReport;
use mcp_crds::quantity::Bytes;

use super::{DrainReason, PodRef};
use crate::names;

/// A shard that was Ready is given this long to be Ready again, from when Kubernetes last called it so or from when it last
/// reported, before it is replaced: a container restart fits, the loss of a node does not.
pub const LOST_AFTER: Duration = Duration::from_secs(30);
/// Reports may be missing for this many intervals before a shard counts as silent.
pub const SILENT_AFTER_INTERVALS: u32 = 3;

/// A shard that is not Ready this long after its creation has failed to start.
pub const START_DEADLINE: Duration = Duration::from_mins(10);

/// A pod of the name pattern, in whatever state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedShard {
    /// Pod name, `{cluster}-{index}`.
    pub name: String,
    /// Index in the name.
    pub index: u32,
    /// Pod uid: deletes and patches carry it.
    pub uid: String,
    /// Node, once scheduled.
    pub node: Option<String>,
    /// Pod phase.
    pub phase: Phase,
    /// Why the pod has its phase, in the kubelet's words (`Evicted: The node was low on resource: memory.`).
    pub phase_message: Option<String>,
    /// Condition Ready.
    pub ready: bool,
    /// Why it is not, in the kubelet's words (`ContainersNotReady: containers with unready status: [server]`).
    pub unready: Option<String>,
    /// When `ready` last changed.
    pub ready_changed: Option<Timestamp>,
    /// When the pod was created.
    pub created: Option<Timestamp>,
    /// Being deleted: the deletionTimestamp.
    pub terminating: Option<Timestamp>,
    /// When that was asked for: the deletionTimestamp without the grace period.
    pub told_to_end: Option<Timestamp>,
    /// Why Kubernetes takes the pod away, when it does so by itself or by the eviction API.
    pub disruption: Option<Disruption>,
    /// Whether its node was on its way out when the pod was evicted; none when we may not look.
    pub node_leaves: Option<bool>,
    /// Labelled draining.
    pub draining: Option<DrainMark>,
    /// Labelled placed.
    pub placed: bool,
    /// Hash of the template it was born with.
    pub template_hash: Option<String>,
    /// The drain timeout it was born with.
    pub born_drain: Option<Duration>,
    /// The server container.
    pub container: Container,
    /// How the server container ended the last time.
    pub last_termination: Option<Termination>,
    /// Restarts of the server container.
    pub restarts: u32,
    /// The scheduler's words, while it finds no node.
    pub unschedulable: Option<String>,
    /// Pod address.
    pub address: Option<String>,
    /// Memory limit of the server container, from the pod's spec.
    pub memory_limit: Option<Bytes>,
    /// The service mesh whose injector was at the pod.
    pub mesh: Option<&'static str>,
    /// The last load report.
    pub report: Option<Received>,
}

/// A load report, stamped on receipt.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// What the shard said.
    pub report: LoadReport,
    /// When it was received.
    pub at: Timestamp,
}

/// The mark of a drain, from the pod's annotations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainMark {
    /// Why; none when a person set the label.
    pub reason: Option<DrainReason>,
    /// Since when; none when a person set the label.
    pub started: Option<Timestamp>,
}

/// Why Kubernetes takes a pod away: reasons of the pod condition `DisruptionTarget`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disruption {
    /// Somebody asked the eviction API: for this pod, or for every pod of a node that is drained.
    Evicted,
    /// Its node has a `NoExecute` taint that it does not tolerate, or no longer: every pod of the node goes.
    Tainted,
    /// A pod of higher priority takes its place, the kubelet needs its memory, or a reason we do not know.
    Other,
}

/// Phase of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not all containers have started.
    #[default]
    Pending,
    /// Runs.
    Running,
    /// Ended for good, without an error.
    Succeeded,
    /// Ended for good: evicted, rejected by the node, or failed.
    Failed,
    /// The node cannot be asked.
    Unknown,
}

/// State of the server container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Container {
    /// Nothing is known yet.
    #[default]
    Unknown,
    /// Not running.
    Waiting {
        /// `ImagePullBackOff`, `CrashLoopBackOff`, `CreateContainerConfigError`, …
        reason: String,
        /// The kubelet's words.
        message: String,
    },
    /// Running.
    Running {
        /// Since when.
        started: Option<Timestamp>,
    },
    /// Ended.
    Terminated(Termination),
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Termination {
    /// `OOMKilled`, `Error`, `Completed`, …
    pub reason: String,
    /// Exit code.
    pub exit_code: i32,
    /// When it had started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
}

/// What keeps a shard from being Ready: reasons of the condition `Available`, with the kubelet's or scheduler's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// In one word.
    pub kind: TroubleKind,
    /// `ImagePullBackOff: manifest unknown`
    pub words: String,
}

/// What keeps a shard from being Ready, in one word. Later ones are told before earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TroubleKind {
    /// It does not become Ready, and nothing says why.
    NotReady,
    /// No node takes it.
    Unschedulable,
    /// The kernel killed it for memory, and it has not come back.
    OomKilled,
    /// Its container ends again and again, or cannot be made.
    CrashLooping,
    /// Its image cannot be had.
    ImagePullFailed,
}

/// What a shard is to the sums and gates (autoscaling.md, "Shard states").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShardState {
    /// Never reported: capacity to come, without demand.
    Pending,
    /// Reports.
    Fresh,
    /// Was Ready, and its reports are missing.
    Silent,
    /// Gone, or going though we did not drain it: replaced under another name.
    Lost,
    /// Ends its streams.
    Draining,
    /// Ended for good; the pod object remains.
    Finished,
}

impl ShardState {
    /// Whether the shard counts as one of the desired ones.
    pub fn is_active(self) -> bool {
        match self {
            Self::Pending | Self::Fresh | Self::Silent => true,
            Self::Lost | Self::Draining | Self::Finished => false,
        }
    }
}

impl TroubleKind {
    /// The reason in the condition `Available`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotReady => "NoShardReady",
            Self::Unschedulable => "Unschedulable",
            Self::OomKilled => "OOMKilled",
            Self::CrashLooping => "CrashLooping",
            Self::ImagePullFailed => "ImagePullFailed",
        }
    }
}

impl Termination {
    /// Whether the kernel killed it for memory.
    pub fn is_oom_kill(&self) -> bool {
        self.reason == "OOMKilled"
    }

    fn trouble(&self) -> Trouble {
        if self.is_oom_kill() {
            return Trouble { kind: TroubleKind::OomKilled, words: "OOMKilled".to_owned() };
        }
        Trouble { kind: TroubleKind::CrashLooping, words: format!("{} (exit code {})", self.reason, self.exit_code) }
    }
}

impl Container {
    /// Whether a process may be running.
    pub fn may_run(&self) -> bool {
        match self {
            Self::Unknown | Self::Running { .. } => true,
            Self::Waiting { .. } | Self::Terminated(_) => false,
        }
    }
}

// === impl ObservedShard ===

impl ObservedShard {
    /// Reads a pod, whosever it is. The index, which depends on that, is zero.
    pub fn read(pod: &Pod) -> Self {
        let label = |key: &str| pod.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
        let annotation = |key: &str| pod.metadata.annotations.as_ref().and_then(|all| all.get(key)).map(String::as_str);
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let condition = |kind: &str| {
            status.and_then(|s| s.conditions.as_ref()).and_then(|all| all.iter().find(|condition| condition.type_ == kind))
        };
        let ready = condition("Ready");
        let server = status
            .and_then(|s| s.container_statuses.as_ref())
            .and_then(|all| all.iter().find(|container| container.name == names::CONTAINER));
        let limit = spec
            .and_then(|s| s.containers.iter().find(|container| container.name == names::CONTAINER))
            .and_then(|container| container.resources.as_ref()?.limits.as_ref()?.get("memory"));
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            index: 0,
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            node: spec.and_then(|s| s.node_name.clone()),
            phase: phase(status.and_then(|s| s.phase.as_deref())),
            phase_message: words(
                status.and_then(|s| s.reason.as_deref()).unwrap_or_default(),
                status.and_then(|s| s.message.as_deref()).unwrap_or_default(),
            ),
            ready: ready.is_some_and(|condition| condition.status == "True"),
            unready: ready.filter(|condition| condition.status != "True").and_then(|condition| {
                words(condition.reason.as_deref().unwrap_or_default(), condition.message.as_deref().unwrap_or_default())
            }),
            ready_changed: ready.and_then(|condition| condition.last_transition_time.as_ref()).map(|time| time.0),
            created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            terminating: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
            told_to_end: pod.metadata.deletion_timestamp.as_ref().map(|time| {
                let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
                time.0.saturating_sub(grace).unwrap_or(time.0)
            }),
            disruption: condition("DisruptionTarget").filter(|condition| condition.status == "True").map(disruption),
            draining: (label(names::LABEL_STATE) == Some(names::STATE_DRAINING)).then(|| DrainMark {
                reason: annotation(names::ANNOTATION_DRAIN_REASON).and_then(DrainReason::parse),
                started: annotation(names::ANNOTATION_DRAIN_STARTED).and_then(|text| text.parse().ok()),
            }),
            placed: label(names::LABEL_PLACED) == Some(names::PLACED),
            template_hash: annotation(names::ANNOTATION_TEMPLATE_HASH).map(str::to_owned),
            born_drain: annotation(names::ANNOTATION_BORN_DRAIN).and_then(|text| duration::parse(text).ok()),
            container: server.map(container).unwrap_or_default(),
            last_termination: server.and_then(|s| s.last_state.as_ref()?.terminated.as_ref()).map(termination),
            restarts: server.map_or(0, |s| u32::try_from(s.restart_count).unwrap_or(0)),
            unschedulable: condition("PodScheduled")
                .filter(|c| is_unschedulable(c))
                .map(|c| c.message.clone().unwrap_or_default()),
            address: status.and_then(|s| s.pod_ip.clone()),
            memory_limit: limit.and_then(|quantity| Bytes::try_from(quantity).ok()),
            node_leaves: None,
            mesh: names::MARKS_OF_A_MESH.iter().find(|(mark, _)| annotation(mark).is_some()).map(|(_, mesh)| *mesh),
            report: None,
        }
    }

    /// What its end is called when it was not ours to begin: the node goes, or this pod alone. An eviction does not say which.
    /// Where we may not look at the node it is taken for a node drain, because hardly anybody else asks the eviction API.
    pub fn eviction(&self) -> DrainReason {
        match self.disruption {
            Some(Disruption::Tainted) => DrainReason::NodeDrain,
            Some(Disruption::Evicted) if self.node_leaves != Some(false) => DrainReason::NodeDrain,
            Some(Disruption::Evicted | Disruption::Other) | None => DrainReason::Eviction,
        }
    }

    /// The pod, for a write.
    pub fn pod(&self) -> PodRef {
        PodRef { name: self.name.clone(), uid: self.uid.clone() }
    }

    /// What the shard said last.
    pub fn reported(&self) -> Option<&LoadReport> {
        self.report.as_ref().map(|received| &received.report)
    }

    /// Since when the shard has been Ready; none when it is not.
    pub fn ready_since(&self) -> Option<Timestamp> {
        self.ready_changed.filter(|_| self.ready)
    }

    /// Whether this shard is or was Ready: from then on it may hold streams.
    ///
    /// A pod that never was Ready has its condition's last change before its container started.
    pub fn was_ready(&self) -> bool {
        let running = match &self.container {
            Container::Running { started } => *started,
            Container::Terminated(end) => end.started,
            Container::Unknown | Container::Waiting { .. } => None,
        };
        let first_start = [running, self.last_termination.as_ref().and_then(|end| end.started)].into_iter().flatten().min();
        self.ready || self.ready_changed.zip(first_start).is_some_and(|(changed, started)| changed > started)
    }

    /// Whether clients may hold streams or wait for answers here: such a shard is drained before it is deleted.
    pub fn may_hold_work(&self) -> bool {
        let reported = self.report.as_ref().is_some_and(|received| received.report.load() > 0);
        self.container.may_run() && (self.was_ready() || reported)
    }

    /// The last kill for memory that the kubelet reports.
    pub fn oom_killed_at(&self) -> Option<Timestamp> {
        let now = match &self.container {
            Container::Terminated(end) => Some(end),
            Container::Unknown | Container::Waiting { .. } | Container::Running { .. } => None,
        };
        now.into_iter().chain(self.last_termination.as_ref()).filter(|end| end.is_oom_kill()).filter_map(|end| end.finished).max()
    }

    /// What keeps the shard from being Ready. None while it is, or while it starts as every shard does.
    pub fn trouble(&self, now: Timestamp) -> Option<Trouble> {
        if self.ready {
            return None;
        }
        let trouble = |kind, words| Some(Trouble { kind, words });
        let ended = self.last_termination.as_ref();
        match &self.container {
            Container::Waiting { reason, message } => match reason.as_str() {
                "ImagePullBackOff"
                | "ErrImagePull"
                | "InvalidImageName"
                | "ErrImageNeverPull"
                | "ImageInspectError"
                | "RegistryUnavailable" => {
                    return trouble(TroubleKind::ImagePullFailed, words(reason, message).unwrap_or_default());
                }
                "CrashLoopBackOff"
                | "RunContainerError"
                | "CreateContainerError"
                | "CreateContainerConfigError"
                | "StartError" => {
                    return if ended.is_some_and(Termination::is_oom_kill) {
                        trouble(TroubleKind::OomKilled, words("OOMKilled", message).unwrap_or_default())
                    } else {
                        let exit = ended.map(|end| format!(" (last exit code {})", end.exit_code)).unwrap_or_default();
                        trouble(TroubleKind::CrashLooping, words(reason, message).unwrap_or_default() + &exit)
                    };
                }
                _ => {}
            },
            Container::Terminated(end) => return Some(end.trouble()),
            // Between two crashes nothing is better than during one.
            Container::Running { started } => {
                let is_back = started.zip(self.ready_changed).is_some_and(|(started, changed)| changed > started);
                if let Some(end) = ended.filter(|_| !is_back) {
                    return Some(end.trouble());
                }
            }
            Container::Unknown => {}
        }
        if let Some(words) = &self.unschedulable {
            return trouble(TroubleKind::Unschedulable, words.clone());
        }
        let waited = self.created.is_some_and(|created| elapsed(created, now) > START_DEADLINE);
        let words = || self.unready.clone().unwrap_or_else(|| "not Ready".to_owned());
        (waited || self.was_ready()).then(|| Trouble { kind: TroubleKind::NotReady, words: words() })
    }

    /// Whether there is no hope that the shard is back in a moment: not Ready for long; or not Ready, and what used to report
    /// has not done so for long. The second is how a lost node shows. Kubernetes calls its pods not Ready after 40 s or more,
    /// and by then the shards have been silent for as long: two witnesses, and nothing to wait for.
    fn is_dead(&self, now: Timestamp) -> bool {
        self.is_unready_for_long(now) || (!self.ready && self.report.is_some() && self.is_unheard(now))
    }

    /// Whether the shard has not been Ready for longer than a restart takes.
    pub fn is_unready_for_long(&self, now: Timestamp) -> bool {
        !self.ready && self.ready_changed.is_some_and(|changed| elapsed(changed, now) > LOST_AFTER)
    }

    /// Whether the shard has not reported for so long that no order would reach it.
    pub fn is_unheard(&self, now: Timestamp) -> bool {
        self.report.as_ref().is_none_or(|received| elapsed(received.at, now) > LOST_AFTER)
    }

    /// What the shard is to the sums and gates. `watching_since` is when this process began to ask shards for reports, which
    /// it does every `interval`.
    pub fn state(&self, now: Timestamp, watching_since: Timestamp, interval: Duration) -> ShardState {
        let silence = interval * SILENT_AFTER_INTERVALS;
        if matches!(self.phase, Phase::Failed | Phase::Succeeded) {
            ShardState::Finished
        } else if self.draining.is_some() {
            if self.was_ready() && self.is_unheard(now) && self.is_dead(now) { ShardState::Lost } else { ShardState::Draining }
        } else if self.terminating.is_some() {
            ShardState::Lost
        } else if !self.was_ready() {
            ShardState::Pending
        } else if self.is_dead(now) {
            ShardState::Lost
        } else if let Some(received) = &self.report {
            if elapsed(received.at, now) > silence { ShardState::Silent } else { ShardState::Fresh }
        } else {
            let asked_since = self.ready_changed.map_or(watching_since, |changed| changed.max(watching_since));
            if elapsed(asked_since, now) > silence { ShardState::Silent } else { ShardState::Pending }
        }
    }
}

/// Time from `from` to `now`; zero when `from` is ahead of `now`.
pub fn elapsed(from: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(from)).unwrap_or_default()
}

/// The moment so long before another.
pub fn elapsed_before(duration: Duration, now: Timestamp) -> Timestamp {
    let span = SignedDuration::try_from(duration).unwrap_or(SignedDuration::ZERO);
    now.checked_sub(span).unwrap_or(Timestamp::MIN)
}

fn phase(text: Option<&str>) -> Phase {
    match text {
        Some("Running") => Phase::Running,
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        Some("Unknown") => Phase::Unknown,
        Some(_) | None => Phase::Pending,
    }
}

fn container(status: &ContainerStatus) -> Container {
    let Some(state) = &status.state else { return Container::Unknown };
    if let Some(running) = &state.running {
        Container::Running { started: running.started_at.as_ref().map(|time| time.0) }
    } else if let Some(terminated) = &state.terminated {
        Container::Terminated(termination(terminated))
    } else if let Some(waiting) = &state.waiting {
        Container::Waiting {
            reason: waiting.reason.clone().unwrap_or_default(),
            message: waiting.message.clone().unwrap_or_default(),
        }
    } else {
        Container::Unknown
    }
}

fn termination(state: &k8s_openapi::api::core::v1::ContainerStateTerminated) -> Termination {
    Termination {
        reason: state.reason.clone().unwrap_or_default(),
        exit_code: state.exit_code,
        started: state.started_at.as_ref().map(|time| time.0),
        finished: state.finished_at.as_ref().map(|time| time.0),
    }
}

fn disruption(condition: &PodCondition) -> Disruption {
    match condition.reason.as_deref() {
        Some("EvictionByEvictionAPI") => Disruption::Evicted,
        Some("DeletionByTaintManager") => Disruption::Tainted,
        Some(_) | None => Disruption::Other,
    }
}

fn is_unschedulable(condition: &PodCondition) -> bool {
    condition.status == "False" && condition.reason.as_deref() == Some("Unschedulable")
}

/// `reason: message`, or whichever of them is there.
fn words(reason: &str, message: &str) -> Option<String> {
    match (reason.is_empty(), message.is_empty()) {
        (true, true) => None,
        (false, true) => Some(reason.to_owned()),
        (true, false) => Some(message.to_owned()),
        (false, false) => Some(format!("{reason}: {message}")),
    }
}
