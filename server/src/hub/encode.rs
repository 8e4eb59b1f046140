//! What a held stream says, for each kind of stream.

use std::sync::Arc;

use bytes::Bytes;

use crate::mcp::subscriptions::{Event, Filter};
use crate::session::SessionKey;
use crate::sse;

/// What a stream is.
#[derive(Debug)]
pub enum Kind {
    /// The response of a modern `subscriptions/listen`.
    Listen {
        /// Id of that request, as sent: it is the subscription's id.
        id: Box<str>,
        /// What the server agreed to send.
        filter: Filter,
        /// MCP `Implementation`, encoded: every result names its server.
        server_info: Arc<str>,
    },
    /// The GET stream of a legacy session.
    Session {
        /// Whose.
        session: SessionKey,
    },
}

/// Whose stream it is, as it is kept.
#[derive(Debug)]
pub(super) enum Who {
    /// A modern subscription.
    Listen { id: Box<str>, wants: Wants, server_info: Arc<str> },
    /// A legacy session, whose subscriptions are kept once for all its streams.
    Session(SessionKey),
}

/// What is wanted: a filter, with names that are shared.
#[derive(Debug, Default)]
pub(super) struct Wants {
    pub(super) tools: bool,
    pub(super) prompts: bool,
    pub(super) resources: bool,
    pub(super) uris: Box<[Arc<str>]>,
    pub(super) tasks: Box<[Arc<str>]>,
}

/// The same as the index sees it, whoever keeps it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// Of tools, of prompts, of resources.
    pub(super) lists: [bool; 3],
    pub(super) uris: &'a [Arc<str>],
    pub(super) tasks: &'a [Arc<str>],
}

/// A notification in every form there is: made once, whoever hears it. The id of a subscription stands between two parts.
#[derive(Debug)]
pub(super) struct Forms {
    listen: (Vec<u8>, Vec<u8>),
    session: Vec<u8>,
}

impl Kind {
    /// The first bytes: the acknowledgment, before which nothing may be sent; or a comment, so that the head is flushed.
    pub(super) fn opened(&self) -> Bytes {
        match self {
            Self::Listen { id, filter, .. } => {
                let filter = serde_json::to_string(filter).unwrap_or_default();
                let method = "notifications/subscriptions/acknowledged";
                let json = format!(
                    "{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":{{\"_meta\":{{\"{SUBSCRIPTION}\":{id}}},\"notifications\":{filter}}}}}"
                );
                sse::message(json.as_bytes())
            }
            Self::Session { .. } => sse::KEEP_ALIVE,
        }
    }
}

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

// === impl Wants ===

impl Wants {
    pub(super) fn wanted(&self) -> Wanted<'_> {
        Wanted { lists: [self.tools, self.prompts, self.resources], uris: &self.uris, tasks: &self.tasks }
    }
}

// === impl Who ===

impl Who {
    /// The completion result, where the era has one.
    pub(super) fn completed(&self) -> Option<Bytes> {
        match self {
            Self::Listen { id, server_info, .. } => {
                let json = format!(
                    "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"resultType\":\"complete\",\"_meta\":{{\"{SUBSCRIPTION}\":{id},\"io.modelcontextprotocol/serverInfo\":{server_info}}}}}}}"
                );
                Some(sse::message(json.as_bytes()))
            }
            Self::Session(_) => None,
        }
    }

    /// About how many bytes a notification is on the wire: what the bound on the backlog counts.
    pub(super) fn size(&self, event: &Event) -> usize {
        let id = match self {
            Self::Listen { id, .. } => id.len(),
            Self::Session(_) => 0,
        };
        match event {
            Event::ResourceUpdated(uri) => 192 + id + uri.len(),
            Event::TaskChanged { task, .. } => 192 + id + task.len(),
            Event::ToolsChanged | Event::PromptsChanged | Event::ResourcesChanged => 192 + id,
        }
    }

    /// Bytes it keeps on the heap, about.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Listen { id, wants, .. } => {
                let names = wants.uris.iter().chain(&wants.tasks);
                size_of::<Self>() + id.len() + names.map(|name| name.len() + 5 * size_of::<usize>()).sum::<usize>()
            }
            Self::Session(_) => size_of::<Self>(),
        }
    }
}

// === impl Forms ===

impl Forms {
    pub(super) fn of(event: &Event) -> Self {
        let rest = match event {
            Event::ResourceUpdated(uri) => format!("\"uri\":{}", serde_json::to_string(&**uri).unwrap_or_default()),
            // The members of the object.
            Event::TaskChanged { task, .. } => task.get(1..task.len().saturating_sub(1)).unwrap_or_default().to_owned(),
            Event::ToolsChanged | Event::PromptsChanged | Event::ResourcesChanged => String::new(),
        };
        let head = format!("{}{{\"jsonrpc\":\"2.0\",\"method\":\"{}\"", sse::BEFORE, event.method());
        let (comma, after) = (if rest.is_empty() { "" } else { "," }, sse::AFTER);
        let session = if rest.is_empty() { format!("{head}}}{after}") } else { format!("{head},\"params\":{{{rest}}}}}{after}") };
        let before_id = format!("{head},\"params\":{{\"_meta\":{{\"{SUBSCRIPTION}\":");
        Self { listen: (before_id.into(), format!("}}{comma}{rest}}}}}{after}").into()), session: session.into() }
    }

    /// The parts of what a stream hears, in order.
    pub(super) fn parts<'a>(&'a self, who: &'a Who) -> [&'a [u8]; 3] {
        match who {
            Who::Listen { id, .. } => [&self.listen.0, id.as_bytes(), &self.listen.1],
            Who::Session(_) => [&self.session, b"", b""],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(event: &Event, who: &Who) -> serde_json::Value {
        let text = String::from_utf8(Forms::of(event).parts(who).concat()).unwrap();
        let json = text.strip_prefix("event: message\ndata: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_notification_is_json_in_both_forms_and_names_the_subscription_in_one() {
        let listen = Who::Listen { id: "\"a\\\"b\"".into(), wants: Wants::default(), server_info: "{}".into() };
        let session = Who::Session(SessionKey { incarnation: [0; 16], number: 1 });
        let task = Event::TaskChanged { id: "t".into(), task: r#"{"taskId":"t","status":"working"}"#.into() };
        for event in [Event::ToolsChanged, Event::ResourceUpdated("a:\"b\"".into()), task] {
            let (modern, legacy) = (said(&event, &listen), said(&event, &session));
            assert_eq!((&modern["method"], &legacy["method"]), (&event.method().into(), &event.method().into()));
            assert_eq!(modern["params"]["_meta"][SUBSCRIPTION], "a\"b");
            assert!(legacy["params"].get("_meta").is_none());
            assert_eq!(modern["params"].get("uri"), legacy["params"].get("uri"));
        }
        assert_eq!(said(&Event::ToolsChanged, &session).get("params"), None);
    }
}
