//! A node that goes: without a word, or with its kubelet alone. Replacements come elsewhere, survivors lose nothing, and what
//! comes back does not stay twice.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use mcp_tests::audit::Reader;
use mcp_tests::cluster::{STARTS_WITHIN, is_ready, message, uid};
use mcp_tests::machine::Machine;
use mcp_tests::mcp::Modern;
use mcp_tests::traffic::Streams;
use mcp_tests::wait::eventually;
use mcp_tests::{Cluster, Failure, Namespace, Operator, Outcome, claim, claim_eq};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::manifest::small;

/// The promise is 120 s from the cut: Kubernetes takes 40 to 60 of them to notice. A test waits longer than it is promised.
const REPLACED_WITHIN: Duration = Duration::from_mins(6);
/// Toleration and deletion come 30 s after that.
const TOLD_TO_END_WITHIN: Duration = Duration::from_mins(4);
/// From the node's return: what it finds to end there drains for 2 s, and 10 s of new connections before.
const CLEAN_WITHIN: Duration = Duration::from_mins(3);
const SHARDS: i32 = 4;

/// Calls through the Service, each on a connection of its own, and when they failed.
struct Probe {
    seen: Arc<Mutex<Seen>>,
    caller: JoinHandle<()>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    answered: u32,
    failed: u32,
    in_a_row: u32,
    last_failure: Option<Instant>,
    last_words: String,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.caller.abort();
    }
}

impl Probe {
    async fn start(cluster: &Cluster) -> Outcome<Self> {
        let (modern, seen) = (Modern::new(cluster.endpoint().await?), Arc::new(Mutex::new(Seen::default())));
        let shared = seen.clone();
        let caller = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_millis(200));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let answer = timeout(Duration::from_secs(2), modern.call("greet", json!({}))).await;
                let outcome = match answer {
                    Ok(Ok(reply)) => reply.tool_text().map(drop),
                    Ok(Err(why)) => Err(why),
                    Err(_) => Err(Failure::new("no answer within 2 s")),
                };
                let mut seen = shared.lock().unwrap_or_else(PoisonError::into_inner);
                match outcome {
                    Ok(()) => {
                        seen.answered += 1;
                        seen.in_a_row += 1;
                    }
                    Err(why) => {
                        seen.failed += 1;
                        seen.in_a_row = 0;
                        seen.last_failure = Some(Instant::now());
                        seen.last_words = why.to_string();
                    }
                }
            }
        });
        Ok(Self { seen, caller })
    }

    fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The pods of a cluster on a node, and those elsewhere.
async fn split(cluster: &Cluster, node: &str) -> Outcome<(Vec<Pod>, Vec<Pod>)> {
    let on = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node);
    Ok(cluster.pods().await?.into_iter().partition(on))
}

fn names(pods: &[Pod]) -> Vec<String> {
    pods.iter().map(kube::ResourceExt::name_any).collect()
}

fn uids(pods: &[Pod]) -> BTreeSet<String> {
    pods.iter().map(uid).collect()
}

/// The node of the operator that works: of the one that holds the lease, or of the only one.
pub(crate) async fn node_of_operator(namespace: &Namespace) -> Outcome<String> {
    let leases = namespace.api::<Lease>().list(&ListParams::default()).await?.items;
    let holders: Vec<_> = leases.into_iter().filter_map(|lease| lease.spec?.holder_identity).collect();
    let pods = Operator::of(namespace).pods().await?;
    let holds = |pod: &&Pod| holders.iter().any(|holder| holder.contains(&pod.name_any()));
    let leader = pods.iter().find(holds).or(pods.first()).ok_or_else(|| Failure::new("there is no operator"))?;
    leader.spec.as_ref().and_then(|spec| spec.node_name.clone()).ok_or_else(|| Failure::new("the operator has no node"))
}

