//! Where everything lies in the segment: one geometry computed from the size alone, and the header's words.
//!
//! ```text
//! header            1 KiB   magic, version, size, allocation state, drop counters, service name
//! workers           64 x 64 B
//! lane tables       64 x (series / 64) x 4 B: where a worker's lane chunk of 64 series lies
//! stream index      open addressing, 4 B an entry
//! streams           32 B each
//! series index      open addressing, 4 B an entry
//! series            32 B each
//! pool              lines of 64 B: attribute bytes, descriptors, lane chunks, histogram pages
//! ```
//!
//! Every table is fixed by the size, the pool only ever grows towards the end: nothing is freed, so an offset that was
//! valid once stays valid, and an inserter that dies half-way leaves nothing but unused lines.

use crate::error::SegmentError;
use crate::region::Region;

/// First eight bytes of a segment.
pub const MAGIC: u64 = u64::from_le_bytes(*b"otelperf");
/// Changes whenever the meaning of any byte changes.
pub const LAYOUT_VERSION: u32 = 5;
/// Byte offset of the layout version, a little-endian `u32`.
pub const LAYOUT_VERSION_OFFSET: usize = 8;

/// Bytes of the default segment.
pub const DEFAULT_SIZE: u64 = 1 << 20;
/// Smallest segment that is worth having.
pub const MINIMUM_SIZE: u64 = 128 << 10;
/// Largest segment that line numbers can address.
pub const MAXIMUM_SIZE: u64 = 1 << 30;

/// Worker slots. Slot 0 is the common lane: nobody owns it, and workers that found no free slot share it.
pub const WORKERS: usize = 64;
/// The lane that keeps what callbacks of dead workers had reported; nobody joins it.
pub const RETIRED: usize = WORKERS - 1;
/// Series per lane chunk.
pub const CHUNK: usize = 64;
/// Bytes of a pool line, one cache line.
pub const LINE: usize = 64;
/// Bytes of a cell in a lane.
pub const CELL: usize = 16;
/// Pool lines of a lane chunk.
pub const CHUNK_LINES: u32 = (CHUNK * CELL / LINE) as u32;
/// Bytes of a worker record.
pub const WORKER: usize = 64;
/// Bytes of a stream record.
pub const STREAM: usize = 32;
/// Bytes of a series record.
pub const SERIES: usize = 32;

/// Byte offsets of the header's words.
pub mod header {
    /// `u64` magic.
    pub const MAGIC: usize = 0;
    /// `u64` size of the segment in bytes.
    pub const SIZE: usize = 16;
    /// `u64` creation time, nanoseconds since the epoch.
    pub const CREATED: usize = 24;
    /// `u32` 1 once the segment may be used.
    pub const READY: usize = 32;
    /// `u32` length of the service name, at most [`SERVICE_MAX`].
    pub const SERVICE_LEN: usize = 36;
    /// `u32` number of the window, see [`crate::exemplar`]. In a line that is hardly ever written, because every recording reads it.
    pub const WINDOW: usize = 40;
    /// `u32` 1 once the last process has ended the segment, see [`crate::workers::Workers::end`].
    pub const ENDED: usize = 44;
    /// `u64` number of sets and first line of the exemplars, see [`crate::exemplar`].
    pub const EXEMPLARS: usize = 48;
    /// `u64` number of records and first line of the span table, see [`crate::spans`].
    pub const SPANS: usize = 56;
    /// `u64` next free pool line.
    pub const POOL_NEXT: usize = 64;
    /// `u64` state of the small-object arena, see [`crate::pool::Pool::take_bytes`].
    pub const ARENA: usize = 72;
    /// `u32` next free series record.
    pub const SERIES_NEXT: usize = 128;
    /// `u32` next free stream record.
    pub const STREAM_NEXT: usize = 132;
    /// `u32` histograms in existence, for the page budget.
    pub const HISTOGRAMS: usize = 136;
    /// `u32` octaves that have a block, for the page budget.
    pub const OCTAVES: usize = 140;
    /// `u32` estimate of how many of the recent pages were those of new histograms, see [`crate::pool::Pool::reserve`].
    pub const ARRIVALS: usize = 144;
    /// `u32` octaves at three digits that have no coarser page in front, for the page budget.
    pub const FINE: usize = 148;
    /// `u64` per pool use, see [`crate::pool::Use`]: lines handed out.
    pub const USES: usize = 192;
    /// `u64` per reason, see [`crate::drops::Drop`].
    pub const DROPS: usize = 256;
    /// The service name, UTF-8.
    pub const SERVICE: usize = 512;
    /// Longest service name kept, in bytes.
    pub const SERVICE_MAX: usize = 255;
    /// `u32` lane of the process that serves an endpoint, plus 1; 0 if none does.
    pub const SERVING: usize = 768;
    /// `u32` length of its address, at most [`SERVING_MAX`].
    pub const SERVING_LEN: usize = 772;
    /// The address, UTF-8.
    pub const SERVING_AT: usize = 776;
    /// Longest address kept, in bytes.
    pub const SERVING_MAX: usize = LEN - SERVING_AT;
    /// Bytes of the header.
    pub const LEN: usize = 1024;
}

