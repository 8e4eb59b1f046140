//! Observed, decided, applied → what a person reads: [`summarize`], and whether it is worth a write: [`worth_patching`].
//!
//! Reasons are API, messages are for people. Counts are rounded to three figures and percentages move in steps of two, so
//! that an operator at rest writes nothing; no message contains an age. See "Status" in docs/api.md.

mod available;
mod memory;
mod progress;
mod view;

#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use mcp_crds::McpClusterStatus;
use mcp_crds::cluster::{Address, AutoscalingStatus, CatalogStatus, HotShard, LastScale, LoadStatus};
use mcp_crds::quantity::{Bytes, Size};

use crate::names;
use crate::stages::{Applied, CatalogOutcome, CompiledCounts, Decision, Mode, Observed, ObservedShard, Urgency, elapsed};
use crate::words::{percent, size, three_figures};
use view::View;

/// Numbers that moved little are written at most this often.
const NUMBERS_PERIOD: Duration = Duration::from_mins(1);
/// A number that moved by this percentage is written at once.
const MOVED_PERCENT: u64 = 10;
/// A percentage stays until it moved by this many points.
const PERCENT_STEP: i32 = 2;
/// Shards listed as hottest.
const HOTTEST: usize = 5;
/// Digits of a revision.
const REVISION_DIGITS: usize = 6;
/// Errors of a catalog that are told, one after the other.
const ERRORS_TOLD: usize = 10;
/// The port of the Service, when the spec leaves it open.
const DEFAULT_PORT: i32 = 80;

/// One condition, without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    kind: &'static str,
    status: Truth,
    reason: &'static str,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    True,
    False,
    Unknown,
}

/// The status after a pass. `previous` is the one the API server holds; what did not move is taken over from it.
pub fn summarize(
    observed: &Observed,
    decision: &Decision,
    applied: &Applied,
    previous: Option<&McpClusterStatus>,
    now: Timestamp,
) -> McpClusterStatus {
    let empty = McpClusterStatus::default();
    let previous = previous.unwrap_or(&empty);
    let view = View::of(observed, decision, applied, previous, now);
    let spec = &observed.cluster.spec;
    let namespace = observed.cluster.metadata.namespace.as_deref().unwrap_or_default();
    McpClusterStatus {
        observed_generation: observed.cluster.metadata.generation,
        address: Some(Address { url: names::url(observed.name(), namespace, spec.service.port.unwrap_or(DEFAULT_PORT)) }),
        selector: Some(names::selector(observed.name())),
        image: Some(observed.image.clone()),
        default_image: match spec.image {
            None => Some(observed.image.clone()),
            Some(_) => previous.default_image.clone(),
        },
        replicas: Some(count(view.active().count())),
        ready_replicas: Some(count(view.active().filter(|shard| shard.ready).count())),
        updated_replicas: Some(count(view.active().filter(|shard| !observed.is_outdated(shard)).count())),
        draining_replicas: Some(count(view.draining().count())),
        desired_replicas: Some(i32::try_from(decision.desired).unwrap_or(i32::MAX)),
        load: Some(load(&view)),
        catalog: Some(catalog(&view)),
        last_scale: decision.last_scale.clone().or_else(|| previous.last_scale.clone()).map(whole_seconds),
        autoscaling: remembered(decision),
        hottest_shards: hottest(&view),
        conditions: conditions(&view),
    }
}

/// Whether the new status is worth a write, and how urgent it is: at once when something changed that a person would act on
/// or a number moved by 10 %, and after a minute since `written` when only numbers moved.
pub fn worth_patching(
    old: Option<&McpClusterStatus>,
    new: &McpClusterStatus,
    written: Option<Timestamp>,
    now: Timestamp,
) -> Option<Urgency> {
    let Some(old) = old else { return Some(Urgency::Conditions) };
    if old == new {
        return None;
    }
    if without_numbers(old) != without_numbers(new) {
        return Some(Urgency::Conditions);
    }
    let due = written.is_none_or(|written| elapsed(written, now) >= NUMBERS_PERIOD);
    (due || moved(old.load.as_ref(), new.load.as_ref())).then_some(Urgency::Numbers)
}

// === numbers ===

