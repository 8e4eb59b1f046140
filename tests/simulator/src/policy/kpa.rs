//! The Knative Pod Autoscaler, from its published algorithm and with its defaults.
//!
//! Source: knative/serving (Apache-2.0), `pkg/autoscaler/scaling/autoscaler.go`; the defaults are those of the ConfigMap
//! `config-autoscaler`. Without the activator: connections reach the pods through the same Service as everybody's.

use std::collections::VecDeque;

/// Seconds between two decisions (`tickInterval`).
pub const TICK: i64 = 2;
/// Seconds of the stable window (`stable-window`).
pub const STABLE_WINDOW: i64 = 60;
/// Percentage of the stable window that the panic window is (`panic-window-percentage`).
pub const PANIC_WINDOW_PERCENT: i64 = 10;
/// Panic begins when the panic window asks for this many times the ready pods (`panic-threshold-percentage: 200`).
pub const PANIC_THRESHOLD: f64 = 2.0;
/// Most that a decision multiplies the ready pods by (`max-scale-up-rate`).
pub const MAX_UP_RATE: f64 = 1000.0;
/// Most that a decision divides the ready pods by (`max-scale-down-rate`).
pub const MAX_DOWN_RATE: f64 = 2.0;
/// Percentage of a pod's concurrency that is aimed at (`container-concurrency-target-percentage`).
pub const TARGET_PERCENT: i64 = 70;

/// `DeciderSpec`, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spec {
    /// Concurrency aimed at for each pod.
    pub target: f64,
    /// See [`MAX_UP_RATE`].
    pub max_up_rate: f64,
    /// See [`MAX_DOWN_RATE`].
    pub max_down_rate: f64,
    /// See [`PANIC_THRESHOLD`].
    pub panic_threshold: f64,
    /// Seconds.
    pub stable_window: i64,
}

/// The state of one autoscaler.
#[derive(Clone, Debug, PartialEq)]
pub struct Kpa {
    spec: Spec,
    panic_since: Option<i64>,
    max_panic_pods: i64,
}

/// Concurrency by the second, over the stable window.
#[derive(Clone, Debug, Default)]
pub struct Windows(VecDeque<(i64, f64)>);

impl Spec {
    /// The defaults, for pods of which each can hold `concurrency`.
    pub fn new(concurrency: f64) -> Self {
        Self {
            target: concurrency * TARGET_PERCENT as f64 / 100.0,
            max_up_rate: MAX_UP_RATE,
            max_down_rate: MAX_DOWN_RATE,
            panic_threshold: PANIC_THRESHOLD,
            stable_window: STABLE_WINDOW,
        }
    }
}

impl Kpa {
    /// A new autoscaler begins in panic, at the size there is, when that is more than one.
    pub fn new(spec: Spec, ready: i64, now: i64) -> Self {
        Self { spec, panic_since: (ready > 1).then_some(now), max_panic_pods: ready }
    }

    /// `Scale`: pods for these averages of the stable and the panic window.
    pub fn scale(&mut self, ready: i64, stable: f64, panic: f64, now: i64) -> i64 {
        let spec = self.spec;
        let ready = ready.max(1) as f64;
        let most = (spec.max_up_rate * ready).ceil();
        let least = (ready / spec.max_down_rate).floor();
        let for_stable = (stable / spec.target).ceil();
        let for_panic = (panic / spec.target).ceil();
        let bounded = |pods: f64| pods.max(least).min(most) as i64;
        if for_panic / ready >= spec.panic_threshold {
            self.panic_since = Some(now);
        } else if self.panic_since.is_some_and(|since| since + spec.stable_window < now) {
            self.panic_since = None;
            self.max_panic_pods = 0;
        }
        let desired = bounded(for_stable);
        if self.panic_since.is_none() {
            return desired;
        }
        self.max_panic_pods = self.max_panic_pods.max(desired).max(bounded(for_panic));
        self.max_panic_pods
    }
}

impl Windows {
    /// Notes the concurrency of a second.
    pub fn record(&mut self, concurrency: f64, now: i64) {
        self.0.push_back((now, concurrency));
        while self.0.front().is_some_and(|(time, _)| now - time >= STABLE_WINDOW) {
            self.0.pop_front();
        }
    }

    /// Averages of the stable and the panic window; none without data.
    pub fn averages(&self, now: i64) -> Option<(f64, f64)> {
        let average = |window: i64| {
            let values: Vec<f64> = self.0.iter().filter(|(time, _)| now - time < window).map(|(_, value)| *value).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        average(STABLE_WINDOW).zip(average(STABLE_WINDOW * PANIC_WINDOW_PERCENT / 100))
    }
}

#[cfg(test)]
mod tests;
