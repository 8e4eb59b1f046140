//! Events on their way between shards: at least once on the wire, once in the streams. Pure.
//!
//! Each shard numbers what is raised on it and keeps the newest; a peer says which it has heard when a connection begins,
//! and is sent what came after. Events are content-free, so the newest stands for all before it that are the same.

use std::collections::{HashMap, VecDeque};

use crate::mcp::subscriptions::Event;
use crate::session::Incarnation;

/// Events kept for peers whose connection is down or slow; past it the oldest is lost to them.
pub const MAX_KEPT: usize = 1024;
/// Incarnations whose newest event is remembered: twice the shards of the largest cluster, and their predecessors.
const MAX_ORIGINS: usize = 2048;

/// What was raised here.
#[derive(Debug, Default)]
pub struct Outbox {
    newest: u64,
    /// The newest that was dropped for want of room.
    dropped: u64,
    kept: VecDeque<(u64, Event)>,
}

/// Where one peer is in an [`Outbox`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(u64);

/// What was heard of others.
#[derive(Debug, Default)]
pub struct Inbox(HashMap<Incarnation, u64>);

impl Outbox {
    /// Takes in an event; returns its number.
    pub fn raise(&mut self, event: Event) -> u64 {
        self.kept.retain(|(_, kept)| *kept != event);
        self.newest += 1;
        self.kept.push_back((self.newest, event));
        if self.kept.len() > MAX_KEPT
            && let Some((number, _)) = self.kept.pop_front()
        {
            self.dropped = number;
        }
        self.newest
    }

    /// Where a peer goes on that has heard events up to a number; one that has heard none begins with the next.
    pub fn resume(&self, heard: Option<u64>) -> Cursor {
        Cursor(heard.unwrap_or(self.newest).min(self.newest))
    }

    /// What a peer has not been sent, some of it, oldest first; the cursor moves behind it. `true` when there was more that
    /// is lost to it.
    pub fn after(&self, cursor: &mut Cursor, most: usize) -> (Vec<(u64, Event)>, bool) {
        let lost = cursor.0 < self.dropped;
        let due: Vec<_> = self.kept.iter().filter(|(number, _)| *number > cursor.0).take(most).cloned().collect();
        cursor.0 = due.last().map_or(self.newest, |(number, _)| *number);
        (due, lost)
    }
}

impl Inbox {
    /// Whether an event is new here.
    pub fn hear(&mut self, origin: Incarnation, number: u64, is_linked: impl Fn(&Incarnation) -> bool) -> bool {
        if self.0.len() >= MAX_ORIGINS && !self.0.contains_key(&origin) {
            self.0.retain(|origin, _| is_linked(origin));
        }
        let heard = self.0.entry(origin).or_default();
        let is_new = number > *heard;
        *heard = number.max(*heard);
        is_new
    }

    /// The newest that was heard of an incarnation.
    pub fn heard(&self, origin: &Incarnation) -> Option<u64> {
        self.0.get(origin).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updated(n: usize) -> Event {
        Event::ResourceUpdated(format!("test://{n}").into())
    }

    #[test]
    fn a_peer_that_comes_back_hears_what_it_missed_and_nothing_twice() {
        let (mut outbox, mut inbox) = (Outbox::default(), Inbox::default());
        let origin = [1; 16];
        for n in 0..3 {
            outbox.raise(updated(n));
        }
        let mut cursor = outbox.resume(None);
        assert!(outbox.after(&mut cursor, 10).0.is_empty(), "what was before it came is not its own");
        outbox.raise(updated(7));
        let (sent, _) = outbox.after(&mut cursor, 10);
        assert!(sent.iter().all(|(number, _)| inbox.hear(origin, *number, |_| true)) && sent.len() == 1);
        // The next is sent and does not arrive.
        outbox.raise(updated(8));
        assert_eq!(outbox.after(&mut cursor, 10).0.len(), 1);
        let mut cursor = outbox.resume(inbox.heard(&origin));
        let (again, lost) = outbox.after(&mut cursor, 10);
        assert_eq!((again, lost), (vec![(5, updated(8))], false));
        assert!(inbox.hear(origin, 5, |_| true) && !inbox.hear(origin, 5, |_| true) && !inbox.hear(origin, 4, |_| true));
    }

    #[test]
    fn the_newest_stands_for_those_before_it_that_are_the_same() {
        let mut outbox = Outbox::default();
        let mut cursor = outbox.resume(None);
        for n in 0..5000 {
            outbox.raise(updated(n % 2));
        }
        let (due, lost) = outbox.after(&mut cursor, 10);
        assert_eq!((due, lost), (vec![(4999, updated(0)), (5000, updated(1))], false));
    }

    #[test]
    fn a_peer_that_is_away_for_too_long_loses_the_oldest_and_that_is_known() {
        let mut outbox = Outbox::default();
        let mut cursor = outbox.resume(Some(0));
        for n in 0..=MAX_KEPT {
            outbox.raise(updated(n));
        }
        let (first, lost) = outbox.after(&mut cursor, 10);
        assert!(lost && first.first() == Some(&(2, updated(1))));
        let (rest, lost) = outbox.after(&mut cursor, MAX_KEPT);
        assert_eq!((rest.len(), lost), (MAX_KEPT - 10, false));
    }

    #[test]
    fn origins_are_bounded() {
        let mut inbox = Inbox::default();
        let origin = |n: u64| {
            let mut origin = [0; 16];
            origin[..8].copy_from_slice(&n.to_be_bytes());
            origin
        };
        for n in 0..10_000 {
            inbox.hear(origin(n), 1, |linked| *linked == origin(0));
        }
        assert!(inbox.0.len() <= MAX_ORIGINS && inbox.heard(&origin(0)) == Some(1));
    }
}
