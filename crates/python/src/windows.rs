//! `Windows`: trailing windows and moving averages of a segment's series, as Python sees them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use otel_perf_core::distribution::Distribution;
use otel_perf_core::fork;
use otel_perf_core::observed::ticker::Ticker;
use otel_perf_core::observed::{Answer, Asked, Average, Settings, Windows as CoreWindows};
use otel_perf_core::quantiles::Quantiles as CoreQuantiles;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMapping};

use crate::attributes;
use crate::segment::Segment;

const WINDOWS_S: [f64; 3] = [1.0, 10.0, 60.0];
const TAUS_S: [f64; 4] = [10.0, 60.0, 300.0, 900.0];
const MEMORY_LIMIT: usize = 4 << 20;
const INTERVAL_S: std::ops::RangeInclusive<f64> = 0.001..=3600.0;

/// See `_core.pyi`.
#[pyclass(frozen, weakref, module = "otel_perf._core")]
pub struct Windows {
    pub inner: Arc<CoreWindows>,
    ticker: Mutex<Option<Ticker>>,
    forks: u32,
}

impl Windows {
    /// The windows, in the process that made them: elsewhere another thread may have been using them.
    fn here(&self) -> PyResult<&Arc<CoreWindows>> {
        if self.forks == fork::count() {
            Ok(&self.inner)
        } else {
            Err(PyRuntimeError::new_err(
                "these windows are those of the process that was forked; make new ones",
            ))
        }
    }

    fn asked(name: String, pairs: Option<&Bound<'_, PyMapping>>, scope: Option<String>) -> PyResult<Asked> {
        Ok(Asked {
            name,
            attributes: pairs.map(attributes::canonical).transpose()?,
            scope,
        })
    }
}

#[pymethods]
impl Windows {
    #[new]
    #[pyo3(
        signature = (segment, windows=WINDOWS_S.to_vec(), taus=TAUS_S.to_vec(), memory_limit=MEMORY_LIMIT),
        text_signature = "(segment, windows=(1.0, 10.0, 60.0), taus=(10.0, 60.0, 300.0, 900.0), memory_limit=4194304)"
    )]
    fn new(segment: &Segment, windows: Vec<f64>, taus: Vec<f64>, memory_limit: usize) -> PyResult<Windows> {
        let settings = Settings {
            windows,
            taus,
            memory_limit,
        };
        let settings = settings.checked().map_err(PyValueError::new_err)?;
        fork::watch();
        Ok(Windows {
            inner: Arc::new(CoreWindows::new(Arc::clone(&segment.inner), settings)),
            ticker: Mutex::new(None),
            forks: fork::count(),
        })
    }

    fn tick(&self, py: Python<'_>, now_ns: u64) -> PyResult<bool> {
        let inner = self.here()?;
        Ok(py.detach(|| inner.tick(now_ns)))
    }

    #[pyo3(signature = (interval_s=1.0))]
    fn start(&self, interval_s: f64) -> PyResult<()> {
        if !INTERVAL_S.contains(&interval_s) {
            let (low, high) = (INTERVAL_S.start(), INTERVAL_S.end());
            return Err(PyValueError::new_err(format!(
                "interval_s is {interval_s}; accepted is {low} to {high}"
            )));
        }
        let inner = Arc::clone(self.here()?);
        let mut ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner);
        if ticker.is_none() {
            let started = Ticker::start(inner, Duration::from_secs_f64(interval_s));
            *ticker = Some(started.map_err(|error| PyOSError::new_err(error.to_string()))?);
        }
        Ok(())
    }

    fn stop(&self, py: Python<'_>) {
        // In a forked child the thread is not there, and its lock may be held for ever.
        if self.here().is_ok() {
            let ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner).take();
            py.detach(|| drop(ticker));
        }
    }

    #[pyo3(signature = (name, attributes, scope, window, percentiles))]
    fn read<'py>(
        &self,
        py: Python<'py>,
        name: String,
        attributes: Option<&Bound<'py, PyMapping>>,
        scope: Option<String>,
        window: f64,
        percentiles: Vec<f64>,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let inner = self.here()?;
        let asked = Windows::asked(name, attributes, scope)?;
        let answer = py.detach(|| inner.read(&asked, window).map(|answer| with(answer, &percentiles)));
        answer.map(|(answer, found)| told(py, &answer, found)).transpose()
    }

    #[pyo3(signature = (name, attributes, scope, tau))]
    fn averages(
        &self,
        py: Python<'_>,
        name: String,
        attributes: Option<&Bound<'_, PyMapping>>,
        scope: Option<String>,
        tau: f64,
    ) -> PyResult<Option<Average>> {
        let inner = self.here()?;
        let taus = &inner.settings().taus;
        let Some(index) = taus.iter().position(|known| *known == tau) else {
            return Err(PyValueError::new_err(format!(
                "tau is {tau}; accepted is one of {taus:?}"
            )));
        };
        let asked = Windows::asked(name, attributes, scope)?;
        Ok(py.detach(|| inner.average(&asked, index)))
    }

    fn snapshot<'py>(&self, py: Python<'py>, percentiles: Vec<f64>) -> PyResult<Bound<'py, PyList>> {
        let inner = self.here()?;
        let found = py.detach(|| {
            let all = inner.snapshot().into_iter().map(|mut series| {
                let windows = std::mem::take(&mut series.windows);
                let told: Vec<_> = windows.into_iter().map(|answer| with(answer, &percentiles)).collect();
                (series, told)
            });
            all.collect::<Vec<_>>()
        });
        let out = PyList::empty(py);
        for (series, answers) in found {
            let dict = PyDict::new(py);
            dict.set_item("scope", series.scope)?;
            dict.set_item("name", series.name)?;
            dict.set_item("attributes", attributes::to_dict(py, &series.attributes)?)?;
            let windows = PyDict::new(py);
            for (seconds, (answer, found)) in inner.settings().windows.iter().zip(answers) {
                let window = told(py, &answer, found)?;
                for key in ["unit", "kind"] {
                    dict.set_item(key, window.get_item(key)?)?;
                    window.del_item(key)?;
                }
                windows.set_item(seconds, window)?;
            }
            dict.set_item("windows", windows)?;
            let averages = PyDict::new(py);
            for (tau, average) in inner.settings().taus.iter().zip(series.averages) {
                averages.set_item(tau, average)?;
            }
            dict.set_item("averages", averages)?;
            out.append(dict)?;
        }
        Ok(out)
    }

    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let inner = self.here()?;
        let found = py.detach(|| inner.statistics());
        let ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner);
        let (lag, lag_max) = ticker.as_ref().map_or((0, 0), Ticker::lag_ns);
        let dict = PyDict::new(py);
        dict.set_item("ticks", found.ticks)?;
        dict.set_item("ignored_ticks", found.ignored_ticks)?;
        dict.set_item("errors", ticker.as_ref().map_or(0, Ticker::errors))?;
        dict.set_item("cpu_seconds", found.cpu_ns as f64 / 1e9)?;
        dict.set_item("lag_seconds", lag as f64 / 1e9)?;
        dict.set_item("lag_max_seconds", lag_max as f64 / 1e9)?;
        dict.set_item("memory_bytes", found.memory)?;
        dict.set_item("memory_limit", inner.settings().memory_limit)?;
        dict.set_item("known_bytes", found.known)?;
        dict.set_item("digits", found.digits)?;
        dict.set_item("lost_slices", found.lost_slices)?;
        dict.set_item("series", found.series)?;
        Ok(dict)
    }
}

