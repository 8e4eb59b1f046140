//! Rollouts from end to end without a cluster: the real decision and the real plan, on pods that start, become Ready, report,
//! drain and go. What the plan may never do is checked at every step.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use mcp_crds::cluster::Rollout;
use mcp_crds::portion::Portion;
use mcp_crds::{McpCluster, McpClusterStatus};
use proptest::prelude::*;
use serde_json::json;

use crate::rollout;
use crate::scale::{self, History, Policy};
use crate::stages::fixture::{Cluster, at, pending, ready};
use crate::stages::{
    Container, DrainMark, DrainReason, Observed, ObservedShard, Phase, Plan, ShardState, Termination, TroubleKind,
};

/// Seconds of a step, which is how often shards are asked.
const STEP: i64 = 5;
/// Streams of each shard at the start: near the target of 2,800, so that nothing is scaled in.
const STREAMS: u64 = 2400;
/// Streams that a drain ends in a step.
const ENDED: u64 = 800;
/// No rollout of these sizes needs longer.
const LONGEST: usize = 1500;

/// What becomes of a pod of the current template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Serves,
    Unschedulable,
    BadImage,
    Crashes,
    NeverReady,
    /// Ready, and never heard.
    Mute,
}

/// What a pod is at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Old,
    OldStarting,
    OldUnready,
    New,
    NewStarting,
    Replaced,
    ScaledIn,
    Lost,
    Deleted,
    Failed,
}

const STARTS: &[Start] = &[
    Start::Old,
    Start::Old,
    Start::Old,
    Start::OldStarting,
    Start::OldUnready,
    Start::New,
    Start::New,
    Start::NewStarting,
    Start::Replaced,
    Start::ScaledIn,
    Start::Lost,
    Start::Deleted,
    Start::Failed,
];

struct World {
    observed: Observed,
    history: History,
    now: Timestamp,
    fate: Fate,
    /// Template that never works.
    broken: Option<String>,
    made: u32,
}

impl World {
    /// Settled at this size, with shards of the current template.
    fn settled(spec: serde_json::Value, surge: Option<Portion>, size: u32) -> Self {
        let cluster = Cluster::of(spec).with_ready(size).each(|shard| shard.load(STREAMS, 200 << 20));
        let cluster = cluster.spec(|spec| spec.rollout = surge.map(|surge| Rollout { max_surge: Some(surge) }));
        let status: McpClusterStatus = serde_json::from_value(json!({
            "desiredReplicas": size,
            "autoscaling": {"windowStartTime": at(-50_000), "windowHighest": size},
        }))
        .unwrap();
        let history = History::restore(Some(&status), at(0));
        Self { observed: cluster.observed, history, now: at(0), fate: Fate::Serves, broken: None, made: 0 }
    }

    fn spec(&mut self, change: impl FnOnce(&mut McpCluster)) {
        change(std::sync::Arc::make_mut(&mut self.observed.cluster));
    }

    /// Applies another template, all of whose pods meet this fate.
    fn apply(&mut self, template: &str, fate: Fate) {
        if self.fate != Fate::Serves {
            self.broken = Some(self.observed.template_hash.clone());
        }
        self.observed.template_hash = template.to_owned();
        self.fate = fate;
    }

    fn state(&self, shard: &ObservedShard) -> ShardState {
        self.observed.state(shard, self.now)
    }

    fn active(&self) -> impl Iterator<Item = &ObservedShard> {
        self.observed.shards.iter().filter(|shard| self.state(shard).is_active())
    }

    /// Serves clients, as far as that can be known: an old shard when it is Ready, a new one when it also reports.
    fn serves(&self, shard: &ObservedShard) -> bool {
        let state = self.state(shard);
        state.is_active() && shard.ready && (self.observed.is_outdated(shard) || state == ShardState::Fresh)
    }

    fn rolling_drains(&self) -> usize {
        let drains = self.observed.shards.iter().filter(|shard| self.state(shard) == ShardState::Draining);
        let drains = drains.filter(|shard| shard.terminating.is_none());
        drains.filter(|shard| shard.draining.is_some_and(|mark| mark.reason == Some(DrainReason::Rollout))).count()
    }

    fn uids(&self) -> BTreeSet<String> {
        self.active().map(|shard| shard.uid.clone()).collect()
    }

