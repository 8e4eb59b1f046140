//! What is fuzzed: each decoder, and what must hold of whatever it reads. Replayed on stable Rust by `server/tests/fuzz.rs`.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use mcp_crds::catalog::ToolDefinition;
use mcp_server::era::mirror::Mirrored;
use mcp_server::era::{Version, accepts};
use mcp_server::exchange::id;
use mcp_server::exchange::resume::{Resumes, Whereabouts};
use mcp_server::jsonrpc::{self, Body, ErrorObject, Message};
use mcp_server::peers::wire::{Frame, split};
use mcp_server::session::{Claims, SessionKey, Sessions, generated_ring, random};
use mcp_server::sse;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Reads bytes; what must not happen panics.
pub type Target = fn(&[u8]);

/// The targets, by the name of their corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("jsonrpc", jsonrpc),
    ("headers", headers),
    ("tokens", tokens),
    ("frames", frames),
    ("catalog", catalog),
    ("events", events),
];

/// A body is read or refused; what is read is answered under the id it came with, and every refusal is JSON.
pub fn jsonrpc(data: &[u8]) {
    let one = |message: Result<Message<'_>, jsonrpc::DecodeError<'_>>| match message {
        Ok(Message::Request(request)) => {
            let reply = jsonrpc::success(request.id, b"{}");
            // Not read as a value: an id may be a number that no float holds, and goes back as it came.
            let reply: BTreeMap<&str, &RawValue> = serde_json::from_slice(&reply).expect("a reply is JSON");
            assert_eq!(reply["id"].get(), request.id.get());
            assert!(request.id.get().starts_with(|first: char| "\"-0123456789".contains(first)), "{}", request.id);
            let _ = (request.params.text("name"), request.params.parsed::<Value>("arguments"), request.params.meta("x"));
        }
        Ok(Message::Notification(_) | Message::Response(_)) => {}
        Err(error) => {
            let reply = jsonrpc::failure(error.id, &error.error);
            let reply: BTreeMap<&str, &RawValue> = serde_json::from_slice(&reply).expect("a refusal is JSON");
            let error: Value = serde_json::from_str(reply["error"].get()).expect("an error is JSON");
            assert!([jsonrpc::PARSE_ERROR, jsonrpc::INVALID_REQUEST].map(Value::from).contains(&error["code"]));
        }
    };
    match jsonrpc::decode(data, 64) {
        Ok(Body::One(message)) => one(Ok(message)),
        Ok(Body::Batch(messages)) => messages.iter().for_each(|message| one(jsonrpc::decode_message(message.get().as_bytes()))),
        Err(error) => one(Err(error)),
    }
    let _ = jsonrpc::failure(None, &ErrorObject::new(0, String::from_utf8_lossy(data).into_owned()));
}

/// Header values: any text in the Base64 form is its own mirror, and nothing else is mistaken for it.
pub fn headers(data: &[u8]) {
    static MIRRORED: LazyLock<Mirrored> = LazyLock::new(|| {
        let tool = ToolDefinition {
            name: "tool".to_owned(),
            title: None,
            description: None,
            icons: vec![],
            annotations: None,
            input_schema: json!({"type": "object", "properties": {
                "text": {"type": "string", "x-mcp-header": "Text"},
                "size": {"type": "integer", "x-mcp-header": "Size"}}}),
            output_schema: None,
        };
        Mirrored::of([&tool].into_iter())
    });
    let with = |name: &'static str, value: HeaderValue| HeaderMap::from_iter([(HeaderName::from_static(name), value)]);
    let text = String::from_utf8_lossy(data).into_owned();
    let encoded = HeaderValue::from_str(&format!("=?base64?{}?=", STANDARD.encode(&text))).expect("Base64 is visible ASCII");
    assert_eq!(MIRRORED.check("tool", &json!({"text": text}), &with("mcp-param-text", encoded.clone())), Ok(()));
    let other = format!("{text}!");
    assert!(MIRRORED.check("tool", &json!({"text": other}), &with("mcp-param-text", encoded)).is_err());
    let Ok(plain) = HeaderValue::from_bytes(data) else { return };
    let _ = accepts(&with("accept", plain.clone()));
    let _ = MIRRORED.check("tool", &json!({"text": text}), &with("mcp-param-text", plain.clone()));
    if MIRRORED.check("tool", &json!({"size": 42}), &with("mcp-param-size", plain.clone())).is_ok() {
        assert!(MIRRORED.check("tool", &json!({"size": 43}), &with("mcp-param-size", plain)).is_err(), "equal to two numbers");
    }
    let _ = Version::parse(&text);
}

