//! Our library with the tools that a benchmark needs: two that take their time, and one that tells of an update. It has the
//! flags of a shard.

use std::process::ExitCode;

use mcp_baseline::{RAISED, SLOW, WAIT};
use mcp_server::library::{Context, Program, Tool};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Deserialize, JsonSchema)]
struct Said {
    /// What is said: for `raise`, the resource that is told of, when it begins as one of ours does.
    text: Option<String>,
}

fn main() -> ExitCode {
    Program::new("bench", env!("CARGO_PKG_VERSION"))
        .tool(Tool::new("wait", "Takes a minute."), async |_: Context, _: Said| {
            tokio::time::sleep(WAIT).await;
            Ok("waited")
        })
        .tool(Tool::new("slow", "Takes 50 ms."), async |_: Context, _: Said| {
            tokio::time::sleep(SLOW).await;
            Ok("slow")
        })
        .tool(Tool::new("raise", "Tells of an update."), async |call: Context, said: Said| {
            let uri = said.text.filter(|text| text.starts_with("bench://"));
            call.handle().resource_updated(uri.as_deref().unwrap_or(RAISED));
            Ok("raised")
        })
        .main()
}
