//! The properties of autoscaling.md: each fails when the line that holds it is deleted.

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::stages::fixture::{Cluster, MIB, TEMPLATE, at, pending, ready};
use crate::stages::{ObservedShard, Termination};

/// Fixed in `Cluster::autoscaled`: 70 % of 4,000.
const TARGET: u64 = 2800;

fn policy(cluster: &Cluster) -> Policy {
    Policy::of(&cluster.observed.cluster.spec)
}

fn run(cluster: &Cluster, history: &History, now: Timestamp) -> (Decision, History) {
    decide(&policy(cluster), &cluster.observed, history.clone(), now)
}

/// A history that forbids nothing: everything was settled at this size, long ago.
fn settled(size: u32) -> History {
    let mut history = History::default();
    history.desired = Some(size);
    history.observed_since = Some(at(-50_000));
    history
}

/// What one shard may be.
#[derive(Clone, Debug)]
struct Made {
    load: u64,
    mebibytes: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Fresh,
    Silent,
    Pending,
    Draining,
    Lost,
    Outdated,
}

fn made(kinds: &'static [Kind]) -> impl Strategy<Value = Vec<Made>> {
    let one = (0_u64..4000, 0_u64..440, prop::sample::select(kinds));
    prop::collection::vec(one.prop_map(|(load, mebibytes, kind)| Made { load, mebibytes, kind }), 1..25)
}

const ANY: &[Kind] =
    &[Kind::Fresh, Kind::Fresh, Kind::Fresh, Kind::Silent, Kind::Pending, Kind::Draining, Kind::Lost, Kind::Outdated];
const HEALTHY: &[Kind] = &[Kind::Fresh];
const WITH_DRAINS: &[Kind] = &[Kind::Fresh, Kind::Fresh, Kind::Fresh, Kind::Draining];

fn build(made: &[Made], min: i32, max: i32) -> Cluster {
    let mut cluster = Cluster::autoscaled(min, max);
    for (index, made) in (0_u32..).zip(made) {
        let mut shard = ready(index);
        shard.load(made.load, (40 + made.mebibytes) * MIB);
        match made.kind {
            Kind::Fresh => {}
            Kind::Silent => shard.report.as_mut().unwrap().at = at(-60),
            Kind::Pending => shard = pending(index),
            Kind::Draining => shard.drain(DrainReason::ScaleIn, at(-20)),
            Kind::Lost => shard.terminating = Some(at(-5)),
            Kind::Outdated => shard.template_hash = Some("template-0".into()),
        }
        cluster.observed.shards.push(shard);
    }
    cluster
}

fn size(cluster: &Cluster) -> u32 {
    let shards = &cluster.observed.shards;
    count(shards.iter().filter(|shard| cluster.observed.state(shard, at(0)).is_active()).count())
}

// === a small world ===

/// A cluster whose pods do what they are told: they start after a while, drain onto others, and are deleted when empty.
struct World {
    cluster: Cluster,
    history: History,
    now: Timestamp,
    bytes_each: u64,
    /// Steps until a new pod is Ready, and until it is heard.
    delays: Vec<(u32, u32)>,
    starting: Vec<(u32, u32, u32)>,
    sizes: Vec<u32>,
}

impl World {
    fn of(cluster: Cluster, bytes_each: u64, delays: Vec<(u32, u32)>) -> Self {
        let history = settled(size(&cluster));
        let mut world = Self { cluster, history, now: at(0), bytes_each, delays, starting: vec![], sizes: vec![] };
        world.weigh();
        world
    }

    /// Memory follows load.
    fn weigh(&mut self) {
        let bytes = self.bytes_each;
        for report in self.cluster.observed.shards.iter_mut().filter_map(|shard| shard.report.as_mut()).map(|r| &mut r.report) {
            report.working_set_bytes = 40 * MIB + report.streams * bytes;
        }
    }

    fn step(&mut self, seconds: i64) -> Decision {
        self.now += SignedDuration::from_secs(seconds);
        self.start();
        self.weigh();
        self.cluster = self.cluster.clone().heard(self.now);
        let (decision, history) = run(&self.cluster, &self.history, self.now);
        self.history = history;
        self.sizes.push(decision.desired);
        self.obey(&decision);
        decision
    }

