//! Windows and averages of an observer, against the recordings themselves.

mod fixture;

use std::sync::Arc;

use fixture::{private_segment, scaled, Instrument, Random};
use otel_perf_core::hdr::Level;
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;
use otel_perf_core::observed::{Answer, Asked, Settings, Windows};
use otel_perf_core::segment::Segment;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
/// Any begin of a monotonic clock.
const BEGIN: u64 = 1234 * SECOND;

fn settings() -> Settings {
    Settings {
        windows: vec![1.0, 10.0, 60.0],
        taus: vec![10.0, 60.0],
        memory_limit: 4 << 20,
    }
}

fn windows(segment: &Arc<Segment>) -> Windows {
    Windows::new(Arc::clone(segment), settings())
}

fn asked(name: &str) -> Asked {
    Asked {
        name: name.to_owned(),
        ..Asked::default()
    }
}

fn window(windows: &Windows, name: &str, seconds: f64) -> Answer {
    windows.read(&asked(name), seconds).unwrap()
}

/// The exact percentile of `HdrHistogram`'s rank.
fn exact(values: &mut [f64], percentile: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (percentile / 100.0 * values.len() as f64 + 0.5) as usize;
    values[rank.clamp(1, values.len()) - 1]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(scaled(100) as u32))]

    #[test]
    fn percentiles_of_a_window_are_those_of_its_recordings_within_a_slot(
        rounds in prop::collection::vec(prop::collection::vec((0.0..20.0_f64).prop_map(|e| (e - 15.0).exp2()), 0..30), 1..120)
    ) {
        let segment = Arc::new(private_segment(16 << 20));
        let histogram = Instrument::new(&segment, Kind::Histogram, "h", "s");
        let series = histogram.series("a");
        let windows = windows(&segment);
        series.record(Number::Float(0.25));
        windows.tick(BEGIN);
        for (second, round) in rounds.iter().enumerate() {
            for value in round {
                series.record(Number::Float(*value));
            }
            windows.tick(BEGIN + (second as u64 + 1) * SECOND);
        }
        for seconds in [1.0, 10.0, 60.0] {
            let found = window(&windows, "h", seconds);
            prop_assert!(found.seconds <= seconds * 1.1 && found.seconds >= seconds.min(rounds.len() as f64) * 0.95);
            let in_window = &rounds[rounds.len() - found.seconds.round() as usize..];
            let mut values: Vec<f64> = in_window.iter().flatten().copied().collect();
            prop_assert_eq!(found.count, values.len() as f64);
            prop_assert!((found.sum - values.iter().sum::<f64>()).abs() < 1e-9);
            let distribution = found.distribution.unwrap();
            prop_assert_eq!(distribution.coarsest(), Level::Three);
            for percentile in [50.0, 90.0, 95.0, 99.0, 99.9, 100.0] {
                if values.is_empty() {
                    break;
                }
                let exact = exact(&mut values, percentile);
                let got = distribution.percentiles(&[percentile])[0];
                prop_assert!(got >= exact * (1.0 - 1e-9) && got <= exact * 1.001 + 1e-9, "{got} {exact}");
            }
        }
    }

    #[test]
    fn a_small_memory_costs_precision_and_no_recording_that_is_still_there(seed in any::<u64>()) {
        let segment = Arc::new(private_segment(16 << 20));
        let histogram = Instrument::new(&segment, Kind::Histogram, "h", "s");
        let all: Vec<_> = (0..40).map(|n| histogram.series(&n.to_string())).collect();
        let limit = 50_000;
        let windows = Windows::new(Arc::clone(&segment), Settings { memory_limit: limit, ..settings() });
        windows.tick(BEGIN);
        let mut random = Random(seed);
        for second in 1..=100_u64 {
            for series in &all {
                for _ in 0..10 {
                    series.record(Number::Float((random.below(400) as f64 / 40.0).exp2() * 1e-3));
                }
            }
            windows.tick(BEGIN + second * SECOND);
            prop_assert!(windows.statistics().memory <= limit);
        }
        let found = window(&windows, "h", 60.0);
        prop_assert!(found.seconds >= 57.0 || windows.statistics().lost_slices > 0);
        prop_assert_eq!(found.count, found.seconds.round() * 400.0);
        prop_assert!(windows.statistics().digits < 3.0);
    }
}

