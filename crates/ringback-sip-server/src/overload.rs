//! Budgets: how much of what is taken from whom.
//!
//! A peer's [`Bucket`]s bound what it may ask for. What comes beyond the capacity of the machine is
//! dropped by the system when the socket's buffer is full, which costs us nothing; a datagram that we
//! take in and refuse costs about a third of one that is served, and a 503 nearly all of it. So
//! under [`Pressure`] only few of the refused get their 503, and a single peer is refused little. But
//! the system drops blindly: where several peers compete, those that take more than their share are
//! refused here before, until the buffer has room again for the others.

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
    /// Whether a token is there.
    pub(crate) fn has(&self, rate: u32, now: Duration) -> bool {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let token = SECOND / u64::from(rate.max(1));
        let full_at = self.full_at.load(Ordering::Relaxed).max(now);
        full_at.saturating_add(token).saturating_sub(now) <= SECOND
    }

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

/// How a UDP thread keeps up with what comes, and who sends more than a fair share.
///
/// The queue is too long when even the shortest wait within a window is too long (as CoDel, RFC 8289,
/// sees it): a burst or a moment without the processor is not overload.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    /// When the window ends.
    window_ends: Duration,
    /// The shortest wait of the window so far.
    least_wait: Option<Duration>,
    /// How many of [`LEVELS`] surplus INVITEs are refused.
    level: u32,
    /// INVITEs of each peer in the window.
    invites: Vec<u32>,
    /// Peers that took more than their share in the window before.
    greedy: Vec<bool>,
    /// Peers that sent INVITEs in the window before.
    active: usize,
    /// Spreads refusals evenly.
    spread: u32,
    /// Spreads 503s among the refusals.
    answers: u32,
}

/// What pressure means for an INVITE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relief {
    /// It is served.
    Serve,
    /// It is refused, with an answer if the peer is to have one.
    Answer,
    /// It is dropped: there is no time for answers.
    Drop,
}

impl Pressure {
    /// A batch was taken in, the first datagram of which has waited so long.
    pub(crate) fn batch(&mut self, now: Duration, waited: Duration) {
        if now >= self.window_ends {
            self.turn(now);
        }
        self.least_wait = Some(self.least_wait.map_or(waited, |least| least.min(waited)));
    }

    /// Whether there is more to do than can be done.
    pub(crate) fn is_high(&self) -> bool {
        self.level > 0
    }

    /// Counts an INVITE of the peer in this place and says what to do about it.
    pub(crate) fn invite(&mut self, place: usize, wants_answers: bool) -> Relief {
        if self.invites.len() <= place {
            self.invites.resize(place + 1, 0);
        }
        if let Some(count) = self.invites.get_mut(place) {
            *count += 1;
        }
        if self.level == 0 {
            return Relief::Serve;
        }
        if self.active < 2 {
            // To drop here what the system would drop anyway helps nobody; but word may help, once
            // it is clear that this will last.
            self.spread = self.spread.wrapping_add(1);
            if wants_answers && self.level >= LASTING && self.spread.is_multiple_of(ONE_IN_ALONE) {
                return Relief::Answer;
            }
            return Relief::Serve;
        }
        if !self.greedy.get(place).is_some_and(|greedy| *greedy) {
            return Relief::Serve;
        }
        self.spread += self.level;
        if self.spread < LEVELS {
            return Relief::Serve;
        }
        self.spread -= LEVELS;
        if wants_answers && self.may_answer() {
            Relief::Answer
        } else {
            Relief::Drop
        }
    }

    /// Whether a refused INVITE gets its 503: each one, but under pressure few.
    pub(crate) fn may_answer(&mut self) -> bool {
        self.answers = self.answers.wrapping_add(1);
        self.level == 0 || self.answers.is_multiple_of(ONE_IN_REFUSED)
    }

