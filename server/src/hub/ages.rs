//! How long streams have been held, without a time in each: they are numbered as they begin, and a few marks say which had begun
//! when. Pure: time is an argument, counted from the start of the hub.

use std::collections::VecDeque;
use std::time::Duration;

/// Marks over the time that a stream may last.
const MARKS: u32 = 128;
/// The least time between two.
const SHORTEST: Duration = Duration::from_secs(1);
/// Streams end up to such a part of their time before it is over, so that those that began together do not end together.
const SPREAD: u32 = 10;

/// Which streams had begun when.
#[derive(Debug, Default)]
pub(super) struct Ages(VecDeque<Mark>);

/// Streams of a lower number had begun then.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Duration,
    next: u64,
}

impl Ages {
    /// The streams of a number below `next` have begun by now. Where no stream ends for its age, nothing is remembered: once
    /// there is a bound again, it counts from then.
    pub(super) fn mark(&mut self, now: Duration, next: u64, lifetime: Option<Duration>) {
        let Some(lifetime) = lifetime else { return self.0.clear() };
        let step = (lifetime / MARKS).max(SHORTEST);
        if self.0.back().is_none_or(|last| last.at + step <= now) {
            self.0.push_back(Mark { at: now, next });
        }
        // One that is older than any stream may be says as much as all before it.
        while self.0.get(1).is_some_and(|second| second.at + lifetime <= now) {
            self.0.pop_front();
        }
    }

    /// Whether the time of a stream is over: it has lasted `lifetime` less a part of its own, up to a tenth.
    pub(super) fn is_over(&self, number: u64, now: Duration, lifetime: Duration) -> bool {
        // Between this mark and the next, so it counts as begun with this one.
        let after = self.0.partition_point(|mark| mark.next <= number);
        let began = after.checked_sub(1).and_then(|mark| self.0.get(mark)).or(self.0.front());
        began.is_some_and(|began| began.at + lifetime <= now + spread(number, lifetime))
    }
}

/// The part of its own: the same at every look.
fn spread(number: u64, lifetime: Duration) -> Duration {
    // Fibonacci hashing: neighbors are far apart.
    let part = u32::try_from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48).unwrap_or(0);
    (lifetime / SPREAD / (1 << 16)) * part
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn minutes(n: u64) -> Duration {
        Duration::from_mins(n)
    }

    /// Ten streams a minute, looked at every second.
    fn after(time: Duration, lifetime: Duration) -> (Ages, u64) {
        let mut ages = Ages::default();
        let mut next = 0;
        for second in 0..=time.as_secs() {
            next = second / 6;
            ages.mark(Duration::from_secs(second), next, Some(lifetime));
        }
        (ages, next)
    }

    #[test]
    fn a_stream_lasts_nine_tenths_of_its_time_at_least_and_its_time_at_most() {
        let (ages, next) = after(minutes(300), HOUR);
        let over = |number| ages.is_over(number, minutes(300), HOUR);
        // The marks of an hour are 28 s apart.
        assert!((0..next - 600).all(over), "older than an hour");
        assert!(!(next - 534..next).any(over), "younger than 53.5 minutes");
        assert!(ages.0.len() <= usize::try_from(MARKS).unwrap() + 2, "{} marks", ages.0.len());
    }

    #[test]
    fn streams_that_began_together_end_evenly_over_a_tenth() {
        let mut ages = Ages::default();
        ages.mark(Duration::ZERO, 0, Some(HOUR));
        let over = |minute| (0..10_000).filter(|number| ages.is_over(*number, minutes(minute), HOUR)).count();
        assert_eq!((over(53), over(60)), (0, 10_000));
        for (minute, share) in [(55, 1_667), (57, 5_000), (59, 8_333)] {
            assert!(over(minute).abs_diff(share) < 100, "{} after {minute} minutes", over(minute));
        }
    }

    #[test]
    fn a_bound_counts_from_when_it_was_set() {
        let mut ages = Ages::default();
        ages.mark(minutes(100), 50, None);
        assert!(!ages.is_over(3, minutes(500), HOUR), "none was set");
        ages.mark(minutes(500), 60, Some(HOUR));
        assert!(!ages.is_over(3, minutes(553), HOUR));
        assert!(ages.is_over(3, minutes(560), HOUR));
    }
}
