//! What goes, and what stays, when the operator, the definition, a resource or a namespace is removed. There is no finalizer:
//! owner references do it all, and nothing waits for an operator.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace as CoreNamespace, Pod, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use kube::discovery::{Discovery, Scope, verbs};
use mcp_tests::cluster::{STARTS_WITHIN, restarts, uid};
use mcp_tests::mcp::{Era, Modern, Session, Stream, hold};
use mcp_tests::run::apply_definition;
use mcp_tests::wait::{eventually, throughout};
use mcp_tests::{Cluster, Namespace, Operator, Outcome, claim, claim_eq};
use serde_json::json;

use crate::manifest::{greet, small};

const DEFINITION: &str = "mcpclusters.mcpcluster.dev";
/// A shard drains for 12 s here; the garbage collector and the kubelet take a few more.
const GOES_WITHIN: Duration = Duration::from_secs(90);

/// Every object in a namespace; events and measurements, which nobody owns, are left out.
async fn objects(namespace: &Namespace) -> Outcome<Vec<DynamicObject>> {
    let discovery = Discovery::new(namespace.client().clone()).run().await?;
    let mut found = Vec::new();
    for (resource, capabilities) in discovery.groups().flat_map(kube::discovery::ApiGroup::recommended_resources) {
        let listed = capabilities.scope == Scope::Namespaced && capabilities.supports_operation(verbs::LIST);
        if !listed || resource.kind == "Event" || resource.group == "metrics.k8s.io" {
            continue;
        }
        let api: Api<DynamicObject> = Api::namespaced_with(namespace.client().clone(), namespace.name(), &resource);
        for mut object in api.list(&ListParams::default()).await?.items {
            object.types = Some(kube::api::TypeMeta { api_version: resource.api_version.clone(), kind: resource.kind.clone() });
            found.push(object);
        }
    }
    Ok(found)
}

/// `Pod/tools-0`
fn name(object: &DynamicObject) -> String {
    format!("{}/{}", object.types.as_ref().map_or("", |types| &types.kind), object.name_any())
}

async fn names(namespace: &Namespace) -> Outcome<BTreeSet<String>> {
    Ok(objects(namespace).await?.iter().map(name).collect())
}

/// A cluster with every kind of object, and streams of both eras on it.
async fn whole(namespace: &Namespace, cluster: &str) -> Outcome<(Cluster, Vec<Stream>)> {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "api"}, "stringData": {"token": "t"}});
    namespace.apply(&secret.to_string()).await?;
    let backend = json!({"name": "api", "url": "http://api.example.com",
        "authorization": {"bearer": {"secretKeyRef": {"name": "api", "key": "token"}}}});
    let fetch = json!({"name": "fetch", "http": {"backend": "api", "url": "/x"}});
    let catalog = json!({"backends": [backend], "tools": [greet("Hello."), fetch]});
    let spec = json!({"replicas": 2, "networkPolicy": {}, "catalog": catalog});
    namespace.apply(&small(cluster, &spec).to_string()).await?;
    let cluster = namespace.cluster(cluster);
    cluster.until_settled(2, STARTS_WITHIN).await?;
    let endpoint = cluster.endpoint().await?;
    let mut streams = hold(&endpoint, Era::Modern, 6).await?;
    streams.extend(hold(&endpoint, Era::Legacy, 6).await?);
    Ok((cluster, streams))
}

async fn end_gracefully(streams: &[Stream]) -> Outcome {
    for stream in streams {
        let end = stream.until_end(GOES_WITHIN).await?;
        claim!(end.is_graceful(stream.era()), "a {:?} stream ended as {end:?}", stream.era());
    }
    Ok(())
}

pub(crate) async fn deleting_a_cluster_needs_no_operator(namespace: Namespace) -> Outcome {
    eventually("the namespace's own ConfigMap", Duration::from_secs(20), || async {
        claim!(names(&namespace).await?.contains("ConfigMap/kube-root-ca.crt"), "not there");
        Ok(())
    })
    .await?;
    let operator = Operator::of(&namespace);
    let (cluster, streams) = whole(&namespace, "orphan").await?;

    let cluster_uid = cluster.get().await?.uid().unwrap_or_default();
    let mut owned = BTreeSet::new();
    for object in objects(&namespace).await? {
        let ours = object.owner_references().iter().find(|reference| reference.uid == cluster_uid);
        let Some(reference) = ours else { continue };
        claim!(reference.block_owner_deletion != Some(true), "{} blocks the deletion of its owner", name(&object));
        claim!(object.finalizers().is_empty(), "{} has finalizers {:?}", name(&object), object.finalizers());
        owned.insert(name(&object));
    }
    for expected in [
        "ConfigMap/orphan-config",
        "NetworkPolicy/orphan",
        "Pod/orphan-0",
        "PodDisruptionBudget/orphan",
        "Secret/orphan-credentials",
        "Secret/orphan-keys",
        "Service/orphan",
        "Service/orphan-members",
        "Service/orphan-shards",
        "ServiceAccount/orphan-shard",
    ] {
        claim!(owned.contains(expected), "{expected} is not among those owned: {owned:?}");
    }
    claim!(cluster.get().await?.finalizers().is_empty(), "the McpCluster has a finalizer");

    operator.scale(0).await?;
    cluster.delete().await?;
    eventually("the end of all it owned", GOES_WITHIN, || async {
        let names = names(&namespace).await?;
        // EndpointSlices are owned by Services.
        let left: Vec<_> = names.iter().filter(|name| owned.contains(*name) || name.contains("/orphan")).cloned().collect();
        claim!(left.is_empty(), "left behind: {}", left.join(", "));
        Ok(())
    })
    .await?;
    claim!(namespace.api::<Secret>().get_opt("api").await?.is_some(), "the user's own Secret went too");
    end_gracefully(&streams).await
}

