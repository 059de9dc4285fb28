//! Slot arithmetic of the log-linear (`HdrHistogram`) layout: values to slots, slots to value ranges, ladder steps.
//!
//! The slots are those of `HdrHistogram` with a lowest discernible value of 1 (Gil Tene, `HdrHistogram`,
//! "sub-bucket" layout): below `2^(h+1)` every integer has its own slot, above it each power of two is cut
//! into `2^h` equal slots. `h` is 10 for three significant digits, 7 for two, and 5 for the step between one and two.
//! Halving `h` merges whole slots, so that going down the ladder is exact: no count ever has to be split.
//!
//! Storage is grouped by *octave*: octave 0 holds the values below 1,024, octave `o` the values from `2^(o+9)`
//! up to but not including `2^(o+10)`.

/// Number of octaves a histogram distinguishes.
pub const OCTAVES: usize = 40;

/// Largest value that has a slot of its own; larger values are counted in the last slot.
pub const MAX_VALUE: u64 = (1 << (OCTAVES + 9)) - 1;

/// A step of the precision ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Three significant digits: slots at most 0.1 % wide.
    Three = 0,
    /// Two significant digits: slots at most 0.8 % wide.
    Two = 1,
    /// Between one and two digits: slots at most 3.2 % wide.
    OneHalf = 2,
    /// One slot per octave: the last resort of an overflow series, which must always have room.
    Octave = 3,
}

impl Level {
    /// All steps, finest first.
    pub const ALL: [Level; 4] = [Level::Three, Level::Two, Level::OneHalf, Level::Octave];

    /// The step with this number, if there is one.
    #[inline]
    pub const fn from_index(index: u32) -> Option<Level> {
        match index {
            0 => Some(Level::Three),
            1 => Some(Level::Two),
            2 => Some(Level::OneHalf),
            3 => Some(Level::Octave),
            _ => None,
        }
    }

    /// Significant decimal digits that this step keeps.
    pub const fn digits(self) -> f64 {
        match self {
            Level::Three => 3.0,
            Level::Two => 2.0,
            Level::OneHalf => 1.5,
            Level::Octave => 0.0,
        }
    }

    /// `h`: the binary logarithm of the number of slots per octave.
    #[inline]
    pub const fn half_bits(self) -> u32 {
        match self {
            Level::Three => 10,
            Level::Two => 7,
            Level::OneHalf => 5,
            Level::Octave => 0,
        }
    }

    /// Largest scale of an OpenTelemetry exponential histogram whose buckets are not narrower than the slots.
    pub const fn exponential_scale(self) -> i32 {
        match self {
            Level::Three => 8,
            Level::Two => 6,
            Level::OneHalf => 4,
            Level::Octave => 0,
        }
    }
}

/// The octave of `value`, which must not exceed [`MAX_VALUE`].
#[inline]
pub const fn octave(value: u64) -> usize {
    ((value | 1023).ilog2() - 9) as usize
}

/// Index of `value` in the flat `HdrHistogram` array with `2^h` slots per octave.
#[inline]
pub const fn flat_index(value: u64, half_bits: u32) -> u64 {
    let bucket = (value | ((2 << half_bits) - 1)).ilog2() - half_bits;
    ((bucket as u64) << half_bits) + (value >> bucket)
}

/// Slot of `value` within its octave.
#[inline]
pub const fn slot_in_octave(value: u64, octave: usize, level: Level) -> usize {
    if matches!(level, Level::Octave) {
        return 0;
    }
    let half_bits = level.half_bits();
    if octave == 0 {
        flat_index(value, half_bits) as usize
    } else {
        (value >> (octave as u32 + 9 - half_bits)) as usize & ((1 << half_bits) - 1)
    }
}

/// Number of slots of an octave at this step.
pub const fn slots_in_octave(octave: usize, level: Level) -> usize {
    if matches!(level, Level::Octave) {
        1
    } else if octave == 0 {
        flat_index(1023, level.half_bits()) as usize + 1
    } else {
        1 << level.half_bits()
    }
}

/// Identity of a slot: ladder step, octave and slot within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// Octave, below [`OCTAVES`].
    pub octave: u8,
    /// Ladder step.
    pub level: Level,
    /// Slot within the octave.
    pub index: u16,
}

impl Slot {
    /// The slot that counts `value` at `level`.
    #[inline]
    pub const fn of(value: u64, level: Level) -> Slot {
        let value = if value > MAX_VALUE { MAX_VALUE } else { value };
        let octave = octave(value);
        Slot {
            octave: octave as u8,
            level,
            index: slot_in_octave(value, octave, level) as u16,
        }
    }

    /// Smallest value that is counted here.
    pub const fn lowest(self) -> u64 {
        self.range().0
    }

    /// Largest value that is counted here ("highest equivalent value").
    pub const fn highest(self) -> u64 {
        self.range().1
    }

    /// Middle of the slot, the least wrong single value for it.
    pub fn middle(self) -> f64 {
        let (low, high) = self.range();
        f64::midpoint(low as f64, high as f64)
    }

