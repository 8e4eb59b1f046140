//! What is wrong with a trace that is well formed.

use super::{Clients, Event, Trace, What};

/// Part of the memory limit that one call, or what arrives together, may take at most: a shard cannot refuse what it has
/// accepted.
const MOST_AT_ONCE_PERCENT: u64 = 5;
/// The longest trace: ten days.
const LONGEST: i64 = 10 * 86_400;

/// Every problem, with the path of its field.
pub(super) fn problems(trace: &Trace) -> Vec<String> {
    let mut found = vec![];
    let mut must = |holds: bool, problem: &str| {
        if !holds {
            found.push(problem.to_owned());
        }
    };
    let cluster = &trace.cluster;
    must((1..=LONGEST).contains(&trace.duration.0), "duration: at least 1s and at most 240h");
    must(cluster.min_replicas >= 1, "cluster.minReplicas: at least 1");
    must(cluster.max_replicas >= cluster.min_replicas, "cluster.maxReplicas: at least cluster.minReplicas");
    must(cluster.max_replicas <= 2000, "cluster.maxReplicas: at most 2000");
    must(cluster.max_connections >= 1, "cluster.maxConnections: at least 1");
    must(trace.shard.base_memory.0 * 2 < cluster.memory.0, "shard.baseMemory: less than half of cluster.memory");
    must(trace.shard.boot.0 >= 1, "shard.boot: at least 1s");
    must(trace.shard.warm.0 >= 1, "shard.warm: at least 1s");
    must(trace.nodes.count >= 1 && trace.nodes.shards >= 1, "nodes: at least one, with room for at least one shard");
    must(!trace.clients.is_empty() && trace.clients.len() <= 8, "clients: from one to eight kinds");
    for (index, clients) in trace.clients.iter().enumerate() {
        found.extend(of_clients(trace, clients).map(|problem| format!("clients[{index}].{problem}")));
    }
    for (index, event) in trace.events.iter().enumerate() {
        found.extend(of_event(trace, event).map(|problem| format!("events[{index}].{problem}")));
    }
    found
}

fn of_clients(trace: &Trace, clients: &Clients) -> impl Iterator<Item = String> + use<> {
    let at_once = trace.cluster.memory.0 * MOST_AT_ONCE_PERCENT / 100;
    let points = &clients.count.points;
    let mut found = vec![];
    let mut must = |holds: bool, problem: &str| {
        if !holds {
            found.push(problem.to_owned());
        }
    };
    must(!points.is_empty(), "count.points: at least one");
    must(points.is_sorted_by_key(|point| point.at), "count.points: in order of time");
    must(clients.count.every.is_none_or(|every| every.0 > 0), "count.every: more than 0s");
    must(clients.hold.is_none_or(|hold| hold.0 > 0), "hold: more than 0s");
    must((1..=256).contains(&clients.together), "together: from 1 to 256, the streams of one HTTP/2 connection");
    must(
        u64::from(clients.together) * clients.memory.0 <= at_once,
        "memory: what arrives together is at most 5 % of cluster.memory",
    );
    if let Some(calls) = &clients.calls {
        must((0.0..=6000.0).contains(&calls.per_minute), "calls.perMinute: from 0 to 6000");
        must(calls.memory.0 <= at_once, "calls.memory: one call takes at most 5 % of cluster.memory");
        must(calls.takes.0 >= 1, "calls.takes: at least 1s");
    }
    found.into_iter()
}

fn of_event(trace: &Trace, event: &Event) -> impl Iterator<Item = String> + use<> {
    let (lasts, count, percent, by) = match event.what {
        What::NodeLoss => (true, true, false, false),
        What::ShardCrash => (false, true, false, false),
        What::ConnectionsLost => (false, false, true, false),
        What::ReportsSilent => (true, false, true, false),
        What::ReportsDelayed => (true, false, false, true),
        What::LeaderRestart | What::BadRollout | What::Unschedulable => (true, false, false, false),
        What::Rollout => (false, false, false, false),
    };
    let fields = [
        ("for", lasts, event.lasts.is_some()),
        ("count", count, event.count.is_some()),
        ("percent", percent, event.percent.is_some()),
        ("by", by, event.by.is_some()),
    ];
    let what = event.what;
    let mut found: Vec<_> = fields
        .into_iter()
        .filter(|(_, wanted, given)| wanted != given)
        .map(|(name, wanted, _)| format!("{name}: {what:?} {}", if wanted { "needs it" } else { "has none" }))
        .collect();
    if event.at.0 > trace.duration.0 {
        found.push("at: after the end of the trace".to_owned());
    }
    if event.percent.is_some_and(|percent| percent > 100) {
        found.push("percent: at most 100".to_owned());
    }
    if event.by.is_some_and(|by| by.0 > 60) {
        found.push("by: at most 60s".to_owned());
    }
    if event.what == What::NodeLoss && event.count.is_some_and(|count| count >= trace.nodes.count) {
        found.push("count: fewer than nodes.count: somebody has to stay".to_owned());
    }
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::*;

    const GOOD: &str =
        "description: x\nduration: 10m\nclients:\n- name: a\n  memory: 40Ki\n  count: {points: [{at: 0s, is: 10}]}\n";

    fn error(text: &str) -> String {
        Trace::parse(Path::new("t/bad.yaml"), text).unwrap_err().to_string()
    }

    #[test]
    fn a_trace_is_read_and_named_after_its_file() {
        let trace = Trace::parse(Path::new("t/ramp.yaml"), GOOD).unwrap();
        assert_eq!((trace.name.as_str(), trace.duration, trace.clients[0].memory), ("ramp", Seconds(600), Size(40 << 10)));
    }

    #[test]
    fn what_is_malformed_is_told_with_its_line() {
        assert_eq!(
            error(&GOOD.replace("10m", "10 minutes")),
            "t/bad.yaml: duration: \"10 minutes\" is not a duration: write whole numbers with h, m, s or ms, for example '60s' or '1h30m' at line 2 column 11"
        );
        let unknown = error(&GOOD.replace("memory", "memroy"));
        assert!(unknown.starts_with("t/bad.yaml: clients[0]: unknown field `memroy`") && unknown.contains("line 5"), "{unknown}");
        assert!(error(&GOOD.replace("10m", "1500ms")).contains("whole seconds"));
    }

    #[test]
    fn everything_that_makes_no_sense_is_told_at_once_with_its_path() {
        let text = GOOD.replace("40Ki", "40Mi") + "cluster: {minReplicas: 0}\nevents:\n- {at: 1h, what: NodeLoss, percent: 5}\n";
        let problems = [
            "t/bad.yaml:",
            "  cluster.minReplicas: at least 1",
            "  clients[0].memory: what arrives together is at most 5 % of cluster.memory",
            "  events[0].for: NodeLoss needs it",
            "  events[0].count: NodeLoss needs it",
            "  events[0].percent: NodeLoss has none",
            "  events[0].at: after the end of the trace",
        ];
        assert_eq!(error(&text), problems.join("\n"));
    }
}
