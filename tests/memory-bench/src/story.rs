//! The load, and what is claimed of it: everyday clients, a heavy tenant on one shard, bursts, and then nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::ResourceExt as _;
use kube::api::ListParams;
use mcp_crds::shard::{DATA_PORT, KEYS_FILE};
use mcp_tests::cluster::{CLUSTER_LABEL, is_ready};
use mcp_tests::failure::While as _;
use mcp_tests::metrics::Metrics;
use mcp_tests::wait::eventually;
use mcp_tests::{Failure, Namespace, Outcome, claim};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::clients::Client;
use crate::manifests::{self, BOUNDS, NAME, REPORT};
use crate::options::{Options, Side};
use crate::say;
use crate::tally::{Counts, Tally};
use crate::watch::{Seen, Watch};

/// Streams with large filters, sessions, readers that take 32 KiB a second, callers of the heavy tool.
const EVERYDAY: [usize; 4] = [600, 60, 24, 3];
/// Streams of the tenant whose gateway knows one shard only.
const HEAVY_TENANT: usize = 1200;
/// Bytes of a burst: they come within a second.
const BURST: usize = 100 << 20;
const BURSTS_APART: Duration = Duration::from_secs(5);
/// How long the answers of a burst are left unread.
const UNREAD: Duration = Duration::from_secs(3);
const STARTS_WITHIN: Duration = Duration::from_mins(2);
/// The windows of the manifests, and drains, several times over.
const SHRINKS_WITHIN: Duration = Duration::from_mins(5);

/// The kinds of clients, as they come.
pub(crate) const KINDS: [&str; 3] = ["everyday clients", "the heavy tenant", "bursts"];

/// What became of one side.
#[derive(Debug)]
pub(crate) struct Told {
    pub side: Side,
    pub counts: Counts,
    /// The same, of each of [`KINDS`].
    pub kinds: [Counts; KINDS.len()],
    pub seen: Seen,
    /// Streams that shards ended for want of memory.
    pub shed: f64,
    /// From the end of the load to the fewest shards; none when that did not come.
    pub shrank: Option<Duration>,
    /// Reasons that `MemoryPressure` had, and those of events.
    pub reasons: BTreeSet<String>,
}

