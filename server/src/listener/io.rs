//! A socket that gives up on a peer which begins a request and does not go on.
//!
//! The timer runs from the accept, or from the first byte after a pause, until the head is there. A connection that is
//! quiet between two requests has none: an idle client is never cut for being quiet.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::connection::{Doing, State};

/// A socket with a time for each head.
#[derive(Debug)]
pub(super) struct Timed<S> {
    socket: S,
    doing: Arc<Doing>,
    time: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Timed<S> {
    pub(super) fn new(socket: S, doing: Arc<Doing>, time: Duration) -> Self {
        Self { socket, doing, time, timer: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.socket).poll_read(cx, buffer);
        match this.doing.now() {
            State::Busy | State::Http2 => this.timer = None,
            State::Idle if polled.is_ready() && buffer.filled().len() > before => {
                this.doing.set(State::Head);
                this.timer = Some(Box::pin(sleep(this.time)));
            }
            State::Head => {
                let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(this.time)));
                if polled.is_pending() && timer.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the head took too long")));
                }
            }
            State::Idle => {}
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::Instant;

    use super::*;

    const TIME: Duration = Duration::from_secs(15);

    #[tokio::test(start_paused = true)]
    async fn a_head_that_never_comes_is_given_up() {
        let (_client, server) = duplex(64);
        let mut timed = Timed::new(server, Arc::default(), TIME);
        let start = Instant::now();
        assert_eq!(timed.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_trickle_do_not_extend_the_time() {
        let (mut client, server) = duplex(64);
        let mut timed = Timed::new(server, Arc::default(), TIME);
        let reader = tokio::spawn(async move { while timed.read_u8().await.is_ok() {} });
        let start = Instant::now();
        while client.write_u8(b'x').await.is_ok() && start.elapsed() < TIME * 2 {
            sleep(Duration::from_secs(1)).await;
        }
        reader.await.unwrap();
        assert!(start.elapsed() <= TIME + Duration::from_secs(1), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_between_two_requests_may_be_quiet_for_ever() {
        let (mut client, server) = duplex(64);
        let doing = Arc::new(Doing::default());
        let mut timed = Timed::new(server, Arc::clone(&doing), TIME);
        client.write_u8(b'x').await.unwrap();
        timed.read_u8().await.unwrap();
        doing.set(State::Idle);
        let quiet = tokio::time::timeout(Duration::from_hours(10), timed.read_u8()).await;
        assert!(quiet.is_err(), "still open after ten hours");
        client.write_u8(b'y').await.unwrap();
        timed.read_u8().await.unwrap();
        assert_eq!(timed.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
