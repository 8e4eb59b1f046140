//! The writer against an API server that answers what it is told, and keeps what it was asked.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::channel::mpsc::unbounded;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Service;
use kube::Config;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

const OWNER: &str = "uid-of-tools";

/// A request that arrived: method, path with query, body.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    method: Method,
    target: String,
    body: Value,
}

#[derive(Clone, Default)]
struct FakeApi {
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl FakeApi {
    /// A writer whose requests are answered by `answer`.
    async fn writer(&self, answer: fn(&Asked) -> (u16, Value)) -> Writer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = self.asked.clone();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let asked = asked.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let asked = asked.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                        let one = Asked { method: head.method, target: head.uri.to_string(), body };
                        let (status, body) = answer(&one);
                        asked.lock().unwrap().push(one);
                        let body = Full::new(Bytes::from(body.to_string()));
                        Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            }
        });
        let mut config = Config::new(format!("http://{address}").parse().unwrap());
        config.default_retry = false;
        let client = Client::try_from(config).unwrap();
        // The watches of a writer's stores never learn anything here: every object is asked for by name.
        let (wakes, _) = unbounded();
        let stores = crate::observe::watch(&client, None, &wakes, &mut JoinSet::new());
        Writer::new(client, Arc::default(), stores, "agents", OWNER)
    }

    fn writes(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().iter().filter(|asked| asked.method != Method::GET).cloned().collect()
    }
}

fn not_found() -> (u16, Value) {
    (404, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "message": "no", "code": 404}))
}

fn conflict() -> (u16, Value) {
    (409, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "AlreadyExists", "message": "no", "code": 409}))
}

fn metadata(owner: &str, hash: &str) -> Value {
    json!({
        "name": "tools", "namespace": "agents", "uid": "u1", "resourceVersion": "7",
        "annotations": {"mcpcluster.dev/rendered-hash": hash},
        "ownerReferences": [{"apiVersion": "mcpcluster.dev/v1alpha1", "kind": "McpCluster", "name": "tools", "uid": owner, "controller": true}],
    })
}

fn service(hash: &str) -> Service {
    serde_json::from_value(json!({"metadata": metadata(OWNER, hash)})).unwrap()
}

fn pod_ref() -> PodRef {
    PodRef { name: "tools-0".into(), uid: "u7".into() }
}

fn answers_ours(asked: &Asked) -> (u16, Value) {
    let kind = if asked.method == Method::GET { "PartialObjectMetadata" } else { "Service" };
    (200, json!({"kind": kind, "apiVersion": "v1", "metadata": metadata(OWNER, "same")}))
}

fn answers_theirs(_: &Asked) -> (u16, Value) {
    (200, json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata("somebody", "same")}))
}

fn answers_pods(asked: &Asked) -> (u16, Value) {
    let ours = asked.target.contains("tools-1");
    let owner = if ours { OWNER } else { "somebody" };
    if asked.method == Method::POST {
        conflict()
    } else {
        (200, json!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata(owner, "")}))
    }
}

#[tokio::test]
async fn an_object_that_renders_as_before_is_not_written() {
    let api = FakeApi::default();
    let writer = api.writer(answers_ours).await;
    assert_eq!(writer.apply(service("same")).await.unwrap(), Wrote::Unchanged);
    assert_eq!(api.writes(), []);
}

#[tokio::test]
async fn a_changed_object_is_applied_once_and_known_at_once() {
    let api = FakeApi::default();
    let writer = api.writer(answers_ours).await;
    assert_eq!(writer.apply(service("other")).await.unwrap(), Wrote::Changed);
    let writes = api.writes();
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].method, Method::PATCH);
    assert!(writes[0].target.contains("fieldManager=mcp-operator") && writes[0].target.contains("force=true"));
    assert_eq!(writes[0].body["metadata"]["uid"], "u1", "another object that takes the name must not be touched");
    // The answer says "same"; what renders like it is known to be there without asking.
    let gets = api.asked.lock().unwrap().len();
    assert_eq!(writer.apply(service("same")).await.unwrap(), Wrote::Unchanged);
    assert_eq!(api.asked.lock().unwrap().len(), gets);
}

#[tokio::test]
async fn an_object_of_somebody_else_is_left_alone() {
    let api = FakeApi::default();
    let writer = api.writer(answers_theirs).await;
    let refused = writer.apply(service("other")).await.unwrap_err();
    assert!(matches!(refused, Error::NameConflict { .. }), "{refused}");
    assert_eq!(api.writes(), []);
}

#[tokio::test]
async fn a_pod_whose_name_is_taken_tells_whose_it_is() {
    let api = FakeApi::default();
    let writer = api.writer(answers_pods).await;
    let pod = |name: &str| serde_json::from_value(json!({"metadata": {"name": name, "namespace": "agents"}})).unwrap();
    assert_eq!(writer.create_pod(&pod("tools-1")).await.unwrap(), Created::Already);
    assert_eq!(writer.create_pod(&pod("tools-2")).await.unwrap(), Created::Taken);
}

#[tokio::test]
async fn labels_and_deletes_name_the_pod_they_mean_and_a_pod_that_is_gone_is_no_error() {
    let api = FakeApi::default();
    let writer = api.writer(|_| not_found()).await;
    writer.label_pod(&pod_ref(), &[("a", Some("1")), ("b", None)], &[]).await.unwrap();
    writer.delete_pod(&pod_ref()).await.unwrap();
    let writes = api.writes();
    let patched = json!({"metadata": {"uid": "u7", "labels": {"a": "1", "b": null}, "annotations": {}}});
    assert_eq!((&writes[0].method, &writes[0].body), (&Method::PATCH, &patched));
    assert_eq!((&writes[1].method, &writes[1].body["preconditions"]["uid"]), (&Method::DELETE, &json!("u7")));
    assert!(writes[1].body.get("gracePeriodSeconds").is_none(), "never by force");
}

#[tokio::test]
async fn a_secret_that_another_process_created_is_no_error() {
    let api = FakeApi::default();
    let writer = api.writer(|_| conflict()).await;
    let secret = serde_json::from_value(json!({"metadata": {"name": "tools-keys", "namespace": "agents"}})).unwrap();
    assert!(writer.create_secret(&secret).await.unwrap().is_none());
}

#[tokio::test]
async fn a_status_names_the_resource_it_is_about() {
    let api = FakeApi::default();
    let writer = api.writer(|_| not_found()).await;
    writer.patch_status("tools", &McpClusterStatus::default()).await.unwrap();
    let writes = api.writes();
    assert!(writes[0].target.starts_with("/apis/mcpcluster.dev/v1alpha1/namespaces/agents/mcpclusters/tools/status?"));
    assert_eq!(writes[0].body["metadata"]["uid"], OWNER);
}
