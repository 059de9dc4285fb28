//! `Segment` as Python sees it: create, attach, look inside, and make instruments.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use otel_perf_core::census::Census;
use otel_perf_core::drops::Drop;
use otel_perf_core::error::SegmentError as CoreError;
use otel_perf_core::hdr::Level;
use otel_perf_core::instrument::{Descriptor, Kind};
use otel_perf_core::layout::{header, DEFAULT_SIZE};
use otel_perf_core::scan::Scan;
use otel_perf_core::segment::{find as find_segments, reap_in, Segment as CoreSegment, DIRECTORY};
use otel_perf_core::stream::{Aggregation, Stream};
use otel_perf_core::tables::StreamId;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMapping, PyTuple};

use crate::attributes;
use crate::classes;
use crate::distribution::HistogramSnapshot;
use crate::instruments::Instrument;
use crate::streams::{ExemplarFilter, Wanted};

pyo3::create_exception!(
    otel_perf._core,
    SegmentError,
    PyException,
    "A segment could not be created or attached; the text names the file, the problem and the remedy."
);

fn raised(error: &CoreError) -> PyErr {
    SegmentError::new_err(error.to_string())
}

/// See `_core.pyi`.
#[pyclass(frozen, weakref, module = "otel_perf._core")]
pub struct Segment {
    pub inner: Arc<CoreSegment>,
    /// Why the segment has no name, if it should have had one.
    private_because: Option<String>,
}

/// One histogram series with its identity.
#[pyclass(frozen, get_all, module = "otel_perf._core")]
pub struct HistogramSeries {
    number: u32,
    scope: String,
    name: String,
    unit: String,
    attributes: Py<PyDict>,
    snapshot: Py<HistogramSnapshot>,
}

/// The kind with this class name.
pub fn kind_of(name: &str) -> PyResult<Kind> {
    Kind::named(name).ok_or_else(|| PyValueError::new_err(format!("no kind of instrument is called {name:?}")))
}

#[pymethods]
impl Segment {
    #[staticmethod]
    #[pyo3(signature = (memory_limit=DEFAULT_SIZE, service_name=""))]
    fn create(memory_limit: u64, service_name: &str) -> PyResult<Segment> {
        reap_in(Path::new(DIRECTORY), 1_000_000_000);
        let (segment, reason) = CoreSegment::create(memory_limit, service_name).map_err(|error| raised(&error))?;
        segment.set_serialised();
        let inner = Arc::new(segment);
        // The creator takes a lane at once: a segment without a living worker counts as left behind.
        inner.lane();
        Ok(Segment {
            inner,
            private_because: reason.map(|error| error.to_string()),
        })
    }

    #[staticmethod]
    fn attach(path: PathBuf) -> PyResult<Segment> {
        let segment = CoreSegment::attach(&path).map_err(|error| raised(&error))?;
        segment.set_serialised();
        Ok(Segment {
            inner: Arc::new(segment),
            private_because: None,
        })
    }

    #[getter]
    fn private_because(&self) -> Option<&str> {
        self.private_because.as_deref()
    }

    #[getter]
    fn path(&self) -> Option<PathBuf> {
        self.inner.path().map(Path::to_path_buf)
    }

    #[getter]
    fn size(&self) -> usize {
        self.inner.geometry().size
    }

    #[getter]
    fn service_name(&self) -> String {
        self.inner.service()
    }

    #[getter]
    fn lane(&self) -> usize {
        self.inner.lane()
    }

