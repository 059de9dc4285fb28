//! A stream as one process records into it.

use std::sync::Arc;

use crate::exemplar::Buckets;
use crate::hdr::{units_per_one, Level};
use crate::instrument::{Descriptor, Kind};
use crate::stream::Storage;
use crate::tables::StreamId;

/// A stream as this process records into it.
#[derive(Debug)]
pub struct LocalStream {
    /// Its number.
    pub id: StreamId,
    /// Kind of the instrument.
    pub kind: Kind,
    /// What is kept.
    pub storage: Storage,
    /// Integer units per unit of the instrument.
    pub(super) per_one: f64,
    /// Finest step of the precision ladder.
    pub(super) finest: Level,
    /// The buckets that get an exemplar each; none where no exemplars are wanted.
    pub(super) exemplars: Option<Buckets>,
    /// Whether the caller wants to follow up every recording.
    pub(super) followed: bool,
}

impl LocalStream {
    /// A stream that was found or inserted in the segment.
    pub fn new(id: StreamId, descriptor: &Descriptor, exemplars: Option<Buckets>, followed: bool) -> Arc<LocalStream> {
        Arc::new(LocalStream {
            id,
            kind: descriptor.kind,
            storage: descriptor.stream.storage,
            per_one: units_per_one(&descriptor.unit),
            finest: descriptor.stream.aggregation.finest(),
            exemplars,
            followed,
        })
    }
}
