//! The span table: what runs and what was slow, bounded, shared and whole whoever dies.

mod fixture;
mod forked;

use fixture::{private_segment, until, Instrument};
use forked::{alone, wait_for_the_end, Forked};
use otel_perf_core::clock::unix_ns;
use otel_perf_core::drops::Drop;
use otel_perf_core::exemplar::SpanIds;
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;
use otel_perf_core::layout::header;
use otel_perf_core::segment::Segment;
use otel_perf_core::spans::{Noted, Span, ATTRIBUTES_MAX, NAME_MAX};
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

const SECOND: u64 = 1_000_000_000;

fn noted(span: u64, name: &str, start_unix_ns: u64) -> Noted<'_> {
    Noted {
        ids: SpanIds {
            trace: u128::from(span) << 64 | 7,
            span,
        },
        parent: span / 2,
        start_unix_ns,
        kind: 3,
        name,
    }
}

fn begin(segment: &Segment, span: u64) -> bool {
    segment
        .spans()
        .begin(segment.lane(), &noted(span, "work", span), b"attributes")
        .is_some()
}

/// Spreads small numbers over the range, as ids are.
fn id(number: u64) -> u64 {
    number.wrapping_mul(0xD134_2543_DE82_EF95) | 1
}

fn ids(segment: &Segment) -> Vec<u64> {
    segment
        .active_spans()
        .iter()
        .map(|active| active.span.ids.span)
        .collect()
}

#[test]
fn a_running_span_is_shown_until_it_ends() {
    let segment = private_segment(1 << 20);
    assert!(segment.active_spans().is_empty());
    assert!(begin(&segment, 9));
    assert!(begin(&segment, 5));
    let found = segment.active_spans();
    let expected = Span {
        ids: SpanIds {
            trace: 5 << 64 | 7,
            span: 5,
        },
        parent: 2,
        start_unix_ns: 5,
        kind: 3,
        name: "work".into(),
        attributes: b"attributes".to_vec(),
    };
    // Those that began first are first.
    assert_eq!((found[0].lane, &found[0].span), (segment.lane(), &expected));
    assert_eq!(ids(&segment), [5, 9]);
    assert!(segment.spans().end(segment.lane(), 5).is_some());
    assert_eq!(ids(&segment), [9]);
    // Twice, or what never began.
    assert_eq!(segment.spans().end(segment.lane(), 5), None);
    assert_eq!(segment.spans().end(segment.lane(), 0), None);
    assert_eq!(ids(&segment), [9]);
}

#[test]
fn a_long_name_is_cut_and_long_attributes_are_left_out() {
    let segment = private_segment(1 << 20);
    let name = "n".repeat(NAME_MAX + 1);
    let lane = segment.lane();
    segment
        .spans()
        .begin(lane, &noted(3, &name, 1), &[b'a'; ATTRIBUTES_MAX]);
    segment
        .spans()
        .begin(lane, &noted(4, &name, 2), &[b'a'; ATTRIBUTES_MAX + 1]);
    let found = segment.active_spans();
    assert_eq!(found[0].span.name.len(), NAME_MAX);
    assert_eq!(found[0].span.attributes.len(), ATTRIBUTES_MAX);
    assert_eq!(found[1].span.attributes.len(), 0);
}

#[test]
fn spans_beyond_the_table_are_counted_and_others_find_its_room_again() {
    let segment = private_segment(1 << 20);
    let before = segment.memory_usage();
    let total = 10_000;
    let shown = (1..=total).filter(|number| begin(&segment, id(*number))).count();
    let (capacity, _) = segment.spans().capacity();
    assert!(shown > capacity * 9 / 10 && shown <= capacity, "{shown} of {capacity}");
    assert_eq!(segment.tables().drops(Drop::NoSpan), total - shown as u64);
    assert_eq!(ids(&segment).len(), shown);
    // An eighth of the pool at most, whatever is put into it.
    let part = |usage: &[(&str, u64)]| usage.iter().find(|(name, _)| *name == "spans").unwrap().1;
    assert_eq!(part(&before), 0);
    let bytes = part(&segment.memory_usage());
    assert!(bytes > 100_000 && bytes < (1 << 20) / 8, "{bytes}");
    for number in 1..=total {
        segment.spans().end(segment.lane(), id(number));
    }
    assert!(ids(&segment).is_empty());
    assert!(begin(&segment, 1));
}

