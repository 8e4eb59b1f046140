//! Prompts (MCP 2026-07-28, server/prompts).

use mcp_crds::catalog::{self as authored, Icon, Role};
use serde::Serialize;

use super::content::{ContentBlock, Text};

/// MCP `Prompt`, as `prompts/list` shows it: without its messages.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Prompt<'a> {
    /// Unique in the catalog.
    pub name: &'a str,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<&'a str>,
    /// For the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'a str>,
    /// Pictures.
    #[serde(skip_serializing_if = "<[Icon]>::is_empty")]
    pub icons: &'a [Icon],
    /// In the order a person is asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<PromptArgument<'a>>,
}

/// MCP `PromptArgument`: without the values it is completed with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PromptArgument<'a> {
    /// For programs.
    pub name: &'a str,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<&'a str>,
    /// What to write there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'a str>,
    /// A request without it is an error.
    pub required: bool,
}

/// MCP `GetPromptResult`. The adapters of the eras add what is theirs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GetPromptResult {
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Text>,
    /// The prompt.
    pub messages: Vec<PromptMessage>,
}

/// MCP `PromptMessage`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PromptMessage {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: ContentBlock,
}

impl<'a> From<&'a authored::Prompt> for Prompt<'a> {
    fn from(prompt: &'a authored::Prompt) -> Self {
        Self {
            name: &prompt.name,
            title: prompt.title.as_deref(),
            description: prompt.description.as_deref(),
            icons: &prompt.icons,
            arguments: prompt.arguments.iter().map(PromptArgument::from).collect(),
        }
    }
}

impl<'a> From<&'a authored::PromptArgument> for PromptArgument<'a> {
    fn from(argument: &'a authored::PromptArgument) -> Self {
        Self {
            name: &argument.name,
            title: argument.title.as_deref(),
            description: argument.description.as_deref(),
            required: argument.required,
        }
    }
}
