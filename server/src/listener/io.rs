//! A socket that gives up on a peer which begins a request and does not go on, notices one that has gone however much it sent
//! before, and ends gently.
//!
//! - Its first bytes say which protocol it is.
//! - The head's timer runs from when it is first waited for, at the accept or behind its first bytes, until the head is there.
//!   A connection that is quiet between two requests has none: an idle client is never cut for being quiet.
//! - While a request is answered, hyper reads no further once bytes wait behind it, and would not see the client go. So this
//!   socket reads ahead, a little. A client that has ended its side has gone: what is not answered within [`GONE_GRACE`] is
//!   dropped, and with it, in the era where that means so, cancelled (2026-07-28 `basic/patterns/cancellation`).
//! - A client that takes its time while there is no room for the answers of others is cut (`limits::SLOW_READER`).
//! - A socket that is closed over bytes nobody read is reset by the kernel, and its client may never read the answer. Where bytes
//!   may be left, they are taken for a while after the answer ([`LINGER`]).

use std::future::Future as _;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::connection::{Doing, Input, State};

/// What is read of a client that sends more while a request of it is answered: enough to see it go behind another request.
const AHEAD: usize = 8 << 10;
/// How long an answer may take whose client has ended its side. Half of the time in which a call stops when its client goes.
const GONE_GRACE: Duration = Duration::from_millis(50);
/// How long bytes of a refused request are taken after its answer, and how many.
pub(super) const LINGER: (Duration, usize) = (Duration::from_secs(1), 4 << 20);
/// What an HTTP/2 connection begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Between two looks at whether a client that takes its time may go on doing so.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes of the first read: most requests fit.
const FIRST: usize = 4 << 10;
/// An answer up to this size, head and body, is written in one piece: to copy it takes less than the kernel's way through two.
const TOGETHER: usize = 1 << 10;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/1.1 or HTTP/1.0, or nothing that is known.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// A socket with a time for each head.
#[derive(Debug)]
pub(super) struct Timed<S> {
    socket: S,
    doing: Arc<Doing>,
    time: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Read, and not asked for yet.
    ahead: Vec<u8>,
    end: End,
    linger: Option<(Pin<Box<Sleep>>, usize)>,
    /// Runs while the client does not take what there is.
    look: Option<Pin<Box<Sleep>>>,
}

/// The client's side of the connection.
#[derive(Debug)]
enum End {
    /// Open.
    Open,
    /// It has ended; hyper is told when the time is over, or the request is.
    Seen(Pin<Box<Sleep>>),
    /// It has ended, and hyper knows.
    Told,
}

impl<S> Timed<S> {
    pub(super) fn new(socket: S, doing: Arc<Doing>, time: Duration) -> Self {
        Self { socket, doing, time, timer: None, ahead: Vec::new(), end: End::Open, linger: None, look: None }
    }

    /// The same, with bytes that were read before.
    pub(super) fn with_ahead(self, ahead: Vec<u8>) -> Self {
        Self { ahead, ..self }
    }

    /// The socket. What was read ahead is lost.
    pub(super) fn into_socket(self) -> S {
        self.socket
    }
}

