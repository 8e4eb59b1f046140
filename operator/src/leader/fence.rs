//! Leave to write, for as long as the lease lasts. Every write goes through a [`Fence`], to the API server and to shards.
//!
//! A term is measured on this machine's monotonic clock, from the moment the last renewal was *sent*: whoever takes over
//! counts from when it saw that renewal, which is later, and waits [`super::DURATION`], which is longer. A process that was
//! stopped for longer than its term finds the fence closed when it goes on, whatever it was about to send.
//!
//! What no client can exclude: a process that is stopped between the last look at the clock and the system call behind it, some
//! microseconds later, sends that one request when it goes on. Such a write can do no harm that matters, because each names
//! the very object it means: a name that is taken, a uid, a resource version. Time during which the whole machine is
//! suspended does not count on this clock; the same holds then.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use futures::future::BoxFuture;
use http::{Method, Request};
use kube::client::Body;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tower::{BoxError, Layer, Service};

/// The lease is not ours, or not ours any more: nothing may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease is not ours: nothing may be written")]
pub struct Closed;

/// Leave to write, until the term ends; cheap to clone.
#[derive(Clone, Debug)]
pub struct Fence(Option<watch::Receiver<Option<Instant>>>);

/// Opens and closes the fence; closes it for good when dropped.
#[derive(Debug)]
pub struct Gate(watch::Sender<Option<Instant>>);

// === impl Gate ===

impl Gate {
    /// A closed gate, and what it keeps closed.
    pub fn new() -> (Self, Fence) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), Fence(Some(receiver)))
    }

    /// Writes may be sent until then.
    pub fn open_until(&self, end: Instant) {
        self.0.send_if_modified(|term| term.replace(end) != Some(end));
    }

    /// Nothing may be written from now on.
    pub fn close(&self) {
        self.0.send_if_modified(|term| term.take().is_some());
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.close();
    }
}

// === impl Fence ===

impl Fence {
    /// Always open: an operator that stands for no election.
    pub fn none() -> Self {
        Self(None)
    }

    /// Waits until it is open.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn opened(&self) {
        let Some(term) = &self.0 else { return };
        if term.clone().wait_for(Option::is_some).await.is_err() {
            // The gate is gone, closed.
            std::future::pending::<()>().await;
        }
    }

    /// Whether writes may be sent now; `None` when there is no end to that.
    fn check(&self, now: Instant) -> Result<Option<Instant>, Closed> {
        let Some(term) = &self.0 else { return Ok(None) };
        match *term.borrow() {
            Some(end) if now < end => Ok(Some(end)),
            Some(_) | None => Err(Closed),
        }
    }

    /// Lets a write go on for as long as the term lasts. Whenever it is about to do something, the clock is looked at first.
    ///
    /// # Errors
    /// When the fence is closed, or closes before the answer is there.
    pub async fn guard<F: Future>(&self, write: F) -> Result<F::Output, Closed> {
        let Some(first) = self.check(Instant::now())? else { return Ok(write.await) };
        let (mut write, mut term) = (pin!(write), pin!(sleep_until(first)));
        poll_fn(|context| {
            match self.check(Instant::now()) {
                Err(closed) => return Poll::Ready(Err(closed)),
                Ok(Some(end)) if end != term.deadline() => term.as_mut().reset(end),
                Ok(_) => {}
            }
            // Only for the wake-up when the term ends.
            if term.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(Closed));
            }
            write.as_mut().poll(context).map(Ok)
        })
        .await
    }
}

/// Puts everything but reads behind the fence: whatever sends with this client, now and in future.
impl<S> Layer<S> for Fence {
    type Service = Fenced<S>;

    fn layer(&self, inner: S) -> Fenced<S> {
        Fenced { inner, fence: self.clone() }
    }
}

/// A connection to the API server with the fence before it.
#[derive(Clone, Debug)]
pub struct Fenced<S> {
    inner: S,
    fence: Fence,
}

