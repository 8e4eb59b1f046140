//! What others do to our objects, and what is theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PropagationPolicy};
use kube::{Resource, ResourceExt as _};
use mcp_crds::McpCluster;
use mcp_tests::apply::documents;
use mcp_tests::cluster::{CLUSTER_LABEL, STARTS_WITHIN, STATE_LABEL, has_condition, is_ready, message, uid};
use mcp_tests::mcp::Session;
use mcp_tests::operator::Images;
use mcp_tests::run::repository;
use mcp_tests::wait::{eventually, throughout};
use mcp_tests::{Failure, Namespace, Outcome, claim, claim_eq, operator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::manifest::small;

/// What somebody changed is put back at once; the watch, the pass and a busy machine take their time.
const PUT_BACK_WITHIN: Duration = Duration::from_secs(45);
/// A name that becomes free is taken within 30 s, and then shards start.
const TAKEN_WITHIN: Duration = Duration::from_mins(3);
/// Who changes our objects.
const SOMEBODY: &str = "somebody";

/// An object as far as it is not the API server's: without versions, times, addresses and status.
async fn essence<K>(namespace: &Namespace, name: &str) -> Outcome<Value>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
{
    let mut object = serde_json::to_value(namespace.api::<K>().get(name).await?)?;
    for (part, noise) in [
        ("metadata", &["resourceVersion", "managedFields", "generation", "uid", "creationTimestamp"][..]),
        ("spec", &["clusterIP", "clusterIPs"]),
    ] {
        if let Some(part) = object[part].as_object_mut() {
            part.retain(|name, _| !noise.contains(&name.as_str()));
        }
    }
    object["status"] = Value::Null;
    Ok(object)
}

/// Everything that is owned beside the pods.
async fn owned(namespace: &Namespace, cluster: &str) -> Outcome<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for name in [cluster.to_owned(), format!("{cluster}-members"), format!("{cluster}-shards")] {
        all.insert(format!("Service {name}"), essence::<Service>(namespace, &name).await?);
    }
    let config = format!("{cluster}-config");
    all.insert(format!("ConfigMap {config}"), essence::<ConfigMap>(namespace, &config).await?);
    let account = format!("{cluster}-shard");
    all.insert(format!("ServiceAccount {account}"), essence::<ServiceAccount>(namespace, &account).await?);
    all.insert("PodDisruptionBudget".to_owned(), essence::<PodDisruptionBudget>(namespace, cluster).await?);
    all.insert("NetworkPolicy".to_owned(), essence::<NetworkPolicy>(namespace, cluster).await?);
    Ok(all)
}

async fn change<K>(namespace: &Namespace, name: &str, change: Value) -> Outcome
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let how = PatchParams { field_manager: Some(SOMEBODY.to_owned()), ..PatchParams::default() };
    namespace.api::<K>().patch(name, &how, &Patch::Merge(change)).await?;
    Ok(())
}

/// Waits until every owned object is as it was.
async fn until_as_before(namespace: &Namespace, cluster: &str, before: &BTreeMap<String, Value>) -> Outcome {
    eventually("every object as it was", PUT_BACK_WITHIN, || async {
        let now = owned(namespace, cluster).await?;
        let different: Vec<_> = before.iter().filter(|(name, object)| now.get(*name) != Some(object)).collect();
        claim!(different.is_empty(), "{different:?}\nis {:?}", different.iter().map(|(name, _)| &now[*name]).collect::<Vec<_>>());
        Ok(())
    })
    .await
}