impl<S: AsyncRead + Unpin> Timed<S> {
    /// Waits for as many bytes as tell the protocols apart; hyper reads them again.
    ///
    /// # Errors
    /// When they took too long, or the connection broke off.
    pub(super) fn poll_protocol(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Protocol>> {
        loop {
            let known = self.ahead.len().min(PREFACE.len());
            if self.ahead[..known] != PREFACE[..known] || !matches!(self.end, End::Open) {
                return Poll::Ready(Ok(Protocol::Http1));
            }
            if known == PREFACE.len() {
                return Poll::Ready(Ok(Protocol::Http2));
            }
            let mut bytes = [0; FIRST];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buffer) {
                Poll::Ready(read) => read?,
                Poll::Pending => {
                    let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.time)));
                    ready!(timer.as_mut().poll(cx));
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing came")));
                }
            }
            if buffer.filled().is_empty() {
                self.end = End::Told;
            }
            self.ahead.extend_from_slice(buffer.filled());
        }
    }

    /// Bytes read ahead, else those of the socket. The end of a client whose request is being answered is kept back.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let taken = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..taken]);
            self.ahead.drain(..taken);
            if self.ahead.is_empty() {
                self.ahead = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        if matches!(self.end, End::Open) {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
            if buffer.filled().len() > before || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            self.end = End::Seen(Box::pin(sleep(GONE_GRACE)));
        }
        if let End::Seen(grace) = &mut self.end
            && self.doing.now() == State::Busy
        {
            ready!(poll_gone(grace, &self.doing, cx));
        }
        self.end = End::Told;
        Poll::Ready(Ok(()))
    }

    /// Looks whether the client of the request that is being answered is still there.
    ///
    /// # Errors
    /// When it has gone, and hyper, which has not asked for what comes behind the request, cannot know.
    fn look_ahead(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.doing.now() != State::Busy {
            return Ok(());
        }
        while matches!(self.end, End::Open) && self.ahead.len() < AHEAD {
            let mut bytes = [0; 1024];
            let room = bytes.len().min(AHEAD - self.ahead.len());
            let mut buffer = ReadBuf::new(&mut bytes[..room]);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(()),
                Poll::Ready(read) => read?,
            }
            if buffer.filled().is_empty() {
                self.doing.found(Input::End);
                self.end = End::Seen(Box::pin(sleep(GONE_GRACE)));
            } else {
                self.doing.found(Input::Bytes);
                self.ahead.extend_from_slice(buffer.filled());
                // hyper may be waiting for these.
                cx.waker().wake_by_ref();
            }
        }
        if let End::Seen(grace) = &mut self.end
            && poll_gone(grace, &self.doing, cx).is_ready()
        {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the client has gone"));
        }
        Ok(())
    }

    /// The socket takes no more for now. Waits, unless its client has to go.
    fn poll_slow<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        loop {
            let look = self.look.get_or_insert_with(|| Box::pin(sleep(LOOK)));
            ready!(look.as_mut().poll(cx));
            self.look = None;
            if self.doing.keeps_others_waiting() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly")));
            }
        }
    }

    /// Takes what the client still sends, until it ends its side, the time is over, or it is too much.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (timer, left) = self.linger.get_or_insert_with(|| (Box::pin(sleep(LINGER.0)), LINGER.1));
        let mut bytes = [0; 4096];
        while *left > 0 {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buffer) {
                Poll::Pending => return timer.as_mut().poll(cx),
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => *left = left.saturating_sub(buffer.filled().len()),
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
        Poll::Ready(())
    }
}

/// Waits until a client that has ended its side has no answer to expect any more. One that is being sent is sent to its end: there
/// are clients that send nothing more and read.
fn poll_gone(grace: &mut Pin<Box<Sleep>>, doing: &Doing, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        ready!(grace.as_mut().poll(cx));
        if !doing.owes_an_answer() {
            return Poll::Ready(());
        }
        *grace = Box::pin(sleep(GONE_GRACE));
    }
}

