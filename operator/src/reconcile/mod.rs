//! One pass over one cluster: observe → decide → build → apply → summarize → patch. The only place that knows this order.

mod act;
mod catalog;
mod keys;
mod news;
mod nodes;
mod objects;
mod pods;
mod tick;
mod turn;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use kube::runtime::controller::Action;
use mcp_crds::{McpCluster, McpClusterStatus};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::Instant;

use self::turn::Turn;
use crate::apply::Writer;
use crate::budget::Budget;
use crate::config::Config;
use crate::desired::{self, Surroundings, pod};
use crate::error::{Error, Result};
use crate::events::{Events, News};
use crate::memory::{Memories, Memory, backoff};
use crate::metrics::{self, Metrics};
use crate::names;
use crate::observe::{KnownPod, Scraper, Stores};
use crate::placement::{self, Flips};
use crate::rollout;
use crate::scale::{self, History, Policy};
use crate::shards::Shards;
use crate::stages::{Applied, Decision, Observed, PlacementStep, Plan, Urgency};
use crate::status;

/// A pass that failed this often in a row is no hiccup.
const LOUD_AFTER: u32 = 3;
/// Statuses that wait for their turn come back within this time of it, each at another moment.
const LONGEST_SCATTER: Duration = Duration::from_secs(2);
/// A pass that nothing asked for: what watches might have missed is found after this long.
const RESYNC: Duration = Duration::from_mins(5);

/// What passes share, in one scope.
pub struct Context {
    /// Settings.
    pub config: Arc<Config>,
    /// To the API server.
    pub client: Client,
    /// What is watched.
    pub stores: Arc<Stores>,
    /// What is remembered.
    pub memories: Memories,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How often statuses may be written; one for all scopes.
    pub budget: Arc<Budget>,
    /// What is told.
    pub events: Events,
    /// To the shards.
    pub shards: Shards,
    /// Keys, nonces and jitter.
    pub random: SystemRandom,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What judgement makes of what is known now.
pub(crate) struct Judged {
    pub(crate) observed: Observed,
    pub(crate) rendered: pod::Rendered,
    pub(crate) decision: Decision,
    pub(crate) history: History,
    pub(crate) plan: Plan,
    pub(crate) placement: Vec<PlacementStep>,
    pub(crate) flips: Flips,
    pub(crate) now: Timestamp,
}

/// One pass.
///
/// # Errors
/// When the status could not be written. What is refused before is no error: it is in the status, and is tried again when it
/// is due.
pub async fn reconcile(cluster: Arc<McpCluster>, context: Arc<Context>) -> Result<Action> {
    let begun = Instant::now();
    let result = Box::pin(context.pass(&cluster)).await;
    let outcome = result.as_ref().map_or_else(Error::reason, |_| "ok");
    context.metrics.passes.get_or_create(&metrics::Outcome { outcome }).inc();
    context.metrics.pass_seconds.observe(begun.elapsed().as_secs_f64());
    context.remember(&cluster, |memory| match &result {
        Ok(_) => memory.failed_passes = 0,
        Err(_) => memory.failed_passes = memory.failed_passes.saturating_add(1),
    });
    result
}

/// When to try again after a failed pass: later each time, and never at the same moment as others.
#[expect(clippy::needless_pass_by_value, reason = "the signature is the runtime's")]
pub fn retry(cluster: Arc<McpCluster>, error: &Error, context: Arc<Context>) -> Action {
    let failed = context.remember(&cluster, |memory| memory.failed_passes);
    let wait = backoff(failed, context.jitter());
    let chain = crate::telemetry::chain(error);
    let name = desired::name_of(&cluster);
    if failed < LOUD_AFTER {
        tracing::info!(cluster = name, error = %chain, failed, "pass failed");
    } else {
        tracing::warn!(cluster = name, error = %chain, failed, "pass failed");
    }
    Action::requeue(wait)
}

/// The first thing that a status says anew, for the log.
fn first_difference(before: Option<&McpClusterStatus>, after: &McpClusterStatus) -> Option<String> {
    pod::difference(&serde_json::to_value(before?).ok()?, &serde_json::to_value(after).ok()?)
}

// === impl Context ===

impl Context {
    async fn pass(&self, cluster: &Arc<McpCluster>) -> Result<Action> {
        if cluster.metadata.deletion_timestamp.is_some() {
            // Owner references do the rest; nothing is created from here on.
            return Ok(Action::await_change());
        }
        let writer = self.writer(cluster);
        let mut turn = Turn::new();
        self.refresh_keys(&writer, cluster, &mut turn).await;
        self.refresh_catalog(&writer, cluster, &mut turn).await;
        if !cluster.spec.paused {
            self.take_in(&writer, cluster, &mut turn).await;
        }
        if self.remember(cluster, |memory| memory.history.is_none()) {
            // A new process hears the shards before it says anything about them.
            self.hear_first(cluster).await;
        }
        self.look_at_nodes(cluster).await;

        let now = Timestamp::now();
        let judged = self.judge(cluster, now);
        self.remember(cluster, |memory| memory.history = Some(judged.history.clone()));
        self.rotate_keys(&writer, cluster, &judged.observed, &mut turn).await;
        if !cluster.spec.paused {
            self.remember(cluster, |memory| memory.flips = judged.flips.clone());
            Box::pin(act::Hand::new(self, &writer, cluster, &judged, &mut turn).act()).await;
        }
        if turn.is_ending {
            return Ok(Action::requeue(RESYNC));
        }
        let applied = turn.finish(self, cluster);
        let delayed = self.tell(&writer, &judged, &applied, turn.into_news()).await?;
        Ok(Action::requeue(delayed.unwrap_or_else(|| RESYNC.mul_f64(0.8 + 0.4 * self.jitter()))))
    }

