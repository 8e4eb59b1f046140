use http::Method;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;

use super::*;
use crate::fake_api::{Asked, FakeApi, applied};

const OWNER: &str = "uid-of-tools";

fn cluster() -> McpCluster {
    let catalog = json!({"metadata": {"name": "tools", "namespace": "agents", "uid": OWNER}, "spec": {"catalog": {}}});
    let mut cluster = catalog;
    cluster["apiVersion"] = json!("mcpcluster.dev/v1alpha1");
    cluster["kind"] = json!("McpCluster");
    serde_json::from_value(cluster).unwrap()
}

async fn writer(api: &FakeApi) -> Writer {
    let (client, stores) = api.client().await;
    Writer::new(client, Arc::default(), stores, Arc::default(), &cluster())
}

fn metadata(name: &str, owner: &str, hash: &str) -> Value {
    json!({
        "name": name, "namespace": "agents", "uid": "u1", "resourceVersion": "7",
        "annotations": {"mcpcluster.dev/rendered-hash": hash},
        "ownerReferences": [{"apiVersion": "mcpcluster.dev/v1alpha1", "kind": "McpCluster", "name": "tools", "uid": owner, "controller": true}],
    })
}

fn object(name: &str, owner: &str) -> Value {
    let mut object = json!({"metadata": metadata(name, owner, "same")});
    object["metadata"]["managedFields"] = json!([applied(&object)]);
    object
}

fn service(hash: &str) -> Service {
    let mut service: Service = serde_json::from_value(json!({"metadata": metadata("tools", OWNER, hash)})).unwrap();
    service.metadata.resource_version = None;
    service
}

fn pod_ref() -> PodRef {
    PodRef { name: "tools-0".into(), uid: "u7".into() }
}

fn lines(writes: &[Asked]) -> Vec<String> {
    writes.iter().map(Asked::line).collect()
}

#[tokio::test]
async fn an_object_that_renders_as_before_is_not_written() {
    let api = FakeApi::new().with("services/tools", object("tools", OWNER));
    assert_eq!(writer(&api).await.apply(service("same")).await.unwrap(), Wrote::Unchanged);
    assert_eq!(api.take_writes(), []);
}

#[tokio::test]
async fn a_changed_object_is_applied_once_and_known_at_once() {
    let api = FakeApi::new().with("services/tools", object("tools", OWNER));
    let writer = writer(&api).await;
    assert_eq!(writer.apply(service("other")).await.unwrap(), Wrote::Changed);
    let sent = api.take_writes();
    assert_eq!(lines(&sent), ["PATCH services/tools"]);
    assert!(sent[0].target.contains("fieldManager=mcp-operator") && sent[0].target.contains("force=true"));
    assert_eq!(sent[0].body["metadata"]["uid"], "u1", "another object that takes the name must not be touched");
    assert_eq!(writer.apply(service("other")).await.unwrap(), Wrote::Unchanged);
    assert_eq!(api.count(), 0, "what was just written is known without asking");
}

#[tokio::test]
async fn an_object_of_somebody_else_is_left_alone() {
    let api = FakeApi::new().with("services/tools", object("tools", "somebody"));
    let refused = writer(&api).await.apply(service("other")).await.unwrap_err();
    assert!(matches!(refused, Error::NameConflict { .. }), "{refused}");
    assert_eq!(api.take_writes(), []);
}

#[tokio::test]
async fn a_pod_whose_name_is_taken_tells_whose_it_is() {
    let api = FakeApi::new().with("pods/tools-1", object("tools-1", OWNER)).with("pods/tools-2", object("tools-2", "somebody"));
    let writer = writer(&api).await;
    let pod = |name: &str| serde_json::from_value(json!({"metadata": {"name": name, "namespace": "agents"}})).unwrap();
    assert_eq!(writer.create_pod(&pod("tools-0")).await.unwrap(), Created::New);
    assert_eq!(writer.create_pod(&pod("tools-1")).await.unwrap(), Created::Already);
    assert_eq!(writer.create_pod(&pod("tools-2")).await.unwrap(), Created::Taken);
}

