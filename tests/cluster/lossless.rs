//! Nothing is lost: calls on connections of their own all the time, streams held in both eras, and one fault after the other.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, EvictParams};
use mcp_tests::cluster::{STARTS_WITHIN, STATE_LABEL};
use mcp_tests::endpoints::Endpoints;
use mcp_tests::farewell::Farewell;
use mcp_tests::traffic::Streams;
use mcp_tests::wait::eventually;
use mcp_tests::{Cluster, Failure, Namespace, Outcome, Rate, Traffic, claim, claim_eq, reach};
use serde_json::{Value, json};

use crate::manifest::small;

/// Longer than the 10 s in which a draining shard still answers everybody, so that its refusals would be met.
const WINDOW: Duration = Duration::from_secs(16);
/// A window, a request, the operator's rounds, the process's end, and a busy machine.
const DRAINS_WITHIN: Duration = Duration::from_mins(2);
/// Streams of each era on each shard.
const HELD: usize = 15;

fn spec(replicas: u32) -> Value {
    json!({"replicas": replicas, "drain": {"window": format!("{}s", WINDOW.as_secs()), "timeout": "60s"}})
}

/// A cluster under traffic, and streams on every shard.
struct Scene {
    cluster: Cluster,
    traffic: Traffic,
    endpoints: Endpoints,
    streams: Streams,
}

impl Scene {
    async fn set(namespace: &Namespace, name: &str, shards: u32, more: &Value) -> Outcome<Self> {
        let mut spec = spec(shards);
        for (field, value) in more.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        namespace.apply(&small(name, &spec).to_string()).await?;
        let cluster = namespace.cluster(name);
        cluster.until_settled(i32::try_from(shards)?, STARTS_WITHIN).await?;
        let endpoints = Endpoints::watch(&cluster).await?;
        let mut streams = Streams::on_each_shard(&cluster, HELD).await?;
        streams.hold_through_the_service(&cluster, 4).await?;
        let traffic = Traffic::start(&cluster, Rate::per_second(200)).await?;
        Ok(Self { cluster, traffic, endpoints, streams })
    }

    /// Names of the Ready shards that nobody drains, in order.
    async fn staying(&self) -> Outcome<Vec<String>> {
        let stays = |pod: &Pod| pod.labels().get(STATE_LABEL).is_some_and(|state| state == "active");
        Ok(self.cluster.ready_pods().await?.into_iter().filter(stays).map(|pod| pod.name_any()).collect())
    }

    /// Waits until these pods, by uid, are gone and `shards` others are there and settled.
    async fn until_gone(&self, gone: &BTreeSet<String>, shards: i32) -> Outcome {
        eventually("the end of the victims", DRAINS_WITHIN, || async {
            let left: Vec<_> = self.cluster.pods().await?.into_iter().filter(|pod| gone.contains(&uid(pod))).collect();
            claim!(left.is_empty(), "{:?} are there", left.iter().map(kube::ResourceExt::name_any).collect::<Vec<_>>());
            Ok(())
        })
        .await?;
        self.cluster.until_settled(shards, DRAINS_WITHIN).await?;
        Ok(())
    }

    /// Claims what holds of streams after shards went: those on the victims ended as specified and spread over the window,
    /// all others are held. Then holds streams on the shards that came.
    async fn judge_streams(&mut self, victims: &[&str]) -> Outcome {
        self.streams.none_ended_but_on(victims)?;
        for victim in victims {
            self.streams.all_ended_gracefully_on(victim)?;
            self.streams.ends_are_spread_on(victim, WINDOW)?;
        }
        self.streams.forget(victims);
        for pod in self.cluster.ready_pods().await? {
            if self.streams.on(&pod.name_any()) == 0 {
                self.streams.hold_on(&self.cluster, &pod, HELD).await?;
            }
        }
        Ok(())
    }

    async fn end(self) -> Outcome {
        let report = self.traffic.stop().await?;
        println!("{report}");
        report.everything_answered().map_err(|why| Failure::new(format!("{why}\n{}", self.endpoints.history())))?;
        self.endpoints.never_empty()
    }
}

fn uid(pod: &Pod) -> String {
    pod.uid().unwrap_or_default()
}

async fn pod(cluster: &Cluster, name: &str) -> Outcome<Pod> {
    let found = cluster.pods().await?.into_iter().find(|pod| pod.name_any() == name);
    found.ok_or_else(|| Failure::new(format!("there is no pod {name}")))
}

/// The first shard that drains.
async fn draining(cluster: &Cluster) -> Outcome<Pod> {
    eventually("a draining shard", Duration::from_secs(30), || async {
        let drains = |pod: &Pod| pod.labels().get(STATE_LABEL).is_some_and(|state| state == "draining");
        cluster.pods().await?.into_iter().find(drains).ok_or_else(|| Failure::new("none"))
    })
    .await
}

