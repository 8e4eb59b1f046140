//! The operator's own steps on the simulated cluster: [`scale::decide`], [`rollout::plan`] and [`placement::place`], in the
//! order of `reconcile`, every five seconds.
//!
//! What a decision must hold is checked at each of them, so every trace is a test of it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mcp_crds::cluster::{AutoscalingStatus, LoadStatus};
use mcp_crds::load::LoadReport;
use mcp_crds::{McpCluster, McpClusterStatus};
use mcp_operator::placement::{self, Flips};
use mcp_operator::rollout;
use mcp_operator::scale::{self, History, Policy as ScalePolicy};
use mcp_operator::stages::{
    CatalogOutcome, CompiledCounts, Decision, DrainMark, DrainReason, Observed, ObservedShard, PlacementStep, Plan, PodRef,
    ShardState,
};
use serde_json::json;

use super::{Policy, observe};
use crate::score::Cause;
use crate::trace::Trace;
use crate::world::World;

/// Seconds between two rounds of reports, and two passes.
const INTERVAL: i64 = 5;

/// The operator.
pub struct Operator {
    policy: ScalePolicy,
    observed: Observed,
    /// Ids of `observed.shards`, in their order.
    ids: Vec<u64>,
    history: Option<History>,
    flips: Flips,
    status: McpClusterStatus,
    was_away: bool,
    /// Numbers of earlier rounds, for reports that are late.
    earlier: VecDeque<(i64, HashMap<u64, LoadReport>)>,
    sizes: VecDeque<(i64, u32)>,
    /// When a process was last killed for memory.
    killed: Option<i64>,
    decision: Decision,
}

impl Operator {
    /// Settled at the world's size for a window and more.
    pub fn settled(world: &World) -> Self {
        let cluster = Arc::new(resource(&world.trace));
        let size = i32::try_from(world.pods.len()).unwrap_or(i32::MAX);
        let status = McpClusterStatus {
            desired_replicas: Some(size),
            autoscaling: Some(AutoscalingStatus {
                window_start_time: Some(Time(observe::at(-50_000))),
                window_highest: Some(size),
                last_oom_kill_time: None,
            }),
            ..McpClusterStatus::default()
        };
        Self {
            policy: ScalePolicy::of(&cluster.spec),
            observed: Observed {
                cluster,
                image: "mcp-server".to_owned(),
                shards: vec![],
                taken: BTreeSet::new(),
                template_hash: observe::template(world.template.0),
                catalog: CatalogOutcome::Compiled(CompiledCounts { hash: observe::HASH.to_owned(), ..CompiledCounts::default() }),
                published: Some(observe::HASH.to_owned()),
                watching_since: observe::at(-50_000),
                report_interval: Duration::from_secs(INTERVAL.unsigned_abs()),
            },
            ids: vec![],
            history: None,
            flips: Flips::default(),
            status,
            was_away: false,
            earlier: VecDeque::new(),
            sizes: VecDeque::new(),
            killed: None,
            decision: Decision { desired: size.unsigned_abs(), ..Decision::default() },
        }
    }

    /// What it saw last, and the history up to there: for measurements.
    pub fn state(&self) -> (&ScalePolicy, &Observed, Option<&History>) {
        (&self.policy, &self.observed, self.history.as_ref())
    }

    fn pass(&mut self, world: &mut World) -> Result<(), String> {
        let now = observe::at(world.now);
        self.look(world);
        let history = self.history.take().unwrap_or_else(|| History::restore(Some(&self.status), now));
        let (decision, history) = scale::decide(&self.policy, &self.observed, history, now);
        let plan = rollout::plan(&self.observed, &decision, now);
        let (placement, flips) = placement::place(&self.observed, &decision, &plan, &self.flips, now);
        self.check(world, &decision, &plan)?;
        self.check_victims(world, &decision)?;
        self.check_placement(world, &plan, &placement)?;
        self.carry_out(world, &decision, &plan);
        for step in &placement {
            if let Some(id) = id_of(&step.pod.uid) {
                world.place(id, step.placed);
            }
        }
        self.remember(&decision);
        (self.history, self.flips, self.decision) = (Some(history), flips, decision);
        Ok(())
    }

    /// Pods and reports, brought up to date.
    fn look(&mut self, world: &World) {
        let mut known = std::mem::take(&mut self.observed.shards).into_iter().zip(std::mem::take(&mut self.ids)).peekable();
        for pod in &world.pods {
            while known.peek().is_some_and(|(_, id)| *id < pod.id) {
                known.next();
            }
            let seen = known.next_if(|(_, id)| *id == pod.id).map(|(shard, _)| shard);
            let mut shard = seen.unwrap_or_else(|| observe::created(pod, &world.trace));
            observe::update(&mut shard, pod, || world.why_unschedulable());
            self.observed.shards.push(shard);
            self.ids.push(pod.id);
        }
        self.observed.template_hash = observe::template(world.template.0);
        self.hear(world);
    }

