//! A prompt: messages with arguments put in.

use std::collections::BTreeMap;

use mcp_crds::catalog::{self as authored, Role};
use serde_json::{Map, Value};

use super::completion::Values;
use crate::backend::Asking;
use crate::backend::code::Handler;
use crate::backend::template::BlockTemplate;
use crate::fault::Fault;
use crate::library::{Context, Handle};
use crate::mcp::content::Text;
use crate::mcp::prompts::{GetPromptResult, PromptMessage};

/// A prompt, ready to be asked for.
#[derive(Debug)]
pub struct Prompt {
    description: Option<Text>,
    required: Vec<String>,
    /// With what they are completed with.
    arguments: BTreeMap<String, Values>,
    messages: Messages,
}

/// Where the messages come from.
#[derive(Debug)]
enum Messages {
    Templates(Vec<(Role, BlockTemplate)>),
    Code { name: String, handler: Handler<Vec<PromptMessage>>, handle: Handle },
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
    /// What a handler of the program says instead.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Prompt {
    pub(super) fn build(prompt: &authored::Prompt) -> Result<Self, String> {
        let message = |message: &authored::PromptMessage| {
            BlockTemplate::new(&message.content).map(|template| (message.role, template)).map_err(|error| error.to_string())
        };
        Ok(Self::with(prompt, Messages::Templates(prompt.messages.iter().map(message).collect::<Result<_, _>>()?)))
    }

    /// A prompt of the program.
    pub(crate) fn of_code(prompt: &authored::Prompt, handler: Handler<Vec<PromptMessage>>, handle: Handle) -> Self {
        Self::with(prompt, Messages::Code { name: prompt.name.clone(), handler, handle })
    }

    fn with(prompt: &authored::Prompt, messages: Messages) -> Self {
        let required = prompt.arguments.iter().filter(|argument| argument.required);
        let values = |argument: &authored::PromptArgument| {
            let offered = argument.completion.as_ref().map(|completion| Values::new(&completion.values));
            (argument.name.clone(), offered.unwrap_or_default())
        };
        Self {
            description: prompt.description.as_deref().map(Text::from),
            required: required.map(|argument| argument.name.clone()).collect(),
            arguments: prompt.arguments.iter().map(values).collect(),
            messages,
        }
    }

    /// What an argument is completed with; none when there is no such argument.
    pub fn completion(&self, argument: &str) -> Option<&Values> {
        self.arguments.get(argument)
    }

    /// The messages with these arguments; absent ones are empty, unknown ones are ignored.
    ///
    /// # Errors
    /// When a required argument is absent, one is not a string, or a handler of the program fails.
    pub async fn get(&self, arguments: Map<String, Value>, asking: Asking<'_>) -> Result<GetPromptResult, PromptError> {
        let missing: Vec<_> = self.required.iter().filter(|name| !arguments.contains_key(*name)).cloned().collect();
        if !missing.is_empty() {
            return Err(PromptError::Missing(missing));
        }
        if let Some((name, _)) = arguments.iter().find(|(name, value)| self.arguments.contains_key(*name) && !value.is_string()) {
            return Err(PromptError::NotAString(name.clone()));
        }
        let messages = match &self.messages {
            Messages::Templates(templates) => {
                let message = |(role, template): &(Role, BlockTemplate)| PromptMessage {
                    role: *role,
                    content: template.expand(&arguments),
                };
                templates.iter().map(message).collect()
            }
            Messages::Code { name, handler, handle } => {
                let context = Context::new(name, arguments, asking, handle.clone());
                handler.run(context).await.map_err(Fault::from)?
            }
        };
        Ok(GetPromptResult { description: self.description.clone(), messages })
    }
}
