//! What was measured, for people and for programs.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

/// The longest latency that is told apart.
const LONGEST: u64 = 600_000_000_000;
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);

/// Latencies, in three significant digits.
#[derive(Debug)]
pub(crate) struct Latency(Histogram<u64>);

impl Latency {
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are in order"))
    }

    pub(crate) fn add(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(LONGEST).max(1));
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Microseconds at a quantile.
    pub(crate) fn us(&self, quantile: f64) -> f64 {
        micros(self.0.value_at_quantile(quantile))
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "count": self.count(),
            "mean": (self.0.mean() / 10.0).round() / 100.0,
            "p50": self.us(0.5), "p95": self.us(0.95), "p99": self.us(0.99), "p999": self.us(0.999),
            "max": micros(self.0.max()),
        })
    }
}

fn micros(nanos: u64) -> f64 {
    (nanos as f64 / 10.0).round() / 100.0
}

/// The outcome of a run: names and values, in the order they were put in.
#[derive(Debug, Default)]
pub(crate) struct Summary(Vec<(&'static str, Value)>);

impl Summary {
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    /// One line of JSON, or a table.
    pub(crate) fn text(&self, json: bool) -> String {
        if json {
            let map: Map<String, Value> = self.0.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            return Value::Object(map).to_string();
        }
        let mut rows = Vec::new();
        for (name, value) in &self.0 {
            match value {
                Value::Object(members) => rows.extend(members.iter().map(|(member, value)| (format!("{name} {member}"), value))),
                value => rows.push(((*name).to_owned(), value)),
            }
        }
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines = rows.iter().map(|(name, value)| format!("{name:width$}  {}", value.to_string().trim_matches('"')));
        lines.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn print(&self, json: bool) {
        println!("{}", self.text(json));
    }
}

/// Lines on standard error, now and then.
#[derive(Debug)]
pub(crate) struct Progress(Instant);

impl Progress {
    pub(crate) fn new() -> Self {
        Self(Instant::now() + PROGRESS)
    }

    pub(crate) fn tell(&mut self, now: Instant, what: impl FnOnce() -> String) {
        if now >= self.0 {
            self.0 = now + PROGRESS;
            eprintln!("mcp-load: {}", what());
        }
    }
}

/// So many a second.
pub(crate) fn rate(count: u64, span: Duration) -> f64 {
    (count as f64 / span.as_secs_f64().max(1e-9) * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_microseconds() {
        let mut latency = Latency::new();
        for n in 1..=1000 {
            latency.add(Duration::from_micros(n));
        }
        let json = latency.json();
        for (name, about) in [("p50", 500.0), ("p99", 990.0), ("max", 1000.0), ("mean", 500.5)] {
            let value = json[name].as_f64().unwrap();
            assert!((value - about).abs() < 2.0, "{name} {value}");
        }
    }

    #[test]
    fn a_summary_is_a_line_of_json_or_a_table() {
        let summary = Summary::default().with("calls", 3).with("us", json!({"p50": 1.5})).with("era", "modern");
        let value: Value = serde_json::from_str(&summary.text(true)).unwrap();
        assert_eq!(value["us"]["p50"], 1.5);
        assert_eq!(summary.text(false), "calls   3\nus p50  1.5\nera     modern");
    }
}
