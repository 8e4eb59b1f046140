//! JSON-RPC 2.0 as MCP narrows it: bytes ↔ messages, no IO (2026-07-28 `basic/index` §Messages; batches 2025-03-26 `basic/index`).
//!
//! A body is parsed once, borrowed: members stay raw slices of it until a handler asks for one, so what was checked is
//! what is executed. Duplicate keys in the envelope, in `params` and in `_meta` are errors, because two readers of the
//! same bytes must never see two meanings.

mod members;

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use self::members::{Envelope, Members, Text};
pub use self::members::{MemberError, Params, raw_text};

/// Bytes of a request id. It is echoed on every event of a stream.
const MAX_ID_BYTES: usize = 512;
/// Messages of one batch (2025-03-26 only).
pub const MAX_BATCH: usize = 32;

/// `Parse error`: the body is not JSON.
pub const PARSE_ERROR: i32 = -32700;
/// `Invalid Request`: the body is not a JSON-RPC message.
pub const INVALID_REQUEST: i32 = -32600;
/// `Method not found`.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// `Invalid params`.
pub const INVALID_PARAMS: i32 = -32602;
/// `Internal error`; also what is over capacity, since the reserved range belongs to the specification.
pub const INTERNAL_ERROR: i32 = -32603;

/// What a body holds.
#[derive(Debug)]
pub enum Body<'a> {
    /// One message.
    One(Message<'a>),
    /// A batch, each still raw (2025-03-26).
    Batch(Vec<&'a RawValue>),
}

/// One message.
#[derive(Debug)]
pub enum Message<'a> {
    /// It wants an answer.
    Request(Request<'a>),
    /// It does not.
    Notification(Notification<'a>),
    /// It is one.
    Response(Response<'a>),
}

/// A request.
#[derive(Debug)]
pub struct Request<'a> {
    /// As sent: a string or an integer.
    pub id: &'a RawValue,
    /// Its method.
    pub method: Cow<'a, str>,
    /// Its parameters.
    pub params: Params<'a>,
}

/// A notification.
#[derive(Debug)]
pub struct Notification<'a> {
    /// Its method.
    pub method: Cow<'a, str>,
    /// Its parameters.
    pub params: Params<'a>,
}

/// A response to a request of the server.
#[derive(Debug)]
pub struct Response<'a> {
    /// Of that request; an error may have none.
    pub id: Option<&'a RawValue>,
    /// The result, or the error.
    pub outcome: Result<&'a RawValue, &'a RawValue>,
}

/// Why a body is not a message.
#[derive(Debug)]
pub struct DecodeError<'a> {
    /// The id of the request, where it could be read.
    pub id: Option<&'a RawValue>,
    /// [`PARSE_ERROR`] or [`INVALID_REQUEST`].
    pub error: ErrorObject,
}

/// The `error` of a response.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorObject {
    /// A code of JSON-RPC or MCP.
    pub code: i32,
    /// For people.
    pub message: Cow<'static, str>,
    /// For programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// Reads a body.
///
/// # Errors
/// [`PARSE_ERROR`] when it is not JSON or nests deeper than `max_depth`; [`INVALID_REQUEST`] when it is not a message.
pub fn decode(body: &[u8], max_depth: u32) -> Result<Body<'_>, DecodeError<'_>> {
    // No deeper than it has brackets: real requests have few.
    if brackets(body) > max_depth && depth(body) > max_depth {
        return Err(DecodeError {
            id: None,
            error: ErrorObject::new(PARSE_ERROR, format!("JSON nests deeper than {max_depth}")),
        });
    }
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => decode_batch(body),
        _ => decode_message(body).map(Body::One),
    }
}

/// Reads one message of a body or of a batch.
///
/// # Errors
/// As [`decode`].
pub fn decode_message(text: &[u8]) -> Result<Message<'_>, DecodeError<'_>> {
    read_in_one_go(text).map_or_else(|| decode_in_steps(text), Ok)
}