    fn is_rolled_out(&self, size: usize) -> bool {
        let shards = &self.observed.shards;
        shards.len() == size && shards.iter().all(|shard| self.serves(shard) && !self.observed.is_outdated(shard))
    }

    /// A step of time, then a pass; returns what the pass planned.
    fn step(&mut self) -> Result<Plan, TestCaseError> {
        self.now += SignedDuration::from_secs(STEP);
        self.live();
        let (decision, history) =
            scale::decide(&Policy::of(&self.observed.cluster.spec), &self.observed, std::mem::take(&mut self.history), self.now);
        self.history = history;
        let plan = rollout::plan(&self.observed, &decision, self.now);
        self.check(&plan, decision.desired)?;
        self.carry_out(&plan);
        Ok(plan)
    }

    /// What kubelets and shards do by themselves.
    fn live(&mut self) {
        let now = self.now;
        self.observed.shards.retain(|shard| shard.terminating.is_none_or(|since| now.duration_since(since).as_secs() < 15));
        let mut homeless = 0;
        for shard in &mut self.observed.shards {
            let current = shard.template_hash.as_deref() == Some(self.observed.template_hash.as_str());
            let fate = match (&self.broken, current) {
                (_, true) => self.fate,
                (Some(broken), false) if shard.template_hash.as_ref() == Some(broken) => continue,
                (Some(_) | None, false) => Fate::Serves,
            };
            // Shards of the start are what they are.
            if shard.uid.starts_with("made") && shard.terminating.is_none() {
                start(shard, fate, now);
            }
            if let Some(received) = shard.report.as_mut().filter(|_| shard.ready) {
                received.at = now;
                received.report.seq += 1;
                received.report.draining = shard.draining.is_some();
            }
            let gone = shard.terminating.is_some() || shard.draining.is_some();
            if let Some(received) = shard.report.as_mut().filter(|_| gone) {
                let ended = received.report.streams.min(ENDED);
                received.report.streams -= ended;
                received.report.connections = received.report.streams;
                homeless += ended;
            }
        }
        let placed: Vec<_> = (0..self.observed.shards.len())
            .filter(|index| self.serves(&self.observed.shards[*index]) && self.observed.shards[*index].report.is_some())
            .collect();
        for index in &placed {
            let shard = &mut self.observed.shards[*index];
            let load = shard.report.as_ref().unwrap().report.streams + homeless / placed.len() as u64;
            shard.load(load, 200 << 20);
        }
    }

    fn check(&self, plan: &Plan, desired: u32) -> Result<(), TestCaseError> {
        let (desired, surge) = (desired as usize, self.observed.surge(desired) as usize);
        let takes = |shard: &ObservedShard| {
            plan.drain.iter().any(|step| step.pod.uid == shard.uid) || plan.delete.iter().any(|step| step.pod.uid == shard.uid)
        };
        let serving = self.active().filter(|shard| self.serves(shard)).count();
        let left = self.active().filter(|shard| self.serves(shard) && !takes(shard)).count();
        prop_assert!(left >= serving.min(desired), "{left} of {serving} serve on, {desired} are desired: {plan:?}");

        let begun = plan.drain.iter().filter(|step| !step.marked && step.reason == DrainReason::Rollout).count();
        let before = self.active().count() + self.rolling_drains();
        let staying = self.active().filter(|shard| !takes(shard)).count();
        let after = staying + begun + self.rolling_drains() + plan.create.len();
        // What is missing does not wait for drains, however many there are.
        let most = before.max(desired + surge.max(self.rolling_drains()));
        prop_assert!(after <= most, "{after} pods for {desired} and {surge}: {plan:?}");
        prop_assert!(begun == 0 || self.rolling_drains() + begun <= surge, "{begun} drains begin, with a surge of {surge}");
        Ok(())
    }

