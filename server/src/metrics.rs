//! What the shard counts, as OpenMetrics. Names are of the shard; labels come from matches, never from clients.

use std::sync::{Mutex, OnceLock};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::dispatch::Method;
use crate::exchange::resume::Resumed;
use crate::fault::{Fault, Refused};
use crate::mcp::version::Version;
use crate::shard::Shard;

/// Upper bounds of the durations, seconds: a static answer takes microseconds, a request at most minutes.
const BUCKETS: [f64; 11] = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];

/// All metrics of a shard.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Counter>,
    duration: Family<MethodLabel, Histogram, fn() -> Histogram>,
    /// Of the two above: a request looks nothing up by its labels.
    series: Box<[MethodSeries; Method::ALL.len()]>,
    rejected: Family<ReasonLabel, Counter>,
    rate_limited: Family<PayerLabel, Counter>,
    resumes: Family<OutcomeLabel, Counter>,
    gauges: Gauges,
}

#[derive(Clone, Debug, Default)]
struct Gauges {
    connections: Gauge,
    streams: Gauge,
    stream_backlog: Gauge,
    parked_streams: Gauge,
    parked_connections: Gauge,
    streams_cut: Counter,
    streams_aged: Counter,
    in_flight: Gauge,
    orphans: Gauge,
    replays: Gauge,
    replay_bytes: Gauge,
    tasks: Gauge,
    tasks_kept: Gauge,
    task_bytes: Gauge,
    task_copies: Gauge,
    task_copy_bytes: Gauge,
    task_copies_refused: Counter,
    tasks_lost: Counter,
    body_bytes: Gauge,
    answer_bytes: Gauge,
    hard_cap: Gauge,
    draining: Gauge,
    ready: Gauge,
    memory_working_set: Gauge,
    memory_limit: Gauge,
    memory_stage: Gauge,
    memory_purged: Counter,
    shed: Counter,
    panics: Counter,
    delayed: Counter,
    asks_waiting: Gauge,
    asks_refused: Counter,
    unsaid: Counter,
    reports: Counter,
    rate_forgotten: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    version: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PayerLabel {
    payer: &'static str,
}

/// The series of one method, each made when it first counts something: what never happened is not shown.
#[derive(Debug, Default)]
struct MethodSeries {
    requests: [[OnceLock<Counter>; Answer::ALL.len()]; Version::ALL.len()],
    duration: OnceLock<Histogram>,
}

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Ok,
    MethodNotFound,
    InvalidParams,
    ResourceNotFound,
    MissingCapability,
    InputRequired,
    DuplicateId,
    Cancelled,
    TimedOut,
    OverCapacity,
    Failed,
}

/// A request being timed.
#[derive(Debug)]
pub struct RequestTimer<'a> {
    metrics: &'a Metrics,
    method: Method,
    version: Version,
    start: Instant,
}

impl Gauges {
    /// What the memory guard reads, and what it does.
    fn register_memory(&self, registry: &mut Registry) {
        registry.register(
            "mcp_memory_working_set_bytes",
            "Memory in use that the kernel cannot reclaim",
            self.memory_working_set.clone(),
        );
        registry.register("mcp_memory_limit_bytes", "Memory limit of the shard, 0 without one", self.memory_limit.clone());
        registry.register(
            "mcp_memory_guard_stage",
            "How far the memory guard has gone: 0 normal, 1 refusing streams, 2 purging, 3 shedding",
            self.memory_stage.clone(),
        );
        registry.register(
            "mcp_memory_purged_bytes",
            "Memory that the guard had the allocator give back to the kernel",
            self.memory_purged.clone(),
        );
        registry.register(
            "mcp_connections_delayed",
            "Connections that waited for room in memory before they were served",
            self.delayed.clone(),
        );
    }
}