    async fn hear_first(&self, cluster: &Arc<McpCluster>) {
        let targets = self.targets(std::slice::from_ref(cluster), Timestamp::now());
        let answers = Scraper::new(self.shards.clone(), self.metrics.clone()).round(targets).await;
        self.remember(cluster, |memory| answers.into_iter().for_each(|(target, received)| memory.hear(&target.pod, received)));
    }

    /// Observe, decide, plan: everything pure, on what is known now.
    pub(crate) fn judge(&self, cluster: &Arc<McpCluster>, now: Timestamp) -> Judged {
        let image = self.image(cluster);
        let rendered = pod::template(cluster, &image);
        let mut observed = self.observed(cluster, image, now);
        observed.template_hash.clone_from(&rendered.hash);
        let (known, flips) = self.remember(cluster, |memory| (memory.history.clone(), memory.flips.clone()));
        let history = known.unwrap_or_else(|| History::restore(cluster.status.as_ref(), now));
        let (decision, history) = scale::decide(&Policy::of(&cluster.spec), &observed, history, now);
        let plan = rollout::plan(&observed, &decision, now);
        let (placement, flips) = placement::place(&observed, &decision, &plan, &flips, now);
        Judged { observed, rendered, decision, history, plan, placement, flips, now }
    }

    fn observed(&self, cluster: &Arc<McpCluster>, image: String, now: Timestamp) -> Observed {
        let pods = self.pods_named_as(cluster);
        let ours = pods.iter().filter(|pod| desired::owned(pod.owners(), cluster));
        let mut shards: Vec<_> = ours.filter_map(|pod| pod.shard(desired::name_of(cluster))).collect();
        shards.sort_by_key(|shard| shard.index);
        self.remember(cluster, |memory| {
            memory.reports.retain(|uid, _| shards.iter().any(|shard| shard.uid == *uid));
            memory.leaving.retain(|uid, _| shards.iter().any(|shard| shard.uid == *uid));
            for shard in &mut shards {
                shard.report = memory.reports.get(&shard.uid).cloned();
                shard.node_leaves = memory.leaving.get(&shard.uid).copied();
            }
            Observed {
                cluster: cluster.clone(),
                image,
                shards,
                taken: memory.taken(now),
                template_hash: String::new(),
                catalog: memory.catalog.outcome.clone(),
                published: memory.catalog.published.clone().flatten(),
                watching_since: memory.watching_since,
                report_interval: self.config.scrape_interval,
            }
        })
    }

    /// The pods whose names begin as those of this cluster's shards. A pass looks at them several times, and at no others of the
    /// namespace, which may be thousands.
    pub(crate) fn pods_named_as(&self, cluster: &McpCluster) -> Vec<Arc<KnownPod>> {
        let prefix = names::shard_prefix(desired::name_of(cluster));
        self.stores.pods.beginning_with(desired::namespace_of(cluster), &prefix)
    }

