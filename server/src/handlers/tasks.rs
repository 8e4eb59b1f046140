//! `tasks/get`, `tasks/update` and `tasks/cancel` (`extensions/tasks/specification`).

use serde_json::{Map, Value};

use crate::dispatch::{Call, Outcome};
use crate::fault::Fault;
use crate::jsonrpc::MemberError;
use crate::mcp::lifecycle::ClientCapabilities;

/// What a task is now.
///
/// # Errors
/// When the client did not declare tasks, or there is no such task for it.
pub async fn get<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    let id = offered(call)?;
    call.tasks.get(&call.caller.principal, &id).await.map(Outcome::Task)
}

/// Answers what a task asked.
///
/// # Errors
/// As [`get`], and when an answer cannot be used.
pub async fn update<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    let id = offered(call)?;
    let responses: Map<String, Value> = call.params.parsed("inputResponses")?.ok_or(MemberError::Missing("inputResponses"))?;
    call.tasks.update(&call.caller.principal, &id, responses).await?;
    Ok(Outcome::Done)
}

/// Cancels a task.
///
/// # Errors
/// As [`get`].
pub async fn cancel<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    let id = offered(call)?;
    call.tasks.cancel(&call.caller.principal, &id).await?;
    Ok(Outcome::Done)
}

/// The id of the task, when the server offers tasks and the client declared them (§Error Handling).
fn offered(call: &Call<'_>) -> Result<String, Fault> {
    call.capabilities.extensions.ok_or(Fault::MethodNotFound)?;
    if !call.caller.capabilities.has(ClientCapabilities::TASKS) {
        return Err(Fault::MissingCapability(ClientCapabilities(ClientCapabilities::TASKS)));
    }
    Ok(call.params.text("taskId")?.into_owned())
}
