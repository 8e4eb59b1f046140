//! A hot shard: its streams are left to leave, or ended; one that keeps its memory is told, retired and replaced.

use super::*;

#[test]
fn one_hot_shard_among_nine_cool_ones_is_shed_and_nothing_is_scaled() {
    let cluster = Cluster::autoscaled(1, 300).with_ready(10).each(at_permille(300, 547)).shard(4, at_permille(300, 977));
    let mut story = Story::settled(cluster);
    let first = story.pass(5);
    assert_eq!((first.desired, gate(&first)), (10, Some("HotShard")));
    assert_eq!(first.held.unwrap().message, "A new shard would not cool tools-4.");
    let shed = &first.sheds[0];
    assert_eq!((first.sheds.len(), shed.pod.name.as_str(), shed.streams), (1, "tools-4", 15), "at most 5 % of its streams");
    assert_eq!(shed.bytes, 512 * MIB * 977 / 1000 - 512 * MIB * 70 / 100);
    for _ in 0..300 {
        let later = story.pass(5);
        assert_eq!((later.desired, later.victims.len()), (10, 0));
    }
}

/// One hot shard among three cool ones, which obeys each order: its streams fall by what was asked, its memory to `after`.
fn obeying(after: impl Fn(u64, u64) -> u64, streams_leave: bool) -> (Vec<Decision>, Story) {
    let cluster =
        Cluster::autoscaled(1, 300).with_ready(4).each(|s| s.load(1000, 200 * MIB)).shard(1, |s| s.load(1000, 420 * MIB));
    let mut story = Story::settled(cluster);
    let mut decisions = vec![];
    for _ in 0..60 {
        let decision = story.pass(5);
        for shed in &decision.sheds {
            assert_eq!((shed.pod.name.as_str(), shed.reason), ("tools-1", ShedReason::Memory));
            story.change(|cluster| {
                cluster.shard(1, |shard| {
                    let report = shard.reported().unwrap();
                    let left = report.streams - if streams_leave { shed.streams } else { 0 };
                    shard.load(left, after(report.working_set_bytes, shed.streams));
                })
            });
        }
        decisions.push(decision);
    }
    (decisions, story)
}

#[test]
fn a_shard_whose_memory_falls_with_its_streams_is_shed_until_it_is_cool_and_not_replaced() {
    let (decisions, story) = obeying(|memory, streams| memory - streams * 380 * 1024, true);
    let sheds = decisions.iter().filter(|decision| !decision.sheds.is_empty()).count();
    assert!((2..=4).contains(&sheds), "{sheds}");
    assert!(decisions.iter().all(|decision| decision.retiring.is_empty() && decision.census.fruitless.is_empty()));
    let waits = |decision: &Decision| decision.sheds.is_empty() && decision.census.shedding.is_empty();
    assert!(decisions[..12].iter().all(waits), "streams may leave by themselves");
    assert!(decisions[12].census.shedding.contains("tools-1"));
    assert!(decisions.last().unwrap().census.shedding.is_empty());
    assert!(!words::is_hot(&Policy::of(&story.cluster.observed.cluster.spec), &member(&story, 1)));
}

#[test]
fn where_all_are_hot_nobody_has_room_and_nothing_is_shed() {
    let mut story = Story::settled(Cluster::autoscaled(1, 300).with_ready(2).each(|s| s.load(1000, 420 * MIB)));
    for _ in 0..60 {
        let decision = story.pass(5);
        assert!(decision.sheds.is_empty() && decision.census.shedding.is_empty());
        assert!(decision.desired > 2, "they are scaled for");
    }
}

#[test]
fn a_shard_that_has_cooled_is_not_said_to_end_streams() {
    let (decisions, _) = obeying(|_, _| 100 * MIB, true);
    let shed = decisions.iter().position(|decision| !decision.sheds.is_empty()).unwrap();
    assert!(decisions[shed].census.shedding.contains("tools-1"));
    assert!(decisions[shed + 1..].iter().all(|decision| decision.census.shedding.is_empty()), "within the minute, too");
}

#[test]
fn a_shard_whose_memory_stays_though_its_streams_end_is_told_after_a_step_and_replaced_after_two() {
    let (decisions, _) = obeying(|memory, _| memory, true);
    let told = decisions.iter().position(|decision| decision.census.fruitless.contains("tools-1")).unwrap();
    let replaced = decisions.iter().position(|decision| !decision.retiring.is_empty()).unwrap();
    assert_eq!((told, replaced), (24, 37), "a minute of patience, a minute, and another one");
    let replaced = &decisions[replaced];
    assert_eq!((replaced.retiring[0].name.as_str(), replaced.recycles.len()), ("tools-1", 0));
    assert_eq!(replaced.leaving, replaced.retiring, "it gets no new connections");
    assert_eq!((replaced.desired, replaced.create), (4, 1), "its successor comes first");
    assert!(replaced.sheds.is_empty(), "its streams leave by themselves");
}

