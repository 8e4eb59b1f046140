//! What a session can change of itself: what it is subscribed to, and which log messages it wants. Kept by every shard, since
//! any may run its next request or hold its stream; of two versions of a record the newer stands. Pure: time is an argument.

use std::collections::HashMap;
use std::sync::Arc;

use super::shelf::{PLACES, Shelf};
use super::{Incarnation, SessionKey, Uris};
use crate::limits::MAX_MUTABLE_SESSIONS;
use crate::mcp::logging::LoggingLevel;

/// Bytes of the URIs of all records: what a cluster's subscriptions may cost each of its shards.
pub const MAX_RECORD_BYTES: usize = 16 << 20;

/// The changeable part of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Grows with every change; about the time of the last one, milliseconds since the epoch.
    pub version: u64,
    /// When the session ends by itself, seconds since the epoch.
    pub expires: u64,
    /// Log messages it wants; none before it says so.
    pub level: Option<LoggingLevel>,
    /// Resources it is subscribed to.
    pub uris: Uris,
}

/// A change of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `logging/setLevel`
    Level(LoggingLevel),
    /// `resources/subscribe`
    Subscribe(Arc<str>),
    /// `resources/unsubscribe`
    Unsubscribe(Arc<str>),
}

/// A bound is in the way: of the session's subscriptions, or of all records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many subscriptions")]
pub struct TooMany;

/// The records of a cluster: by the process that made a session, and its number there, in shelves of [`PLACES`].
#[derive(Debug, Default)]
pub(super) struct Records {
    of: HashMap<Incarnation, HashMap<u64, Shelf>>,
    count: usize,
    /// Of their URIs.
    bytes: usize,
}

impl Records {
    /// Changes the record of a session; returns what it is now.
    pub(super) fn change(&mut self, session: SessionKey, expires: u64, change: &Change, now_ms: u64) -> Result<Record, TooMany> {
        let mut record = self.get(session).unwrap_or_default();
        match change {
            Change::Level(level) => record.level = Some(*level),
            Change::Subscribe(uri) => record.uris = record.uris.with(uri)?,
            Change::Unsubscribe(uri) => record.uris = record.uris.without(uri)?,
        }
        record.expires = expires;
        record.version = now_ms.max(record.version + 1);
        self.learn(session, &record, now_ms / 1000)?;
        Ok(record)
    }

    /// Takes in a record that another shard knows; `false` when the one here is as new.
    pub(super) fn learn(&mut self, session: SessionKey, record: &Record, now: u64) -> Result<bool, TooMany> {
        let known = self.get(session);
        if record.expires <= now || known.is_some_and(|known| known.version >= record.version) {
            return Ok(false);
        }
        if !self.fits(session, record) {
            self.retain(|record| record.expires > now);
            if !self.fits(session, record) {
                return Err(TooMany);
            }
        }
        match self.get(session) {
            Some(before) => self.bytes -= before.uris.bytes(),
            None => self.count += 1,
        }
        self.bytes += record.uris.bytes();
        let (number, place) = place(session);
        self.of.entry(session.incarnation).or_default().entry(number).or_default().put(place, record);
        Ok(true)
    }

    /// Whether there is room for the record of a session, in the place of the one there is.
    fn fits(&self, session: SessionKey, record: &Record) -> bool {
        let before = self.get(session).map(|known| known.uris.bytes());
        (before.is_some() || self.count < MAX_MUTABLE_SESSIONS)
            && self.bytes - before.unwrap_or(0) + record.uris.bytes() <= MAX_RECORD_BYTES
    }

    /// Forgets a session that has ended.
    pub(super) fn forget(&mut self, session: SessionKey) {
        let Some(record) = self.get(session) else { return };
        self.count -= 1;
        self.bytes -= record.uris.bytes();
        let (number, place) = place(session);
        let Some(shelves) = self.of.get_mut(&session.incarnation) else { return };
        if let Some(shelf) = shelves.get_mut(&number) {
            shelf.retain(|other, _| other != place);
            if shelf.is_empty() {
                shelves.remove(&number);
            }
        }
        if shelves.is_empty() {
            self.of.remove(&session.incarnation);
        }
    }

