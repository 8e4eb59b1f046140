//! Nodes that are drained, and shards that are evicted: one at a time of ten, replaced before the next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, EvictParams, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use mcp_tests::audit::Reader;
use mcp_tests::cluster::{CLUSTER_LABEL, STARTS_WITHIN, is_ready, message, uid};
use mcp_tests::machine::Machine;
use mcp_tests::traffic::Streams;
use mcp_tests::wait::eventually;
use mcp_tests::{Cluster, Failure, Namespace, Operator, Outcome, claim, claim_eq};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::manifest::small;
use crate::node_loss::{node_of_operator, nodes};

const SHARDS: i32 = 10;
/// Of ten.
const MAY_BE_GONE: usize = 1;
/// Twenty shards on a machine with two cores.
const MANY_START_WITHIN: Duration = Duration::from_mins(4);
/// Five evictions of each cluster, one after another: kubectl asks again every 5 s.
const DRAINED_WITHIN: Duration = Duration::from_mins(8);

/// What a watch saw of one cluster's shards and budget, at every single change.
struct Witness {
    seen: Arc<Mutex<Seen>>,
    watching: Vec<JoinHandle<()>>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    /// Of each pod: whether it is Ready and not told to end.
    pods: BTreeMap<String, bool>,
    /// Whether all of them have been there.
    began: bool,
    fewest: Option<usize>,
    lowest_budget: Option<i32>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.watching.iter().for_each(JoinHandle::abort);
    }
}

impl Witness {
    /// Watches a cluster whose shards are all Ready.
    async fn of(cluster: &Cluster) -> Outcome<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let of_cluster = watcher::Config::default().labels(&format!("{CLUSTER_LABEL}={}", cluster.name()));
        let mut pods = watcher(cluster.namespace().api::<Pod>(), of_cluster.clone()).boxed();
        let noting = seen.clone();
        let watch_pods = tokio::spawn(async move {
            while let Some(event) = pods.next().await {
                let mut seen = noting.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                        seen.pods.insert(uid(&pod), is_ready(&pod) && pod.metadata.deletion_timestamp.is_none());
                    }
                    Ok(Event::Delete(pod)) => {
                        seen.pods.remove(&uid(&pod));
                    }
                    Ok(Event::Init | Event::InitDone) | Err(_) => {}
                }
                let standing = seen.pods.values().filter(|stands| **stands).count();
                seen.began |= standing >= SHARDS.unsigned_abs() as usize;
                if seen.began {
                    seen.fewest = Some(seen.fewest.map_or(standing, |fewest| fewest.min(standing)));
                }
            }
        });
        let mut budgets = watcher(cluster.namespace().api::<PodDisruptionBudget>(), of_cluster).boxed();
        let noting = seen.clone();
        let watch_budget = tokio::spawn(async move {
            while let Some(event) = budgets.next().await {
                if let Ok(Event::Apply(budget) | Event::InitApply(budget)) = event {
                    let mut seen = noting.lock().unwrap_or_else(PoisonError::into_inner);
                    let least = min_available(&budget).unwrap_or(-1);
                    seen.lowest_budget = Some(seen.lowest_budget.map_or(least, |lowest| lowest.min(least)));
                }
            }
        });
        let witness = Self { seen, watching: vec![watch_pods, watch_budget] };
        eventually("a watch that shows all shards and the budget", STARTS_WITHIN, || async {
            let seen = witness.seen();
            claim!(seen.began && seen.lowest_budget.is_some(), "{seen:?}");
            Ok(())
        })
        .await?;
        Ok(witness)
    }

    fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The integer of a budget. A percentage would make every node drain ask our scale subresource.
fn min_available(budget: &PodDisruptionBudget) -> Option<i32> {
    match budget.spec.as_ref()?.min_available.as_ref()? {
        IntOrString::Int(least) => Some(*least),
        IntOrString::String(_) => None,
    }
}

async fn until_budget(cluster: &Cluster, least: i32) -> Outcome {
    eventually(&format!("a budget of {least}"), STARTS_WITHIN, || async {
        let budget = cluster.namespace().api::<PodDisruptionBudget>().get(cluster.name()).await?;
        claim_eq!(min_available(&budget), Some(least), "minAvailable");
        Ok(())
    })
    .await
}

/// Gives the operator of this namespace the right to get nodes, and tells it so. Its Role cannot hold that right.
struct NodeReader {
    roles: Api<ClusterRole>,
    bindings: Api<ClusterRoleBinding>,
    name: String,
}

impl NodeReader {
    async fn grant(namespace: &Namespace) -> Outcome<Self> {
        let client = namespace.client();
        let name = format!("{}-reads-nodes", namespace.name());
        let reader = Self { roles: Api::all(client.clone()), bindings: Api::all(client.clone()), name: name.clone() };
        let labels = namespace.run().labels();
        let role = json!({
            "metadata": {"name": name, "labels": labels},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}],
        });
        reader.roles.create(&PostParams::default(), &serde_json::from_value(role)?).await?;
        let binding = json!({
            "metadata": {"name": name, "labels": labels},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "mcp-operator", "namespace": namespace.name()}],
        });
        reader.bindings.create(&PostParams::default(), &serde_json::from_value(binding)?).await?;
        namespace.kubectl(&["set", "env", "deployment/mcp-operator", "MCP_OPERATOR_READ_NODES=true"]).await?;
        Operator::of(namespace).until_ready().await?;
        Ok(reader)
    }

    async fn revoke(&self) -> Outcome {
        self.bindings.delete(&self.name, &DeleteParams::default()).await?;
        self.roles.delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }
}

