//! What was recorded in an interval, a few bytes for each slot.
//!
//! A slice is one buffer. The series of 64 consecutive numbers form a chunk, whose records stand in the order of their numbers. A record is
//!
//! | bytes | what |
//! |---|---|
//! | 1 | number of the series within its chunk; 64 is added for a counter |
//! | varint | length of the rest; not of a counter |
//! | 8 | sum of the recordings, or increment of the counter, `f64` |
//! | varint | length of the counts that follow; not of a counter, nor are the rest |
//! | so many | counts of the slots: pairs of varints, the key less the one before and the count |
//! | the rest | the same of the magnitudes of negative values |

use super::key::coarsened;
use crate::hdr::Level;
use crate::layout::CHUNK;
use crate::varint;

const COUNTER: u8 = CHUNK as u8;

/// Count of one slot.
pub type Count = (u16, u64);

/// What a series recorded in an interval.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Whether it is a counter's, which has a sum only.
    pub is_counter: bool,
    /// Sum of the recordings.
    pub sum: f64,
    /// Counts by key, in the order of keys.
    pub counts: Vec<Count>,
    /// Counts of the magnitudes of negative values.
    pub negative: Vec<Count>,
}

impl Change {
    /// Forgets all, and keeps the memory.
    pub fn clear(&mut self) {
        self.is_counter = false;
        self.sum = 0.0;
        self.counts.clear();
        self.negative.clear();
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        if self.is_counter {
            self.sum == 0.0
        } else {
            self.counts.is_empty() && self.negative.is_empty()
        }
    }

    /// Orders the counts by key, at a ladder step or a coarser one, and adds up those of one key.
    pub fn settle(&mut self, level: Level) {
        for counts in [&mut self.counts, &mut self.negative] {
            if level > Level::Three {
                for (key, _) in counts.iter_mut() {
                    *key = coarsened(*key, level);
                }
            }
            if counts.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
                // Stable, because that is fast for what consists of ordered parts.
                counts.sort_by_key(|(key, _)| *key);
                counts.dedup_by(|later, kept| {
                    let same = later.0 == kept.0;
                    if same {
                        kept.1 = kept.1.saturating_add(later.1);
                    }
                    same
                });
            }
        }
    }
}

/// An interval and what was recorded in it.
#[derive(Debug)]
pub struct Slice {
    /// Monotonic begin in nanoseconds.
    pub start_ns: u64,
    /// Monotonic end.
    pub end_ns: u64,
    /// Finest ladder step in it.
    pub level: Level,
    /// Where the records of each chunk begin, and where the last ones end.
    chunks: Vec<u32>,
    bytes: Vec<u8>,
}

impl Slice {
    /// A slice without records.
    pub fn new(start_ns: u64, end_ns: u64, level: Level) -> Slice {
        Slice {
            start_ns,
            end_ns,
            level,
            chunks: vec![0],
            bytes: Vec::new(),
        }
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        std::mem::size_of::<Slice>() + self.chunks.capacity() * 4 + self.bytes.capacity()
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.chunks.len() - 1
    }

    /// Ends a chunk; the records that are put next are of the one after it.
    pub fn end_chunk(&mut self) {
        self.chunks.push(self.bytes.len() as u32);
    }

    /// Gives back what was set aside for more records.
    pub fn end(&mut self) {
        self.chunks.shrink_to_fit();
        self.bytes.shrink_to_fit();
    }

