//! The `McpCluster` API, and what the operator and the shards say to each other.
//!
//! ```text
//! cluster/   what a person writes (spec) and reads (status)
//! catalog/   authored tools, resources, prompts  → compile →  CompiledCatalog
//! configure  spec + compiled catalog → ShardConfig, packed
//! shard      CompiledCatalog + live settings → the ConfigMap a shard mounts; names, ports and paths of the contract
//! load       what a shard reports, and what the operator asks
//! control    how requests on the control port are authenticated
//! manifest   a file → McpCluster + CompiledCatalog, or every problem with its line (yaml: positions; check: schema, rules)
//! rules      the words in which the types of cluster/ and catalog/ state their bounds
//! quantity   "512Mi" → Bytes          duration   "60s" → std::time::Duration          portion   "10%" of 30 → 3
//! ```
//!
//! Both binaries import this crate and never each other. Nothing here performs IO, reads clocks or draws randomness.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod catalog;
pub mod check;
pub mod cluster;
mod configure;
pub mod control;
pub mod duration;
pub mod load;
pub mod manifest;
pub mod portion;
pub mod quantity;
mod rules;
pub mod shard;
pub mod yaml;

pub use cluster::{McpCluster, McpClusterSpec, McpClusterStatus};
pub use configure::shard_config;
