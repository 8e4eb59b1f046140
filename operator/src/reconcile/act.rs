//! Carries out what was decided: objects first, then pods. A write that is refused does not keep the others from being tried,
//! except that no pod is created before what it needs is there.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use mcp_crds::McpCluster;
use mcp_crds::control::KeyRing;
use mcp_crds::load::{DrainRequest, ShedRequest};

use super::turn::Turn;
use super::{Context, Judged};
use crate::apply::{Created, Writer};
use crate::desired::{self, pod};
use crate::error::{Object, Result};
use crate::events::News;
use crate::names;
use crate::observe::Shelved as _;
use crate::placement;
use crate::stages::{
    DeleteReason, DeleteStep, DrainReason, DrainStep, FailureReason, ObservedShard, PlacementStep, PodRef, Shed, ShedReason,
    elapsed,
};

/// Orders to shards under way at one time, for one cluster.
const ORDERS_AT_ONCE: usize = 64;

/// The hand that carries out one judgement.
pub(super) struct Hand<'a> {
    pub(super) context: &'a Context,
    pub(super) writer: &'a Writer,
    pub(super) cluster: &'a McpCluster,
    pub(super) judged: &'a Judged,
    keys: Option<Arc<KeyRing>>,
    pub(super) turn: &'a mut Turn,
    now: Timestamp,
}

// === impl Hand ===

impl<'a> Hand<'a> {
    pub(super) fn new(
        context: &'a Context,
        writer: &'a Writer,
        cluster: &'a McpCluster,
        judged: &'a Judged,
        turn: &'a mut Turn,
    ) -> Self {
        let keys = context.remember(cluster, |memory| memory.keys.clone()).map(|(keys, _)| keys);
        Self { context, writer, cluster, judged, keys, turn, now: judged.now }
    }

    /// Does everything that the judgement asks for.
    pub(super) async fn act(mut self) {
        let ready = self.apply().await;
        // What ended for good holds a name that a new shard may have.
        self.delete(|step| step.reason == DeleteReason::Finished).await;
        if ready {
            self.create().await;
        }
        self.mend().await;
        self.sync().await;
        self.cancel().await;
        // First in, then out: the client Service is never empty in between.
        if self.place(true).await {
            self.drain().await;
            self.place(false).await;
        }
        // After fences: those whose streams end here come back elsewhere.
        self.shed().await;
        self.delete(|step| step.reason != DeleteReason::Finished).await;
    }

    pub(super) async fn attempt<T>(&mut self, object: &Object, write: impl Future<Output = Result<T>>) -> Option<T> {
        self.turn.attempt(self.context, self.cluster, object, write).await
    }

    async fn create(&mut self) {
        let (sync, writer) = (self.sync_mark(), self.writer);
        let pods = self.judged.plan.create.iter().map(|index| {
            let mut pod = pod::shard_pod(self.cluster, &self.judged.rendered, *index);
            if let Some(sync) = &sync {
                pod.metadata.annotations.get_or_insert_default().insert(names::ANNOTATION_SYNC.to_owned(), sync.clone());
            }
            let object = Object::of::<Pod>(pod.metadata.name.as_deref().unwrap_or_default());
            ((*index, object.clone()), object, async move { writer.create_pod(&pod).await })
        });
        for ((index, object), created) in self.turn.attempt_all(self.context, self.cluster, pods).await {
            match created {
                Created::New => tracing::info!(shard = %object.name, template = %self.judged.rendered.hash, "created"),
                Created::Already => {}
                Created::Taken => {
                    self.context.remember(self.cluster, |memory| memory.take(index, self.now));
                    let note = format!("{object} exists and does not belong to this McpCluster: its name is left out.");
                    self.turn.tell(News::warning(FailureReason::NameConflict.as_str(), "Create", note));
                }
            }
        }
    }

    /// Touches pods whose mounted objects changed, so that the kubelet brings the change within seconds.
    async fn sync(&mut self) {
        let Some(mark) = self.sync_mark() else { return };
        let (pods, namespace) = (&self.context.stores.pods, desired::namespace_of(self.cluster));
        let old = |shard: &&ObservedShard| {
            let pod = pods.get(namespace, &shard.name).filter(|pod| pod.uid() == Some(shard.uid.as_str()));
            shard.terminating.is_none() && pod.as_ref().and_then(|pod| pod.sync()) != Some(mark.as_str())
        };
        let (writer, annotations) = (self.writer, &[(names::ANNOTATION_SYNC, Some(mark.as_str()))]);
        let marks = self.judged.observed.shards.iter().filter(old).map(|shard| {
            ((), Object::of::<Pod>(&shard.name), async move { writer.label_pod(&shard.pod(), &[], annotations).await })
        });
        self.turn.attempt_all(self.context, self.cluster, marks).await;
    }

