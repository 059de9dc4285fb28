//! What a reader makes of a series over time: quantiles of a trailing window, and averages that forget.
//!
//! Both come from the difference between collections, so that recording needs neither a clock nor a rotation. Times are monotonic nanoseconds.

use std::collections::VecDeque;

use crate::distribution::Distribution;

/// Snapshots kept of a window, beside the one at its begin.
const SLICES: u64 = 8;

/// The snapshots of a trailing window.
#[derive(Debug, Default)]
pub struct Window {
    snapshots: VecDeque<(u64, Distribution)>,
}

impl Window {
    /// Takes the snapshot of now and answers what was recorded in the last `length_ns`: since the newest snapshot that is as old, or since the series
    /// began, `age_ns` ago, if that is not longer ago, or else since the oldest snapshot. So a window is at least as long as the time since the
    /// last collection, and longer than asked for by at most an eighth and the time between two collections.
    pub fn advance(&mut self, now: &Distribution, now_ns: u64, length_ns: u64, age_ns: u64) -> Distribution {
        let is_old = |(at, _): &(u64, Distribution)| now_ns.saturating_sub(*at) >= length_ns;
        while self.snapshots.get(1).is_some_and(is_old) {
            self.snapshots.pop_front();
        }
        let before = self.snapshots.front();
        let since = match before.filter(|before| is_old(before) || age_ns > length_ns) {
            Some((_, before)) => now.minus(before),
            None => now.clone(),
        };
        if let [.., (before, _), (last, _)] = *self.snapshots.make_contiguous() {
            if last.saturating_sub(before) < length_ns / SLICES {
                self.snapshots.pop_back();
            }
        }
        self.snapshots.push_back((now_ns, now.clone()));
        since
    }
}

/// What an average is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Averaged {
    /// The rate at which this sum grows, per second.
    Rate(f64),
    /// The rate at which this total changes, which began before the series did; one that is `true` only grows, or begins anew.
    Total(f64, bool),
    /// The mean of so many values with this sum.
    Mean(f64, f64),
}

/// Exponentially weighted moving average with irregular intervals (Eckner, Algorithms for Unevenly Spaced Time Series: Moving Averages and Other
/// Rolling Operators, 2019): the average moves towards the value of an interval of `dt` by `1 - exp(-dt / tau)` of the distance.
#[derive(Debug, Default)]
pub struct Ewma {
    before: Option<(u64, Averaged)>,
    average: Option<f64>,
}

impl Ewma {
    /// Takes what was recorded until now and answers the average, or `None` before the first value. `age_ns` is the age of the series, the length of its
    /// first interval. In an interval without values a rate is zero and a mean stays.
    pub fn advance(&mut self, now: Averaged, now_ns: u64, age_ns: u64, tau: f64) -> Option<f64> {
        let (elapsed_ns, before) = match self.before {
            Some((at, before)) => (now_ns.saturating_sub(at), before),
            None => match now {
                Averaged::Rate(_) => (age_ns, Averaged::Rate(0.0)),
                Averaged::Mean(..) => (age_ns, Averaged::Mean(0.0, 0.0)),
                Averaged::Total(..) => {
                    self.before = Some((now_ns, now));
                    return None;
                }
            },
        };
        if elapsed_ns == 0 {
            return self.average;
        }
        let seconds = elapsed_ns as f64 / 1e9;
        let value = match (now, before) {
            (Averaged::Rate(sum), Averaged::Rate(earlier)) => Some((sum - earlier) / seconds),
            (Averaged::Total(total, true), Averaged::Total(earlier, _)) if total < earlier => Some(total / seconds),
            (Averaged::Total(total, _), Averaged::Total(earlier, _)) => Some((total - earlier) / seconds),
            (Averaged::Mean(count, sum), Averaged::Mean(earlier, before)) if count > earlier => {
                Some((sum - before) / (count - earlier))
            }
            _ => None,
        };
        self.before = Some((now_ns, now));
        if let Some(value) = value {
            let average = self.average.unwrap_or(value);
            self.average = Some(average - (-seconds / tau).exp_m1() * (value - average));
        }
        self.average
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hdr::Level;

    const SECOND: u64 = 1_000_000_000;

    fn of(count: usize) -> Distribution {
        Distribution::of((0..count).map(|n| n as f64), "s", Level::Three)
    }

    #[test]
    fn a_window_holds_what_was_recorded_since_the_snapshot_at_its_begin() {
        let mut window = Window::default();
        let counts: Vec<u64> = (1..=100)
            .map(|second| {
                let now = second as u64 * SECOND;
                window.advance(&of(second), now, 10 * SECOND, now).count()
            })
            .collect();

        assert_eq!(counts[..4], [1, 2, 3, 4]);
        assert!(counts[20..].iter().all(|count| (10..=12).contains(count)), "{counts:?}");
        assert!(window.snapshots.len() <= SLICES as usize + 2);
    }

    #[test]
    fn a_window_shorter_than_the_interval_is_the_interval() {
        let mut window = Window::default();
        for second in [60, 120, 180_u64] {
            let found = window.advance(&of(second as usize), second * SECOND, SECOND, second * SECOND);
            assert_eq!(found.count(), 60);
        }
    }

    #[test]
    fn a_rate_approaches_the_constant_one_whatever_the_intervals() {
        let mut ewma = Ewma::default();
        let mut at = 0;
        for step in [1, 5, 2, 9, 1, 30, 60_u64] {
            at += step * SECOND;
            let average = ewma.advance(Averaged::Rate(7.0 * at as f64 / 1e9), at, at, 10.0);
            assert!((average.unwrap() - 7.0).abs() < 1e-9);
        }
        let idle = ewma.advance(Averaged::Rate(7.0 * at as f64 / 1e9), at + 10 * SECOND, at, 10.0);
        assert!((idle.unwrap() - 7.0 * (-1.0_f64).exp()).abs() < 1e-9);
    }

    #[test]
    fn a_total_begins_where_it_is_seen_first_and_may_begin_anew() {
        let mut ewma = Ewma::default();
        let mut advance =
            |total, second: u64| ewma.advance(Averaged::Total(total, true), second * SECOND, SECOND, 1e-3);
        assert_eq!(advance(1000.0, 1), None);
        assert_eq!(advance(1010.0, 2), Some(10.0));
        assert!((advance(4.0, 4).unwrap() - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_mean_stays_where_nothing_is_recorded() {
        let mut ewma = Ewma::default();
        assert_eq!(ewma.advance(Averaged::Mean(0.0, 0.0), SECOND, SECOND, 10.0), None);
        assert_eq!(
            ewma.advance(Averaged::Mean(2.0, 8.0), 2 * SECOND, SECOND, 10.0),
            Some(4.0)
        );
        assert_eq!(
            ewma.advance(Averaged::Mean(2.0, 8.0), 9 * SECOND, SECOND, 10.0),
            Some(4.0)
        );
        let moved = ewma
            .advance(Averaged::Mean(3.0, 18.0), 19 * SECOND, SECOND, 10.0)
            .unwrap();
        assert!((moved - (4.0 + 6.0 * (1.0 - (-1.0_f64).exp()))).abs() < 1e-9);
    }
}
