//! Content: what tools answer and prompts say (MCP 2026-07-28, server/tools, Tool Result; server/resources, Annotations).

use std::sync::Arc;

use mcp_crds::catalog::{self as authored, ContentType, Role};
use serde::{Serialize, Serializer};

/// Text or Base64 that is shared with the catalog it comes from, not copied for each answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Text(Arc<str>);

/// MCP `ContentBlock`; `T` is its texts: as authored, parsed as templates, or as sent.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum ContentBlock<T = Text> {
    /// Plain text.
    Text {
        /// The text.
        text: T,
        /// For whom it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        annotations: Option<Annotations>,
    },
    /// A picture.
    Image {
        /// Base64.
        data: T,
        /// Media type.
        mime_type: T,
        /// For whom it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        annotations: Option<Annotations>,
    },
    /// A sound.
    Audio {
        /// Base64.
        data: T,
        /// Media type.
        mime_type: T,
        /// For whom it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        annotations: Option<Annotations>,
    },
    /// A resource, embedded.
    Resource {
        /// Its contents.
        resource: ResourceContents<T>,
        /// For whom it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        annotations: Option<Annotations>,
    },
    /// A resource, named.
    ResourceLink {
        /// Where it is.
        uri: T,
        /// For programs.
        name: T,
        /// For people.
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<T>,
        /// For the model.
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<T>,
        /// Media type.
        #[serde(skip_serializing_if = "Option::is_none")]
        mime_type: Option<T>,
        /// For whom it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        annotations: Option<Annotations>,
    },
}

/// MCP `TextResourceContents` or `BlobResourceContents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceContents<T = Text> {
    /// URI of the resource.
    pub uri: T,
    /// Media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<T>,
    /// What is in it.
    #[serde(flatten)]
    pub body: Body<T>,
}

/// What is in a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Body<T = Text> {
    /// Text.
    Text(T),
    /// Base64.
    Blob(T),
}

/// MCP `Annotations`; `priority` is a number here, as on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Annotations {
    /// For whom.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audience: Vec<Role>,
    /// 0, entirely optional, to 1, required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<f64>,
    /// RFC 3339 time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

/// Why authored content cannot be served. The compiler of catalogs refuses it first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidContent {
    /// A block without the field its type needs.
    #[error("a block of type {kind} without `{field}`")]
    Missing {
        /// The type.
        kind: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A priority that is no number from 0 to 1.
    #[error("annotations.priority {0:?} is not a number from 0 to 1")]
    Priority(String),
}

// === impl ContentBlock ===

impl ContentBlock {
    /// A block of plain text.
    pub fn text(text: impl Into<Text>) -> Self {
        Self::Text { text: text.into(), annotations: None }
    }
}

impl<T> ContentBlock<T> {
    /// The same block with other texts: `uri` makes those that are URIs, `text` all others.
    pub fn map<U>(&self, text: impl Fn(&T) -> U, uri: impl Fn(&T) -> U) -> ContentBlock<U> {
        match self {
            Self::Text { text: said, annotations } => ContentBlock::Text { text: text(said), annotations: annotations.clone() },
            Self::Image { data, mime_type, annotations } => {
                ContentBlock::Image { data: text(data), mime_type: text(mime_type), annotations: annotations.clone() }
            }
            Self::Audio { data, mime_type, annotations } => {
                ContentBlock::Audio { data: text(data), mime_type: text(mime_type), annotations: annotations.clone() }
            }
            Self::Resource { resource, annotations } => ContentBlock::Resource {
                resource: ResourceContents {
                    uri: uri(&resource.uri),
                    mime_type: resource.mime_type.as_ref().map(&text),
                    body: match &resource.body {
                        Body::Text(said) => Body::Text(text(said)),
                        Body::Blob(blob) => Body::Blob(text(blob)),
                    },
                },
                annotations: annotations.clone(),
            },
            Self::ResourceLink { uri: link, name, title, description, mime_type, annotations } => ContentBlock::ResourceLink {
                uri: uri(link),
                name: text(name),
                title: title.as_ref().map(&text),
                description: description.as_ref().map(&text),
                mime_type: mime_type.as_ref().map(&text),
                annotations: annotations.clone(),
            },
        }
    }
}

