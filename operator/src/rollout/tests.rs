use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::stages::fixture::{Cluster, at, pending};
use crate::stages::{Container, Phase, PodRef, Termination, Victim};

/// A decision to have `desired` shards, given how many count now.
fn size(desired: u32, current: u32) -> Decision {
    Decision { desired, create: desired.saturating_sub(current), ..Decision::default() }
}

fn victims(cluster: &Cluster, desired: u32, indexes: &[u32]) -> Decision {
    let victims = indexes.iter().map(|index| Victim { pod: pod(cluster, *index), streams: 0 }).collect();
    Decision { desired, victims, ..Decision::default() }
}

fn pod(cluster: &Cluster, index: u32) -> PodRef {
    cluster.observed.shards.iter().find(|shard| shard.index == index).unwrap().pod()
}

fn drained(plan: &Plan) -> Vec<(&str, DrainReason)> {
    plan.drain.iter().map(|step| (step.pod.name.as_str(), step.reason)).collect()
}

fn deleted(plan: &Plan) -> Vec<(&str, DeleteReason)> {
    plan.delete.iter().map(|step| (step.pod.name.as_str(), step.reason)).collect()
}

fn outdate(shard: &mut ObservedShard) {
    shard.template_hash = Some("template-0".into());
}

fn run(cluster: &Cluster, decision: &Decision) -> Plan {
    plan(&cluster.observed, decision, at(0))
}

#[test]
fn a_settled_cluster_needs_nothing() {
    assert!(run(&Cluster::manual(3).with_ready(3), &size(3, 3)).is_empty());
}

#[test]
fn the_first_shards_get_the_lowest_names() {
    assert_eq!(run(&Cluster::manual(3), &size(3, 0)).create, [0, 1, 2]);
}

#[test]
fn a_new_shard_takes_the_lowest_name_that_no_pod_holds_and_one_that_ends_still_holds_it() {
    let cluster = Cluster::manual(5)
        .with_ready(4)
        .shard(1, |shard| shard.terminating = Some(at(-60)))
        .shard(2, |shard| shard.phase = Phase::Failed);
    let mut cluster = cluster;
    cluster.observed.taken.insert(4);
    let plan = run(&cluster, &size(5, 2));
    assert_eq!(plan.create, [2, 5, 6], "a Failed pod is deleted first, and gone at once");
    assert_eq!(deleted(&plan), [("tools-2", DeleteReason::Finished)]);
}

#[test]
fn the_order_in_which_pods_are_listed_does_not_matter() {
    let mut cluster = Cluster::manual(4).with_ready(3).with_pending(1).shard(0, outdate).shard(2, outdate);
    let decision = victims(&cluster, 3, &[3]);
    let plan = run(&cluster, &decision);
    cluster.observed.shards.reverse();
    assert_eq!(run(&cluster, &decision), plan);
}

#[test]
fn nothing_happens_to_a_paused_or_deleted_cluster() {
    let cluster = Cluster::manual(3)
        .with_ready(2)
        .with_pending(1)
        .shard(0, |shard| shard.phase = Phase::Failed)
        .shard(1, |shard| shard.drain(DrainReason::ScaleIn, at(-10_000)))
        .shard(2, outdate);
    let decision = Decision { create: 2, ..victims(&cluster, 3, &[2]) };
    assert!(!run(&cluster, &decision).is_empty());
    assert!(run(&cluster.clone().spec(|spec| spec.paused = true), &decision).is_empty());
    let mut deleted = cluster;
    Arc::make_mut(&mut deleted.observed.cluster).metadata.deletion_timestamp = Some(Time(at(-1)));
    assert!(run(&deleted, &decision).is_empty());
}

#[test]
fn no_shard_is_created_before_there_is_something_to_serve() {
    let mut cluster = Cluster::manual(1);
    cluster.observed.published = None;
    assert_eq!(run(&cluster, &size(1, 0)).create, [0], "the catalog compiled: it is published in this pass");
    cluster.observed.catalog = crate::stages::CatalogOutcome::NotLoaded;
    assert!(run(&cluster, &size(1, 0)).create.is_empty());
    cluster.observed.published = Some("5f2c9dab".into());
    assert_eq!(run(&cluster, &size(1, 0)).create, [0], "the last good catalog goes on to be served");
}

