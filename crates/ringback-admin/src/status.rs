//! What other parts of the program tell the administrator: how they are, and which calls were refused.

use std::collections::VecDeque;
use std::net::SocketAddr;

use parking_lot::Mutex;
use ringback_routing::{E164, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};

/// Some part of the program that tells the administrator how it is.
pub trait StatusSource: Send + Sync + 'static {
    /// Adds keys to the answer of `GET /status`. The description of the API tells them; none may have
    /// the name of one that is written elsewhere: this crate's are `version`, `started_at`,
    /// `uptime_seconds`, `health` and `counts`.
    fn write_status(&self, status: &mut Map<String, Value>);

    /// The latest calls that were refused here, newest first, at most so many.
    fn refused_calls(&self, limit: usize) -> Vec<RefusedCall>;
}

/// A call that was refused, or several that were refused alike: an entry of `GET /refused-calls`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedCall {
    /// When; of several the last one.
    pub at: Timestamp,
    /// `sip` or `http`.
    pub surface: &'static str,
    /// `udp`, `tcp` or `tls` for SIP; `None` for several calls.
    pub transport: Option<&'static str>,
    /// The name of the SIP peer; `None` for HTTP.
    pub peer: Option<String>,
    /// Where it came from; `None` for HTTP and for several calls.
    pub source: Option<SocketAddr>,
    /// The dialed number, or what was dialed where that is no number; `None` where it was not read.
    pub to: Option<String>,
    /// The caller, if it is a number.
    pub from: Option<E164>,
    /// The reason of the decision, or why there was none.
    pub reason: &'static str,
    /// The SIP status of the reply; `None` for HTTP, and where there was no reply.
    pub status: Option<u16>,
    /// How many calls.
    pub count: u64,
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