    /// What the mounted objects are now: the annotation that says so is on every pod.
    fn sync_mark(&self) -> Option<String> {
        self.context.remember(self.cluster, |memory| {
            let hash = memory.catalog.published.clone().flatten()?;
            let needs = memory.catalog.compiled.as_ref().is_some_and(|compiled| !compiled.credentials.is_empty());
            if needs && memory.catalog.credentials.is_none() {
                return None; // not known yet
            }
            let keys = desired::key_ring_mark(&memory.keys.as_ref()?.0);
            let digits = |text: &str| text.chars().take(12).collect::<String>();
            Some(match &memory.catalog.credentials {
                Some(credentials) => format!("{}-{keys}-{}", digits(&hash), digits(credentials)),
                None => format!("{}-{keys}", digits(&hash)),
            })
        })
    }

    /// Takes drains back: the shard first, because a pod that is placed and drains would refuse its clients.
    async fn cancel(&mut self) {
        let request = DrainRequest { cancel: true, ..DrainRequest::default() };
        for pod in &self.judged.plan.cancel {
            if !self.order(pod, &request).await {
                continue;
            }
            let labels = [(names::LABEL_STATE, Some(names::STATE_ACTIVE)), (names::LABEL_PLACED, Some(names::PLACED))];
            let annotations = [(names::ANNOTATION_DRAIN_REASON, None), (names::ANNOTATION_DRAIN_STARTED, None)];
            let write = self.writer.label_pod(pod, &labels, &annotations);
            if self.attempt(&Object::of::<Pod>(&pod.name), write).await.is_some() {
                tracing::info!(shard = %pod.name, "drain taken back");
            }
        }
    }

    /// Starts drains, and repeats the order to shards that do not say that they drain. The mark comes first: it survives this
    /// process, and it takes the shard out of placement.
    async fn drain(&mut self) {
        let mut orders = vec![];
        let kept = placement::kept(&self.judged.observed, &self.judged.plan, self.now);
        for step in &self.judged.plan.drain {
            if !step.marked {
                let started = step.started.to_string();
                let placed = if kept.as_ref() == Some(&step.pod) { names::PLACED } else { names::NOT_PLACED };
                let labels = [(names::LABEL_STATE, Some(names::STATE_DRAINING)), (names::LABEL_PLACED, Some(placed))];
                let annotations = [
                    (names::ANNOTATION_DRAIN_REASON, Some(step.reason.as_str())),
                    (names::ANNOTATION_DRAIN_STARTED, Some(started.as_str())),
                ];
                let write = self.writer.label_pod(&step.pod, &labels, &annotations);
                if self.attempt(&Object::of::<Pod>(&step.pod.name), write).await.is_none() {
                    continue;
                }
                let note = self.drain_note(step);
                tracing::info!(shard = %step.pod.name, reason = step.reason.as_str(), "draining");
                self.turn.tell(News::normal(step.reason.as_str(), "Drain", note));
            }
            let timeout = self.cluster.spec.drain.timeout.or_zero().saturating_sub(elapsed(step.started, self.now));
            let window = self.cluster.spec.drain.window.or_zero().min(timeout);
            let request = DrainRequest { window_ms: milliseconds(window), timeout_ms: milliseconds(timeout), cancel: false };
            orders.push((&step.pod, request));
        }
        // Side by side: those of a dead node cost a second each.
        let orders: Vec<_> = orders.iter().map(|(pod, request)| self.order(pod, request)).collect();
        stream::iter(orders).buffer_unordered(ORDERS_AT_ONCE).for_each(|_| std::future::ready(())).await;
    }

    /// Tells hot shards to end some streams. What is not obeyed now is decided anew a step later.
    async fn shed(&mut self) {
        let Some(keys) = self.keys.clone() else { return };
        let (judged, shards) = (self.judged, &self.context.shards);
        let addressed = judged.decision.sheds.iter().filter_map(|shed| {
            let shard = judged.observed.shards.iter().find(|shard| shard.uid == shed.pod.uid)?;
            Some((shed, shard.address.as_deref()?))
        });
        let orders: Vec<_> = addressed
            .map(|(shed, address)| {
                let (keys, request) = (&keys, ShedRequest { bytes: shed.bytes, streams: shed.streams });
                async move { (shed, shards.shed(address, keys, &request, Timestamp::now()).await) }
            })
            .collect();
        let mut done = stream::iter(orders).buffer_unordered(ORDERS_AT_ONCE);
        while let Some((shed, answer)) = done.next().await {
            match answer {
                Ok(answer) => {
                    tracing::info!(shard = %shed.pod.name, ended = answer.ended, asked = shed.streams, "streams shed");
                    if answer.ended > 0 {
                        self.turn.tell(shed_news(shed));
                    }
                }
                Err(error) => {
                    tracing::info!(shard = %shed.pod.name, error = %crate::telemetry::chain(&error), "order not taken");
                }
            }
        }
    }

