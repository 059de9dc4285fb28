//! How much precision a thousand histogram series get in one segment of 1 MiB, and that no recording is lost meanwhile.
#![allow(clippy::print_stdout)]

mod fixture;

use std::collections::BTreeMap;
use std::sync::Arc;

use fixture::{private_segment, scaled, Instrument, Random};
use otel_perf_core::attributes::{encode, Value as Attribute};
use otel_perf_core::distribution::Distribution;
use otel_perf_core::drops::Drop;
use otel_perf_core::hdr::Level;
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;
use otel_perf_core::layout::{DEFAULT_SIZE, LINE};
use otel_perf_core::local::LocalSeries;
use otel_perf_core::tables::OVERFLOW_ATTRIBUTES;

/// Standard deviation of the logarithm of the latencies of one route.
const SIGMA: f64 = 0.5;

/// Who comes first: all series alike, or whichever the traffic brings.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Arrival {
    /// Ten rounds over all series, and only then Zipf traffic.
    UniformFirst,
    /// Zipf traffic from the start.
    Zipf,
}

/// What became of the recordings of one experiment.
#[derive(Debug)]
struct Outcome {
    recordings: u64,
    series_by_digits: BTreeMap<String, usize>,
    recordings_by_digits: BTreeMap<String, u64>,
    overflow: u64,
    counted: u64,
    lines: BTreeMap<&'static str, u64>,
}

/// Attributes of a server's duration metric, as the semantic conventions have them.
fn attributes_of(route: usize) -> Vec<u8> {
    let text = |text: &str| Attribute::Text(text.as_bytes().to_vec());
    encode(&mut vec![
        (b"http.request.method".to_vec(), text(["GET", "POST", "PUT"][route % 3])),
        (
            b"http.route".to_vec(),
            text(&format!("/api/v1/resource-{route}/{{id}}")),
        ),
        (b"http.response.status_code".to_vec(), Attribute::Int(200)),
        (b"network.protocol.version".to_vec(), text("1.1")),
        (b"url.scheme".to_vec(), text("http")),
    ])
}

/// Draws from `0..n` with probability proportional to `1 / (rank + 1) ^ exponent`.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(n: usize, exponent: f64) -> Zipf {
        let mut total = 0.0;
        let sums = (1..=n).map(|rank| {
            total += (rank as f64).powf(-exponent);
            total
        });
        Zipf(sums.collect())
    }

    fn draw(&self, random: &mut Random) -> usize {
        let wanted = random.fraction() * self.0[self.0.len() - 1];
        self.0.partition_point(|sum| *sum <= wanted)
    }
}

/// A service with `routes` routes, each with a lognormal latency around a median of its own.
struct Service {
    histogram: Instrument,
    series: Vec<Option<Arc<LocalSeries>>>,
    medians: Vec<f64>,
    sigma: f64,
    random: Random,
    recordings: u64,
}

impl Service {
    fn new(routes: usize, sigma: f64) -> Service {
        let segment = private_segment(DEFAULT_SIZE);
        let mut random = Random(42);
        Service {
            histogram: Instrument::new(&segment, Kind::Histogram, "http.server.request.duration", "s"),
            series: vec![None; routes],
            medians: (0..routes).map(|_| random.lognormal(0.02, 1.0)).collect(),
            sigma,
            random,
            recordings: 0,
        }
    }

    fn request(&mut self, route: usize) {
        let histogram = &self.histogram;
        let series = self.series[route].get_or_insert_with(|| {
            let made = histogram.series_of(&attributes_of(route));
            made.unwrap_or_else(|_| Arc::clone(&histogram.overflow))
        });
        series.record(Number::Float(self.random.lognormal(self.medians[route], self.sigma)));
        self.recordings += 1;
    }

    fn run(routes: usize, recordings: usize, arrival: Arrival, exponent: f64, sigma: f64) -> Outcome {
        let mut service = Service::new(routes, sigma);
        if arrival == Arrival::UniformFirst {
            (0..10 * routes).for_each(|number| service.request(number % routes));
        }
        let zipf = Zipf::new(routes, exponent);
        while service.recordings < recordings as u64 {
            let route = zipf.draw(&mut service.random);
            service.request(route);
        }
        service.outcome()
    }

