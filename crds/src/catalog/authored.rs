//! The catalog as a person writes it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::duration::Span;
use crate::quantity::Size;
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

/// One REST API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backend {
    /// Named by `http.backend`, and the label of its metrics.
    #[schemars(transform = rules::label())]
    pub name: String,
    /// Absolute base URL, for example `https://api.example.com/v2`. The `url` of a tool is appended to it.
    #[schemars(length(max = 1024), transform = rules::matches(
        "^https?://[^/?#{}@ ]+(/[^?#{} ]*)?$",
        "must be an absolute http or https URL without query and variables, for example 'https://api.example.com/v2'"
    ))]
    pub url: String,
    /// The credential sent with each request, from a Secret of the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    /// Headers sent with each request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list_map(&["name"], 32))]
    pub headers: Vec<Header>,
    /// Time for one call.
    #[serde(default = "default_backend_timeout")]
    #[schemars(transform = rules::span("100ms", "1h", "30s"))]
    pub timeout: Span,
    /// Calls at one time from one shard; past it a short queue, then an error.
    #[serde(default = "default_backend_in_flight")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_in_flight_requests: i32,
}

fn default_backend_timeout() -> Span {
    Span::from("30s")
}

fn default_backend_in_flight() -> i32 {
    64
}

/// Exactly one of its members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = rules::rule(
    "has(self.bearer) != has(self.basic)",
    "set exactly one of `bearer` and `basic`"
))]
pub struct Authorization {
    /// `Authorization: Bearer …`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer: Option<Bearer>,
    /// `Authorization: Basic …`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
}

/// A token from a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bearer {
    /// Which key of which Secret.
    pub secret_key_ref: KeyRef,
}

/// User name and password from a Secret of type `kubernetes.io/basic-auth`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Basic {
    /// Name of the Secret; its keys are `username` and `password`.
    #[schemars(transform = rules::object_name())]
    pub secret_name: String,
}

/// One key of a Secret or ConfigMap of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRef {
    /// Name of the object.
    #[schemars(transform = rules::object_name())]
    pub name: String,
    /// Key inside it.
    #[schemars(transform = rules::object_key())]
    pub key: String,
}

/// A request header: exactly one of `value` and `valueFrom`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = rules::rule(
    "has(self.value) != has(self.valueFrom)",
    "set exactly one of `value` and `valueFrom`; a credential belongs in `valueFrom.secretKeyRef`"
))]
pub struct Header {
    /// Field name, for example `X-Client`.
    #[schemars(length(max = 128), transform = rules::matches(
        "^[A-Za-z0-9!#$%&*+.^_`|~-]+$",
        "must be the name of a header: letters, digits and '-'"
    ))]
    pub name: String,
    /// Sent as it is. Not for credentials: whoever reads this resource reads them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
    /// Taken from a Secret of the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_from: Option<HeaderSource>,
}

/// Where a header's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderSource {
    /// Which key of which Secret.
    pub secret_key_ref: KeyRef,
}

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

/// One block of content (MCP `ContentBlock`); which fields it carries follows from `type`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = rules::rule(
    "self.type == 'text' ? has(self.text) : self.type in ['image', 'audio'] ? has(self.data) && has(self.mimeType) : \
     self.type == 'resource' ? has(self.resource) : has(self.uri) && has(self.name)",
    "a block must carry what its `type` needs: text → `text`; image, audio → `data` and `mimeType`; resource → `resource`; resource_link → `uri` and `name`"
))]
pub struct ContentBlock {
    /// What it holds: text, image, audio, resource (embedded) or resource_link (named).
    #[serde(rename = "type", default)]
    pub kind: ContentType,
    /// Of `text`: the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262_144))]
    pub text: Option<String>,
    /// Of `image` and `audio`: Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1_048_576))]
    pub data: Option<String>,
    /// Of `image`, `audio` and `resource_link`: media type, for example `image/png`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub mime_type: Option<String>,
    /// Of `resource`: the embedded contents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<EmbeddedResource>,
    /// Of `resource_link`: URI of the resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub uri: Option<String>,
    /// Of `resource_link`: name for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub name: Option<String>,
    /// Of `resource_link`: name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub title: Option<String>,
    /// Of `resource_link`: for the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub description: Option<String>,
    /// For whom it is, and how much it matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
}

/// What kind of content a block holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContentType {
    /// Plain text.
    #[default]
    Text,
    /// A picture.
    Image,
    /// A sound.
    Audio,
    /// A resource, embedded.
    Resource,
    /// A resource, named.
    ResourceLink,
}

/// Contents of an embedded resource: `text` or `blob`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = rules::rule("has(self.text) != has(self.blob)", "set exactly one of `text` and `blob`"))]
pub struct EmbeddedResource {
    /// URI of the resource.
    #[schemars(length(min = 1, max = 2048))]
    pub uri: String,
    /// Media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub mime_type: Option<String>,
    /// Contents as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262_144))]
    pub text: Option<String>,
    /// Contents as Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1_048_576))]
    pub blob: Option<String>,
}

