//! Tools, resources and prompts: as authored in `spec.catalog`, and as compiled for a shard.
//!
//! ```text
//! Catalog (+ sources, ConfigMaps)  → compile: every error at once →  CompiledCatalog
//! ```
//!
//! Names inside the catalog are MCP's own, so that a tool pastes in from a `tools/list` reply.

mod authored;
mod compiled;
pub mod template;

pub use authored::*;
pub use compiled::*;
