//! What became of all calls, counted on the client's side.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::call::Fate;
use crate::failure::Outcome;
use crate::mcp::Era;
use crate::{claim, fail};

/// Losses that are shown one by one; all are counted.
const SHOWN: usize = 12;

/// A call that was lost, or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// When it began, since the start of the traffic.
    pub at: Duration,
    /// When its fate was known.
    pub until: Duration,
    /// Its era.
    pub era: Era,
    /// What became of it.
    pub fate: Fate,
}

/// Calls between two marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Phase {
    /// What happened then.
    pub what: String,
    /// When it began, since the start of the traffic.
    pub since: Duration,
    /// Calls that began then.
    pub sent: u64,
    /// What became of them, by kind.
    pub fates: BTreeMap<&'static str, u64>,
    /// Calls that were answered with `Connection: close`.
    pub told_to_close: u64,
    /// Those that were lost or refused, the first ones.
    pub losses: Vec<Loss>,
}

/// Counts of calls.
#[derive(Debug)]
pub(super) struct Tally {
    phases: Vec<Phase>,
    skipped: u64,
    lost: u64,
}

/// What became of all calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Calls each second, as asked for.
    pub rate: u32,
    /// How long.
    pub lasted: Duration,
    /// From mark to mark; the first one before any.
    pub phases: Vec<Phase>,
    /// Calls that were not made, because too many were under way.
    pub skipped: u64,
    /// Calls that were lost.
    pub lost: u64,
}

impl Default for Tally {
    fn default() -> Self {
        let first = Phase { what: "before anything happened".to_owned(), ..Phase::default() };
        Self { phases: vec![first], skipped: 0, lost: 0 }
    }
}

impl Tally {
    pub(super) fn mark(&mut self, since: Duration, what: String) {
        self.phases.push(Phase { what, since, ..Phase::default() });
    }

    pub(super) fn skip(&mut self) {
        self.skipped += 1;
    }

    /// Counts a call that begins; returns the phase it belongs to.
    pub(super) fn send(&mut self) -> usize {
        let phase = self.phases.len() - 1;
        self.phases[phase].sent += 1;
        phase
    }

    pub(super) fn record(&mut self, phase: usize, at: Duration, until: Duration, era: Era, fate: Fate) {
        let phase = &mut self.phases[phase];
        *phase.fates.entry(fate.kind()).or_default() += 1;
        phase.told_to_close += u64::from(fate == Fate::Answered { closes: true });
        self.lost += u64::from(fate.is_loss());
        if (fate.is_loss() || fate == Fate::Refused) && phase.losses.len() < SHOWN {
            phase.losses.push(Loss { at, until, era, fate });
        }
    }

    pub(super) fn report(&self, rate: u32, lasted: Duration) -> Report {
        Report { rate, lasted, phases: self.phases.clone(), skipped: self.skipped, lost: self.lost }
    }
}

impl Report {
    /// Calls that began.
    pub fn sent(&self) -> u64 {
        self.phases.iter().map(|phase| phase.sent).sum()
    }

    /// Calls of this kind (see [`Fate::kind`]).
    pub fn count(&self, kind: &str) -> u64 {
        self.phases.iter().filter_map(|phase| phase.fates.get(kind)).sum()
    }

    /// Calls with the right answer.
    pub fn answered(&self) -> u64 {
        self.count(Fate::Answered { closes: false }.kind())
    }

    /// Calls that were not accepted, and told so.
    pub fn refused(&self) -> u64 {
        self.count(Fate::Refused.kind())
    }

    /// Claims that every accepted request was answered, and that every connection came about. A refusal with 503 and
    /// `Retry-After` is no loss.
    ///
    /// # Errors
    /// What was lost, and when.
    pub fn nothing_lost(&self) -> Outcome {
        claim!(self.answered() > 0, "no call was answered, so nothing is shown\n{self}");
        claim!(self.skipped == 0, "{} calls were not made, because too many were under way\n{self}", self.skipped);
        claim!(self.lost == 0, "{} calls were lost\n{self}", self.lost);
        Ok(())
    }

