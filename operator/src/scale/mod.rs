//! How many shards there should be, and which of them go: [`decide`].
//!
//! ```text
//! census     pods + reports → who counts as what         measure   what load costs, what a shard holds, how many that makes
//! history    windows, rates, what was learnt and lost    behavior  autoscaling/v2's policies
//! victims    whom to take away, if…                       room      …what they hold fits the others
//! shed       streams to end on hot shards                leaving   who gets no new connections
//! rebalance  streams to move to new shards               words     the decision, explained
//! ```
//!
//! Held connections are conserved and do not move by themselves, so memory is converted into load that a shard can hold, and
//! nothing is a mean over shards. See "Autoscaling" in docs/architecture.md.

mod behavior;
mod census;
mod history;
mod leaving;
mod measure;
mod policy;
mod rebalance;
mod room;
mod shed;
mod victims;
mod words;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mcp_crds::cluster::LastScale;

pub use history::History;
pub use policy::Policy;

use crate::stages::{Census, Decision, DrainReason, Gate, Held, Mode, Numbers, Observed, ShardState, elapsed};
use census::{Member, Members};
use measure::Measure;
use policy::Size;
use words::{Cause, Wanted};

/// After a kill for memory nothing is scaled in for this long.
const OOM_KILL_HOLDS: Duration = Duration::from_mins(30);
/// A gate that holds for this long is told with its remedy.
const OLD: Duration = Duration::from_hours(1);
/// A shard with less than this percentage of the target counts as without load.
const IDLE_PERCENT: u64 = 1;

/// Decides the size, and returns it with the history to hand to the next pass.
///
/// Pure: the same arguments give the same decision, whatever the order of the shards.
pub fn decide(policy: &Policy, observed: &Observed, mut history: History, now: Timestamp) -> (Decision, History) {
    let clock_moved_back = history.begin(now);
    let members = Members::take(observed, policy, &mut history, now);
    let measure = measure::measure(policy, &members, &mut history, now);
    let mut pass = Pass { policy, members: &members, measure, history, now, gate: None, raw: 0, clock_moved_back };
    let decision = pass.run();
    (decision, pass.history)
}

struct Pass<'p, 'a> {
    policy: &'p Policy,
    members: &'p Members<'a>,
    measure: Measure,
    history: History,
    now: Timestamp,
    gate: Option<Gate>,
    raw: u32,
    clock_moved_back: bool,
}

/// A size, why, and whom it costs.
struct Outcome<'p, 'a> {
    desired: u32,
    cause: Cause,
    victims: Vec<&'p Member<'a>>,
}

// === impl Pass ===

impl<'p, 'a> Pass<'p, 'a> {
    fn run(&mut self) -> Decision {
        let mode = self.mode();
        let known = self.history.desired;
        let previous = known.unwrap_or_else(|| self.members.current());
        self.raw = self.policy.fixed().unwrap_or_else(|| self.raw(self.policy.bound(previous)));
        let outcome = match self.policy.size {
            _ if mode == Mode::Paused => Outcome {
                desired: self.policy.fixed().unwrap_or(self.policy.bound(previous)),
                cause: Cause::Manual,
                victims: vec![],
            },
            Size::Fixed(size) => self.fixed(size),
            Size::ByLoad { min, max } => self.by_load(mode, previous, min, max),
        };
        let desired = outcome.desired;
        self.watch_poison();
        let scaled = known.is_some_and(|known| known != desired) && mode != Mode::Paused;
        if scaled {
            self.history.change(i64::from(desired) - i64::from(previous), self.now);
            self.history.last_scale = Some(self.last_scale(outcome.cause, previous, desired));
        }
        if mode != Mode::Paused {
            self.history.desired = Some(desired);
        }
        let mut sheds = self.sheds();
        sheds.extend(self.rebalance());
        if matches!(self.gate, None | Some(Gate::VictimsDoNotFit)) && words::decides(mode) && self.is_one_hot_among_cool() {
            self.gate = Some(Gate::HotShard);
        }
        let leaving = self.leaving(&outcome.victims);
        let held = self.held(desired);
        let numbers = Numbers { raw: self.raw, ..self.measure.numbers.clone() };
        Decision {
            desired,
            create: desired.saturating_sub(self.members.current()),
            victims: outcome.victims.into_iter().map(victims::victim).collect(),
            sheds,
            retiring: self.retiring().map(|m| m.shard.pod()).collect(),
            recycles: self.retiring().filter(|m| self.is_due(m)).map(|m| m.shard.pod()).collect(),
            leaving,
            last_scale: self.history.last_scale.clone(),
            scaled,
            held,
            mode,
            census: Census { shedding: self.shedding(), fruitless: self.fruitless(), ..self.members.summary() },
            numbers,
            remembered: self.history.remembered(self.down_window(), self.now),
        }
    }