    fn start(&mut self) {
        for (index, to_ready, to_heard) in &mut self.starting {
            let now = self.now;
            let shard = self.cluster.observed.shards.iter_mut().find(|shard| shard.index == *index).unwrap();
            *to_ready = to_ready.saturating_sub(1);
            if *to_ready == 0 && !shard.ready {
                *shard = ObservedShard { report: None, created: shard.created, ready_changed: Some(now), ..ready(*index) };
            }
            if *to_ready == 0 {
                *to_heard = to_heard.saturating_sub(1);
                if *to_heard == 0 && shard.report.is_none() {
                    shard.report = ready(*index).report;
                }
            }
        }
        let heard = |index: u32| self.cluster.observed.shards.iter().any(|shard| shard.index == index && shard.report.is_some());
        self.starting.retain(|(index, ..)| !heard(*index));
    }

    fn obey(&mut self, decision: &Decision) {
        for _ in 0..decision.create {
            let index = (0..u32::MAX).find(|n| self.cluster.observed.shards.iter().all(|shard| shard.index != *n)).unwrap();
            let (to_ready, to_heard) = self.delays[index as usize % self.delays.len()];
            self.starting.push((index, to_ready.max(1), to_heard.max(1)));
            self.cluster.observed.shards.push(ObservedShard { created: Some(self.now), ..pending(index) });
        }
        for victim in &decision.victims {
            let now = self.now;
            let shard = self.cluster.observed.shards.iter_mut().find(|shard| shard.uid == victim.pod.uid).unwrap();
            shard.drain(DrainReason::ScaleIn, now);
        }
        for shed in &decision.sheds {
            self.leave(&shed.pod.uid, shed.streams);
        }
        let draining: Vec<_> =
            self.cluster.observed.shards.iter().filter(|s| s.draining.is_some()).map(|s| s.uid.clone()).collect();
        for uid in draining {
            self.leave(&uid, 1000);
        }
        let empty = |shard: &ObservedShard| shard.draining.is_some() && shard.reported().is_none_or(|report| report.streams == 0);
        self.starting
            .retain(|(index, ..)| !self.cluster.observed.shards.iter().any(|shard| shard.index == *index && empty(shard)));
        self.cluster.observed.shards.retain(|shard| !empty(shard));
    }

    /// Streams leave a shard and come back to the emptiest one that serves.
    fn leave(&mut self, uid: &str, most: u64) {
        let shards = &mut self.cluster.observed.shards;
        let Some(from) = shards.iter().position(|shard| shard.uid == uid) else { return };
        let left = shards[from].reported().map_or(0, |report| report.streams).min(most);
        let others =
            shards.iter().enumerate().filter(|(n, shard)| *n != from && shard.draining.is_none() && shard.report.is_some());
        let Some((to, _)) = others.min_by_key(|(_, shard)| shard.reported().map(|report| report.streams)) else { return };
        for (position, gained) in [(from, -i64::try_from(left).unwrap()), (to, i64::try_from(left).unwrap())] {
            let streams = shards[position].reported().unwrap().streams.saturating_add_signed(gained);
            shards[position].load(streams, 0);
        }
        self.weigh();
    }

    fn set_load(&mut self, total: u64) {
        let serving: Vec<_> =
            self.cluster.observed.shards.iter_mut().filter(|shard| shard.draining.is_none() && shard.report.is_some()).collect();
        let each = total / serving.len().max(1) as u64;
        for shard in serving {
            shard.load(each, 0);
        }
        self.weigh();
    }
}

