//! `logging/setLevel` (2025-11-25 `server/utilities/logging`), `_meta["io.modelcontextprotocol/logLevel"]` (2026-07-28), and
//! `notifications/message` of both.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Method of a log message.
pub const METHOD: &str = "notifications/message";

/// RFC 5424 severities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

impl LoggingLevel {
    const ALL: [Self; 8] =
        [Self::Debug, Self::Info, Self::Notice, Self::Warning, Self::Error, Self::Critical, Self::Alert, Self::Emergency];

    /// A number for it, as shards write it: 0 for none.
    pub fn code(level: Option<Self>) -> u8 {
        Self::ALL.into_iter().zip(1..).find(|(one, _)| Some(*one) == level).map_or(0, |(_, code)| code)
    }

    /// That of a number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

/// MCP `LoggingMessageNotificationParams`.
#[derive(Debug, Serialize)]
pub struct LogMessage<'a> {
    /// How grave.
    pub level: LoggingLevel,
    /// Which part says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logger: Option<&'a str>,
    /// What it says: any JSON.
    pub data: &'a Value,
}
