//! Length-delimited `io.prometheus.client.MetricFamily`. A histogram is native and classic at once; a scraper takes what it understands.

use std::collections::HashSet;

use super::buckets::{classic, native, Sparse};
use super::exemplars::{by_bucket, labels_of};
use super::families::{Family, Kind};
use super::labels::Known;
use super::left_out_twice;
use super::wire::{put_bytes, put_float, put_labels, put_nested, put_number, put_time, zigzag, LABEL_OF_METRIC};
use crate::distribution::Distribution;
use crate::exemplar::Exemplar;
use crate::metric::{DataPoint, Metric, Shape};
use crate::reader::Value;
use crate::varint;

/// Field numbers of `io/prometheus/client/metrics.proto`.
mod field {
    pub mod family {
        pub const NAME: u32 = 1;
        pub const HELP: u32 = 2;
        pub const TYPE: u32 = 3;
        pub const METRIC: u32 = 4;
        pub const UNIT: u32 = 5;
    }
    pub mod metric {
        pub const GAUGE: u32 = 2;
        pub const COUNTER: u32 = 3;
        pub const HISTOGRAM: u32 = 7;
    }
    pub mod number {
        pub const VALUE: u32 = 1;
        pub const EXEMPLAR: u32 = 2;
        pub const CREATED: u32 = 3;
    }
    pub mod histogram {
        pub const COUNT: u32 = 1;
        pub const SUM: u32 = 2;
        pub const BUCKET: u32 = 3;
        pub const SCHEMA: u32 = 5;
        pub const ZERO_THRESHOLD: u32 = 6;
        pub const ZERO_COUNT: u32 = 7;
        pub const NEGATIVE_SPAN: u32 = 9;
        pub const NEGATIVE_DELTA: u32 = 10;
        pub const POSITIVE_SPAN: u32 = 12;
        pub const POSITIVE_DELTA: u32 = 13;
        pub const CREATED: u32 = 15;
        pub const EXEMPLAR: u32 = 16;
    }
    pub mod bucket {
        pub const COUNT: u32 = 1;
        pub const BOUND: u32 = 2;
        pub const EXEMPLAR: u32 = 3;
    }
    pub mod span {
        pub const OFFSET: u32 = 1;
        pub const LENGTH: u32 = 2;
    }
    pub mod exemplar {
        pub const LABEL: u32 = 1;
        pub const VALUE: u32 = 2;
        pub const TIME: u32 = 3;
    }
}

/// Writes families as messages.
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    known: &'a mut Known,
    left_out: &'a mut Vec<String>,
    /// The family that is being written.
    family: Vec<u8>,
}

