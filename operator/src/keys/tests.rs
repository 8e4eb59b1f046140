//! The steps one by one; and a world of shards in which every order of them is tried.

mod world;

use jiff::SignedDuration;
use mcp_crds::load::LoadReport;

use super::*;
use crate::stages::fixture::{Cluster, at};
use crate::stages::{DrainReason, Termination};

const LIFETIME: Duration = Duration::from_mins(1);

fn key(n: u8) -> Key {
    Key::from_bytes(&[n; 32])
}

fn id(n: u8) -> String {
    key(n).id
}

fn asked(value: Option<i64>) -> Asked {
    Asked { value: value.map(at), lifetime: LIFETIME, served: true }
}

/// Session key 1 and control key 101, made when nothing was asked for.
fn first() -> Keys {
    Keys::first(key(1), key(101), &asked(None))
}

fn take(keys: &Keys, step: &Step, now: i64) -> Keys {
    keys.after(step, (key(2), key(102)), &asked(Some(0)), at(now))
}

fn report(accepts: &[u8], seals: u8) -> LoadReport {
    LoadReport { key_ids: accepts.iter().map(|n| id(*n)).collect(), sealing_key_id: id(seals), ..LoadReport::default() }
}

fn says<'a>(shard: &'a str, report: &'a LoadReport) -> Voice<'a> {
    Voice { shard, says: Some(report) }
}

fn silent(shard: &str) -> Voice<'_> {
    Voice { shard, says: None }
}

fn wait(stage: Stage, shards: &[&str], held: bool) -> Step {
    Step::Wait(Wait { stage, shards: shards.iter().map(|name| (*name).to_owned()).collect(), held })
}

/// The keys at each stage: resting at -1 s, distributed at 0 s, sealing from 20 s, marked at 30 s.
fn stages() -> [Keys; 4] {
    let rest = first();
    let distributed = take(&rest, &Step::Distribute(at(0)), 0);
    let sealing = take(&distributed, &Step::Seal, 20);
    let retiring = take(&sealing, &Step::Mark, 30);
    [rest, distributed, sealing, retiring]
}

#[test]
fn at_rest_nothing_is_due() {
    let old = report(&[1], 1);
    assert_eq!(rotate(&first(), &asked(None), &[says("a", &old)], at(0)), Step::Rest);
    let made_for = Keys::first(key(1), key(101), &asked(Some(0)));
    assert_eq!(rotate(&made_for, &asked(Some(0)), &[], at(0)), Step::Rest, "fresh keys satisfy what was asked for before them");
}

#[test]
fn a_new_value_distributes_also_one_of_the_past_or_the_future() {
    for value in [-1_000_000, 0, 1_000_000] {
        assert_eq!(rotate(&first(), &asked(Some(value)), &[], at(0)), Step::Distribute(at(value)));
    }
}

#[test]
fn distributed_keys_are_accepted_and_used_for_nothing() {
    let [_, distributed, ..] = stages();
    let KeyRing { session, sealing, control, signing } = &distributed.ring;
    assert_eq!((session.len(), sealing, control.len(), signing), (2, &id(1), 2, &id(101)));
    assert_eq!(distributed.stage(), Stage::Distributing);
}

