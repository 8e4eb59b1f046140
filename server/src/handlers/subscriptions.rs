//! `subscriptions/listen` (2026-07-28 `basic/patterns/subscriptions`).

use crate::dispatch::{Call, Outcome};
use crate::fault::Fault;
use crate::jsonrpc::MemberError;
use crate::mcp::lifecycle::ClientCapabilities;
use crate::mcp::subscriptions::Filter;

/// Reads what the client wants to hear; all of it is granted, but for tasks that are not the caller's.
///
/// # Errors
/// When the filter is missing, malformed or too large, or names tasks and the client did not declare them.
pub fn listen<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    let mut filter: Filter = call.params.object("notifications")?.ok_or(MemberError::Missing("notifications"))?;
    if !filter.task_ids.is_empty() {
        if !call.caller.capabilities.has(ClientCapabilities::TASKS) {
            return Err(Fault::MissingCapability(ClientCapabilities(ClientCapabilities::TASKS)));
        }
        filter.task_ids.retain(|id| call.tasks.knows(&call.caller.principal, id));
    }
    Ok(Outcome::Listen(filter.bounded().map_err(Fault::InvalidParams)?))
}