impl Metrics {
    /// Metrics of a shard, beside those already in the registry.
    pub fn new(mut registry: Registry) -> Self {
        let requests = Family::default();
        let duration: Family<MethodLabel, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        let rejected = Family::default();
        let rate_limited = Family::default();
        let resumes = Family::default();
        let gauges = Gauges::default();
        registry.register("mcp_requests", "Requests answered, by method, protocol version and outcome", requests.clone());
        registry.register("mcp_request_duration_seconds", "Time from the parsed request to its answer", duration.clone());
        registry.register("mcp_rejected", "Work refused with 503, by the limit in the way", rejected.clone());
        registry.register("mcp_connections", "Accepted TCP connections on the data port", gauges.connections.clone());
        registry.register("mcp_streams", "Held event streams", gauges.streams.clone());
        registry.register("mcp_stream_backlog_bytes", "Bytes queued for held streams", gauges.stream_backlog.clone());
        let parked = "Held event streams that wait without an HTTP connection underneath";
        registry.register("mcp_streams_parked", parked, gauges.parked_streams.clone());
        let parked = "Idle connections that wait without HTTP state";
        registry.register("mcp_connections_parked", parked, gauges.parked_connections.clone());
        registry.register("mcp_streams_aged", "Streams ended because of their age", gauges.streams_aged.clone());
        registry.register("mcp_streams_cut", "Streams cut: their reader took nothing", gauges.streams_cut.clone());
        registry.register("mcp_requests_in_flight", "Requests being answered", gauges.in_flight.clone());
        registry.register("mcp_asks_waiting", "Questions to clients of legacy sessions that wait", gauges.asks_waiting.clone());
        registry.register("mcp_asks_refused", "Questions never asked, because too many wait", gauges.asks_refused.clone());
        let unsaid = "Progress and log notifications never sent: too many, too large, or a newer one stood for them";
        registry.register("mcp_notifications_dropped", unsaid, gauges.unsaid.clone());
        registry.register("mcp_tasks_running", "Tasks that run", gauges.tasks.clone());
        registry.register("mcp_tasks_kept", "Tasks that run or whose result is kept", gauges.tasks_kept.clone());
        registry.register("mcp_task_bytes", "Bytes of what tasks resulted in, or ask", gauges.task_bytes.clone());
        registry.register("mcp_task_copies", "Records of tasks that other shards run or ran", gauges.task_copies.clone());
        registry.register("mcp_task_copy_bytes", "Bytes of those records", gauges.task_copy_bytes.clone());
        registry.register(
            "mcp_task_copies_refused",
            "Records of tasks of other shards there was no room for",
            gauges.task_copies_refused.clone(),
        );
        registry.register(
            "mcp_tasks_lost",
            "Tasks of other shards that failed here because their shard was lost",
            gauges.tasks_lost.clone(),
        );
        registry.register("mcp_requests_orphaned", "Legacy requests that run on without their client", gauges.orphans.clone());
        registry.register("mcp_resumable_streams", "Streams of legacy requests that can be resumed", gauges.replays.clone());
        let replay = "Bytes of events kept for clients that resume a stream";
        registry.register("mcp_resumable_stream_bytes", replay, gauges.replay_bytes.clone());
        registry.register("mcp_stream_resumes", "Attempts to resume a stream, by how they ended", resumes.clone());
        registry.register("mcp_request_body_bytes", "Bytes of bodies reserved", gauges.body_bytes.clone());
        registry.register(
            "mcp_answer_bytes",
            "Bytes of answers over 32 KiB that their clients have not taken",
            gauges.answer_bytes.clone(),
        );
        registry.register("mcp_connections_hard_cap", "Connections this shard can hold", gauges.hard_cap.clone());
        registry.register("mcp_draining", "1 while the shard drains", gauges.draining.clone());
        registry.register("mcp_ready", "1 once a configuration is in force", gauges.ready.clone());
        gauges.register_memory(&mut registry);
        registry.register("mcp_handler_panics", "Handlers of the program that panicked", gauges.panics.clone());
        registry.register(
            "mcp_streams_shed",
            "Streams ended by the memory guard, or because the operator asked for it",
            gauges.shed.clone(),
        );
        registry.register(
            "mcp_rate_limited",
            "Requests refused with 429, by what made too many: a session, a connection without one, or a principal",
            rate_limited.clone(),
        );
        registry.register(
            "mcp_rate_forgotten",
            "Sessions and principals whose debt of requests was forgotten for want of room",
            gauges.rate_forgotten.clone(),
        );
        registry.register("mcp_load_reports", "Load reports given to the operator", gauges.reports.clone());
        Self {
            registry: Mutex::new(registry),
            requests,
            duration,
            series: Box::default(),
            rejected,
            rate_limited,
            resumes,
            gauges,
        }
    }

