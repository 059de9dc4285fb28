//! Histograms as Prometheus has them: cumulative counts up to bounds, and the sparse buckets of native histograms.

use crate::distribution::{Distribution, Exponential, ExponentialBuckets};
use crate::metric::Shape;

/// Most and finest buckets of a native histogram whose metric states none: the defaults of an exponential histogram, and the finest schema.
const NATIVE_SIZE: usize = 160;
const SCHEMA_MAX: i32 = 8;
const SCHEMA_MIN: i32 = -4;
/// Runs of more empty buckets than this are left out, as Prometheus' client for Go does.
const GAP_MAX: i32 = 2;
/// Largest exponent of a power of two that is a number.
const EXPONENT_MAX: i32 = 1023;

/// Upper bounds but that of the last bucket, which is infinity, and the counts of all buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Classic {
    /// Upper bounds.
    pub bounds: Vec<f64>,
    /// Counts, not cumulative, one more than there are bounds.
    pub counts: Vec<u64>,
}

/// The classic buckets of a distribution. An exponential histogram gets bounds at powers of two, as long as its buckets end there, so that counts are
/// exact; values below zero are counted at zero, the lowest bound.
pub fn classic(shape: &Shape, distribution: &Distribution) -> Option<Classic> {
    match shape {
        Shape::Explicit { boundaries, .. } => Some(Classic {
            bounds: boundaries.clone(),
            counts: distribution.explicit(boundaries),
        }),
        Shape::Exponential {
            max_size, max_scale, ..
        } => Some(at_powers_of_two(&distribution.exponential(*max_size, *max_scale))),
        Shape::Sum { .. } | Shape::Gauge => None,
    }
}

fn at_powers_of_two(from: &Exponential) -> Classic {
    let step = 1_i64 << (-from.scale).clamp(0, 32);
    let finer = from.scale.max(0);
    let mut ends: Vec<(i64, u64)> = Vec::new();
    for (index, count) in (i64::from(from.positive.offset)..).zip(&from.positive.counts) {
        if *count == 0 {
            continue;
        }
        let end = ((index >> finer) + 1) * step;
        match ends.last_mut() {
            Some((last, counted)) if *last == end => *counted = counted.saturating_add(*count),
            _ => ends.push((end, *count)),
        }
    }
    let at_zero = from
        .negative
        .counts
        .iter()
        .fold(from.zero_count, |sum, count| sum.saturating_add(*count));
    let mut classic = Classic {
        bounds: vec![0.0],
        counts: vec![at_zero],
    };
    let mut rest = ends.into_iter().peekable();
    let mut end = rest.peek().map_or(0, |(end, _)| *end);
    // What is above the largest power that is a number is left to the last bucket.
    while rest.peek().is_some() && end <= i64::from(EXPONENT_MAX) {
        classic.bounds.push((end as f64).exp2());
        classic
            .counts
            .push(rest.next_if(|(known, _)| *known == end).map_or(0, |(_, count)| count));
        end += step;
    }
    classic
        .counts
        .push(rest.fold(0, |sum, (_, count)| sum.saturating_add(count)));
    classic
}

/// Sparse buckets of one sign.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sparse {
    /// Runs of buckets: distance from the end of the run before, of the first one its index, and length.
    pub spans: Vec<(i32, u32)>,
    /// Counts, each as the difference from the one before.
    pub deltas: Vec<i64>,
}

impl Sparse {
    fn of(buckets: &ExponentialBuckets) -> Sparse {
        let mut sparse = Sparse::default();
        let (mut before, mut next) = (0, 0);
        // Prometheus counts buckets by their upper bound, OpenTelemetry by their lower one.
        for (index, count) in (buckets.offset + 1..).zip(&buckets.counts) {
            if *count == 0 {
                continue;
            }
            let gap = index - next;
            match sparse.spans.last_mut() {
                Some((_, length)) if gap <= GAP_MAX => {
                    *length += gap as u32 + 1;
                    for _ in 0..gap {
                        sparse.deltas.push(-before);
                        before = 0;
                    }
                }
                _ => sparse.spans.push((gap, 1)),
            }
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            sparse.deltas.push(count - before);
            before = count;
            next = index + 1;
        }
        sparse
    }
}

