//! A cluster made up for a test: `Cluster::manual(3).with_ready(3)`.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mcp_crds::McpCluster;
use mcp_crds::load::LoadReport;
use mcp_crds::quantity::Bytes;
use serde_json::{Value, json};

use super::*;

/// The template every shard of a fixture is born with.
pub(crate) const TEMPLATE: &str = "template-1";
/// Bytes of a mebibyte.
pub(crate) const MIB: u64 = 1 << 20;

/// A moment: seconds from the start of the test's story, which is long after every shard began.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// What a test observes.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// The observation.
    pub(crate) observed: Observed,
}

impl Cluster {
    /// From the fields of a spec; memory is limited to 512Mi.
    pub(crate) fn of(spec: Value) -> Self {
        let mut all = json!({"resources": {"limits": {"memory": "512Mi"}}});
        let Value::Object(fields) = spec else { panic!("a spec is an object") };
        all.as_object_mut().unwrap().extend(fields);
        let cluster: McpCluster = serde_json::from_value(json!({
            "apiVersion": "mcpcluster.dev/v1alpha1", "kind": "McpCluster",
            "metadata": {"name": "tools", "namespace": "agents", "generation": 7, "uid": "c1"},
            "spec": all,
        }))
        .unwrap();
        Self {
            observed: Observed {
                cluster: Arc::new(cluster),
                image: "registry.example.com/mcp-server:1".into(),
                shards: vec![],
                taken: BTreeSet::new(),
                template_hash: TEMPLATE.into(),
                catalog: CatalogOutcome::Compiled(CompiledCounts { hash: "5f2c9dab".into(), tools: 42, ..Default::default() }),
                published: Some("5f2c9dab".into()),
                watching_since: at(-100_000),
                report_interval: Duration::from_secs(5),
            },
        }
    }

    /// `replicas: n`.
    pub(crate) fn manual(replicas: i32) -> Self {
        Self::of(json!({"replicas": replicas}))
    }

    /// `autoscaling` between bounds.
    pub(crate) fn autoscaled(min: i32, max: i32) -> Self {
        Self::of(json!({"autoscaling": {"minReplicas": min, "maxReplicas": max}, "limits": {"maxConnections": 4000}}))
    }

    /// Changes the spec.
    pub(crate) fn spec(mut self, change: impl FnOnce(&mut mcp_crds::McpClusterSpec)) -> Self {
        change(&mut Arc::make_mut(&mut self.observed.cluster).spec);
        self
    }

    /// Adds shards at the lowest free indexes: Ready for a long time, idle, reporting now.
    pub(crate) fn with_ready(mut self, count: u32) -> Self {
        for _ in 0..count {
            self.add(ready);
        }
        self
    }

    /// Adds pods that have never been Ready.
    pub(crate) fn with_pending(mut self, count: u32) -> Self {
        for _ in 0..count {
            self.add(pending);
        }
        self
    }

    fn add(&mut self, make: impl FnOnce(u32) -> ObservedShard) {
        let index = (0..u32::MAX).find(|n| self.observed.shards.iter().all(|shard| shard.index != *n)).unwrap();
        self.observed.shards.push(make(index));
        self.observed.shards.sort_by_key(|shard| shard.index);
    }

    /// Changes one shard.
    pub(crate) fn shard(mut self, index: u32, change: impl FnOnce(&mut ObservedShard)) -> Self {
        change(self.observed.shards.iter_mut().find(|shard| shard.index == index).unwrap());
        self
    }

    /// Changes every shard.
    pub(crate) fn each(mut self, mut change: impl FnMut(&mut ObservedShard)) -> Self {
        self.observed.shards.iter_mut().for_each(&mut change);
        self
    }

    /// Stamps every present report with `now`.
    pub(crate) fn heard(mut self, now: Timestamp) -> Self {
        for received in self.observed.shards.iter_mut().filter_map(|shard| shard.report.as_mut()) {
            received.at = now;
            received.report.seq += 1;
        }
        self
    }
}

/// A shard that has been Ready for a long time and reports no load.
pub(crate) fn ready(index: u32) -> ObservedShard {
    let began = at(-90_000);
    let started = began + SignedDuration::from_secs(2);
    let changed = began + SignedDuration::from_secs(10);
    ObservedShard {
        phase: Phase::Running,
        ready: true,
        ready_changed: Some(changed),
        created: Some(began),
        container: Container::Running { started: Some(started) },
        node: Some(format!("node-{}", index % 3)),
        address: Some(format!("10.0.0.{index}")),
        report: Some(Received {
            report: LoadReport {
                incarnation: format!("i{index}"),
                seq: 1,
                hard_cap: 4000,
                working_set_bytes: 40 * MIB,
                base_bytes: 40 * MIB,
                limit_bytes: 512 * MIB,
                catalog_hash: "5f2c9dab".into(),
                ..LoadReport::default()
            },
            at: at(0),
        }),
        ..pending(index)
    }
}

/// A pod that was just created.
pub(crate) fn pending(index: u32) -> ObservedShard {
    ObservedShard {
        name: format!("tools-{index}"),
        index,
        uid: format!("uid-{index}"),
        created: Some(at(-5)),
        placed: true,
        template_hash: Some(TEMPLATE.into()),
        memory_limit: Some(Bytes(512 * MIB)),
        ..ObservedShard::default()
    }
}

impl ObservedShard {
    /// Streams and the memory they take, in the report.
    pub(crate) fn load(&mut self, streams: u64, memory: u64) {
        let report = &mut self.report.as_mut().unwrap().report;
        report.streams = streams;
        report.connections = streams;
        report.working_set_bytes = memory;
    }

    /// Marks it draining since `started`, and lets it say so.
    pub(crate) fn drain(&mut self, reason: DrainReason, started: Timestamp) {
        self.draining = Some(DrainMark { reason: Some(reason), started: Some(started) });
        self.placed = false;
        if let Some(received) = &mut self.report {
            received.report.draining = true;
        }
    }
}
