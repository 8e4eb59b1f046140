//! `roots/list`: where the client lets servers work (2026-07-28 and 2025-11-25 `client/roots`).

use serde::{Deserialize, Serialize};

/// Its method.
pub const METHOD: &str = "roots/list";

/// MCP `ListRootsResult`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRootsResult {
    /// All of them: the list is not paged.
    pub roots: Vec<Root>,
}

/// MCP `Root`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// `file://…`
    pub uri: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}
