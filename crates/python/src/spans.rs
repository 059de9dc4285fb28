//! Spans as a span processor sees them: noted while they run, measured when they end.
//!
//! Whatever goes wrong here stays here: the methods of a processor are called in the middle of the program's own work, and the SDK catches nothing.

mod fields;
mod measure;
mod plan;
mod shapes;
mod table;

use std::sync::Arc;

use otel_perf_core::fork;
use otel_perf_core::segment::Segment as CoreSegment;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyWeakrefMethods, PyWeakrefReference};

pub use self::fields::set_span_members;
use self::fields::{duration_ns, noted, Beginning, Fields, BEGINNING, ENDED};
use self::measure::Ended;
use self::shapes::{Guarded, Live};
pub use self::table::{active_spans, slowest_spans};
use crate::attributes;
use crate::hooks;
use crate::segment::Segment;

/// Spans that found no free record between two looks for spans that are gone without an end.
const FAILURES_PER_SWEEP: u32 = 1000;

/// See `_core.pyi`.
#[pyclass(frozen, weakref, module = "otel_perf._core")]
pub struct SpanRecorder {
    segment: Arc<CoreSegment>,
    /// Answers the plan for a shape.
    planner: Py<PyAny>,
    /// Answers the `error.type` of a span.
    error_type: Py<PyAny>,
    /// Answers a context in which a span context is current.
    in_context: Py<PyAny>,
    /// Keys of the attributes that are shown.
    shown: Vec<Py<PyString>>,
    /// Whether spans are measured when they end.
    measures: bool,
    memory: Guarded,
}

#[pymethods]
impl SpanRecorder {
    #[new]
    #[pyo3(signature = (segment, planner, error_type, in_context, keys, shown=vec![], measures=true))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        segment: &Bound<'_, Segment>,
        planner: Py<PyAny>,
        error_type: Py<PyAny>,
        in_context: Py<PyAny>,
        keys: Vec<Py<PyString>>,
        shown: Vec<Py<PyString>>,
        measures: bool,
    ) -> SpanRecorder {
        let memory = Guarded::default();
        memory.with(segment.py(), |memory| memory.know(keys));
        SpanRecorder {
            segment: Arc::clone(&segment.get().inner),
            planner,
            error_type,
            in_context,
            shown,
            measures,
            memory,
        }
    }

    /// The span object of this process that has a record of the table, if it lives.
    fn live<'py>(&self, py: Python<'py>, place: usize, span: u64) -> Option<Bound<'py, PyAny>> {
        let reference = self.memory.with(py, |memory| {
            let live = memory.live.get(place)?.as_ref()?;
            (live.span == span).then(|| live.reference.bind(py).clone())
        })?;
        reference.upgrade()
    }

    /// Frees the records of spans that are gone without an end; how many there were.
    fn sweep(&self, py: Python<'_>) -> usize {
        let lane = self.segment.lane();
        let gone: Vec<Live> = self.memory.with(py, |memory| {
            if memory.process != fork::count() {
                return Vec::new();
            }
            let is_gone = |live: &mut Live| live.reference.bind(py).upgrade().is_none();
            let places = memory.live.iter_mut().enumerate();
            let gone = places.filter_map(|(place, slot)| {
                let live = slot.take_if(is_gone)?;
                self.segment.spans().release(lane, place, live.span);
                Some(live)
            });
            gone.collect()
        });
        gone.len()
    }

    /// Forgets what is measured of which spans: it is decided anew.
    fn forget(&self, py: Python<'_>) {
        let forgotten = self.memory.with(py, shapes::Memory::forget);
        drop(forgotten);
    }
}

impl SpanRecorder {
    /// What `on_start` does, see `hot.rs`; what ends the program is left set.
    pub fn started(&self, span: &Bound<'_, PyAny>) {
        if let Some(done) = hooks::guarded(&self.segment, || self.begin(span)) {
            hooks::swallow(span.py(), done);
        }
    }

    /// What `on_end` does, see `hot.rs`; what ends the program is left set.
    pub fn ended(&self, span: &Bound<'_, PyAny>) {
        if let Some(done) = hooks::guarded(&self.segment, || self.end(span)) {
            hooks::swallow(span.py(), done);
        }
    }

    fn begin(&self, span: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = span.py();
        let fields = Fields::read(&BEGINNING, span)?;
        let Some(ids) = fields.ids else {
            return Ok(());
        };
        let beginning = Beginning::read(&BEGINNING, span)?;
        let shown = if self.shown.is_empty() {
            Vec::new()
        } else {
            self.shown_attributes(&fields::attributes(&BEGINNING, span)?)
        };
        let name = fields.text();
        let found = self
            .segment
            .spans()
            .begin(self.segment.lane(), &noted(ids, beginning, &name), &shown);
        let Some(place) = found else {
            let failures = self.memory.with(py, |memory| {
                memory.failures = memory.failures.wrapping_add(1);
                memory.failures
            });
            if failures % FAILURES_PER_SWEEP == 1 {
                self.sweep(py);
            }
            return Ok(());
        };
        let live = Live {
            span: ids.span,
            beginning,
            reference: PyWeakrefReference::new(span)?.unbind(),
        };
        let process = fork::count();
        let old = self.memory.with(py, |memory| {
            let mut of_the_parent = Vec::new();
            if memory.process != process {
                memory.process = process;
                of_the_parent = std::mem::take(&mut memory.live);
            }
            if memory.live.len() <= place {
                memory.live.resize_with(place + 1, || None);
            }
            (memory.live[place].replace(live), of_the_parent)
        });
        drop(old);
        Ok(())
    }

    /// Canonical bytes of the attributes that are shown; of none if one of them is nothing that an attribute can be.
    fn shown_attributes(&self, dict: &Bound<'_, PyDict>) -> Vec<u8> {
        let py = dict.py();
        self.encode_shown(dict).unwrap_or_else(|error| {
            hooks::swallow(py, Err(error));
            Vec::new()
        })
    }

    fn encode_shown(&self, dict: &Bound<'_, PyDict>) -> PyResult<Vec<u8>> {
        let py = dict.py();
        let mut pairs = Vec::new();
        for key in &self.shown {
            let key = key.bind(py);
            if let Some(value) = dict.get_item(key)? {
                pairs.push((key.clone().into_any(), value));
            }
        }
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        attributes::canonical_of_pairs(&pairs)
    }

    fn end(&self, span: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = span.py();
        let fields = Fields::read(&ENDED, span)?;
        let lane = self.segment.lane();
        let place = fields.ids.and_then(|ids| self.segment.spans().end(lane, ids.span));
        let live = place.and_then(|place| {
            self.memory
                .with(py, |memory| memory.live.get_mut(place).and_then(Option::take))
        });
        let known = live
            .as_ref()
            .filter(|live| fields.ids.is_some_and(|ids| ids.span == live.span));
        let beginning = match known {
            Some(live) => live.beginning,
            None => Beginning::read(&ENDED, span)?,
        };
        let duration_ns = duration_ns(span, beginning.start_unix_ns)?;
        let attributes = fields::attributes(&ENDED, span)?;
        let series = if self.measures {
            self.measure(&Ended {
                span,
                fields: &fields,
                kind: beginning.kind,
                attributes: &attributes,
                duration_ns,
            })?
        } else {
            None
        };
        if let Some(ids) = fields.ids {
            let name = fields.text();
            let shown = || self.shown_attributes(&attributes);
            let noted = noted(ids, beginning, &name);
            self.segment.spans().note_slow(lane, &noted, duration_ns, series, shown);
        }
        Ok(())
    }
}