/// Applies one side, and plays the load on it.
///
/// # Errors
/// When it cannot be played. What became of it is no error.
pub(crate) async fn tell(namespace: &Namespace, side: Side, options: &Options, keys: &Value) -> Outcome<Told> {
    say(&format!("{}: applying", side.name()));
    for object in manifests::side(side, options.limit, keys) {
        namespace.apply(&object.to_string()).await.doing(&format!("applying the {}", object["kind"]))?;
    }
    let (labels, container) = match side {
        Side::Ours => (format!("{CLUSTER_LABEL}={NAME}"), "server"),
        Side::Hpa => (format!("app.kubernetes.io/name={NAME}"), NAME),
    };
    let pods = eventually("the fewest shards, Ready", STARTS_WITHIN, || ready(namespace, &labels)).await?;
    let service = namespace.api::<Service>().get(NAME).await.doing("reading the Service")?;
    let ip = service.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
    let address: SocketAddr = format!("{ip}:80").parse().doing(&ip)?;
    let hot = pods.first().and_then(|pod| pod.status.as_ref()?.pod_ip.clone()).unwrap_or_default();
    let hot: SocketAddr = format!("{hot}:{DATA_PORT}").parse().doing(&hot)?;
    eventually("an answer through the Service", STARTS_WITHIN, || async {
        drop(tokio::net::TcpStream::connect(address).await?);
        Ok(())
    })
    .await?;

    let watch = Watch::start(namespace, labels.clone(), container);
    let mut witness = Witness::new(namespace, side, &labels, &options.out);
    let tallies: [Arc<Tally>; KINDS.len()] = Default::default();
    let mut clients = JoinSet::new();
    let [everyday, tenant, bursts] =
        tallies.clone().map(|tally| move |address, number| Client { address, tally: tally.clone(), number });

    say(&format!("{}: everyday clients", side.name()));
    let [streams, sessions, slow, heavy] = EVERYDAY;
    for number in 0..streams {
        clients.spawn(everyday(address, number).subscribe());
        sleep(Duration::from_millis(5)).await;
    }
    for number in 0..sessions {
        clients.spawn(everyday(address, number).session());
    }
    for number in 0..slow {
        clients.spawn(everyday(address, number).call("report", 3_200, Duration::from_millis(100)));
    }
    for number in 0..heavy {
        clients.spawn(everyday(address, number).call("heavy", 64 << 10, Duration::ZERO));
    }
    witness.during(Duration::from_secs(options.hold)).await;

    say(&format!("{}: a heavy tenant on one shard", side.name()));
    for number in 0..HEAVY_TENANT {
        clients.spawn(tenant(hot, streams + number).subscribe());
        sleep(Duration::from_millis(5)).await;
    }
    witness.during(Duration::from_secs(options.hold)).await;

    say(&format!("{}: {} bursts of 100 MiB/s", side.name(), options.bursts));
    for burst in 0..options.bursts {
        let calls = BURST / REPORT;
        for number in 0..calls {
            // Over all shards, and on one.
            let caller = bursts(if burst % 2 == 0 { address } else { hot }, number);
            clients.spawn(async move {
                caller.call_once("report", 64 << 10, Duration::ZERO, UNREAD).await;
            });
            sleep(Duration::from_secs(1) / u32::try_from(calls).unwrap_or(1)).await;
        }
        witness.during(BURSTS_APART).await;
    }

    // From here on nobody is refused or cut any more: they go by themselves.
    let kinds = tallies.map(|tally| tally.counts());
    clients.shutdown().await;
    say(&format!("{}: nobody is left", side.name()));
    let ended = Instant::now();
    let mut shrank = None;
    while shrank.is_none() && ended.elapsed() < SHRINKS_WITHIN {
        witness.during(Duration::from_secs(1)).await;
        shrank = ready(namespace, &labels).await.is_ok().then(|| ended.elapsed());
    }
    witness.look().await;
    let shed = witness.shed.values().sum();
    Ok(Told { side, counts: kinds.into_iter().sum(), kinds, seen: watch.seen(), shed, shrank, reasons: witness.reasons })
}

/// The pods, when there are as few as there may be and all are Ready.
async fn ready(namespace: &Namespace, labels: &str) -> Outcome<Vec<Pod>> {
    let pods = namespace.api::<Pod>().list(&ListParams::default().labels(labels)).await?.items;
    let ready = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod)).count();
    claim!(pods.len() == ready && i32::try_from(ready) == Ok(BOUNDS.0), "{ready} of {} pods are Ready", pods.len());
    Ok(pods)
}

/// The keys of the `McpCluster` here, as a Secret holds them; random ones would make a session known to one pod only. The operator
/// makes them.
pub(crate) async fn keys(namespace: &Namespace, options: &Options) -> Outcome<Value> {
    for object in manifests::side(Side::Ours, options.limit, &Value::Null) {
        namespace.apply(&object.to_string()).await.doing("applying the McpCluster")?;
    }
    let secret = eventually("the keys", STARTS_WITHIN, || async {
        namespace.api::<Secret>().get(&format!("{NAME}-keys")).await.doing("reading the keys")
    })
    .await?;
    let data = secret.data.and_then(|data| data.get(KEYS_FILE).cloned());
    Ok(json!(data.ok_or_else(|| Failure::new(format!("the Secret has no {KEYS_FILE}")))?))
}

/// Looks at what status, events and metrics say, and keeps what a person would read.
struct Witness<'a> {
    namespace: &'a Namespace,
    side: Side,
    labels: &'a str,
    folder: &'a Path,
    begun: Instant,
    reasons: BTreeSet<String>,
    shed: BTreeMap<String, f64>,
    last: String,
}