    fn mode(&self) -> Mode {
        if self.policy.paused {
            Mode::Paused
        } else if self.policy.fixed().is_some() {
            Mode::ManualReplicas
        } else if self.members.fresh().next().is_none() {
            if self.history.heard || self.members.in_state(ShardState::Silent).next().is_some() {
                Mode::MetricsUnavailable
            } else {
                Mode::Starting
            }
        } else if self.measure.limit.is_none() {
            Mode::MemoryLimitUnknown
        } else if self.measure.numbers.slot <= 0 {
            Mode::MemoryTargetUnreachable
        } else {
            Mode::Deciding
        }
    }

    /// A person decides: what is too much goes, a tenth at a time.
    fn fixed(&mut self, size: u32) -> Outcome<'p, 'a> {
        self.history.recommend(size, self.now);
        let surplus = self.members.current().saturating_sub(size);
        let mut chosen = victims::idle(self.members, surplus);
        let rest = surplus.saturating_sub(count(chosen.len()));
        victims::choose(self.policy, &self.measure, self.members, &mut chosen, rest.min(self.at_once()), false);
        Outcome { desired: size, cause: Cause::Manual, victims: chosen }
    }

    fn by_load(&mut self, mode: Mode, previous: u32, min: u32, max: u32) -> Outcome<'p, 'a> {
        let bounded = previous.clamp(min, max);
        if !words::decides(mode) {
            return self.settle(bounded, previous, max, false);
        }
        if self.clock_moved_back || self.members.invalid().next().is_some() {
            self.gate = Some(if self.clock_moved_back { Gate::ClockMovedBack } else { Gate::InvalidReport });
            return self.settle(bounded, previous, max, false);
        }
        let asked = self.raw.clamp(min, max);
        self.history.recommend(asked, self.now);
        if self.members.current() > max {
            return self.settle(bounded, previous, max, false);
        }
        if self.raw > bounded {
            let desired = self.grow(asked, bounded);
            return self.settle(desired, previous, max, true);
        }
        if self.raw < min && bounded == min && min > 1 {
            self.gate = Some(Gate::AtMinimum);
        }
        if asked < bounded {
            return self.shrink(asked, previous, bounded, max);
        }
        self.settle(bounded, previous, max, true)
    }

    /// What load asks for, before windows, rates and bounds; `current` within the dead band.
    fn raw(&self, current: u32) -> u32 {
        let up = self.measure.numbers.by_connections.max(self.measure.numbers.by_memory);
        let down = up.max(self.measure.floor);
        if up > current { up } else { down.min(current) }
    }

    /// Load asks for more than there is: as much of it as windows and rates allow.
    fn grow(&mut self, asked: u32, bounded: u32) -> u32 {
        let window = behavior::seconds(self.policy.up.stabilization_window_seconds);
        let lowest = self.history.lowest(window, self.now).unwrap_or(asked);
        let ceiling = behavior::ceiling(&self.policy.up, bounded, &self.history);
        let desired = lowest.min(ceiling).max(bounded);
        self.gate = if desired < asked {
            Some(if lowest < ceiling { Gate::Stabilizing } else { Gate::RateLimited })
        } else {
            (asked < self.raw).then_some(Gate::AtMaximum)
        };
        desired
    }

    /// Load asks for less than there is. Pods that never took a connection go at once, others when no gate is closed.
    fn shrink(&mut self, raw: u32, previous: u32, bounded: u32, max: u32) -> Outcome<'p, 'a> {
        let highest = self.history.highest(self.down_window(), self.now).unwrap_or(bounded).max(raw).min(bounded);
        let idle = victims::idle_count(self.members);
        let missing = bounded.saturating_sub(self.members.current());
        // Shards that do not exist yet, or that hold nothing, need no permission to go.
        let free = bounded.saturating_sub(idle.saturating_add(missing)).max(highest);
        if free == highest && highest > raw {
            self.gate = Some(if self.clock_moved_lately() { Gate::ClockMovedBack } else { Gate::Stabilizing });
        }
        if free == highest {
            return self.settle(free, previous, max, true);
        }
        if let Some(gate) = self.closed_gate() {
            self.gate = Some(gate);
            return self.settle(free, previous, max, false);
        }
        let floor = behavior::floor(&self.policy.down, free, &self.history);
        let wanted = highest.max(floor);
        if wanted > raw {
            self.gate = Some(if wanted == floor { Gate::RateLimited } else { Gate::Stabilizing });
        }
        let surplus = self.members.current().saturating_sub(wanted);
        let mut chosen = victims::idle(self.members, surplus);
        let rest = surplus.saturating_sub(count(chosen.len()));
        victims::choose(self.policy, &self.measure, self.members, &mut chosen, rest, true);
        let kept = surplus.saturating_sub(count(chosen.len()));
        if kept > 0 {
            self.gate = Some(Gate::VictimsDoNotFit);
        }
        let desired = wanted.saturating_add(kept).min(free);
        Outcome { desired, cause: cause(desired, previous, true), victims: chosen }
    }

