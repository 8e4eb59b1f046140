//! What a tool promises of its results (MCP, Output Schema).

use jsonschema::Validator;

use crate::mcp::tools::CallToolResult;

/// The output schema of a tool.
#[derive(Debug)]
pub(crate) struct Promise {
    pub(crate) tool: String,
    pub(crate) schema: Option<Validator>,
}

impl Promise {
    /// The result, or an error in its place when it breaks the promise.
    pub(crate) fn keep(&self, result: CallToolResult) -> CallToolResult {
        match self.is_kept(&result) {
            Ok(()) => result,
            Err(why) => {
                tracing::warn!(tool = %self.tool, %why, "a result breaks its output schema");
                CallToolResult::error(format!(
                    "{} gave a result that breaks its own output schema ({why}), so it is withheld",
                    self.tool
                ))
            }
        }
    }

    /// A result that is no error has structured content that matches.
    ///
    /// # Errors
    /// Where it does not, and which rule it breaks; not the value, which is the backend's.
    pub(crate) fn is_kept(&self, result: &CallToolResult) -> Result<(), String> {
        match (&self.schema, &result.structured_content) {
            (None, _) => Ok(()),
            (Some(_), _) if result.is_error => Ok(()),
            (Some(_), None) => Err("it has no structured content".to_owned()),
            (Some(schema), Some(content)) => match schema.validate(content) {
                Ok(()) => Ok(()),
                Err(error) => Err(format!("{} at {:?}", error.kind().keyword(), error.instance_path().as_str())),
            },
        }
    }
}
