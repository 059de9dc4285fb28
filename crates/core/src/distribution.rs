//! A histogram taken out of the segment: percentiles, differences, merges, ladder steps, and the exported shapes.

use crate::hdr::{to_units, units_per_one, Level, Slot, MAX_VALUE};
use crate::lane::Number;

/// Counts by slot with exact count, sum, minimum and maximum.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Non-empty slots in the order of [`Slot`].
    slots: Vec<(Slot, u64)>,
    count: u64,
    sum: Number,
    min: f64,
    max: f64,
    per_one: f64,
    coarsest: Level,
}

/// Buckets of an OpenTelemetry exponential histogram for positive values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exponential {
    /// Scale: bucket `i` holds the values in `(base^i, base^(i+1)]` with base `2^(2^-scale)`.
    pub scale: i32,
    /// Number of values that are zero.
    pub zero_count: u64,
    /// Index of the first bucket.
    pub offset: i32,
    /// Counts from that bucket on.
    pub counts: Vec<u64>,
}

impl Distribution {
    /// A distribution from its parts; `slots` are in the order of [`Slot`].
    pub fn new(slots: Vec<(Slot, u64)>, coarsest: Level, sum: Number, range: (f64, f64), per_one: f64) -> Distribution {
        let count = slots.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        Distribution {
            slots,
            count,
            sum,
            min: range.0,
            max: range.1,
            per_one,
            coarsest,
        }
    }

    /// A distribution of the given values, as the segment would keep them; for tests and conversions.
    pub fn of(values: impl IntoIterator<Item = f64>, unit: &str, level: Level) -> Distribution {
        let per_one = units_per_one(unit);
        let mut all = Distribution::new(
            Vec::new(),
            level,
            Number::Float(0.0),
            (f64::INFINITY, f64::NEG_INFINITY),
            per_one,
        );
        let mut counts = std::collections::BTreeMap::new();
        for value in values {
            *counts.entry(Slot::of(to_units(value, per_one), level)).or_insert(0) += 1;
            all.count += 1;
            all.sum = all.sum.plus(Number::Float(value));
            all.min = all.min.min(value);
            all.max = all.max.max(value);
        }
        all.slots = counts.into_iter().collect();
        all
    }

    /// Number of recordings.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sum of the recordings; an integer if all of them were.
    pub fn sum(&self) -> Number {
        self.sum
    }

    /// Smallest recording, infinity if there is none.
    pub fn min(&self) -> f64 {
        self.min
    }

    /// Largest recording, negative infinity if there is none.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// The coarsest ladder step in use.
    pub fn coarsest(&self) -> Level {
        self.coarsest
    }

    /// The non-empty slots.
    pub fn slots(&self) -> &[(Slot, u64)] {
        &self.slots
    }

    /// Integer units per unit of the instrument.
    pub fn per_one(&self) -> f64 {
        self.per_one
    }

    /// The same recordings with another minimum and maximum.
    #[must_use]
    pub fn with_range(mut self, range: (f64, f64)) -> Distribution {
        (self.min, self.max) = range;
        self
    }

    /// Values at the percentiles `wanted` (0 to 100), in the instrument's unit; NaN for an empty distribution.
    ///
    /// The rank is `HdrHistogram`'s: the value below which `percentile` per cent of the recordings lie, rounded to the nearest
    /// recording. The answer is the largest value its slot counts, but not beyond the exact maximum, so it is never too
    /// small and at most one slot too large.
    pub fn percentiles(&self, wanted: &[f64]) -> Vec<f64> {
        let mut by_value: Vec<(u64, u64)> = self.slots.iter().map(|(slot, n)| (slot.highest(), *n)).collect();
        // Within an octave the steps of the ladder overlap, so that the order of slots is not that of values.
        by_value.sort_unstable();
        wanted
            .iter()
            .map(|percentile| {
                let rank = (percentile.clamp(0.0, 100.0) / 100.0 * self.count as f64 + 0.5) as u64;
                let rank = rank.clamp(1, self.count.max(1));
                let mut seen = 0;
                let found = by_value.iter().find(|(_, count)| {
                    seen = count.saturating_add(seen);
                    seen >= rank
                });
                found.map_or(f64::NAN, |(highest, _)| {
                    self.within_range(*highest as f64 / self.per_one)
                })
            })
            .collect()
    }

    fn within_range(&self, value: f64) -> f64 {
        if self.min <= self.max {
            value.clamp(self.min, self.max)
        } else {
            value
        }
    }