#[test]
fn a_victim_that_never_took_a_connection_is_deleted_and_one_that_may_hold_streams_is_drained() {
    let cluster = Cluster::manual(1).with_ready(2).with_pending(1);
    let plan = run(&cluster, &victims(&cluster, 1, &[2, 1]));
    assert_eq!(deleted(&plan), [("tools-2", DeleteReason::NeverReady)]);
    assert_eq!(drained(&plan), [("tools-1", DrainReason::ScaleIn)]);
    assert_eq!((plan.drain[0].started, plan.drain[0].marked), (at(0), false));
}

#[test]
fn a_ready_victim_that_this_process_has_not_heard_is_drained() {
    let cluster = Cluster::manual(1).with_ready(2).shard(1, |shard| shard.report = None);
    let plan = run(&cluster, &victims(&cluster, 1, &[1]));
    assert!(plan.delete.is_empty());
    assert_eq!(drained(&plan), [("tools-1", DrainReason::ScaleIn)]);
}

#[test]
fn a_drain_ends_when_streams_and_requests_have_and_endpoints_have_followed() {
    let draining =
        |started: i64| Cluster::manual(1).with_ready(2).shard(1, |shard| shard.drain(DrainReason::ScaleIn, at(started)));
    assert_eq!(deleted(&run(&draining(-10), &size(1, 1))), [("tools-1", DeleteReason::Drained)]);
    assert!(run(&draining(-9), &size(1, 1)).is_empty(), "endpoints lag");
    let held = draining(-60).shard(1, |shard| shard.load(1, 0));
    assert!(run(&held, &size(1, 1)).is_empty(), "one stream left");
    let busy = draining(-60).shard(1, |shard| shard.report.as_mut().unwrap().report.in_flight = 1);
    assert!(run(&busy, &size(1, 1)).is_empty(), "one request left");
    let idle_sockets = draining(-60).shard(1, |shard| shard.report.as_mut().unwrap().report.connections = 7);
    assert_eq!(deleted(&run(&idle_sockets, &size(1, 1))), [("tools-1", DeleteReason::Drained)]);
}

#[test]
fn the_last_ready_shard_is_not_deleted_when_it_has_drained_until_another_is_ready_or_its_time_is_up() {
    let last = |started: i64| {
        Cluster::manual(1).with_ready(1).with_pending(1).shard(0, |shard| shard.drain(DrainReason::Eviction, at(started)))
    };
    assert_eq!(deleted(&run(&last(-60), &size(1, 1))), [], "clients are told to come back, and are not turned away");
    assert_eq!(deleted(&run(&last(-301), &size(1, 1))), [("tools-0", DeleteReason::DeadlineExceeded)]);
    let followed = Cluster::manual(1).with_ready(2).shard(0, |shard| shard.drain(DrainReason::Eviction, at(-60)));
    assert_eq!(deleted(&run(&followed, &size(1, 1))), [("tools-0", DeleteReason::Drained)]);
}

#[test]
fn a_report_from_before_the_drain_proves_nothing_and_the_call_is_repeated() {
    let cluster = Cluster::manual(1).with_ready(2).shard(1, |shard| {
        shard.drain(DrainReason::ScaleIn, at(-60));
        shard.report.as_mut().unwrap().at = at(-61);
    });
    let plan = run(&cluster, &size(1, 1));
    assert!(plan.delete.is_empty());
    let step = DrainStep { pod: pod(&cluster, 1), reason: DrainReason::ScaleIn, started: at(-60), marked: true };
    assert_eq!(plan.drain, [step]);
}

#[test]
fn a_shard_that_forgot_its_drain_is_told_again() {
    let cluster = Cluster::manual(1).with_ready(2).shard(1, |shard| {
        shard.drain(DrainReason::Rollout, at(-60));
        shard.report.as_mut().unwrap().report.draining = false;
    });
    assert_eq!(drained(&run(&cluster, &size(1, 1))), [("tools-1", DrainReason::Rollout)]);
}

#[test]
fn a_drain_is_cut_at_its_deadline_and_not_a_second_before() {
    let cluster = |started: i64| {
        Cluster::manual(1).with_ready(2).shard(1, |shard| {
            shard.drain(DrainReason::ScaleIn, at(started));
            shard.load(900, 0);
        })
    };
    assert!(run(&cluster(-300), &size(1, 1)).delete.is_empty());
    assert_eq!(deleted(&run(&cluster(-301), &size(1, 1))), [("tools-1", DeleteReason::DeadlineExceeded)]);
}