/// Ten shards on two nodes, and at most one of them gone, whoever decides their number.
pub(crate) async fn a_drained_node_gives_its_shards_away_one_at_a_time(namespace: Namespace) -> Outcome {
    let reader = NodeReader::grant(&namespace).await?;
    let outcome = drain_a_node(&namespace).await;
    let revoked = reader.revoke().await;
    outcome.and(revoked)
}

async fn drain_a_node(namespace: &Namespace) -> Outcome {
    let autoscaling = json!({"autoscaling": {"minReplicas": SHARDS, "maxReplicas": SHARDS + 2}});
    namespace.apply(&small("byhand", &json!({"replicas": SHARDS})).to_string()).await?;
    namespace.apply(&small("byload", &autoscaling).to_string()).await?;
    let clusters = [namespace.cluster("byhand"), namespace.cluster("byload")];
    for cluster in &clusters {
        cluster.until_settled(SHARDS, MANY_START_WITHIN).await?;
        until_budget(cluster, SHARDS - 1).await?;
    }
    let [by_hand, by_load] = &clusters;

    // One pod, and nothing about its node.
    let single = by_load.ready_pods().await?.first().map(kube::ResourceExt::name_any).unwrap_or_default();
    namespace.api::<Pod>().evict(&single, &EvictParams::default()).await?;
    let evicted = by_load.until_condition("Draining", "True", "Eviction", STARTS_WITHIN).await?;
    claim!(message(&evicted, "Draining").contains(&single), "it does not name {single}: {}", message(&evicted, "Draining"));
    by_load.until_settled(SHARDS, MANY_START_WITHIN).await?;

    let machine = Machine::of(namespace.run())?;
    let operator = node_of_operator(namespace).await?;
    let other = nodes(namespace).await?.into_iter().find(|node| *node != operator);
    let mut node = machine.disturb(&other.ok_or_else(|| Failure::new("there is one node only"))?);
    let mut streams = Streams::default();
    let (mut witnesses, mut victims) = (vec![], vec![]);
    for cluster in &clusters {
        let there = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node.name());
        let shards: Vec<Pod> = cluster.ready_pods().await?.into_iter().filter(there).collect();
        claim!(shards.len() >= 3, "{} has only {} shards on {}", cluster.name(), shards.len(), node.name());
        for shard in &shards {
            streams.hold_on(cluster, shard, 1).await?;
        }
        victims.extend(shards);
        witnesses.push(Witness::of(cluster).await?);
    }

    let limit = format!("--timeout={}s", DRAINED_WITHIN.as_secs());
    let words = ["drain", node.name(), "--ignore-daemonsets", "--delete-emptydir-data", &limit];
    let draining = namespace.run().kubectl(&words);
    let noticing = async {
        let mut named = vec![];
        for cluster in &clusters {
            let seen = cluster.until_condition("Draining", "True", "NodeDrain", DRAINED_WITHIN).await?;
            named.push(message(&seen, "Draining").to_owned());
        }
        Ok::<_, Failure>(named)
    };
    let begun = tokio::time::Instant::now();
    let (drained, named) = tokio::join!(draining, noticing);
    let took = begun.elapsed();
    drained?;
    for words in named? {
        claim!(words.contains(node.name()), "it does not name {}: {words}", node.name());
    }
    for (cluster, witness) in clusters.iter().zip(&witnesses) {
        cluster.until_settled(SHARDS, MANY_START_WITHIN).await?;
        let seen = witness.seen();
        let fewest = seen.fewest.unwrap_or(0);
        println!(
            "    {}: drained in {took:.0?}, never fewer than {fewest} of {SHARDS}, budget never below {:?}",
            cluster.name(),
            seen.lowest_budget
        );
        claim!(fewest + MAY_BE_GONE >= SHARDS.unsigned_abs() as usize, "{}: only {fewest} of {SHARDS} stood", cluster.name());
        claim_eq!(seen.lowest_budget, Some(SHARDS - 1), "lowest minAvailable of {}", cluster.name());
    }
    for victim in &victims {
        streams.all_ended_gracefully_on(&victim.name_any())?;
    }
    evictions_were_counted(namespace, &victims).await?;
    node.bring_back().await?;

    // Fewer shards, and the budget with them.
    namespace.kubectl(&["scale", "mcpcluster/byhand", "--replicas=8"]).await?;
    until_budget(by_hand, 7).await?;
    by_hand.until_settled(8, MANY_START_WITHIN).await?;
    Ok(())
}

/// Every victim was evicted, once, by the eviction API, and some had to wait for their turn.
async fn evictions_were_counted(namespace: &Namespace, victims: &[Pod]) -> Outcome {
    let mut answers: BTreeMap<(String, u16), usize> = BTreeMap::new();
    // As whom kubectl asks on the local cluster.
    Reader::from_the_start_of(namespace.run()).await?.each("admin", |request| {
        if request.resource == "pods/eviction" && request.namespace == namespace.name() {
            *answers.entry((request.name, request.code)).or_default() += 1;
        }
    })?;
    let total = |code: u16| answers.iter().filter(|((_, answer), _)| *answer == code).map(|(_, count)| count).sum::<usize>();
    println!("    evictions: {} granted, {} put off", total(201), total(429));
    for victim in victims {
        let granted = answers.get(&(victim.name_any(), 201)).copied().unwrap_or(0);
        claim_eq!(granted, 1, "evictions granted of {}", victim.name_any());
    }
    claim!(total(429) > 0, "no eviction had to wait: {answers:?}");
    Ok(())
}