    /// The recordings made since `earlier`, a snapshot of the same histogram. Minimum and maximum are those of the slots, that is,
    /// within one slot of the exact ones.
    #[must_use]
    pub fn minus(&self, earlier: &Distribution) -> Distribution {
        let mut before = earlier.slots.iter().peekable();
        let mut slots = Vec::new();
        for (slot, count) in &self.slots {
            while before.peek().is_some_and(|(theirs, _)| theirs < slot) {
                before.next();
            }
            let already = before
                .peek()
                .filter(|(theirs, _)| theirs == slot)
                .map_or(0, |(_, n)| *n);
            if *count > already {
                slots.push((*slot, count - already));
            }
        }
        let unit = |units: u64| units as f64 / self.per_one;
        let lowest = slots.iter().map(|(slot, _)| slot.lowest()).min();
        let highest = slots.iter().map(|(slot, _)| slot.highest()).max();
        let range = (
            lowest.map_or(f64::INFINITY, |units| self.within_range(unit(units))),
            highest.map_or(f64::NEG_INFINITY, |units| self.within_range(unit(units))),
        );
        Distribution::new(slots, self.coarsest, self.sum.minus(earlier.sum), range, self.per_one)
    }

    /// The recordings of both, slot by slot. Both must be in the same integer units; `None` otherwise.
    pub fn merge(&self, other: &Distribution) -> Option<Distribution> {
        if self.per_one != other.per_one {
            return None;
        }
        let mut counts: std::collections::BTreeMap<Slot, u64> = self.slots.iter().copied().collect();
        for (slot, count) in &other.slots {
            add(counts.entry(*slot).or_insert(0), *count);
        }
        Some(Distribution::new(
            counts.into_iter().collect(),
            self.coarsest.max(other.coarsest),
            self.sum.plus(other.sum),
            (self.min.min(other.min), self.max.max(other.max)),
            self.per_one,
        ))
    }

    /// The same recordings at a coarser ladder step; exact, because a step merges whole slots.
    #[must_use]
    pub fn coarsened(&self, level: Level) -> Distribution {
        let mut counts = std::collections::BTreeMap::new();
        for (slot, count) in &self.slots {
            add(counts.entry(slot.coarsened(level)).or_insert(0), *count);
        }
        Distribution {
            slots: counts.into_iter().collect(),
            coarsest: self.coarsest.max(level),
            ..self.clone()
        }
    }

    /// Counts by explicit bucket: one more than there are `boundaries`, bucket `i` up to and including boundary `i`.
    ///
    /// A slot that a boundary cuts counts in the bucket below it, so that values equal to a boundary are always counted
    /// where the data model wants them; values above a boundary by less than one slot are counted below it too.
    pub fn explicit(&self, boundaries: &[f64]) -> Vec<u64> {
        let mut counts = vec![0; boundaries.len() + 1];
        // Rounded like the recordings, so that a recording equal to a boundary compares equal.
        let round = |boundary: f64| {
            let units = boundary * self.per_one;
            if (0.0..MAX_VALUE as f64).contains(&units) {
                to_units(boundary, self.per_one) as f64
            } else {
                units
            }
        };
        let units: Vec<f64> = boundaries.iter().copied().map(round).collect();
        for (slot, count) in &self.slots {
            let lowest = slot.lowest() as f64;
            add(
                &mut counts[units.partition_point(|boundary| *boundary < lowest)],
                *count,
            );
        }
        counts
    }

    /// The exponential histogram with at most `max_size` buckets at the finest scale that fits, but not finer than `max_scale` nor than
    /// the slots are. A slot counts in the bucket of its middle.
    pub fn exponential(&self, max_size: usize, max_scale: i32) -> Exponential {
        let mut zero_count = 0;
        let mut values = Vec::with_capacity(self.slots.len());
        for (slot, count) in &self.slots {
            if slot.highest() == 0 {
                add(&mut zero_count, *count);
            } else {
                values.push((self.within_range(slot.middle() / self.per_one), *count));
            }
        }
        // A recording below half a unit counts as zero, and so does an exact minimum of zero within a coarse slot.
        values.retain(|(value, count)| {
            let zero = *value <= 0.0;
            if zero {
                add(&mut zero_count, *count);
            }
            !zero
        });
        let mut scale = max_scale.min(self.coarsest.exponential_scale());
        let limits = values.iter().fold(None, |limits: Option<(f64, f64)>, (value, _)| {
            let (low, high) = limits.unwrap_or((*value, *value));
            Some((low.min(*value), high.max(*value)))
        });
        let Some((low, high)) = limits else {
            return Exponential {
                scale: 0,
                zero_count,
                offset: 0,
                counts: Vec::new(),
            };
        };
        let size = max_size.max(2) as i64;
        while i64::from(bucket_of(high, scale)) - i64::from(bucket_of(low, scale)) >= size {
            scale -= 1;
        }
        let offset = bucket_of(low, scale);
        let mut counts = vec![0; (bucket_of(high, scale) - offset) as usize + 1];
        for (value, count) in values {
            add(&mut counts[(bucket_of(value, scale) - offset) as usize], count);
        }
        Exponential {
            scale,
            zero_count,
            offset,
            counts,
        }
    }
}