#[test]
fn nothing_is_sealed_with_a_key_that_one_shard_does_not_report() {
    let [_, distributed, ..] = stages();
    let (old, new) = (report(&[1], 1), report(&[1, 2], 1));
    let step = |voices: &[Voice<'_>], now| rotate(&distributed, &asked(Some(0)), voices, at(now));
    assert_eq!(step(&[says("a", &new), says("b", &old)], 60), wait(Stage::Distributing, &["b"], false));
    assert_eq!(step(&[says("a", &new), silent("b")], 60), wait(Stage::Distributing, &["b"], false));
    assert_eq!(step(&[says("a", &new), silent("b")], 300), wait(Stage::Distributing, &["b"], true));
    assert_eq!(step(&[says("a", &new)], 9), wait(Stage::Distributing, &[], false), "a container may just have started");
    assert_eq!(step(&[says("a", &new), says("b", &new)], 10), Step::Seal);
}

#[test]
fn sealing_and_signing_change_over_together() {
    let [_, _, sealing, _] = stages();
    assert_eq!((&sealing.ring.sealing, &sealing.ring.signing), (&id(2), &id(102)));
    assert_eq!((sealing.ring.session.len(), sealing.ring.control.len()), (2, 2));
}

#[test]
fn the_lifetime_counts_from_when_the_last_shard_changed_over() {
    let [_, _, sealing, retiring] = stages();
    let (old, new) = (report(&[1, 2], 1), report(&[1, 2], 2));
    let step = |keys: &Keys, voices: &[Voice<'_>], now| rotate(keys, &asked(Some(0)), voices, at(now));
    assert_eq!(step(&sealing, &[says("a", &new), says("b", &old)], 25), wait(Stage::Sealing, &["b"], false));
    assert_eq!(step(&sealing, &[says("a", &new), silent("b")], 320), wait(Stage::Sealing, &["b"], true));
    assert_eq!(step(&sealing, &[says("a", &new), says("b", &new)], 30), Step::Mark);
    let ends = 30 + 60 + i64::try_from(CLOCKS.as_secs()).unwrap();
    assert_eq!(step(&retiring, &[says("a", &new)], ends - 1), wait(Stage::Retiring, &[], false));
    assert_eq!(step(&retiring, &[says("a", &new), silent("b")], ends), wait(Stage::Retiring, &["b"], false));
    assert_eq!(step(&retiring, &[says("a", &new), silent("b")], ends + 300), wait(Stage::Retiring, &["b"], true));
    assert_eq!(step(&retiring, &[says("a", &new)], ends), Step::Retire);
}

#[test]
fn a_shard_that_seals_with_the_old_key_again_starts_the_lifetime_anew() {
    let [_, _, _, retiring] = stages();
    let (old, new) = (report(&[1, 2], 1), report(&[1, 2], 2));
    let step = rotate(&retiring, &asked(Some(0)), &[says("a", &new), says("b", &old)], at(10_000));
    assert_eq!(step, Step::Unmark(vec!["b".to_owned()]));
    let again = take(&retiring, &step, 10_000);
    assert_eq!(rotate(&again, &asked(Some(0)), &[says("b", &new)], at(10_001)), Step::Mark);
}

#[test]
fn retired_keys_are_gone_and_the_same_value_never_rotates_again() {
    let [_, _, _, retiring] = stages();
    let done = take(&retiring, &Step::Retire, 300);
    assert_eq!((done.ring.session, done.ring.control), (vec![key(2)], vec![key(102)]));
    let done = take(&retiring, &Step::Retire, 300);
    assert_eq!(done.record.seen, [at(0)]);
    assert_eq!(rotate(&done, &asked(Some(0)), &[], at(301)), Step::Rest);
    assert_eq!(rotate(&done, &asked(None), &[], at(301)), Step::Rest);
}

#[test]
fn a_value_that_comes_during_a_rotation_waits_and_one_that_goes_does_not_stop_it() {
    let accepts = report(&[1, 2], 1);
    for keys in &stages()[1..] {
        for value in [None, Some(7)] {
            let step = rotate(keys, &asked(value), &[silent("a")], at(31));
            assert!(matches!(step, Step::Wait(_)), "{step:?}");
        }
    }
    let [_, distributed, _, retiring] = stages();
    assert_eq!(rotate(&distributed, &asked(None), &[says("a", &accepts)], at(10)), Step::Seal);
    let done = take(&retiring, &Step::Retire, 300);
    assert_eq!(rotate(&done, &asked(Some(7)), &[], at(301)), Step::Distribute(at(7)));
}

#[test]
fn keys_that_a_person_cut_out_end_the_rotation() {
    let [_, _, _, mut cut] = stages();
    cut.ring.session.remove(0);
    cut.ring.control.remove(0);
    assert_eq!(rotate(&cut, &asked(Some(0)), &[], at(31)), Step::Retire);
    let done = take(&cut, &Step::Retire, 31);
    assert_eq!(rotate(&done, &asked(Some(0)), &[], at(31)), Step::Rest);
    assert_eq!(rotate(&done, &asked(Some(7)), &[], at(31)), Step::Distribute(at(7)));
}

#[test]
fn without_its_record_a_rotation_goes_on_and_the_clock_starts_anew() {
    for keys in &stages()[1..] {
        let lost = Keys { record: Record::default(), ..keys.clone() };
        let expected = if lost.stage() == Stage::Distributing { Step::Seal } else { Step::Mark };
        assert_eq!(rotate(&lost, &asked(Some(0)), &[says("a", &report(&[1, 2], 2))], at(31)), expected);
    }
}

#[test]
fn sessions_keep_the_lifetime_they_were_given() {
    let day = Duration::from_hours(24);
    let long = |served| Asked { lifetime: day, served, ..asked(None) };
    let short = |served| Asked { served, ..asked(None) };
    let longer = first();
    assert_eq!(rotate(&longer, &long(false), &[], at(0)), Step::Remember, "before any shard gives it out");
    let longer = longer.after(&Step::Remember, (key(2), key(102)), &long(false), at(0));
    assert_eq!(rotate(&longer, &long(true), &[], at(0)), Step::Rest);
    assert_eq!(rotate(&longer, &short(false), &[], at(0)), Step::Rest, "a shard may give out the longer one");
    assert_eq!(rotate(&longer, &short(true), &[], at(100)), Step::Remember);
    let mut keys = longer.after(&Step::Remember, (key(2), key(102)), &short(true), at(100));
    assert_eq!(rotate(&keys, &short(true), &[], at(100)), Step::Rest);
    for (step, now) in [(Step::Distribute(at(0)), 200), (Step::Seal, 210), (Step::Mark, 220)] {
        keys = keys.after(&step, (key(2), key(102)), &short(true), at(now));
    }
    let last = at(100) + SignedDuration::from_hours(24) + SignedDuration::try_from(CLOCKS).unwrap();
    assert_eq!(keys.retires_at(&short(true)), Some(last));
}

#[test]
fn the_record_is_read_back_and_an_unknown_one_is_none() {
    for keys in stages() {
        assert_eq!(Record::read(&keys.record.written()), Some(keys.record));
    }
    assert_eq!(Record::read(r#"{"addedLater":1}"#), Some(Record::default()));
    assert_eq!(Record::read("yes"), None);
}

#[test]
fn only_so_many_values_are_remembered() {
    let mut keys = first();
    for n in 0..20_i64 {
        keys = keys.after(&Step::Distribute(at(n)), (key(2), key(102)), &asked(None), at(0));
    }
    assert_eq!((keys.record.seen.len(), keys.record.seen[0]), (16, at(4)));
}

#[test]
fn the_annotation_is_a_time_and_nothing_else() {
    let read = |text| asked_at(Some(text)).ok().flatten();
    let moment: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
    assert_eq!(read("2026-11-23T10:00:00Z"), Some(moment));
    assert_eq!(read("2026-11-23T12:00:00+02:00"), Some(moment), "the same moment is the same value");
    assert_eq!(asked_at(None), Ok(None));
    for wrong in ["", "now", "true", "1700000000", "2026-11-23", "10:00", "2026-13-01T00:00:00Z"] {
        assert!(asked_at(Some(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn every_shard_with_a_process_counts_and_no_other() {
    let cluster = Cluster::manual(3).with_ready(8).with_pending(2).shard(1, |shard| {
        shard.report.as_mut().unwrap().at = at(-20);
    });
    let cluster = cluster
        .shard(2, |shard| shard.drain(DrainReason::ScaleIn, at(-5)))
        .shard(3, |shard| shard.terminating = Some(at(-5)))
        .shard(4, |shard| {
            shard.terminating = Some(at(-60));
            shard.report.as_mut().unwrap().at = at(-20);
        })
        .shard(5, |shard| {
            shard.ready = false;
            shard.ready_changed = Some(at(-60));
            shard.report.as_mut().unwrap().at = at(-60);
        })
        .shard(6, |shard| shard.phase = crate::stages::Phase::Failed)
        .shard(7, |shard| {
            shard.container = Container::Terminated(Termination::default());
            shard.report = None;
        })
        .shard(9, |shard| shard.container = Container::Running { started: Some(at(-2)) });
    let found: Vec<_> =
        voices(&cluster.observed, at(0)).iter().map(|voice| format!("{} {}", voice.shard, voice.says.is_some())).collect();
    assert_eq!(
        found,
        [
            "tools-0 true",
            "tools-1 false", // silent: it may answer clients
            "tools-2 true",  // draining
            "tools-3 true",  // deleted by somebody, and answers its clients to the end
            "tools-9 false", // started, and not heard yet
        ]
    );
}
