//! `tools/list` and `tools/call` (2026-07-28 `server/tools`).

use serde_json::{Map, Value};

use crate::backend::Answered;
use crate::catalog::Snapshot;
use crate::dispatch::{Call, Outcome};
use crate::fault::Fault;
use crate::mcp::tools::CallToolResult;
use crate::mcp::version::Version;

/// A page of the tools.
///
/// # Errors
/// When the cursor is unknown.
pub fn list<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    if call.caller.version.is_modern() {
        super::page(call, "tools", Snapshot::tools_page)
    } else {
        super::page(call, "tools", Snapshot::legacy_tools_page)
    }
}

/// Calls a tool. What the model can correct is a result that says so; what only the program can is a fault
/// (`server/tools` §Error Handling).
///
/// # Errors
/// When the tool is unknown or the parameters are malformed.
pub async fn call<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    let name = call.params.text("name")?;
    let tool = call.serving.snapshot.tool(&name).ok_or_else(|| Fault::InvalidParams(format!("Unknown tool: {name}")))?;
    let arguments: Map<String, Value> = call.params.parsed::<Option<_>>("arguments")?.flatten().unwrap_or_default();
    let arguments = Value::Object(arguments);
    if let Err(invalid) = tool.check(&arguments) {
        // Older versions have it among the errors of the protocol.
        return if call.caller.version >= Version::V2025_11_25 {
            Ok(Outcome::Tool(CallToolResult::error(invalid.to_string())))
        } else {
            Err(Fault::InvalidParams(invalid.to_string()))
        };
    }
    let Value::Object(arguments) = arguments else { return Err(Fault::MethodNotFound) };
    Ok(match tool.call(arguments, call.asking()).await? {
        Answered::Result(result) => Outcome::Tool(result),
        Answered::Task(task) => Outcome::TaskCreated(task),
    })
}
