//! Carries out what was decided: objects first, then pods. A write that is refused does not keep the others from being tried,
//! except that no pod is created before what it needs is there.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use mcp_crds::McpCluster;
use mcp_crds::control::KeyRing;
use mcp_crds::load::DrainRequest;

use super::{Context, Judged};
use crate::apply::{Created, Writer};
use crate::desired::{self, pod};
use crate::error::{Error, Object, Result};
use crate::events::News;
use crate::names;
use crate::stages::{
    Applied, DeleteReason, DeleteStep, DrainReason, DrainStep, Failure, FailureReason, ObservedShard, PlacementStep, PodRef,
    elapsed,
};

/// Pods that are written at one time, for one cluster.
const AT_ONCE: usize = 16;

/// What one pass tried, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Turn {
    tried: BTreeSet<String>,
    news: Vec<News>,
    published: Option<String>,
}

// === impl Turn ===

impl Turn {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Tries a write, unless it was refused lately; keeps what refused it for the status. None when it did not happen.
    pub(super) async fn attempt<T>(
        &mut self,
        context: &Context,
        cluster: &McpCluster,
        object: &Object,
        write: impl Future<Output = Result<T>>,
    ) -> Option<T> {
        let key = object.to_string();
        self.tried.insert(key.clone());
        let now = Timestamp::now();
        if !context.remember(cluster, |memory| memory.is_due(&key, now)) {
            return None;
        }
        match write.await {
            Ok(value) => {
                context.remember(cluster, |memory| memory.accept(&key));
                Some(value)
            }
            Err(error) => {
                let failure = failure(&key, &error);
                let jitter = context.jitter();
                tracing::debug!(object = %key, error = %crate::telemetry::chain(&error), "refused");
                if context.remember(cluster, |memory| memory.refuse(failure.clone(), now, jitter)) {
                    let note = format!("{}: {}", failure.object, failure.message);
                    self.news.push(News::warning(failure.reason.as_str(), "Apply", note));
                }
                None
            }
        }
    }

    /// What came of it, for the status. A refusal of something that nobody wants any more is forgotten.
    pub(super) fn finish(&mut self, context: &Context, cluster: &McpCluster) -> Applied {
        let failures = context.remember(cluster, |memory| {
            memory.refused.retain(|object, _| self.tried.contains(object));
            memory.refused.values().map(|refused| refused.failure.clone()).collect()
        });
        Applied { published: self.published.take(), failures }
    }

    pub(super) fn into_news(self) -> Vec<News> {
        self.news
    }
}

fn failure(object: &str, error: &Error) -> Failure {
    let message = error.sentence();
    let reason = match error {
        Error::NameConflict { .. } => FailureReason::NameConflict,
        other => FailureReason::of_response(other.code().unwrap_or_default(), &message),
    };
    Failure { reason, object: object.to_owned(), message }
}

// === impl Context ===

impl Context {
    pub(super) async fn act(&self, writer: &Writer, cluster: &McpCluster, judged: &Judged, turn: &mut Turn, now: Timestamp) {
        let ready = self.act_on_objects(writer, cluster, judged, turn).await;
        if ready {
            self.create(writer, cluster, judged, turn, now).await;
        }
        let keys = self.remember(cluster, |memory| memory.keys.clone()).map(|(keys, _)| keys);
        self.sync(writer, cluster, judged, turn).await;
        self.cancel(writer, cluster, judged, keys.as_deref(), turn).await;
        self.drain(writer, cluster, judged, keys.as_deref(), turn, now).await;
        self.place(writer, cluster, judged, turn).await;
        self.delete(writer, cluster, judged, turn).await;
    }

