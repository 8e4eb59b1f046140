//! More shards, fewer shards, full shards.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::ResourceExt;
use mcp_crds::McpCluster;
use mcp_crds::shard::DATA_PORT;
use mcp_tests::cluster::{STARTS_WITHIN, has_condition, message};
use mcp_tests::mcp::{End, Era, Modern, Opened, Stream, hold};
use mcp_tests::reach::Endpoint;
use mcp_tests::wait::eventually;
use mcp_tests::{Failure, Namespace, Outcome, claim, claim_eq, fail, reach};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::manifest::small;

/// The operator asks every 5 s; a shard starts in a few.
const DECIDES_WITHIN: Duration = Duration::from_mins(1);
/// A stream opens at once; a data plane hears of a Ready shard within a second or two.
const FULL_WITHIN: Duration = Duration::from_secs(30);
const BETWEEN_REFUSALS: Duration = Duration::from_millis(20);

/// Autoscaling that shrinks as soon as it may.
fn eager(min: i32, max: i32, more: &Value) -> Value {
    let down = json!({"stabilizationWindowSeconds": 5, "policies": [{"type": "Pods", "value": 4, "periodSeconds": 5}]});
    let mut autoscaling = json!({"minReplicas": min, "maxReplicas": max, "behavior": {"scaleDown": down}});
    for (name, value) in more.as_object().into_iter().flatten() {
        autoscaling[name] = value.clone();
    }
    json!({"autoscaling": autoscaling})
}

/// Whether the last change of size was this one.
fn last_scale(cluster: &McpCluster, to: i32, reason: &str) -> Result<String, String> {
    let scale = cluster.status.as_ref().and_then(|status| status.last_scale.clone()).ok_or("no lastScale")?;
    if scale.to == to && scale.reason == reason {
        Ok(scale.message)
    } else {
        Err(format!("lastScale is {} to {} for {}: {}", scale.from, scale.to, scale.reason, scale.message))
    }
}

pub(crate) async fn streams_over_target_scale_out_and_their_end_scales_in_through_a_drain(namespace: Namespace) -> Outcome {
    let spec = eager(1, 3, &json!({"connections": {"targetPerReplica": 40}}));
    namespace.apply(&small("elastic", &spec).to_string()).await?;
    let cluster = namespace.cluster("elastic");
    cluster.until_settled(1, STARTS_WITHIN).await?;
    let endpoint = cluster.endpoint().await?;

    // 90 streams on the only shard need three at 40 each.
    let first = hold(&endpoint, Era::Modern, 90).await?;
    let object = cluster
        .until("3 shards for their connections", DECIDES_WITHIN, |cluster| {
            last_scale(cluster, 3, "Connections")?;
            has_condition(cluster, "AutoscalingActive", "True", "Deciding")
        })
        .await?;
    let decision = last_scale(&object, 3, "Connections").map_err(Failure::new)?;
    claim!(decision.contains("connections need") && decision.contains(" to 3"), "the decision says {decision:?}");
    cluster.until_event("ScalingOut", &decision, Duration::from_secs(20)).await?;
    cluster
        .until("3 ready shards", STARTS_WITHIN, |cluster| {
            let ready = cluster.status.as_ref().and_then(|status| status.ready_replicas);
            if ready == Some(3) { Ok(()) } else { Err(format!("{ready:?} ready shards")) }
        })
        .await?;
    claim!(first.iter().all(|stream| stream.ended().is_none()), "scaling out ended a stream");

    // Six more on each shard; the first ones end, and one shard is enough.
    let mut last: BTreeMap<String, Vec<Stream>> = BTreeMap::new();
    for pod in cluster.ready_pods().await? {
        let shard = reach::pod(&namespace, &pod, DATA_PORT, "/mcp").await?;
        let streams = last.entry(pod.name_any()).or_default();
        streams.extend(hold(&shard, Era::Modern, 3).await?);
        streams.extend(hold(&shard, Era::Legacy, 3).await?);
    }
    claim_eq!(last.len(), 3, "shards that took streams");
    drop(first);
    let object =
        cluster.until("1 shard for the low load", DECIDES_WITHIN, |cluster| last_scale(cluster, 1, "LowLoad").map(drop)).await?;
    let decision = last_scale(&object, 1, "LowLoad").map_err(Failure::new)?;
    cluster.until_event("ScalingIn", &decision, Duration::from_secs(20)).await?;
    cluster.until_settled(1, Duration::from_secs(90)).await?;
    let survivor = eventually("one pod", Duration::from_secs(30), || async {
        let pods: Vec<_> = cluster.pods().await?.iter().map(ResourceExt::name_any).collect();
        let [survivor] = &pods[..] else { fail!("pods: {pods:?}") };
        Ok(survivor.clone())
    })
    .await?;

    // On the shards that went, each stream ended as its specification says; on the one that stayed, none did.
    for (shard, streams) in &last {
        for stream in streams {
            let (era, ended) = (stream.era(), stream.ended());
            let right = if *shard == survivor { ended.is_none() } else { ended.as_ref().is_some_and(|end| end.is_graceful(era)) };
            claim!(right, "{survivor} stayed; a {era:?} stream on {shard} ended as {ended:?}");
        }
    }
    claim_eq!(Modern::new(endpoint).call("greet", json!({})).await?.tool_text()?, "Hello.", "greet after the drain");
    Ok(())
}

