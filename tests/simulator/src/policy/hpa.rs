//! The HorizontalPodAutoscaler v2, from its published algorithm and with its defaults.
//!
//! Source: kubernetes/kubernetes (Apache-2.0), `pkg/controller/podautoscaler/replica_calculator.go` (how many replicas a metric
//! asks for) and `horizontal.go` (windows and rates); the defaults are those of `autoscaling/v2` and of the flags of
//! kube-controller-manager. Which pods count as not ready for the CPU metric is not needed here, and is given by the caller.

use std::cmp::Ordering;

/// Seconds between two decisions (`--horizontal-pod-autoscaler-sync-period`).
pub const SYNC_PERIOD: i64 = 15;
/// A ratio this near to one changes nothing (`--horizontal-pod-autoscaler-tolerance`).
pub const TOLERANCE: f64 = 0.1;
/// Seconds over which the highest recommendation counts, going down (`--horizontal-pod-autoscaler-downscale-stabilization`).
pub const DOWN_WINDOW: i64 = 300;
/// Seconds over which the lowest recommendation counts, going up.
pub const UP_WINDOW: i64 = 0;
/// `behavior.scaleUp.policies`, of which the one that allows most counts.
pub const UP: [Rate; 2] = [Rate::Pods { value: 4, period: 15 }, Rate::Percent { value: 100, period: 15 }];
/// `behavior.scaleDown.policies`.
pub const DOWN: [Rate; 1] = [Rate::Percent { value: 100, period: 15 }];
/// A pod without a metric counts as using this percentage of its request, going down, or the target if that is higher.
const MISSING_PERCENT: i64 = 100;

/// One of the `policies` of `behavior`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// This many pods.
    Pods {
        /// Pods.
        value: i64,
        /// Seconds.
        period: i64,
    },
    /// This percentage of the pods there were when the period began.
    Percent {
        /// Percent.
        value: i64,
        /// Seconds.
        period: i64,
    },
}

/// A pod, as the calculator sorts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// Counted, with its metric.
    Ready(i64),
    /// Pending, or not ready for this metric.
    Unready,
    /// It has no metric.
    Missing,
    /// Failed, or being deleted.
    Ignored,
}

/// What a metric is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An average value for each pod.
    Average(i64),
    /// A percentage of the request; every pod requests the same.
    Utilization {
        /// Percent.
        percent: i64,
        /// Of one pod.
        request: i64,
    },
}

/// Why a metric gives no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMetrics;

/// Replicas that one metric asks for: `calcPlainMetricReplicas` and `GetResourceReplicas`.
///
/// # Errors
/// When no counted pod has the metric.
pub fn replicas(current: i64, pods: &[Sample], target: Target) -> Result<i64, NoMetrics> {
    let mut values: Vec<i64> =
        pods.iter().filter_map(|pod| if let Sample::Ready(value) = pod { Some(*value) } else { None }).collect();
    let count = |wanted: Sample| pods.iter().filter(|pod| **pod == wanted).count();
    let (unready, missing, ready) = (count(Sample::Unready), count(Sample::Missing), values.len());
    if ready == 0 {
        return Err(NoMetrics);
    }
    let usage = ratio(&values, target);
    let fills_unready = unready > 0 && usage > 1.0;
    if !fills_unready && missing == 0 {
        return Ok(if (1.0 - usage).abs() <= TOLERANCE { current } else { (usage * ready as f64).ceil() as i64 });
    }
    let assumed = match target {
        Target::Average(value) if usage < 1.0 => Some(value),
        Target::Utilization { percent, request } if usage < 1.0 => Some(request * percent.max(MISSING_PERCENT) / 100),
        // Upstream leaves them out where a utilization is met exactly.
        Target::Utilization { .. } if usage <= 1.0 => None,
        Target::Average(_) | Target::Utilization { .. } => Some(0),
    };
    if let Some(assumed) = assumed {
        values.extend(std::iter::repeat_n(assumed, missing));
    }
    if fills_unready {
        values.extend(std::iter::repeat_n(0, unready));
    }
    let filled = ratio(&values, target);
    let turns = (usage < 1.0 && filled > 1.0) || (usage > 1.0 && filled < 1.0);
    if (1.0 - filled).abs() <= TOLERANCE || turns {
        return Ok(current);
    }
    let wanted = (filled * values.len() as f64).ceil() as i64;
    let turns = (filled < 1.0 && wanted > current) || (filled > 1.0 && wanted < current);
    Ok(if turns { current } else { wanted })
}

