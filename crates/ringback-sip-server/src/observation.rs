//! What the server shows its operator besides counters: strangers, refused calls, and rates.
//!
//! Threads write to lists of their own, which other threads lock only for a moment now and then. A call that is
//! served writes to none of them.

pub(crate) mod rates;
pub(crate) mod refused;
pub(crate) mod strangers;

use std::net::IpAddr;

use parking_lot::Mutex;
use ringback_sip_proto::Transport;

use crate::clock::Now;
use crate::policy::Policy;

use rates::{Sampler, Totals};
use refused::{RefusedCalls, Summaries};
use strangers::{Ledger, StrangerTable};

pub use rates::Rates;
pub use refused::RefusedCall;
pub use strangers::{StrangerStatus, StrangerTransport, StrangersStatus};

/// Everything shown to the operator.
#[derive(Debug)]
pub(crate) struct Observations {
    /// The notes of each thread.
    threads: Box<[ThreadNotes]>,
    /// Strangers of all threads.
    strangers: Mutex<Ledger>,
    /// Summaries of INVITEs over a limit.
    summaries: Mutex<Summaries>,
    /// Totals of the last minute.
    sampler: Mutex<Sampler>,
}

/// The notes of a thread.
#[derive(Debug, Default)]
#[repr(align(128))]
struct ThreadNotes {
    /// Strangers since the table was last collected.
    strangers: Mutex<StrangerTable>,
    /// Refused calls.
    refused: RefusedCalls,
}

impl Observations {
    /// Nothing noted yet; the last of this many threads stands for all connections.
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            threads: (0..threads.max(1))
                .map(|_| ThreadNotes::default())
                .collect(),
            strangers: Mutex::default(),
            summaries: Mutex::default(),
            sampler: Mutex::default(),
        }
    }

    /// Notes a message of a stranger.
    pub(crate) fn stranger(&self, thread: usize, ip: IpAddr, transport: StrangerTransport) {
        self.thread(thread).strangers.lock().count(ip, transport);
    }

    /// Notes a stranger on a connection, or over HEP.
    pub(crate) fn stranger_elsewhere(&self, ip: IpAddr, transport: StrangerTransport) {
        self.stranger(usize::MAX, ip, transport);
    }

    /// Notes a refused call.
    pub(crate) fn refused(&self, thread: usize, call: RefusedCall) {
        self.thread(thread).refused.push(call);
    }

    /// Collects the notes of all threads, and logs strangers if that is due. Call it several times a second.
    /// `totals` adds up the counters of all threads.
    pub(crate) fn tick(&self, totals: impl FnOnce() -> Totals, policy: &Policy, now: Now) {
        self.collect(policy, now);
        self.sampler.lock().sample(now.uptime, totals);
        let report = self.strangers.lock().report(now.uptime);
        if let Some(report) = report {
            report.log();
        }
    }

    /// The latest refused calls, newest first.
    pub(crate) fn latest_refused(
        &self,
        policy: &Policy,
        now: Now,
        limit: usize,
    ) -> Vec<RefusedCall> {
        self.collect(policy, now);
        let threads = self.threads.iter().map(|thread| &thread.refused);
        self.summaries.lock().latest(threads, limit)
    }

    /// The strangers since the start.
    pub(crate) fn strangers(&self, policy: &Policy, now: Now) -> StrangersStatus {
        self.collect(policy, now);
        self.strangers.lock().status()
    }

    /// The load of the last seconds.
    pub(crate) fn rates(&self) -> Rates {
        self.sampler.lock().rates()
    }

    /// Collects the notes of all threads.
    fn collect(&self, policy: &Policy, now: Now) {
        let mut strangers = self.strangers.lock();
        for thread in &self.threads {
            strangers.take(&thread.strangers, now.wall);
        }
        drop(strangers);
        self.summaries.lock().collect(policy, now.wall);
    }

    /// The notes of a thread.
    fn thread(&self, thread: usize) -> &ThreadNotes {
        &self.threads[thread.min(self.threads.len() - 1)]
    }
}

impl From<Transport> for StrangerTransport {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Udp => Self::Udp,
            Transport::Tcp => Self::Tcp,
            Transport::Tls => Self::Tls,
        }
    }
}
