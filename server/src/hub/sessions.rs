//! Legacy sessions with streams here: which of their streams is sent to, and what they want to hear.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use super::encode::Wanted;
use super::index::Index;
use super::slab::Ticket;
use crate::session::{Incarnation, SessionKey};

/// By session.
#[derive(Debug, Default)]
pub(super) struct Sessions(HashMap<SessionKey, Session>);

/// Kept small: there is one for each session with a stream.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Newest last: only the newest is sent to (2025-11-25 `basic/transports` §Multiple Connections).
    pub(super) streams: Box<[Ticket]>,
    /// Resources it is subscribed to. Of lists it always hears.
    pub(super) uris: Box<[Arc<str>]>,
    /// When the newest stream here began, microseconds since the epoch.
    pub(super) opened: Option<NonZeroU64>,
    /// There is a newer stream on this process, which is sent to in its place.
    pub(super) newer: Option<Box<Incarnation>>,
}

impl Session {
    /// The place that is sent to.
    fn voice(&self) -> Option<u32> {
        self.streams.last().filter(|_| self.newer.is_none()).map(|ticket| ticket.place())
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted { lists: [true; 3], uris: &self.uris, tasks: &[] }
    }
}

impl Sessions {
    /// A stream of a session begins: it is the newest of all.
    pub(super) fn begin(&mut self, index: &mut Index, key: SessionKey, stream: Ticket) {
        self.0.entry(key).or_default();
        self.change(index, key, |session| {
            session.streams = session.streams.iter().copied().chain([stream]).collect();
            session.newer = None;
        });
    }

    /// Changes a session that has a stream here, and who is sent to with it. When the last stream is gone, so is the session.
    pub(super) fn change<R>(&mut self, index: &mut Index, key: SessionKey, change: impl FnOnce(&mut Session) -> R) -> Option<R> {
        let session = self.0.get_mut(&key)?;
        if let Some(place) = session.voice() {
            index.remove(place, session.wanted());
        }
        let changed = change(session);
        if let Some(place) = session.voice() {
            index.insert(place, session.wanted());
        }
        if session.streams.is_empty() {
            self.0.remove(&key);
        }
        Some(changed)
    }

    /// A session with a stream here.
    pub(super) fn get(&self, key: SessionKey) -> Option<&Session> {
        self.0.get(&key)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionKey, &Session)> {
        self.0.iter().map(|(key, session)| (*key, session))
    }
}

/// Names, each kept once where the index has it.
pub(super) fn shared<'a>(index: &Index, names: impl IntoIterator<Item = &'a str>) -> Box<[Arc<str>]> {
    names.into_iter().map(|name| index.shared(name).unwrap_or_else(|| name.into())).collect()
}
