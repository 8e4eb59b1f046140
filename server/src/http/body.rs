//! Bodies: requests read within a budget and a time, replies that count until they are sent.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::events::Events;
use super::running::{Next, Running};
use crate::connection::Busy;
use crate::era::Payload;
use crate::hub;
use crate::limits::{DISCARD_TIME, DISCARDED_BYTES, Limits};
use crate::load::{BodyBytes, InFlight, Load, OwedBytes};
use crate::patience::within_turns;
use crate::sse;

/// What is reserved at a time for a body that does not say its length.
const CHUNK: u64 = 64 << 10;
/// What is handed to a connection at a time: it asks for more when its client has taken nearly all of it, so what waits for a
/// slow reader waits here, where it is counted, and the request counts as long.
const PIECE: usize = 32 << 10;

/// A request body, and the bytes reserved for it.
#[derive(Debug)]
pub struct Received {
    /// The body.
    pub bytes: Bytes,
    /// Held for as long as the bytes are.
    pub reserved: BodyBytes,
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Larger than one body may be: 413.
    TooLarge,
    /// All bodies together would be larger than they may be: 503.
    OverBudget,
    /// Its sender was too slow: 408.
    TooSlow,
    /// It broke off.
    Broken,
}

/// Reads a body. Memory is reserved before bytes are read: the declared length at once, else chunk by chunk.
///
/// # Errors
/// The limit in the way.
pub(super) async fn read<B>(body: B, declared: Option<u64>, limits: &Limits, load: &Arc<Load>) -> Result<Received, Unread>
where
    B: Body<Data = Bytes> + Unpin,
{
    if declared.is_some_and(|length| length > limits.body) {
        return Err(Unread::TooLarge);
    }
    let mut reserved = load.body();
    if !reserved.grow(declared.unwrap_or(0), limits.body_budget) {
        return Err(Unread::OverBudget);
    }
    // The first bytes of most bodies came with the head: hyper hands them on in its next turn.
    let collecting = pin!(collect(body, declared, limits, reserved));
    within_turns(limits.read_time, collecting).await.unwrap_or(Err(Unread::TooSlow))
}

/// What became of the body of a request that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// It was taken and forgotten: the connection can be kept.
    Taken,
    /// Some of it may still come: the connection is closed after the answer.
    Left,
}

/// Takes what a refused request still sends, within bounds, and forgets it. Nothing is waited for that would be too much anyway,
/// nor for a client that waits itself, for leave to send it: it gets its answer instead (RFC 9110, 10.1.1).
pub(super) async fn discard<B>(mut body: B, headers: &HeaderMap) -> Rest
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.is_end_stream() {
        return Rest::Taken;
    }
    let most = DISCARDED_BYTES as u64;
    if headers.contains_key(header::EXPECT) || body.size_hint().lower() > most {
        return Rest::Left;
    }
    let read = async {
        let mut length = 0;
        loop {
            match body.frame().await {
                None => return Rest::Taken,
                Some(Err(_)) => return Rest::Left,
                Some(Ok(frame)) => length += frame.data_ref().map_or(0, |data| data.len() as u64),
            }
            if length > most {
                return Rest::Left;
            }
        }
    };
    // Too slow: it is told now.
    Box::pin(timeout(DISCARD_TIME, read)).await.unwrap_or(Rest::Left)
}

async fn collect<B>(mut body: B, declared: Option<u64>, limits: &Limits, mut reserved: BodyBytes) -> Result<Received, Unread>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut buffer = BytesMut::new();
    let mut length = 0_u64;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
        length += data.len() as u64;
        if length > limits.body {
            return Err(Unread::TooLarge);
        }
        while reserved.bytes() < length {
            if !reserved.grow(CHUNK, limits.body_budget) {
                return Err(Unread::OverBudget);
            }
        }
        // Most bodies are one frame: it is taken as it is.
        if first.is_empty() && buffer.is_empty() {
            first = data;
        } else {
            if buffer.is_empty() {
                buffer.reserve(declared.and_then(|length| usize::try_from(length).ok()).unwrap_or(0));
                buffer.extend_from_slice(&first);
                first = Bytes::new();
            }
            buffer.extend_from_slice(&data);
        }
    }
    Ok(Received { bytes: if buffer.is_empty() { first } else { buffer.freeze() }, reserved })
}