pub(crate) async fn shards_serve_without_an_operator_which_takes_over_later(namespace: Namespace) -> Outcome {
    let operator = Operator::of(&namespace);
    let replicas = operator.deployments().get(mcp_tests::operator::NAME).await?.spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let (cluster, streams) = whole(&namespace, "alone").await?;
    let before: BTreeSet<_> = cluster.ready_pods().await?.iter().map(uid).collect();
    let endpoint = cluster.endpoint().await?;
    let (modern, session) = (Modern::new(endpoint.clone()), Session::open(&endpoint).await?);

    operator.scale(0).await?;
    // What is asked for now waits for an operator; what is there goes on. Longer than any of a shard's own patience.
    cluster.patch(&json!({"spec": {"replicas": 3}})).await?;
    throughout("shards without an operator", Duration::from_secs(20), || async {
        claim_eq!(modern.call("greet", json!({})).await?.tool_text()?, "Hello.", "a modern call");
        claim_eq!(session.call("greet", json!({})).await?.tool_text()?, "Hello.", "a call of a session");
        claim!(streams.iter().all(|stream| stream.ended().is_none()), "a stream ended");
        Ok(())
    })
    .await?;
    claim_eq!(cluster.pods().await?.len(), 2, "shards while there is no operator");
    drop(hold(&endpoint, Era::Modern, 4).await?);

    operator.scale(replicas).await?;
    cluster.until_settled(3, STARTS_WITHIN).await?;
    let after = cluster.ready_pods().await?;
    let now: BTreeSet<_> = after.iter().map(uid).collect();
    claim!(before.is_subset(&now), "a shard was replaced: {before:?}, then {now:?}");
    claim_eq!(after.iter().map(restarts).sum::<i32>(), 0, "restarts of shards");
    claim!(streams.iter().all(|stream| stream.ended().is_none()), "a stream ended when the operator came back");
    Ok(())
}

/// Alone on the cluster: the definition is everybody's.
pub(crate) async fn the_definition_may_go_and_come_back_under_a_running_operator(namespace: Namespace) -> Outcome {
    let operator = Operator::of(&namespace);
    let (cluster, streams) = whole(&namespace, "undefined").await?;
    let pods = operator.ready_pods().await?;

    let definitions: Api<CustomResourceDefinition> = Api::all(namespace.client().clone());
    let removed = async {
        definitions.delete(DEFINITION, &DeleteParams::background()).await?;
        eventually("the end of the definition and of the shards", GOES_WITHIN, || async {
            claim!(definitions.get_opt(DEFINITION).await?.is_none(), "the definition is still there");
            let left: Vec<_> = cluster.pods().await?.iter().map(ResourceExt::name_any).collect();
            claim!(left.is_empty(), "{}", left.join(", "));
            Ok(())
        })
        .await?;
        end_gracefully(&streams).await
    };
    let removed = removed.await;
    apply_definition(namespace.client()).await?;
    removed?;

    // Its watches fail meanwhile, and begin again with a back-off of half a minute at most.
    eventually("the definition", GOES_WITHIN, || async {
        namespace.apply(&small("undefined", &json!({"replicas": 1})).to_string()).await
    })
    .await?;
    cluster.until_settled(1, STARTS_WITHIN + Duration::from_mins(1)).await?;
    claim_eq!(operator.ready_pods().await?, pods, "pods of the operator");
    let again: i32 = operator.pods().await?.iter().map(restarts).sum();
    claim_eq!(again, 0, "restarts of the operator");
    claim_eq!(Modern::new(cluster.endpoint().await?).call("greet", json!({})).await?.tool_text()?, "Hello.", "a call");
    Ok(())
}

/// The operator lives in the namespace that goes, so nobody is left to help.
pub(crate) async fn a_namespace_ends_by_itself(namespace: Namespace) -> Outcome {
    let doomed = namespace.beside().await?;
    let operator = Operator::install(&doomed).await?;
    let (_, streams) = whole(&doomed, "doomed").await?;
    operator.scale(0).await?;
    let namespaces: Api<CoreNamespace> = Api::all(namespace.client().clone());
    namespaces.delete(doomed.name(), &DeleteParams::background()).await?;
    end_gracefully(&streams).await?;
    eventually("the end of the shards", GOES_WITHIN, || async {
        let left: Vec<_> =
            doomed.api::<Pod>().list(&ListParams::default()).await?.items.iter().map(ResourceExt::name_any).collect();
        claim!(left.is_empty(), "{}", left.join(", "));
        Ok(())
    })
    .await?;
    // Kubernetes looks at a namespace again after half of the longest grace period of the pods it saw in it.
    eventually("the end of the namespace", GOES_WITHIN, || async {
        let left = namespaces.get_opt(doomed.name()).await?;
        claim!(left.is_none(), "{:?}", left.and_then(|left| left.status));
        Ok(())
    })
    .await
}
