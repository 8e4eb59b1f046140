//! Resource templates: from a URI to what answers it.

use std::collections::BTreeMap;
use std::sync::Arc;

use mcp_crds::catalog::template::{TextTemplate, UriTemplate};
use mcp_crds::catalog::{CompiledResourceTemplate, Contents, ResourceTemplateDefinition};
use serde_json::{Map, Value};

use super::completion::Values;
use super::resource::ReadError;
use super::{Means, chain};
use crate::backend::Asking;
use crate::backend::code::Handler;
use crate::backend::http::HttpResource;
use crate::fault::Fault;
use crate::library::{Context, Handle, Read};
use crate::mcp::content::{Body, ResourceContents, Text};
use crate::mcp::resources::ReadResourceResult;

/// A resource template, ready to be read.
#[derive(Debug)]
pub struct ResourceTemplate {
    written: String,
    uri: UriTemplate,
    /// Of every variable.
    completions: BTreeMap<String, Values>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Text { text: TextTemplate, mime_type: Option<Text> },
    Http(Box<HttpResource>),
    Code { mime_type: Option<Text>, handler: Handler<Read>, handle: Handle },
}

/// All templates, the one that is asked first in front.
#[derive(Debug, Default)]
pub(super) struct Templates(Vec<Arc<ResourceTemplate>>);

/// A template that a URI was made of, and the values it was made of.
#[derive(Debug)]
pub struct Match<'a> {
    template: &'a ResourceTemplate,
    values: Map<String, Value>,
}

// === impl ResourceTemplate ===

impl ResourceTemplate {
    pub(super) fn build(template: &CompiledResourceTemplate, means: &Means<'_>) -> Result<Self, String> {
        let definition = &template.definition;
        let uri = UriTemplate::parse(&definition.uri_template).map_err(|error| error.to_string())?;
        let values = |name: &str| template.completions.get(name).map_or_else(Values::default, |values| Values::new(values));
        let completions = uri.variables().map(|name| (name.to_owned(), values(name))).collect();
        let source = match &template.contents {
            Contents::Text(text) => {
                Source::Text { text: TextTemplate::parse(text), mime_type: definition.mime_type.as_deref().map(Text::from) }
            }
            Contents::Blob(_) => return Err("a blob has no variables".to_owned()),
            Contents::Http(http) => {
                let backend = means.backend(http.backend.as_deref())?;
                let media_type = definition.mime_type.clone();
                let read = HttpResource::new(http, backend, media_type, means.credentials.clone(), means.clients);
                Source::Http(Box::new(read.map_err(|error| chain(&error))?))
            }
        };
        Ok(Self { written: definition.uri_template.clone(), uri, completions, source })
    }

    /// A resource template of the program.
    pub(crate) fn of_code(
        definition: &ResourceTemplateDefinition,
        handler: Handler<Read>,
        handle: Handle,
    ) -> Result<Self, String> {
        let written = definition.uri_template.clone();
        let uri = UriTemplate::parse(&written).map_err(|error| format!("{written}: {error}"))?;
        let completions = uri.variables().map(|name| (name.to_owned(), Values::default())).collect();
        let mime_type = definition.mime_type.as_deref().map(Text::from);
        Ok(Self { written, uri, completions, source: Source::Code { mime_type, handler, handle } })
    }

    /// What a variable is completed with; none when there is no such variable.
    pub fn completion(&self, variable: &str) -> Option<&Values> {
        self.completions.get(variable)
    }
}

// === impl Match ===

impl Match<'_> {
    /// Reads the contents, at the latest at the deadline.
    ///
    /// # Errors
    /// When they come from a REST API and it, or the way to it, failed; what it has no URL for is not there.
    ///
    /// # Cancel safety
    /// Dropping the future ends the call.
    pub async fn read(&self, uri: &str, asking: Asking<'_>) -> Result<ReadResourceResult, ReadError> {
        let contents = match &self.template.source {
            Source::Text { text, mime_type } => ResourceContents {
                uri: uri.into(),
                mime_type: mime_type.clone(),
                body: Body::Text(text.expand(&self.values).into()),
            },
            Source::Http(http) => http.read(uri, &self.values, asking.deadline).await?,
            Source::Code { mime_type, handler, handle } => {
                let context = Context::new(uri, self.values.clone(), asking, handle.clone());
                let read = handler.run(context).await.map_err(Fault::from)?;
                read.into_contents(uri, mime_type.as_ref())
            }
        };
        Ok(ReadResourceResult { contents: vec![contents] })
    }
}

// === impl Templates ===

impl Templates {
    /// Sorts them. What matches the same is refused: one of two would never be read.
    pub(super) fn new(mut templates: Vec<Arc<ResourceTemplate>>) -> Result<Self, String> {
        templates.sort_by_cached_key(|template| template.uri.rank());
        for pair in templates.windows(2) {
            if let [one, other] = pair
                && one.uri.rank() == other.uri.rank()
            {
                return Err(format!("the resource templates {} and {} match the same URIs", one.written, other.written));
            }
        }
        Ok(Self(templates))
    }

    /// The first that a URI was made of.
    pub(super) fn matching(&self, uri: &str) -> Option<Match<'_>> {
        self.0.iter().find_map(|template| template.uri.matches(uri).map(|values| Match { template, values }))
    }

    /// The one that is written so, or else the first that a URI was made of.
    pub(super) fn named(&self, uri: &str) -> Option<&ResourceTemplate> {
        let written = self.0.iter().find(|template| template.written == uri).map(AsRef::as_ref);
        written.or_else(|| self.matching(uri).map(|found| found.template))
    }
}
