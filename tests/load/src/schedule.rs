//! When the calls of an open loop are due. A server that is slow moves none of them: latency counts from here.

use std::time::{Duration, Instant};

/// Calls at a fixed rate, evenly spread, for a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    start: Instant,
    rate: u64,
    calls: u64,
    next: u64,
}

impl Schedule {
    pub(crate) fn new(start: Instant, rate: u64, span: Duration) -> Self {
        let calls = u64::try_from(u128::from(rate) * span.as_nanos() / 1_000_000_000).unwrap_or(u64::MAX);
        Self { start, rate: rate.max(1), calls, next: 0 }
    }

    /// When the next call is due; none when all were taken.
    pub(crate) fn due(&self) -> Option<Instant> {
        // By multiplication: a step that is added up drifts.
        let nanos = u128::from(self.next) * 1_000_000_000 / u128::from(self.rate);
        (self.next < self.calls).then(|| self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// Takes the next call, when it is due.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = self.due().filter(|due| *due <= now)?;
        self.next += 1;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_due_at_the_rate_and_do_not_drift() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 7, Duration::from_secs(100));
        let end = start + Duration::from_secs(1000);
        let all: Vec<_> = std::iter::from_fn(|| schedule.take(end)).collect();
        assert_eq!(all.len(), 700);
        assert_eq!(all[0], start);
        assert_eq!(all[7 * 99], start + Duration::from_secs(99));
    }

    #[test]
    fn who_comes_late_gets_what_was_due_with_its_own_time() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 1000, Duration::from_secs(1));
        assert_eq!(schedule.take(start + Duration::from_micros(500)), Some(start));
        assert_eq!(schedule.take(start + Duration::from_micros(500)), None);
        let late = start + Duration::from_millis(5);
        assert_eq!((0..9).filter_map(|_| schedule.take(late)).count(), 5);
        assert_eq!(schedule.due(), Some(start + Duration::from_millis(6)));
    }
}
