//! The streams of an instrument as this process records into them: what views and readers make of it.

use std::sync::Arc;

use otel_perf_core::exemplar::Buckets;
use otel_perf_core::hdr::units_per_one;
use otel_perf_core::instrument::{Descriptor, Kind};
use otel_perf_core::local::{LocalSeries, LocalStream};
use otel_perf_core::segment::{Segment, CARDINALITY_LIMIT};
use otel_perf_core::stream::{Aggregation, Stream};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::attributes;
use crate::segment::kind_of;

/// Which recordings may become exemplars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExemplarFilter {
    Off,
    On,
    /// Those made in a sampled span.
    TraceBased,
}

impl ExemplarFilter {
    /// The filter with this name, as `OTEL_METRICS_EXEMPLAR_FILTER` names them.
    pub fn named(name: &str) -> PyResult<ExemplarFilter> {
        Ok(match name {
            "always_off" => ExemplarFilter::Off,
            "always_on" => ExemplarFilter::On,
            "trace_based" => ExemplarFilter::TraceBased,
            _ => return Err(PyValueError::new_err(format!("no exemplar filter is called {name:?}"))),
        })
    }
}

/// An aggregation from the tuple that Python makes of it: its name and arguments.
pub fn aggregation(stated: &Bound<'_, PyTuple>) -> PyResult<Aggregation> {
    let name: String = stated.get_item(0)?.extract()?;
    Ok(match name.as_str() {
        "default" => Aggregation::Default,
        "drop" => Aggregation::Drop,
        "sum" => Aggregation::Sum,
        "last_value" => Aggregation::LastValue,
        "explicit" => Aggregation::Explicit {
            boundaries: stated.get_item(1)?.extract()?,
            record_min_max: stated.get_item(2)?.extract()?,
        },
        "exponential" => Aggregation::Exponential {
            max_size: stated.get_item(1)?.extract()?,
            max_scale: stated.get_item(2)?.extract()?,
            record_min_max: stated.get_item(3)?.extract()?,
        },
        "hdr" => Aggregation::Hdr {
            significant_digits: stated.get_item(1)?.extract()?,
            quantiles: stated.get_item(2)?.extract()?,
            window: stated.get_item(3)?.extract()?,
        },
        "ewma" => Aggregation::Ewma {
            tau: stated.get_item(1)?.extract()?,
        },
        _ => return Err(PyValueError::new_err(format!("no aggregation is called {name:?}"))),
    })
}

/// Number of the storage of an aggregation of a kind of instrument; none if nothing is kept.
#[pyfunction]
pub fn storage(kind: &str, stated: &Bound<'_, PyTuple>) -> PyResult<Option<u8>> {
    let kind = kind_of(kind)?;
    Ok(aggregation(stated)?.storage(kind).map(|storage| storage as u8))
}

/// A stream that Python asks for.
pub struct Wanted {
    stream: Stream,
    /// What the aggregation comes to for the readers of this process.
    effective: Aggregation,
    limit: u32,
    keys: Option<Py<PyAny>>,
    follow: Option<Py<PyAny>>,
}

impl Wanted {
    /// The stream of an instrument that no view matches.
    pub fn unviewed(kind: Kind) -> Wanted {
        Wanted {
            stream: Stream::unviewed(kind),
            effective: Aggregation::Default,
            limit: CARDINALITY_LIMIT,
            keys: None,
            follow: None,
        }
    }

    /// Reads `(view, variant, name, description, aggregation, effective, limit, keys, follow)`; `None` if nothing is kept.
    pub fn read(kind: Kind, asked: &Bound<'_, PyTuple>) -> PyResult<Option<Wanted>> {
        let tuple = |index| -> PyResult<Aggregation> { aggregation(asked.get_item(index)?.cast::<PyTuple>()?) };
        let effective = tuple(5)?;
        let Some(storage) = effective.storage(kind) else {
            return Ok(None);
        };
        let stream = Stream {
            view: asked.get_item(0)?.extract()?,
            variant: asked.get_item(1)?.extract()?,
            storage,
            aggregation: tuple(4)?,
            name: asked.get_item(2)?.extract()?,
            description: asked.get_item(3)?.extract()?,
        };
        Ok(Some(Wanted {
            stream,
            effective,
            limit: asked.get_item(6)?.extract()?,
            keys: asked.get_item(7)?.extract()?,
            follow: asked.get_item(8)?.extract()?,
        }))
    }
}

