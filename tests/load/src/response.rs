//! Responses, out of bytes as they come: HTTP/1.1 with a length, in chunks or to the close; and the events of a stream.

/// Bytes of a body that are kept: an answer to a call is looked into, a large one is only counted.
const KEPT: usize = 16 << 10;
/// Bytes of a head, or of an event.
const MAX_PIECE: usize = 1 << 20;

/// What the bytes meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// The head of an event stream, of status 200.
    Opened,
    /// An event.
    Event(Event),
    /// A whole answer; that of an event stream comes after its events.
    Answer(Answer),
}

/// An event of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A comment, a priming event: a sign of life.
    KeepAlive,
    /// A resource was updated.
    Updated,
    /// A result: that of a call, or the end of a stream.
    Result,
    /// Any other.
    Other,
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Bytes of the body.
    pub(crate) body: usize,
    /// Whether it is a JSON-RPC result that is no error, nor that of a tool.
    pub(crate) good: bool,
    /// Seconds.
    pub(crate) retry_after: Option<u64>,
    pub(crate) session: Option<String>,
    /// Whether the connection ends with it.
    pub(crate) closes: bool,
}

/// Bytes that are no HTTP/1.1 response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// How much of the body is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    None,
    Length(usize),
    /// The line with the size of a chunk.
    Size,
    Chunk(usize),
    /// The end of the line behind a chunk.
    ChunkEnd,
    Trailer,
    ToClose,
}

/// The responses of one connection, in order.
#[derive(Debug)]
pub(crate) struct Reader {
    answer: Answer,
    events: bool,
    body: Body,
    /// An unfinished line, or a head.
    piece: Vec<u8>,
    /// The body, or an unfinished event.
    kept: Vec<u8>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { answer: Answer::default(), events: false, body: Body::None, piece: Vec::new(), kept: Vec::new() }
    }

    /// Takes bytes, and tells what they mean.
    pub(crate) fn take(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Read)) -> Result<(), Malformed> {
        while !bytes.is_empty() {
            match self.body {
                Body::None => {
                    let Some(taken) = self.until(bytes, b"\r\n\r\n")? else { return Ok(()) };
                    bytes = &bytes[taken..];
                    let head = std::mem::take(&mut self.piece);
                    self.head(&head)?;
                    self.piece = head;
                    self.piece.clear();
                    if self.events && self.answer.status == 200 {
                        tell(Read::Opened);
                    }
                    if self.body == Body::Length(0) {
                        self.finish(&mut tell);
                    }
                }
                Body::Length(left) => {
                    let (now, rest) = bytes.split_at(left.min(bytes.len()));
                    bytes = rest;
                    self.data(now, &mut tell)?;
                    self.body = Body::Length(left - now.len());
                    if left == now.len() {
                        self.finish(&mut tell);
                    }
                }
                Body::Size => {
                    let Some(taken) = self.until(bytes, b"\r\n")? else { return Ok(()) };
                    bytes = &bytes[taken..];
                    let digits = self.piece.split(|byte| *byte == b';' || *byte == b'\r').next().unwrap_or_default();
                    let size = std::str::from_utf8(digits).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
                    self.piece.clear();
                    self.body = match size.ok_or(Malformed)? {
                        0 => Body::Trailer,
                        size => Body::Chunk(size),
                    };
                }
                Body::Chunk(left) => {
                    let (now, rest) = bytes.split_at(left.min(bytes.len()));
                    bytes = rest;
                    self.data(now, &mut tell)?;
                    self.body = if left == now.len() { Body::ChunkEnd } else { Body::Chunk(left - now.len()) };
                }
                Body::ChunkEnd | Body::Trailer => {
                    let Some(taken) = self.until(bytes, b"\r\n")? else { return Ok(()) };
                    bytes = &bytes[taken..];
                    let is_empty = self.piece.len() == 2;
                    self.piece.clear();
                    match self.body {
                        Body::Trailer if is_empty => self.finish(&mut tell),
                        Body::ChunkEnd if is_empty => self.body = Body::Size,
                        Body::ChunkEnd => return Err(Malformed),
                        _ => {}
                    }
                }
                Body::ToClose => {
                    let now = std::mem::take(&mut bytes);
                    self.data(now, &mut tell)?;
                }
            }
        }
        Ok(())
    }

    /// Takes from `bytes` up to and with `end` into `piece`; tells how many, when the end was among them.
    fn until(&mut self, bytes: &[u8], end: &[u8]) -> Result<Option<usize>, Malformed> {
        let before = self.piece.len();
        let from = before.saturating_sub(end.len() - 1);
        self.piece.extend_from_slice(bytes);
        let found = self.piece[from..].windows(end.len()).position(|window| window == end);
        match found {
            Some(at) => {
                self.piece.truncate(from + at + end.len());
                Ok(Some(self.piece.len() - before))
            }
            None if self.piece.len() > MAX_PIECE => Err(Malformed),
            None => Ok(None),
        }
    }

    fn head(&mut self, head: &[u8]) -> Result<(), Malformed> {
        let text = std::str::from_utf8(head).map_err(|_| Malformed)?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1."));
        let status = status.and_then(|line| line.get(2..5)?.parse().ok()).ok_or(Malformed)?;
        self.answer = Answer { status, ..Answer::default() };
        self.events = false;
        self.kept.clear();
        self.body = if status == 204 || status < 200 { Body::Length(0) } else { Body::ToClose };
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                self.body = Body::Length(value.parse().map_err(|_| Malformed)?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
                self.body = Body::Size;
            } else if name.eq_ignore_ascii_case("content-type") {
                self.events = value.starts_with("text/event-stream");
            } else if name.eq_ignore_ascii_case("retry-after") {
                self.answer.retry_after = value.parse().ok();
            } else if name.eq_ignore_ascii_case("mcp-session-id") {
                self.answer.session = Some(value.to_owned());
            } else if name.eq_ignore_ascii_case("connection") {
                self.answer.closes = value.eq_ignore_ascii_case("close");
            }
        }
        Ok(())
    }

    fn data(&mut self, bytes: &[u8], tell: &mut impl FnMut(Read)) -> Result<(), Malformed> {
        self.answer.body += bytes.len();
        if !self.events {
            let room = KEPT.saturating_sub(self.kept.len());
            self.kept.extend_from_slice(&bytes[..room.min(bytes.len())]);
            return Ok(());
        }
        self.kept.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(end) = self.kept[start..].windows(2).position(|window| window == b"\n\n") {
            let event = kind(&self.kept[start..start + end]);
            self.answer.good |= event == Event::Result;
            tell(Read::Event(event));
            start += end + 2;
        }
        self.kept.drain(..start);
        if self.kept.len() > MAX_PIECE { Err(Malformed) } else { Ok(()) }
    }

    fn finish(&mut self, tell: &mut impl FnMut(Read)) {
        self.body = Body::None;
        let mut answer = std::mem::take(&mut self.answer);
        if !self.events {
            answer.good = answer.status == 200 && is_result(&self.kept);
        }
        // An interim response is no answer.
        if answer.status >= 200 {
            tell(Read::Answer(answer));
        }
        self.kept.clear();
    }
}