    /// Says whom a drain costs what; for a rollout, also for which difference.
    fn drain_note(&self, step: &DrainStep) -> String {
        let shard = self.judged.observed.shards.iter().find(|shard| shard.uid == step.pod.uid);
        let load =
            shard.and_then(|shard| shard.report.as_ref()).map(|received| (received.report.streams, received.report.in_flight));
        let holds = match load {
            Some((streams, in_flight)) => {
                format!("{} drains: it holds {streams} streams and {in_flight} requests.", step.pod.name)
            }
            None => format!("{} drains, and does not report what it holds.", step.pod.name),
        };
        match step.reason {
            DrainReason::Rollout => match self.difference(&step.pod) {
                Some(difference) => format!("{holds} {difference}"),
                None => holds,
            },
            DrainReason::ScaleIn | DrainReason::Recycle | DrainReason::Eviction | DrainReason::NodeDrain => holds,
        }
    }

    /// The first difference between the template a shard was born with and the present one.
    fn difference(&self, pod: &PodRef) -> Option<String> {
        let known = self.context.stores.pods.get(desired::namespace_of(self.cluster), &pod.name)?;
        let born = known.template()?;
        let now = serde_json::to_value(&self.judged.rendered.template).ok()?;
        pod::difference(&serde_json::from_str(born).ok()?, &now)
    }

    /// Sends an order to a shard; returns whether it obeys. A shard that cannot be reached is told again by the next pass.
    async fn order(&self, pod: &PodRef, request: &DrainRequest) -> bool {
        let shard = self.judged.observed.shards.iter().find(|shard| shard.uid == pod.uid);
        let Some((address, keys)) = shard.and_then(|shard| shard.address.as_deref()).zip(self.keys.as_deref()) else {
            return false;
        };
        match self.context.shards.drain(address, keys, request, Timestamp::now()).await {
            Ok(()) => true,
            Err(error) => {
                tracing::info!(shard = %pod.name, error = %crate::telemetry::chain(&error), "order not taken");
                false
            }
        }
    }

    /// Takes shards into the client Service, or out of it, which cuts no stream. Returns whether all of it was done.
    async fn place(&mut self, into: bool) -> bool {
        let handled = |pod: &PodRef| {
            let plan = &self.judged.plan;
            plan.cancel.contains(pod) || plan.drain.iter().any(|step| !step.marked && step.pod == *pod)
        };
        let mut done = true;
        for PlacementStep { pod, placed } in self.judged.placement.iter().filter(|step| step.placed == into) {
            if handled(pod) {
                continue;
            }
            let labels = [(names::LABEL_PLACED, Some(if *placed { names::PLACED } else { names::NOT_PLACED }))];
            let write = self.writer.label_pod(pod, &labels, &[]);
            let written = self.turn.attempt(self.context, self.cluster, &Object::of::<Pod>(&pod.name), write).await;
            if written.is_some() {
                tracing::info!(shard = %pod.name, placed, "placement changed");
            }
            done &= written.is_some();
        }
        done
    }

    async fn delete(&mut self, now: fn(&DeleteStep) -> bool) {
        let writer = self.writer;
        let steps = self.judged.plan.delete.iter().filter(|step| now(step));
        let steps = steps.map(|step| (step, Object::of::<Pod>(&step.pod.name), writer.delete_pod(&step.pod)));
        for (DeleteStep { pod, reason }, ()) in self.turn.attempt_all(self.context, self.cluster, steps).await {
            tracing::info!(shard = %pod.name, reason = reason.as_str(), "deleted");
            // What finishes a drain was told when it began.
            if *reason != DeleteReason::Drained {
                let difference = self.difference(pod).unwrap_or_default();
                let shard = self.judged.observed.shards.iter().find(|shard| shard.uid == pod.uid);
                let note = format!("{} is deleted: {} {difference}", pod.name, why_deleted(*reason, shard));
                self.turn.tell(News::normal(reason.as_str(), "Delete", note.trim_end().to_owned()));
            }
        }
    }
}

