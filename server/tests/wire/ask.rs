//! A request as bytes: what a good client sends, and then what is changed in it.

use serde_json::{Value, json};

use crate::harness::{self, MODERN};

/// The id of every request that does not say another.
pub const ID: u64 = 7;
/// Any page that may not call.
pub const FOREIGN: &str = "https://evil.example.com";
/// The page that may.
pub const ALLOWED: &str = "https://chat.example.com";

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    line: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    /// Whether `Content-Length` is written.
    length: bool,
}

impl Ask {
    /// Without a body.
    pub fn bare(method: &str) -> Self {
        Self { line: format!("{method} /mcp HTTP/1.1"), headers: vec![], body: vec![], length: false }.with("host", "localhost")
    }

    /// A body for either era.
    pub fn post(body: impl Into<Vec<u8>>) -> Self {
        let mut ask = Self::bare("POST").with("content-type", "application/json");
        ask = ask.with("accept", "application/json, text/event-stream");
        Self { body: body.into(), length: true, ..ask }
    }

    /// A modern request with all that it needs.
    pub fn modern(method: &str, params: Value) -> Self {
        let (headers, body) = harness::modern(method, params);
        let mut body: Value = serde_json::from_str(&body).unwrap();
        body["id"] = json!(ID);
        headers.into_iter().fold(Self::post(body.to_string()), |ask, (name, value)| ask.with(&name, value))
    }

    /// A modern body with its version header, whatever is in it.
    pub fn modern_body(body: impl Into<Vec<u8>>) -> Self {
        Self::post(body).with("mcp-protocol-version", MODERN)
    }

    /// A legacy request of a session.
    pub fn legacy(session: &str, method: &str, params: &Value) -> Self {
        Self::in_session(session, json!({"jsonrpc": "2.0", "id": ID, "method": method, "params": params}).to_string())
    }

    /// Any body in a session.
    pub fn in_session(session: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::post(body).with("mcp-session-id", session)
    }

    /// The stream of a session.
    pub fn get(session: &str) -> Self {
        Self::bare("GET").with("accept", "text/event-stream").with("mcp-session-id", session)
    }

    pub fn initialize(version: &str) -> Self {
        Self::post(
            json!({"jsonrpc": "2.0", "id": ID, "method": "initialize", "params": {
                "protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}})
            .to_string(),
        )
    }

    /// Another first line.
    pub fn line(self, line: &str) -> Self {
        Self { line: line.to_owned(), ..self }
    }

    /// A header instead of the one of this name.
    pub fn with(self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.without(name).and(name, value)
    }

    /// One more header.
    pub fn and(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(given, _)| !given.eq_ignore_ascii_case(name));
        self
    }

    /// The body in chunks, as they are given; without a `Content-Length`.
    pub fn chunks(self, chunks: impl Into<Vec<u8>>) -> Self {
        Self { body: chunks.into(), length: false, ..self }.with("transfer-encoding", "chunked")
    }

    /// Another body under the same head.
    pub fn body_of(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// The body that is sent.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}\r\n", self.line).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        if self.length && !self.headers.iter().any(|(name, _)| name == "content-length") {
            bytes.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A JSON-RPC request.
pub fn request(method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": ID, "method": method, "params": params}).to_string()
}