#[test]
fn a_shard_that_a_person_labelled_draining_is_drained_from_now_on() {
    let cluster = Cluster::manual(2).with_ready(3).shard(1, |shard| {
        shard.load(5, 0);
        shard.draining = Some(crate::stages::DrainMark::default());
    });
    let plan = run(&cluster, &size(2, 2));
    let step = DrainStep { pod: pod(&cluster, 1), reason: DrainReason::Eviction, started: at(0), marked: false };
    assert_eq!(plan.drain, [step]);
}

#[test]
fn a_draining_shard_whose_process_ended_is_deleted_at_once() {
    let cluster = Cluster::manual(1).with_ready(2).shard(1, |shard| {
        shard.drain(DrainReason::ScaleIn, at(-1));
        shard.load(900, 0);
        shard.container = Container::Terminated(Termination { started: Some(at(-80_000)), ..Termination::default() });
    });
    assert_eq!(deleted(&run(&cluster, &size(1, 1))), [("tools-1", DeleteReason::NotRunning)]);
}

#[test]
fn load_that_comes_back_cancels_the_drain_with_most_left_before_a_shard_is_created() {
    let cluster =
        Cluster::manual(4).with_ready(4).shard(1, |shard| shard.drain(DrainReason::ScaleIn, at(-20))).shard(2, |shard| {
            shard.drain(DrainReason::ScaleIn, at(-20));
            shard.load(300, 0);
        });
    let plan = run(&cluster, &size(3, 2));
    assert_eq!(plan.cancel, [pod(&cluster, 2)]);
    assert_eq!((plan.create.as_slice(), deleted(&plan)), (&[][..], vec![("tools-1", DeleteReason::Drained)]));
    let plan = run(&cluster, &size(5, 2));
    assert_eq!(plan.cancel, [pod(&cluster, 2), pod(&cluster, 1)], "a drained shard that is needed again is kept");
    assert_eq!((plan.create.as_slice(), plan.delete.len()), (&[4][..], 0));
}

#[test]
fn no_other_drain_is_cancelled_and_only_of_a_current_ready_shard() {
    for change in [
        (|shard| shard.drain(DrainReason::Recycle, at(-20))) as fn(&mut ObservedShard),
        |shard| shard.drain(DrainReason::Eviction, at(-20)),
        |shard| {
            shard.drain(DrainReason::ScaleIn, at(-20));
            outdate(shard);
        },
        |shard| {
            shard.drain(DrainReason::ScaleIn, at(-20));
            shard.ready = false;
        },
        |shard| {
            shard.drain(DrainReason::ScaleIn, at(-20));
            shard.terminating = Some(at(-1));
        },
    ] {
        let plan = run(&Cluster::manual(2).with_ready(2).shard(1, change), &size(2, 1));
        assert_eq!((plan.cancel.as_slice(), plan.create.as_slice()), (&[][..], &[2][..]));
    }
}

#[test]
fn a_lost_shard_is_taken_away_only_when_another_serves_in_its_place() {
    let lost = |shard: &mut ObservedShard| {
        shard.ready = false;
        shard.ready_changed = Some(at(-31));
    };
    let cluster = Cluster::manual(2).with_ready(2).shard(1, lost);
    let plan = run(&cluster, &size(2, 1));
    assert_eq!((plan.create.as_slice(), plan.drain.len(), plan.delete.len()), (&[2][..], 0, 0));
    let replaced = cluster.with_ready(1);
    assert_eq!(drained(&run(&replaced, &size(2, 2))), [("tools-1", DrainReason::Eviction)]);
    let crashed = replaced.shard(1, |shard| {
        shard.container = Container::Terminated(Termination { started: Some(at(-80_000)), ..Termination::default() });
    });
    assert_eq!(deleted(&run(&crashed, &size(2, 2))), [("tools-1", DeleteReason::NotRunning)]);
}

#[test]
fn a_shard_that_is_not_ready_or_not_heard_takes_nobodys_place() {
    let cluster = Cluster::manual(2).with_ready(3).shard(1, lost(31, 0));
    let unready = cluster.clone().shard(2, |shard| {
        shard.ready = false;
        shard.ready_changed = Some(at(-3));
    });
    assert!(run(&unready, &size(2, 2)).is_empty());
    assert!(run(&cluster.shard(2, |shard| shard.report = None), &size(2, 2)).is_empty());
}

