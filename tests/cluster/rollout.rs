//! A changed template: replaced shard by shard, frozen when it does not serve, held while paused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use mcp_tests::cluster::{CLUSTER_LABEL, STARTS_WITHIN, STATE_LABEL, has_condition, is_ready, message, uid};
use mcp_tests::traffic::Streams;
use mcp_tests::wait::{eventually, throughout};
use mcp_tests::{Cluster, Failure, Namespace, Outcome, claim, claim_eq};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::manifest::small;

/// Of two or three shards one after the other: a start, ten seconds for the endpoints to follow, a window, on a busy machine.
const ROLLS_WITHIN: Duration = Duration::from_mins(3);
/// What an operator that does something does within this time, several times over: it asks its shards every five seconds.
const LONG_ENOUGH: Duration = Duration::from_secs(12);

/// Every state of a cluster's pods, watched without a gap. Dropping it ends the watch.
struct Fleet {
    seen: Arc<Mutex<Seen>>,
    reader: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    pods: BTreeMap<String, Pod>,
    /// Most pods at one time that nobody had told to end.
    most: usize,
    /// Most of these at one time that drained.
    most_draining: usize,
    /// Fewest Ready ones at one time that stay.
    fewest: Option<usize>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Fleet {
    fn watch(cluster: &Cluster) -> Self {
        let ours = Config::default().labels(&format!("{CLUSTER_LABEL}={}", cluster.name()));
        let events = watcher(cluster.namespace().api::<Pod>(), ours);
        let seen = Arc::<Mutex<Seen>>::default();
        let reader = {
            let seen = seen.clone();
            tokio::spawn(async move {
                pin_mut!(events);
                while let Some(event) = events.next().await {
                    // What breaks a watch is tried again by it.
                    if let Ok(event) = event {
                        seen.lock().unwrap_or_else(PoisonError::into_inner).take(event);
                    }
                }
            })
        };
        Self { seen, reader }
    }

    /// Claims how many pods there were at most, drains included; how many drained at most; and how many served at least.
    fn kept(&self, most: usize, most_draining: usize, fewest: usize) -> Outcome {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        claim!(seen.most <= most, "{} pods at one time, of {most} that the surge allows", seen.most);
        claim_eq!(seen.most_draining, most_draining, "most drains at one time");
        claim_eq!(seen.fewest, Some(fewest), "fewest Ready shards at one time");
        Ok(())
    }
}

impl Seen {
    fn take(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.pods.clear(),
            Event::InitApply(pod) | Event::Apply(pod) => drop(self.pods.insert(uid(&pod), pod)),
            Event::Delete(pod) => drop(self.pods.remove(&uid(&pod))),
            Event::InitDone => self.fewest = self.fewest.or(Some(usize::MAX)),
        }
        let Some(fewest) = self.fewest else { return };
        let there = || self.pods.values().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        self.most = self.most.max(there().count());
        self.most_draining = self.most_draining.max(there().filter(|pod| is_draining(pod)).count());
        self.fewest = Some(fewest.min(there().filter(|pod| is_ready(pod) && !is_draining(pod)).count()));
    }
}

fn is_draining(pod: &Pod) -> bool {
    pod.labels().get(STATE_LABEL).is_some_and(|state| state == "draining")
}

async fn uids(cluster: &Cluster) -> Outcome<BTreeSet<String>> {
    Ok(cluster.pods().await?.iter().map(uid).collect())
}

async fn min_available(cluster: &Cluster) -> Outcome<Option<IntOrString>> {
    let budget = cluster.namespace().api::<PodDisruptionBudget>().get(cluster.name()).await?;
    Ok(budget.spec.and_then(|spec| spec.min_available))
}

async fn until_min_available(cluster: &Cluster, expected: i32) -> Outcome {
    eventually(&format!("a budget of {expected}"), STARTS_WITHIN, || async {
        claim_eq!(min_available(cluster).await?, Some(IntOrString::Int(expected)), "minAvailable");
        Ok(())
    })
    .await
}

/// Waits until no pod is left that was there before, and so many others have settled.
async fn until_replaced(cluster: &Cluster, before: &BTreeSet<String>, shards: i32) -> Outcome {
    eventually("the end of every old shard", ROLLS_WITHIN, || async {
        let left = uids(cluster).await?.intersection(before).count();
        claim!(left == 0, "{left} of {} are left", before.len());
        Ok(())
    })
    .await?;
    cluster.until_settled(shards, STARTS_WITHIN).await?;
    Ok(())
}