fn load(view: &View<'_>) -> LoadStatus {
    let reports = || view.reports().map(|(_, report)| report);
    let sum = |values: &mut dyn Iterator<Item = u64>| signed(three_figures(values.fold(0, u64::saturating_add)));
    let previous = view.previous.load.clone().unwrap_or_default();
    let used: Vec<_> = view.memory().collect();
    let bytes = |part: fn(&view::Memory<'_>) -> u64| used.iter().map(part).fold(0, u64::saturating_add);
    let mean = (!used.is_empty()).then(|| steady(previous.memory_percent, bytes(|m| m.used), bytes(|m| m.limit)));
    let bytes_per_connection = bytes_per_connection(view, previous.bytes_per_connection.as_ref());
    LoadStatus {
        connections: sum(&mut reports().map(mcp_crds::load::LoadReport::load)),
        streams: sum(&mut reports().map(|report| report.streams)),
        capacity: sum(&mut view.serving().filter_map(ObservedShard::reported).map(|report| view.capacity(report))),
        target_per_replica: signed(target(view, &previous, bytes_per_connection.as_ref())),
        bytes_per_connection,
        memory_percent: mean,
        hottest_memory_percent: view.peak().map(|peak| peak.steady(previous.hottest_memory_percent)),
    }
}

/// What a shard is meant to hold. Where memory bounds it, it is learnt and fidgets: for one and the same spec it stays until
/// what was learnt is shown anew, and it moved by 10 %.
fn target(view: &View<'_>, previous: &LoadStatus, bytes_per_connection: Option<&String>) -> u64 {
    let target = three_figures(view.decision.numbers.target);
    let before = u64::try_from(previous.target_per_replica).unwrap_or_default();
    let same_spec = view.previous.observed_generation == view.observed.cluster.metadata.generation;
    let as_learnt = bytes_per_connection == previous.bytes_per_connection.as_ref();
    if same_spec && before > 0 && (as_learnt || !is_far(before, target)) { before } else { target }
}

/// What a connection costs is learnt too. Among few connections the kernel's own bookkeeping looks like their cost, and moves
/// for an hour: it stays until it moved by 10 %, and by what makes two points of the memory of all shards.
fn bytes_per_connection(view: &View<'_>, previous: Option<&String>) -> Option<String> {
    let learnt = view.decision.numbers.bytes_per_load;
    let before = previous.and_then(|text| Bytes::try_from(&Size(text.clone())).ok());
    let load = view.reports().map(|(_, report)| report.load()).fold(0, u64::saturating_add);
    let limits = view.memory().map(|memory| memory.limit).fold(0, u64::saturating_add);
    let is_slight = |before: u64| {
        let moved = u128::from(before.abs_diff(learnt)) * u128::from(load);
        moved * 100 < u128::from(limits) * u128::from(PERCENT_STEP.unsigned_abs())
    };
    match before {
        Some(before) if !is_far(before.0, learnt) || is_slight(before.0) => previous.cloned(),
        _ => (learnt > 0).then(|| size(three_figures(learnt))),
    }
}

fn hottest(view: &View<'_>) -> Vec<HotShard> {
    let mut shards: Vec<_> = view.memory().collect();
    shards.sort_by_key(|memory| (std::cmp::Reverse(view.heat(memory)), memory.shard.index));
    shards
        .into_iter()
        .take(HOTTEST)
        .map(|memory| {
            let before = view.previous.hottest_shards.iter().find(|shard| shard.name == memory.shard.name);
            HotShard {
                name: memory.shard.name.clone(),
                connections: signed(three_figures(memory.report.load())),
                memory_percent: memory.steady(before.map(|shard| shard.memory_percent)),
                node_name: memory.shard.node.clone(),
            }
        })
        .collect()
}

fn catalog(view: &View<'_>) -> CatalogStatus {
    let before = view.previous.catalog.clone().unwrap_or_default();
    let shards = count(view.serving().filter(|shard| view.serves_published(shard)).count());
    let revision = view.published().map(|hash| revision(hash).to_owned()).unwrap_or_default();
    match &view.observed.catalog {
        CatalogOutcome::Compiled(counts) => {
            let CompiledCounts { hash: _, tools, resources, resource_templates, prompts, sources } = counts;
            CatalogStatus {
                revision,
                shards,
                tools: count(*tools),
                resources: count(*resources),
                resource_templates: count(*resource_templates),
                prompts: count(*prompts),
                sources: sources.clone(),
            }
        }
        // What is served is what was published before.
        CatalogOutcome::NotLoaded | CatalogOutcome::Refused { .. } => CatalogStatus { revision, shards, ..before },
    }
}

fn revision(hash: &str) -> &str {
    hash.get(..REVISION_DIGITS).unwrap_or(hash)
}

/// Who decides by hand needs no window.
fn remembered(decision: &Decision) -> Option<AutoscalingStatus> {
    let AutoscalingStatus { window_start_time, window_highest, last_oom_kill_time } = &decision.remembered;
    let by_hand = decision.mode == Mode::ManualReplicas;
    let kept = AutoscalingStatus {
        window_start_time: window_start_time.as_ref().filter(|_| !by_hand).map(whole_second),
        window_highest: window_highest.filter(|_| !by_hand),
        last_oom_kill_time: last_oom_kill_time.as_ref().map(whole_second),
    };
    Some(kept).filter(|kept| *kept != AutoscalingStatus::default())
}

fn whole_seconds(scale: LastScale) -> LastScale {
    LastScale { time: whole_second(&scale.time), ..scale }
}

/// Kubernetes writes times in whole seconds.
fn whole_second(time: &Time) -> Time {
    Time(Timestamp::from_second(time.0.as_second()).unwrap_or(time.0))
}

/// The old percentage, until the exact new one is two points away.
fn steady(old: Option<i32>, part: u64, whole: u64) -> i32 {
    let (hundredfold, step) = (i128::from(part) * 100, i128::from(PERCENT_STEP) * i128::from(whole));
    let is_near = |old: &i32| (hundredfold - i128::from(*old) * i128::from(whole)).abs() < step;
    old.filter(is_near).unwrap_or_else(|| points(percent(part, whole)))
}

fn points(percent: u64) -> i32 {
    i32::try_from(percent).unwrap_or(i32::MAX)
}

fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

// === conditions ===

fn conditions(view: &View<'_>) -> Vec<Condition> {
    let others = [
        available::available(view),
        progress::progressing(view),
        autoscaling_active(view),
        scaling_limited(view),
        memory::memory_pressure(view),
        progress::draining(view),
        catalog_valid(view),
    ];
    let ready = available::ready(view, &others);
    let before = view.previous.conditions.iter().find(|condition| condition.type_ == ready.kind);
    let kept = before.filter(|before| before.status == "True" && available::is_flipping(view, &ready)).cloned();
    let ready = kept.unwrap_or_else(|| ready.into_condition(view));
    std::iter::once(ready).chain(others.into_iter().map(|verdict| verdict.into_condition(view))).collect()
}

fn autoscaling_active(view: &View<'_>) -> Verdict {
    let decide = |status, reason, message: String| Verdict { kind: "AutoscalingActive", status, reason, message };
    let spec = &view.observed.cluster.spec;
    match view.decision.mode {
        Mode::Starting => decide(Truth::Unknown, "Starting", "No shard has reported yet.".into()),
        Mode::Deciding => {
            let (reporting, active) = (view.fresh().count(), view.active().count());
            decide(Truth::True, "Deciding", format!("{reporting} of {active} shards report."))
        }
        Mode::MemoryTargetUnreachable => decide(
            Truth::True,
            "MemoryTargetUnreachable",
            format!(
                "A shard without load already uses {} % of its memory limit: connections alone decide. Raise `resources.limits.memory`.",
                view.memory_target()
            ),
        ),
        Mode::MemoryLimitUnknown => decide(
            Truth::False,
            "MemoryLimitUnknown",
            "The memory limit that shards run under is unknown: connections alone decide.".into(),
        ),
        Mode::MetricsUnavailable => decide(
            Truth::False,
            "MetricsUnavailable",
            format!("No shard answers on the control port (9091): the size stays. {}", who_may_close_it(view)),
        ),
        Mode::ManualReplicas => {
            let size = spec.replicas.map_or("`replicas` is not set: 1 shard.".into(), |size| format!("`replicas` is {size}."));
            decide(Truth::False, "ManualReplicas", size)
        }
        Mode::Paused => decide(Truth::False, "Paused", "`paused` is true.".into()),
    }
}

/// What may keep the operator from the control port: by name the mesh whose sidecar the shards have.
fn who_may_close_it(view: &View<'_>) -> String {
    match view.active().find_map(|shard| shard.mesh) {
        Some(mesh) => format!("{mesh} is injected into the shards: with strict mTLS it closes a port that is not excluded."),
        None => "A mesh with strict mTLS, or a NetworkPolicy, may close it.".into(),
    }
}

fn scaling_limited(view: &View<'_>) -> Verdict {
    let decide = |status, reason, message: &str| Verdict { kind: "ScalingLimited", status, reason, message: message.to_owned() };
    match (view.decision.mode, &view.decision.held) {
        (Mode::Starting, _) => decide(Truth::Unknown, "Starting", "No shard has reported yet."),
        (Mode::ManualReplicas, _) => decide(Truth::False, "ManualReplicas", ""),
        (_, Some(held)) => decide(Truth::True, held.gate.as_str(), &held.message),
        (Mode::MetricsUnavailable, None) => decide(Truth::True, "ShardSilent", "No shard reports: the size stays."),
        (Mode::Deciding | Mode::MemoryTargetUnreachable | Mode::MemoryLimitUnknown | Mode::Paused, None) => {
            decide(Truth::False, "WithinBounds", "")
        }
    }
}

fn catalog_valid(view: &View<'_>) -> Verdict {
    let decide = |status, reason, message: String| Verdict { kind: "CatalogValid", status, reason, message };
    match &view.observed.catalog {
        CatalogOutcome::NotLoaded => decide(Truth::Unknown, "NotLoaded", "The catalog has not been read yet.".into()),
        CatalogOutcome::Compiled(counts) => {
            let plural = if counts.tools == 1 { "tool" } else { "tools" };
            decide(Truth::True, "Compiled", format!("{} {plural}.", counts.tools))
        }
        CatalogOutcome::Refused { reason, errors } => {
            let plural = if errors.len() == 1 { "error" } else { "errors" };
            let mut message = format!("{} {plural}. ", errors.len());
            for error in errors.iter().take(ERRORS_TOLD) {
                message.push_str(error.trim_end_matches('.'));
                message.push_str(". ");
            }
            if errors.len() > ERRORS_TOLD {
                message.push_str("And more. ");
            }
            match view.published() {
                Some(hash) => message.extend(["Revision ", revision(hash), " stays."]),
                None => message.push_str("Nothing is served before it is correct."),
            }
            decide(Truth::False, reason.as_str(), message)
        }
    }
}

impl Truth {
    fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Verdict {
    /// The condition; its time moves only when its status does.
    fn into_condition(self, view: &View<'_>) -> Condition {
        let before = view.previous.conditions.iter().find(|condition| condition.type_ == self.kind);
        let unchanged = before.filter(|condition| condition.status == self.status.as_str());
        Condition {
            type_: self.kind.to_owned(),
            status: self.status.as_str().to_owned(),
            reason: self.reason.to_owned(),
            message: self.message,
            observed_generation: view.observed.cluster.metadata.generation,
            last_transition_time: unchanged
                .map_or_else(|| whole_second(&Time(view.now)), |condition| condition.last_transition_time.clone()),
        }
    }
}

// === what is worth a write ===

/// The status without what moves by itself: numbers of load, and digits in messages.
fn without_numbers(status: &McpClusterStatus) -> McpClusterStatus {
    let mut rest = status.clone();
    rest.load = None;
    rest.hottest_shards.clear();
    if let Some(kept) = &mut rest.autoscaling {
        kept.window_start_time = None;
        kept.window_highest = None;
    }
    for condition in &mut rest.conditions {
        condition.message = without_digits(&condition.message);
    }
    rest
}

/// Leaves digits out of words that are numbers, and keeps those of names: `tools-1 at 91 %` → `tools-1 at  %`.
fn without_digits(text: &str) -> String {
    let is_number =
        |word: &&str| word.chars().any(|c| c.is_ascii_digit()) && word.chars().all(|c| c.is_ascii_digit() || ",.".contains(c));
    text.split(' ').map(|word| if is_number(&word) { "" } else { word }).collect::<Vec<_>>().join(" ")
}

/// Whether a number moved by 10 %.
fn is_far(old: u64, new: u64) -> bool {
    u128::from(old.abs_diff(new)) * 100 >= u128::from(old.max(1)) * u128::from(MOVED_PERCENT)
}

fn moved(old: Option<&LoadStatus>, new: Option<&LoadStatus>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return old != new };
    let far = |old: i64, new: i64| is_far(old.unsigned_abs(), new.unsigned_abs());
    let far_points = |old: Option<i32>, new: Option<i32>| match (old, new) {
        (Some(old), Some(new)) => old.abs_diff(new) >= 10,
        (old, new) => old != new,
    };
    far(old.connections, new.connections)
        || far(old.streams, new.streams)
        || far(old.capacity, new.capacity)
        || far(old.target_per_replica, new.target_per_replica)
        || far_points(old.memory_percent, new.memory_percent)
        || far_points(old.hottest_memory_percent, new.hottest_memory_percent)
}
