//! `Collector`: the metrics of a reader as tuples, from which Python builds the SDK's data points.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use otel_perf_core::clock::{monotonic_ns, thread_cpu_ns, unix_ns};
use otel_perf_core::encode::otlp;
use otel_perf_core::exemplar::Exemplar;
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;
use otel_perf_core::merge::GaugeMode;
use otel_perf_core::metric::{self, DataPoint, Metric, Resource, Scope, Shape};
use otel_perf_core::reader::{Preferences, Readers, Temporality, Value};
use otel_perf_core::segment::Segment as CoreSegment;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyMapping, PyTuple};

use crate::attributes;
use crate::distribution::{number, number_of};
use crate::prometheus::{format_of, PrometheusEncoder};
use crate::segment::{kind_of, Segment};
use crate::streams::aggregation;
use crate::windows::Quantiles;

/// What is made at collection and not recorded: name, description, unit, kind, and values by attributes, those of sums since the segment was made.
type Made<'py> = (
    String,
    String,
    String,
    String,
    Vec<(Bound<'py, PyMapping>, Bound<'py, PyAny>)>,
);

/// A point of what is made: reader, name, attributes.
type MadePoint = (u64, String, Vec<u8>);

/// See `_core.pyi`.
#[pyclass(frozen, module = "otel_perf._core")]
pub struct Collector {
    segment: Arc<CoreSegment>,
    /// Taken without the GIL while a scan runs. A forked child makes a new collector, because its parent may have held it.
    readers: Mutex<Readers>,
    preferences: Mutex<HashMap<u64, Arc<Preferences>>>,
    /// One dict a series, made once.
    attributes: Mutex<HashMap<u32, Py<PyDict>>>,
    /// Sums made at collection, as each delta reader has seen them last.
    seen: Mutex<HashMap<MadePoint, Number>>,
    default_boundaries: Vec<f64>,
    gauges: GaugeMode,
    /// CPU time of encoding.
    encoding_ns: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl Collector {
    #[new]
    #[pyo3(signature = (segment, default_boundaries, gauge_mode="mostrecent"))]
    fn new(segment: &Segment, default_boundaries: Vec<f64>, gauge_mode: &str) -> PyResult<Collector> {
        let gauges = GaugeMode::named(gauge_mode)
            .ok_or_else(|| PyValueError::new_err(format!("no mode of gauges is called {gauge_mode:?}")))?;
        Ok(Collector {
            gauges,
            segment: Arc::clone(&segment.inner),
            readers: Mutex::default(),
            preferences: Mutex::default(),
            attributes: Mutex::default(),
            seen: Mutex::default(),
            default_boundaries,
            encoding_ns: AtomicU64::new(0),
        })
    }

    /// CPU seconds of encoding so far.
    fn encoding_seconds(&self) -> f64 {
        self.encoding_ns.load(Relaxed) as f64 / 1e9
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
        found.gauges = self.gauges;
        let found = Arc::new(found);
        locked(&self.preferences).insert(reader, Arc::clone(&found));
        locked(&self.readers).add(reader, found);
        Ok(())
    }

    /// Lets the next interval of a reader begin now, see [`Readers::keep_up`].
    fn keep_up(&self, py: Python<'_>, reader: u64) {
        py.detach(|| locked(&self.readers).keep_up(&self.segment, reader));
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

    /// The metrics of a reader: `(time, [(stream, shape, name, description, unit, monotonic, delta, [point, ...]), ...])`.
    #[pyo3(signature = (reader, since_ns, made=Vec::new(), quantiles=None))]
    fn collect<'py>(
        &self,
        py: Python<'py>,
        reader: u64,
        since_ns: u64,
        made: Vec<Made<'py>>,
        quantiles: Option<&Quantiles>,
    ) -> PyResult<(u64, Bound<'py, PyList>)> {
        let out = PyList::empty(py);
        let metrics = self.metrics(py, reader, since_ns, &made, quantiles)?;
        let time = metrics.iter().find_map(|metric| metric.points.first());
        let time = time.map_or_else(unix_ns, |point| point.time_unix_ns);
        for metric in &metrics {
            let bounds = match &metric.shape {
                Shape::Explicit { boundaries, .. } => PyTuple::new(py, boundaries)?,
                _ => PyTuple::empty(py),
            };
            let points = PyList::empty(py);
            for point in &metric.points {
                points.append(self.point(py, point, &metric.shape, &bounds)?)?;
            }
            let (shape, monotonic, delta) = match metric.shape {
                Shape::Sum { monotonic, delta } => ("sum", monotonic, delta),
                Shape::Gauge => ("gauge", false, false),
                Shape::Explicit { delta, .. } => ("explicit", false, delta),
                Shape::Exponential { delta, .. } => ("exponential", false, delta),
            };
            let stream = metric.stream.map(|stream| stream.0);
            out.append((
                stream,
                shape,
                &metric.name,
                &metric.description,
                &metric.unit,
                monotonic,
                delta,
                points,
            ))?;
        }
        Ok((time, out))
    }

    /// The metrics of a reader as Prometheus reads them.
    #[pyo3(signature = (reader, since_ns, encoder, format, resource, constant, made=Vec::new(), quantiles=None))]
    #[allow(clippy::too_many_arguments)]
    fn encode_prometheus<'py>(
        &self,
        py: Python<'py>,
        reader: u64,
        since_ns: u64,
        encoder: &PrometheusEncoder,
        format: &str,
        resource: &Bound<'py, PyMapping>,
        constant: &Bound<'py, PyMapping>,
        made: Vec<Made<'py>>,
        quantiles: Option<&Quantiles>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let format = format_of(format)?;
        let constant = attributes::pairs(constant)?;
        let resource = Resource {
            attributes: attributes::pairs(resource)?,
            ..Resource::default()
        };
        let metrics = self.metrics(py, reader, since_ns, &made, quantiles)?;
        let bytes = py.detach(|| {
            let bytes = self.timed(|| encoder.encode(&metrics, &resource, &constant, format));
            // Freeing them takes as long as encoding a part of them.
            drop(metrics);
            bytes
        });
        Ok(PyBytes::new(py, &bytes))
    }

