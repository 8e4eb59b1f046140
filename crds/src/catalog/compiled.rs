//! The catalog as a shard serves it: merged, resolved, checked and sorted.
//!
//! The shard trusts it: every schema compiles, every template names known arguments, every URL has a literal host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::authored::{Annotations, Body, CacheScope, Icon, Method, Prompt, ToolAnnotations, ToolOutput};

/// Everything a shard serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompiledCatalog {
    /// MCP `Implementation`.
    pub server_info: Implementation,
    /// For the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// MCP `ttlMs`.
    pub ttl_ms: u64,
    /// MCP `cacheScope`.
    pub cache_scope: CacheScope,
    /// Named backends, by name.
    pub backends: Vec<CompiledBackend>,
    /// By name.
    pub tools: Vec<CompiledTool>,
    /// By URI.
    pub resources: Vec<CompiledResource>,
    /// By URI template.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_templates: Vec<CompiledResourceTemplate>,
    /// By name. `{argument}` in messages is substituted by the shard.
    pub prompts: Vec<Prompt>,
}

/// MCP `Implementation`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Implementation {
    /// The McpCluster's name.
    pub name: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Of the catalog, or of the server.
    pub version: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where people read more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub website_url: Option<String>,
    /// Pictures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub icons: Vec<Icon>,
}

/// A tool: what `tools/list` shows, and what answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompiledTool {
    /// MCP `Tool`, as it goes over the wire.
    pub definition: ToolDefinition,
    /// What answers it.
    pub answer: Answer,
    /// Calls at one time from one shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight_requests: Option<u32>,
}

/// MCP `Tool`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolDefinition {
    /// With the source's prefix.
    pub name: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// For the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Pictures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub icons: Vec<Icon>,
    /// Hints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<ToolAnnotations>,
    /// JSON Schema of the arguments; always an object schema.
    pub input_schema: Value,
    /// JSON Schema of `structuredContent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
}

/// What answers a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// Always the same.
    Static(ToolOutput),
    /// The same, with `{argument}` substituted.
    Template(ToolOutput),
    /// A call to a REST API.
    Http(CompiledHttp),
}

/// A call to a REST API, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompiledHttp {
    /// Name of the backend, or none for an absolute URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Request method.
    pub method: Method,
    /// Absolute RFC 6570 template with a literal host.
    pub url: String,
    /// Headers, beside those of the backend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<CompiledHeader>,
    /// Body template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
    /// RFC 9535 query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub select: Option<String>,
    /// Text template over what was selected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Largest response, bytes.
    pub max_size: u64,
    /// Time for one call.
    pub timeout_ms: u64,
}

/// A REST API, resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompiledBackend {
    /// Label of its metrics.
    pub name: String,
    /// Credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<CompiledAuthorization>,
    /// Headers sent with each request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<CompiledHeader>,
    /// Calls at one time from one shard.
    pub max_in_flight_requests: u32,
}

/// A credential, by the files that hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CompiledAuthorization {
    /// `Authorization: Bearer …`
    Bearer(CredentialFile),
    /// `Authorization: Basic …`
    Basic {
        /// File of the user name.
        username: CredentialFile,
        /// File of the password.
        password: CredentialFile,
    },
}

/// A header, resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompiledHeader {
    /// Field name, lower case.
    pub name: String,
    /// Its value.
    pub value: HeaderValue,
}

/// The value of a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HeaderValue {
    /// Sent as it is.
    Literal(String),
    /// Read from a file.
    Credential(CredentialFile),
}

/// A file in the credentials folder: `{secret}_{key}`. Names of Secrets have no `_`, so the first one separates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CredentialFile(pub String);

impl CredentialFile {
    /// The file of a key of a Secret.
    pub fn of(secret: &str, key: &str) -> Self {
        Self(format!("{secret}_{key}"))
    }

    /// The Secret and the key this file is a copy of.
    pub fn secret_and_key(&self) -> Option<(&str, &str)> {
        self.0.split_once('_')
    }
}

/// A resource, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompiledResource {
    /// MCP `Resource`, as it goes over the wire.
    pub definition: ResourceDefinition,
    /// Where its contents are.
    pub contents: Contents,
}

/// MCP `Resource`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceDefinition {
    /// Unique.
    pub uri: String,
    /// For programs.
    pub name: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// For the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Bytes of the contents, where they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Pictures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub icons: Vec<Icon>,
    /// For whom it is; `priority` is a string here and a number on the wire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
}

/// A resource template, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompiledResourceTemplate {
    /// MCP `ResourceTemplate`, as it goes over the wire.
    pub definition: ResourceTemplateDefinition,
    /// Where the contents are; a text has `{variable}` in it.
    pub contents: Contents,
    /// Values offered for its variables, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub completions: BTreeMap<String, Vec<String>>,
}

/// MCP `ResourceTemplate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceTemplateDefinition {
    /// RFC 6570, as the catalog reads it; unique.
    pub uri_template: String,
    /// For programs.
    pub name: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// For the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Media type of all that match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Pictures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub icons: Vec<Icon>,
    /// For whom it is; `priority` is a string here and a number on the wire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
}

/// Where contents are.
#[allow(clippy::large_enum_variant)] // there are few, and they are read in place
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Contents {
    /// Text.
    Text(String),
    /// Base64.
    Blob(String),
    /// Fetched from a REST API on each read.
    Http(CompiledHttp),
}
