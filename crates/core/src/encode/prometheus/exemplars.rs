//! Exemplars of counters and buckets.

use std::fmt::Write;

use super::labels::{self, Labels};
use super::numbers;
use crate::attributes;
use crate::exemplar::Exemplar;

/// Most characters of names and values of an exemplar's labels together (`OpenMetrics` 1.0, "Exemplars").
const CHARACTERS_MAX: usize = 128;

/// The labels of an exemplar: its span, and of the attributes that the series does not have as many as there is room for.
pub fn labels_of(exemplar: &Exemplar) -> Labels {
    let mut found = Labels::new();
    if let Some(ids) = exemplar.span {
        found.push(("trace_id".to_owned(), hexadecimal(format_args!("{:032x}", ids.trace))));
        found.push(("span_id".to_owned(), hexadecimal(format_args!("{:016x}", ids.span))));
    }
    let characters = |text: &str| text.chars().count();
    let length = |(name, value): &(String, String)| characters(name) + characters(value);
    let mut room = CHARACTERS_MAX - found.iter().map(length).sum::<usize>();
    let dropped = exemplar
        .dropped
        .as_deref()
        .and_then(attributes::decode)
        .unwrap_or_default();
    for label in labels::of(&dropped, "") {
        let is_new = !found.iter().any(|(name, _)| *name == label.0);
        if is_new && length(&label) <= room {
            room -= length(&label);
            found.push(label);
        }
    }
    found
}

fn hexadecimal(digits: std::fmt::Arguments<'_>) -> String {
    let mut text = String::with_capacity(32);
    _ = text.write_fmt(digits);
    text
}

/// Appends an exemplar to a sample of `OpenMetrics`.
pub fn put(out: &mut Vec<u8>, exemplar: &Exemplar) {
    out.extend_from_slice(b" # {");
    labels::put_text(out, &labels_of(exemplar));
    out.extend_from_slice(b"} ");
    numbers::put_value(out, exemplar.value.as_f64());
    out.push(b' ');
    numbers::put_integer(out, exemplar.time_unix_ns / 1_000_000_000);
    let nanoseconds = exemplar.time_unix_ns % 1_000_000_000;
    out.extend_from_slice(format!(".{nanoseconds:09}").as_bytes());
}

/// The last exemplar of each bucket, by its value; `exemplars` are oldest first.
pub fn by_bucket<'a>(exemplars: &'a [Exemplar], bounds: &[f64]) -> Vec<Option<&'a Exemplar>> {
    if exemplars.is_empty() {
        return Vec::new();
    }
    let mut found = vec![None; bounds.len() + 1];
    for exemplar in exemplars {
        let value = exemplar.value.as_f64();
        found[bounds.partition_point(|bound| *bound < value)] = Some(exemplar);
    }
    found
}
