//! The wire format of protocol buffers, as much as is written of it.

use super::labels::Labels;
use crate::varint;

/// Field `label` of a `Metric`.
pub const LABEL_OF_METRIC: u32 = 1;

const VARINT: u32 = 0;
const EIGHT_BYTES: u32 = 1;
const LENGTH: u32 = 2;

/// A signed number as an unsigned one that is small if its magnitude is.
pub fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

/// Appends a number.
pub fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    varint::put(out, u64::from(field << 3 | VARINT));
    varint::put(out, number);
}

/// Appends a float.
pub fn put_float(out: &mut Vec<u8>, field: u32, number: f64) {
    varint::put(out, u64::from(field << 3 | EIGHT_BYTES));
    out.extend_from_slice(&number.to_le_bytes());
}

/// Appends bytes, text or a message that is complete.
pub fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    varint::put(out, u64::from(field << 3 | LENGTH));
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a message or numbers that `put` appends. What is shorter than 128 bytes is not moved for its length.
pub fn put_nested(out: &mut Vec<u8>, field: u32, put: impl FnOnce(&mut Vec<u8>)) {
    varint::put(out, u64::from(field << 3 | LENGTH));
    let at = out.len();
    out.push(0);
    put(out);
    let length = out.len() - at - 1;
    if length < 0x80 {
        out[at] = length as u8;
        return;
    }
    let mut prefix = Vec::with_capacity(10);
    varint::put(&mut prefix, length as u64);
    out.splice(at..=at, prefix);
}

/// Appends labels, each a `LabelPair`.
pub fn put_labels(out: &mut Vec<u8>, field: u32, labels: &Labels) {
    for (name, value) in labels {
        put_nested(out, field, |out| {
            put_bytes(out, 1, name.as_bytes());
            put_bytes(out, 2, value.as_bytes());
        });
    }
}

/// Appends a `google.protobuf.Timestamp`.
pub fn put_time(out: &mut Vec<u8>, field: u32, unix_ns: u64) {
    put_nested(out, field, |out| {
        put_number(out, 1, unix_ns / 1_000_000_000);
        put_number(out, 2, unix_ns % 1_000_000_000);
    });
}