/// Session ids: nobody makes one up, and one that was touched does not open.
pub fn tokens(data: &[u8]) {
    static SESSIONS: LazyLock<(Sessions, String)> = LazyLock::new(|| {
        let sessions = Sessions::new(random(), generated_ring()).expect("keys that were just made");
        let claims = Claims {
            issued: 1_000,
            expires: 2_000,
            version: Version::V2025_11_25,
            capabilities: 5,
            principal: "somebody".to_owned(),
        };
        let token = sessions.seal(&claims).expect("claims that fit");
        (sessions, token)
    });
    let (sessions, token) = &*SESSIONS;
    assert!(sessions.open(&String::from_utf8_lossy(data), 1_500).is_err(), "made up");
    let mut touched = token.clone().into_bytes();
    for (at, byte) in data.chunks_exact(2).map(|pair| (usize::from(pair[0]), pair[1])) {
        let at = at % touched.len();
        touched[at] = byte & 0x7f;
    }
    let touched = String::from_utf8(touched).expect("ASCII");
    assert!(touched == *token || sessions.open(&touched, 1_500).is_err(), "{touched} opens like {token}");
}

/// Frames of peers: what is read is written and read again as the same; what is not known is written as nothing to say.
pub fn frames(data: &[u8]) {
    let Ok(Some((body, used))) = split(data) else { return };
    assert!(used <= data.len() && body.len() <= used);
    let Ok(frame) = Frame::decode(body) else { return };
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    if let Ok(Some((body, _))) = split(&bytes) {
        let again = if frame == Frame::Unknown { Frame::Beat } else { frame };
        assert_eq!(Frame::decode(body), Ok(again));
    }
}

/// Catalog files: compiled, or refused with a place for everything that is wrong.
pub fn catalog(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(problems) = mcp_crds::manifest::read(text, "catalog.yaml", "0.0.0") {
        assert!(!problems.is_empty());
        for problem in problems {
            assert!(problem.to_string().starts_with("catalog.yaml"), "{problem}");
        }
    }
}

/// Event ids and event streams: an id is written as it was read, nobody makes one up, and an event carries the same data
/// whatever the bytes; only the kinds of line ends become one.
pub fn events(data: &[u8]) {
    static SESSIONS: LazyLock<Sessions> =
        LazyLock::new(|| Sessions::new(random(), generated_ring()).expect("keys that were just made"));
    let text = String::from_utf8_lossy(data).into_owned();
    if let Some((incarnation, numbers, tag)) = id::read::<2>(&text) {
        assert_eq!(id::write(incarnation, &numbers, &tag), text, "one spelling only");
    }
    let session = SessionKey { incarnation: [7; 16], number: 1 };
    let resumes = Resumes::new(SESSIONS.incarnation(), SESSIONS.tagger(), Arc::default());
    assert_eq!(resumes.find(session, &text), Whereabouts::Forged, "made up");
    let sent = sse::with_id("a.1", &sse::message(text.as_bytes()));
    let sent = [sse::priming("a.0", 5).to_vec(), sse::KEEP_ALIVE.to_vec(), sent.to_vec()].concat();
    let said = text.replace("\r\n", "\n").replace('\r', "\n");
    let read = read_events(&String::from_utf8(sent).expect("UTF-8"));
    assert_eq!(read, [("a.0".to_owned(), String::new()), ("a.1".to_owned(), said)]);
    let _ = read_events(&text);
}

/// Reads an event stream as HTML says (9.2.6), but that an event without data is told, too: id and data of each.
fn read_events(text: &str) -> Vec<(String, String)> {
    let (mut events, mut id, mut data) = (vec![], String::new(), None::<String>);
    for line in text.replace("\r\n", "\n").replace('\r', "\n").split('\n') {
        if line.is_empty() {
            events.extend(data.take().map(|data| (id.clone(), data)));
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" if !value.contains('\0') => value.clone_into(&mut id),
            "data" => {
                data = Some(data.map_or_else(|| value.to_owned(), |data| format!("{data}\n{value}")));
            }
            _ => {}
        }
    }
    events
}