/// Reads a request or a notification without looking at any byte twice. None when it is something else, or there is anything
/// wrong with it: then [`decode_in_steps`] finds out what.
fn read_in_one_go(text: &[u8]) -> Option<Message<'_>> {
    let Envelope { id, method, params } = serde_json::from_str(std::str::from_utf8(text).ok()?).ok()?;
    match id {
        Some(id) => is_id(id).then_some(Message::Request(Request { id, method, params })),
        None => Some(Message::Notification(Notification { method, params })),
    }
}

fn decode_in_steps(text: &[u8]) -> Result<Message<'_>, DecodeError<'_>> {
    let envelope: Members<'_> = serde_json::from_slice(text).map_err(|error| classify(text, &error))?;
    let id = envelope.get("id").filter(|id| is_id(id));
    let invalid = |message: Cow<'static, str>| DecodeError { id, error: ErrorObject::new(INVALID_REQUEST, message) };
    if envelope.get("jsonrpc").map(RawValue::get) != Some("\"2.0\"") {
        return Err(invalid("jsonrpc must be \"2.0\"".into()));
    }
    if envelope.get("id").is_some() && id.is_none() {
        return Err(invalid("id must be a string or an integer".into()));
    }
    let Some(method) = envelope.get("method") else {
        let outcome = match (envelope.get("result"), envelope.get("error")) {
            (Some(result), None) => Ok(result),
            (None, Some(error)) => Err(error),
            (None, None) | (Some(_), Some(_)) => return Err(invalid("method is missing".into())),
        };
        return Ok(Message::Response(Response { id, outcome }));
    };
    let method = serde_json::from_str::<Text<'_>>(method.get()).map_err(|_| invalid("method must be a string".into()))?.0;
    let params = match envelope.get("params") {
        None => Params::default(),
        Some(raw) => Params::parse(raw).map_err(|error| invalid(format!("params: {error}").into()))?,
    };
    Ok(match id {
        Some(id) => Message::Request(Request { id, method, params }),
        None => Message::Notification(Notification { method, params }),
    })
}

fn decode_batch(body: &[u8]) -> Result<Body<'_>, DecodeError<'_>> {
    let batch: Vec<&RawValue> = serde_json::from_slice(body).map_err(|error| classify(body, &error))?;
    if batch.is_empty() || batch.len() > MAX_BATCH {
        let message = format!("a batch holds 1 to {MAX_BATCH} messages");
        return Err(DecodeError { id: None, error: ErrorObject::new(INVALID_REQUEST, message) });
    }
    Ok(Body::Batch(batch))
}

/// Tells broken JSON from JSON that is not an envelope.
fn classify(text: &[u8], error: &serde_json::Error) -> DecodeError<'static> {
    let is_json = error.is_data() && serde_json::from_slice::<&RawValue>(text).is_ok();
    let error = if is_json {
        ErrorObject::new(INVALID_REQUEST, format!("not a JSON-RPC message: {error}"))
    } else {
        ErrorObject::new(PARSE_ERROR, format!("not JSON: {error}"))
    };
    DecodeError { id: None, error }
}

/// How many brackets open, in strings or not.
fn brackets(text: &[u8]) -> u32 {
    // The two differ in this bit. Chunks that one byte can count: so it takes a few instructions for 16 bytes.
    let open = |byte: &u8| u8::from(byte | 0x20 == b'{');
    text.chunks(128).map(|chunk| u32::from(chunk.iter().map(open).sum::<u8>())).sum()
}

/// The deepest nesting of brackets outside strings. Linear, no recursion; says nothing about validity.
fn depth(text: &[u8]) -> u32 {
    let (mut now, mut deepest, mut in_string, mut escaped) = (0_u32, 0_u32, false, false);
    for &byte in text {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else {
            match byte {
                b'"' => in_string = true,
                b'{' | b'[' => {
                    now += 1;
                    deepest = deepest.max(now);
                }
                b'}' | b']' => now = now.saturating_sub(1),
                _ => {}
            }
        }
    }
    deepest
}

