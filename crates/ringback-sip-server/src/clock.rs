//! The time, on the clocks that the server needs: for people, for datagrams and for budgets.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringback_routing::Timestamp;

/// Tells the time since the server was made.
#[derive(Debug)]
pub(crate) struct Clock {
    /// When that was.
    started: Instant,
}

/// One moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// For people and recorded calls.
    pub(crate) wall: Timestamp,
    /// The same since 1970, as the system stamps datagrams.
    pub(crate) since_epoch: Duration,
    /// For budgets: since the server was made.
    pub(crate) uptime: Duration,
}

impl Clock {
    /// Starts now.
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// This moment.
    pub(crate) fn now(&self) -> Now {
        // A clock before 1970 is as good as none.
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            wall: Timestamp::from_millis(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)),
            since_epoch: wall,
            uptime: self.started.elapsed(),
        }
    }
}

impl Now {
    /// Whole seconds since the server was made.
    pub(crate) fn second(&self) -> u32 {
        u32::try_from(self.uptime.as_secs()).unwrap_or(u32::MAX)
    }
}
