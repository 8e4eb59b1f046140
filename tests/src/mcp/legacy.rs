//! A client of MCP 2025-11-25 (basic/lifecycle, basic/transports): initialize, then requests of a session.

use reqwest::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::{Era, Reply};
use crate::claim_eq;
use crate::failure::{Failure, Outcome, While as _};
use crate::reach::Endpoint;

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    endpoint: Endpoint,
    headers: HeaderMap,
    /// What `initialize` answered.
    pub server: Value,
}

impl Session {
    /// Opens a session: `initialize`, then `notifications/initialized`. A refusal is an answer, not an error.
    ///
    /// # Errors
    /// When no HTTP answer comes, or one that breaks the protocol.
    pub async fn try_open(endpoint: &Endpoint) -> Outcome<Result<Self, Reply>> {
        let params = json!({
            "protocolVersion": Era::Legacy.version(),
            "capabilities": {},
            "clientInfo": {"name": "mcp-tests", "version": env!("CARGO_PKG_VERSION")},
        });
        let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
        let reply = Reply::to(endpoint, HeaderMap::new(), &initialize).await?;
        if reply.status != 200 {
            return Ok(Err(reply));
        }
        let server = reply.result()?.clone();
        claim_eq!(server["protocolVersion"], Era::Legacy.version(), "protocol version of {server}");
        let id = reply.header("mcp-session-id").ok_or_else(|| Failure::new("initialize gave no session id"))?;
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("mcp-session-id"), HeaderValue::from_str(id)?);
        headers.insert(HeaderName::from_static("mcp-protocol-version"), HeaderValue::from_static(Era::Legacy.version()));
        let session = Self { endpoint: endpoint.clone(), headers, server };
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let reply = Reply::to(endpoint, session.headers.clone(), &initialized).await?;
        if reply.status != 202 {
            return Ok(Err(reply));
        }
        Ok(Ok(session))
    }

    /// Opens a session.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn open(endpoint: &Endpoint) -> Outcome<Self> {
        let opened = Self::try_open(endpoint).await?;
        opened.map_err(|reply| Failure::new(format!("initialize: HTTP {} {}", reply.status, reply.body)))
    }

    /// The same session at another endpoint: any shard serves any session.
    #[must_use]
    pub fn at(&self, endpoint: &Endpoint) -> Self {
        Self { endpoint: endpoint.clone(), ..self.clone() }
    }

    /// The headers of its requests.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When no HTTP answer comes.
    pub async fn request(&self, method: &str, params: Value) -> Outcome<Reply> {
        let message = json!({"jsonrpc": "2.0", "id": 2, "method": method, "params": params});
        Reply::to(&self.endpoint, self.headers.clone(), &message).await
    }

    /// The tools, by `tools/list`.
    ///
    /// # Errors
    /// When no HTTP answer comes.
    pub async fn list_tools(&self) -> Outcome<Reply> {
        self.request("tools/list", json!({})).await
    }

    /// Calls a tool.
    ///
    /// # Errors
    /// When no HTTP answer comes.
    pub async fn call(&self, tool: &str, arguments: Value) -> Outcome<Reply> {
        self.request("tools/call", json!({"name": tool, "arguments": arguments})).await
    }

    /// Asks for the session's stream (Listening for Messages from the Server).
    pub(super) async fn listen(&self) -> Outcome<reqwest::Response> {
        let request = self.endpoint.http.get(self.endpoint.url.clone()).headers(self.headers.clone());
        request.header(ACCEPT, "text/event-stream").send().await.doing("opening a stream by GET")
    }
}