    /// Claims [`Report::nothing_lost`], and that nobody was refused either: a shard was always there that took the call.
    ///
    /// # Errors
    /// What was lost or refused, and when.
    pub fn everything_answered(&self) -> Outcome {
        self.nothing_lost()?;
        let refused = self.refused();
        if refused > 0 {
            fail!("{refused} calls were refused with 503 and Retry-After\n{self}");
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {} calls in {:.1} s at {} each second, a connection for each: {} answered, {} refused with 503, {} lost",
            self.sent(),
            self.lasted.as_secs_f64(),
            self.rate,
            self.answered(),
            self.refused(),
            self.lost
        )?;
        for phase in &self.phases {
            write!(f, "  from {:6.2} s, {}: {} sent", phase.since.as_secs_f64(), phase.what, phase.sent)?;
            for (kind, count) in &phase.fates {
                write!(f, ", {count} {kind}")?;
            }
            writeln!(f, ", {} told to close", phase.told_to_close)?;
            for loss in &phase.losses {
                let (at, until) = (loss.at.as_secs_f64(), loss.until.as_secs_f64());
                writeln!(f, "    {at:7.3} s to {until:7.3} s {:?}: {} {}", loss.era, loss.fate.kind(), loss.fate.detail())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(fates: &[Fate]) -> Report {
        let mut tally = Tally::default();
        for fate in fates {
            let phase = tally.send();
            tally.record(phase, Duration::from_secs(1), Duration::from_secs(2), Era::Modern, fate.clone());
        }
        tally.report(200, Duration::from_secs(3))
    }

    const ANSWERED: Fate = Fate::Answered { closes: false };

    #[test]
    fn an_answer_and_a_polite_refusal_are_no_loss_and_only_the_answer_is_all_there_is_to_want() {
        assert_eq!(report(&[ANSWERED]).everything_answered(), Ok(()));
        let refused = report(&[ANSWERED, Fate::Refused]);
        assert_eq!(refused.nothing_lost(), Ok(()));
        assert!(refused.everything_answered().unwrap_err().to_string().contains("1 calls were refused"));
    }

    #[test]
    fn every_other_fate_is_a_loss_that_the_report_shows() {
        let why = || "why".to_owned();
        for fate in [
            Fate::ConnectionRefused(why()),
            Fate::ConnectionTimedOut,
            Fate::NoConnection(why()),
            Fate::CutBeforeResponse(why()),
            Fate::CutWithinResponse(why()),
            Fate::Unanswered,
            Fate::Wrong(why()),
        ] {
            let told = report(&[ANSWERED, fate.clone()]).nothing_lost().unwrap_err().to_string();
            assert!(told.contains("1 calls were lost") && told.contains(fate.kind()), "{told}");
        }
    }

    #[test]
    fn traffic_that_never_was_shows_nothing() {
        assert!(report(&[]).nothing_lost().is_err());
        assert!(report(&[Fate::Refused]).nothing_lost().is_err());
    }

    #[test]
    fn a_call_belongs_to_the_phase_it_began_in() {
        let mut tally = Tally::default();
        let first = tally.send();
        tally.mark(Duration::from_secs(5), "a drain".to_owned());
        let second = tally.send();
        tally.record(second, Duration::from_secs(5), Duration::from_secs(6), Era::Legacy, ANSWERED);
        tally.record(first, Duration::from_secs(4), Duration::from_secs(7), Era::Modern, Fate::Unanswered);
        let report = tally.report(200, Duration::from_secs(8));
        assert_eq!((report.phases[0].losses.len(), report.phases[1].losses.len()), (1, 0));
        assert_eq!((report.sent(), report.answered(), report.lost), (2, 1, 1));
    }
}
