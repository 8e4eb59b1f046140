//! How far the template is rolled out, and what keeps it from going on.

use jiff::Timestamp;

use super::{DrainReason, Observed, ObservedShard, ShardState, Trouble, TroubleKind};

/// The active shards, by the template they were born with.
#[derive(Clone, Debug)]
pub struct Rolling<'a> {
    /// Of another template, and may hold work: drained, once others serve in their place.
    pub old: Vec<&'a ObservedShard>,
    /// Of another template, and hold nothing: they never became Ready, or their process ended.
    pub idle: Vec<&'a ObservedShard>,
    /// Of the current template.
    pub new: Vec<New<'a>>,
    /// Drains for this under way.
    pub draining: usize,
}

/// An active shard of the current template.
#[derive(Clone, Debug)]
pub struct New<'a> {
    /// The shard.
    pub shard: &'a ObservedShard,
    /// Ready, and heard: it can take the place of an old one.
    pub serves: bool,
    /// Why it does not, beyond the time that takes.
    pub trouble: Option<Trouble>,
}

impl Observed {
    /// Pods a rollout may have beyond the desired ones.
    pub fn surge(&self, desired: u32) -> u32 {
        let written = self.cluster.spec.rollout.as_ref().and_then(|rollout| rollout.max_surge.clone());
        written.unwrap_or_default().rounded_up(desired)
    }

    /// The active shards, by the template they were born with; each by index.
    pub fn rolling(&self, now: Timestamp) -> Rolling<'_> {
        let mut rolling = Rolling { old: vec![], idle: vec![], new: vec![], draining: 0 };
        for shard in &self.shards {
            let state = self.state(shard, now);
            if state == ShardState::Draining {
                rolling.draining += usize::from(is_rolled(shard) && shard.terminating.is_none());
            } else if !state.is_active() {
            } else if !self.is_outdated(shard) {
                rolling.new.push(New {
                    shard,
                    serves: shard.ready && state == ShardState::Fresh,
                    trouble: if state == ShardState::Silent { Some(silence()) } else { shard.trouble(now) },
                });
            } else if shard.may_hold_work() {
                rolling.old.push(shard);
            } else {
                rolling.idle.push(shard);
            }
        }
        rolling.old.sort_by_key(|shard| shard.index);
        rolling.idle.sort_by_key(|shard| shard.index);
        rolling.new.sort_by_key(|new| new.shard.index);
        rolling
    }
}

// === impl Rolling ===

impl<'a> Rolling<'a> {
    /// Old shards that are there beyond what `desired` needs of them: others serve in their place.
    pub fn spare(&self, desired: u32) -> usize {
        let serving = self.new.iter().filter(|new| new.serves).count();
        (self.old.len() + serving).saturating_sub(usize::try_from(desired).unwrap_or(usize::MAX))
    }

    /// A new shard with a fault that its template is likely to have: no old one is drained before that is mended, not even
    /// for a new one that happens to serve.
    pub fn fault(&self) -> Option<(&'a ObservedShard, &Trouble)> {
        self.worst(|kind| match kind {
            TroubleKind::ImagePullFailed | TroubleKind::CrashLooping | TroubleKind::OomKilled => true,
            TroubleKind::Unschedulable | TroubleKind::NotReady => false,
        })
    }

    /// Whether a new shard is in trouble of any kind: then no more of them are made.
    pub fn is_troubled(&self) -> bool {
        self.new.iter().any(|new| new.trouble.is_some())
    }

    /// What the rollout is frozen by. None while there is none, while it goes on, and while shards start as every shard does.
    pub fn frozen_by(&self, desired: u32) -> Option<(&'a ObservedShard, &Trouble)> {
        if self.old.is_empty() && self.idle.is_empty() {
            return None;
        }
        let starts = |new: &New<'_>| !new.serves && new.trouble.is_none();
        let moves = self.draining > 0 || self.spare(desired) > 0 || self.new.iter().any(starts);
        self.fault().or_else(|| self.worst(|_| true).filter(|_| !moves))
    }

    fn worst(&self, wanted: impl Fn(TroubleKind) -> bool) -> Option<(&'a ObservedShard, &Trouble)> {
        let troubles = self.new.iter().filter_map(|new| new.trouble.as_ref().map(|trouble| (new.shard, trouble)));
        let wanted = troubles.filter(|(_, trouble)| wanted(trouble.kind));
        wanted.max_by_key(|(shard, trouble)| (trouble.kind, std::cmp::Reverse(shard.index)))
    }
}

