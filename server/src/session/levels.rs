//! What each legacy session wants to hear of log messages (2025-11-25 `server/utilities/logging`): nothing until it says so.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{SessionKey, lock};
use crate::limits::MAX_MUTABLE_SESSIONS;
use crate::mcp::logging::LoggingLevel;

/// The levels of the sessions that set one.
#[derive(Debug, Default)]
pub struct Levels {
    of: Mutex<HashMap<SessionKey, LoggingLevel>>,
    /// Read before the lock is taken: most shards have none.
    count: AtomicUsize,
}

impl Levels {
    /// What a session set.
    pub fn get(&self, session: SessionKey) -> Option<LoggingLevel> {
        (self.count.load(Relaxed) > 0).then(|| lock(&self.of).get(&session).copied()).flatten()
    }

    /// Sets it. `false` when too many sessions have one.
    #[must_use]
    pub fn set(&self, session: SessionKey, level: LoggingLevel) -> bool {
        let mut of = lock(&self.of);
        let room = of.len() < MAX_MUTABLE_SESSIONS || of.contains_key(&session);
        if room {
            of.insert(session, level);
            self.count.store(of.len(), Relaxed);
        }
        room
    }

    /// Forgets a session that ended.
    pub fn end_session(&self, session: SessionKey) {
        let mut of = lock(&self.of);
        of.remove(&session);
        self.count.store(of.len(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_hears_what_it_asked_for_and_a_full_table_refuses_new_ones_only() {
        let levels = Levels::default();
        let session = |number| SessionKey { incarnation: [1; 16], number };
        assert_eq!(levels.get(session(0)), None);
        for number in 0..MAX_MUTABLE_SESSIONS as u64 {
            assert!(levels.set(session(number), LoggingLevel::Info));
        }
        assert!(!levels.set(session(u64::MAX), LoggingLevel::Info));
        assert!(levels.set(session(0), LoggingLevel::Debug));
        assert_eq!(levels.get(session(0)), Some(LoggingLevel::Debug));
        levels.end_session(session(0));
        assert_eq!(levels.get(session(0)), None);
        assert!(levels.set(session(u64::MAX), LoggingLevel::Error));
    }
}
