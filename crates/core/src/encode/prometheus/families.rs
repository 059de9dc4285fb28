//! Which metrics are one family, and what a family is called.

use std::collections::HashMap;

use super::labels::{self, Labels};
use super::names;
use super::Options;
use crate::metric::{Metric, Resource, Shape};

/// Type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sum that only grows.
    Counter,
    /// Everything that is one number otherwise.
    Gauge,
    /// Histogram.
    Histogram,
    /// Labels with the value 1.
    Info,
}

impl Kind {
    fn of(shape: &Shape) -> Option<Kind> {
        match shape {
            Shape::Sum { delta: true, .. }
            | Shape::Explicit { delta: true, .. }
            | Shape::Exponential { delta: true, .. } => None,
            Shape::Sum { monotonic: true, .. } => Some(Kind::Counter),
            Shape::Sum { .. } | Shape::Gauge => Some(Kind::Gauge),
            Shape::Explicit { .. } | Shape::Exponential { .. } => Some(Kind::Histogram),
        }
    }

    /// What the formats but `OpenMetrics` call it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge | Kind::Info => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// Metrics of one name, unit included, whatever their scopes.
#[derive(Debug)]
pub struct Family<'a> {
    /// Name of the family, which its samples begin with; in `OpenMetrics` without `_total` and `_info`.
    pub name: String,
    /// Type.
    pub kind: Kind,
    /// Unit, which the name ends with; empty if there is none.
    pub unit: String,
    /// The first description of a member that is not empty.
    pub help: &'a str,
    /// The metrics.
    pub members: Vec<&'a Metric>,
    /// Labels of the one sample of an info family.
    pub info: Labels,
}

impl Family<'_> {
    /// The name without the suffix of its type.
    pub fn stem(&self) -> &str {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.name.strip_suffix(suffix).unwrap_or(&self.name)
    }
}

/// The families in the order in which they appear. Of two metrics that have one name and different types the later one is left out, as the specification
/// says; a unit or a description that differs is not shown.
pub fn of<'a>(
    metrics: &'a [Metric],
    resource: &Resource,
    options: &Options,
    left_out: &mut Vec<String>,
) -> Vec<Family<'a>> {
    let mut families: Vec<Family<'a>> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    if options.target_info && !metrics.is_empty() {
        known.insert("target_info".to_owned(), 0);
        families.push(Family {
            name: "target_info".to_owned(),
            kind: Kind::Info,
            unit: String::new(),
            help: "Target metadata",
            members: Vec::new(),
            info: labels::of(&resource.attributes, ""),
        });
    }
    for metric in metrics {
        let Some(kind) = Kind::of(&metric.shape) else {
            left_out.push(format!("metric {:?}: it is of delta temporality", metric.name));
            continue;
        };
        let unit = names::unit(&metric.unit);
        let name = name_of(&options.prefix, &metric.name, &unit, kind);
        let at = *known.entry(name).or_insert_with_key(|name| {
            families.push(Family {
                name: name.clone(),
                kind,
                unit: String::new(),
                help: "",
                members: Vec::new(),
                info: Labels::new(),
            });
            families.len() - 1
        });
        let family = &mut families[at];
        if family.kind != kind {
            left_out.push(format!(
                "metric {:?} of scope {:?}: it would be the {} {}, which is a {} already",
                metric.name,
                metric.scope.name,
                kind.word(),
                family.name,
                family.kind.word()
            ));
            continue;
        }
        if family.unit.is_empty() {
            family.unit = unit;
        }
        if family.help.is_empty() {
            family.help = &metric.description;
        }
        family.members.push(metric);
    }
    families
}

fn name_of(prefix: &str, name: &str, unit: &str, kind: Kind) -> String {
    let mut name = names::metric(prefix, name);
    if kind != Kind::Counter {
        return names::with_unit(name, unit);
    }
    if let Some(stem) = name.strip_suffix("_total").filter(|stem| !stem.is_empty()) {
        name.truncate(stem.len());
    }
    names::with_unit(name, unit) + "_total"
}
