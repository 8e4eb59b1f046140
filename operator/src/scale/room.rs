//! Whether what leaves shards that go fits the others, in load and in bytes on the same shards: asked of many candidates in one pass,
//! so it is answered from sums. A thousand shards and a hundred victims are no reason to add up a thousand shards a hundred times.

use super::census::{Member, Members, Role};
use super::measure::{Measure, excess, room};
use super::policy::Policy;
use crate::stages::ShardState;

/// What moves, and the room for it, while shards are chosen to go.
pub(super) struct Room {
    shares: Vec<Share>,
    /// Load and bytes that move.
    moving: (u64, u64),
    /// Shards that stay, by how many bytes a unit of load may bring until they, not load, are what they lack: the most first.
    sorted: Vec<(u64, usize)>,
    load: Sums,
    bytes: Sums,
    count: Sums,
}

/// What one shard brings to the sums.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    /// Load and bytes that move when it goes.
    gone: (u64, u64),
    /// Load and bytes that move though it stays: what it has too much.
    stays: (u64, u64),
    /// Room for load and for bytes.
    room: (u64, u64),
    /// Its place in the order, if it has room.
    rank: Option<usize>,
}

/// Sums of the first so many numbers, of which some become zero (a binary indexed tree).
struct Sums(Vec<u128>);

// === impl Room ===

impl Room {
    /// Before anyone was chosen.
    pub(super) fn of(policy: &Policy, measure: &Measure, members: &Members<'_>) -> Self {
        let mut moving = (0_u64, 0_u64);
        let shares: Vec<Share> = members.all.iter().map(|member| share(policy, measure, member)).collect();
        for (member, share) in members.all.iter().zip(&shares) {
            let goes = member.state == ShardState::Draining || member.role == Role::Recycled;
            moving = plus(moving, if goes { share.gone } else { share.stays });
        }
        Self::over(shares, moving)
    }

    fn over(mut shares: Vec<Share>, moving: (u64, u64)) -> Self {
        let per_load = |share: &Share| share.room.1.checked_div(share.room.0);
        let mut sorted: Vec<_> = shares.iter().enumerate().filter_map(|(at, share)| Some((per_load(share)?, at))).collect();
        sorted.sort_unstable_by_key(|(bytes, at)| (std::cmp::Reverse(*bytes), *at));
        for (rank, (_, at)) in sorted.iter().enumerate() {
            shares[*at].rank = Some(rank);
        }
        let sums = |of: fn(&Share) -> u64| Sums::of(sorted.iter().map(|(_, at)| u128::from(of(&shares[*at]))));
        let (load, bytes, count) = (sums(|share| share.room.0), sums(|share| share.room.1), sums(|_| 1));
        Self { shares, moving, sorted, load, bytes, count }
    }

    /// Counts a shard among those that go.
    pub(super) fn choose(&mut self, member: &Member<'_>) {
        self.choose_at(member.at);
    }

    fn choose_at(&mut self, at: usize) {
        let share = std::mem::take(&mut self.shares[at]);
        self.moving = switched(self.moving, &share);
        if let Some(rank) = share.rank {
            self.load.take(rank, u128::from(share.room.0));
            self.bytes.take(rank, u128::from(share.room.1));
            self.count.take(rank, 1);
        }
    }

    /// Whether all of it fits when this shard goes too.
    pub(super) fn fits(&self, member: &Member<'_>) -> bool {
        self.fits_at(member.at)
    }

    fn fits_at(&self, at: usize) -> bool {
        let candidate = self.shares[at];
        let (load, bytes) = switched(self.moving, &candidate);
        if load == 0 {
            return true;
        }
        let each = bytes.div_ceil(load).max(1);
        // Of these load is what they lack, of the others bytes.
        let first = self.sorted.partition_point(|(bytes, _)| *bytes >= each);
        let by_load = self.load.first(first);
        let bytes = self.bytes.first(self.sorted.len()) - self.bytes.first(first);
        let count = self.count.first(self.sorted.len()) - self.count.first(first);
        let own = u128::from(takes(candidate.room, each));
        let need = u128::from(load).saturating_add(own);
        // Each of the others loses less than one to rounding.
        let most = by_load + bytes / u128::from(each);
        if most < need {
            return false;
        }
        if most.saturating_sub(count) >= need {
            return true;
        }
        let exact = self.shares.iter().map(|share| u128::from(takes(share.room, each))).sum::<u128>();
        exact >= need
    }
}