/// A reply's body. What it holds is released when the last byte was handed to the connection.
#[derive(Debug)]
pub struct ReplyBody {
    content: Content,
    /// Of what came in one piece, and is handed on in several.
    rest: Bytes,
    owed: Option<OwedBytes>,
    _in_flight: Option<InFlight>,
    busy: Busy,
}

#[derive(Debug)]
enum Content {
    Full(Bytes),
    Stream(hub::Stream),
    Running(Box<Running>),
    Events(Events),
}

impl ReplyBody {
    fn of(content: Content, in_flight: Option<InFlight>, busy: Busy) -> Self {
        Self { content, rest: Bytes::new(), owed: None, _in_flight: in_flight, busy }
    }

    /// A body that is all there.
    pub(super) fn full(bytes: impl Into<Bytes>, in_flight: Option<InFlight>, busy: Busy) -> Self {
        Self::of(Content::Full(bytes.into()), in_flight, busy)
    }

    /// A held stream.
    pub(super) fn stream(stream: hub::Stream, busy: Busy) -> Self {
        busy.holds(stream.ticket());
        Self::of(Content::Stream(stream), None, busy)
    }

    /// A stream that can be resumed, or the rest of one.
    pub(super) fn events(events: Events, busy: Busy) -> Self {
        Self::of(Content::Events(events), None, busy)
    }

    /// A reply that is still being made, as an event stream.
    pub(super) fn running(running: Box<Running>, busy: Busy) -> Self {
        Self::of(Content::Running(running), None, busy)
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = hub::Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hub::Cut>>> {
        if self.rest.is_empty() {
            self.owed = None;
            let polled = self.as_mut().poll_content(cx);
            if polled.is_ready() {
                self.busy.says();
            }
            return match polled {
                // A held stream hands over what it has: it may leave the connection when that is sent.
                Poll::Ready(Some(Ok(frame))) if !self.is_held() && frame.data_ref().is_some_and(|data| data.len() > PIECE) => {
                    self.rest = frame.into_data().unwrap_or_default();
                    let bytes = self.rest.len();
                    self.owed = Some(self.busy.owes(bytes));
                    Poll::Ready(Some(Ok(self.piece())))
                }
                other => other,
            };
        }
        self.busy.says();
        Poll::Ready(Some(Ok(self.piece())))
    }

    fn is_end_stream(&self) -> bool {
        if !self.rest.is_empty() {
            return false;
        }
        match &self.content {
            Content::Full(bytes) => bytes.is_empty(),
            Content::Stream(_) | Content::Running(_) | Content::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(_) | Content::Running(_) | Content::Events(_) => SizeHint::default(),
        }
    }
}

impl ReplyBody {
    fn is_held(&self) -> bool {
        match &self.content {
            Content::Stream(_) => true,
            Content::Full(_) | Content::Running(_) | Content::Events(_) => false,
        }
    }

    /// The next piece of the rest.
    fn piece(&mut self) -> Frame<Bytes> {
        let length = self.rest.len().min(PIECE);
        Frame::data(self.rest.split_to(length))
    }

