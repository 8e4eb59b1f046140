//! Cases of knative/serving, `pkg/autoscaler/scaling/autoscaler_test.go` (Apache-2.0), as data: each names the test it is from.

use super::*;

/// `newTestAutoscaler`: rates of ten, a threshold of two, a minute.
fn test(target: f64) -> Spec {
    Spec { target, max_up_rate: 10.0, max_down_rate: 10.0, panic_threshold: 2.0, stable_window: 60 }
}

fn calm(target: f64) -> Kpa {
    Kpa::new(test(target), 1, 0)
}

#[test]
fn one_decision_is_as_in_upstreams_table() {
    let panicking = |target, max| Kpa { spec: test(target), panic_since: Some(-5), max_panic_pods: max };
    let with = |target, up, down| Kpa::new(Spec { max_up_rate: up, max_down_rate: down, ..test(target) }, 1, 0);
    // Test, autoscaler, ready pods, stable and panic concurrency, expected.
    let table = [
        ("AutoscalerNoDataAtZeroNoAutoscale", calm(10.0), 1, 0.0, 0.0, 0),
        ("AutoscalerStableModeUnlimitedTBC", calm(181.0), 1, 21.0, 26.0, 1),
        ("Autoscaler0TBC", calm(10.0), 1, 50.0, 49.0, 5),
        ("AutoscalerStableModeNoChange", calm(10.0), 1, 50.0, 50.0, 5),
        ("AutoscalerPanicStableLargerThanPanic", panicking(1.0, 5), 5, 50.0, 30.0, 50),
        ("AutoscalerPanicStableLessThanPanic", panicking(1.0, 5), 5, 20.0, 30.0, 30),
        ("AutoscalerStableModeNoChangeAlreadyScaled", calm(10.0), 5, 50.0, 50.0, 5),
        ("AutoscalerStableModeIncreaseWithSmallScaleUpRate", with(1.0, 1.1, 10.0), 2, 3.0, 3.1, 3),
        ("AutoscalerStableModeDecreaseWithSmallScaleDownRate", with(10.0, 10.0, 1.1), 100, 1.0, 1.0, 90),
        ("AutoscalerPanicModeDoublePodCount", calm(10.0), 1, 50.0, 100.0, 10),
        ("TestAutoscalerRateLimitScaleUp", calm(10.0), 1, 1000.0, 1001.0, 10),
        ("TestAutoscalerRateLimitScaleDown", calm(10.0), 100, 1.0, 1.0, 10),
        ("TestAutoscalerUseOnePodAsMinimumIfEndpointsNotFound", calm(10.0), 0, 1000.0, 888.0, 10),
        ("TestAutoscalerStableModeNoTrafficScaleToZero", calm(10.0), 1, 1.0, 0.0, 1),
    ];
    for (name, mut kpa, ready, stable, panic, expected) in table {
        assert_eq!(kpa.scale(ready, stable, panic, 0), expected, "{name}");
    }
}

#[test]
fn decisions_in_a_row_are_as_in_upstreams_tests() {
    // Seconds, ready pods, stable and panic concurrency, expected size, and since when it panics.
    type Step = (i64, i64, f64, f64, i64, Option<i64>);
    let stories: [(&str, f64, &[Step]); 7] = [
        (
            "TestAutoscalerStableModeIncreaseWithConcurrencyDefault",
            10.0,
            &[(0, 1, 50.0, 10.0, 5, None), (0, 1, 100.0, 10.0, 10, None)],
        ),
        (
            "TestAutoscalerUnpanicAfterSlowIncrease",
            1.0,
            &[(0, 10, 11.0, 25.0, 25, Some(0)), (30, 40, 30.0, 41.0, 41, Some(0)), (62, 55, 50.0, 56.0, 50, None)],
        ),
        ("TestAutoscalerExtendPanicWindow", 1.0, &[(0, 10, 11.0, 25.0, 25, Some(0)), (30, 40, 30.0, 80.0, 80, Some(30))]),
        ("TestAutoscalerStableModeDecrease", 10.0, &[(0, 8, 100.0, 100.0, 10, None), (0, 8, 50.0, 50.0, 5, None)]),
        (
            "TestAutoscalerPanicModeExponentialTrackAndStabilize",
            1.0,
            &[
                (0, 1, 6.0, 6.0, 6, Some(0)),
                (1, 6, 36.0, 36.0, 36, Some(1)),
                (2, 36, 216.0, 216.0, 216, Some(2)),
                (2, 216, 1296.0, 1296.0, 1296, Some(2)),
                (3, 1296, 1296.0, 1296.0, 1296, Some(2)),
            ],
        ),
        (
            "TestAutoscalerPanicThenUnPanicScaleDown",
            10.0,
            &[
                (0, 1, 100.0, 100.0, 10, Some(0)),
                (0, 10, 100.0, 1000.0, 100, Some(0)),
                (30, 10, 1.0, 1.0, 100, Some(0)),
                (61, 10, 1.0, 1.0, 1, None),
            ],
        ),
        ("TestAutoscalerRateLimitScaleDown", 10.0, &[(0, 100, 1.0, 1.0, 10, None), (0, 10, 1.0, 1.0, 1, None)]),
    ];
    for (name, target, steps) in stories {
        let mut kpa = calm(target);
        for (now, ready, stable, panic, expected, since) in steps {
            assert_eq!(kpa.scale(*ready, *stable, *panic, *now), *expected, "{name} at {now} s");
            assert_eq!(kpa.panic_since, *since, "{name} at {now} s");
        }
    }
}

#[test]
fn a_new_one_panics_where_more_than_one_pod_is_ready() {
    // TestStartInPanicMode
    for (ready, panics) in [(0, false), (1, false), (2, true)] {
        let kpa = Kpa::new(test(100.0), ready, 7);
        assert_eq!((kpa.panic_since, kpa.max_panic_pods), (panics.then_some(7), ready));
    }
}

#[test]
fn the_defaults_are_upstreams() {
    // config-autoscaler: target 70 %, stable window 60 s, panic window 10 % of it, panic threshold 200 %, rates 1000 and 2.
    let expected = Spec { target: 70.0, max_up_rate: 1000.0, max_down_rate: 2.0, panic_threshold: 2.0, stable_window: 60 };
    assert_eq!(Spec::new(100.0), expected);
    assert_eq!(TICK, 2);
}

#[test]
fn averages_are_of_a_minute_and_of_six_seconds() {
    let mut windows = Windows::default();
    assert_eq!(windows.averages(0), None);
    for now in 0..100 {
        windows.record(if now < 94 { 10.0 } else { 40.0 }, now);
    }
    assert_eq!(windows.averages(99), Some((13.0, 40.0)));
}
