//! Metrics as they leave: what a reader collected, in the shape that it wants, before anything is encoded.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::attributes::{self, Pairs};
use crate::exemplar::Exemplar;
use crate::instrument::{Descriptor, Kind};
use crate::lane::Number;
use crate::merge::WORKER_ATTRIBUTE;
use crate::quantiles::{self, Quantiles};
use crate::reader::{Point, Preferences, Value};
use crate::segment::Segment;
use crate::stream::{Aggregation, Storage};
use crate::tables::{SeriesId, StreamId};

/// Most exemplars of a point of an exponential histogram.
const EXPONENTIAL_EXEMPLARS: usize = 20;

/// An instrumentation scope.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// Name.
    pub name: String,
    /// Version.
    pub version: Option<String>,
    /// Schema URL.
    pub schema_url: Option<String>,
    /// Attributes, sorted by key.
    pub attributes: Pairs,
}

/// What the metrics are of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource {
    /// Attributes.
    pub attributes: Pairs,
    /// Schema URL, empty if there is none.
    pub schema_url: String,
}

/// How the points of a metric leave.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Sum.
    Sum {
        /// Whether it only grows.
        monotonic: bool,
        /// Whether it is that since the reader's last collection.
        delta: bool,
    },
    /// Last value.
    Gauge,
    /// Histogram with explicit buckets.
    Explicit {
        /// Upper bounds of all buckets but the last.
        boundaries: Vec<f64>,
        /// Whether minimum and maximum leave.
        record_min_max: bool,
        /// As of a sum.
        delta: bool,
    },
    /// Exponential histogram.
    Exponential {
        /// Most buckets of one sign.
        max_size: usize,
        /// Finest scale.
        max_scale: i32,
        /// Whether minimum and maximum leave.
        record_min_max: bool,
        /// As of a sum.
        delta: bool,
    },
}

/// One metric with its points.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Scope.
    pub scope: Arc<Scope>,
    /// Name.
    pub name: String,
    /// Description.
    pub description: String,
    /// Unit (UCUM).
    pub unit: String,
    /// Shape of the points.
    pub shape: Shape,
    /// Points, in the order of their series.
    pub points: Vec<DataPoint>,
    /// The stream; none for what is made at collection and not recorded.
    pub stream: Option<StreamId>,
}

/// One point of a metric.
#[derive(Clone, Debug)]
pub struct DataPoint {
    /// The series, of which encoders may keep what does not change; none for what is made at collection.
    pub series: Option<SeriesId>,
    /// Canonical bytes of the attributes.
    pub attributes: Arc<[u8]>,
    /// Begin of the interval, nanoseconds since the epoch; 0 if there is none.
    pub start_unix_ns: u64,
    /// Time of the collection.
    pub time_unix_ns: u64,
    /// What was measured.
    pub value: Value,
    /// Exemplars that leave with the point, oldest first.
    pub exemplars: Vec<Exemplar>,
}

impl DataPoint {
    /// A number made at collection, which belongs to no series.
    pub fn of(attributes: Vec<u8>, start_unix_ns: u64, time_unix_ns: u64, value: Number) -> DataPoint {
        DataPoint {
            series: None,
            attributes: attributes.into(),
            start_unix_ns,
            time_unix_ns,
            value: Value::Number(value),
            exemplars: Vec::new(),
        }
    }
}

impl Shape {
    /// The shape in which a stream leaves for a reader.
    pub fn of(descriptor: &Descriptor, aggregation: &Aggregation, preferences: &Preferences, default: &[f64]) -> Shape {
        let kind = descriptor.kind;
        let delta = preferences.is_delta(kind);
        let histogram = match aggregation {
            // A view of ours leaves the shape to the reader.
            Aggregation::Hdr { .. } => preferences.histogram(kind),
            stated => stated,
        };
        match (descriptor.stream.storage, histogram) {
            (_, Aggregation::Ewma { .. }) | (Storage::Last | Storage::Mean, _) => Shape::Gauge,
            (Storage::Sum | Storage::Total, _) => Shape::Sum {
                monotonic: matches!(kind, Kind::Counter | Kind::ObservableCounter),
                delta,
            },
            (
                Storage::Distribution,
                Aggregation::Exponential {
                    max_size,
                    max_scale,
                    record_min_max,
                },
            ) => Shape::Exponential {
                max_size: *max_size as usize,
                max_scale: *max_scale,
                record_min_max: *record_min_max,
                delta,
            },
            (Storage::Distribution, stated) => {
                let (boundaries, record_min_max) = match stated {
                    Aggregation::Explicit {
                        boundaries,
                        record_min_max,
                    } => (boundaries.as_deref(), *record_min_max),
                    _ => (None, true),
                };
                let boundaries = boundaries.or(descriptor.boundaries.as_deref()).unwrap_or(default);
                Shape::Explicit {
                    boundaries: boundaries.to_vec(),
                    record_min_max,
                    delta,
                }
            }
        }
    }

