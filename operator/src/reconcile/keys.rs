//! The keys of a cluster: generated once, read back by name, put back when they are deleted, and rotated when a person asks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mcp_crds::McpCluster;
use mcp_crds::control::Key;
use mcp_crds::shard;
use ring::rand::SecureRandom as _;

use super::Context;
use super::turn::Turn;
use crate::apply::Writer;
use crate::desired;
use crate::error::{Error, Object, Result};
use crate::events::News;
use crate::keys::{self, Asked, InvalidAnnotation, Keys, Record, Step, Told, Voice};
use crate::metrics::Cluster;
use crate::names;
use crate::stages::{CatalogOutcome, Observed, Received, elapsed};

/// How often the Secret is looked at: somebody may have deleted it.
pub(super) const KEYS_INTERVAL: Duration = Duration::from_mins(1);

/// What is to be done with the keys, and what is to be told of it.
struct Verdict {
    step: Step,
    asked: Asked,
    told: Option<Told>,
}

impl Context {
    /// Makes sure that the keys are there and known. For a paused cluster they are only read.
    pub(super) async fn refresh_keys(&self, writer: &Writer, cluster: &McpCluster, turn: &mut Turn) {
        let now = Timestamp::now();
        let known = self.remember(cluster, |memory| memory.keys.clone());
        if known.as_ref().is_some_and(|(_, read)| elapsed(*read, now) < KEYS_INTERVAL) {
            return;
        }
        let object = Object::of::<Secret>(&names::keys_secret(desired::name_of(cluster)));
        let before = known.map(|(ring, _)| Keys {
            ring: (*ring).clone(),
            record: self.remember(cluster, |memory| memory.rotation.record.clone()),
        });
        let read = turn.attempt(self, cluster, &object, self.ensure_keys(writer, cluster, before.as_ref())).await;
        if let Some(Some((keys, metadata))) = read {
            self.keep_keys(cluster, keys, metadata, now);
        }
    }

    fn keep_keys(&self, cluster: &McpCluster, keys: Keys, metadata: ObjectMeta, now: Timestamp) {
        self.remember(cluster, |memory| {
            memory.keys = Some((Arc::new(keys.ring), now));
            memory.rotation.record = keys.record;
            // What names this version of it: there are hundreds, and their managed fields are trees.
            let ObjectMeta { name, uid, resource_version, .. } = metadata;
            memory.rotation.read = ObjectMeta { name, uid, resource_version, ..ObjectMeta::default() };
        });
    }

    /// The keys as the Secret says; none when it is missing and not to be made.
    async fn ensure_keys(
        &self,
        writer: &Writer,
        cluster: &McpCluster,
        before: Option<&Keys>,
    ) -> Result<Option<(Keys, ObjectMeta)>> {
        let name = names::keys_secret(desired::name_of(cluster));
        let object = || Object::of::<Secret>(&name);
        let found = match writer.secret(&name).await? {
            Some(found) => found,
            None if cluster.spec.paused => return Ok(None),
            None => {
                let keys = match before {
                    // Somebody deleted it. The same keys again: others would end every session.
                    Some(keys) => keys.clone(),
                    None => Keys::first(self.random_key()?, self.random_key()?, &asked(cluster, false)),
                };
                let fresh = desired::keys_secret(cluster, &keys.ring, keys.record.written());
                match writer.create_secret(&fresh).await? {
                    Some(created) => created,
                    // Another process was faster; its keys count.
                    None => writer.secret(&name).await?.unwrap_or(fresh),
                }
            }
        };
        let found = if desired::owned_by(&found.metadata, cluster) {
            found
        } else if !cluster.spec.paused && is_orphan(&found.metadata, cluster) {
            // Its sessions go on under the new resource.
            match writer.adopt_secret(&found.metadata, &desired::owner(cluster)).await? {
                Some(ours) => ours,
                None => return Ok(None),
            }
        } else {
            return Err(Error::NameConflict { object: object() });
        };
        let ring = desired::key_ring(&found).map_err(|error| Error::Malformed {
            object: object(),
            problem: format!(
                "{}; restore it, or delete it to get new keys, which ends every session",
                crate::telemetry::chain(&error)
            ),
        })?;
        let rotation = found.metadata.annotations.as_ref().and_then(|all| all.get(names::ANNOTATION_ROTATION));
        // Without one the record in memory counts, and is written with the next step.
        let known = || before.map(|keys| keys.record.clone());
        let record = rotation.and_then(|text| Record::read(text)).or_else(known).unwrap_or_default();
        Ok(Some((Keys { ring, record }, found.metadata)))
    }

    /// Takes the step of a rotation that is due, when one is, and tells what a person wants to know of it.
    pub(super) async fn rotate_keys(&self, writer: &Writer, cluster: &McpCluster, observed: &Observed, turn: &mut Turn) {
        let now = Timestamp::now();
        let Some(before) = self.known_keys(cluster) else { return };
        let Some(mut verdict) = self.judge_keys(cluster, observed, now) else { return };
        if let Some(told) = verdict.told.take() {
            self.remember(cluster, |memory| memory.rotation.tell(&told, now));
            turn.tell(news(told));
        }
        if cluster.spec.paused || !verdict.step.is_due() {
            return;
        }
        let object = Object::of::<Secret>(&names::keys_secret(desired::name_of(cluster)));
        let taking = self.take_step(writer, cluster, &before, &verdict, now);
        match turn.attempt(self, cluster, &object, taking).await {
            Some(Some((after, metadata))) => {
                let Verdict { step, asked, .. } = &verdict;
                tracing::info!(?step, sealing = after.ring.sealing, signing = after.ring.signing, "keys rewritten");
                if let Some(told) = keys::stepped(step, &before, &after, asked) {
                    turn.tell(news(told));
                }
                self.keep_keys(cluster, after, metadata, now);
                self.remember(cluster, |memory| memory.rotation.told.clear());
            }
            // Somebody else wrote it, or deleted it: what it says now is read at once.
            Some(None) => self.remember(cluster, |memory| {
                if let Some((_, read)) = &mut memory.keys {
                    *read = Timestamp::UNIX_EPOCH;
                }
            }),
            None => {}
        }
    }

