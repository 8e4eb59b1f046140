//! One connection to a peer: what is asked and answered over it, and the loop that reads and writes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::answer;
use super::events::Cursor;
use super::wire::{Answer, Ask, Frame, Malformed, PAGES_PER_FRAME, RECORDS_PER_FRAME, split};
use crate::session::Incarnation;
use crate::shard::{Shard, epoch_seconds};

/// Between two frames of a side that has nothing to say.
const BEAT: Duration = Duration::from_secs(2);
/// A peer that says nothing for this long is gone.
const SILENCE: Duration = Duration::from_secs(6);
/// A peer that takes nothing for this long is gone.
const WRITE_TIME: Duration = Duration::from_secs(5);
/// Questions to one peer at one time; more wait, up to their deadline.
pub const MAX_ASKS: usize = 1024;
/// Frames that wait to be written: all questions, all answers to those of the peer, and some.
const MAX_QUEUED: usize = 2 * MAX_ASKS + 64;
/// Events in one write.
const EVENTS_AT_ONCE: usize = 256;
/// Bytes gathered into one write.
const WRITE_BYTES: usize = 64 << 10;

/// A peer, connected.
#[derive(Debug)]
pub struct Link {
    /// Its boot nonce.
    pub incarnation: Incarnation,
    /// Its pod.
    pub name: String,
    /// Who dialed.
    pub dialer: Incarnation,
    out: mpsc::Sender<Out>,
    next: AtomicU64,
    asked: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    room: Semaphore,
    in_step: AtomicBool,
    /// Hash of the configuration it serves; empty before it said so.
    serves: Mutex<String>,
    closed: CancellationToken,
}

/// What the loop of a link is to write.
#[derive(Debug)]
pub struct Queue(mpsc::Receiver<Out>);

#[derive(Debug)]
enum Out {
    Frame(Frame),
    /// The peer said which events it has heard.
    Resume(Option<u64>),
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the peer closed the connection")]
    Closed,
    #[error("the connection broke off")]
    Broken(#[from] std::io::Error),
    #[error("the peer was silent for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the peer took nothing for {} s", WRITE_TIME.as_secs())]
    Stuck,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the peer asked more than it may at one time")]
    Overrun,
    #[error("another connection took its place")]
    Replaced,
}

/// A question that got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The connection ended.
    #[error("the connection to the peer ended")]
    Lost,
    /// It took too long.
    #[error("the peer did not answer in time")]
    Late,
}

impl Ended {
    /// Label of its metric.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken(_) => "broken",
            Self::Silent => "silent",
            Self::Stuck => "stuck",
            Self::Malformed(_) => "malformed",
            Self::Overrun => "overrun",
            Self::Replaced => "replaced",
        }
    }
}

// === impl Link ===

impl Link {
    /// A link whose peer has proved itself.
    pub fn new(incarnation: Incarnation, name: String, dialer: Incarnation) -> (Arc<Self>, Queue) {
        let (out, queue) = mpsc::channel(MAX_QUEUED);
        let link = Self {
            incarnation,
            name,
            dialer,
            out,
            next: AtomicU64::new(1),
            asked: Mutex::default(),
            room: Semaphore::new(MAX_ASKS),
            in_step: AtomicBool::new(false),
            serves: Mutex::default(),
            closed: CancellationToken::new(),
        };
        (Arc::new(link), Queue(queue))
    }

    /// Asks the peer.
    ///
    /// # Errors
    /// When there is no answer.
    ///
    /// # Cancel safety
    /// The peer may have been asked.
    pub async fn ask(&self, ask: Ask, deadline: Instant) -> Result<Answer, Unanswered> {
        let asking = async {
            let _room = self.room.acquire().await.map_err(|_| Unanswered::Lost)?;
            let (answered, answer) = oneshot::channel();
            let number = self.next.fetch_add(1, Relaxed);
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(number, answered);
            let _forgotten = Forget { link: self, number };
            if self.closed.is_cancelled() {
                return Err(Unanswered::Lost);
            }
            self.out.send(Out::Frame(Frame::Ask { number, ask })).await.map_err(|_| Unanswered::Lost)?;
            tokio::select! {
                answer = answer => answer.map_err(|_| Unanswered::Lost),
                () = self.closed.cancelled() => Err(Unanswered::Lost),
            }
        };
        timeout_at(deadline, asking).await.unwrap_or(Err(Unanswered::Late))
    }