/// Shards that are meant to be there when this pass is over, without a rollout's surge: what the disruption budget counts. A
/// shard that is about to take the place of an evicted one is among them, or each eviction would lower the budget for a
/// moment, and allow the next. Shards that are too many are, until each begins to drain: the budget goes down with them.
pub(super) fn active(judged: &Judged) -> u32 {
    let leaving = |shard: &&ObservedShard| judged.plan.drain.iter().any(|step| step.pod.uid == shard.uid);
    let staying = judged.observed.shards.iter().filter(|shard| shard.draining.is_none() && shard.terminating.is_none());
    let staying = staying.filter(|shard| !leaving(shard)).count() + judged.plan.cancel.len() + judged.plan.create.len();
    let regular = judged.decision.numbers.current.saturating_add(judged.decision.create).max(judged.decision.desired);
    u32::try_from(staying).unwrap_or(u32::MAX).min(regular)
}

/// Why a pod is deleted, in words.
fn why_deleted(reason: DeleteReason, shard: Option<&ObservedShard>) -> String {
    match reason {
        DeleteReason::Drained => "it is drained.".into(),
        DeleteReason::NeverReady => "it never took a connection.".into(),
        DeleteReason::NotRunning => "its process does not run.".into(),
        DeleteReason::DeadlineExceeded => {
            let left = shard.and_then(|shard| shard.report.as_ref()).map(|received| &received.report);
            let left = left.map(|report| format!(" with {} streams and {} requests left", report.streams, report.in_flight));
            format!("`drain.timeout` has passed{}.", left.unwrap_or_default())
        }
        DeleteReason::Finished => {
            // What the kubelet says of an eviction names the container that took too much.
            let words = shard.and_then(|shard| shard.phase_message.as_deref()).unwrap_or_default();
            format!("its pod has ended for good. {words}").trim_end().to_owned()
        }
        DeleteReason::Lost => "it is neither Ready nor heard of, and another is in its place.".into(),
    }
}

/// The same words for every step, so that the events of one shard are one, counted.
fn shed_news(shed: &Shed) -> News {
    let name = &shed.pod.name;
    match shed.reason {
        ShedReason::Memory => News::warning(
            "Shedding",
            "Shed",
            format!(
                "{name} is over its memory target while others have room: it ends streams, largest first, at most 5 % a minute."
            ),
        ),
        ShedReason::Rebalance => News::normal(
            "Rebalancing",
            "Shed",
            format!("{name} is fuller than others: it ends streams, so that agents move (`autoscaling.rebalance`)."),
        ),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::pod::Rendered;
    use crate::placement::Flips;
    use crate::scale::History;
    use crate::stages::fixture::{Cluster, at};
    use crate::stages::{Decision, Plan};

    /// What the budget counts when `create` shards are about to be created.
    fn counted(cluster: Cluster, desired: u32, create: &[u32]) -> u32 {
        active(&Judged {
            observed: cluster.observed,
            rendered: Rendered { template: pod::Template::default(), hash: String::new() },
            decision: Decision { desired, ..Decision::default() },
            history: History::default(),
            plan: Plan { create: create.to_vec(), ..Plan::default() },
            placement: vec![],
            flips: Flips::default(),
            now: at(0),
        })
    }

    #[test]
    fn the_budget_does_not_fall_with_an_eviction_whose_shard_is_replaced() {
        let evicted = Cluster::manual(10).with_ready(10).shard(3, |shard| shard.terminating = Some(at(-1)));
        assert_eq!(counted(evicted.clone(), 10, &[10]), 10);
        assert_eq!(counted(evicted.with_pending(1), 10, &[]), 10);
    }

    #[test]
    fn an_eviction_by_the_kubelet_is_told_in_its_words() {
        let words = "Evicted: The node was low on resource: memory.";
        let evicted = Cluster::manual(1).with_ready(1).shard(0, |shard| shard.phase_message = Some(words.into())).observed;
        let told = |shard| why_deleted(DeleteReason::Finished, shard);
        assert_eq!(told(evicted.shards.first()), format!("its pod has ended for good. {words}"));
        assert_eq!(told(None), "its pod has ended for good.");
    }

    #[test]
    fn the_budget_counts_no_surge_and_no_shard_that_cannot_be_created() {
        assert_eq!(counted(Cluster::manual(3).with_ready(3), 3, &[3]), 3);
        assert_eq!(counted(Cluster::manual(10).with_ready(4), 10, &[]), 4);
    }
}