    const fn range(self) -> (u64, u64) {
        let octave = self.octave as u32;
        if matches!(self.level, Level::Octave) {
            let low = if octave == 0 { 0 } else { 1 << (octave + 9) };
            return (low, (1 << (octave + 10)) - 1);
        }
        let half_bits = self.level.half_bits();
        let (shift, mantissa) = if octave > 0 {
            (octave + 9 - half_bits, (1_u64 << half_bits) + self.index as u64)
        } else if (self.index as u64) < (2 << half_bits) {
            (0, self.index as u64)
        } else {
            let bucket = (self.index as u32 >> half_bits) - 1;
            let mantissa = (self.index as u64 & ((1 << half_bits) - 1)) + (1 << half_bits);
            (bucket, mantissa)
        };
        (mantissa << shift, ((mantissa + 1) << shift) - 1)
    }

    /// The slot of a coarser step that contains this one. A finer step leaves the slot as it is.
    #[must_use]
    pub const fn coarsened(self, level: Level) -> Slot {
        if level as u8 <= self.level as u8 {
            self
        } else {
            Slot::of(self.lowest(), level)
        }
    }
}

/// How many integer units one unit of the instrument is kept as.
///
/// Seconds become nanoseconds and milliseconds too, bytes and annotated counts (`{token}`) stay as they are, and everything else
/// is kept in ten-thousandths. Sums, minima and maxima are never scaled: they are exact.
pub fn units_per_one(unit: &str) -> f64 {
    match unit {
        "s" => 1e9,
        "ms" | "min" | "h" | "d" => 1e6,
        "us" => 1e3,
        "ns" | "By" | "KiBy" | "MiBy" | "GiBy" | "kBy" | "MBy" | "GBy" | "bit" => 1.0,
        _ if unit.starts_with('{') => 1.0,
        _ => 1e4,
    }
}

/// `value` of the instrument, not negative, in integer units, rounded to nearest and clamped to the range that has slots.
#[inline]
pub fn to_units(value: f64, per_one: f64) -> u64 {
    // Adding 2^52 leaves the integer in the low bits of the sum, rounded by the addition itself: half the latency of a conversion.
    const TWO_TO_52: f64 = 4_503_599_627_370_496.0;
    let units = value * per_one;
    if units < MAX_VALUE as f64 {
        (units + TWO_TO_52).to_bits() & ((1 << 52) - 1)
    } else {
        MAX_VALUE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RECORDED: [Level; 3] = [Level::Three, Level::Two, Level::OneHalf];

    #[test]
    fn octave_slots_cover_the_range_without_gap_or_overlap() {
        for level in Level::ALL {
            let mut next = 0;
            for octave in 0..OCTAVES {
                for index in 0..slots_in_octave(octave, level) {
                    let slot = Slot {
                        octave: octave as u8,
                        level,
                        index: index as u16,
                    };
                    assert_eq!(slot.lowest(), next, "{slot:?}");
                    next = slot.highest() + 1;
                }
            }
            assert_eq!(next, MAX_VALUE + 1);
        }
    }

    #[test]
    fn values_are_rounded_to_the_nearest_unit_and_clamped() {
        for (value, units) in [
            (0.0, 0),
            (0.4, 0),
            (0.6, 1),
            (1.5, 2),
            (2.5, 2),
            (1e9, 1_000_000_000),
            (1e300, MAX_VALUE),
        ] {
            assert_eq!(to_units(value, 1.0), units);
        }
        assert_eq!(to_units(0.005, 1e9), 5_000_000);
        assert_eq!(to_units(MAX_VALUE as f64, 1.0), MAX_VALUE);
        assert_eq!(to_units(MAX_VALUE as f64 - 1.0, 1.0), MAX_VALUE - 1);
    }

    proptest! {
        #[test]
        fn a_value_lies_in_the_slot_that_counts_it(value in 0..=MAX_VALUE) {
            for level in Level::ALL {
                let slot = Slot::of(value, level);
                prop_assert!(slot.lowest() <= value && value <= slot.highest());
            }
        }

        #[test]
        fn a_ladder_step_merges_whole_slots(value in 0..=MAX_VALUE) {
            for fine in RECORDED {
                for coarse in RECORDED {
                    prop_assert_eq!(
                        Slot::of(value, fine).coarsened(coarse),
                        Slot::of(value, if coarse > fine { coarse } else { fine })
                    );
                }
            }
        }

        #[test]
        fn slots_are_those_of_hdrhistogram(value in 1..=MAX_VALUE) {
            for (level, digits) in [(Level::Three, 3), (Level::Two, 2)] {
                let oracle = hdrhistogram::Histogram::<u64>::new_with_bounds(1, MAX_VALUE, digits).unwrap();
                let slot = Slot::of(value, level);
                prop_assert_eq!(slot.lowest(), oracle.lowest_equivalent(value));
                prop_assert_eq!(slot.highest(), oracle.highest_equivalent(value));
            }
        }
    }
}