/// Slow uploads keep their bodies in the memory of the one shard: as much as it grants to bodies, an eighth of its limit.
/// That is over a target of 10 %, and far below what the shard's own guard acts on.
pub(crate) async fn memory_over_target_scales_out(namespace: Namespace) -> Outcome {
    // An idle shard of a debug build takes 10 % already; the uploads add 12 points at least.
    let mut spec = eager(1, 3, &json!({"memory": {"targetPercent": 15}}));
    spec["limits"] = json!({"readTimeout": "60s", "requestTimeout": "60s", "maxRequestSize": "2Mi"});
    spec["drain"] = json!({"window": "2s", "timeout": "60s"});
    namespace.apply(&small("heavy", &spec).to_string()).await?;
    let cluster = namespace.cluster("heavy");
    cluster.until_settled(1, STARTS_WITHIN).await?;
    let endpoint = cluster.endpoint().await?;
    let uploads: Vec<_> = (0..4).map(|_| tokio::spawn(slow_upload(endpoint.clone(), 2_000_000))).collect();
    let scaled = cluster
        .until("more shards for their memory", DECIDES_WITHIN, |cluster| {
            let scale = cluster.status.as_ref().and_then(|status| status.last_scale.clone()).ok_or("no lastScale")?;
            if scale.reason == "Memory" && scale.to > 1 { Ok(()) } else { Err(format!("lastScale for {}", scale.reason)) }
        })
        .await;
    for upload in uploads {
        upload.abort();
    }
    scaled?;
    Ok(())
}

/// Sends all of a body but its last byte, and then waits.
pub(crate) async fn slow_upload(endpoint: mcp_tests::reach::Endpoint, size: usize) {
    let part = futures::stream::iter((0..size / 10_000).map(|_| Ok::<_, std::io::Error>(bytes::Bytes::from(vec![b' '; 10_000]))));
    let body = futures::StreamExt::chain(part, futures::stream::pending());
    let request = endpoint.http.post(endpoint.url.clone()).header("content-type", "application/json");
    let request = request.header("accept", "application/json, text/event-stream").header("content-length", size + 1);
    let _ = request.body(reqwest::Body::wrap_stream(body)).send().await;
}

/// Holds as many streams as fit, of these eras in turn, whichever shard each attempt meets. kube-proxy may hear of the last shard
/// a moment after it is Ready: until then the others refuse what is meant for it.
async fn fill(endpoint: &Endpoint, room: usize, eras: &[Era]) -> Outcome<Vec<Stream>> {
    let deadline = Instant::now() + FULL_WITHIN;
    let mut held = Vec::new();
    for era in eras.iter().cycle() {
        if held.len() == room {
            break;
        }
        claim!(Instant::now() < deadline, "within {FULL_WITHIN:?}, {} streams, and {room} fit", held.len());
        match Stream::open(endpoint, *era).await? {
            Opened::Held(stream) => held.push(stream),
            Opened::Refused(refusal) => {
                refusal.is_overload()?;
                sleep(BETWEEN_REFUSALS).await;
            }
        }
    }
    Ok(held)
}

