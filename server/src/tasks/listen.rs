//! Who begins to listen to tasks hears what they are now, wherever they run.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;

use super::{Tasks, event, lock};
use crate::auth::Principal;
use crate::mcp::subscriptions::Event;

/// States asked for at one time on behalf of one stream.
const AT_ONCE: usize = 8;

impl Tasks {
    /// Tells the streams of this shard what these tasks are now: those that run here at once, the others when their shards have
    /// answered, unless they were heard of meanwhile.
    pub fn show(self: &Arc<Self>, principal: &Principal, sealed: Vec<String>) {
        let Some(shard) = self.shard().filter(|_| !sealed.is_empty()) else { return };
        let mut elsewhere = Vec::new();
        for sealed in sealed {
            let Ok(id) = self.open(principal, &sealed) else { continue };
            if id.runs != self.incarnation {
                elsewhere.push(sealed);
                continue;
            }
            let table = lock(&self.table);
            if let Some(entry) = table.entries.get(&id.number)
                && let Some(event) = event(&entry.record.sealed, &entry.record.task)
            {
                shard.hub.notify(&event);
            }
        }
        if elsewhere.is_empty() {
            return;
        }
        let (tasks, principal) = (Arc::clone(self), principal.clone());
        tokio::spawn(async move {
            stream::iter(elsewhere).for_each_concurrent(AT_ONCE, |sealed| tasks.show_one(&principal, sealed)).await;
        });
    }

    async fn show_one(&self, principal: &Principal, sealed: String) {
        let id: Arc<str> = sealed.as_str().into();
        lock(&self.asked).insert(Arc::clone(&id), false);
        let task = self.get(principal, &sealed).await;
        let mut asked = lock(&self.asked);
        if asked.remove(&id) == Some(false)
            && let (Ok(task), Some(shard)) = (task, self.shard())
            && let Some(event) = super::shown(&id, task)
        {
            shard.hub.notify(&event);
        }
    }

    /// A task was heard of: what was asked about it before is old.
    pub(crate) fn heard(&self, event: &Event) {
        if let Event::TaskChanged { id, .. } = event
            && let Some(heard) = lock(&self.asked).get_mut(id)
        {
            *heard = true;
        }
    }
}