pub(crate) async fn what_others_change_or_delete_is_put_back(namespace: Namespace) -> Outcome {
    namespace.apply(&small("mine", &json!({"replicas": 2, "networkPolicy": {}})).to_string()).await?;
    let cluster = namespace.cluster("mine");
    cluster.until_settled(2, STARTS_WITHIN).await?;
    let before = eventually("an operator that has nothing more to write", PUT_BACK_WITHIN, || async {
        let (first, second) = (owned(&namespace, "mine").await?, owned(&namespace, "mine").await?);
        claim!(first == second && first["PodDisruptionBudget"]["spec"]["minAvailable"] == 1, "it still writes");
        Ok(first)
    })
    .await?;
    let pods: BTreeSet<_> = cluster.pods().await?.iter().map(uid).collect();
    // Somebody takes our name off an object, too.
    allow_adoption(&namespace).await?;

    // Every kind of object, every kind of change.
    change::<Service>(&namespace, "mine", json!({"spec": {"selector": {"somebody": "else"}}})).await?;
    change::<Service>(&namespace, "mine-shards", json!({"spec": {"publishNotReadyAddresses": false}})).await?;
    change::<Service>(&namespace, "mine-members", json!({"metadata": {"ownerReferences": null}})).await?;
    change::<ConfigMap>(&namespace, "mine-config", json!({"data": {"hash": "0"}})).await?;
    change::<ServiceAccount>(&namespace, "mine-shard", json!({"automountServiceAccountToken": true})).await?;
    change::<PodDisruptionBudget>(&namespace, "mine", json!({"spec": {"minAvailable": 0}})).await?;
    change::<NetworkPolicy>(&namespace, "mine", json!({"spec": {"ingress": [{}]}})).await?;
    until_as_before(&namespace, "mine", &before).await?;
    cluster.until_event("Restored", "Service mine: spec.selector was changed by somebody", PUT_BACK_WITHIN).await?;
    cluster.until_event("Adopted", "Service mine-members", PUT_BACK_WITHIN).await?;
    // The labels by which they are seen.
    change::<ConfigMap>(&namespace, "mine-config", json!({"metadata": {"labels": null}})).await?;
    change::<PodDisruptionBudget>(&namespace, "mine", json!({"metadata": {"labels": {CLUSTER_LABEL: "other"}}})).await?;
    change::<Service>(&namespace, "mine", json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}})).await?;
    until_as_before(&namespace, "mine", &before).await?;

    let names: Vec<_> = cluster.pods().await?.iter().map(kube::ResourceExt::name_any).collect();
    let [first, second] = &names[..] else { return Err(Failure::new(format!("pods: {names:?}"))) };
    change::<Pod>(&namespace, first, json!({"metadata": {"labels": {STATE_LABEL: null, "mcpcluster.dev/placed": "perhaps"}}}))
        .await?;
    change::<Pod>(&namespace, second, json!({"metadata": {"labels": {CLUSTER_LABEL: null}}})).await?;
    until_labelled(&namespace, &names).await?;
    change::<Pod>(&namespace, first, json!({"metadata": {"ownerReferences": null}})).await?;
    eventually("a pod with its owner", PUT_BACK_WITHIN, || async {
        let pod = namespace.api::<Pod>().get(first).await?;
        claim!(pod.owner_references().iter().any(|owner| owner.controller == Some(true)), "it has none");
        Ok(())
    })
    .await?;
    claim_eq!(cluster.pods().await?.iter().map(uid).collect::<BTreeSet<_>>(), pods, "pods after all that");

    let now = DeleteParams::default();
    namespace.api::<Service>().delete("mine-shards", &now).await?;
    namespace.api::<ConfigMap>().delete("mine-config", &now).await?;
    namespace.api::<ServiceAccount>().delete("mine-shard", &now).await?;
    namespace.api::<PodDisruptionBudget>().delete("mine", &now).await?;
    namespace.api::<NetworkPolicy>().delete("mine", &now).await?;
    until_as_before(&namespace, "mine", &before).await?;
    cluster.until_settled(2, STARTS_WITHIN).await?;
    // And then it is quiet.
    let seen = owned_versions(&namespace).await?;
    throughout("nothing is written", Duration::from_secs(10), || async {
        claim_eq!(owned_versions(&namespace).await?, seen, "versions");
        Ok(())
    })
    .await
}

async fn owned_versions(namespace: &Namespace) -> Outcome<Vec<Option<String>>> {
    let mut versions = vec![];
    versions.extend(
        namespace.api::<Service>().list(&ListParams::default()).await?.items.iter().map(kube::ResourceExt::resource_version),
    );
    versions.extend(namespace.api::<PodDisruptionBudget>().list(&ListParams::default()).await?.items.iter().map(|budget| {
        // Its status is the disruption controller's.
        budget.metadata.generation.map(|generation| generation.to_string())
    }));
    versions.extend(
        namespace
            .api::<NetworkPolicy>()
            .list(&ListParams::default())
            .await?
            .items
            .iter()
            .map(kube::ResourceExt::resource_version),
    );
    versions.extend(
        namespace
            .api::<ServiceAccount>()
            .list(&ListParams::default())
            .await?
            .items
            .iter()
            .map(kube::ResourceExt::resource_version),
    );
    Ok(versions)
}

