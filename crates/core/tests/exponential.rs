//! Quantiles that a backend reads from the exponential buckets, against the recordings: within the bound that `Distribution::exponential` states.

use otel_perf_core::distribution::{Distribution, ExponentialBuckets};
use otel_perf_core::hdr::Level;
use proptest::prelude::*;

/// Half a slot, as a part of the value.
fn half_slot(level: Level) -> f64 {
    0.5 / f64::from(1_u32 << level.half_bits())
}

/// The value at a rank, counted from one: the harmonic mean of the ends of its bucket, which is off by the same part at both.
fn read_back(buckets: &ExponentialBuckets, scale: i32, rank: u64) -> f64 {
    let mut seen = 0;
    for (index, count) in buckets.counts.iter().enumerate() {
        seen += count;
        if seen >= rank {
            let base = (-f64::from(scale)).exp2().exp2();
            let low = (f64::from(buckets.offset + index as i32) * (-f64::from(scale)).exp2()).exp2();
            return 2.0 * low * base / (1.0 + base);
        }
    }
    panic!("no bucket holds rank {rank}");
}

/// Seconds around a fifth of a second, spread over about so many octaves.
fn durations(octaves: f64) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(
        (0.0..octaves).prop_map(move |e| 0.2 * (e - octaves / 2.0).exp2()),
        1..300,
    )
}

proptest! {
    #[test]
    fn quantiles_are_within_the_stated_bound(
        mut values in (0.1..18.0_f64).prop_flat_map(durations), size in 20..800_usize, level in 0..3_u32,
    ) {
        let level = Level::from_index(level).unwrap();
        let found = Distribution::of(values.iter().copied(), "s", level).exponential(size, 20);
        let base = (-f64::from(found.scale)).exp2().exp2();
        let bound = (1.0 + (base - 1.0) / (base + 1.0)) * (1.0 + half_slot(level)) - 1.0;
        values.sort_by(f64::total_cmp);
        prop_assert_eq!(found.zero_count, 0);
        for (index, exact) in values.iter().enumerate() {
            let error = read_back(&found.positive, found.scale, index as u64 + 1) / exact - 1.0;
            prop_assert!(error.abs() <= bound + 1e-6, "{error} {bound} at scale {}", found.scale);
        }
    }

    #[test]
    fn the_scale_is_the_finest_that_fits(values in durations(14.0), size in 20..400_usize) {
        let all = Distribution::of(values.iter().copied(), "s", Level::Three);
        let found = all.exponential(size, 20);
        prop_assert!(found.positive.counts.len() <= size);
        if found.scale < 8 {
            prop_assert!(all.exponential(10_000, found.scale + 1).positive.counts.len() > size);
        }
    }
}

#[test]
fn the_table_of_errors_is_right() {
    for (scale, bucket, three, two) in [
        (3, 4.33, 4.39, 4.74),
        (4, 2.17, 2.22, 2.57),
        (5, 1.09, 1.14, 1.48),
        (6, 0.55, 0.60, 0.94),
        (7, 0.28, 0.32, f64::NAN),
        (8, 0.14, 0.19, f64::NAN),
    ] {
        let base = (-f64::from(scale)).exp2().exp2();
        let of_bucket = (base - 1.0) / (base + 1.0);
        let with = |level| ((1.0 + of_bucket) * (1.0 + half_slot(level)) - 1.0) * 100.0;
        for (stated, exact) in [
            (bucket, of_bucket * 100.0),
            (three, with(Level::Three)),
            (two, with(Level::Two)),
        ] {
            assert!(
                stated.is_nan() || (exact <= stated && stated - exact < 0.02),
                "{scale}: {exact}"
            );
        }
    }
}
