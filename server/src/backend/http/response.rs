//! From the answer of a REST API to content.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use mcp_crds::catalog::CompiledHttp;
use mcp_crds::catalog::template::TextTemplate;
use serde_json::{Map, Value};

use super::request::InvalidRequest;
use super::select::{Select, Unselected};
use crate::backend::CallError;
use crate::mcp::content::{Body, ContentBlock, ResourceContents};
use crate::mcp::tools::CallToolResult;

/// What a caller is shown of the body of an error, characters.
const EXCERPT_CHARS: usize = 500;

/// A complete answer.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) status: StatusCode,
    pub(super) media_type: MediaType,
    pub(super) body: Bytes,
}

/// `Content-Type`: type and subtype in lower case, and whether the text is Latin-1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MediaType {
    essence: String,
    latin1: bool,
}

/// How an answer becomes a result.
#[derive(Debug)]
pub(super) struct Shape {
    select: Option<Select>,
    text: Option<TextTemplate>,
}

impl Shape {
    pub(super) fn new(http: &CompiledHttp) -> Result<Self, InvalidRequest> {
        Ok(Self {
            select: http.select.as_deref().map(Select::new).transpose()?,
            text: http.text.as_deref().map(TextTemplate::parse),
        })
    }

    /// The result of a tool. What `select` finds becomes structured content; so does the whole answer when the tool has an
    /// output schema but no `select`. The text is `text`, or else what was selected, or else the answer as it came: an
    /// image or a sound as its own kind of block.
    pub(super) fn tool_result(
        &self,
        backend: &str,
        received: &Received,
        structured: bool,
        max_size: usize,
    ) -> Result<CallToolResult, CallError> {
        let Some(selected) = self.selected(backend, received, structured, max_size)? else {
            let block = match &self.text {
                Some(text) => ContentBlock::text(text.expand(&Map::new())),
                None => received.block(backend)?,
            };
            return Ok(CallToolResult { content: vec![block], structured_content: None, is_error: false });
        };
        let text = self.text_of(&selected);
        let structured_content = (structured || self.select.is_some()).then_some(selected);
        Ok(CallToolResult { content: vec![ContentBlock::text(text)], structured_content, is_error: false })
    }

    /// The contents of a resource: `text`, or else what was selected, or else the answer as it came.
    pub(super) fn contents(
        &self,
        backend: &str,
        received: &Received,
        uri: &str,
        media_type: Option<&str>,
        max_size: usize,
    ) -> Result<ResourceContents, CallError> {
        let of_answer = (!received.media_type.essence.is_empty()).then_some(received.media_type.essence.as_str());
        let mime_type = media_type.or(of_answer).map(Into::into);
        let body = match (self.selected(backend, received, false, max_size)?, &self.text) {
            (Some(selected), _) => Body::Text(self.text_of(&selected).into()),
            (None, Some(text)) => Body::Text(text.expand(&Map::new()).into()),
            (None, None) => match received.text() {
                Some(text) => Body::Text(text.into()),
                None => Body::Blob(STANDARD.encode(&received.body).into()),
            },
        };
        Ok(ResourceContents { uri: uri.into(), mime_type, body })
    }

    /// The JSON the result is made of; none when nothing of it is needed.
    fn selected(
        &self,
        backend: &str,
        received: &Received,
        structured: bool,
        max_size: usize,
    ) -> Result<Option<Value>, CallError> {
        let needs_members = self.text.as_ref().is_some_and(|text| !text.variables().is_empty());
        if self.select.is_none() && !needs_members && !structured {
            return Ok(None);
        }
        // Whatever the media type says: there are APIs that send JSON as text.
        let value: Value =
            serde_json::from_slice(&received.body).map_err(|_| CallError::NotJson { backend: backend.to_owned() })?;
        let Some(select) = &self.select else { return Ok(Some(value)) };
        select.apply(&value, max_size).map(Some).map_err(|reason| match reason {
            Unselected::Missing => CallError::NothingSelected { backend: backend.to_owned(), query: select.query().to_owned() },
            Unselected::TooLarge => CallError::TooLarge { backend: backend.to_owned(), limit: max_size },
        })
    }

    fn text_of(&self, selected: &Value) -> String {
        match (&self.text, selected) {
            (Some(text), Value::Object(members)) => text.expand(members),
            (Some(text), _) => text.expand(&Map::new()),
            (None, Value::String(text)) => text.clone(),
            (None, value) => value.to_string(),
        }
    }
}

// === impl Received ===

