//! A tool server that knows its callers: two of them, each by a token.
//!
//! ```text
//! CALLERS=ada:red,bob:blue cargo run -p mcp-server --example callers
//! curl -H 'Authorization: Bearer red' ...
//! ```
//!
//! Sessions, tasks and the state of a question are good for the caller that got them alone; each has its quota.

use std::process::ExitCode;

use mcp_server::library::{Callers, Context, NoArguments, Program, Tool};

fn main() -> ExitCode {
    let said = std::env::var("CALLERS").unwrap_or_default();
    let callers: Vec<_> = said.split(',').filter_map(|pair| pair.split_once(':')).map(|(name, token)| (token, name)).collect();
    if callers.is_empty() {
        eprintln!("error: CALLERS is not set: write NAME:TOKEN,NAME:TOKEN");
        return ExitCode::from(2);
    }
    Program::new("callers", env!("CARGO_PKG_VERSION"))
        .authenticator(Callers::new(callers))
        .tool(Tool::new("whoami", "Says who calls."), async |call: Context, NoArguments {}| Ok(call.principal().name.clone()))
        .main()
}
