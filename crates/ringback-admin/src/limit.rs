//! How often a token may ask.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::auth::Principal;

/// Counts the requests of each token in windows of a minute, each starting with its first request.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    /// Requests per window.
    limit: u32,
    /// The current window of each token that has asked lately.
    windows: Mutex<HashMap<Principal, Window>>,
}

/// A token's window.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// When it began.
    since: Instant,
    /// Requests so far.
    used: u32,
}

/// What is left of a token's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Requests per window.
    pub(crate) limit: u32,
    /// Requests left in this window.
    pub(crate) remaining: u32,
    /// Seconds until the next window, at least 1.
    pub(crate) reset: u64,
    /// Whether this request is one too many.
    pub(crate) exhausted: bool,
}

impl RateLimiter {
    /// So many requests per minute.
    pub(crate) fn per_minute(limit: NonZeroU32) -> Self {
        Self {
            limit: limit.get(),
            windows: Mutex::default(),
        }
    }

    /// Takes one request off the share of a token.
    pub(crate) fn take(&self, principal: Principal) -> Share {
        self.take_at(principal, Instant::now())
    }

    /// The same at a given time.
    fn take_at(&self, principal: Principal, now: Instant) -> Share {
        let mut windows = self.windows.lock();
        if windows.len() > MAX_IDLE_WINDOWS {
            windows.retain(|_, window| now.duration_since(window.since) < WINDOW);
        }
        let window = windows.entry(principal).or_insert(Window {
            since: now,
            used: 0,
        });
        if now.duration_since(window.since) >= WINDOW {
            *window = Window {
                since: now,
                used: 0,
            };
        }
        let exhausted = window.used >= self.limit;
        window.used += u32::from(!exhausted);
        let left = WINDOW.saturating_sub(now.duration_since(window.since));
        Share {
            limit: self.limit,
            remaining: self.limit - window.used,
            reset: left.as_millis().div_ceil(1_000).try_into().unwrap_or(1),
            exhausted,
        }
    }
}

/// How long a window lasts.
const WINDOW: Duration = Duration::from_secs(60);

/// From how many windows on those that are over are dropped.
const MAX_IDLE_WINDOWS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_gives_so_many_requests_and_the_next_as_many_again() {
        let limiter = RateLimiter::per_minute(NonZeroU32::new(2).unwrap());
        let start = Instant::now();
        let take = |seconds| {
            let now = start + Duration::from_secs(seconds);
            let share = limiter.take_at(Principal::Administrator, now);
            (share.exhausted, share.remaining, share.reset)
        };
        assert_eq!(take(0), (false, 1, 60));
        assert_eq!(take(10), (false, 0, 50));
        assert_eq!(take(20), (true, 0, 40));
        assert_eq!(take(60), (false, 1, 60));
    }
}