async fn until_labelled(namespace: &Namespace, pods: &[String]) -> Outcome {
    eventually("the labels of the pods", PUT_BACK_WITHIN, || async {
        for name in pods {
            let pod = namespace.api::<Pod>().get(name).await?;
            for (label, value) in [(CLUSTER_LABEL, "mine"), (STATE_LABEL, "active"), ("mcpcluster.dev/placed", "true")] {
                claim_eq!(pod.labels().get(label).map(String::as_str), Some(value), "label {label} of {name}");
            }
        }
        Ok(())
    })
    .await
}

/// Another controller that wants the same field.
pub(crate) async fn another_controller_is_not_fought_for_ever(namespace: Namespace) -> Outcome {
    namespace.apply(&small("wanted", &json!({"replicas": 1})).to_string()).await?;
    let cluster = namespace.cluster("wanted");
    cluster.until_settled(1, STARTS_WITHIN).await?;
    let fighting = {
        let namespace = namespace.clone();
        tokio::spawn(async move {
            let mut changes = 0_u32;
            loop {
                let service = namespace.api::<Service>().get("wanted-members").await?;
                let theirs = service.labels().get("app.kubernetes.io/name").is_some_and(|name| name == "theirs");
                if !theirs {
                    change::<Service>(
                        &namespace,
                        "wanted-members",
                        json!({"metadata": {"labels": {"app.kubernetes.io/name": "theirs"}}}),
                    )
                    .await?;
                    changes += 1;
                }
                if changes > 4 {
                    return Ok::<_, Failure>(changes);
                }
                tokio::task::yield_now().await;
            }
        })
    };
    let object = cluster.until_condition("Ready", "False", "ApplyFailed", PUT_BACK_WITHIN).await?;
    let said = message(&object, "Ready");
    claim!(
        said.contains("Service wanted-members: somebody changes metadata.labels") && said.contains("less and less"),
        "{said:?}"
    );
    has_condition(&object, "Available", "True", "ShardsReady").map_err(Failure::new)?;
    fighting.abort();
    // In the end it is ours again, and the quarrel forgotten.
    eventually("our label", Duration::from_secs(90), || async {
        let service = namespace.api::<Service>().get("wanted-members").await?;
        claim_eq!(service.labels().get("app.kubernetes.io/name").map(String::as_str), Some("mcp-server"), "label");
        Ok(())
    })
    .await?;
    cluster.until_condition("Ready", "True", "Serving", Duration::from_mins(2)).await?;
    Ok(())
}

/// Everything that could have one of our names and is somebody else's.
fn theirs(image: &str) -> Vec<Value> {
    let pod = json!({"containers": [{
        "name": "echo", "image": image, "imagePullPolicy": "IfNotPresent",
        "resources": {"limits": {"memory": "32Mi"}},
        "securityContext": {"allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"}},
    }]});
    let object = |version: &str, kind: &str, name: &str, rest: Value| {
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
        for (member, value) in rest.as_object().into_iter().flatten() {
            object[member] = value.clone();
        }
        object
    };
    vec![
        object("v1", "Service", "taken", json!({"spec": {"ports": [{"port": 1}], "selector": {"a": "b"}}})),
        object("v1", "Pod", "taken-0", json!({"spec": pod})),
        object(
            "policy/v1",
            "PodDisruptionBudget",
            "taken",
            json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}}),
        ),
        object("v1", "Secret", "sealed-keys", json!({"stringData": {"a": "b"}})),
        object("v1", "ConfigMap", "written-config", json!({"data": {"a": "b"}})),
        object("v1", "ServiceAccount", "served-shard", json!({})),
    ]
}

async fn version<K>(namespace: &Namespace, name: &str) -> Outcome<Option<String>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    Ok(namespace.api::<K>().get(name).await?.meta().resource_version.clone())
}

