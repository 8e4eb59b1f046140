//! What the conditions ask about shards.

use jiff::Timestamp;
use mcp_crds::McpClusterStatus;
use mcp_crds::load::LoadReport;

use super::{PERCENT_STEP, points, steady};
use crate::stages::{Applied, Decision, Observed, ObservedShard, ShardState, Trouble, TroubleKind};
use crate::words::{limit, percent};

/// Memory target when the spec has no autoscaling, percent.
const DEFAULT_MEMORY_TARGET: i32 = 70;

/// Everything a condition may look at.
pub(super) struct View<'a> {
    pub(super) observed: &'a Observed,
    pub(super) decision: &'a Decision,
    pub(super) applied: &'a Applied,
    pub(super) previous: &'a McpClusterStatus,
    pub(super) now: Timestamp,
    shards: Vec<(&'a ObservedShard, ShardState)>,
}

/// Memory of a shard that reports it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory<'a> {
    pub(super) shard: &'a ObservedShard,
    pub(super) report: &'a LoadReport,
    pub(super) used: u64,
    pub(super) limit: u64,
}

impl Memory<'_> {
    /// Use of the limit, percent.
    pub(super) fn points(&self) -> i32 {
        points(percent(self.used, self.limit))
    }

    /// The percentage that is shown, until the exact one is two points away from it.
    pub(super) fn steady(&self, shown: Option<i32>) -> i32 {
        steady(shown, self.used, self.limit)
    }

    /// `91 % of 512Mi`
    pub(super) fn words(&self) -> String {
        format!("{} % of {}", self.points(), limit(self.limit))
    }
}

impl<'a> View<'a> {
    pub(super) fn of(
        observed: &'a Observed,
        decision: &'a Decision,
        applied: &'a Applied,
        previous: &'a McpClusterStatus,
        now: Timestamp,
    ) -> Self {
        let mut shards: Vec<_> = observed.shards.iter().map(|shard| (shard, observed.state(shard, now))).collect();
        shards.sort_by_key(|(shard, _)| shard.index);
        Self { observed, decision, applied, previous, now, shards }
    }

