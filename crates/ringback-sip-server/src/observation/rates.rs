//! The load: rates over the last seconds, from totals that are kept for that long.

use std::collections::VecDeque;
use std::time::Duration;

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Messages received.
    pub(crate) messages: u64,
    /// New INVITEs that were decided, or redirected to their next hop.
    pub(crate) calls: u64,
    /// INVITEs answered again from memory.
    pub(crate) retransmissions: u64,
    /// Replies sent.
    pub(crate) replies: u64,
    /// Requests refused before routing.
    pub(crate) refused: u64,
    /// Messages that were not answered.
    pub(crate) dropped: u64,
}

/// Averages per second over the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Rates {
    /// The length of the averages in seconds; 0: nothing is known yet.
    pub window_seconds: f64,
    /// Messages received.
    pub messages_per_second: f64,
    /// New INVITEs that were decided, or redirected to their next hop.
    pub calls_per_second: f64,
    /// INVITEs answered again from memory.
    pub retransmissions_per_second: f64,
    /// Replies sent.
    pub replies_per_second: f64,
    /// Requests refused before routing.
    pub refused_per_second: f64,
    /// Messages that were not answered.
    pub dropped_per_second: f64,
}

/// Keeps totals for as long as the averages reach back.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    /// Totals and their times since the server's start; the latest one last.
    samples: VecDeque<(Duration, Totals)>,
}

impl Sampler {
    /// Keeps the current totals, unless some were kept a moment ago.
    pub(crate) fn sample(&mut self, uptime: Duration, totals: impl FnOnce() -> Totals) {
        let latest = self.samples.back().map(|(at, _)| *at);
        if latest.is_some_and(|latest| uptime.saturating_sub(latest) < SAMPLE_EACH) {
            return;
        }
        self.samples.push_back((uptime, totals()));
        let is_needed = |at: Duration| uptime.saturating_sub(at) <= WINDOW;
        // The oldest one may be just beyond the window, never more than one.
        while self.samples.get(1).is_some_and(|(at, _)| !is_needed(*at)) {
            self.samples.pop_front();
        }
    }

    /// The averages.
    pub(crate) fn rates(&self) -> Rates {
        let (Some((begin, before)), Some((end, now))) = (self.samples.front(), self.samples.back())
        else {
            return Rates::default();
        };
        let seconds = end.saturating_sub(*begin).as_secs_f64();
        if seconds <= 0.0 {
            return Rates::default();
        }
        let rate = |of: fn(&Totals) -> u64| {
            let rate = of(now).saturating_sub(of(before)) as f64 / seconds;
            (rate * 10.0).round() / 10.0
        };
        Rates {
            window_seconds: (seconds * 10.0).round() / 10.0,
            messages_per_second: rate(|totals| totals.messages),
            calls_per_second: rate(|totals| totals.calls),
            retransmissions_per_second: rate(|totals| totals.retransmissions),
            replies_per_second: rate(|totals| totals.replies),
            refused_per_second: rate(|totals| totals.refused),
            dropped_per_second: rate(|totals| totals.dropped),
        }
    }
}

/// How far back the averages reach.
const WINDOW: Duration = Duration::from_secs(10);

/// How often totals are kept.
const SAMPLE_EACH: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_averages_over_the_last_ten_seconds() {
        let mut sampler = Sampler::default();
        assert_eq!(sampler.rates(), Rates::default());
        for quarter in 0..200_u64 {
            let uptime = Duration::from_millis(250 * quarter);
            let seconds = uptime.as_secs();
            let totals = Totals {
                messages: 30 * seconds,
                // Nothing for the first forty seconds.
                calls: 7 * seconds.saturating_sub(39),
                ..Totals::default()
            };
            sampler.sample(uptime, || totals);
        }
        let rates = sampler.rates();
        assert!((10.0..=11.0).contains(&rates.window_seconds), "{rates:?}");
        assert!((rates.messages_per_second - 30.0).abs() < 0.1, "{rates:?}");
        assert!((rates.calls_per_second - 7.0).abs() < 0.7, "{rates:?}");
        assert!(sampler.samples.len() <= 12);
    }
}
