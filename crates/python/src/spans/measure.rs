//! Spans that ended become recordings.

use std::sync::Arc;

use otel_perf_core::exemplar::SpanIds;
use otel_perf_core::lane::Number;
use otel_perf_core::local::LocalSeries;
use otel_perf_core::tables::SeriesId;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::fields::{self, Beginning};
use super::plan::{Measure, Measured, Plan, Series, Target, Values};
use super::shapes::{Attributes, Memory, Taken};
use super::SpanRecorder;
use crate::classes::inner_of;
use crate::exemplars::{Recorder, Recording};
use crate::hooks;

/// A span that ended, as it is measured.
pub struct Ended<'a, 'py> {
    pub span: &'a Bound<'py, PyAny>,
    /// Of this process.
    pub lane: usize,
    pub name: &'a Bound<'py, PyString>,
    pub ids: Option<SpanIds>,
    pub beginning: Beginning,
    /// Name of the instrumentation scope.
    pub scope: &'a Bound<'py, PyString>,
    /// As OTLP numbers it.
    pub status: u8,
    pub attributes: &'a Bound<'py, PyDict>,
    pub duration_ns: u64,
}

impl SpanRecorder {
    /// Records the duration of a span wherever it belongs, and answers the series of the histogram.
    pub fn measure(&self, ended: &Ended<'_, '_>) -> PyResult<Option<SeriesId>> {
        let py = ended.span.py();
        let scope = ended.scope;
        let about = [ended.beginning.kind, ended.status];
        let error_type = self.error_type.bind(py);
        let mut taken = self.taken(scope, about, ended.attributes)?;
        if let Plan::Switch(switch) = &taken.plan {
            let value = switch.value(&Measured {
                span: ended.span,
                name: ended.name,
                values: &taken.values,
                error_type,
            })?;
            let known = switch.case(value.as_ref());
            let plan = if let Some(plan) = known {
                plan
            } else {
                let stated = value.as_ref().map_or_else(|| py.None(), |value| value.clone().unbind());
                let switched = PyTuple::new(py, [stated])?;
                let plan = self.ask(scope, about, &self.known(ended.attributes), Some(switched))?;
                switch.remember(value.as_ref(), &plan);
                plan
            };
            taken = Taken {
                values: self.known(ended.attributes).of(&plan),
                plan,
            };
        }
        let Plan::Measure(measure) = &taken.plan else {
            return Ok(None);
        };
        let measured = Measured {
            span: ended.span,
            name: ended.name,
            values: &taken.values,
            error_type,
        };
        let mut values = measure.values(&measured)?;
        let duration = Number::Float(ended.duration_ns as f64 * measure.units_per_ns);
        let amount = match measure.counter {
            Some(_) => Number::Int(measure.amount(&measured)?),
            None => Number::Int(0),
        };
        // What was written at once; the rest is for the slow half.
        let at_once = |series: &Series| {
            let histogram = series.histogram.as_ref();
            let counter = series.counter.as_ref();
            let done = [
                histogram.is_some_and(|series| series.try_record(duration)),
                counter.is_some_and(|series| series.try_add(amount)),
            ];
            (done, histogram.map(|series| series.id()))
        };
        let (done, id) = measure.with_series(py, &mut values, at_once).unwrap_or_default();
        let left = |done: bool, target: &Option<Target>| !done && target.is_some();
        if left(done[0], &measure.histogram) || left(done[1], &measure.counter) {
            return self.record_slowly(ended, measure, &mut values, [duration, amount], done);
        }
        Ok(id)
    }