#[test]
fn what_was_recorded_before_the_observer_began_is_in_no_window_and_the_first_one_is_short() {
    let segment = Arc::new(private_segment(1 << 20));
    let counter = Instrument::new(&segment, Kind::Counter, "c", "").series("a");
    counter.add(Number::Int(100));
    let windows = windows(&segment);
    assert!(windows.read(&asked("c"), 10.0).is_none());
    windows.tick(BEGIN);
    let first = window(&windows, "c", 10.0);
    assert_eq!((first.seconds, first.count, first.rate()), (0.0, 0.0, 0.0));

    counter.add(Number::Int(6));
    windows.tick(BEGIN + 2 * SECOND);
    let second = window(&windows, "c", 10.0);
    assert_eq!((second.seconds, second.count, second.rate()), (2.0, 6.0, 3.0));
    assert!(second.distribution.is_none() && second.mean().is_none());
}

#[test]
fn an_idle_window_has_a_length_and_nothing_in_it() {
    let segment = Arc::new(private_segment(1 << 20));
    let series = Instrument::new(&segment, Kind::Histogram, "h", "s").series("a");
    let windows = windows(&segment);
    windows.tick(BEGIN);
    series.record(Number::Float(2.0));
    for second in 1..=5 {
        windows.tick(BEGIN + second * SECOND);
    }
    let idle = window(&windows, "h", 1.0);
    assert_eq!(
        (idle.seconds, idle.count, idle.rate(), idle.mean()),
        (1.0, 0.0, 0.0, None)
    );
    assert_eq!(window(&windows, "h", 10.0).mean(), Some(2.0));
}

#[test]
fn a_time_that_is_not_later_is_ignored() {
    let segment = Arc::new(private_segment(1 << 20));
    let counter = Instrument::new(&segment, Kind::Counter, "c", "").series("a");
    counter.add(Number::Int(1));
    let windows = windows(&segment);
    assert!(windows.tick(BEGIN));
    counter.add(Number::Int(7));
    assert!(!windows.tick(BEGIN) && !windows.tick(BEGIN - SECOND));
    assert!(windows.tick(BEGIN + SECOND));
    assert_eq!(window(&windows, "c", 1.0).count, 7.0);
    assert_eq!((windows.statistics().ticks, windows.statistics().ignored_ticks), (2, 2));
}

#[test]
fn a_late_tick_makes_a_window_as_long_as_it_was_late_and_averages_decay_by_it() {
    let segment = Arc::new(private_segment(1 << 20));
    let counter = Instrument::new(&segment, Kind::Counter, "c", "").series("a");
    counter.add(Number::Int(1));
    let windows = windows(&segment);
    windows.tick(BEGIN);
    for second in 1..=100 {
        counter.add(Number::Int(8));
        windows.tick(BEGIN + second * SECOND);
    }
    let (rate, mean) = windows.average(&asked("c"), 0).unwrap();
    assert!((rate.unwrap() - 8.0).abs() < 1e-9 && mean.is_none());

    windows.tick(BEGIN + 130 * SECOND);
    assert_eq!(window(&windows, "c", 1.0).seconds, 30.0);
    let (rate, _) = windows.average(&asked("c"), 0).unwrap();
    let unbiased = 8.0 * (1.0 - (-10.0_f64).exp()) * (-3.0_f64).exp() / (1.0 - (-13.0_f64).exp());
    assert!((rate.unwrap() - unbiased).abs() < 1e-9);
}

#[test]
fn a_tick_that_comes_a_little_early_does_not_make_a_window_longer() {
    let segment = Arc::new(private_segment(1 << 20));
    let counter = Instrument::new(&segment, Kind::Counter, "c", "").series("a");
    counter.add(Number::Int(1));
    let windows = windows(&segment);
    windows.tick(BEGIN);
    windows.tick(BEGIN + SECOND);
    windows.tick(BEGIN + 2 * SECOND - 40_000_000);
    assert_eq!(window(&windows, "c", 1.0).seconds, 0.96);
}