    /// Applies every object but the pods; returns whether all that a pod needs is there.
    async fn act_on_objects(&self, writer: &Writer, cluster: &McpCluster, judged: &Judged, turn: &mut Turn) -> bool {
        let mut ready = self.remember(cluster, |memory| memory.keys.is_some());
        for object in desired::objects(cluster, &self.surroundings(), active(judged)) {
            let name = object.name().to_owned();
            match object {
                desired::Object::ServiceAccount(object) => {
                    let key = Object::of::<k8s_openapi::api::core::v1::ServiceAccount>(&name);
                    ready &= turn.attempt(self, cluster, &key, writer.apply(desired::seal(object))).await.is_some();
                }
                desired::Object::Service(object) => {
                    let key = Object::of::<k8s_openapi::api::core::v1::Service>(&name);
                    turn.attempt(self, cluster, &key, writer.apply(desired::seal(object))).await;
                }
                desired::Object::PodDisruptionBudget(object) => {
                    let key = Object::of::<k8s_openapi::api::policy::v1::PodDisruptionBudget>(&name);
                    turn.attempt(self, cluster, &key, writer.apply(desired::seal(object))).await;
                }
                desired::Object::NetworkPolicy(object) => {
                    let key = Object::of::<NetworkPolicy>(&name);
                    turn.attempt(self, cluster, &key, writer.apply(desired::seal(object))).await;
                }
            }
        }
        if cluster.spec.network_policy.is_none() {
            let name = names::network_policy(desired::name_of(cluster));
            let key = Object::of::<NetworkPolicy>(&name);
            turn.attempt(self, cluster, &key, writer.prune::<NetworkPolicy>(&name)).await;
        }
        turn.published = self.publish(writer, cluster, turn).await;
        ready && turn.published.is_some()
    }

    async fn create(&self, writer: &Writer, cluster: &McpCluster, judged: &Judged, turn: &mut Turn, now: Timestamp) {
        let sync = self.sync_mark(cluster);
        for index in &judged.plan.create {
            let mut pod = pod::shard_pod(cluster, &judged.rendered, *index);
            if let Some(sync) = &sync {
                pod.metadata.annotations.get_or_insert_default().insert(names::ANNOTATION_SYNC.to_owned(), sync.clone());
            }
            let key = Object::of::<Pod>(pod.metadata.name.as_deref().unwrap_or_default());
            match turn.attempt(self, cluster, &key, writer.create_pod(&pod)).await {
                Some(Created::New) => tracing::info!(shard = %key.name, template = %judged.rendered.hash, "created"),
                Some(Created::Already) | None => {}
                Some(Created::Taken) => {
                    self.remember(cluster, |memory| memory.take(*index, now));
                    let note = format!("{key} exists and does not belong to this McpCluster: its name is left out.");
                    turn.news.push(News::warning(FailureReason::NameConflict.as_str(), "Create", note));
                }
            }
        }
    }

    /// Touches pods whose mounted objects changed, so that the kubelet brings the change within seconds.
    async fn sync(&self, writer: &Writer, cluster: &McpCluster, judged: &Judged, turn: &mut Turn) {
        let Some(mark) = self.sync_mark(cluster) else { return };
        let pods = self.stores.pods.in_namespace(desired::namespace_of(cluster));
        let old = |shard: &&ObservedShard| {
            let pod = pods.iter().find(|pod| pod.metadata.uid.as_deref() == Some(shard.uid.as_str()));
            let annotations = pod.and_then(|pod| pod.metadata.annotations.as_ref());
            shard.terminating.is_none() && annotations.and_then(|all| all.get(names::ANNOTATION_SYNC)) != Some(&mark)
        };
        let annotations = [(names::ANNOTATION_SYNC, Some(mark.as_str()))];
        let outdated = judged.observed.shards.iter().filter(old);
        let touches: Vec<_> = outdated
            .map(|shard| async { (shard.name.clone(), writer.label_pod(&shard.pod(), &[], &annotations).await) })
            .collect();
        let mut touched = stream::iter(touches).buffer_unordered(AT_ONCE);
        while let Some((name, result)) = touched.next().await {
            turn.attempt(self, cluster, &Object::of::<Pod>(&name), std::future::ready(result)).await;
        }
    }

