//! Cases of kubernetes/kubernetes, `pkg/controller/podautoscaler/replica_calculator_test.go` and `horizontal_test.go`
//! (Apache-2.0), as data: each row names the test it is from.

use super::Sample::{Ignored, Missing, Ready, Unready};
use super::*;

/// The tests of resources have two containers in each pod, each with the level and the request of the table.
fn cpu(percent: i64) -> Target {
    Target::Utilization { percent, request: 2000 }
}

fn pods(levels: &[i64], unready: usize, missing: usize, ignored: usize) -> Vec<Sample> {
    let other = [(Unready, unready), (Missing, missing), (Ignored, ignored)];
    let ready = levels.iter().map(|level| Ready(*level));
    ready.chain(other.into_iter().flat_map(|(sample, count)| std::iter::repeat_n(sample, count))).collect()
}

#[test]
fn a_resource_asks_for_what_upstreams_table_says() {
    // Test, current, levels of a container of the counted pods, unready, missing, ignored, target, expected.
    type Case = (&'static str, i64, &'static [i64], usize, usize, usize, i64, i64);
    let table: &[Case] = &[
        ("TestReplicaCalcScaleUp", 3, &[300, 500, 700], 0, 0, 0, 30, 5),
        ("TestReplicaCalcScaleUpUnreadyLessScale", 3, &[500, 700], 1, 0, 0, 30, 4),
        ("TestReplicaCalcScaleUpHotCpuLessScale", 3, &[500, 700], 1, 0, 0, 30, 4),
        ("TestReplicaCalcScaleUpUnreadyNoScale", 3, &[400], 2, 0, 0, 30, 3),
        ("TestReplicaCalcScaleHotCpuNoScale", 3, &[400], 2, 0, 0, 30, 3),
        ("TestReplicaCalcScaleUpIgnoresFailedPods", 2, &[500, 700], 0, 0, 2, 30, 4),
        ("TestReplicaCalcScaleUpIgnoresDeletionPods", 2, &[500, 700], 0, 0, 2, 30, 4),
        ("TestReplicaCalcScaleDown", 5, &[100, 300, 500, 250, 250], 0, 0, 0, 50, 3),
        ("TestReplicaCalcScaleDownIncludeUnreadyPods", 5, &[100, 300, 500], 2, 0, 0, 50, 2),
        ("TestReplicaCalcScaleDownExcludeUnscheduledPods", 5, &[100], 4, 0, 0, 50, 1),
        ("TestReplicaCalcScaleDownIgnoreHotCpuPods", 5, &[100, 300, 500], 2, 0, 0, 50, 2),
        ("TestReplicaCalcScaleDownIgnoresFailedPods", 5, &[100, 300, 500, 250, 250], 0, 0, 2, 50, 3),
        ("TestReplicaCalcScaleDownIgnoresDeletionPods", 5, &[100, 300, 500, 250, 250], 0, 0, 2, 50, 3),
        ("TestReplicaCalcTolerance", 3, &[1010, 1030, 1020], 0, 0, 0, 100, 3),
        ("TestReplicaCalcMissingMetrics", 4, &[400, 95], 0, 2, 0, 100, 3),
        ("TestReplicaCalcMissingMetricsNoChangeEq", 2, &[1000], 0, 1, 0, 100, 2),
        ("TestReplicaCalcMissingMetricsNoChangeGt", 2, &[1900], 0, 1, 0, 100, 2),
        ("TestReplicaCalcMissingMetricsNoChangeLt", 2, &[600], 0, 1, 0, 100, 2),
        ("TestReplicaCalcMissingMetricsUnreadyChange", 3, &[450], 1, 1, 0, 50, 3),
        ("TestReplicaCalcMissingMetricsHotCpuNoChange", 3, &[450], 1, 1, 0, 50, 3),
        ("TestReplicaCalcMissingMetricsUnreadyScaleUp", 3, &[2000], 1, 1, 0, 50, 4),
        ("TestReplicaCalcMissingMetricsHotCpuScaleUp", 3, &[2000], 1, 1, 0, 50, 4),
        ("TestReplicaCalcMissingMetricsUnreadyScaleDown", 4, &[100, 100], 1, 1, 0, 50, 3),
        ("TestReplicaCalcDuringRollingUpdateWithMaxSurge", 2, &[100, 100], 0, 1, 0, 50, 2),
    ];
    for (test, current, levels, unready, missing, ignored, target, expected) in table {
        let levels: Vec<_> = levels.iter().map(|level| level * 2).collect();
        let asked = replicas(*current, &pods(&levels, *unready, *missing, *ignored), cpu(*target));
        assert_eq!(asked, Ok(*expected), "{test}");
    }
}

#[test]
fn a_metric_of_pods_asks_for_what_upstreams_table_says() {
    // Readiness does not matter to it.
    let table: &[(&str, i64, &[i64], i64, i64)] = &[
        ("TestReplicaCalcScaleUpCM", 3, &[20_000, 10_000, 30_000], 15_000, 4),
        ("TestReplicaCalcScaleUpCMUnreadyHotCpuNoLessScale", 3, &[50_000, 10_000, 30_000], 15_000, 6),
        ("TestReplicaCalcScaleUpCMUnreadyHotCpuScaleWouldScaleDown", 3, &[50_000, 15_000, 30_000], 15_000, 7),
        ("TestReplicaCalcScaleDownCM", 5, &[12_000; 5], 20_000, 3),
        ("TestReplicaCalcToleranceCM", 3, &[20_000, 21_000, 21_000], 20_000, 3),
    ];
    for (test, current, levels, target, expected) in table {
        assert_eq!(replicas(*current, &pods(levels, 0, 0, 0), Target::Average(*target)), Ok(*expected), "{test}");
    }
}