    /// Whether all it knows of sessions is known here.
    pub fn is_in_step(&self) -> bool {
        self.in_step.load(Relaxed)
    }

    /// Whether it has said that it serves the configuration of this hash.
    pub fn serves(&self, hash: &str) -> bool {
        *self.serves.lock().unwrap_or_else(PoisonError::into_inner) == hash
    }

    /// Says something that needs no answer, and may be lost.
    pub fn tell(&self, frame: Frame) {
        let _ = self.out.try_send(Out::Frame(frame));
    }

    /// Ends it.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Reads and writes until the connection ends. `read` is what came behind the greeting.
    pub(super) async fn run(self: &Arc<Self>, shard: &Arc<Shard>, socket: TcpStream, read: BytesMut, queue: Queue) -> Ended {
        let (reader, writer) = socket.into_split();
        let ended = tokio::select! {
            ended = self.read(shard, reader, read) => ended,
            ended = self.write(shard, writer, queue) => ended,
            () = self.closed.cancelled() => Ended::Replaced,
        };
        self.close();
        ended
    }

    async fn read(self: &Arc<Self>, shard: &Arc<Shard>, mut reader: impl AsyncRead + Unpin, mut buffer: BytesMut) -> Ended {
        loop {
            loop {
                let read = match split(&buffer) {
                    Ok(None) => break,
                    Ok(Some((frame, length))) => Frame::decode(frame).map(|frame| (frame, length)),
                    Err(malformed) => Err(malformed),
                };
                let (frame, length) = match read {
                    Ok(read) => read,
                    Err(malformed) => return malformed.into(),
                };
                buffer.advance(length);
                if let Err(ended) = self.take(shard, frame) {
                    return ended;
                }
            }
            match timeout(SILENCE, reader.read_buf(&mut buffer)).await {
                Ok(Ok(0)) => return Ended::Closed,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return error.into(),
                Err(_) => return Ended::Silent,
            }
        }
    }

    fn take(self: &Arc<Self>, shard: &Arc<Shard>, frame: Frame) -> Result<(), Ended> {
        match frame {
            Frame::Beat | Frame::Unknown => {}
            Frame::Hello(_) | Frame::Welcome(_) | Frame::Proof(_) => {
                return Err(Malformed::new("a greeting after the greeting").into());
            }
            Frame::Revoked { complete, pages } => {
                shard.learn_ended(&pages);
                if complete {
                    self.in_step.store(true, Relaxed);
                    shard.peers.touch();
                }
            }
            Frame::Heard(number) => self.queue(Out::Resume(number))?,
            Frame::Event { number, event } => {
                if shard.peers.hear(self.incarnation, number) {
                    shard.hear(&event);
                }
            }
            Frame::Serves(hash) => {
                *self.serves.lock().unwrap_or_else(PoisonError::into_inner) = hash;
                shard.tell_of_flips();
            }
            Frame::Records(records) => shard.learn_records(&records),
            Frame::Cancel { session, id } => {
                if let Ok(id) = RawValue::from_string(id) {
                    shard.calls.cancel(session, &id);
                }
            }
            Frame::Stream { session, opened: Some(at) } => {
                shard.hub.opened_elsewhere(session, at, self.incarnation, shard.sessions.incarnation());
            }
            Frame::Stream { session, opened: None } => shard.peers.reclaim(shard, Some(session), self.incarnation),
            Frame::Ask { number, ask } => match answer::at_once(shard, self.incarnation, ask) {
                Ok(answer) => self.queue(Out::Frame(Frame::Answer { number, answer }))?,
                Err(ask) => {
                    // As many at one time as the peer has room for questions; each has a deadline.
                    let (link, shard) = (Arc::clone(self), Arc::clone(shard));
                    tokio::spawn(async move {
                        let answer = answer::in_time(&shard, ask).await;
                        if link.queue(Out::Frame(Frame::Answer { number, answer })).is_err() {
                            link.close();
                        }
                    });
                }
            },
            Frame::Answer { number, answer } => {
                let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
                if let Some(asked) = asked {
                    // Whoever asked may have stopped waiting.
                    let _ = asked.send(answer);
                }
            }
        }
        Ok(())
    }

