//! What several workers hold of one series becomes one value, or a point for each of them.

mod fixture;
mod forked;

use std::collections::BTreeMap;
use std::sync::Arc;

use fixture::{labelled, private_segment, until, Instrument};
use forked::{alone, wait_for_the_end, Forked};
use otel_perf_core::attributes::{decode, Value as Attribute};
use otel_perf_core::clock::monotonic_ns;
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;
use otel_perf_core::merge::{GaugeMode, WORKER_ATTRIBUTE};
use otel_perf_core::metric::metrics;
use otel_perf_core::reader::{Point, Preferences, Readers, Temporality, Value};
use otel_perf_core::segment::Segment;

const READER: u64 = 1;

fn reader(temporality: Temporality, gauges: GaugeMode) -> Readers {
    let mut readers = Readers::default();
    let preferences = Preferences {
        gauges,
        ..Preferences::of(temporality)
    };
    readers.add(READER, Arc::new(preferences));
    readers
}

/// The values of a metric by lane; 0 stands for the whole group.
fn values(readers: &mut Readers, instrument: &Instrument) -> BTreeMap<usize, Number> {
    let points = readers.collect(&instrument.segment, READER, 0);
    let of_mine = points.iter().filter(|point| point.stream == instrument.id);
    of_mine
        .map(|point| (point.worker.unwrap_or(0), number(point)))
        .collect()
}

fn number(point: &Point) -> Number {
    match point.value {
        Value::Number(number) => number,
        Value::Distribution(_) => panic!("no number: {point:?}"),
    }
}

/// The one value of a metric of the whole group.
fn one(readers: &mut Readers, instrument: &Instrument) -> Option<Number> {
    let found = values(readers, instrument);
    assert!(found.keys().all(|lane| *lane == 0), "{found:?}");
    found.get(&0).copied()
}

/// Workers that have done each its task, one after the other, and live on.
fn workers<const N: usize>(segment: &Arc<Segment>, task: impl Fn(usize)) -> [Forked; N] {
    let done = Instrument::new(segment, Kind::Counter, "done", "1");
    let series = done.series("all");
    std::array::from_fn(|number| {
        let before = done.number("all");
        let child = Forked::start(|| {
            task(number);
            series.add(Number::Int(1));
            wait_for_the_end();
        });
        until("a worker has done its task", || done.number("all") != before);
        child
    })
}

#[test]
fn a_gauge_of_several_workers_is_what_the_mode_says() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    let gauge = Instrument::new(&segment, Kind::Gauge, "queue.length", "{job}");
    let series = gauge.series("all");
    let set = [Number::Int(3), Number::Float(-1.5), Number::Int(7), Number::Int(2)];
    series.set(set[0]);
    let _children: [_; 3] = workers(&segment, |number| _ = series.set(set[number + 1]));
    for (mode, expected) in [
        (GaugeMode::MostRecent, Number::Int(2)),
        (GaugeMode::Min, Number::Float(-1.5)),
        (GaugeMode::Max, Number::Int(7)),
        (GaugeMode::Sum, Number::Float(10.5)),
    ] {
        let found = one(&mut reader(Temporality::Cumulative, mode), &gauge);
        assert_eq!(found.map(Number::as_f64), Some(expected.as_f64()), "{mode:?}");
    }
    let each = values(&mut reader(Temporality::Cumulative, GaugeMode::All), &gauge);
    assert_eq!(each.into_values().collect::<Vec<_>>(), set);
}

#[test]
fn the_names_of_the_modes_are_those_of_the_setting() {
    for (mode, name) in GaugeMode::ALL {
        assert_eq!(GaugeMode::named(name), Some(mode));
    }
    assert_eq!(GaugeMode::named("average"), None);
}

