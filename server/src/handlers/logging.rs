//! `logging/setLevel` (2025-11-25 `server/utilities/logging`).
//!
//! No handler logs to clients yet, so `logging` is not declared; a client that sets a level all the same hears what is
//! true at every level: nothing.

use crate::dispatch::{Call, Outcome};
use crate::fault::Fault;
use crate::jsonrpc::MemberError;
use crate::mcp::logging::LoggingLevel;

/// Checks the level.
///
/// # Errors
/// When it is not one.
pub fn set_level<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    call.params.parsed::<LoggingLevel>("level")?.ok_or(MemberError::Missing("level"))?;
    Ok(Outcome::Done)
}
