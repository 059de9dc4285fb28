//! A distribution as the counts of an `HdrHistogram`, in the bytes that its encoding "V2" compresses.
//!
//! The counts of all slots follow each other from the first to the last one in use, as zigzag numbers in LEB128. A negative number
//! is a run of as many empty slots. A number takes nine bytes at most, the last of which has eight bits of its own
//! (`HdrHistogram`, `ZigZagEncoding.java`).

use super::Distribution;
use crate::hdr::{flat_index, to_units, Level};

const LARGEST_COUNT: u64 = i64::MAX as u64;

impl Distribution {
    /// Number of recordings below zero, which have no place in an `HdrHistogram`.
    pub fn negative_count(&self) -> u64 {
        super::total(&self.negative)
    }

    /// Counts of an `HdrHistogram` with three digits; those of a coarser slot go to its largest value that is not beyond the maximum.
    pub fn v2_counts(&self) -> Vec<u8> {
        let top = to_units(self.max.max(0.0), self.per_one);
        let counts = self.slots.iter().map(|(slot, count)| {
            let value = slot.highest().min(top).max(slot.lowest());
            (flat_index(value, Level::Three.half_bits()), *count)
        });
        // Within an octave the steps of the ladder overlap, so that the order of slots is not that of values.
        let mut counts: Vec<(u64, u64)> = counts.collect();
        counts.sort_unstable();
        let (mut bytes, mut next) = (Vec::with_capacity(2 * counts.len()), 0);
        for same in counts.chunk_by(|a, b| a.0 == b.0) {
            let index = same[0].0;
            match index - next {
                0 => {}
                1 => bytes.push(0),
                empty => push(&mut bytes, 2 * empty - 1),
            }
            let count = same.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
            push(&mut bytes, 2 * count.min(LARGEST_COUNT));
            next = index + 1;
        }
        bytes
    }
}

fn push(bytes: &mut Vec<u8>, mut number: u64) {
    for _ in 0..8 {
        if number < 0x80 {
            break;
        }
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hdr::Slot;
    use crate::lane::Number;
    use proptest::prelude::*;

    /// Index and count of the slots in use.
    fn decoded(bytes: &[u8]) -> Vec<(u64, u64)> {
        let (mut found, mut index, mut at) = (Vec::new(), 0, 0);
        while at < bytes.len() {
            let (mut number, mut shift) = (0, 0);
            loop {
                let byte = u64::from(bytes[at]);
                at += 1;
                number |= if shift == 56 { byte } else { byte & 0x7f } << shift;
                if byte < 0x80 || shift == 56 {
                    break;
                }
                shift += 7;
            }
            if number & 1 == 1 {
                index += number / 2 + 1;
            } else {
                if number > 0 {
                    found.push((index, number / 2));
                }
                index += 1;
            }
        }
        found
    }

    fn of_counts(slots: Vec<(Slot, u64)>) -> Distribution {
        Distribution::new(slots, Level::Three, Number::Int(0), (0.0, f64::INFINITY), 1.0)
    }

    proptest! {
        #[test]
        fn counts_are_those_of_hdrhistogram(values in prop::collection::vec(0.0_f64..1e14, 0..100)) {
            let mut oracle = std::collections::BTreeMap::new();
            for value in &values {
                *oracle.entry(flat_index(to_units(*value, 1.0), 10)).or_insert(0) += 1;
            }
            let counts = decoded(&Distribution::of(values, "By", Level::Three).v2_counts());
            prop_assert_eq!(counts, oracle.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn counts_of_any_size_survive(counts in prop::collection::vec(1..=LARGEST_COUNT, 1..20)) {
            let slots = counts.iter().zip(1..).map(|(count, value)| (Slot::of(value, Level::Three), *count));
            let expected: Vec<_> = counts.iter().zip(1..).map(|(count, value)| (value, *count)).collect();
            prop_assert_eq!(decoded(&of_counts(slots.collect()).v2_counts()), expected);
        }

        #[test]
        fn counts_of_coarse_slots_are_within_them(value in 0.0_f64..1e14) {
            for level in Level::ALL {
                let coarse = Distribution::of([value], "By", level);
                let (low, high) = (coarse.slots()[0].0.lowest(), coarse.slots()[0].0.highest());
                let (index, count) = decoded(&coarse.v2_counts())[0];
                prop_assert_eq!(count, 1);
                prop_assert!(flat_index(low, 10) <= index && index <= flat_index(high, 10));
                prop_assert_eq!(index, flat_index(to_units(value, 1.0), 10), "the maximum is known");
            }
        }
    }

    #[test]
    fn damaged_counts_beyond_what_can_be_written_are_the_largest() {
        let slots = vec![(Slot::of(5, Level::Three), u64::MAX)];
        assert_eq!(decoded(&of_counts(slots).v2_counts()), [(5, LARGEST_COUNT)]);
    }

    #[test]
    fn nothing_recorded_is_no_bytes_and_negative_recordings_are_counted_apart() {
        assert_eq!(of_counts(Vec::new()).v2_counts(), []);
        let mixed = Distribution::of([-1.0, -2.0, 3.0], "By", Level::Three);
        assert_eq!((mixed.negative_count(), decoded(&mixed.v2_counts())), (2, vec![(3, 1)]));
    }
}
