//! Histograms of up-down counters and gauges: negative values have slots of their own, and shapes and quantiles hold on both sides of zero.

mod fixture;

use std::sync::Arc;

use fixture::{cumulative_points, exhaust_but, labelled, private_segment, scaled, viewed, Instrument, Random};
use otel_perf_core::distribution::{Distribution, ExponentialBuckets};
use otel_perf_core::hdr::Level;
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;
use otel_perf_core::layout::MINIMUM_SIZE;
use otel_perf_core::reader::{Preferences, Readers, Temporality, Value};
use otel_perf_core::segment::Segment;
use otel_perf_core::stream::Aggregation;
use otel_perf_core::tables::OVERFLOW_ATTRIBUTES;

const KINDS: [Kind; 2] = [Kind::UpDownCounter, Kind::Gauge];

fn hdr(significant_digits: u8) -> Aggregation {
    Aggregation::Hdr {
        significant_digits,
        quantiles: Vec::new(),
        window: 60.0,
    }
}

fn histogram(segment: &Arc<Segment>, kind: Kind, unit: &str, aggregation: Aggregation) -> Instrument {
    Instrument::of_stream(segment, &viewed(kind, "level", unit, 1, aggregation), 100, None)
}

/// Values of both signs over many octaves, zeros among them; all of one sign now and then.
fn values(random: &mut Random) -> Vec<f64> {
    let sides = random.below(4);
    (0..=random.below(200))
        .map(|_| {
            let magnitude = match random.below(8) {
                0 => 0.0,
                1 => random.below(1_000) as f64,
                _ => (random.fraction() * 40.0 - 10.0).exp2(),
            };
            match sides {
                0 => magnitude,
                1 => -magnitude,
                _ if random.below(2) == 0 => -magnitude,
                _ => magnitude,
            }
        })
        .collect()
}

/// What the segment holds of values of both signs is, slot by slot and with count, sum, minimum, maximum and precision, what the same
/// values are outside of it.
#[test]
fn both_sides_of_zero_are_kept_as_the_values_say() {
    let mut random = Random(7);
    for _ in 0..scaled(400) {
        let all = values(&mut random);
        for kind in KINDS {
            for (digits, level) in [(1, Level::OneHalf), (2, Level::Two), (3, Level::Three)] {
                let segment = private_segment(1 << 20);
                let instrument = histogram(&segment, kind, "Cel", hdr(digits));
                let series = instrument.series("one");
                for value in &all {
                    series.write(Number::Float(*value));
                }
                let found = instrument.distribution("one");
                let expected = Distribution::of(all.iter().copied(), "Cel", level);
                assert_eq!(found, expected);
                assert_eq!(found.percentiles(&[50.0, 99.0]), expected.percentiles(&[50.0, 99.0]));
            }
        }
    }
}

/// Values that have slots of their own are counted in the explicit buckets, and found by quantiles, exactly as if each were compared.
#[test]
fn buckets_and_quantiles_of_exact_slots_are_exact() {
    let mut random = Random(8);
    for _ in 0..scaled(300) {
        let segment = private_segment(1 << 20);
        let instrument = histogram(&segment, KINDS[random.below(2)], "{item}", hdr(3));
        let series = instrument.series("one");
        let mut all: Vec<i64> = (0..=random.below(300))
            .map(|_| random.below(2_000) as i64 - 1_000)
            .collect();
        for value in &all {
            series.write(Number::Int(*value));
        }
        let found = instrument.distribution("one");
        all.sort_unstable();

        let mut boundaries: Vec<f64> = (0..random.below(12))
            .map(|_| random.below(2_400) as f64 - 1_200.0)
            .collect();
        boundaries.sort_by(f64::total_cmp);
        boundaries.dedup();
        let mut counts = vec![0; boundaries.len() + 1];
        for value in &all {
            counts[boundaries.iter().filter(|boundary| **boundary < *value as f64).count()] += 1;
        }
        assert_eq!(found.explicit(&boundaries), counts, "{boundaries:?}");

        assert_eq!(found.sum(), Number::Int(all.iter().sum()));
        assert_eq!((found.min(), found.max()), (all[0] as f64, all[all.len() - 1] as f64));
        let wanted = [0.0, 1.0, 25.0, 50.0, 90.0, 99.9, 100.0];
        let exact = wanted.map(|percentile| {
            let rank = (percentile / 100.0 * all.len() as f64 + 0.5) as usize;
            all[rank.clamp(1, all.len()) - 1] as f64
        });
        assert_eq!(found.percentiles(&wanted), exact);
    }
}

