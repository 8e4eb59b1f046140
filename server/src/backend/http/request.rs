//! The request of a call: everything that can be checked is checked when the catalog is loaded.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderName, InvalidHeaderValue,
};
use mcp_crds::catalog::template::{FormTemplate, JsonTemplate, TextTemplate, UrlTemplate, UrlTemplateError};
use mcp_crds::catalog::{
    self as compiled, CompiledAuthorization, CompiledBackend, CompiledHeader, CompiledHttp, CredentialFile, Method, address,
};
use reqwest::Url;
use serde_json::{Map, Value};

use crate::backend::credentials::Secret;
use crate::backend::{CallError, Credentials};

/// What an `http` answer lacks to be called. The compiler of catalogs refuses it first.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRequest {
    /// The URL.
    #[error(transparent)]
    Url(#[from] UrlTemplateError),
    /// A host that is never called.
    #[error("{host} is {why}")]
    Host {
        /// The host.
        host: String,
        /// Why not.
        why: &'static str,
    },
    /// The name of a header.
    #[error("header {name:?} has an invalid name")]
    HeaderName {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: InvalidHeaderName,
    },
    /// The value of a header.
    #[error("header {name} has an invalid value")]
    HeaderValue {
        /// Its name.
        name: HeaderName,
        /// Why.
        #[source]
        source: InvalidHeaderValue,
    },
    /// The query of the response.
    #[error("{query:?} is not an RFC 9535 query")]
    Query {
        /// The query.
        query: String,
        /// Why.
        #[source]
        source: serde_json_path::ParseError,
    },
}

#[derive(Debug)]
pub(super) struct RequestTemplate {
    method: reqwest::Method,
    url: UrlTemplate,
    /// Literal headers, ready to send.
    headers: HeaderMap,
    /// Headers whose value is a credential.
    secret_headers: Vec<(HeaderName, CredentialFile)>,
    authorization: Option<CompiledAuthorization>,
    body: Option<BodyTemplate>,
    credentials: Arc<Credentials>,
}

#[derive(Debug)]
enum BodyTemplate {
    Json(JsonTemplate),
    Form(FormTemplate),
    Text(TextTemplate),
}

impl RequestTemplate {
    pub(super) fn new(
        http: &CompiledHttp,
        backend: Option<&CompiledBackend>,
        credentials: Arc<Credentials>,
    ) -> Result<Self, InvalidRequest> {
        let url = UrlTemplate::parse(&http.url)?;
        check_host(&url)?;
        let body = http.body.as_ref().and_then(BodyTemplate::new);
        let mut template = Self {
            method: method(http.method),
            url,
            headers: HeaderMap::new(),
            secret_headers: Vec::new(),
            authorization: backend.and_then(|backend| backend.authorization.clone()),
            body,
            credentials,
        };
        template.headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.5"));
        if let Some(body) = &template.body {
            template.headers.insert(CONTENT_TYPE, HeaderValue::from_static(body.media_type()));
        }
        for header in backend.into_iter().flat_map(|backend| &backend.headers).chain(&http.headers) {
            template.add_header(header)?;
        }
        Ok(template)
    }

    /// `scheme://host[:port]`.
    pub(super) fn origin(&self) -> &str {
        self.url.origin()
    }

