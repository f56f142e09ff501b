//! What happened to incoming calls: the decision log, the calls routed within the last day, and the
//! callback counters.
//!
//! Calls routed over SIP are only noted here; the writer makes them durable within a second. Calls
//! routed over HTTP go through commands and are durable before they are answered.

mod routed;
mod tally;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayString;
use foldhash::fast::RandomState;
use parking_lot::{Mutex, MutexGuard};
use ringback_routing::{
    AgentId, Caller, Decision, Directory, DirectoryAgent, E164, EnvironmentId, Outcome, Reason,
    Timestamp,
};
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    AnsweredCall, Change, CommandError, CountKey, CountKind, RoutedCall, RoutedEvent, StoredCounts,
};

pub(crate) use tally::{Arrival, Route};

use tally::Tally;

/// One decision, for people to look at.
#[derive(Clone, Debug)]
pub struct DecisionRecord {
    /// Grows with every decision of the process.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// Who asked.
    pub surface: Surface,
    /// The dialed number, if it could be read.
    pub dialed: Option<E164>,
    /// The caller.
    pub caller: Caller,
    /// What became of the call.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// The environment of the dialed number.
    pub environment: Option<EnvironmentId>,
    /// The agent that took the call.
    pub agent: Option<AgentId>,
    /// The agent whose call was returned.
    pub source: Option<AgentId>,
    /// The first bytes of the call id.
    sid: ArrayString<SID_SHOWN>,
}

/// Through which door a decision was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// A SIP INVITE.
    Sip,
    /// `POST /route`.
    Http,
}

impl DecisionRecord {
    /// Notes a decision.
    #[must_use]
    pub fn new(
        at: Timestamp,
        surface: Surface,
        dialed: Option<E164>,
        caller: Caller,
        decision: &Decision<'_>,
        sid: &[u8],
    ) -> Self {
        Self {
            sequence: 0,
            at,
            surface,
            dialed,
            caller,
            outcome: decision.outcome,
            reason: decision.reason,
            environment: decision
                .environment
                .map(|environment| environment.record.id),
            agent: decision.agent.map(|agent| agent.record.id),
            source: decision.source_agent.map(|agent| agent.record.id),
            sid: shown(sid),
        }
    }

    /// The call id, cut off after 64 bytes.
    #[must_use]
    pub fn sid(&self) -> &str {
        &self.sid
    }
}

/// Callbacks of an environment over some days.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallbackStatistics {
    /// Calls routed as callback.
    pub received: u64,
    /// Of these, answered.
    pub answered: u64,
    /// Calls that reached a callback agent by another rung.
    pub unmatched: u64,
    /// The received ones by source agent: most first, then by name.
    pub by_source: Vec<SourceCount>,
}

/// How many calls of a source agent were returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceCount {
    /// The source agent.
    pub source: AgentId,
    /// Its name, or the last one that it had.
    pub name: String,
    /// How many.
    pub count: u64,
}

/// The hash that stands for a call id of an environment; the same on every node and in every run.
#[must_use]
pub fn hash_sid(environment: EnvironmentId, sid: &[u8]) -> u64 {
    let (high, low) = environment.0.as_u64_pair();
    xxh3_64_with_seed(sid, high ^ low.rotate_left(32))
}

/// Which counter a decision raises, and for whom.
pub(crate) fn count_kind(decision: &Decision<'_>) -> Option<CountKind> {
    match decision.outcome {
        Outcome::Callback => Some(CountKind::Received),
        Outcome::Default if decision.agent.is_some_and(DirectoryAgent::has_role) => {
            Some(CountKind::Unmatched)
        }
        _ => None,
    }
}

/// The number of the day, in days since 1970-01-01, UTC.
pub(crate) fn day_of(at: Timestamp) -> i32 {
    i32::try_from(at.seconds().div_euclid(86_400)).unwrap_or(i32::MAX)
}

/// Everything observed of incoming calls.
#[derive(Debug)]
pub(crate) struct Observed {
    /// SIP calls routed and not yet taken up by the tally.
    arrivals: Mutex<Vec<Arrival>>,
    /// The calls routed within the last day, and the counters.
    tally: Mutex<Tally>,
    /// The latest decisions of each environment.
    decisions: Mutex<HashMap<EnvironmentId, VecDeque<DecisionRecord>, RandomState>>,
    /// The number of the latest decision.
    sequence: AtomicU64,
    /// Tells subscribers of a new decision.
    latest: watch::Sender<u64>,
    /// Last names of deleted agents.
    departed: Mutex<HashMap<AgentId, String>>,
}