/// Adds counts, which a damaged segment may hold beyond what can be counted.
fn add(count: &mut u64, more: u64) {
    *count = count.saturating_add(more);
}

/// Index of the exponential bucket that holds `value` (OpenTelemetry metrics data model, "Exponential buckets").
fn bucket_of(value: f64, scale: i32) -> i32 {
    (value.log2() * f64::from(scale).exp2()).ceil() as i32 - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec((0.0_f64..30.0).prop_map(|e| (e - 15.0).exp2()), 1..200)
    }

    proptest! {
        #[test]
        fn percentiles_are_the_exact_ones_up_to_one_slot(mut values in values()) {
            let all = Distribution::of(values.iter().copied(), "s", Level::Three);
            values.sort_by(f64::total_cmp);
            for percentile in [0.0, 50.0, 90.0, 99.0, 99.9, 100.0] {
                let rank = ((percentile / 100.0 * values.len() as f64 + 0.5) as usize).clamp(1, values.len());
                let exact = values[rank - 1];
                let found = all.percentiles(&[percentile])[0];
                prop_assert!(found >= exact * (1.0 - 1e-12) && found <= exact * 1.001 + 1e-9, "{found} {exact}");
            }
        }

        #[test]
        fn explicit_buckets_hold_every_recording(values in values()) {
            let all = Distribution::of(values.iter().copied(), "s", Level::Three);
            let counts = all.explicit(&[0.001, 0.01, 0.1, 1.0, 10.0]);
            prop_assert_eq!(counts.iter().sum::<u64>(), values.len() as u64);
        }

        #[test]
        fn recordings_on_a_boundary_count_below_it(index in 0..15_usize, level in 0..3_u32) {
            let bounds = [0.0, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
            let all = Distribution::of([bounds[index]], "s", Level::from_index(level).unwrap());
            let counts = all.explicit(&bounds);
            prop_assert_eq!(counts.iter().position(|n| *n == 1), Some(index));
        }

        #[test]
        fn exponential_buckets_hold_every_recording_in_few_buckets(values in values(), size in 2..200_usize) {
            let all = Distribution::of(values.iter().copied(), "s", Level::Three);
            let exponential = all.exponential(size, 20);
            prop_assert!(exponential.counts.len() <= size);
            prop_assert_eq!(exponential.counts.iter().sum::<u64>() + exponential.zero_count, values.len() as u64);
        }

        #[test]
        fn what_was_merged_can_be_taken_off_again(a in values(), b in values()) {
            let (a, b) = (Distribution::of(a, "s", Level::Three), Distribution::of(b, "s", Level::Two));
            let both = a.merge(&b).unwrap();
            let back = both.minus(&b);
            prop_assert_eq!(back.slots(), a.slots());
            let reversed = b.merge(&a).unwrap();
            prop_assert_eq!(both.slots(), reversed.slots());
        }

        #[test]
        fn going_down_the_ladder_is_recording_there(values in values()) {
            let fine = Distribution::of(values.iter().copied(), "s", Level::Three);
            for level in [Level::Two, Level::OneHalf] {
                let coarse = Distribution::of(values.iter().copied(), "s", level);
                let stepped = fine.coarsened(level);
                prop_assert_eq!(stepped.slots(), coarse.slots());
            }
        }
    }

    #[test]
    fn powers_of_two_are_upper_bounds_of_their_exponential_bucket() {
        assert_eq!(bucket_of(2.0, 0), 0);
        assert_eq!(bucket_of(2.000_001, 0), 1);
        assert_eq!(bucket_of(1.0, 3), -1);
    }
}
