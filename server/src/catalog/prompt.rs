//! A prompt: messages with arguments put in.

use std::collections::BTreeSet;

use mcp_crds::catalog::{self as authored, Role};
use serde_json::{Map, Value};

use crate::backend::template::BlockTemplate;
use crate::mcp::content::Text;
use crate::mcp::prompts::{GetPromptResult, PromptMessage};

/// A prompt, ready to be asked for.
#[derive(Debug)]
pub struct Prompt {
    description: Option<Text>,
    required: Vec<String>,
    known: BTreeSet<String>,
    messages: Vec<(Role, BlockTemplate)>,
}

/// Why a prompt cannot be given: `-32602` (MCP, server/prompts, Error Handling).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// Required arguments are absent.
    #[error("missing required arguments: {}", .0.join(", "))]
    Missing(Vec<String>),
    /// MCP: arguments of prompts are strings.
    #[error("argument {0} must be a string")]
    NotAString(String),
}

impl Prompt {
    pub(super) fn build(prompt: &authored::Prompt) -> Result<Self, String> {
        let message = |message: &authored::PromptMessage| {
            BlockTemplate::new(&message.content).map(|template| (message.role, template)).map_err(|error| error.to_string())
        };
        let required = prompt.arguments.iter().filter(|argument| argument.required);
        Ok(Self {
            description: prompt.description.as_deref().map(Text::from),
            required: required.map(|argument| argument.name.clone()).collect(),
            known: prompt.arguments.iter().map(|argument| argument.name.clone()).collect(),
            messages: prompt.messages.iter().map(message).collect::<Result<_, _>>()?,
        })
    }

    /// The messages with these arguments; absent ones are empty, unknown ones are ignored.
    ///
    /// # Errors
    /// When a required argument is absent, or one is not a string.
    pub fn get(&self, arguments: &Map<String, Value>) -> Result<GetPromptResult, PromptError> {
        let missing: Vec<_> = self.required.iter().filter(|name| !arguments.contains_key(*name)).cloned().collect();
        if !missing.is_empty() {
            return Err(PromptError::Missing(missing));
        }
        if let Some((name, _)) = arguments.iter().find(|(name, value)| self.known.contains(*name) && !value.is_string()) {
            return Err(PromptError::NotAString(name.clone()));
        }
        let message =
            |(role, template): &(Role, BlockTemplate)| PromptMessage { role: *role, content: template.expand(arguments) };
        Ok(GetPromptResult { description: self.description.clone(), messages: self.messages.iter().map(message).collect() })
    }
}