impl Received {
    fn block(&self, backend: &str) -> Result<ContentBlock, CallError> {
        if self.body.is_empty() {
            return Ok(ContentBlock::text(self.status.to_string()));
        }
        if let Some(text) = self.text() {
            return Ok(ContentBlock::text(text));
        }
        let mime_type = self.media_type.essence.as_str();
        let data = || STANDARD.encode(&self.body).into();
        match mime_type.split('/').next() {
            Some("image") => Ok(ContentBlock::Image { data: data(), mime_type: mime_type.into(), annotations: None }),
            Some("audio") => Ok(ContentBlock::Audio { data: data(), mime_type: mime_type.into(), annotations: None }),
            _ => {
                let media_type = if mime_type.is_empty() { "binary data".to_owned() } else { mime_type.to_owned() };
                Err(CallError::MediaType { backend: backend.to_owned(), media_type })
            }
        }
    }

    /// The body as text, when it is one.
    fn text(&self) -> Option<String> {
        if self.media_type.is_text() {
            return Some(self.media_type.decode(&self.body));
        }
        // A type that says nothing: trust the bytes.
        let unknown = matches!(self.media_type.essence.as_str(), "" | "application/octet-stream");
        let text = std::str::from_utf8(&self.body).ok().filter(|text| unknown && !text.contains('\0'))?;
        Some(text.to_owned())
    }
}

// === impl MediaType ===

impl MediaType {
    pub(super) fn parse(value: Option<&HeaderValue>) -> Self {
        let Some(text) = value.and_then(|value| value.to_str().ok()) else { return Self::default() };
        let mut parts = text.split(';');
        let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let charset = parts
            .filter_map(|part| part.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
            .map(|(_, value)| value.trim().trim_matches('"').to_ascii_lowercase());
        let latin1 = charset.is_some_and(|charset| matches!(charset.as_str(), "iso-8859-1" | "latin1" | "windows-1252"));
        Self { essence, latin1 }
    }

    fn is_text(&self) -> bool {
        let (kind, subtype) = self.essence.split_once('/').unwrap_or_default();
        kind == "text"
            || subtype.ends_with("+json")
            || subtype.ends_with("+xml") && kind != "image"
            || kind == "application"
                && matches!(subtype, "json" | "xml" | "yaml" | "x-yaml" | "javascript" | "x-ndjson" | "x-www-form-urlencoded")
    }

    fn decode(&self, body: &[u8]) -> String {
        if self.latin1 { body.iter().copied().map(char::from).collect() } else { String::from_utf8_lossy(body).into_owned() }
    }

    /// The beginning of the text of an error, on one line; nothing when it is no text or a page for browsers.
    pub(super) fn excerpt(&self, body: &[u8]) -> String {
        if !self.is_text() || matches!(self.essence.as_str(), "text/html" | "application/xhtml+xml") {
            return String::new();
        }
        let text = self.decode(body);
        let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((end, _)) = words.char_indices().nth(EXCERPT_CHARS) {
            words.truncate(end);
            words.push('…');
        }
        words.retain(|c| !c.is_control());
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media_type(text: &str) -> MediaType {
        MediaType::parse(Some(&HeaderValue::from_str(text).unwrap()))
    }

    #[test]
    fn texts_are_told_from_binaries() {
        for text in ["text/plain", "Application/JSON; charset=utf-8", "application/problem+json", "application/atom+xml"] {
            assert!(media_type(text).is_text(), "{text}");
        }
        for binary in ["image/png", "image/svg+xml", "application/pdf", "application/octet-stream", "nonsense", ""] {
            assert!(!media_type(binary).is_text(), "{binary}");
        }
    }

    #[test]
    fn latin_1_is_decoded() {
        assert_eq!(media_type("text/plain; Charset=\"ISO-8859-1\"").decode(b"\xfc"), "ü");
        assert_eq!(media_type("text/plain").decode("ü".as_bytes()), "ü");
        assert_eq!(media_type("text/plain").decode(b"\xfc"), "\u{fffd}");
    }

    #[test]
    fn an_excerpt_is_short_plain_and_not_html() {
        let json = media_type("application/json");
        assert_eq!(json.excerpt(b"{\"error\":\n  \"no such\x07 queue\"}"), "{\"error\": \"no such queue\"}");
        assert_eq!(json.excerpt("ü".repeat(3000).as_bytes()).chars().count(), EXCERPT_CHARS + 1);
        assert_eq!(media_type("text/html").excerpt(b"<h1>Oops</h1>"), "");
        assert_eq!(media_type("image/png").excerpt(b"png"), "");
    }
}
