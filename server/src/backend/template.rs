//! `template`: content with arguments put in. Substitution only: no loops, no code.

use mcp_crds::catalog::template::{JsonTemplate, TextTemplate};
use mcp_crds::catalog::{self as authored, ToolOutput};
use serde_json::{Map, Value};

use super::fixed::with_json_as_text;
use crate::mcp::content::{ContentBlock, InvalidContent, Text};
use crate::mcp::tools::CallToolResult;

/// What a template tool answers.
#[derive(Clone, Debug)]
pub struct Template {
    content: Vec<BlockTemplate>,
    structured_content: Option<JsonTemplate>,
    is_error: bool,
}

/// A block of content whose texts are templates. Values in URIs are encoded.
#[derive(Clone, Debug)]
pub struct BlockTemplate(ContentBlock<Piece>);

/// Text without variables is parsed once and shared; a picture in a template is not copied for each call.
#[derive(Clone, Debug)]
enum Piece {
    Literal(Text),
    Template(TextTemplate),
}

impl Template {
    /// Reads the templates.
    ///
    /// # Errors
    /// When a block lacks what its type needs.
    pub fn new(output: &ToolOutput) -> Result<Self, InvalidContent> {
        Ok(Self {
            content: output.content.iter().map(BlockTemplate::new).collect::<Result<_, _>>()?,
            structured_content: output.structured_content.as_ref().map(JsonTemplate::parse),
            is_error: output.is_error.unwrap_or_default(),
        })
    }

    /// The answer to these arguments.
    pub fn expand(&self, arguments: &Map<String, Value>) -> CallToolResult {
        with_json_as_text(CallToolResult {
            content: self.content.iter().map(|block| block.expand(arguments)).collect(),
            structured_content: self.structured_content.as_ref().and_then(|template| template.expand(arguments)),
            is_error: self.is_error,
        })
    }
}

// === impl BlockTemplate ===

impl BlockTemplate {
    /// Reads the templates of a block.
    ///
    /// # Errors
    /// When the block lacks what its type needs.
    pub fn new(block: &authored::ContentBlock) -> Result<Self, InvalidContent> {
        let piece = |text: &&str| Piece::new(text);
        ContentBlock::try_from(block).map(|block| Self(block.map(piece, piece)))
    }

    /// The block with these arguments.
    pub fn expand(&self, arguments: &Map<String, Value>) -> ContentBlock {
        self.0.map(
            |piece| piece.expand(|template| template.expand(arguments)),
            |piece| piece.expand(|template| template.expand_uri(arguments)),
        )
    }
}

// === impl Piece ===

impl Piece {
    fn new(text: &str) -> Self {
        let template = TextTemplate::parse(text);
        if template.variables().is_empty() {
            Self::Literal(template.expand(&Map::new()).into())
        } else {
            Self::Template(template)
        }
    }

    fn expand(&self, expand: impl Fn(&TextTemplate) -> String) -> Text {
        match self {
            Self::Literal(text) => text.clone(),
            Self::Template(template) => expand(template).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn expand(output: Value, arguments: &Value) -> Value {
        let template = Template::new(&serde_json::from_value(output).unwrap()).unwrap();
        json!(template.expand(arguments.as_object().unwrap()))
    }

    #[test]
    fn arguments_are_put_into_texts_and_trees() {
        let output = json!({
            "content": [{"text": "Hello, {name}! {{name}}"}],
            "structuredContent": {"name": "{name}", "age": "{age}", "gone": "{gone}"},
        });
        let expected = json!({
            "content": [{"type": "text", "text": "Hello, Ada! {name}"}],
            "structuredContent": {"name": "Ada", "age": 36},
        });
        assert_eq!(expand(output, &json!({"name": "Ada", "age": 36})), expected);
    }

    #[test]
    fn arguments_in_uris_are_encoded() {
        let output = json!({"content": [
            {"type": "resource_link", "uri": "docs://{page}", "name": "{page}"},
            {"type": "resource", "resource": {"uri": "docs://{page}", "text": "about {page}"}},
        ]});
        let expected = json!({"content": [
            {"type": "resource_link", "uri": "docs://a%2F..%2Fb", "name": "a/../b"},
            {"type": "resource", "resource": {"uri": "docs://a%2F..%2Fb", "text": "about a/../b"}},
        ]});
        assert_eq!(expand(output, &json!({"page": "a/../b"})), expected);
    }

    #[test]
    fn what_an_argument_says_is_not_expanded() {
        let output = json!({"content": [{"text": "{a}"}]});
        let expected = json!({"content": [{"type": "text", "text": "{b}"}]});
        assert_eq!(expand(output, &json!({"a": "{b}", "b": "secret"})), expected);
    }
}
