//! What the operator counts: its own work, and the exact numbers that `status` rounds.

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Seconds of a pass or of a round of scrapes: from a pass that finds nothing to do, to one that meets its deadlines.
const SECONDS: [f64; 10] = [0.001, 0.005, 0.02, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0, 30.0];

/// An outcome from a closed list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// `ok`, or the reason of an error.
    pub outcome: &'static str,
}

/// A write to the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Write {
    /// Kind of the object.
    pub kind: &'static str,
    /// `apply`, `create`, `label`, `delete` or `patch_status`.
    pub step: &'static str,
}

/// A status write that had to wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Delayed {
    /// What it was about: `conditions` or `numbers`.
    pub about: &'static str,
}

/// One McpCluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Cluster {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub cluster: String,
}

/// Shards of one McpCluster in one state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClusterState {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub cluster: String,
    /// `desired`, `active`, `ready`, `draining`.
    pub state: &'static str,
}

type ExactGauge = Gauge<f64, AtomicU64>;

/// All metrics; cheap to share.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Whether this process leads.
    pub leader: Gauge,
    /// Passes over an McpCluster, by outcome.
    pub passes: Family<Outcome, Counter>,
    /// How long a pass takes.
    pub pass_seconds: Histogram,
    /// Writes to the API server that were sent.
    pub writes: Family<Write, Counter>,
    /// Statuses that waited for their turn, because many were written at that time.
    pub status_writes_delayed: Family<Delayed, Counter>,
    /// Load reports asked for, by outcome.
    pub scrapes: Family<Outcome, Counter>,
    /// How long a round over all shards takes.
    pub round_seconds: Histogram,
    /// Shards by state.
    pub shards: Family<ClusterState, Gauge>,
    /// Connections of all shards that report.
    pub connections: Family<Cluster, Gauge>,
    /// Held streams of all shards that report.
    pub streams: Family<Cluster, Gauge>,
    /// Memory in use by the hottest shard, as a fraction of its limit.
    pub hottest_memory: Family<Cluster, ExactGauge>,
    /// How far a rotation of the keys is.
    pub key_rotation_step: Family<Cluster, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let metrics = Self {
            leader: Gauge::default(),
            passes: Family::default(),
            pass_seconds: Histogram::new(SECONDS),
            writes: Family::default(),
            status_writes_delayed: Family::default(),
            scrapes: Family::default(),
            round_seconds: Histogram::new(SECONDS),
            shards: Family::default(),
            connections: Family::default(),
            streams: Family::default(),
            hottest_memory: Family::default(),
            key_rotation_step: Family::default(),
            registry: Registry::default(),
        };
        let own = registry.sub_registry_with_prefix("mcp_operator");
        own.register("leader", "1 while this process leads, 0 while it waits", metrics.leader.clone());
        own.register("passes", "Passes over an McpCluster, by outcome", metrics.passes.clone());
        own.register_with_unit("pass", "Time of a pass over an McpCluster", Unit::Seconds, metrics.pass_seconds.clone());
        own.register("writes", "Writes sent to the API server", metrics.writes.clone());
        own.register(
            "status_writes_delayed",
            "Status writes that waited because many were due; a later pass writes what is true then",
            metrics.status_writes_delayed.clone(),
        );
        own.register("scrapes", "Load reports asked for, by outcome", metrics.scrapes.clone());
        own.register_with_unit(
            "scrape_round",
            "Time of a round of load reports over all shards",
            Unit::Seconds,
            metrics.round_seconds.clone(),
        );
        let cluster = registry.sub_registry_with_prefix("mcp_cluster");
        cluster.register("shards", "Shards by state; desired: how many there should be", metrics.shards.clone());
        cluster.register("connections", "Connections of all shards that report", metrics.connections.clone());
        cluster.register("streams", "Held streams of all shards that report", metrics.streams.clone());
        cluster.register(
            "hottest_memory_ratio",
            "Memory in use by the hottest shard, as a fraction of its limit",
            metrics.hottest_memory.clone(),
        );
        cluster.register(
            "key_rotation_step",
            "How far a rotation of the keys is: 0 none, 1 new keys are distributed, 2 shards go over to them, 3 old sessions end",
            metrics.key_rotation_step.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// The OpenMetrics text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            text.clear();
            let _ = writeln!(text, "# EOF");
        }
        text
    }

    /// Drops the series of an McpCluster that is gone.
    pub fn forget(&self, namespace: &str, cluster: &str) {
        let labels = Cluster { namespace: namespace.to_owned(), cluster: cluster.to_owned() };
        self.connections.remove(&labels);
        self.streams.remove(&labels);
        self.hottest_memory.remove(&labels);
        self.key_rotation_step.remove(&labels);
        for state in ["desired", "active", "ready", "draining"] {
            self.shards.remove(&ClusterState { namespace: namespace.to_owned(), cluster: cluster.to_owned(), state });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forgotten_cluster_leaves_no_series() {
        let metrics = Metrics::default();
        let labels = Cluster { namespace: "agents".into(), cluster: "tools".into() };
        metrics.connections.get_or_create(&labels).set(7);
        metrics
            .shards
            .get_or_create(&ClusterState { namespace: "agents".into(), cluster: "tools".into(), state: "ready" })
            .set(1);
        assert!(metrics.render().contains("mcp_cluster_connections{namespace=\"agents\",cluster=\"tools\"} 7"));
        metrics.forget("agents", "tools");
        assert!(!metrics.render().contains("tools"));
    }
}
