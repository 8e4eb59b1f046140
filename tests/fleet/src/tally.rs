//! What the proxy saw, and whether the run proved anything.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

/// Of the requests of sessions, this share must be answered by another shard than the one that opened the session. With
/// three shards in turn two thirds are, or more. Of those that are posted too, for these carry the calls.
const AWAY_AT_LEAST: f64 = 0.60;
/// Of all requests each shard must answer this share of an equal one.
const EACH_AT_LEAST: f64 = 0.60;

/// Counts requests.
#[derive(Debug)]
pub(crate) struct Tally(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// By id. What an id says only shards can read, so who gave it is noted.
    sessions: HashMap<String, Opened>,
    by_shard: Vec<u64>,
    of_sessions: u64,
    away: u64,
    /// Requests of sessions, by method: how many, and how many away.
    by_method: HashMap<String, (u64, u64)>,
}

#[derive(Debug)]
struct Opened {
    owner: usize,
    /// How often its turn fell on the owner.
    met: u64,
}

impl Tally {
    pub(crate) fn new(shards: usize) -> Self {
        Self(Mutex::new(Seen { by_shard: vec![0; shards], ..Seen::default() }))
    }

    /// Whether a request, whose turn falls on a shard, should move on to the next one: every second time that a session
    /// meets the shard that opened it. Clients are regular: with three shards, the first call of a session after its
    /// `initialize`, `initialized` and GET would always be at home.
    pub(crate) fn moves_on(&self, session: Option<&str>, shard: usize) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(opened) = session.and_then(|session| seen.sessions.get_mut(session)).filter(|opened| opened.owner == shard)
        else {
            return false;
        };
        opened.met += 1;
        opened.met % 2 == 1
    }

    /// A request goes to a shard. Returns the shard that opened its session, if it has one that was opened here.
    pub(crate) fn request(&self, method: &str, session: Option<&str>, shard: usize) -> Option<usize> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.by_shard.len() <= shard {
            seen.by_shard.resize(shard + 1, 0);
        }
        seen.by_shard[shard] += 1;
        let owner = session.and_then(|session| seen.sessions.get(session))?.owner;
        let away = u64::from(owner != shard);
        seen.of_sessions += 1;
        seen.away += away;
        let of_method = seen.by_method.entry(method.to_owned()).or_default();
        *of_method = (of_method.0 + 1, of_method.1 + away);
        Some(owner)
    }

    /// A shard opened a session.
    pub(crate) fn opened(&self, session: &str, shard: usize) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.sessions.entry(session.to_owned()).or_insert(Opened { owner: shard, met: 0 });
    }

    /// How many sessions were opened.
    pub(crate) fn sessions(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).sessions.len()
    }

    /// One line for a person.
    pub(crate) fn summary(&self) -> String {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = format!(
            "proxy: {} requests to {} shards ({:?}), {} sessions; {} requests of sessions, {} of them ({:.0} %) to a shard that did not open the session",
            seen.by_shard.iter().sum::<u64>(),
            seen.by_shard.len(),
            seen.by_shard,
            seen.sessions.len(),
            seen.of_sessions,
            seen.away,
            100.0 * share(seen.away, seen.of_sessions),
        );
        let mut methods: Vec<_> = seen.by_method.iter().collect();
        methods.sort();
        for (method, (all, away)) in methods {
            let _ = write!(text, "; {method} {away} of {all}");
        }
        text
    }

    /// Fails when too few requests left the shard that opened their session, or a shard answered hardly any.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = seen.by_shard.iter().sum::<u64>();
        if all == 0 {
            return Err("no request came through the proxy".to_owned());
        }
        let posted = seen.by_method.get("POST").copied().unwrap_or_default();
        for (what, (requests, away)) in [("requests", (seen.of_sessions, seen.away)), ("POSTs", posted)] {
            if requests > 0 && share(away, requests) < AWAY_AT_LEAST {
                let percent = 100.0 * AWAY_AT_LEAST;
                return Err(format!("under {percent:.0} % of the {what} of sessions left the shard that opened them"));
            }
        }
        let equal = share(all, seen.by_shard.len() as u64);
        if let Some(shard) = seen.by_shard.iter().position(|&count| share(count, 1) < EACH_AT_LEAST * equal) {
            return Err(format!("shard {shard} answered {} of {all} requests", seen.by_shard[shard]));
        }
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of a test run")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_turn(shards: usize, requests: usize) -> Tally {
        let tally = Tally::new(shards);
        tally.request("POST", None, 0);
        tally.opened("s", 0);
        for n in 1..requests {
            tally.request("POST", Some("s"), n % shards);
        }
        tally
    }

    #[test]
    fn three_shards_in_turn_prove_something() {
        let tally = in_turn(3, 300);
        assert_eq!(tally.verdict(), Ok(()));
        assert!(tally.summary().contains("200 of them (67 %)"), "{}", tally.summary());
    }

    #[test]
    fn a_session_meets_its_own_shard_every_second_time_only() {
        let tally = Tally::new(3);
        tally.opened("s", 1);
        assert!(!tally.moves_on(Some("s"), 0) && !tally.moves_on(None, 1));
        assert_eq!([(); 4].map(|()| tally.moves_on(Some("s"), 1)), [true, false, true, false]);
    }

    #[test]
    fn calls_that_stay_at_home_prove_nothing_whatever_the_streams_do() {
        let tally = in_turn(3, 30);
        for n in 0..300 {
            tally.request("POST", Some("s"), 0);
            tally.request("GET", Some("s"), 1 + n % 2);
            tally.request("GET", Some("s"), 1 + n % 2);
        }
        assert!(tally.verdict().unwrap_err().contains("of the POSTs"));
    }

    #[test]
    fn a_sticky_proxy_proves_nothing() {
        let tally = in_turn(3, 300);
        tally.opened("t", 1);
        for _ in 0..40 {
            tally.request("POST", Some("t"), 1);
        }
        let why = tally.verdict().unwrap_err();
        assert!(why.contains("under 60 %"), "{why}");
    }

    #[test]
    fn a_shard_that_hardly_answers_proves_nothing() {
        let tally = Tally::new(3);
        for n in 0..300 {
            tally.request("POST", None, n % 2);
        }
        assert!(tally.verdict().unwrap_err().contains("shard 2 answered 0 of 300"));
    }

    #[test]
    fn an_id_that_no_shard_gave_is_no_session() {
        let tally = Tally::new(2);
        assert_eq!(tally.request("POST", Some("made-up"), 1), None);
        tally.opened("s", 1);
        assert_eq!(tally.request("GET", Some("s"), 0), Some(1));
    }

    #[test]
    fn a_run_without_a_request_proves_nothing() {
        assert!(Tally::new(3).verdict().is_err());
    }
}
