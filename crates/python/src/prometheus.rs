//! `PrometheusEncoder`: answers to scrapes.

use std::sync::{Mutex, PoisonError};

use otel_perf_core::attributes::Pairs;
use otel_perf_core::encode::prometheus::{Encoder, Format, Options};
use otel_perf_core::metric::{Metric, Resource};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The formats by the names that they have in Python.
pub fn format_of(name: &str) -> PyResult<Format> {
    match name {
        "text" => Ok(Format::Text),
        "openmetrics" => Ok(Format::OpenMetrics),
        "protobuf" => Ok(Format::Protobuf),
        _ => Err(PyValueError::new_err(format!(
            "format is {name:?}; accepted are text, openmetrics and protobuf"
        ))),
    }
}

/// See `_core.pyi`.
#[pyclass(frozen, module = "otel_perf._core")]
pub struct PrometheusEncoder {
    inner: Mutex<Encoder>,
}

impl PrometheusEncoder {
    /// To be called without the GIL.
    pub fn encode(&self, metrics: &[Metric], resource: &Resource, constant: &Pairs, format: Format) -> Vec<u8> {
        self.locked().encode(metrics, resource, constant, format)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Encoder> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl PrometheusEncoder {
    #[new]
    #[pyo3(signature = (*, prefix="", scope_labels=true, target_info=true))]
    fn new(prefix: &str, scope_labels: bool, target_info: bool) -> PrometheusEncoder {
        PrometheusEncoder {
            inner: Mutex::new(Encoder::new(Options {
                prefix: prefix.to_owned(),
                scope_labels,
                target_info,
            })),
        }
    }

    fn take_left_out(&self, py: Python<'_>) -> Vec<String> {
        py.detach(|| self.locked().take_left_out())
    }

    #[getter]
    fn kept(&self, py: Python<'_>) -> usize {
        py.detach(|| self.locked().kept())
    }
}
