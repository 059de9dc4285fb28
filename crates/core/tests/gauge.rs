//! A gauge is read whole: value and type belong to the same setting, however often it is set meanwhile.

mod fixture;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fixture::{private_segment, scaled, Instrument};
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;

/// The value that the writer sets at its step `step`: even steps an even integer, odd ones a float with the fraction .5.
fn value_at(step: usize) -> Number {
    if step % 2 == 0 {
        Number::Int(2 * step as i64)
    } else {
        Number::Float(step as f64 + 0.5)
    }
}

/// The step at which this value was set; `None` for a value that never was.
fn step_of(value: Number) -> Option<usize> {
    let step = match value {
        Number::Int(value) => usize::try_from(value / 2).ok()?,
        Number::Float(value) => value as usize,
    };
    (value_at(step) == value).then_some(step)
}

/// Sets a gauge to the value of each step in one thread and hands every value that a scan sees to `check`; answers the number of
/// scans that saw none.
fn watch_settings(steps: usize, value_at: impl Fn(usize) -> Number + Sync, mut check: impl FnMut(Number)) -> usize {
    let segment = private_segment(128 << 10);
    let gauge = Instrument::new(&segment, Kind::Gauge, "temperature", "Cel");
    let series = gauge.series("one");
    series.set(value_at(0));
    let done = AtomicBool::new(false);
    let mut missing = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            (0..steps).for_each(|step| _ = series.set(value_at(step)));
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            match gauge.number("one") {
                Some(value) => check(value),
                None => missing += 1,
            }
        }
    });
    check(gauge.number("one").unwrap());
    missing
}

#[test]
fn a_scan_sees_only_values_that_were_set_and_in_their_order() {
    let steps = scaled(3_000_000);
    let mut last = 0;
    watch_settings(steps, value_at, |value| {
        let step = step_of(value);
        assert!(step.is_some_and(|step| step >= last), "{value:?} after step {last}");
        last = step.unwrap();
    });
    assert_eq!(last, steps - 1);
}

#[test]
fn a_gauge_that_was_set_is_in_every_scan_while_it_is_set_again() {
    let missing = watch_settings(scaled(3_000_000), |step| Number::Int(step as i64), |_| {});
    assert_eq!(missing, 0, "scans in which the gauge had no value");
}

#[test]
fn the_last_value_set_wins_whatever_its_type() {
    let segment = private_segment(128 << 10);
    let gauge = Instrument::new(&segment, Kind::Gauge, "temperature", "Cel");
    let series = gauge.series("one");
    for value in [
        Number::Int(-5),
        Number::Float(-0.25),
        Number::Int(i64::MAX),
        Number::Int(0),
        Number::Float(0.0),
    ] {
        series.set(value);
        assert_eq!(gauge.number("one"), Some(value));
    }
}
