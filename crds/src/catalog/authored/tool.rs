//! Tools.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ContentBlock, Http};
use crate::rules;

/// A tool: MCP's `Tool`, and exactly one of `static`, `template` and `http`, which answers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = rules::rule(
    "[has(self.static), has(self.template), has(self.http)].filter(x, x).size() == 1",
    "set exactly one of `static`, `template` and `http`: it is what answers the tool"
))]
pub struct Tool {
    /// Unique in the catalog; 1 to 128 letters, digits, `_`, `-` and `.`.
    #[schemars(transform = rules::entry_name())]
    pub name: String,
    /// Name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub title: Option<String>,
    /// For the model: what the tool does and when to use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub description: Option<String>,
    /// Pictures for a user interface.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list(8))]
    pub icons: Vec<Icon>,
    /// Hints about what the tool does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<ToolAnnotations>,
    /// JSON Schema of the arguments, 2020-12 unless `$schema` says otherwise; `type: object` at its root. Arguments that do
    /// not match never reach a backend. By default any object.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = rules::any_object())]
    pub input_schema: Option<Value>,
    /// JSON Schema of `structuredContent`. A result that does not match never leaves the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = rules::any_object())]
    pub output_schema: Option<Value>,
    /// Calls of this tool at one time from one shard; past it a short queue, then an error. For a tool that takes much memory or
    /// time. Unset: only the bounds of the shard and of the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_in_flight_requests: Option<i32>,
    /// Always the same answer.
    #[serde(rename = "static", skip_serializing_if = "Option::is_none")]
    pub fixed: Option<ToolOutput>,
    /// The same answer with `{argument}` substituted: no loops, no code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<ToolOutput>,
    /// The answer of a REST API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
}

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Icon {
    /// `https:` or `data:` URI.
    #[schemars(length(max = 8192), transform = rules::rule(
        "self.startsWith('https://') || self.startsWith('data:')",
        "must be an https: or data: URI"
    ))]
    pub src: String,
    /// Media type, for example `image/png`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub mime_type: Option<String>,
    /// `48x48`, or `any`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(max = 16)), transform = rules::list(8), transform = rules::rule(
        "self.all(s, s.matches('^([0-9]{1,5}x[0-9]{1,5}|any)$'))",
        "each must be a size in pixels, for example '48x48', or 'any'"
    ))]
    pub sizes: Vec<String>,
    /// For which background it is made: `light` or `dark`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), transform = rules::rule("self in ['light', 'dark']", "must be 'light' or 'dark'"))]
    pub theme: Option<String>,
}

/// Hints about what a tool does (MCP `ToolAnnotations`): clients use them to decide when to ask the person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolAnnotations {
    /// Name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub title: Option<String>,
    /// True: the tool does not change anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only_hint: Option<bool>,
    /// False: the tool only adds, it destroys nothing. Clients assume true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destructive_hint: Option<bool>,
    /// True: calling twice with the same arguments is calling once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotent_hint: Option<bool>,
    /// False: the tool stays inside a known world, such as its own database. Clients assume true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_world_hint: Option<bool>,
}

/// What a tool answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolOutput {
    /// Blocks for the model and the person, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list(32))]
    pub content: Vec<ContentBlock>,
    /// Any JSON value, for programs; must match `outputSchema` when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = rules::any_value())]
    pub structured_content: Option<Value>,
    /// True: the tool failed, and `content` says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_error: Option<bool>,
}
