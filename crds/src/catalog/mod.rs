//! Tools, resources and prompts: as authored in `spec.catalog`, and as compiled for a shard.
//!
//! ```text
//! Catalog (+ sources, ConfigMaps)  → compile: every error at once →  CompiledCatalog
//! ```
//!
//! Names inside the catalog are MCP's own, so that a tool pastes in from a `tools/list` reply.

pub mod address;
mod authored;
mod compile;
mod compiled;
mod problem;
pub mod schema;
pub mod template;

pub use authored::*;
pub use compile::{
    CompileInput, Compiled, ConfigMapData, MAX_COMPLETION_VALUES, MAX_ENTRIES, MAX_RESOURCE_TEMPLATES, MAX_SOURCE_BYTES,
    SourceCounts, compile, config_maps,
};
pub use compiled::*;
pub use problem::{Path, Problem, ProblemKind, Step};