/// MCP: "a string or integer", never null.
pub fn is_id(raw: &RawValue) -> bool {
    let text = raw.get();
    if text.len() > MAX_ID_BYTES {
        return false;
    }
    match text.strip_prefix('"') {
        // Half of a surrogate pair is JSON and no text: a reply that echoes it could not be read.
        Some(text) => !text.contains('\\') || raw_text(raw).is_some(),
        None => text.strip_prefix('-').unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// The response to a request: `result` is a JSON object, already encoded.
pub fn success(id: &RawValue, result: &[u8]) -> Vec<u8> {
    let mut reply = success_up_to_result(id, result.len() + 1);
    reply.extend_from_slice(result);
    reply.push(b'}');
    reply
}

/// The same up to where the result begins, with room for so many bytes: the result and a closing brace are to follow.
pub fn success_up_to_result(id: &RawValue, room: usize) -> Vec<u8> {
    let mut reply = Vec::with_capacity(36 + id.get().len() + room);
    reply.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    reply.extend_from_slice(id.get().as_bytes());
    reply.extend_from_slice(b",\"result\":");
    reply
}

/// A request of the server to a client.
pub fn request(id: &str, method: &str, params: &impl Serialize) -> Vec<u8> {
    #[derive(Serialize)]
    struct Request<'a, P> {
        jsonrpc: &'static str,
        id: &'a str,
        method: &'a str,
        params: &'a P,
    }
    // Our own types: serialising them has no way to fail.
    serde_json::to_vec(&Request { jsonrpc: "2.0", id, method, params }).unwrap_or_default()
}

/// A notification of the server to a client.
pub fn notification(method: &str, params: &impl Serialize) -> Vec<u8> {
    #[derive(Serialize)]
    struct Notification<'a, P> {
        jsonrpc: &'static str,
        method: &'a str,
        params: &'a P,
    }
    // Our own types: serialising them has no way to fail.
    serde_json::to_vec(&Notification { jsonrpc: "2.0", method, params }).unwrap_or_default()
}

/// The error response to a request, or to a body whose id could not be read, which then carries none.
pub fn failure(id: Option<&RawValue>, error: &ErrorObject) -> Vec<u8> {
    #[derive(Serialize)]
    struct Failure<'a> {
        jsonrpc: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a RawValue>,
        error: &'a ErrorObject,
    }
    // Strings, numbers and values: serialising them has no way to fail.
    serde_json::to_vec(&Failure { jsonrpc: "2.0", id, error }).unwrap_or_default()
}

// === impl ErrorObject ===