    async fn take_step(
        &self,
        writer: &Writer,
        cluster: &McpCluster,
        before: &Keys,
        verdict: &Verdict,
        now: Timestamp,
    ) -> Result<Option<(Keys, ObjectMeta)>> {
        let after = before.after(&verdict.step, (self.new_key(before)?, self.new_key(before)?), &verdict.asked, now);
        let read = self.remember(cluster, |memory| memory.rotation.read.clone());
        let file = (shard::KEYS_FILE, desired::key_ring_file(&after.ring));
        let written = writer.rewrite_secret(&read, &[file], &[(names::ANNOTATION_ROTATION, after.record.written())]).await?;
        Ok(written.map(|secret| (after, secret.metadata)))
    }

    /// Whether a pass over this cluster would do something about its keys, or tell something.
    pub(super) fn keys_want_a_pass(&self, cluster: &McpCluster, observed: &Observed, now: Timestamp) -> bool {
        let verdict = self.judge_keys(cluster, observed, now);
        verdict.is_some_and(|verdict| verdict.told.is_some() || (verdict.step.is_due() && !cluster.spec.paused))
    }

    /// What is to be done with the keys, by what is known now. None before they are known.
    fn judge_keys(&self, cluster: &McpCluster, observed: &Observed, now: Timestamp) -> Option<Verdict> {
        let keys = self.known_keys(cluster)?;
        let voices = keys::voices(observed, now);
        let asked = asked(cluster, self.is_served(cluster, observed, &voices));
        let step = keys::rotate(&keys, &asked, &voices, now);
        let told = match asked_at(cluster) {
            Err(invalid) => Some(keys::invalid(&invalid)),
            Ok(_) if cluster.spec.paused && step != Step::Rest => Some(keys::paused(&keys)),
            Ok(value) => match &step {
                Step::Wait(wait) => keys::waiting(wait, &keys)
                    .or_else(|| value.filter(|value| !keys.record.seen.contains(value)).map(keys::queued)),
                _ => None,
            },
        };
        let told = told.filter(|told| self.remember(cluster, |memory| memory.rotation.is_news(told, now)));
        Some(Verdict { step, asked, told })
    }

    /// Whether every shard is known to serve what the resource says now: it said so after that was published.
    fn is_served(&self, cluster: &McpCluster, observed: &Observed, voices: &[Voice<'_>]) -> bool {
        let CatalogOutcome::Compiled(counts) = &observed.catalog else { return false };
        let since = self.remember(cluster, |memory| memory.catalog.published_since);
        let says_so =
            |received: &Received| received.report.catalog_hash == counts.hash && since.is_none_or(|since| received.at > since);
        let serving = observed.shards.iter().filter(|shard| shard.report.as_ref().is_some_and(says_so));
        let serving: BTreeSet<_> = serving.map(|shard| shard.name.as_str()).collect();
        observed.published.as_ref() == Some(&counts.hash) && voices.iter().all(|voice| serving.contains(voice.shard))
    }

    fn known_keys(&self, cluster: &McpCluster) -> Option<Keys> {
        self.remember(cluster, |memory| {
            let (ring, _) = memory.keys.as_ref()?;
            Some(Keys { ring: (**ring).clone(), record: memory.rotation.record.clone() })
        })
    }

    /// How far a rotation is, as a number.
    pub(super) fn measure_keys(&self, cluster: &McpCluster, labels: &Cluster) {
        if let Some(keys) = self.known_keys(cluster) {
            self.metrics.key_rotation_step.get_or_create(labels).set(keys.stage().number());
        }
    }

    fn random_key(&self) -> Result<Key> {
        let mut key = [0; 32];
        self.random.fill(&mut key).map_err(|_| Error::Random)?;
        Ok(Key::from_bytes(&key))
    }

    /// A key whose id none of the present ones has.
    fn new_key(&self, present: &Keys) -> Result<Key> {
        loop {
            let key = self.random_key()?;
            if !present.holds(&key.id) {
                return Ok(key);
            }
        }
    }
}

fn asked(cluster: &McpCluster, served: bool) -> Asked {
    let lifetime = cluster.spec.transport.session_lifetime.or_zero();
    Asked { value: asked_at(cluster).unwrap_or_default(), lifetime, served }
}

fn asked_at(cluster: &McpCluster) -> Result<Option<Timestamp>, InvalidAnnotation> {
    let annotations = cluster.metadata.annotations.as_ref();
    keys::asked_at(annotations.and_then(|all| all.get(names::ANNOTATION_ROTATE_KEYS)).map(String::as_str))
}

/// Whether `kubectl delete --cascade=orphan` left it: it has our labels and no owner.
fn is_orphan(metadata: &ObjectMeta, cluster: &McpCluster) -> bool {
    let labels = metadata.labels.as_ref();
    let ours = names::labels(desired::name_of(cluster));
    let labelled = ours.iter().all(|(key, value)| labels.and_then(|all| all.get(key)) == Some(value));
    labelled && metadata.owner_references.iter().flatten().all(|owner| owner.controller != Some(true))
}

fn news(told: Told) -> News {
    let news = if told.warning { News::warning } else { News::normal };
    news(told.reason, "Rotate", told.note)
}