/// Usage over target; utilization in whole percents, and averages in whole numbers, as upstream.
fn ratio(values: &[i64], target: Target) -> f64 {
    let total: i64 = values.iter().sum();
    let count = values.len() as i64;
    match target {
        Target::Average(value) => (total / count) as f64 / value as f64,
        Target::Utilization { percent, request } => (total * 100 / (request * count)) as f64 / percent as f64,
    }
}

/// What is remembered from decision to decision.
#[derive(Clone, Debug, Default)]
pub struct Hpa {
    recommendations: Vec<(i64, i64)>,
    /// When, and how many pods were added or, below zero, taken away.
    changes: Vec<(i64, i64)>,
}

impl Hpa {
    /// Settled at this size.
    pub fn settled(size: i64, now: i64) -> Self {
        Self { recommendations: vec![(now, size)], changes: vec![] }
    }

    /// The size for now: the highest that any metric asks for, within windows, rates and bounds. When a metric fails, nothing is
    /// scaled in (`computeReplicasForMetrics`).
    pub fn decide(&mut self, current: i64, asked: &[Result<i64, NoMetrics>], bounds: (i64, i64), now: i64) -> i64 {
        let highest = asked.iter().filter_map(|asked| asked.ok()).max();
        let failed = asked.iter().any(Result::is_err);
        let Some(highest) = highest.filter(|size| !failed || *size >= current) else { return current.clamp(bounds.0, bounds.1) };
        let stable = self.stabilize(current, highest, now);
        let size = self.limit(current, stable, bounds, now);
        if size != current {
            self.changes.push((now, size - current));
        }
        size
    }

    /// `stabilizeRecommendationWithBehaviors`.
    pub fn stabilize(&mut self, current: i64, asked: i64, now: i64) -> i64 {
        let within =
            |window: i64| self.recommendations.iter().filter(move |(time, _)| now - time < window).map(|(_, size)| *size);
        let up = within(UP_WINDOW).fold(asked, i64::min);
        let down = within(DOWN_WINDOW).fold(asked, i64::max);
        let stable = current.max(up).min(down);
        self.recommendations.retain(|(time, _)| now - time < DOWN_WINDOW.max(UP_WINDOW));
        self.recommendations.push((now, asked));
        stable
    }

    /// `convertDesiredReplicasWithBehaviorRate`.
    pub fn limit(&self, current: i64, asked: i64, bounds: (i64, i64), now: i64) -> i64 {
        limited(current, asked, bounds, (&UP, &DOWN), |period| self.changed(period, now))
    }

    /// Pods added and pods taken away within a period.
    fn changed(&self, period: i64, now: i64) -> (i64, i64) {
        let recent = self.changes.iter().filter(|(time, _)| now - time < period);
        recent.fold((0, 0), |(added, gone), (_, by)| (added + (*by).max(0), gone + (-by).max(0)))
    }
}

/// What rates and bounds make of a size. `changed` says how many pods were added and taken away within a period.
fn limited(
    current: i64,
    asked: i64,
    (min, max): (i64, i64),
    (up, down): (&[Rate], &[Rate]),
    changed: impl Fn(i64) -> (i64, i64),
) -> i64 {
    let start = |period: i64| {
        let (added, gone) = changed(period);
        current - added + gone
    };
    match asked.cmp(&current) {
        Ordering::Greater => {
            let most = up.iter().map(|rate| match *rate {
                Rate::Pods { value, period } => start(period) + value,
                Rate::Percent { value, period } => (start(period) as f64 * (1.0 + value as f64 / 100.0)).ceil() as i64,
            });
            let most = most.max().unwrap_or(current).max(current);
            asked.min(most.min(max))
        }
        Ordering::Less => {
            let least = down.iter().map(|rate| match *rate {
                Rate::Pods { value, period } => start(period) - value,
                Rate::Percent { value, period } => (start(period) as f64 * (1.0 - value as f64 / 100.0)) as i64,
            });
            let least = least.min().unwrap_or(current).min(current);
            asked.max(least.max(min))
        }
        Ordering::Equal => asked.clamp(min, max),
    }
}

#[cfg(test)]
mod tests;