impl<'a> Writer<'a> {
    /// A writer.
    pub fn new(out: &'a mut Vec<u8>, known: &'a mut Known, left_out: &'a mut Vec<String>) -> Writer<'a> {
        Writer {
            out,
            known,
            left_out,
            family: Vec::new(),
        }
    }

    /// Writes all families.
    pub fn families(&mut self, families: &[Family<'_>]) {
        for family in families {
            self.family.clear();
            put_bytes(&mut self.family, field::family::NAME, family.name.as_bytes());
            put_bytes(&mut self.family, field::family::HELP, family.help.as_bytes());
            let kind = match family.kind {
                Kind::Counter => 0,
                Kind::Gauge | Kind::Info => 1,
                Kind::Histogram => 4,
            };
            put_number(&mut self.family, field::family::TYPE, kind);
            if family.kind == Kind::Info {
                put_nested(&mut self.family, field::family::METRIC, |out| {
                    put_labels(out, LABEL_OF_METRIC, &family.info);
                    put_nested(out, field::metric::GAUGE, |out| {
                        put_float(out, field::number::VALUE, 1.0);
                    });
                });
            }
            let mut shown = HashSet::new();
            for metric in &family.members {
                self.metric(family.kind, metric, &mut shown);
            }
            if !family.unit.is_empty() {
                put_bytes(&mut self.family, field::family::UNIT, family.unit.as_bytes());
            }
            varint::put(self.out, self.family.len() as u64);
            self.out.extend_from_slice(&self.family);
        }
    }

    fn metric(&mut self, kind: Kind, metric: &Metric, shown: &mut HashSet<u64>) {
        let common = self.known.common(&metric.scope, kind == Kind::Histogram);
        let mut twice = 0;
        for point in &metric.points {
            let labels = self.known.of_point(&common, point);
            if !shown.insert(labels.hash) {
                twice += 1;
                continue;
            }
            put_nested(&mut self.family, field::family::METRIC, |out| {
                out.extend_from_slice(&labels.wire);
                match (&point.value, kind) {
                    (Value::Number(number), Kind::Counter) => {
                        put_nested(out, field::metric::COUNTER, |out| counter(out, number.as_f64(), point));
                    }
                    (Value::Number(number), Kind::Gauge) => put_nested(out, field::metric::GAUGE, |out| {
                        put_float(out, field::number::VALUE, number.as_f64());
                    }),
                    (Value::Distribution(distribution), Kind::Histogram) => {
                        put_nested(out, field::metric::HISTOGRAM, |out| {
                            histogram(out, &metric.shape, distribution, point);
                        });
                    }
                    _ => {}
                }
            });
        }
        left_out_twice(self.left_out, metric, twice);
    }
}

fn counter(out: &mut Vec<u8>, value: f64, point: &DataPoint) {
    put_float(out, field::number::VALUE, value);
    if let Some(found) = point.exemplars.last() {
        put_nested(out, field::number::EXEMPLAR, |out| exemplar(out, found));
    }
    if point.start_unix_ns != 0 {
        put_time(out, field::number::CREATED, point.start_unix_ns);
    }
}

fn exemplar(out: &mut Vec<u8>, exemplar: &Exemplar) {
    put_labels(out, field::exemplar::LABEL, &labels_of(exemplar));
    put_float(out, field::exemplar::VALUE, exemplar.value.as_f64());
    put_time(out, field::exemplar::TIME, exemplar.time_unix_ns);
}

fn histogram(out: &mut Vec<u8>, shape: &Shape, distribution: &Distribution, point: &DataPoint) {
    put_number(out, field::histogram::COUNT, distribution.count());
    put_float(out, field::histogram::SUM, distribution.sum().as_f64());
    if let Some(found) = classic(shape, distribution) {
        let exemplars = by_bucket(&point.exemplars, &found.bounds);
        let mut total = 0_u64;
        let bounds = found.bounds.iter().copied().chain([f64::INFINITY]);
        for (number, (bound, count)) in bounds.zip(&found.counts).enumerate() {
            total = total.saturating_add(*count);
            put_nested(out, field::histogram::BUCKET, |out| {
                put_number(out, field::bucket::COUNT, total);
                put_float(out, field::bucket::BOUND, bound);
                if let Some(Some(found)) = exemplars.get(number) {
                    put_nested(out, field::bucket::EXEMPLAR, |out| exemplar(out, found));
                }
            });
        }
    }
    if let Some(found) = native(shape, distribution) {
        put_number(out, field::histogram::SCHEMA, zigzag(found.schema.into()));
        put_float(out, field::histogram::ZERO_THRESHOLD, found.zero_threshold);
        put_number(out, field::histogram::ZERO_COUNT, found.zero_count);
        sparse(
            out,
            field::histogram::NEGATIVE_SPAN,
            field::histogram::NEGATIVE_DELTA,
            &found.negative,
        );
        sparse(
            out,
            field::histogram::POSITIVE_SPAN,
            field::histogram::POSITIVE_DELTA,
            &found.positive,
        );
        // Those of a native histogram, which has no buckets for them.
        for found in &point.exemplars {
            put_nested(out, field::histogram::EXEMPLAR, |out| exemplar(out, found));
        }
    }
    if point.start_unix_ns != 0 {
        put_time(out, field::histogram::CREATED, point.start_unix_ns);
    }
}

fn sparse(out: &mut Vec<u8>, spans: u32, deltas: u32, buckets: &Sparse) {
    for (offset, length) in &buckets.spans {
        put_nested(out, spans, |out| {
            put_number(out, field::span::OFFSET, zigzag((*offset).into()));
            put_number(out, field::span::LENGTH, (*length).into());
        });
    }
    if !buckets.deltas.is_empty() {
        put_nested(out, deltas, |out| {
            for delta in &buckets.deltas {
                varint::put(out, zigzag(*delta));
            }
        });
    }
}