    pub(super) fn scope_name<'py>(&self, span: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
        let py = span.py();
        let scope = fields::scope(span)?;
        if let Some(name) = self.memory.with(py, |memory| memory.scope_name(&scope)) {
            return Ok(name);
        }
        let name = fields::scope_name(&scope)?;
        let old = self.memory.with(py, |memory| memory.keep_scope(&scope, &name));
        drop(old.map(|(scope, name)| (scope.into_bound(py), name.into_bound(py))));
        Ok(name)
    }

    /// The plan for a span, which Python is asked for once, and what it takes of the attributes.
    fn taken<'py>(
        &self,
        scope: &Bound<'py, PyString>,
        about: [u8; 2],
        attributes: &Bound<'py, PyDict>,
    ) -> PyResult<Taken<'py>> {
        let py = scope.py();
        let (taken, forgotten) = self.memory.with(py, |memory| memory.take(scope, about, attributes));
        if forgotten.is_some() {
            hooks::release(py, forgotten);
        }
        if let Some(taken) = taken {
            return Ok(taken);
        }
        let known = self.known(attributes);
        let plan = self.ask(scope, about, &known, None)?;
        let remember = |memory: &mut Memory| memory.remember(scope, about, &known, &plan);
        let forgotten = self.memory.with(py, remember);
        hooks::release(py, forgotten);
        Ok(Taken {
            values: known.of(&plan),
            plan,
        })
    }

    /// The attributes of a span that plans ask for.
    fn known<'py>(&self, attributes: &Bound<'py, PyDict>) -> Attributes<'py> {
        self.memory
            .with(attributes.py(), |memory| memory.attributes(attributes))
    }

    /// Asks Python for a plan. `switched` has the value that a switch asked about, if it was one.
    fn ask<'py>(
        &self,
        scope: &Bound<'py, PyString>,
        about: [u8; 2],
        attributes: &Attributes<'py>,
        switched: Option<Bound<'py, PyTuple>>,
    ) -> PyResult<Plan> {
        let is_switched = switched.is_some();
        let [kind, status] = about;
        let py = scope.py();
        let keys = PyTuple::new(py, &attributes.keys)?;
        let stated = self.planner.bind(py).call1((scope, kind, status, keys, switched))?;
        let plan = Plan::read(&stated)?;
        // A switch below a switch would be asked the same question again.
        let is_endless = is_switched && matches!(plan, Plan::Switch(_));
        Ok(if is_endless { Plan::Silent } else { plan })
    }

    /// Records what could not be recorded at once: into series that are not known yet, or ask for more, and through instruments that are not ours.
    #[cold]
    fn record_slowly(
        &self,
        ended: &Ended<'_, '_>,
        measure: &Measure,
        values: &mut Values<'_>,
        amounts: [Number; 2],
        done: [bool; 2],
    ) -> PyResult<Option<SeriesId>> {
        let py = ended.span.py();
        let series = match measure.with_series(py, values, Series::clone) {
            Some(series) => series,
            None => measure.find_series(py, values)?,
        };
        let targets = [
            (&measure.histogram, &series.histogram),
            (&measure.counter, &series.counter),
        ];
        for (((target, series), amount), done) in targets.into_iter().zip(amounts).zip(done) {
            if let (Some(target), false) = (target, done) {
                self.record(ended, measure, values, target, series.as_ref(), amount)?;
            }
        }
        Ok(series.histogram.map(|series| series.id()))
    }

    fn record(
        &self,
        ended: &Ended<'_, '_>,
        measure: &Measure,
        values: &Values<'_>,
        target: &Target,
        series: Option<&Arc<LocalSeries>>,
        amount: Number,
    ) -> PyResult<()> {
        let py = ended.span.py();
        let object = target.object.bind(py);
        let written = match (series, &target.gate) {
            (Some(series), _) => Some(series),
            // Its gate is closed.
            (None, Some(_)) => return Ok(()),
            (None, None) => None,
        };
        if written.is_some_and(|series| !series.write(amount)) {
            return Ok(());
        }
        let dict = measure.dict(py, values)?;
        // The span itself, which is current no longer when it ends.
        let context = self
            .in_context
            .bind(py)
            .call1((ended.span.call_method0(intern!(py, "get_span_context"))?,))?;
        let given = match amount {
            Number::Int(amount) => amount.into_pyobject(py)?.into_any(),
            Number::Float(amount) => amount.into_pyobject(py)?.into_any(),
        };
        let Some((series, inner)) = written.zip(inner_of(object)) else {
            let method = if matches!(amount, Number::Float(_)) {
                "record"
            } else {
                "add"
            };
            object.call_method1(method, (given, dict, context))?;
            return Ok(());
        };
        for other in series.also() {
            other.write(amount);
        }
        inner.look_for_exemplars(
            series,
            amount,
            &Recording {
                amount: &given,
                attributes: Some(dict.as_any()),
                context: Some(&context),
            },
        );
        Ok(())
    }
}
