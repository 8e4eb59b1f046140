//! What a peer is answered. Nothing here waits: the loop that reads from the peer goes on at once.

use std::sync::Arc;

use super::wire::{Answer, Ask};
use crate::shard::{Shard, epoch_seconds};

/// Answers a peer.
pub fn answer(shard: &Arc<Shard>, ask: Ask) -> Answer {
    match ask {
        Ask::Revoke { session, expires } => match shard.end_session(session, expires, epoch_seconds()) {
            Ok(()) => Answer::Done,
            Err(_) => Answer::Full,
        },
        Ask::Unknown => Answer::Unknown,
    }
}
