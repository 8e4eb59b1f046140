//! What `decide` remembers from pass to pass, and what of it outlives this process.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mcp_crds::McpClusterStatus;
use mcp_crds::cluster::{AutoscalingStatus, LastScale};
use mcp_crds::load::LoadReport;
use mcp_crds::quantity::Bytes;

use super::behavior::Changes;
use super::shed::{Step, Watch};
use crate::stages::{Gate, ObservedShard, ShardState, elapsed};

/// Smoothing of the learnt bytes per unit of load.
const LEARNING_TIME: Duration = Duration::from_mins(5);
/// Growth is measured over this time…
const GROWTH_WINDOW: Duration = Duration::from_mins(1);
/// …and over no less than this, or a single burst would be a trend.
const GROWTH_LEAST: Duration = Duration::from_secs(30);
/// Clients of a lost shard that have not come back by then are not coming.
const ORPHANS_EXPIRE: Duration = Duration::from_mins(5);
/// Passes further apart than this break the observation.
const UNBROKEN: Duration = Duration::from_mins(1);
/// The longest window or period `behavior` may ask for.
const LONGEST_WINDOW: Duration = Duration::from_hours(1);
/// Load that went away may come back within this time, as after a restart of a proxy: its shards are still there. It is longer
/// than it takes to call a shard lost.
pub(super) const COMES_BACK_WITHIN: Duration = Duration::from_mins(3);
/// A clock may be set back by this much without notice.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(1);
/// How long a shard takes to start, before one was seen to.
const TYPICAL_BOOT: Duration = Duration::from_secs(20);
/// The longest start that counts: slower ones wait for something else, a node or an image.
const LONGEST_BOOT: Duration = Duration::from_mins(2);
/// A gate that was open for this long is another one when it closes again.
const GATE_FORGOTTEN: Duration = Duration::from_mins(30);
/// Starts that are remembered.
const BOOTS_KEPT: usize = 32;

/// The memory of `decide` for one cluster. Start with [`History::restore`], then hand each pass what the last one returned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    pub(super) desired: Option<u32>,
    pub(super) last_scale: Option<LastScale>,
    pub(super) last_oom_kill: Option<Timestamp>,
    pub(super) observed_since: Option<Timestamp>,
    pub(super) clock_moved_back: Option<Timestamp>,
    pub(super) heard: bool,
    /// When streams were last moved to new shards.
    pub(super) rebalanced: Option<Timestamp>,
    /// Of each pod, by index and uid.
    pub(super) seen: Vec<Seen>,
    now: Option<Timestamp>,
    recommendations: Vec<(Timestamp, u32)>,
    changes: Vec<(Timestamp, i64)>,
    bytes_per_load: Option<(Timestamp, f64)>,
    totals: Vec<(Timestamp, u64)>,
    /// Until then load that grows may be load that comes back: what there was before is not known.
    blind_until: Option<Timestamp>,
    loss: Option<Loss>,
    boots: Vec<Duration>,
    held: Vec<Held>,
}

/// What is remembered of one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    index: u32,
    uid: Arc<str>,
    /// Load in the last valid report.
    pub(super) load: u64,
    /// Clients that were refused and wait to come back.
    pub(super) waiting: u64,
    /// Since when memory stays without load.
    pub(super) idle_hot_since: Option<Timestamp>,
    /// When it was last killed for memory.
    pub(super) killed: Option<Timestamp>,
    /// The last time streams of it were shed.
    pub(super) shed: Option<Step>,
    /// How often in a row that did not free memory.
    pub(super) fruitless: u8,
    /// What its memory does when streams leave is measured from here.
    pub(super) watch: Option<Watch>,
    /// Its streams left, and its memory stayed.
    pub(super) leaks: bool,
    /// Since when it is to be recycled.
    pub(super) retiring: Option<Timestamp>,
    incarnation: Arc<str>,
    seq: u64,
    at: Option<Timestamp>,
    rejected: u64,
    oom_kills: u64,
    is_lost: bool,
    booted: bool,
}

/// A gate that holds, or did a moment ago.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    gate: Gate,
    since: Timestamp,
    last: Timestamp,
}

/// Shards were lost: demand is what it was before, until clients are back.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Loss {
    at: Timestamp,
    total_before: u64,
}

