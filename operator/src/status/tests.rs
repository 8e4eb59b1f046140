use mcp_crds::load::GuardStage;
use serde_json::json;

use super::*;
use crate::stages::fixture::{Cluster, MIB, TEMPLATE, at, ready};
use crate::stages::{
    CatalogRefusal, Container, Disruption, DrainReason, Failure, FailureReason, Gate, Held, Numbers, ObservedShard, Termination,
};

mod available;
mod memory;
mod progress;
mod writes;

/// A pass: what was seen, decided and done.
struct Pass {
    cluster: Cluster,
    decision: Decision,
    applied: Applied,
    previous: Option<McpClusterStatus>,
    now: Timestamp,
}

impl Pass {
    /// A manual cluster of the size it has.
    fn of(cluster: Cluster) -> Self {
        let desired = u32::try_from(cluster.observed.shards.len()).unwrap();
        let numbers = Numbers { target: 12_000, bytes_per_load: 12 << 10, ..Numbers::default() };
        let decision = Decision { desired, mode: Mode::ManualReplicas, numbers, ..Decision::default() };
        Self { cluster, decision, applied: Applied::default(), previous: None, now: at(0) }
    }

    fn autoscaled(self) -> Self {
        self.mode(Mode::Deciding)
    }

    fn mode(mut self, mode: Mode) -> Self {
        self.decision.mode = mode;
        self
    }

    fn desired(mut self, desired: u32) -> Self {
        self.decision.desired = desired;
        self
    }

    fn held(mut self, gate: Gate) -> Self {
        self.decision.held = Some(Held { gate, message: "In words.".into() });
        self
    }

    fn failed(mut self, reason: FailureReason, object: &str, message: &str) -> Self {
        self.applied.failures.push(Failure { reason, object: object.into(), message: message.into() });
        self
    }

    fn catalog(mut self, catalog: CatalogOutcome) -> Self {
        self.cluster.observed.catalog = catalog;
        self
    }

    fn after(mut self, previous: &McpClusterStatus) -> Self {
        self.previous = Some(previous.clone());
        self
    }

    fn status(&self) -> McpClusterStatus {
        summarize(&self.cluster.observed, &self.decision, &self.applied, self.previous.as_ref(), self.now)
    }

    /// `True Serving: 3 of 3 shards serve generation 7.`
    fn condition(&self, kind: &str) -> String {
        let status = self.status();
        let found = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        if found.message.is_empty() {
            format!("{} {}", found.status, found.reason)
        } else {
            format!("{} {}: {}", found.status, found.reason, found.message)
        }
    }
}

fn waiting(reason: &str, message: &str) -> impl Fn(&mut ObservedShard) {
    let container = Container::Waiting { reason: reason.into(), message: message.into() };
    move |shard| shard.container = container.clone()
}

fn stage(stage: GuardStage, permille: u64) -> impl Fn(&mut ObservedShard) {
    move |shard| {
        shard.load(1000, 512 * MIB * permille / 1000);
        shard.report.as_mut().unwrap().report.stage = stage;
    }
}

/// The healthy cluster of the API's documentation.
fn healthy() -> Pass {
    let cluster = Cluster::autoscaled(1, 9).with_ready(6).each(|shard| {
        shard.load(10_200, 512 * MIB * 27 / 100);
        let report = &mut shard.report.as_mut().unwrap().report;
        report.hard_cap = 20_000;
        report.streams = 10_117;
    });
    let cluster = cluster.spec(|spec| spec.limits.max_connections = 20_000);
    Pass::of(cluster.shard(4, |shard| shard.load(10_200, 512 * MIB * 31 / 100))).autoscaled()
}

#[test]
fn a_healthy_cluster_reads_as_documented() {
    let pass = healthy();
    let status = pass.status();
    assert_eq!(pass.condition("Ready"), "True Serving: 6 of 6 shards serve generation 7.");
    assert_eq!(pass.condition("Available"), "True ShardsReady: 6 shards take new connections; 58,800 more fit.");
    assert_eq!(pass.condition("Progressing"), "False Settled");
    assert_eq!(pass.condition("AutoscalingActive"), "True Deciding: 6 of 6 shards report.");
    assert_eq!(pass.condition("ScalingLimited"), "False WithinBounds");
    assert_eq!(pass.condition("MemoryPressure"), "False BelowTarget: Hottest shard at 31 % of 512Mi; target 70 %.");
    assert_eq!(pass.condition("Draining"), "False NoShardDraining");
    assert_eq!(pass.condition("CatalogValid"), "True Compiled: 42 tools.");
    assert_eq!(
        serde_json::to_value(status.load.unwrap()).unwrap(),
        json!({"connections": 61_200, "streams": 60_800, "capacity": 120_000, "targetPerReplica": 12_000,
            "bytesPerConnection": "12Ki", "memoryPercent": 28, "hottestMemoryPercent": 31})
    );
    assert_eq!(status.address.unwrap().url, "http://tools.agents.svc/mcp");
    assert_eq!(status.selector.as_deref(), Some("mcpcluster.dev/cluster=tools"));
    assert_eq!(status.image.as_deref(), Some("registry.example.com/mcp-server:1"));
    assert_eq!((status.replicas, status.ready_replicas, status.updated_replicas), (Some(6), Some(6), Some(6)));
    assert_eq!((status.draining_replicas, status.desired_replicas, status.observed_generation), (Some(0), Some(6), Some(7)));
    let catalog = status.catalog.unwrap();
    assert_eq!((catalog.revision.as_str(), catalog.shards, catalog.tools), ("5f2c9d", 6, 42));
    assert_eq!(status.hottest_shards.len(), 5);
    assert_eq!((status.hottest_shards[0].name.as_str(), status.hottest_shards[0].memory_percent), ("tools-4", 31));
}

#[test]
fn all_eight_conditions_are_there_from_the_first_pass() {
    let pass = Pass::of(Cluster::autoscaled(1, 9)).desired(1).mode(Mode::Starting).catalog(CatalogOutcome::NotLoaded);
    let conditions = pass.status().conditions;
    let kinds: Vec<_> = conditions.iter().map(|condition| condition.type_.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "Ready",
            "Available",
            "Progressing",
            "AutoscalingActive",
            "ScalingLimited",
            "MemoryPressure",
            "Draining",
            "CatalogValid"
        ]
    );
    assert!(conditions.iter().all(|condition| condition.observed_generation == Some(7) && !condition.reason.is_empty()));
    assert_eq!(pass.condition("Ready"), "Unknown Reconciling: The first shards are being created.");
    assert_eq!(pass.condition("Available"), "Unknown Reconciling: The first shards are being created.");
    assert_eq!(pass.condition("AutoscalingActive"), "Unknown Starting: No shard has reported yet.");
    assert_eq!(pass.condition("ScalingLimited"), "Unknown Starting: No shard has reported yet.");
    assert_eq!(pass.condition("MemoryPressure"), "Unknown MetricsUnavailable: No shard reports its memory.");
    assert_eq!(pass.condition("CatalogValid"), "Unknown NotLoaded: The catalog has not been read yet.");
}

#[test]
fn the_address_names_a_port_that_is_not_80() {
    let pass = Pass::of(Cluster::manual(1).spec(|spec| spec.service.port = Some(8443)));
    assert_eq!(pass.status().address.unwrap().url, "http://tools.agents.svc:8443/mcp");
}