    /// What the mounted objects are now: the annotation that says so is on every pod.
    fn sync_mark(&self, cluster: &McpCluster) -> Option<String> {
        self.remember(cluster, |memory| {
            let hash = memory.catalog.published.clone().flatten()?;
            let digits = |text: &str| text.chars().take(12).collect::<String>();
            Some(match &memory.catalog.credentials {
                Some(credentials) => format!("{}-{}", digits(&hash), digits(credentials)),
                None => digits(&hash),
            })
        })
    }

    /// Takes drains back: the shard first, because a pod that is placed and drains would refuse its clients.
    async fn cancel(&self, writer: &Writer, cluster: &McpCluster, judged: &Judged, keys: Option<&KeyRing>, turn: &mut Turn) {
        let request = DrainRequest { cancel: true, ..DrainRequest::default() };
        for pod in &judged.plan.cancel {
            if !self.order(judged, pod, keys, &request).await {
                continue;
            }
            let labels = [(names::LABEL_STATE, Some(names::STATE_ACTIVE)), (names::LABEL_PLACED, Some(names::PLACED))];
            let annotations = [(names::ANNOTATION_DRAIN_REASON, None), (names::ANNOTATION_DRAIN_STARTED, None)];
            let write = writer.label_pod(pod, &labels, &annotations);
            if turn.attempt(self, cluster, &Object::of::<Pod>(&pod.name), write).await.is_some() {
                tracing::info!(shard = %pod.name, "drain taken back");
            }
        }
    }

    /// Starts drains, and repeats the order to shards that do not say that they drain. The mark comes first: it survives this
    /// process, and it takes the shard out of placement.
    async fn drain(
        &self,
        writer: &Writer,
        cluster: &McpCluster,
        judged: &Judged,
        keys: Option<&KeyRing>,
        turn: &mut Turn,
        now: Timestamp,
    ) {
        for step in &judged.plan.drain {
            if !step.marked {
                let started = step.started.to_string();
                let labels = [(names::LABEL_STATE, Some(names::STATE_DRAINING)), (names::LABEL_PLACED, Some(names::NOT_PLACED))];
                let annotations = [
                    (names::ANNOTATION_DRAIN_REASON, Some(step.reason.as_str())),
                    (names::ANNOTATION_DRAIN_STARTED, Some(started.as_str())),
                ];
                let write = writer.label_pod(&step.pod, &labels, &annotations);
                if turn.attempt(self, cluster, &Object::of::<Pod>(&step.pod.name), write).await.is_none() {
                    continue;
                }
                let note = self.drain_note(cluster, judged, step);
                tracing::info!(shard = %step.pod.name, reason = step.reason.as_str(), "draining");
                turn.news.push(News::normal(step.reason.as_str(), "Drain", note));
            }
            let timeout = cluster.spec.drain.timeout.or_zero().saturating_sub(elapsed(step.started, now));
            let window = cluster.spec.drain.window.or_zero().min(timeout);
            let request = DrainRequest { window_ms: milliseconds(window), timeout_ms: milliseconds(timeout), cancel: false };
            self.order(judged, &step.pod, keys, &request).await;
        }
    }

    /// Says whom a drain costs what; for a rollout, also for which difference.
    fn drain_note(&self, cluster: &McpCluster, judged: &Judged, step: &DrainStep) -> String {
        let shard = judged.observed.shards.iter().find(|shard| shard.uid == step.pod.uid);
        let load =
            shard.and_then(|shard| shard.report.as_ref()).map(|received| (received.report.streams, received.report.in_flight));
        let holds = match load {
            Some((streams, in_flight)) => format!("{} holds {streams} streams and {in_flight} requests.", step.pod.name),
            None => format!("{} does not report what it holds.", step.pod.name),
        };
        match step.reason {
            DrainReason::Rollout => match self.difference(cluster, judged, &step.pod) {
                Some(difference) => format!("{holds} {difference}"),
                None => holds,
            },
            DrainReason::ScaleIn | DrainReason::Recycle | DrainReason::Eviction | DrainReason::NodeDrain => holds,
        }
    }

