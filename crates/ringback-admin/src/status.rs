//! What other parts of the program tell the administrator: how they are, and which calls were refused.

use std::collections::VecDeque;

use parking_lot::Mutex;
use ringback_api::{RefusedCall, Status};

/// Some part of the program that tells the administrator how it is.
pub trait StatusSource: Send + Sync + 'static {
    /// Adds to the answer of `GET /status` what is known here; `health` and `counts` stand there already.
    fn write_status(&self, status: &mut Status);

    /// The latest calls that were refused here, newest first, at most so many.
    fn refused_calls(&self, limit: usize) -> Vec<RefusedCall>;
}

/// The latest calls that `POST /route` refused.
#[derive(Debug, Default)]
pub(crate) struct RefusedOverHttp(Mutex<VecDeque<RefusedCall>>);

impl RefusedOverHttp {
    /// Adds a call; the oldest one gives way.
    pub(crate) fn push(&self, call: RefusedCall) {
        let mut calls = self.0.lock();
        if calls.len() >= MOST_CALLS {
            calls.pop_front();
        }
        calls.push_back(call);
    }

    /// The latest calls, newest first.
    pub(crate) fn latest(&self, limit: usize) -> Vec<RefusedCall> {
        self.0.lock().iter().rev().take(limit).cloned().collect()
    }
}

/// How many refused calls are kept.
const MOST_CALLS: usize = 1_000;