#[test]
fn a_worker_that_ends_takes_its_gauge_along_in_every_mode() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    let gauge = Instrument::new(&segment, Kind::Gauge, "queue.length", "{job}");
    let series = gauge.series("all");
    series.set(Number::Int(3));
    let [child] = workers(&segment, |_| _ = series.set(Number::Int(5)));
    let modes = GaugeMode::ALL.map(|(mode, _)| mode);
    let seen = |mode| values(&mut reader(Temporality::Cumulative, mode), &gauge);
    assert_eq!(seen(GaugeMode::All).len(), 2);
    drop(child);
    for mode in modes {
        assert_eq!(
            seen(mode).into_values().collect::<Vec<_>>(),
            [Number::Int(3)],
            "{mode:?}"
        );
    }
}

#[test]
fn what_is_of_a_process_has_a_point_for_each_worker_that_lives() {
    let _alone = alone();
    for name in ["process.memory.usage", "cpython.gc.collections", "python.threads"] {
        let segment = private_segment(1 << 20);
        let observed = Instrument::new(&segment, Kind::ObservableUpDownCounter, name, "1");
        let series = observed.series("all");
        series.observe(Number::Int(10), 0);
        let mut readers = reader(Temporality::Cumulative, GaugeMode::MostRecent);
        // One process needs no attribute that tells it from others.
        assert_eq!(one(&mut readers, &observed), Some(Number::Int(10)), "{name}");
        let [child] = workers(&segment, |_| _ = series.observe(Number::Int(20), 0));
        let own = segment.lane();
        let found = values(&mut readers, &observed);
        assert_eq!(found.len(), 2, "{name}: {found:?}");
        assert_eq!(found[&own], Number::Int(10), "{name}");
        drop(child);
        let found = values(&mut readers, &observed);
        assert_eq!(found, BTreeMap::from([(own, Number::Int(10))]), "{name}");
    }
}

#[test]
fn points_of_workers_carry_the_lane_as_attribute_and_begin_with_the_worker() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    let observed = Instrument::new(&segment, Kind::ObservableCounter, "process.cpu.time", "s");
    let series = observed.series("user");
    series.observe(Number::Float(1.5), 0);
    let [_child] = workers(&segment, |_| _ = series.observe(Number::Float(0.25), 0));
    let mut readers = reader(Temporality::Cumulative, GaugeMode::MostRecent);
    let points = readers.collect(&segment, READER, 0);
    let preferences = Preferences::of(Temporality::Cumulative);
    let all = metrics(&segment, points, &preferences, &[], None);
    let metric = all.iter().find(|metric| metric.name == "process.cpu.time").unwrap();
    let mut lanes: Vec<i64> = Vec::new();
    for point in &metric.points {
        let pairs = decode(&point.attributes).unwrap();
        assert!(pairs.contains(&decode(&labelled("user")).unwrap()[0]));
        let lane = pairs.iter().find(|(key, _)| key == WORKER_ATTRIBUTE.as_bytes());
        let Some((_, Attribute::Int(lane))) = lane else {
            panic!("{pairs:?}");
        };
        assert!(point.start_unix_ns >= segment.workers().started(*lane as usize));
        lanes.push(*lane);
    }
    assert_eq!(lanes.len(), 2);
    assert_ne!(lanes[0], lanes[1]);
}

#[test]
fn what_is_of_the_machine_is_reported_once_and_no_dead_worker_adds_to_it() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    let observed = Instrument::new(&segment, Kind::ObservableCounter, "system.network.io", "By");
    let of_workers = Instrument::new(&segment, Kind::ObservableCounter, "jobs", "{job}");
    let (series, jobs) = (observed.series("eth0"), of_workers.series("all"));
    series.observe(Number::Int(100), 0);
    jobs.observe(Number::Int(100), 0);
    let [child] = workers(&segment, |_| {
        series.observe(Number::Int(150), 0);
        jobs.observe(Number::Int(150), 0);
    });
    let mut readers = reader(Temporality::Cumulative, GaugeMode::MostRecent);
    assert_eq!(one(&mut readers, &observed), Some(Number::Int(150)));
    assert_eq!(one(&mut readers, &of_workers), Some(Number::Int(250)));
    drop(child);
    // The next worker takes over the lane, and begins at zero what it counts itself.
    let [_child] = workers(&segment, |_| {
        series.observe(Number::Int(160), 0);
        jobs.observe(Number::Int(5), 0);
    });
    assert_eq!(one(&mut readers, &observed), Some(Number::Int(160)));
    assert_eq!(one(&mut readers, &of_workers), Some(Number::Int(255)));
}