    fn in_state(&self, wanted: impl Fn(ShardState) -> bool) -> impl Iterator<Item = &'a ObservedShard> {
        self.shards.iter().filter(move |(_, state)| wanted(*state)).map(|(shard, _)| *shard)
    }

    /// Shards that exist and stay.
    pub(super) fn active(&self) -> impl Iterator<Item = &'a ObservedShard> {
        self.in_state(ShardState::is_active)
    }

    /// Shards that drain.
    pub(super) fn draining(&self) -> impl Iterator<Item = &'a ObservedShard> {
        self.in_state(|state| state == ShardState::Draining)
    }

    /// Shards that are gone, or going though we did not drain them.
    pub(super) fn lost(&self) -> impl Iterator<Item = &'a ObservedShard> {
        self.in_state(|state| state == ShardState::Lost)
    }

    /// Shards that report and stay.
    pub(super) fn fresh(&self) -> impl Iterator<Item = &'a ObservedShard> {
        self.in_state(|state| state == ShardState::Fresh)
    }

    /// Shards whose reports are missing.
    pub(super) fn silent(&self) -> impl Iterator<Item = &'a ObservedShard> {
        self.in_state(|state| state == ShardState::Silent)
    }

    /// Active shards that are Ready.
    pub(super) fn serving(&self) -> impl Iterator<Item = &'a ObservedShard> {
        self.active().filter(|shard| shard.ready)
    }

    /// Active shards that are not Ready.
    pub(super) fn starting(&self) -> impl Iterator<Item = &'a ObservedShard> {
        self.active().filter(|shard| !shard.ready)
    }

    /// Reports that still speak for their shard.
    pub(super) fn reports(&self) -> impl Iterator<Item = (&'a ObservedShard, &'a LoadReport)> {
        self.in_state(|state| matches!(state, ShardState::Fresh | ShardState::Draining))
            .filter_map(|shard| shard.report.as_ref().map(|received| (shard, &received.report)))
    }

    /// Load that the shard of this report can hold.
    pub(super) fn capacity(&self, report: &LoadReport) -> u64 {
        report.capacity(u64::try_from(self.observed.cluster.spec.limits.streams()).unwrap_or_default())
    }

    /// Memory of the shards that report and stay.
    pub(super) fn memory(&self) -> impl Iterator<Item = Memory<'a>> {
        self.fresh().filter_map(|shard| {
            let report = &shard.report.as_ref()?.report;
            let reported = Some(report.limit_bytes).filter(|limit| *limit > 0);
            let limit = reported.or(shard.memory_limit.map(|limit| limit.0)).filter(|limit| *limit > 0)?;
            Some(Memory { shard, report, used: report.working_set_bytes, limit })
        })
    }

    /// The shard that uses most of its limit, as [`View::heat`] sees it.
    pub(super) fn hottest(&self) -> Option<Memory<'a>> {
        self.memory().max_by_key(|memory| (self.heat(memory), std::cmp::Reverse(memory.shard.index)))
    }

    /// Use of the limit as it is shown, and a step more (and what rounding hides) for a shard that is shown already: shards that
    /// are equally hot do not take turns.
    pub(super) fn heat(&self, memory: &Memory<'_>) -> i32 {
        let shown = self.previous.hottest_shards.iter().find(|shard| shard.name == memory.shard.name);
        match shown {
            Some(shown) => memory.steady(Some(shown.memory_percent)) + PERCENT_STEP + 1,
            None => memory.points(),
        }
    }

    /// The shard that uses most of its limit at this moment.
    pub(super) fn peak(&self) -> Option<Memory<'a>> {
        self.memory().max_by_key(|memory| (memory.points(), std::cmp::Reverse(memory.shard.index)))
    }

    /// Memory target, percent.
    pub(super) fn memory_target(&self) -> i32 {
        self.observed.cluster.spec.autoscaling.as_ref().map_or(DEFAULT_MEMORY_TARGET, |auto| auto.memory.target_percent)
    }

    /// Hash of the configuration in the ConfigMap.
    pub(super) fn published(&self) -> Option<&'a str> {
        self.applied.published.as_deref().or(self.observed.published.as_deref())
    }

    /// Whether the shard says that it serves what is published.
    pub(super) fn serves_published(&self, shard: &'a ObservedShard) -> bool {
        let serves = shard.reported().map(|report| report.catalog_hash.as_str());
        serves.is_some() && serves == self.published()
    }

    /// Active shards born with another template.
    pub(super) fn outdated(&self) -> impl Iterator<Item = &'a ObservedShard> {
        self.active().filter(|shard| self.observed.is_outdated(shard))
    }

    /// The worst that keeps one of these shards from being Ready.
    pub(super) fn worst_trouble(&self, shards: impl Iterator<Item = &'a ObservedShard>) -> Option<(&'a ObservedShard, Trouble)> {
        let troubles = shards.filter_map(|shard| shard.trouble(self.now).map(|trouble| (shard, trouble)));
        troubles.max_by_key(|(shard, trouble)| (trouble.kind, std::cmp::Reverse(shard.index)))
    }
}

/// `fresh-0: ImagePullBackOff: manifest unknown. Correct spec.image.`
pub(super) fn trouble_words(shard: &ObservedShard, trouble: &Trouble) -> String {
    let remedy = match trouble.kind {
        TroubleKind::ImagePullFailed => " Correct spec.image.".to_owned(),
        TroubleKind::OomKilled => " Raise spec.resources.limits.memory.".to_owned(),
        TroubleKind::CrashLooping => format!(" See `kubectl logs {} --previous`.", shard.name),
        TroubleKind::Unschedulable | TroubleKind::NotReady => String::new(),
    };
    let words = trouble.words.trim_end();
    let stop = if words.ends_with('.') { "" } else { "." };
    format!("{}: {words}{stop}{remedy}", shard.name)
}
