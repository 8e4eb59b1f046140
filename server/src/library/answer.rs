//! What handlers answer.

use std::fmt::Display;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mcp_crds::catalog::Role;
use serde::Serialize;
use serde_json::Value;

use crate::exchange::Interrupted;
use crate::fault::Fault;
use crate::mcp::content::{Body, ContentBlock, ResourceContents, Text};
use crate::mcp::prompts::PromptMessage;
use crate::mcp::tools::CallToolResult;

/// What a tool answers: made from text, blocks, or a JSON value, or put together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer(CallToolResult);

/// A value of the program's own as structured content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Structured<T>(pub T);

/// What a handler says instead of an answer.
///
/// `?` turns text, and whatever ends a conversation with the client, into one; any other error goes through
/// [`Failure::told`], so that nothing is told to a model that was not meant for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The call failed, and the model is told why: `isError` of a tool, an internal error elsewhere.
    Told(Text),
    /// The request is answered with a JSON-RPC error.
    Fault(Fault),
}

/// One message of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Message(pub(crate) PromptMessage);

/// What is read of a resource. Its URI and media type are those of the definition, unless they are said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub(crate) body: Body,
    pub(crate) mime_type: Option<Text>,
}

// === impl Answer ===

impl Answer {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a block of text more.
    #[must_use]
    pub fn text(self, text: impl Into<Text>) -> Self {
        self.block(ContentBlock::text(text))
    }

    /// With a block more.
    #[must_use]
    pub fn block(mut self, block: ContentBlock) -> Self {
        self.0.content.push(block);
        self
    }

    /// With structured content. Where there is no block, it is also said as text.
    #[must_use]
    pub fn structured(mut self, value: Value) -> Self {
        self.0.structured_content = Some(value);
        self
    }

    /// A failure with content of its own.
    #[must_use]
    pub fn failed(mut self) -> Self {
        self.0.is_error = true;
        self
    }

    pub(crate) fn into_result(self) -> CallToolResult {
        crate::backend::fixed::with_json_as_text(self.0)
    }
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self::new().text(text)
    }
}

impl From<&str> for Answer {
    fn from(text: &str) -> Self {
        Self::new().text(text)
    }
}

impl From<ContentBlock> for Answer {
    fn from(block: ContentBlock) -> Self {
        Self::new().block(block)
    }
}

impl From<Vec<ContentBlock>> for Answer {
    fn from(content: Vec<ContentBlock>) -> Self {
        Self(CallToolResult { content, ..CallToolResult::default() })
    }
}

impl From<Value> for Answer {
    fn from(value: Value) -> Self {
        Self::new().structured(value)
    }
}

impl<T: Serialize> TryFrom<Structured<T>> for Answer {
    type Error = Failure;

    fn try_from(Structured(value): Structured<T>) -> Result<Self, Failure> {
        let value =
            serde_json::to_value(value).map_err(|error| Fault::Failed(format!("the result cannot be encoded: {error}")))?;
        Ok(Self::from(value))
    }
}

// === impl Failure ===

impl Failure {
    /// The model is told this. Use it with `map_err`: the text of the error leaves the server.
    #[allow(clippy::needless_pass_by_value, reason = "it is for `map_err(Failure::told)`")]
    pub fn told(error: impl Display) -> Self {
        Self::Told(error.to_string().into())
    }
}

impl From<Failure> for Fault {
    /// Where there is no result that could say so.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Told(text) => Self::Failed(text.as_str().to_owned()),
            Failure::Fault(fault) => fault,
        }
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Self::Told(text.into())
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Told(text.into())
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Interrupted> for Failure {
    fn from(interrupted: Interrupted) -> Self {
        Self::Fault(interrupted.into())
    }
}

impl From<std::convert::Infallible> for Failure {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

// === impl Message ===

impl Message {
    /// Said by the user.
    pub fn user(content: impl Into<Self>) -> Self {
        Self(PromptMessage { role: Role::User, ..content.into().0 })
    }

    /// Said by the assistant.
    pub fn assistant(content: impl Into<Self>) -> Self {
        Self(PromptMessage { role: Role::Assistant, ..content.into().0 })
    }
}

impl From<ContentBlock> for Message {
    fn from(content: ContentBlock) -> Self {
        Self(PromptMessage { role: Role::User, content })
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        ContentBlock::text(text).into()
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        ContentBlock::text(text).into()
    }
}

// === impl Read ===

impl Read {
    /// Text.
    pub fn text(text: impl Into<Text>) -> Self {
        Self { body: Body::Text(text.into()), mime_type: None }
    }

    /// Bytes.
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self { body: Body::Blob(BASE64.encode(bytes).into()), mime_type: None }
    }

    /// Of another media type than the definition says.
    #[must_use]
    pub fn mime_type(mut self, mime_type: impl Into<Text>) -> Self {
        self.mime_type = Some(mime_type.into());
        self
    }

    pub(crate) fn into_contents(self, uri: &str, mime_type: Option<&Text>) -> ResourceContents {
        ResourceContents { uri: uri.into(), mime_type: self.mime_type.or_else(|| mime_type.cloned()), body: self.body }
    }
}

impl From<&str> for Read {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Read {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn structured_content_alone_is_also_said_as_text() {
        let result = Answer::from(json!({"sum": 3})).into_result();
        assert_eq!(json!(result), json!({"content": [{"type": "text", "text": "{\"sum\":3}"}], "structuredContent": {"sum": 3}}));
        let said = Answer::from(json!({"sum": 3})).text("three").into_result();
        assert_eq!(said.content, [ContentBlock::text("three")]);
    }

    #[test]
    fn a_failure_is_told_in_its_own_words() {
        fn parse(text: &str) -> Result<i32, Failure> {
            text.parse::<i32>().map_err(Failure::told)
        }
        assert_eq!(parse("x"), Err(Failure::Told("invalid digit found in string".into())));
    }
}
