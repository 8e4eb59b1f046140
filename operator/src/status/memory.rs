//! `MemoryPressure`: of the hottest shard, because a mean hides the one that dies.

use std::time::Duration;

use mcp_crds::load::GuardStage;

use super::view::{Memory, View};
use super::{PERCENT_STEP, Truth, Verdict};
use crate::stages::elapsed;
use crate::words::{names, thousands, three_figures};

/// A kill for memory is told for this long: as long as it holds scale-in.
const OOM_KILL_TOLD: Duration = Duration::from_mins(30);

/// The condition `MemoryPressure`.
pub(super) fn memory_pressure(view: &View<'_>) -> Verdict {
    let decide = |status, reason, message: String| Verdict { kind: "MemoryPressure", status, reason, message };
    let killed: Vec<_> = view
        .observed
        .shards
        .iter()
        .filter(|shard| shard.oom_killed_at().is_some_and(|time| elapsed(time, view.now) < OOM_KILL_TOLD))
        .map(|shard| shard.name.as_str())
        .collect();
    if !killed.is_empty() {
        let verb = if killed.len() == 1 { "was" } else { "were" };
        let message = format!("{} {verb} killed for memory. Raise `resources.limits.memory`.", names(killed));
        return decide(Truth::True, "OOMKilled", message);
    }
    let Some(hottest) = view.hottest() else {
        return decide(Truth::Unknown, "MetricsUnavailable", "No shard reports its memory.".into());
    };
    let target = view.memory_target();
    let guarded =
        view.memory().max_by_key(|m| (m.report.stage, view.heat(m), std::cmp::Reverse(m.shard.index))).unwrap_or(hottest);
    let of = |names: &std::collections::BTreeSet<String>| {
        let among = view.memory().filter(|memory| names.contains(&memory.shard.name));
        among.max_by_key(|memory| (view.heat(memory), std::cmp::Reverse(memory.shard.index)))
    };
    if let Some(vain) = of(&view.decision.census.fruitless) {
        let is_replaced = view.decision.retiring.iter().any(|pod| pod.uid == vain.shard.uid);
        let message = format!(
            "{} at {}: its streams end and its memory does not fall. {} Look for a tool that keeps memory.",
            vain.shard.name,
            shown_words(view, &vain),
            if is_replaced { "It is replaced." } else { "If the next step brings nothing either, it is replaced." },
        );
        return decide(Truth::True, "ShedIneffective", message);
    }
    if let Some(shed) = of(&view.decision.census.shedding).filter(|_| guarded.report.stage < GuardStage::Shedding) {
        let message = format!(
            "{} at {} ends streams, largest first, and takes no new ones{}. Look for a heavy tool.",
            shed.shard.name,
            shown_words(view, &shed),
            others(view, &shed)
        );
        return decide(Truth::True, "Shedding", message);
    }
    match guarded.report.stage {
        GuardStage::Shedding => {
            let ended = thousands(three_figures(guarded.report.shed_total));
            let message = format!(
                "{} at {} ended {ended} streams, largest first, and takes no new ones{}. Look for a heavy tool.",
                guarded.shard.name,
                guarded.words(),
                others(view, &guarded)
            );
            decide(Truth::True, "Shedding", message)
        }
        GuardStage::RefusingStreams | GuardStage::Purging => {
            let message =
                format!("{} at {} takes no new streams{}.", guarded.shard.name, guarded.words(), others(view, &guarded));
            decide(Truth::True, "RefusingStreams", message)
        }
        GuardStage::Normal => {
            let was_above = view.previous.conditions.iter().any(|c| c.type_ == "MemoryPressure" && c.status == "True");
            let threshold = if was_above { target - PERCENT_STEP } else { target };
            if view.peak().is_some_and(|peak| peak.points() > threshold) {
                let message = format!("{} at {}; target {target} %.", hottest.shard.name, steady_words(view, &hottest));
                decide(Truth::True, "AboveTarget", message)
            } else {
                let message = format!("Hottest shard at {}; target {target} %.", steady_words(view, &hottest));
                decide(Truth::False, "BelowTarget", message)
            }
        }
    }
}

/// `; 3 other shards are below 52 %`
fn others(view: &View<'_>, hot: &Memory<'_>) -> String {
    let others: Vec<_> = view.memory().filter(|memory| memory.shard.uid != hot.shard.uid).collect();
    let Some(most) = others.iter().map(Memory::points).max() else { return String::new() };
    match others.len() {
        1 => format!("; the other shard is below {} %", most + 1),
        more => format!("; {more} other shards are below {} %", most + 1),
    }
}

/// The words of a shard, with the percentage that status shows of it.
fn shown_words(view: &View<'_>, memory: &Memory<'_>) -> String {
    let before = view.previous.hottest_shards.iter().find(|shard| shard.name == memory.shard.name);
    format!("{} % of {}", memory.steady(before.map(|shard| shard.memory_percent)), crate::words::limit(memory.limit))
}

/// The words of the hottest shard, with the percentage that status shows.
pub(super) fn steady_words(view: &View<'_>, hottest: &Memory<'_>) -> String {
    let before = view.previous.load.as_ref().and_then(|load| load.hottest_memory_percent);
    let peak = view.peak().unwrap_or(*hottest);
    format!("{} % of {}", peak.steady(before), crate::words::limit(peak.limit))
}
