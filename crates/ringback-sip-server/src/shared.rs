//! What all threads and connections of a server share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, Now};
use crate::metrics::Metrics;
use crate::observation::Observations;
use crate::policy::Policy;
use crate::redirect::Redirect;
use crate::redirect::plan::PlanCache;

/// What all threads and connections of a server share.
#[derive(Debug)]
pub(crate) struct Shared<P> {
    /// Says what is known, and hears the news.
    pub(crate) program: P,
    /// Answers messages.
    pub(crate) redirect: Redirect,
    /// The rules in force.
    pub(crate) policy: ArcSwap<Policy>,
    /// What was counted.
    pub(crate) metrics: Metrics,
    /// Strangers and refused calls.
    pub(crate) observations: Observations,
    /// Plans of the calls that come over connections.
    pub(crate) plans: Mutex<PlanCache>,
    /// How TLS connections are opened.
    pub(crate) certificates: ArcSwapOption<rustls::ServerConfig>,
    /// Open TCP, TLS and HEP connections.
    pub(crate) connections: AtomicUsize,
    /// What accepts and serves them.
    pub(crate) tasks: TaskTracker,
    /// Tells the time.
    clock: Clock,
    /// Whether the server is about to end.
    draining: AtomicBool,
    /// Turns to what the listeners should do.
    phase: watch::Sender<Phase>,
    /// Sets of counters: one per UDP worker and one for all connections.
    shards: usize,
}

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It serves.
    Serving,
    /// It serves what comes, but no new connections.
    Draining,
    /// It ends.
    Stopped,
}

impl<P> Shared<P> {
    /// A server that has not seen anything yet, with so many sets of counters. `key` makes To tags and fingerprints
    /// secret.
    pub(crate) fn new(program: P, key: [u8; 16], policy: Policy, shards: usize) -> Self {
        Self {
            program,
            redirect: Redirect::new(key),
            policy: ArcSwap::from_pointee(policy),
            metrics: Metrics::new(shards),
            observations: Observations::new(shards),
            plans: Mutex::default(),
            certificates: ArcSwapOption::empty(),
            connections: AtomicUsize::new(0),
            tasks: TaskTracker::new(),
            clock: Clock::start(),
            draining: AtomicBool::new(false),
            phase: watch::channel(Phase::Serving).0,
            shards,
        }
    }

    /// This moment.
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Whether the server is about to end.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// What the server does, for a task that wants to know when that changes.
    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Goes on to a later phase.
    pub(crate) fn enter(&self, next: Phase) {
        self.draining
            .fetch_or(next >= Phase::Draining, Ordering::Relaxed);
        self.phase.send_if_modified(|phase| {
            let moves = next > *phase;
            *phase = next.max(*phase);
            moves
        });
    }

    /// How many sets of counters there are.
    pub(crate) fn shards(&self) -> usize {
        self.shards
    }

    /// The counters of all connections.
    pub(crate) fn stream_shard(&self) -> usize {
        self.shards - 1
    }
}

/// Waits until the server has come to a phase.
pub(crate) async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    // Without a sender there is no server any more.
    let _gone = phase.wait_for(|phase| *phase >= wanted).await.map(drop);
}