impl History {
    /// What a new process knows: what the last one wrote into status. The highest recommendation counts from now on, so that
    /// nothing is scaled in that would not have been; and so does the load, so that none of it that comes back is growth. The
    /// clients of a shard that went while nobody led are missing in what is heard first. Those of a shard that went before are
    /// missing in status as well: where shards were missing then, nothing is growth until they had the time to come back.
    pub fn restore(status: Option<&McpClusterStatus>, now: Timestamp) -> Self {
        let Some(status) = status else { return Self::default() };
        let kept = status.autoscaling.clone().unwrap_or_default();
        let count = |value: i32| u32::try_from(value).unwrap_or(0);
        let past = |time: &Time| time.0.min(now);
        let learnt = status.load.as_ref().and_then(|load| Bytes::parse(load.bytes_per_connection.as_deref()?).ok());
        #[expect(clippy::cast_precision_loss, reason = "bytes of one connection are far below 2^52")]
        Self {
            desired: status.desired_replicas.map(count),
            last_scale: status.last_scale.clone(),
            last_oom_kill: kept.last_oom_kill_time.as_ref().map(past),
            observed_since: kept.window_start_time.as_ref().map(past),
            recommendations: kept.window_highest.or(status.desired_replicas).map(|size| (now, count(size))).into_iter().collect(),
            changes: status.last_scale.iter().map(|scale| (past(&scale.time), i64::from(scale.to - scale.from))).collect(),
            bytes_per_load: learnt.filter(|bytes| bytes.0 > 0).map(|bytes| (now, bytes.0 as f64)),
            totals: status
                .load
                .as_ref()
                .and_then(|load| Some((now, u64::try_from(load.connections).ok()?)))
                .into_iter()
                .collect(),
            blind_until: status
                .ready_replicas
                .zip(status.desired_replicas)
                .is_some_and(|(ready, desired)| ready < desired)
                .then(|| now + COMES_BACK_WITHIN),
            ..Self::default()
        }
    }

    /// What a new leader must not forget.
    pub(super) fn remembered(&self, window: Duration, now: Timestamp) -> AutoscalingStatus {
        AutoscalingStatus {
            window_start_time: self.observed_since.map(Time),
            window_highest: self.highest(window, now).and_then(|highest| i32::try_from(highest).ok()),
            last_oom_kill_time: self.last_oom_kill.map(Time),
        }
    }

    /// Begins a pass; returns whether the clock moved back since the last one. Then nothing remembered lies in the future
    /// afterwards, and the observation starts anew.
    pub(super) fn begin(&mut self, now: Timestamp) -> bool {
        let moved_back = self.now.is_some_and(|last| now.duration_since(last) < -CLOCK_TOLERANCE);
        let broken = self.now.is_some_and(|last| elapsed(last, now) > UNBROKEN);
        if moved_back {
            self.clock_moved_back = Some(now);
            self.totals.clear();
            for (time, _) in &mut self.recommendations {
                *time = now.min(*time);
            }
            for (time, _) in &mut self.changes {
                *time = now.min(*time);
            }
            let past = |time: &mut Option<Timestamp>| *time = time.map(|time| time.min(now));
            past(&mut self.last_oom_kill);
            past(&mut self.rebalanced);
            self.blind_until = self.blind_until.map(|until| until.min(now + COMES_BACK_WITHIN));
            for seen in &mut self.seen {
                past(&mut seen.at);
                past(&mut seen.idle_hot_since);
                past(&mut seen.retiring);
                past(&mut seen.killed);
                if let Some(step) = &mut seen.shed {
                    step.at = now.min(step.at);
                }
            }
            if let Some(loss) = &mut self.loss {
                loss.at = loss.at.min(now);
            }
            for held in &mut self.held {
                (held.since, held.last) = (now.min(held.since), now.min(held.last));
            }
            if let Some((time, _)) = &mut self.bytes_per_load {
                *time = now.min(*time);
            }
        }
        if moved_back || broken || self.observed_since.is_none() {
            self.observed_since = Some(now);
        }
        self.now = Some(now);
        self.recommendations.retain(|(time, _)| elapsed(*time, now) <= LONGEST_WINDOW);
        self.changes.retain(|(time, _)| elapsed(*time, now) <= LONGEST_WINDOW);
        moved_back
    }