/// An `int` where the number is one.
fn whole(py: Python<'_>, number: f64) -> PyResult<Py<PyAny>> {
    let is_whole = number.fract() == 0.0 && number.abs() < 2_f64.powi(53);
    Ok(if is_whole {
        (number as i64).into_pyobject(py)?.into_any().unbind()
    } else {
        number.into_pyobject(py)?.into_any().unbind()
    })
}

/// The answer with its percentiles, which are none if nothing was recorded.
fn with(answer: Answer, percentiles: &[f64]) -> (Answer, Option<Vec<f64>>) {
    let recorded = answer.distribution.as_ref().filter(|found| found.count() > 0);
    let found = recorded.map(|distribution| distribution.percentiles(percentiles));
    (answer, found)
}

fn told<'py>(py: Python<'py>, answer: &Answer, percentiles: Option<Vec<f64>>) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let recorded = answer.distribution.as_ref().filter(|found| found.count() > 0);
    let is_counter = answer.distribution.is_none();
    dict.set_item("kind", if is_counter { "counter" } else { "histogram" })?;
    dict.set_item("unit", &answer.unit)?;
    dict.set_item("seconds", answer.seconds)?;
    dict.set_item("count", whole(py, answer.count)?)?;
    dict.set_item("sum", answer.sum)?;
    dict.set_item("rate", answer.rate())?;
    dict.set_item("mean", answer.mean())?;
    dict.set_item("min", recorded.map(Distribution::min))?;
    dict.set_item("max", recorded.map(Distribution::max))?;
    dict.set_item("percentiles", percentiles)?;
    dict.set_item(
        "digits",
        answer.distribution.as_ref().map(|found| found.coarsest().digits()),
    )?;
    dict.set_item("overflow", answer.overflow)?;
    Ok(dict)
}

/// See `_core.pyi`.
#[pyclass(frozen, module = "otel_perf._core")]
pub struct Quantiles {
    inner: CoreQuantiles,
    forks: u32,
}

impl Quantiles {
    /// What is asked for, in the process that asked: the windows are those of that process.
    pub fn here(&self) -> Option<&CoreQuantiles> {
        (self.forks == fork::count()).then_some(&self.inner)
    }
}

#[pymethods]
impl Quantiles {
    #[new]
    fn new(windows: &Windows, quantiles: Vec<f64>, window: f64, patterns: Vec<String>) -> PyResult<Quantiles> {
        if quantiles.is_empty() || !quantiles.iter().all(|quantile| (0.0..=1.0).contains(quantile)) {
            return Err(PyValueError::new_err(format!(
                "quantiles are {quantiles:?}; accepted are numbers from 0 to 1"
            )));
        }
        let inner = Arc::clone(windows.here()?);
        Ok(Quantiles {
            inner: CoreQuantiles::new(inner, quantiles, window, &patterns),
            forks: fork::count(),
        })
    }
}
