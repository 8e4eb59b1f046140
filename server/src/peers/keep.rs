//! What a session changes of itself, on every shard: one shard puts the changes of a session in order, and has all others
//! keep the record before the client is answered.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::wire::{Answer, Ask};
use super::{LOOK, Unanswered, Unheard};
use crate::limits::MAX_FILTER_BYTES;
use crate::session::{Change, SessionKey, TooMany};
use crate::shard::{Shard, epoch_millis};

/// How long a change waits for shards that do not answer; one that answers is enough then, the others learn of it when they
/// are connected again.
const KEEP_TIME: Duration = Duration::from_secs(2);

/// Changes what is kept of sessions, for the request of one.
#[derive(Clone, Copy, Debug)]
pub struct Keeper<'a> {
    shard: &'a Shard,
    expires: u64,
}

/// A change that was not made, or of which it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unkept {
    /// A bound is in the way.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// It may have been made.
    #[error("no other shard has confirmed the change in time; try again")]
    Unconfirmed,
}

impl<'a> Keeper<'a> {
    /// For the request of a session that ends by itself at `expires`, seconds since the epoch.
    pub fn new(shard: &'a Shard, expires: u64) -> Self {
        Self { shard, expires }
    }

    /// Changes what is kept of the session: once it is answered, every shard goes by it.
    ///
    /// # Errors
    /// When it is not kept.
    pub async fn change(&self, session: SessionKey, change: Change) -> Result<(), Unkept> {
        if let Change::Subscribe(uri) | Change::Unsubscribe(uri) = &change
            && uri.len() > MAX_FILTER_BYTES
        {
            self.shard.peers.no_room("record");
            return Err(TooMany.into());
        }
        let deadline = Instant::now() + 2 * KEEP_TIME;
        loop {
            let Some(link) = self.shard.peers.keeper_of(session) else {
                return here(self.shard, session, self.expires, &change).await;
            };
            let answer = link.ask(Ask::Change { session, expires: self.expires, change: change.clone() }, deadline).await;
            self.shard.peers.count(&answer);
            match answer {
                Ok(Answer::Done) => return Ok(()),
                Ok(Answer::Full) => return Err(TooMany.into()),
                Ok(Answer::Task(_) | Answer::Events(_) | Answer::Unknown) | Err(Unanswered::Late) => {
                    return Err(Unkept::Unconfirmed);
                }
                // Another shard keeps order in its place.
                Err(Unanswered::Lost) => sleep(LOOK).await,
            }
        }
    }
}

/// Changes what is kept of a session, where its changes are put in order.
pub(super) async fn here(shard: &Shard, session: SessionKey, expires: u64, change: &Change) -> Result<(), Unkept> {
    let record = shard.sessions.change(session, expires, change, epoch_millis());
    let record = record.inspect_err(|_| shard.peers.no_room("record"))?;
    shard.go_by(session, &record);
    let (confirmed, all) = shard.peers.everywhere(&Ask::Keep { session, record }, KEEP_TIME).await;
    match all {
        Ok(()) => Ok(()),
        Err(Unheard::Full) => Err(TooMany.into()),
        Err(Unheard::Late) if confirmed > 0 => Ok(()),
        Err(Unheard::Late) => Err(Unkept::Unconfirmed),
    }
}
