//! An `McpCluster` under test: its status, its shards and its events.

use std::fmt::Write as _;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use kube::{Error, ResourceExt as _};
use mcp_crds::{McpCluster, McpClusterStatus};
use serde_json::Value;

use crate::failure::{Failure, Outcome, While as _};
use crate::namespace::Namespace;
use crate::reach::{self, Endpoint};
use crate::wait::eventually;
use crate::{claim, claim_eq};

/// Label of every shard, its value names the cluster.
pub const CLUSTER_LABEL: &str = "mcpcluster.dev/cluster";
/// Label of a shard: `active` or `draining`.
pub const STATE_LABEL: &str = "mcpcluster.dev/state";

/// From apply to Ready: a pod starts in 3 s, several tests share two cores.
pub const STARTS_WITHIN: Duration = Duration::from_secs(90);

/// What a claim about a cluster comes to: why it does not hold yet.
pub type Judgement = Result<(), String>;

/// An `McpCluster` under test.
#[derive(Clone)]
pub struct Cluster {
    namespace: Namespace,
    name: String,
}

impl Cluster {
    pub(crate) fn new(namespace: Namespace, name: &str) -> Self {
        Self { namespace, name: name.to_owned() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    fn api(&self) -> Api<McpCluster> {
        self.namespace.api()
    }

    /// The object as it is now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn get(&self) -> Outcome<McpCluster> {
        Ok(self.api().get(&self.name).await?)
    }

    /// Its status as it is now.
    ///
    /// # Errors
    /// When it cannot be read, or has none.
    pub async fn status(&self) -> Outcome<McpClusterStatus> {
        self.get().await?.status.ok_or_else(|| Failure::new("there is no status yet"))
    }

    /// Watches until `judge` is content.
    ///
    /// # Errors
    /// What was waited for, why it did not hold, and the status seen last.
    pub async fn until(
        &self,
        what: &str,
        within: Duration,
        judge: impl Fn(&McpCluster) -> Judgement + Send,
    ) -> Outcome<McpCluster> {
        let mut last = "the watch showed nothing".to_owned();
        let mut seen = pin!(watch_object(self.api(), &self.name).default_backoff());
        let judged = async {
            loop {
                match seen.next().await {
                    Some(Ok(Some(cluster))) => match judge(&cluster) {
                        Ok(()) => return Ok(cluster),
                        Err(why) => last = format!("{why}\n{}", describe(&cluster)),
                    },
                    Some(Ok(None)) => "it does not exist".clone_into(&mut last),
                    Some(Err(error)) => last = Failure::from(error).to_string(),
                    None => return Err(Failure::new("the watch ended")),
                }
            }
        };
        match tokio::time::timeout(within, judged).await {
            Ok(cluster) => cluster,
            Err(_) => Err(Failure::new(format!("within {within:?}, {} did not show: {what}. Last seen: {last}", self.name))),
        }
    }

    /// Watches until a condition of this generation has this status and reason.
    ///
    /// # Errors
    /// As [`Cluster::until`].
    pub async fn until_condition(&self, kind: &str, status: &str, reason: &str, within: Duration) -> Outcome<McpCluster> {
        self.until(&format!("{kind}={status} {reason}"), within, |cluster| has_condition(cluster, kind, status, reason)).await
    }

    /// Watches until `shards` shards serve this generation and none is left over.
    ///
    /// # Errors
    /// As [`Cluster::until`].
    pub async fn until_settled(&self, shards: i32, within: Duration) -> Outcome<McpCluster> {
        self.until(&format!("{shards} shards, settled"), within, |cluster| settled(cluster, shards)).await
    }

    /// Changes the object by a merge patch, as `kubectl patch --type=merge` does.
    ///
    /// # Errors
    /// What the API server says, unchanged: tests compare it.
    pub async fn patch(&self, change: &Value) -> Result<McpCluster, Error> {
        self.api().patch(&self.name, &PatchParams::default(), &Patch::Merge(change)).await
    }

    /// Deletes the object and waits until it is gone.
    ///
    /// # Errors
    /// When it stays.
    pub async fn delete(&self) -> Outcome {
        self.api().delete(&self.name, &DeleteParams::background()).await?;
        eventually("the end of the McpCluster", Duration::from_secs(30), || async {
            claim!(self.api().get_opt(&self.name).await?.is_none(), "it is still there");
            Ok(())
        })
        .await
    }

    /// Its pods, by name, also draining and ending ones.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn pods(&self) -> Outcome<Vec<Pod>> {
        let ours = ListParams::default().labels(&format!("{CLUSTER_LABEL}={}", self.name));
        let mut pods = self.namespace.api::<Pod>().list(&ours).await.doing("listing the pods")?.items;
        pods.sort_by_key(kube::ResourceExt::name_any);
        Ok(pods)
    }