impl<'a> TryFrom<&'a authored::ContentBlock> for ContentBlock<&'a str> {
    type Error = InvalidContent;

    fn try_from(block: &'a authored::ContentBlock) -> Result<Self, InvalidContent> {
        let annotations = block.annotations.as_ref().map(Annotations::try_from).transpose()?;
        let kind = match block.kind {
            ContentType::Text => "text",
            ContentType::Image => "image",
            ContentType::Audio => "audio",
            ContentType::Resource => "resource",
            ContentType::ResourceLink => "resource_link",
        };
        let need = |value: &'a Option<String>, field| value.as_deref().ok_or(InvalidContent::Missing { kind, field });
        Ok(match block.kind {
            ContentType::Text => Self::Text { text: need(&block.text, "text")?, annotations },
            ContentType::Image => {
                Self::Image { data: need(&block.data, "data")?, mime_type: need(&block.mime_type, "mimeType")?, annotations }
            }
            ContentType::Audio => {
                Self::Audio { data: need(&block.data, "data")?, mime_type: need(&block.mime_type, "mimeType")?, annotations }
            }
            ContentType::Resource => {
                let resource = block.resource.as_ref().ok_or(InvalidContent::Missing { kind, field: "resource" })?;
                let body = match &resource.text {
                    Some(text) => Body::Text(text.as_str()),
                    None => Body::Blob(need(&resource.blob, "resource.text")?),
                };
                let resource = ResourceContents { uri: resource.uri.as_str(), mime_type: resource.mime_type.as_deref(), body };
                Self::Resource { resource, annotations }
            }
            ContentType::ResourceLink => Self::ResourceLink {
                uri: need(&block.uri, "uri")?,
                name: need(&block.name, "name")?,
                title: block.title.as_deref(),
                description: block.description.as_deref(),
                mime_type: block.mime_type.as_deref(),
                annotations,
            },
        })
    }
}

// === impl Text ===

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

// === impl Annotations ===

impl TryFrom<&authored::Annotations> for Annotations {
    type Error = InvalidContent;

    fn try_from(written: &authored::Annotations) -> Result<Self, InvalidContent> {
        let priority = written
            .priority
            .as_ref()
            .map(|text| match text.parse::<f64>() {
                Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
                Ok(_) | Err(_) => Err(InvalidContent::Priority(text.clone())),
            })
            .transpose()?;
        Ok(Self { audience: written.audience.clone(), priority, last_modified: written.last_modified.clone() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_carry_their_type_and_numbers_are_numbers() {
        let annotations = authored::Annotations { priority: Some("0.8".to_owned()), ..authored::Annotations::default() };
        let annotations = Annotations::try_from(&annotations).unwrap();
        let link: ContentBlock = ContentBlock::ResourceLink {
            uri: "docs://a".into(),
            name: "a".into(),
            title: None,
            description: None,
            mime_type: Some("text/plain".into()),
            annotations: Some(annotations),
        };
        assert_eq!(
            json!(link),
            json!({"type": "resource_link", "uri": "docs://a", "name": "a", "mimeType": "text/plain",
                   "annotations": {"priority": 0.8}})
        );
        assert_eq!(json!(ContentBlock::text("hi")), json!({"type": "text", "text": "hi"}));
    }

    #[test]
    fn embedded_contents_are_text_or_blob() {
        let contents = |body: Body| ResourceContents { uri: "a://b".into(), mime_type: None, body };
        assert_eq!(json!(contents(Body::Text("t".into()))), json!({"uri": "a://b", "text": "t"}));
        assert_eq!(json!(contents(Body::Blob("Yg==".into()))), json!({"uri": "a://b", "blob": "Yg=="}));
    }

    #[test]
    fn a_block_without_what_its_type_needs_is_refused() {
        for kind in [ContentType::Text, ContentType::Image, ContentType::Audio, ContentType::Resource, ContentType::ResourceLink]
        {
            let block = authored::ContentBlock { kind, ..authored::ContentBlock::default() };
            assert!(matches!(ContentBlock::try_from(&block), Err(InvalidContent::Missing { .. })), "{kind:?}");
        }
    }

    #[test]
    fn a_priority_is_a_number_from_0_to_1() {
        for text in ["1.1", "-0.1", "NaN", "high", ""] {
            let annotations = authored::Annotations { priority: Some(text.to_owned()), ..authored::Annotations::default() };
            assert_eq!(Annotations::try_from(&annotations), Err(InvalidContent::Priority(text.to_owned())));
        }
    }
}
