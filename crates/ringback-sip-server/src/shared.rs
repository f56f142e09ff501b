//! The state shared by all threads and connections of a server.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, Now};
use crate::forward::Forward;
use crate::metrics::Metrics;
use crate::observation::Observations;
use crate::policy::Policy;
use crate::redirect::Redirect;
use crate::redirect::plan::PlanCache;
use crate::server::BoundAddresses;

/// The state shared by all threads and connections of a server.
#[derive(Debug)]
pub(crate) struct Shared<P> {
    /// Provides the state for decisions, and receives events.
    pub(crate) program: P,
    /// Answers messages.
    pub(crate) redirect: Redirect,
    /// The rules in force.
    pub(crate) policy: ArcSwap<Policy>,
    /// The counters.
    pub(crate) metrics: Metrics,
    /// Calls that are sent on.
    pub(crate) forward: Forward,
    /// Strangers and refused calls.
    pub(crate) observations: Observations,
    /// Plans of calls over connections.
    pub(crate) plans: Mutex<PlanCache>,
    /// The TLS configuration of new connections.
    pub(crate) certificates: ArcSwapOption<rustls::ServerConfig>,
    /// Open TCP, TLS and HEP connections.
    pub(crate) connections: AtomicUsize,
    /// The tasks that accept and serve connections.
    pub(crate) tasks: TaskTracker,
    /// The clock of the server.
    clock: Clock,
    /// Whether the server is draining.
    draining: AtomicBool,
    /// The phase of the server, for its listeners.
    phase: watch::Sender<Phase>,
    /// Sets of counters: one per UDP worker and one for all connections.
    shards: usize,
}

/// The phase of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It serves everything.
    Serving,
    /// It serves messages, but no new connections.
    Draining,
    /// It stops.
    Stopped,
}

impl<P> Shared<P> {
    /// A server that has not seen anything yet, with this many sets of counters. `key` is the secret behind To
    /// tags and fingerprints.
    pub(crate) fn new(
        program: P,
        key: [u8; 16],
        policy: Policy,
        addresses: &BoundAddresses,
        shards: usize,
    ) -> Self {
        Self {
            forward: Forward::new(key, &policy, addresses, shards - 1),
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

    /// The current moment.
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Whether the server is draining.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The phase of the server, for a task that waits for a change.
    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Changes to a later phase.
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

/// Waits until the server has reached a phase.
pub(crate) async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    // Without a sender the server is gone.
    let _gone = phase.wait_for(|phase| *phase >= wanted).await.map(drop);
}
