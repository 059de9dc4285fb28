//! `HistogramSnapshot`: a histogram taken out of the segment, as Python sees it.

use std::borrow::Cow;

use otel_perf_core::distribution::Distribution;
use otel_perf_core::hdr::Level;
use otel_perf_core::lane::Number;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyInt;

/// A number as Python's `int` or `float`.
pub fn number(py: Python<'_>, number: Number) -> PyResult<Py<PyAny>> {
    Ok(match number {
        Number::Int(number) => number.into_pyobject(py)?.into_any().unbind(),
        Number::Float(number) => number.into_pyobject(py)?.into_any().unbind(),
    })
}

/// Python's `int` or `float` as a number; a float for integers that are too large.
pub fn number_of(object: &Bound<'_, PyAny>) -> PyResult<Number> {
    if object.is_instance_of::<PyInt>() {
        if let Ok(int) = object.extract() {
            return Ok(Number::Int(int));
        }
    }
    Ok(Number::Float(object.extract()?))
}

/// See `_core.pyi`.
#[pyclass(frozen, module = "otel_perf._core")]
pub struct HistogramSnapshot {
    pub inner: Distribution,
}

#[pymethods]
impl HistogramSnapshot {
    /// A snapshot of given values, as a histogram of this unit would keep them.
    #[staticmethod]
    #[pyo3(signature = (values, unit="", digits=3.0))]
    fn of(values: Vec<f64>, unit: &str, digits: f64) -> PyResult<HistogramSnapshot> {
        let level = Level::ALL.into_iter().find(|level| level.digits() == digits);
        let level = level.ok_or_else(|| PyValueError::new_err("digits must be 3.0, 2.0, 1.5 or 0.0"))?;
        Ok(HistogramSnapshot {
            inner: Distribution::of(values, unit, level),
        })
    }

    #[getter]
    fn count(&self) -> u64 {
        self.inner.count()
    }

    #[getter]
    fn sum(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        number(py, self.inner.sum())
    }

    #[getter]
    fn min(&self) -> f64 {
        self.inner.min()
    }

    #[getter]
    fn max(&self) -> f64 {
        self.inner.max()
    }

    #[getter]
    fn digits(&self) -> f64 {
        self.inner.coarsest().digits()
    }

    #[getter]
    fn units_per_one(&self) -> f64 {
        self.inner.per_one()
    }

    fn percentile(&self, percentile: f64) -> PyResult<f64> {
        Ok(self.percentiles(vec![percentile])?[0])
    }

    fn percentiles(&self, percentiles: Vec<f64>) -> PyResult<Vec<f64>> {
        if let Some(wrong) = percentiles.iter().find(|p| !(0.0..=100.0).contains(*p)) {
            return Err(PyValueError::new_err(format!(
                "percentile {wrong} is not between 0 and 100"
            )));
        }
        Ok(self.inner.percentiles(&percentiles))
    }

    fn minus(&self, earlier: &HistogramSnapshot) -> HistogramSnapshot {
        HistogramSnapshot {
            inner: self.inner.minus(&earlier.inner),
        }
    }

    fn merge(&self, other: &HistogramSnapshot) -> PyResult<HistogramSnapshot> {
        let merged = self.inner.merge(&other.inner);
        merged
            .map(|inner| HistogramSnapshot { inner })
            .ok_or_else(|| PyValueError::new_err("histograms of different units cannot be merged"))
    }

    fn coarsened(&self, digits: f64) -> PyResult<HistogramSnapshot> {
        let level = Level::ALL.into_iter().find(|level| level.digits() == digits);
        let level = level.ok_or_else(|| PyValueError::new_err("digits must be 3.0, 2.0, 1.5 or 0.0"))?;
        Ok(HistogramSnapshot {
            inner: self.inner.coarsened(level),
        })
    }

    /// Non-empty slots as (lowest value, highest value, count), values in integer units.
    fn slots(&self) -> Vec<(u64, u64, u64)> {
        let slots = self.inner.slots().iter();
        slots
            .map(|(slot, count)| (slot.lowest(), slot.highest(), *count))
            .collect()
    }

    #[getter]
    fn negative_count(&self) -> u64 {
        self.inner.negative_count()
    }

    /// Counts of an `HdrHistogram` in the bytes of its encoding "V2".
    fn v2_counts(&self) -> Cow<'_, [u8]> {
        self.inner.v2_counts().into()
    }

    fn explicit(&self, boundaries: Vec<f64>) -> Vec<u64> {
        self.inner.explicit(&boundaries)
    }

    #[pyo3(signature = (max_size=160, max_scale=20))]
    fn exponential(&self, max_size: usize, max_scale: i32) -> (i32, u64, i32, Vec<u64>) {
        let buckets = self.inner.exponential(max_size, max_scale);
        (
            buckets.scale,
            buckets.zero_count,
            buckets.positive.offset,
            buckets.positive.counts,
        )
    }

    fn __repr__(&self) -> String {
        format!(
            "<HistogramSnapshot count={} min={} max={} digits={}>",
            self.inner.count(),
            self.inner.min(),
            self.inner.max(),
            self.digits()
        )
    }
}
