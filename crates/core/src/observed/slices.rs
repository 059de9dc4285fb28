//! The slices of the past: short ones of the last moments, longer ones of the time before, within a number of bytes.
//!
//! Tier 0 has a slice for each tick. As soon as a tier has fourteen, its two oldest become one of the next tier, a part of it in each tick. So a slice is
//! as long as a tick, or not longer than a sixth of the time that it is ago; of that of a minute, a twelfth.
//!
//! Where the bytes do not suffice, the slices of the longer tiers go down the precision ladder, the oldest first, then those of the ticks; after that the
//! oldest is given up.

use std::collections::VecDeque;

use super::slice::{Change, Record, Slice};
use crate::hdr::Level;

/// Slices that become one.
const GROUP: usize = 2;
/// Slices that a tier keeps at least.
const KEPT: usize = 12;
const TIERS: usize = 10;
/// The coarsest step that slices go down to.
const COARSEST: Level = Level::OneHalf;
/// Ticks between two steps up the ladder.
const PATIENCE: u32 = 60;

/// The slices, and what is being made of them.
#[derive(Debug)]
pub struct Slices {
    /// By tier, each from the oldest to the newest.
    tiers: [VecDeque<Slice>; TIERS],
    /// What a tier's two oldest slices are becoming.
    merges: [Option<Slice>; TIERS],
    /// Ladder steps of the slices of ticks, and of all longer ones.
    levels: [Level; 2],
    /// Ticks for which there was room to spare.
    spare: u32,
    lost: u64,
}

impl Default for Slices {
    fn default() -> Slices {
        Slices {
            tiers: Default::default(),
            merges: Default::default(),
            levels: [Level::Three; 2],
            spare: 0,
            lost: 0,
        }
    }
}

impl Slices {
    /// Bytes of memory that they take.
    pub fn memory(&self) -> usize {
        let slices = self.tiers.iter().flatten().chain(self.merges.iter().flatten());
        slices.map(Slice::memory).sum()
    }

    /// Ladder step of the slices of ticks.
    pub fn level(&self) -> Level {
        self.levels[0]
    }

    /// The coarsest ladder step in use.
    pub fn coarsest(&self) -> Level {
        self.levels[0].max(self.levels[1])
    }

    /// Slices that were given up before their time.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The slices, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Slice> {
        self.tiers.iter().flat_map(|tier| tier.iter().rev())
    }

    /// Takes the slice of a tick, and does a part of the work on older ones.
    pub fn push(&mut self, slice: Slice, longest_ns: u64) {
        let now_ns = slice.end_ns;
        self.tiers[0].push_back(slice);
        self.expire(now_ns.saturating_sub(longest_ns));
        // The longest first, which are ended a tick before the next one wants to begin.
        for tier in (0..TIERS - 1).rev() {
            self.work(tier);
        }
    }

    /// Forgets slices that ended before any window begins.
    fn expire(&mut self, begin_ns: u64) {
        loop {
            let mut oldest_first = self.tiers.iter().rev().flatten();
            // The one after it reaches back far enough.
            let is_needless = oldest_first.nth(1).is_some_and(|second| second.start_ns <= begin_ns);
            if !is_needless {
                return;
            }
            self.pop_oldest();
        }
    }

    fn pop_oldest(&mut self) -> bool {
        let Some(tier) = (0..TIERS).rev().find(|tier| !self.tiers[*tier].is_empty()) else {
            return false;
        };
        self.merges[tier] = None;
        self.tiers[tier].pop_front();
        true
    }

    /// Does a part of making the oldest slices of a tier one: as much as is done when the next ones are due.
    fn work(&mut self, tier: usize) {
        let mut oldest = self.tiers[tier].iter();
        let (Some(older), Some(newer)) = (oldest.next(), oldest.next()) else {
            return;
        };
        let group = [older, newer];
        if self.merges[tier].is_none() && self.tiers[tier].len() >= KEPT + GROUP {
            // A step up the ladder brings nothing back.
            let level = self.levels[1].max(older.level).max(newer.level);
            self.merges[tier] = Some(Slice::new(older.start_ns, newer.end_ns, level));
        }
        let Some(out) = &mut self.merges[tier] else { return };
        let chunks = group.iter().map(|slice| slice.chunks()).max().unwrap_or(0);
        let done = out.chunks();
        for chunk in done..chunks.min(done + chunks.div_ceil(GROUP << tier)) {
            merge_chunk(group, chunk, out);
        }
        if out.chunks() == chunks {
            out.end();
            self.tiers[tier].drain(..GROUP);
            let out = self.merges[tier].take();
            self.tiers[tier + 1].extend(out);
        }
    }

    /// Makes all fit into so many bytes.
    pub fn fit(&mut self, limit: usize) {
        let mut memory = self.memory();
        if memory <= limit / 4 {
            self.ascend();
            return;
        }
        self.spare = 0;
        while memory > limit && (self.recode_one() || self.descend() || self.give_up_one()) {
            memory = self.memory();
        }
    }

    fn ascend(&mut self) {
        self.spare += 1;
        if self.spare >= PATIENCE {
            self.spare = 0;
            let finer = |level: Level| Level::from_index((level as u32).saturating_sub(1)).unwrap_or(level);
            let which = usize::from(self.levels[0] == Level::Three);
            self.levels[which] = finer(self.levels[which]);
        }
    }

    fn descend(&mut self) -> bool {
        let which = usize::from(self.levels[1] < COARSEST);
        if self.levels[which] >= COARSEST {
            return false;
        }
        self.levels[which] = Level::from_index(self.levels[which] as u32 + 1).unwrap_or(COARSEST);
        true
    }

    /// Takes the oldest slice of the longer tiers that is finer than it should be down to where it should be.
    fn recode_one(&mut self) -> bool {
        let level = self.levels[1];
        for tier in (1..TIERS).rev() {
            if let Some(slice) = self.tiers[tier].iter_mut().find(|slice| slice.level < level) {
                *slice = slice.coarsened(level);
                return true;
            }
        }
        false
    }

    fn give_up_one(&mut self) -> bool {
        let given_up = self.pop_oldest();
        self.lost += u64::from(given_up);
        given_up
    }
}