#[tokio::test]
async fn labels_and_deletes_name_the_pod_they_mean_and_a_pod_that_is_gone_is_no_error() {
    let api = FakeApi::new();
    let writer = writer(&api).await;
    writer.label_pod(&pod_ref(), &[("a", Some("1")), ("b", None)], &[]).await.unwrap();
    writer.delete_pod(&pod_ref()).await.unwrap();
    let sent = api.take_writes();
    assert_eq!(lines(&sent), ["PATCH pods/tools-0", "DELETE pods/tools-0"]);
    assert_eq!(sent[0].body, json!({"metadata": {"uid": "u7", "labels": {"a": "1", "b": null}, "annotations": {}}}));
    assert_eq!(sent[1].body["preconditions"]["uid"], "u7");
    assert!(sent[1].body.get("gracePeriodSeconds").is_none(), "never by force");
}

#[tokio::test]
async fn a_secret_that_another_process_created_is_no_error() {
    let api = FakeApi::new().with("secrets/tools-keys", object("tools-keys", OWNER));
    let secret = serde_json::from_value(json!({"metadata": {"name": "tools-keys", "namespace": "agents"}})).unwrap();
    assert!(writer(&api).await.create_secret(&secret).await.unwrap().is_none());
}

#[tokio::test]
async fn a_status_names_the_resource_it_is_about() {
    let api = FakeApi::new();
    writer(&api).await.patch_status(&McpClusterStatus::default()).await.unwrap();
    let sent = api.take_writes();
    assert_eq!(lines(&sent), ["PATCH mcpclusters/tools/status"]);
    assert_eq!((&sent[0].method, &sent[0].body["metadata"]["uid"]), (&Method::PATCH, &json!(OWNER)));
}

/// A Service with the labels every object of a cluster has.
fn labelled(hash: &str) -> Service {
    let mut service = service(hash);
    service.metadata.labels = Some(names::labels("tools"));
    service
}

#[tokio::test]
async fn what_somebody_changed_is_put_back_and_who_it_was_is_told() {
    let api = FakeApi::new();
    let writer = writer(&api).await;
    writer.apply(labelled("same")).await.unwrap();
    assert_eq!(writer.apply(labelled("same")).await.unwrap(), Wrote::Unchanged);
    api.seize("services/tools", "/metadata/labels/mcpcluster.dev~1cluster", json!("other"));
    // A new process: it has not applied it, and finds it by its name.
    let writer = self::writer(&api).await;
    api.take_writes();
    let told = Told { field: "metadata.labels.\"mcpcluster.dev/cluster\"".into(), by: Some("kubectl-edit".into()) };
    assert_eq!(writer.apply(labelled("same")).await.unwrap(), Wrote::PutBack(told));
    assert_eq!(lines(&api.take_writes()), ["PATCH services/tools"]);
    assert_eq!(api.object("services/tools").unwrap()["metadata"]["labels"]["mcpcluster.dev/cluster"], "tools");
    assert_eq!(writer.apply(labelled("same")).await.unwrap(), Wrote::Unchanged);
}

#[tokio::test]
async fn a_field_that_another_controller_wants_is_not_fought_over_for_ever() {
    let api = FakeApi::new();
    let contests = Arc::<Contests>::default();
    let again = || async {
        let (client, stores) = api.client().await;
        Writer::new(client, Arc::default(), stores, contests.clone(), &cluster())
    };
    again().await.apply(labelled("same")).await.unwrap();
    let mut outcomes = vec![];
    for _ in 0..4 {
        api.seize("services/tools", "/metadata/labels/mcpcluster.dev~1cluster", json!("other"));
        api.take_writes();
        let outcome = again().await.apply(labelled("same")).await;
        outcomes.push((outcome.map_err(|error| error.sentence()), api.take_writes().len()));
    }
    assert!(outcomes[..3].iter().all(|(outcome, writes)| outcome.is_ok() && *writes == 1), "{outcomes:?}");
    let (waits, writes) = outcomes.pop().unwrap();
    let sentence = waits.unwrap_err();
    assert!(
        sentence.starts_with("kubectl-edit changes metadata.labels") && writes == 0,
        "the fourth waits, and says so: {sentence}"
    );
}

