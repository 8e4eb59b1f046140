//! `http`: a templated request to a REST API.
//!
//! ```text
//! arguments → request (URL, headers, credential, body) → gate → send → read, bounded → response → result
//! ```
//!
//! Redirects are not followed, proxies of the environment are not used, nothing is retried. The time of a call is its own
//! or that of the request it serves, whichever ends first, and includes the queue.

mod failure;
mod request;
mod response;
mod select;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use mcp_crds::catalog::{CompiledBackend, CompiledHttp};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

pub use self::request::InvalidRequest;
use self::request::RequestTemplate;
use self::response::{MediaType, Received, Shape};
use super::budget::{Budget, Held};
use super::gate::Gate;
use super::metrics::BackendMetrics;
use super::{CallError, Clients, Credentials, ErrorKind};
use crate::mcp::content::ResourceContents;
use crate::mcp::tools::CallToolResult;

/// Calls at one time to a URL that belongs to no named backend.
const DEFAULT_IN_FLIGHT: u32 = 64;
/// What is read of the body of an error.
const ERROR_BODY_BYTES: usize = 4 << 10;

/// A tool answered by a REST API.
#[derive(Debug)]
pub struct HttpTool {
    call: Call,
    /// Whether a result without `select` carries structured content too, because the tool has an output schema.
    structured: bool,
}

/// A resource, or all those of a template, whose contents come from a REST API.
#[derive(Debug)]
pub struct HttpResource {
    call: Call,
    media_type: Option<String>,
}

#[derive(Debug)]
struct Call {
    /// How callers know the backend: by name, or not at all.
    backend: String,
    request: RequestTemplate,
    shape: Shape,
    max_size: usize,
    timeout: Duration,
    gate: Arc<Gate>,
    answers: Arc<Budget>,
    http: reqwest::Client,
}

/// Counts a call that is dropped before its end: its caller went away.
struct Unfinished<'a>(Option<&'a BackendMetrics>);

impl HttpTool {
    /// Prepares a tool: templates parsed, headers checked, metrics resolved.
    ///
    /// # Errors
    /// When a template, header or query is malformed, or the host is forbidden.
    pub fn new(
        http: &CompiledHttp,
        backend: Option<&CompiledBackend>,
        structured: bool,
        credentials: Arc<Credentials>,
        clients: &Clients,
    ) -> Result<Self, InvalidRequest> {
        Ok(Self { call: Call::new(http, backend, credentials, clients)?, structured })
    }

    /// Calls the REST API.
    ///
    /// # Errors
    /// When the API, the way to it, or what it answered is not usable.
    pub async fn call(&self, arguments: &Map<String, Value>, deadline: Instant) -> Result<CallToolResult, CallError> {
        let use_it =
            |received: &Received| self.call.shape.tool_result(&self.call.backend, received, self.structured, self.call.max_size);
        self.call.run(arguments, deadline, use_it).await
    }
}

impl HttpResource {
    /// Prepares a resource.
    ///
    /// # Errors
    /// When a template, header or query is malformed, or the host is forbidden.
    pub fn new(
        http: &CompiledHttp,
        backend: Option<&CompiledBackend>,
        media_type: Option<String>,
        credentials: Arc<Credentials>,
        clients: &Clients,
    ) -> Result<Self, InvalidRequest> {
        Ok(Self { call: Call::new(http, backend, credentials, clients)?, media_type })
    }

    /// Fetches the contents of a URI; the values are those it was made of, if any.
    ///
    /// # Errors
    /// When the API, the way to it, or what it answered is not usable.
    pub async fn read(&self, uri: &str, values: &Map<String, Value>, deadline: Instant) -> Result<ResourceContents, CallError> {
        let use_it = |received: &Received| {
            self.call.shape.contents(&self.call.backend, received, uri, self.media_type.as_deref(), self.call.max_size)
        };
        self.call.run(values, deadline, use_it).await
    }
}

// === impl Call ===