#[test]
fn a_shard_whose_streams_do_not_leave_is_not_replaced_for_it() {
    let (decisions, _) = obeying(|memory, _| memory, false);
    assert!(decisions.iter().all(|decision| decision.retiring.is_empty() && decision.census.fruitless.is_empty()));
}

/// One warm shard among three cool ones, which gets no new streams: in each pass so many of its thousand leave, and memory
/// is what `after` makes of it.
fn left(story: &mut Story, each_pass: u64, after: impl Fn(u64, u64) -> u64) -> Decision {
    story.change(|cluster| {
        cluster.shard(1, |shard| {
            let report = shard.reported().unwrap();
            let (streams, memory) = (report.streams, report.working_set_bytes);
            let leave = each_pass.min(streams);
            shard.load(streams - leave, after(memory, leave));
        })
    });
    story.pass(5)
}

fn fenced_and_warm(mebibytes: u64) -> Story {
    let cluster = Cluster::autoscaled(4, 300).with_ready(4).each(|s| s.load(1000, 60 * MIB));
    Story::settled(cluster.shard(1, |shard| {
        shard.load(1000, mebibytes * MIB);
        shard.placed = false;
    }))
}

#[test]
fn no_stream_of_a_hot_shard_is_ended_while_they_leave_by_themselves_unless_it_is_urgent() {
    let sheds = |mebibytes, each_pass| {
        let mut story = fenced_and_warm(mebibytes);
        (0..24).any(|_| !left(&mut story, each_pass, |memory, _| memory).sheds.is_empty())
    };
    // 82 % of 512Mi: a hundredth a minute is ten.
    assert!(!sheds(420, 1));
    assert!(sheds(420, 0), "nobody leaves");
    assert!(sheds(440, 1), "86 %: it cannot wait");
}

#[test]
fn a_shard_whose_memory_stays_while_a_fifth_of_its_streams_leaves_is_replaced_and_one_whose_memory_falls_is_not() {
    let mut story = fenced_and_warm(370);
    let mut passes = 0;
    let told = loop {
        let decision = left(&mut story, 5, |memory, _| memory);
        passes += 1;
        if !decision.retiring.is_empty() || passes > 60 {
            break decision;
        }
    };
    assert_eq!(passes, 42, "the pass after the one in which 205 of 995 have left");
    assert_eq!((told.retiring[0].name.as_str(), told.desired, told.create), ("tools-1", 4, 1));
    assert_eq!((told.recycles.len(), told.leaving.len(), told.sheds.len()), (0, 1, 0), "it keeps what it has");
    assert!(told.census.fruitless.contains("tools-1"));
    let mut sound = fenced_and_warm(370);
    for _ in 0..100 {
        assert!(left(&mut sound, 5, |memory, leave| memory - leave * 330 * 1024).retiring.is_empty());
    }
    // A stream has 338 KiB: more than half of that is enough.
    let mut half = fenced_and_warm(370);
    for _ in 0..60 {
        assert!(left(&mut half, 5, |memory, leave| memory - leave * 180 * 1024).retiring.is_empty());
    }
    let mut less = fenced_and_warm(370);
    assert!((0..60).any(|_| !left(&mut less, 5, |memory, leave| memory - leave * 150 * 1024).retiring.is_empty()));
    let mut placed = fenced_and_warm(370);
    placed.change(|cluster| cluster.shard(1, |shard| shard.placed = true));
    for _ in 0..100 {
        assert!(left(&mut placed, 5, |memory, _| memory).retiring.is_empty(), "others may have come");
    }
}

#[test]
fn a_shard_that_is_to_be_recycled_is_drained_when_next_to_nobody_is_left_or_after_an_hour() {
    let retiring = || {
        let mut story = fenced_and_warm(370);
        (0..42).for_each(|_| drop(left(&mut story, 5, |memory, _| memory)));
        story
    };
    let mut story = retiring();
    assert!(left(&mut story, 762, |_, _| 200 * MIB).recycles.is_empty(), "28 are left, of 2,800");
    let decision = left(&mut story, 1, |_, _| 200 * MIB);
    assert_eq!((decision.recycles.len(), decision.retiring.len()), (1, 1), "a shard that was cool in between too");
    let mut patient = retiring();
    assert!((0..719).all(|_| left(&mut patient, 0, |memory, _| memory).recycles.is_empty()));
    assert_eq!(left(&mut patient, 0, |memory, _| memory).recycles.len(), 1);
    let mut urgent = retiring();
    assert_eq!(left(&mut urgent, 0, |_, _| 440 * MIB).recycles.len(), 1, "its memory does not wait");
    let mut anew = retiring();
    anew.change(|cluster| cluster.shard(1, |shard| shard.report.as_mut().unwrap().report.incarnation = "another".into()));
    assert!(anew.pass(5).retiring.is_empty(), "a new process has not leaked");
}

