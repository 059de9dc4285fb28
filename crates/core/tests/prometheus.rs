//! The Prometheus formats, of metrics that are made here. What a parser makes of them is tested from Python.

use std::sync::Arc;

use otel_perf_core::attributes::{encode, Pairs, Value as Attribute};
use otel_perf_core::distribution::Distribution;
use otel_perf_core::encode::prometheus::{Encoder, Format, Options};
use otel_perf_core::exemplar::{Exemplar, SpanIds};
use otel_perf_core::hdr::Level;
use otel_perf_core::lane::Number;
use otel_perf_core::metric::{DataPoint, Metric, Resource, Scope, Shape};
use otel_perf_core::reader::Value;
use otel_perf_core::tables::SeriesId;

fn pairs(of: &[(&str, &str)]) -> Pairs {
    let pair = |(key, value): &(&str, &str)| (key.as_bytes().to_vec(), Attribute::Text(value.as_bytes().to_vec()));
    of.iter().map(pair).collect()
}

fn point(series: u32, attributes: &[(&str, &str)], value: Value) -> DataPoint {
    DataPoint {
        series: Some(SeriesId(series)),
        attributes: encode(&mut pairs(attributes)).into(),
        start_unix_ns: 1_500_000_000_000_000_000,
        time_unix_ns: 1_600_000_000_123_456_789,
        value,
        exemplars: Vec::new(),
    }
}

fn number(value: f64) -> Value {
    Value::Number(Number::Float(value))
}

fn distribution(values: &[f64]) -> Value {
    Value::Distribution(Box::new(Distribution::of(values.iter().copied(), "s", Level::Three)))
}

fn metric(name: &str, shape: Shape, points: Vec<DataPoint>) -> Metric {
    Metric {
        scope: Arc::new(Scope::default()),
        name: name.to_owned(),
        description: String::new(),
        unit: String::new(),
        shape,
        points,
        stream: None,
    }
}

const COUNTER: Shape = Shape::Sum {
    monotonic: true,
    delta: false,
};

fn encoder() -> Encoder {
    Encoder::new(Options {
        scope_labels: false,
        target_info: false,
        ..Options::default()
    })
}

fn text(encoder: &mut Encoder, metrics: &[Metric], format: Format) -> String {
    let bytes = encoder.encode(metrics, &Resource::default(), &Pairs::new(), format);
    String::from_utf8(bytes).unwrap()
}