#[tokio::test]
async fn what_an_admission_webhook_rewrites_is_applied_once() {
    let api = FakeApi::new();
    let contests = Arc::<Contests>::default();
    let (client, stores) = api.client().await;
    let writer = Writer::new(client, Arc::default(), stores, contests.clone(), &cluster());
    writer.apply(labelled("same")).await.unwrap();
    api.seize("services/tools", "/metadata/labels/mcpcluster.dev~1cluster", json!("other"));
    // The API server's answer to our last apply was what is there now.
    let live: ObjectMeta = serde_json::from_value(api.object("services/tools").unwrap()["metadata"].clone()).unwrap();
    contests.applied("Service tools", fields::digest(fields::ours(&live).as_deref()));
    let (client, stores) = api.client().await;
    let writer = Writer::new(client, Arc::default(), stores, contests, &cluster());
    api.take_writes();
    assert_eq!(writer.apply(labelled("same")).await.unwrap(), Wrote::Unchanged);
    assert_eq!(api.take_writes(), []);
}

#[tokio::test]
async fn an_orphan_with_our_labels_is_adopted_and_one_without_is_not() {
    let mut orphan = serde_json::to_value(labelled("same")).unwrap();
    orphan["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    let present = serde_json::to_value(cluster()).unwrap();
    let api = FakeApi::new().with("services/tools", orphan.clone()).with("mcpclusters/tools", present.clone());
    assert_eq!(writer(&api).await.apply(labelled("same")).await.unwrap(), Wrote::Adopted);
    let owners = &api.object("services/tools").unwrap()["metadata"]["ownerReferences"];
    assert_eq!((owners.as_array().map(Vec::len), &owners[0]["uid"]), (Some(1), &json!(OWNER)));

    for (key, value) in [(names::LABEL_CLUSTER, "other"), (names::LABEL_MANAGED_BY, "helm")] {
        let mut another = orphan.clone();
        another["metadata"]["labels"][key] = json!(value);
        let api = FakeApi::new().with("services/tools", another).with("mcpclusters/tools", present.clone());
        let refused = writer(&api).await.apply(labelled("same")).await.unwrap_err();
        assert!(matches!(refused, Error::NameConflict { .. }), "{refused}");
        assert_eq!(api.take_writes(), []);
    }
}

#[tokio::test]
async fn a_pod_without_an_owner_is_adopted_as_it_was_seen_and_keeps_its_other_owners() {
    let api = FakeApi::new().with("mcpclusters/tools", serde_json::to_value(cluster()).unwrap());
    let writer = writer(&api).await;
    let mut pod: Pod = serde_json::from_value(object("tools-0", "x")).unwrap();
    pod.metadata.owner_references.as_mut().unwrap()[0].controller = None;
    let owner = OwnerReference { uid: OWNER.into(), controller: Some(true), ..OwnerReference::default() };
    assert!(!writer.adopt_pod(&pod.into(), owner).await.unwrap(), "it is not there");
    let sent = api.take_writes();
    assert_eq!(lines(&sent), ["PATCH pods/tools-0"]);
    let metadata = &sent[0].body["metadata"];
    assert_eq!((&metadata["uid"], &metadata["resourceVersion"]), (&json!("u1"), &json!("7")));
    assert_eq!(
        (metadata["ownerReferences"][0]["uid"].as_str(), metadata["ownerReferences"][1]["uid"].as_str()),
        (Some("x"), Some(OWNER))
    );
}
