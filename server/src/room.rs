//! How much may still be taken before the memory guard looks again.
//!
//! Budgets (`limits`) bound each kind of memory by itself; all of them, on top of what a shard holds anyway, can be more than its
//! limit. A reading says what is in use, and is a quarter of a second old at most. What is taken after it is counted here, and
//! must fit below the limit: so what comes fast is refused before the guard has seen it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::memory::Left;

/// What a request takes of most kinds, bytes.
const SMALL: u64 = 64 << 10;

/// What is taken beyond the last reading. Without a reading there is no end to it.
#[derive(Debug)]
pub struct Room {
    all: AtomicU64,
    entry: AtomicU64,
    growth: AtomicU64,
    /// By what stays, since the last reading.
    grown: AtomicU64,
    /// By what passes: connections inside hyper that have asked for something, answers, and events that are kept for a client.
    passing: AtomicU64,
    /// As much of it as the last reading has seen.
    seen: AtomicU64,
    /// By bodies that are being received or answered. A reading may not have seen what has not come yet, so they count twice
    /// rather than not at all.
    promised: AtomicU64,
    /// By connections that have not asked for anything yet: the same.
    expected: AtomicU64,
}

impl Default for Room {
    fn default() -> Self {
        let (endless, nothing) = (|| AtomicU64::new(u64::MAX), AtomicU64::default);
        Self {
            all: endless(),
            entry: endless(),
            growth: endless(),
            grown: nothing(),
            passing: nothing(),
            seen: nothing(),
            promised: nothing(),
            expected: nothing(),
        }
    }
}

impl Room {
    /// A reading left so much: it has seen what was taken before it.
    pub fn read(&self, left: Left) {
        self.all.store(left.all, Relaxed);
        self.entry.store(left.entry, Relaxed);
        self.growth.store(left.growth, Relaxed);
        self.grown.store(0, Relaxed);
        self.seen.store(self.passing.load(Relaxed), Relaxed);
    }

    /// Whether nothing more may be taken.
    pub fn is_full(&self) -> bool {
        self.used() >= self.all.load(Relaxed)
    }

    /// Takes bytes for what stays, unless there is no room: less than for what passes.
    #[must_use]
    pub fn grow(&self, bytes: u64) -> bool {
        let fits = self.grown.load(Relaxed).saturating_add(bytes) <= self.growth.load(Relaxed) && self.fits(bytes);
        if fits {
            self.grow_anyway(bytes);
        }
        fits
    }

    /// Takes bytes for what stays and is there already.
    pub fn grow_anyway(&self, bytes: u64) {
        self.grown.fetch_add(bytes, Relaxed);
    }

    /// Takes bytes for a connection inside hyper, unless there is no room: less than for what it will ask for. It [`asks`] or
    /// [`goes`](Self::goes) next.
    ///
    /// [`asks`]: Self::asks
    #[must_use]
    pub fn enter(&self, bytes: u64) -> bool {
        let fits = self.has_entry(bytes);
        if fits {
            self.expected.fetch_add(bytes, Relaxed);
        }
        fits
    }

    /// Whether there is room for a connection inside hyper.
    pub fn has_entry(&self, bytes: u64) -> bool {
        let used = self.used().saturating_add(self.expected.load(Relaxed));
        used.saturating_add(bytes) <= self.entry.load(Relaxed)
    }

    /// A connection that entered asks for something: its bytes are there from now on, and pass.
    pub fn asks(&self, bytes: u64) {
        self.goes(bytes);
        self.spend(bytes);
    }

    /// A connection that entered goes, and has not asked for anything.
    pub fn goes(&self, bytes: u64) {
        self.expected.fetch_sub(bytes, Relaxed);
    }

    /// Takes bytes for what passes, unless there is no room.
    #[must_use]
    pub fn take(&self, bytes: u64) -> bool {
        let fits = self.fits(bytes);
        if fits {
            self.spend(bytes);
        }
        fits
    }

    /// Takes bytes for what passes and is there already.
    pub fn spend(&self, bytes: u64) {
        self.passing.fetch_add(bytes, Relaxed);
    }

    /// What passes is gone.
    pub fn give_back(&self, bytes: u64) {
        self.passing.fetch_sub(bytes, Relaxed);
    }