/// For whom something is, and how much it matters (MCP `Annotations`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Annotations {
    /// Who it is for: user, assistant or both.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list_set(2))]
    pub audience: Vec<Role>,
    /// How much it matters, from 0 (optional) to 1 (needed), quoted, for example `"0.8"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), transform = rules::matches(
        r"^(0(\.[0-9]{1,9})?|1(\.0{1,9})?)$",
        "must be a number from 0 to 1, quoted, for example \"0.8\""
    ))]
    pub priority: Option<String>,
    /// RFC 3339 time, for example `2026-07-28T12:00:00Z`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), transform = rules::matches(
        r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$",
        "must be an RFC 3339 time, for example '2026-07-28T12:00:00Z'"
    ))]
    pub last_modified: Option<String>,
}

/// Who speaks or listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// A call to a REST API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    transform = rules::rule(
        "has(self.backend) ? self.url.startsWith('/') : self.url.matches('^https?://[^/?#{}@]+(([/?]|[{][/?]).*)?$')",
        "`url` must be absolute with a literal host, for example 'https://api.example.com/items/{id}', or start with '/' when `backend` names the host"
    ),
    transform = rules::rule(
        "!self.url.contains('{+') && !self.url.contains('{#')",
        "use '{name}', '{/name}' or '{?name}': '{+name}' and '{#name}' would let a caller rewrite the path"
    ),
    transform = rules::rule(
        "!has(self.body) || self.method in ['POST', 'PUT', 'PATCH']",
        "`body` may only be set with method POST, PUT or PATCH: set `method`, or remove `body`"
    )
)]
pub struct Http {
    /// An entry of `catalog.backends`, which gives address and credential. Unset: `url` is absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub backend: Option<String>,
    /// Request method: GET, POST, PUT, PATCH or DELETE.
    #[serde(default)]
    pub method: Method,
    /// RFC 6570 template of the arguments, for example `/queues/{queue}{?limit}`. Arguments are encoded by construction, and the
    /// host is never a variable.
    #[schemars(length(min = 1, max = 4096))]
    pub url: String,
    /// Headers sent with the request, beside those of the backend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list_map(&["name"], 32))]
    pub headers: Vec<Header>,
    /// Request body, for POST, PUT and PATCH.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
    /// How the response becomes a result.
    #[serde(default)]
    pub response: Response,
    /// Time for one call; by default the backend's, or 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = rules::span("100ms", "1h", "3s"))]
    pub timeout: Option<Span>,
}

/// HTTP request methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// RFC 9110, 9.3.1.
    #[default]
    Get,
    /// RFC 9110, 9.3.3.
    Post,
    /// RFC 9110, 9.3.4.
    Put,
    /// RFC 5789.
    Patch,
    /// RFC 9110, 9.3.5.
    Delete,
}

/// A request body: exactly one of its members, with `{argument}` substituted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = rules::one_member())]
pub struct Body {
    /// A JSON value, sent as `application/json`. A string that is `"{x}"` alone becomes the argument with its type; an absent argument
    /// drops its member.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = rules::any_value())]
    pub json: Option<Value>,
    /// Fields sent as `application/x-www-form-urlencoded`; values are templates.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = rules::string_map(64, 4096))]
    pub form: Option<BTreeMap<String, String>>,
    /// Text template, sent as `text/plain` unless a header says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536))]
    pub text: Option<String>,
}

/// How a response becomes a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Response {
    /// RFC 9535 query of a JSON response, for example `$.ticket`; what it finds becomes `structuredContent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub select: Option<String>,
    /// Text of the result, with `{member}` of what was selected; by default the response, or what was selected, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub text: Option<String>,
    /// The largest response that is read, as a quantity; a larger one is an error.
    #[schemars(transform = rules::size("1Ki", "64Mi"))]
    pub max_size: Size,
}

impl Default for Response {
    fn default() -> Self {
        Self { select: None, text: None, max_size: Size::from("1Mi") }
    }
}

/// A resource: exactly one of `static` and `http`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = rules::rule(
    "has(self.static) != has(self.http)",
    "set exactly one of `static` and `http`: it is where the contents are"
))]
pub struct Resource {
    /// Unique in the catalog, for example `docs://handbook`.
    #[schemars(length(min = 1, max = 2048))]
    pub uri: String,
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
    /// Media type, for example `text/markdown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub mime_type: Option<String>,
    /// Pictures for a user interface.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list(8))]
    pub icons: Vec<Icon>,
    /// For whom it is, and how much it matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
    /// Contents kept here or in a ConfigMap.
    #[serde(rename = "static", skip_serializing_if = "Option::is_none")]
    pub fixed: Option<StaticResource>,
    /// Contents fetched from a REST API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
}

/// Contents kept in the manifest or a ConfigMap: exactly one of its members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = rules::rule(
    "[has(self.text), has(self.blob), has(self.configMapKeyRef)].filter(x, x).size() == 1",
    "set exactly one of `text`, `blob` and `configMapKeyRef`"
))]
pub struct StaticResource {
    /// Contents as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262_144))]
    pub text: Option<String>,
    /// Contents as Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1_048_576))]
    pub blob: Option<String>,
    /// Contents in a key of a ConfigMap of the same namespace; a key of `binaryData` becomes a blob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
}

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// A key of a ConfigMap of the same namespace. It holds tools, resources and prompts in the shape of this block, as YAML or
    /// JSON, up to 1 MiB. It may name backends, not Secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
}
