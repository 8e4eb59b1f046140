//! A decision as a person reads it in a terminal.

use std::fmt::Write as _;
use std::time::Duration;

use crate::stages::{Decision, Mode, Observed, Shed, ShedReason};
use crate::words::{limit, names, shards, size, thousands};

/// Everything about a decision, and about the one that comes next.
pub(super) fn explanation(observed: &Observed, decision: &Decision, next: Option<&(Duration, Decision)>) -> String {
    let mut text = String::new();
    let numbers = &decision.numbers;
    let current = u64::from(numbers.current);
    let _ = writeln!(text, "{}: {} now, {} wanted.", observed.name(), shards(current), thousands(u64::from(decision.desired)));
    let _ = writeln!(text, "{}", because(decision));
    text.push('\n');
    for (what, words) in figures(observed, decision) {
        let _ = writeln!(text, "  {what:<18}{words}");
    }
    text.push('\n');
    let done = actions(decision);
    if done.is_empty() {
        text.push_str("Nothing is done now.\n");
    }
    for action in done {
        let _ = writeln!(text, "{action}");
    }
    match next {
        None => text.push_str("If nothing else changes, it stays so.\n"),
        Some((after, later)) => {
            let _ = writeln!(text, "If nothing else changes, in {}:", span(*after));
            if later.desired != decision.desired || later.held != decision.held {
                let _ = writeln!(text, "  {}", because(later));
            }
            for action in actions(later) {
                let _ = writeln!(text, "  {action}");
            }
        }
    }
    text
}

/// Why the size is what it is.
fn because(decision: &Decision) -> String {
    let mode = match decision.mode {
        Mode::Paused => Some("`paused` is true: nothing changes."),
        Mode::ManualReplicas => Some("`replicas` decides, not load."),
        Mode::Starting => Some("No shard has reported yet: the size stays."),
        Mode::MetricsUnavailable => Some("No shard reports: the size stays."),
        Mode::MemoryLimitUnknown => Some("The memory limit of the shards is unknown: connections alone decide."),
        Mode::MemoryTargetUnreachable => Some("An idle shard already uses its memory target: connections alone decide."),
        Mode::Deciding => None,
    };
    let scale = decision.last_scale.as_ref().filter(|_| decision.scaled);
    let scale = scale.map(|scale| format!("{}: {}", scale.reason, scale.message));
    let held = decision.held.as_ref().map(|held| format!("{}: {}", held.gate.as_str(), held.message));
    let sentences: Vec<_> = mode.map(str::to_owned).into_iter().chain(scale).chain(held).collect();
    if sentences.is_empty() { "The size is what load asks for.".to_owned() } else { sentences.join(" ") }
}

fn figures(observed: &Observed, decision: &Decision) -> Vec<(&'static str, String)> {
    let numbers = &decision.numbers;
    let mut demand = format!("{} connections", thousands(numbers.demand));
    for (count, what) in [(numbers.waiting, "that were refused"), (numbers.growth, "that come while a shard starts")] {
        if count > 0 {
            let _ = write!(demand, ", {} {what}", thousands(count));
        }
    }
    let buffer = observed.cluster.spec.autoscaling.as_ref().and_then(|autoscaling| autoscaling.connections.buffer).unwrap_or(0);
    if let Some(buffer) = u64::try_from(buffer).ok().filter(|buffer| *buffer > 0) {
        let _ = write!(demand, ", {} to keep free", thousands(buffer));
    }
    let mut figures = vec![("load", demand)];
    figures.push((
        "a shard holds",
        format!(
            "{} connections, {} after a scale-in, {} at most",
            thousands(numbers.target),
            thousands(numbers.target_down),
            thousands(numbers.hard_cap)
        ),
    ));
    figures.push(("a connection", format!("{} of memory, as learnt", size(numbers.bytes_per_load))));
    let slot = u64::try_from(numbers.slot).map_or_else(|_| "nothing".to_owned(), size);
    figures.push(("memory target", format!("{} % of the limit, which leaves {slot} a shard for load", numbers.memory_percent)));
    figures.push(("by connections", shards(u64::from(numbers.by_connections))));
    figures.push((
        "by memory",
        match numbers.by_memory {
            0 => "no more than there are".to_owned(),
            count => shards(u64::from(count)),
        },
    ));
    if let Some(hottest) = hottest(observed) {
        figures.push(("hottest", hottest));
    }
    figures
}

fn hottest(observed: &Observed) -> Option<String> {
    let memory = observed.shards.iter().filter_map(|shard| {
        let report = &shard.report.as_ref()?.report;
        (report.limit_bytes > 0).then(|| (crate::words::percent(report.working_set_bytes, report.limit_bytes), shard, report))
    });
    let (percent, shard, report) = memory.max_by_key(|(percent, shard, _)| (*percent, std::cmp::Reverse(shard.index)))?;
    Some(format!("{} at {percent} % of {}", shard.name, limit(report.limit_bytes)))
}

fn actions(decision: &Decision) -> Vec<String> {
    let mut actions = vec![];
    if decision.create > 0 {
        actions.push(format!("Create {}; drains that can be taken back come first.", shards(u64::from(decision.create))));
    }
    for victim in &decision.victims {
        actions.push(format!("Drain {}, which ends {} streams.", victim.pod.name, thousands(victim.streams)));
    }
    for Shed { pod, bytes, streams, reason } in &decision.sheds {
        let streams = thousands(*streams);
        actions.push(match reason {
            ShedReason::Memory => {
                format!("Shed {}: end up to {streams} streams, largest first, to free {}.", pod.name, size(*bytes))
            }
            ShedReason::Rebalance => format!("Rebalance: end up to {streams} streams of {}.", pod.name),
        });
    }
    if !decision.retiring.is_empty() {
        let retiring = names(decision.retiring.iter().map(|pod| pod.name.as_str()));
        actions.push(format!(
            "Replace {retiring}: memory stays on it. It is drained when next to no streams are left, or in an hour."
        ));
    }
    let early: Vec<_> = decision.leaving.iter().filter(|pod| !decision.retiring.contains(pod)).collect();
    if !early.is_empty() {
        let early = names(early.iter().map(|pod| pod.name.as_str()));
        actions.push(format!("Send no new connections to {early} while others have room: load asks for fewer shards."));
    }
    actions
}

/// `9m55s`
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, 0) => format!("{minutes}m"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}
