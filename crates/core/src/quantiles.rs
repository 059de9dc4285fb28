//! Quantiles as gauges beside a histogram, for readers that cannot compute them: the family `<name>.quantile`, with an attribute `quantile`.
//!
//! A quantile of quantiles means nothing, so these are for looking at; what is to be merged is the histogram.

use std::sync::Arc;

use crate::attributes::{self, Value as Attribute};
use crate::distribution::Distribution;
use crate::lane::Number;
use crate::metric::{DataPoint, Metric, Shape};
use crate::observed::Windows;
use crate::reader::Point;
use crate::segment::Segment;
use crate::stream::Aggregation;
use crate::tables::OVERFLOW_ATTRIBUTES;

/// Attribute that tells the points of a family apart.
const QUANTILE: &[u8] = b"quantile";

/// What is asked for of all histograms.
#[derive(Clone, Debug)]
pub struct Quantiles {
    windows: Arc<Windows>,
    numbers: Vec<f64>,
    window_s: f64,
    patterns: Vec<String>,
}

impl Quantiles {
    /// Quantiles (0 to 1) of the last seconds, of metrics with exported names that match one of the patterns, in which `*` stands for anything
    /// and `?` for one character, and case does not matter.
    pub fn new(windows: Arc<Windows>, quantiles: Vec<f64>, window_s: f64, patterns: &[String]) -> Quantiles {
        Quantiles {
            windows,
            numbers: quantiles,
            window_s,
            patterns: patterns.iter().map(|pattern| pattern.to_lowercase()).collect(),
        }
    }

    /// The family beside a histogram, of the series that recorded in the window; at most `limit` points, where one series more stands for all that find no
    /// room.
    pub fn family(&self, segment: &Segment, of: &Metric, limit: usize, time_unix_ns: u64) -> Option<Metric> {
        let name = of.name.to_lowercase();
        if !self
            .patterns
            .iter()
            .any(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
        {
            return None;
        }
        let found = self.windows.distributions(of.stream?, self.window_s);
        let mut series: Vec<(Vec<u8>, Distribution)> = found
            .into_iter()
            .filter_map(|(id, distribution)| Some((segment.attribute_bytes(id)?, distribution)))
            .collect();
        let (overflow, others) = series.into_iter().partition(|(bytes, _)| bytes == OVERFLOW_ATTRIBUTES);
        series = others;
        let mut rest: Vec<(Vec<u8>, Distribution)> = overflow;
        let room = limit / self.numbers.len().max(1);
        if series.len() + rest.len() > room {
            rest.extend(series.split_off(room.saturating_sub(1)));
        }
        let rest = rest.into_iter().map(|(_, distribution)| distribution);
        let rest = rest.reduce(|all, one| all.merge(&one).unwrap_or(all));
        series.extend(rest.map(|distribution| (OVERFLOW_ATTRIBUTES.to_vec(), distribution)));
        let percentiles: Vec<f64> = self.numbers.iter().map(|quantile| quantile * 100.0).collect();
        let mut points = Vec::with_capacity(series.len() * self.numbers.len());
        for (bytes, distribution) in series {
            for (quantile, value) in self.numbers.iter().zip(distribution.percentiles(&percentiles)) {
                let attributes = with_quantile(&bytes, *quantile);
                points.push(DataPoint::of(attributes, 0, time_unix_ns, Number::Float(value)));
            }
        }
        (!points.is_empty()).then(|| family(of, self.window_s, points))
    }
}

/// Whether a name is what a pattern stands for.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => matches(rest, name),
        (Some((b'*', rest)), Some((_, shorter))) => matches(rest, name) || matches(pattern, shorter),
        (Some((b'?', rest)), Some((_, shorter))) => matches(rest, shorter),
        (Some((expected, rest)), Some((byte, shorter))) => expected == byte && matches(rest, shorter),
        _ => false,
    }
}

/// The quantiles that a view asks for, of the window that the reader keeps.
pub fn of_view(segment: &Segment, of: &Metric, aggregation: &Aggregation, group: &[Point]) -> Option<Metric> {
    let Aggregation::Hdr { quantiles, window, .. } = aggregation else {
        return None;
    };
    let mut points = Vec::new();
    for point in group {
        let bytes = segment.attribute_bytes(point.series).unwrap_or_default();
        for (quantile, value) in quantiles.iter().zip(&point.quantiles) {
            let attributes = with_quantile(&bytes, *quantile);
            points.push(DataPoint::of(attributes, 0, point.time_unix_ns, Number::Float(*value)));
        }
    }
    (!points.is_empty()).then(|| family(of, *window, points))
}

/// The family of quantiles beside a histogram.
fn family(of: &Metric, window_s: f64, points: Vec<DataPoint>) -> Metric {
    Metric {
        scope: Arc::clone(&of.scope),
        name: format!("{}.quantile", of.name),
        description: format!("Quantiles of {} over the last {window_s} s", of.name),
        unit: of.unit.clone(),
        shape: Shape::Gauge,
        points,
        stream: of.stream,
    }
}

/// Canonical bytes of the same attributes and the quantile.
fn with_quantile(attributes: &[u8], quantile: f64) -> Vec<u8> {
    let mut pairs = attributes::decode(attributes).unwrap_or_default();
    pairs.push((QUANTILE.to_vec(), Attribute::Text(quantile.to_string().into_bytes())));
    attributes::encode(&mut pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_names() {
        let yes = [
            ("*", ""),
            ("*", "a.b"),
            ("http.*", "http."),
            ("h?p", "hip"),
            ("*.duration", "a.duration"),
            ("a*b*c", "a1b2c"),
        ];
        let no = [
            ("", "a"),
            ("a", "b"),
            ("http.*", "http"),
            ("h?p", "hp"),
            ("*.duration", "a.duration.x"),
            ("a", ""),
        ];
        assert!(yes
            .iter()
            .all(|(pattern, name)| matches(pattern.as_bytes(), name.as_bytes())));
        assert!(!no
            .iter()
            .any(|(pattern, name)| matches(pattern.as_bytes(), name.as_bytes())));
    }
}
