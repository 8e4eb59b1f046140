//! `Progressing`: what changes now. `Draining`: which shards end, and why.

use super::available::{failure_words, worst_failure};
use super::view::{View, trouble_words};
use super::{Truth, Verdict};
use crate::stages::{DrainReason, FailureReason, ObservedShard, START_DEADLINE, elapsed};
use crate::words::{names, thousands, three_figures};

/// The condition `Progressing`.
pub(super) fn progressing(view: &View<'_>) -> Verdict {
    let decide = |status, reason, message: String| Verdict { kind: "Progressing", status, reason, message };
    if view.observed.cluster.spec.paused {
        return decide(Truth::False, "Paused", "`paused` is true: nothing is created, drained or deleted.".into());
    }
    if let Some(failure) = worst_failure(view) {
        let reason = match failure.reason {
            FailureReason::NameConflict => "NameConflict",
            FailureReason::QuotaExceeded | FailureReason::ApplyFailed => "ApplyFailed",
        };
        return decide(Truth::False, reason, failure_words(failure));
    }
    let starting: Vec<_> = view.starting().collect();
    let trouble = view.worst_trouble(starting.iter().copied());
    let outdated: Vec<_> = view.outdated().collect();
    let rolls = |shard: &&ObservedShard| is_draining_for(shard, DrainReason::Rollout);
    if !outdated.is_empty() || view.draining().any(|shard| rolls(&shard)) {
        let rolling = view.observed.rolling(view.now);
        if let Some((shard, trouble)) = rolling.frozen_by(view.decision.desired) {
            return decide(Truth::False, "RolloutFrozen", trouble_words(shard, trouble));
        }
        let left = names(outdated.iter().map(|shard| shard.name.as_str()));
        let message =
            if left.is_empty() { "The last outdated shard is draining.".into() } else { format!("To be replaced: {left}.") };
        return decide(Truth::True, "RollingOut", message);
    }
    let late = starting.iter().find(|shard| shard.created.is_some_and(|created| elapsed(created, view.now) > START_DEADLINE));
    if let Some(late) = late {
        let words = trouble
            .map_or_else(|| format!("{} does not become Ready.", late.name), |(shard, trouble)| trouble_words(shard, &trouble));
        return decide(Truth::False, "DeadlineExceeded", words);
    }
    let missing = (view.decision.desired as usize).saturating_sub(view.active().count());
    // What ends without ever having been Ready is missed by nobody, and what is only left of a pod on a node that does not
    // answer is nothing that goes on.
    let lost = view.lost().filter(|shard| shard.was_ready());
    let (gone, lost): (Vec<_>, Vec<_>) = lost.partition(|shard| shard.terminating.is_some() && shard.is_unheard(view.now));
    if !lost.is_empty() || (!gone.is_empty() && (missing > 0 || !starting.is_empty())) {
        let lost: Vec<_> = lost.iter().chain(&gone).map(|shard| shard.name.as_str()).collect();
        let what = if lost.len() == 1 { "is" } else { "are" };
        return decide(Truth::True, "Replacing", format!("{} {what} replaced.", names(lost)));
    }
    if !starting.is_empty() || missing > 0 {
        let message = match (trouble, starting.as_slice()) {
            (Some((shard, trouble)), _) => trouble_words(shard, &trouble),
            (None, []) if missing == 1 => "1 shard is being created.".into(),
            (None, []) => format!("{missing} shards are being created."),
            (None, [one]) => format!("{} is starting.", one.name),
            (None, more) => format!("{} are starting.", names(more.iter().map(|shard| shard.name.as_str()))),
        };
        return decide(Truth::True, "ScalingOut", message);
    }
    let recycled: Vec<_> = view
        .draining()
        .filter(|shard| is_draining_for(shard, DrainReason::Recycle))
        .map(|shard| shard.name.as_str())
        .chain(view.decision.retiring.iter().map(|pod| pod.name.as_str()))
        .collect();
    if !recycled.is_empty() {
        let is_vain = recycled.iter().any(|name| view.decision.census.fruitless.contains(*name));
        let why = if is_vain { "keeps memory though its streams end" } else { "keeps memory without load" };
        return decide(Truth::True, "Recycling", format!("{} {why}, and is replaced.", names(recycled)));
    }
    let replaced: Vec<_> =
        view.draining().filter(|shard| is_draining_for(shard, DrainReason::Eviction)).map(|shard| shard.name.as_str()).collect();
    if !replaced.is_empty() {
        return decide(Truth::True, "Replacing", format!("{} is replaced.", names(replaced)));
    }
    let leaving: Vec<_> = view
        .draining()
        .map(|shard| shard.name.as_str())
        .chain(view.decision.victims.iter().map(|victim| victim.pod.name.as_str()))
        .collect();
    if !leaving.is_empty() {
        let verb = if leaving.len() == 1 { "leaves" } else { "leave" };
        return decide(Truth::True, "ScalingIn", format!("{} {verb}.", names(leaving)));
    }
    decide(Truth::False, "Settled", left_behind(&gone))
}