    fn outcome(&self) -> Outcome {
        let segment = &self.histogram.segment;
        let mut distributions = self.histogram.distributions();
        let overflow = distributions.remove(OVERFLOW_ATTRIBUTES).map_or(0, |all| all.count());
        let mut series_by_digits = BTreeMap::new();
        let mut recordings_by_digits = BTreeMap::new();
        for distribution in distributions.values().filter(|all| all.count() > 0) {
            *series_by_digits
                .entry(format!("{:.1}", distribution.coarsest().digits()))
                .or_insert(0) += 1;
            for (slot, count) in distribution.slots() {
                *recordings_by_digits
                    .entry(format!("{:.1}", slot.level.digits()))
                    .or_insert(0) += count;
            }
        }
        assert_eq!(segment.tables().drops(Drop::Corrupt), 0);
        Outcome {
            recordings: self.recordings,
            series_by_digits,
            recordings_by_digits,
            overflow,
            counted: overflow + distributions.values().map(Distribution::count).sum::<u64>(),
            lines: segment
                .memory_usage()
                .into_iter()
                .map(|(part, bytes)| (part, bytes / LINE as u64))
                .collect(),
        }
    }
}

/// Runs an experiment, prints what came of it and checks that nothing was lost.
fn experiment(routes: usize, arrival: Arrival, exponent: f64, sigma: f64) -> Outcome {
    let outcome = Service::run(routes, scaled(1_000_000), arrival, exponent, sigma);
    println!(
        "{routes} series, {arrival:?}, s={exponent}, sigma={sigma}: {} recordings, {} to overflow ({:.4} %)\n  \
         series by digits {:?}\n  recordings by digits {:?}\n  lines {:?}",
        outcome.recordings,
        outcome.overflow,
        100.0 * outcome.overflow as f64 / outcome.recordings as f64,
        outcome.series_by_digits,
        outcome.recordings_by_digits,
        outcome.lines,
    );
    assert_eq!(outcome.counted, outcome.recordings);
    outcome
}

/// At most one recording in ten thousand may end in the overflow series.
fn assert_nearly_all_kept(outcomes: &[Outcome]) {
    for outcome in outcomes {
        assert!(outcome.overflow * 10_000 <= outcome.recordings, "{outcome:?}");
        assert_eq!(outcome.series_by_digits.values().sum::<usize>(), 1_000, "{outcome:?}");
    }
}

#[test]
fn a_thousand_series_created_before_the_traffic_keep_their_recordings() {
    assert_nearly_all_kept(&[0.5, 1.0].map(|exponent| experiment(1_000, Arrival::UniformFirst, exponent, SIGMA)));
}

#[test]
fn a_thousand_series_that_arrive_with_the_traffic_keep_their_recordings() {
    assert_nearly_all_kept(&[0.5, 1.0].map(|exponent| experiment(1_000, Arrival::Zipf, exponent, SIGMA)));
}

#[test]
fn a_thousand_series_with_a_wide_spread_lose_no_recording() {
    // Routes whose latency varies by a factor of ten and more: no promise of precision, but of counts.
    for (arrival, exponent) in [(Arrival::UniformFirst, 1.0), (Arrival::Zipf, 1.0)] {
        experiment(1_000, arrival, exponent, 1.0);
    }
}

#[test]
fn some_hundred_series_lose_no_recording() {
    for routes in [50, 100, 200, 400] {
        let outcome = experiment(routes, Arrival::Zipf, 1.0, SIGMA);
        assert_eq!(outcome.overflow, 0);
        assert_eq!(outcome.series_by_digits.values().sum::<usize>(), routes);
    }
}

#[test]
fn twenty_series_keep_three_digits_throughout() {
    for sigma in [SIGMA, 1.0] {
        let outcome = experiment(20, Arrival::Zipf, 1.0, sigma);
        assert_eq!(outcome.overflow, 0);
        assert_eq!(outcome.series_by_digits, BTreeMap::from([("3.0".to_string(), 20)]));
        assert_eq!(Level::Three.digits(), 3.0);
    }
}
