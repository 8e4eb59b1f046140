//! `subscriptions/listen` (2026-07-28 `basic/patterns/subscriptions`).

use crate::dispatch::{Call, Outcome};
use crate::fault::Fault;
use crate::jsonrpc::MemberError;
use crate::mcp::subscriptions::Filter;

/// Reads what the client wants to hear; all of it is granted.
///
/// # Errors
/// When the filter is missing, malformed or too large.
pub fn listen<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    let filter: Filter = call.params.parsed("notifications")?.ok_or(MemberError::Missing("notifications"))?;
    Ok(Outcome::Listen(filter.bounded().map_err(Fault::InvalidParams)?))
}
