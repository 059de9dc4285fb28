//! `Collector`: the points of a reader as tuples, from which Python builds the SDK's data points.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use otel_perf_core::clock::{monotonic_ns, unix_ns};
use otel_perf_core::instrument::Kind;
use otel_perf_core::reader::{Point, Readers, Temporality, Value};
use otel_perf_core::segment::Segment as CoreSegment;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::attributes;
use crate::distribution::number;
use crate::segment::{kind_of, Segment};

/// How a reader wants histograms.
#[derive(Clone)]
enum Shape {
    Explicit(Option<Vec<f64>>),
    Exponential { max_size: usize, max_scale: i32 },
}

#[derive(Clone)]
struct Config {
    shape: Shape,
    record_min_max: bool,
    dropped: Vec<Kind>,
}

/// See `_core.pyi`.
#[pyclass(frozen, module = "otel_perf._core")]
pub struct Collector {
    segment: Arc<CoreSegment>,
    /// Taken without the GIL while a scan runs. A forked child makes a new collector, because its parent may have held it.
    readers: Mutex<Readers>,
    configs: Mutex<HashMap<u64, Config>>,
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
            configs: Mutex::default(),
            attributes: Mutex::default(),
            default_boundaries,
        }
    }

    /// Adds a reader. `delta` and `dropped` list class names of instruments.
    #[pyo3(signature = (reader, delta, dropped, boundaries=None, exponential=None, record_min_max=true))]
    fn add_reader(
        &self,
        reader: u64,
        delta: Vec<String>,
        dropped: Vec<String>,
        boundaries: Option<Vec<f64>>,
        exponential: Option<(usize, i32)>,
        record_min_max: bool,
    ) -> PyResult<()> {
        let kinds = |names: &[String]| names.iter().map(|name| kind_of(name)).collect::<PyResult<Vec<Kind>>>();
        let (delta, dropped) = (kinds(&delta)?, kinds(&dropped)?);
        let mut temporality = [Temporality::Cumulative; 7];
        for kind in delta {
            temporality[kind as usize - 1] = Temporality::Delta;
        }
        let shape = match exponential {
            Some((max_size, max_scale)) => Shape::Exponential { max_size, max_scale },
            None => Shape::Explicit(boundaries),
        };
        let config = Config {
            shape,
            record_min_max,
            dropped,
        };
        locked(&self.configs).insert(reader, config);
        locked(&self.readers).add(reader, temporality);
        Ok(())
    }

    fn remove_reader(&self, py: Python<'_>, reader: u64) {
        locked(&self.configs).remove(&reader);
        py.detach(|| locked(&self.readers).remove(reader));
    }

    /// Monotonic nanoseconds: the time before which a callback's report belongs to an earlier collection.
    #[staticmethod]
    fn now_ns() -> u64 {
        monotonic_ns()
    }

    /// The points of a reader by instrument: `(time, [(instrument, shape, [point, ...]), ...])`.
    fn collect<'py>(&self, py: Python<'py>, reader: u64, since_ns: u64) -> PyResult<(u64, Bound<'py, PyList>)> {
        let Some(config) = locked(&self.configs).get(&reader).cloned() else {
            return Ok((unix_ns(), PyList::empty(py)));
        };
        let points = py.detach(|| locked(&self.readers).collect(&self.segment, reader, since_ns));
        let time = points.first().map_or_else(unix_ns, |point| point.time_unix_ns);
        let metrics = PyList::empty(py);
        for group in points.chunk_by(|a, b| a.instrument == b.instrument) {
            let id = group[0].instrument;
            let Some(descriptor) = self.segment.tables().descriptor(id) else {
                continue;
            };
            if config.dropped.contains(&descriptor.kind) {
                continue;
            }
            let boundaries = match &config.shape {
                Shape::Explicit(Some(boundaries)) => Some(boundaries.as_slice()),
                _ => descriptor.boundaries.as_deref(),
            };
            let bounds = boundaries.unwrap_or(&self.default_boundaries);
            let bounds_tuple = PyTuple::new(py, bounds)?;
            let out = PyList::empty(py);
            for point in group {
                out.append(self.point(py, point, &config, bounds, &bounds_tuple)?)?;
            }
            let shape = match (descriptor.kind, &config.shape) {
                (Kind::Histogram, Shape::Exponential { .. }) => "exponential",
                (Kind::Histogram, _) => "explicit",
                (Kind::Gauge | Kind::ObservableGauge, _) => "gauge",
                _ => "sum",
            };
            metrics.append((id.0, shape, out))?;
        }
        Ok((time, metrics))
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

    fn point<'py>(
        &self,
        py: Python<'py>,
        point: &Point,
        config: &Config,
        bounds: &[f64],
        bounds_tuple: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let attributes = self.attributes_of(py, point)?;
        let start = point.start_unix_ns;
        let distribution = match &point.value {
            Value::Number(value) => return (attributes, start, number(py, *value)?).into_pyobject(py),
            Value::Distribution(distribution) => distribution,
        };
        let (count, sum) = (distribution.count(), number(py, distribution.sum())?);
        let (min, max) = if config.record_min_max {
            (distribution.min(), distribution.max())
        } else {
            (f64::INFINITY, f64::NEG_INFINITY)
        };
        match config.shape {
            Shape::Explicit(_) => {
                let counts = PyTuple::new(py, distribution.explicit(bounds))?;
                (attributes, start, count, sum, counts, bounds_tuple, min, max).into_pyobject(py)
            }
            Shape::Exponential { max_size, max_scale } => {
                let found = distribution.exponential(max_size, max_scale);
                let counts = PyTuple::new(py, found.counts)?;
                let buckets = (found.scale, found.zero_count, found.offset, counts);
                (attributes, start, count, sum, buckets, min, max).into_pyobject(py)
            }
        }
    }
}
