//! Quantiles of a trailing window and averages that forget, against what is computed from all recordings, with irregular times.

mod fixture;

use std::sync::Arc;

use fixture::{private_segment, scaled, until, viewed, Instrument, Random};
use otel_perf_core::clock::monotonic_ns;
use otel_perf_core::distribution::Distribution;
use otel_perf_core::hdr::Level;
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;
use otel_perf_core::reader::{Point, Preferences, Readers, Temporality, Value};
use otel_perf_core::stream::Aggregation;
use otel_perf_core::window::{Averaged, Ewma, Window};

const SECOND: u64 = 1_000_000_000;

fn of(values: &[(u64, f64)]) -> Distribution {
    Distribution::of(values.iter().map(|(_, value)| *value), "{item}", Level::Three)
}

/// A window holds exactly the recordings since one of the earlier collections, and that one is as long ago as the window is long, or longer
/// by at most an eighth and one interval. A series that is younger is in it whole, and before a reader has collected for that long the window
/// begins at its first collection.
#[test]
fn a_window_begins_at_a_collection_that_is_as_old_as_it_is_long() {
    let mut random = Random(31);
    for _ in 0..scaled(300) {
        let mut window = Window::default();
        let length = [1, 10, 60][random.below(3)] * SECOND;
        let most = [length / 30, length / 3, 3 * length][random.below(3)];
        let begun = 1_000 * SECOND + random.below(1_000) as u64;
        let (mut now, mut longest) = (begun, 0);
        let (mut recorded, mut collections): (Vec<(u64, f64)>, Vec<u64>) = (Vec::new(), vec![begun]);
        for _ in 0..60 {
            let interval = 1 + random.below(most as usize) as u64;
            for _ in 0..random.below(6) {
                recorded.push((
                    now + 1 + random.below(interval as usize) as u64,
                    random.below(1_000) as f64,
                ));
            }
            now += interval;
            longest = longest.max(interval);
            let found = window.advance(&of(&recorded), now, length, now - begun);
            // The begin of which this is the window, if there is one.
            let matching = collections.iter().rev().filter(|begin| {
                let since: Vec<_> = recorded.iter().filter(|(at, _)| at > begin).copied().collect();
                found.slots() == of(&since).slots()
            });
            let lengths: Vec<u64> = matching.map(|begin| now - begin).collect();
            let enough = match collections[..] {
                [_, first, ..] if now - begun > length => length.min(now - first),
                _ => now - begun,
            };
            let limit = (length + length / 8 + longest).max(interval);
            assert!(
                lengths.iter().any(|n| (enough..=limit).contains(n)),
                "{length} {lengths:?}"
            );
            collections.push(now);
        }
    }
}

/// The quantiles of a window are those of the sorted values in it, as long as each value has a slot of its own.
#[test]
fn quantiles_of_a_window_are_the_exact_ones() {
    let mut random = Random(32);
    for _ in 0..scaled(300) {
        let mut window = Window::default();
        let mut recorded = Vec::new();
        // Collections as long apart as the window is, so that each has what was recorded since the last one.
        for second in 1..20 {
            let before = recorded.len();
            let negative = random.below(2) == 0;
            recorded.extend((0..=random.below(100)).map(|_| {
                let value = random.below(1_000) as f64;
                (second, if negative { -value } else { value })
            }));
            let found = window.advance(&of(&recorded), second * SECOND, SECOND, second * SECOND);
            let mut values: Vec<f64> = recorded[before..].iter().map(|(_, value)| *value).collect();
            values.sort_by(f64::total_cmp);
            let wanted = [0.0, 10.0, 50.0, 90.0, 99.0, 99.9, 100.0];
            let exact = wanted.map(|percentile| {
                let rank = (percentile / 100.0 * values.len() as f64 + 0.5) as usize;
                values[rank.clamp(1, values.len()) - 1]
            });
            assert_eq!(found.percentiles(&wanted), exact);
        }
    }
}