impl ErrorObject {
    /// Without data.
    pub fn new(code: i32, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// With data.
    #[must_use]
    pub fn with_data(self, data: Value) -> Self {
        Self { data: Some(data), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Request<'_> {
        match decode(text.as_bytes(), 64) {
            Ok(Body::One(Message::Request(request))) => request,
            other => panic!("{other:?}"),
        }
    }

    fn refused(text: &str) -> i32 {
        match decode(text.as_bytes(), 64) {
            Err(error) => error.error.code,
            Ok(body) => panic!("{text} was read as {body:?}"),
        }
    }

    #[test]
    fn a_request_keeps_its_id_as_sent() {
        for id in ["1", "-7", "\"a\\u0062\"", "18446744073709551616"] {
            assert_eq!(request(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#)).id.get(), id);
        }
    }

    #[test]
    fn params_and_meta_are_read_apart() {
        let request = request(r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"name":"n","_meta":{"k":"v"}}}"#);
        assert_eq!(request.params.text("name").unwrap(), "n");
        assert_eq!(request.params.meta("k").unwrap().get(), "\"v\"");
        assert!(request.params.get("k").is_none());
    }

    #[test]
    fn notifications_and_responses_are_told_from_requests() {
        let read = |text: &'static str| match decode(text.as_bytes(), 64).unwrap() {
            Body::One(message) => message,
            Body::Batch(_) => panic!("a batch"),
        };
        assert!(matches!(read(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#), Message::Notification(_)));
        assert!(matches!(
            read(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
            Message::Response(Response { id: Some(_), outcome: Ok(_) })
        ));
    }

    #[test]
    fn what_is_not_json_is_a_parse_error() {
        for text in ["", "{", "{\"jsonrpc\":\"2.0\",", "nonsense", "{\"a\":1}{", "\u{feff}{}"] {
            assert_eq!(refused(text), PARSE_ERROR, "{text}");
        }
        assert_eq!(decode(b"{\"jsonrpc\":\"\xff\"}", 64).unwrap_err().error.code, PARSE_ERROR);
    }

    #[test]
    fn what_is_not_an_envelope_is_an_invalid_request() {
        for text in [
            "1",
            "{}",
            r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[]}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
            "[]",
        ] {
            assert_eq!(refused(text), INVALID_REQUEST, "{text}");
        }
    }

    #[test]
    fn a_duplicate_key_is_refused_wherever_two_readers_could_differ() {
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"a","m\u0065thod":"b"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"name":"x","name":"y"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"k":1,"k":2}}}"#,
        ] {
            assert_eq!(refused(text), INVALID_REQUEST, "{text}");
        }
    }

    /// Requests, notifications, and what is neither or no JSON.
    const TEXTS: [&str; 26] = [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"b":[{}]},"_meta":{"c":{"d":1}}}}"#,
        r#" { "params" : { "_meta" : { } , "x" : null } , "method" : "m\u0061" , "id" : "a\"b" , "jsonrpc" : "2.0" } "#,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"":"","\u0000":"é"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","extra":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":null}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":[]}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{},"_meta":{}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"a":1,"\u0061":1}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":1,"a":1}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{},"params":{}}"#,
        r#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1.5,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":1}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#,
        r#"{"id":1,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m"}{}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":01}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"#,
        "[]",
    ];

    #[test]
    fn what_is_read_in_one_go_is_what_is_read_in_steps() {
        let mut agreed = 0;
        for text in TEXTS {
            if let Some(message) = read_in_one_go(text.as_bytes()) {
                let in_steps = decode_in_steps(text.as_bytes()).map_err(|error| error.error);
                assert_eq!(format!("{in_steps:?}"), format!("{:?}", Ok::<_, ErrorObject>(message)), "{text}");
                agreed += 1;
            }
        }
        assert_eq!(agreed, 6, "the usual ones, and no others");
        assert!(read_in_one_go(b"{\"jsonrpc\":\"2.0\",\"method\":\"\xff\"}").is_none());
    }

    #[test]
    fn depth_is_bounded_and_brackets_in_strings_do_not_count() {
        let nested = |depth: usize| {
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"a":{}{}}}}}"#, "[".repeat(depth), "]".repeat(depth))
        };
        assert!(decode(nested(62).as_bytes(), 64).is_ok());
        assert_eq!(decode(nested(63).as_bytes(), 64).unwrap_err().error.code, PARSE_ERROR);
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{}\"["}}"#, "[".repeat(100));
        assert!(decode(text.as_bytes(), 64).is_ok());
    }

    #[test]
    fn the_id_of_a_refused_request_is_echoed_when_it_can_be_read() {
        let error = decode(br#"{"jsonrpc":"2.0","id":9}"#, 64).unwrap_err();
        assert_eq!(error.id.unwrap().get(), "9");
    }

    #[test]
    fn replies_splice_the_raw_id() {
        let request = request(r#"{"jsonrpc":"2.0","id":"x","method":"m"}"#);
        assert_eq!(success(request.id, b"{}"), br#"{"jsonrpc":"2.0","id":"x","result":{}}"#);
        assert_eq!(
            failure(None, &ErrorObject::new(PARSE_ERROR, "no")),
            br#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"no"}}"#
        );
    }
}
