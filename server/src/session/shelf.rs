//! Records as they are kept: those of sixteen sessions that one process made one after another, in one piece of memory, because every
//! shard keeps those of all. Pure.
//!
//! ```text
//! which of the sixteen 1 | length 2 | version 8 | expires 8 | level 1 | URIs …     and the next
//! ```

use super::{Record, Uris};
use crate::mcp::logging::LoggingLevel;

/// Sessions of a shelf. A change writes all of it anew: more would save a few bytes each.
pub(super) const PLACES: u64 = 16;

/// Some records, each in its place.
#[derive(Debug, Default)]
pub(super) struct Shelf(Box<[u8]>);

impl Shelf {
    /// The record in a place.
    pub(super) fn get(&self, place: u8) -> Option<Record> {
        self.entries().find(|(other, _)| *other == place).and_then(|(_, entry)| decode(entry))
    }

    /// All of them, with their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, Record)> {
        self.entries().filter_map(|(place, entry)| Some((place, decode(entry)?)))
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts a record in a place.
    pub(super) fn put(&mut self, place: u8, record: &Record) {
        self.rewrite(|other, _| other != place, Some((place, record)));
    }

    /// Drops the records that are not kept.
    pub(super) fn retain(&mut self, mut keeps: impl FnMut(u8, Record) -> bool) {
        self.rewrite(|place, entry| decode(entry).is_some_and(|record| keeps(place, record)), None);
    }

    fn rewrite(&mut self, mut keeps: impl FnMut(u8, &[u8]) -> bool, more: Option<(u8, &Record)>) {
        let mut bytes = Vec::new();
        for (place, entry) in self.entries().filter(|(place, entry)| keeps(*place, entry)) {
            put(&mut bytes, place, &[entry]);
        }
        if let Some((place, Record { version, expires, level, uris })) = more {
            let level = [LoggingLevel::code(*level)];
            put(&mut bytes, place, &[&version.to_be_bytes(), &expires.to_be_bytes(), &level, uris.as_str().as_bytes()]);
        }
        self.0 = bytes.into();
    }

    fn entries(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let ([place, high, low], after) = rest.split_first_chunk()?;
            let (entry, next) = after.split_at_checked(u16::from_be_bytes([*high, *low]).into())?;
            rest = next;
            Some((*place, entry))
        })
    }
}

fn put(bytes: &mut Vec<u8>, place: u8, entry: &[&[u8]]) {
    // The bounds of a session's URIs are far below.
    let Ok(length) = u16::try_from(entry.iter().map(|part| part.len()).sum::<usize>()) else { return };
    bytes.push(place);
    bytes.extend_from_slice(&length.to_be_bytes());
    for part in entry {
        bytes.extend_from_slice(part);
    }
}

fn decode(entry: &[u8]) -> Option<Record> {
    let (version, rest) = entry.split_first_chunk()?;
    let (expires, rest) = rest.split_first_chunk()?;
    let (level, uris) = rest.split_first()?;
    Some(Record {
        version: u64::from_be_bytes(*version),
        expires: u64::from_be_bytes(*expires),
        level: LoggingLevel::from_code(*level),
        uris: Uris::from_str(std::str::from_utf8(uris).ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MAX_FILTER_BYTES, MAX_SUBSCRIPTIONS};

    fn record(version: u64, uris: &[&str]) -> Record {
        Record { version, expires: u64::MAX, level: LoggingLevel::from_code(3), uris: Uris::of(uris.iter().copied()).unwrap() }
    }

    #[test]
    fn each_record_is_found_where_it_was_put_last() {
        let mut shelf = Shelf::default();
        assert!(shelf.is_empty() && shelf.get(0).is_none());
        let longest = "x".repeat(MAX_FILTER_BYTES / MAX_SUBSCRIPTIONS - 3);
        let most: Vec<_> = (0..MAX_SUBSCRIPTIONS).map(|n| format!("{n:0>3}{longest}")).collect();
        let most = record(2, &most.iter().map(String::as_str).collect::<Vec<_>>());
        for place in [5, 0, 15, 5] {
            shelf.put(place, &record(place.into(), &["a:1", "ä:2"]));
        }
        shelf.put(0, &most);
        let none = Record { level: None, ..record(9, &[]) };
        shelf.put(7, &none);
        assert_eq!(
            [5, 0, 15, 7, 1].map(|place| shelf.get(place)),
            [Some(record(5, &["a:1", "ä:2"])), Some(most), Some(record(15, &["a:1", "ä:2"])), Some(none), None]
        );
        assert_eq!(shelf.iter().count(), 4);
        shelf.retain(|place, record| place == 5 || record.version == 9);
        assert_eq!(shelf.iter().map(|(place, _)| place).collect::<Vec<_>>(), [5, 7]);
        shelf.retain(|_, _| false);
        assert!(shelf.is_empty());
    }
}
