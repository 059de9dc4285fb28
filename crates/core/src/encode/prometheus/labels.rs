//! Labels of series, which are made once and kept from scrape to scrape.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::{names, wire};
use crate::attributes::{self, Pairs, Value};
use crate::metric::{DataPoint, Scope};

/// Names and values, sorted by name.
pub type Labels = Vec<(String, String)>;

/// What names of the labels of a scope begin with.
const SCOPE: &str = "otel_scope_";
/// The label of a bucket's bound.
const BOUND: &str = "le";
/// What stands in its place where an attribute has that name, as a scraper renames labels that conflict with its own.
const NOT_BOUND: &str = "exported_le";

/// The labels of attributes. Keys that become one name have their values joined, in the order of the keys.
pub fn of(pairs: &Pairs, prefix: &str) -> Labels {
    let mut labels: Labels = Vec::with_capacity(pairs.len() + 4);
    let mut sorted: Vec<_> = pairs.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    for (key, value) in sorted {
        let name = names::label(&format!("{prefix}{}", String::from_utf8_lossy(key)));
        let text = text_of(value);
        match labels.iter_mut().find(|(known, _)| *known == name) {
            Some((_, joined)) => {
                joined.push(';');
                joined.push_str(&text);
            }
            None => labels.push((name, text)),
        }
    }
    labels.sort();
    labels
}

/// `labels` and those of `others` whose name is not among them.
fn completed(mut labels: Labels, others: &Labels) -> Labels {
    for (name, value) in others {
        if !labels.iter().any(|(known, _)| known == name) {
            labels.push((name.clone(), value.clone()));
        }
    }
    labels.sort();
    labels
}

/// The labels that all series of a scope have; its name, version and schema win over its attributes of that name.
fn of_scope(scope: &Scope) -> Labels {
    let fixed = [
        ("name", Some(&scope.name)),
        ("schema_url", scope.schema_url.as_ref()),
        ("version", scope.version.as_ref()),
    ];
    let fixed = fixed.map(|(name, value)| (format!("{SCOPE}{name}"), value.cloned().unwrap_or_default()));
    completed(fixed.to_vec(), &of(&scope.attributes, SCOPE))
}

/// A string as it is, anything else as JSON, as the stock exporter shows it.
fn text_of(value: &Value) -> String {
    match value {
        Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
        other => {
            let mut out = String::new();
            put_json(&mut out, other);
            out
        }
    }
}

fn put_json(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(number) => _ = write!(out, "{number}"),
        Value::Float(number) if number.is_nan() => out.push_str("NaN"),
        Value::Float(number) if number.is_infinite() => {
            out.push_str(if *number > 0.0 { "Infinity" } else { "-Infinity" });
        }
        Value::Float(number) => {
            let mut text = Vec::new();
            super::numbers::put_bound(&mut text, *number);
            out.push_str(&String::from_utf8_lossy(&text));
        }
        Value::Text(text) => put_json_text(out, &String::from_utf8_lossy(text)),
        Value::Bytes(bytes) => put_json_text(out, &repr(bytes)),
        Value::List(items) => {
            out.push('[');
            for (number, item) in items.iter().enumerate() {
                out.push_str(if number == 0 { "" } else { ", " });
                put_json(out, item);
            }
            out.push(']');
        }
        Value::Map(pairs) => {
            out.push('{');
            for (number, (key, item)) in pairs.iter().enumerate() {
                out.push_str(if number == 0 { "" } else { ", " });
                put_json_text(out, &String::from_utf8_lossy(key));
                out.push_str(": ");
                put_json(out, item);
            }
            out.push('}');
        }
    }
}

/// A JSON string in ASCII.
fn put_json_text(out: &mut String, text: &str) {
    out.push('"');
    for found in text.chars() {
        match found {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(found),
            _ => {
                for half in found.encode_utf16(&mut [0; 2]) {
                    _ = write!(out, "\\u{half:04x}");
                }
            }
        }
    }
    out.push('"');
}

/// Bytes as Python's `repr` shows them.
fn repr(bytes: &[u8]) -> String {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') {
        '"'
    } else {
        '\''
    };
    let mut out = format!("b{quote}");
    for byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'\'' if quote == '\'' => out.push_str("\\'"),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => _ = write!(out, "\\x{byte:02x}"),
        }
    }
    out.push(quote);
    out
}

/// Appends text with what ends a quoted string or a line escaped.
pub fn put_escaped(out: &mut Vec<u8>, text: &str, quotes: bool) {
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' if quotes => out.extend_from_slice(b"\\\""),
            _ => out.push(byte),
        }
    }
}

