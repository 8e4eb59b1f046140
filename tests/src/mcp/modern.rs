//! A client of MCP 2026-07-28 (basic/transports/streamable-http): no session, everything in each request.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::{Era, Reply};
use crate::failure::Outcome;
use crate::reach::Endpoint;

/// A client without state.
#[derive(Clone, Debug)]
pub struct Modern {
    endpoint: Endpoint,
    capabilities: Value,
}

impl Modern {
    /// A client of this endpoint.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, capabilities: json!({}) }
    }

    /// The same client, with these capabilities in each request.
    #[must_use]
    pub fn declaring(self, capabilities: Value) -> Self {
        Self { capabilities, ..self }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When no HTTP answer comes.
    pub async fn request(&self, method: &str, params: Value) -> Outcome<Reply> {
        let mut message = message(method, params);
        message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"].clone_from(&self.capabilities);
        Reply::to(&self.endpoint, headers(&message), &message).await
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
}

/// A request with its `_meta`.
pub(crate) fn message(method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": Era::Modern.version(),
        "io.modelcontextprotocol/clientInfo": {"name": "mcp-tests", "version": env!("CARGO_PKG_VERSION")},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
}

/// The headers that repeat a request's version, method and name (Request Metadata).
pub(crate) fn headers(message: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut insert = |name: &'static str, value: Option<&str>| {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    insert("mcp-protocol-version", Some(Era::Modern.version()));
    insert("mcp-method", message["method"].as_str());
    let params = &message["params"];
    insert("mcp-name", ["name", "uri", "taskId"].iter().find_map(|member| params[*member].as_str()));
    headers
}