    /// Times a request that began then.
    pub fn request(&self, method: Method, version: Version, start: Instant) -> RequestTimer<'_> {
        RequestTimer { metrics: self, method, version, start }
    }

    /// All metrics of a moment, as text.
    pub fn encode(&self, shard: &Shard) -> String {
        let gauge = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        let (gauges, load, guard) = (&self.gauges, &shard.load, shard.guard.reading());
        gauge(&gauges.connections, load.connections());
        gauge(&gauges.streams, load.streams());
        let held = shard.hub.counts();
        gauge(&gauges.stream_backlog, held.queued_bytes as u64);
        gauge(&gauges.parked_streams, held.parked_streams as u64);
        gauge(&gauges.parked_connections, held.parked_connections as u64);
        raise(&gauges.streams_cut, held.cut);
        raise(&gauges.streams_aged, held.aged);
        gauge(&gauges.in_flight, load.in_flight());
        gauge(&gauges.orphans, load.orphans());
        gauge(&gauges.replays, shard.resumes.kept() as u64);
        gauge(&gauges.replay_bytes, load.replay_bytes());
        for resumed in Resumed::ALL {
            let counter = self.resumes.get_or_create(&OutcomeLabel { outcome: resumed.label() });
            raise(&counter, shard.resumes.counted(resumed));
        }
        let counts = shard.tasks.counts();
        gauge(&gauges.tasks, load.tasks());
        gauge(&gauges.tasks_kept, counts.kept as u64);
        gauge(&gauges.task_bytes, counts.bytes as u64);
        gauge(&gauges.task_copies, counts.copies as u64);
        gauge(&gauges.task_copy_bytes, counts.copy_bytes as u64);
        raise(&gauges.task_copies_refused, counts.refused);
        raise(&gauges.tasks_lost, counts.lost);
        gauge(&gauges.body_bytes, load.body_bytes());
        gauge(&gauges.answer_bytes, load.owed_bytes());
        gauge(&gauges.hard_cap, shard.hard_cap());
        gauge(&gauges.draining, u64::from(shard.drain.is_draining()));
        gauge(&gauges.ready, u64::from(shard.is_ready()));
        gauge(&gauges.memory_working_set, guard.working_set);
        gauge(&gauges.memory_limit, guard.limit);
        gauge(&gauges.memory_stage, guard.stage as u64);
        raise(&gauges.memory_purged, shard.guard.purged_total());
        raise(&gauges.shed, load.shed_total());
        raise(&gauges.panics, load.panics_total());
        raise(&gauges.delayed, load.delayed_total());
        gauge(&gauges.asks_waiting, shard.asks.waiting() as u64);
        raise(&gauges.asks_refused, shard.asks.refused());
        raise(&gauges.unsaid, load.unsaid_total());
        raise(&gauges.reports, shard.reports());
        raise(&gauges.rate_forgotten, shard.rates.forgotten());
        for (payer, limited) in shard.rates.limited() {
            raise(&self.rate_limited.get_or_create(&PayerLabel { payer }), limited);
        }
        for why in Refused::ALL {
            raise(&self.rejected.get_or_create(&ReasonLabel { reason: why.label() }), load.rejected_for(why));
        }
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Writing to a string has no way to fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }
}

