//! Resource templates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Annotations, Completion, Http, Icon};
use crate::rules;

/// Resources whose URIs are made of a template: exactly one of `template` and `http`, which answers a read. A resource with
/// that very URI comes first; then, of the templates that match, the most literal one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = rules::rule(
    "has(self.template) != has(self.http)",
    "set exactly one of `template` and `http`: it is where the contents are"
))]
pub struct ResourceTemplate {
    /// RFC 6570 template of the URIs, for example `tickets://{queue}/{id}`; unique in the catalog. `{name}` is one piece of a URI,
    /// `{+name}` at the end is the rest of it, slashes included.
    #[schemars(length(min = 1, max = 2048))]
    pub uri_template: String,
    /// Name for programs.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub title: Option<String>,
    /// For the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub description: Option<String>,
    /// Media type of all of them, for example `text/markdown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub mime_type: Option<String>,
    /// Pictures for a user interface.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list(8))]
    pub icons: Vec<Icon>,
    /// For whom they are, and how much they matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
    /// More about variables of `uriTemplate`; those not named here have no completion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list_map(&["name"], 32))]
    pub variables: Vec<TemplateVariable>,
    /// Contents with `{variable}` substituted: no loops, no code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateContents>,
    /// Contents fetched from a REST API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
}

/// A variable of a URI template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemplateVariable {
    /// As in `uriTemplate`.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// Values offered while it is typed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion: Option<Completion>,
}

/// Contents kept in the manifest, with `{variable}` in them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemplateContents {
    /// Contents as text.
    #[schemars(length(max = 262_144))]
    pub text: String,
}
