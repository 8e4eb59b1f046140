//! Between passes: whom to ask for load and what to tell them, and which clusters the answers wake. A cluster for which the
//! same judgement leaves nothing to do is not woken: at rest the operator writes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use mcp_crds::McpCluster;
use mcp_crds::load::{LoadRequest, Member};

use super::catalog::secrets_due;
use super::keys::KEYS_INTERVAL;
use super::{Context, Judged};
use crate::desired;
use crate::flip::{Flip, Seen, flip};
use crate::metrics::{Cluster, ClusterState};
use crate::observe::Target;
use crate::stages::{ObservedShard, Phase, Received, ShardState, elapsed};
use crate::status;

impl Context {
    /// The shards to ask now, each with what it is to be told.
    pub fn targets(&self, clusters: &[Arc<McpCluster>], now: Timestamp) -> Vec<Target> {
        clusters.iter().flat_map(|cluster| self.targets_of(cluster, now)).collect()
    }

    fn targets_of(&self, cluster: &McpCluster, now: Timestamp) -> Vec<Target> {
        let shards = self.addressed(cluster);
        let members =
            shards.iter().map(|(shard, address)| Member { name: shard.name.clone(), address: address.clone() }).collect();
        let uid = cluster.metadata.uid.clone().unwrap_or_default();
        self.remember(cluster, |memory| {
            let Some(keys) = memory.keys.as_ref().map(|(keys, _)| keys.clone()) else { return vec![] };
            let members = memory.assemble(members, now).clone();
            let published = memory.catalog.published.clone().flatten();
            let flipped = memory.flip.1.go && Some(&memory.flip.0) == published.as_ref();
            let target = |(shard, address): &(ObservedShard, String)| {
                let known = memory.reports.get(&shard.uid).map(|received| &received.report);
                let serve = if flipped { published.clone() } else { known.map(|report| report.catalog_hash.clone()) };
                let informed = known.is_some_and(|report| report.membership_epoch == members.epoch);
                Target {
                    cluster: uid.clone(),
                    pod: shard.uid.clone(),
                    name: shard.name.clone(),
                    node: shard.node.clone(),
                    address: address.clone(),
                    keys: keys.clone(),
                    request: LoadRequest {
                        membership_epoch: members.epoch,
                        members: (!informed).then(|| members.list.clone()),
                        serve: serve.filter(|hash| !hash.is_empty()),
                    },
                }
            };
            shards.iter().map(target).collect()
        })
    }

    /// Shards with an address and a process that may answer.
    fn addressed(&self, cluster: &McpCluster) -> Vec<(ObservedShard, String)> {
        let pods = self.pods_named_as(cluster);
        pods.iter()
            .filter(|pod| desired::owned(pod.owners(), cluster))
            .filter_map(|pod| pod.shard(desired::name_of(cluster)))
            .filter(|shard| shard.container.may_run() && matches!(shard.phase, Phase::Running | Phase::Unknown))
            .filter_map(|shard| shard.address.clone().map(|address| (shard, address)))
            .collect()
    }

    /// Takes in the answers of a round. Returns the clusters that have something to do, and those whose shards are to go over
    /// to a new configuration at once.
    pub fn hear(
        &self,
        clusters: &[Arc<McpCluster>],
        answers: Vec<(Target, Received)>,
        now: Timestamp,
    ) -> (Vec<Arc<McpCluster>>, Vec<Arc<McpCluster>>) {
        let mut by_cluster: BTreeMap<String, Vec<(String, Received)>> = BTreeMap::new();
        for (target, received) in answers {
            by_cluster.entry(target.cluster).or_default().push((target.pod, received));
        }
        let (mut woken, mut flipping) = (vec![], vec![]);
        for cluster in clusters.iter().filter(|cluster| cluster.metadata.deletion_timestamp.is_none()) {
            let answers = by_cluster.remove(cluster.metadata.uid.as_deref().unwrap_or_default()).unwrap_or_default();
            self.remember(cluster, |memory| answers.into_iter().for_each(|(pod, received)| memory.hear(&pod, received)));
            let judged = self.judge(cluster, now);
            self.measure(cluster, &judged, now);
            if self.flip(cluster, &judged, now) {
                flipping.push(cluster.clone());
            }
            if self.wants_a_pass(cluster, &judged, now) {
                woken.push(cluster.clone());
            } else {
                // Nothing follows from it but what is remembered: windows and rates go on.
                self.remember(cluster, |memory| {
                    memory.history = Some(judged.history);
                    memory.flips = judged.flips;
                });
            }
        }
        (woken, flipping)
    }

