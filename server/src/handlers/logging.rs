//! `logging/setLevel` (2025-11-25 `server/utilities/logging`): what the session wants to hear while its requests run.

use crate::dispatch::{Call, Outcome};
use crate::fault::Fault;
use crate::jsonrpc::MemberError;
use crate::mcp::logging::LoggingLevel;
use crate::session::Change;

/// Sets the level of the session.
///
/// # Errors
/// When it is not one, or too many sessions have one.
pub async fn set_level<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    let level = call.params.parsed::<LoggingLevel>("level")?.ok_or(MemberError::Missing("level"))?;
    let session = call.caller.session.ok_or(Fault::MethodNotFound)?;
    super::change(call, session, Change::Level(level)).await
}