/// Versions of what is theirs; of the pod, which lives, its labels and owners.
async fn versions(namespace: &Namespace) -> Outcome<Vec<Option<String>>> {
    let pod = namespace.api::<Pod>().get("taken-0").await?;
    Ok(vec![
        version::<Service>(namespace, "taken").await?,
        Some(namespace.api::<PodDisruptionBudget>().get("taken").await?.metadata.generation.unwrap_or_default().to_string()),
        version::<Secret>(namespace, "sealed-keys").await?,
        version::<ConfigMap>(namespace, "written-config").await?,
        version::<ServiceAccount>(namespace, "served-shard").await?,
        Some(format!("{:?} {:?} {:?}", uid(&pod), pod.labels(), pod.owner_references())),
    ])
}

pub(crate) async fn a_name_of_somebody_else_is_left_alone_until_it_is_free(namespace: Namespace) -> Outcome {
    for object in theirs(&Images::from_env().named("http-echo")) {
        namespace.apply(&object.to_string()).await?;
    }
    let before = versions(&namespace).await?;
    // Which of them keeps a cluster from having shards.
    let clusters = [
        ("taken", "PodDisruptionBudget taken", true),
        ("sealed", "Secret sealed-keys", false),
        ("written", "ConfigMap written-config", false),
        ("served", "ServiceAccount served-shard", false),
    ];
    for (name, _, _) in clusters {
        namespace.apply(&small(name, &json!({"replicas": 1})).to_string()).await?;
    }
    for (name, object, has_shards) in clusters {
        let cluster = namespace.cluster(name);
        let seen = cluster.until_condition("Ready", "False", "NameConflict", STARTS_WITHIN).await?;
        let said = message(&seen, "Ready");
        claim!(said.starts_with(&format!("{object}: it exists and does not belong to this McpCluster")), "{name}: {said:?}");
        has_condition(&seen, "Progressing", "False", "NameConflict").map_err(Failure::new)?;
        if has_shards {
            // Other work goes on: the shard got another name, and serves.
            cluster.until_condition("Available", "True", "ShardsReady", STARTS_WITHIN).await?;
            let pods = cluster.pods().await?;
            claim!(pods.iter().all(|pod| pod.name_any() == "taken-1" && is_ready(pod)) && pods.len() == 1, "{pods:?}");
            cluster.until_event("NameConflict", "Pod taken-0", PUT_BACK_WITHIN).await?;
            claim!(namespace.api::<Service>().get_opt("taken-members").await?.is_some(), "there is no taken-members");
        } else {
            has_condition(&seen, "Available", "False", "NoShardReady").map_err(Failure::new)?;
            claim!(cluster.pods().await?.is_empty(), "{name} has pods");
            claim!(namespace.api::<Service>().get_opt(&format!("{name}-members")).await?.is_some(), "there is no {name}-members");
        }
    }
    namespace
        .kubectl(&[
            "wait",
            "--for=jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}=NameConflict",
            "mcpcluster/sealed",
            "--timeout=10s",
        ])
        .await?;
    claim_eq!(versions(&namespace).await?, before, "what is theirs");

    let now = DeleteParams::default();
    namespace.api::<Service>().delete("taken", &now).await?;
    namespace.api::<PodDisruptionBudget>().delete("taken", &now).await?;
    namespace.api::<Secret>().delete("sealed-keys", &now).await?;
    namespace.api::<ConfigMap>().delete("written-config", &now).await?;
    namespace.api::<ServiceAccount>().delete("served-shard", &now).await?;
    for (name, _, _) in clusters {
        namespace.cluster(name).until_settled(1, TAKEN_WITHIN).await?;
    }
    claim!(namespace.api::<Pod>().get_opt("taken-0").await?.is_some(), "their pod is gone");
    Ok(())
}

/// `manifests/adoption.yaml`, for whichever operator works here.
async fn allow_adoption(namespace: &Namespace) -> Outcome {
    for mut document in documents(&std::fs::read_to_string(repository().join("manifests/adoption.yaml"))?)? {
        if let Some(subjects) = document.get_mut("subjects").and_then(Value::as_array_mut) {
            subjects.push(json!({"kind": "ServiceAccount", "name": operator::NAME, "namespace": namespace.name()}));
        }
        namespace.apply(&document.to_string()).await?;
    }
    Ok(())
}

