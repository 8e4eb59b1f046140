//! What a held stream says, for each kind of stream.

use std::sync::Arc;

use bytes::Bytes;

use super::Waiting;
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

impl Kind {
    /// The first bytes: the acknowledgment, before which nothing may be sent; or a comment, so that the head is flushed.
    pub(super) fn opened(&self) -> Bytes {
        match self {
            Self::Listen { id, filter, .. } => {
                let filter = serde_json::to_string(filter).unwrap_or_default();
                notification("notifications/subscriptions/acknowledged", &[&meta(id), ",\"notifications\":", &filter])
            }
            Self::Session { .. } => sse::KEEP_ALIVE,
        }
    }

    /// A notification.
    pub(super) fn event(&self, event: &Event) -> Bytes {
        let meta = match self {
            Self::Listen { id, .. } => meta(id),
            Self::Session { .. } => String::new(),
        };
        match event {
            Event::ResourceUpdated(uri) => {
                let comma = if meta.is_empty() { "" } else { "," };
                notification(event.method(), &[&meta, comma, "\"uri\":", &quoted(uri)])
            }
            Event::TaskChanged { task, .. } => {
                let comma = if meta.is_empty() { "" } else { "," };
                // The members of the object.
                let members = task.get(1..task.len().saturating_sub(1)).unwrap_or_default();
                notification(event.method(), &[&meta, comma, members])
            }
            Event::ToolsChanged | Event::PromptsChanged | Event::ResourcesChanged => notification(event.method(), &[&meta]),
        }
    }

    /// The completion result, where the era has one.
    pub(super) fn completed(&self) -> Option<Bytes> {
        match self {
            Self::Listen { id, server_info, .. } => {
                let json = format!(
                    "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"resultType\":\"complete\",\"_meta\":{{\"io.modelcontextprotocol/subscriptionId\":{id},\"io.modelcontextprotocol/serverInfo\":{server_info}}}}}}}"
                );
                Some(sse::message(json.as_bytes()))
            }
            Self::Session { .. } => None,
        }
    }

    /// About how many bytes it is on the wire: what the bound on the backlog counts.
    pub(super) fn size(&self, waiting: &Waiting) -> usize {
        let id = match self {
            Self::Listen { id, .. } => id.len(),
            Self::Session { .. } => 0,
        };
        match waiting {
            // Always the first, so never behind a backlog.
            Waiting::Opened => 0,
            Waiting::KeepAlive => sse::KEEP_ALIVE.len(),
            Waiting::Event(Event::ResourceUpdated(uri)) => 192 + id + uri.len(),
            Waiting::Event(Event::TaskChanged { task, .. }) => 192 + id + task.len(),
            Waiting::Event(Event::ToolsChanged | Event::PromptsChanged | Event::ResourcesChanged) => 192 + id,
        }
    }
}

fn meta(id: &str) -> String {
    format!("\"_meta\":{{\"io.modelcontextprotocol/subscriptionId\":{id}}}")
}

/// A notification whose parameters have these parts; without any, it has no parameters.
fn notification(method: &str, parts: &[&str]) -> Bytes {
    let params = parts.concat();
    let params = if params.is_empty() { String::new() } else { format!(",\"params\":{{{params}}}") };
    sse::message(format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\"{params}}}").as_bytes())
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}
