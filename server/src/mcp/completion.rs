//! Completion (MCP 2026-07-28, server/utilities/completion), the same for all eras.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// The most values of one answer.
pub const MAX_VALUES: usize = 100;

/// What is being completed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type")]
pub enum Reference {
    /// MCP `PromptReference`
    #[serde(rename = "ref/prompt")]
    Prompt {
        /// Its name.
        name: String,
    },
    /// MCP `ResourceTemplateReference`
    #[serde(rename = "ref/resource")]
    Resource {
        /// A URI template, or a URI that matches one.
        uri: String,
    },
}

/// The argument that is being typed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// What is there so far.
    pub value: String,
}

/// What is known beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Context {
    /// Arguments that were filled in before.
    #[serde(default)]
    pub arguments: HashMap<String, String>,
}

/// MCP `CompleteResult`. The adapters of the eras add what is theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CompleteResult {
    /// The values.
    pub completion: Completion,
}

/// Values that may be meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Completion {
    /// At most [`MAX_VALUES`].
    pub values: Vec<String>,
    /// How many there are.
    pub total: usize,
    /// There are more than are told.
    pub has_more: bool,
}
