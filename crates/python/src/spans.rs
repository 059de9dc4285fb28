//! Spans as a span processor sees them: noted while they run, measured when they end.
//!
//! Whatever goes wrong here stays here: the methods of a processor are called in the middle of the program's own work, and the SDK catches nothing.

mod fields;
mod measure;
mod plan;
mod shapes;
mod table;

use std::sync::Arc;

use otel_perf_core::exemplar::SpanIds;
use otel_perf_core::fork;
use otel_perf_core::segment::Segment as CoreSegment;
use otel_perf_core::spans::Noted;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyWeakrefMethods, PyWeakrefReference};

pub use self::fields::set_span_members;
pub use self::fields::Beginning;
use self::fields::{duration_ns, Fields, BEGINNING, ENDED};
pub use self::fields::{kind_number, noted};
pub use self::measure::Ended;
use self::shapes::{Live, Memory};
pub use self::table::{active_spans, slowest_spans};
use crate::attributes;
use crate::guarded::Guarded;
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
    memory: Guarded<Memory>,
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
        memory.with(segment.py(), |memory: &mut Memory| memory.know(keys));
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

    /// Of what it holds only this can lead back to it.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.planner)?;
        visit.call(&self.error_type)?;
        visit.call(&self.in_context)
    }

    /// Forgets what is measured of which spans: it is decided anew.
    fn forget(&self, py: Python<'_>) {
        let forgotten = self.memory.with(py, Memory::forget);
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
        let fields = Fields::read(&BEGINNING, span)?;
        let Some(ids) = fields.ids else {
            return Ok(());
        };
        let beginning = Beginning::read(&BEGINNING, span)?;
        let attributes = if self.shown.is_empty() {
            None
        } else {
            Some(fields::attributes(&BEGINNING, span)?)
        };
        self.note(span, &noted(ids, beginning, &fields.text()), attributes.as_ref())?;
        Ok(())
    }

    /// Notes a span that begins, and answers its record of the table.
    fn note(
        &self,
        span: &Bound<'_, PyAny>,
        noted: &Noted<'_>,
        attributes: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Option<usize>> {
        let py = span.py();
        let shown = match attributes {
            Some(attributes) if !self.shown.is_empty() => self.shown_attributes(attributes),
            _ => Vec::new(),
        };
        let found = self.segment.spans().begin(self.segment.lane(), noted, &shown);
        let Some(place) = found else {
            let failures = self.memory.with(py, |memory| {
                memory.failures = memory.failures.wrapping_add(1);
                memory.failures
            });
            if failures % FAILURES_PER_SWEEP == 1 {
                self.sweep(py);
            }
            return Ok(None);
        };
        let live = Live {
            span: noted.ids.span,
            beginning: Beginning::of(noted),
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
        if old.0.is_some() || !old.1.is_empty() {
            hooks::release(py, old);
        }
        Ok(Some(place))
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
        let known = fields
            .ids
            .zip(place)
            .and_then(|(ids, place)| self.leave(py, place, ids));
        let beginning = match known {
            Some(beginning) => beginning,
            None => Beginning::read(&ENDED, span)?,
        };
        self.finish(&Ended {
            span,
            lane,
            name: &fields.name,
            ids: fields.ids,
            beginning,
            scope: &self.scope_name(span)?,
            status: fields::status(span)?,
            attributes: &fields::attributes(&ENDED, span)?,
            duration_ns: duration_ns(span, beginning.start_unix_ns)?,
        })
    }

    /// What is remembered of a span that had a record of the table.
    fn leave(&self, py: Python<'_>, place: usize, ids: SpanIds) -> Option<Beginning> {
        let live = self
            .memory
            .with(py, |memory| memory.live.get_mut(place).and_then(Option::take))?;
        // Given back at once: an object that is not bound is only noted to be, under a lock.
        drop(live.reference.into_bound(py));
        (live.span == ids.span).then_some(live.beginning)
    }

    /// Measures a span that ended, and keeps it if it was slow.
    fn finish(&self, ended: &Ended<'_, '_>) -> PyResult<()> {
        let series = if self.measures { self.measure(ended)? } else { None };
        if let Some(ids) = ended.ids {
            let name = ended.name.to_string_lossy();
            let shown = || self.shown_attributes(ended.attributes);
            let noted = noted(ids, ended.beginning, &name);
            self.segment
                .spans()
                .note_slow(ended.lane, &noted, ended.duration_ns, series, shown);
        }
        Ok(())
    }

    /// Notes that a span which is not sampled begins, and answers its record of the table; what ends the program is left set.
    pub fn started_unsampled(
        &self,
        span: &Bound<'_, PyAny>,
        noted: &Noted<'_>,
        attributes: Option<&Bound<'_, PyDict>>,
    ) -> Option<usize> {
        let done = hooks::guarded(&self.segment, || self.note(span, noted, attributes))?;
        done.unwrap_or_else(|error| {
            hooks::swallow(span.py(), Err(error));
            None
        })
    }

    /// Frees the record of a span which is not sampled; answers the lane of this process.
    pub fn left_unsampled(&self, py: Python<'_>, found: Option<(SpanIds, usize)>) -> usize {
        let lane = self.segment.lane();
        if let Some((ids, place)) = found {
            self.segment.spans().release(lane, place, ids.span);
            self.leave(py, place, ids);
        }
        lane
    }

    /// Measures a span which is not sampled; what ends the program is left set.
    pub fn ended_unsampled(&self, ended: &Ended<'_, '_>) {
        if let Some(done) = hooks::guarded(&self.segment, || self.finish(ended)) {
            hooks::swallow(ended.span.py(), done);
        }
    }

    /// See [`hooks::guarded`].
    pub fn guarded<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        hooks::guarded(&self.segment, work)
    }
}
