//! `Collector`: the points of a reader as tuples, from which Python builds the SDK's data points.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use otel_perf_core::clock::{monotonic_ns, unix_ns};
use otel_perf_core::exemplar::Exemplar;
use otel_perf_core::instrument::Descriptor;
use otel_perf_core::reader::{Point, Preferences, Readers, Temporality, Value};
use otel_perf_core::segment::Segment as CoreSegment;
use otel_perf_core::stream::{Aggregation, Storage};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::attributes;
use crate::distribution::number;
use crate::segment::{kind_of, Segment};
use crate::streams::aggregation;

/// Most exemplars of a point of an exponential histogram.
const EXPONENTIAL_EXEMPLARS: usize = 20;

/// See `_core.pyi`.
#[pyclass(frozen, module = "otel_perf._core")]
pub struct Collector {
    segment: Arc<CoreSegment>,
    /// Taken without the GIL while a scan runs. A forked child makes a new collector, because its parent may have held it.
    readers: Mutex<Readers>,
    preferences: Mutex<HashMap<u64, Arc<Preferences>>>,
    /// One dict a series, made once.
    attributes: Mutex<HashMap<u32, Py<PyDict>>>,
    default_boundaries: Vec<f64>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl Collector {
    #[new]
    fn new(segment: &Segment, default_boundaries: Vec<f64>) -> Collector {
        Collector {
            segment: Arc::clone(&segment.inner),
            readers: Mutex::default(),
            preferences: Mutex::default(),
            attributes: Mutex::default(),
            default_boundaries,
        }
    }

    /// Adds a reader, with `(kind, delta, aggregation, limit)` for each kind of instrument.
    fn add_reader(&self, reader: u64, preferences: Vec<(String, bool, Bound<'_, PyTuple>, u32)>) -> PyResult<()> {
        let mut found = Preferences::of(Temporality::Cumulative);
        for (kind, delta, stated, limit) in preferences {
            let index = kind_of(&kind)? as usize - 1;
            if delta {
                found.temporality[index] = Temporality::Delta;
            }
            found.aggregation[index] = aggregation(&stated)?;
            found.limit[index] = limit;
        }
        let found = Arc::new(found);
        locked(&self.preferences).insert(reader, Arc::clone(&found));
        locked(&self.readers).add(reader, found);
        Ok(())
    }

    fn remove_reader(&self, py: Python<'_>, reader: u64) {
        locked(&self.preferences).remove(&reader);
        py.detach(|| locked(&self.readers).remove(reader));
    }

    /// Monotonic nanoseconds: the time before which a callback's report belongs to an earlier collection.
    #[staticmethod]
    fn now_ns() -> u64 {
        monotonic_ns()
    }

    /// Notes in the segment that this process's callbacks have reported, for readers in other processes.
    fn reported(&self, since_ns: u64) {
        self.segment.workers().report(self.segment.lane(), since_ns);
    }

    /// The points of a reader by stream: `(time, [(stream, shape, [point, ...]), ...])`.
    fn collect<'py>(&self, py: Python<'py>, reader: u64, since_ns: u64) -> PyResult<(u64, Bound<'py, PyList>)> {
        let metrics = PyList::empty(py);
        let Some(preferences) = locked(&self.preferences).get(&reader).cloned() else {
            return Ok((unix_ns(), metrics));
        };
        let points = py.detach(|| locked(&self.readers).collect(&self.segment, reader, since_ns));
        let time = points.first().map_or_else(unix_ns, |point| point.time_unix_ns);
        for group in points.chunk_by(|a, b| a.stream == b.stream) {
            let id = group[0].stream;
            let Some(descriptor) = self.segment.tables().descriptor(id) else {
                continue;
            };
            let Some(aggregation) = preferences.aggregation(&descriptor) else {
                continue;
            };
            let shape = Shape::of(&descriptor, aggregation, &preferences, &self.default_boundaries);
            let bounds = PyTuple::new(py, shape.boundaries())?;
            let out = PyList::empty(py);
            for point in group {
                out.append(self.point(py, point, &shape, &bounds)?)?;
            }
            metrics.append((id.0, shape.name(), out))?;
            if let Aggregation::Hdr { quantiles, .. } = aggregation {
                self.quantiles(py, &metrics, group, quantiles)?;
            }
        }
        Ok((time, metrics))
    }
}

/// How the points of a stream leave.
enum Shape {
    Sum,
    Gauge,
    Explicit {
        boundaries: Vec<f64>,
        record_min_max: bool,
    },
    Exponential {
        max_size: usize,
        max_scale: i32,
        record_min_max: bool,
    },
}

impl Shape {
    fn of(descriptor: &Descriptor, aggregation: &Aggregation, preferences: &Preferences, default: &[f64]) -> Shape {
        let histogram = match aggregation {
            // A view of ours leaves the shape to the reader.
            Aggregation::Hdr { .. } => preferences.histogram(descriptor.kind),
            stated => stated,
        };
        match (descriptor.stream.storage, histogram) {
            (_, Aggregation::Ewma { .. }) | (Storage::Last | Storage::Mean, _) => Shape::Gauge,
            (Storage::Sum | Storage::Total, _) => Shape::Sum,
            (
                Storage::Distribution,
                Aggregation::Exponential {
                    max_size,
                    max_scale,
                    record_min_max,
                },
            ) => Shape::Exponential {
                max_size: *max_size as usize,
                max_scale: *max_scale,
                record_min_max: *record_min_max,
            },
            (Storage::Distribution, stated) => {
                let (boundaries, record_min_max) = match stated {
                    Aggregation::Explicit {
                        boundaries,
                        record_min_max,
                    } => (boundaries.as_deref(), *record_min_max),
                    _ => (None, true),
                };
                let boundaries = boundaries.or(descriptor.boundaries.as_deref()).unwrap_or(default);
                Shape::Explicit {
                    boundaries: boundaries.to_vec(),
                    record_min_max,
                }
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Shape::Sum => "sum",
            Shape::Gauge => "gauge",
            Shape::Explicit { .. } => "explicit",
            Shape::Exponential { .. } => "exponential",
        }
    }

    fn boundaries(&self) -> &[f64] {
        match self {
            Shape::Explicit { boundaries, .. } => boundaries,
            _ => &[],
        }
    }

    /// Of the exemplars, oldest first, those that a point of this shape carries: the last one of each explicit bucket, a few of an exponential
    /// histogram, none of zero, and the last one otherwise. The SDK's reservoirs have these sizes.
    fn choose<'a>(&self, exemplars: &'a [Exemplar]) -> Vec<&'a Exemplar> {
        match self {
            Shape::Sum | Shape::Gauge => exemplars.last().into_iter().collect(),
            Shape::Explicit { boundaries, .. } => {
                let mut last = BTreeMap::new();
                for exemplar in exemplars {
                    let value = exemplar.value.as_f64();
                    last.insert(boundaries.partition_point(|boundary| *boundary < value), exemplar);
                }
                last.into_values().collect()
            }
            Shape::Exponential { max_size, .. } => {
                let nonzero: Vec<_> = exemplars
                    .iter()
                    .filter(|exemplar| exemplar.value.as_f64() != 0.0)
                    .collect();
                let most = EXPONENTIAL_EXEMPLARS.min(*max_size);
                nonzero[nonzero.len().saturating_sub(most)..].to_vec()
            }
        }
    }
}