/// A restart as people ask for it. It is paused when the first shard drains, and so is a change of size.
pub(crate) async fn a_restart_replaces_one_at_a_time_and_stops_while_paused(namespace: Namespace) -> Outcome {
    namespace.apply(&small("turn", &json!({"replicas": 3, "drain": {"window": "2s", "timeout": "30s"}})).to_string()).await?;
    let cluster = namespace.cluster("turn");
    cluster.until_settled(3, STARTS_WITHIN).await?;
    until_min_available(&cluster, 2).await?;
    let before = uids(&cluster).await?;
    let streams = Streams::on_each_shard(&cluster, 3).await?;
    let fleet = Fleet::watch(&cluster);

    let patch =
        r#"{"spec":{"podTemplate":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"2026-11-23T17:02:11Z"}}}}}"#;
    namespace.kubectl(&["patch", "mcpcluster", "turn", "--type=merge", "-p", patch]).await?;
    cluster.until_condition("Progressing", "True", "RollingOut", STARTS_WITHIN).await?;
    cluster.until_condition("Ready", "False", "RollingOut", STARTS_WITHIN).await?;
    let victim = eventually("a draining shard", STARTS_WITHIN, || async {
        cluster.pods().await?.into_iter().find(is_draining).ok_or_else(|| Failure::new("none"))
    })
    .await?;
    cluster.patch(&json!({"spec": {"paused": true, "replicas": 5}})).await?;
    let paused = cluster.until_condition("Progressing", "False", "Paused", STARTS_WITHIN).await?;
    cluster.until_event("Rollout", "kubectl.kubernetes.io/restartedAt", STARTS_WITHIN).await?;
    has_condition(&paused, "Available", "True", "ShardsReady").map_err(Failure::new)?;
    // What was told to drain ends its streams; that it is not deleted is the pause.
    let victim = victim.name_any();
    streams.until_ended_on(&victim, STARTS_WITHIN).await?;
    let held = cluster.pods().await?.iter().map(|pod| (uid(pod), is_draining(pod))).collect::<BTreeSet<_>>();
    claim_eq!(held.len(), 4, "pods: three, and the surge");
    throughout("nothing is created, drained or deleted while paused", LONG_ENOUGH, || async {
        let now = cluster.pods().await?;
        claim!(now.iter().all(|pod| pod.metadata.deletion_timestamp.is_none()), "a pod was told to end");
        claim_eq!(
            now.iter().map(|pod| (uid(pod), is_draining(pod))).collect::<BTreeSet<_>>(),
            held,
            "pods, and whether they drain"
        );
        Ok(())
    })
    .await?;
    streams.none_ended_but_on(&[&victim])?;
    streams.all_ended_gracefully_on(&victim)?;

    cluster.patch(&json!({"spec": {"paused": false, "replicas": 3}})).await?;
    until_replaced(&cluster, &before, 3).await?;
    fleet.kept(4, 1, 3)?;
    let events = cluster.events().await?;
    let drains = events.iter().filter(|event| event.reason.as_deref() == Some("Rollout")).count();
    claim_eq!(drains, 3, "drains for the rollout, told");
    for shard in ["turn-0", "turn-1", "turn-2"] {
        streams.all_ended_gracefully_on(shard)?;
    }
    until_min_available(&cluster, 2).await?;
    cluster.patch(&json!({"spec": {"disruption": {"maxUnavailable": "100%"}}})).await?;
    until_min_available(&cluster, 0).await
}

pub(crate) async fn a_rollout_completes_at_min_equal_to_max_several_at_a_time(namespace: Namespace) -> Outcome {
    let spec = |word: &str| -> Value {
        json!({
            "autoscaling": {"minReplicas": 2, "maxReplicas": 2},
            "rollout": {"maxSurge": "100%"},
            "env": [{"name": "WORD", "value": word}],
        })
    };
    namespace.apply(&small("full", &spec("old")).to_string()).await?;
    let cluster = namespace.cluster("full");
    cluster.until_settled(2, STARTS_WITHIN).await?;
    let before = uids(&cluster).await?;
    let fleet = Fleet::watch(&cluster);
    namespace.apply(&small("full", &spec("new")).to_string()).await?;
    cluster.until_event("Rollout", "env[WORD].value: old → new", STARTS_WITHIN).await?;
    until_replaced(&cluster, &before, 2).await?;
    fleet.kept(4, 2, 2)
}

