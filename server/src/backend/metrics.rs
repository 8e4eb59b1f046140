//! Metrics of backends: one series for each backend, its handles resolved when a catalog is loaded.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::ErrorKind;

/// Upper bounds of the durations, seconds.
const BUCKETS: [f64; 9] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// The families of all backends.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<BackendLabel, Counter>,
    errors: Family<ErrorLabel, Counter>,
    in_flight: Family<BackendLabel, Gauge>,
    queued: Family<BackendLabel, Gauge>,
    duration: Family<BackendLabel, Histogram, fn() -> Histogram>,
}

/// The series of one backend.
#[derive(Clone, Debug)]
pub struct BackendMetrics {
    /// Calls, failed ones included.
    pub requests: Counter<u64, AtomicU64>,
    /// Calls that run now.
    pub in_flight: Gauge,
    /// Calls that wait for others to end.
    pub queued: Gauge,
    /// Time from the end of the queue to the end of the answer.
    pub duration: Histogram,
    errors: Arc<[Counter; ErrorKind::ALL.len()]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabel {
    backend: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabel {
    backend: String,
    kind: &'static str,
}

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            errors: Family::default(),
            in_flight: Family::default(),
            queued: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        }
    }
}

impl Metrics {
    /// Mounts the families; once for each registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("mcp_backend_requests", "Calls to REST APIs, failed ones included", self.requests.clone());
        registry.register("mcp_backend_errors", "Calls to REST APIs that failed, by kind", self.errors.clone());
        registry.register("mcp_backend_in_flight", "Calls to REST APIs that run now", self.in_flight.clone());
        registry.register("mcp_backend_queued", "Calls to REST APIs that wait for others to end", self.queued.clone());
        registry.register_with_unit(
            "mcp_backend_duration",
            "Time of calls to REST APIs, the queue not included",
            Unit::Seconds,
            self.duration.clone(),
        );
    }

    /// The series of a backend.
    pub fn backend(&self, name: &str) -> BackendMetrics {
        let label = BackendLabel { backend: name.to_owned() };
        let error =
            |kind: ErrorKind| self.errors.get_or_create_owned(&ErrorLabel { backend: name.to_owned(), kind: kind.as_str() });
        BackendMetrics {
            requests: self.requests.get_or_create_owned(&label),
            in_flight: self.in_flight.get_or_create_owned(&label),
            queued: self.queued.get_or_create_owned(&label),
            duration: self.duration.get_or_create_owned(&label),
            errors: Arc::new(ErrorKind::ALL.map(error)),
        }
    }
}

// === impl BackendMetrics ===

impl BackendMetrics {
    /// Failed calls of a kind.
    pub fn errors(&self, kind: ErrorKind) -> &Counter {
        let index = ErrorKind::ALL.iter().position(|other| *other == kind).unwrap_or_default();
        &self.errors[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_its_own_series() {
        let metrics = Metrics::default();
        let backend = metrics.backend("tickets");
        for kind in ErrorKind::ALL {
            backend.errors(kind).inc();
        }
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for kind in ErrorKind::ALL {
            let line = format!("mcp_backend_errors_total{{backend=\"tickets\",kind=\"{}\"}} 1", kind.as_str());
            assert!(text.contains(&line), "{line} is not in {text}");
        }
    }
}
