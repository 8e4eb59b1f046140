//! The smallest tool server: one tool, one prompt, one resource.
//!
//! ```text
//! cargo run -p mcp-server --example hello          then http://127.0.0.1:8080/mcp
//! ```

use mcp_server::library::{Context, NoArguments, Program, Prompt, Resource, Tool};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize, JsonSchema)]
struct Add {
    /// The first number.
    a: f64,
    /// The second number.
    b: f64,
}

fn main() -> std::process::ExitCode {
    Program::new("hello", env!("CARGO_PKG_VERSION"))
        .tool(Tool::new("add", "Adds two numbers."), async |_: Context, Add { a, b }| Ok(json!({"sum": a + b})))
        .tool(Tool::new("version", "Says which version of this server answers."), async |_: Context, NoArguments {}| {
            Ok(env!("CARGO_PKG_VERSION"))
        })
        .prompt(Prompt::new("greet", "Greets somebody.").required("name", "Whom to greet."), async |context: Context| {
            Ok([format!("Please greet {}.", context.text("name").unwrap_or("everybody"))])
        })
        .resource(Resource::new("hello://motd", "motd").mime_type("text/plain"), async |_: Context| Ok("Have a good day."))
        .main()
}