fn kind(event: &[u8]) -> Event {
    if !has(event, b"data:") || has(event, b"data: \n") || event.ends_with(b"data:") || event.ends_with(b"data: ") {
        Event::KeepAlive
    } else if has(event, b"resources/updated") {
        Event::Updated
    } else if is_result(event) {
        Event::Result
    } else {
        Event::Other
    }
}

fn is_result(json: &[u8]) -> bool {
    has(json, b"\"result\":") && !has(json, b"\"isError\":true")
}

fn has(bytes: &[u8], what: &[u8]) -> bool {
    // By its first byte: the standard library looks for one byte many at a time.
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == what[0]) {
        rest = &rest[at..];
        if rest.starts_with(what) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of bytes that come in pieces of one size.
    fn read(bytes: &[u8], piece: usize) -> Result<Vec<Read>, Malformed> {
        let (mut reader, mut told) = (Reader::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            reader.take(piece, |read| told.push(read))?;
        }
        Ok(told)
    }

    const TWO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 26\r\n\r\n{\"jsonrpc\":1,\"result\":{}} HTTP/1.1 503 Service Unavailable\r\nRetry-After: 4\r\nConnection: close\r\ncontent-length: 0\r\n\r\n";

    #[test]
    fn two_answers_of_one_connection_are_told_apart_however_they_are_cut() {
        for piece in 1..TWO.len() {
            let told = read(TWO, piece).unwrap();
            let [Read::Answer(first), Read::Answer(second)] = &told[..] else { panic!("{piece}: {told:?}") };
            assert!(first.good && first.status == 200 && first.body == 26, "{first:?}");
            let full = Answer { status: 503, retry_after: Some(4), closes: true, ..Answer::default() };
            assert_eq!(*second, full);
        }
    }

    fn stream() -> Vec<u8> {
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nmcp-session-id: s\r\n\r\n";
        let chunks = [": one\n\n", "data: {\"method\":\"x/resources/updated\"}\n\nda", "ta: {\"result\":{\"a\":1}}\n", "\n", ""];
        let chunks = chunks.map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len()));
        [head.to_owned(), chunks.concat()].concat().into_bytes()
    }

    #[test]
    fn events_are_told_as_they_come_and_the_answer_at_the_end() {
        let stream = stream();
        for piece in 1..stream.len() {
            let told = read(&stream, piece).unwrap();
            let [Read::Opened, Read::Event(a), Read::Event(b), Read::Event(c), Read::Answer(answer)] = &told[..] else {
                panic!("{piece}: {told:?}")
            };
            assert_eq!([*a, *b, *c], [Event::KeepAlive, Event::Updated, Event::Result]);
            assert!(answer.good && answer.session.as_deref() == Some("s"));
        }
    }

    #[test]
    fn an_error_is_not_good() {
        for body in [r#"{"error":{"code":1}}"#, r#"{"result":{"isError":true}}"#] {
            let bytes = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let told = read(bytes.as_bytes(), 1000).unwrap();
            assert!(matches!(&told[..], [Read::Answer(answer)] if !answer.good), "{told:?}");
        }
    }

    #[test]
    fn a_stream_that_lasts_to_the_close_has_events_and_no_answer() {
        let told = read(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {}\n\nid: 1\ndata:\n\n", 9).unwrap();
        assert_eq!(told, [Read::Opened, Read::Event(Event::Other), Read::Event(Event::KeepAlive)]);
    }

    #[test]
    fn what_is_no_http_is_refused() {
        assert_eq!(read(b"SSH-2.0-x\r\n\r\n", 99), Err(Malformed));
        assert_eq!(read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 99), Err(Malformed));
        assert_eq!(read(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", 99), Err(Malformed));
    }
}
