//! What is sent again and again until somebody answers.

use std::time::Duration;

/// When something is sent again: after T1, then after twice as long each time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retransmission {
    /// When it is sent next.
    pub(crate) at: Duration,
    /// How long it waited for that.
    interval: Duration,
}

impl Retransmission {
    /// For the first time after this interval.
    pub(crate) fn after(now: Duration, interval: Duration) -> Self {
        Self {
            at: now + interval,
            interval,
        }
    }

    /// It is sent now: the next time is twice as far away, but at most `most`. Counted from now, so that what was held
    /// up is not sent several times at once.
    pub(crate) fn advance(&mut self, now: Duration, most: Duration) {
        self.interval = (self.interval * 2).min(most);
        self.at = now + self.interval;
    }

    /// Whether one that may have been stopped is due; if so, it is sent now.
    pub(crate) fn is_due(again: &mut Option<Self>, now: Duration, most: Duration) -> bool {
        let due = again.as_mut().filter(|again| now >= again.at);
        let is_due = due.is_some();
        if let Some(again) = due {
            again.advance(now, most);
        }
        is_due
    }
}