    /// The first difference between the template a shard was born with and the present one.
    fn difference(&self, cluster: &McpCluster, judged: &Judged, pod: &PodRef) -> Option<String> {
        let known = self.stores.pods.get(desired::namespace_of(cluster), &pod.name)?;
        let born = known.metadata.annotations.as_ref()?.get(names::ANNOTATION_TEMPLATE)?;
        let now = serde_json::to_value(&judged.rendered.template).ok()?;
        pod::difference(&serde_json::from_str(born).ok()?, &now)
    }

    /// Sends an order to a shard; returns whether it obeys. A shard that cannot be reached is told again by the next pass.
    async fn order(&self, judged: &Judged, pod: &PodRef, keys: Option<&KeyRing>, request: &DrainRequest) -> bool {
        let shard = judged.observed.shards.iter().find(|shard| shard.uid == pod.uid);
        let Some((address, keys)) = shard.and_then(|shard| shard.address.as_deref()).zip(keys) else { return false };
        match self.shards.drain(address, keys, request, Timestamp::now()).await {
            Ok(()) => true,
            Err(error) => {
                tracing::info!(shard = %pod.name, error = %crate::telemetry::chain(&error), "order not taken");
                false
            }
        }
    }

    /// Takes shards out of the client Service, or back in. Fencing cuts no stream.
    async fn place(&self, writer: &Writer, cluster: &McpCluster, judged: &Judged, turn: &mut Turn) {
        let handled = |pod: &PodRef| {
            let plan = &judged.plan;
            plan.cancel.contains(pod) || plan.drain.iter().any(|step| !step.marked && step.pod == *pod)
        };
        for PlacementStep { pod, placed } in judged.placement.iter().filter(|step| !handled(&step.pod)) {
            let labels = [(names::LABEL_PLACED, Some(if *placed { names::PLACED } else { names::NOT_PLACED }))];
            let write = writer.label_pod(pod, &labels, &[]);
            if turn.attempt(self, cluster, &Object::of::<Pod>(&pod.name), write).await.is_some() {
                tracing::info!(shard = %pod.name, placed, "placement changed");
            }
        }
    }

    async fn delete(&self, writer: &Writer, cluster: &McpCluster, judged: &Judged, turn: &mut Turn) {
        let steps = judged.plan.delete.iter();
        let deletes: Vec<_> = steps.map(|step| async move { (step, writer.delete_pod(&step.pod).await) }).collect();
        let mut deleted = stream::iter(deletes).buffer_unordered(AT_ONCE);
        while let Some((DeleteStep { pod, reason }, result)) = deleted.next().await {
            let object = Object::of::<Pod>(&pod.name);
            if turn.attempt(self, cluster, &object, std::future::ready(result)).await.is_some() {
                tracing::info!(shard = %pod.name, reason = reason.as_str(), "deleted");
                // What finishes a drain was told when it began.
                if *reason != DeleteReason::Drained {
                    let difference = self.difference(cluster, judged, pod).unwrap_or_default();
                    let note = format!("{} is deleted. {difference}", pod.name);
                    turn.news.push(News::normal(reason.as_str(), "Delete", note.trim_end().to_owned()));
                }
            }
        }
    }
}

/// Shards that are meant to be there when this pass is over: what the disruption budget counts.
fn active(judged: &Judged) -> u32 {
    let leaving = |shard: &&ObservedShard| judged.plan.drain.iter().any(|step| step.pod.uid == shard.uid);
    let staying = judged.observed.shards.iter().filter(|shard| shard.draining.is_none() && shard.terminating.is_none());
    let staying = staying.filter(|shard| !leaving(shard)).count() + judged.plan.cancel.len();
    u32::try_from(staying).unwrap_or(u32::MAX).min(judged.decision.desired.max(1))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
