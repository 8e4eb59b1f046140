//! The operator: turns an `McpCluster` into shard pods and one endpoint in front of them, and explains what it does.
//!
//! ```text
//! main → controller → reconcile:
//!     observe   stores, scrapes, references          → Observed
//!     decide    scale                                → Decision
//!     build     desired (objects), rollout, placement → what to write
//!     apply     server-side apply, POST, drain calls → Applied
//!     summarize status                               → McpClusterStatus, patched when a person would care
//! ```
//!
//! Judgement is pure (`scale`, `rollout`, `placement`, `desired`, `flip`, `status`, `budget`): no client, no clock, no randomness. The edge
//! (`observe`, `apply`, `shards`, `references`, `events`) moves bytes and judges nothing. Only `reconcile` knows the order
//! (`explain` runs the decision alone).
//! The operator never writes `.spec`, never lists or watches Secrets, and keeps no state that a new process would miss.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod admin;
pub mod apply;
pub mod budget;
pub mod client;
pub mod config;
pub mod controller;
pub mod desired;
pub mod error;
pub mod events;
pub mod explain;
#[cfg(test)]
mod fake_api;
pub mod flip;
pub mod heap;
pub mod keys;
pub mod leader;
pub mod memory;
pub mod metrics;
pub mod names;
pub mod observe;
pub mod placement;
pub mod reconcile;
pub mod references;
pub mod rollout;
pub mod scale;
pub mod shards;
pub mod stages;
pub mod status;
pub mod telemetry;
pub mod words;

pub use error::{Error, Result};