/// Sizes and byte offsets of all tables of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of the whole segment.
    pub size: usize,
    /// Capacity of the series table.
    pub series: usize,
    /// Capacity of the stream table.
    pub streams: usize,
    /// Lane chunks of one worker.
    pub chunks: usize,
    /// Entries of the series index, a power of two.
    pub series_index: usize,
    /// Entries of the stream index, a power of two.
    pub stream_index: usize,
    /// Offset of the worker table.
    pub workers_at: usize,
    /// Offset of the lane tables.
    pub lanes_at: usize,
    /// Offset of the stream index.
    pub stream_index_at: usize,
    /// Offset of the stream table.
    pub streams_at: usize,
    /// Offset of the series index.
    pub series_index_at: usize,
    /// Offset of the series table.
    pub series_at: usize,
    /// Offset of the pool, line-aligned.
    pub pool_at: usize,
    /// Lines of the pool. Line 0 is never handed out, so that 0 can mean "none".
    pub lines: u32,
}

impl Geometry {
    /// The geometry of a segment of `size` bytes.
    pub fn of(size: u64) -> Result<Geometry, SegmentError> {
        if !(MINIMUM_SIZE..=MAXIMUM_SIZE).contains(&size) {
            return Err(SegmentError::Size {
                requested: size,
                minimum: MINIMUM_SIZE,
                maximum: MAXIMUM_SIZE,
            });
        }
        let size = size as usize;
        let series = (size / 512).next_multiple_of(CHUNK);
        let streams = (size / 2048).clamp(64, 8192);
        let chunks = series / CHUNK;
        let series_index = (2 * series).next_power_of_two();
        let stream_index = (2 * streams).next_power_of_two();
        let workers_at = header::LEN;
        let lanes_at = workers_at + WORKERS * WORKER;
        let stream_index_at = lanes_at + WORKERS * chunks * 4;
        let streams_at = (stream_index_at + stream_index * 4).next_multiple_of(LINE);
        let series_index_at = streams_at + streams * STREAM;
        let series_at = (series_index_at + series_index * 4).next_multiple_of(LINE);
        let pool_at = (series_at + series * SERIES).next_multiple_of(LINE);
        Ok(Geometry {
            size,
            series,
            streams,
            chunks,
            series_index,
            stream_index,
            workers_at,
            lanes_at,
            stream_index_at,
            streams_at,
            series_index_at,
            series_at,
            pool_at,
            lines: ((size - pool_at) / LINE) as u32,
        })
    }

    /// Byte offset of a pool line, or `None` for line 0 and lines beyond the pool.
    #[inline]
    pub fn line(&self, line: u32) -> Option<usize> {
        if line == 0 || line >= self.lines {
            None
        } else {
            Some(self.pool_at + line as usize * LINE)
        }
    }

    /// Reads and checks the header of an existing segment; the text says what is wrong.
    pub fn read(region: &Region) -> Result<Geometry, String> {
        use std::sync::atomic::Ordering::Acquire;
        let word = |offset| region.u64(offset).map(|word| word.load(Acquire));
        let half = |offset| region.u32(offset).map(|word| word.load(Acquire));
        if region.len() < header::LEN {
            return Err(format!("it is truncated: {} bytes", region.len()));
        }
        if word(header::MAGIC) != Some(MAGIC) {
            return Err("it does not begin with the segment's magic number".into());
        }
        match half(LAYOUT_VERSION_OFFSET) {
            Some(LAYOUT_VERSION) => {}
            found => {
                return Err(format!(
                    "it has layout version {}, this build of otel_perf uses version {LAYOUT_VERSION}",
                    found.unwrap_or(0)
                ))
            }
        }
        let stated = word(header::SIZE).unwrap_or(0);
        if stated != region.len() as u64 {
            return Err(format!(
                "it is truncated or grown: the header states {stated} bytes, the file has {}",
                region.len()
            ));
        }
        if half(header::READY) != Some(1) {
            return Err("its creator never finished it".into());
        }
        Geometry::of(stated).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_segment_leaves_most_of_itself_to_the_pool() {
        let geometry = Geometry::of(DEFAULT_SIZE).unwrap();
        assert_eq!(geometry.series, 2048);
        assert!(geometry.lines as usize * LINE > geometry.size * 85 / 100);
    }

    proptest! {
        #[test]
        fn tables_are_ordered_aligned_and_inside_the_segment(size in MINIMUM_SIZE..=MAXIMUM_SIZE) {
            let g = Geometry::of(size).unwrap();
            let ends = [
                (g.workers_at, g.lanes_at),
                (g.lanes_at, g.stream_index_at),
                (g.stream_index_at, g.streams_at),
                (g.streams_at, g.series_index_at),
                (g.series_index_at, g.series_at),
                (g.series_at, g.pool_at),
            ];
            prop_assert!(ends.iter().all(|(start, end)| start < end && start % 4 == 0));
            prop_assert_eq!(g.streams_at % LINE, 0);
            prop_assert_eq!(g.series_at % LINE, 0);
            prop_assert_eq!(g.pool_at % LINE, 0);
            prop_assert!(g.pool_at + g.lines as usize * LINE <= g.size);
            prop_assert!(g.series_index >= 2 * g.series && g.stream_index >= 2 * g.streams);
            prop_assert!(g.lines > 16);
        }
    }

    #[test]
    fn sizes_outside_the_range_are_refused() {
        for size in [0, MINIMUM_SIZE - 1, MAXIMUM_SIZE + 1] {
            assert!(Geometry::of(size).is_err());
        }
    }
}