impl<S> Service<Request<Body>> for Fenced<S>
where
    S: Service<Request<Body>, Error = BoxError>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return Box::pin(self.inner.call(request));
        }
        if let Err(closed) = self.fence.check(Instant::now()) {
            return Box::pin(std::future::ready(Err(closed.into())));
        }
        let (fence, answer) = (self.fence.clone(), self.inner.call(request));
        Box::pin(async move { fence.guard(answer).await.unwrap_or_else(|closed| Err(closed.into())) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use tokio::time::{advance, sleep};

    use super::*;

    const TERM: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_before_the_first_term_and_after_the_last() {
        let (gate, fence) = Gate::new();
        assert_eq!(fence.guard(async { 1 }).await, Err(Closed));
        gate.open_until(Instant::now() + TERM);
        assert_eq!(fence.guard(async { 1 }).await, Ok(1));
        advance(TERM).await;
        assert_eq!(fence.guard(async { 1 }).await, Err(Closed));
        gate.open_until(Instant::now() + TERM);
        drop(gate);
        assert_eq!(fence.guard(async { 1 }).await, Err(Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_waits_is_given_up_when_the_term_ends_and_not_before() {
        let (gate, fence) = Gate::new();
        let begun = Instant::now();
        gate.open_until(begun + TERM);
        assert_eq!(fence.guard(std::future::pending::<()>()).await, Err(Closed));
        assert_eq!(begun.elapsed(), TERM);
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_extends_the_writes_under_way() {
        let (gate, fence) = Gate::new();
        let begun = Instant::now();
        gate.open_until(begun + TERM);
        let write = tokio::spawn(async move { fence.guard(sleep(TERM + TERM / 2)).await });
        sleep(TERM / 2).await;
        gate.open_until(begun + TERM * 2);
        assert_eq!(write.await.unwrap(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_was_stopped_does_not_take_the_next_step_of_a_write() {
        let (gate, fence) = Gate::new();
        gate.open_until(Instant::now() + TERM);
        let (mut connected, mut sent) = (false, false);
        {
            // Connect, then send: the process is stopped in between.
            let steps = poll_fn(|_| {
                if std::mem::replace(&mut connected, true) {
                    sent = true;
                    return Poll::Ready(());
                }
                Poll::Pending
            });
            let mut write = pin!(fence.guard(steps));
            assert_eq!((&mut write).now_or_never(), None);
            // No timer fires while the process is stopped: only the clock goes on.
            advance(TERM * 2).await;
            assert_eq!(write.now_or_never(), Some(Err(Closed)));
        }
        assert!(connected && !sent, "it was sent after the term");
    }

    /// An API server that answers everything.
    struct Server(u32);

    impl Service<Request<Body>> for Server {
        type Response = u32;
        type Error = BoxError;
        type Future = std::future::Ready<Result<u32, BoxError>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            self.0 += 1;
            std::future::ready(Ok(self.0))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn behind_the_fence_only_reads_pass_when_it_is_closed() {
        let (gate, fence) = Gate::new();
        let mut client = fence.layer(Server(0));
        let mut send = |method: &Method| client.call(Request::builder().method(method).body(Body::empty()).unwrap());
        let writes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        for method in &writes {
            let refused = send(method).await.unwrap_err();
            assert!(refused.is::<Closed>(), "{method}");
        }
        assert_eq!(send(&Method::GET).await.unwrap(), 1, "a write reached the server");
        gate.open_until(Instant::now() + TERM);
        for (method, count) in writes.iter().zip(2..) {
            assert_eq!(send(method).await.unwrap(), count);
        }
        gate.close();
        assert!(send(&Method::DELETE).await.is_err());
    }

    #[tokio::test]
    async fn without_an_election_everything_may_be_written() {
        let fence = Fence::none();
        fence.opened().await;
        assert_eq!(fence.guard(async { 1 }).await, Ok(1));
    }
}