impl<S: AsRawFd> AsRawFd for Timed<S> {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = this.poll_bytes(cx, buffer);
        this.doing.found(match (&this.end, &polled) {
            (End::Open, Poll::Pending) => Input::Nothing,
            (End::Open, Poll::Ready(_)) => Input::Bytes,
            (End::Seen(_) | End::Told, _) => Input::End,
        });
        match this.doing.now() {
            State::Busy | State::Http2 => this.timer = None,
            State::Idle if polled.is_ready() && buffer.filled().len() > before => {
                this.doing.set(State::Head);
                // That of an earlier head.
                this.timer = None;
            }
            // A head that comes whole is never waited for, and needs no timer: most do.
            State::Head if polled.is_pending() => {
                let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(this.time)));
                if timer.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the head took too long")));
                }
            }
            State::Head | State::Idle => {}
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.socket).poll_write(cx, bytes) {
            Poll::Pending => self.poll_slow(cx),
            written @ Poll::Ready(_) => written,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.socket).poll_flush(cx))?;
        this.doing.flushed();
        Poll::Ready(this.look_ahead(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
        }
        // In a head, it is hyper that refused it.
        if this.doing.leaves_bytes() || this.doing.now() == State::Head {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        let written = if slices.len() < 2 || length > TOGETHER {
            Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
        } else {
            let mut together = [0; TOGETHER];
            let mut end = 0;
            for slice in slices {
                together[end..end + slice.len()].copy_from_slice(slice);
                end += slice.len();
            }
            Pin::new(&mut self.socket).poll_write(cx, &together[..length])
        };
        match written {
            Poll::Pending => self.poll_slow(cx),
            Poll::Ready(_) => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::Instant;

    use super::*;

    const TIME: Duration = Duration::from_secs(15);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_its_time_is_cut_when_there_is_no_room_for_the_answers_of_others() {
        let (server, mut client) = duplex(16);
        let load = Arc::new(crate::load::Load::within(800));
        let connection = crate::connection::Connection::new(None, &load);
        let mut request = connection.busy(http::Version::HTTP_11);
        let mut timed = Timed::new(server, connection.doing(), TIME);
        let owed = request.owes(60);
        let start = Instant::now();
        let slow = tokio::time::timeout(TIME * 10, timed.write_all(&[0; 60])).await;
        assert!(slow.is_err(), "there is room for others: {slow:?}");
        let other = load.owe(40);
        let error = timed.write_all(&[0; 60]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() <= TIME * 10 + LOOK * 2, "{:?}", start.elapsed());
        // Who goes on reading is not cut: what it is owed is young.
        drop((owed, other, request));
        let mut next = connection.busy(http::Version::HTTP_11);
        let _owed = next.owes(200);
        let mut read = vec![0; 60];
        let (written, taken) = tokio::join!(timed.write_all(&[1; 60]), client.read_exact(&mut read));
        assert!(written.is_ok() && taken.is_ok());
    }

    fn busy() -> Arc<Doing> {
        let doing = Arc::new(Doing::default());
        doing.set(State::Busy);
        doing
    }

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

    #[tokio::test(start_paused = true)]
    async fn what_is_read_ahead_is_read_in_its_turn_and_bounded() {
        let (mut client, server) = duplex(4 * AHEAD);
        let mut timed = Timed::new(server, busy(), TIME);
        let sent: Vec<u8> = (0..3 * AHEAD).map(|n| u8::try_from(n % 251).unwrap()).collect();
        client.write_all(&sent).await.unwrap();
        for _ in 0..3 {
            timed.flush().await.unwrap();
            assert_eq!(timed.ahead.len(), AHEAD);
        }
        let mut read = vec![0; sent.len()];
        timed.read_exact(&mut read).await.unwrap();
        assert!(read == sent);
        assert_eq!(timed.ahead.capacity(), 0, "nothing is kept for a quiet connection");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_behind_bytes_nobody_reads_is_seen_to_go() {
        let (mut client, server) = duplex(64);
        let mut timed = Timed::new(server, busy(), TIME);
        client.write_all(b"another request").await.unwrap();
        let start = Instant::now();
        // As hyper does it: flushed whenever the task is woken, read never.
        let gone = tokio::spawn(async move {
            poll_fn(|cx| match Pin::new(&mut timed).poll_flush(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(error.kind()),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            })
            .await
        });
        drop(client);
        assert_eq!(gone.await.unwrap(), io::ErrorKind::ConnectionAborted);
        assert_eq!(start.elapsed(), GONE_GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_client_waits_for_an_answer_that_takes_no_time() {
        let (client, server) = duplex(64);
        let doing = busy();
        let mut timed = Timed::new(server, Arc::clone(&doing), TIME);
        drop(client);
        let start = Instant::now();
        assert_eq!(timed.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(start.elapsed(), GONE_GRACE);
        timed.flush().await.unwrap();
        let (client, server) = duplex(64);
        doing.set(State::Idle);
        let mut timed = Timed::new(server, doing, TIME);
        drop(client);
        let start = Instant::now();
        assert_eq!(timed.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(start.elapsed(), Duration::ZERO, "between two requests there is nothing to wait for");
    }

    async fn protocol_of(chunks: &[&[u8]]) -> (io::Result<Protocol>, Vec<u8>) {
        let (mut client, server) = duplex(1024);
        let mut timed = Timed::new(server, Arc::default(), TIME);
        let known = async { poll_fn(|cx| timed.poll_protocol(cx)).await };
        let send = async {
            for chunk in chunks {
                client.write_all(chunk).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (protocol, ()) = tokio::join!(known, send);
        client.shutdown().await.unwrap();
        let mut read = Vec::new();
        timed.read_to_end(&mut read).await.unwrap();
        (protocol, read)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_bytes_say_the_protocol_however_they_come_and_are_read_again() {
        let preface: Vec<&[u8]> = PREFACE.chunks(1).collect();
        for (chunks, protocol) in [
            (&preface[..], Protocol::Http2),
            (&[PREFACE, b"more"], Protocol::Http2),
            (&[b"POST /mcp HTTP/1.1\r\n"], Protocol::Http1),
            (&[b"P", b"R", b"I", b" * HTTP/1.1\r\n\r\n"], Protocol::Http1),
            (&[b"\r\n"], Protocol::Http1),
        ] {
            let (found, read) = protocol_of(chunks).await;
            assert_eq!((found.unwrap(), read), (protocol, chunks.concat()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_given_up_and_one_that_ends_speaks_no_http2() {
        let (client, server) = duplex(64);
        let mut timed = Timed::new(server, Arc::default(), TIME);
        let start = Instant::now();
        assert_eq!(poll_fn(|cx| timed.poll_protocol(cx)).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), TIME);
        drop(client);
        assert_eq!(poll_fn(|cx| timed.poll_protocol(cx)).await.unwrap(), Protocol::Http1);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_are_left_are_taken_for_a_while_after_the_answer() {
        let (mut client, server) = duplex(64);
        let doing = busy();
        doing.leave_bytes();
        let mut timed = Timed::new(server, doing, TIME);
        let sender = tokio::spawn(async move {
            let start = Instant::now();
            while client.write_all(&[0; 512]).await.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
            start.elapsed()
        });
        timed.shutdown().await.unwrap();
        drop(timed);
        let sent_for = sender.await.unwrap();
        assert!(sent_for >= LINGER.0 && sent_for < LINGER.0 * 2, "{sent_for:?}");
    }
}
