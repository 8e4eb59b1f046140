//! The MCP server of a shard: a library for tool authors, and the binary `mcp-server`.
//!
//! ```text
//! main       flags → Config → Server::bind → run
//!
//! listener → http → jsonrpc → era/{modern,legacy} → dispatch → handlers → catalog → backend      (and values return)
//!            │                      │
//!            limits, load           hub (held streams) ← serving (a catalog flips: list_changed)
//!                                   session (sealed ids)
//!
//! exchange   progress, log messages and questions of a running request (handlers → the POST's stream)
//! peers      the mesh: events, ended sessions      (over the control port, each pair of shards)
//! watch → staging → serving    mounted folders → what is staged → what is in force; flips: told once all shards serve it
//! admin  /livez /readyz /metrics        control  /load /drain, signed by the operator
//! drain  the phases of a graceful end   guard    what memory readings lead to, and room, what may be taken between two
//! ```
//!
//! A request is (principal, version, capabilities, method, params) → result or stream; nothing is kept between two
//! requests but what a held stream needs. Every queue, body and count has a bound in `limits`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod admin;
pub mod auth;
pub mod backend;
pub mod catalog;
pub mod config;
pub mod connection;
pub mod control;
pub mod dispatch;
pub mod drain;
pub mod era;
pub mod error;
pub mod exchange;
pub mod fault;
pub mod flips;
pub mod guard;
pub mod handlers;
pub mod heap;
pub mod http;
pub mod hub;
pub mod jsonrpc;
pub mod library;
pub mod limits;
pub mod listener;
pub mod load;
pub mod manifest;
pub mod mcp;
pub mod memory;
pub mod metrics;
mod patience;
pub mod peers;
pub mod place;
pub mod ports;
pub mod rate;
pub mod room;
pub mod server;
pub mod serving;
pub mod session;
pub mod shard;
pub mod sse;
pub mod staging;
pub mod tasks;
pub mod telemetry;
pub mod watch;

pub use config::Config;
pub use error::Error;
pub use server::{Ending, Server, run};