    /// Whether shards may go over to the published configuration, as far as they have not; returns whether that is news.
    fn flip(&self, cluster: &McpCluster, judged: &Judged, now: Timestamp) -> bool {
        let Some(published) = &judged.observed.published else { return false };
        let live: Vec<Seen<'_>> = judged
            .observed
            .shards
            .iter()
            .filter(|shard| judged.observed.state(shard, now) == ShardState::Fresh)
            .filter_map(|shard| shard.report.as_ref())
            .map(|received| Seen { serves: &received.report.catalog_hash, staged: &received.report.catalog_staged })
            .collect();
        self.remember(cluster, |memory| {
            let before = std::mem::take(&mut memory.flip);
            let before = if before.0 == *published { before.1 } else { Flip::default() };
            let after = flip(published, &live, before.first_staged, now);
            memory.flip = (published.clone(), after);
            after.go && !before.go && live.iter().any(|shard| shard.serves != published)
        })
    }

    /// Whether a pass would do anything.
    fn wants_a_pass(&self, cluster: &McpCluster, judged: &Judged, now: Timestamp) -> bool {
        let (never, due, applied) = self.remember(cluster, |memory| {
            let secrets = secrets_due(&memory.catalog, now);
            let keys = memory.keys.as_ref().is_none_or(|(_, read)| elapsed(*read, now) >= KEYS_INTERVAL);
            let retry = memory.refused.values().any(|refused| refused.due <= now);
            (memory.history.is_none(), secrets || keys || retry, memory.applied(judged.observed.published.clone()))
        });
        let sheds = !judged.decision.sheds.is_empty();
        let work = due || sheds || !judged.plan.is_empty() || !judged.placement.is_empty();
        if never || self.keys_want_a_pass(cluster, &judged.observed, now) || (work && !cluster.spec.paused) {
            return true;
        }
        let after = self.summarize(judged, &applied);
        let (before, written_at) = self.status_before(cluster);
        let urgency = status::worth_patching(before.as_ref(), &after, written_at, now);
        urgency.is_some_and(|urgency| self.waits(cluster, urgency, now).is_none())
    }

    /// The exact numbers that status rounds.
    fn measure(&self, cluster: &McpCluster, judged: &Judged, now: Timestamp) {
        let (namespace, name) = (desired::namespace_of(cluster).to_owned(), desired::name_of(cluster).to_owned());
        let states: Vec<ShardState> = judged.observed.shards.iter().map(|shard| judged.observed.state(shard, now)).collect();
        let count = |wanted: &dyn Fn(&ShardState) -> bool| states.iter().filter(|state| wanted(state)).count();
        let ready = judged.observed.shards.iter().zip(&states).filter(|(shard, state)| shard.ready && state.is_active()).count();
        let numbers = [
            ("desired", judged.decision.desired as usize),
            ("active", count(&|state| state.is_active())),
            ("ready", ready),
            ("draining", count(&|state| *state == ShardState::Draining)),
        ];
        for (state, number) in numbers {
            let labels = ClusterState { namespace: namespace.clone(), cluster: name.clone(), state };
            self.metrics.shards.get_or_create(&labels).set(i64::try_from(number).unwrap_or(i64::MAX));
        }
        let labels = Cluster { namespace, cluster: name };
        self.measure_keys(cluster, &labels);
        let reports = || judged.observed.shards.iter().filter_map(|shard| shard.report.as_ref()).map(|received| &received.report);
        let sum = |of: fn(&mcp_crds::load::LoadReport) -> u64| i64::try_from(reports().map(of).sum::<u64>()).unwrap_or(i64::MAX);
        self.metrics.connections.get_or_create(&labels).set(sum(|report| report.connections));
        self.metrics.streams.get_or_create(&labels).set(sum(|report| report.streams));
        let hottest =
            reports().filter(|report| report.limit_bytes > 0).map(|report| (report.working_set_bytes, report.limit_bytes));
        #[expect(clippy::cast_precision_loss, reason = "a ratio for a gauge")]
        let hottest = hottest.map(|(used, limit)| used as f64 / limit as f64).fold(0.0, f64::max);
        self.metrics.hottest_memory.get_or_create(&labels).set(hottest);
    }
}