impl Observed {
    /// Starts from what was stored.
    pub(crate) fn new(
        counts: StoredCounts,
        departed: HashMap<AgentId, String>,
        events: &[RoutedEvent],
        directory: &Directory,
    ) -> Self {
        Self {
            arrivals: Mutex::default(),
            tally: Mutex::new(Tally::new(counts, events, directory)),
            decisions: Mutex::default(),
            sequence: AtomicU64::new(0),
            latest: watch::Sender::new(0),
            departed: Mutex::new(departed),
        }
    }

    /// Notes a call routed over SIP.
    ///
    /// Whoever notes the last of a few calls takes them up, if nobody else is at the tally: so there
    /// is never much to do at once, and a call waits for nobody.
    pub(crate) fn arrived(&self, arrival: Arrival) {
        let mut arrivals = self.arrivals.lock();
        arrivals.push(arrival);
        if arrivals.len() >= TAKEN_UP_AT_ONCE
            && let Some(mut tally) = self.tally.try_lock()
        {
            tally.swap_arrivals(&mut arrivals);
            drop(arrivals);
            tally.take_up();
        }
    }

    /// Adds a decision to the log of an environment.
    pub(crate) fn decided(&self, environment: EnvironmentId, mut record: DecisionRecord) {
        let mut decisions = self.decisions.lock();
        // Under the lock, so that nobody else writes it.
        let sequence = self.sequence.load(Ordering::Relaxed) + 1;
        self.sequence.store(sequence, Ordering::Relaxed);
        record.sequence = sequence;
        let log = decisions.entry(environment).or_default();
        if log.len() == DECISIONS_KEPT {
            log.pop_front();
        }
        log.push_back(record);
        drop(decisions);
        if self.latest.receiver_count() > 0 {
            self.latest.send_replace(sequence);
        }
    }

