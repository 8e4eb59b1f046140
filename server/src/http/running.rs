//! A request whose reply is being made: awaited, streamed when it takes long, and finished without its client in the era
//! where a closed connection is no cancellation (2025-11-25 `basic/transports` §Sending Messages; in 2026-07-28 it is one).

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep};

use super::Answer;
use super::events::Events;
use crate::era::{Payload, Reply};
use crate::exchange::Outbox;
use crate::limits::{MAX_ORPHANS, RETRY_MS};
use crate::load::InFlight;
use crate::shard::Shard;

/// A request whose reply is being made, and what it says before. Dropping it cancels the request, or leaves it an orphan.
pub(super) struct Running {
    shard: Arc<Shard>,
    reply: Option<Pin<Box<dyn Future<Output = Reply> + Send>>>,
    /// It is there, and waits for what was said before it to be sent.
    ready: Option<Reply>,
    outbox: Arc<Outbox>,
    in_flight: Option<InFlight>,
    period: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// It goes on as a stream that can be resumed.
    handed_over: bool,
}

/// What an event stream says next.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing yet: still there.
    Comment,
    /// A notification, or a question.
    Event(Bytes),
    /// The reply.
    Reply(Reply),
}

impl Running {
    pub(super) fn new(
        shard: Arc<Shard>,
        reply: impl Future<Output = Reply> + Send + 'static,
        outbox: Arc<Outbox>,
        in_flight: InFlight,
        period: Duration,
    ) -> Self {
        let reply = Some(Box::pin(reply) as Pin<Box<dyn Future<Output = Reply> + Send>>);
        let in_flight = Some(in_flight);
        Self { shard, reply, ready: None, outbox, in_flight, period, timer: None, handed_over: false }
    }

    /// The reply.
    ///
    /// # Cancel safety
    /// May be dropped and asked for again.
    pub(super) fn reply(&mut self) -> impl Future<Output = Reply> {
        poll_fn(|cx| self.poll_reply(cx))
    }

    /// The reply, when it is all there is to say; none when something is to be said before it, which takes an event stream.
    ///
    /// # Cancel safety
    /// May be dropped and asked for again.
    pub(super) fn head(&mut self) -> impl Future<Output = Option<Reply>> {
        poll_fn(|cx| self.poll_head(cx))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Option<Reply>> {
        if let Poll::Ready(reply) = self.poll_reply(cx) {
            // A refusal tells its story in its status, which an event stream does not have.
            let says_more = reply.status == 200 && !self.outbox.is_empty();
            if !says_more {
                return Poll::Ready(Some(reply));
            }
            self.ready = Some(reply);
            return Poll::Ready(None);
        }
        self.outbox.poll_ready(cx).map(|()| None)
    }

    /// The reply as an answer that counts until it is sent.
    pub(super) fn counted(&mut self, reply: Reply) -> Answer {
        match self.in_flight.take() {
            Some(in_flight) => Answer::Counted(reply, in_flight),
            None => Answer::Reply(reply),
        }
    }

    /// From here on it is an event stream: one that can be resumed, where its era has that.
    pub(super) fn streamed(mut self) -> Answer {
        let Some(owner) = self.outbox.owner() else { return Answer::Running(Box::new(self)) };
        let (ready, reply) = (self.ready.take(), self.reply.take());
        let response = async move {
            let reply = match (ready, reply) {
                (Some(reply), _) => reply,
                (None, Some(reply)) => reply.await,
                (None, None) => return None,
            };
            match reply.payload {
                Payload::Json(json) => Some(json),
                Payload::Empty | Payload::Silence | Payload::Stream(_) | Payload::Resumed(_) => None,
            }
        };
        self.handed_over = true;
        let retry = self.shard.jitter.between(RETRY_MS);
        let reader = self.shard.resumes.begin(&self.outbox, owner, response, self.in_flight.take(), retry);
        Answer::Events(Events::new(reader.boxed(), None, self.period))
    }

    /// What was said before the reply, in order; then the reply; a comment when a period went by without either.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if self.ready.is_none()
            && let Poll::Ready(reply) = self.poll_reply(cx)
        {
            self.ready = Some(reply);
        }
        if let Poll::Ready(event) = self.outbox.poll_next(cx) {
            // It carried the head, and it is a sign of life.
            self.timer = Some(Box::pin(sleep(self.period)));
            return Poll::Ready(Next::Event(event));
        }
        if let Some(reply) = self.ready.take() {
            return Poll::Ready(Next::Reply(reply));
        }
        // The first comment at once: it carries the head.
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(Duration::ZERO)));
        ready!(timer.as_mut().poll(cx));
        *timer = Box::pin(sleep(self.period));
        cx.waker().wake_by_ref();
        Poll::Ready(Next::Comment)
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Reply> {
        let Some(reply) = &mut self.reply else { return Poll::Ready(Reply::empty(500)) };
        let reply = ready!(reply.as_mut().poll(cx));
        self.reply = None;
        Poll::Ready(reply)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.handed_over {
            return;
        }
        let (unsaid, outlives_client) = self.outbox.close();
        if unsaid > 0 {
            self.shard.load.unsaid(unsaid);
        }
        let Some(reply) = self.reply.take().filter(|_| outlives_client) else { return };
        let in_flight = self.in_flight.take();
        if let (Some(counted), Ok(runtime)) = (self.shard.load.orphan(MAX_ORPHANS), Handle::try_current()) {
            // It ends by itself: every request has a deadline.
            runtime.spawn(async move {
                let _counted = (counted, in_flight);
                reply.await;
            });
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("outbox", &self.outbox).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::*;

    const PERIOD: Duration = Duration::from_secs(25);

    fn running(outlives_its_client: bool) -> (Arc<Shard>, Running, oneshot::Sender<()>, oneshot::Receiver<()>) {
        let shard = Arc::new(Shard::test());
        let (go, gone) = oneshot::channel();
        let (done, finished) = oneshot::channel();
        let reply = async move {
            let _ = gone.await;
            let _ = done.send(());
            Reply::empty(202)
        };
        let in_flight = shard.load.request(1).unwrap();
        let outbox = Arc::new(Outbox::new(true));
        if outlives_its_client {
            outbox.outlive_client();
        }
        (Arc::clone(&shard), Running::new(shard, reply, outbox, in_flight, PERIOD), go, finished)
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_call_is_heard_of_at_once_and_in_every_period_until_its_reply() {
        let (_shard, mut running, go, _finished) = running(false);
        let start = Instant::now();
        for n in 0..3 {
            assert!(matches!(poll_fn(|cx| running.poll_event(cx)).await, Next::Comment));
            assert!(start.elapsed() >= PERIOD * n && start.elapsed() < PERIOD * n + Duration::from_secs(1));
        }
        go.send(()).unwrap();
        assert!(matches!(poll_fn(|cx| running.poll_event(cx)).await, Next::Reply(Reply { status: 202, .. })));
    }

    #[tokio::test]
    async fn a_modern_request_is_cancelled_with_its_connection() {
        let (shard, running, go, finished) = running(false);
        drop(running);
        assert!(go.send(()).is_err() && finished.await.is_err());
        assert_eq!((shard.load.in_flight(), shard.load.orphans()), (0, 0));
    }

    #[tokio::test]
    async fn a_legacy_request_runs_on_without_its_connection_and_counts_until_it_ends() {
        let (shard, running, go, finished) = running(true);
        drop(running);
        assert_eq!((shard.load.in_flight(), shard.load.orphans()), (1, 1));
        go.send(()).unwrap();
        finished.await.unwrap();
        while shard.load.orphans() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(shard.load.in_flight(), 0);
    }
}