    fn image(&self, cluster: &McpCluster) -> String {
        let (status, _) = self.status_before(cluster);
        desired::image(cluster, status.as_ref(), &self.config.server_image)
    }

    /// The status that was written last: newer than the one the watch brought, when it is ours.
    fn status_before(&self, cluster: &McpCluster) -> (Option<McpClusterStatus>, Option<Timestamp>) {
        let written = self.remember(cluster, |memory| memory.status.clone());
        match written {
            Some((status, at)) => (Some(status), Some(at)),
            None => (cluster.status.clone(), None),
        }
    }

    fn summarize(&self, judged: &Judged, applied: &Applied) -> McpClusterStatus {
        let (before, _) = self.status_before(&judged.observed.cluster);
        status::summarize(&judged.observed, &judged.decision, applied, before.as_ref(), judged.now)
    }

    /// Events for what happened, and the status when a person would care. Returns when to come back for a status that has to
    /// wait for its turn: nothing of it is kept, the later pass writes what is true then.
    async fn tell(&self, writer: &Writer, judged: &Judged, applied: &Applied, mut news: Vec<News>) -> Result<Option<Duration>> {
        let (cluster, now) = (&*judged.observed.cluster, judged.now);
        let (before, written_at) = self.status_before(cluster);
        let after = self.summarize(judged, applied);
        let urgency = status::worth_patching(before.as_ref(), &after, written_at, now);
        if urgency.is_none() {
            self.remember(cluster, |memory| memory.status_waits = None);
        }
        let delayed = urgency.and_then(|urgency| self.delay(cluster, urgency, now));
        if urgency.is_some() && delayed.is_none() {
            if let Err(error) = writer.patch_status(&after).await {
                // What was done is told all the same: no later pass would.
                self.events.publish(cluster, &news).await;
                return Err(error);
            }
            tracing::debug!(difference = first_difference(before.as_ref(), &after), "status written");
            let summary = news::of_status(before.as_ref(), &after);
            // A refusal that the summary tells is not told twice.
            news.retain(|one| summary.iter().all(|other| other.reason != one.reason || other.note != one.note));
            news.extend(summary);
            self.remember(cluster, |memory| memory.status = Some((after, now)));
        }
        self.events.publish(cluster, &news).await;
        Ok(delayed)
    }

    /// How long a status has to wait for its turn, if it has to.
    fn delay(&self, cluster: &McpCluster, urgency: Urgency, now: Timestamp) -> Option<Duration> {
        if let Some(left) = self.waits(cluster, urgency, now) {
            return Some(left);
        }
        // Nobody waits behind himself.
        let waited = self.remember(cluster, |memory| memory.status_waits.take()).is_some();
        let wait = self.budget.take(urgency, now).err()?;
        if !waited {
            self.metrics.status_writes_delayed.get_or_create(&metrics::Delayed { about: urgency.as_str() }).inc();
        }
        // Not all of those that wait at the same moment.
        let wait = wait + LONGEST_SCATTER.mul_f64(self.jitter());
        let place = self.budget.wait(urgency, wait, now);
        self.remember(cluster, |memory| memory.status_waits = Some(place));
        Some(wait)
    }

    /// How long a status still waits for its turn.
    fn waits(&self, cluster: &McpCluster, urgency: Urgency, now: Timestamp) -> Option<Duration> {
        self.remember(cluster, |memory| memory.status_waits.as_ref()?.left(urgency, now))
    }

    fn writer(&self, cluster: &McpCluster) -> Writer {
        let contests = self.remember(cluster, |memory| memory.contests.clone());
        Writer::new(self.client.clone(), self.metrics.clone(), self.stores.clone(), contests, cluster)
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings {
            operator_namespace: self.config.operator_namespace.clone(),
            cluster_domain: self.config.cluster_domain.clone(),
        }
    }

    pub(crate) fn remember<T>(&self, cluster: &McpCluster, look: impl FnOnce(&mut Memory) -> T) -> T {
        self.memories.with(cluster.metadata.uid.as_deref().unwrap_or_default(), Timestamp::now(), look)
    }

    /// From 0 to 1.
    pub(crate) fn jitter(&self) -> f64 {
        let mut byte = [0];
        // Without randomness all wait equally long, which is no reason to fail.
        let _ = self.random.fill(&mut byte);
        f64::from(byte[0]) / 255.0
    }
}