impl Call {
    fn new(
        http: &CompiledHttp,
        backend: Option<&CompiledBackend>,
        credentials: Arc<Credentials>,
        clients: &Clients,
    ) -> Result<Self, InvalidRequest> {
        let request = RequestTemplate::new(http, backend, credentials)?;
        let (shown, label, limit) = match backend {
            Some(backend) => (format!("backend {}", backend.name), backend.name.as_str(), backend.max_in_flight_requests),
            None => ("the backend".to_owned(), request.origin(), DEFAULT_IN_FLIGHT),
        };
        Ok(Self {
            backend: shown,
            shape: Shape::new(http)?,
            max_size: usize::try_from(http.max_size).unwrap_or(usize::MAX),
            timeout: Duration::from_millis(http.timeout_ms),
            gate: clients.gate(label, limit),
            answers: clients.answers().clone(),
            http: clients.http().clone(),
            request,
        })
    }

    async fn run<T>(
        &self,
        arguments: &Map<String, Value>,
        deadline: Instant,
        use_it: impl FnOnce(&Received) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let metrics = self.gate.metrics();
        metrics.requests.inc();
        let unfinished = Unfinished(Some(metrics));
        let mut held = self.answers.hold();
        let result = self.fetch(arguments, deadline, &mut held).await.and_then(|received| use_it(&received));
        unfinished.finish(result.as_ref().err().map(CallError::kind));
        if let Err(error) = &result {
            tracing::debug!(backend = %self.backend, kind = error.kind().as_str(), %error, "call failed");
        }
        result
    }

    async fn fetch(&self, arguments: &Map<String, Value>, deadline: Instant, held: &mut Held) -> Result<Received, CallError> {
        let request = self.request.expand(&self.backend, arguments)?;
        let start = Instant::now();
        let end = deadline.min(start + self.timeout);
        let _entered = self
            .gate
            .enter(end)
            .await
            .map_err(|_| CallError::Busy { backend: self.backend.clone(), limit: self.gate.limit() })?;
        let sent = Instant::now();
        let answer = timeout_at(end, self.exchange(request, held)).await;
        self.gate.metrics().duration.observe(sent.elapsed().as_secs_f64());
        answer.unwrap_or_else(|_| Err(CallError::Timeout { backend: self.backend.clone(), after: rounded(end - start) }))
    }

    async fn exchange(&self, request: reqwest::Request, held: &mut Held) -> Result<Received, CallError> {
        let failed = |error: reqwest::Error| failure::classify(&self.backend, error);
        let mut response = self.http.execute(request).await.map_err(failed)?;
        let status = response.status();
        let backend = || self.backend.clone();
        if status.is_redirection() {
            return Err(CallError::Redirect { backend: backend(), status });
        }
        let media_type = MediaType::parse(response.headers().get(CONTENT_TYPE));
        if !status.is_success() {
            let body = read_some(&mut response, ERROR_BODY_BYTES).await;
            return Err(CallError::Status { backend: backend(), status, excerpt: media_type.excerpt(&body) });
        }
        let too_large = || CallError::TooLarge { backend: backend(), limit: self.max_size };
        if response.content_length().is_some_and(|length| length > self.max_size as u64) {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > self.max_size {
                return Err(too_large());
            }
            held.add(chunk.len()).map_err(|_| CallError::Full { backend: backend() })?;
            body.extend_from_slice(&chunk);
        }
        Ok(Received { status, media_type, body: body.freeze() })
    }
}

/// A time for people: no more than three digits.
fn rounded(time: Duration) -> Duration {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(if millis < 1000 { millis } else { millis.saturating_add(50) / 100 * 100 })
}

/// The beginning of a body; a body that breaks off is as good as a short one here.
async fn read_some(response: &mut reqwest::Response, limit: usize) -> Bytes {
    let mut body = BytesMut::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk[..chunk.len().min(limit - body.len())]);
        if body.len() == limit {
            break;
        }
    }
    body.freeze()
}

// === impl Unfinished ===

impl Unfinished<'_> {
    fn finish(mut self, error: Option<ErrorKind>) {
        if let (Some(metrics), Some(kind)) = (self.0.take(), error) {
            metrics.errors(kind).inc();
        }
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(metrics) = self.0 {
            metrics.errors(ErrorKind::Cancelled).inc();
        }
    }
}