#[test]
fn a_third_of_the_shards_is_recycled_at_a_time() {
    let mut story = Story::settled(Cluster::autoscaled(7, 300).with_ready(7).each(|s| s.load(0, 300 * MIB)));
    assert!(story.pass(600).retiring.is_empty());
    assert_eq!(story.pass(10).retiring.len(), 2);
}

#[test]
fn a_shard_is_judged_when_a_fifth_of_its_streams_has_left_and_not_before() {
    let leaks = |leave| {
        let mut story = fenced_and_warm(370);
        left(&mut story, 0, |memory, _| memory);
        left(&mut story, leave, |memory, _| memory);
        !left(&mut story, 0, |memory, _| memory).retiring.is_empty()
    };
    assert_eq!((leaks(199), leaks(200)), (false, true));
}

#[test]
fn a_hot_shard_with_none_beside_it_but_one_that_starts_is_not_shed() {
    let alone = Cluster::autoscaled(1, 9).with_ready(1).each(|s| s.load(1000, 440 * MIB));
    let mut story = Story::settled(alone.with_pending(1));
    assert!((0..24).all(|_| story.pass(5).sheds.is_empty()));
}

#[test]
fn a_shard_that_leaks_is_not_shed_even_before_its_turn_to_be_recycled() {
    let cluster = Cluster::autoscaled(4, 9).with_ready(4).each(|s| s.load(1000, if s.index < 2 { 440 * MIB } else { 100 * MIB }));
    let mut story = Story::settled(cluster);
    assert_eq!(story.pass(5).sheds.len(), 2);
    story.history.seen[..2].iter_mut().for_each(|seen| seen.leaks = true);
    for _ in 0..24 {
        let decision = story.pass(5);
        assert_eq!((decision.sheds.len(), decision.retiring.len()), (0, 1), "a third of four is one");
    }
}

#[test]
fn whether_streams_leave_by_themselves_is_asked_anew_a_minute_and_a_half_later() {
    let sheds = |seconds| {
        let cluster = Cluster::autoscaled(4, 9).with_ready(4).each(|s| s.load(1000, 100 * MIB));
        let mut story = Story::settled(cluster.shard(1, |s| s.load(1000, 420 * MIB)));
        assert!(story.pass(5).sheds.is_empty(), "they may leave by themselves");
        story.leap(seconds).sheds.len()
    };
    assert_eq!((sheds(55), sheds(85), sheds(90)), (0, 1, 0));
}

#[test]
fn memory_that_falls_by_less_than_half_of_what_the_streams_had_has_stayed() {
    // A stream has 389 KiB.
    let is_told = |fall: u64| {
        let (decisions, _) = obeying(|memory, streams| memory - streams * fall * 1024, true);
        decisions.iter().any(|decision| !decision.census.fruitless.is_empty())
    };
    assert_eq!((is_told(90), is_told(250)), (true, false));
}

#[test]
fn a_shard_that_has_cooled_was_not_shed_in_vain_however_little_its_memory_fell() {
    let cluster = Cluster::autoscaled(4, 9).with_ready(4).each(|s| s.load(1000, 100 * MIB));
    let mut story = Story::settled(cluster.shard(1, |s| s.load(1000, 385 * MIB)));
    let mut was_shed = false;
    for _ in 0..60 {
        let decision = story.pass(5);
        assert!(decision.census.fruitless.is_empty());
        for shed in &decision.sheds {
            was_shed = true;
            story.change(|cluster| cluster.shard(1, |s| s.load(1000 - shed.streams, 380 * MIB)));
        }
    }
    assert!(was_shed);
}

#[test]
fn a_shard_is_said_to_end_streams_for_a_minute_and_a_half() {
    let (decisions, _) = obeying(|_, _| 370 * MIB, true);
    let shed = decisions.iter().position(|decision| !decision.sheds.is_empty()).unwrap();
    let is_said = |passes: usize| decisions[shed + passes].census.shedding.contains("tools-1");
    assert_eq!((is_said(17), is_said(18)), (true, false));
}
