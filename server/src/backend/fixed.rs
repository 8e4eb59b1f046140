//! `static`: content as it was authored.

use mcp_crds::catalog::ToolOutput;

use crate::mcp::content::{ContentBlock, InvalidContent, Text};
use crate::mcp::tools::CallToolResult;

/// What a static tool always answers.
///
/// # Errors
/// When a block lacks what its type needs.
pub fn result(output: &ToolOutput) -> Result<CallToolResult, InvalidContent> {
    let text = |text: &&str| Text::from(*text);
    let block = |block| ContentBlock::try_from(block).map(|block| block.map(text, text));
    Ok(with_json_as_text(CallToolResult {
        content: output.content.iter().map(block).collect::<Result<_, _>>()?,
        structured_content: output.structured_content.clone(),
        is_error: output.is_error.unwrap_or_default(),
    }))
}

/// Structured content alone is also said as text, for models that read nothing else (MCP, Structured Content).
pub(crate) fn with_json_as_text(mut result: CallToolResult) -> CallToolResult {
    if let (true, Some(value)) = (result.content.is_empty(), &result.structured_content) {
        result.content.push(ContentBlock::text(value.to_string()));
    }
    result
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn authored(output: serde_json::Value) -> ToolOutput {
        serde_json::from_value(output).unwrap()
    }

    #[test]
    fn braces_of_static_content_are_literal() {
        let output = authored(json!({"content": [{"text": "Hello, {name}!"}], "structuredContent": {"x": "{name}"}}));
        let expected = json!({"content": [{"type": "text", "text": "Hello, {name}!"}], "structuredContent": {"x": "{name}"}});
        assert_eq!(json!(result(&output).unwrap()), expected);
    }

    #[test]
    fn structured_content_alone_is_also_text() {
        let output = authored(json!({"structuredContent": {"ok": true}}));
        let expected = json!({"content": [{"type": "text", "text": "{\"ok\":true}"}], "structuredContent": {"ok": true}});
        assert_eq!(json!(result(&output).unwrap()), expected);
    }

    #[test]
    fn a_static_failure_is_a_failure() {
        let output = authored(json!({"content": [{"text": "Retired."}], "isError": true}));
        assert!(result(&output).unwrap().is_error);
    }
}