/// Appends a chunk with what both slices say of it.
fn merge_chunk(group: [&Slice; GROUP], chunk: usize, out: &mut Slice) {
    let [mut older, mut newer] = group.map(|slice| slice.records(chunk).peekable());
    let level = out.level;
    let is_coarsened = group.iter().any(|slice| slice.level < level);
    let mut change = Change::default();
    loop {
        let within = match (older.peek(), newer.peek()) {
            (Some(a), Some(b)) => a.within.min(b.within),
            (Some(one), None) | (None, Some(one)) => one.within,
            (None, None) => break,
        };
        let of_series = |record: &Record<'_>| record.within == within;
        let both = (older.next_if(of_series), newer.next_if(of_series));
        match both {
            _ if is_coarsened => {
                change.clear();
                both.0
                    .iter()
                    .chain(&both.1)
                    .for_each(|record| record.add_to(&mut change));
                change.settle(level);
                out.put(within, &change);
            }
            (Some(a), Some(b)) => out.put_both(&a, &b),
            (Some(one), None) | (None, Some(one)) => out.copy(&one),
            (None, None) => break,
        }
    }
    out.end_chunk();
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A slice of a second in which each of so many series recorded a few values.
    fn slice(second: u64, series: u64, level: Level) -> Slice {
        let mut slice = Slice::new(second * SECOND, (second + 1) * SECOND, level);
        for chunk in 0..series.div_ceil(64) {
            for within in 0..64_u64.min(series - chunk * 64) {
                let mut change = Change {
                    sum: 1.5,
                    counts: (0..20)
                        .map(|n| ((within * 17 + n * 13 + second) as u16 % 4000, 1))
                        .collect(),
                    ..Change::default()
                };
                change.settle(level);
                slice.put(within as usize, &change);
            }
            slice.end_chunk();
        }
        slice.end();
        slice
    }

    fn totals(slices: &Slices, series: u32) -> (f64, u64) {
        let mut change = Change::default();
        slices
            .newest_first()
            .for_each(|slice| slice.add_to(series, &mut change));
        (change.sum, change.counts.iter().map(|(_, count)| count).sum())
    }

    #[test]
    fn slices_are_longer_the_longer_they_are_ago_and_nothing_is_lost() {
        let mut slices = Slices::default();
        for second in 0..1000 {
            slices.push(slice(second, 70, slices.level()), 3600 * SECOND);
            let mut end = (second + 1) * SECOND;
            for slice in slices.newest_first() {
                assert_eq!(slice.end_ns, end);
                end = slice.start_ns;
                let ago = (second + 1) * SECOND - slice.end_ns;
                let length = slice.end_ns - slice.start_ns;
                assert!(length == SECOND || length <= ago / 6, "{length} {ago}");
            }
            assert_eq!(end, 0);
        }
        assert_eq!(totals(&slices, 69), (1500.0, 20_000));
        assert!(slices.newest_first().count() < 100);
    }

    #[test]
    fn what_no_window_reaches_is_forgotten() {
        let mut slices = Slices::default();
        for second in 0..300 {
            slices.push(slice(second, 1, slices.level()), 60 * SECOND);
        }
        let oldest = slices.newest_first().last().unwrap().start_ns / SECOND;
        assert!((232..=240).contains(&oldest), "{oldest}");
    }

    #[test]
    fn the_limit_holds_at_the_price_of_precision_first_and_of_the_oldest_then() {
        for (limit, lost) in [(2 << 20, false), (250_000, false), (20_000, true)] {
            let mut slices = Slices::default();
            for second in 0..200 {
                slices.push(slice(second, 100, slices.level()), 60 * SECOND);
                slices.fit(limit);
                assert!(slices.memory() <= limit);
            }
            assert_eq!(slices.lost() > 0, lost, "{limit}");
            assert_eq!(slices.coarsest() > Level::Three, limit < 1 << 20);
        }
    }

    #[test]
    fn room_to_spare_leads_back_to_the_finest_step() {
        let mut slices = Slices::default();
        for second in 0..200 {
            slices.push(slice(second, 100, slices.level()), 60 * SECOND);
            slices.fit(100_000);
        }
        assert!(slices.coarsest() > Level::Three);
        for second in 200..600 {
            slices.push(slice(second, 0, slices.level()), 60 * SECOND);
            slices.fit(100_000);
        }
        assert_eq!(slices.coarsest(), Level::Three);
    }
}
