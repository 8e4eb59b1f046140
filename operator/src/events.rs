//! Events, for `kubectl describe`: the same words as the conditions, and each thing said once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource as _};
use mcp_crds::McpCluster;
use serde_json::json;
use tokio::time::timeout;

use crate::error::namespace_terminates;
use crate::names;
use crate::stages::elapsed;

/// Longest note the API server takes, bytes.
const LONGEST_NOTE: usize = 1024;
/// After this long the same event is a new one.
const SERIES_ENDS: Duration = Duration::from_mins(10);
/// For one event to be written.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something a person would want to find afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whether something is wrong.
    pub warning: bool,
    /// A reason of a condition.
    pub reason: String,
    /// What was done: `Scale`, `Drain`, `Shed`, `Create`, `Delete`, `Publish`, `Apply`, `Rotate`,
    /// `Summarize`.
    pub action: &'static str,
    /// Who and how much.
    pub note: String,
}

impl News {
    /// Something that happened.
    pub fn normal(reason: &str, action: &'static str, note: String) -> Self {
        Self { warning: false, reason: reason.to_owned(), action, note }
    }

    /// Something that is wrong.
    pub fn warning(reason: &str, action: &'static str, note: String) -> Self {
        Self { warning: true, reason: reason.to_owned(), action, note }
    }
}

/// Publishes events. Two that say the same within some minutes are one, counted: `(x2 over 5m)`.
#[derive(Clone)]
pub struct Events {
    client: Client,
    identity: String,
    told: Arc<Mutex<HashMap<Key, Told>>>,
}

/// What makes two events the same: about whom, the reason and the note.
type Key = (String, String, String);

/// An event that was written.
#[derive(Clone, Debug)]
struct Told {
    object: String,
    count: i32,
    last: Timestamp,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Events {
    /// Events reported by this process.
    ///
    /// # RBAC
    /// create, patch on events.events.k8s.io.
    pub fn new(client: Client, identity: &str) -> Self {
        Self { client, identity: identity.to_owned(), told: Arc::default() }
    }

    /// Publishes all of them. An event that cannot be written is logged: nothing waits for it.
    pub async fn publish(&self, cluster: &McpCluster, news: &[News]) {
        let api: Api<Event> = Api::namespaced(self.client.clone(), cluster.metadata.namespace.as_deref().unwrap_or_default());
        for news in news {
            tracing::info!(reason = news.reason, action = news.action, note = news.note, warning = news.warning, "event");
            match timeout(PATIENCE, self.write(&api, cluster, news, Timestamp::now())).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if namespace_terminates(&error) => {}
                Ok(Err(error)) => tracing::warn!(error = %crate::telemetry::chain(&error), "event not written"),
                Err(_) => tracing::warn!("event not written in time"),
            }
        }
    }

    async fn write(&self, api: &Api<Event>, cluster: &McpCluster, news: &News, now: Timestamp) -> kube::Result<()> {
        let uid = cluster.metadata.uid.clone().unwrap_or_default();
        let key = (uid, news.reason.clone(), news.note.clone());
        if let Some(told) = self.again(&key, now) {
            let series = json!({"series": {"count": told.count, "lastObservedTime": MicroTime(now)}});
            match api.patch(&told.object, &PatchParams::default(), &Patch::Merge(series)).await {
                // It has expired: events live for an hour only.
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                other => return other.map(drop),
            }
        }
        let event = event(cluster, news, &self.identity, now);
        let object = event.metadata.name.clone().unwrap_or_default();
        api.create(&PostParams::default(), &event).await?;
        self.lock().insert(key, Told { object, count: 1, last: now });
        Ok(())
    }

    /// The event that said so lately, counted once more.
    fn again(&self, key: &Key, now: Timestamp) -> Option<Told> {
        let mut told = self.lock();
        told.retain(|_, told| elapsed(told.last, now) < SERIES_ENDS);
        let told = told.get_mut(key)?;
        told.count = told.count.saturating_add(1);
        told.last = now;
        Some(told.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn event(cluster: &McpCluster, news: &News, identity: &str, now: Timestamp) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", cluster.metadata.name.as_deref().unwrap_or_default(), now.as_nanosecond())),
            namespace: cluster.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        action: Some(news.action.to_owned()),
        event_time: Some(MicroTime(now)),
        note: (!news.note.is_empty()).then(|| shorten(&news.note)),
        reason: Some(news.reason.clone()),
        regarding: Some(cluster.object_ref(&())),
        reporting_controller: Some(names::EVENT_REPORTER.to_owned()),
        reporting_instance: Some(identity.to_owned()),
        type_: Some(if news.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}

fn shorten(note: &str) -> String {
    if note.len() <= LONGEST_NOTE {
        return note.to_owned();
    }
    let mut end = LONGEST_NOTE - '…'.len_utf8();
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &note[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_between_characters() {
        let short = shorten(&"é".repeat(1000));
        assert!(short.len() <= LONGEST_NOTE && short.ends_with('…'), "{}", short.len());
        assert_eq!(shorten("ok"), "ok");
    }
}
