//! Rotation of a cluster's keys, under clients that must not notice.

use std::fmt::Write as _;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use mcp_crds::control::KeyRing;
use mcp_crds::shard::KEYS_FILE;
use mcp_tests::cluster::{CLUSTER_LABEL, STARTS_WITHIN};
use mcp_tests::mcp::{Modern, Session};
use mcp_tests::reach::Endpoint;
use mcp_tests::wait::eventually;
use mcp_tests::{Cluster, Failure, Namespace, Operator, Outcome, claim, claim_eq};
use serde_json::{Value, json};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::manifest::small;

/// What the test's resource says.
const LIFETIME: Duration = Duration::from_mins(1);
/// A client that knows the lifetime begins a new session before the old one ends. Two clocks and a slow answer fit.
const USED_FOR: Duration = Duration::from_secs(57);
/// A session is told when it ends in whole seconds.
const ROUNDED: Duration = Duration::from_secs(1);
/// A session is opened this often, and each one called this often.
const EVERY: Duration = Duration::from_secs(2);
/// From a change of the Secret to the next: seconds, mostly, and 10 of patience; an operator that was killed starts again.
const A_STEP_TAKES: Duration = Duration::from_mins(3);
/// Until the old keys go: a lifetime, and 2 minutes for clocks that differ.
const RETIRES_WITHIN: Duration = Duration::from_mins(6);
const ROTATE: &str = "mcpcluster.dev/rotate-keys";
const RECORD: &str = "mcpcluster.dev/rotation";

/// What the Secret said at a moment.
#[derive(Clone, Debug)]
struct Version {
    at: Instant,
    ring: KeyRing,
    record: Value,
}

/// Every version of the Secret, as a watch shows them.
struct Diary {
    versions: Arc<Mutex<Vec<Version>>>,
    reader: AbortHandle,
}

impl Drop for Diary {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Diary {
    fn keep(secrets: Api<Secret>, name: &str) -> Self {
        let versions = Arc::new(Mutex::new(Vec::new()));
        let (written, name) = (versions.clone(), name.to_owned());
        let reader = tokio::spawn(async move {
            let mut seen = pin!(watch_object(secrets, &name).default_backoff());
            while let Some(found) = seen.next().await {
                if let Ok(Some(version)) = found.map(|secret| secret.and_then(|secret| read(&secret))) {
                    lock(&written).push(version);
                }
            }
        });
        Self { versions, reader: reader.abort_handle() }
    }

    fn versions(&self) -> Vec<Version> {
        lock(&self.versions).clone()
    }

    /// Waits for the first version of this stage.
    async fn until(&self, stage: &str, within: Duration) -> Outcome<Version> {
        self.until_after(0, stage, within).await
    }

