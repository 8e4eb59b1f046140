//! An API server for tests: keeps what it is given, answers by name, refuses what it is told to, and remembers what it was
//! asked. It knows no watches and no defaults.

use std::collections::BTreeMap;
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
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::observe::Stores;

/// A request that arrived.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) body: Value,
}

/// What is refused, with a status code.
pub(crate) type Refusal = fn(&Asked) -> Option<u16>;

#[derive(Clone)]
pub(crate) struct FakeApi {
    state: Arc<Mutex<State>>,
    refuses: Refusal,
    /// Requests whose line begins so are answered when so many of them are there.
    meets: Option<(&'static str, Arc<Barrier>)>,
}

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    objects: BTreeMap<String, Value>,
    version: u64,
}

impl FakeApi {
    pub(crate) fn new() -> Self {
        Self::refusing(|_| None)
    }

    pub(crate) fn refusing(refuses: Refusal) -> Self {
        Self { state: Arc::default(), refuses, meets: None }
    }

    /// Answers requests whose line begins with `what` only when so many of them wait.
    pub(crate) fn meeting(self, what: &'static str, number: usize) -> Self {
        Self { meets: Some((what, Arc::new(Barrier::new(number)))), ..self }
    }

    /// Puts an object at a path below the namespace: `services/tools`.
    pub(crate) fn with(self, path: &str, object: Value) -> Self {
        self.put(path, object);
        self
    }

    /// As [`FakeApi::with`], later.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let kind = match path.split('/').next() {
            Some("pods") => "Pod",
            Some("services") => "Service",
            Some("secrets") => "Secret",
            Some("configmaps") => "ConfigMap",
            _ => "McpCluster",
        };
        object["kind"] = json!(kind);
        object["apiVersion"] = json!(if kind == "McpCluster" { "mcpcluster.dev/v1alpha1" } else { "v1" });
        self.state.lock().unwrap().objects.insert(path.to_owned(), object);
    }

    /// Somebody else changes a field: it is theirs now.
    pub(crate) fn seize(&self, path: &str, pointer: &str, value: Value) {
        let mut state = self.state.lock().unwrap();
        let mut object = state.objects.get(path).cloned().unwrap();
        *object.pointer_mut(pointer).unwrap() = value;
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = format!("/metadata/managedFields/0/fieldsV1{}", parent.replace('/', "/f:"));
        let name = format!("f:{}", name.replace("~1", "/"));
        object.pointer_mut(&parent).unwrap().as_object_mut().unwrap().remove(&name).unwrap();
        let theirs = json!({"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {}});
        object["metadata"]["managedFields"].as_array_mut().unwrap().push(theirs);
        state.keep(path.to_owned(), object);
    }

    /// The owner goes and leaves the object.
    pub(crate) fn orphan(&self, path: &str) {
        let mut state = self.state.lock().unwrap();
        let mut object = state.objects.get(path).cloned().unwrap();
        object["metadata"].as_object_mut().unwrap().remove("ownerReferences");
        state.keep(path.to_owned(), object);
    }

    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    /// Somebody else deletes an object.
    pub(crate) fn remove(&self, path: &str) {
        self.state.lock().unwrap().objects.remove(path);
    }

    /// Every write, and forgets it: `PATCH services/tools`.
    pub(crate) fn take_writes(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().unwrap().asked).into_iter().filter(|asked| asked.method != Method::GET).collect()
    }

    /// How many requests there were.
    pub(crate) fn count(&self) -> usize {
        self.state.lock().unwrap().asked.len()
    }

    /// A client of it, and stores that no watch fills: what is in them was written through them.
    pub(crate) async fn client(&self) -> (Client, Arc<Stores>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = self.clone();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let api = api.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let api = api.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                        let asked = Asked { method: head.method, target: head.uri.to_string(), body };
                        if let Some((what, all)) = &api.meets
                            && asked.line().starts_with(what)
                        {
                            all.wait().await;
                        }
                        let (status, body) = api.answer(asked);
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
        let (wakes, _) = unbounded();
        let stores = crate::observe::watch(&client, None, &wakes, &mut JoinSet::new());
        (client, stores)
    }

    fn answer(&self, asked: Asked) -> (u16, Value) {
        let mut state = self.state.lock().unwrap();
        state.asked.push(asked.clone());
        if let Some(code) = (self.refuses)(&asked) {
            return status(code);
        }
        let path = path_of(&asked.target);
        let known = state.objects.get(&path).cloned();
        match (asked.method.as_str(), known) {
            ("GET", Some(object)) => (200, object),
            ("GET" | "DELETE", None) => status(404),
            ("DELETE", Some(object)) => {
                state.objects.remove(&path);
                (200, object)
            }
            ("POST", _) => {
                let path = format!("{path}/{}", asked.body["metadata"]["name"].as_str().unwrap_or_default());
                if state.objects.contains_key(&path) { status(409) } else { (201, state.keep(path, asked.body)) }
            }
            ("PATCH", None) if path.ends_with("/status") || !asked.target.contains("force=true") => status(404),
            ("PATCH", Some(known))
                if ["uid", "resourceVersion"].iter().any(|field| {
                    !asked.body["metadata"][field].is_null() && asked.body["metadata"][field] != known["metadata"][field]
                }) =>
            {
                status(409)
            }
            ("PATCH", known) => {
                let mut object = known.unwrap_or(Value::Null);
                merge(&mut object, &asked.body);
                if asked.target.contains("force=true") {
                    object["metadata"]["managedFields"] = json!([applied(&asked.body)]);
                }
                (200, state.keep(path, object))
            }
            other => panic!("{other:?}"),
        }
    }
}

impl State {
    fn keep(&mut self, path: String, mut object: Value) -> Value {
        self.version += 1;
        let version = self.version.to_string();
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.entry("uid").or_insert_with(|| json!(format!("uid-{version}")));
        metadata.entry("namespace").or_insert_with(|| json!("agents"));
        metadata.insert("resourceVersion".to_owned(), json!(version));
        self.objects.insert(path, object.clone());
        object
    }
}

/// What the API server calls ours after an apply; it has no atomic maps and takes every list whole.
pub(crate) fn applied(body: &Value) -> Value {
    json!({"manager": "mcp-operator", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields(body)})
}

fn fields(value: &Value) -> Value {
    let members = value.as_object().into_iter().flatten();
    members.map(|(name, value)| (format!("f:{name}"), fields(value))).collect::<serde_json::Map<_, _>>().into()
}

/// Below the namespace, without the query: `services/tools`.
fn path_of(target: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    path.split_once("/namespaces/").and_then(|(_, rest)| rest.split_once('/')).map_or(path, |(_, rest)| rest).to_owned()
}

fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    let object = object.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn status(code: u16) -> (u16, Value) {
    let reason = match code {
        404 => "NotFound",
        409 => "AlreadyExists",
        _ => "Forbidden",
    };
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": "refused", "code": code}),
    )
}

impl Asked {
    /// `PATCH services/tools`
    pub(crate) fn line(&self) -> String {
        let mut path = path_of(&self.target);
        if self.method == Method::POST {
            path = format!("{path}/{}", self.body["metadata"]["name"].as_str().unwrap_or_default());
        }
        format!("{} {path}", self.method)
    }
}
