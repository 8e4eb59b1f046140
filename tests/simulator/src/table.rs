//! The table: policy × trace, and whether the goals are met.

use std::fmt::Write;

use serde::Serialize;

use crate::policy::Name;
use crate::run::Outcome;
use crate::score::Score;

/// Shard-minutes may be this much more than those of a baseline that is no worse otherwise, percent.
const MARGIN_PERCENT: u64 = 10;

/// Whether ours does what it is for, on one trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The trace.
    pub trace: String,
    /// Refusals no more than the better of the others.
    pub rejected: bool,
    /// Forced disconnects no more than the better of the others.
    pub forced: bool,
    /// Kills for memory no more than the better of the others.
    pub oom_kills: bool,
    /// Shard-minutes within a tenth of every other that is no worse on those three; none when no other is.
    pub shard_minutes: Option<bool>,
    /// On how many seeds the first three hold, of how many.
    pub seeds: (usize, usize),
}

impl Verdict {
    /// Of the outcomes of one trace; none when ours or the others did not run.
    pub fn of(outcomes: &[&Outcome]) -> Option<Self> {
        let ours = outcomes.iter().find(|outcome| outcome.policy == Name::Ours)?;
        let others: Vec<_> = outcomes.iter().filter(|outcome| outcome.policy != Name::Ours).collect();
        let others_scores: Vec<_> = others.iter().map(|outcome| &outcome.score).collect();
        if others.is_empty() {
            return None;
        }
        let (rejected, forced, oom_kills) = no_worse(&ours.score, &others_scores);
        let comparable: Vec<_> =
            others_scores.iter().filter(|other| no_worse(other, &[&ours.score]) == (true, true, true)).collect();
        let within = |other: &&&Score| ours.score.shard_seconds * 100 <= other.shard_seconds * (100 + MARGIN_PERCENT);
        let good = ours.seeds.iter().filter(|(seed, score)| {
            let others: Vec<_> = others
                .iter()
                .filter_map(|other| other.seeds.iter().find(|(its, _)| its == seed))
                .map(|(_, score)| score)
                .collect();
            no_worse(score, &others) == (true, true, true)
        });
        Some(Self {
            trace: ours.trace.clone(),
            rejected,
            forced,
            oom_kills,
            shard_minutes: (!comparable.is_empty()).then(|| comparable.iter().all(within)),
            seeds: (good.count(), ours.seeds.len()),
        })
    }

    /// Whether all of it holds.
    pub fn is_met(&self) -> bool {
        self.rejected && self.forced && self.oom_kills && self.shard_minutes != Some(false)
    }
}

fn no_worse(score: &Score, others: &[&Score]) -> (bool, bool, bool) {
    let least = |of: fn(&Score) -> u64| others.iter().map(|other| of(other)).min().is_none_or(|least| of(score) <= least);
    (least(|score| score.rejected), least(|score| score.forced.all()), least(|score| score.oom_kills))
}

/// The table as text, in the order of the outcomes.
pub fn text(outcomes: &[Outcome]) -> String {
    let head = ["trace", "policy", "rejected", "forced", "OOM kills", "shard-min", "over ideal", "turns", "to capacity"]
        .map(str::to_owned);
    let mut rows = vec![head];
    for outcome in outcomes {
        let score = &outcome.score;
        rows.push([
            outcome.trace.clone(),
            outcome.policy.as_str().to_owned(),
            score.rejected.to_string(),
            score.forced.all().to_string(),
            score.oom_kills.to_string(),
            (score.shard_seconds / 60).to_string(),
            (score.over_ideal_seconds / 60).to_string(),
            score.direction_changes.to_string(),
            format!("{} s", score.time_to_capacity),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..9).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if column < 2 { write!(text, "{cell:<width$}  ") } else { write!(text, "{cell:>width$}  ") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// The verdicts of all traces, each in a line.
pub fn verdicts(outcomes: &[Outcome]) -> Vec<Verdict> {
    let mut traces: Vec<&str> = outcomes.iter().map(|outcome| outcome.trace.as_str()).collect();
    traces.dedup();
    let of = |trace: &&str| outcomes.iter().filter(|outcome| outcome.trace == *trace).collect::<Vec<_>>();
    traces.iter().filter_map(|trace| Verdict::of(&of(trace))).collect()
}

/// A verdict in words.
pub fn line(verdict: &Verdict) -> String {
    let word = |met: bool| if met { "no more" } else { "MORE" };
    let minutes = match verdict.shard_minutes {
        None => "not comparable",
        Some(true) => "within 10 %",
        Some(false) => "OVER 10 %",
    };
    format!(
        "{}: rejected {}, forced {}, OOM kills {} than the better of the others ({} of {} seeds); shard-minutes {minutes}",
        verdict.trace,
        word(verdict.rejected),
        word(verdict.forced),
        word(verdict.oom_kills),
        verdict.seeds.0,
        verdict.seeds.1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::Forced;

    fn outcome(policy: Name, rejected: u64, forced: u64, shard_seconds: u64) -> Outcome {
        let forced = Forced { scale_in: forced, ..Forced::default() };
        let score = Score { rejected, forced, shard_seconds, ..Score::default() };
        Outcome { trace: "t".into(), policy, seeds: vec![(1, score.clone())], score, broken: vec![] }
    }

    fn verdict(ours: (u64, u64, u64), hpa: (u64, u64, u64), kpa: (u64, u64, u64)) -> Verdict {
        let all = [(Name::Ours, ours), (Name::Hpa, hpa), (Name::Kpa, kpa)];
        let outcomes = all.map(|(name, (rejected, forced, seconds))| outcome(name, rejected, forced, seconds));
        verdicts(&outcomes).remove(0)
    }

    #[test]
    fn ours_must_not_be_worse_than_the_better_of_the_others_on_any_count() {
        assert!(verdict((5, 5, 1), (5, 9, 1), (9, 5, 1)).is_met());
        let worse = verdict((6, 5, 1), (5, 9, 1), (9, 5, 1));
        assert!(!worse.rejected && worse.forced && worse.oom_kills && !worse.is_met());
        assert_eq!(worse.seeds, (0, 1));
    }

    #[test]
    fn shard_minutes_are_compared_only_with_who_is_no_worse() {
        assert_eq!(verdict((5, 5, 300), (6, 5, 100), (5, 6, 100)).shard_minutes, None);
        assert_eq!(verdict((5, 5, 110), (5, 5, 100), (5, 6, 1)).shard_minutes, Some(true));
        assert_eq!(verdict((5, 5, 111), (5, 5, 100), (5, 6, 1)).shard_minutes, Some(false));
    }
}
