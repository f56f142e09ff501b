//! The times and rules of a proxy.

use std::time::Duration;

/// The times and rules of a proxy.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Estimate of a round trip (RFC 3261 §17.1.1.1); everything that is sent again is first sent again after it.
    pub t1: Duration,
    /// The longest time between two retransmissions of anything but an INVITE.
    pub t2: Duration,
    /// How long a message stays in the network.
    pub t4: Duration,
    /// How long a target may take to its first reply, 100 included.
    pub reply_timeout: Duration,
    /// How long a target may ring while another one that is not down follows.
    pub ring_timeout: Duration,
    /// Timer C: how long a target may ring at all.
    pub invite_timeout: Duration,
    /// Final replies after which the next target is tried.
    pub failover: StatusSet,
}

impl Settings {
    /// How long a transaction waits at most: Timers B, F, H, L and M.
    pub(crate) fn patience(&self) -> Duration {
        self.t1 * 64
    }
}

impl Default for Settings {
    /// The values of RFC 3261 §17, table 4, and those of Ringback's own settings.
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            reply_timeout: Duration::from_secs(4),
            ring_timeout: Duration::from_secs(20),
            invite_timeout: Duration::from_secs(180),
            failover: [408, 500, 502, 503, 504, 580].into_iter().collect(),
        }
    }
}

/// A set of final statuses from 300 to 599. Others are never in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusSet([u64; 5]);

impl StatusSet {
    /// Whether the status is in the set.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        Self::place(status).is_some_and(|(word, bit)| self.0[word] & bit != 0)
    }

    /// Where a status stands.
    fn place(status: u16) -> Option<(usize, u64)> {
        let index = usize::from(status.checked_sub(300)?);
        (index < 300).then_some((index / 64, 1 << (index % 64)))
    }
}

impl FromIterator<u16> for StatusSet {
    fn from_iter<T: IntoIterator<Item = u16>>(statuses: T) -> Self {
        let mut set = Self::default();
        for (word, bit) in statuses.into_iter().filter_map(Self::place) {
            set.0[word] |= bit;
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let set: StatusSet = [300, 408, 486, 599, 200, 600].into_iter().collect();
        let held: Vec<u16> = (0..=700).filter(|status| set.contains(*status)).collect();
        assert_eq!(held, [300, 408, 486, 599]);
    }
}
