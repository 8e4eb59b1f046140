//! Real Kubernetes on a bare Debian machine, for tests and the demo.
//!
//! ```text
//! main ─→ up ─→ packages, binaries           what has to be there
//!         │  └→ certs, config, command       what is written (pure: plan, part, config, command)
//!         ├→ cluster, node, network, image   what is done with it
//!         ├→ down, status
//!         └→ enter                           how a process gets to its place
//! process, cgroup, state, machine            who runs, and where that is recorded
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod binaries;
mod certs;
mod cgroup;
mod cli;
mod cluster;
mod command;
mod config;
mod down;
mod enter;
mod error;
mod image;
mod machine;
mod network;
mod node;
mod packages;
mod part;
mod plan;
mod process;
mod progress;
mod run;
mod state;
mod status;
mod up;
mod wait;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}
