//! What a cluster serves: references read, compiled, checked, and only then ready to publish. What cannot be compiled is
//! never published; what was published before stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use mcp_crds::McpCluster;
use mcp_crds::catalog::{self, CompileInput, Compiled, CredentialFile, Problem, ProblemKind};
use mcp_crds::cluster::SourceStatus;
use mcp_crds::shard;

use super::Context;
use super::objects::news_of;
use super::turn::Turn;
use crate::apply::Writer;
use crate::desired;
use crate::error::{Object, Result};
use crate::memory::CatalogMemory;
use crate::names;
use crate::references;
use crate::stages::{CatalogOutcome, CatalogRefusal, CompiledCounts, elapsed};

/// How often the users' Secrets are read again: they are never watched.
const SECRETS_INTERVAL: Duration = Duration::from_mins(1);
/// How often a missing one is looked for: somebody is about to create it.
const MISSING_INTERVAL: Duration = Duration::from_secs(10);

impl Context {
    /// Brings the compiled catalog and the copied credentials up to date. When the API server does not say what a reference
    /// holds, what was known before stays, and the status says so.
    pub(super) async fn refresh_catalog(&self, writer: &Writer, cluster: &Arc<McpCluster>, turn: &mut Turn) {
        let now = Timestamp::now();
        let mut memory = self.remember(cluster, |memory| {
            // What changes while this pass reads makes it stale again.
            let stale = std::mem::take(&mut memory.catalog.stale);
            CatalogMemory { stale, ..memory.catalog.clone() }
        });
        let complete = self.bring_up_to_date(writer, cluster, &mut memory, turn, now).await.is_some();
        self.remember(cluster, |whole| {
            let stale = whole.catalog.stale || (!complete && memory.stale);
            whole.catalog = CatalogMemory { stale, ..memory };
        });
    }

    async fn bring_up_to_date(
        &self,
        writer: &Writer,
        cluster: &Arc<McpCluster>,
        memory: &mut CatalogMemory,
        turn: &mut Turn,
        now: Timestamp,
    ) -> Option<()> {
        let name = desired::name_of(cluster);
        if memory.published.is_none() {
            let object = Object::of::<ConfigMap>(&names::config_map(name));
            let live = turn.attempt(self, cluster, &object, published(writer, cluster)).await?;
            let (hash, generation) = live.unzip();
            (memory.published, memory.published_generation) = (Some(hash), generation.flatten());
        }
        let input = (cluster.metadata.generation.unwrap_or_default(), self.image(cluster));
        if memory.stale || memory.compiled_for.as_ref() != Some(&input) {
            let reading = references::read_config_maps(writer, cluster.spec.catalog.as_ref());
            let (config_maps, refers) = turn.attempt(self, cluster, &reference("ConfigMap", name), reading).await?;
            memory.config_maps = Arc::new(config_maps);
            memory.refers = refers;
            self.compile(cluster, memory, &input.1).await;
            memory.compiled_for = Some(input);
        }
        // What compiled is ready when the credentials it needs are there. While a newer one does not compile, those of the
        // last one that did are kept up to date.
        let broken = matches!(memory.outcome, CatalogOutcome::Refused { reason, .. } if reason != CatalogRefusal::SecretMissing);
        let pending = memory.outcome == CatalogOutcome::NotLoaded;
        let (Some(compiled), true) = (memory.compiled.clone(), pending || secrets_due(memory, now)) else { return Some(()) };
        let reading = references::read_credentials(writer, &compiled.credentials);
        match turn.attempt(self, cluster, &reference("Secret", name), reading).await? {
            Err(problems) if !broken => memory.outcome = refused(&problems),
            Err(_) => {}
            Ok(credentials) => {
                self.copy_credentials(writer, cluster, memory, credentials, turn).await?;
                if !broken {
                    memory.outcome = CatalogOutcome::Compiled(counts(&compiled, memory));
                }
            }
        }
        memory.secrets_read = Some(now);
        Some(())
    }