/// An average is the weighted sum of all intervals: each weighs what is left of it after the time since, the first one all that is left.
#[test]
fn averages_are_weighted_by_elapsed_time() {
    let mut random = Random(33);
    for _ in 0..scaled(1_000) {
        let tau = [0.5, 10.0, 900.0][random.below(3)];
        let (mut rates, mut means, mut totals) = (Ewma::default(), Ewma::default(), Ewma::default());
        let (mut now, mut sum, mut count) = (0, 0.0, 0.0);
        let (mut of_rates, mut of_means, mut of_totals) = (None, None, None);
        let toward = |average: &mut Option<f64>, value: f64, seconds: f64| {
            let kept = (-seconds / tau).exp();
            *average = Some(average.map_or(value, |average| average * kept + value * (1.0 - kept)));
        };
        for step in 0..30 {
            let interval = 1 + random.below(30 * SECOND as usize) as u64;
            let added = [0.0, 1.0, random.below(1_000) as f64][random.below(3)];
            let amount = added * random.fraction();
            now += interval;
            sum += amount;
            count += added;
            let seconds = interval as f64 / 1e9;
            toward(&mut of_rates, amount / seconds, seconds);
            if added > 0.0 {
                toward(&mut of_means, amount / added, seconds);
            }
            // The first report of a total says nothing of a rate.
            if step > 0 {
                toward(&mut of_totals, amount / seconds, seconds);
            }
            for (found, expected) in [
                (rates.advance(Averaged::Rate(sum), now, now, tau), of_rates),
                (means.advance(Averaged::Mean(count, sum), now, now, tau), of_means),
                (totals.advance(Averaged::Total(sum, true), now, now, tau), of_totals),
            ] {
                let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1.0);
                assert!(found.is_some() == expected.is_some(), "{found:?} {expected:?}");
                assert!(
                    found.zip(expected).is_none_or(|(a, b)| near(a, b)),
                    "{found:?} {expected:?}"
                );
            }
        }
    }
}

/// A collection at the time of the one before answers the average as it is, and what was recorded meanwhile counts in the next one.
#[test]
fn an_interval_without_length_changes_nothing() {
    let mut ewma = Ewma::default();
    assert_eq!(ewma.advance(Averaged::Rate(5.0), SECOND, 0, 1.0), None);
    assert_eq!(ewma.advance(Averaged::Rate(5.0), SECOND, SECOND, 1.0), Some(5.0));
    assert_eq!(ewma.advance(Averaged::Rate(9.0), SECOND, SECOND, 1.0), Some(5.0));
    let next = ewma.advance(Averaged::Rate(10.0), 2 * SECOND, SECOND, 1.0);
    assert_eq!(next, Some(5.0));
}

/// A total that may fall has a negative rate, and one that only grows begins anew at zero.
#[test]
fn totals_that_fall_are_rates_or_new_beginnings() {
    for (grows, expected) in [(false, -3.0), (true, 1.0)] {
        let mut ewma = Ewma::default();
        ewma.advance(Averaged::Total(8.0, grows), SECOND, SECOND, 1e-9);
        let found = ewma.advance(Averaged::Total(2.0, grows), 3 * SECOND, SECOND, 1e-9);
        assert_eq!(found, Some(expected));
    }
}

fn reader(temporality: Temporality) -> Readers {
    let mut readers = Readers::default();
    readers.add(1, Arc::new(Preferences::of(temporality)));
    readers
}

fn float(points: &[Point]) -> f64 {
    match &points[0].value {
        Value::Number(Number::Float(number)) => *number,
        _ => panic!("{points:?}"),
    }
}