#[test]
fn without_any_metric_there_is_no_answer() {
    // TestReplicaCalcEmptyMetrics
    assert_eq!(replicas(4, &pods(&[], 0, 4, 0), cpu(100)), Err(NoMetrics));
}

#[test]
fn the_smallest_step_down_that_the_tolerance_allows() {
    // TestReplicaCalcComputedToleranceAlgImplementation: ten pods of 150 m, of 300 m each requested, targets of 56 % and 55 %.
    let target = |percent| Target::Utilization { percent, request: 300 };
    assert_eq!(replicas(10, &pods(&[150; 10], 0, 0, 0), target(56)), Ok(9));
    assert_eq!(replicas(10, &pods(&[150; 10], 0, 0, 0), target(55)), Ok(10));
}

#[test]
fn rates_limit_as_upstreams_table_says() {
    // TestScalingWithRules: rate, events of 120 s, bounds, current, asked, expected. No minimum is a minimum of 1.
    type Case = (&'static str, Rate, i64, (i64, i64), i64, i64, i64);
    let percent = |value| Rate::Percent { value, period: 120 };
    let number = |value| Rate::Pods { value, period: 120 };
    #[rustfmt::skip]
    let table: &[Case] = &[
        ("scaleUp with currentReplicas limitation with a lot of recent scale up events", number(5), 15, (1, 1000), 100, 500, 100),
        ("scaleUp with rate.Pods limitation with rate.PeriodSeconds", number(150), 15, (1, 1000), 100, 500, 235),
        ("scaleUp with rate.Percent limitation with rate.PeriodSeconds", percent(200), 15, (1, 1000), 100, 500, 255),
        ("scaleDown with spec MinReplicas=nil limitation with large rate.Pods", number(115), -15, (1, 1000), 100, 0, 1),
        ("scaleDown with spec MinReplicas limitation with large rate.Pods", number(130), -15, (5, 1000), 100, 0, 5),
        ("scaleDown with spec MinReplicas limitation with large rate.Percent", percent(100), -15, (5, 1000), 100, 2, 5),
        ("scaleDown with rate.Pods limitation with PeriodSeconds usage", number(5), -15, (1, 1000), 100, 2, 100),
        ("scaleDown with rate.Percent limitation with PeriodSeconds usage", percent(50), -12, (1, 1000), 100, 0, 56),
        ("scaleDown with currentReplicas limitation with PeriodSeconds usage", percent(10), -30, (1, 1000), 100, 0, 100),
        ("scaleDown below zero", percent(1000), -30, (1, 1000), 10, 5, 5),
    ];
    for (test, rate, recent, bounds, current, asked, expected) in table {
        let changed = |period: i64| {
            assert_eq!(period, 120);
            ((*recent).max(0), (-recent).max(0))
        };
        assert_eq!(limited(*current, *asked, *bounds, (&[*rate], &[*rate]), changed), *expected, "{test}");
    }
}

#[test]
fn by_default_it_doubles_or_adds_four_and_goes_down_by_the_highest_of_five_minutes() {
    // autoscaling/v2 defaults.go: 4 pods or 100 % in 15 s, no window up; 100 % in 15 s and 300 s down.
    let mut hpa = Hpa::settled(3, 0);
    assert_eq!(hpa.decide(3, &[Ok(100)], (1, 1000), 15), 7, "three and four");
    assert_eq!(hpa.decide(7, &[Ok(100)], (1, 1000), 29), 7, "spent");
    assert_eq!(hpa.decide(7, &[Ok(100)], (1, 1000), 30), 14, "doubled");
    assert_eq!(hpa.decide(14, &[Ok(2)], (1, 1000), 329), 14, "100 was asked for 299 s ago");
    assert_eq!(hpa.decide(14, &[Ok(2)], (1, 1000), 330), 2);
}

#[test]
fn a_tenth_is_tolerated_and_no_more() {
    let average = |value| replicas(10, &pods(&[value; 10], 0, 0, 0), Target::Average(1000));
    assert_eq!([average(1099), average(1101), average(901), average(899)], [Ok(10), Ok(12), Ok(10), Ok(9)]);
}

#[test]
fn a_failed_metric_forbids_to_scale_in_but_not_out() {
    let mut hpa = Hpa::settled(5, -1000);
    assert_eq!(hpa.decide(5, &[Ok(2), Err(NoMetrics)], (1, 10), 0), 5);
    assert_eq!(hpa.decide(5, &[Ok(7), Err(NoMetrics)], (1, 10), 15), 7);
    assert_eq!(hpa.decide(7, &[Err(NoMetrics)], (1, 10), 30), 7);
}

#[test]
fn it_looks_every_fifteen_seconds() {
    assert_eq!(SYNC_PERIOD, 15);
}