/// Appends labels as text, without braces.
pub fn put_text(out: &mut Vec<u8>, labels: &Labels) {
    for (number, (name, value)) in labels.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        put_escaped(out, value, true);
        out.push(b'"');
    }
}

/// The labels of one series as they leave.
#[derive(Debug, Default)]
pub struct Written {
    /// As text, without braces.
    pub text: Vec<u8>,
    /// As fields `label` of a `Metric`.
    pub wire: Vec<u8>,
    /// A hash of the labels that are not empty, by which series that are shown twice are found: to Prometheus an empty label is none.
    pub hash: u64,
}

impl Written {
    fn of(labels: &Labels) -> Written {
        let mut written = Written::default();
        put_text(&mut written.text, labels);
        wire::put_labels(&mut written.wire, wire::LABEL_OF_METRIC, labels);
        let mut shown = labels.clone();
        shown.retain(|(_, value)| !value.is_empty());
        let mut text = Vec::with_capacity(written.text.len());
        put_text(&mut text, &shown);
        written.hash = xxh3_64(&text);
        written
    }
}

/// The labels that the points of one metric have in common.
#[derive(Clone, Debug)]
pub struct Common {
    labels: Arc<Labels>,
    is_histogram: bool,
}

#[derive(Debug)]
struct Kept {
    attributes: Arc<[u8]>,
    common: Arc<Labels>,
    is_histogram: bool,
    written: Written,
    scrape: u32,
}

/// The labels of the series of the last scrape. There are as many as the segment has series.
#[derive(Debug, Default)]
pub struct Known {
    kept: HashMap<u32, Kept>,
    /// Of a point that belongs to no series.
    other: Written,
    /// What the metrics of each scope have in common.
    commons: Vec<Arc<Labels>>,
    constant: Labels,
    scope_labels: bool,
    scrape: u32,
    seen: usize,
}

impl Known {
    /// Begins a scrape.
    pub fn begin(&mut self, constant: &Pairs, scope_labels: bool) {
        self.constant = of(constant, "");
        self.scope_labels = scope_labels;
        self.scrape = self.scrape.wrapping_add(1);
        self.seen = 0;
    }

    /// Ends a scrape: series that it did not have are forgotten, and so are scopes.
    pub fn end(&mut self) {
        if self.seen < self.kept.len() {
            let scrape = self.scrape;
            self.kept.retain(|_, kept| kept.scrape == scrape);
        }
        self.commons.retain(|labels| Arc::strong_count(labels) > 1);
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// What the points of a metric of `scope` have in common.
    pub fn common(&mut self, scope: &Scope, is_histogram: bool) -> Common {
        let labels = if self.scope_labels {
            completed(of_scope(scope), &self.constant)
        } else {
            self.constant.clone()
        };
        // Each scrape has scopes of its own. Those that are as they were share what the kept series compare with.
        let known = self.commons.iter().find(|known| ***known == labels).map(Arc::clone);
        let labels = known.unwrap_or_else(|| {
            let labels = Arc::new(labels);
            self.commons.push(Arc::clone(&labels));
            labels
        });
        Common { labels, is_histogram }
    }

    /// The labels of a point.
    pub fn of_point(&mut self, common: &Common, point: &DataPoint) -> &Written {
        let Some(series) = point.series else {
            self.other = made(common, &point.attributes);
            return &self.other;
        };
        let kept = self.kept.entry(series.0).or_insert_with(|| Kept {
            attributes: Arc::clone(&point.attributes),
            common: Arc::clone(&common.labels),
            is_histogram: common.is_histogram,
            written: made(common, &point.attributes),
            scrape: self.scrape.wrapping_sub(1),
        });
        let is_same = Arc::ptr_eq(&kept.common, &common.labels)
            && kept.is_histogram == common.is_histogram
            && kept.attributes == point.attributes;
        if !is_same {
            kept.attributes = Arc::clone(&point.attributes);
            kept.common = Arc::clone(&common.labels);
            kept.is_histogram = common.is_histogram;
            kept.written = made(common, &point.attributes);
        }
        if kept.scrape != self.scrape {
            kept.scrape = self.scrape;
            self.seen += 1;
        }
        &kept.written
    }
}

/// An attribute of the point wins over one of the scope, and that over one of the resource, as with the stock exporter.
fn made(common: &Common, canonical: &[u8]) -> Written {
    let mut labels = of(&attributes::decode(canonical).unwrap_or_default(), "");
    labels = completed(labels, &common.labels);
    if common.is_histogram {
        if let Some(found) = labels.iter_mut().find(|(name, _)| name == BOUND) {
            NOT_BOUND.clone_into(&mut found.0);
            labels.sort();
        }
    }
    Written::of(&labels)
}