    /// Waits for a version of this stage after so many others.
    async fn until_after(&self, others: usize, stage: &str, within: Duration) -> Outcome<Version> {
        eventually(&format!("keys that are {stage}"), within, || async {
            let versions = self.versions().split_off(others);
            let stages: Vec<_> = versions.iter().map(Version::stage).collect();
            let found = versions.into_iter().find(|version| version.stage() == stage);
            found.ok_or_else(|| Failure::new(format!("so far: {}", stages.join(", "))))
        })
        .await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(secret: &Secret) -> Option<Version> {
    let ring = serde_json::from_slice(&secret.data.as_ref()?.get(KEYS_FILE)?.0).ok()?;
    let record = secret.annotations().get(RECORD).and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null);
    Some(Version { at: Instant::now(), ring, record })
}

impl Version {
    fn stage(&self) -> &'static str {
        let ids = |keys: &[mcp_crds::control::Key]| keys.iter().map(|key| key.id.clone()).collect::<Vec<_>>();
        let (session, control) = (ids(&self.ring.session), ids(&self.ring.control));
        let newest_used = (session.last() == Some(&self.ring.sealing), control.last() == Some(&self.ring.signing));
        match (session.len(), control.len(), newest_used, self.record["sealedAt"].is_string()) {
            (1, 1, (true, true), false) if self.record["seen"].is_array() => "rotated",
            (1, 1, (true, true), false) => "first",
            (2, 2, (false, false), false) => "distributed",
            (2, 2, (true, true), false) => "sealing",
            (2, 2, (true, true), true) => "retiring",
            _ => "in disorder",
        }
    }
}

/// Clients that call until they are told to stop: one without sessions, and one that opens a session every two seconds and calls
/// each for as long as it lives. The first call that fails ends it all.
struct Clients {
    tasks: JoinSet<Outcome<u64>>,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Clients {
    fn start(endpoint: &Endpoint) -> Self {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(call_without_sessions(Modern::new(endpoint.clone()), stopped.clone()));
        tasks.spawn(open_sessions(endpoint.clone(), stopped));
        Self { tasks, stop }
    }

    /// The first failure so far.
    fn is_well(&mut self) -> Outcome {
        match self.tasks.try_join_next() {
            Some(ended) => Err(ended?.err().unwrap_or_else(|| Failure::new("clients stopped by themselves"))),
            None => Ok(()),
        }
    }

    /// Ends them; returns how many calls were answered.
    async fn end(mut self) -> Outcome<u64> {
        let _ = self.stop.send(true);
        let mut calls = 0;
        while let Some(ended) = self.tasks.join_next().await {
            calls += ended??;
        }
        Ok(calls)
    }
}

async fn call_without_sessions(modern: Modern, stopped: tokio::sync::watch::Receiver<bool>) -> Outcome<u64> {
    let (mut calls, mut ticks) = (0, every(Duration::from_millis(200)));
    while !*stopped.borrow() {
        ticks.tick().await;
        claim_eq!(modern.call("greet", json!({})).await?.tool_text()?, "Hello.", "a call without a session");
        calls += 1;
    }
    Ok(calls)
}

async fn open_sessions(endpoint: Endpoint, stopped: tokio::sync::watch::Receiver<bool>) -> Outcome<u64> {
    let (mut calls, mut ticks) = (0, every(EVERY));
    let mut sessions = JoinSet::new();
    while !*stopped.borrow() {
        ticks.tick().await;
        let (endpoint, stopped) = (endpoint.clone(), stopped.clone());
        sessions.spawn(use_session(endpoint, stopped));
        while let Some(ended) = sessions.try_join_next() {
            calls += ended??;
        }
    }
    while let Some(ended) = sessions.join_next().await {
        calls += ended??;
    }
    Ok(calls)
}

/// Opens a session and calls with it, each time on a connection of its own and so on any shard.
async fn use_session(endpoint: Endpoint, stopped: tokio::sync::watch::Receiver<bool>) -> Outcome<u64> {
    let opened = Instant::now();
    let session = Session::open(&endpoint).await?;
    let (mut calls, mut ticks) = (0, every(EVERY));
    while !*stopped.borrow() && opened.elapsed() < USED_FOR {
        let reply = session.call("greet", json!({})).await?;
        let age = opened.elapsed();
        if age + ROUNDED > LIFETIME {
            // The machine was too busy for this one: what it says is right either way.
            break;
        }
        claim!(reply.status == 200, "HTTP {} for a session of {age:?}: {}", reply.status, reply.body);
        claim_eq!(reply.tool_text()?, "Hello.", "a call in a session");
        calls += 1;
        ticks.tick().await;
    }
    Ok(calls)
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Claims that each shard opens sessions of every other one.
async fn any_shard_serves_any_session(cluster: &Cluster, shards: usize) -> Outcome {
    let endpoints = cluster.shard_endpoints().await?;
    claim!(endpoints.len() >= shards, "Ready: {}, not {shards}", endpoints.len());
    for opened_at in &endpoints {
        let session = Session::open(opened_at).await?;
        for endpoint in &endpoints {
            let reply = session.at(endpoint).call("greet", json!({})).await?;
            claim!(reply.status == 200, "{} refuses a session of {}: {}", endpoint.url, opened_at.url, reply.body);
        }
    }
    Ok(())
}

pub(crate) async fn keys_rotate_once_and_no_session_is_refused_before_its_end(namespace: Namespace) -> Outcome {
    namespace.apply(&small("turned", &json!({"replicas": 3, "transport": {"sessionLifetime": "1m"}})).to_string()).await?;
    let (cluster, secrets) = (namespace.cluster("turned"), namespace.api::<Secret>());
    cluster.until_settled(3, STARTS_WITHIN).await?;
    let endpoint = cluster.endpoint().await?;
    let diary = Diary::keep(secrets.clone(), "turned-keys");
    let first = diary.until("first", Duration::from_secs(20)).await?;
    let mut clients = Clients::start(&endpoint);

    // A value that is no time: told, and nothing else.
    annotate(&namespace, "as soon as possible").await?;
    cluster.until_event("KeysRotationInvalid", "\"as soon as possible\" is no RFC 3339 time", Duration::from_secs(30)).await?;
    claim_eq!(diary.versions().len(), 1, "versions of the Secret");

    let value = jiff::Timestamp::now().to_string();
    let asked = Instant::now();
    annotate(&namespace, &value).await?;
    let distributed = diary.until("distributed", Duration::from_mins(1)).await?;
    claim_eq!(distributed.ring.session.first(), first.ring.session.first(), "the old key");
    // In the middle of it: the operator dies, and a shard is born.
    kill_operator(&namespace).await?;
    namespace.kubectl(&["scale", "mcpcluster/turned", "--replicas=4"]).await?;
    cluster.until_event("KeysRotating", "is distributed", Duration::from_secs(30)).await?;

    let sealing = diary.until("sealing", A_STEP_TAKES).await?;
    // Whatever the shards have seen of it: each opens what any other one seals.
    let shards = cluster.ready_pods().await?.len();
    any_shard_serves_any_session(&cluster, shards).await?;
    clients.is_well()?;
    let retiring = diary.until("retiring", A_STEP_TAKES).await?;
    cluster.until_settled(4, STARTS_WITHIN).await?;
    any_shard_serves_any_session(&cluster, 4).await?;
    let last_of_the_old = Session::open(&endpoint).await?;

    // Somebody deletes the Secret: the same keys come back, and the rotation goes on.
    Operator::of(&namespace).until_ready().await?;
    secrets.delete("turned-keys", &DeleteParams::default()).await?;
    let back = eventually("the Secret", Duration::from_mins(3), || async { Ok(secrets.get("turned-keys").await?) }).await?;
    let back = read(&back).ok_or_else(|| Failure::new("the Secret that came back has no keys"))?;
    claim!(back.ring == retiring.ring && back.record == retiring.record, "other keys or another record came back");
    clients.is_well()?;

    let rotated = diary.until("rotated", RETIRES_WITHIN).await?;
    claim_eq!(rotated.ring.session, sealing.ring.session[1..].to_vec(), "the only session key");
    claim!(rotated.at - retiring.at >= LIFETIME, "the old key went after {:?}", rotated.at - retiring.at);
    cluster.until_event("KeysRotated", "is retired", Duration::from_secs(30)).await?;
    let expired = last_of_the_old.call("greet", json!({})).await?;
    claim_eq!(expired.status, 404, "HTTP status of a session past its end, {}", expired.body);

    // The same value again, in another spelling, does nothing. That it was looked at shows in what is told of the next value.
    let before = secrets.get("turned-keys").await?.resource_version();
    let spelled = value.replace('Z', "+00:00");
    annotate(&namespace, &spelled).await?;
    namespace.kubectl(&["scale", "mcpcluster/turned", "--replicas=3"]).await?;
    cluster.until_settled(3, STARTS_WITHIN).await?;
    annotate(&namespace, "never").await?;
    cluster.until_event("KeysRotationInvalid", "\"never\"", Duration::from_secs(30)).await?;
    claim_eq!(secrets.get("turned-keys").await?.resource_version(), before, "version of the Secret");
    let calls = clients.end().await?;
    claim!(calls > 500, "hardly a call was made: {calls}");

    let mut stages: Vec<_> = diary.versions().iter().map(Version::stage).collect();
    stages.dedup();
    claim_eq!(stages, ["first", "distributed", "sealing", "retiring", "rotated"], "stages, in their order");
    let mut told = format!("    keys rotated under {calls} calls:");
    for (step, from, to) in [
        ("distributed after", asked, &distributed),
        ("sealing after", distributed.at, &sealing),
        ("marked after", sealing.at, &retiring),
        ("retired after", retiring.at, &rotated),
    ] {
        let _ = write!(told, " {step} {:.1} s;", to.at.saturating_duration_since(from).as_secs_f64());
    }
    println!("{told}");
    old_sessions_end_at_once_when_a_person_cuts_their_key_out(&cluster, &diary).await
}

/// What to do about a leaked key: a rotation whose end is not waited for.
async fn old_sessions_end_at_once_when_a_person_cuts_their_key_out(cluster: &Cluster, diary: &Diary) -> Outcome {
    let (namespace, endpoint) = (cluster.namespace(), cluster.endpoint().await?);
    let (leaked, before) = (Session::open(&endpoint).await?, diary.versions().len());
    annotate(namespace, &jiff::Timestamp::now().to_string()).await?;
    let both = diary.until_after(before, "retiring", A_STEP_TAKES).await?;
    let fresh = Session::open(&endpoint).await?;

    let secrets = namespace.api::<Secret>();
    let mut secret = secrets.get("turned-keys").await?;
    let cut = KeyRing { session: both.ring.session[1..].to_vec(), control: both.ring.control[1..].to_vec(), ..both.ring };
    secret.data.get_or_insert_default().insert(KEYS_FILE.to_owned(), ByteString(serde_json::to_vec(&cut)?));
    secrets.replace("turned-keys", &PostParams::default(), &secret).await?;
    // The kubelet looks at once.
    let shards = format!("{CLUSTER_LABEL}=turned");
    namespace.kubectl(&["annotate", "pods", "--selector", &shards, "--overwrite", "mcpcluster.dev/sync=cut"]).await?;
    eventually("404 for the old session on every shard", Duration::from_mins(2), || async {
        for shard in cluster.shard_endpoints().await? {
            let reply = leaked.at(&shard).call("greet", json!({})).await?;
            claim!(reply.status == 404, "{} answers {}", shard.url, reply.status);
        }
        Ok(())
    })
    .await?;
    claim_eq!(fresh.call("greet", json!({})).await?.tool_text()?, "Hello.", "a call in a session of the new key");
    let ended = diary.until_after(before, "rotated", A_STEP_TAKES).await?;
    claim_eq!(ended.ring, cut, "keys");
    Ok(())
}

async fn annotate(namespace: &Namespace, value: &str) -> Outcome {
    let annotation = format!("{ROTATE}={value}");
    namespace.kubectl(&["annotate", "--overwrite", "mcpcluster/turned", &annotation]).await.map(drop)
}

/// SIGKILL, as near as the API comes to it.
async fn kill_operator(namespace: &Namespace) -> Outcome {
    let at_once = DeleteParams::default().grace_period(0);
    for pod in Operator::of(namespace).ready_pods().await? {
        namespace.api::<Pod>().delete(&pod, &at_once).await?;
    }
    Ok(())
}
