//! `mcp-server`: a program that adds nothing to the catalog.

use std::process::ExitCode;

use mcp_server::heap::Allocator;
use mcp_server::library::Program;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    Program::new("mcp-server", env!("CARGO_PKG_VERSION")).main()
}
