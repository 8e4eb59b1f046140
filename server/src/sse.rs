//! Server-sent events → bytes (HTML, 9.2 Server-sent events; 2026-07-28 `basic/transports/streamable-http` §Receiving Messages).

use bytes::{BufMut as _, Bytes, BytesMut};

/// A comment: keeps a quiet stream alive through proxies.
pub const KEEP_ALIVE: Bytes = Bytes::from_static(b":\n\n");

/// What stands before the JSON of an event on one line, and after it.
pub const BEFORE: &str = "event: message\ndata: ";
/// See [`BEFORE`].
pub const AFTER: &str = "\n\n";

/// One event that carries one JSON-RPC message. Where it has line ends, which JSON has between its tokens only, each line gets
/// its own `data`, and a reader joins them with line feeds.
pub fn message(json: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(json.len() + 24);
    event.put_slice(b"event: message\n");
    let mut rest = json;
    while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        line(&mut event, &rest[..end]);
        let both = rest[end..].starts_with(b"\r\n");
        rest = &rest[end + 1 + usize::from(both)..];
    }
    line(&mut event, rest);
    event.put_u8(b'\n');
    event.freeze()
}

/// The same event with an id: visible ASCII.
pub fn with_id(id: &str, event: &[u8]) -> Bytes {
    let mut named = BytesMut::with_capacity(id.len() + event.len() + 8);
    named.put_slice(b"id: ");
    named.put_slice(id.as_bytes());
    named.put_u8(b'\n');
    named.put_slice(event);
    named.freeze()
}

/// What a stream begins with that can be resumed before it has said anything: an id, no data, and how long to wait before
/// coming back (2025-11-25 `basic/transports` §Sending Messages, 6).
pub fn priming(id: &str, retry_ms: u64) -> Bytes {
    with_id(id, format!("retry: {retry_ms}\ndata: \n\n").as_bytes())
}

fn line(event: &mut BytesMut, line: &[u8]) {
    event.put_slice(b"data: ");
    event.put_slice(line);
    event.put_u8(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_data_line_for_each_line_and_an_empty_one() {
        assert_eq!(message(b"{}"), "event: message\ndata: {}\n\n");
        assert_eq!(message(b"[1,\r\n2,\n3\r]"), "event: message\ndata: [1,\ndata: 2,\ndata: 3\ndata: ]\n\n");
    }

    #[test]
    fn an_id_comes_first_and_a_stream_is_primed_without_data() {
        assert_eq!(with_id("a.1", &message(b"{}")), "id: a.1\nevent: message\ndata: {}\n\n");
        assert_eq!(priming("a.0", 1500), "id: a.0\nretry: 1500\ndata: \n\n");
    }
}
