//! The two eras of the protocol on one URL (2026-07-28 `basic/versioning` §Backward Compatibility): which one a message
//! belongs to, and the wire around the one stateless core.
//!
//! ```text
//! headers + body → modern | legacy → Caller, method, params → dispatch → Outcome → reply bytes and status
//! ```

pub mod legacy;
pub mod mirror;
pub mod modern;
mod wire;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderName};
use serde_json::value::RawValue;

use crate::jsonrpc::{self, ErrorObject, Params};
use crate::load::HeldStream;
pub use crate::mcp::version::{Era, Version};

/// `MCP-Protocol-Version`
pub static VERSION_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// `Mcp-Session-Id`
pub static SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");
/// `Last-Event-ID`
pub static LAST_EVENT_HEADER: HeaderName = HeaderName::from_static("last-event-id");

/// The `Accept` of the specification.
const USUAL: &[u8] = b"application/json, text/event-stream";

/// Modern metadata decides; without it `initialize` is legacy whatever the headers say; otherwise a version header that is
/// not legacy is modern (and will miss its metadata); all else is legacy.
pub fn of(headers: &HeaderMap, method: Option<&str>, params: Option<&Params<'_>>) -> Era {
    if params.is_some_and(modern::has_metadata) {
        return Era::Modern;
    }
    if method == Some("initialize") {
        return Era::Legacy;
    }
    match headers.get(&VERSION_HEADER).map(|value| value.to_str().ok().and_then(Version::parse)) {
        Some(Some(version)) if !version.is_modern() => Era::Legacy,
        // A session goes with a legacy header only; an unknown version with a session is for the legacy adapter to refuse.
        Some(None) if headers.contains_key(&SESSION_HEADER) => Era::Legacy,
        Some(_) => Era::Modern,
        None => Era::Legacy,
    }
}

/// What a client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepts {
    /// `application/json`
    pub json: bool,
    /// `text/event-stream`
    pub events: bool,
}

/// What `Accept` takes. Without the header everything is taken (RFC 9110, 12.5.1).
pub fn accepts(headers: &HeaderMap) -> Accepts {
    let mut values = headers.get_all(http::header::ACCEPT).iter();
    match (values.next().map(http::HeaderValue::as_bytes), values.next()) {
        // As all clients send it, and in one header: another would say more.
        (None, _) | (Some(USUAL), None) => Accepts { json: true, events: true },
        (Some(_), _) => Accepts { json: takes(headers, "application/json"), events: takes(headers, "text/event-stream") },
    }
}

/// Whether `Accept` takes a media type: the range that names it most closely says so, and `q=0` says no.
fn takes(headers: &HeaderMap, media: &str) -> bool {
    let ranges = headers.get_all(http::header::ACCEPT).iter();
    let family = media.split('/').next().unwrap_or_default();
    let ranges = ranges.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let closest = ranges.filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let closeness = if name == media {
            2
        } else if name.strip_suffix("/*") == Some(family) {
            1
        } else if name == "*/*" {
            0
        } else {
            return None;
        };
        Some((closeness, parts.all(|parameter| !is_zero(parameter))))
    });
    // Of two that are as close, the one that takes it.
    closest.max().is_some_and(|(_, taken)| taken)
}

/// Whether a parameter of a media range is a weight of 0.
fn is_zero(parameter: &str) -> bool {
    let Some((name, weight)) = parameter.split_once('=') else { return false };
    name.trim().eq_ignore_ascii_case("q") && weight.trim().trim_start_matches("0.").bytes().all(|digit| digit == b'0')
}

/// An answer to an HTTP request, before HTTP.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// What it carries.
    pub payload: Payload,
    /// A new session's id.
    pub session: Option<String>,
    /// When to try again, milliseconds: `Retry-After`.
    pub retry_after_ms: Option<u64>,
    /// What credentials are asked for: `WWW-Authenticate`.
    pub challenge: Option<String>,
}

/// What a reply carries.
#[derive(Debug)]
pub enum Payload {
    /// Nothing.
    Empty,
    /// An event stream that ends without a word: nobody wants the answer any more.
    Silence,
    /// One JSON value.
    Json(Vec<u8>),
    /// A held event stream.
    Stream(crate::hub::Stream),
    /// The rest of the event stream of an earlier request.
    Resumed(Resumed),
}