    /// The same metrics as an OTLP request, with its number of points, all of them and those that are deltas.
    #[pyo3(signature = (reader, since_ns, attributes, schema_url, made=Vec::new(), quantiles=None))]
    #[allow(clippy::too_many_arguments)]
    fn encode_otlp<'py>(
        &self,
        py: Python<'py>,
        reader: u64,
        since_ns: u64,
        attributes: &Bound<'py, PyMapping>,
        schema_url: String,
        made: Vec<Made<'py>>,
        quantiles: Option<&Quantiles>,
    ) -> PyResult<(Bound<'py, PyBytes>, usize, usize)> {
        let attributes = attributes::pairs(attributes)?;
        let resource = Resource { attributes, schema_url };
        let metrics = self.metrics(py, reader, since_ns, &made, quantiles)?;
        let (request, points, deltas) = py.detach(|| {
            let points = |metric: &Metric| metric.points.len();
            let deltas = metrics.iter().filter(|metric| metric.shape.is_delta());
            let counts = (metrics.iter().map(points).sum(), deltas.map(points).sum());
            let request = self.timed(|| otlp::request(&resource, &metrics));
            (request, counts.0, counts.1)
        });
        Ok((PyBytes::new(py, &request), points, deltas))
    }
}

impl Collector {
    fn timed<T>(&self, encode: impl FnOnce() -> T) -> T {
        let before = thread_cpu_ns();
        let encoded = encode();
        self.encoding_ns
            .fetch_add(thread_cpu_ns().saturating_sub(before), Relaxed);
        encoded
    }

