//! Traffic that the operator's own decisions meet, second by second, and the stock autoscalers beside them.
//!
//! ```text
//! trace (a file, or drawn from a seed) → world (clients, pods, nodes) ⇄ policy (ours, HPA, KPA) → score → table, JSON, plot
//! ```
//!
//! See docs/simulator.md.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a model: counts of clients, seconds and bytes are far below 2^52, and never negative where they are unsigned"
)]

pub mod bench;
mod draw;
pub mod plot;
pub mod policy;
pub mod run;
pub mod score;
pub mod table;
pub mod trace;
pub mod world;
