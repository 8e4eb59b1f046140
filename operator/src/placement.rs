//! Which shards the client Service sends new connections to: [`place`].
//!
//! A full shard is fenced only while another has room, so that a client never meets an empty Service: the shard itself
//! refuses with 503 and `Retry-After` when it is full. Fencing cuts no stream.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use mcp_crds::load::GuardStage;

use crate::stages::{Decision, Numbers, Observed, ObservedShard, PlacementStep, Plan, PodRef, ShardState, elapsed};
use crate::words::percent;

/// A fenced shard comes back below this percentage of the target.
const RELEASE_PERCENT: u64 = 90;
/// A placed shard changes places with a fenced one that holds less by more than this percentage of the target.
const SWAP_PERCENT: u64 = 10;
/// A shard that is so many percent of its limit over the memory target is fenced, and comes back below the target: its streams
/// are being ended, and would come back to it.
const HOT_MARGIN: i64 = 5;
/// Within this time…
const BUDGET_PERIOD: Duration = Duration::from_mins(1);
/// …at most this percentage of the shards is fenced or released…
const BUDGET_PERCENT: usize = 10;
/// …and at least this many may be.
const BUDGET_LEAST: usize = 2;

/// When placement was changed, lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flips(Vec<Timestamp>);

/// A shard that could be placed.
#[expect(clippy::struct_excessive_bools, reason = "each says another thing, and any of them may hold with any other")]
struct Candidate<'a> {
    shard: &'a ObservedShard,
    placed: bool,
    load: u64,
    over: bool,
    cool: bool,
    /// Its memory forbids that it takes more.
    hot: bool,
    /// It is to go.
    leaves: bool,
}

/// What to change about placement, by index, and the flips to hand to the next pass.
///
/// Shards that leave are not placed, and of the Ready ones that stay at least half are. When none is Ready of those that stay,
/// one that leaves stays placed: a client is told 503 and when to come back, and never meets an empty Service.
pub fn place(
    observed: &Observed,
    decision: &Decision,
    plan: &Plan,
    flips: &Flips,
    now: Timestamp,
) -> (Vec<PlacementStep>, Flips) {
    let mut flips = Flips(flips.0.iter().copied().filter(|time| *time <= now && elapsed(*time, now) < BUDGET_PERIOD).collect());
    if observed.is_deleted() {
        return (vec![], flips);
    }
    let mut candidates = vec![];
    let mut steps = vec![];
    let kept = kept(observed, plan, now);
    let leaving: BTreeSet<&str> = decision.leaving.iter().map(|pod| pod.uid.as_str()).collect();
    let mut shards: Vec<_> = observed.shards.iter().filter(|shard| shard.terminating.is_none()).collect();
    shards.sort_by_key(|shard| shard.index);
    for shard in shards {
        match role(observed, plan, shard, now) {
            Role::Leaves { marked } => {
                let stays = kept.as_ref().is_some_and(|kept| kept.uid == shard.uid);
                // Whose drain begins now leaves with the mark of its drain.
                if stays != shard.placed && (stays || marked) {
                    steps.push(step(shard, stays));
                }
            }
            // What is not Ready gets no connections, whatever its label: it is born placed, and stays so.
            Role::Starts if !shard.placed => steps.push(step(shard, true)),
            Role::Serves => {
                let leaves = leaving.contains(shard.uid.as_str());
                candidates.push(Candidate::of(shard, &decision.numbers, leaves));
            }
            Role::Starts | Role::Absent => {}
        }
    }
    fence(&mut candidates, decision.numbers.target, &mut flips, now);
    steps.extend(candidates.iter().filter(|c| c.placed != c.shard.placed).map(|c| step(c.shard, c.placed)));
    steps.sort_by(|a, b| a.pod.cmp(&b.pod));
    (steps, flips)
}

/// The shard that stays placed though it leaves, because no Ready one stays: the one that has been leaving for the shortest
/// time answers as ever for longest.
pub fn kept(observed: &Observed, plan: &Plan, now: Timestamp) -> Option<PodRef> {
    let ready = || observed.shards.iter().filter(|shard| shard.ready && shard.terminating.is_none());
    if ready().any(|shard| matches!(role(observed, plan, shard, now), Role::Serves)) {
        return None;
    }
    let started = |shard: &&ObservedShard| shard.draining.map_or(now, |mark| mark.started.unwrap_or(now));
    let leaving = ready().filter(|shard| matches!(role(observed, plan, shard, now), Role::Leaves { .. }));
    leaving.max_by_key(|shard| (started(shard), std::cmp::Reverse(shard.index))).map(ObservedShard::pod)
}

