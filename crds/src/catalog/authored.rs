//! The catalog as a person writes it.

mod backend;
mod content;
mod http;
mod prompt;
mod resource;
mod resource_template;
mod tool;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use backend::*;
pub use content::*;
pub use http::*;
pub use prompt::*;
pub use resource::*;
pub use resource_template::*;
pub use tool::*;

use crate::duration::Span;
use crate::rules;

/// What agents see: MCP's own names and values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    transform = rules::rule(
        "!has(self.tools) || self.tools.all(t, !has(t.http) || !has(t.http.backend) || \
         (has(self.backends) && self.backends.exists(b, b.name == t.http.backend)))",
        "`http.backend` must name an entry of `catalog.backends`: add it there, or write an absolute `http.url`"
    ),
    transform = rules::rule(
        "!has(self.resources) || self.resources.all(r, !has(r.http) || !has(r.http.backend) || \
         (has(self.backends) && self.backends.exists(b, b.name == r.http.backend)))",
        "`http.backend` must name an entry of `catalog.backends`: add it there, or write an absolute `http.url`"
    ),
    transform = rules::rule(
        "!has(self.resourceTemplates) || self.resourceTemplates.all(r, !has(r.http) || !has(r.http.backend) || \
         (has(self.backends) && self.backends.exists(b, b.name == r.http.backend)))",
        "`http.backend` must name an entry of `catalog.backends`: add it there, or write an absolute `http.url`"
    )
)]
pub struct Catalog {
    /// How the server introduces itself; its name is the name of the McpCluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_info: Option<ServerInfo>,
    /// Given to the model by clients: how to use this server as a whole, for example in which order to call its tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32_768))]
    pub instructions: Option<String>,
    /// How long clients may cache lists and resources (MCP 2026-07-28, `ttlMs` and `cacheScope`).
    #[serde(default)]
    pub cache: Cache,
    /// REST APIs that tools call: address, credential and bounds, once for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list_map(&["name"], 32))]
    pub backends: Vec<Backend>,
    /// Tools, by name. Agents see them sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list_map(&["name"], 256))]
    pub tools: Vec<Tool>,
    /// Resources, by URI.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list_map(&["uri"], 256))]
    pub resources: Vec<Resource>,
    /// Resource templates, by URI template.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list_map(&["uriTemplate"], 128))]
    pub resource_templates: Vec<ResourceTemplate>,
    /// Prompts, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list_map(&["name"], 128))]
    pub prompts: Vec<Prompt>,
    /// Entries from elsewhere. They are merged with those written here; a name may occur once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list_map(&["name"], 32))]
    pub sources: Vec<Source>,
}

/// How the server introduces itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerInfo {
    /// Name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub title: Option<String>,
    /// Version of the catalog; by default that of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub version: Option<String>,
    /// What it is, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub description: Option<String>,
    /// Where people read more about it: an `http:` or `https:` URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub website_url: Option<String>,
    /// Pictures for a user interface.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list(8))]
    pub icons: Vec<Icon>,
}

/// Caching by clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Cache {
    /// How long an answer may be kept.
    #[schemars(transform = rules::span("0s", "24h", "60s"))]
    pub ttl: Span,
    /// Who may share it: private, one caller; public, all.
    pub scope: CacheScope,
}

impl Default for Cache {
    fn default() -> Self {
        Self { ttl: Span::from("60s"), scope: CacheScope::Private }
    }
}

/// Who may share a cached answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CacheScope {
    /// One caller.
    #[default]
    Private,
    /// All callers.
    Public,
}

/// Entries from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = rules::rule(
    "has(self.configMapKeyRef)",
    "set `configMapKeyRef`: it is where the entries come from"
))]
pub struct Source {
    /// Name in messages and status.
    #[schemars(transform = rules::label())]
    pub name: String,
    /// Put before the name of each tool and prompt of the source, for example `billing_`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), transform = rules::matches(
        "^[A-Za-z0-9_.-]{1,32}$",
        "use 1 to 32 letters, digits, '_', '-' and '.'"
    ))]
    pub prefix: Option<String>,
    /// A key of a ConfigMap of the same namespace. It holds tools, resources, resource templates and prompts in the shape of this block, as YAML or
    /// JSON, up to 1 MiB. It may name backends, not Secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
}
