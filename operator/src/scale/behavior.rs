//! `behavior`, with the meaning it has in `autoscaling/v2`: policies over periods, and windows.

use std::time::Duration;

use mcp_crds::cluster::{PolicyType, ScaleDown, ScaleUp, ScalingPolicy, SelectPolicy};

/// What was added and what was taken away within a period.
pub(super) trait Changes {
    /// Shards added and shards taken away within `period` of now.
    fn within(&self, period: Duration) -> (u32, u32);
}

/// The most shards that may be desired now; `current` when nothing may be added.
pub(super) fn ceiling(up: &ScaleUp, current: u32, changes: &impl Changes) -> u32 {
    let limits = up.policies.iter().map(|policy| {
        let (added, removed) = changes.within(period(policy));
        let start = current.saturating_sub(added).saturating_add(removed);
        let value = unsigned(policy.value);
        match policy.kind {
            PolicyType::Pods => start.saturating_add(value),
            PolicyType::Percent => percent_up(start, value),
        }
    });
    select(up.select_policy, limits.clone().max(), limits.min()).unwrap_or(current).max(current)
}

/// The fewest shards that may be desired now; `current` when nothing may be taken away.
pub(super) fn floor(down: &ScaleDown, current: u32, changes: &impl Changes) -> u32 {
    let limits = down.policies.iter().map(|policy| {
        let (added, removed) = changes.within(period(policy));
        let start = current.saturating_sub(added).saturating_add(removed);
        let value = unsigned(policy.value);
        match policy.kind {
            PolicyType::Pods => start.saturating_sub(value),
            PolicyType::Percent => percent_down(start, value),
        }
    });
    // The largest change is the lowest limit.
    select(down.select_policy, limits.clone().min(), limits.max()).unwrap_or(current).min(current)
}

/// A window or period as the API gives it.
pub(super) fn seconds(value: i32) -> Duration {
    Duration::from_secs(u64::from(unsigned(value)))
}

fn period(policy: &ScalingPolicy) -> Duration {
    seconds(policy.period_seconds)
}

fn select(policy: SelectPolicy, largest: Option<u32>, smallest: Option<u32>) -> Option<u32> {
    match policy {
        SelectPolicy::Max => largest,
        SelectPolicy::Min => smallest,
        SelectPolicy::Disabled => None,
    }
}

fn unsigned(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

/// Rounded up, as autoscaling/v2 does.
fn percent_up(start: u32, percent: u32) -> u32 {
    let result = (u64::from(start) * (100 + u64::from(percent))).div_ceil(100);
    u32::try_from(result).unwrap_or(u32::MAX)
}

/// What stays is rounded down, as autoscaling/v2 does: ten percent of three is one.
fn percent_down(start: u32, percent: u32) -> u32 {
    let result = u64::from(start) * u64::from(100_u32.saturating_sub(percent)) / 100;
    u32::try_from(result).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Changed(u32, u32);

    impl Changes for Changed {
        fn within(&self, _: Duration) -> (u32, u32) {
            (self.0, self.1)
        }
    }

    const QUIET: Changed = Changed(0, 0);

    #[test]
    fn by_default_the_larger_of_four_and_all_is_added() {
        let up = ScaleUp::default();
        assert_eq!(ceiling(&up, 1, &QUIET), 5);
        assert_eq!(ceiling(&up, 100, &QUIET), 200);
        assert_eq!(ceiling(&up, 5, &Changed(4, 0)), 5, "spent");
        assert_eq!(ceiling(&up, 4, &Changed(3, 0)), 5);
    }

    #[test]
    fn by_default_the_larger_of_one_and_a_tenth_is_taken_away() {
        let down = ScaleDown::default();
        assert_eq!(floor(&down, 3, &QUIET), 2);
        assert_eq!(floor(&down, 100, &QUIET), 90);
        assert_eq!(floor(&down, 90, &Changed(0, 10)), 90, "spent");
        assert_eq!(floor(&down, 0, &QUIET), 0);
    }

    #[test]
    fn min_takes_the_smaller_change_and_disabled_none() {
        let up = ScaleUp { select_policy: SelectPolicy::Min, ..ScaleUp::default() };
        assert_eq!(ceiling(&up, 10, &QUIET), 14);
        let down = ScaleDown { select_policy: SelectPolicy::Min, ..ScaleDown::default() };
        assert_eq!(floor(&down, 100, &QUIET), 99);
        assert_eq!(ceiling(&ScaleUp { select_policy: SelectPolicy::Disabled, ..up }, 10, &QUIET), 10);
        assert_eq!(floor(&ScaleDown { select_policy: SelectPolicy::Disabled, ..down }, 10, &QUIET), 10);
    }

    #[test]
    fn a_limit_never_forces_a_change() {
        let up = ScaleUp::default();
        assert_eq!(ceiling(&up, 10, &Changed(10, 0)), 10);
        assert_eq!(floor(&ScaleDown::default(), 10, &Changed(0, 50)), 10, "fifty went a moment ago");
    }
}