/// Every node that takes pods, by name.
pub(crate) async fn nodes(namespace: &Namespace) -> Outcome<Vec<String>> {
    let mut nodes = Api::<Node>::all(namespace.client().clone()).list(&ListParams::default()).await?.items;
    nodes.retain(|node| node.spec.as_ref().is_none_or(|spec| spec.unschedulable != Some(true)));
    Ok(nodes.iter().map(kube::ResourceExt::name_any).collect())
}

async fn another_node(namespace: &Namespace, node: &str) -> Outcome<String> {
    let others = nodes(namespace).await?.into_iter().find(|other| other != node);
    others.ok_or_else(|| Failure::new(format!("there is no node beside {node}")))
}

/// Four shards on two nodes, with a stream of each era on each.
async fn spread_out(namespace: &Namespace, name: &str) -> Outcome<(Cluster, Streams)> {
    namespace.apply(&small(name, &json!({"replicas": SHARDS})).to_string()).await?;
    let cluster = namespace.cluster(name);
    cluster.until_settled(SHARDS, STARTS_WITHIN).await?;
    let streams = Streams::on_each_shard(&cluster, 1).await?;
    Ok((cluster, streams))
}

async fn until_replaced(cluster: &Cluster, node: &str) -> Outcome<Vec<Pod>> {
    eventually(&format!("{SHARDS} Ready shards elsewhere than on {node}"), REPLACED_WITHIN, || async {
        let (_, elsewhere) = split(cluster, node).await?;
        let ready = elsewhere.iter().filter(|pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none()).count();
        claim!(i32::try_from(ready) == Ok(SHARDS), "{ready} of {:?}", names(&elsewhere));
        Ok(elsewhere)
    })
    .await
}

async fn until_told_to_end(cluster: &Cluster, node: &str, count: usize) -> Outcome {
    eventually("the pods of the lost node told to end", TOLD_TO_END_WITHIN, || async {
        let (there, _) = split(cluster, node).await?;
        let told = there.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()).count();
        claim!(told == count && there.len() == count, "{told} of {:?}", names(&there));
        Ok(())
    })
    .await
}

/// The node is back: what was left there goes, and nothing else does.
async fn until_clean(cluster: &Cluster, expected: &BTreeSet<String>) -> Outcome {
    eventually("the replacements, and nothing beside them", CLEAN_WITHIN, || async {
        let pods = cluster.pods().await?;
        claim!(uids(&pods) == *expected, "pods: {:?}", names(&pods));
        Ok(())
    })
    .await
}

async fn created(cluster: &Cluster) -> Outcome<usize> {
    let mut log = Reader::from_the_start_of(cluster.namespace().run()).await?;
    let writes = log.writes(":mcp-operator", cluster.namespace().name())?;
    Ok(writes.iter().filter(|write| write.verb == "create" && write.resource == "pods").count())
}

