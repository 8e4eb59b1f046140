//! `observed.yaml`: what there is, as a person writes it down. Format and example: "Size" in
//! docs/operations.md, and manifests/explain/observed.yaml.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mcp_crds::McpCluster;
use mcp_crds::catalog::Path;
use mcp_crds::check::{Schema, check};
use mcp_crds::cluster::AutoscalingStatus;
use mcp_crds::duration::{self, Span};
use mcp_crds::load::LoadReport;
use mcp_crds::manifest::Problem;
use mcp_crds::quantity::{Bytes, Size};
use mcp_crds::yaml::{self, Node, Position};
use serde::Deserialize;
use serde_json::json;

use crate::names;
use crate::scale::History;
use crate::stages::{
    CatalogOutcome, Container, DrainMark, DrainReason, Observed, ObservedShard, Phase, Received, elapsed_before,
};

/// How often shards are asked, as the operator does by default.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// A shard that says nothing else was born, became Ready, fell silent or was lost so long ago.
const LONG_AGO: Duration = Duration::from_hours(1);
/// The template of the present spec, and another one.
const TEMPLATES: (&str, &str) = ("present", "outdated");
/// What an idle shard uses, when the file does not say.
const TYPICAL_BASE: &str = "40Mi";

/// What a file says.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    desired: Option<u32>,
    settled_for: Option<Span>,
    #[serde(rename = "lastOOMKill")]
    last_oom_kill: Option<Span>,
    #[serde(default)]
    shards: Vec<WrittenShard>,
}

/// One shard, or several alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenShard {
    name: Option<String>,
    #[serde(default = "one")]
    count: u32,
    #[serde(default)]
    state: WrittenState,
    #[serde(default)]
    connections: u64,
    #[serde(default)]
    streams: u64,
    #[serde(default)]
    in_flight: u64,
    memory: Option<Size>,
    base: Option<Size>,
    limit: Option<Size>,
    hard_cap: Option<u64>,
    ready_for: Option<Span>,
    node: Option<String>,
    #[serde(default)]
    outdated: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
enum WrittenState {
    /// Ready, and it reports.
    #[default]
    Ready,
    /// Not Ready yet.
    Starting,
    /// Ready, and it does not report.
    Silent,
    /// It was Ready and is not, for so long that it is replaced.
    Lost,
    /// It leaves.
    Draining,
}

fn one() -> u32 {
    1
}

/// A file that was read, and where each thing in it stands.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    written: Written,
    node: Node,
}

fn schema() -> &'static Schema {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
        let span = json!({"type": "string", "x-kubernetes-validations": [{
            "rule": format!("self.matches('{}')", duration::PATTERN), "message": "must be a duration in h, m, s or ms, for example '20m'",
        }]});
        let size = json!({"x-kubernetes-int-or-string": true, "maxLength": 32, "x-kubernetes-validations": [{
            "rule": "isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('0')) >= 0",
            "message": "must be a quantity of bytes, for example '300Mi'",
        }]});
        let count = json!({"type": "integer", "minimum": 0, "maximum": 10_000_000});
        Schema::new(json!({"type": "object", "required": ["shards"], "properties": {
            "desired": {"type": "integer", "minimum": 0, "maximum": 300},
            "settledFor": span, "lastOOMKill": span,
            "shards": {"type": "array", "maxItems": 1000, "items": {"type": "object", "properties": {
                "name": {"type": "string"}, "count": {"type": "integer", "minimum": 1, "maximum": 1000},
                "state": {"type": "string", "enum": ["Ready", "Starting", "Silent", "Lost", "Draining"]},
                "connections": count, "streams": count, "inFlight": count, "hardCap": count,
                "memory": size, "base": size, "limit": size, "readyFor": span,
                "node": {"type": "string"}, "outdated": {"type": "boolean"},
            }}},
        }}))
    });
    &SCHEMA
}

