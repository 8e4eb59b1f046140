//! Resources.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Annotations, Http, Icon, KeyRef};
use crate::rules;

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
