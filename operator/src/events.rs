//! Events, for `kubectl describe`: the same words as the conditions, and each thing said once.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _};
use mcp_crds::McpCluster;

use crate::names;

/// Longest note the API server takes, bytes.
const LONGEST_NOTE: usize = 1024;

/// Something a person would want to find afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whether something is wrong.
    pub warning: bool,
    /// A reason of a condition.
    pub reason: String,
    /// What was done: `Scale`, `Drain`, `Create`, `Delete`, `Publish`, `Apply`, `Summarize`.
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

/// Publishes events.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Events reported by this process.
    ///
    /// # RBAC
    /// create, patch on events.events.k8s.io.
    pub fn new(client: Client, identity: &str) -> Self {
        let reporter = Reporter { controller: names::EVENT_REPORTER.to_owned(), instance: Some(identity.to_owned()) };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Publishes all of them. An event that cannot be written is logged: nothing waits for it.
    pub async fn publish(&self, cluster: &McpCluster, news: &[News]) {
        let about: ObjectReference = cluster.object_ref(&());
        for News { warning, reason, action, note } in news {
            tracing::info!(reason, action, note, warning, "event");
            let event = Event {
                type_: if *warning { EventType::Warning } else { EventType::Normal },
                reason: reason.clone(),
                note: (!note.is_empty()).then(|| shorten(note)),
                action: (*action).to_owned(),
                secondary: None,
            };
            let published = tokio::time::timeout(std::time::Duration::from_secs(5), self.recorder.publish(&event, &about)).await;
            match published {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(error = %crate::telemetry::chain(&error), "event not written"),
                Err(_) => tracing::warn!("event not written in time"),
            }
        }
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