    /// The tally, with every SIP call noted so far.
    fn settled(&self) -> MutexGuard<'_, Tally> {
        let mut tally = self.tally.lock();
        tally.swap_arrivals(&mut self.arrivals.lock());
        tally.take_up();
        tally
    }

    /// Counts what happened under this directory: to be called before another one takes its place,
    /// which may not know an agent any more.
    pub(crate) fn settle(&self, directory: &Directory) {
        self.settled().count(directory);
    }

    /// Notes that a SIP call was answered; unknown calls and those that were no callbacks are none of
    /// our business.
    pub(crate) fn answered_over_sip(&self, call: &AnsweredCall, directory: &Directory) {
        self.settled().answered_over_sip(call, directory);
    }

    /// What is to be made durable; to be given back by [`Self::give_back`] where that failed, else by
    /// [`Self::recycle`].
    pub(crate) fn take_pending(&self, directory: &Directory) -> Vec<Change> {
        self.settled().take_pending(directory)
    }

    /// Takes back what could not be made durable.
    pub(crate) fn give_back(&self, changes: Vec<Change>) {
        self.tally.lock().give_back(changes);
    }

    /// Takes back what has become durable, for the memory that it holds.
    pub(crate) fn recycle(&self, changes: Vec<Change>) {
        self.tally.lock().recycle(changes);
    }

    /// The answer given to this call id, and whether it is known at all: routed after `known_since`.
    pub(crate) fn response(&self, sid_hash: u64, known_since: Timestamp) -> Option<Option<String>> {
        let mut tally = self.settled();
        tally.routed.expire(known_since);
        tally.routed.response(sid_hash)
    }

    /// Which counter the answer to this call raises, if any; known are calls routed after
    /// `known_since`.
    ///
    /// # Errors
    /// The call is not known.
    pub(crate) fn check_answered(
        &self,
        call: &AnsweredCall,
        known_since: Timestamp,
        directory: &Directory,
    ) -> Result<Option<CountKey>, CommandError> {
        let mut tally = self.settled();
        tally.routed.expire(known_since);
        tally.routed.answerable(call, directory)
    }

    /// Shows a change that has become durable.
    pub(crate) fn apply(&self, change: &Change, directory: &Directory) {
        match change {
            Change::Routed(events) => {
                let mut tally = self.tally.lock();
                for event in events {
                    tally.routed.replay(event, directory);
                }
            }
            Change::Counted(key, count) => self.tally.lock().add(*key, *count),
            Change::AgentRemoved(_, id, name) => {
                self.departed.lock().insert(*id, name.clone());
            }
            Change::ContactForgotten(environment, contact) => {
                if let Some(log) = self.decisions.lock().get_mut(environment) {
                    log.retain(|record| {
                        record.caller.number().map(E164::subscriber) != Some(contact.subscriber())
                    });
                }
            }
            Change::EnvironmentRemoved(environment) => {
                self.decisions.lock().remove(environment);
            }
            _ => {}
        }
    }

    /// The latest decisions, newest first.
    pub(crate) fn decisions(
        &self,
        environment: EnvironmentId,
        limit: usize,
    ) -> Vec<DecisionRecord> {
        let decisions = self.decisions.lock();
        decisions
            .get(&environment)
            .into_iter()
            .flatten()
            .rev()
            .take(limit)
            .cloned()
            .collect()
    }

    /// The decisions made after this one, oldest first.
    pub(crate) fn decisions_after(
        &self,
        environment: EnvironmentId,
        sequence: u64,
    ) -> Vec<DecisionRecord> {
        let decisions = self.decisions.lock();
        let log = decisions.get(&environment).into_iter().flatten();
        log.filter(|record| record.sequence > sequence)
            .cloned()
            .collect()
    }

    /// Tells of every new decision by its number.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        let receiver = self.latest.subscribe();
        self.latest
            .send_replace(self.sequence.load(Ordering::Relaxed));
        receiver
    }

    /// Callbacks of an environment between two days, both included.
    pub(crate) fn statistics(
        &self,
        directory: &Directory,
        environment: EnvironmentId,
        (first, last): (i32, i32),
    ) -> CallbackStatistics {
        let mut statistics = CallbackStatistics::default();
        let mut by_source: HashMap<AgentId, u64> = HashMap::new();
        let mut tally = self.settled();
        tally.count(directory);
        for (key, count) in tally.counts_from(environment, first) {
            if key.environment != environment || key.day > last {
                break;
            }
            match key.kind {
                // One that names no source could stand in no row: the total is the sum of the rows.
                CountKind::Received => {
                    if let Some(source) = key.source {
                        statistics.received += count;
                        *by_source.entry(source).or_default() += count;
                    }
                }
                CountKind::Answered => statistics.answered += count,
                CountKind::Unmatched => statistics.unmatched += count,
            }
        }
        drop(tally);
        let departed = self.departed.lock();
        statistics.by_source = by_source
            .into_iter()
            .map(|(source, count)| {
                let name = directory
                    .agent_by_id(source)
                    .map(|agent| agent.record.name.clone())
                    .or_else(|| departed.get(&source).cloned())
                    .unwrap_or_default();
                SourceCount {
                    source,
                    name,
                    count,
                }
            })
            .collect();
        statistics.by_source.sort_by(|left, right| {
            (right.count, &left.name, left.source).cmp(&(left.count, &right.name, right.source))
        });
        statistics
    }

    /// Callbacks to one agent between two days, both included: received and answered.
    pub(crate) fn agent_statistics(
        &self,
        directory: &Directory,
        environment: EnvironmentId,
        agent: AgentId,
        (first, last): (i32, i32),
    ) -> (u64, u64) {
        let mut tally = self.settled();
        tally.count(directory);
        let mut totals = (0, 0);
        for (key, count) in tally.counts_from(environment, first) {
            if key.environment != environment || key.day > last {
                break;
            }
            match key.kind {
                CountKind::Received if key.agent == agent => totals.0 += count,
                CountKind::Answered if key.agent == agent => totals.1 += count,
                _ => {}
            }
        }
        totals
    }

    /// Forgets calls routed before this instant.
    pub(crate) fn expire(&self, before: Timestamp) {
        self.tally.lock().routed.expire(before);
    }
}

/// The counter that a routed call raises.
pub(crate) fn count_key(call: &RoutedCall, kind: Option<CountKind>) -> Option<CountKey> {
    Some(CountKey {
        environment: call.environment,
        day: day_of(call.at),
        agent: call.agent?,
        source: call.source,
        kind: kind?,
    })
}

/// As much of a call id as a decision record shows.
fn shown(sid: &[u8]) -> ArrayString<SID_SHOWN> {
    let mut shown = ArrayString::new();
    for chunk in sid.get(..SID_SHOWN).unwrap_or(sid).utf8_chunks() {
        // What does not fit any more is left out.
        let _full = shown.try_push_str(chunk.valid());
    }
    shown
}

/// How many decisions are kept of each environment.
const DECISIONS_KEPT: usize = 1_000;

/// How many SIP calls are taken up at once: some ten microseconds' work.
const TAKEN_UP_AT_ONCE: usize = 64;

/// How much of a call id a decision record shows, in bytes.
const SID_SHOWN: usize = 64;
