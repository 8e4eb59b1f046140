//! The operator's judgement alone: the modules that are mutated, what they need, and the tests that must notice.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod names;
pub mod rollout;
pub mod scale;
pub mod stages;
pub mod words;

#[cfg(test)]
#[path = "reconcile/simulation.rs"]
mod simulation;

/// Whether this mutant is switched on, by its number in the environment.
pub(crate) fn is_mutant(number: u32) -> bool {
    static ON: std::sync::LazyLock<u32> =
        std::sync::LazyLock::new(|| std::env::var("MUTANT").ok().and_then(|number| number.parse().ok()).unwrap_or(0));
    *ON == number
}