/// A quantile of negative values is never too small, and at most one slot too large.
#[test]
fn quantiles_on_both_sides_are_the_exact_ones_up_to_one_slot() {
    let mut random = Random(10);
    for _ in 0..scaled(300) {
        let mut all = values(&mut random);
        for (digits, width) in [(1, 0.032), (2, 0.008), (3, 0.001)] {
            let segment = private_segment(1 << 20);
            let instrument = histogram(&segment, Kind::Gauge, "Cel", hdr(digits));
            let series = instrument.series("one");
            for value in &all {
                series.write(Number::Float(*value));
            }
            all.sort_by(f64::total_cmp);
            let found = instrument.distribution("one");
            for percentile in [0.0, 10.0, 50.0, 90.0, 100.0] {
                let rank = (percentile / 100.0 * all.len() as f64 + 0.5) as usize;
                let exact = all[rank.clamp(1, all.len()) - 1];
                let quantile = found.percentiles(&[percentile])[0];
                // Recordings are rounded to a ten-thousandth.
                let rounded = 0.5001e-4;
                let bounds = exact - rounded..=exact + exact.abs() * width + 1e-4;
                assert!(bounds.contains(&quantile), "{percentile} %: {quantile}, not {exact}");
            }
        }
    }
}

/// The bucket of each magnitude by the definition of the data model, `(base^i, base^(i+1)]`, with exact powers of two.
fn exponential_counts(magnitudes: impl Iterator<Item = f64>, scale: i32) -> ExponentialBuckets {
    let indices: Vec<i32> = magnitudes
        .map(|value| (value.log2() * f64::from(scale).exp2()).ceil() as i32 - 1)
        .collect();
    let Some(offset) = indices.iter().min().copied() else {
        return ExponentialBuckets::default();
    };
    let mut counts = vec![0; (indices.iter().max().unwrap() - offset) as usize + 1];
    for index in &indices {
        counts[(index - offset) as usize] += 1;
    }
    ExponentialBuckets { offset, counts }
}

/// The exponential histogram has the values of each sign in buckets of one common scale, which is as fine as the wider side allows.
#[test]
fn exponential_buckets_hold_on_both_sides() {
    let mut random = Random(9);
    for _ in 0..scaled(300) {
        let segment = private_segment(1 << 20);
        let instrument = histogram(&segment, KINDS[random.below(2)], "{item}", hdr(3));
        let series = instrument.series("one");
        let reach = [1 + random.below(1_000), 1 + random.below(1_000)];
        let all: Vec<i64> = (0..=random.below(300))
            .map(|_| match random.below(2) {
                0 => -(random.below(reach[0]) as i64),
                _ => random.below(reach[1]) as i64,
            })
            .collect();
        for value in &all {
            series.write(Number::Int(*value));
        }
        let size = [2, 5, 20, 160][random.below(4)];
        let found = instrument.distribution("one").exponential(size, 20);

        let above = || all.iter().filter(|value| **value > 0).map(|value| *value as f64);
        let below = || all.iter().filter(|value| **value < 0).map(|value| -*value as f64);
        assert_eq!(found.zero_count, all.iter().filter(|value| **value == 0).count() as u64);
        assert_eq!(found.positive, exponential_counts(above(), found.scale));
        assert_eq!(found.negative, exponential_counts(below(), found.scale));
        assert!(found.positive.counts.len() <= size && found.negative.counts.len() <= size);
        if found.scale < Level::Three.exponential_scale() && above().chain(below()).next().is_some() {
            let finer = [
                exponential_counts(above(), found.scale + 1),
                exponential_counts(below(), found.scale + 1),
            ];
            assert!(
                finer.iter().any(|side| side.counts.len() > size),
                "a finer scale fits too"
            );
        }
    }
}

/// An exponential histogram of negative values is no finer than their slots, although the other side has none.
#[test]
fn the_scale_of_negative_values_is_that_of_their_slots() {
    for (digits, level) in [(1, Level::OneHalf), (2, Level::Two), (3, Level::Three)] {
        let segment = private_segment(1 << 20);
        let instrument = histogram(&segment, Kind::Gauge, "Cel", hdr(digits));
        let series = instrument.series("one");
        (0..20).for_each(|step| _ = series.write(Number::Float(-20.0 - f64::from(step) / 100.0)));
        let found = instrument.distribution("one");
        assert_eq!(found.coarsest(), level);
        assert_eq!(found.exponential(160, 20).scale, level.exponential_scale());
    }
}