#[test]
fn deltas_of_each_worker_are_its_own_and_a_new_owner_of_the_lane_begins_at_zero() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    let observed = Instrument::new(&segment, Kind::ObservableCounter, "process.cpu.time", "s");
    let series = observed.series("all");
    series.observe(Number::Int(10), 0);
    let mut readers = reader(Temporality::Delta, GaugeMode::MostRecent);
    let [child] = workers(&segment, |_| _ = series.observe(Number::Int(4), 0));
    let own = segment.lane();
    let first = values(&mut readers, &observed);
    let other = *first.keys().find(|lane| **lane != own).unwrap();
    assert_eq!(first, BTreeMap::from([(own, Number::Int(10)), (other, Number::Int(4))]));
    series.observe(Number::Int(11), monotonic_ns());
    drop(child);
    assert_eq!(values(&mut readers, &observed), BTreeMap::from([(own, Number::Int(1))]));
    let [_child] = workers(&segment, |_| _ = series.observe(Number::Int(3), 0));
    let third = values(&mut readers, &observed);
    assert_eq!(third.get(&other), Some(&Number::Int(3)));
}

#[test]
fn a_reader_that_keeps_up_reports_only_what_came_after_the_last_collection_of_another() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    let counter = Instrument::new(&segment, Kind::Counter, "requests", "{request}");
    let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
    let (requests, sizes) = (counter.series("all"), histogram.series("all"));
    let mut leader = reader(Temporality::Delta, GaugeMode::MostRecent);
    let mut follower = reader(Temporality::Delta, GaugeMode::MostRecent);
    for round in 1..=3 {
        for _ in 0..round {
            requests.add(Number::Int(1));
            sizes.record(Number::Int(round));
        }
        assert_eq!(of(&mut leader, &counter), [round as f64]);
        follower.keep_up(&segment, READER);
    }
    requests.add(Number::Int(5));
    sizes.record(Number::Int(64));
    let points = follower.collect(&segment, READER, 0);
    let seen = |instrument: &Instrument| {
        let found = points.iter().filter(|point| point.stream == instrument.id);
        found.map(|point| point.value.clone()).collect::<Vec<_>>()
    };
    assert!(matches!(seen(&counter)[..], [Value::Number(Number::Int(5))]));
    let found = seen(&histogram);
    let [Value::Distribution(distribution)] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!((distribution.count(), distribution.sum()), (1, Number::Int(64)));
}

/// The numbers of an instrument that a reader collects now.
fn of(readers: &mut Readers, instrument: &Instrument) -> Vec<f64> {
    values(readers, instrument).into_values().map(Number::as_f64).collect()
}

#[test]
fn a_process_that_is_barred_from_leading_leaves_it_to_others() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    segment.bar_leading(true);
    assert!(!segment.lead());
    let led = Instrument::new(&segment, Kind::Counter, "led", "1");
    let series = led.series("all");
    let [_child] = workers(&segment, |_| {
        segment.bar_leading(false);
        series.add(Number::Int(i64::from(segment.lead())));
    });
    assert_eq!(led.number("all"), Some(Number::Int(1)));
    segment.bar_leading(false);
    assert!(!segment.lead(), "another process leads");
}

#[test]
fn a_segment_ends_only_without_workers_and_nobody_joins_it_then() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    let [child] = workers(&segment, |_| assert!(segment.join()));
    assert!(!segment.end(), "a worker lives");
    assert!(!segment.workers().has_ended());
    drop(child);
    assert!(segment.end());

    Forked::start(|| assert!(!segment.join())).join();
    assert_eq!(segment.others(), []);
}
