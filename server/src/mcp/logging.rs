//! `logging/setLevel` (2025-11-25 `server/utilities/logging`) and `_meta["io.modelcontextprotocol/logLevel"]` (2026-07-28).

use serde::Deserialize;

/// RFC 5424 severities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoggingLevel {
    /// Details.
    Debug,
    /// Progress.
    Info,
    /// Normal but significant.
    Notice,
    /// Something is odd.
    Warning,
    /// Something failed.
    Error,
    /// Something important failed.
    Critical,
    /// Act now.
    Alert,
    /// Nothing works.
    Emergency,
}
