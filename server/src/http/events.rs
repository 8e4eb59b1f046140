//! The events of a stream that can be resumed, and comments between them where nothing is said for long.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::time::{Sleep, sleep};

use crate::load::HeldStream;
use crate::sse;

/// A stream and its signs of life.
pub(super) struct Events {
    source: BoxStream<'static, Bytes>,
    /// A request that is answered counts as one; the rest of an earlier one counts as a stream.
    _held: Option<HeldStream>,
    period: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Events {
    pub(super) fn new(source: BoxStream<'static, Bytes>, held: Option<HeldStream>, period: Duration) -> Self {
        Self { source, _held: held, period, timer: None }
    }

    /// The next event, or a comment when a period went by without one; none at the end.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Poll::Ready(event) = self.source.as_mut().poll_next(cx) {
            // It carried the head, and it is a sign of life.
            self.timer = Some(Box::pin(sleep(self.period)));
            return Poll::Ready(event);
        }
        // The first comment at once: it carries the head.
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(Duration::ZERO)));
        ready!(timer.as_mut().poll(cx));
        *timer = Box::pin(sleep(self.period));
        cx.waker().wake_by_ref();
        Poll::Ready(Some(sse::KEEP_ALIVE))
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}
