//! What a run cost.

use serde::Serialize;

/// Refusals this many seconds apart belong to one shortage.
const SAME_SHORTAGE: i64 = 10;
/// Points that are kept of each series, for the plot.
const SAMPLE_EVERY: i64 = 10;

/// Why a stream ended that its client had not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Cause {
    /// A shard was taken away.
    ScaleIn,
    /// A shard was replaced.
    Rollout,
    /// A poisoned or unhealthy shard was replaced.
    Replaced,
    /// The autoscaler shed a hot shard.
    Shed,
    /// The shard's own memory guard.
    Guard,
    /// The kernel.
    OomKill,
    /// The trace: a node, a crash, a proxy. It is the same for every policy, and counts for none.
    Trace,
}

/// Streams that were ended, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Forced {
    pub scale_in: u64,
    pub rollout: u64,
    pub replaced: u64,
    pub shed: u64,
    pub guard: u64,
    pub oom_kill: u64,
}

/// A second of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Second {
    /// Pods, but for those on dead nodes.
    pub alive: u64,
    /// Shards that the clients need.
    pub ideal: u64,
    /// Shards that serve.
    pub serving: u64,
    /// Clients that are connected.
    pub connected: u64,
    /// Clients that want to be, and are not.
    pub waiting: u64,
    /// Whether one was refused.
    #[serde(skip)]
    pub refused: bool,
}

/// What a run cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Score {
    /// Attempts to connect that were answered with 503.
    pub rejected: u64,
    /// Attempts that met no live endpoint.
    pub unreachable: u64,
    /// Calls that found no room for their body.
    pub calls_refused: u64,
    /// Streams that were ended, by cause.
    pub forced: Forced,
    /// Streams that the trace broke.
    pub broken: u64,
    /// Kills for memory.
    pub oom_kills: u64,
    /// Seconds of all shards.
    pub shard_seconds: u64,
    /// Of these, seconds beyond the ideal number.
    pub over_ideal_seconds: u64,
    /// How often the wanted size turned from growing to shrinking or back.
    pub direction_changes: u64,
    /// The longest time over which clients were refused, seconds.
    pub time_to_capacity: i64,
    /// Samples for the plot.
    #[serde(skip)]
    pub series: Vec<(i64, Second)>,
    #[serde(skip)]
    pub(crate) shortage: Option<(i64, i64)>,
    #[serde(skip)]
    pub(crate) last_size: Option<u32>,
    #[serde(skip)]
    pub(crate) last_direction: Option<std::cmp::Ordering>,
}

impl Forced {
    /// Of all causes.
    pub fn all(&self) -> u64 {
        self.scale_in + self.rollout + self.replaced + self.shed + self.guard + self.oom_kill
    }
}

impl Score {
    /// Counts streams that were ended.
    pub fn force(&mut self, cause: Cause, count: u64) {
        let forced = &mut self.forced;
        *match cause {
            Cause::ScaleIn => &mut forced.scale_in,
            Cause::Rollout => &mut forced.rollout,
            Cause::Replaced => &mut forced.replaced,
            Cause::Shed => &mut forced.shed,
            Cause::Guard => &mut forced.guard,
            Cause::OomKill => &mut forced.oom_kill,
            Cause::Trace => &mut self.broken,
        } += count;
    }

    /// Counts a second.
    pub fn second(&mut self, now: i64, second: Second) {
        self.shard_seconds += second.alive;
        self.over_ideal_seconds += second.alive.saturating_sub(second.ideal);
        if second.refused {
            let since = self.shortage.filter(|(_, last)| now - last <= SAME_SHORTAGE).map_or(now, |(since, _)| since);
            self.shortage = Some((since, now));
            self.time_to_capacity = self.time_to_capacity.max(now - since + 1);
        }
        if now % SAMPLE_EVERY == 0 {
            self.series.push((now, second));
        }
    }

    /// Notes the size the policy wants.
    pub fn size(&mut self, size: u32) {
        let direction = self.last_size.map(|last| size.cmp(&last)).filter(|direction| direction.is_ne());
        if let Some(direction) = direction {
            self.direction_changes += u64::from(self.last_direction.is_some_and(|last| last != direction));
            self.last_direction = Some(direction);
        }
        self.last_size = Some(size);
    }

    /// Adds another run; the longest shortage of both counts.
    pub fn add(&mut self, other: &Self) {
        let (mine, its) = (&mut self.forced, &other.forced);
        let sums = [
            (&mut self.rejected, other.rejected),
            (&mut self.unreachable, other.unreachable),
            (&mut self.calls_refused, other.calls_refused),
            (&mut self.broken, other.broken),
            (&mut self.oom_kills, other.oom_kills),
            (&mut self.shard_seconds, other.shard_seconds),
            (&mut self.over_ideal_seconds, other.over_ideal_seconds),
            (&mut self.direction_changes, other.direction_changes),
            (&mut mine.scale_in, its.scale_in),
            (&mut mine.rollout, its.rollout),
            (&mut mine.replaced, its.replaced),
            (&mut mine.shed, its.shed),
            (&mut mine.guard, its.guard),
            (&mut mine.oom_kill, its.oom_kill),
        ];
        for (sum, more) in sums {
            *sum += more;
        }
        self.time_to_capacity = self.time_to_capacity.max(other.time_to_capacity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_lasts_from_its_first_refusal_to_its_last() {
        let mut score = Score::default();
        for now in 0..100 {
            score.second(now, Second { refused: [10, 15, 25, 40].contains(&now), ..Second::default() });
        }
        assert_eq!(score.time_to_capacity, 16);
    }

    #[test]
    fn a_turn_is_counted_once() {
        let mut score = Score::default();
        for size in [3, 3, 5, 5, 7, 6, 6, 4, 9] {
            score.size(size);
        }
        assert_eq!(score.direction_changes, 2);
    }

    #[test]
    fn shards_below_the_ideal_are_no_credit() {
        let mut score = Score::default();
        score.second(1, Second { alive: 2, ideal: 5, ..Second::default() });
        score.second(2, Second { alive: 7, ideal: 5, ..Second::default() });
        assert_eq!((score.shard_seconds, score.over_ideal_seconds), (9, 2));
    }
}
