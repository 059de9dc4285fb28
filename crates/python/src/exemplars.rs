//! What follows a recording that is not plain: the instrument's other streams, and exemplars.

use std::sync::Arc;

use otel_perf_core::clock::unix_ns;
use otel_perf_core::exemplar::{Exemplar, SpanIds};
use otel_perf_core::lane::Number;
use otel_perf_core::local::LocalSeries;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::context;
use crate::dict::Borrowed;
use crate::gate::Gate;
use crate::hooks;
use crate::lookup::is_plain;
use crate::streams::{ExemplarFilter, StreamEntry, Streams};

/// What recordings are made through: an instrument, or what is bound to it.
pub trait Recorder {
    fn gate(&self) -> &Gate;
    fn streams(&self) -> Arc<Streams>;
    /// The series of `attributes`, a borrowed object or null; what is bound has its own. `None` means that the recording is lost, and counted as such
    /// unless the gate is closed or an exception is set.
    ///
    /// # Safety
    /// The GIL is held. The answer is used only until Python code may run.
    unsafe fn series(&self, py: Python<'_>, attributes: *mut ffi::PyObject) -> Option<&LocalSeries>;
    /// The attributes of all its recordings, if it is bound.
    fn bound_attributes<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>>;

    /// Keeps exemplars of a recording that was written, and tells who follows it. Whatever goes wrong there stays there, see
    /// [`hooks::swallow`].
    fn look_for_exemplars(&self, series: &Arc<LocalSeries>, amount: Number, recording: &Recording<'_, '_>) {
        let py = recording.amount.py();
        let bound = self.bound_attributes(py);
        let recording = Recording {
            attributes: recording.attributes.or(bound.as_ref()),
            ..*recording
        };
        hooks::swallow(py, look_for_exemplars(&self.streams(), series, amount, &recording));
    }
}

/// A recording as Python made it; `None` for what it did not give.
pub struct Recording<'a, 'py> {
    pub amount: &'a Bound<'py, PyAny>,
    pub attributes: Option<&'a Bound<'py, PyAny>>,
    pub context: Option<&'a Bound<'py, PyAny>>,
}

type PyPairs<'py> = Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>;

/// Keeps exemplars of a recording that was written, where series want some, and tells who follows every recording.
fn look_for_exemplars(
    streams: &Streams,
    series: &Arc<LocalSeries>,
    amount: Number,
    recording: &Recording<'_, '_>,
) -> PyResult<()> {
    let py = recording.amount.py();
    // Asked for at most once, and only if a series wants an exemplar.
    let mut found: Option<Eligibility> = None;
    let mut pairs: Option<PyPairs<'_>> = None;
    for series in std::iter::once(series).chain(series.also()) {
        let Some(entry) = streams.of(series) else {
            continue;
        };
        if let Some(follow) = &entry.follow {
            let asked = (series.id().0, recording.amount, recording.attributes, recording.context);
            follow.bind(py).call1(asked)?;
            continue;
        }
        let Some(bucket) = series.wanted_bucket(amount) else {
            continue;
        };
        let eligibility = match found {
            Some(known) => known,
            None => *found.insert(eligibility(streams.filter, py, recording.context)?),
        };
        let Eligibility::Eligible(span) = eligibility else {
            series.refuse_exemplar();
            continue;
        };
        // Cleaning is Python's, and takes longer than all the rest.
        let dropped = if entry.drops_nothing(series.is_overflow()) && recording.attributes.is_some_and(has_plain_pairs)
        {
            Some(Vec::new())
        } else {
            if pairs.is_none() {
                pairs = Some(clean_pairs(recording.attributes)?);
            }
            dropped(entry, series, pairs.as_deref().unwrap_or_default())?
        };
        let exemplar = Exemplar {
            value: amount,
            time_unix_ns: unix_ns(),
            span,
            dropped,
        };
        series.keep_exemplar(bucket, &exemplar);
    }
    Ok(())
}

/// Whether a recording may become an exemplar.
#[derive(Clone, Copy)]
enum Eligibility {
    Refused,
    /// With the span in which it was made, if there is one.
    Eligible(Option<SpanIds>),
}

fn eligibility(filter: ExemplarFilter, py: Python<'_>, context: Option<&Bound<'_, PyAny>>) -> PyResult<Eligibility> {
    let found = context::span_ids(py, context)?;
    let ids = found.map(|(ids, _)| ids);
    let sampled = found.is_some_and(|(_, sampled)| sampled);
    Ok(match filter {
        ExemplarFilter::On => Eligibility::Eligible(ids),
        ExemplarFilter::TraceBased if sampled => Eligibility::Eligible(ids),
        ExemplarFilter::TraceBased | ExemplarFilter::Off => Eligibility::Refused,
    })
}

/// Whether attributes are a dict in which cleaning would leave all pairs, at least one; others are not looked at closely.
fn has_plain_pairs(attributes: &Bound<'_, PyAny>) -> bool {
    let Ok(dict) = attributes.cast_exact::<PyDict>() else {
        return false;
    };
    let mut borrowed = Borrowed::empty();
    // SAFETY: an exact dict, the GIL is held, and no Python code runs before the pairs are let go.
    !dict.is_empty() && unsafe { borrowed.fill(dict.as_ptr()) } && is_plain(&borrowed)
}

fn clean_pairs<'py>(attributes: Option<&Bound<'py, PyAny>>) -> PyResult<PyPairs<'py>> {
    let Some(attributes) = attributes.filter(|object| !object.is_none()) else {
        return Ok(Vec::new());
    };
    let cleaned: Option<Bound<'py, PyDict>> = hooks::clean(attributes);
    match cleaned {
        Some(cleaned) => Ok(cleaned.iter().collect()),
        None => Err(PyErr::fetch(attributes.py())),
    }
}

fn dropped(
    entry: &StreamEntry,
    series: &LocalSeries,
    pairs: &[(Bound<'_, PyAny>, Bound<'_, PyAny>)],
) -> PyResult<Option<Vec<u8>>> {
    if pairs.is_empty() {
        return Ok(None);
    }
    entry.dropped(series.is_overflow(), pairs).map(Some)
}
