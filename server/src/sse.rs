//! Server-sent events → bytes (HTML, 9.2 Server-sent events; 2026-07-28 `basic/transports/streamable-http` §Receiving Messages).

use bytes::{BufMut as _, Bytes, BytesMut};

/// A comment: keeps a quiet stream alive through proxies.
pub const KEEP_ALIVE: Bytes = Bytes::from_static(b":\n\n");

/// What stands before the JSON of an event, and after it.
pub const BEFORE: &str = "event: message\ndata: ";
/// See [`BEFORE`].
pub const AFTER: &str = "\n\n";

/// One event that carries one JSON-RPC message. JSON on one line has no line ends, so one `data` line holds it.
pub fn message(json: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(json.len() + 24);
    event.put_slice(BEFORE.as_bytes());
    event.put_slice(json);
    event.put_slice(AFTER.as_bytes());
    event.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_data_line_and_an_empty_one() {
        assert_eq!(message(b"{}"), "event: message\ndata: {}\n\n");
    }
}