    fn retain(&mut self, mut keeps: impl FnMut(&Record) -> bool) {
        (self.count, self.bytes) = (0, 0);
        let (count, bytes) = (&mut self.count, &mut self.bytes);
        self.of.retain(|_, shelves| {
            shelves.retain(|_, shelf| {
                shelf.retain(|_, record| {
                    let is_kept = keeps(&record);
                    if is_kept {
                        *count += 1;
                        *bytes += record.uris.bytes();
                    }
                    is_kept
                });
                !shelf.is_empty()
            });
            shelves.shrink_to_fit();
            !shelves.is_empty()
        });
    }

    /// The record of a session.
    pub(super) fn get(&self, session: SessionKey) -> Option<Record> {
        let (number, place) = place(session);
        self.of.get(&session.incarnation)?.get(&number)?.get(place)
    }

    /// All of them.
    pub(super) fn all(&self, now: u64) -> Vec<(SessionKey, Record)> {
        let shelves = self.of.iter().flat_map(|(incarnation, shelves)| shelves.iter().map(move |shelf| (*incarnation, shelf)));
        let all = shelves.flat_map(|(incarnation, (number, shelf))| {
            shelf.iter().map(move |(place, record)| (key(incarnation, *number, place), record))
        });
        all.filter(|(_, record)| record.expires > now).collect()
    }
}

/// The shelf of a session, and its place there.
fn place(session: SessionKey) -> (u64, u8) {
    (session.number / PLACES, u8::try_from(session.number % PLACES).unwrap_or(0))
}

fn key(incarnation: Incarnation, shelf: u64, place: u8) -> SessionKey {
    SessionKey { incarnation, number: shelf * PLACES + u64::from(place) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MAX_FILTER_BYTES, MAX_SUBSCRIPTIONS};

    fn session(number: u64) -> SessionKey {
        SessionKey { incarnation: [1; 16], number }
    }

    fn subscribe(uri: &str) -> Change {
        Change::Subscribe(uri.into())
    }

    #[test]
    fn the_newer_record_stands_in_whatever_order_they_come() {
        let (mut one, mut other) = (Records::default(), Records::default());
        let first = one.change(session(1), 100, &subscribe("a:1"), 5_000).unwrap();
        let second = one.change(session(1), 100, &Change::Unsubscribe("a:1".into()), 4_000).unwrap();
        assert!(second.version > first.version, "also when the clock went back");
        assert_eq!(other.learn(session(1), &second, 5), Ok(true));
        assert_eq!(other.learn(session(1), &first, 5), Ok(false));
        assert_eq!(other.get(session(1)), Some(second));
        let level = other.change(session(1), 100, &Change::Level(LoggingLevel::Info), 6_000).unwrap();
        assert_eq!((one.learn(session(1), &level, 5), one.get(session(1))), (Ok(true), Some(level)));
    }

    #[test]
    fn a_session_has_a_bound_and_refusing_changes_nothing() {
        let mut records = Records::default();
        for n in 0..MAX_SUBSCRIPTIONS {
            records.change(session(1), 100, &subscribe(&format!("a:{n}")), 0).unwrap();
        }
        let before = records.get(session(1));
        assert_eq!(records.change(session(1), 100, &subscribe("one:more"), 0), Err(TooMany));
        assert_eq!(records.change(session(2), 100, &subscribe(&"x".repeat(MAX_FILTER_BYTES + 1)), 0), Err(TooMany));
        assert_eq!((records.get(session(1)), records.get(session(2))), (before, None));
        assert!(records.change(session(1), 100, &Change::Level(LoggingLevel::Error), 0).is_ok());
    }

    #[test]
    fn all_records_have_a_bound_and_expired_ones_make_room() {
        let mut records = Records::default();
        for n in 0..MAX_MUTABLE_SESSIONS as u64 {
            records.change(session(n), if n == 0 { 50 } else { 100 }, &subscribe("a:1"), 0).unwrap();
        }
        assert_eq!(records.change(session(u64::MAX), 100, &subscribe("a:1"), 49_000), Err(TooMany));
        assert!(records.change(session(u64::MAX), 100, &subscribe("a:1"), 50_000).is_ok());
        assert_eq!(records.get(session(0)), None);
        records.forget(session(1));
        assert_eq!((records.bytes, records.count), (3 * (MAX_MUTABLE_SESSIONS - 1), MAX_MUTABLE_SESSIONS - 1));
        assert_eq!(records.all(100).len(), 0);
    }
}
