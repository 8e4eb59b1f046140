//! Sessions that were ended: one bit for each, in pages. A session's numbers are dense in its incarnation, so a page of
//! half a kilobyte remembers 4,096 of them; it is forgotten when the last of its sessions has expired. Pure.

use std::collections::HashMap;

use super::{Incarnation, SessionKey};

/// Bytes of one page.
pub const PAGE_BYTES: usize = 512;
/// Sessions of one page.
const PAGE_SESSIONS: u64 = PAGE_BYTES as u64 * 8;
/// Pages remembered: 4 MiB of them. Sessions are numbered in order, so it takes 33 million sessions, still within their
/// lifetime, to need more.
pub const MAX_PAGES: usize = 8192;

/// The ended ones of 4,096 sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Who made them.
    pub incarnation: Incarnation,
    /// Their numbers divided by 4,096.
    pub index: u64,
    /// When the last of them would have expired, seconds since the epoch.
    pub expires: u64,
    /// A bit for each.
    pub bits: Box<[u8; PAGE_BYTES]>,
}

/// No page is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many ended sessions are remembered")]
pub struct Full;

/// All that ended and did not expire yet.
#[derive(Debug, Default)]
pub(super) struct Revocations {
    pages: HashMap<(Incarnation, u64), Bits>,
}

#[derive(Debug)]
struct Bits {
    expires: u64,
    bits: Box<[u8; PAGE_BYTES]>,
}

impl Revocations {
    /// Whether a session was ended.
    pub(super) fn contains(&self, session: SessionKey) -> bool {
        // Most shards have ended nothing.
        !self.pages.is_empty()
            && self.pages.get(&place(session)).is_some_and(|page| {
                let (byte, bit) = within(session);
                page.bits[byte] & bit != 0
            })
    }

    /// Ends a session.
    pub(super) fn revoke(&mut self, session: SessionKey, expires: u64, now: u64) -> Result<(), Full> {
        let page = self.page(place(session), now)?;
        let (byte, bit) = within(session);
        page.bits[byte] |= bit;
        page.expires = page.expires.max(expires);
        Ok(())
    }

    /// Takes over what another shard knows.
    pub(super) fn merge(&mut self, other: &Page, now: u64) -> Result<(), Full> {
        if other.expires <= now {
            return Ok(());
        }
        let page = self.page((other.incarnation, other.index), now)?;
        page.bits.iter_mut().zip(other.bits.iter()).for_each(|(bits, others)| *bits |= others);
        page.expires = page.expires.max(other.expires);
        Ok(())
    }

    /// All pages that say something.
    pub(super) fn pages(&self, now: u64) -> Vec<Page> {
        let pages = self.pages.iter().filter(|(_, page)| page.expires > now);
        pages
            .map(|((incarnation, index), page)| Page {
                incarnation: *incarnation,
                index: *index,
                expires: page.expires,
                bits: page.bits.clone(),
            })
            .collect()
    }

    fn page(&mut self, place: (Incarnation, u64), now: u64) -> Result<&mut Bits, Full> {
        if !self.pages.contains_key(&place) && self.pages.len() >= MAX_PAGES {
            self.pages.retain(|_, page| page.expires > now);
            if self.pages.len() >= MAX_PAGES {
                return Err(Full);
            }
        }
        Ok(self.pages.entry(place).or_insert_with(|| Bits { expires: 0, bits: Box::new([0; PAGE_BYTES]) }))
    }
}

fn place(session: SessionKey) -> (Incarnation, u64) {
    (session.incarnation, session.number / PAGE_SESSIONS)
}

fn within(session: SessionKey) -> (usize, u8) {
    let offset = session.number % PAGE_SESSIONS;
    (usize::try_from(offset / 8).unwrap_or(0), 1 << (offset % 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: u64) -> SessionKey {
        SessionKey { incarnation: [1; 16], number }
    }

    #[test]
    fn exactly_the_ended_sessions_are_ended() {
        let mut revocations = Revocations::default();
        for number in [1, 7, 8, 4095, 4096, 1 << 40] {
            revocations.revoke(session(number), 100, 0).unwrap();
        }
        for number in [1, 7, 8, 4095, 4096, 1 << 40] {
            assert!(revocations.contains(session(number)), "{number}");
            assert!(!revocations.contains(session(number + 2)), "{}", number + 2);
            assert!(!revocations.contains(SessionKey { incarnation: [2; 16], number }), "of another process");
        }
    }

    #[test]
    fn what_one_shard_knows_the_other_learns_and_forgets_nothing_of_its_own() {
        let (mut one, mut other) = (Revocations::default(), Revocations::default());
        one.revoke(session(1), 100, 0).unwrap();
        one.revoke(session(5_000), 100, 0).unwrap();
        other.revoke(session(2), 200, 0).unwrap();
        one.pages(0).iter().for_each(|page| other.merge(page, 0).unwrap());
        assert!([1, 2, 5_000].into_iter().all(|number| other.contains(session(number))));
        assert!(!other.contains(session(3)));
        assert!(one.pages(100).is_empty(), "expired sessions are not told");
        assert_eq!(other.pages(100).len(), 1);
    }

    #[test]
    fn ten_thousand_sessions_take_three_pages() {
        let mut revocations = Revocations::default();
        (1..=10_000).for_each(|number| revocations.revoke(session(number), 100, 0).unwrap());
        assert_eq!(revocations.pages(0).len(), 3);
    }

    #[test]
    fn at_the_cap_nothing_is_lost_and_expired_pages_make_room() {
        let mut revocations = Revocations::default();
        for page in 0..MAX_PAGES as u64 {
            let expires = if page == 0 { 50 } else { 100 };
            revocations.revoke(session(page * PAGE_SESSIONS), expires, 0).unwrap();
        }
        let one_more = session(MAX_PAGES as u64 * PAGE_SESSIONS);
        assert_eq!(revocations.revoke(one_more, 100, 49), Err(Full));
        assert_eq!(revocations.revoke(session(PAGE_SESSIONS + 1), 100, 49), Ok(()), "a page that is there has room");
        assert!(revocations.contains(session(PAGE_SESSIONS)) && !revocations.contains(one_more));
        assert_eq!(revocations.revoke(one_more, 100, 50), Ok(()));
        assert!(revocations.contains(one_more));
    }
}