/// Not Ready for a while, and last heard of a while ago.
fn lost(unready: i64, unheard: i64) -> impl Fn(&mut ObservedShard) {
    move |shard| {
        shard.ready = false;
        shard.ready_changed = Some(at(-unready));
        shard.report.as_mut().unwrap().at = at(-unheard);
    }
}

#[test]
fn what_a_lost_node_took_is_replaced_at_once_and_has_its_time_to_come_back() {
    let cluster = Cluster::manual(2).with_ready(2).shard(1, lost(1, 50));
    let plan = run(&cluster, &size(2, 1));
    assert_eq!((plan.create.as_slice(), plan.drain.len(), plan.delete.len()), (&[2][..], 0, 0));
    let replaced = cluster.with_ready(1);
    assert!(run(&replaced, &size(2, 2)).is_empty(), "its node may be back in a moment");
    let gone = replaced.shard(1, lost(31, 80));
    let plan = run(&gone, &size(2, 2));
    assert_eq!(deleted(&plan), [("tools-1", DeleteReason::Lost)], "no order would reach it");
    assert!(plan.drain.is_empty());
}

#[test]
fn a_drain_that_a_lost_node_interrupted_ends_with_the_pod() {
    let cluster = Cluster::manual(1).with_ready(2).shard(1, |shard| {
        shard.drain(DrainReason::ScaleIn, at(-60));
        shard.load(900, 0);
        lost(1, 50)(shard);
    });
    assert_eq!(deleted(&run(&cluster, &size(1, 1))), [("tools-1", DeleteReason::Lost)]);
    let told = cluster.shard(1, |shard| shard.terminating = Some(at(100)));
    assert!(run(&told, &size(1, 1)).is_empty(), "once is enough");
}

#[test]
fn a_shard_whose_kubelet_does_not_tell_it_to_end_is_told_by_us() {
    let told = |since: i64| {
        Cluster::manual(2).with_ready(3).shard(1, move |shard| {
            lost(60, 0)(shard);
            shard.terminating = Some(at(335 - since));
            shard.told_to_end = Some(at(-since));
        })
    };
    assert!(run(&told(14), &size(2, 2)).is_empty(), "its kubelet may be about to");
    let plan = run(&told(15), &size(2, 2));
    assert_eq!(drained(&plan), [("tools-1", DrainReason::Eviction)]);
    assert!(plan.drain[0].marked && plan.delete.is_empty(), "an order, and no write: the pod is being deleted already");
    let draining = told(15).shard(1, |shard| shard.report.as_mut().unwrap().report.draining = true);
    assert!(run(&draining, &size(2, 2)).is_empty());
    let cut_off = told(60).shard(1, |shard| shard.report.as_mut().unwrap().at = at(-50));
    assert!(run(&cut_off, &size(2, 2)).is_empty(), "nobody is there to be told");
}

#[test]
fn when_all_shards_are_lost_none_is_drained_and_pods_stop_at_twice_the_desired() {
    let lost = |shard: &mut ObservedShard| {
        shard.ready = false;
        shard.ready_changed = Some(at(-31));
    };
    let cluster = Cluster::manual(3).with_ready(3).each(lost);
    let plan = run(&cluster, &size(3, 0));
    assert_eq!((plan.create.as_slice(), plan.drain.len(), plan.delete.len()), (&[3, 4, 5][..], 0, 0));
    let worse = Cluster::manual(3).with_ready(6).each(lost);
    assert_eq!(run(&worse, &size(3, 0)).create, [6]);
    let at_the_end = Cluster::manual(3).with_ready(7).each(lost);
    assert!(run(&at_the_end, &size(3, 0)).is_empty());
}

#[test]
fn a_shard_deleted_by_someone_else_is_replaced_under_another_name_and_left_alone() {
    let cluster = Cluster::manual(2).with_ready(2).shard(0, |shard| shard.terminating = Some(at(-1)));
    let plan = run(&cluster, &size(2, 1));
    assert_eq!((plan.create.as_slice(), plan.drain.len(), plan.delete.len()), (&[2][..], 0, 0));
}

