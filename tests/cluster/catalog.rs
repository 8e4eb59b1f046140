//! A catalog that changes while shards serve it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use mcp_crds::McpCluster;
use mcp_tests::cluster::{Cluster, STARTS_WITHIN, has_condition, message, restarts, uid};
use mcp_tests::mcp::Modern;
use mcp_tests::wait::eventually;
use mcp_tests::{Failure, Namespace, Outcome, claim, claim_eq};
use serde_json::{Value, json};

use crate::manifest::{greet, small};

/// The kubelet syncs a mounted ConfigMap within seconds of the annotation that hints at it.
const REACHES_SHARDS_WITHIN: Duration = Duration::from_mins(1);

/// Revision of the published configuration, and how many shards serve it.
fn serving(cluster: &McpCluster) -> (String, i32) {
    let catalog = cluster.status.as_ref().and_then(|status| status.catalog.clone()).unwrap_or_default();
    (catalog.revision, catalog.shards)
}

async fn identities(cluster: &Cluster) -> Outcome<BTreeMap<String, i32>> {
    Ok(cluster.ready_pods().await?.iter().map(|pod| (uid(pod), restarts(pod))).collect())
}

/// What every shard answers to `greet`, asked past the Service.
async fn greetings(cluster: &Cluster) -> Outcome<Vec<String>> {
    let mut texts = Vec::new();
    for shard in cluster.shard_endpoints().await? {
        texts.push(Modern::new(shard).call("greet", json!({})).await?.tool_text()?.to_owned());
    }
    Ok(texts)
}

pub(crate) async fn a_change_reaches_every_shard_without_a_restart(namespace: Namespace) -> Outcome {
    namespace.apply(&small("live", &json!({"replicas": 3})).to_string()).await?;
    let cluster = namespace.cluster("live");
    let (old, shards) = serving(&cluster.until_settled(3, STARTS_WITHIN).await?);
    claim_eq!((old.len(), shards), (6, 3), "revision {old} and the shards that serve it");
    let before = identities(&cluster).await?;

    cluster.patch(&json!({"spec": {"catalog": {"tools": [greet("Hello again.")]}}})).await?;
    let object = cluster
        .until("a new revision on 3 shards", REACHES_SHARDS_WITHIN, |cluster| {
            let (revision, shards) = serving(cluster);
            has_condition(cluster, "CatalogValid", "True", "Compiled")?;
            if revision != old && shards == 3 { Ok(()) } else { Err(format!("revision {revision} on {shards} shards")) }
        })
        .await?;
    // What the status says is true at once, on every shard.
    claim_eq!(greetings(&cluster).await?, ["Hello again."; 3], "greetings after {}", serving(&object).0);
    let tools = object.status.as_ref().and_then(|status| status.catalog.as_ref()).map(|catalog| catalog.tools);
    claim_eq!(tools, Some(1), "status.catalog.tools");
    claim_eq!(identities(&cluster).await?, before, "pods and their restarts");
    Ok(())
}

fn source(text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more-tools"}, "data": {"catalog.yaml": text}})
}

pub(crate) async fn a_broken_catalog_is_refused_and_new_shards_serve_the_last_good_one(namespace: Namespace) -> Outcome {
    const GOOD: &str = "tools:\n- name: extra\n  static: {content: [{text: From a source.}]}\n";
    const BROKEN: &str = "tools:\n- name: greet\n  static: {content: [{text: Twice.}]}\n- name: wrong\n  template: {content: [{text: '{nobody}'}]}\n";
    namespace.apply(&source(GOOD).to_string()).await?;
    let more = json!([{"name": "more", "configMapKeyRef": {"name": "more-tools", "key": "catalog.yaml"}}]);
    namespace.apply(&small("firm", &json!({"replicas": 2, "catalog": {"sources": more}})).to_string()).await?;
    let cluster = namespace.cluster("firm");
    let (good, _) = serving(&cluster.until_settled(2, STARTS_WITHIN).await?);
    let modern = Modern::new(cluster.endpoint().await?);
    claim_eq!(modern.call("extra", json!({})).await?.tool_text()?, "From a source.", "a tool of a source");

    namespace.apply(&source(BROKEN).to_string()).await?;
    let object = cluster.until_condition("CatalogValid", "False", "Invalid", REACHES_SHARDS_WITHIN).await?;
    let said = message(&object, "CatalogValid").to_owned();
    // Every error at once, each with its place, and what is served meanwhile.
    for part in ["2 errors", "source more, line 2", "greet", "source more, line 5", "{nobody}", &good] {
        claim!(said.contains(part), "CatalogValid does not say {part:?}: {said}");
    }
    cluster.until_condition("Ready", "False", "CatalogInvalid", Duration::from_secs(15)).await?;
    cluster.until_condition("Available", "True", "ShardsReady", Duration::from_secs(15)).await?;

    // A shard is added, and one that knew the good catalog goes.
    namespace.kubectl(&["scale", "mcpcluster/firm", "--replicas=3"]).await?;
    let three_serve = |cluster: &McpCluster| match serving(cluster) {
        (revision, 3) if revision == good => Ok(()),
        other => Err(format!("revision and shards {other:?}")),
    };
    cluster.until("the last good revision on 3 shards", STARTS_WITHIN, three_serve).await?;
    let oldest = cluster.ready_pods().await?.first().map(ResourceExt::name_any).unwrap_or_default();
    let before = identities(&cluster).await?;
    namespace.api::<Pod>().delete(&oldest, &DeleteParams::default()).await?;
    eventually("a shard in the place of the deleted one", STARTS_WITHIN, || async {
        let now = identities(&cluster).await?;
        claim!(now.len() == 3 && now != before, "{now:?}");
        Ok(())
    })
    .await?;
    for shard in cluster.shard_endpoints().await? {
        let modern = Modern::new(shard);
        claim_eq!(modern.call("greet", json!({})).await?.tool_text()?, "Hello.", "greet on each shard");
        claim_eq!(modern.call("extra", json!({})).await?.tool_text()?, "From a source.", "extra on each shard");
    }
    let object = cluster.get().await?;
    has_condition(&object, "CatalogValid", "False", "Invalid").map_err(Failure::new)?;

    // Mended, it is served again.
    namespace.apply(&source(&GOOD.replace("From a source.", "Mended.")).to_string()).await?;
    cluster.until_condition("CatalogValid", "True", "Compiled", REACHES_SHARDS_WITHIN).await?;
    eventually("the mended catalog", REACHES_SHARDS_WITHIN, || async {
        claim_eq!(modern.call("extra", json!({})).await?.tool_text()?, "Mended.", "a tool of a mended source");
        Ok(())
    })
    .await
}
