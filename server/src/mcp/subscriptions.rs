//! `subscriptions/listen` and the notifications of a held stream (2026-07-28 `basic/patterns/subscriptions`;
//! 2025-11-25 `server/tools` §List Changed Notification and its siblings).

use serde::{Deserialize, Serialize};

use crate::limits::MAX_FILTER_BYTES;

/// MCP `SubscriptionFilter`: what a stream asked for, or what the server agreed to send.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// `notifications/tools/list_changed`
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tools_list_changed: bool,
    /// `notifications/prompts/list_changed`
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prompts_list_changed: bool,
    /// `notifications/resources/list_changed`
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resources_list_changed: bool,
    /// `notifications/resources/updated`, for these URIs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_subscriptions: Vec<String>,
    /// `notifications/tasks`, for these tasks (the tasks extension).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub task_ids: Vec<String>,
}

/// Something that happened, for every stream that wants it. Content-free, so the newest stands for all before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `notifications/tools/list_changed`
    ToolsChanged,
    /// `notifications/prompts/list_changed`
    PromptsChanged,
    /// `notifications/resources/list_changed`
    ResourcesChanged,
    /// `notifications/resources/updated`
    ResourceUpdated(std::sync::Arc<str>),
    /// `notifications/tasks`
    TaskChanged {
        /// Which.
        id: std::sync::Arc<str>,
        /// MCP `DetailedTask`, encoded.
        task: std::sync::Arc<str>,
    },
}

impl Filter {
    /// Whether a stream with this filter gets an event.
    pub fn wants(&self, event: &Event) -> bool {
        match event {
            Event::ToolsChanged => self.tools_list_changed,
            Event::PromptsChanged => self.prompts_list_changed,
            Event::ResourcesChanged => self.resources_list_changed,
            Event::ResourceUpdated(uri) => self.resource_subscriptions.iter().any(|wanted| **wanted == **uri),
            Event::TaskChanged { id, .. } => self.task_ids.iter().any(|wanted| **wanted == **id),
        }
    }

    /// Bytes it keeps.
    pub fn bytes(&self) -> usize {
        self.resource_subscriptions.iter().chain(&self.task_ids).map(|uri| uri.len() + std::mem::size_of::<String>()).sum()
    }

    /// Without what is named twice; or why it is refused.
    ///
    /// # Errors
    /// When it is larger than a stream may keep.
    pub fn bounded(mut self) -> Result<Self, String> {
        self.resource_subscriptions.sort_unstable();
        self.resource_subscriptions.dedup();
        self.task_ids.sort_unstable();
        self.task_ids.dedup();
        if self.bytes() > MAX_FILTER_BYTES {
            return Err(format!("notifications.resourceSubscriptions and taskIds take more than {MAX_FILTER_BYTES} bytes"));
        }
        Ok(self)
    }
}

impl Event {
    /// Whether it stands for an older one, which then need not be sent.
    pub fn replaces(&self, older: &Self) -> bool {
        match (self, older) {
            (Self::TaskChanged { id, .. }, Self::TaskChanged { id: other, .. }) => id == other,
            (newer, older) => newer == older,
        }
    }

    /// The notification's method.
    pub fn method(&self) -> &'static str {
        match self {
            Self::ToolsChanged => "notifications/tools/list_changed",
            Self::PromptsChanged => "notifications/prompts/list_changed",
            Self::ResourcesChanged => "notifications/resources/list_changed",
            Self::ResourceUpdated(_) => "notifications/resources/updated",
            Self::TaskChanged { .. } => super::tasks::NOTIFICATION,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_gets_only_what_it_asked_for() {
        let filter: Filter =
            serde_json::from_str(r#"{"toolsListChanged":true,"resourceSubscriptions":["a:b","a:b"],"later":1}"#).unwrap();
        let filter = filter.bounded().unwrap();
        assert_eq!(filter.resource_subscriptions.len(), 1);
        assert!(filter.wants(&Event::ToolsChanged) && filter.wants(&Event::ResourceUpdated("a:b".into())));
        assert!(!filter.wants(&Event::PromptsChanged) && !filter.wants(&Event::ResourceUpdated("a:c".into())));
    }

    #[test]
    fn a_filter_has_a_bound() {
        let filter = Filter { resource_subscriptions: (0..2_000).map(|n| format!("test://{n}")).collect(), ..Filter::default() };
        assert!(filter.bounded().is_err());
    }
}