    /// Draws the conclusions of a window and begins the next.
    fn turn(&mut self, now: Duration) {
        let is_recent = now < self.window_ends + WINDOW;
        let is_pressed = self.least_wait.is_some_and(|least| least > LONG_WAIT);
        self.level = match (is_recent, is_pressed) {
            (false, _) => 0,
            (true, true) => (self.level + RISE).min(LEVELS - 1),
            (true, false) => self.level.saturating_sub(FALL),
        };
        self.least_wait = None;
        self.window_ends = now + WINDOW;
        let total: u32 = self.invites.iter().sum();
        self.active = self.invites.iter().filter(|count| **count > 0).count();
        let share = total / u32::try_from(self.active.max(1)).unwrap_or(u32::MAX);
        self.greedy.clear();
        self.greedy
            .extend(self.invites.iter().map(|count| *count > share));
        self.invites.fill(0);
        if self.level == 0 {
            self.spread = 0;
        }
    }
}

/// How long pressure is watched before it is acted on.
const WINDOW: Duration = Duration::from_millis(50);

/// A wait that is too long if nothing waits shorter.
const LONG_WAIT: Duration = Duration::from_millis(5);

/// Of so many surplus INVITEs all but one are refused at most.
const LEVELS: u32 = 16;

/// The level that is reached when pressure lasts for three windows.
const LASTING: u32 = 3 * RISE;

/// By how much more is refused after a window under pressure.
const RISE: u32 = 4;

/// By how much less is refused after another.
const FALL: u32 = 1;

/// Under pressure, one of so many INVITEs of a single peer is answered with 503.
const ONE_IN_ALONE: u32 = 20;

/// Under pressure, one of so many refused INVITEs is answered with 503.
const ONE_IN_REFUSED: u32 = 16;

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

    /// Runs windows in which even the luckiest datagram waits so long; gives what the last INVITE of
    /// each peer's flood met: served, answered and dropped.
    fn under(pressure: &mut Pressure, wait: u64, windows: u64, floods: &[u32]) -> Vec<[u32; 3]> {
        let mut met = Vec::new();
        for _ in 0..windows {
            let now = pressure.window_ends + Duration::from_millis(1);
            pressure.batch(now, Duration::from_millis(wait));
            met = vec![[0; 3]; floods.len()];
            for (place, (flood, met)) in floods.iter().zip(&mut met).enumerate() {
                for _ in 0..*flood {
                    met[match pressure.invite(place, true) {
                        Relief::Serve => 0,
                        Relief::Answer => 1,
                        Relief::Drop => 2,
                    }] += 1;
                }
            }
        }
        met
    }

    #[test]
    fn without_pressure_everything_is_served() {
        let mut pressure = Pressure::default();
        let met = under(&mut pressure, 4, 20, &[10_000, 10]);
        assert_eq!(met, [[10_000, 0, 0], [10, 0, 0]]);
    }

    #[test]
    fn a_flood_is_cut_and_the_others_lose_nothing() {
        let mut pressure = Pressure::default();
        let met = under(&mut pressure, 20, 20, &[16_000, 10, 0, 100]);
        assert_eq!(met[1..], [[10, 0, 0], [0, 0, 0], [100, 0, 0]]);
        let [served, answered, dropped] = met[0];
        assert!((900..1_100).contains(&served), "{served}");
        assert!((900..1_000).contains(&answered) && dropped > 13_000);
        let met = under(&mut pressure, 1, 20, &[16_000, 10]);
        assert_eq!(met, [[16_000, 0, 0], [10, 0, 0]]);
    }

    #[test]
    fn a_single_peer_is_told_but_served() {
        let mut pressure = Pressure::default();
        let met = under(&mut pressure, 20, 20, &[10_000]);
        assert_eq!(met, [[9_500, 500, 0]]);
    }

    #[test]
    fn one_short_wait_in_a_window_is_relief() {
        let mut pressure = Pressure::default();
        for window in 1..50 {
            let now = Duration::from_millis(60 * window);
            pressure.batch(now, Duration::from_millis(50));
            pressure.batch(now, Duration::from_millis(2));
            assert!(!pressure.is_high());
        }
    }

    #[test]
    fn a_rate_of_one_lets_one_pass_each_second() {
        let bucket = Bucket::default();
        let at = Duration::from_millis;
        assert!(bucket.take(1, at(0)) && !bucket.take(1, at(999)) && bucket.take(1, at(1_000)));
    }
}
