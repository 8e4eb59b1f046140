//! A task as who runs it holds it.

use std::future::Future;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{POLL_INTERVAL, Tasks, asker, lock};
use crate::exchange::Asker;
use crate::fault::Fault;
use crate::jsonrpc;
use crate::mcp::tasks::State;
use crate::mcp::tools::CallToolResult;

/// A task of this shard, held by who runs it.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) tasks: Arc<Tasks>,
    pub(super) number: u64,
    pub(super) sealed: Arc<str>,
    pub(super) cancelled: CancellationToken,
    /// When it is forgotten.
    pub(super) expires: Instant,
}

impl Handle {
    /// MCP `CreateTaskResult`.
    pub fn seed(&self) -> Map<String, Value> {
        let table = lock(&self.tasks.table);
        table.entries.get(&self.number).map(|entry| entry.record.task.seed(&self.sealed)).unwrap_or_default()
    }

    /// When it must have ended.
    pub fn expires(&self) -> Instant {
        self.expires
    }

    /// Asks the client through the task.
    pub fn asker(&self) -> Arc<dyn Asker> {
        Arc::new(asker::TaskAsker(self.clone()))
    }

    /// Says how far it is.
    pub fn say(&self, message: &str) {
        self.tasks.change(self.number, |entry| entry.record.task.message = Some(message.to_owned()));
    }

    /// Runs it to its end, alone.
    pub fn run(self, work: impl Future<Output = Result<CallToolResult, Fault>> + Send + 'static) {
        tokio::spawn(async move {
            let state = tokio::select! {
                biased;
                () = self.cancelled.cancelled() => State::Cancelled,
                done = work => ended(done),
                () = sleep_until(self.expires) => State::Failed(jsonrpc::INTERNAL_ERROR, "the task took longer than its ttl".to_owned()),
            };
            self.tasks.end(self.number, state).await;
            // Kept for who comes for it; a client that has just seen it end has a moment in any case.
            sleep_until(self.expires.max(Instant::now() + POLL_INTERVAL)).await;
            self.forget();
        });
    }

    /// Forgets it.
    pub fn forget(&self) {
        self.tasks.forget(self.number);
    }
}

/// What a call ended with, as a state: only errors of the protocol fail a task.
fn ended(done: Result<CallToolResult, Fault>) -> State {
    let done = done.and_then(|result| {
        let mut result = serde_json::to_value(result).map_err(|error| Fault::Failed(error.to_string()))?;
        result["resultType"] = json!("complete");
        Ok(result)
    });
    match done {
        Ok(result) => State::Completed(result),
        Err(fault @ Fault::InvalidParams(_)) => State::Failed(jsonrpc::INVALID_PARAMS, fault.to_string()),
        Err(fault) => State::Failed(jsonrpc::INTERNAL_ERROR, fault.to_string()),
    }
}
