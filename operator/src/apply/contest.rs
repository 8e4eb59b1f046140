//! Fields of ours that others change: put back at once, but not for ever as fast as they can.
//!
//! A person's edit is undone within a second. Another controller that wants the same field would undo our undoing, without
//! end: from the fourth time within ten minutes the pauses grow, and the status says who it is.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::stages::elapsed;

/// So many times within [`QUIET`] a field is put back at once.
const AT_ONCE: u32 = 3;
/// An object that nobody touched for this long is at peace. Longer than the longest pause.
const QUIET: Duration = Duration::from_mins(10);
/// Before it is put back once more than [`AT_ONCE`]; doubled each time…
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// …up to this.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// The objects of one cluster that others changed, by kind and name.
#[derive(Debug, Default)]
pub struct Contests(Mutex<HashMap<String, Contest>>);

#[derive(Clone, Debug, Default)]
struct Contest {
    /// Digest of what the API server called ours when it answered the last apply.
    granted: Option<u64>,
    times: u32,
    last: Option<Timestamp>,
    told: Option<Told>,
}

/// What is told of a contest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The field: `spec.selector`.
    pub field: String,
    /// Who changed it, as `managedFields` names them.
    pub by: Option<String>,
}

// === impl Contests ===

impl Contests {
    /// Whether the API server never gave us more than this: an admission webhook may rewrite what we apply. To apply it again
    /// would change nothing.
    pub fn is_all_we_get(&self, object: &str, digest: u64) -> bool {
        self.with(object, |contest| contest.granted == Some(digest))
    }

    /// Takes in what the API server called ours when it answered an apply.
    pub fn applied(&self, object: &str, digest: u64) {
        self.with(object, |contest| contest.granted = Some(digest));
    }

    /// Whether a field that somebody took may be put back now. Takes in that it is.
    pub fn may_put_back(&self, object: &str, now: Timestamp) -> bool {
        self.with(object, |contest| {
            let since = contest.last.map(|last| elapsed(last, now));
            if since.is_none_or(|since| since >= QUIET) {
                contest.times = 0;
            }
            if contest.times >= AT_ONCE && since.is_some_and(|since| since < pause(contest.times)) {
                return false;
            }
            contest.times = contest.times.saturating_add(1);
            contest.last = Some(now);
            true
        })
    }

    /// Takes in what was put back.
    pub fn tell(&self, object: &str, told: Told) {
        self.with(object, |contest| contest.told = Some(told));
    }

    /// What was put back last.
    pub fn told(&self, object: &str) -> Option<Told> {
        self.with(object, |contest| contest.told.clone())
    }

    /// What to tell about an object over which there is a fight: from the fourth time until it has been left in peace for
    /// twice as long as the last pause.
    pub fn fight(&self, object: &str, now: Timestamp) -> Option<Told> {
        self.with(object, |contest| {
            let is_recent = contest.last.is_some_and(|last| elapsed(last, now) < pause(contest.times) * 2);
            contest.told.clone().filter(|_| is_recent && contest.times > AT_ONCE)
        })
    }

    fn with<T>(&self, object: &str, look: impl FnOnce(&mut Contest) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        look(all.entry(object.to_owned()).or_default())
    }
}

/// Before it is put back for the next time, after so many times.
fn pause(times: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << times.saturating_sub(AT_ONCE).min(10)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_persons_edits_are_put_back_at_once_and_a_controllers_less_and_less_often() {
        let contests = Contests::default();
        let granted: Vec<i64> = (0..3600).filter(|second| contests.may_put_back("Service tools", at(*second))).collect();
        assert_eq!(granted[..8], [0, 1, 2, 12, 32, 72, 152, 312]);
        assert!(granted.len() < 20, "in an hour of fight: {granted:?}");
        assert!(contests.may_put_back("Service tools-members", at(3600)), "another object");
        assert!(contests.may_put_back("Service tools", at(3600 + 600)), "in peace for ten minutes");
    }

    #[test]
    fn a_fight_is_told_from_the_fourth_time_until_there_is_peace() {
        let contests = Contests::default();
        let told = Told { field: "spec.selector".into(), by: Some("argocd".into()) };
        for second in 0..3 {
            assert!(contests.may_put_back("Service tools", at(second)));
            contests.tell("Service tools", told.clone());
            assert_eq!(contests.fight("Service tools", at(second)), None);
        }
        assert!(contests.may_put_back("Service tools", at(20)));
        assert_eq!(contests.fight("Service tools", at(20)), Some(told.clone()));
        assert_eq!(contests.fight("Service tools", at(59)), Some(told), "a pause of 20 s comes next");
        assert_eq!(contests.fight("Service tools", at(60)), None);
    }

    #[test]
    fn what_the_api_server_never_grants_is_not_asked_for_again() {
        let contests = Contests::default();
        assert!(!contests.is_all_we_get("Service tools", 7));
        contests.applied("Service tools", 7);
        assert!(contests.is_all_we_get("Service tools", 7) && !contests.is_all_we_get("Service tools", 8));
    }
}
