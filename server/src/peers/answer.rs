//! What a peer is answered.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use super::keep::{self, Unkept};
use super::resume::LONGEST_WAIT;
use super::wire::{Answer, Ask};
use crate::exchange::Delivered;
use crate::session::Incarnation;
use crate::shard::{Shard, epoch_seconds};

/// Answers a peer at once, the process `from`; the question comes back when its answer takes other shards.
pub fn at_once(shard: &Arc<Shard>, from: Incarnation, ask: Ask) -> Result<Answer, Ask> {
    let done = |done: bool| if done { Answer::Done } else { Answer::Full };
    Ok(match ask {
        Ask::Revoke { session, expires } => done(shard.end_session(session, expires, epoch_seconds()).is_ok()),
        Ask::Keep { session, record } => done(shard.learn_record(session, &record).is_ok()),
        Ask::Respond { session, slot, failed, outcome } => {
            let Ok(outcome) = RawValue::from_string(outcome) else { return Ok(Answer::Unknown) };
            let outcome = if failed { Err(&*outcome) } else { Ok(&*outcome) };
            match shard.asks.deliver(session, slot, outcome) {
                Delivered::Taken => Answer::Done,
                Delivered::Nobody => Answer::Unknown,
            }
        }
        Ask::Task(request) => shard.tasks.answer(from, &request).map_or(Answer::Unknown, Answer::Task),
        Ask::Change { .. } | Ask::Resume { .. } => return Err(ask),
        Ask::Unknown => Answer::Unknown,
    })
}

/// Answers a question that takes other shards.
pub async fn in_time(shard: &Shard, ask: Ask) -> Answer {
    match ask {
        Ask::Change { session, expires, change } => match keep::here(shard, session, expires, &change).await {
            Ok(()) => Answer::Done,
            Err(Unkept::TooMany(_)) => Answer::Full,
            Err(Unkept::Unconfirmed) => Answer::Unknown,
        },
        Ask::Resume { session, slot, after, reader, wait_ms } => {
            let wait = Duration::from_millis(wait_ms).min(LONGEST_WAIT);
            shard.resumes.batch(session, slot, after, reader, wait).await.map_or(Answer::Unknown, Answer::Events)
        }
        Ask::Revoke { .. } | Ask::Keep { .. } | Ask::Respond { .. } | Ask::Task(_) | Ask::Unknown => Answer::Unknown,
    }
}