#[test]
fn averages_of_a_histogram_are_those_of_rate_and_values() {
    let segment = Arc::new(private_segment(1 << 20));
    let series = Instrument::new(&segment, Kind::Histogram, "h", "s").series("a");
    let other = Instrument::new(&segment, Kind::Histogram, "h", "s").series("b");
    let windows = windows(&segment);
    windows.tick(BEGIN);
    for second in 1..=20 {
        for _ in 0..3 {
            series.record(Number::Float(0.5));
        }
        other.record(Number::Float(4.5));
        windows.tick(BEGIN + second * SECOND);
    }
    let (rate, mean) = windows.average(&asked("h"), 1).unwrap();
    assert!((rate.unwrap() - 4.0).abs() < 1e-9 && (mean.unwrap() - 1.5).abs() < 1e-9);
}

#[test]
fn zeros_and_negative_values_are_seen_although_the_sum_stays() {
    let segment = Arc::new(private_segment(1 << 20));
    let series = Instrument::new(&segment, Kind::Histogram, "h", "s").series("a");
    let windows = windows(&segment);
    windows.tick(BEGIN);
    for second in 1..=6 {
        series.record(Number::Float(0.0));
        windows.tick(BEGIN + second * SECOND);
        assert_eq!(window(&windows, "h", 1.0).count, 1.0, "{second}");
    }
}

#[test]
fn series_of_one_name_are_merged_and_one_is_found_by_its_attributes() {
    let segment = Arc::new(private_segment(1 << 20));
    let histogram = Instrument::new(&segment, Kind::Histogram, "h", "s");
    let (a, b) = (histogram.series("a"), histogram.series("b"));
    let windows = windows(&segment);
    windows.tick(BEGIN);
    a.record(Number::Float(1.0));
    b.record(Number::Float(3.0));
    windows.tick(BEGIN + SECOND);
    let both = window(&windows, "h", 1.0).distribution.unwrap();
    assert_eq!((both.count(), both.min(), both.max()), (2, 1.0, 3.0));
    let one = Asked {
        attributes: segment.attribute_bytes(a.id()),
        ..asked("h")
    };
    assert_eq!(windows.read(&one, 1.0).unwrap().sum, 1.0);
    let nobody = Asked {
        scope: Some("nobody".to_owned()),
        ..asked("h")
    };
    assert!(windows.read(&nobody, 1.0).is_none());
    assert_eq!(windows.snapshot().len(), 2);
    assert_eq!(windows.distributions(a.stream().id, 1.0).len(), 2);
}

/// CPU of a tick over 1,000 series, printed: `cargo test --release --test observed -- --ignored --nocapture`.
#[test]
#[ignore = "a figure"]
#[allow(clippy::print_stdout)]
fn cost_of_a_tick() {
    for (segment_size, spread) in [
        (1 << 20, 0.5),
        (1 << 20, 1.0),
        (4 << 20, 0.5),
        (16 << 20, 0.5),
        (16 << 20, 1.0),
    ] {
        let segment = private_segment(segment_size);
        let histogram = Instrument::new(&segment, Kind::Histogram, "h", "s");
        let all: Vec<_> = (0..1000).map(|n| histogram.series(&n.to_string())).collect();
        let mut random = Random(7);
        for (limit, recordings) in [(1 << 20, 20), (64 << 20, 20), (1 << 20, 1), (1 << 20, 0)] {
            let settings = Settings {
                memory_limit: limit,
                ..settings()
            };
            let windows = Windows::new(Arc::clone(&segment), settings);
            windows.tick(BEGIN);
            let mut costs: Vec<u64> = (1..=100_u64)
                .map(|second| {
                    for series in &all {
                        for _ in 0..recordings {
                            series.record(Number::Float(random.lognormal(0.02, spread)));
                        }
                    }
                    let before = windows.statistics().cpu_ns;
                    windows.tick(BEGIN + second * SECOND);
                    windows.statistics().cpu_ns - before
                })
                .collect();
            let mean = costs.iter().sum::<u64>() / 100;
            costs.sort_unstable();
            let found = windows.statistics();
            println!(
                "segment {segment_size}, spread {spread}, limit {limit}, {recordings} recordings: mean {mean} ns, median {}, max {}; memory {} digits {} lost {} known {}",
                costs[50], costs[99], found.memory, found.digits, found.lost_slices, found.known
            );
        }
    }
}
