//! Prompts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ContentBlock, Icon, Role};
use crate::rules;

/// A prompt: messages that a person can choose in a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = rules::rule(
    "has(self.messages) && self.messages.size() > 0",
    "`messages` must have at least one message: it is what the prompt says"
))]
pub struct Prompt {
    /// Unique in the catalog; 1 to 128 letters, digits, `_`, `-` and `.`.
    #[schemars(transform = rules::entry_name())]
    pub name: String,
    /// Name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub title: Option<String>,
    /// What the prompt is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub description: Option<String>,
    /// Pictures for a user interface.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list(8))]
    pub icons: Vec<Icon>,
    /// Arguments, in the order a person is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list(32))]
    pub arguments: Vec<PromptArgument>,
    /// Messages, in order, with `{argument}` substituted; at least one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list(64))]
    pub messages: Vec<PromptMessage>,
}

/// An argument of a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PromptArgument {
    /// Substituted for `{name}`.
    #[schemars(length(max = 64), transform = rules::matches(
        "^[A-Za-z_][A-Za-z0-9_.-]{0,63}$",
        "use at most 64 letters, digits, '_', '-' and '.', starting with a letter or '_'"
    ))]
    pub name: String,
    /// Name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub title: Option<String>,
    /// What to write there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub description: Option<String>,
    /// True: a request without it is an error.
    #[serde(default)]
    pub required: bool,
    /// Values offered while it is typed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion: Option<Completion>,
}

/// Values offered while an argument is typed (MCP, Completion): those that begin with what was typed, whatever the case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Completion {
    /// The values, the most likely ones first. Whoever may complete sees them all: put no secrets here.
    #[schemars(inner(length(max = 256)), transform = rules::list(1000))]
    pub values: Vec<String>,
}

/// A message of a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PromptMessage {
    /// Who says it: user or assistant.
    pub role: Role,
    /// What is said.
    pub content: ContentBlock,
}