#[test]
fn a_million_running_spans_are_counted_in_the_same_memory() {
    let segment = private_segment(1 << 20);
    let total = fixture::scaled(1_000_000) as u64;
    let shown = (1..=total).filter(|number| begin(&segment, id(*number))).count();
    let before = segment.memory_usage();
    assert_eq!(segment.spans().capacity().0, shown);
    assert_eq!(segment.tables().drops(Drop::NoSpan), total - shown as u64);
    (1..=total).for_each(|number| _ = segment.spans().end(segment.lane(), id(number)));
    assert!(ids(&segment).is_empty());
    assert_eq!(segment.memory_usage(), before);
}

#[test]
fn a_table_that_finds_no_room_counts_what_it_does_not_show() {
    let segment = private_segment(128 << 10);
    fixture::exhaust_but(&segment, 0);
    assert!(!begin(&segment, 1));
    assert!(!segment.spans().note_slow(1, &noted(1, "x", 1), 1, None, Vec::new));
    assert_eq!(segment.tables().drops(Drop::NoSpan), 1);
    assert!(segment.active_spans().is_empty() && segment.spans().slowest().is_empty());
}

#[test]
fn a_forked_copy_of_a_span_does_not_end_the_original() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    assert!(begin(&segment, 77));
    let child = Forked::start(|| {
        assert_eq!(segment.spans().end(segment.lane(), 77), None);
        segment.spans().release(segment.lane(), 0, 77);
    });
    child.join();
    assert_eq!(ids(&segment), [77]);
}

#[test]
fn spans_of_a_dead_worker_are_not_shown_and_make_room_when_its_lane_is_taken() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    let done = Instrument::new(&segment, Kind::Counter, "done", "1");
    let series = done.series("all");
    series.add(Number::Int(1));
    assert!(begin(&segment, 1));
    let child = Forked::start(|| {
        for number in 2..100 {
            begin(&segment, id(number));
        }
        series.add(Number::Int(1));
        wait_for_the_end();
    });
    until("the child's spans run", || done.number("all") == Some(Number::Int(2)));
    assert_eq!(ids(&segment).len(), 99);
    drop(child);
    assert_eq!(ids(&segment), [1]);
    let next = Forked::start(|| {
        series.add(Number::Int(1));
        assert_eq!(ids(&segment), [1]);
        for number in 2..100 {
            assert!(begin(&segment, id(number)));
        }
        assert_eq!(ids(&segment).len(), 99);
    });
    next.join();
}

#[test]
fn threads_and_processes_at_once_leave_nothing_behind() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    let work = |from: u64| {
        let lane = segment.lane();
        for number in from..from + 20_000 {
            let span = id(number);
            if segment.spans().begin(lane, &noted(span, "work", number), b"").is_some() {
                assert!(segment.spans().end(lane, span).is_some());
            }
            segment
                .spans()
                .note_slow(lane, &noted(span, "work", unix_ns()), number % 1000 + 1, None, Vec::new);
        }
    };
    let children = [1_u64, 2].map(|number| Forked::start(|| work(number * 1_000_000)));
    thread::scope(|scope| {
        for number in [3, 4] {
            scope.spawn(move || work(number * 1_000_000));
        }
        for _ in 0..200 {
            for active in segment.active_spans() {
                assert_eq!(active.span.name, "work");
                assert_eq!(active.span.ids.trace, u128::from(active.span.ids.span) << 64 | 7);
            }
        }
    });
    children.into_iter().for_each(Forked::join);
    assert!(ids(&segment).is_empty());
    let slowest = segment.spans().slowest();
    assert!(slowest.iter().all(|slow| slow.span.name == "work"));
    assert_eq!(slowest[0].duration_ns, 1000);
}

