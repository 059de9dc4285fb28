//! Python attribute mappings to canonical bytes and back.

use otel_perf_core::attributes::{decode, encode, Pairs, Value};
use otel_perf_core::exemplar::ATTRIBUTES_MAX;
use pyo3::exceptions::PyRecursionError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple};

/// Deepest nesting of sequences and mappings that a series keeps; deeper sets go to the overflow series.
const MAX_DEPTH: usize = 14;

/// The bytes of a string. Lone surrogates, which have no UTF-8 form, are kept in their three-byte form.
pub fn text(string: &Bound<'_, PyString>) -> PyResult<Vec<u8>> {
    match string.to_str() {
        Ok(text) => Ok(text.as_bytes().to_vec()),
        Err(_) => string
            .call_method1("encode", ("utf-8", "surrogatepass"))?
            .extract::<Vec<u8>>(),
    }
}

fn value(object: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    if depth == 0 {
        return Err(PyRecursionError::new_err("attribute value is nested too deeply"));
    }
    if let Ok(string) = object.cast::<PyString>() {
        Ok(Value::Text(text(string)?))
    } else if object.is_none() {
        Ok(Value::Null)
    } else if let Ok(boolean) = object.cast::<PyBool>() {
        Ok(Value::Bool(boolean.is_true()))
    } else if object.is_instance_of::<PyInt>() {
        // The data model has 64-bit integers; larger ones keep their digits as text.
        match object.extract::<i64>() {
            Ok(number) => Ok(Value::Int(number)),
            Err(_) => Ok(Value::Text(text(&object.str()?)?)),
        }
    } else if object.is_instance_of::<PyFloat>() {
        Ok(Value::Float(object.extract()?))
    } else if let Ok(bytes) = object.cast::<PyBytes>() {
        Ok(Value::Bytes(bytes.as_bytes().to_vec()))
    } else if let Ok(mapping) = object.cast::<PyMapping>() {
        Ok(Value::Map(pairs_of_items(mapping, depth - 1)?))
    } else {
        let items = object.try_iter()?.map(|item| value(&item?, depth - 1));
        Ok(Value::List(items.collect::<PyResult<_>>()?))
    }
}

/// The pairs of a mapping that is clean, in its order.
pub fn pairs(mapping: &Bound<'_, PyMapping>) -> PyResult<Pairs> {
    pairs_of_items(mapping, MAX_DEPTH)
}

fn pairs_of_items(mapping: &Bound<'_, PyMapping>, depth: usize) -> PyResult<Pairs> {
    let mut pairs = Pairs::new();
    for item in mapping.items()?.iter() {
        let (key, object): (Bound<'_, PyString>, Bound<'_, PyAny>) = item.extract()?;
        pairs.push((text(&key)?, value(&object, depth)?));
    }
    Ok(pairs)
}

/// Canonical bytes of a mapping that is clean: string keys, values of the types that the data model has.
pub fn canonical(mapping: &Bound<'_, PyMapping>) -> PyResult<Vec<u8>> {
    Ok(encode(&mut pairs_of_items(mapping, MAX_DEPTH)?))
}

/// Canonical bytes of a small exact dict of plain values, pairs already taken out.
pub fn canonical_of_pairs(pairs: &[(Bound<'_, PyAny>, Bound<'_, PyAny>)]) -> PyResult<Vec<u8>> {
    let mut all = Pairs::with_capacity(pairs.len());
    for (key, object) in pairs {
        all.push((text(key.cast::<PyString>()?)?, value(object, MAX_DEPTH)?));
    }
    Ok(encode(&mut all))
}

/// As [`canonical_of_pairs`], without the last pairs by key if all would be more than an exemplar keeps.
pub fn canonical_that_fits(pairs: &[(Bound<'_, PyAny>, Bound<'_, PyAny>)]) -> PyResult<Vec<u8>> {
    let mut all = Pairs::with_capacity(pairs.len());
    for (key, object) in pairs {
        all.push((text(key.cast::<PyString>()?)?, value(object, MAX_DEPTH)?));
    }
    loop {
        let bytes = encode(&mut all);
        if bytes.len() <= ATTRIBUTES_MAX || all.pop().is_none() {
            return Ok(bytes);
        }
    }
}

fn string<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(PyString::new(py, text).into_any()),
        Err(_) => PyBytes::new(py, bytes).call_method1("decode", ("utf-8", "surrogatepass")),
    }
}

fn object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(boolean) => PyBool::new(py, *boolean).to_owned().into_any(),
        Value::Int(number) => number.into_pyobject(py)?.into_any(),
        Value::Float(number) => number.into_pyobject(py)?.into_any(),
        Value::Text(text) => string(py, text)?,
        Value::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
        Value::List(items) => {
            let items = PyList::new(
                py,
                items
                    .iter()
                    .map(|item| object(py, item))
                    .collect::<PyResult<Vec<_>>>()?,
            )?;
            PyTuple::new(py, items)?.into_any()
        }
        Value::Map(pairs) => dict_of_pairs(py, pairs)?.into_any(),
    })
}

fn dict_of_pairs<'py>(py: Python<'py>, pairs: &Pairs) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in pairs {
        dict.set_item(string(py, key)?, object(py, value)?)?;
    }
    Ok(dict)
}

/// The attributes of a series as a dict; empty if the bytes are not canonical, which only a corrupt segment has.
pub fn to_dict<'py>(py: Python<'py>, canonical: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    dict_of_pairs(py, &decode(canonical).unwrap_or_default())
}