    fn hear(&mut self, world: &World) {
        let old_by = world.numbers_are_old_by();
        let answers = world.pods.iter().filter(|pod| pod.serves() && !pod.silent);
        if old_by > 0 || !self.earlier.is_empty() {
            let round = answers.clone().map(|pod| (pod.id, observe::numbers(pod, &world.trace))).collect();
            self.earlier.push_back((world.now, round));
            while self.earlier.len() > 1 && self.earlier[1].0 <= world.now - old_by {
                self.earlier.pop_front();
            }
        }
        let mut positions = self.ids.iter().copied().zip(&mut self.observed.shards).peekable();
        for pod in answers {
            while positions.peek().is_some_and(|(id, _)| *id < pod.id) {
                positions.next();
            }
            let Some((_, shard)) = positions.next_if(|(id, _)| *id == pod.id) else { continue };
            let late = if old_by > 0 { self.earlier.front().map(|(_, round)| round.get(&pod.id)) } else { None };
            match late {
                Some(Some(numbers)) => observe::report(shard, pod, numbers, world.now),
                // It did not serve yet when the numbers were taken.
                Some(None) => {}
                None => observe::report(shard, pod, &observe::numbers(pod, &world.trace), world.now),
            }
        }
        if old_by == 0 {
            self.earlier.clear();
        }
    }

    fn shard(&mut self, uid: &str) -> Option<&mut ObservedShard> {
        self.observed.shards.iter_mut().find(|shard| shard.uid == uid)
    }

    fn carry_out(&mut self, world: &mut World, decision: &Decision, plan: &Plan) {
        for index in &plan.create {
            world.create(*index);
        }
        for step in &plan.drain {
            let mark = DrainMark { reason: Some(step.reason), started: Some(step.started) };
            if let Some(shard) = self.shard(&step.pod.uid) {
                shard.draining = Some(mark);
            }
            if let Some(id) = id_of(&step.pod.uid) {
                world.place(id, false);
                world.drain_shard(id, cause(step.reason));
            }
        }
        for pod in &plan.cancel {
            if let Some(shard) = self.shard(&pod.uid) {
                shard.draining = None;
            }
            if let Some(id) = id_of(&pod.uid) {
                world.place(id, true);
                world.cancel_drain(id);
            }
        }
        for step in &plan.delete {
            let reason = self.shard(&step.pod.uid).and_then(|shard| shard.draining).and_then(|mark| mark.reason);
            if let Some(id) = id_of(&step.pod.uid) {
                world.delete(id, reason.map_or(Cause::Replaced, cause));
            }
        }
        for shed in &decision.sheds {
            if let Some(id) = id_of(&shed.pod.uid) {
                world.shed(id, shed.bytes, shed.streams);
            }
        }
    }

    /// What a new leader finds.
    fn remember(&mut self, decision: &Decision) {
        self.status.desired_replicas = i32::try_from(decision.desired).ok();
        self.status.autoscaling = Some(decision.remembered.clone());
        self.status.last_scale.clone_from(&decision.last_scale);
        let learnt = Some(decision.numbers.bytes_per_load.to_string());
        self.status.load = Some(LoadStatus { bytes_per_connection: learnt, ..LoadStatus::default() });
    }

    /// The properties that every decision must hold, whatever the trace.
    fn check(&mut self, world: &World, decision: &Decision, plan: &Plan) -> Result<(), String> {
        let cluster = &world.trace.cluster;
        let now = world.now;
        let must = |holds: bool, what: &str| {
            if holds { Ok(()) } else { Err(format!("{} at {now} s: {what}: {decision:?} {plan:?}", world.trace.name)) }
        };
        must((cluster.min_replicas..=cluster.max_replicas).contains(&decision.desired), "the size is out of bounds")?;
        let stamp = observe::at(now);
        let state = |shard: &ObservedShard| self.observed.state(shard, stamp);
        let silent = self.observed.shards.iter().any(|shard| state(shard) == ShardState::Silent);
        let drains = plan.drain.iter().filter(|step| step.reason == DrainReason::ScaleIn && !step.marked).count();
        must(drains == 0 || !silent, "a scale-in while a shard is silent")?;
        self.killed =
            world.pods.iter().filter_map(|pod| pod.last_end.filter(|end| end.oom)).map(|end| end.at).max().max(self.killed);
        must(drains == 0 || self.killed.is_none_or(|at| now - at > 1800), "a scale-in after a kill for memory")?;
        let outdated = self.observed.shards.iter().any(|shard| state(shard).is_active() && self.observed.is_outdated(shard));
        must(drains == 0 || !outdated, "a scale-in during a rollout")?;
        let active = self.observed.shards.iter().filter(|shard| state(shard).is_active()).count();
        let victims = decision.victims.len();
        must(victims <= active.saturating_sub(decision.desired as usize), "more victims than there is too much")?;
        // No more than the larger of four and all of those there were is added in fifteen seconds.
        while self.sizes.front().is_some_and(|(time, _)| now - time > 15) {
            self.sizes.pop_front();
        }
        let before = self.sizes.front().map_or(decision.desired, |(_, size)| *size);
        let last = self.sizes.back().map_or(decision.desired, |(_, size)| *size);
        must(decision.desired <= last.max(before + before.max(4)), "it grows faster than it may")?;
        self.sizes.push_back((now, decision.desired));
        Ok(())
    }
}