fn slow(segment: &Segment, span: u64, name: &str, start_unix_ns: u64, duration_ns: u64) -> bool {
    // The table comes into being with the first running span.
    begin(segment, span);
    segment.spans().end(segment.lane(), span);
    segment.spans().note_slow(
        segment.lane(),
        &noted(span, name, start_unix_ns),
        duration_ns,
        None,
        || b"shown".to_vec(),
    )
}

fn durations(segment: &Segment, name: &str) -> Vec<u64> {
    let slowest = segment.spans().slowest();
    let of_name = slowest.iter().filter(|slow| slow.span.name == name);
    of_name.map(|slow| slow.duration_ns).collect()
}

#[test]
fn the_four_slowest_spans_of_each_name_are_kept() {
    let segment = private_segment(1 << 20);
    let now = unix_ns();
    for (index, duration) in [5, 1, 9, 3, 7, 2, 8, 6, 4].into_iter().enumerate() {
        assert!(slow(&segment, index as u64 + 1, "one", now, duration * SECOND));
        assert!(slow(&segment, index as u64 + 100, "another", now, duration));
    }
    assert_eq!(durations(&segment, "one"), [9, 8, 7, 6].map(|seconds| seconds * SECOND));
    assert_eq!(durations(&segment, "another"), [9, 8, 7, 6]);
    let first = &segment.spans().slowest()[0];
    assert_eq!(
        (first.span.ids.span, first.span.attributes.as_slice()),
        (3, &b"shown"[..])
    );
}

#[test]
fn what_is_older_than_ten_minutes_goes() {
    let segment = private_segment(1 << 20);
    let now = unix_ns();
    let old = now - 700 * SECOND;
    for span in 1..5 {
        slow(&segment, span, "one", old, 50 * SECOND);
    }
    assert!(durations(&segment, "one").is_empty());
    slow(&segment, 9, "one", now, 1);
    assert_eq!(durations(&segment, "one"), [1]);
}

#[test]
fn names_beyond_the_table_are_refused_until_others_are_old() {
    let segment = private_segment(1 << 20);
    let (_, groups) = segment.spans().capacity();
    let now = unix_ns();
    let names: Vec<String> = (0..10 * groups).map(|number| format!("name {number}")).collect();
    let old = now - 700 * SECOND;
    let kept = names.iter().filter(|name| slow(&segment, 1, name, old, 1)).count();
    assert!(kept > groups * 3 / 4, "{kept} of {groups}");
    let kept = names
        .iter()
        .rev()
        .filter(|name| slow(&segment, 1, name, now, 1))
        .count();
    assert!(kept > groups * 3 / 4 && kept <= groups, "{kept} of {groups}");
    assert_eq!(segment.spans().slowest().len(), kept);
}

#[test]
fn damaged_tables_are_read_and_written_without_harm() {
    let segment = private_segment(128 << 10);
    slow(&segment, 5, "one", unix_ns(), 3);
    begin(&segment, 6);
    let word = segment.region().u64(header::SPANS).unwrap();
    let good = word.load(Relaxed);
    let at = segment.geometry().line(good as u32).unwrap();
    for damage in [
        0,
        1,
        u64::MAX,
        u64::MAX << 32 | 1,
        5 << 32 | u64::from(u32::MAX),
        1 << 32 | 3,
    ] {
        word.store(damage, Relaxed);
        slow(&segment, 7, "two", unix_ns(), 3);
        let _ = (
            segment.active_spans(),
            segment.spans().slowest(),
            segment.spans().capacity(),
        );
        segment.spans().release(1, usize::MAX, 7);
        segment.spans().clear_lane(1);
    }
    word.store(good, Relaxed);
    let records = (good >> 32) as usize * 256;
    for byte in (0..records).step_by(8) {
        segment.region().u64(at + byte).unwrap().store(u64::MAX, Relaxed);
    }
    let _ = (segment.active_spans(), segment.spans().slowest());
    slow(&segment, 8, "two", unix_ns(), 3);
    segment.spans().clear_lane(segment.lane());
}