    fn carry_out(&mut self, plan: &Plan) {
        for index in &plan.create {
            self.made += 1;
            self.observed.shards.push(ObservedShard {
                uid: format!("made-{}", self.made),
                created: Some(self.now),
                template_hash: Some(self.observed.template_hash.clone()),
                ..pending(*index)
            });
        }
        for shard in &mut self.observed.shards {
            if let Some(step) = plan.drain.iter().find(|step| step.pod.uid == shard.uid) {
                shard.draining = Some(DrainMark { reason: Some(step.reason), started: Some(step.started) });
                shard.placed = false;
            }
            if plan.cancel.iter().any(|pod| pod.uid == shard.uid) {
                shard.draining = None;
                shard.placed = true;
            }
            if plan.delete.iter().any(|step| step.pod.uid == shard.uid) {
                shard.terminating = Some(self.now);
            }
        }
    }

    fn until_rolled_out(&mut self, size: usize) -> Result<(), TestCaseError> {
        for _ in 0..LONGEST {
            let plan = self.step()?;
            if self.is_rolled_out(size) && plan.is_empty() {
                return Ok(());
            }
        }
        let shards: Vec<_> = self.observed.shards.iter().map(|s| (&s.name, self.state(s), &s.template_hash, s.ready)).collect();
        Err(TestCaseError::fail(format!("it did not end: {shards:?}")))
    }
}

/// A pod of the simulation, some time after it was created.
fn start(shard: &mut ObservedShard, fate: Fate, now: Timestamp) {
    let age = shard.created.map_or(0, |created| now.duration_since(created).as_secs());
    let runs = |shard: &mut ObservedShard| {
        shard.phase = Phase::Running;
        shard.container = Container::Running { started: Some(shard.created.unwrap() + SignedDuration::from_secs(1)) };
    };
    match fate {
        Fate::Serves | Fate::Mute if age >= 10 && !shard.ready => {
            runs(shard);
            shard.ready = true;
            shard.ready_changed = Some(now);
            if fate == Fate::Serves {
                shard.report = ready(shard.index).report;
                shard.load(0, 40 << 20);
            }
        }
        Fate::Serves | Fate::Mute => {}
        Fate::Unschedulable => shard.unschedulable = Some("0/2 nodes are available: 2 Insufficient cpu.".into()),
        Fate::BadImage => {
            shard.container = Container::Waiting { reason: "ErrImagePull".into(), message: "manifest unknown".into() };
        }
        Fate::Crashes => {
            shard.container = Container::Waiting { reason: "CrashLoopBackOff".into(), message: String::new() };
            shard.last_termination = Some(Termination { reason: "Error".into(), exit_code: 1, ..Termination::default() });
        }
        Fate::NeverReady => runs(shard),
    }
}

fn begin(world: &mut World, starts: &[Start]) {
    world.observed.shards.clear();
    for (index, start) in (0..).zip(starts) {
        let mut shard = ready(index);
        shard.load(STREAMS, 200 << 20);
        match start {
            Start::Old | Start::Deleted => shard.template_hash = Some("template-0".into()),
            Start::OldStarting => {
                shard = ObservedShard { template_hash: Some("template-0".into()), ..pending(index) };
            }
            Start::OldUnready => {
                shard.template_hash = Some("template-0".into());
                shard.ready = false;
                shard.ready_changed = Some(at(-3));
            }
            Start::New => {}
            Start::NewStarting => {
                shard = ObservedShard { uid: format!("made-a{index}"), created: Some(at(-1)), ..pending(index) }
            }
            Start::Replaced => {
                shard.template_hash = Some("template-0".into());
                shard.drain(DrainReason::Rollout, at(-8));
            }
            Start::ScaledIn => shard.drain(DrainReason::ScaleIn, at(-8)),
            Start::Lost => {
                shard.ready = false;
                shard.ready_changed = Some(at(-60));
                shard.report.as_mut().unwrap().at = at(-60);
            }
            Start::Failed => shard.phase = Phase::Failed,
        }
        if *start == Start::Deleted {
            shard.terminating = Some(at(-1));
        }
        world.observed.shards.push(shard);
    }
}

fn surges() -> impl Strategy<Value = Option<Portion>> {
    prop_oneof![Just(None), (1..6).prop_map(|count| Some(Portion::Count(count))), Just(Some(Portion::Percent("40%".into())))]
}