/// A native histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct Native {
    /// Schema: buckets grow by `2^(2^-schema)`.
    pub schema: i32,
    /// Values of at most this magnitude are counted as zero: half of the unit in which the segment counts.
    pub zero_threshold: f64,
    /// Number of values that are zero.
    pub zero_count: u64,
    /// Buckets below zero.
    pub negative: Sparse,
    /// Buckets above zero.
    pub positive: Sparse,
}

/// The native histogram of a distribution; none if its buckets are coarser than Prometheus has them, which takes a view with very few buckets.
pub fn native(shape: &Shape, distribution: &Distribution) -> Option<Native> {
    let (size, scale) = match shape {
        Shape::Exponential {
            max_size, max_scale, ..
        } => (*max_size, (*max_scale).min(SCHEMA_MAX)),
        _ => (NATIVE_SIZE, SCHEMA_MAX),
    };
    let found = distribution.exponential(size, scale);
    (found.scale >= SCHEMA_MIN).then(|| Native {
        schema: found.scale,
        zero_threshold: 0.5 / distribution.per_one(),
        zero_count: found.zero_count,
        negative: Sparse::of(&found.negative),
        positive: Sparse::of(&found.positive),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Counts by index, as a scraper reads spans and deltas.
    fn read(sparse: &Sparse) -> Vec<(i32, u64)> {
        let mut deltas = sparse.deltas.iter();
        let (mut index, mut count, mut found) = (0, 0, Vec::new());
        for (offset, length) in &sparse.spans {
            index += offset;
            for _ in 0..*length {
                count += deltas.next().unwrap();
                found.push((index, count as u64));
                index += 1;
            }
        }
        assert!(deltas.next().is_none());
        found.retain(|(_, count)| *count > 0);
        found
    }

    proptest! {
        #[test]
        fn sparse_buckets_are_the_dense_ones_by_upper_bound(
            offset in -2000..2000_i32,
            counts in prop::collection::vec(prop_oneof![4 => Just(0), 1 => 1..1000_u64], 0..100),
        ) {
            let sparse = Sparse::of(&ExponentialBuckets { offset, counts: counts.clone() });
            let dense: Vec<_> = (offset + 1..).zip(counts).filter(|(_, count)| *count > 0).collect();
            prop_assert_eq!(read(&sparse), dense);
            prop_assert!(sparse.spans.iter().skip(1).all(|(gap, _)| *gap > GAP_MAX));
        }

        #[test]
        fn classic_buckets_of_an_exponential_histogram_lose_nothing(
            values in prop::collection::vec(prop_oneof![(-30.0..30.0_f64).prop_map(f64::exp2), Just(0.0)], 1..100),
            size in 2..200_usize,
        ) {
            let distribution = Distribution::of(values.iter().copied(), "", crate::hdr::Level::Three);
            let shape = Shape::Exponential { max_size: size, max_scale: 20, record_min_max: true, delta: false };
            let found = classic(&shape, &distribution).unwrap();
            prop_assert_eq!(found.counts.len(), found.bounds.len() + 1);
            prop_assert_eq!(found.counts.iter().sum::<u64>(), values.len() as u64);
            prop_assert!(found.bounds.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(found.bounds[1..].iter().all(|bound| bound.log2().fract() == 0.0));
        }
    }

    #[test]
    fn small_gaps_are_zeros_and_large_ones_spans() {
        let buckets = ExponentialBuckets {
            offset: -1,
            counts: vec![3, 0, 0, 5, 0, 0, 0, 1],
        };
        let sparse = Sparse::of(&buckets);

        assert_eq!(sparse.spans, [(0, 4), (3, 1)]);
        assert_eq!(sparse.deltas, [3, -3, 0, 5, -4]);
    }

    #[test]
    fn what_is_above_all_numbers_is_in_the_last_bucket() {
        let from = Exponential {
            scale: 0,
            zero_count: 2,
            positive: ExponentialBuckets {
                offset: 1021,
                counts: vec![1, 2, 4],
            },
            negative: ExponentialBuckets {
                offset: 0,
                counts: vec![8],
            },
        };
        let found = at_powers_of_two(&from);

        assert_eq!(found.bounds, [0.0, 2.0_f64.powi(1022), 2.0_f64.powi(1023)]);
        assert_eq!(found.counts, [10, 1, 2, 4]);
    }
}
