//! The span table as Python sees it.

use otel_perf_core::segment::Segment as CoreSegment;
use otel_perf_core::spans::Span;
use otel_perf_core::tables::SeriesId;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::attributes;
use crate::segment::Segment;

fn to_dict<'py>(py: Python<'py>, span: &Span) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("trace_id", span.ids.trace)?;
    dict.set_item("span_id", span.ids.span)?;
    dict.set_item("parent_span_id", span.parent)?;
    dict.set_item("name", &span.name)?;
    dict.set_item("kind", span.kind)?;
    dict.set_item("start_time", span.start_unix_ns)?;
    dict.set_item("attributes", attributes::to_dict(py, &span.attributes)?)?;
    Ok(dict)
}

/// Spans that run in all processes, those that began first first, each with its record (`place`), `lane` and `pid`.
#[pyfunction]
pub fn active_spans<'py>(py: Python<'py>, segment: &Bound<'py, Segment>) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let segment = &segment.get().inner;
    let holders = segment.workers().holders(segment.joined_lane());
    let found = py.detach(|| segment.active_spans());
    let mut all = Vec::with_capacity(found.len());
    for active in found {
        let dict = to_dict(py, &active.span)?;
        dict.set_item("place", active.place)?;
        dict.set_item("lane", active.lane)?;
        let holder = holders.iter().find(|holder| holder.lane == active.lane);
        dict.set_item("pid", holder.map(|holder| holder.pid))?;
        all.push(dict);
    }
    Ok(all)
}

/// The slowest spans of each name, the slowest first, each with its `duration_ns` and the metric that it went into.
#[pyfunction]
pub fn slowest_spans<'py>(py: Python<'py>, segment: &Bound<'py, Segment>) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let segment = &segment.get().inner;
    let found = py.detach(|| segment.spans().slowest());
    let mut all = Vec::with_capacity(found.len());
    for slow in found {
        let dict = to_dict(py, &slow.span)?;
        dict.set_item("duration_ns", slow.duration_ns)?;
        let metric = match slow.series {
            Some(series) => metric_of(py, segment, series)?,
            None => None,
        };
        dict.set_item("metric", metric)?;
        all.push(dict);
    }
    Ok(all)
}

fn metric_of<'py>(py: Python<'py>, segment: &CoreSegment, id: SeriesId) -> PyResult<Option<Bound<'py, PyDict>>> {
    let tables = segment.tables();
    let Some(series) = tables.read_series(id) else {
        return Ok(None);
    };
    let (Some(descriptor), Some(bytes)) = (tables.descriptor(series.stream), segment.attribute_bytes(id)) else {
        return Ok(None);
    };
    let dict = PyDict::new(py);
    dict.set_item("name", descriptor.exported_name())?;
    dict.set_item("unit", &descriptor.unit)?;
    dict.set_item("boundaries", &descriptor.boundaries)?;
    dict.set_item("attributes", attributes::to_dict(py, &bytes)?)?;
    Ok(Some(dict))
}
