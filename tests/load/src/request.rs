//! Requests as bytes, the same for every server: HTTP/1.1 and MCP of both eras.

use clap::ValueEnum;

use crate::target::Target;

/// Digits of an id that is counted: every request of a run has one length.
const ID_DIGITS: usize = 9;
const MODERN: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";

/// Which of the two ways of MCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Era {
    /// 2026-07-28: every request stands alone.
    Modern,
    /// 2025-11-25: `initialize`, and a session.
    Legacy,
}

impl Era {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Modern => "modern",
            Self::Legacy => "legacy",
        }
    }
}

/// A call of a tool, with an id that is written anew for each.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    bytes: Vec<u8>,
    id_at: usize,
}

impl Call {
    /// `tools/call` of a tool with `{"text": ...}`. `session` is that of the legacy era.
    pub(crate) fn new(target: &Target, era: Era, tool: &str, text: &str, session: Option<&str>) -> Self {
        let arguments = serde_json::json!({ "text": text });
        let name = serde_json::Value::from(tool);
        let meta = match era {
            Era::Modern => format!(",{}", meta()),
            Era::Legacy => String::new(),
        };
        let before = r#"{"jsonrpc":"2.0","id":"#;
        let body = format!(
            r#"{before}{:0>ID_DIGITS$},"method":"tools/call","params":{{"name":{name},"arguments":{arguments}{meta}}}}}"#,
            "1"
        );
        let bytes = post(target, era, "tools/call", Some(tool), session, &body);
        let id_at = bytes.len() - body.len() + before.len();
        let mut call = Self { bytes, id_at };
        call.with_id(1);
        call
    }

    /// The request with this id.
    pub(crate) fn with_id(&mut self, id: u64) -> &[u8] {
        // A leading digit: JSON has no leading zeros.
        let id = 10_u64.pow(8) + id % 10_u64.pow(8);
        let mut rest = id;
        for digit in self.bytes[self.id_at..self.id_at + ID_DIGITS].iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        &self.bytes
    }
}

/// `subscriptions/listen` with all list flags, one resource, and an id that is text.
pub(crate) fn listen(target: &Target, id: &str, uri: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":"{id}","method":"subscriptions/listen","params":{{"notifications":{{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true,"resourceSubscriptions":["{uri}"]}},{}}}}}"#,
        meta()
    );
    post(target, Era::Modern, "subscriptions/listen", None, None, &body)
}

/// `initialize` of the legacy era.
pub(crate) fn initialize(target: &Target) -> Vec<u8> {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"protocolVersion":"{LEGACY}","capabilities":{{}},"clientInfo":{{"name":"mcp-load","version":"1"}}}}}}"#
    );
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\ncontent-length: {}\r\n\r\n",
        target.path,
        target.address,
        body.len()
    );
    [head, body].concat().into_bytes()
}

/// `notifications/initialized` of a session.
pub(crate) fn initialized(target: &Target, session: &str) -> Vec<u8> {
    let body = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    post(target, Era::Legacy, "", None, Some(session), body)
}

/// `resources/subscribe` of a session.
pub(crate) fn subscribe(target: &Target, session: &str, uri: &str) -> Vec<u8> {
    let body = format!(r#"{{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{{"uri":"{uri}"}}}}"#);
    post(target, Era::Legacy, "", None, Some(session), &body)
}

/// The GET stream of a session.
pub(crate) fn get(target: &Target, session: &str) -> Vec<u8> {
    format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\naccept: text/event-stream\r\nmcp-protocol-version: {LEGACY}\r\nmcp-session-id: {session}\r\n\r\n",
        target.path, target.address
    )
    .into_bytes()
}

/// A resource of its own for each stream: 60 bytes.
pub(crate) fn uri(n: usize) -> String {
    format!("bench://resources/of/one/stream/each/{n:0>23}")
}

/// An id of 36 bytes, as a UUID has.
pub(crate) fn stream_id(n: usize) -> String {
    format!("00000000-0000-0000-0000-{n:0>12}")
}

fn meta() -> String {
    format!(
        r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"{MODERN}","io.modelcontextprotocol/clientInfo":{{"name":"mcp-load","version":"1"}},"io.modelcontextprotocol/clientCapabilities":{{}}}}"#
    )
}

fn post(target: &Target, era: Era, method: &str, name: Option<&str>, session: Option<&str>, body: &str) -> Vec<u8> {
    let mut head = format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n",
        target.path, target.address
    );
    match era {
        Era::Modern => {
            head += &format!("mcp-protocol-version: {MODERN}\r\nmcp-method: {method}\r\n");
            if let Some(name) = name {
                head += &format!("mcp-name: {name}\r\n");
            }
        }
        Era::Legacy => head += &format!("mcp-protocol-version: {LEGACY}\r\n"),
    }
    if let Some(session) = session {
        head += &format!("mcp-session-id: {session}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", body.len());
    [head.as_str(), body].concat().into_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn target() -> Target {
        "http://127.0.0.1:80/mcp".parse().unwrap()
    }

    /// The head, and the body as JSON, when its length is as declared.
    fn parts(bytes: &[u8]) -> (String, Value) {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        (head.to_owned(), serde_json::from_str(body).unwrap())
    }

    #[test]
    fn calls_differ_in_their_id_and_nothing_else() {
        for era in [Era::Modern, Era::Legacy] {
            let mut call = Call::new(&target(), era, "echo", "a\"b", Some("s"));
            let (first, second) = (call.with_id(1).to_vec(), call.with_id(99_999_999).to_vec());
            assert_eq!(first.len(), second.len());
            let ((head, first), (other, second)) = (parts(&first), parts(&second));
            assert_eq!(head, other);
            assert_eq!((&first["id"], &second["id"]), (&Value::from(100_000_001), &Value::from(199_999_999)));
            assert_eq!(first["params"], second["params"]);
            assert_eq!(first["params"]["arguments"]["text"], "a\"b");
            assert_eq!(head.contains("mcp-name: echo"), era == Era::Modern);
        }
    }

    #[test]
    fn a_stream_asks_for_all_lists_and_one_resource_of_its_own() {
        assert_eq!((uri(1).len(), uri(99_999).len(), stream_id(7).len()), (60, 60, 36));
        let (_, body) = parts(&listen(&target(), &stream_id(7), &uri(7)));
        assert_eq!(body["params"]["notifications"]["resourceSubscriptions"][0], uri(7));
        assert_eq!(body["params"]["notifications"]["promptsListChanged"], true);
        assert_eq!(body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], MODERN);
    }

    #[test]
    fn a_session_is_named_in_every_request_but_the_first() {
        parts(&initialize(&target()));
        for bytes in [initialized(&target(), "s1"), subscribe(&target(), "s1", "a:b"), get(&target(), "s1")] {
            assert!(String::from_utf8(bytes).unwrap().contains("mcp-session-id: s1\r\n"));
        }
    }
}
