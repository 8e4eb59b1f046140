//! From apply to delete.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use kube::discovery::{Discovery, Scope, verbs};
use mcp_tests::cluster::{STARTS_WITHIN, has_condition, uid};
use mcp_tests::mcp::{Era, Modern, Session, hold};
use mcp_tests::run::read;
use mcp_tests::wait::eventually;
use mcp_tests::{Failure, Namespace, Outcome, claim, claim_eq};
use serde_json::json;

use crate::manifest::small;

/// The sample unchanged, through kubectl, as a person would.
pub(crate) async fn the_quickstart_becomes_ready_and_answers(namespace: Namespace) -> Outcome {
    let sample = read("manifests/samples/quickstart.yaml")?;
    namespace.kubectl_with_input(&["apply", "-f", "-"], &sample).await?;
    namespace.kubectl(&["wait", "--for=condition=Ready", "mcpcluster/hello", "--timeout=90s"]).await?;
    let cluster = namespace.cluster("hello");
    let object = cluster.get().await?;
    has_condition(&object, "Ready", "True", "Serving").map_err(Failure::new)?;
    for (kind, status, reason) in [
        ("Available", "True", "ShardsReady"),
        ("CatalogValid", "True", "Compiled"),
        ("AutoscalingActive", "False", "ManualReplicas"),
        ("ScalingLimited", "False", "ManualReplicas"),
        ("Draining", "False", "NoShardDraining"),
        ("MemoryPressure", "False", "BelowTarget"),
    ] {
        cluster.until_condition(kind, status, reason, Duration::from_secs(30)).await?;
    }
    let endpoint = cluster.endpoint().await?;
    claim_eq!(Modern::new(endpoint.clone()).call("greet", json!({})).await?.tool_text()?, "Hello from MCP.", "greet");
    claim_eq!(Session::open(&endpoint).await?.call("greet", json!({})).await?.tool_text()?, "Hello from MCP.", "greet");
    Ok(())
}

pub(crate) async fn a_deleted_shard_is_replaced_and_no_call_fails(namespace: Namespace) -> Outcome {
    namespace.apply(&small("steady", &json!({"replicas": 2})).to_string()).await?;
    let cluster = namespace.cluster("steady");
    cluster.until_settled(2, STARTS_WITHIN).await?;
    let modern = Modern::new(cluster.endpoint().await?);
    let before: BTreeSet<_> = cluster.ready_pods().await?.iter().map(uid).collect();
    let victim = cluster.ready_pods().await?.first().map(ResourceExt::name_any).unwrap_or_default();

    let replaced = Arc::new(AtomicBool::new(false));
    let calling = {
        let replaced = replaced.clone();
        tokio::spawn(async move {
            let mut calls = 0_u32;
            while !replaced.load(Ordering::Relaxed) {
                claim_eq!(modern.call("greet", json!({})).await?.tool_text()?, "Hello.", "a call while a shard is replaced");
                calls += 1;
            }
            Ok(calls)
        })
    };
    namespace.api::<Pod>().delete(&victim, &DeleteParams::default()).await?;
    let outcome = eventually("two shards, one of them new", STARTS_WITHIN, || async {
        let now: BTreeSet<_> = cluster.ready_pods().await?.iter().map(uid).collect();
        claim!(now.len() == 2 && now.difference(&before).count() == 1, "ready: {now:?}, before: {before:?}");
        let all = cluster.pods().await?.len();
        claim_eq!(all, 2, "pods");
        Ok(())
    })
    .await;
    replaced.store(true, Ordering::Relaxed);
    let calls: Outcome<u32> = calling.await?;
    outcome?;
    claim!(calls? > 10, "hardly a call was made");
    cluster.until_settled(2, STARTS_WITHIN).await?;
    Ok(())
}

/// `Kind.group/name` of everything in the namespace; events and measurements, which nobody owns, are left out.
async fn objects(namespace: &Namespace) -> Outcome<BTreeSet<String>> {
    let discovery = Discovery::new(namespace.client().clone()).run().await?;
    let mut found = BTreeSet::new();
    for (resource, capabilities) in discovery.groups().flat_map(kube::discovery::ApiGroup::recommended_resources) {
        let listed = capabilities.scope == Scope::Namespaced && capabilities.supports_operation(verbs::LIST);
        if !listed || resource.kind == "Event" || resource.group == "metrics.k8s.io" {
            continue;
        }
        let api: Api<DynamicObject> = Api::namespaced_with(namespace.client().clone(), namespace.name(), &resource);
        for object in api.list(&ListParams::default()).await?.items {
            found.insert(format!("{}.{}/{}", resource.kind, resource.group, object.name_any()));
        }
    }
    Ok(found)
}

pub(crate) async fn deleting_a_cluster_leaves_no_object_behind(namespace: Namespace) -> Outcome {
    eventually("the namespace's own ConfigMap", Duration::from_secs(20), || async {
        claim!(objects(&namespace).await?.contains("ConfigMap./kube-root-ca.crt"), "not there");
        Ok(())
    })
    .await?;
    let before = objects(&namespace).await?;
    namespace.apply(&small("brief", &json!({"replicas": 2, "networkPolicy": {}})).to_string()).await?;
    let cluster = namespace.cluster("brief");
    cluster.until_settled(2, STARTS_WITHIN).await?;
    // Held streams must not hold the objects.
    let streams = hold(&cluster.endpoint().await?, Era::Modern, 4).await?;
    let made: BTreeSet<_> = objects(&namespace).await?.difference(&before).cloned().collect();
    for expected in [
        "Service./brief",
        "Service./brief-members",
        "Service./brief-shards",
        "ConfigMap./brief-config",
        "Secret./brief-keys",
        "ServiceAccount./brief-shard",
        "PodDisruptionBudget.policy/brief",
        "NetworkPolicy.networking.k8s.io/brief",
    ] {
        claim!(made.contains(expected), "there is no {expected} among {made:?}");
    }
    cluster.delete().await?;
    eventually("the namespace as it was", Duration::from_secs(90), || async {
        let left: Vec<_> = objects(&namespace).await?.difference(&before).cloned().collect();
        claim!(left.is_empty(), "left behind: {}", left.join(", "));
        Ok(())
    })
    .await?;
    for stream in &streams {
        let end = stream.until_end(Duration::from_secs(5)).await?;
        claim!(end.is_graceful(Era::Modern), "a stream of a deleted cluster ended as {end:?}");
    }
    Ok(())
}
