use http::Method;
use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

use super::*;
use crate::fake_api::{Asked, FakeApi};

const OWNER: &str = "uid-of-tools";

async fn writer(api: &FakeApi) -> Writer {
    let (client, stores) = api.client().await;
    Writer::new(client, Arc::default(), stores, "agents", OWNER)
}

fn metadata(name: &str, owner: &str, hash: &str) -> Value {
    json!({
        "name": name, "namespace": "agents", "uid": "u1", "resourceVersion": "7",
        "annotations": {"mcpcluster.dev/rendered-hash": hash},
        "ownerReferences": [{"apiVersion": "mcpcluster.dev/v1alpha1", "kind": "McpCluster", "name": "tools", "uid": owner, "controller": true}],
    })
}

fn object(name: &str, owner: &str) -> Value {
    json!({"metadata": metadata(name, owner, "same")})
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
    writer(&api).await.patch_status("tools", &McpClusterStatus::default()).await.unwrap();
    let sent = api.take_writes();
    assert_eq!(lines(&sent), ["PATCH mcpclusters/tools/status"]);
    assert_eq!((&sent[0].method, &sent[0].body["metadata"]["uid"]), (&Method::PATCH, &json!(OWNER)));
}