    /// Writes the copies that shards mount. None when that was refused: then nothing that needs them is published.
    async fn copy_credentials(
        &self,
        writer: &Writer,
        cluster: &McpCluster,
        memory: &mut CatalogMemory,
        credentials: BTreeMap<CredentialFile, Vec<u8>>,
        turn: &mut Turn,
    ) -> Option<()> {
        if cluster.spec.paused {
            return Some(());
        }
        let object = Object::of::<Secret>(&names::credentials_secret(desired::name_of(cluster)));
        if credentials.is_empty() && memory.credentials.is_none() {
            // Copies of nothing are not missed; but copies that an earlier process made may be left.
            let left = memory.secrets_read.is_none()
                && turn.attempt(self, cluster, &object, writer.secret(&object.name)).await?.is_some();
            if !left {
                return Some(());
            }
        }
        let secret = desired::seal(desired::credentials_secret(cluster, credentials));
        let fingerprint = desired::fingerprint(&secret);
        let wrote = turn.attempt(self, cluster, &object, writer.apply_secret(secret)).await?;
        turn.tell_all(news_of(&object, &wrote));
        memory.credentials = Some(fingerprint);
        Some(())
    }

    /// Compiles, off the threads that wait for sockets: thousands of schemas take their time.
    async fn compile(&self, cluster: &Arc<McpCluster>, memory: &mut CatalogMemory, image: &str) {
        let (resource, config_maps, version) = (cluster.clone(), memory.config_maps.clone(), version_of(image).to_owned());
        let compiled = tokio::task::spawn_blocking(move || {
            catalog::compile(&CompileInput {
                cluster: desired::name_of(&resource),
                catalog: resource.spec.catalog.as_ref(),
                config_maps: &config_maps,
                server_version: &version,
            })
        })
        .await;
        match compiled {
            Ok(Ok(compiled)) => self.pack(cluster, memory, compiled),
            Ok(Err(problems)) => memory.outcome = refused(&problems),
            Err(panic) => {
                let errors = vec![format!("the compiler failed on it, please report this: {panic}")];
                memory.outcome = CatalogOutcome::Refused { reason: CatalogRefusal::Invalid, errors };
            }
        }
    }

    fn pack(&self, cluster: &McpCluster, memory: &mut CatalogMemory, compiled: Compiled) {
        let packed = desired::shard_config(cluster, &self.surroundings(), compiled.catalog.clone()).pack();
        let object = match &packed {
            Ok(packed) => desired::config_map(cluster, packed).map_err(|error| (CatalogRefusal::TooLarge, error.to_string())),
            Err(error) => Err((CatalogRefusal::Invalid, error.to_string())),
        };
        match object {
            Ok(object) => {
                memory.object = Some(Arc::new(desired::of_generation(cluster, desired::seal(object))));
                memory.compiled = Some(Arc::new(compiled));
                memory.outcome = CatalogOutcome::NotLoaded; // until the credentials are there
            }
            Err((reason, error)) => memory.outcome = CatalogOutcome::Refused { reason, errors: vec![error] },
        }
    }

    /// Publishes what compiled; returns the hash that is published now. While what is in the spec cannot be served, what was
    /// published before is kept as it was.
    pub(super) async fn publish(&self, writer: &Writer, cluster: &McpCluster, turn: &mut Turn) -> Option<String> {
        let (outcome, object, published) = self.remember(cluster, |memory| {
            let catalog = &memory.catalog;
            (catalog.outcome.clone(), catalog.object.clone(), catalog.published.clone().flatten())
        });
        let Some((object, hash)) = object.and_then(|object| hash_in(&object).map(|hash| (object, hash))) else {
            return published;
        };
        match outcome {
            CatalogOutcome::Compiled(_) => {}
            CatalogOutcome::NotLoaded | CatalogOutcome::Refused { .. } if published.as_ref() == Some(&hash) => {}
            CatalogOutcome::NotLoaded | CatalogOutcome::Refused { .. } => return published,
        }
        let name = Object::of::<ConfigMap>(&names::config_map(desired::name_of(cluster)));
        let Some(wrote) = turn.attempt(self, cluster, &name, writer.apply((*object).clone())).await else { return published };
        turn.tell_all(news_of(&name, &wrote));
        if published.as_ref() != Some(&hash) {
            self.remember(cluster, |memory| {
                memory.catalog.published = Some(Some(hash.clone()));
                memory.catalog.published_generation = desired::generation_of(&object.metadata);
                memory.catalog.published_since = Some(Timestamp::now());
            });
        }
        Some(hash)
    }
}

