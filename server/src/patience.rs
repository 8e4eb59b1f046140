//! Bounds on the time of futures that are mostly over at once: no timer is made before one is waited for. The futures are
//! pinned by the caller: what took one by value would have room for it twice.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// The output of a future, unless it takes longer than `time` from its first poll. Of what is ready then no time is asked.
///
/// # Errors
/// When it takes longer.
///
/// # Cancel safety
/// That of the future.
pub(crate) async fn within<F: Future + Unpin>(time: Duration, mut future: F) -> Result<F::Output, Elapsed> {
    match poll_fn(|cx| Poll::Ready(Pin::new(&mut future).poll(cx))).await {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => timeout(time, future).await,
    }
}

/// The same for a future that another part of this task is about to make ready: it has another turn before time is asked.
///
/// # Errors
/// When it takes longer.
///
/// # Cancel safety
/// That of the future.
pub(crate) async fn within_turns<F: Future + Unpin>(time: Duration, mut future: F) -> Result<F::Output, Elapsed> {
    let mut waited = false;
    let early = poll_fn(|cx| match Pin::new(&mut future).poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if waited => Poll::Ready(None),
        Poll::Pending => {
            waited = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    });
    match early.await {
        Some(output) => Ok(output),
        None => timeout(time, future).await,
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;

    use tokio::task::yield_now;
    use tokio::time::{Instant, sleep};

    use super::*;

    const TIME: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn what_never_comes_is_given_up_after_its_time_and_what_comes_in_time_is_not() {
        for n in 0..2 {
            let start = Instant::now();
            let given_up = if n == 0 { within(TIME, pending::<()>()).await } else { within_turns(TIME, pending::<()>()).await };
            assert!(given_up.is_err());
            assert_eq!(start.elapsed(), TIME);
        }
        let late = || async {
            sleep(Duration::from_secs(4)).await;
            7
        };
        assert_eq!((within(TIME, pin!(late())).await, within_turns(TIME, pin!(late())).await), (Ok(7), Ok(7)));
        assert_eq!((within(TIME, ready(7)).await, within_turns(TIME, pin!(yield_now())).await), (Ok(7), Ok(())));
    }
}