/// Reads a file.
///
/// # Errors
/// Everything that is wrong with it alone.
pub(super) fn read((file, text): (&str, &str)) -> Result<Scene, Vec<Problem>> {
    let problem = |at: Position, path: String, message: String| Problem { file: file.to_owned(), at, path, message };
    let documents = yaml::read(text).map_err(|error| vec![problem(error.at, String::new(), error.message)])?;
    let [node] = documents.as_slice() else {
        let at = documents.get(1).map_or(Position { line: 1, column: 1 }, |second| second.at);
        let message = "must be one YAML document with `shards`, as manifests/explain/observed.yaml is";
        return Err(vec![problem(at, String::new(), message.to_owned())]);
    };
    let checked = check(schema(), node, &[]);
    if !checked.findings.is_empty() {
        let told = checked.findings.iter().map(|finding| problem(finding.at, finding.path.to_string(), finding.message.clone()));
        return Err(told.collect());
    }
    let written = serde_json::from_value(checked.value);
    let written = written.map_err(|error: serde_json::Error| vec![problem(node.at, String::new(), error.to_string())])?;
    Ok(Scene { written, node: node.clone() })
}

// === impl Scene ===

impl Scene {
    /// What the operator would have observed of this cluster at a moment, and what it would remember.
    ///
    /// # Errors
    /// Names that are not those of shards of this cluster, or that come twice. The file's name is left to the caller.
    pub(super) fn stage(&self, cluster: &McpCluster, now: Timestamp) -> Result<(Observed, History), Vec<Problem>> {
        let name = cluster.metadata.name.clone().unwrap_or_default();
        let indexes = self.indexes(&name)?;
        let mut shards = vec![];
        let mut free = (0..u32::MAX).filter(|index| !indexes.iter().flatten().any(|named| named == index));
        for (written, index) in self.written.shards.iter().zip(&indexes) {
            for _ in 0..written.count {
                let index = index.or_else(|| free.next()).unwrap_or(u32::MAX);
                shards.push(written.stage(cluster, &name, index, now));
            }
        }
        shards.sort_by_key(|shard| shard.index);
        let status = cluster.status.clone().unwrap_or_default();
        let active = shards.iter().filter(|shard| shard.draining.is_none()).count();
        let desired = self.written.desired.and_then(|desired| i32::try_from(desired).ok()).or(status.desired_replicas);
        let desired = desired.or(i32::try_from(active).ok());
        let before = |span: &Span| Time(elapsed_before(span.or_zero(), now));
        let kept = status.autoscaling.clone().unwrap_or_default();
        let settled = self.written.settled_for.as_ref().map(before);
        let history = History::restore(
            Some(&mcp_crds::McpClusterStatus {
                desired_replicas: desired,
                autoscaling: Some(AutoscalingStatus {
                    window_start_time: settled.or(Some(Time(elapsed_before(LONG_AGO, now)))),
                    window_highest: desired,
                    last_oom_kill_time: self.written.last_oom_kill.as_ref().map(before).or(kept.last_oom_kill_time),
                }),
                load: None,
                ..status
            }),
            // One look ago: what was decided then is not what load asks for now.
            elapsed_before(REPORT_INTERVAL, now),
        );
        let observed = Observed {
            cluster: Arc::new(cluster.clone()),
            image: String::new(),
            shards,
            taken: BTreeSet::new(),
            template_hash: TEMPLATES.0.to_owned(),
            catalog: CatalogOutcome::NotLoaded,
            published: Some(String::new()),
            watching_since: elapsed_before(2 * LONG_AGO, now),
            report_interval: REPORT_INTERVAL,
        };
        Ok((observed, history))
    }

