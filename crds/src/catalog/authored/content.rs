//! Content blocks, MCP's own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

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