/// What a shard is to placement.
enum Role {
    /// Ready, and it stays.
    Serves,
    /// Not Ready yet.
    Starts,
    /// It drains, or is about to; `marked`: its pod says so.
    Leaves { marked: bool },
    /// It gets no connections, or soon none.
    Absent,
}

fn role(observed: &Observed, plan: &Plan, shard: &ObservedShard, now: Timestamp) -> Role {
    if plan.delete.iter().any(|step| step.pod.uid == shard.uid) {
        return Role::Absent;
    }
    let begins = plan.drain.iter().any(|step| !step.marked && step.pod.uid == shard.uid);
    match observed.state(shard, now) {
        ShardState::Draining => Role::Leaves { marked: !begins },
        ShardState::Pending | ShardState::Fresh | ShardState::Silent if begins => Role::Leaves { marked: false },
        ShardState::Pending | ShardState::Fresh | ShardState::Silent if shard.ready => Role::Serves,
        ShardState::Pending => Role::Starts,
        ShardState::Fresh | ShardState::Silent | ShardState::Lost | ShardState::Finished => Role::Absent,
    }
}

/// Fences and releases. A fence needs another shard with room, and the budget. A release needs no budget: it only gives clients
/// more to choose from, and there are never more releases than fences. Where no more may be fenced, the fullest are: a placed
/// shard that is much fuller than a fenced one changes places with it.
fn fence(candidates: &mut [Candidate<'_>], target: u64, flips: &mut Flips, now: Timestamp) {
    let total = candidates.len();
    let budget = (total * BUDGET_PERCENT / 100).max(BUDGET_LEAST);
    let least = total.div_ceil(2).max(1).min(total);
    let placed = |candidates: &[Candidate<'_>]| candidates.iter().filter(|c| c.placed).count();

    candidates.sort_by_key(|c| (c.load, c.shard.index));
    for position in 0..total {
        let have_room = candidates.iter().any(|c| c.placed && c.has_room());
        let must = placed(candidates) < least || !have_room;
        if !candidates[position].placed && (must || candidates[position].cool) {
            candidates[position].placed = true;
        }
    }
    for position in (0..total).rev() {
        let others_have_room = candidates.iter().enumerate().any(|(other, c)| other != position && c.placed && c.has_room());
        let candidate = &candidates[position];
        let fences = candidate.placed && !candidate.has_room() && others_have_room;
        if fences && placed(candidates) > least && flips.0.len() < budget {
            candidates[position].placed = false;
            flips.0.push(now);
        }
    }
    // They are in the order of load.
    while flips.0.len() < budget && placed(candidates) <= least {
        let fullest = candidates.iter().rposition(|c| c.placed && c.over);
        let emptiest = candidates.iter().position(|c| !c.placed && !c.hot);
        let Some((full, empty)) = fullest.zip(emptiest) else { return };
        let more = candidates[full].load.saturating_sub(candidates[empty].load);
        if more.saturating_mul(100) <= target.saturating_mul(SWAP_PERCENT) {
            return;
        }
        candidates[full].placed = false;
        candidates[empty].placed = true;
        flips.0.push(now);
    }
}

fn step(shard: &ObservedShard, placed: bool) -> PlacementStep {
    PlacementStep { pod: shard.pod(), placed }
}

impl<'a> Candidate<'a> {
    /// A shard whose load is not known is as it is.
    fn of(shard: &'a ObservedShard, numbers: &Numbers, leaves: bool) -> Self {
        let target = numbers.target;
        let load = shard.reported().map_or(0, mcp_crds::load::LoadReport::load);
        let refuses = shard.reported().is_some_and(|report| report.stage >= GuardStage::RefusingStreams);
        let known = shard.reported().is_some() && target > 0;
        // Percent of the limit over the memory target.
        let memory = shard.reported().filter(|report| numbers.memory_percent > 0 && report.limit_bytes > 0).map(|report| {
            let used = percent(report.working_set_bytes, report.limit_bytes);
            i64::try_from(used).unwrap_or(i64::MAX) - i64::try_from(numbers.memory_percent).unwrap_or(i64::MAX)
        });
        let is_hot = memory.is_some_and(|over| over >= HOT_MARGIN);
        let has_cooled = memory.is_none_or(|over| over < 0);
        let over = known && (load > target || refuses || is_hot);
        let cool = !known || (!refuses && has_cooled && load.saturating_mul(100) < target.saturating_mul(RELEASE_PERCENT));
        Self { shard, placed: shard.placed, load, over, cool: cool && !leaves, hot: refuses || !has_cooled, leaves }
    }

    /// Whether it stays, and takes more.
    fn has_room(&self) -> bool {
        !self.over && !self.leaves
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;
    use crate::stages::fixture::{Cluster, MIB, at};
    use crate::stages::{DrainReason, DrainStep, Numbers};

    const TARGET: u64 = 1000;

    fn decision() -> Decision {
        Decision { numbers: Numbers { target: TARGET, ..Numbers::default() }, ..Decision::default() }
    }

    fn cluster(loads: &[u64]) -> Cluster {
        let count = u32::try_from(loads.len()).unwrap();
        Cluster::manual(1).with_ready(count).each(|shard| shard.load(loads[shard.index as usize], 60 * MIB))
    }

    fn fenced(cluster: Cluster, indexes: &[u32]) -> Cluster {
        cluster.each(|shard| shard.placed = !indexes.contains(&shard.index))
    }

    fn steps(cluster: &Cluster) -> Vec<(String, bool)> {
        let (steps, _) = place(&cluster.observed, &decision(), &Plan::default(), &Flips::default(), at(0));
        steps.into_iter().map(|step| (step.pod.name, step.placed)).collect()
    }

    #[test]
    fn a_shard_over_the_target_is_fenced_while_another_has_room() {
        assert_eq!(steps(&cluster(&[1001, 500, 600])), [("tools-0".into(), false)]);
        assert_eq!(steps(&cluster(&[1000, 500, 600])), []);
        assert_eq!(steps(&cluster(&[1001, 1002, 1003])), [], "none has room: each refuses by itself");
    }

    #[test]
    fn a_shard_whose_guard_refuses_streams_is_fenced() {
        let hot = cluster(&[10, 500, 600]).shard(0, |shard| {
            shard.report.as_mut().unwrap().report.stage = GuardStage::RefusingStreams;
        });
        assert_eq!(steps(&hot), [("tools-0".into(), false)]);
    }

    #[test]
    fn a_shard_that_is_hot_is_fenced_until_it_is_below_the_memory_target() {
        let hot = |permille: u64, placed: bool| {
            let cluster = cluster(&[10, 10, 10]).shard(1, |shard| {
                shard.load(10, (512 << 20) * permille / 1000);
                shard.placed = placed;
            });
            let mut decision = decision();
            decision.numbers.memory_percent = 70;
            let (steps, _) = place(&cluster.observed, &decision, &Plan::default(), &Flips::default(), at(0));
            steps.into_iter().map(|step| (step.pod.name, step.placed)).collect::<Vec<_>>()
        };
        assert_eq!(hot(740, true), []);
        assert_eq!(hot(750, true), [("tools-1".to_owned(), false)]);
        assert_eq!(hot(710, false), []);
        assert_eq!(hot(690, false), [("tools-1".to_owned(), true)]);
    }

    #[test]
    fn a_fenced_shard_comes_back_below_ninety_percent_or_when_no_other_has_room() {
        assert_eq!(steps(&fenced(cluster(&[950, 500]), &[0])), []);
        assert_eq!(steps(&fenced(cluster(&[899, 500]), &[0])), [("tools-0".into(), true)]);
        assert_eq!(steps(&fenced(cluster(&[1100, 1200]), &[0])), [("tools-0".into(), true)]);
        // The only room there is: better a shard that is nearly full than two that are.
        let swapped = [("tools-0".into(), true), ("tools-2".into(), false)];
        assert_eq!(steps(&fenced(cluster(&[950, 1100, 1200]), &[0])), swapped);
    }

    #[test]
    fn a_release_for_want_of_room_waits_for_no_budget() {
        let hot = fenced(cluster(&[1100, 1200, 1300]), &[0]);
        let spent = Flips(vec![at(0); 9]);
        let (steps, after) = place(&hot.observed, &decision(), &Plan::default(), &spent, at(1));
        assert_eq!(steps.iter().map(|step| step.placed).collect::<Vec<_>>(), [true]);
        assert_eq!(after, spent);
        let cool = fenced(cluster(&[10, 20, 30]), &[0]);
        let (steps, after) = place(&cool.observed, &decision(), &Plan::default(), &spent, at(1));
        assert_eq!((steps.len(), steps[0].placed, after), (1, true, spent), "nor does one that has cooled");
    }

    #[test]
    fn where_no_more_may_be_fenced_the_fullest_are() {
        let swapped = [("tools-0".to_owned(), true), ("tools-3".to_owned(), false)];
        assert_eq!(steps(&fenced(cluster(&[1050, 1300, 10, 1151]), &[0, 1])), swapped);
        assert_eq!(steps(&fenced(cluster(&[1050, 1300, 10, 1150]), &[0, 1])), [], "not much fuller");
        let hot = fenced(cluster(&[1050, 1300, 10, 1500]), &[0, 1])
            .shard(0, |shard| shard.report.as_mut().unwrap().report.stage = GuardStage::RefusingStreams);
        assert_eq!(steps(&hot), [("tools-1".to_owned(), true), ("tools-3".to_owned(), false)], "the first one refuses");
        let spent = Flips(vec![at(0); 9]);
        let full = fenced(cluster(&[1050, 1300, 10, 1500]), &[0, 1]);
        assert_eq!(place(&full.observed, &decision(), &Plan::default(), &spent, at(1)).0, [], "a fence has a budget");
    }

    #[test]
    fn who_is_to_go_gets_no_new_connections_while_who_stays_has_room() {
        let about = |cluster: &Cluster, indexes: &[usize]| {
            let leaving = indexes.iter().map(|index| cluster.observed.shards[*index].pod()).collect();
            let decision = Decision { leaving, ..decision() };
            let (steps, _) = place(&cluster.observed, &decision, &Plan::default(), &Flips::default(), at(0));
            steps.into_iter().map(|step| (step.pod.name, step.placed)).collect::<Vec<_>>()
        };
        assert_eq!(about(&cluster(&[10, 500, 600]), &[0]), [("tools-0".into(), false)]);
        assert_eq!(about(&fenced(cluster(&[10, 500, 600]), &[0]), &[0]), [], "and stays so, cool as it is");
        assert_eq!(about(&fenced(cluster(&[10, 500, 600]), &[0]), &[]), [("tools-0".into(), true)]);
        assert_eq!(about(&cluster(&[10, 1500, 1600]), &[0]), [], "who stays is full");
        assert_eq!(about(&cluster(&[10, 10, 10, 10]), &[0, 1, 2]).len(), 2, "half of them");
    }

    fn about_to_drain(cluster: &Cluster, indexes: &[u32]) -> Plan {
        let leaving = cluster.observed.shards.iter().filter(|shard| indexes.contains(&shard.index));
        let step =
            |shard: &ObservedShard| DrainStep { pod: shard.pod(), reason: DrainReason::ScaleIn, started: at(0), marked: false };
        Plan { drain: leaving.map(step).collect(), ..Plan::default() }
    }

    #[test]
    fn a_fenced_shard_is_placed_in_the_look_that_drains_the_others() {
        let cluster = fenced(cluster(&[5, 5, 950, 950]), &[2, 3]);
        let plan = about_to_drain(&cluster, &[0, 1]);
        let (steps, _) = place(&cluster.observed, &decision(), &plan, &Flips::default(), at(0));
        let steps: Vec<_> = steps.into_iter().map(|step| (step.pod.name, step.placed)).collect();
        assert_eq!(steps, [("tools-2".to_owned(), true)], "at least half, at once; the drains take the others out");
        assert_eq!(kept(&cluster.observed, &plan, at(0)), None);
    }

    #[test]
    fn the_last_ready_shard_stays_placed_while_it_drains_until_another_is_ready() {
        let alone = Cluster::manual(1).with_ready(1).with_pending(1);
        let leaves = about_to_drain(&alone, &[0]);
        assert_eq!(kept(&alone.observed, &leaves, at(0)).unwrap().name, "tools-0");
        let draining = |placed| {
            alone.clone().shard(0, move |shard| {
                shard.drain(DrainReason::Rollout, at(0));
                shard.placed = placed;
            })
        };
        assert_eq!(steps(&draining(true)), []);
        assert_eq!(steps(&draining(false)), [("tools-0".into(), true)]);
        let joined = Cluster::manual(1).with_ready(2).shard(0, |shard| {
            shard.drain(DrainReason::Rollout, at(0));
            shard.placed = true;
        });
        assert_eq!(steps(&joined), [("tools-0".into(), false)]);
    }

    #[test]
    fn of_shards_that_all_leave_the_one_that_has_longest_to_go_stays_placed() {
        let all = Cluster::manual(3).with_ready(3).each(|shard| shard.drain(DrainReason::ScaleIn, at(i64::from(shard.index))));
        assert_eq!(steps(&all), [("tools-2".into(), true)]);
        let none_ready = all.each(|shard| shard.ready = false);
        assert_eq!(steps(&none_ready), []);
    }

    #[test]
    fn half_of_the_shards_stay_placed_and_a_lone_one_always() {
        assert_eq!(steps(&cluster(&[1100, 1200, 1300, 5])).len(), 2);
        assert_eq!(steps(&cluster(&[5000])), []);
        assert_eq!(steps(&fenced(cluster(&[950]), &[0])), [("tools-0".into(), true)], "never none");
    }

    #[test]
    fn draining_shards_leave_at_once_and_their_cancelled_drain_is_not_placed_here() {
        let draining = cluster(&[5, 5]).shard(0, |shard| {
            shard.drain(DrainReason::ScaleIn, at(0));
            shard.placed = true;
        });
        assert_eq!(steps(&draining), [("tools-0".into(), false)]);
        assert_eq!(steps(&draining.shard(0, |shard| shard.placed = false)), []);
    }

    #[test]
    fn a_starting_shard_is_placed_before_it_is_ready() {
        let starting = Cluster::manual(1).with_pending(1).shard(0, |shard| shard.placed = false);
        assert_eq!(steps(&starting), [("tools-0".into(), true)]);
    }

    #[test]
    fn flips_have_a_budget_and_it_comes_back_after_a_minute() {
        let loads: Vec<_> = (0..10).map(|n| if n < 5 { 1500 } else { 10 }).collect();
        let mut cluster = cluster(&loads);
        let mut flips = Flips::default();
        let mut fenced = vec![];
        for pass in 0..30 {
            let now = at(0) + SignedDuration::from_secs(5 * pass);
            cluster = cluster.heard(now);
            let (steps, after) = place(&cluster.observed, &decision(), &Plan::default(), &flips, now);
            flips = after;
            for step in steps {
                let index = cluster.observed.shards.iter().position(|shard| shard.name == step.pod.name).unwrap();
                cluster.observed.shards[index].placed = step.placed;
            }
            fenced.push(cluster.observed.shards.iter().filter(|shard| !shard.placed).count());
        }
        assert_eq!((fenced[0], fenced[11], fenced[12], fenced[29]), (2, 2, 4, 5));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn at_least_half_of_the_ready_shards_and_never_none_are_placed(
            shards in prop::collection::vec((0_u64..2000, any::<bool>(), any::<bool>()), 1..40),
        ) {
            let loads: Vec<_> = shards.iter().map(|(load, ..)| *load).collect();
            let mut cluster = cluster(&loads).each(|shard| {
                let (_, placed, draining) = shards[shard.index as usize];
                if draining {
                    shard.drain(DrainReason::ScaleIn, at(0));
                }
                shard.placed = placed;
            });
            let (steps, flips) = place(&cluster.observed, &decision(), &Plan::default(), &Flips::default(), at(0));
            for step in &steps {
                let shard = cluster.observed.shards.iter_mut().find(|shard| shard.uid == step.pod.uid).unwrap();
                prop_assert_ne!(shard.placed, step.placed, "only what changes is written");
                shard.placed = step.placed;
            }
            let staying: Vec<_> = cluster.observed.shards.iter().filter(|shard| shard.draining.is_none()).collect();
            prop_assert!(staying.iter().filter(|shard| shard.placed).count() * 2 >= staying.len());
            let leaving = cluster.observed.shards.iter().filter(|shard| shard.draining.is_some() && shard.placed).count();
            prop_assert_eq!(leaving, usize::from(staying.is_empty()), "one that leaves, and only when none stays");
            // A second look, when nothing moved, finds nothing to undo.
            let (again, _) = place(&cluster.observed, &decision(), &Plan::default(), &flips, at(0));
            for step in again {
                prop_assert!(steps.iter().all(|first| first.pod != step.pod), "flapped: {step:?}");
            }
        }

        #[test]
        fn the_order_of_shards_does_not_matter(loads in prop::collection::vec(0_u64..2000, 1..40)) {
            let mut cluster = cluster(&loads);
            let forward = place(&cluster.observed, &decision(), &Plan::default(), &Flips::default(), at(0));
            cluster.observed.shards.reverse();
            prop_assert_eq!(place(&cluster.observed, &decision(), &Plan::default(), &Flips::default(), at(0)), forward);
        }
    }
}
