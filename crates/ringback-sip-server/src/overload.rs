//! Budgets: how much of what is taken from whom.

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
    /// Takes a token; false if there is none. `rate` is in tokens per second, and the burst.
    pub(crate) fn take(&self, rate: u32, now: Duration) -> bool {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let token = SECOND / u64::from(rate.max(1));
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let next = full_at.max(now).saturating_add(token);
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

/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_one_second_passes_then_the_rate() {
        let bucket = Bucket::default();
        let start = Duration::from_secs(100);
        let take = |after: u64| bucket.take(50, start + Duration::from_millis(after));
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
        assert!(bucket.take(1, at(0)) && !bucket.take(1, at(999)) && bucket.take(1, at(1_000)));
    }
}