/// How often a series of sizes turns from growing to shrinking or back.
fn turns(sizes: &[u32]) -> usize {
    let directions: Vec<_> = sizes.windows(2).map(|pair| pair[1].cmp(&pair[0])).filter(|turn| turn.is_ne()).collect();
    directions.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    // 1
    #[test]
    fn the_size_stays_within_bounds(shards in made(ANY), min in 1_i32..10, more in 0_i32..20, before in 0_u32..60) {
        let cluster = build(&shards, min, min + more);
        let (decision, _) = run(&cluster, &settled(before), at(0));
        prop_assert!((min..=min + more).contains(&i32::try_from(decision.desired).unwrap()), "{decision:?}");
    }

    // 2
    #[test]
    fn the_order_of_shards_does_not_matter(shards in made(ANY), before in 1_u32..30) {
        let cluster = build(&shards, 1, 40);
        let mut reversed = cluster.clone();
        reversed.observed.shards.reverse();
        let (forward, backward) = (run(&cluster, &settled(before), at(0)), run(&reversed, &settled(before), at(0)));
        prop_assert_eq!(forward, backward);
    }

    // 3
    #[test]
    fn more_load_never_makes_fewer_shards(
        shards in made(HEALTHY),
        more in prop::collection::vec(0_u64..3000, 25),
        most in prop::sample::select(&[300_u64, 1000, 3000][..]),
        before in 1_u32..30,
    ) {
        // Memory as if nothing cost anything: k is at its floor for both, hence fixed.
        let idle: Vec<_> = shards.iter().map(|made| Made { mebibytes: 0, ..made.clone() }).collect();
        let loaded: Vec<_> = idle.iter().zip(&more).map(|(made, more)| Made { load: made.load + more % most, ..made.clone() }).collect();
        let (less, _) = run(&build(&idle, 1, 100), &settled(before), at(0));
        let (more, _) = run(&build(&loaded, 1, 100), &settled(before), at(0));
        prop_assert!(less.desired <= more.desired, "{} {}", less.desired, more.desired);
    }

    // 4
    #[test]
    fn silence_never_shrinks(shards in made(HEALTHY), silent in any::<prop::sample::Index>()) {
        let mut quiet = shards.clone();
        quiet[silent.index(shards.len())].kind = Kind::Silent;
        let cluster = build(&quiet, 1, 40);
        let (decision, _) = run(&cluster, &settled(size(&cluster)), at(0));
        prop_assert!(decision.desired >= size(&cluster));
        prop_assert!(decision.victims.is_empty());
        // Memory that is not heard is not known; load counts for no less than when it was.
        let light = |made: &[Made]| build(&made.iter().map(|m| Made { mebibytes: 0, ..m.clone() }).collect::<Vec<_>>(), 1, 40);
        let (heard, _) = run(&light(&shards), &settled(size(&cluster)), at(0));
        let (quiet, _) = run(&light(&quiet), &settled(size(&cluster)), at(0));
        // Where nobody is heard at all, the size stays.
        prop_assert!(quiet.mode == Mode::MetricsUnavailable || quiet.desired >= heard.desired);
    }

    // 5
    #[test]
    fn no_gate_lets_a_scale_in_through(shards in made(HEALTHY), gate in 0..4) {
        let mut cluster = build(&shards, 1, 40);
        let mut history = settled(size(&cluster));
        match gate {
            0 => cluster.observed.shards[0].report.as_mut().unwrap().at = at(-60),
            1 => {
                let killed = Termination { reason: "OOMKilled".into(), finished: Some(at(-1700)), ..Termination::default() };
                cluster.observed.shards[0].last_termination = Some(killed);
            }
            2 => cluster.observed.shards[0].template_hash = Some("template-0".into()),
            _ => history.observed_since = Some(at(-599)),
        }
        let (decision, _) = run(&cluster, &history, at(0));
        prop_assert!(decision.desired >= size(&cluster) && decision.victims.is_empty(), "{decision:?}");
    }

    // 6
    #[test]
    fn victims_fit_the_survivors_in_load_and_in_bytes(shards in made(WITH_DRAINS)) {
        let cluster = build(&shards, 1, 40);
        let (decision, _) = run(&cluster, &settled(size(&cluster)), at(0));
        let is_victim = |shard: &ObservedShard| decision.victims.iter().any(|victim| victim.pod.uid == shard.uid);
        let (mut moving, mut room) = ((0, 0), (0, 0));
        for shard in &cluster.observed.shards {
            let report = shard.reported().unwrap();
            let kept = report.working_set_bytes - report.base_bytes;
            if is_victim(shard) || shard.draining.is_some() {
                moving = (moving.0 + report.load(), moving.1 + if report.load() > 0 { kept } else { 0 });
            } else {
                let bytes = 512 * MIB * 60 / 100;
                room.0 += decision.numbers.target_down.saturating_sub(report.load());
                room.1 += bytes.saturating_sub(report.working_set_bytes);
            }
        }
        let fits = moving.0 <= room.0 && moving.1 <= room.1;
        prop_assert!(decision.victims.is_empty() || fits, "{moving:?} into {room:?}: {decision:?}");
    }

    // 10
    #[test]
    fn a_scale_in_says_how_many_streams_it_ends(shards in made(ANY), before in 1_u32..30, max in 1_i32..30) {
        let cluster = build(&shards, 1, max);
        let (decision, _) = run(&cluster, &settled(before), at(0));
        let mut named = std::collections::BTreeSet::new();
        for victim in &decision.victims {
            let shard = cluster.observed.shards.iter().find(|shard| shard.uid == victim.pod.uid).unwrap();
            prop_assert!(named.insert(&victim.pod), "twice");
            prop_assert!(cluster.observed.state(shard, at(0)).is_active(), "only what is there is taken away");
            prop_assert_eq!(victim.streams, shard.reported().map_or(0, |report| report.streams));
        }
        let surplus = size(&cluster).saturating_sub(decision.desired);
        prop_assert!(count(decision.victims.len()) <= surplus, "no more than there is too much");
        for shed in &decision.sheds {
            let shard = cluster.observed.shards.iter().find(|shard| shard.uid == shed.pod.uid).unwrap();
            prop_assert!(shed.streams * 100 <= shard.reported().unwrap().streams * 5 || shed.streams == 1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    // 5, the other half
    #[test]
    fn when_its_cause_is_gone_no_gate_holds_for_ever(shards in 2_u32..12, gate in 0..4) {
        let mut world = World::of(Cluster::autoscaled(1, 40).with_ready(shards), 0, vec![(2, 1)]);
        match gate {
            0 => world.history.last_oom_kill = Some(at(0)),
            1 => world.history.observed_since = Some(at(0)),
            2 => world.history.clock_moved_back = Some(at(0)),
            _ => world.cluster.observed.shards[0].template_hash = Some("template-0".into()),
        }
        for _ in 0..60 {
            world.step(20);
        }
        world.cluster.observed.shards.iter_mut().for_each(|shard| shard.template_hash = Some(TEMPLATE.into()));
        for _ in 0..120 {
            world.step(20);
        }
        prop_assert_eq!(world.sizes.last(), Some(&1));
    }

    // 7
    #[test]
    fn no_more_than_four_or_as_many_as_there_were_are_added_in_fifteen_seconds(
        start in 1_u32..6,
        loads in prop::collection::vec(0_u64..400_000, 20),
    ) {
        let mut world = World::of(Cluster::autoscaled(1, 300).with_ready(start), 0, vec![(1, 1)]);
        for load in loads {
            world.set_load(load);
            world.step(5);
        }
        // Three passes are fifteen seconds; what a growth may reach is counted from where they began.
        let sizes: Vec<_> = std::iter::once(start).chain(world.sizes.iter().copied()).collect();
        for position in (1..sizes.len()).filter(|n| sizes[*n] > sizes[*n - 1]) {
            let from = sizes[position.saturating_sub(3)];
            prop_assert!(sizes[position] <= from + from.max(4), "{sizes:?}");
        }
    }

    // 8
    #[test]
    fn a_hot_shard_cools_without_a_scale_out_or_flapping(hot in 850_u64..960, cool in 300_u64..560, shards in 4_u32..12) {
        let bytes = MIB;
        let streams = |permille: u64| (512 * permille / 1000).saturating_sub(40);
        let cluster = Cluster::autoscaled(1, 300)
            .with_ready(shards)
            .each(|shard| shard.load(if shard.index == 0 { streams(hot) } else { streams(cool) }, 0));
        let mut world = World::of(cluster, bytes, vec![(2, 1)]);
        for _ in 0..240 {
            world.step(15);
        }
        prop_assert!(world.sizes.iter().all(|size| *size <= shards), "{:?}", world.sizes);
        prop_assert!(turns(&world.sizes) == 0, "{:?}", world.sizes);
        let hottest = world.cluster.observed.shards.iter().filter_map(|shard| shard.reported()).map(|r| r.working_set_bytes).max();
        prop_assert!(hottest.unwrap() * 100 < 512 * MIB * 76, "still at {} MiB", hottest.unwrap() / MIB);
    }

    // 9
    #[test]
    fn constant_load_turns_at_most_once(total in 0_u64..60_000, start in 1_u32..30, kibibytes in 1_u64..200) {
        let mut world = World::of(Cluster::autoscaled(1, 300).with_ready(start), kibibytes << 10, vec![(2, 1), (4, 2)]);
        world.set_load(total.min(u64::from(start) * 4000));
        for _ in 0..360 {
            world.step(10);
        }
        prop_assert!(turns(&world.sizes) <= 1, "{:?}", world.sizes);
    }

    // 11
    #[test]
    fn every_order_of_ready_and_first_report_gives_the_same_size(
        total in 3000_u64..30_000,
        delays in prop::collection::vec((1_u32..8, 1_u32..4), 12),
    ) {
        let last = |delays: Vec<(u32, u32)>| {
            let mut world = World::of(Cluster::autoscaled(1, 300).with_ready(1), 0, delays);
            world.set_load(total);
            let mut last = world.step(5);
            for _ in 0..60 {
                last = world.step(5);
            }
            (last.desired, last.numbers.by_connections)
        };
        let expected = u32::try_from(total.div_ceil(TARGET)).unwrap();
        prop_assert_eq!(last(vec![(1, 1)]), (expected, expected));
        prop_assert_eq!(last(delays), (expected, expected));
    }
}
