//! The Prometheus exposition formats: text 0.0.4, `OpenMetrics` 1.0 and delimited protobuf with native histograms.
//!
//! Names, units, labels and values are those of the stock exporter 0.66 (`opentelemetry-exporter-prometheus`), whose output
//! `tests/unit/test_prometheus_stock.py` compares. What it gets wrong or does not do follows the specification, "Prometheus and `OpenMetrics`
//! Compatibility".

mod buckets;
mod exemplars;
mod families;
mod labels;
mod names;
mod numbers;
mod protobuf;
mod text;
mod wire;

use std::collections::HashSet;

use self::labels::Known;
use crate::attributes::Pairs;
use crate::metric::{Metric, Resource};

/// A format of the exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text 0.0.4.
    Text,
    /// `OpenMetrics` 1.0 text, with exemplars.
    OpenMetrics,
    /// Length-delimited `io.prometheus.client.MetricFamily`, with native and classic histograms.
    Protobuf,
}

/// What is shown, and under which names.
#[derive(Clone, Debug)]
pub struct Options {
    /// What all names begin with, before an underscore; empty for nothing.
    pub prefix: String,
    /// Whether series have labels that tell their scope.
    pub scope_labels: bool,
    /// Whether there is a family `target_info` with the attributes of the resource.
    pub target_info: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            prefix: String::new(),
            scope_labels: true,
            target_info: true,
        }
    }
}

/// Encodes scrapes of one segment, and keeps from one to the next the labels of its series.
#[derive(Debug)]
pub struct Encoder {
    options: Options,
    known: Known,
    /// What was left out already; each is told once.
    told: HashSet<String>,
    untold: Vec<String>,
    /// Size of the last answer, which the next one has about.
    size: usize,
}

/// Notes that points of a metric have labels that were shown already, which a scraper would refuse.
fn left_out_twice(left_out: &mut Vec<String>, metric: &Metric, points: usize) {
    if points > 0 {
        left_out.push(format!(
            "series of metric {:?} of scope {:?}: others have the same name and labels",
            metric.name, metric.scope.name
        ));
    }
}

/// Most messages of what was left out that are kept, so that names which change all the time do not take memory.
const TOLD_MAX: usize = 1000;

impl Encoder {
    /// An encoder.
    pub fn new(options: Options) -> Encoder {
        Encoder {
            options,
            known: Known::default(),
            told: HashSet::new(),
            untold: Vec::new(),
            size: 0,
        }
    }

    /// The answer to a scrape.
    ///
    /// `metrics` are cumulative; what is delta is left out, as the specification says. `constant` are attributes of the resource that all series get
    /// as labels. Without a metric there is no `target_info` either, as with the stock exporter.
    pub fn encode(&mut self, metrics: &[Metric], resource: &Resource, constant: &Pairs, format: Format) -> Vec<u8> {
        let mut untold = Vec::new();
        let families = families::of(metrics, resource, &self.options, &mut untold);
        let mut out = Vec::with_capacity(self.size + self.size / 8);
        self.known.begin(constant, self.options.scope_labels);
        match format {
            Format::Text | Format::OpenMetrics => {
                let mut writer =
                    text::Writer::new(&mut out, &mut self.known, &mut untold, format == Format::OpenMetrics);
                writer.families(&families);
            }
            Format::Protobuf => {
                let mut writer = protobuf::Writer::new(&mut out, &mut self.known, &mut untold);
                writer.families(&families);
            }
        }
        self.known.end();
        self.size = out.len();
        for text in untold {
            if self.told.len() < TOLD_MAX && self.told.insert(text.clone()) {
                self.untold.push(text);
            }
        }
        out
    }

    /// What was left out of answers since this was asked last, a sentence for each; no sentence comes twice.
    pub fn take_left_out(&mut self) -> Vec<String> {
        std::mem::take(&mut self.untold)
    }

    /// Number of series whose labels are kept.
    pub fn kept(&self) -> usize {
        self.known.len()
    }
}