    /// Its pods that are Ready and not ending.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn ready_pods(&self) -> Outcome<Vec<Pod>> {
        Ok(self.pods().await?.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod)).collect())
    }

    /// The events about it and its shards, oldest first.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn events(&self) -> Outcome<Vec<Event>> {
        let mut events = self.namespace.api::<Event>().list(&ListParams::default()).await.doing("listing the events")?.items;
        events.retain(|event| event.involved_object.name.as_deref() == Some(&self.name));
        events.sort_by_key(|event| event.metadata.creation_timestamp.clone());
        Ok(events)
    }

    /// Waits for an event about it with this reason, whose message holds `part`.
    ///
    /// # Errors
    /// Which events there are instead.
    pub async fn until_event(&self, reason: &str, part: &str, within: Duration) -> Outcome<Event> {
        eventually(&format!("an event {reason} that says {part:?}"), within, || async {
            let events = self.events().await?;
            let says = |event: &Event| event.message.as_deref().unwrap_or_default().contains(part);
            let shown: Vec<_> = events.iter().map(|event| format!("{:?} {:?}", event.reason, event.message)).collect();
            let found = events.into_iter().rfind(|event| event.reason.as_deref() == Some(reason) && says(event));
            found.ok_or_else(|| Failure::new(format!("events: {}", shown.join("; "))))
        })
        .await
    }

    /// Its endpoint: what `status.address.url` says, reached through the client Service.
    ///
    /// # Errors
    /// When there is no address, or the Service cannot be reached.
    pub async fn endpoint(&self) -> Outcome<Endpoint> {
        let url = self.status().await?.address.ok_or_else(|| Failure::new("status has no address"))?.url;
        let expected = format!("http://{}.{}.svc/mcp", self.name, self.namespace.name());
        claim_eq!(url, expected, "status.address.url");
        reach::service(&self.namespace, &self.name, &url).await
    }

    /// The MCP endpoint of each Ready shard, past the Service.
    ///
    /// # Errors
    /// When a shard cannot be reached.
    pub async fn shard_endpoints(&self) -> Outcome<Vec<Endpoint>> {
        let mut endpoints = Vec::new();
        for pod in self.ready_pods().await? {
            endpoints.push(reach::pod(&self.namespace, &pod, mcp_crds::shard::DATA_PORT, "/mcp").await?);
        }
        Ok(endpoints)
    }
}

/// The condition of this type.
pub fn condition<'a>(cluster: &'a McpCluster, kind: &str) -> Option<&'a Condition> {
    cluster.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == kind)
}

/// The message of a condition; empty when there is none.
pub fn message<'a>(cluster: &'a McpCluster, kind: &str) -> &'a str {
    condition(cluster, kind).map_or("", |condition| &condition.message)
}

/// Whether a condition of this generation has this status and reason.
///
/// # Errors
/// What it is instead.
pub fn has_condition(cluster: &McpCluster, kind: &str, status: &str, reason: &str) -> Judgement {
    let Some(found) = condition(cluster, kind) else { return Err(format!("there is no condition {kind}")) };
    if found.observed_generation != cluster.metadata.generation {
        return Err(format!(
            "{kind} speaks of generation {:?}, not {:?}",
            found.observed_generation, cluster.metadata.generation
        ));
    }
    if found.status == status && found.reason == reason {
        Ok(())
    } else {
        Err(format!("{kind} is {} {}", found.status, found.reason))
    }
}

/// Whether so many shards serve this generation, none is left over, and nothing is under way.
///
/// # Errors
/// What is missing.
pub fn settled(cluster: &McpCluster, shards: i32) -> Judgement {
    has_condition(cluster, "Ready", "True", &condition(cluster, "Ready").map_or(String::new(), |c| c.reason.clone()))?;
    has_condition(cluster, "Progressing", "False", "Settled")?;
    let status = cluster.status.clone().unwrap_or_default();
    let counts = [
        ("replicas", status.replicas),
        ("readyReplicas", status.ready_replicas),
        ("desiredReplicas", status.desired_replicas),
        ("catalog.shards", status.catalog.as_ref().map(|catalog| catalog.shards)),
    ];
    for (name, count) in counts {
        if count != Some(shards) {
            return Err(format!("status.{name} is {count:?}, not {shards}"));
        }
    }
    match status.draining_replicas.unwrap_or_default() {
        0 => Ok(()),
        draining => Err(format!("{draining} shards are draining")),
    }
}

/// Whether a pod is Ready.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// How often the containers of a pod were started again.
pub fn restarts(pod: &Pod) -> i32 {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.map(|container| container.restart_count).sum()
}

/// What identifies a pod for ever.
pub fn uid(pod: &Pod) -> String {
    pod.uid().unwrap_or_default()
}

/// Status in a few lines.
pub fn describe(cluster: &McpCluster) -> String {
    let Some(status) = &cluster.status else { return "  no status".to_owned() };
    let mut text = format!(
        "  generation {:?} observed {:?}; replicas {:?} ready {:?} updated {:?} desired {:?} draining {:?}\n",
        cluster.metadata.generation,
        status.observed_generation,
        status.replicas,
        status.ready_replicas,
        status.updated_replicas,
        status.desired_replicas,
        status.draining_replicas
    );
    if let Some(load) = &status.load {
        let _ = writeln!(text, "  load: {load:?}");
    }
    if let Some(catalog) = &status.catalog {
        let _ = writeln!(text, "  catalog: {catalog:?}");
    }
    if let Some(scale) = &status.last_scale {
        let _ = writeln!(text, "  last scale: {} to {} {}: {}", scale.from, scale.to, scale.reason, scale.message);
    }
    for c in &status.conditions {
        let _ = writeln!(text, "  {}={} {} (generation {:?}): {}", c.type_, c.status, c.reason, c.observed_generation, c.message);
    }
    text
}