impl Collector {
    fn attributes_of<'py>(&self, py: Python<'py>, point: &Point) -> PyResult<Bound<'py, PyDict>> {
        if let Some(known) = locked(&self.attributes).get(&point.series.0) {
            return Ok(known.bind(py).clone());
        }
        let bytes = self.segment.attribute_bytes(point.series).unwrap_or_default();
        let dict = attributes::to_dict(py, &bytes)?;
        locked(&self.attributes).insert(point.series.0, dict.clone().unbind());
        Ok(dict)
    }

    /// Appends the quantiles of a group as a family of their own.
    fn quantiles(
        &self,
        py: Python<'_>,
        metrics: &Bound<'_, PyList>,
        group: &[Point],
        quantiles: &[f64],
    ) -> PyResult<()> {
        let out = PyList::empty(py);
        for point in group {
            for (quantile, value) in quantiles.iter().zip(&point.quantiles) {
                let attributes = self.attributes_of(py, point)?.copy()?;
                attributes.set_item("quantile", quantile.to_string())?;
                out.append((attributes, point.start_unix_ns, *value, py.None(), py.None()))?;
            }
        }
        if !out.is_empty() {
            metrics.append((group[0].stream.0, "quantile", out))?;
        }
        Ok(())
    }

    fn point<'py>(
        &self,
        py: Python<'py>,
        point: &Point,
        shape: &Shape,
        bounds: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let attributes = self.attributes_of(py, point)?;
        let (start, series) = (point.start_unix_ns, point.series.0);
        let exemplars = exemplars(py, &shape.choose(&point.exemplars))?;
        let distribution = match &point.value {
            Value::Number(value) => {
                return (attributes, start, number(py, *value)?, exemplars, series).into_pyobject(py)
            }
            Value::Distribution(distribution) => distribution,
        };
        let (count, sum) = (distribution.count(), number(py, distribution.sum())?);
        let range = |record_min_max: bool| {
            if record_min_max {
                (distribution.min(), distribution.max())
            } else {
                (f64::INFINITY, f64::NEG_INFINITY)
            }
        };
        match shape {
            Shape::Exponential {
                max_size,
                max_scale,
                record_min_max,
            } => {
                let found = distribution.exponential(*max_size, *max_scale);
                let positive = (found.positive.offset, PyTuple::new(py, found.positive.counts)?);
                let negative = (found.negative.offset, PyTuple::new(py, found.negative.counts)?);
                let buckets = (found.scale, found.zero_count, positive, negative);
                let (min, max) = range(*record_min_max);
                (attributes, start, count, sum, buckets, min, max, exemplars, series).into_pyobject(py)
            }
            Shape::Explicit { record_min_max, .. } => {
                let counts = PyTuple::new(py, distribution.explicit(shape.boundaries()))?;
                let (min, max) = range(*record_min_max);
                (
                    attributes, start, count, sum, counts, bounds, min, max, exemplars, series,
                )
                    .into_pyobject(py)
            }
            Shape::Sum | Shape::Gauge => (attributes, start, count, exemplars, series).into_pyobject(py),
        }
    }
}

/// Exemplars as tuples `(dropped attributes or None, value, time, span id or None, trace id or None)`; none if there are none.
fn exemplars(py: Python<'_>, chosen: &[&Exemplar]) -> PyResult<Option<Py<PyList>>> {
    if chosen.is_empty() {
        return Ok(None);
    }
    let out = PyList::empty(py);
    for exemplar in chosen {
        let dropped = match &exemplar.dropped {
            Some(bytes) => Some(attributes::to_dict(py, bytes)?),
            None => None,
        };
        let (span, trace) = (exemplar.span.map(|ids| ids.span), exemplar.span.map(|ids| ids.trace));
        out.append((dropped, number(py, exemplar.value)?, exemplar.time_unix_ns, span, trace))?;
    }
    Ok(Some(out.unbind()))
}