/// The words of the scheduler or of the kubelet about the shard that is too many.
fn words_of(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    let scheduler = conditions.find(|c| c.type_ == "PodScheduled" && c.status == "False").and_then(|c| c.message.clone());
    let mut containers = status.container_statuses.iter().flatten();
    let kubelet = containers.find_map(|container| container.state.as_ref()?.waiting.as_ref()?.message.clone());
    scheduler.or(kubelet).filter(|words| !words.is_empty())
}

/// Waits until the rollout is frozen for this reason of a pod that is not one of the old ones, in its words.
async fn until_frozen(cluster: &Cluster, old: &BTreeSet<String>, part: &str) -> Outcome<BTreeSet<String>> {
    let object = cluster.until_condition("Progressing", "False", "RolloutFrozen", STARTS_WITHIN).await?;
    has_condition(&object, "Available", "True", "ShardsReady").map_err(Failure::new)?;
    eventually("the reason, in words", STARTS_WITHIN, || async {
        let object = cluster.get().await?;
        for kind in ["Progressing", "Ready"] {
            has_condition(&object, kind, "False", "RolloutFrozen").map_err(Failure::new)?;
        }
        let new: Vec<_> = cluster.pods().await?.into_iter().filter(|pod| !old.contains(&uid(pod))).collect();
        let [pod] = &new[..] else { return Err(Failure::new(format!("{} pods beyond the old ones", new.len()))) };
        let words = words_of(pod).ok_or_else(|| Failure::new("nobody says why"))?;
        let said = message(&object, "Ready");
        let told = said.contains(&pod.name_any()) && said.contains(words.trim()) && said.contains(part);
        claim!(told, "said of {}: {words}\nthe status: {said}", pod.name_any());
        Ok(())
    })
    .await?;
    throughout("a frozen rollout costs no old shard", LONG_ENOUGH, || async {
        let pods = cluster.pods().await?;
        let serving = pods.iter().filter(|pod| old.contains(&uid(pod)) && is_ready(pod) && !is_draining(pod)).count();
        claim_eq!(serving, old.len(), "old shards that serve");
        claim_eq!(pods.len(), old.len() + 1, "pods");
        Ok(())
    })
    .await?;
    uids(cluster).await
}

pub(crate) async fn a_template_that_does_not_start_freezes_and_costs_nothing(namespace: Namespace) -> Outcome {
    let spec = |change: &Value| {
        let mut spec = json!({"replicas": 2});
        for (name, value) in change.as_object().into_iter().flatten() {
            spec[name] = value.clone();
        }
        small("firm", &spec).to_string()
    };
    namespace.apply(&spec(&json!({}))).await?;
    let cluster = namespace.cluster("firm");
    cluster.until_settled(2, STARTS_WITHIN).await?;
    let old = uids(&cluster).await?;
    let streams = Streams::on_each_shard(&cluster, 2).await?;

    namespace.apply(&spec(&json!({"podTemplate": {"spec": {"nodeSelector": {"mcp-tests/nowhere": "true"}}}}))).await?;
    let unschedulable = until_frozen(&cluster, &old, "nodes are available").await?;
    cluster.until_event("RolloutFrozen", "nodes are available", STARTS_WITHIN).await?;

    // A third template takes the place of the second, whose pods hold nothing.
    let image = "registry.invalid/mcp-server:no-such-tag";
    namespace.apply(&spec(&json!({"image": image, "imagePullPolicy": "Never"}))).await?;
    eventually("the end of the surge that nobody waits for", STARTS_WITHIN, || async {
        let left = uids(&cluster).await?.intersection(&unschedulable).count();
        claim_eq!(left, old.len(), "pods of before");
        Ok(())
    })
    .await?;
    until_frozen(&cluster, &old, image).await?;

    namespace.apply(&spec(&json!({}))).await?;
    cluster.until_settled(2, STARTS_WITHIN).await?;
    eventually("the old shards, and no other", STARTS_WITHIN, || async {
        claim_eq!(uids(&cluster).await?, old, "pods");
        Ok(())
    })
    .await?;
    streams.none_ended_but_on(&[])
}