    fn memory_usage<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let usage = PyDict::new(py);
        for (part, bytes) in self.inner.memory_usage() {
            usage.set_item(part, bytes)?;
        }
        Ok(usage)
    }

    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let tables = self.inner.tables();
        let drops = PyDict::new(py);
        for (reason, name) in Drop::ALL {
            drops.set_item(name, tables.drops(reason))?;
        }
        let workers = PyList::empty(py);
        let observers = PyList::empty(py);
        let of_the_table = self.inner.workers();
        for worker in of_the_table.holders(self.inner.joined_lane()) {
            let entry = PyDict::new(py);
            entry.set_item("lane", worker.lane)?;
            entry.set_item("pid", worker.pid)?;
            entry.set_item("started_unix_ns", worker.started_unix_ns)?;
            if worker.observes { &observers } else { &workers }.append(entry)?;
        }
        let count = |offset| {
            let word = self.inner.region().u32(offset);
            word.map_or(0, |word| word.load(std::sync::atomic::Ordering::Relaxed))
        };
        let status = PyDict::new(py);
        status.set_item("service_name", self.inner.service())?;
        status.set_item("size", self.inner.geometry().size)?;
        status.set_item("workers", workers)?;
        status.set_item("observers", observers)?;
        status.set_item("created_unix_ns", self.inner.created_unix_ns())?;
        status.set_item("leader", of_the_table.leader())?;
        status.set_item("endpoint", self.inner.served_at().map(|(_, address)| address))?;
        status.set_item("streams", tables.stream_count())?;
        status.set_item("series", tables.series_count())?;
        status.set_item("series_limit", self.inner.geometry().series)?;
        status.set_item("histograms", count(header::HISTOGRAMS))?;
        let census = Census::of(&self.inner);
        let precision = PyDict::new(py);
        for (level, count) in Level::ALL.into_iter().zip(census.histograms) {
            precision.set_item(level.digits(), count)?;
        }
        status.set_item("precision", precision)?;
        status.set_item("overflowing", census.overflowing)?;
        status.set_item("drops", drops)?;
        Ok(status)
    }

    fn histograms(&self, py: Python<'_>) -> PyResult<Vec<HistogramSeries>> {
        let inner = Arc::clone(&self.inner);
        let read = py.detach(move || {
            let mut scan = Scan::new(&inner);
            let series: Vec<_> = scan.series().collect();
            let read = series.into_iter().filter_map(|series| {
                let distribution = scan.distribution(&series).filter(|found| found.count() > 0)?;
                Some((series, inner.attribute_bytes(series.id)?, distribution))
            });
            read.collect::<Vec<_>>()
        });
        let mut all = Vec::new();
        for (series, bytes, inner) in read {
            let Some(descriptor) = self.inner.tables().descriptor(series.stream) else {
                continue;
            };
            all.push(HistogramSeries {
                number: series.id.0,
                name: descriptor.exported_name().to_owned(),
                scope: descriptor.scope_name,
                unit: descriptor.unit,
                attributes: attributes::to_dict(py, &bytes)?.unbind(),
                snapshot: Py::new(py, HistogramSnapshot { inner })?,
            });
        }
        Ok(all)
    }

    /// Makes the instrument `kind` of a scope with the streams that are asked for, which any worker may have made before.
    #[pyo3(signature = (kind, scope, name, unit, description, boundaries=None, streams=None, exemplar_filter="always_off"))]
    #[allow(clippy::too_many_arguments)]
    fn instrument(
        &self,
        py: Python<'_>,
        kind: &str,
        scope: &Bound<'_, PyAny>,
        name: &str,
        unit: &str,
        description: &str,
        boundaries: Option<Vec<f64>>,
        streams: Option<Vec<Bound<'_, PyTuple>>>,
        exemplar_filter: &str,
    ) -> PyResult<Py<PyAny>> {
        let scope_attributes = scope.getattr("attributes")?;
        let scope_attributes = match scope_attributes.cast::<PyMapping>() {
            Ok(mapping) => attributes::canonical(mapping)?,
            Err(_) => Vec::new(),
        };
        let kind = kind_of(kind)?;
        let descriptor = Descriptor {
            kind,
            name: name.to_owned(),
            unit: unit.to_owned(),
            description: description.to_owned(),
            scope_name: scope.getattr("name")?.extract()?,
            scope_version: scope.getattr("version")?.extract()?,
            scope_schema_url: scope.getattr("schema_url")?.extract()?,
            scope_attributes,
            stream: Stream::unviewed(kind),
            boundaries,
        };
        let streams = match streams {
            Some(asked) => classes::wanted(kind, &asked)?,
            None => vec![Wanted::unviewed(kind)],
        };
        let filter = ExemplarFilter::named(exemplar_filter)?;
        let scope = scope.clone().unbind();
        classes::new_object(py, Instrument::new(&self.inner, descriptor, scope, streams, filter))
    }

    /// What a stream is, by number; none if there is no such stream.
    fn descriptor<'py>(&self, py: Python<'py>, stream: u32) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(found) = self.inner.tables().descriptor(StreamId(stream)) else {
            return Ok(None);
        };
        let dict = PyDict::new(py);
        dict.set_item("kind", found.kind.name())?;
        dict.set_item("name", found.exported_name())?;
        dict.set_item("unit", &found.unit)?;
        dict.set_item("description", found.exported_description())?;
        dict.set_item("scope_name", &found.scope_name)?;
        dict.set_item("scope_version", &found.scope_version)?;
        dict.set_item("scope_schema_url", &found.scope_schema_url)?;
        dict.set_item("scope_attributes", attributes::to_dict(py, &found.scope_attributes)?)?;
        dict.set_item("boundaries", &found.boundaries)?;
        if let Aggregation::Hdr { window, .. } = found.stream.aggregation {
            dict.set_item("window", window)?;
        }
        Ok(Some(dict))
    }

    fn lead(&self) -> bool {
        self.inner.lead()
    }

    fn bar_leading(&self, barred: bool) {
        self.inner.bar_leading(barred);
    }

    fn set_separate(&self, separate: bool) {
        self.inner.set_separate(separate);
    }

    #[getter]
    fn is_separate(&self) -> bool {
        self.inner.is_separate()
    }

    fn serve_at(&self, address: &str) {
        self.inner.serve_at(address);
    }

    #[getter]
    fn collections_of_others(&self) -> u32 {
        self.inner.collections_of_others()
    }

    fn resign(&self) {
        self.inner.resign();
    }

    fn keep_file(&self, kept: bool) {
        self.inner.keep_file(kept);
    }

    fn observe(&self) {
        self.inner.observe();
    }

    fn is_observed(&self) -> bool {
        self.inner.workers().is_observed(self.inner.joined_lane())
    }

    fn join(&self) -> bool {
        self.inner.join()
    }

    fn end(&self) -> bool {
        self.inner.end()
    }

    fn others(&self) -> Vec<usize> {
        self.inner.others()
    }

    fn has_left(&self, lane: usize) -> bool {
        self.inner.workers().has_left(lane)
    }

    #[allow(clippy::needless_pass_by_value)]
    fn mourn(&self, lanes: Vec<usize>) {
        self.inner.mourn(&lanes);
    }

    fn close(&self) {
        self.inner.close();
    }

    fn __repr__(&self) -> String {
        let path = self
            .inner
            .path()
            .map_or("private".into(), |path| path.display().to_string());
        format!("<otel_perf.Segment {path} of {} bytes>", self.inner.geometry().size)
    }
}

/// Paths of this user's segments that a living process uses, newest first.
#[pyfunction]
#[pyo3(signature = (service_name=None))]
pub fn find(service_name: Option<&str>) -> Vec<PathBuf> {
    find_segments(service_name)
}
