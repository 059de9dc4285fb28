//! A histogram taken out of the segment: percentiles, differences, merges, ladder steps, and the exported shapes.

mod shapes;
mod v2;

use std::collections::BTreeMap;

pub use self::shapes::{Exponential, ExponentialBuckets};
use crate::hdr::{to_units, units_per_one, Level, Slot};
use crate::lane::Number;

/// Counts by slot with exact count, sum, minimum and maximum.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Non-empty slots in the order of [`Slot`].
    slots: Vec<(Slot, u64)>,
    /// The same for the magnitudes of negative values.
    negative: Vec<(Slot, u64)>,
    count: u64,
    sum: Number,
    min: f64,
    max: f64,
    per_one: f64,
    coarsest: Level,
}

impl Distribution {
    /// A distribution from its parts; `slots` are in the order of [`Slot`].
    pub fn new(slots: Vec<(Slot, u64)>, coarsest: Level, sum: Number, range: (f64, f64), per_one: f64) -> Distribution {
        Distribution {
            count: total(&slots),
            slots,
            negative: Vec::new(),
            sum,
            min: range.0,
            max: range.1,
            per_one,
            coarsest,
        }
    }

    /// The same with slots of the magnitudes of negative values, in the order of [`Slot`].
    #[must_use]
    pub fn with_negative(mut self, slots: Vec<(Slot, u64)>) -> Distribution {
        add(&mut self.count, total(&slots));
        self.negative = slots;
        self
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
        let (mut counts, mut negative) = (BTreeMap::new(), BTreeMap::new());
        for value in values {
            let counts = if value < 0.0 { &mut negative } else { &mut counts };
            *counts
                .entry(Slot::of(to_units(value.abs(), per_one), level))
                .or_insert(0) += 1;
            all.count += 1;
            all.sum = all.sum.plus(Number::Float(value));
            all.min = all.min.min(value);
            all.max = all.max.max(value);
        }
        all.slots = counts.into_iter().collect();
        all.negative = negative.into_iter().collect();
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

    /// Minimum and maximum as they leave: those of no recording if they are not wanted.
    pub fn range(&self, wanted: bool) -> (f64, f64) {
        if wanted {
            (self.min, self.max)
        } else {
            (f64::INFINITY, f64::NEG_INFINITY)
        }
    }

    /// The coarsest ladder step in use.
    pub fn coarsest(&self) -> Level {
        self.coarsest
    }

    /// The non-empty slots of the values that are not negative.
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
        let negative = self.negative.iter().map(|(slot, n)| (-(slot.lowest() as i64), *n));
        let positive = self.slots.iter().map(|(slot, n)| (slot.highest() as i64, *n));
        let mut by_value: Vec<(i64, u64)> = negative.chain(positive).collect();
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
        let slots = increase(&self.slots, &earlier.slots);
        let negative = increase(&self.negative, &earlier.negative);
        let found = Distribution::new(
            slots,
            self.coarsest,
            self.sum.minus(earlier.sum),
            (self.min, self.max),
            self.per_one,
        );
        found.with_negative(negative).with_range_of_slots()
    }

    /// The same with minimum and maximum of the slots, but within the range that it has.
    #[must_use]
    pub fn with_range_of_slots(self) -> Distribution {
        let unit = |units: f64| self.within_range(units / self.per_one);
        let lows = self.slots.iter().map(|(slot, _)| slot.lowest() as f64);
        let highs = self.slots.iter().map(|(slot, _)| slot.highest() as f64);
        let negative_lows = self.negative.iter().map(|(slot, _)| -(slot.highest() as f64));
        let negative_highs = self.negative.iter().map(|(slot, _)| -(slot.lowest() as f64));
        let range = (
            lows.chain(negative_lows).map(unit).fold(f64::INFINITY, f64::min),
            highs.chain(negative_highs).map(unit).fold(f64::NEG_INFINITY, f64::max),
        );
        self.with_range(range)
    }

    /// The recordings of both, slot by slot. Both must be in the same integer units; `None` otherwise.
    pub fn merge(&self, other: &Distribution) -> Option<Distribution> {
        if self.per_one != other.per_one {
            return None;
        }
        let merged = Distribution::new(
            united(&self.slots, &other.slots),
            self.coarsest.max(other.coarsest),
            self.sum.plus(other.sum),
            (self.min.min(other.min), self.max.max(other.max)),
            self.per_one,
        );
        Some(merged.with_negative(united(&self.negative, &other.negative)))
    }

    /// The same recordings at a coarser ladder step; exact, because a step merges whole slots.
    #[must_use]
    pub fn coarsened(&self, level: Level) -> Distribution {
        let coarsened = |slots: &[(Slot, u64)]| {
            let mut counts = BTreeMap::new();
            for (slot, count) in slots {
                add(counts.entry(slot.coarsened(level)).or_insert(0), *count);
            }
            counts.into_iter().collect()
        };
        Distribution {
            slots: coarsened(&self.slots),
            negative: coarsened(&self.negative),
            coarsest: self.coarsest.max(level),
            ..self.clone()
        }
    }
}

/// What the slots count together.
fn total(slots: &[(Slot, u64)]) -> u64 {
    slots.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

/// Slots that count more than they did before, with how much more.
fn increase(now: &[(Slot, u64)], earlier: &[(Slot, u64)]) -> Vec<(Slot, u64)> {
    let mut before = earlier.iter().peekable();
    let mut slots = Vec::new();
    for (slot, count) in now {
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
    slots
}

/// The slots of both.
fn united(a: &[(Slot, u64)], b: &[(Slot, u64)]) -> Vec<(Slot, u64)> {
    let mut counts: BTreeMap<Slot, u64> = a.iter().copied().collect();
    for (slot, count) in b {
        add(counts.entry(*slot).or_insert(0), *count);
    }
    counts.into_iter().collect()
}

/// Adds counts, which a damaged segment may hold beyond what can be counted.
fn add(count: &mut u64, more: u64) {
    *count = count.saturating_add(more);
}

#[cfg(test)]
mod tests {
    use super::shapes::bucket_of;
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
            prop_assert!(exponential.positive.counts.len() <= size);
            prop_assert_eq!(exponential.positive.counts.iter().sum::<u64>() + exponential.zero_count, values.len() as u64);
        }

        #[test]
        fn negative_values_mirror_positive_ones(values in values()) {
            let all = Distribution::of(values.iter().copied(), "s", Level::Three);
            let mirrored = Distribution::of(values.iter().map(|value| -value), "s", Level::Three);
            prop_assert_eq!(mirrored.count(), all.count());
            prop_assert_eq!(mirrored.slots(), &[]);
            prop_assert_eq!(mirrored.exponential(160, 20).negative, all.exponential(160, 20).positive);
            let below = mirrored.explicit(&[-10.0, -0.1, 0.0]);
            prop_assert_eq!(below.iter().sum::<u64>(), values.len() as u64);
            prop_assert_eq!(below[3], 0);
            let median = mirrored.percentiles(&[50.0])[0];
            prop_assert!(median >= mirrored.min() && median <= mirrored.max());
            prop_assert_eq!(mirrored.merge(&all).unwrap().minus(&all).explicit(&[0.0])[0], values.len() as u64);
        }

        #[test]
        fn negative_recordings_on_a_boundary_count_below_it(index in 0..4_usize) {
            let bounds = [-10.0, -2.5, -0.5, -0.005];
            let counts = Distribution::of([bounds[index]], "s", Level::Three).explicit(&bounds);
            prop_assert_eq!(counts.iter().position(|n| *n == 1), Some(index));
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
