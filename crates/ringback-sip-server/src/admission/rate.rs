//! A peer's rates: how many INVITEs, and how many other messages, it may send each second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A token bucket that fills in one second, in a single atomic (the generic cell rate algorithm).
///
/// Instants are durations since the server's start.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// When the bucket will be full again, in nanoseconds.
    full_at: AtomicU64,
}

impl Bucket {
    /// Whether a token is left for a message that arrived at an instant and is handled now.
    pub(crate) fn has(&self, rate: u32, arrived: Duration, now: Duration) -> bool {
        let token = SECOND / u64::from(rate.max(1));
        let full_at = self.full_at.load(Ordering::Relaxed).max(nanos(arrived));
        full_at.saturating_add(token).saturating_sub(nanos(now)) <= SECOND
    }

    /// Takes a token for a message that arrived at an instant and is handled now; false if none is left. `rate`
    /// is in tokens per second, and also the burst.
    ///
    /// Messages that waited while the machine stalled use the tokens of that time: after three seconds without
    /// the processor, three seconds of messages arrive at once, and all of them are within the rate.
    pub(crate) fn take(&self, rate: u32, arrived: Duration, now: Duration) -> bool {
        let (arrived, now) = (nanos(arrived), nanos(now));
        let token = SECOND / u64::from(rate.max(1));
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let next = full_at.max(arrived).saturating_add(token);
            if next.saturating_sub(now) > SECOND {
                return false;
            }
            match self.full_at.compare_exchange_weak(
                full_at,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(current) => full_at = current,
            }
        }
    }
}

/// A duration in nanoseconds.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// One second in nanoseconds.
const SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_one_second_passes_then_the_rate() {
        let bucket = Bucket::default();
        let start = Duration::from_secs(100);
        let take = |after: u64| {
            let now = start + Duration::from_millis(after);
            bucket.take(50, now, now)
        };
        assert_eq!((0..80).filter(|_| take(0)).count(), 50);
        assert_eq!((0..80).filter(|_| take(100)).count(), 5);
        assert!(!take(119));
        assert!(take(120));
        assert_eq!((0..80).filter(|_| take(60_000)).count(), 50);
    }

    #[test]
    fn a_rate_of_one_lets_one_pass_each_second() {
        let bucket = Bucket::default();
        let at = Duration::from_millis;
        let take = |millis| bucket.take(1, at(millis), at(millis));
        assert!(take(0) && !take(999) && take(1_000));
    }

    #[test]
    fn what_waited_through_a_stall_is_within_the_rate_of_its_time() {
        let bucket = Bucket::default();
        let at = |millis: u64| Duration::from_millis(100_000 + millis);
        // Nine tenths of the rate for five seconds; the first three seconds are handled at the end.
        for call in 0..4_500_u64 {
            let arrived = at(call * 10 / 9);
            let now = arrived.max(at(3_000));
            assert!(bucket.has(1_000, arrived, now), "{call}");
            assert!(bucket.take(1_000, arrived, now), "{call}");
        }
        // Of ten times the rate only the rate itself is accepted, and a burst.
        let flood = (0..30_000_u64).filter(|call| {
            let arrived = at(10_000 + call / 10);
            bucket.take(1_000, arrived, at(13_000))
        });
        assert_eq!(flood.count(), 4_000);
    }
}
