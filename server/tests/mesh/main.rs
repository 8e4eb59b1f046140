//! Several shards in one process, connected over loopback, and a test that plays the operator: what a cluster promises that
//! one shard cannot.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub)]

mod cluster;
#[path = "../harness/mod.rs"]
mod harness;

mod ended;
mod events;
mod flips;
mod forwards;
mod kept;
mod links;
mod resume;
mod tasks;
