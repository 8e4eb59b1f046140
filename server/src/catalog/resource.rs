//! A resource: where its contents are.

use mcp_crds::catalog::{CompiledResource, Contents, ResourceDefinition};

use serde_json::Map;

use super::{Means, chain};
use crate::backend::code::Handler;
use crate::backend::http::HttpResource;
use crate::backend::{Asking, CallError};
use crate::fault::Fault;
use crate::library::{Arguments, Context, Handle, Read};
use crate::mcp::content::{Body, ResourceContents, Text};
use crate::mcp::resources::ReadResourceResult;

/// A resource, ready to be read.
#[derive(Debug)]
pub struct Resource {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Fixed(ResourceContents),
    Http { uri: String, http: Box<HttpResource> },
    Code(Box<Coded>),
}

/// A resource of the program.
#[derive(Debug)]
struct Coded {
    uri: String,
    mime_type: Option<Text>,
    handler: Handler<Read>,
    handle: Handle,
}

/// Why a resource could not be read. The texts are for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The REST API says that it is not there: `-32602` from 2026-07-28 on, `-32002` before.
    #[error("resource not found")]
    NotFound,
    /// The REST API, or the way to it, failed: `-32603`.
    #[error("the resource cannot be read: {0}")]
    Backend(CallError),
    /// What a handler of the program says instead.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Resource {
    pub(super) fn build(resource: &CompiledResource, means: &Means<'_>) -> Result<Self, String> {
        let definition = &resource.definition;
        let fixed = |body| {
            let mime_type = definition.mime_type.as_deref().map(Text::from);
            Source::Fixed(ResourceContents { uri: definition.uri.as_str().into(), mime_type, body })
        };
        let source = match &resource.contents {
            Contents::Text(text) => fixed(Body::Text(text.as_str().into())),
            Contents::Blob(blob) => fixed(Body::Blob(blob.as_str().into())),
            Contents::Http(http) => {
                let backend = means.backend(http.backend.as_deref())?;
                let media_type = definition.mime_type.clone();
                let read = HttpResource::new(http, backend, media_type, means.credentials.clone(), means.clients);
                Source::Http { uri: definition.uri.clone(), http: Box::new(read.map_err(|error| chain(&error))?) }
            }
        };
        Ok(Self { source })
    }

    /// A resource of the program.
    pub(crate) fn of_code(definition: &ResourceDefinition, handler: Handler<Read>, handle: Handle) -> Self {
        let mime_type = definition.mime_type.as_deref().map(Text::from);
        Self { source: Source::Code(Box::new(Coded { uri: definition.uri.clone(), mime_type, handler, handle })) }
    }

    /// Reads the contents, at the latest at the deadline.
    ///
    /// # Errors
    /// When they come from a REST API or a handler of the program, and it, or the way to it, failed.
    ///
    /// # Cancel safety
    /// Dropping the future ends the call.
    pub async fn read(&self, asking: Asking<'_>) -> Result<ReadResourceResult, ReadError> {
        let contents = match &self.source {
            Source::Fixed(contents) => contents.clone(),
            Source::Http { uri, http } => http.read(uri, &Map::new(), asking.deadline).await?,
            Source::Code(coded) => {
                let context = Context::new(&coded.uri, Arguments::new(), asking, coded.handle.clone());
                let read = coded.handler.run(context).await.map_err(Fault::from)?;
                read.into_contents(&coded.uri, coded.mime_type.as_ref())
            }
        };
        Ok(ReadResourceResult { contents: vec![contents] })
    }
}

impl From<CallError> for ReadError {
    fn from(error: CallError) -> Self {
        // Values that make no URL name nothing the API could have.
        let absent = error.is_not_found() || matches!(error, CallError::Arguments(_));
        if absent { Self::NotFound } else { Self::Backend(error) }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn what_the_api_does_not_have_is_not_found() {
        let status = |status| CallError::Status { backend: "the backend".to_owned(), status, excerpt: String::new() };
        for absent in [StatusCode::NOT_FOUND, StatusCode::GONE] {
            assert_eq!(ReadError::from(status(absent)), ReadError::NotFound);
        }
        let forbidden = ReadError::from(status(StatusCode::FORBIDDEN));
        assert_eq!(forbidden.to_string(), "the resource cannot be read: the backend answered 403 Forbidden");
    }
}