/// A delta reader gets of each interval the counts of both sides and the exact minimum and maximum.
#[test]
fn intervals_of_a_delta_reader_have_both_sides() {
    let segment = private_segment(1 << 20);
    let instrument = histogram(&segment, Kind::UpDownCounter, "By", hdr(3));
    let series = instrument.series("one");
    let mut readers = Readers::default();
    readers.add(1, Arc::new(Preferences::of(Temporality::Delta)));
    for (interval, explicit) in [
        (vec![-5_i64, 7, -100], [1, 1, 1]),
        (vec![-2, -3], [0, 2, 0]),
        (vec![40], [0, 0, 1]),
        (vec![-100, 0], [1, 1, 0]),
    ] {
        for value in &interval {
            series.write(Number::Int(*value));
        }
        let points = readers.collect(&segment, 1, 0);
        let Value::Distribution(found) = &points[0].value else {
            panic!("{points:?}");
        };
        assert_eq!(found.explicit(&[-50.0, 5.0]), explicit);
        assert_eq!(found.sum(), Number::Int(interval.iter().sum()));
        let (min, max) = (interval.iter().min().unwrap(), interval.iter().max().unwrap());
        assert_eq!((found.min(), found.max()), (*min as f64, *max as f64));
    }
    assert!(readers.collect(&segment, 1, 0).is_empty());
}

/// Threads that record on both sides at once lose no value of either.
#[test]
fn concurrent_recordings_of_both_signs_are_all_counted() {
    let segment = private_segment(1 << 20);
    let instrument = histogram(&segment, Kind::UpDownCounter, "By", hdr(3));
    let series = instrument.series("one");
    let steps = scaled(100_000) as i64;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let series = &series;
            scope
                .spawn(move || (1..=steps).for_each(|step| _ = series.write(Number::Int(step * (thread % 2 * 2 - 1)))));
        }
    });
    let found = instrument.distribution("one");
    let of = |signs: &[i64]| -> Distribution {
        let values = signs
            .iter()
            .flat_map(|sign| (1..=steps).map(move |step| (step * sign) as f64));
        Distribution::of(values, "By", Level::Three)
    };
    assert_eq!(found.slots(), of(&[1, 1, -1, -1]).slots());
    let sides = found.explicit(&[0.0]);
    assert_eq!(sides, [2 * steps as u64, 2 * steps as u64]);
    assert_eq!(
        (found.sum(), found.min(), found.max()),
        (Number::Int(0), -steps as f64, steps as f64)
    );
}

/// Negative values that find no page go, with their sum and range, into the overflow series, which keeps them on their side.
#[test]
fn negative_values_without_room_go_to_the_overflow_series() {
    let segment = private_segment(MINIMUM_SIZE);
    let instrument = histogram(&segment, Kind::Gauge, "By", hdr(3));
    let series = instrument.series("one");
    series.write(Number::Int(-3));
    // The overflow series has its cells, but neither has a page for another octave.
    instrument.overflow.write(Number::Int(-3));
    exhaust_but(&segment, 0);
    let values = [-5_000, 2_000, -70_000, 1_000_000, -5_001];
    for value in &values {
        series.write(Number::Int(*value));
    }
    let mut found = instrument.distributions();
    let own = found.remove(&labelled("one")).unwrap();
    assert_eq!((own.count(), own.min(), own.max()), (1, -3.0, -3.0));
    let overflow = found.remove(OVERFLOW_ATTRIBUTES).unwrap();
    assert_eq!(overflow.explicit(&[-10_000.0, -4.0, 0.0]), [1, 2, 1, 2]);
    assert_eq!(overflow.sum(), Number::Int(values.iter().sum::<i64>() - 3));
    assert_eq!((overflow.min(), overflow.max()), (-70_000.0, 1_000_000.0));
    assert_eq!(overflow.coarsest(), Level::Octave);
    assert_eq!(cumulative_points(&segment).len(), 2);
}

/// Only kinds whose values may be negative pay for the second side.
#[test]
fn histograms_of_other_kinds_have_one_side() {
    let headers = |kind| {
        let segment = private_segment(1 << 20);
        let instrument = histogram(&segment, kind, "By", hdr(3));
        instrument.series("one");
        let usage = segment.memory_usage();
        usage.into_iter().find(|(name, _)| *name == "histograms").unwrap().1
    };
    assert_eq!(headers(Kind::Counter), headers(Kind::Histogram));
    for kind in KINDS {
        assert_eq!(headers(kind), 2 * headers(Kind::Histogram));
    }
}
