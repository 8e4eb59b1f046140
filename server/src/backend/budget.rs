//! How many bytes of answers a shard holds at one time.
//!
//! Limits of single answers cannot bound their sum: 64 calls of 1 MiB to each of ten backends are more than a small shard
//! has. Bytes are reserved as they arrive, and a call that finds none left fails while the shard lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::room::Room;

/// Bytes that may still be held.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicUsize,
    room: Arc<Room>,
}

/// Bytes that are held; they are given back when this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

/// None left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exhausted;

impl Budget {
    /// So many bytes, or as many as there are addresses, and no more than there is room for.
    pub(super) fn of(bytes: u64, room: Arc<Room>) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(usize::try_from(bytes).unwrap_or(usize::MAX)), room })
    }

    /// Nothing yet.
    pub(super) fn hold(self: &Arc<Self>) -> Held {
        Held { budget: self.clone(), bytes: 0 }
    }
}

// === impl Held ===

impl Held {
    pub(super) fn add(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let take = |left: usize| left.checked_sub(bytes);
        self.budget.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).map_err(|_| Exhausted)?;
        if !self.budget.room.take(bytes as u64) {
            self.budget.left.fetch_add(bytes, Ordering::Relaxed);
            return Err(Exhausted);
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, Ordering::Relaxed);
        self.budget.room.give_back(self.bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Left;

    #[test]
    fn what_is_held_comes_back_once() {
        let budget = Budget::of(10, Arc::default());
        let mut first = budget.hold();
        first.add(4).unwrap();
        first.add(4).unwrap();
        let mut second = budget.hold();
        assert_eq!(second.add(3), Err(Exhausted));
        second.add(2).unwrap();
        drop(first);
        second.add(8).unwrap();
        drop(second);
        assert_eq!(budget.left.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn what_there_is_no_room_for_is_not_held() {
        let room = Arc::new(Room::default());
        room.read(Left { all: 5, entry: 5, growth: 5 });
        let budget = Budget::of(10, Arc::clone(&room));
        let mut held = budget.hold();
        held.add(5).unwrap();
        assert_eq!(held.add(1), Err(Exhausted));
        drop(held);
        assert_eq!(budget.left.load(Ordering::Relaxed), 10);
        budget.hold().add(5).unwrap();
    }
}
