//! The keys of a cluster: generated once, read back by name, and never rewritten.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use mcp_crds::McpCluster;
use mcp_crds::control::KeyRing;
use ring::rand::SecureRandom as _;

use super::Context;
use super::turn::Turn;
use crate::apply::Writer;
use crate::desired;
use crate::error::{Error, Object, Result};
use crate::names;
use crate::stages::elapsed;

/// How often the Secret is looked at: somebody may have deleted it.
pub(super) const KEYS_INTERVAL: Duration = Duration::from_mins(1);

impl Context {
    /// Makes sure that the keys are there and known.
    pub(super) async fn refresh_keys(&self, writer: &Writer, cluster: &McpCluster, turn: &mut Turn) {
        let now = Timestamp::now();
        let known = self.remember(cluster, |memory| memory.keys.clone());
        if known.as_ref().is_some_and(|(_, read)| elapsed(*read, now) < KEYS_INTERVAL) {
            return;
        }
        let object = Object::of::<Secret>(&names::keys_secret(desired::name_of(cluster)));
        let before = known.map(|(keys, _)| keys);
        if let Some(keys) = turn.attempt(self, cluster, &object, self.ensure_keys(writer, cluster, before.as_deref())).await {
            self.remember(cluster, |memory| memory.keys = Some((Arc::new(keys), now)));
        }
    }

    async fn ensure_keys(&self, writer: &Writer, cluster: &McpCluster, before: Option<&KeyRing>) -> Result<KeyRing> {
        let name = names::keys_secret(desired::name_of(cluster));
        let secret = if let Some(secret) = writer.secret(&name).await? {
            secret
        } else {
            let fresh = match before {
                // Somebody deleted it. The same keys again: others would end every session.
                Some(keys) => desired::keys_secret_of(cluster, keys),
                None => desired::keys_secret(cluster, &self.random_key()?, &self.random_key()?),
            };
            match writer.create_secret(&fresh).await? {
                Some(created) => created,
                // Another process was faster; its keys count.
                None => writer.secret(&name).await?.unwrap_or(fresh),
            }
        };
        let object = || Object::of::<Secret>(&name);
        if !desired::owned_by(&secret.metadata, cluster) {
            return Err(Error::NameConflict { object: object() });
        }
        desired::key_ring(&secret).map_err(|error| Error::Malformed {
            object: object(),
            problem: format!(
                "{}; restore it, or delete it to get new keys, which ends every session",
                crate::telemetry::chain(&error)
            ),
        })
    }

    fn random_key(&self) -> Result<[u8; 32]> {
        let mut key = [0; 32];
        self.random.fill(&mut key).map_err(|_| Error::Random)?;
        Ok(key)
    }
}