    /// The size is settled; what exists beyond it goes: over `max` one at a time because a person said so, otherwise when no
    /// gate is closed and the others have room.
    fn settle(&mut self, desired: u32, previous: u32, max: u32, may_drain: bool) -> Outcome<'p, 'a> {
        let current = self.members.current();
        let surplus = current.saturating_sub(desired);
        let mut chosen = victims::idle(self.members, surplus);
        let rest = surplus.saturating_sub(count(chosen.len()));
        let over_max = current.saturating_sub(count(chosen.len())).saturating_sub(max);
        if over_max > 0 {
            let one = 1_u32.saturating_sub(self.draining());
            victims::choose(self.policy, &self.measure, self.members, &mut chosen, rest.min(one), false);
        } else if rest > 0 && may_drain {
            if let Some(gate) = self.closed_gate() {
                self.gate = Some(gate);
            } else {
                let (before, most) = (chosen.len(), rest.min(self.at_once()));
                victims::choose(self.policy, &self.measure, self.members, &mut chosen, most, true);
                if most > 0 && chosen.len() == before {
                    self.gate = Some(Gate::VictimsDoNotFit);
                }
            }
        }
        let by_load = desired != self.policy.bound(previous);
        Outcome { desired, cause: cause(desired, previous, by_load), victims: chosen }
    }

    /// The first gate that forbids to take away a shard that may hold work.
    fn closed_gate(&self) -> Option<Gate> {
        let window = self.down_window();
        let is_recent = |time: Option<Timestamp>, span: Duration| time.is_some_and(|time| elapsed(time, self.now) < span);
        if self.clock_moved_lately() {
            Some(Gate::ClockMovedBack)
        } else if self.members.unheard().next().is_some() {
            Some(Gate::ShardSilent)
        } else if is_recent(self.history.last_oom_kill, OOM_KILL_HOLDS) {
            Some(Gate::RecentOomKill)
        } else if self.members.is_rolling() {
            Some(Gate::RolloutInProgress)
        } else if is_recent(self.history.observed_since, window) {
            Some(Gate::Stabilizing)
        } else {
            None
        }
    }

    /// Whether the clock moved back within the window.
    fn clock_moved_lately(&self) -> bool {
        self.history.clock_moved_back.is_some_and(|time| elapsed(time, self.now) < self.down_window())
    }

    fn down_window(&self) -> Duration {
        behavior::seconds(self.policy.down.stabilization_window_seconds)
    }

    /// Shards that may begin to drain now, when nothing else bounds them: a tenth at a time.
    fn at_once(&self) -> u32 {
        (self.members.current() / 10).max(1).saturating_sub(self.draining())
    }

    /// Scale-in drains under way.
    fn draining(&self) -> u32 {
        let is_scale_in = |m: &&Member<'_>| m.shard.draining.is_some_and(|mark| mark.reason == Some(DrainReason::ScaleIn));
        count(self.members.in_state(ShardState::Draining).filter(is_scale_in).count())
    }

    /// Notes since when memory stays on shards without load. More than half a slot is more than any idle shard needs.
    fn watch_poison(&mut self) {
        let target = self.measure.numbers.target;
        let slot = u64::try_from(self.measure.numbers.slot).unwrap_or(0);
        for member in &self.members.all {
            let Some(seen) = self.history.seen.get_mut(member.at) else { continue };
            let stays = slot > 0
                && member.state == ShardState::Fresh
                && member.shard.ready
                && member.report.is_some_and(|report| {
                    let kept = report.working_set_bytes.saturating_sub(report.base_bytes);
                    report.load().saturating_mul(100) < target.saturating_mul(IDLE_PERCENT).max(1) && kept > slot / 2
                });
            seen.idle_hot_since = if stays { seen.idle_hot_since.or(Some(self.now)) } else { None };
        }
    }

    fn last_scale(&self, cause: Cause, from: u32, to: u32) -> LastScale {
        let whole = |size: u32| i32::try_from(size).unwrap_or(i32::MAX);
        LastScale {
            time: Time(self.now),
            from: whole(from),
            to: whole(to),
            reason: words::reason(cause, &self.measure).to_owned(),
            message: words::scale(cause, self.policy, &self.measure, from, to),
        }
    }

    fn held(&mut self, desired: u32) -> Option<Held> {
        let since = self.history.hold(self.gate, self.now);
        let gate = self.gate?;
        let is_old = since.is_some_and(|since| elapsed(since, self.now) >= OLD);
        let wanted = Wanted { desired, raw: self.raw };
        Some(Held { gate, message: words::held(gate, self.policy, self.members, wanted, is_old, self.now) })
    }
}

fn cause(desired: u32, previous: u32, by_load: bool) -> Cause {
    match (by_load, desired > previous) {
        (false, _) => Cause::Bounds,
        (true, true) => Cause::More,
        (true, false) => Cause::Less,
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