    /// The metrics of a reader, and then what was made at collection; the segment is read without the GIL.
    fn metrics(
        &self,
        py: Python<'_>,
        reader: u64,
        since_ns: u64,
        made: &[Made<'_>],
        quantiles: Option<&Quantiles>,
    ) -> PyResult<Vec<Metric>> {
        let asked = quantiles.and_then(Quantiles::here);
        let Some(preferences) = locked(&self.preferences).get(&reader).cloned() else {
            return Ok(Vec::new());
        };
        let mut metrics = py.detach(|| {
            let points = locked(&self.readers).collect(&self.segment, reader, since_ns);
            metric::metrics(&self.segment, points, &preferences, &self.default_boundaries, asked)
        });
        let scope = Arc::new(Scope {
            name: "otel_perf".to_owned(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            ..Scope::default()
        });
        for metric in made.iter().filter(|metric| !metric.4.is_empty()) {
            metrics.push(self.made(&preferences, reader, &scope, metric)?);
        }
        Ok(metrics)
    }

    fn made(&self, preferences: &Preferences, reader: u64, scope: &Arc<Scope>, made: &Made<'_>) -> PyResult<Metric> {
        let (name, description, unit, kind, values) = made;
        let kind = kind_of(kind)?;
        let delta = preferences.is_delta(kind);
        let shape = match kind {
            Kind::ObservableGauge => Shape::Gauge,
            _ => Shape::Sum {
                monotonic: kind == Kind::ObservableCounter,
                delta,
            },
        };
        let start = if shape == Shape::Gauge {
            0
        } else {
            self.segment.created_unix_ns()
        };
        let now = unix_ns();
        let mut points = Vec::new();
        for (attributes, value) in values {
            let attributes = attributes::canonical(attributes)?;
            let mut value = number_of(value)?;
            if delta && shape != Shape::Gauge {
                let key = (reader, name.clone(), attributes.clone());
                let before = locked(&self.seen).insert(key, value);
                value = before.map_or(value, |before| value.minus(before));
            }
            points.push(DataPoint::of(attributes, start, now, value));
        }
        Ok(Metric {
            scope: Arc::clone(scope),
            name: name.clone(),
            description: description.clone(),
            unit: unit.clone(),
            shape,
            points,
            stream: None,
        })
    }

    fn attributes_of<'py>(&self, py: Python<'py>, point: &DataPoint) -> PyResult<Bound<'py, PyDict>> {
        let Some(series) = point.series else {
            return attributes::to_dict(py, &point.attributes);
        };
        if let Some(known) = locked(&self.attributes).get(&series.0) {
            return Ok(known.bind(py).clone());
        }
        let dict = attributes::to_dict(py, &point.attributes)?;
        locked(&self.attributes).insert(series.0, dict.clone().unbind());
        Ok(dict)
    }

    fn point<'py>(
        &self,
        py: Python<'py>,
        point: &DataPoint,
        shape: &Shape,
        bounds: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let attributes = self.attributes_of(py, point)?;
        let (start, series) = (point.start_unix_ns, point.series.map(|series| series.0));
        let exemplars = exemplars(py, &point.exemplars)?;
        let distribution = match &point.value {
            Value::Number(value) => {
                return (attributes, start, number(py, *value)?, exemplars, series).into_pyobject(py)
            }
            Value::Distribution(distribution) => distribution,
        };
        let (count, sum) = (distribution.count(), number(py, distribution.sum())?);
        match shape {
            Shape::Exponential {
                max_size,
                max_scale,
                record_min_max,
                ..
            } => {
                let found = distribution.exponential(*max_size, *max_scale);
                let positive = (found.positive.offset, PyTuple::new(py, found.positive.counts)?);
                let negative = (found.negative.offset, PyTuple::new(py, found.negative.counts)?);
                let buckets = (found.scale, found.zero_count, positive, negative);
                let (min, max) = distribution.range(*record_min_max);
                (attributes, start, count, sum, buckets, min, max, exemplars, series).into_pyobject(py)
            }
            Shape::Explicit {
                boundaries,
                record_min_max,
                ..
            } => {
                let counts = PyTuple::new(py, distribution.explicit(boundaries))?;
                let (min, max) = distribution.range(*record_min_max);
                (
                    attributes, start, count, sum, counts, bounds, min, max, exemplars, series,
                )
                    .into_pyobject(py)
            }
            Shape::Sum { .. } | Shape::Gauge => (attributes, start, count, exemplars, series).into_pyobject(py),
        }
    }
}

/// Exemplars as tuples `(dropped attributes or None, value, time, span id or None, trace id or None)`; none if there are none.
fn exemplars(py: Python<'_>, chosen: &[Exemplar]) -> PyResult<Option<Py<PyList>>> {
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
