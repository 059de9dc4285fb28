//! What a segment holds, counted: for its report on itself.

use crate::hdr::Level;
use crate::histogram::Histogram;
use crate::segment::Segment;
use crate::tables::{SeriesId, StreamId};

/// Counts of what is in a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Histogram series by the coarsest step of the precision ladder that they use, in the order of [`Level::ALL`].
    pub histograms: [u32; Level::ALL.len()],
    /// Streams that have recorded into their overflow series.
    pub overflowing: u32,
}

impl Census {
    /// Counts: a few loads for each series, some forty for each histogram.
    pub fn of(segment: &Segment) -> Census {
        let tables = segment.tables();
        let mut census = Census::default();
        for id in (0..tables.series_count()).map(SeriesId) {
            let Some(series) = tables.read_series(id).filter(|series| series.touched) else {
                continue;
            };
            let Some(at) = series.histogram_at else {
                continue;
            };
            let histogram = Histogram::new(segment.region(), segment.geometry(), at, series.overflow);
            if let Some(level) = histogram.coarsest() {
                census.histograms[level as usize] += 1;
            }
        }
        for stream in (0..tables.stream_count()).map(StreamId) {
            let overflow = tables.overflow_of(stream).and_then(|id| tables.read_series(id));
            census.overflowing += u32::from(overflow.is_some_and(|series| series.touched));
        }
        census
    }
}