/// Cable and power, and with it the operator that works.
pub(crate) async fn a_lost_node_is_replaced_elsewhere_and_leaves_nothing_twice_when_it_returns(namespace: Namespace) -> Outcome {
    let machine = Machine::of(namespace.run())?;
    let operator = Operator::of(&namespace);
    operator.scale(2).await?;
    let (cluster, mut streams) = spread_out(&namespace, "lossy").await?;
    let leader = operator.until_held(None, STARTS_WITHIN).await?;
    let mut node = machine.disturb(&node_of_operator(&namespace).await?);
    let of_standby = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) != Some(node.name());
    claim!(operator.pods().await?.iter().any(of_standby), "both processes of the operator are on {}", node.name());
    let (victims, survivors) = split(&cluster, node.name()).await?;
    claim!(!victims.is_empty() && !survivors.is_empty(), "all shards are on one node: {:?}", names(&survivors));
    let probe = Probe::start(&cluster).await?;
    eventually("calls that are answered", STARTS_WITHIN, || async {
        claim!(probe.seen().in_a_row >= 10, "{:?}", probe.seen());
        Ok(())
    })
    .await?;
    let failed_before = probe.seen().failed;
    claim_eq!(failed_before, 0, "failed calls before anything happened");

    let cut = Instant::now();
    node.cut().await?;
    node.kill().await?;
    let next = operator.until_held(Some(&leader), REPLACED_WITHIN).await?;
    println!("    {next} leads {:.0?} after {leader} was cut off", cut.elapsed());
    let replaced = until_replaced(&cluster, node.name()).await?;
    println!("    {} was cut: {} replaced and Ready after {:.0?}", node.name(), victims.len(), cut.elapsed());
    let (left, _) = split(&cluster, node.name()).await?;
    claim_eq!(uids(&left), uids(&victims), "pods of the lost node, which hold their names");
    let held: BTreeSet<_> = names(&left).into_iter().collect();
    claim!(names(&replaced).iter().all(|name| !held.contains(name)), "a name is used twice: {:?}", names(&replaced));

    eventually("calls that are answered by the survivors alone", REPLACED_WITHIN, || async {
        claim!(probe.seen().in_a_row >= 50, "{:?}", probe.seen());
        Ok(())
    })
    .await?;
    let seen = probe.seen();
    let window = seen.last_failure.map(|last| last.duration_since(cut));
    println!(
        "    calls: {} answered, {} failed, the last {window:.0?} after the cut ({})",
        seen.answered, seen.failed, seen.last_words
    );

    until_told_to_end(&cluster, node.name(), victims.len()).await?;
    println!("    told to end after {:.0?}", cut.elapsed());
    let victim_names = names(&victims);
    let victim_names: Vec<&str> = victim_names.iter().map(String::as_str).collect();
    streams.none_ended_but_on(&victim_names)?;
    let settled = cluster.until_settled(SHARDS, STARTS_WITHIN).await?;
    claim!(
        message(&settled, "Progressing").contains(node.name()),
        "it does not name the node: {}",
        message(&settled, "Progressing")
    );

    let returned = Instant::now();
    node.bring_back().await?;
    let back = returned.elapsed();
    until_clean(&cluster, &uids(&replaced)).await?;
    println!("    back after {back:.0?}, and clean after {:.0?}", returned.elapsed());
    cluster.until_settled(SHARDS, STARTS_WITHIN).await?;
    claim_eq!(uids(&cluster.ready_pods().await?), uids(&replaced), "shards after the return");
    streams.none_ended_but_on(&victim_names)?;
    streams.forget(&victim_names);
    claim_eq!(created(&cluster).await?, SHARDS.unsigned_abs() as usize + victims.len(), "shards that were ever created");
    Ok(())
}

/// Containers go on serving and reporting, but nobody tells them anything any more.
pub(crate) async fn a_node_without_its_kubelet_gives_its_streams_away_gracefully(namespace: Namespace) -> Outcome {
    let machine = Machine::of(namespace.run())?;
    let (cluster, streams) = spread_out(&namespace, "headless").await?;
    let mut node = machine.disturb(&another_node(&namespace, &node_of_operator(&namespace).await?).await?);
    let (victims, _) = split(&cluster, node.name()).await?;
    claim!(!victims.is_empty(), "no shard is on {}", node.name());
    let cut = Instant::now();
    node.kill_kubelet().await?;
    let replaced = until_replaced(&cluster, node.name()).await?;
    println!("    the kubelet of {} died: {} replaced and Ready after {:.0?}", node.name(), victims.len(), cut.elapsed());
    let victim_names = names(&victims);
    let victim_names: Vec<&str> = victim_names.iter().map(String::as_str).collect();
    for victim in &victim_names {
        streams.until_ended_on(victim, TOLD_TO_END_WITHIN).await?;
        streams.all_ended_gracefully_on(victim)?;
    }
    println!("    its streams had moved after {:.0?}", cut.elapsed());
    streams.none_ended_but_on(&victim_names)?;
    node.bring_back().await?;
    until_clean(&cluster, &uids(&replaced)).await?;
    cluster.until_settled(SHARDS, STARTS_WITHIN).await?;
    streams.none_ended_but_on(&victim_names)
}