#[test]
fn of_few_shards_a_changed_template_replaces_one_at_a_time() {
    let cluster = Cluster::manual(3).with_ready(3).each(outdate);
    let plan = run(&cluster, &size(3, 3));
    assert_eq!((plan.create.as_slice(), plan.drain.len(), plan.delete.len()), (&[3][..], 0, 0));

    let starting = cluster.clone().with_pending(1);
    assert!(run(&starting, &size(3, 3)).is_empty(), "the new shard does not serve yet");

    let unheard = cluster.clone().with_ready(1).shard(3, |shard| shard.report = None);
    assert!(run(&unheard, &size(3, 3)).is_empty(), "the new shard has not reported");

    let surged = cluster.with_ready(1).shard(0, |shard| shard.load(9, 0)).shard(1, |shard| shard.load(2, 0));
    let surged = surged.shard(2, |shard| shard.load(5, 0));
    assert_eq!(drained(&run(&surged, &size(3, 3))), [("tools-1", DrainReason::Rollout)], "fewest streams first");

    let draining = surged.shard(1, |shard| shard.drain(DrainReason::Rollout, at(-20)));
    assert!(run(&draining, &size(3, 3)).is_empty(), "one drain at a time");
}

fn with_surge(cluster: Cluster, surge: i32) -> Cluster {
    let max_surge = Some(mcp_crds::portion::Portion::Count(surge));
    cluster.spec(|spec| spec.rollout = Some(mcp_crds::cluster::Rollout { max_surge }))
}

#[test]
fn as_many_are_replaced_at_a_time_as_the_surge_allows_and_pods_never_exceed_it() {
    let cluster = with_surge(Cluster::manual(5).with_ready(5).each(outdate), 3);
    assert_eq!(run(&cluster, &size(5, 5)).create, [5, 6, 7]);
    let two_serve = cluster.with_ready(2).with_pending(1);
    let plan = run(&two_serve, &size(5, 5));
    assert_eq!(drained(&plan), [("tools-0", DrainReason::Rollout), ("tools-1", DrainReason::Rollout)]);
    assert!(plan.create.is_empty(), "what drains is still there");
    let all_serve = two_serve.shard(7, |shard| *shard = crate::stages::fixture::ready(7));
    assert_eq!(run(&all_serve, &size(5, 5)).drain.len(), 3);
    let draining = all_serve.each(|shard| {
        if shard.index < 2 {
            shard.drain(DrainReason::Rollout, at(-5));
        }
    });
    assert_eq!(drained(&run(&draining, &size(5, 5))), [("tools-2", DrainReason::Rollout)], "three at a time");
    let one_is_gone = draining.shard(0, |shard| shard.terminating = Some(at(0))).shard(2, |shard| shard.load(5, 0));
    let next_too = one_is_gone.shard(7, |shard| shard.ready = false).shard(7, |shard| shard.ready_changed = Some(at(-1)));
    let plan = run(&next_too, &size(5, 5));
    assert_eq!((drained(&plan).len(), plan.create.len()), (0, 0), "a new one fails for a moment");
}

#[test]
fn a_rollout_makes_no_more_shards_than_are_left_to_replace() {
    let cluster = with_surge(Cluster::manual(5).with_ready(5).shard(4, outdate), 3);
    assert_eq!(run(&cluster, &size(5, 5)).create, [5]);
}

#[test]
fn an_old_shard_that_is_not_heard_still_serves_and_goes_first() {
    let cluster = Cluster::manual(3).with_ready(4).each(outdate).shard(3, |shard| shard.template_hash = None);
    let mut cluster = cluster.each(|shard| shard.report.as_mut().unwrap().at = at(-60));
    cluster.observed.shards[3] = crate::stages::fixture::ready(3);
    let cluster = cluster.shard(1, |shard| shard.report.as_mut().unwrap().at = at(0));
    assert_eq!(drained(&run(&cluster, &size(3, 3))), [("tools-0", DrainReason::Rollout)]);
    let mute = cluster.shard(3, |shard| shard.report = None);
    assert!(run(&mute, &size(3, 3)).is_empty(), "a new one that is not heard takes no place");
}

#[test]
fn a_template_that_crashes_somewhere_is_rolled_out_no_further() {
    let crashes = |shard: &mut ObservedShard| {
        shard.container = Container::Waiting { reason: "CrashLoopBackOff".into(), message: String::new() };
    };
    let cluster = with_surge(Cluster::manual(5).with_ready(5).each(outdate), 2).with_ready(1).with_pending(1);
    assert_eq!(run(&cluster, &size(5, 5)).drain.len(), 1);
    assert!(run(&cluster.shard(6, crashes), &size(5, 5)).is_empty());
}

