//! A tool: its schemas and what answers it.

use std::sync::Arc;

use jsonschema::Validator;
use mcp_crds::catalog::{Answer, CompiledTool, ToolDefinition, schema as json_schema};
use serde_json::{Map, Value};

use super::schema::{self, InvalidArguments};
use super::{Means, chain};
use crate::backend::code::{CodeTool, Handler, TaskRule};
use crate::backend::gate::{Busy, Gate};
use crate::backend::http::HttpTool;
use crate::backend::promise::Promise;
use crate::backend::template::Template;
use crate::backend::{Answered, Asking, Backend, fixed};
use crate::fault::Fault;
use crate::library::Handle;
use crate::mcp::tools::CallToolResult;

/// A tool, ready to be called.
#[derive(Debug)]
pub struct Tool {
    input: Validator,
    promise: Arc<Promise>,
    backend: Backend,
    /// `maxInFlightRequests` of the tool.
    gate: Option<Arc<Gate>>,
}

impl Tool {
    pub(super) fn build(tool: &CompiledTool, means: &Means<'_>) -> Result<Self, String> {
        let definition = &tool.definition;
        let (input, promise) = validators(definition)?;
        let backend = match &tool.answer {
            Answer::Static(answer) => Backend::Fixed(fixed::result(answer).map_err(|error| error.to_string())?),
            Answer::Template(answer) => Backend::Template(Template::new(answer).map_err(|error| error.to_string())?),
            Answer::Http(http) => {
                let backend = means.backend(http.backend.as_deref())?;
                let call = HttpTool::new(http, backend, promise.schema.is_some(), means.credentials.clone(), means.clients);
                Backend::Http(Box::new(call.map_err(|error| chain(&error))?))
            }
        };
        if let Backend::Fixed(result) = &backend
            && let Err(why) = promise.is_kept(result)
        {
            return Err(format!("its static answer breaks its output schema: {why}"));
        }
        let gate = tool.max_in_flight_requests.map(|limit| means.clients.tool_gate(&definition.name, limit));
        Ok(Self { input, promise, backend, gate })
    }

    /// A tool of the program.
    pub(crate) fn of_code(
        definition: &ToolDefinition,
        handler: Handler<CallToolResult>,
        handle: Handle,
        task: TaskRule,
    ) -> Result<Self, String> {
        let (input, promise) = validators(definition).map_err(|error| format!("{}: {error}", definition.name))?;
        let backend = Backend::Code(Box::new(CodeTool { name: definition.name.clone(), handler, handle, task }));
        Ok(Self { input, promise, backend, gate: None })
    }

    /// Checks arguments against the input schema; absent ones are `{}`.
    ///
    /// # Errors
    /// With the first violations and where they are.
    pub fn check(&self, arguments: &Value) -> Result<(), InvalidArguments> {
        schema::check(&self.input, arguments)
    }

    /// Answers one call, at the latest at the deadline, with arguments that passed [`Tool::check`].
    ///
    /// Whatever fails is a result with `isError` whose text is for the model (MCP, Error Handling). A result that breaks the
    /// output schema is replaced by such an error.
    ///
    /// # Errors
    /// What a handler of the program says instead of a result.
    ///
    /// # Cancel safety
    /// Dropping the future ends the call; what a REST API has done by then stays done.
    pub async fn call(&self, arguments: Map<String, Value>, asking: Asking<'_>) -> Result<Answered, Fault> {
        let _entered = match &self.gate {
            None => None,
            Some(gate) => match gate.enter(asking.deadline).await {
                Ok(entered) => Some(entered),
                Err(Busy) => return Ok(Answered::Result(busy(&self.promise.tool, gate.limit()))),
            },
        };
        self.backend.call(arguments, asking, &self.promise).await
    }
}

/// What the model is told when as many calls run and wait as may.
fn busy(tool: &str, limit: usize) -> CallToolResult {
    let calls = if limit == 1 { "1 call".to_owned() } else { format!("{limit} calls") };
    CallToolResult::error(format!("The tool {tool} is busy: it answers at most {calls} at one time. Try again in a moment."))
}

/// The schemas of a tool, compiled.
fn validators(definition: &ToolDefinition) -> Result<(Validator, Arc<Promise>), String> {
    let input = json_schema::compile(&definition.input_schema).map_err(|error| format!("inputSchema {error}"))?;
    let output = definition.output_schema.as_ref().map(json_schema::compile).transpose();
    let schema = output.map_err(|error| format!("outputSchema {error}"))?;
    Ok((input, Arc::new(Promise { tool: definition.name.clone(), schema })))
}
