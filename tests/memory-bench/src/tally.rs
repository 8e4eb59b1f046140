//! What clients saw, counted by them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one kind of client.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    opened: AtomicU64,
    answered: AtomicU64,
    refused: AtomicU64,
    unreachable: AtomicU64,
    ended: AtomicU64,
    cut: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
}

/// What came of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A stream or a session is held.
    Opened,
    /// A call was answered to its end.
    Answered,
    /// 503.
    Refused,
    /// No connection, or one that ended without a word.
    Unreachable,
    /// A stream that its client wanted to keep ended as its specification says.
    Ended,
    /// A stream, or an answer, broke off.
    Cut,
    /// A tool said that it failed, or an answer was none.
    Failed,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub opened: u64,
    pub answered: u64,
    /// Attempts that came to nothing: refused, or nobody there.
    pub rejected: u64,
    /// Of those, without an answer.
    pub unreachable: u64,
    /// Streams and answers that ended against their client's will.
    pub forced: u64,
    /// Of those, without a goodbye.
    pub cut: u64,
    pub failed: u64,
    /// Of answers that were taken.
    pub bytes: u64,
}

impl Tally {
    pub(crate) fn add(&self, fate: Fate) {
        let counter = match fate {
            Fate::Opened => &self.opened,
            Fate::Answered => &self.answered,
            Fate::Refused => &self.refused,
            Fate::Unreachable => &self.unreachable,
            Fate::Ended => &self.ended,
            Fate::Cut => &self.cut,
            Fate::Failed => &self.failed,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn took(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        let [opened, answered, refused, unreachable, ended, cut, failed, bytes] =
            [&self.opened, &self.answered, &self.refused, &self.unreachable, &self.ended, &self.cut, &self.failed, &self.bytes]
                .map(|counter| counter.load(Relaxed));
        Counts { opened, answered, rejected: refused + unreachable, unreachable, forced: ended + cut, cut, failed, bytes }
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            opened: sum.opened + one.opened,
            answered: sum.answered + one.answered,
            rejected: sum.rejected + one.rejected,
            unreachable: sum.unreachable + one.unreachable,
            forced: sum.forced + one.forced,
            cut: sum.cut + one.cut,
            failed: sum.failed + one.failed,
            bytes: sum.bytes + one.bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unreachable_is_rejected_and_what_is_cut_is_forced() {
        let tally = Tally::default();
        for fate in [Fate::Refused, Fate::Unreachable, Fate::Ended, Fate::Cut, Fate::Cut, Fate::Opened] {
            tally.add(fate);
        }
        let counts = tally.counts();
        assert_eq!((counts.rejected, counts.unreachable, counts.forced, counts.cut, counts.opened), (2, 1, 3, 2, 1));
    }

    #[test]
    fn kinds_are_added_member_by_member() {
        let kind = |first| Counts {
            opened: first,
            answered: first + 1,
            rejected: first + 2,
            unreachable: first + 3,
            forced: first + 4,
            cut: first + 5,
            failed: first + 6,
            bytes: first + 7,
        };
        let sum: Counts = [kind(0), kind(10)].into_iter().sum();
        let members = [sum.opened, sum.answered, sum.rejected, sum.unreachable, sum.forced, sum.cut, sum.failed, sum.bytes];
        assert_eq!(members, [10, 12, 14, 16, 18, 20, 22, 24]);
    }
}
