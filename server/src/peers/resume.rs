//! A stream that another shard keeps, handed on to a client that resumes it here: asked for batch by batch, the next one when
//! the one before it was taken, so a slow client makes nothing grow on either shard.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::time::Instant;

use super::link::{Link, Unanswered};
use super::wire::{Answer, Ask};
use super::{Peers, RESPOND_TIME};
use crate::exchange::resume::Batch;
use crate::session::{Incarnation, SessionKey};
use crate::shard::Shard;

/// The longest that a question waits for an event on the other shard.
pub const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Behind which event of which stream.
#[derive(Clone, Copy, Debug)]
pub struct From {
    /// The process that keeps it.
    pub keeps: Incarnation,
    /// Whose.
    pub session: SessionKey,
    /// Which stream.
    pub slot: u64,
    /// The newest event the client has.
    pub after: u64,
}

/// Why a stream is not handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotHandedOn {
    /// The shard that kept it does not any more, or is gone.
    Forgotten,
    /// As many are handed on as may be.
    Full,
    /// The shard that keeps it did not answer.
    Unheard,
}

/// What the next batch is asked with.
struct Place {
    shard: Arc<Shard>,
    link: Arc<Link>,
    from: From,
    reader: u64,
    wait: Duration,
    ended: bool,
}

/// Events of a stream of another shard, until it ends or cannot be followed any more: then the client comes back.
///
/// # Errors
/// When it cannot be resumed.
pub async fn handed_on(shard: &Arc<Shard>, from: From, period: Duration) -> Result<BoxStream<'static, Bytes>, NotHandedOn> {
    let room = shard.resumes.forward().ok_or(NotHandedOn::Full)?;
    let link = shard.peers.link_to(from.keeps).ok_or(NotHandedOn::Forgotten)?;
    let wait = period.min(LONGEST_WAIT);
    let mut place = Place { shard: Arc::clone(shard), link, from, reader: 0, wait: Duration::ZERO, ended: false };
    let first = match place.ask().await {
        Ok(Some(first)) => first,
        Ok(None) => return Err(NotHandedOn::Forgotten),
        Err(Unanswered::Lost | Unanswered::Late) => return Err(NotHandedOn::Unheard),
    };
    place.wait = wait;
    let first = stream::once(async move { first }).filter(|first| std::future::ready(!first.is_empty()));
    let rest = stream::unfold((place, room), async |(mut place, room)| {
        while !place.ended {
            match place.ask().await {
                Ok(Some(events)) if events.is_empty() => {}
                Ok(Some(events)) => return Some((events, (place, room))),
                Ok(None) | Err(Unanswered::Lost | Unanswered::Late) => break,
            }
        }
        None
    });
    Ok(first.chain(rest).boxed())
}

impl Place {
    /// The next events; none when the stream is forgotten.
    async fn ask(&mut self) -> Result<Option<Bytes>, Unanswered> {
        let From { session, slot, after, .. } = self.from;
        let wait_ms = u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX);
        let ask = Ask::Resume { session, slot, after, reader: self.reader, wait_ms };
        let answer = self.link.ask(ask, Instant::now() + self.wait + RESPOND_TIME).await;
        self.shard.peers.count(&answer);
        match answer? {
            Answer::Events(Batch { reader, after, ended, events }) => {
                (self.reader, self.from.after, self.ended) = (reader, after, ended);
                Ok(Some(events.into()))
            }
            Answer::Done | Answer::Full | Answer::Task(_) | Answer::Unknown => Ok(None),
        }
    }
}

impl Peers {
    /// The connection to a process, if there is one.
    fn link_to(&self, process: Incarnation) -> Option<Arc<Link>> {
        self.lock().links.get(&process).cloned()
    }
}