pub(crate) async fn full_shards_answer_503_and_retry_after(namespace: Namespace) -> Outcome {
    const ROOM: usize = 2 * 12;
    let spec = json!({"replicas": 2, "limits": {"maxStreams": 12, "maxConnections": 40}});
    namespace.apply(&small("full", &spec).to_string()).await?;
    let cluster = namespace.cluster("full");
    cluster.until_settled(2, STARTS_WITHIN).await?;
    let endpoint = cluster.endpoint().await?;

    let held = fill(&endpoint, ROOM, &Era::BOTH).await?;
    cluster.until_condition("Available", "False", "AtCapacity", DECIDES_WITHIN).await?;
    // Full everywhere: every client gets an answer it can act on, and what is held stays.
    for era in Era::BOTH {
        for _ in 0..10 {
            match Stream::open(&endpoint, era).await? {
                Opened::Held(_) => return Err(Failure::new("a full shard took a stream")),
                Opened::Refused(refusal) => refusal.is_overload()?,
            }
        }
    }
    let modern = Modern::new(endpoint.clone());
    claim_eq!(modern.call("greet", json!({})).await?.tool_text()?, "Hello.", "a call while streams are full");
    let ends: Vec<End> = held.iter().filter_map(Stream::ended).collect();
    claim!(ends.is_empty(), "held streams ended: {ends:?}");

    // Room again.
    drop(held);
    eventually("room for a stream", Duration::from_secs(20), || async { hold(&endpoint, Era::Modern, 1).await }).await?;
    Ok(())
}

pub(crate) async fn full_of_connections_is_unavailable(namespace: Namespace) -> Outcome {
    const ROOM: usize = 2 * 12;
    let spec = json!({"replicas": 2, "limits": {"maxStreams": 100, "maxConnections": 12}});
    namespace.apply(&small("packed", &spec).to_string()).await?;
    let cluster = namespace.cluster("packed");
    cluster.until_settled(2, STARTS_WITHIN).await?;
    let endpoint = cluster.endpoint().await?;
    let held = fill(&endpoint, ROOM, &[Era::Modern]).await?;
    let modern = Modern::new(endpoint);
    for _ in 0..10 {
        modern.call("greet", json!({})).await?.is_overload()?;
    }
    let object = cluster.until_condition("Available", "False", "AtCapacity", DECIDES_WITHIN).await?;
    claim!(!message(&object, "Available").is_empty(), "Available does not say what is full");
    has_condition(&object, "Ready", "False", "AtCapacity").map_err(Failure::new)?;
    drop(held);
    cluster.until_condition("Available", "True", "ShardsReady", DECIDES_WITHIN).await?;
    claim_eq!(modern.call("greet", json!({})).await?.tool_text()?, "Hello.", "a call when there is room again");
    Ok(())
}

pub(crate) async fn kubectl_scale_is_honoured_in_manual_mode(namespace: Namespace) -> Outcome {
    namespace.apply(&small("manual", &json!({"replicas": 1})).to_string()).await?;
    let cluster = namespace.cluster("manual");
    cluster.until_settled(1, STARTS_WITHIN).await?;
    namespace.kubectl(&["scale", "mcpcluster/manual", "--replicas=3"]).await?;
    let object = cluster.until_settled(3, STARTS_WITHIN).await?;
    last_scale(&object, 3, "Manual").map_err(Failure::new)?;
    namespace.kubectl(&["scale", "mcpcluster/manual", "--replicas=1"]).await?;
    let object = cluster.until_settled(1, STARTS_WITHIN).await?;
    last_scale(&object, 1, "Manual").map_err(Failure::new)?;
    claim_eq!(object.spec.replicas, Some(1), "spec.replicas");
    Ok(())
}
