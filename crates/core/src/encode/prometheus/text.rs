//! Text 0.0.4 and `OpenMetrics` 1.0.

use std::collections::HashSet;

use super::buckets::{classic, Classic};
use super::exemplars;
use super::families::{Family, Kind};
use super::labels::{put_escaped, put_text, Known};
use super::left_out_twice;
use super::numbers::{put_bound, put_count, put_value};
use crate::distribution::Distribution;
use crate::exemplar::Exemplar;
use crate::metric::{Metric, Shape};
use crate::reader::Value;

/// Writes families as text.
pub struct Writer<'a> {
    lines: Lines<'a>,
    known: &'a mut Known,
    left_out: &'a mut Vec<String>,
    openmetrics: bool,
}

impl<'a> Writer<'a> {
    /// A writer of either format.
    pub fn new(
        out: &'a mut Vec<u8>,
        known: &'a mut Known,
        left_out: &'a mut Vec<String>,
        openmetrics: bool,
    ) -> Writer<'a> {
        Writer {
            lines: Lines {
                out,
                head: Vec::new(),
                ends: Vec::new(),
            },
            known,
            left_out,
            openmetrics,
        }
    }

    /// Writes all families.
    pub fn families(&mut self, families: &[Family<'_>]) {
        let names: HashSet<&str> = families.iter().map(|family| family.name.as_str()).collect();
        for family in families {
            // Where another family has the name without the suffix, this one keeps its whole name and loses its type: two types of one name make
            // an answer invalid, and no series may be missing in one format only.
            let is_whole = self.openmetrics && family.stem() != family.name && names.contains(family.stem());
            let (name, kind) = match (self.openmetrics, family.kind) {
                (false, kind) => (family.name.as_str(), kind.word()),
                (true, _) if is_whole => (family.name.as_str(), "unknown"),
                (true, Kind::Info) => (family.stem(), "info"),
                (true, kind) => (family.stem(), kind.word()),
            };
            self.metadata(name, kind, family);
            if family.kind == Kind::Info {
                let mut labels = Vec::new();
                put_text(&mut labels, &family.info);
                self.lines.sample(&family.name, "", &labels, |out| put_count(out, 1));
            }
            let mut shown = HashSet::new();
            for metric in &family.members {
                self.metric(family, metric, &mut shown, self.openmetrics && !is_whole);
            }
        }
        if self.openmetrics {
            self.lines.out.extend_from_slice(b"# EOF\n");
        }
    }

    fn metadata(&mut self, name: &str, kind: &str, family: &Family<'_>) {
        let out = &mut *self.lines.out;
        put_parts(out, &["# HELP ", name, " "]);
        put_escaped(out, family.help, self.openmetrics);
        put_parts(out, &["\n# TYPE ", name, " ", kind, "\n"]);
        // A name that is shown whole ends with the suffix and not with the unit.
        if self.openmetrics && !family.unit.is_empty() && name.ends_with(&family.unit) {
            put_parts(out, &["# UNIT ", name, " ", &family.unit, "\n"]);
        }
    }

    fn metric(&mut self, family: &Family<'_>, metric: &Metric, shown: &mut HashSet<u64>, with_exemplars: bool) {
        let common = self.known.common(&metric.scope, family.kind == Kind::Histogram);
        if let Shape::Explicit { boundaries, .. } = &metric.shape {
            self.lines.set_ends(boundaries);
        }
        let mut twice = 0;
        for point in &metric.points {
            let labels = self.known.of_point(&common, point);
            if !shown.insert(labels.hash) {
                twice += 1;
                continue;
            }
            let exemplars: &[Exemplar] = if with_exemplars { &point.exemplars } else { &[] };
            match &point.value {
                Value::Number(number) if family.kind != Kind::Histogram => {
                    let exemplar = exemplars.last().filter(|_| family.kind == Kind::Counter);
                    self.lines.sample(&family.name, "", &labels.text, |out| {
                        put_value(out, number.as_f64());
                        if let Some(exemplar) = exemplar {
                            exemplars::put(out, exemplar);
                        }
                    });
                }
                Value::Distribution(distribution) => {
                    let name = &family.name;
                    self.lines
                        .histogram(name, &labels.text, &metric.shape, distribution, exemplars);
                }
                Value::Number(_) => {}
            }
        }
        left_out_twice(self.left_out, metric, twice);
    }
}

fn put_parts(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Writes lines.
struct Lines<'a> {
    out: &'a mut Vec<u8>,
    /// Begin of the lines of a point's buckets.
    head: Vec<u8>,
    /// From the bound to the value of each bucket's line.
    ends: Vec<Vec<u8>>,
}

impl Lines<'_> {
    fn sample(&mut self, name: &str, suffix: &str, labels: &[u8], put: impl Fn(&mut Vec<u8>)) {
        put_parts(self.out, &[name, suffix]);
        if !labels.is_empty() {
            self.out.push(b'{');
            self.out.extend_from_slice(labels);
            self.out.push(b'}');
        }
        self.out.push(b' ');
        put(self.out);
        self.out.push(b'\n');
    }

    /// Takes bounds without infinity.
    fn set_ends(&mut self, bounds: &[f64]) {
        self.ends.clear();
        for bound in bounds.iter().chain([&f64::INFINITY]) {
            let mut end = b"le=\"".to_vec();
            put_bound(&mut end, *bound);
            end.extend_from_slice(b"\"} ");
            self.ends.push(end);
        }
    }

    fn histogram(
        &mut self,
        name: &str,
        labels: &[u8],
        shape: &Shape,
        distribution: &Distribution,
        exemplars: &[Exemplar],
    ) {
        let Some(Classic { bounds, counts }) = classic(shape, distribution) else {
            return;
        };
        if matches!(shape, Shape::Exponential { .. }) {
            self.set_ends(&bounds);
        }
        self.head.clear();
        put_parts(&mut self.head, &[name, "_bucket{"]);
        self.head.extend_from_slice(labels);
        if !labels.is_empty() {
            self.head.push(b',');
        }
        let exemplars = exemplars::by_bucket(exemplars, &bounds);
        let mut total = 0_u64;
        for (number, (end, count)) in self.ends.iter().zip(&counts).enumerate() {
            total = total.saturating_add(*count);
            self.out.extend_from_slice(&self.head);
            self.out.extend_from_slice(end);
            put_count(self.out, total);
            if let Some(Some(exemplar)) = exemplars.get(number) {
                exemplars::put(self.out, exemplar);
            }
            self.out.push(b'\n');
        }
        // A sum that may fall is no counter, and a count comes with a sum.
        if bounds.first().is_none_or(|bound| *bound >= 0.0) {
            self.sample(name, "_count", labels, |out| put_count(out, total));
            self.sample(name, "_sum", labels, |out| put_value(out, distribution.sum().as_f64()));
        }
    }
}