fn bounds(mode: u8, size: u32) -> serde_json::Value {
    let autoscaled =
        |min: u32, max: u32| json!({"autoscaling": {"minReplicas": min, "maxReplicas": max}, "limits": {"maxConnections": 4000}});
    match mode {
        0 => json!({"replicas": size}),
        1 => autoscaled(size, size),
        _ => autoscaled(1, size),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_rollout_ends_from_any_mix_of_states_and_costs_no_capacity(
        desired in 1_u32..30,
        surge in surges(),
        mode in 0_u8..3,
        starts in prop::collection::vec(prop::sample::select(STARTS), 0..34),
    ) {
        let mut world = World::settled(bounds(mode, desired), surge, desired);
        begin(&mut world, &starts);
        world.until_rolled_out(desired as usize)?;
    }

    #[test]
    fn shards_that_vanish_during_a_rollout_are_replaced_and_it_goes_on(
        desired in 1_u32..12,
        surge in surges(),
        vanish in prop::collection::vec((0_usize..80, 0_usize..40), 0..5),
    ) {
        let mut world = World::settled(json!({"replicas": desired}), surge, desired);
        world.apply("template-2", Fate::Serves);
        for step in 0..80 {
            for (_, which) in vanish.iter().filter(|(when, _)| *when == step) {
                let (count, now) = (world.observed.shards.len(), world.now);
                if let Some(shard) = world.observed.shards.get_mut(which % count.max(1)) {
                    shard.terminating = shard.terminating.or(Some(now));
                }
            }
            world.step()?;
        }
        world.until_rolled_out(desired as usize)?;
    }

    #[test]
    fn a_template_that_does_not_serve_freezes_and_the_old_one_or_a_third_ends_it(
        desired in 1_u32..30,
        surge in surges(),
        mode in 0_u8..3,
        fate in prop::sample::select(&[Fate::Unschedulable, Fate::BadImage, Fate::Crashes, Fate::NeverReady, Fate::Mute][..]),
        reverts in any::<bool>(),
    ) {
        let mut world = World::settled(bounds(mode, desired), surge, desired);
        let before = world.uids();
        world.apply("template-2", fate);
        for _ in 0..150 {
            let plan = world.step()?;
            prop_assert!(plan.drain.is_empty() && plan.delete.is_empty(), "{plan:?}");
        }
        let rolling = world.observed.rolling(world.now);
        let frozen = rolling.frozen_by(desired).map(|(_, trouble)| trouble.kind);
        let expected = match fate {
            Fate::Unschedulable => TroubleKind::Unschedulable,
            Fate::BadImage => TroubleKind::ImagePullFailed,
            Fate::Crashes => TroubleKind::CrashLooping,
            Fate::NeverReady | Fate::Mute | Fate::Serves => TroubleKind::NotReady,
        };
        prop_assert_eq!(frozen, Some(expected));
        prop_assert!(world.uids().is_superset(&before));

        if reverts {
            world.apply(crate::stages::fixture::TEMPLATE, Fate::Serves);
            world.until_rolled_out(desired as usize)?;
            prop_assert_eq!(world.uids(), before, "the old shards were not touched");
        } else {
            world.apply("template-3", Fate::Serves);
            world.until_rolled_out(desired as usize)?;
        }
    }

    #[test]
    fn a_rollout_taken_back_half_way_ends(desired in 1_u32..20, surge in surges(), after in 0_usize..40, size in 1_u32..20) {
        let mut world = World::settled(json!({"replicas": desired}), surge, desired);
        world.apply("template-2", Fate::Serves);
        for _ in 0..after {
            world.step()?;
        }
        // Another size at the same time, too.
        world.spec(|cluster| cluster.spec.replicas = i32::try_from(size).ok());
        world.apply(crate::stages::fixture::TEMPLATE, Fate::Serves);
        world.until_rolled_out(size as usize)?;
    }

    #[test]
    fn a_paused_rollout_stops_where_it_is(desired in 1_u32..20, surge in surges(), after in 0_usize..30) {
        let mut world = World::settled(json!({"replicas": desired}), surge, desired);
        world.apply("template-2", Fate::Serves);
        for _ in 0..after {
            world.step()?;
        }
        world.spec(|cluster| cluster.spec.paused = true);
        for _ in 0..30 {
            prop_assert!(world.step()?.is_empty());
        }
        world.spec(|cluster| cluster.spec.paused = false);
        world.until_rolled_out(desired as usize)?;
    }
}
