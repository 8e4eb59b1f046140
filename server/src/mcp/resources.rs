//! Resources (MCP 2026-07-28, server/resources).

use mcp_crds::catalog::{Icon, ResourceDefinition, ResourceTemplateDefinition};
use serde::Serialize;

use super::content::{Annotations, InvalidContent, ResourceContents};

/// MCP `Resource`, as `resources/list` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource<'a> {
    /// Unique in the catalog.
    pub uri: &'a str,
    /// For programs.
    pub name: &'a str,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<&'a str>,
    /// For the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'a str>,
    /// Media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<&'a str>,
    /// Bytes, before any encoding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Pictures.
    #[serde(skip_serializing_if = "<[Icon]>::is_empty")]
    pub icons: &'a [Icon],
    /// For whom it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
}

/// MCP `ResourceTemplate`, as `resources/templates/list` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceTemplate<'a> {
    /// Unique in the catalog.
    pub uri_template: &'a str,
    /// For programs.
    pub name: &'a str,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<&'a str>,
    /// For the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'a str>,
    /// Media type of all that match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<&'a str>,
    /// Pictures.
    #[serde(skip_serializing_if = "<[Icon]>::is_empty")]
    pub icons: &'a [Icon],
    /// For whom they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
}

/// MCP `ReadResourceResult`. The adapters of the eras add what is theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadResourceResult {
    /// Never empty.
    pub contents: Vec<ResourceContents>,
}

impl<'a> TryFrom<&'a ResourceDefinition> for Resource<'a> {
    type Error = InvalidContent;

    fn try_from(definition: &'a ResourceDefinition) -> Result<Self, InvalidContent> {
        Ok(Self {
            uri: &definition.uri,
            name: &definition.name,
            title: definition.title.as_deref(),
            description: definition.description.as_deref(),
            mime_type: definition.mime_type.as_deref(),
            size: definition.size,
            icons: &definition.icons,
            annotations: definition.annotations.as_ref().map(Annotations::try_from).transpose()?,
        })
    }
}

impl<'a> TryFrom<&'a ResourceTemplateDefinition> for ResourceTemplate<'a> {
    type Error = InvalidContent;

    fn try_from(definition: &'a ResourceTemplateDefinition) -> Result<Self, InvalidContent> {
        Ok(Self {
            uri_template: &definition.uri_template,
            name: &definition.name,
            title: definition.title.as_deref(),
            description: definition.description.as_deref(),
            mime_type: definition.mime_type.as_deref(),
            icons: &definition.icons,
            annotations: definition.annotations.as_ref().map(Annotations::try_from).transpose()?,
        })
    }
}
