//! Decisions in words.

use jiff::Timestamp;

use super::OOM_KILL_HOLDS;
use super::census::{Member, Members};
use super::measure::{MEMORY_DEAD_BAND, Measure};
use super::policy::Policy;
use crate::stages::{Gate, Mode, Numbers, elapsed};
use crate::words::{self, names, shards, size, tenths, thousands};

/// Why the size changes, and the change: `lastScale.reason` and its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Load asks for more.
    More,
    /// Load asks for less.
    Less,
    /// A bound was moved.
    Bounds,
    /// `spec.replicas` was changed.
    Manual,
}

/// What a held decision wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Shards there are to be, after this pass.
    pub(super) desired: u32,
    /// Shards that load asks for.
    pub(super) raw: u32,
}

/// `lastScale.reason`.
pub(super) fn reason(cause: Cause, measure: &Measure) -> &'static str {
    let numbers = &measure.numbers;
    match cause {
        Cause::More if numbers.by_memory > numbers.by_connections || measure.memory_bounds_target => "Memory",
        Cause::More => "Connections",
        Cause::Less => "LowLoad",
        Cause::Bounds => "Bounds",
        Cause::Manual => "Manual",
    }
}

/// `lastScale.message`: "61,200 connections need 5.1 shards at 12,000 each: 5 to 6."
pub(super) fn scale(cause: Cause, policy: &Policy, measure: &Measure, from: u32, to: u32) -> String {
    let numbers = &measure.numbers;
    let why = match cause {
        Cause::More if numbers.by_memory > numbers.by_connections => format!(
            "Shards use {} more than the memory target of {} % leaves, and one holds {}",
            size(measure.excess.saturating_sub(measure.headroom)),
            policy.memory_percent,
            size(u64::try_from(numbers.slot).unwrap_or(0)),
        ),
        Cause::More => format!("{}{}", needed(numbers, policy.buffer), by_bytes(policy, measure)),
        Cause::Less => {
            format!("{} fit {} at {} each", connections(numbers.demand), shards(u64::from(to)), thousands(numbers.target_down))
        }
        Cause::Bounds if to > from => format!("`autoscaling.minReplicas` is {to}"),
        Cause::Bounds => format!("`autoscaling.maxReplicas` is {to}"),
        Cause::Manual => format!("`replicas` is {to}"),
    };
    format!("{why}: {from} to {to}.")
}

fn needed(numbers: &Numbers, buffer: u64) -> String {
    let total = numbers.demand.saturating_add(buffer).saturating_add(numbers.growth).saturating_add(numbers.waiting);
    let mut parts = vec![connections(numbers.demand)];
    if buffer > 0 {
        parts.push(format!("{} to keep free", thousands(buffer)));
    }
    if numbers.waiting > 0 {
        parts.push(format!("{} that were refused", thousands(numbers.waiting)));
    }
    if numbers.growth > 0 {
        parts.push(format!("{} that come while a shard starts", thousands(numbers.growth)));
    }
    let who = match parts.as_slice() {
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
        [] => String::new(),
    };
    format!("{who} need {} shards at {} each", tenths(total, numbers.target), thousands(numbers.target))
}

fn by_bytes(policy: &Policy, measure: &Measure) -> String {
    match measure.limit.filter(|_| measure.memory_bounds_target) {
        Some(limit) => format!(
            ", {} of memory a connection and {} % of {} a shard",
            size(measure.numbers.bytes_per_load),
            policy.memory_percent,
            words::limit(limit)
        ),
        None => String::new(),
    }
}

fn connections(count: u64) -> String {
    if count == 1 { "1 connection".to_owned() } else { format!("{} connections", thousands(count)) }
}