pub(crate) async fn what_an_orphaning_deletion_left_is_adopted(namespace: Namespace) -> Outcome {
    let manifest = small("kept", &json!({"replicas": 2, "networkPolicy": {}}));
    namespace.apply(&manifest.to_string()).await?;
    let cluster = namespace.cluster("kept");
    cluster.until_settled(2, STARTS_WITHIN).await?;
    let session = Session::open(&cluster.endpoint().await?).await?;
    let pods: BTreeSet<_> = cluster.pods().await?.iter().map(uid).collect();
    let address = namespace.api::<Service>().get("kept").await?.spec.and_then(|spec| spec.cluster_ip);
    let keys = namespace.api::<Secret>().get("kept-keys").await?.data;

    let orphaning = DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    namespace.api::<McpCluster>().delete("kept", &orphaning).await?;
    eventually("the end of the McpCluster", Duration::from_mins(1), || async {
        claim!(namespace.api::<McpCluster>().get_opt("kept").await?.is_none(), "it is still there");
        let pods = cluster.pods().await?;
        claim!(pods.len() == 2 && pods.iter().all(|pod| pod.owner_references().is_empty()), "pods: {pods:?}");
        Ok(())
    })
    .await?;
    claim_eq!(session.call("greet", json!({})).await?.tool_text()?, "Hello.", "a call to orphans");

    namespace.apply(&manifest.to_string()).await?;
    if namespace.run().target.is_local() {
        // It protects owner references, and the operator has no right to delete these; who has it may give it.
        let condition = |cluster: &McpCluster| has_condition(cluster, "Ready", "False", "ApplyFailed");
        let refused = cluster.until("who forbids to adopt", STARTS_WITHIN, condition).await?;
        claim!(message(&refused, "Ready").contains("ownerRef"), "{}", message(&refused, "Ready"));
    }
    allow_adoption(&namespace).await?;
    let object = cluster.until_settled(2, STARTS_WITHIN).await?;
    let owner = object.uid();
    eventually("one owner of everything", PUT_BACK_WITHIN, || async {
        let mut owners = vec![
            namespace.api::<Secret>().get("kept-keys").await?.metadata.owner_references,
            namespace.api::<ConfigMap>().get("kept-config").await?.metadata.owner_references,
            namespace.api::<ServiceAccount>().get("kept-shard").await?.metadata.owner_references,
            namespace.api::<PodDisruptionBudget>().get("kept").await?.metadata.owner_references,
            namespace.api::<NetworkPolicy>().get("kept").await?.metadata.owner_references,
        ];
        for service in ["kept", "kept-members", "kept-shards"] {
            owners.push(namespace.api::<Service>().get(service).await?.metadata.owner_references);
        }
        owners.extend(cluster.pods().await?.into_iter().map(|pod| pod.metadata.owner_references));
        let uids: BTreeSet<_> =
            owners.iter().map(|owners| owners.iter().flatten().map(|owner| owner.uid.clone()).next()).collect();
        claim_eq!(uids, BTreeSet::from([owner.clone()]), "owners");
        Ok(())
    })
    .await?;
    claim_eq!(cluster.pods().await?.iter().map(uid).collect::<BTreeSet<_>>(), pods, "pods");
    claim_eq!(namespace.api::<Service>().get("kept").await?.spec.and_then(|spec| spec.cluster_ip), address, "address");
    claim_eq!(namespace.api::<Secret>().get("kept-keys").await?.data, keys, "keys");
    claim_eq!(session.call("greet", json!({})).await?.tool_text()?, "Hello.", "a call of the session from before");
    cluster.until_event("Adopted", "Pod kept-0", PUT_BACK_WITHIN).await?;

    // Who brings a ServiceAccount needs none of ours.
    namespace.apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "own"}}).to_string()).await?;
    namespace
        .apply(&small("kept", &json!({"replicas": 2, "podTemplate": {"spec": {"serviceAccountName": "own"}}})).to_string())
        .await?;
    eventually("the end of our ServiceAccount and NetworkPolicy", PUT_BACK_WITHIN, || async {
        claim!(namespace.api::<ServiceAccount>().get_opt("kept-shard").await?.is_none(), "the ServiceAccount is there");
        claim!(namespace.api::<NetworkPolicy>().get_opt("kept").await?.is_none(), "the NetworkPolicy is there");
        Ok(())
    })
    .await
}