/// What a catalog refers to, as one object: it is read whole or not at all.
fn reference(kind: &'static str, cluster: &str) -> Object {
    Object { kind, name: format!("that the catalog of {cluster} refers to") }
}

/// Whether the users' Secrets are to be read again.
pub(super) fn secrets_due(memory: &CatalogMemory, now: Timestamp) -> bool {
    let missing = matches!(memory.outcome, CatalogOutcome::Refused { reason: CatalogRefusal::SecretMissing, .. });
    let needed = memory.compiled.as_ref().is_some_and(|compiled| !compiled.credentials.is_empty());
    let interval = if missing { MISSING_INTERVAL } else { SECRETS_INTERVAL };
    needed && memory.secrets_read.is_none_or(|read| elapsed(read, now) >= interval)
}

/// The hash in the live ConfigMap, when it is ours, and the generation that published it.
async fn published(writer: &Writer, cluster: &McpCluster) -> Result<Option<(String, Option<i64>)>> {
    let name = names::config_map(desired::name_of(cluster));
    let live = match writer.config_map(&name).await {
        Ok(live) => live,
        Err(error) if error.code() == Some(404) => None,
        Err(error) => return Err(error),
    };
    let ours = live.filter(|live| desired::owned_by(&live.metadata, cluster));
    Ok(ours.and_then(|live| hash_in(&live).map(|hash| (hash, desired::generation_of(&live.metadata)))))
}

fn hash_in(object: &ConfigMap) -> Option<String> {
    object.data.as_ref()?.get(shard::HASH_FILE).cloned()
}

fn refused(problems: &[Problem]) -> CatalogOutcome {
    let reason = match problems.iter().map(|problem| problem.kind).min() {
        Some(ProblemKind::DuplicateName) => CatalogRefusal::DuplicateName,
        Some(ProblemKind::SourceMissing) => CatalogRefusal::SourceMissing,
        Some(ProblemKind::SecretMissing) => CatalogRefusal::SecretMissing,
        Some(ProblemKind::TooLarge) => CatalogRefusal::TooLarge,
        Some(ProblemKind::Invalid) | None => CatalogRefusal::Invalid,
    };
    CatalogOutcome::Refused { reason, errors: problems.iter().map(ToString::to_string).collect() }
}

fn counts(compiled: &Compiled, memory: &CatalogMemory) -> CompiledCounts {
    let hash = memory.object.as_ref().and_then(|object| hash_in(object));
    CompiledCounts {
        hash: hash.unwrap_or_default(),
        tools: compiled.catalog.tools.len(),
        resources: compiled.catalog.resources.len(),
        resource_templates: compiled.catalog.resource_templates.len(),
        prompts: compiled.catalog.prompts.len(),
        sources: compiled
            .sources
            .iter()
            .map(|source| SourceStatus {
                name: source.name.clone(),
                tools: i32::try_from(source.tools).unwrap_or(i32::MAX),
                ready: true,
            })
            .collect(),
    }
}

/// What an image calls its version: its tag. It does not depend on this operator's own version, whose upgrade must change
/// nothing that shards serve.
fn version_of(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or_default();
    last.split_once(':').map_or("unknown", |(_, tag)| tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_tag_of_the_image() {
        for (image, version) in [
            ("registry.example.com:5000/mcp-server:0.4.2", "0.4.2"),
            ("mcp-server:1@sha256:00", "1"),
            ("registry.example.com:5000/mcp-server", "unknown"),
            ("mcp-server@sha256:00", "unknown"),
        ] {
            assert_eq!(version_of(image), version, "{image}");
        }
    }
}