    fn poll_content(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hub::Cut>>> {
        match &mut self.content {
            Content::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Stream(stream) => stream.poll_next(cx).map(|bytes| bytes.map(|bytes| bytes.map(Frame::data))),
            Content::Events(events) => events.poll_next(cx).map(|event| event.map(|event| Ok(Frame::data(event)))),
            Content::Running(running) => match running.poll_event(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Next::Comment) => Poll::Ready(Some(Ok(Frame::data(sse::KEEP_ALIVE)))),
                Poll::Ready(Next::Event(event)) => Poll::Ready(Some(Ok(Frame::data(event)))),
                Poll::Ready(Next::Reply(reply)) => match reply.payload {
                    Payload::Json(json) => {
                        self.content = Content::Full(Bytes::new());
                        Poll::Ready(Some(Ok(Frame::data(sse::message(&json)))))
                    }
                    Payload::Stream(stream) => {
                        self.busy.holds(stream.ticket());
                        self.content = Content::Stream(stream);
                        self.poll_content(cx)
                    }
                    Payload::Empty | Payload::Silence | Payload::Resumed(_) => Poll::Ready(None),
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use http_body_util::{Full, StreamBody};

    use super::*;
    use crate::connection::Connection;

    fn limits() -> Limits {
        Limits {
            connections: 1,
            streams: 1,
            in_flight: 1,
            body: 100_000,
            body_budget: 150_000,
            header: 8192,
            json_depth: 64,
            backlog: 1024,
            request_time: Duration::from_secs(1),
            read_time: Duration::from_secs(1),
            requests_per_second: None,
            stream_age: None,
        }
    }

    fn chunks(count: usize, size: usize) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        StreamBody::new(futures::stream::iter((0..count).map(move |_| Ok(Frame::data(Bytes::from(vec![b'x'; size]))))))
    }

    #[tokio::test]
    async fn a_declared_length_is_reserved_before_anything_is_read_and_returned_after() {
        let load = Arc::new(Load::default());
        let received = read(Full::new(Bytes::from_static(b"12345")), Some(5), &limits(), &load).await.unwrap();
        assert_eq!((&*received.bytes, load.body_bytes()), (&b"12345"[..], 5));
        drop(received);
        assert_eq!(load.body_bytes(), 0);
        let _large = read(chunks(1, 90_000), Some(90_000), &limits(), &load).await.unwrap();
        assert_eq!(read(chunks(1, 90_000), Some(90_000), &limits(), &load).await.unwrap_err(), Unread::OverBudget);
    }

    #[tokio::test]
    async fn an_answer_is_handed_over_in_pieces_and_counts_until_the_last() {
        let load = Arc::new(Load::default());
        let connection = Connection::new(None, &load);
        let in_flight = load.request(1);
        let large = Bytes::from(vec![b'x'; 3 * PIECE + 1]);
        let mut body = ReplyBody::full(large, in_flight, connection.busy(http::Version::HTTP_11));
        assert_eq!(body.size_hint().exact(), Some(3 * PIECE as u64 + 1));
        let mut lengths = vec![];
        while !body.is_end_stream() {
            lengths.push(body.frame().await.unwrap().unwrap().into_data().unwrap().len());
            assert_eq!((load.owed_bytes(), load.in_flight()), (3 * PIECE as u64 + 1, 1));
        }
        assert_eq!(lengths, [PIECE, PIECE, PIECE, 1]);
        drop(body);
        assert_eq!((load.owed_bytes(), load.in_flight()), (0, 0));
        let small = ReplyBody::full(vec![b'x'; PIECE], None, connection.busy(http::Version::HTTP_11)).frame().await;
        assert_eq!((small.unwrap().unwrap().into_data().unwrap().len(), load.owed_bytes()), (PIECE, 0), "most answers are one");
    }

    #[tokio::test]
    async fn an_undeclared_length_is_reserved_as_it_grows() {
        let load = Arc::new(Load::default());
        let received = read(chunks(3, 30_000), None, &limits(), &load).await.unwrap();
        assert_eq!(received.bytes.len(), 90_000);
        assert_eq!(received.reserved.bytes(), 2 * CHUNK);
        assert_eq!(read(chunks(1, 90_000), None, &limits(), &load).await.unwrap_err(), Unread::OverBudget);
        drop(received);
        assert_eq!(read(chunks(4, 30_000), None, &limits(), &load).await.unwrap_err(), Unread::TooLarge);
        assert_eq!(load.body_bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_refused_request_sends_is_taken_unless_it_is_too_much_or_too_slow() {
        let silent = || StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let mut waits = HeaderMap::new();
        assert_eq!(discard(chunks(2, DISCARDED_BYTES / 2), &waits).await, Rest::Taken);
        assert_eq!(discard(chunks(3, DISCARDED_BYTES / 2), &waits).await, Rest::Left);
        let start = tokio::time::Instant::now();
        assert_eq!(discard(silent(), &waits).await, Rest::Left);
        assert_eq!(start.elapsed(), DISCARD_TIME);
        let declared = Full::new(Bytes::from(vec![b'x'; DISCARDED_BYTES + 1]));
        assert_eq!(discard(declared, &waits).await, Rest::Left);
        waits.insert(header::EXPECT, "100-continue".parse().unwrap());
        assert_eq!(discard(silent(), &waits).await, Rest::Left);
        assert_eq!(start.elapsed(), DISCARD_TIME, "neither is waited for");
        assert_eq!(discard(Full::new(Bytes::new()), &waits).await, Rest::Taken);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_sender_is_given_up() {
        let load = Arc::new(Load::default());
        let silent = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Infallible>>());
        assert_eq!(read(silent, Some(10), &limits(), &load).await.unwrap_err(), Unread::TooSlow);
        assert_eq!(load.body_bytes(), 0);
    }
}
