//! What the server notes for its operator besides counters: strangers, refused calls, and rates.
//!
//! Threads write to lists of their own, which nobody else touches but for a moment now and then; the
//! path of a call that is served writes to none of them.

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

/// Everything that is noted.
#[derive(Debug)]
pub(crate) struct Observations {
    /// What each thread has noted.
    threads: Box<[ThreadNotes]>,
    /// Strangers of all threads.
    strangers: Mutex<Ledger>,
    /// Refusals for too many calls.
    summaries: Mutex<Summaries>,
    /// Totals of the last minute.
    sampler: Mutex<Sampler>,
}

/// What a thread has noted.
#[derive(Debug, Default)]
#[repr(align(128))]
struct ThreadNotes {
    /// Strangers since they were collected last.
    strangers: Mutex<StrangerTable>,
    /// Refused calls.
    refused: RefusedCalls,
}

impl Observations {
    /// Nothing noted yet; the last one of so many threads stands for all connections.
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

    /// The same for a connection, or HEP.
    pub(crate) fn stranger_elsewhere(&self, ip: IpAddr, transport: StrangerTransport) {
        self.stranger(usize::MAX, ip, transport);
    }

    /// Notes a refused call.
    pub(crate) fn refused(&self, thread: usize, call: RefusedCall) {
        self.thread(thread).refused.push(call);
    }

    /// Collects what the threads have noted, and logs strangers when that is due. To be called
    /// several times a second. `totals` adds up what all threads have done.
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

    /// How much there was to do lately.
    pub(crate) fn rates(&self) -> Rates {
        self.sampler.lock().rates()
    }

    /// Collects what the threads have noted.
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