fn share(policy: &Policy, measure: &Measure, member: &Member<'_>) -> Share {
    let held = held(measure, member);
    let stays = excess(policy, member).map_or((0, 0), |over| {
        let moves = u128::from(held.0) * u128::from(over) / u128::from(held.1.max(1));
        (u64::try_from(moves).unwrap_or(u64::MAX), over.min(held.1))
    });
    let goes = member.state == ShardState::Draining || member.state.is_active();
    let has_room = member.is_fresh() && member.role == Role::Regular;
    Share {
        gone: if goes { held } else { (0, 0) },
        stays,
        room: if has_room { room(policy, measure, member) } else { (0, 0) },
        rank: None,
    }
}

/// Load and bytes that move when a shard goes. Memory that stays without load is garbage of its process, and moves nowhere.
fn held(measure: &Measure, member: &Member<'_>) -> (u64, u64) {
    let load = if member.state == ShardState::Silent { member.load.max(measure.numbers.target) } else { member.load };
    let bytes = if member.role == Role::Recycled {
        load.saturating_mul(measure.numbers.bytes_per_load)
    } else {
        member.report.map_or(0, |report| report.working_set_bytes.saturating_sub(report.base_bytes))
    };
    (load, if load == 0 { 0 } else { bytes })
}

/// Units of load that a shard takes, when each brings so many bytes.
fn takes((load, bytes): (u64, u64), each: u64) -> u64 {
    load.min(bytes / each)
}

fn plus(sum: (u64, u64), more: (u64, u64)) -> (u64, u64) {
    (sum.0.saturating_add(more.0), sum.1.saturating_add(more.1))
}

/// What moves when a shard that stayed goes.
fn switched(moving: (u64, u64), share: &Share) -> (u64, u64) {
    let without = (moving.0.saturating_sub(share.stays.0), moving.1.saturating_sub(share.stays.1));
    plus(without, share.gone)
}

// === impl Sums ===

impl Sums {
    fn of(numbers: impl Iterator<Item = u128>) -> Self {
        let mut tree: Vec<u128> = std::iter::once(0).chain(numbers).collect();
        for at in 1..tree.len() {
            let parent = at + (at & at.wrapping_neg());
            if parent < tree.len() {
                tree[parent] += tree[at];
            }
        }
        Self(tree)
    }

    /// The sum of the first `count` numbers.
    fn first(&self, count: usize) -> u128 {
        let mut at = count;
        let mut sum = 0;
        while at > 0 {
            sum += self.0[at];
            at &= at - 1;
        }
        sum
    }

    /// Takes so much from the number at a place.
    fn take(&mut self, place: usize, number: u128) {
        let mut at = place + 1;
        while at < self.0.len() {
            self.0[at] -= number;
            at += at & at.wrapping_neg();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(room: &Room, candidate: usize) -> bool {
        let (load, bytes) = switched(room.moving, &room.shares[candidate]);
        let each = if load == 0 { 1 } else { bytes.div_ceil(load).max(1) };
        let others = room.shares.iter().enumerate().filter(|(at, _)| *at != candidate);
        load == 0 || others.map(|(_, share)| u128::from(takes(share.room, each))).sum::<u128>() >= u128::from(load)
    }

    /// Shards with what they hold and what they have room for; each of them is asked about, and some are chosen.
    fn shares() -> impl Strategy<Value = Vec<(Share, bool)>> {
        let pair = || (0_u64..60, 0_u64..2000);
        let one = (pair(), pair(), any::<bool>()).prop_map(|(gone, room, chosen)| {
            let share = Share { gone, stays: (gone.0 / 3, gone.1 / 3), room, rank: None };
            (share, chosen)
        });
        prop::collection::vec(one, 1..40)
    }

    #[test]
    fn what_was_chosen_moves_and_has_no_room() {
        let one = Share { gone: (10, 10), stays: (0, 0), room: (10, 1000), rank: None };
        let mut room = Room::over(vec![one; 3], (0, 0));
        assert!(room.fits_at(0) && room.fits_at(1));
        room.choose_at(0);
        assert!(!room.fits_at(1), "twenty, and the third has room for ten");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn sums_say_what_adding_up_says(drawn in shares()) {
            let shares: Vec<_> = drawn.iter().map(|(share, _)| *share).collect();
            let mut room = Room::over(shares, (0, 0));
            for (at, (_, chosen)) in drawn.iter().enumerate() {
                prop_assert_eq!(room.fits_at(at), naive(&room, at));
                if *chosen {
                    room.choose_at(at);
                }
            }
        }
    }
}