/// The first average of a counter is its sum over the real age of the series, and a later one with a short memory is that of the real
/// time since the last collection.
#[test]
fn rates_of_a_reader_are_over_the_time_that_really_elapsed() {
    let segment = private_segment(1 << 20);
    let asked = viewed(Kind::Counter, "sent", "By", 1, Aggregation::Ewma { tau: 1e-9 });
    let series = Instrument::of_stream(&segment, &asked, 100, None).series("one");
    let mut readers = reader(Temporality::Delta);
    series.add(Number::Int(1_000));
    let early = monotonic_ns();
    let points = readers.collect(&segment, 1, 0);
    let late = monotonic_ns();
    let age_ns = points[0].time_unix_ns - points[0].start_unix_ns;
    assert_eq!(float(&points), 1_000.0 / (age_ns as f64 / 1e9));

    let moved = monotonic_ns() + 2_000_000;
    until("some time has passed", || monotonic_ns() > moved);
    series.add(Number::Int(500));
    let before = monotonic_ns();
    let found = float(&readers.collect(&segment, 1, 0));
    let after = monotonic_ns();
    let rate = |elapsed_ns: u64| 500.0 / (elapsed_ns as f64 / 1e9);
    // Forgetting takes 1e-9 s, so that nothing is left of the first interval.
    assert!((rate(after - early)..=rate(before - late)).contains(&found), "{found}");
}

/// A mean stays in an idle interval while a rate falls to zero, and both leave although nothing was recorded.
#[test]
fn averages_leave_in_idle_intervals_too() {
    let segment = private_segment(1 << 20);
    let average = Aggregation::Ewma { tau: 1e-9 };
    let counter = Instrument::of_stream(
        &segment,
        &viewed(Kind::Counter, "a", "By", 1, average.clone()),
        100,
        None,
    );
    let gauge = Instrument::of_stream(&segment, &viewed(Kind::Gauge, "b", "By", 1, average), 100, None);
    counter.series("one").write(Number::Int(7));
    for value in [4, 8] {
        gauge.series("one").write(Number::Int(value));
    }
    for temporality in [Temporality::Cumulative, Temporality::Delta] {
        let mut readers = reader(temporality);
        assert!(float(&readers.collect(&segment, 1, 0)) > 0.0);
        let idle = readers.collect(&segment, 1, 0);
        assert_eq!((float(&idle[..1]), float(&idle[1..])), (0.0, 6.0));
    }
}

/// Quantiles of a reader are of its window, in the order in which they were asked for, none of an idle window and none where none are asked for.
#[test]
fn quantiles_leave_with_the_histogram_of_their_window() {
    let quantiles = |quantiles: &[f64], window| Aggregation::Hdr {
        significant_digits: 3,
        quantiles: quantiles.to_vec(),
        window,
    };
    let segment = private_segment(1 << 20);
    let streams = [
        quantiles(&[0.99, 0.0, 0.5, 1.0], 3600.0),
        // No collection is so near to the next one that it lies in this window.
        quantiles(&[0.5, 1.0], 1e-9),
        quantiles(&[], 3600.0),
    ];
    let mut views = 1..;
    let series = streams.map(|aggregation| {
        let asked = viewed(Kind::Histogram, "size", "By", views.next().unwrap(), aggregation);
        Instrument::of_stream(&segment, &asked, 100, None).series("one")
    });
    let mut readers = reader(Temporality::Cumulative);
    let mut found = |values: std::ops::Range<i64>| {
        for value in values {
            for series in &series {
                series.record(Number::Int(value));
            }
        }
        let points = readers.collect(&segment, 1, 0);
        points.into_iter().map(|point| point.quantiles).collect::<Vec<_>>()
    };
    assert_eq!(found(1..101), [vec![99.0, 1.0, 50.0, 100.0], vec![50.0, 100.0], vec![]]);
    assert_eq!(
        found(201..301),
        [vec![298.0, 1.0, 100.0, 300.0], vec![250.0, 300.0], vec![]]
    );
    let idle = found(0..0);
    assert_eq!(idle, [vec![298.0, 1.0, 100.0, 300.0], vec![], vec![]]);
}