    /// Never waits: two shards that each wait for the other to read would wait for ever.
    fn queue(&self, out: Out) -> Result<(), Ended> {
        self.out.try_send(out).map_err(|_| Ended::Overrun)
    }

    async fn write(&self, shard: &Arc<Shard>, mut writer: impl AsyncWrite + Unpin, Queue(mut queue): Queue) -> Ended {
        let mut bytes = Vec::new();
        self.introduce(shard, &mut bytes);
        let mut raised = shard.peers.watch_raised();
        let mut cursor: Option<Cursor> = None;
        let mut beat = interval_at(Instant::now() + BEAT, BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if !bytes.is_empty() {
                match timeout(WRITE_TIME, writer.write_all(&bytes)).await {
                    Ok(Ok(())) => bytes.clear(),
                    Ok(Err(error)) => return error.into(),
                    Err(_) => return Ended::Stuck,
                }
                bytes.shrink_to(WRITE_BYTES);
            }
            tokio::select! {
                out = queue.recv() => {
                    let mut out = out;
                    while let Some(next) = out {
                        match next {
                            Out::Frame(frame) => frame.encode(&mut bytes),
                            Out::Resume(heard) => {
                                cursor = Some(shard.peers.resume(heard));
                                raised.mark_changed();
                            }
                        }
                        out = if bytes.len() < WRITE_BYTES { queue.try_recv().ok() } else { None };
                    }
                }
                changed = raised.changed(), if cursor.is_some() => {
                    if changed.is_err() {
                        return Ended::Closed;
                    }
                    if let Some(cursor) = &mut cursor {
                        let due = shard.peers.due(cursor, EVENTS_AT_ONCE);
                        if due.len() == EVENTS_AT_ONCE {
                            raised.mark_changed();
                        }
                        for (number, event) in due {
                            Frame::Event { number, event }.encode(&mut bytes);
                        }
                    }
                }
                _ = beat.tick() => Frame::Beat.encode(&mut bytes),
            }
        }
    }

    /// What a connection begins with. It is registered by now: what ends from here on is asked over it.
    fn introduce(&self, shard: &Shard, bytes: &mut Vec<u8>) {
        Frame::Heard(shard.peers.heard(&self.incarnation)).encode(bytes);
        if let Some(serving) = shard.serving() {
            Frame::Serves(serving.snapshot.hash().to_owned()).encode(bytes);
        }
        let pages = shard.sessions.ended(epoch_seconds());
        for pages in pages.chunks(PAGES_PER_FRAME) {
            Frame::Revoked { complete: false, pages: pages.to_vec() }.encode(bytes);
        }
        for records in shard.sessions.records(epoch_seconds()).chunks(RECORDS_PER_FRAME) {
            Frame::Records(records.to_vec()).encode(bytes);
        }
        // Last: from here on the peer knows what this shard knows.
        Frame::Revoked { complete: true, pages: vec![] }.encode(bytes);
        for (session, opened) in shard.hub.newest_here() {
            Frame::Stream { session, opened: Some(opened) }.encode(bytes);
        }
    }
}

/// Forgets a question whose asker waits no more.
struct Forget<'a> {
    link: &'a Link,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.link.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}