/// One stream.
pub struct StreamEntry {
    pub local: Arc<LocalStream>,
    pub overflow: Arc<LocalSeries>,
    /// A container of the attribute keys that stay; none if all do.
    pub keys: Option<Py<PyAny>>,
    /// A callable that is told of every recording.
    pub follow: Option<Py<PyAny>>,
}

/// The streams of one instrument.
pub struct Streams {
    pub entries: Vec<StreamEntry>,
    pub filter: ExemplarFilter,
    /// Whether the segment had no room for a stream, whose recordings are then counted as lost.
    pub incomplete: bool,
}

impl Streams {
    /// Creates or finds streams of an instrument in the segment.
    pub fn new(
        segment: &Arc<Segment>,
        descriptor: &Descriptor,
        wanted: Vec<Wanted>,
        filter: ExemplarFilter,
    ) -> Arc<Streams> {
        let asked = wanted.len();
        let open = |wanted: Wanted| -> Option<StreamEntry> {
            let buckets = match &wanted.effective {
                _ if filter == ExemplarFilter::Off || wanted.follow.is_some() => None,
                Aggregation::Ewma { .. } => None,
                Aggregation::Explicit {
                    boundaries: Some(boundaries),
                    ..
                } => Some(Buckets::Explicit(boundaries.clone())),
                Aggregation::Explicit { .. } | Aggregation::Exponential { .. } | Aggregation::Hdr { .. } => {
                    Some(Buckets::Octaves(units_per_one(&descriptor.unit)))
                }
                _ => Some(Buckets::One),
            };
            let descriptor = Descriptor {
                stream: wanted.stream,
                ..descriptor.clone()
            };
            let id = segment.stream(&descriptor, wanted.limit)?;
            let local = LocalStream::new(id, &descriptor, buckets, wanted.follow.is_some());
            let overflow = segment.tables().overflow_of(id)?;
            Some(StreamEntry {
                overflow: LocalSeries::new(segment, &local, overflow, None, Vec::new())?,
                local,
                keys: wanted.keys,
                follow: wanted.follow,
            })
        };
        let entries: Vec<StreamEntry> = wanted.into_iter().filter_map(open).collect();
        Arc::new(Streams {
            incomplete: entries.len() < asked,
            entries,
            filter,
        })
    }

    /// Whether recordings go anywhere, or are counted as lost.
    pub fn records(&self) -> bool {
        self.incomplete || !self.entries.is_empty()
    }

    /// The entry of a series' stream.
    pub fn of(&self, series: &LocalSeries) -> Option<&StreamEntry> {
        self.entries.iter().find(|entry| entry.local.id == series.stream().id)
    }
}

impl StreamEntry {
    /// Whether the attribute stays in the stream.
    pub fn keeps(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.keys
            .as_ref()
            .map_or(Ok(true), |keys| keys.bind(key.py()).contains(key))
    }

    /// Canonical bytes of those of the clean pairs that stay.
    pub fn canonical(&self, pairs: &[(Bound<'_, PyAny>, Bound<'_, PyAny>)]) -> PyResult<Vec<u8>> {
        if self.keys.is_none() {
            return attributes::canonical_of_pairs(pairs);
        }
        let mut kept = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            if self.keeps(key)? {
                kept.push((key.clone(), value.clone()));
            }
        }
        attributes::canonical_of_pairs(&kept)
    }

    /// Whether a series has all attributes of its recordings.
    pub fn drops_nothing(&self, overflow: bool) -> bool {
        self.keys.is_none() && !overflow
    }

    /// Canonical bytes of those of the clean pairs that a series does not have, as many of them as an exemplar keeps.
    pub fn dropped(&self, overflow: bool, pairs: &[(Bound<'_, PyAny>, Bound<'_, PyAny>)]) -> PyResult<Vec<u8>> {
        if self.drops_nothing(overflow) {
            return Ok(Vec::new());
        }
        let mut dropped = Vec::new();
        for (key, value) in pairs {
            if overflow || !self.keeps(key)? {
                dropped.push((key.clone(), value.clone()));
            }
        }
        attributes::canonical_that_fits(&dropped)
    }
}