/// Lines without comments.
fn samples(metrics: &[Metric], format: Format) -> Vec<String> {
    let all = text(&mut encoder(), metrics, format);
    let lines = all.lines().filter(|line| !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

#[test]
fn values_that_are_no_numbers_have_words() {
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let points = values
        .iter()
        .zip(0..)
        .map(|(value, id)| point(id, &[("n", &id.to_string())], number(*value)));
    let gauge = metric("g", Shape::Gauge, points.collect());

    assert_eq!(
        samples(&[gauge], Format::Text),
        [r#"g{n="0"} NaN"#, r#"g{n="1"} +Inf"#, r#"g{n="2"} -Inf"#]
    );
}

#[test]
fn what_is_delta_is_left_out_and_told_once() {
    let delta = Shape::Sum {
        monotonic: true,
        delta: true,
    };
    let metrics = [
        metric("d", delta, vec![point(0, &[], number(1.0))]),
        metric("c", COUNTER, vec![point(1, &[], number(1.0))]),
    ];
    let mut encoder = encoder();

    assert_eq!(
        text(&mut encoder, &metrics, Format::Text),
        "# HELP c_total \n# TYPE c_total counter\nc_total 1.0\n"
    );
    assert_eq!(encoder.take_left_out(), [r#"metric "d": it is of delta temporality"#]);
    text(&mut encoder, &metrics, Format::OpenMetrics);
    assert!(encoder.take_left_out().is_empty());
}

#[test]
fn series_that_vanish_are_forgotten() {
    let mut encoder = encoder();
    let of = |ids: std::ops::Range<u32>| {
        let points = ids.map(|id| point(id, &[("n", &id.to_string())], number(1.0)));
        [metric("c", COUNTER, points.collect())]
    };
    text(&mut encoder, &of(0..100), Format::Text);
    assert_eq!(encoder.kept(), 100);
    let rest = text(&mut encoder, &of(40..41), Format::Text);
    assert_eq!(encoder.kept(), 1);
    assert!(rest.ends_with("counter\nc_total{n=\"40\"} 1.0\n"), "{rest}");
    text(&mut encoder, &[], Format::Text);
    assert_eq!(encoder.kept(), 0);
}

#[test]
fn labels_follow_attributes_that_change_under_a_number() {
    let mut encoder = encoder();
    for attributes in [&[("k", "one")][..], &[("k", "two")], &[("k", "two"), ("le", "x")]] {
        let of = |shape, value| metric("m", shape, vec![point(7, attributes, value)]);
        for metrics in [
            [of(Shape::Gauge, number(1.0))],
            [of(
                Shape::Explicit {
                    boundaries: vec![],
                    record_min_max: true,
                    delta: false,
                },
                distribution(&[1.0]),
            )],
        ] {
            let mut fresh = self::encoder();
            let expected = text(&mut fresh, &metrics, Format::Text);
            assert_eq!(text(&mut encoder, &metrics, Format::Text), expected);
            assert!(expected.contains(attributes[0].1));
        }
    }
}

#[test]
fn points_without_series_are_not_kept() {
    let points = (0..3).map(|n| DataPoint::of(encode(&mut pairs(&[("n", &n.to_string())])), 0, 1, Number::Int(n)));
    let mut encoder = encoder();
    let found = text(
        &mut encoder,
        &[metric("g", Shape::Gauge, points.collect())],
        Format::Text,
    );

    assert!(
        found.ends_with("g{n=\"0\"} 0.0\ng{n=\"1\"} 1.0\ng{n=\"2\"} 2.0\n"),
        "{found}"
    );
    assert_eq!(encoder.kept(), 0);
}

#[test]
fn a_metric_may_not_stand_where_the_resource_does() {
    let mut encoder = Encoder::new(Options::default());
    let metrics = [metric("target.info", Shape::Gauge, vec![point(0, &[], number(5.0))])];
    let found = text(&mut encoder, &metrics, Format::Text);

    assert_eq!(found.lines().filter(|line| line.starts_with("target_info")).count(), 1);
    assert_eq!(encoder.take_left_out().len(), 1);
}

/// The labels of the exemplar of a counter.
fn exemplar_labels(span: Option<SpanIds>, dropped: &[(&str, &str)]) -> String {
    let mut point = point(0, &[], number(1.0));
    point.exemplars.push(Exemplar {
        value: Number::Int(3),
        time_unix_ns: 1_600_000_000_000_000_042,
        span,
        dropped: Some(encode(&mut pairs(dropped))),
    });
    let line = samples(&[metric("c", COUNTER, vec![point])], Format::OpenMetrics).remove(0);
    let (_, rest) = line.split_once("c_total 1.0 # {").unwrap();
    let (labels, rest) = rest.rsplit_once("} ").unwrap();
    assert_eq!(rest, "3.0 1600000000.000000042");
    labels.to_owned()
}

#[test]
fn exemplars_have_at_most_128_characters_of_labels() {
    let span = SpanIds { trace: 0xabc, span: 1 };
    let ids = r#"trace_id="00000000000000000000000000000abc",span_id="0000000000000001""#;
    let (wide, narrow) = ("ü".repeat(64), "ü".repeat(65));

    assert_eq!(
        exemplar_labels(Some(span), &[("a", &wide)]),
        format!(r#"{ids},a="{wide}""#)
    );
    assert_eq!(
        exemplar_labels(Some(span), &[("a", &narrow), ("b", "fits")]),
        format!(r#"{ids},b="fits""#)
    );
    assert_eq!(exemplar_labels(Some(span), &[("trace.id", "other")]), ids);
    assert_eq!(exemplar_labels(None, &[("a", &"x".repeat(127))]).len(), 127 + 4);
    assert_eq!(exemplar_labels(None, &[("a", &"x".repeat(128))]), "");
}

#[test]
fn a_sum_that_may_fall_is_not_shown() {
    let of = |boundaries: Vec<f64>| {
        let shape = Shape::Explicit {
            boundaries,
            record_min_max: true,
            delta: false,
        };
        samples(
            &[metric("h", shape, vec![point(0, &[], distribution(&[-1.0, 2.0]))])],
            Format::Text,
        )
    };

    assert_eq!(
        of(vec![-0.5]),
        [r#"h_bucket{le="-0.5"} 1.0"#, r#"h_bucket{le="+Inf"} 2.0"#]
    );
    assert_eq!(of(vec![]), [r#"h_bucket{le="+Inf"} 2.0"#, "h_count 2.0", "h_sum 1.0"]);
    assert_eq!(of(vec![0.0]).len(), 4);
}

#[test]
fn an_answer_as_large_as_the_last_one_is_allocated_once() {
    let points = (0..1000).map(|id| point(id, &[("n", &id.to_string())], number(1.0)));
    let metrics = [metric("c", COUNTER, points.collect())];
    let mut encoder = encoder();
    let first = encoder.encode(&metrics, &Resource::default(), &Pairs::new(), Format::Text);
    let second = encoder.encode(&metrics, &Resource::default(), &Pairs::new(), Format::Text);

    assert_eq!(first, second);
    assert!(second.capacity() < second.len() * 5 / 4);
}
