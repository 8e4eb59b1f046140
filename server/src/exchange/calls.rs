//! Legacy requests that run on this shard, by session and id: what `notifications/cancelled` ends
//! (2025-11-25 `basic/utilities/cancellation`), and what tells a second request with the id of a running one.
//!
//! Each is a request in flight, so `limits.maxInFlightRequests` bounds how many there are.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::lock;
use crate::jsonrpc;
use crate::session::SessionKey;

/// The running requests of legacy sessions.
#[derive(Debug, Default)]
pub struct Calls {
    running: Mutex<HashMap<(SessionKey, Box<str>), Running>>,
    /// Read before the lock is taken: most requests end before they are ever registered.
    count: AtomicUsize,
    next: AtomicU64,
}

#[derive(Debug)]
struct Running {
    serial: u64,
    cancel: oneshot::Sender<()>,
}

/// A request of that session with that id is still running (2025-11-25 `basic/index` §Requests).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request with this id is still running in this session")]
pub struct DuplicateId;

/// A running request, until dropped.
#[derive(Debug)]
pub struct Registered {
    calls: Arc<Calls>,
    key: (SessionKey, Box<str>),
    serial: u64,
    cancelled: oneshot::Receiver<()>,
}

impl Calls {
    /// Whether a request with that id runs.
    pub fn is_running(&self, session: SessionKey, id: &RawValue) -> bool {
        self.count.load(Relaxed) > 0 && lock(&self.running).contains_key(&(session, canonical(id)))
    }

    /// Makes a request known.
    ///
    /// # Errors
    /// When another with its id runs.
    pub fn register(self: &Arc<Self>, session: SessionKey, id: &RawValue) -> Result<Registered, DuplicateId> {
        let key = (session, canonical(id));
        let (cancel, cancelled) = oneshot::channel();
        let serial = self.next.fetch_add(1, Relaxed);
        let mut running = lock(&self.running);
        if running.contains_key(&key) {
            return Err(DuplicateId);
        }
        running.insert(key.clone(), Running { serial, cancel });
        self.count.store(running.len(), Relaxed);
        Ok(Registered { calls: Arc::clone(self), key, serial, cancelled })
    }

    /// Cancels a request. `false` when none with that id runs here: it ended, or another shard runs it.
    pub fn cancel(&self, session: SessionKey, id: &RawValue) -> bool {
        let cancelled = {
            let mut running = lock(&self.running);
            let cancelled = running.remove(&(session, canonical(id)));
            self.count.store(running.len(), Relaxed);
            cancelled
        };
        cancelled.is_some_and(|request| request.cancel.send(()).is_ok())
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.count.load(Relaxed)
    }
}

impl Registered {
    /// Resolves when the client cancels the request.
    ///
    /// # Cancel safety
    /// May be dropped and asked for again.
    pub async fn cancelled(&mut self) {
        // The sender goes with the entry, and the entry goes when the request is cancelled or `self` is dropped.
        let _ = (&mut self.cancelled).await;
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut running = lock(&self.calls.running);
        // A request that was cancelled has left; its id may have been taken again since.
        if running.get(&self.key).is_some_and(|request| request.serial == self.serial) {
            running.remove(&self.key);
        }
        self.calls.count.store(running.len(), Relaxed);
    }
}

/// An id keeps its type; a string has many spellings, of which one is kept.
fn canonical(id: &RawValue) -> Box<str> {
    if id.get().contains('\\')
        && let Some(text) = jsonrpc::raw_text(id)
    {
        return serde_json::Value::String(text.into_owned()).to_string().into();
    }
    id.get().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    fn session(number: u64) -> SessionKey {
        SessionKey { incarnation: [7; 16], number }
    }

    #[tokio::test]
    async fn a_running_request_is_cancelled_by_its_session_and_its_id_and_by_no_other() {
        let calls = Arc::new(Calls::default());
        let mut request = calls.register(session(1), id("\"a\"")).unwrap();
        assert!(!calls.cancel(session(2), id("\"a\"")) && !calls.cancel(session(1), id("\"b\"")));
        assert!(calls.is_running(session(1), id("\"a\"")));
        assert!(calls.cancel(session(1), id("\"\\u0061\"")), "the same string in another spelling");
        request.cancelled().await;
        assert!(!calls.cancel(session(1), id("\"a\"")), "only once");
    }

    #[test]
    fn an_id_is_free_again_when_its_request_ends_and_keeps_its_type() {
        let calls = Arc::new(Calls::default());
        let first = calls.register(session(1), id("1")).unwrap();
        assert_eq!(calls.register(session(1), id("1")).map(drop), Err(DuplicateId));
        let _text = calls.register(session(1), id("\"1\"")).unwrap();
        let _other = calls.register(session(2), id("1")).unwrap();
        drop(first);
        assert!(!calls.is_running(session(1), id("1")));
        assert_eq!(calls.running(), 2);
    }

    #[test]
    fn a_cancelled_request_that_ends_late_does_not_take_its_successor_along() {
        let calls = Arc::new(Calls::default());
        let old = calls.register(session(1), id("1")).unwrap();
        assert!(calls.cancel(session(1), id("1")));
        let _new = calls.register(session(1), id("1")).unwrap();
        drop(old);
        assert!(calls.is_running(session(1), id("1")));
    }
}