impl Operator {
    /// What victims, and the shards that go already, hold fits the others, in load and in bytes.
    fn check_victims(&self, world: &World, decision: &Decision) -> Result<(), String> {
        let is = |pods: &[PodRef], shard: &ObservedShard| pods.iter().any(|pod| pod.uid == shard.uid);
        let victims: Vec<_> = decision.victims.iter().map(|victim| victim.pod.clone()).collect();
        let now = observe::at(world.now);
        let percent = decision.numbers.memory_percent.saturating_sub(10);
        let (mut moving, mut room) = ((0, 0), (0, 0));
        for shard in &self.observed.shards {
            let state = self.observed.state(shard, now);
            let Some(report) = shard.report.as_ref().map(|received| &received.report) else { continue };
            let used = report.working_set_bytes.saturating_sub(report.base_bytes);
            if is(&decision.retiring, shard) {
                moving = (moving.0 + report.load(), moving.1 + report.load() * decision.numbers.bytes_per_load);
            } else if state == ShardState::Draining || is(&victims, shard) {
                moving = (moving.0 + report.load(), moving.1 + if report.load() > 0 { used } else { 0 });
            } else if state == ShardState::Fresh && !decision.census.poisoned.contains(&shard.name) {
                let bytes = (report.limit_bytes * percent / 100).saturating_sub(report.working_set_bytes);
                room = (room.0 + decision.numbers.target_down.saturating_sub(report.load()), room.1 + bytes);
            }
        }
        let cost: u64 = decision.victims.iter().map(|victim| victim.streams).sum();
        // Over the maximum they go nevertheless.
        let is_over = decision.numbers.current > world.trace.cluster.max_replicas;
        if cost == 0 || is_over || (moving.0 <= room.0 && moving.1 <= room.1) {
            return Ok(());
        }
        let name = &world.trace.name;
        Err(format!("{name} at {} s: victims do not fit: {moving:?} into {room:?}: {decision:?}", world.now))
    }

    /// Of the Ready shards that stay at least half get new connections.
    fn check_placement(&self, world: &World, plan: &Plan, steps: &[PlacementStep]) -> Result<(), String> {
        let now = observe::at(world.now);
        let goes = |shard: &ObservedShard| {
            plan.drain
                .iter()
                .map(|step| &step.pod)
                .chain(plan.delete.iter().map(|step| &step.pod))
                .any(|pod| pod.uid == shard.uid)
        };
        let stays = |shard: &&ObservedShard| shard.ready && self.observed.state(shard, now).is_active() && !goes(shard);
        let placed =
            |shard: &&ObservedShard| steps.iter().find(|step| step.pod.uid == shard.uid).map_or(shard.placed, |step| step.placed);
        let staying = self.observed.shards.iter().filter(stays);
        let (all, placed) = (staying.clone().count(), staying.filter(placed).count());
        if placed * 2 >= all {
            return Ok(());
        }
        Err(format!("{} at {} s: {placed} of {all} shards get new connections", world.trace.name, world.now))
    }
}

impl Policy for Operator {
    fn act(&mut self, world: &mut World) -> Result<u32, String> {
        if world.leader_is_away() {
            self.was_away = true;
            return Ok(self.decision.desired);
        }
        if self.was_away {
            // A new process: what is not on the pods or in status is gone.
            (self.was_away, self.history, self.flips) = (false, None, Flips::default());
            self.observed.shards.iter_mut().for_each(|shard| shard.report = None);
            self.observed.watching_since = observe::at(world.now);
            self.earlier.clear();
            // Of the rate it knows the last change alone.
            self.sizes.clear();
        }
        if world.now % INTERVAL == 0 {
            self.pass(world)?;
        }
        Ok(self.decision.desired)
    }
}

fn id_of(uid: &str) -> Option<u64> {
    uid.strip_prefix("uid-").and_then(|id| id.parse().ok())
}

fn cause(reason: DrainReason) -> Cause {
    match reason {
        DrainReason::ScaleIn => Cause::ScaleIn,
        DrainReason::Rollout => Cause::Rollout,
        DrainReason::Recycle | DrainReason::Eviction | DrainReason::NodeDrain => Cause::Replaced,
    }
}

/// The McpCluster of a trace: what a trace does not say is the product's default.
#[expect(clippy::expect_used, reason = "the text is fixed but for numbers")]
fn resource(trace: &Trace) -> McpCluster {
    let cluster = &trace.cluster;
    serde_json::from_value(json!({
        "apiVersion": "mcpcluster.dev/v1alpha1",
        "kind": "McpCluster",
        "metadata": {"name": "tools", "namespace": "agents", "generation": 1, "uid": "c1"},
        "spec": {
            "resources": {"limits": {"memory": cluster.memory.0.to_string()}},
            "limits": {"maxConnections": cluster.max_connections},
            "autoscaling": {"minReplicas": cluster.min_replicas, "maxReplicas": cluster.max_replicas},
        },
    }))
    .expect("it is an McpCluster")
}
