//! Typed parameters and results of the protocol, one file for each family of methods.

pub mod content;
pub mod prompts;
pub mod resources;
pub mod tools;