    /// The index each entry names, if it names one.
    fn indexes(&self, cluster: &str) -> Result<Vec<Option<u32>>, Vec<Problem>> {
        let (mut seen, mut problems, mut indexes) = (BTreeSet::new(), vec![], vec![]);
        for (position, shard) in self.written.shards.iter().enumerate() {
            let Some(name) = &shard.name else {
                indexes.push(None);
                continue;
            };
            let index = names::shard_index(cluster, name);
            let wrong = match index {
                None => Some(format!("{name:?} is no shard of {cluster}: they are named {cluster}-0, {cluster}-1 and so on")),
                Some(_) if shard.count > 1 => Some("`name` is of one shard: leave it out, or `count`".to_owned()),
                Some(_) if !seen.insert(name) => Some(format!("{name} is there twice")),
                Some(_) => None,
            };
            if let Some(message) = wrong {
                let path = Path::of("shards").index(position).field("name");
                problems.push(Problem { file: String::new(), at: self.node.position(&path), path: path.to_string(), message });
            }
            indexes.push(index);
        }
        if problems.is_empty() { Ok(indexes) } else { Err(problems) }
    }
}

// === impl WrittenShard ===

impl WrittenShard {
    fn stage(&self, cluster: &McpCluster, name: &str, index: u32, now: Timestamp) -> ObservedShard {
        let spec = &cluster.spec;
        let bytes = |size: &Option<Size>| size.as_ref().and_then(|size| Bytes::try_from(size).ok());
        let limit = bytes(&self.limit).or_else(|| spec.resources.limits.get("memory").and_then(|q| Bytes::try_from(q).ok()));
        let base = bytes(&self.base).or_else(|| Bytes::parse(TYPICAL_BASE).ok()).unwrap_or_default();
        let ready_since = elapsed_before(self.ready_for.as_ref().map_or(LONG_AGO, Span::or_zero), now);
        let is_ready = matches!(self.state, WrittenState::Ready | WrittenState::Silent | WrittenState::Draining);
        let starts = self.state == WrittenState::Starting;
        let name = format!("{name}-{index}");
        let report = (!starts).then(|| Received {
            report: LoadReport {
                incarnation: name.clone(),
                seq: 1,
                connections: self.connections,
                streams: self.streams,
                in_flight: self.in_flight,
                hard_cap: self.hard_cap.unwrap_or_else(|| u64::try_from(spec.limits.max_connections).unwrap_or(0)),
                working_set_bytes: bytes(&self.memory).unwrap_or(base).0,
                base_bytes: base.0,
                limit_bytes: limit.unwrap_or_default().0,
                draining: self.state == WrittenState::Draining,
                ..LoadReport::default()
            },
            at: match self.state {
                WrittenState::Ready | WrittenState::Draining | WrittenState::Starting => now,
                WrittenState::Silent | WrittenState::Lost => elapsed_before(Duration::from_mins(10), now),
            },
        });
        let template = if self.outdated { TEMPLATES.1 } else { TEMPLATES.0 };
        ObservedShard {
            uid: name.clone(),
            name,
            index,
            node: self.node.clone(),
            phase: if starts { Phase::Pending } else { Phase::Running },
            ready: is_ready,
            ready_changed: match self.state {
                WrittenState::Starting => None,
                WrittenState::Lost => Some(elapsed_before(Duration::from_mins(10), now)),
                WrittenState::Ready | WrittenState::Silent | WrittenState::Draining => Some(ready_since),
            },
            created: Some(if starts {
                elapsed_before(Duration::from_secs(5), now)
            } else {
                elapsed_before(Duration::from_secs(10), ready_since)
            }),
            draining: (self.state == WrittenState::Draining)
                .then_some(DrainMark { reason: Some(DrainReason::ScaleIn), started: Some(now) }),
            placed: self.state != WrittenState::Draining,
            template_hash: Some(template.to_owned()),
            container: if starts { Container::default() } else { Container::Running { started: Some(ready_since) } },
            address: Some(String::new()),
            memory_limit: limit,
            report,
            ..ObservedShard::default()
        }
    }
}

/// The schema, for the test that holds the documented fields to it.
#[cfg(test)]
pub(super) fn fields() -> serde_json::Value {
    schema().value().clone()
}
