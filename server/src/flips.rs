//! What streams are still to hear of a configuration that has come into force here: they are told once every shard they could
//! ask serves it, so that whoever hears of a new list gets it, whichever shard answers.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::mcp::subscriptions::Event;

/// A shard that does not go over to a configuration keeps the others from telling of it for this long. As long as the operator
/// waits for one that cannot load it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Events of flips that are held back.
#[derive(Debug, Default)]
pub struct Untold(Mutex<Option<Held>>);

#[derive(Debug)]
struct Held {
    events: Vec<Event>,
    since: Instant,
}

impl Untold {
    /// Adds what a flip changed. What is held back already waits with it, and not anew.
    pub fn add(&self, events: Vec<Event>, now: Instant) {
        if events.is_empty() {
            return;
        }
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *held {
            Some(held) => held.events.extend(events.into_iter().filter(|event| !held.events.contains(event)).collect::<Vec<_>>()),
            None => *held = Some(Held { events, since: now }),
        }
    }

    /// What is to be told now: everything, when all serve it or it has waited long enough.
    pub fn due(&self, now: Instant, all_serve_it: impl FnOnce() -> bool) -> Vec<Event> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = held.as_ref().is_some_and(|held| all_serve_it() || now.duration_since(held.since) >= PATIENCE);
        if is_due { held.take().map(|held| held.events).unwrap_or_default() } else { vec![] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_before_all_serve_it_and_then_once() {
        let (untold, now) = (Untold::default(), Instant::now());
        assert_eq!(untold.due(now, || true), []);
        untold.add(vec![Event::ToolsChanged], now);
        assert_eq!(untold.due(now, || false), []);
        assert_eq!(untold.due(now, || true), [Event::ToolsChanged]);
        assert_eq!(untold.due(now, || true), []);
    }

    #[test]
    fn two_flips_in_a_row_are_told_as_one() {
        let (untold, now) = (Untold::default(), Instant::now());
        untold.add(vec![Event::ToolsChanged], now);
        untold.add(vec![Event::PromptsChanged, Event::ToolsChanged], now);
        assert_eq!(untold.due(now, || true), [Event::ToolsChanged, Event::PromptsChanged]);
    }

    #[test]
    fn one_shard_that_stays_behind_holds_the_others_back_for_so_long_and_no_longer() {
        let (untold, now) = (Untold::default(), Instant::now());
        untold.add(vec![Event::ToolsChanged], now);
        let later = now + PATIENCE - Duration::from_millis(1);
        // Another flip meanwhile does not make it later.
        untold.add(vec![Event::PromptsChanged], later);
        assert_eq!(untold.due(later, || false), []);
        assert_eq!(untold.due(now + PATIENCE, || false), [Event::ToolsChanged, Event::PromptsChanged]);
    }
}
