//! The world's pods as the operator sees them: pods of the API server with the last load report of each.

use jiff::Timestamp;
use mcp_crds::load::LoadReport;
use mcp_crds::quantity::Bytes;
use mcp_operator::stages::{Container, ObservedShard, Phase, Received, Termination};

use crate::trace::Trace;
use crate::world::pod::{End, Pod, Process};

/// Second zero of every trace.
const EPOCH: i64 = 1_800_000_000;
/// Hash of the configuration that every shard serves.
pub(super) const HASH: &str = "5f2c9dab";

/// A second of the trace as a time stamp.
pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(EPOCH + second).unwrap_or_default()
}

/// Name of a template.
pub(super) fn template(number: u32) -> String {
    format!("template-{number}")
}

/// A pod that was just created.
pub(super) fn created(pod: &Pod, trace: &Trace) -> ObservedShard {
    ObservedShard {
        name: format!("tools-{}", pod.index),
        index: pod.index,
        uid: format!("uid-{}", pod.id),
        created: Some(at(pod.created)),
        placed: true,
        template_hash: Some(template(pod.template)),
        memory_limit: Some(Bytes(trace.cluster.memory.0)),
        ..ObservedShard::default()
    }
}

/// Brings what the API server says of a pod up to date.
pub(super) fn update(shard: &mut ObservedShard, pod: &Pod, unschedulable: impl Fn() -> String) {
    shard.ready = pod.ready;
    shard.ready_changed = pod.ready_changed.map(at);
    shard.placed = pod.placed;
    shard.terminating = pod.deleting.map(at);
    shard.restarts = pod.restarts;
    if shard.node.is_none() {
        shard.node = pod.node.map(|node| format!("node-{node}"));
    }
    shard.last_termination = pod.last_end.map(termination);
    let (phase, container) = match pod.process {
        Process::Unscheduled => (Phase::Pending, Container::Unknown),
        Process::Starts(_) if !pod.works => {
            let reason = "CrashLoopBackOff".to_owned();
            (Phase::Running, Container::Waiting { reason, message: "back-off restarting failed container".to_owned() })
        }
        Process::Starts(_) | Process::Serves | Process::Dead => {
            (Phase::Running, Container::Running { started: Some(at(pod.started)) })
        }
    };
    (shard.phase, shard.container) = (phase, container);
    shard.unschedulable = (pod.process == Process::Unscheduled).then(unschedulable);
}

fn termination(end: End) -> Termination {
    Termination {
        reason: if end.oom { "OOMKilled" } else { "Error" }.to_owned(),
        exit_code: if end.oom { 137 } else { 1 },
        started: Some(at(end.started)),
        finished: Some(at(end.at)),
    }
}

/// Asks a shard for its report; it says nothing while it does not serve. The numbers may be older than the answer.
pub(super) fn report(shard: &mut ObservedShard, pod: &Pod, numbers: &LoadReport, now: i64) {
    let incarnation = u64::from(pod.restarts);
    let received = shard.report.get_or_insert_with(|| Received { report: LoadReport::default(), at: at(now) });
    if received.report.started_at != pod.started.unsigned_abs() || received.report.incarnation.is_empty() {
        received.report.incarnation = format!("{}-{incarnation}-{}", pod.id, pod.started);
        received.report.seq = 0;
        HASH.clone_into(&mut received.report.catalog_hash);
        HASH.clone_into(&mut received.report.catalog_staged);
    }
    let report = &mut received.report;
    report.started_at = pod.started.unsigned_abs();
    report.seq += 1;
    report.connections = numbers.connections;
    report.streams = numbers.streams;
    report.in_flight = numbers.in_flight;
    report.hard_cap = numbers.hard_cap;
    report.rejected_total = numbers.rejected_total;
    report.retry_after_mean_ms = numbers.retry_after_mean_ms;
    report.shed_total = numbers.shed_total;
    report.working_set_bytes = numbers.working_set_bytes;
    report.base_bytes = numbers.base_bytes;
    report.limit_bytes = numbers.limit_bytes;
    report.oom_kill_total = numbers.oom_kill_total;
    report.stage = numbers.stage;
    report.draining = numbers.draining;
    received.at = at(now);
}

/// The numbers of a shard now. A refused connection is told a delay from 1 to 6 s.
pub(super) fn numbers(pod: &Pod, trace: &Trace) -> LoadReport {
    LoadReport {
        connections: pod.connections(),
        streams: pod.connections(),
        in_flight: pod.in_flight,
        hard_cap: u64::from(trace.cluster.max_connections),
        rejected_total: pod.rejected,
        retry_after_mean_ms: pod.retry_after.0.checked_div(pod.retry_after.1).unwrap_or(0),
        shed_total: pod.guarded,
        working_set_bytes: pod.memory(trace),
        base_bytes: trace.shard.base_memory.0,
        limit_bytes: trace.cluster.memory.0,
        oom_kill_total: pod.oom_kills,
        stage: pod.stage,
        draining: pod.drain.is_some(),
        ..LoadReport::default()
    }
}