    /// Takes in what the shards say: loads, refusals, kills for memory, losses and starts. `reports` pairs each shard with
    /// its state and its report, if that makes sense; they come by index and uid.
    pub(super) fn learn<'a>(
        &mut self,
        reports: impl Iterator<Item = (&'a ObservedShard, ShardState, Option<&'a LoadReport>)>,
        now: Timestamp,
    ) {
        let mut before = std::mem::take(&mut self.seen).into_iter().peekable();
        self.seen.reserve(before.len());
        let mut missing: Option<(Timestamp, u64)> = None;
        let mut lose = |seen: &Seen| {
            let heard = seen.at.unwrap_or(now);
            missing = Some(missing.map_or((heard, seen.load), |(at, load)| (at.min(heard), load.saturating_add(seen.load))));
        };
        let mut total = 0_u64;
        for (shard, state, report) in reports {
            let key = (shard.index, &*shard.uid);
            while let Some(gone) = before.next_if(|seen| (seen.index, &*seen.uid) < key) {
                if !gone.is_lost && gone.load > 0 {
                    lose(&gone);
                }
            }
            let known = before.next_if(|seen| (seen.index, &*seen.uid) == key);
            let mut seen = known.unwrap_or_else(|| Seen { index: shard.index, uid: Arc::from(&*shard.uid), ..Seen::default() });
            seen.killed = seen.killed.max(shard.oom_killed_at().map(|time| time.min(now)));
            if !seen.booted
                && shard.restarts == 0
                && let Some((ready, created)) = shard.ready_since().zip(shard.created)
            {
                seen.booted = true;
                self.boots.push(elapsed(created, ready).min(LONGEST_BOOT));
            }
            let is_gone = match state {
                ShardState::Lost | ShardState::Finished => true,
                ShardState::Silent => !shard.ready,
                ShardState::Pending | ShardState::Fresh | ShardState::Draining => false,
            };
            if is_gone && !seen.is_lost && seen.load > 0 {
                lose(&seen);
            }
            seen.is_lost = is_gone;
            if let Some((report, at)) = report.zip(shard.report.as_ref().map(|received| received.at.min(now))) {
                if !seen.incarnation.is_empty() && *seen.incarnation != *report.incarnation && !is_gone && seen.load > 0 {
                    lose(&seen); // the process ended, and its connections with it
                }
                if seen.hear(report, at) {
                    seen.killed = seen.killed.max(Some(at));
                }
            }
            self.last_oom_kill = self.last_oom_kill.max(seen.killed);
            self.heard |= state == ShardState::Fresh;
            if !is_gone {
                total = total.saturating_add(seen.load);
            }
            self.seen.push(seen);
        }
        before.filter(|seen| !seen.is_lost && seen.load > 0).for_each(|gone| lose(&gone));
        let excess = self.boots.len().saturating_sub(BOOTS_KEPT);
        self.boots.drain(..excess);
        self.note_loss(missing, total, now);
    }

    fn note_loss(&mut self, missing: Option<(Timestamp, u64)>, total: u64, now: Timestamp) {
        self.loss = self.loss.filter(|loss| elapsed(loss.at, now) <= ORPHANS_EXPIRE && loss.total_before > total);
        if let Some((heard, load)) = missing {
            let known =
                self.totals.iter().rev().find(|(time, _)| *time <= heard).or(self.totals.first()).map(|(_, total)| *total);
            let total_before = known.unwrap_or_else(|| total.saturating_add(load)).min(total.saturating_add(load));
            let total_before = self.loss.map_or(0, |loss| loss.total_before).max(total_before);
            self.loss = Some(Loss { at: now, total_before });
        }
    }

    /// Load of lost shards whose clients are not back: what the others held and hold is `total`.
    pub(super) fn orphans(&self, total: u64) -> u64 {
        self.loss.map_or(0, |loss| loss.total_before.saturating_sub(total))
    }

    /// Notes the load of all shards, at a moment when all of them were heard.
    pub(super) fn note_total(&mut self, total: u64, now: Timestamp) {
        if self.totals.last().is_none_or(|(time, _)| *time < now) {
            self.totals.push((now, total));
        }
        self.totals.retain(|(time, _)| elapsed(*time, now) <= COMES_BACK_WITHIN);
    }

    /// Load that comes while a shard starts, if load goes on growing as it did within the last minute. What was there a moment
    /// ago and comes back is no growth: there are shards for it.
    pub(super) fn growth(&self, total: u64, now: Timestamp) -> u64 {
        let first = self.totals.iter().position(|(time, _)| elapsed(*time, now) <= GROWTH_WINDOW);
        let Some((position, (time, _))) = first.and_then(|first| Some((first, self.totals.get(first)?))) else { return 0 };
        if elapsed(*time, now) < GROWTH_LEAST || self.blind_until.is_some_and(|until| now < until) {
            return 0;
        }
        let before = self.totals[..=position].iter().map(|(_, total)| *total).max().unwrap_or(total);
        let gained = u128::from(total.saturating_sub(before));
        let growth = gained * self.boot_time().as_millis() / elapsed(*time, now).as_millis().max(1);
        u64::try_from(growth).unwrap_or(u64::MAX)
    }

    /// The time nine of ten shards took to start.
    fn boot_time(&self) -> Duration {
        let mut boots = self.boots.clone();
        boots.sort_unstable();
        let position = (boots.len() * 9).div_ceil(10).saturating_sub(1);
        boots.get(position).copied().unwrap_or(TYPICAL_BOOT)
    }

    /// Smooths the learnt bytes per unit of load. A sample that is no number changes nothing.
    pub(super) fn smooth(&mut self, sample: Option<f64>, now: Timestamp) -> Option<f64> {
        let sample = sample.filter(|sample| sample.is_finite() && *sample > 0.0);
        self.bytes_per_load = match (self.bytes_per_load, sample) {
            (Some((time, value)), Some(sample)) => {
                let weight = 1.0 - (-elapsed(time, now).as_secs_f64() / LEARNING_TIME.as_secs_f64()).exp();
                Some((now, value + (sample - value) * weight))
            }
            (None, Some(sample)) => Some((now, sample)),
            (known, None) => known.map(|(_, value)| (now, value)),
        };
        self.bytes_per_load.map(|(_, value)| value)
    }

    /// Notes what load asked for in this pass. A run of one value is one entry, at its newest time: windows ask only whether
    /// a value was recommended within them.
    pub(super) fn recommend(&mut self, size: u32, now: Timestamp) {
        match self.recommendations.last_mut() {
            Some((time, value)) if *value == size => *time = now,
            Some(_) | None => self.recommendations.push((now, size)),
        }
    }

    /// The highest recommendation within a window.
    pub(super) fn highest(&self, window: Duration, now: Timestamp) -> Option<u32> {
        self.recommendations.iter().filter(|(time, _)| elapsed(*time, now) <= window).map(|(_, size)| *size).max()
    }

    /// The lowest recommendation within a window.
    pub(super) fn lowest(&self, window: Duration, now: Timestamp) -> Option<u32> {
        self.recommendations.iter().filter(|(time, _)| elapsed(*time, now) <= window).map(|(_, size)| *size).min()
    }

    /// Notes a change of size.
    pub(super) fn change(&mut self, by: i64, now: Timestamp) {
        self.changes.push((now, by));
    }

    /// Since when this gate, or none, holds. One that opens for a moment, or gives way to another, has not gone: a cause that
    /// comes and goes is told with its remedy too.
    pub(super) fn hold(&mut self, gate: Option<Gate>, now: Timestamp) -> Option<Timestamp> {
        self.held.retain(|held| elapsed(held.last, now) <= GATE_FORGOTTEN);
        let gate = gate?;
        match self.held.iter_mut().find(|held| held.gate == gate) {
            Some(held) => held.last = now,
            None => self.held.push(Held { gate, since: now, last: now }),
        }
        self.held.iter().find(|held| held.gate == gate).map(|held| held.since)
    }
}

