//! Failed tries with tokens, by client: who guesses is slowed down.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use smallvec::SmallVec;

/// The failed tries of the last minute.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    /// When each client failed, the first first; at most [`MOST`] of each.
    clients: Mutex<HashMap<IpAddr, SmallVec<[Instant; MOST]>>>,
}

impl Failures {
    /// Notes a failed try; beyond the limit none is noted, so that trying on does not lengthen the wait.
    pub(crate) fn note(&self, client: IpAddr) {
        self.note_at(client, Instant::now());
    }

    /// How many seconds the client has to wait until it may try again; `None`: it may.
    pub(crate) fn wait(&self, client: IpAddr) -> Option<u64> {
        self.wait_at(client, Instant::now())
    }

    /// As [`Self::note`], at a given time.
    fn note_at(&self, client: IpAddr, now: Instant) {
        let mut clients = self.clients.lock();
        if clients.len() >= MOST_CLIENTS && !clients.contains_key(&client) {
            clients.retain(|_, failed| failed.last().is_some_and(|last| is_fresh(*last, now)));
            // A flood from many addresses: one of them is forgotten for the new one.
            if clients.len() >= MOST_CLIENTS
                && let Some(any) = clients.keys().next().copied()
            {
                clients.remove(&any);
            }
        }
        let failed = clients.entry(client).or_default();
        failed.retain(|at| is_fresh(*at, now));
        if failed.len() < MOST {
            failed.push(now);
        }
    }

    /// As [`Self::wait`], at a given time.
    fn wait_at(&self, client: IpAddr, now: Instant) -> Option<u64> {
        let clients = self.clients.lock();
        let failed = clients.get(&client)?;
        let fresh = failed.iter().filter(|at| is_fresh(**at, now));
        if fresh.clone().count() < MOST {
            return None;
        }
        let left = WINDOW.saturating_sub(now.duration_since(*failed.first()?));
        Some(left.as_millis().div_ceil(1_000).try_into().unwrap_or(60))
    }
}

/// Whether a try is of the last minute.
fn is_fresh(at: Instant, now: Instant) -> bool {
    now.duration_since(at) < WINDOW
}

/// How many tries may fail within [`WINDOW`].
const MOST: usize = 10;

/// For how long a failed try counts.
const WINDOW: Duration = Duration::from_secs(60);

/// How many clients are remembered: a few megabytes.
const MOST_CLIENTS: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn after_ten_failures_a_client_waits_and_no_other_does() {
        let (failures, start) = (Failures::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let client = IpAddr::from([192, 0, 2, 1]);
        for second in 0..10 {
            assert_eq!(failures.wait_at(client, at(second)), None);
            failures.note_at(client, at(second));
        }
        assert_eq!(failures.wait_at(client, at(9)), Some(51));
        failures.note_at(client, at(30));
        assert_eq!(failures.wait_at(client, at(59)), Some(1));
        assert_eq!(failures.wait_at(client, at(60)), None);
        assert_eq!(failures.wait_at(IpAddr::from([192, 0, 2, 2]), at(9)), None);
    }

    #[test]
    fn a_flood_from_many_addresses_takes_bounded_memory() {
        let (failures, now) = (Failures::default(), Instant::now());
        for number in 0..20_000_u32 {
            failures.note_at(Ipv4Addr::from_bits(number).into(), now);
        }
        assert_eq!(failures.clients.lock().len(), MOST_CLIENTS);
    }
}
