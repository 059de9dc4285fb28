//! Forked workers record through the handles that they inherited, each into a lane of its own.

mod fixture;
mod forked;

use std::sync::Arc;

use fixture::{named_segment, private_segment, until, Directory, Instrument};
use forked::{alone, wait_for_the_end, Forked};
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;
use otel_perf_core::layout::{MINIMUM_SIZE, WORKERS};
use otel_perf_core::segment::Segment;

/// Runs `check` with segments of both kinds: with a file, and known to forked children only.
fn with_both_kinds(check: impl Fn(&Arc<Segment>)) {
    let _alone = alone();
    check(&private_segment(1 << 20));
    let directory = Directory::new();
    check(&named_segment(&directory, 1 << 20));
}

fn record_in_parent_and_children(segment: &Arc<Segment>) {
    const STEPS: i64 = 20_000;
    let counter = Instrument::new(segment, Kind::Counter, "requests", "{request}");
    let in_flight = Instrument::new(segment, Kind::UpDownCounter, "in_flight", "{request}");
    let sizes = Instrument::new(segment, Kind::Histogram, "sizes", "By");
    let (requests, held, size) = (counter.series("all"), in_flight.series("all"), sizes.series("all"));
    requests.add(Number::Int(1));
    held.add(Number::Int(1));
    size.record(Number::Int(0));
    let work = || {
        for step in 0..STEPS {
            requests.add(Number::Int(1));
            held.add(Number::Int(1));
            size.record(Number::Int(step % 100));
        }
    };
    let children: Vec<_> = (0..3).map(|_| Forked::start(work)).collect();
    work();
    children.into_iter().for_each(Forked::join);
    assert_eq!(counter.number("all"), Some(Number::Int(4 * STEPS + 1)));
    assert_eq!(sizes.distribution("all").count(), 4 * STEPS as u64 + 1);
    assert_eq!(sizes.distribution("all").sum(), Number::Int(4 * STEPS / 100 * 4950));
    // What the children held went with them.
    assert_eq!(in_flight.number("all"), Some(Number::Int(STEPS + 1)));
}

#[test]
fn parent_and_forked_children_count_together() {
    with_both_kinds(record_in_parent_and_children);
}

#[test]
fn parent_and_forked_children_that_record_without_locked_instructions_count_together() {
    with_both_kinds(|segment| {
        segment.set_serialised();
        record_in_parent_and_children(segment);
    });
}

#[test]
fn children_of_children_count_too() {
    with_both_kinds(|segment| {
        segment.set_serialised();
        let counter = Instrument::new(segment, Kind::Counter, "requests", "{request}");
        let requests = counter.series("all");
        requests.add(Number::Int(1));
        Forked::start(|| {
            requests.add(Number::Int(10));
            Forked::start(|| _ = requests.add(Number::Int(100))).join();
            requests.add(Number::Int(10));
        })
        .join();
        requests.add(Number::Int(1));
        assert_eq!(counter.number("all"), Some(Number::Int(122)));
    });
}

#[test]
fn a_forked_child_takes_a_lane_of_its_own_and_gives_it_back_when_killed() {
    with_both_kinds(|segment| {
        let gauge = Instrument::new(segment, Kind::Gauge, "temperature", "Cel");
        let series = gauge.series("all");
        series.set(Number::Int(1));
        let own = segment.lane();
        let child = Forked::start(|| {
            series.set(Number::Int(2));
            wait_for_the_end();
        });
        until("the child has set the gauge", || {
            gauge.number("all") == Some(Number::Int(2))
        });
        let alive = segment.alive();
        assert_eq!(alive.len(), 2);
        assert!(alive
            .iter()
            .any(|worker| worker.pid == child.pid() && worker.lane != own));
        drop(child);
        assert_eq!(segment.alive().len(), 1);
        assert_eq!(gauge.number("all"), Some(Number::Int(1)));
    });
}

#[test]
fn a_forked_child_does_not_inherit_the_leadership() {
    with_both_kinds(|segment| {
        assert!(segment.lead());
        Forked::start(|| assert!(!segment.lead())).join();
        assert!(segment.lead());
    });
}

#[test]
fn a_forked_child_that_closes_leaves_file_slot_and_leadership_to_its_parent() {
    with_both_kinds(|segment| {
        let in_flight = Instrument::new(segment, Kind::UpDownCounter, "in_flight", "{request}");
        let held = in_flight.series("all");
        held.add(Number::Int(1));
        let lane = segment.lane();
        assert!(segment.lead());
        Forked::start(|| {
            held.add(Number::Int(1));
            segment.close();
        })
        .join();
        Forked::start(|| segment.close()).join();
        assert!(segment.path().is_none_or(std::path::Path::exists));
        Forked::start(|| {
            assert!(!segment.lead());
            assert_ne!(segment.lane(), lane);
        })
        .join();
        assert_eq!(in_flight.number("all"), Some(Number::Int(1)));
    });
}

#[test]
fn workers_beyond_the_last_slot_share_the_common_lane() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    segment.set_serialised();
    let counter = Instrument::new(&segment, Kind::Counter, "requests", "{request}");
    let requests = counter.series("all");
    let workers = WORKERS + 6;
    // The children tell how far they are by the counter itself.
    let children: Vec<_> = (0..workers)
        .map(|_| {
            Forked::start(|| {
                (0..1_000).for_each(|_| _ = requests.add(Number::Int(1)));
                wait_for_the_end();
            })
        })
        .collect();
    let all = Number::Int(1_000 * workers as i64);
    until("all children have recorded", || counter.number("all") == Some(all));
    let alive = segment.alive().len();
    assert!(alive < workers && alive >= WORKERS - 2, "{alive}");
    drop(children);
    assert!(segment.alive().is_empty());
    assert_eq!(counter.number("all"), Some(all));
}

#[test]
fn a_segment_is_created_after_a_fork_as_before() {
    let _alone = alone();
    let directory = Directory::new();
    Forked::start(|| {
        let segment = named_segment(&directory, MINIMUM_SIZE);
        let counter = Instrument::new(&segment, Kind::Counter, "requests", "{request}");
        counter.series("all").add(Number::Int(1));
        assert_eq!(counter.number("all"), Some(Number::Int(1)));
        assert!(segment.lead());
        segment.close();
        assert!(directory.files().is_empty());
        std::mem::forget(segment);
    })
    .join();
    assert!(directory.files().is_empty());
}
