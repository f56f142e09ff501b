//! The server's clocks: wall time for people, time since 1970 for datagrams, and uptime for budgets.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringback_routing::Timestamp;

/// The clock of the server, which starts when the server is made.
#[derive(Debug)]
pub(crate) struct Clock {
    /// The start of the server.
    started: Instant,
}

/// One moment, on every clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Wall time, for people and recorded calls.
    pub(crate) wall: Timestamp,
    /// Wall time since 1970, as the system stamps datagrams.
    pub(crate) since_epoch: Duration,
    /// Time since the server was made, for budgets.
    pub(crate) uptime: Duration,
}

impl Clock {
    /// Starts now.
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// The current moment.
    pub(crate) fn now(&self) -> Now {
        // A clock before 1970 is as wrong as no clock.
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
