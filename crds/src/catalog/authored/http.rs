//! Calls to REST APIs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Header;
use crate::duration::Span;
use crate::quantity::Size;
use crate::rules;

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