    /// Whether the points are those since the reader's last collection.
    pub fn is_delta(&self) -> bool {
        match self {
            Shape::Gauge => false,
            Shape::Sum { delta, .. } | Shape::Explicit { delta, .. } | Shape::Exponential { delta, .. } => *delta,
        }
    }

    /// Of the exemplars, oldest first, those that a point of this shape carries: the last one of each explicit bucket, a few of an exponential
    /// histogram, none of zero, and the last one otherwise. The SDK's reservoirs have these sizes.
    fn choose(&self, mut exemplars: Vec<Exemplar>) -> Vec<Exemplar> {
        match self {
            Shape::Sum { .. } | Shape::Gauge => exemplars.pop().into_iter().collect(),
            Shape::Explicit { boundaries, .. } => {
                let mut last = BTreeMap::new();
                for exemplar in exemplars {
                    let value = exemplar.value.as_f64();
                    last.insert(boundaries.partition_point(|boundary| *boundary < value), exemplar);
                }
                last.into_values().collect()
            }
            Shape::Exponential { max_size, .. } => {
                exemplars.retain(|exemplar| exemplar.value.as_f64() != 0.0);
                let most = EXPONENTIAL_EXEMPLARS.min(*max_size);
                exemplars.split_off(exemplars.len().saturating_sub(most))
            }
        }
    }
}

/// Makes metrics of the points of one reader, which are in the order of their streams. Metrics of one scope follow one another, in the order of their
/// first streams. Beside a histogram are the quantiles that its view asks for, or else those that are asked for of all.
pub fn metrics(
    segment: &Segment,
    points: Vec<Point>,
    preferences: &Preferences,
    default: &[f64],
    asked: Option<&Quantiles>,
) -> Vec<Metric> {
    let mut scopes: HashMap<Vec<u8>, Arc<Scope>> = HashMap::new();
    let mut order: Vec<Arc<Scope>> = Vec::new();
    let mut found: Vec<Metric> = Vec::new();
    let mut points = points.into_iter().peekable();
    while let Some(stream) = points.peek().map(|point| point.stream) {
        let mut group = Vec::new();
        while let Some(point) = points.next_if(|point| point.stream == stream) {
            group.push(point);
        }
        let Some(descriptor) = segment.tables().descriptor(stream) else {
            continue;
        };
        let Some(aggregation) = preferences.aggregation(&descriptor) else {
            continue;
        };
        let scope = scopes.entry(descriptor.scope_identity()).or_insert_with(|| {
            let scope = Arc::new(scope_of(&descriptor));
            order.push(Arc::clone(&scope));
            scope
        });
        let mut metric = Metric {
            scope: Arc::clone(scope),
            name: descriptor.exported_name().to_owned(),
            description: descriptor.exported_description().to_owned(),
            unit: descriptor.unit.clone(),
            shape: Shape::of(&descriptor, aggregation, preferences, default),
            points: Vec::with_capacity(group.len()),
            stream: Some(stream),
        };
        let quantiles = quantiles::of_view(segment, &metric, aggregation, &group).or_else(|| {
            let is_histogram = matches!(metric.shape, Shape::Explicit { .. } | Shape::Exponential { .. });
            let limit = preferences.limit[descriptor.kind as usize - 1] as usize;
            let time = group.first()?.time_unix_ns;
            asked.filter(|_| is_histogram)?.family(segment, &metric, limit, time)
        });
        for point in group {
            let attributes = segment.attribute_bytes(point.series).unwrap_or_default();
            metric.points.push(DataPoint {
                series: point.worker.is_none().then_some(point.series),
                attributes: match point.worker {
                    Some(lane) => of_worker(&attributes, lane).into(),
                    None => attributes.into(),
                },
                start_unix_ns: if metric.shape == Shape::Gauge {
                    0
                } else {
                    point.start_unix_ns
                },
                time_unix_ns: point.time_unix_ns,
                value: point.value,
                exemplars: metric.shape.choose(point.exemplars),
            });
        }
        found.push(metric);
        found.extend(quantiles);
    }
    // Stable, so that the streams of a scope stay in their order.
    found.sort_by_key(|metric| order.iter().position(|scope| Arc::ptr_eq(scope, &metric.scope)));
    found
}

/// Canonical bytes of attributes and the worker that has them.
fn of_worker(canonical: &[u8], lane: usize) -> Vec<u8> {
    let key = WORKER_ATTRIBUTE.as_bytes();
    let mut pairs = attributes::decode(canonical).unwrap_or_default();
    pairs.retain(|(known, _)| known != key);
    pairs.push((key.to_vec(), attributes::Value::Int(lane as i64)));
    attributes::encode(&mut pairs)
}

fn scope_of(descriptor: &Descriptor) -> Scope {
    Scope {
        name: descriptor.scope_name.clone(),
        version: descriptor.scope_version.clone(),
        schema_url: descriptor.scope_schema_url.clone(),
        attributes: descriptor.scope_pairs(),
    }
}
