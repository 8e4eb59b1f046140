//! Results of `tools/call` (MCP 2026-07-28, server/tools, Tool Result), the same for all eras.

use mcp_crds::catalog::ToolDefinition;
use serde::Serialize;
use serde_json::Value;

use super::content::{ContentBlock, Text};

/// MCP `CallToolResult`. The adapters of the eras add what is theirs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallToolResult {
    /// For the model.
    pub content: Vec<ContentBlock>,
    /// For programs; any JSON value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structured_content: Option<Value>,
    /// The tool failed; the content says why.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
}

impl CallToolResult {
    /// A failure the model may act upon (MCP, Error Handling: tool execution errors).
    pub fn error(text: impl Into<Text>) -> Self {
        Self { content: vec![ContentBlock::text(text)], structured_content: None, is_error: true }
    }

    /// The result for 2025-11-25 and older, where `structuredContent` is an object.
    ///
    /// Another value is left out, and its JSON added as text unless a block says it already, so that nothing is lost.
    #[must_use]
    pub fn into_legacy(mut self) -> Self {
        if let Some(value) = self.structured_content.take_if(|value| !value.is_object()) {
            let json = value.to_string();
            let said = value.as_str().unwrap_or(&json);
            let said = |block: &ContentBlock| matches!(block, ContentBlock::Text { text, .. } if text.as_str() == said || text.as_str() == json);
            if !self.content.iter().any(said) {
                self.content.push(ContentBlock::text(json));
            }
        }
        self
    }
}

/// The definition for 2025-11-25 and older, where the root of `outputSchema` is `type: object`; none when the definition
/// is the same for all eras.
pub fn legacy_definition(definition: &ToolDefinition) -> Option<ToolDefinition> {
    let schema = definition.output_schema.as_ref()?;
    let object = schema.get("type").is_some_and(|kind| kind == "object");
    (!object).then(|| ToolDefinition { output_schema: None, ..definition.clone() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result(content: &str, structured: Value) -> CallToolResult {
        CallToolResult { content: vec![ContentBlock::text(content)], structured_content: Some(structured), is_error: false }
    }

    #[test]
    fn success_says_nothing_about_errors() {
        assert_eq!(json!(CallToolResult::default()), json!({"content": []}));
        let error = json!({"content": [{"type": "text", "text": "no"}], "isError": true});
        assert_eq!(json!(CallToolResult::error("no")), error);
    }

    #[test]
    fn legacy_clients_get_objects_or_text() {
        let object = result("two", json!({"n": 2}));
        assert_eq!(object.clone().into_legacy(), object);
        let list = result("Two users.", json!([1, 2])).into_legacy();
        assert_eq!(list.structured_content, None);
        assert_eq!(list.content, [ContentBlock::text("Two users."), ContentBlock::text("[1,2]")]);
        assert_eq!(result("[1,2]", json!([1, 2])).into_legacy().content.len(), 1, "said once");
        assert_eq!(result("abc", json!("abc")).into_legacy().content.len(), 1, "said once, plain");
    }
}