    /// The request with these arguments and the credentials of this moment.
    pub(super) fn expand(&self, backend: &str, arguments: &Map<String, Value>) -> Result<reqwest::Request, CallError> {
        let url = self.url.expand(arguments)?;
        // What the template makes is a URL by construction; should the parser of the client ever differ, the call fails
        // here and nothing is sent.
        let url = Url::parse(&url).map_err(|_| CallError::Interrupted { backend: backend.to_owned() })?;
        let mut request = reqwest::Request::new(self.method.clone(), url);
        *request.headers_mut() = self.headers.clone();
        for (name, file) in &self.secret_headers {
            let value = self.credential(backend, file, |secret| secret.as_bytes().to_vec())?;
            request.headers_mut().insert(name, value);
        }
        match &self.authorization {
            Some(CompiledAuthorization::Bearer(file)) => {
                let value = self.credential(backend, file, |token| [b"Bearer ".as_slice(), token.as_bytes()].concat())?;
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            Some(CompiledAuthorization::Basic { username, password }) => {
                let name = self.secret(backend, username)?;
                let value = self.credential(backend, password, |password| {
                    let pair = [name.as_bytes(), b":", password.as_bytes()].concat();
                    format!("Basic {}", STANDARD.encode(pair)).into_bytes()
                })?;
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            None => {}
        }
        if let Some(body) = self.body.as_ref().and_then(|body| body.expand(arguments)) {
            *request.body_mut() = Some(body.into());
        }
        Ok(request)
    }

    /// A header of a tool replaces that of its backend.
    fn add_header(&mut self, header: &CompiledHeader) -> Result<(), InvalidRequest> {
        let name = HeaderName::try_from(&header.name)
            .map_err(|source| InvalidRequest::HeaderName { name: header.name.clone(), source })?;
        self.headers.remove(&name);
        self.secret_headers.retain(|(other, _)| *other != name);
        match &header.value {
            compiled::HeaderValue::Literal(value) => {
                let value =
                    HeaderValue::try_from(value).map_err(|source| InvalidRequest::HeaderValue { name: name.clone(), source })?;
                self.headers.insert(name, value);
            }
            compiled::HeaderValue::Credential(file) => self.secret_headers.push((name, file.clone())),
        }
        Ok(())
    }

    fn secret(&self, backend: &str, file: &CredentialFile) -> Result<Secret, CallError> {
        self.credentials.get(file).ok_or_else(|| refused(backend, file, "is missing"))
    }

    /// A header value made of a credential. What cannot be sent is named by its Secret and key, never shown.
    fn credential(
        &self,
        backend: &str,
        file: &CredentialFile,
        value: impl FnOnce(&Secret) -> Vec<u8>,
    ) -> Result<HeaderValue, CallError> {
        let secret = self.secret(backend, file)?;
        if secret.as_bytes().is_empty() {
            return Err(refused(backend, file, "is empty"));
        }
        let mut value = HeaderValue::try_from(value(&secret))
            .map_err(|_| refused(backend, file, "holds bytes that no header can carry, such as a line break"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn refused(backend: &str, file: &CredentialFile, problem: &'static str) -> CallError {
    tracing::warn!(backend, file = %file.0, problem, "credential");
    let (secret, key) = file.secret_and_key().unwrap_or((&file.0, ""));
    CallError::Credential { backend: backend.to_owned(), secret: secret.to_owned(), key: key.to_owned(), problem }
}

/// Addresses that are written as such never pass the resolver, so they are refused here, in the spelling of the parser
/// that will connect.
fn check_host(url: &UrlTemplate) -> Result<(), InvalidRequest> {
    let host = Url::parse(url.origin()).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let why = if host.is_empty() { Some("not a host") } else { address::forbidden_host(&host) };
    match why {
        Some(why) => Err(InvalidRequest::Host { host, why }),
        None => Ok(()),
    }
}

fn method(method: Method) -> reqwest::Method {
    match method {
        Method::Get => reqwest::Method::GET,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Patch => reqwest::Method::PATCH,
        Method::Delete => reqwest::Method::DELETE,
    }
}

// === impl BodyTemplate ===

impl BodyTemplate {
    fn new(body: &compiled::Body) -> Option<Self> {
        let json = || body.json.as_ref().map(|json| Self::Json(JsonTemplate::parse(json)));
        let form = || body.form.as_ref().map(|form| Self::Form(FormTemplate::parse(form)));
        let text = || body.text.as_ref().map(|text| Self::Text(TextTemplate::parse(text)));
        json().or_else(form).or_else(text)
    }

    fn media_type(&self) -> &'static str {
        match self {
            Self::Json(_) => "application/json",
            Self::Form(_) => "application/x-www-form-urlencoded",
            Self::Text(_) => "text/plain; charset=utf-8",
        }
    }

    fn expand(&self, arguments: &Map<String, Value>) -> Option<String> {
        match self {
            Self::Json(template) => template.expand(arguments).map(|value| value.to_string()),
            Self::Form(template) => Some(template.expand(arguments)),
            Self::Text(template) => Some(template.expand(arguments)),
        }
    }
}
