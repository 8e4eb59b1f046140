//! No gate for ever: the cause of each persists for a day.

use super::*;

/// Between two looks.
const STEP: i64 = 30;
const DAY: i64 = 24 * 3600;

/// What a day brought.
struct Day {
    /// The smallest size.
    least: u32,
    /// The last decision that was held by the gate.
    told: Option<String>,
    /// How often it was.
    held: usize,
}

/// Lets a day pass; `cause` is asked at each look to keep the cause alive. Victims leave, and what they held with them.
fn day(mut story: Story, gate: Gate, cause: impl Fn(&mut Story, i64)) -> Day {
    let mut day = Day { least: u32::MAX, told: None, held: 0 };
    for second in (0..DAY).step_by(usize::try_from(STEP).unwrap()) {
        story.now += SignedDuration::from_secs(STEP);
        let now = story.now;
        story.change(|cluster| cluster.heard(now));
        cause(&mut story, second);
        let decision = story.decide();
        if let Some(held) = decision.held.filter(|held| held.gate == gate) {
            day.told = Some(held.message);
            day.held += 1;
        }
        day.least = day.least.min(decision.desired);
        let gone = |shard: &ObservedShard| decision.victims.iter().any(|victim| victim.pod.uid == shard.uid);
        story.change(|mut cluster| {
            cluster.observed.shards.retain(|shard| !gone(shard));
            cluster
        });
    }
    day
}

fn idle(count: u32) -> Cluster {
    Cluster::autoscaled(1, 60).with_ready(count)
}

/// The story of a gate's cause: what keeps it alive, the smallest size of the day, and what the condition says at its end.
fn story_of(gate: Gate) -> (Day, u32, &'static str) {
    let run = |cluster: Cluster, cause: fn(&mut Story, i64)| day(Story::settled(cluster), gate, cause);
    match gate {
        Gate::AtMaximum => (
            run(Cluster::autoscaled(1, 2).with_ready(2).each(|s| s.load(3500, 80 * MIB)), |_, _| ()),
            2,
            "Load asks for 3 shards; `autoscaling.maxReplicas` is 2. Raise `autoscaling.maxReplicas`.",
        ),
        Gate::AtMinimum => (
            run(Cluster::autoscaled(3, 60).with_ready(3), |_, _| ()),
            3,
            "Load asks for 0 shards; `autoscaling.minReplicas` is 3.",
        ),
        Gate::RateLimited => {
            (run(idle(12), |_, _| ()), 1, "Load asks for 0 shards; `autoscaling.behavior.scaleDown` allows no faster change.")
        }
        // It peaks every nine minutes, and the window is ten.
        Gate::Stabilizing => (
            run(idle(3).each(|s| s.load(2700, 60 * MIB)), |story, second| {
                let load = if second % 540 < 30 { 2700 } else { 100 };
                story.change(|cluster| cluster.each(|shard| shard.load(load, 60 * MIB)));
            }),
            3,
            "Load asks for 1 shard; it has to ask for 600 s. It asks for something else before they are over: shorten \
             `stabilizationWindowSeconds` to follow it.",
        ),
        Gate::ShardSilent => (
            run(idle(3), |story, _| {
                story.change(|cluster| cluster.shard(1, |shard| shard.report.as_mut().unwrap().at = at(-600)));
            }),
            3,
            "No load report from tools-1: nothing is scaled in. Look at its log, or delete the pod: it is replaced.",
        ),
        // What the first two hold in bytes, and the third in connections, fits no other.
        Gate::VictimsDoNotFit => (
            run(
                idle(3)
                    .shard(0, |s| s.load(300, 300 * MIB))
                    .shard(1, |s| s.load(10, 290 * MIB))
                    .shard(2, |s| s.load(900, 80 * MIB)),
                |_, _| (),
            ),
            3,
            "Load asks for 2 shards, but what the next shard holds does not fit the others. Lower `autoscaling.maxReplicas` to \
             drain it nevertheless.",
        ),
        Gate::RecentOomKill => (
            run(idle(3), |story, second| {
                let (now, is_due) = (story.now, second % 1200 == 0);
                story.change(|cluster| {
                    cluster.shard(1, |shard| {
                        if is_due {
                            let end = Termination { reason: "OOMKilled".into(), finished: Some(now), ..Termination::default() };
                            shard.last_termination = Some(end);
                        }
                    })
                });
            }),
            3,
            "tools-1 was killed for memory within 30 minutes: nothing is scaled in. Raise `resources.limits.memory`, or lower \
             `autoscaling.memory.targetPercent`.",
        ),
        // Requests, not streams, take its memory: there is nothing to shed.
        Gate::HotShard => (
            run(idle(5).shard(1, |shard| shard.reported_mut().in_flight = 100), |story, _| {
                story.change(|cluster| cluster.shard(1, |shard| shard.reported_mut().working_set_bytes = 420 * MIB));
            }),
            2,
            "A new shard would not cool tools-1. Look for a heavy tool, or delete the pod: it is drained and replaced.",
        ),
        Gate::RolloutInProgress => (
            run(idle(3).shard(2, |shard| shard.template_hash = Some("template-0".into())), |_, _| ()),
            3,
            "Shards are being replaced: nothing is scaled in. Still to be replaced: tools-2. The condition Progressing says which \
             shard does not start; correct the spec.",
        ),
        Gate::InvalidReport => (
            run(idle(3).shard(0, |shard| shard.reported_mut().streams = u64::MAX), |_, _| ()),
            3,
            "The load report of tools-0 makes no sense: the size stays. Delete the pod: it is replaced.",
        ),
        Gate::ClockMovedBack => (
            {
                let mut story = Story::settled(idle(3));
                story.history.clock_moved_back = Some(at(0));
                day(story, gate, |story, second| {
                    if second % 300 == 0 {
                        story.now -= SignedDuration::from_secs(35);
                    }
                })
            },
            3,
            "The operator's clock was set back: the size stays until a window has passed. Check the clock of the operator's node.",
        ),
    }
}

impl ObservedShard {
    fn reported_mut(&mut self) -> &mut mcp_crds::load::LoadReport {
        &mut self.report.as_mut().unwrap().report
    }
}

#[test]
fn when_the_cause_of_a_gate_persists_for_a_day_shards_leave_or_the_condition_says_who_and_what_to_do() {
    for gate in Gate::ALL {
        let (day, least, told) = story_of(gate);
        assert_eq!((day.least, day.told.as_deref()), (least, Some(told)), "{gate:?} held {} times", day.held);
    }
}

#[test]
fn a_cause_that_comes_and_goes_lets_scale_in_through_between() {
    let day = day(Story::settled(idle(3)), Gate::ShardSilent, |story, second| {
        if second % 1800 < 300 {
            story.change(|cluster| {
                cluster.each(|shard| {
                    if shard.index == 1 {
                        shard.report.as_mut().unwrap().at = at(-600);
                    }
                })
            });
        }
    });
    assert_eq!(day.least, 1);
    assert!(day.held >= 10, "and was held until then: {}", day.held);
}
