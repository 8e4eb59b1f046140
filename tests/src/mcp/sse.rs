//! Bytes of an event stream → the data of its events (HTML, server-sent events).

/// Collects bytes until events are whole.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: Vec<String>,
}

impl Events {
    /// Takes bytes and returns the data of each event that they complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut events = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let line = String::from_utf8_lossy(&self.line).trim_end_matches('\r').to_owned();
            self.line.clear();
            if line.is_empty() {
                if !self.data.is_empty() {
                    events.push(std::mem::take(&mut self.data).join("\n"));
                }
            } else if let Some(data) = line.strip_prefix("data:") {
                self.data.push(data.strip_prefix(' ').unwrap_or(data).to_owned());
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_whole_only_after_its_empty_line() {
        let mut events = Events::default();
        assert!(events.push(b"event: message\r\nda").is_empty());
        assert!(events.push(b"ta: {\"a\":1}\r\n").is_empty());
        assert_eq!(events.push(b"\r\n: comment\n\ndata: x\ndata: y\n\n"), ["{\"a\":1}", "x\ny"]);
    }
}