pub(crate) async fn nothing_is_lost_by_scale_in_deletion_eviction_and_rollout(namespace: Namespace) -> Outcome {
    let mut scene = Scene::set(&namespace, "whole", 3, &json!({})).await?;
    let cluster = scene.cluster.clone();

    scene.traffic.mark("scale-in to two");
    cluster.patch(&json!({"spec": {"replicas": 2}})).await?;
    let victim = draining(&cluster).await?;
    let farewell = Farewell::of(&cluster, &victim).await?;
    let name = victim.name_any();
    scene.streams.until_ended_on(&name, DRAINS_WITHIN).await?;
    println!("    {}", farewell.was_polite(DRAINS_WITHIN).await?);
    scene.until_gone(&[uid(&victim)].into(), 2).await?;
    scene.judge_streams(&[&name]).await?;

    // Two ends that the operator did not ask for: SIGTERM comes first.
    let staying = scene.staying().await?;
    let [deleted, evicted] = &staying[..] else { return Err(Failure::new(format!("staying: {staying:?}"))) };
    let pods: Api<Pod> = namespace.api();
    let gone: BTreeSet<_> = [uid(&pod(&cluster, deleted).await?), uid(&pod(&cluster, evicted).await?)].into();
    scene.traffic.mark(format!("kubectl delete pod {deleted}"));
    namespace.kubectl(&["delete", "pod", deleted, "--wait=false"]).await?;
    let farewell = Farewell::of(&cluster, &pod(&cluster, deleted).await?).await?;
    // The budget lets the next one go when the replacement is Ready.
    eventually("leave to evict", STARTS_WITHIN, || async { Ok(pods.evict(evicted, &EvictParams::default()).await.map(drop)?) })
        .await?;
    scene.traffic.mark(format!("eviction of {evicted}"));
    scene.streams.none_ended_but_on(&[deleted, evicted])?;
    scene.until_gone(&gone, 2).await?;
    println!("    {}", farewell.was_polite(DRAINS_WITHIN).await?);
    scene.judge_streams(&[deleted, evicted]).await?;

    scene.traffic.mark("rollout");
    let before = scene.staying().await?;
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    let mut gone = BTreeSet::new();
    for name in &before {
        gone.insert(uid(&pod(&cluster, name).await?));
    }
    let again = json!({"spec": {"podTemplate": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}});
    cluster.patch(&again).await?;
    scene.until_gone(&gone, 2).await?;
    scene.judge_streams(&before).await?;
    scene.end().await
}

/// The other way round: what the tests here count would show it, if the client Service did not select on placement. The members
/// Service does not, and is else the same.
pub(crate) async fn without_placement_a_drain_refuses_calls_and_the_count_shows_it(namespace: Namespace) -> Outcome {
    namespace.apply(&small("bare", &spec(2)).to_string()).await?;
    let cluster = namespace.cluster("bare");
    cluster.until_settled(2, STARTS_WITHIN).await?;
    let _held = Streams::on_each_shard(&cluster, HELD).await?;
    let members = reach::service(&namespace, "bare-members", "http://localhost/mcp").await?;
    let placed = Traffic::start(&cluster, Rate::per_second(50)).await?;
    let unplaced = Traffic::through(members, Rate::per_second(50)).await?;
    cluster.patch(&json!({"spec": {"replicas": 1}})).await?;
    let victim = draining(&cluster).await?;
    eventually("the end of the victim", DRAINS_WITHIN, || async {
        claim!(cluster.pods().await?.iter().all(|pod| uid(pod) != uid(&victim)), "{} is there", victim.name_any());
        Ok(())
    })
    .await?;
    let (placed, unplaced) = (placed.stop().await?, unplaced.stop().await?);
    println!("{unplaced}");
    placed.everything_answered()?;
    claim!(unplaced.refused() > 0, "through the members Service nothing was refused:\n{unplaced}");
    claim!(unplaced.everything_answered().is_err(), "refusals do not count:\n{unplaced}");
    Ok(())
}

/// A node that no new pod may go to, given back when dropped at the latest.
struct Cordoned {
    namespace: Namespace,
    node: Option<String>,
}

impl Cordoned {
    async fn give_back(mut self) -> Outcome {
        let Some(node) = self.node.clone() else { return Ok(()) };
        self.namespace.run().kubectl(&["uncordon", &node]).await?;
        self.node = None;
        Ok(())
    }
}

impl Drop for Cordoned {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            let namespace = self.namespace.clone();
            tokio::spawn(async move {
                if let Err(why) = namespace.run().kubectl(&["uncordon", &node]).await {
                    eprintln!("{node} stays cordoned: {why}");
                }
            });
        }
    }
}

pub(crate) async fn nothing_is_lost_by_a_node_drain(namespace: Namespace) -> Outcome {
    let nodes: Api<Node> = Api::all(namespace.client().clone());
    let nodes = nodes.list(&kube::api::ListParams::default()).await?.items;
    claim!(nodes.len() >= 2, "a node can be drained only where there is another");
    // On both nodes, and on neither more than on the other, as far as a node takes pods at all.
    let spread = json!({
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule", "nodeTaintsPolicy": "Honor",
    });
    let spread = json!({"podTemplate": {"spec": {"topologySpreadConstraints": [spread]}}});
    let mut scene = Scene::set(&namespace, "moved", 4, &spread).await?;
    let pods = scene.cluster.ready_pods().await?;
    let node_of = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let node = node_of(pods.first().ok_or_else(|| Failure::new("no shard"))?);
    let leaving: Vec<&Pod> = pods.iter().filter(|pod| node_of(pod) == node).collect();
    claim!(leaving.len() < pods.len(), "all shards are on {node}: they are to be spread over nodes");
    let (names, gone): (Vec<_>, BTreeSet<_>) = leaving.iter().map(|pod| (pod.name_any(), uid(pod))).unzip();

    scene.traffic.mark(format!("kubectl drain {node}"));
    let cordoned = Cordoned { namespace: namespace.clone(), node: Some(node.clone()) };
    let outcome = async {
        let drain = ["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=150s"];
        namespace.run().kubectl(&drain).await?;
        scene.until_gone(&gone, 4).await
    }
    .await;
    cordoned.give_back().await?;
    outcome?;
    let elsewhere = scene.cluster.ready_pods().await?;
    claim_eq!(elsewhere.iter().filter(|pod| node_of(pod) == node).count(), 0, "shards on {node}");
    let victims: Vec<&str> = names.iter().map(String::as_str).collect();
    scene.judge_streams(&victims).await?;
    scene.end().await
}
