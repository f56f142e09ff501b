//! Names in requests of dialogs: resolved when a request needs one, which waits meanwhile beside the threads.
//!
//! The two parties of a call may name any host, so what is found here is kept apart from the names of targets: it is
//! forgotten when it expires, and does not make anybody a peer.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dashmap::DashMap;
use foldhash::fast::RandomState;
use hickory_resolver::TokioResolver;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::forward::inbox::{Arrival, Handed};
use crate::forward::names::{Destination, LONGEST_LIFE, Named, SHORTEST_LIFE, resolve};
use crate::program::Program;
use crate::shared::{Phase, Shared, reached};

/// The names that requests of dialogs asked for.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// What they stand for.
    known: DashMap<Named, Answer, RandomState>,
    /// The requests that wait.
    waiting: Mutex<Waiting>,
    /// Who is asked, once it is known.
    pub(super) resolver: OnceLock<Arc<TokioResolver>>,
}

/// What a name stands for.
#[derive(Debug)]
struct Answer {
    /// Where it leads; empty: nowhere, or nobody knows.
    destinations: Arc<Vec<Destination>>,
    /// Until when that is good.
    valid_until: Instant,
}

/// The requests that wait.
#[derive(Debug, Default)]
struct Waiting {
    /// By the name that they wait for.
    by_name: HashMap<Named, Vec<WaitingRequest>, RandomState>,
    /// How many there are.
    count: usize,
}

/// A request that waits for a name.
#[derive(Debug)]
pub(super) struct WaitingRequest {
    /// The request.
    pub(super) bytes: Box<[u8]>,
    /// How it came.
    pub(super) from: Arrival,
    /// The thread that takes it again then.
    pub(super) thread: u16,
}

/// What became of a request that needs a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// It waits, and comes back to its thread.
    Yes,
    /// Too many wait already.
    TooMany,
    /// Nobody can be asked.
    NobodyToAsk,
}

impl Asked {
    /// Where a name leads; `None`: that is to be found out.
    pub(super) fn destinations(&self, named: &Named) -> Option<Arc<Vec<Destination>>> {
        let answer = self.known.get(named)?;
        let is_good = Instant::now() < answer.valid_until;
        is_good.then(|| Arc::clone(&answer.destinations))
    }

    /// Has a request wait for a name.
    pub(super) fn wait<P: Program>(
        &self,
        shared: &Arc<Shared<P>>,
        named: Named,
        request: WaitingRequest,
    ) -> Waits {
        let runtime = shared.forward.streams.runtime.get();
        let Some((resolver, runtime)) = self.resolver.get().zip(runtime) else {
            return Waits::NobodyToAsk;
        };
        {
            let mut waiting = self.waiting.lock();
            let is_full = waiting.count >= MOST_WAITING;
            let known = waiting.by_name.get_mut(&named);
            let is_first = known.is_none();
            if known.is_some_and(|known| known.iter().any(|other| other.bytes == request.bytes)) {
                // Sent again meanwhile.
                return Waits::Yes;
            }
            if is_full {
                return Waits::TooMany;
            }
            waiting.count += 1;
            waiting
                .by_name
                .entry(named.clone())
                .or_default()
                .push(request);
            if !is_first {
                return Waits::Yes;
            }
        }
        let (shared, resolver) = (Arc::clone(shared), Arc::clone(resolver));
        let tasks = shared.tasks.clone();
        tasks.spawn_on(
            async move {
                let mut phase = shared.phase();
                tokio::select! {
                    found = timeout(MOST_TIME, resolve(&resolver, &named)) => {
                        let asked = &shared.forward.names.asked;
                        let resolved = found.ok().and_then(Result::ok);
                        asked.keep(&named, resolved.map(|found| (found.destinations, found.valid_until)));
                        for WaitingRequest { bytes, from, thread } in asked.take(&named) {
                            shared.forward.hand(thread, Handed::Request { bytes, from, tries: 0 });
                        }
                    }
                    _ = reached(&mut phase, Phase::Stopped) => {}
                }
            },
            runtime,
        );
        Waits::Yes
    }

    /// Keeps what a name stands for; `None`: nobody knows.
    fn keep(&self, named: &Named, found: Option<(Vec<Destination>, Instant)>) {
        let now = Instant::now();
        if self.known.len() >= MOST_KEPT {
            self.known.retain(|_, answer| now < answer.valid_until);
            if self.known.len() >= MOST_KEPT {
                self.known.clear();
            }
        }
        let (destinations, valid_until) = found.unwrap_or((Vec::new(), now));
        let longest = if destinations.is_empty() {
            NOWHERE_LIFE
        } else {
            LONGEST_LIFE
        };
        let answer = Answer {
            destinations: Arc::new(destinations),
            valid_until: valid_until.clamp(now + SHORTEST_LIFE, now + longest),
        };
        self.known.insert(named.clone(), answer);
    }

    /// Takes out what waits for a name.
    fn take(&self, named: &Named) -> Vec<WaitingRequest> {
        let mut waiting = self.waiting.lock();
        let requests = waiting.by_name.remove(named).unwrap_or_default();
        waiting.count -= requests.len();
        requests
    }
}

/// How many requests wait at most.
const MOST_WAITING: usize = 1_000;

/// How long a request waits at most.
const MOST_TIME: Duration = Duration::from_secs(4);

/// How many names are kept.
const MOST_KEPT: usize = 4_096;

/// How long a name that leads nowhere is kept at most.
const NOWHERE_LIFE: Duration = Duration::from_secs(5);
