//! How many calls of one backend, or of one tool, run at one time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::metrics::BackendMetrics;

/// The longest a call waits for others to end: a caller is better served by an error it can act upon than by a queue.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The bound on calls of one backend or tool from one shard: so many run, as many again wait, at most a second each.
#[derive(Debug)]
pub(crate) struct Gate {
    permits: Semaphore,
    limit: usize,
    waiting: AtomicUsize,
    metrics: BackendMetrics,
}

/// A call that may run; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Entered<'a> {
    _permit: SemaphorePermit<'a>,
    metrics: &'a BackendMetrics,
}

/// Neither a place to run nor one to wait, or the wait was too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

struct Waiting<'a>(&'a Gate);

impl Gate {
    pub(super) fn new(limit: u32, metrics: BackendMetrics) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
        Self { permits: Semaphore::new(limit), limit, waiting: AtomicUsize::new(0), metrics }
    }

    /// Calls at one time.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn metrics(&self) -> &BackendMetrics {
        &self.metrics
    }

    /// Waits for a place, at the latest until the deadline.
    ///
    /// # Cancel safety
    /// A call that stops waiting leaves its place to others.
    pub(crate) async fn enter(&self, deadline: Instant) -> Result<Entered<'_>, Busy> {
        let permit = match self.permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => Box::pin(self.queue(deadline)).await?,
        };
        self.metrics.in_flight.inc();
        Ok(Entered { _permit: permit, metrics: &self.metrics })
    }

    async fn queue(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Busy> {
        let _waiting = Waiting::one(self).ok_or(Busy)?;
        match timeout_at(deadline.min(Instant::now() + MAX_WAIT), self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Busy),
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
    }
}

// === impl Waiting ===

impl<'a> Waiting<'a> {
    fn one(gate: &'a Gate) -> Option<Self> {
        gate.waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| (waiting < gate.limit).then_some(waiting + 1))
            .ok()?;
        gate.metrics.queued.inc();
        Some(Self(gate))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.queued.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;
    use crate::backend::metrics::Metrics;

    fn gate(limit: u32) -> Gate {
        Gate::new(limit, Metrics::default().backend("test"))
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_wait_as_run_and_the_next_is_refused() {
        let gate = gate(1);
        let running = gate.enter(far()).await.unwrap();
        let mut waiting = pin!(gate.enter(far()));
        assert!(poll!(waiting.as_mut()).is_pending());
        assert_eq!(gate.metrics.queued.get(), 1);
        let before = Instant::now();
        assert_eq!(gate.enter(far()).await.err(), Some(Busy));
        assert_eq!(before.elapsed(), Duration::ZERO, "refused at once");
        drop(running);
        let running = waiting.await.unwrap();
        assert_eq!((gate.metrics.in_flight.get(), gate.metrics.queued.get()), (1, 0));
        drop(running);
        assert_eq!(gate.metrics.in_flight.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_a_second_or_the_deadline() {
        let gate = gate(1);
        let _running = gate.enter(far()).await.unwrap();
        let start = Instant::now();
        assert!(gate.enter(far()).await.is_err());
        assert_eq!(start.elapsed(), MAX_WAIT);
        let start = Instant::now();
        assert!(gate.enter(start + Duration::from_millis(100)).await.is_err());
        assert!(start.elapsed() < Duration::from_millis(150));
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_leaves_the_place() {
        let gate = gate(1);
        let _running = gate.enter(far()).await.unwrap();
        {
            let mut waiting = pin!(gate.enter(far()));
            assert!(poll!(waiting.as_mut()).is_pending());
        }
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
        assert_eq!(gate.metrics.queued.get(), 0);
    }
}
