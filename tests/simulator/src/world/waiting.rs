//! Clients that are not connected and want to be, by the second of their next attempt.

use std::collections::VecDeque;

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

/// By kind of client.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// Of each second from the next on, the number of each kind.
    due: VecDeque<Vec<u32>>,
    total: Vec<u64>,
}

impl Waiting {
    /// Nobody, of so many kinds.
    pub(super) fn nobody(kinds: usize) -> Self {
        Self { due: VecDeque::new(), total: vec![0; kinds] }
    }

    /// How many of a kind wait.
    pub(super) fn of(&self, kind: usize) -> u64 {
        self.total[kind]
    }

    /// How many wait.
    pub(super) fn all(&self) -> u64 {
        self.total.iter().sum()
    }

    /// Lets clients come back, each at a second of its own from `from` to `to` seconds ahead (at least one).
    pub(super) fn come_back(&mut self, kind: usize, count: u32, (from, to): (u32, u32), rng: &mut Xoshiro256PlusPlus) {
        let kinds = self.total.len();
        while self.due.len() < to as usize {
            self.due.push_back(vec![0; kinds]);
        }
        for _ in 0..count {
            self.due[rng.random_range(from..=to) as usize - 1][kind] += 1;
        }
        self.total[kind] += u64::from(count);
    }

    /// The attempts of this second.
    pub(super) fn attempts(&mut self) -> Vec<u32> {
        let due = self.due.pop_front().unwrap_or_else(|| vec![0; self.total.len()]);
        for (total, due) in self.total.iter_mut().zip(&due) {
            *total -= u64::from(*due);
        }
        due
    }

    /// Takes up to `count` of a kind away for good, those first who would come last; returns how many it took.
    pub(super) fn give_up(&mut self, kind: usize, count: u64) -> u64 {
        let mut left = count;
        for due in self.due.iter_mut().rev() {
            let gone = u64::from(due[kind]).min(left);
            due[kind] -= gone as u32;
            left -= gone;
        }
        self.total[kind] -= count - left;
        count - left
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn everybody_comes_back_once_within_the_span() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut waiting = Waiting::nobody(2);
        waiting.come_back(1, 1000, (2, 6), &mut rng);
        let came: Vec<_> = (0..8).map(|_| waiting.attempts()[1]).collect();
        assert_eq!((came[0], came[6], came[7]), (0, 0, 0));
        assert!(came[1..6].iter().all(|count| (150..250).contains(count)), "{came:?}");
        assert_eq!((came.iter().sum::<u32>(), waiting.all()), (1000, 0));
    }

    #[test]
    fn no_more_give_up_than_wait() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut waiting = Waiting::nobody(1);
        waiting.come_back(0, 10, (1, 3), &mut rng);
        assert_eq!((waiting.give_up(0, 4), waiting.of(0), waiting.give_up(0, 40), waiting.all()), (4, 6, 6, 0));
    }
}
