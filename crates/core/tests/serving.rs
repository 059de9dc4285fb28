//! Where a group serves its endpoint, and who leads it, as seen from outside.

mod fixture;
mod forked;

use std::sync::atomic::Ordering;

use fixture::{named_segment, private_segment, until, Directory};
use forked::{alone, wait_for_the_end, Forked};
use otel_perf_core::layout::header;
use otel_perf_core::segment::Segment;

const ADDRESS: &str = "http://127.0.0.1:9464/metrics";

#[test]
fn the_address_of_a_living_worker_is_seen_and_that_of_a_dead_one_is_not() {
    let _alone = alone();
    let directory = Directory::new();
    let segment = named_segment(&directory, 1 << 20);
    segment.lane();
    assert_eq!(segment.served_at(), None);
    let child = Forked::start(|| {
        assert!(segment.lead());
        segment.serve_at(ADDRESS);
        wait_for_the_end();
    });
    until("the child serves", || segment.served_at().is_some());
    let (lane, address) = segment.served_at().unwrap();
    let pid = child.pid();
    assert_eq!(address, ADDRESS);
    assert!(segment
        .alive()
        .iter()
        .any(|worker| worker.lane == lane && worker.pid == pid));
    assert_eq!(segment.workers().leader(), Some(pid as i32));
    drop(child);
    assert_eq!(segment.served_at(), None);
    assert_eq!(segment.workers().leader(), None);
    // Nor is it that of the next owner of the lane.
    let _next = Forked::start(|| {
        segment.lane();
        wait_for_the_end();
    });
    until("the next worker has the lane", || {
        segment.alive().iter().any(|worker| worker.lane == lane)
    });
    assert_eq!(segment.served_at(), None);
}

#[test]
fn an_address_that_is_empty_or_too_long_is_none() {
    let segment = private_segment(1 << 20);
    for address in [String::new(), "x".repeat(header::SERVING_MAX + 1)] {
        segment.serve_at(ADDRESS);
        assert_eq!(segment.served_at().unwrap().1, ADDRESS);
        segment.serve_at(&address);
        assert_eq!(segment.served_at(), None);
    }
    let longest = "x".repeat(header::SERVING_MAX);
    segment.serve_at(&longest);
    assert_eq!(segment.served_at().unwrap().1, longest);
}

#[test]
fn damaged_bytes_are_no_address() {
    let segment = private_segment(1 << 20);
    let word = |offset| segment.region().u32(offset).unwrap();
    for (lane, length) in [(u32::MAX, 4), (65, 4), (segment.lane() as u32 + 1, u32::MAX), (1, 249)] {
        word(header::SERVING).store(lane, Ordering::Relaxed);
        word(header::SERVING_LEN).store(length, Ordering::Relaxed);
        assert_eq!(segment.served_at(), None, "{lane} {length}");
    }
    segment.region().write_bytes(header::SERVING_AT, b"\xff\xff\xff\xff");
    word(header::SERVING).store(segment.lane() as u32 + 1, Ordering::Relaxed);
    word(header::SERVING_LEN).store(4, Ordering::Relaxed);
    assert_eq!(segment.served_at(), None);
}

#[test]
fn observers_are_no_workers() {
    let _alone = alone();
    let directory = Directory::new();
    let segment = named_segment(&directory, 1 << 20);
    segment.lane();
    let child = Forked::start(|| {
        let attached = Segment::attach(segment.path().unwrap()).unwrap();
        attached.observe();
        wait_for_the_end();
    });
    let holders = || segment.workers().holders(segment.joined_lane());
    until("the observer is there", || holders().len() == 2);
    let observers: Vec<_> = holders().into_iter().filter(|holder| holder.observes).collect();
    assert_eq!(
        observers.iter().map(|holder| holder.pid).collect::<Vec<_>>(),
        [child.pid()]
    );
    assert_eq!(segment.alive().len(), 1);
}
