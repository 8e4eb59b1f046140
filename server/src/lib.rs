//! The MCP server of a shard.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod backend;
pub mod catalog;
pub mod mcp;
pub mod memory;