/// The rest of an event stream, which counts as a held one.
pub struct Resumed {
    /// Its events, as they go over the wire.
    pub events: BoxStream<'static, Bytes>,
    /// Counts it.
    pub held: HeldStream,
    /// Between two comments where nothing is said.
    pub period: Duration,
}

impl fmt::Debug for Resumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resumed").finish_non_exhaustive()
    }
}

impl Reply {
    /// A JSON reply.
    pub fn json(status: u16, body: Vec<u8>) -> Self {
        Self { status, payload: Payload::Json(body), session: None, retry_after_ms: None, challenge: None }
    }

    /// An error reply.
    pub fn error(status: u16, id: Option<&RawValue>, error: &ErrorObject) -> Self {
        Self::json(status, jsonrpc::failure(id, error))
    }

    /// The end of a cancelled request.
    pub fn silence() -> Self {
        Self { payload: Payload::Silence, ..Self::empty(200) }
    }

    /// No body.
    pub fn empty(status: u16) -> Self {
        Self { status, payload: Payload::Empty, session: None, retry_after_ms: None, challenge: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn era(headers: &[(&'static str, &'static str)], text: &str) -> Era {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())).collect();
        match jsonrpc::decode(text.as_bytes(), 64).unwrap() {
            jsonrpc::Body::One(jsonrpc::Message::Request(request)) => of(&headers, Some(&request.method), Some(&request.params)),
            other => panic!("{other:?}"),
        }
    }

    const BARE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;
    const META: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;

    #[test]
    fn metadata_decides() {
        assert_eq!(era(&[], META), Era::Modern);
        assert_eq!(era(&[("mcp-protocol-version", "2025-11-25"), ("mcp-session-id", "x")], META), Era::Modern);
    }

    #[test]
    fn initialize_without_metadata_is_legacy_whatever_the_headers_say() {
        for version in ["2025-11-25", "2026-07-28", "1900-01-01"] {
            assert_eq!(era(&[("mcp-protocol-version", version), ("mcp-method", "initialize")], INITIALIZE), Era::Legacy);
        }
    }

    #[test]
    fn without_metadata_the_version_header_decides() {
        assert_eq!(era(&[], BARE), Era::Legacy);
        assert_eq!(era(&[("mcp-protocol-version", "2025-06-18")], BARE), Era::Legacy);
        assert_eq!(era(&[("mcp-protocol-version", "2026-07-28")], BARE), Era::Modern);
        assert_eq!(era(&[("mcp-protocol-version", "2026-07-28"), ("mcp-session-id", "x")], BARE), Era::Modern);
        assert_eq!(era(&[("mcp-protocol-version", "1900-01-01")], BARE), Era::Modern);
        assert_eq!(era(&[("mcp-protocol-version", "1900-01-01"), ("mcp-session-id", "x")], BARE), Era::Legacy);
    }

    #[test]
    fn two_lines_of_accept_are_one_list() {
        let usual = "application/json, text/event-stream";
        for more in ["application/json;q=0", "text/event-stream;q=0", "text/*;q=0", "*/*"] {
            let mut lines = HeaderMap::new();
            for value in [usual, more] {
                lines.append(http::header::ACCEPT, value.parse().unwrap());
            }
            let list = HeaderMap::from_iter([(http::header::ACCEPT, format!("{usual}, {more}").parse().unwrap())]);
            assert_eq!(accepts(&lines), accepts(&list), "{more}");
        }
    }

    #[test]
    fn accept_is_read_as_http_reads_it() {
        let takes_json =
            |value: &'static str| accepts(&HeaderMap::from_iter([(http::header::ACCEPT, value.parse().unwrap())])).json;
        assert_eq!(accepts(&HeaderMap::new()), Accepts { json: true, events: true });
        for value in [
            "application/json, text/event-stream",
            "*/*",
            "application/*;q=0.1",
            "Application/JSON; charset=utf-8",
            "application/json;q=1.000",
            "application/json;q=0.001",
            "*/*;q=0, application/json",
            "application/*;q=0, application/json;q=0.5",
        ] {
            assert!(takes_json(value), "{value}");
        }
        for value in [
            "text/event-stream",
            "application/json;q=0",
            "application/json; Q=0.000",
            "text/*",
            "",
            "application/json;q=0, */*",
            "application/*;q=0, */*;q=1",
        ] {
            assert!(!takes_json(value), "{value}");
        }
    }
}