#[test]
fn a_template_taken_back_keeps_what_has_not_drained_yet() {
    let cluster = Cluster::manual(3).with_ready(4).shard(3, outdate).shard(0, |shard| shard.drain(DrainReason::Rollout, at(-5)));
    let plan = run(&cluster, &size(3, 3));
    assert_eq!((plan.cancel, plan.create.len(), plan.drain.len()), (vec![pod(&cluster, 0)], 0, 0));
    let back = cluster.clone().shard(0, |shard| *shard = crate::stages::fixture::ready(0));
    assert_eq!(drained(&run(&back, &size(3, 3))), [("tools-3", DrainReason::Rollout)]);
    let no_place = cluster.shard(3, |shard| shard.template_hash = Some(crate::stages::fixture::TEMPLATE.into()));
    assert!(run(&no_place, &size(3, 3)).cancel.is_empty());
}

#[test]
fn the_last_step_of_a_rollout_is_the_last() {
    let cluster = Cluster::manual(2).with_ready(3).shard(0, outdate);
    assert_eq!(drained(&run(&cluster, &size(2, 2))), [("tools-0", DrainReason::Rollout)]);
    let done = cluster.shard(0, |shard| shard.drain(DrainReason::Rollout, at(-20)));
    assert_eq!(deleted(&run(&done, &size(2, 2))), [("tools-0", DeleteReason::Drained)]);
}

#[test]
fn a_rollout_freezes_while_the_new_shard_fails() {
    let failing = |shard: &mut ObservedShard| {
        shard.container = Container::Waiting { reason: "ImagePullBackOff".into(), message: "manifest unknown".into() };
    };
    let cluster = Cluster::manual(3).with_ready(3).each(outdate).with_pending(1).shard(3, failing);
    let plan = run(&cluster, &size(3, 3));
    assert!(plan.is_empty());
    // The template is corrected: what never served goes at once, and its successor comes.
    let corrected = cluster.shard(3, outdate);
    let plan = run(&corrected, &size(3, 3));
    assert_eq!((deleted(&plan), plan.create.len()), (vec![("tools-3", DeleteReason::NeverReady)], 0), "one after the other");
}

#[test]
fn a_rollout_does_not_take_a_serving_shard_while_too_few_serve() {
    let cluster = Cluster::manual(3).with_ready(4).shard(0, outdate).shard(1, outdate).shard(1, |shard| shard.ready = false);
    let cluster = cluster.shard(1, |shard| shard.ready_changed = Some(at(-5)));
    assert_eq!(
        drained(&run(&cluster, &size(3, 3))),
        [("tools-1", DrainReason::Rollout)],
        "the one that does not serve goes first"
    );
}

#[test]
fn a_rollout_waits_for_a_scale_out() {
    let cluster = Cluster::manual(3).with_ready(2).each(outdate);
    assert_eq!(run(&cluster, &size(3, 2)).create, [2], "the missing shard, and no surge");
}

#[test]
fn a_recycled_shard_is_drained_after_its_successor_serves() {
    let cluster = Cluster::manual(2).with_ready(2);
    let goes = vec![pod(&cluster, 1)];
    let decision = Decision { retiring: goes.clone(), recycles: goes, ..size(2, 1) };
    assert_eq!((run(&cluster, &decision).create.as_slice(), run(&cluster, &decision).drain.len()), (&[2][..], 0));
    let replaced = cluster.with_ready(1);
    let decision = Decision { create: 0, ..decision };
    assert_eq!(drained(&run(&replaced, &decision)), [("tools-1", DrainReason::Recycle)]);
}

#[test]
fn a_pod_that_ended_for_good_is_deleted_even_while_others_start() {
    let cluster = Cluster::manual(2).with_ready(1);
    let mut cluster = cluster;
    cluster.observed.shards.push(ObservedShard { phase: Phase::Succeeded, ..pending(1) });
    let plan = run(&cluster, &size(2, 1));
    assert_eq!((plan.create.as_slice(), deleted(&plan)), (&[1][..], vec![("tools-1", DeleteReason::Finished)]));
}
