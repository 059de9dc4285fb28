//! Slots as numbers of 16 bits, so that a recording takes two or three bytes in a slice.

use crate::hdr::{slots_in_octave, Level, Slot, OCTAVES};

/// Slots of the first octave at a ladder step.
const fn first(level: Level) -> usize {
    slots_in_octave(0, level)
}

/// Slots of all octaves at a ladder step.
const fn all(level: Level) -> usize {
    first(level) + (OCTAVES - 1) * slots_in_octave(1, level)
}

/// Key of the first slot of each ladder step, in the order of [`Level::ALL`], and the number of keys.
const BEGINS: [usize; 5] = {
    let mut begins = [0; 5];
    let mut at = 0;
    while at < Level::ALL.len() {
        begins[at + 1] = begins[at] + all(Level::ALL[at]);
        at += 1;
    }
    assert!(begins[4] <= 1 << 16);
    begins
};

/// The number of a slot.
pub fn key_of(slot: Slot) -> u16 {
    let level = slot.level;
    let within = match slot.octave {
        0 => 0,
        octave => first(level) + (usize::from(octave) - 1) * slots_in_octave(1, level),
    };
    (BEGINS[level as usize] + within) as u16 + slot.index
}

/// The slot with this number; of a number that none has, the last one.
pub fn slot_of(key: u16) -> Slot {
    let key = usize::from(key).min(BEGINS[4] - 1);
    let level = Level::ALL[BEGINS[1..4].iter().filter(|begin| **begin <= key).count()];
    let within = key - BEGINS[level as usize];
    let (octave, index) = match within.checked_sub(first(level)) {
        None => (0, within),
        Some(above) => (1 + above / slots_in_octave(1, level), above % slots_in_octave(1, level)),
    };
    Slot {
        octave: octave as u8,
        level,
        index: index as u16,
    }
}

/// The key of the slot of a coarser ladder step that contains this one.
pub fn coarsened(key: u16, level: Level) -> u16 {
    key_of(slot_of(key).coarsened(level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_a_number_of_its_own_and_every_number_a_slot() {
        let mut next = 0_usize;
        for level in Level::ALL {
            for octave in 0..OCTAVES {
                for index in 0..slots_in_octave(octave, level) {
                    let slot = Slot {
                        octave: octave as u8,
                        level,
                        index: index as u16,
                    };
                    assert_eq!((usize::from(key_of(slot)), slot_of(next as u16)), (next, slot));
                    next += 1;
                }
            }
        }
        assert_eq!(next, BEGINS[4]);
        assert_eq!(usize::from(key_of(slot_of(u16::MAX))), BEGINS[4] - 1);
    }

    #[test]
    fn a_coarser_key_is_that_of_the_slot_around() {
        for value in [0_u64, 7, 1000, 1024, 123_456, 1 << 40] {
            let fine = key_of(Slot::of(value, Level::Three));
            assert_eq!(coarsened(fine, Level::OneHalf), key_of(Slot::of(value, Level::OneHalf)));
            assert_eq!(coarsened(fine, Level::Three), fine);
        }
    }
}