impl Changes for History {
    fn within(&self, period: Duration) -> (u32, u32) {
        let Some(now) = self.now else { return (0, 0) };
        let recent = self.changes.iter().filter(|(time, _)| elapsed(*time, now) < period);
        recent.fold((0_u32, 0_u32), |(added, removed), (_, by)| {
            let size = u32::try_from(by.unsigned_abs()).unwrap_or(u32::MAX);
            if *by > 0 { (added.saturating_add(size), removed) } else { (added, removed.saturating_add(size)) }
        })
    }
}

impl Seen {
    /// Takes a report in; returns whether it tells of a kill for memory.
    fn hear(&mut self, report: &LoadReport, at: Timestamp) -> bool {
        let is_same_process = *self.incarnation == *report.incarnation;
        if is_same_process && self.seq == report.seq {
            return false;
        }
        let known = self.at.filter(|_| is_same_process && self.seq < report.seq);
        self.waiting = known.map_or(0, |before| {
            let refused = u128::from(report.rejected_total.saturating_sub(self.rejected));
            let waiting = refused * u128::from(report.retry_after_mean_ms) / elapsed(before, at).as_millis().max(1);
            u64::try_from(waiting).unwrap_or(u64::MAX)
        });
        let killed = known.is_some() && report.oom_kill_total > self.oom_kills;
        if !is_same_process {
            (self.shed, self.watch, self.leaks, self.fruitless, self.retiring) = (None, None, false, 0, None);
        }
        if !is_same_process {
            self.incarnation = Arc::from(&*report.incarnation);
        }
        self.seq = report.seq;
        self.at = Some(at);
        self.load = report.load();
        self.rejected = report.rejected_total;
        self.oom_kills = report.oom_kill_total;
        killed
    }
}