    /// Appends what a series of the chunk recorded. Its counts are settled.
    pub fn put(&mut self, within: usize, change: &Change) {
        let out = &mut self.bytes;
        if change.is_counter {
            out.push(within as u8 | COUNTER);
            out.extend_from_slice(&change.sum.to_le_bytes());
            return;
        }
        out.push(within as u8);
        // A length of two bytes, because it is known only when the rest is written; of a longer record they become three.
        let length_at = out.len();
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&change.sum.to_le_bytes());
        let counts_at = out.len();
        out.extend_from_slice(&[0, 0]);
        put_counts(out, &change.counts);
        set_length(out, counts_at);
        put_counts(out, &change.negative);
        set_length(out, length_at);
    }

    /// Appends a record as it is, of a slice of the same ladder step.
    pub fn copy(&mut self, record: &Record<'_>) {
        self.bytes.extend_from_slice(record.bytes);
    }

    /// Appends what two records of one series say together, of slices of the same ladder step.
    pub fn put_both(&mut self, a: &Record<'_>, b: &Record<'_>) {
        let out = &mut self.bytes;
        let sum = (a.sum + b.sum).to_le_bytes();
        if a.is_counter {
            out.push(a.within as u8 | COUNTER);
            out.extend_from_slice(&sum);
            return;
        }
        out.push(a.within as u8);
        let length_at = out.len();
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&sum);
        let counts_at = out.len();
        out.extend_from_slice(&[0, 0]);
        put_united(out, a.counts, b.counts);
        set_length(out, counts_at);
        put_united(out, a.negative, b.negative);
        set_length(out, length_at);
    }

    /// The records of a chunk.
    pub fn records(&self, chunk: usize) -> Records<'_> {
        let bytes = match self.chunks.get(chunk..chunk + 2) {
            Some([start, end]) => &self.bytes[*start as usize..*end as usize],
            _ => &[],
        };
        Records { bytes }
    }

    /// What a series recorded, added to `change`.
    pub fn add_to(&self, series: u32, change: &mut Change) {
        let within = series as usize % CHUNK;
        let found = self
            .records(series as usize / CHUNK)
            .find(|record| record.within >= within);
        if let Some(record) = found.filter(|record| record.within == within) {
            record.add_to(change);
        }
    }

    /// The same at a coarser ladder step.
    pub fn coarsened(&self, level: Level) -> Slice {
        let mut out = Slice::new(self.start_ns, self.end_ns, level);
        let mut change = Change::default();
        for chunk in 0..self.chunks() {
            for record in self.records(chunk) {
                change.clear();
                record.add_to(&mut change);
                change.settle(level);
                out.put(record.within, &change);
            }
            out.end_chunk();
        }
        out.end();
        out
    }
}

/// One record of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Number of the series within its chunk.
    pub within: usize,
    bytes: &'a [u8],
    is_counter: bool,
    sum: f64,
    counts: &'a [u8],
    negative: &'a [u8],
}

impl Record<'_> {
    /// Adds what it says; the counts are not settled afterwards.
    pub fn add_to(&self, change: &mut Change) {
        change.is_counter = self.is_counter;
        change.sum += self.sum;
        change.counts.extend(Counts::new(self.counts));
        change.negative.extend(Counts::new(self.negative));
    }
}

/// The records of a chunk, in the order of their series.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let (first, rest) = self.bytes.split_first()?;
        let mut rest = rest;
        let is_counter = first & COUNTER != 0;
        let whole = self.bytes;
        let mut record = Record {
            within: usize::from(first & !COUNTER),
            bytes: whole,
            is_counter,
            sum: 0.0,
            counts: &[],
            negative: &[],
        };
        let mut body = rest;
        if is_counter {
            rest = &rest[8..];
        } else {
            let length = varint::take(&mut rest) as usize;
            (body, rest) = rest.split_at(length);
        }
        let (sum, mut body) = body.split_at(8);
        record.sum = f64::from_le_bytes(sum.try_into().unwrap_or_default());
        if !is_counter {
            let length = varint::take(&mut body) as usize;
            (record.counts, record.negative) = body.split_at(length);
        }
        record.bytes = &whole[..whole.len() - rest.len()];
        self.bytes = rest;
        Some(record)
    }
}

fn put_counts(out: &mut Vec<u8>, counts: &[Count]) {
    let mut before = 0;
    for (key, count) in counts {
        varint::put(out, u64::from(key - before));
        varint::put(out, *count);
        before = *key;
    }
}

