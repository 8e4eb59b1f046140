//! Which processes are connected, and which are gone for good: what tasks ask before one answers for another.

use std::collections::HashMap;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Peers;
use super::members::GIVE_UP;
use crate::session::Incarnation;

/// Processes whose connection ended, as many as are remembered: twice the shards of the largest cluster.
const MAX_DEPARTED: usize = 1024;

/// Processes without a connection that had one: their pod, and since when.
#[derive(Debug, Default)]
pub(super) struct Departed(HashMap<Incarnation, (String, Instant)>);

impl Departed {
    /// Its connection has ended.
    pub(super) fn insert(&mut self, incarnation: Incarnation, name: String, now: Instant) {
        if self.0.len() >= MAX_DEPARTED
            && let Some(oldest) = self.0.iter().min_by_key(|(_, (_, since))| *since).map(|(incarnation, _)| *incarnation)
        {
            self.0.remove(&oldest);
        }
        self.0.insert(incarnation, (name, now));
    }

    /// It is connected.
    pub(super) fn remove(&mut self, incarnation: &Incarnation) {
        self.0.remove(incarnation);
    }
}

impl Peers {
    /// Processes that are connected, in an order that is the same everywhere.
    pub fn processes(&self) -> Vec<Incarnation> {
        let mut processes: Vec<_> = self.lock().links.keys().copied().collect();
        processes.sort_unstable();
        processes
    }

    /// Whether a process is connected.
    pub fn is_connected(&self, process: Incarnation) -> bool {
        self.lock().links.contains_key(&process)
    }

    /// Whether a process will never answer again: its pod refuses connections or has another process, or it was silent for
    /// [`GIVE_UP`]. One that was never connected ended before this one began: who serves is in step with all others.
    pub fn is_gone(&self, process: Incarnation) -> bool {
        let (state, now) = (self.lock(), Instant::now());
        if process == self.incarnation || state.links.contains_key(&process) {
            return false;
        }
        let Some((name, since)) = state.departed.0.get(&process) else { return true };
        now.duration_since(*since) >= GIVE_UP
            || state.links.values().any(|link| link.name == *name)
            || state.members.may_return(name, now) == Some(false)
    }

    /// Whether everybody who may be alive is connected.
    pub fn is_whole(&self) -> bool {
        let state = self.lock();
        state.members.all_heard(Instant::now(), |name| state.links.values().any(|link| link.name == name))
    }

    /// Tells of connections that begin and end.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_departed_are_remembered_and_the_oldest_is_forgotten_first() {
        let (mut departed, now) = (Departed::default(), Instant::now());
        let process = |n: u16| {
            let mut process = [0; 16];
            process[..2].copy_from_slice(&n.to_be_bytes());
            process
        };
        for n in 0..=1024 {
            departed.insert(process(n), "c".to_owned(), now + std::time::Duration::from_millis(n.into()));
        }
        assert_eq!(departed.0.len(), MAX_DEPARTED);
        assert!(!departed.0.contains_key(&process(0)) && departed.0.contains_key(&process(1)));
    }
}
