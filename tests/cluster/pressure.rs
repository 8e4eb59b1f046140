//! A node that runs out of memory: whom the kubelet evicts, and what becomes of the others.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use mcp_tests::cluster::{STARTS_WITHIN, is_ready, restarts, uid};
use mcp_tests::machine::Machine;
use mcp_tests::operator::Images;
use mcp_tests::traffic::Streams;
use mcp_tests::wait::eventually;
use mcp_tests::{Cluster, Failure, Namespace, Outcome, Rate, Traffic, claim, claim_eq, reach};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::manifest::small;

/// What the pods of the small node may use. The kernel's limit is 100 MiB above, as on every node of the local cluster.
const NODE_MEMORY: &str = "512Mi";
/// With what the shards there take: over the node's memory, and under the kernel's limit.
const TAKEN: usize = 540 << 20;
/// The kubelet looks every 10 s.
const EVICTED_WITHIN: Duration = Duration::from_mins(3);
const REPLACED_WITHIN: Duration = Duration::from_mins(2);

/// One shard on each node that takes pods.
fn spread(resources: &Value) -> Value {
    let constraint = json!({
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule", "nodeTaintsPolicy": "Honor",
    });
    json!({
        "replicas": 3,
        "resources": resources,
        "podTemplate": {"spec": {"topologySpreadConstraints": [constraint]}},
    })
}

/// A pod that takes memory when asked to. The kubelet evicts no pod of this priority.
fn taker(node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "taker"},
        "spec": {
            "nodeName": node,
            "priorityClassName": "system-node-critical",
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65_532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "taker", "image": Images::from_env().named("http-echo"), "imagePullPolicy": "IfNotPresent",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "readinessProbe": {"httpGet": {"path": "/livez", "port": 8080}, "periodSeconds": 1},
            }],
        },
    })
}

async fn take(namespace: &Namespace, bytes: usize) -> Outcome {
    let pod = namespace.api::<Pod>().get("taker").await?;
    let endpoint = reach::pod(namespace, &pod, 8080, &format!("/hold?bytes={bytes}")).await?;
    endpoint.http.get(endpoint.url.clone()).send().await?.error_for_status()?;
    Ok(())
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

async fn only_pod_on(cluster: &Cluster, node: &str) -> Outcome<Pod> {
    let pods: Vec<_> = cluster.ready_pods().await?.into_iter().filter(|pod| node_of(pod) == node).collect();
    let count = pods.len();
    let [pod] = <[Pod; 1]>::try_from(pods).map_err(|_| Failure::new(format!("{count} shards on {node}")))?;
    Ok(pod)
}

/// What the kubelet said when it evicted the pod.
async fn eviction(namespace: &Namespace, pod: &str) -> Outcome<String> {
    let about = ListParams::default().fields(&format!("involvedObject.name={pod},reason=Evicted"));
    let events = namespace.api::<Event>().list(&about).await?.items;
    events.into_iter().find_map(|event| event.message).ok_or_else(|| Failure::new(format!("{pod} was not evicted")))
}

/// Two clusters of three, a shard of each on a node that runs out of memory. The kubelet evicts, by its rules, the one that uses
/// more than it requested: no shard does, unless its requests were set below its limit.
pub(crate) async fn a_node_that_runs_out_of_memory_costs_only_the_shard_that_requested_too_little(
    namespace: Namespace,
) -> Outcome {
    let node = Machine::of(namespace.run())?.add("node-3", NODE_MEMORY).await?;
    let lean = json!({"requests": {"cpu": "10m", "memory": "1Mi"}, "limits": {"memory": "64Mi"}});
    let kept = json!({"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}});
    for (name, resources) in [("lean", lean), ("kept", kept)] {
        namespace.apply(&small(name, &spread(&resources)).to_string()).await?;
    }
    let (lean, kept) = (namespace.cluster("lean"), namespace.cluster("kept"));
    lean.until_settled(3, STARTS_WITHIN).await?;
    kept.until_settled(3, STARTS_WITHIN).await?;
    let victim = only_pod_on(&lean, node.name()).await?;
    only_pod_on(&kept, node.name()).await?;
    let streams = Streams::on_each_shard(&kept, 3).await?;
    let traffic = Traffic::start(&kept, Rate::per_second(50)).await?;
    let before: Vec<_> = kept.pods().await?.iter().map(uid).collect();

    namespace.apply(&taker(node.name()).to_string()).await?;
    eventually("the taker Ready", STARTS_WITHIN, || async {
        let pod = namespace.api::<Pod>().get("taker").await?;
        claim!(is_ready(&pod), "not yet");
        Ok(())
    })
    .await?;
    let began = Instant::now();
    traffic.mark("the node runs out of memory");
    take(&namespace, TAKEN).await?;
    let name = victim.name_any();
    let words = eventually("an eviction", EVICTED_WITHIN, || eviction(&namespace, &name)).await?;
    // Given back before the kubelet looks again: it would evict the next one.
    take(&namespace, 0).await?;
    println!("    {name} evicted after {:.0?}: {words}", began.elapsed());
    claim!(words.contains("low on resource: memory"), "{words}");

    eventually("a replacement elsewhere, and nothing left", REPLACED_WITHIN, || async {
        let pods = lean.pods().await?;
        claim!(pods.iter().all(|pod| uid(pod) != uid(&victim)), "{name} is there");
        claim!(pods.iter().all(|pod| is_ready(pod) && node_of(pod) != node.name()) && pods.len() == 3, "{} pods", pods.len());
        Ok(())
    })
    .await?;
    println!("    replaced elsewhere and Ready after {:.0?}", began.elapsed());
    lean.until_settled(3, REPLACED_WITHIN).await?;
    let told = lean.until_event("Finished", "low on resource: memory", REPLACED_WITHIN).await?;
    println!("    the operator: {}", told.message.unwrap_or_default());
    let under_pressure = Api::<Node>::all(namespace.client().clone()).get(node.name()).await?;
    let conditions = under_pressure.status.and_then(|status| status.conditions).unwrap_or_default();
    claim!(conditions.iter().any(|c| c.type_ == "MemoryPressure" && c.status == "True"), "{conditions:?}");

    claim_eq!(kept.pods().await?.iter().map(uid).collect::<Vec<_>>(), before, "pods of the cluster that requested what it uses");
    streams.none_ended_but_on(&[])?;
    let report = traffic.stop().await?;
    println!("{report}");
    report.everything_answered()?;
    for pod in lean.pods().await?.iter().chain(&kept.pods().await?) {
        claim_eq!(restarts(pod), 0, "restarts of {}", pod.name_any());
    }
    let name = node.name().to_owned();
    node.leave().await?;
    let left = Api::<Node>::all(namespace.client().clone()).get_opt(&name).await?;
    claim!(left.is_none(), "{name} has left, and its object is there");
    let pods = namespace.api::<Pod>().list(&ListParams::default().fields(&format!("spec.nodeName={name}"))).await?.items;
    claim_eq!(pods.len(), 0, "pods of a node that has left");
    Ok(())
}