/// Appends the counts of both, each of which are in the order of keys.
fn put_united(out: &mut Vec<u8>, a: &[u8], b: &[u8]) {
    let (mut a, mut b) = (Counts::new(a), Counts::new(b));
    let (mut first, mut second) = (a.next(), b.next());
    let mut before = 0;
    while let Some((key, count)) = match (first, second) {
        (Some(one), Some(other)) if one.0 == other.0 => {
            (first, second) = (a.next(), b.next());
            Some((one.0, one.1.saturating_add(other.1)))
        }
        (Some(one), other) if other.is_none_or(|other| one.0 < other.0) => {
            first = a.next();
            Some(one)
        }
        (_, other) => {
            second = b.next();
            other
        }
    } {
        varint::put(out, u64::from(key.wrapping_sub(before)));
        varint::put(out, count);
        before = key;
    }
}

/// Counts as they are written.
struct Counts<'a> {
    bytes: &'a [u8],
    key: u16,
}

impl Counts<'_> {
    fn new(bytes: &[u8]) -> Counts<'_> {
        Counts { bytes, key: 0 }
    }
}

impl Iterator for Counts<'_> {
    type Item = Count;

    fn next(&mut self) -> Option<Count> {
        if self.bytes.is_empty() {
            return None;
        }
        self.key = self.key.wrapping_add(varint::take(&mut self.bytes) as u16);
        Some((self.key, varint::take(&mut self.bytes)))
    }
}

/// Writes the length of what follows into the two bytes that were left for it.
fn set_length(out: &mut Vec<u8>, at: usize) {
    let length = out.len() - at - 2;
    out[at] = length as u8 | 0x80;
    out[at + 1] = (length >> 7) as u8;
    if length >= 1 << 14 {
        // A varint goes on as long as the highest bit is set.
        out[at + 1] |= 0x80;
        out.insert(at + 2, (length >> 14) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts() -> impl Strategy<Value = Vec<Count>> {
        prop::collection::vec((0..47_900_u16, 1..100_000_u64), 0..40)
    }

    fn change() -> impl Strategy<Value = Change> {
        (counts(), counts(), -1e9..1e9_f64, any::<bool>()).prop_map(|(counts, negative, sum, is_counter)| {
            let mut change = Change {
                is_counter,
                sum,
                ..Change::default()
            };
            if !is_counter {
                (change.counts, change.negative) = (counts, negative);
            }
            change.settle(Level::Three);
            change
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn what_is_put_is_found(changes in prop::collection::btree_map(0..300_u32, change(), 0..60)) {
            let mut slice = Slice::new(0, 1, Level::Three);
            for chunk in 0..5 {
                for (series, change) in changes.range(chunk * 64..(chunk + 1) * 64) {
                    slice.put(*series as usize % CHUNK, change);
                }
                slice.end_chunk();
            }
            for series in 0..320 {
                let mut found = Change::default();
                slice.add_to(series, &mut found);
                prop_assert_eq!(&found, &changes.get(&series).cloned().unwrap_or_default());
                let (mut coarse, mut settled) = (Change::default(), found);
                slice.coarsened(Level::Two).add_to(series, &mut coarse);
                settled.settle(Level::Two);
                prop_assert_eq!(coarse, settled);
            }
        }
    }

    #[test]
    fn a_record_of_any_length_is_found() {
        for slots in [0, 1, 40, 80, 4000, 10_000, 20_000] {
            let mut change = Change {
                counts: (0..slots).map(|key| (key, 1 << 40)).collect(),
                ..Change::default()
            };
            change.sum = 7.0;
            let mut slice = Slice::new(0, 1, Level::Three);
            slice.put(3, &change);
            slice.put(9, &change);
            slice.end_chunk();
            for series in [3, 9] {
                let mut found = Change::default();
                slice.add_to(series, &mut found);
                assert_eq!(found, change);
            }
        }
    }
}