/// Brings a counter up to a total counted elsewhere.
fn raise(counter: &Counter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

impl RequestTimer<'_> {
    /// The answer is there.
    pub fn done(self, fault: Option<&Fault>) {
        let answer = Answer::of(fault);
        let series = &self.metrics.series[self.method as usize];
        let requests = series.requests[self.version as usize][answer as usize].get_or_init(|| {
            let (method, version, outcome) = (self.method.name(), self.version.name(), answer.label());
            self.metrics.requests.get_or_create_owned(&RequestLabels { method, version, outcome })
        });
        let duration = series.duration.get_or_init(|| {
            let method = self.method.name();
            self.metrics.duration.get_or_create_owned(&MethodLabel { method })
        });
        requests.inc();
        duration.observe(self.start.elapsed().as_secs_f64());
    }
}

// === impl Answer ===

impl Answer {
    const ALL: [Self; 11] = [
        Self::Ok,
        Self::MethodNotFound,
        Self::InvalidParams,
        Self::ResourceNotFound,
        Self::MissingCapability,
        Self::InputRequired,
        Self::DuplicateId,
        Self::Cancelled,
        Self::TimedOut,
        Self::OverCapacity,
        Self::Failed,
    ];

    fn of(fault: Option<&Fault>) -> Self {
        match fault {
            None => Self::Ok,
            Some(Fault::MethodNotFound) => Self::MethodNotFound,
            Some(Fault::InvalidParams(_)) => Self::InvalidParams,
            Some(Fault::ResourceNotFound { .. }) => Self::ResourceNotFound,
            Some(Fault::MissingCapability(_)) => Self::MissingCapability,
            Some(Fault::InputRequired(_)) => Self::InputRequired,
            Some(Fault::DuplicateId) => Self::DuplicateId,
            Some(Fault::Cancelled) => Self::Cancelled,
            Some(Fault::TimedOut(_)) => Self::TimedOut,
            Some(Fault::OverCapacity(_)) => Self::OverCapacity,
            Some(Fault::Failed(_)) => Self::Failed,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::MethodNotFound => "method_not_found",
            Self::InvalidParams => "invalid_params",
            Self::ResourceNotFound => "resource_not_found",
            Self::MissingCapability => "missing_capability",
            Self::InputRequired => "input_required",
            Self::DuplicateId => "duplicate_id",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::OverCapacity => "over_capacity",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_has_its_own_series_and_what_never_happened_has_none() {
        // The tables are indexed by these.
        assert!(Method::ALL.into_iter().enumerate().all(|(at, method)| method as usize == at));
        assert!(Version::ALL.into_iter().all(|version| (version as usize) < Version::ALL.len()));
        assert!(Answer::ALL.into_iter().enumerate().all(|(at, answer)| answer as usize == at));
        let metrics = Metrics::new(Registry::default());
        let [newest, older, ..] = Version::ALL;
        metrics.request(Method::CallTool, newest, Instant::now()).done(None);
        metrics.request(Method::CallTool, newest, Instant::now()).done(None);
        metrics.request(Method::CallTool, older, Instant::now()).done(Some(&Fault::Cancelled));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &metrics.registry.lock().unwrap()).unwrap();
        let shown: Vec<_> = text.lines().filter(|line| line.starts_with("mcp_requests_total")).collect();
        assert_eq!(shown.len(), 2, "{text}");
        let labels = |version: Version, outcome| {
            format!("mcp_requests_total{{method=\"tools/call\",version=\"{}\",outcome=\"{outcome}\"}}", version.name())
        };
        assert!(text.contains(&format!("{} 2\n", labels(newest, "ok"))), "{text}");
        assert!(text.contains(&format!("{} 1\n", labels(older, "cancelled"))), "{text}");
        assert!(text.contains("mcp_request_duration_seconds_count{method=\"tools/call\"} 3\n"), "{text}");
    }
}