fn is_rolled(shard: &ObservedShard) -> bool {
    shard.draining.is_some_and(|mark| mark.reason == Some(DrainReason::Rollout))
}

fn silence() -> Trouble {
    let words = "Ready, but it does not report its load on the control port (9091)".to_owned();
    Trouble { kind: TroubleKind::NotReady, words }
}

#[cfg(test)]
mod tests {
    use mcp_crds::cluster;
    use mcp_crds::portion::Portion;

    use super::*;
    use crate::stages::fixture::{Cluster, at};
    use crate::stages::{Container, Termination};

    fn frozen(cluster: &Cluster) -> Option<(String, TroubleKind)> {
        let rolling = cluster.observed.rolling(at(0));
        rolling.frozen_by(3).map(|(shard, trouble)| (shard.name.clone(), trouble.kind))
    }

    fn old(shard: &mut ObservedShard) {
        shard.template_hash = Some("template-0".into());
    }

    /// Three old shards and two new ones.
    fn half_way() -> Cluster {
        Cluster::manual(3).with_ready(3).each(old).with_pending(2)
    }

    fn waits(reason: &str) -> Container {
        Container::Waiting { reason: reason.into(), message: String::new() }
    }

    #[test]
    fn the_surge_is_a_tenth_and_at_least_one_unless_the_spec_says_otherwise() {
        let cluster = Cluster::manual(3);
        assert_eq!([0, 3, 10, 11, 300].map(|desired| cluster.observed.surge(desired)), [1, 1, 1, 2, 30]);
        let written = cluster.spec(|spec| {
            spec.rollout = Some(cluster::Rollout { max_surge: Some(Portion::Percent("50%".into())) });
        });
        assert_eq!([0, 3, 10].map(|desired| written.observed.surge(desired)), [1, 2, 5]);
    }

    #[test]
    fn shards_that_start_freeze_nothing_and_none_is_frozen_without_a_rollout() {
        assert_eq!(frozen(&half_way()), None);
        let settled = Cluster::manual(3).with_ready(3).with_pending(1).shard(3, |shard| shard.container = waits("ErrImagePull"));
        assert_eq!(frozen(&settled), None);
    }

    #[test]
    fn a_fault_of_the_template_freezes_though_another_new_shard_serves() {
        let cluster = half_way().shard(3, |shard| *shard = crate::stages::fixture::ready(3));
        let broken = cluster.shard(4, |shard| shard.container = waits("ErrImagePull"));
        assert_eq!(frozen(&broken), Some(("tools-4".into(), TroubleKind::ImagePullFailed)));
    }

    #[test]
    fn a_lack_of_room_freezes_only_when_nothing_moves() {
        let no_room = |shard: &mut ObservedShard| shard.unschedulable = Some("0/2 nodes are available.".into());
        assert_eq!(frozen(&half_way().shard(4, no_room)), None, "tools-3 starts");
        let none_fits = half_way().shard(3, no_room).shard(4, no_room);
        assert_eq!(frozen(&none_fits), Some(("tools-3".into(), TroubleKind::Unschedulable)));
        let draining = none_fits.shard(0, |shard| shard.drain(DrainReason::Rollout, at(-5)));
        assert_eq!(frozen(&draining), None, "what drains makes room");
    }

    #[test]
    fn a_new_shard_that_is_ready_and_never_reports_freezes() {
        let mute = |shard: &mut ObservedShard| {
            *shard = crate::stages::fixture::ready(shard.index);
            shard.report = None;
        };
        assert_eq!(frozen(&half_way().shard(3, mute).shard(4, mute)), Some(("tools-3".into(), TroubleKind::NotReady)));
    }

    #[test]
    fn between_two_crashes_it_is_as_frozen_as_during_one() {
        let crashes = |shard: &mut ObservedShard| {
            shard.container = Container::Running { started: Some(at(-1)) };
            shard.last_termination = Some(Termination { reason: "Error".into(), exit_code: 1, ..Termination::default() });
        };
        assert_eq!(frozen(&half_way().shard(4, crashes)), Some(("tools-4".into(), TroubleKind::CrashLooping)));
    }
}