/// Pods that end when their node answers again, or is removed.
fn left_behind(gone: &[&ObservedShard]) -> String {
    let Some(node) = gone.iter().find_map(|shard| shard.node.as_deref()) else { return String::new() };
    let shards = names(gone.iter().map(|shard| shard.name.as_str()));
    let (verb, they) = if gone.len() == 1 { ("is", "it ends") } else { ("are", "they end") };
    format!("{shards} {verb} left on {node}, which does not answer: {they} when it is back, or when the Node is removed.")
}

/// The condition `Draining`.
pub(super) fn draining(view: &View<'_>) -> Verdict {
    let decide = |status, reason, message: String| Verdict { kind: "Draining", status, reason, message };
    let draining: Vec<_> = view.draining().collect();
    let evicted: Vec<_> = view.lost().filter(|shard| shard.terminating.is_some() && shard.ready).collect();
    let timeout = view.observed.cluster.spec.drain.timeout.or_zero();
    let is_late = |shard: &&&ObservedShard| {
        let started = shard.draining.and_then(|mark| mark.started);
        started.is_some_and(|started| elapsed(started, view.now) > timeout)
    };
    let late: Vec<_> = draining.iter().filter(is_late).map(|shard| shard.name.as_str()).collect();
    if !late.is_empty() {
        return decide(Truth::True, "DeadlineExceeded", format!("{} did not end within `drain.timeout`.", names(late)));
    }
    let reason = draining.iter().filter_map(|shard| shard.draining.and_then(|mark| mark.reason)).min();
    match (reason, evicted.is_empty(), draining.is_empty()) {
        (Some(reason), _, _) => decide(Truth::True, reason.as_str(), left(&draining)),
        (None, false, _) => {
            let (drained, deleted): (Vec<_>, Vec<_>) =
                evicted.iter().copied().partition(|shard| shard.eviction() == DrainReason::NodeDrain);
            let (reason, who, what) = match drained.as_slice() {
                [] => (DrainReason::Eviction, deleted, "deleted"),
                [_, ..] => (DrainReason::NodeDrain, drained, "evicted"),
            };
            let node = who.iter().find(|shard| shard.node_leaves == Some(true)).and_then(|shard| shard.node.as_deref());
            let were = if who.len() == 1 { "was" } else { "were" };
            let end = if who.len() == 1 { "ends its streams by itself" } else { "end their streams by themselves" };
            let who = names(who.iter().map(|shard| shard.name.as_str()));
            let why = node.map(|node| format!("{node} is drained: ")).unwrap_or_default();
            decide(Truth::True, reason.as_str(), format!("{why}{who} {were} {what}, and {end}."))
        }
        (None, true, false) => decide(Truth::True, "Eviction", left(&draining)),
        (None, true, true) => decide(Truth::False, "NoShardDraining", String::new()),
    }
}

fn left(draining: &[&ObservedShard]) -> String {
    let streams = draining.iter().filter_map(|shard| shard.report.as_ref()).map(|received| received.report.streams);
    let streams = three_figures(streams.fold(0, u64::saturating_add));
    let plural = if streams == 1 { "stream" } else { "streams" };
    format!("{}: {} {plural} left.", names(draining.iter().map(|shard| shard.name.as_str())), thousands(streams))
}

fn is_draining_for(shard: &ObservedShard, reason: DrainReason) -> bool {
    shard.draining.is_some_and(|mark| mark.reason == Some(reason))
}
