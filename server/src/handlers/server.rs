//! `server/discover` (2026-07-28 `server/discover`).

use crate::dispatch::{Call, Outcome};
use crate::mcp::lifecycle::DiscoverResult;
use crate::mcp::version::Version;

/// Who the server is, and what it offers.
pub fn discover<'a>(call: &Call<'a>) -> Outcome<'a> {
    Outcome::Discover(DiscoverResult {
        supported_versions: Version::ALL.into_iter().map(Version::name).collect(),
        capabilities: call.capabilities,
        instructions: call.serving.snapshot.instructions(),
    })
}
