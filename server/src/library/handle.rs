//! Events a program raises.

use std::sync::{Arc, OnceLock, Weak};

use crate::mcp::subscriptions::Event;
use crate::shard::Shard;

/// Tells clients that something changed. Cheap to clone; before the server runs, and after, nobody listens.
#[derive(Clone, Debug, Default)]
pub struct Handle(Arc<OnceLock<Weak<Shard>>>);

impl Handle {
    /// The list of tools changed.
    pub fn tools_changed(&self) {
        self.raise(&Event::ToolsChanged);
    }

    /// The list of prompts changed.
    pub fn prompts_changed(&self) {
        self.raise(&Event::PromptsChanged);
    }

    /// The list of resources changed.
    pub fn resources_changed(&self) {
        self.raise(&Event::ResourcesChanged);
    }

    /// The contents of a resource changed.
    pub fn resource_updated(&self, uri: &str) {
        self.raise(&Event::ResourceUpdated(uri.into()));
    }

    pub(crate) fn attach(&self, shard: &Arc<Shard>) {
        // A second server of one program raises no events of its own: handlers do not say which of the two they mean.
        let _ = self.0.set(Arc::downgrade(shard));
    }

    pub(crate) fn shard(&self) -> Option<Arc<Shard>> {
        self.0.get().and_then(Weak::upgrade)
    }

    fn raise(&self, event: &Event) {
        if let Some(shard) = self.shard() {
            shard.raise(event);
        }
    }
}
