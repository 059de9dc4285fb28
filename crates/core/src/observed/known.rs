//! What was seen of a histogram at the last look, so that the next one finds what was recorded since.

use std::sync::atomic::Ordering::Relaxed;

use super::key::key_of;
use super::slice::Count;
use crate::histogram::{Histogram, Page, Slots};

/// The slots of all pages, in the order in which [`Histogram::pages`] shows them.
///
/// Pages stay where they are and none is taken away, so a page that is not the next one known is a new one. Each takes two words for its byte offset and
/// one for each slot; two where slots are wider than 16 bits, for the lower half of 64.
#[derive(Debug, Default)]
pub struct Known {
    words: Vec<u16>,
}

impl Known {
    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.words.capacity() * 2
    }

    /// Looks at a histogram and appends what was recorded since the last look, page by page; `None` if the segment is corrupt.
    ///
    /// A slot that counts less than before, as one does whose page could not be widened, counts nothing new.
    pub fn advance(&mut self, histogram: &Histogram<'_>, out: &mut Vec<Count>) -> Option<()> {
        let mut at = 0;
        histogram.pages(|page| {
            let slots = histogram.slots(&page)?;
            let words = match slots {
                Slots::Narrow(words) => words.len(),
                Slots::Wide(words) => 2 * words.len(),
                Slots::Whole(words) => 2 * words.len(),
            };
            let offset = halves(page.at as u32);
            if self.words.get(at..at + 2) != Some(&offset) {
                self.words.reserve_exact(2 + words);
                let new = offset.into_iter().chain(std::iter::repeat_n(0, words));
                self.words.splice(at..at, new);
            }
            let known = &mut self.words[at + 2..at + 2 + words];
            at += 2 + words;
            match slots {
                Slots::Narrow(words) => {
                    // Without a branch for each slot, because most pages are as they were.
                    let changed = words.iter().zip(&*known);
                    if changed.fold(0, |changed, (word, known)| changed | (word.load(Relaxed) ^ known)) != 0 {
                        for (index, (word, known)) in words.iter().zip(known).enumerate() {
                            let count = word.load(Relaxed);
                            put(out, &page, index, count.saturating_sub(*known).into());
                            *known = count;
                        }
                    }
                }
                Slots::Wide(words) => {
                    for (index, (word, known)) in words.iter().zip(known.chunks_exact_mut(2)).enumerate() {
                        let count = word.load(Relaxed);
                        put(out, &page, index, count.saturating_sub(whole(known)));
                        known.copy_from_slice(&halves(count));
                    }
                }
                Slots::Whole(words) => {
                    for (index, (word, known)) in words.iter().zip(known.chunks_exact_mut(2)).enumerate() {
                        let count = word.load(Relaxed) as u32;
                        put(out, &page, index, count.wrapping_sub(whole(known)));
                        known.copy_from_slice(&halves(count));
                    }
                }
            }
            Some(())
        })
    }
}

fn put(out: &mut Vec<Count>, page: &Page, index: usize, more: u32) {
    if more > 0 {
        out.push((key_of(page.slot(index)), more.into()));
    }
}

fn halves(word: u32) -> [u16; 2] {
    [word as u16, (word >> 16) as u16]
}

fn whole(halves: &[u16]) -> u32 {
    u32::from(halves[0]) | u32::from(halves[1]) << 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hdr::{Level, Slot, MAX_VALUE};
    use crate::histogram::{Histogram, Recorded};
    use crate::segment::Segment;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn sorted(counts: Vec<Count>) -> BTreeMap<u16, u64> {
        let mut all = BTreeMap::new();
        for (key, count) in counts {
            *all.entry(key).or_insert(0) += count;
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        #[test]
        fn each_look_finds_what_was_recorded_since_the_last(
            rounds in prop::collection::vec(prop::collection::vec((0..MAX_VALUE, 0..50_u32), 0..20), 1..6)
        ) {
            let segment = Segment::private(1 << 20, "").unwrap();
            let line = Histogram::create(segment.region(), segment.geometry(), false, false, 0).unwrap();
            let at = segment.geometry().line(line).unwrap();
            let histogram = Histogram::new(segment.region(), segment.geometry(), at, false);
            let mut known = Known::default();
            for round in rounds {
                let mut expected = Vec::new();
                for (value, shift) in round {
                    let value = value >> shift;
                    // Widens the page now and then.
                    let times = if shift == 7 { 50_000 } else { 1 };
                    for _ in 0..times {
                        prop_assert_eq!(histogram.record(value), Recorded::Counted);
                    }
                    expected.push((key_of(Slot::of(value, Level::Three)), times));
                }
                let mut found = Vec::new();
                known.advance(&histogram, &mut found).unwrap();
                prop_assert_eq!(sorted(found), sorted(expected));
            }
        }
    }
}
