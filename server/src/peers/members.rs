//! Who belongs to the mesh, and what is known of those without a connection. Pure: time is an argument.
//!
//! ```text
//! listed → Awaited → linked → Lost → linked …          refused, or nothing for GIVE_UP → Down
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use mcp_crds::load::Member;
use tokio::time::Instant;

/// A shard of which nothing was heard for this long is not waited for: it is dead, or it is not yet serving anybody.
pub const GIVE_UP: Duration = Duration::from_secs(3);

/// The other shards, as the operator last told them.
#[derive(Debug, Default)]
pub struct Members {
    epoch: u64,
    listed: Option<BTreeMap<String, Other>>,
}

/// Another shard.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Other {
    address: String,
    standing: Standing,
}

/// What is known of a shard without a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// There was none yet.
    Awaited(Instant),
    /// There was one.
    Lost(Instant),
    /// Nobody is there, or somebody who does not serve yet.
    Down,
}

impl Members {
    /// The operator's list takes the place of the one before.
    pub fn replace(&mut self, own: &str, epoch: u64, list: Vec<Member>, now: Instant) {
        let before = self.listed.take().unwrap_or_default();
        let others = list.into_iter().filter(|member| member.name != own);
        let listed = others.map(|member| {
            let known = before.get(&member.name).filter(|other| other.address == member.address);
            let other = known.cloned().unwrap_or(Other { address: member.address, standing: Standing::Awaited(now) });
            (member.name, other)
        });
        self.listed = Some(listed.collect());
        self.epoch = epoch;
    }

    /// Of the list; 0 without one.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether there is a list.
    pub fn is_told(&self) -> bool {
        self.listed.is_some()
    }

    /// The others: name and address.
    pub fn others(&self) -> impl Iterator<Item = (&str, &str)> {
        self.listed.iter().flatten().map(|(name, other)| (name.as_str(), other.address.as_str()))
    }

    /// A connection ended.
    pub fn lost(&mut self, name: &str, now: Instant) {
        self.set(name, Standing::Lost(now));
    }

    /// Nobody is there.
    pub fn down(&mut self, name: &str) {
        self.set(name, Standing::Down);
    }

    /// Whether a member that had a connection may still be alive and serving.
    pub fn any_missed(&self, now: Instant, is_linked: impl Fn(&str) -> bool) -> bool {
        let recent = |since| now.duration_since(since) < GIVE_UP;
        self.listed.iter().flatten().any(|(name, other)| match other.standing {
            Standing::Lost(since) => recent(since) && !is_linked(name),
            // Who never had one is not serving: it is not Ready before it has one.
            Standing::Awaited(_) | Standing::Down => false,
        })
    }

    /// Whether a member whose connection ended may still be alive; none when it is not listed.
    pub fn may_return(&self, name: &str, now: Instant) -> Option<bool> {
        let other = self.listed.as_ref()?.get(name)?;
        Some(match other.standing {
            Standing::Lost(since) => now.duration_since(since) < GIVE_UP,
            // Another address is another process.
            Standing::Awaited(_) | Standing::Down => false,
        })
    }

    /// Whether every member is in step with this shard, or need not be waited for.
    pub fn all_heard(&self, now: Instant, is_in_step: impl Fn(&str) -> bool) -> bool {
        let recent = |since| now.duration_since(since) < GIVE_UP;
        self.listed.iter().flatten().all(|(name, other)| match other.standing {
            _ if is_in_step(name) => true,
            Standing::Awaited(since) | Standing::Lost(since) => !recent(since),
            Standing::Down => true,
        })
    }

    fn set(&mut self, name: &str, standing: Standing) {
        if let Some(other) = self.listed.as_mut().and_then(|listed| listed.get_mut(name)) {
            other.standing = standing;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<Member> {
        names.iter().map(|name| Member { name: (*name).to_owned(), address: format!("{name}.test") }).collect()
    }

    fn told(names: &[&str], now: Instant) -> Members {
        let mut members = Members::default();
        members.replace("a", 1, list(names), now);
        members
    }

    #[test]
    fn a_shard_waits_for_each_member_but_not_for_a_dead_one_and_not_for_ever() {
        let now = Instant::now();
        let mut members = told(&["a", "b", "c"], now);
        assert!(!members.all_heard(now, |name| name == "b"));
        assert!(members.all_heard(now, |_| true));
        members.down("c");
        assert!(members.all_heard(now, |name| name == "b"));
        assert!(members.all_heard(now + GIVE_UP, |_| false));
        assert!(told(&["a"], now).all_heard(now, |_| false), "alone");
    }

    #[test]
    fn only_a_member_that_was_there_a_moment_ago_is_missed() {
        let now = Instant::now();
        let mut members = told(&["a", "b"], now);
        assert!(!members.any_missed(now, |_| false));
        members.lost("b", now);
        assert!(members.any_missed(now, |_| false) && !members.any_missed(now, |_| true));
        assert!(!members.any_missed(now + GIVE_UP, |_| false));
        members.down("b");
        assert!(!members.any_missed(now, |_| false), "a refused connection is an answer");
        members.lost("stranger", now);
        assert!(!members.any_missed(now, |_| false));
    }

    #[test]
    fn who_was_silent_for_long_or_refuses_does_not_return() {
        let now = Instant::now();
        let mut members = told(&["a", "b"], now);
        members.lost("b", now);
        assert_eq!((members.may_return("b", now), members.may_return("b", now + GIVE_UP)), (Some(true), Some(false)));
        members.down("b");
        assert_eq!(members.may_return("b", now), Some(false));
        assert_eq!(members.may_return("stranger", now), None);
    }

    #[test]
    fn a_new_list_keeps_what_is_known_of_who_stays() {
        let now = Instant::now();
        let mut members = told(&["a", "b", "c"], now);
        members.down("b");
        members.down("c");
        let mut next = list(&["a", "b", "c"]);
        next[2].address = "elsewhere".to_owned();
        members.replace("a", 2, next, now);
        assert_eq!((members.epoch(), members.others().collect::<Vec<_>>()), (2, vec![("b", "b.test"), ("c", "elsewhere")]));
        assert!(!members.all_heard(now, |_| false), "another address is another process");
        assert!(members.all_heard(now, |name| name == "c"));
    }
}