    /// Promises bytes to a body, unless there is no room, or all bodies would have more than `most`.
    #[must_use]
    pub fn promise(&self, bytes: u64, most: u64) -> bool {
        self.fits(bytes)
            && self
                .promised
                .fetch_update(Relaxed, Relaxed, |promised| promised.checked_add(bytes).filter(|sum| *sum <= most))
                .is_ok()
    }

    /// A body is gone.
    pub fn release(&self, bytes: u64) {
        self.promised.fetch_sub(bytes, Relaxed);
    }

    /// Bytes that bodies have.
    pub fn promised(&self) -> u64 {
        self.promised.load(Relaxed)
    }

    /// Connections that have not asked yet count for what is large alone: small requests would be refused for nothing, since a
    /// reading has seen most of those.
    fn fits(&self, bytes: u64) -> bool {
        let expected = if bytes > SMALL { self.expected.load(Relaxed) } else { 0 };
        self.used().saturating_add(expected).saturating_add(bytes) <= self.all.load(Relaxed)
    }

    /// Of what the last reading left.
    fn used(&self) -> u64 {
        let unseen = self.passing.load(Relaxed).saturating_sub(self.seen.load(Relaxed));
        self.grown.load(Relaxed).saturating_add(unseen).saturating_add(self.promised())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_between_two_readings_fits_what_the_first_left() {
        let room = Room::default();
        room.read(Left { all: 100, entry: 100, growth: 40 });
        assert!(room.grow(30) && !room.grow(11), "what stays has less room");
        assert!(room.take(60) && !room.take(11) && !room.is_full());
        room.grow_anyway(10);
        assert!(room.is_full() && !room.take(1) && !room.grow(1) && !room.promise(1, 100));
        room.read(Left { all: 5, entry: 5, growth: 0 });
        assert!(room.take(5) && !room.grow(1), "the next one has seen it");
    }

    #[test]
    fn what_passes_makes_room_again_before_the_next_reading() {
        let room = Room::default();
        room.read(Left { all: 100, entry: 100, growth: 100 });
        for _ in 0..10 {
            assert!(room.take(100) && !room.take(1));
            room.give_back(100);
        }
        assert!(room.take(60));
        room.read(Left { all: 40, entry: 40, growth: 40 });
        room.give_back(60);
        assert!(room.take(40) && room.take(20), "what the reading saw and has gone is room, too");
        assert!(room.take(40) && !room.take(1));
    }

    #[test]
    fn bodies_that_may_not_have_come_count_beyond_a_reading() {
        let room = Room::default();
        room.read(Left { all: 100, entry: 100, growth: 100 });
        assert!(room.promise(60, 70) && !room.promise(11, 70), "all bodies have a bound of their own");
        room.read(Left { all: 70, entry: 70, growth: 70 });
        assert!(!room.promise(20, 200) && !room.take(11) && !room.grow(11));
        assert!(room.grow(10) && room.is_full());
        room.release(60);
        assert_eq!(room.promised(), 0);
        assert!(room.promise(60, 70));
    }

    #[test]
    fn connections_leave_room_for_what_they_ask_for() {
        let room = Room::default();
        room.read(Left { all: 100, entry: 60, growth: 20 });
        assert!(room.enter(60) && !room.enter(1) && room.take(40));
        room.read(Left { all: 100, entry: 70, growth: 20 });
        assert!(room.enter(10) && !room.enter(1), "a reading may not have seen what has not asked yet");
        room.asks(70);
        assert!(!room.enter(1), "nor what has asked since");
        room.read(Left { all: 100, entry: 60, growth: 20 });
        assert!(room.enter(60));
        room.goes(60);
        room.grow_anyway(30);
        assert!(room.enter(30) && !room.enter(1), "what stays counts, too");
    }

    #[test]
    fn small_requests_are_not_refused_for_connections_that_have_not_asked() {
        let room = Room::default();
        let all = 4 * SMALL;
        room.read(Left { all, entry: all, growth: all });
        assert!(room.enter(all) && room.promise(SMALL, all) && !room.is_full());
        assert!(!room.promise(SMALL + 1, all), "a large one would come on top");
        room.goes(all);
        assert!(room.promise(SMALL + 1, all));
    }

    #[test]
    fn without_a_reading_there_is_no_end() {
        let room = Room::default();
        assert!(room.take(1 << 62) && room.grow(1 << 62) && room.promise(1 << 62, u64::MAX));
        assert!(!room.is_full());
    }
}
