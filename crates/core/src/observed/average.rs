//! Exponentially weighted moving averages of rate and mean.
//!
//! In an interval of `dt` the average of a rate moves by `1 - exp(-dt / tau)` of the distance to the rate in the interval (Eckner, Algorithms for
//! Unevenly Spaced Time Series: Moving Averages and Other Rolling Operators, 2019). It begins at zero, and is divided by the weight that was
//! given to anything so far, `1 - exp(-age / tau)`, so that the begin does not bias it. The mean is the average rate of the sum over that of the count, so
//! that an interval weighs as many values as it has.

/// Averages of one series, one for each tau.
#[derive(Debug)]
pub struct Averages {
    /// Monotonic time from which on the series is observed.
    since_ns: u64,
    /// Monotonic time up to which it is.
    at_ns: u64,
    /// Average rates of count and sum, not yet divided.
    rates: Box<[(f64, f64)]>,
}

/// The weight that an average keeps over an interval.
pub fn kept(from_ns: u64, to_ns: u64, tau: f64) -> f64 {
    (-(to_ns.saturating_sub(from_ns) as f64 * 1e-9) / tau).exp()
}

impl Averages {
    /// Averages that begin now.
    pub fn new(since_ns: u64, taus: usize) -> Averages {
        Averages {
            since_ns,
            at_ns: since_ns,
            rates: vec![(0.0, 0.0); taus].into(),
        }
    }

    /// Bytes of memory that they take.
    pub fn memory(&self) -> usize {
        self.rates.len() * 16
    }

    /// Takes what was recorded in an interval. Nothing was between the last one and this one; nobody has to say so.
    pub fn advance(&mut self, start_ns: u64, end_ns: u64, count: f64, sum: f64, taus: &[f64], kept_now: &[f64]) {
        let seconds = end_ns.saturating_sub(start_ns) as f64 * 1e-9;
        let is_idle = self.at_ns < start_ns;
        for (index, (rate, rate_of_sum)) in self.rates.iter_mut().enumerate() {
            let keep = if is_idle {
                kept(self.at_ns, end_ns, taus[index])
            } else {
                kept_now[index]
            };
            let take = (1.0 - kept_now[index]) / seconds;
            *rate = *rate * keep + count * take;
            *rate_of_sum = *rate_of_sum * keep + sum * take;
        }
        self.at_ns = end_ns;
    }

    /// Average rate per second and mean; `None` before the first interval, and for the mean before the first value.
    pub fn read(&self, index: usize, tau: f64, now_ns: u64) -> (Option<f64>, Option<f64>) {
        let Some((rate, rate_of_sum)) = self.rates.get(index) else {
            return (None, None);
        };
        let weight = 1.0 - kept(self.since_ns, now_ns, tau);
        let rate_now = rate * kept(self.at_ns, now_ns, tau) / weight;
        (
            (weight > 0.0).then_some(rate_now),
            (*rate > 0.0).then(|| rate_of_sum / rate),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const TAU: f64 = 10.0;

    fn advance(averages: &mut Averages, start: u64, end: u64, count: f64, sum: f64) {
        averages.advance(
            start * SECOND,
            end * SECOND,
            count,
            sum,
            &[TAU],
            &[kept(start * SECOND, end * SECOND, TAU)],
        );
    }

    #[test]
    fn a_constant_rate_is_the_average_from_the_first_interval_on_whatever_their_lengths() {
        let mut averages = Averages::new(5 * SECOND, 1);
        let mut at = 5;
        for step in [1, 5, 2, 60, 1] {
            advance(&mut averages, at, at + step, 7.0 * step as f64, 21.0 * step as f64);
            at += step;
            let (rate, mean) = averages.read(0, TAU, at * SECOND);
            assert!((rate.unwrap() - 7.0).abs() < 1e-9 && (mean.unwrap() - 3.0).abs() < 1e-9);
        }
    }

    #[test]
    fn a_rate_decays_with_the_time_that_passes_and_a_mean_stays() {
        let mut averages = Averages::new(0, 1);
        advance(&mut averages, 0, 1000, 7000.0, 14_000.0);
        let (rate, mean) = averages.read(0, TAU, 1010 * SECOND);
        assert!((rate.unwrap() - 7.0 * (-1.0_f64).exp()).abs() < 1e-9);
        assert_eq!(mean, Some(2.0));
    }

    #[test]
    fn an_idle_time_that_nobody_told_of_counts_as_one_interval_without_values() {
        let (mut told, mut untold) = (Averages::new(0, 1), Averages::new(0, 1));
        for averages in [&mut told, &mut untold] {
            advance(averages, 0, 3, 30.0, 60.0);
        }
        advance(&mut told, 3, 40, 0.0, 0.0);
        for averages in [&mut told, &mut untold] {
            advance(averages, 40, 41, 5.0, 5.0);
        }
        let (told, untold) = (told.read(0, TAU, 41 * SECOND), untold.read(0, TAU, 41 * SECOND));
        assert!((told.0.unwrap() - untold.0.unwrap()).abs() < 1e-12);
        assert!((told.1.unwrap() - untold.1.unwrap()).abs() < 1e-12);
    }

    #[test]
    fn there_is_no_average_before_the_first_interval() {
        assert_eq!(Averages::new(3, 1).read(0, TAU, 3), (None, None));
    }
}
