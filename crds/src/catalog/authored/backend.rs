//! REST APIs: address, credential and bounds, once for each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Span;
use crate::rules;

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