impl<'a> Witness<'a> {
    fn new(namespace: &'a Namespace, side: Side, labels: &'a str, folder: &'a Path) -> Self {
        let begun = Instant::now();
        Self { namespace, side, labels, folder, begun, reasons: BTreeSet::new(), shed: BTreeMap::new(), last: String::new() }
    }

    /// Looks every two seconds during that time.
    async fn during(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            self.look().await;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            sleep(left.min(Duration::from_secs(2))).await;
        }
    }

    /// What cannot be read at the moment is read the next time.
    async fn look(&mut self) {
        let pods = self.namespace.api::<Pod>().list(&ListParams::default().labels(self.labels)).await;
        for pod in pods.map(|list| list.items).unwrap_or_default().iter().filter(|pod| is_ready(pod)) {
            if let Ok(shed) = Metrics::of(self.namespace, pod).await.and_then(|metrics| metrics.sum("mcp_streams_shed_total")) {
                let most = self.shed.entry(pod.uid().unwrap_or_default()).or_default();
                *most = most.max(shed);
            }
        }
        if self.side == Side::Hpa {
            return;
        }
        let cluster = self.namespace.cluster(NAME);
        let Ok(object) = cluster.get().await else { return };
        let status = object.status.unwrap_or_default();
        let pressure = status.conditions.iter().find(|condition| condition.type_ == "MemoryPressure");
        let pressure = pressure.map(|c| format!("{} {}: {}", c.status, c.reason, c.message)).unwrap_or_default();
        let reason = pressure.split([' ', ':']).nth(1).unwrap_or_default().to_owned();
        let scale = status.last_scale.map(|scale| format!("{} {} to {}", scale.reason, scale.from, scale.to)).unwrap_or_default();
        let now = format!("MemoryPressure {reason}; last scale {scale}");
        if now != self.last {
            say(&format!("{}: {} ready; {pressure} Last scale: {scale}", self.side.name(), status.ready_replicas.unwrap_or(0)));
            self.last = now;
            self.describe().await;
        }
        self.reasons.insert(format!("MemoryPressure/{reason}"));
        let events = cluster.events().await.unwrap_or_default();
        for event in events.into_iter().filter(|event| event.involved_object.kind.as_deref() == Some("McpCluster")) {
            self.reasons.insert(format!("event/{}", event.reason.unwrap_or_default()));
        }
    }

    /// What a person sees.
    async fn describe(&self) {
        let Ok(text) = self.namespace.kubectl(&["describe", "mcpcluster", NAME]).await else { return };
        let path = self.folder.join(format!("describe-{:04}.txt", self.begun.elapsed().as_secs()));
        let _ = std::fs::write(path, text);
    }
}

/// What is claimed of our side.
///
/// # Errors
/// Every claim that does not hold.
pub(crate) fn judge(told: &Told) -> Outcome {
    let mut broken = vec![];
    let mut hold = |holds: bool, claim: &str| {
        if !holds {
            broken.push(claim.to_owned());
        }
    };
    hold(told.seen.oom_kills() == 0, "no process is killed for memory");
    hold(told.seen.restarts() == 0, "no container is started again");
    hold(told.seen.largest() > usize::try_from(BOUNDS.0).unwrap_or(0), "more shards come");
    hold(told.shed > 0.0, "a hot shard ends streams");
    hold(told.reasons.contains("MemoryPressure/Shedding"), "MemoryPressure says Shedding");
    hold(told.reasons.contains("event/ScalingOut"), "there is an event ScalingOut");
    hold(told.reasons.contains("event/ScalingIn"), "there is an event ScalingIn");
    hold(told.shrank.is_some(), "the shards go when nobody is left");
    claim!(broken.is_empty(), "does not hold: {}", broken.join("; "));
    Ok(())
}
