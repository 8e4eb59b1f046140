//! What one principal takes of a shard, so that no caller can take all of it.
//!
//! Counts exist only for who has something at this moment: there are never more than streams and requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Principal;
use crate::limits::{Limits, PRINCIPAL_REQUESTS_PER_SECOND, PRINCIPAL_SHARE};

/// What one principal may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Held streams.
    pub streams: u64,
    /// Requests being answered.
    pub in_flight: u64,
    /// Requests a second, with a second's worth at once.
    pub requests_per_second: u32,
}

/// What every principal has taken.
#[derive(Clone, Debug, Default)]
pub struct Quotas(Arc<Mutex<HashMap<Arc<str>, Taken>>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Taken {
    streams: u64,
    in_flight: u64,
}

/// A part of a principal's quota, until dropped. One pointer: held streams keep one each.
#[derive(Debug)]
pub struct Share(#[expect(dead_code, reason = "dropped, which gives it back")] Box<Held>);

#[derive(Debug)]
struct Held {
    quotas: Quotas,
    name: Arc<str>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Stream,
    Request,
}

// === impl Quota ===

impl Quota {
    /// The share that every principal may take of these limits; one at least.
    pub fn of(limits: &Limits) -> Self {
        let (parts, whole) = PRINCIPAL_SHARE;
        let share = |limit: u64| (limit.saturating_mul(parts) / whole).max(1);
        Self {
            streams: share(limits.streams),
            in_flight: share(limits.in_flight),
            requests_per_second: PRINCIPAL_REQUESTS_PER_SECOND,
        }
    }
}

// === impl Quotas ===

impl Quotas {
    /// Counts a held stream, unless the principal holds `cap`.
    pub fn stream(&self, principal: &Principal, cap: u64) -> Option<Share> {
        self.take(principal, Kind::Stream, cap)
    }

    /// Counts a request, unless `cap` of the principal are being answered.
    pub fn request(&self, principal: &Principal, cap: u64) -> Option<Share> {
        self.take(principal, Kind::Request, cap)
    }

    /// Principals that have something at this moment.
    pub fn principals(&self) -> usize {
        self.lock().len()
    }

    fn take(&self, principal: &Principal, kind: Kind, cap: u64) -> Option<Share> {
        let mut all = self.lock();
        let name = match all.get_key_value(principal.name.as_str()) {
            Some((name, _)) => Arc::clone(name),
            None => principal.name.as_str().into(),
        };
        let count = all.get(&name).map_or(0, |taken| taken.of(kind));
        if count >= cap {
            return None;
        }
        *all.entry(Arc::clone(&name)).or_default().of_mut(kind) += 1;
        Some(Share(Box::new(Held { quotas: self.clone(), name, kind })))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Taken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Taken ===

impl Taken {
    fn of(self, kind: Kind) -> u64 {
        match kind {
            Kind::Stream => self.streams,
            Kind::Request => self.in_flight,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Stream => &mut self.streams,
            Kind::Request => &mut self.in_flight,
        }
    }
}

// === impl Held ===

impl Drop for Held {
    fn drop(&mut self) {
        let mut all = self.quotas.lock();
        let Some(taken) = all.get_mut(&self.name) else { return };
        let count = taken.of_mut(self.kind);
        *count = count.saturating_sub(1);
        if *taken == Taken::default() {
            all.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(name: &str) -> Principal {
        Principal { name: name.to_owned() }
    }

    #[test]
    fn one_principal_s_quota_is_not_another_s_and_dropping_frees() {
        let quotas = Quotas::default();
        let (ada, bob) = (principal("ada"), principal("bob"));
        let first = quotas.request(&ada, 2).unwrap();
        let _second = quotas.request(&ada, 2).unwrap();
        assert!(quotas.request(&ada, 2).is_none());
        assert!(quotas.request(&bob, 2).is_some() && quotas.stream(&ada, 2).is_some());
        drop(first);
        assert!(quotas.request(&ada, 2).is_some());
    }

    #[test]
    fn who_has_nothing_is_not_remembered() {
        let quotas = Quotas::default();
        let held: Vec<_> = (0..100).map(|n| quotas.stream(&principal(&n.to_string()), 1).unwrap()).collect();
        assert!(quotas.request(&principal("refused"), 0).is_none());
        assert_eq!(quotas.principals(), 100);
        drop(held);
        assert_eq!(quotas.principals(), 0);
    }

    #[test]
    fn no_principal_may_take_a_whole_shard_and_each_may_take_something() {
        let limits = |streams, in_flight| Limits { streams, in_flight, ..Limits::test() };
        let quota = Quota::of(&limits(10_000, 1024));
        assert_eq!((quota.streams, quota.in_flight), (7_500, 768));
        let quota = Quota::of(&limits(1, 1));
        assert_eq!((quota.streams, quota.in_flight), (1, 1));
    }
}