/// What to say about a gate. Names and causes; after an hour also the remedy; never an age.
pub(super) fn held(gate: Gate, policy: &Policy, members: &Members<'_>, wanted: Wanted, is_old: bool, now: Timestamp) -> String {
    let Wanted { desired, raw } = wanted;
    let (message, remedy) = match gate {
        Gate::AtMaximum => (
            format!("Load asks for {}; `autoscaling.maxReplicas` is {desired}.", shards(u64::from(raw))),
            "Raise `autoscaling.maxReplicas`.",
        ),
        Gate::AtMinimum => (format!("Load asks for {}; `autoscaling.minReplicas` is {desired}.", shards(u64::from(raw))), ""),
        Gate::RateLimited => {
            let direction = if raw > desired { "scaleUp" } else { "scaleDown" };
            (
                format!("Load asks for {}; `autoscaling.behavior.{direction}` allows no faster change.", shards(u64::from(raw))),
                "Allow more in its `policies`.",
            )
        }
        Gate::Stabilizing => {
            let window =
                if raw > desired { &policy.up.stabilization_window_seconds } else { &policy.down.stabilization_window_seconds };
            (
                format!("Load asks for {}; it has to ask for {window} s.", shards(u64::from(raw))),
                "It asks for something else before they are over: shorten `stabilizationWindowSeconds` to follow it.",
            )
        }
        Gate::ShardSilent => {
            let silent = names(members.unheard().map(|m| m.shard.name.as_str()));
            (
                format!("No load report from {silent}: nothing is scaled in."),
                "Look at its log, or delete the pod: it is replaced.",
            )
        }
        Gate::VictimsDoNotFit => (
            format!("Load asks for {}, but what the next shard holds does not fit the others.", shards(u64::from(raw))),
            "Lower `autoscaling.maxReplicas` to drain it nevertheless.",
        ),
        Gate::RecentOomKill => (
            format!("{} killed for memory within 30 minutes: nothing is scaled in.", killed(members, now)),
            "Raise `resources.limits.memory`, or lower `autoscaling.memory.targetPercent`.",
        ),
        Gate::HotShard => {
            let hot = names(members.fresh().filter(|m| is_hot(policy, m)).map(|m| m.shard.name.as_str()));
            (
                format!("A new shard would not cool {hot}."),
                "Look for a heavy tool, or delete the pod: it is drained and replaced.",
            )
        }
        Gate::RolloutInProgress => {
            let left: Vec<_> = members.active().filter(|m| m.is_outdated).map(|m| m.shard.name.as_str()).collect();
            let left =
                if left.is_empty() || !is_old { String::new() } else { format!(" Still to be replaced: {}.", names(left)) };
            (
                format!("Shards are being replaced: nothing is scaled in.{left}"),
                "The condition Progressing says which shard does not start; correct the spec.",
            )
        }
        Gate::InvalidReport => {
            let invalid = names(members.invalid().map(|m| m.shard.name.as_str()));
            (format!("The load report of {invalid} makes no sense: the size stays."), "Delete the pod: it is replaced.")
        }
        Gate::ClockMovedBack => (
            "The operator's clock was set back: the size stays until a window has passed.".to_owned(),
            "Check the clock of the operator's node.",
        ),
    };
    if is_old && !remedy.is_empty() { format!("{message} {remedy}") } else { message }
}

/// `tools-3 was`
fn killed(members: &Members<'_>, now: Timestamp) -> String {
    let is_recent = |m: &&Member<'_>| m.killed.is_some_and(|time| elapsed(time, now) < OOM_KILL_HOLDS);
    let killed: Vec<_> = members.all.iter().filter(is_recent).map(|m| m.shard.name.as_str()).collect();
    match killed.len() {
        0 => "A shard that is gone was".to_owned(),
        1 => format!("{} was", killed[0]),
        _ => format!("{} were", names(killed)),
    }
}

/// Whether a shard is so far over the memory target that streams should leave it.
pub(super) fn is_hot(policy: &Policy, member: &Member<'_>) -> bool {
    const MARGIN: u64 = 5;
    member.heat.is_some_and(|percent| percent >= policy.memory_percent + MARGIN)
}

/// Whether a shard's memory is near the target, or over it: within the dead band.
pub(super) fn is_warm(policy: &Policy, member: &Member<'_>) -> bool {
    member.heat.is_some_and(|percent| percent >= policy.memory_percent.saturating_sub(MEMORY_DEAD_BAND))
}

/// Whether a shard is so full that it cannot wait for its streams to leave by themselves: a step from where its own guard ends
/// streams.
pub(super) fn is_urgent(policy: &Policy, member: &Member<'_>) -> bool {
    const MARGIN: u64 = 15;
    member.heat.is_some_and(|percent| percent >= policy.memory_percent + MARGIN)
}

/// Whether a mode lets load decide.
pub(super) fn decides(mode: Mode) -> bool {
    match mode {
        Mode::Deciding | Mode::MemoryTargetUnreachable | Mode::MemoryLimitUnknown => true,
        Mode::Starting | Mode::MetricsUnavailable | Mode::ManualReplicas | Mode::Paused => false,
    }
}
