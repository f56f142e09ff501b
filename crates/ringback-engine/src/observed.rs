//! Events of incoming calls: the decision log, the calls routed within the last day, and the callback counters.
//!
//! Calls routed over SIP are only noted here; the writer makes them durable within a second. Calls routed over
//! HTTP are commands and are durable before they are answered. A thread that routes a call takes no lock that is
//! ever held for long, and none that all threads need.

mod arrivals;
mod decisions;
mod roll_up;
mod routed;
mod tally;
mod ways;

use std::collections::HashMap;
use std::sync::Arc;

use arrayvec::ArrayString;
use parking_lot::{Mutex, MutexGuard};
use ringback_routing::{
    AgentId, AgentSlot, CallVia, Caller, Decision, Directory, DirectoryAgent, DirectoryEnvironment,
    E164, EnvironmentId, ForwardedCall, Outcome, Reason, Timestamp,
};
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::change::day_of;
use crate::{
    AnsweredCall, Archive, Change, CommandError, CountKey, CountKind, JournalError, RoutedCall,
    RoutedDecision,
};

pub(crate) use tally::Arrival;
pub(crate) use ways::Route;

use arrivals::Arrivals;
use decisions::Decisions;
use tally::Tally;

/// One decision, for people to look at.
#[derive(Clone, Debug)]
pub struct DecisionRecord {
    /// Grows with every decision of the process.
    pub sequence: u64,
    /// When the call was decided.
    pub at: Timestamp,
    /// How it was asked for.
    pub via: CallVia,
    /// The dialed number, if it could be read.
    pub dialed: Option<E164>,
    /// The caller.
    pub caller: Caller,
    /// Where the call went.
    pub outcome: Outcome,
    /// The stable reason for the outcome.
    pub reason: Reason,
    /// The agent that took the call; [`Directory::identity`] tells which one it is, or was.
    pub agent: Option<AgentSlot>,
    /// The agent whose call was returned.
    pub source: Option<AgentSlot>,
    /// What became of the call, if it was sent on and has ended.
    pub forwarded: Option<Arc<ForwardedCall>>,
    /// The first bytes of the call id.
    sid: ArrayString<SID_SHOWN>,
}

impl DecisionRecord {
    /// A record of a decision.
    #[must_use]
    pub fn new(
        at: Timestamp,
        via: CallVia,
        dialed: Option<E164>,
        caller: Caller,
        decision: &Decision<'_>,
        sid: &[u8],
    ) -> Self {
        let mut record = Self::blank();
        record.fill(at, via, dialed, caller, decision, sid);
        record
    }

    /// A record to be filled in later.
    pub(crate) const fn blank() -> Self {
        Self {
            sequence: 0,
            at: Timestamp::from_millis(0),
            via: CallVia::SipUdp,
            dialed: None,
            caller: Caller::Invalid,
            outcome: Outcome::Refused,
            reason: Reason::NumberUnknown,
            agent: None,
            source: None,
            forwarded: None,
            sid: ArrayString::new_const(),
        }
    }

    /// Overwrites a record with a decision, except for its number.
    pub(crate) fn fill(
        &mut self,
        at: Timestamp,
        via: CallVia,
        dialed: Option<E164>,
        caller: Caller,
        decision: &Decision<'_>,
        sid: &[u8],
    ) {
        self.at = at;
        self.via = via;
        self.dialed = dialed;
        self.caller = caller;
        self.outcome = decision.outcome;
        self.reason = decision.reason;
        // Slots, because an agent's identifier is in memory that a decision does not read otherwise.
        self.agent = decision.agent.map(|agent| agent.slot);
        self.source = decision.source_agent.map(|agent| agent.slot);
        self.forwarded = None;
        self.sid = shown_sid(sid);
    }

    /// Whether this contact was the caller.
    pub(crate) fn is_about(&self, contact: E164) -> bool {
        self.caller.number().map(E164::subscriber) == Some(contact.subscriber())
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
    /// The received ones by source agent, the greatest count first, then by name.
    pub by_source: Vec<SourceCount>,
    /// What each callback agent took, the greatest count first, then by name.
    pub by_agent: Vec<AgentCount>,
}

/// How many calls a callback agent took back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentCount {
    /// The callback agent.
    pub agent: AgentId,
    /// Its name, or the last one that it had.
    pub name: String,
    /// Calls routed to it as callback.
    pub received: u64,
    /// Of these, answered.
    pub answered: u64,
}

/// How many calls of a source agent were returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceCount {
    /// The source agent.
    pub source: AgentId,
    /// Its name, or the last one that it had.
    pub name: String,
    /// Calls routed as callback.
    pub count: u64,
}

/// The hash of a call id in an environment; the same on every node and in every run.
#[must_use]
pub fn hash_sid(environment: EnvironmentId, sid: &[u8]) -> u64 {
    let (high, low) = environment.0.as_u64_pair();
    xxh3_64_with_seed(sid, high ^ low.rotate_left(32))
}

/// The first bytes of a call id, without what is not UTF-8.
fn shown_sid(sid: &[u8]) -> ArrayString<SID_SHOWN> {
    let mut shown = ArrayString::new();
    for chunk in sid.get(..SID_SHOWN).unwrap_or(sid).utf8_chunks() {
        // The rest of a long call id is dropped.
        let _full = shown.try_push_str(chunk.valid());
    }
    shown
}

/// The kind of counter that a decision raises, if any.
pub(crate) fn count_kind(decision: &Decision<'_>) -> Option<CountKind> {
    match decision.outcome {
        Outcome::Callback => Some(CountKind::Received),
        Outcome::Default if decision.agent.is_some_and(DirectoryAgent::has_role) => {
            Some(CountKind::Unmatched)
        }
        _ => None,
    }
}

/// Everything observed of incoming calls.
#[derive(Debug)]
pub(crate) struct Observed {
    /// SIP calls that were routed and are not in the tally yet.
    arrivals: Arrivals,
    /// The calls routed within the last day, and the counters.
    tally: Mutex<Tally>,
    /// The latest decisions of each environment.
    decisions: Decisions,
    /// Last names of deleted agents.
    departed: Mutex<HashMap<AgentId, String>>,
}

impl Observed {
    /// Starts from this archive; calls routed before `known_since` are forgotten.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub(crate) fn load(
        archive: &dyn Archive,
        departed: HashMap<AgentId, String>,
        known_since: Timestamp,
        directory: &Directory,
    ) -> Result<Self, JournalError> {
        let mut tally = Tally::new(archive.counts()?, archive.count_mark()?);
        // Older events too: the counters may not contain them yet.
        archive.visit_routed(Timestamp::from_millis(i64::MIN), &mut |event| {
            tally.found(&event, event.at() >= known_since, directory);
        })?;
        Ok(Self {
            arrivals: Arrivals::default(),
            tally: Mutex::new(tally),
            decisions: Decisions::new(),
            departed: Mutex::new(departed),
        })
    }

    /// Notes a call routed over SIP.
    ///
    /// The thread that fills a short list moves its calls to the tally, unless another thread has the tally: so
    /// there is never much to move at once, and a call never waits.
    pub(crate) fn arrived(&self, arrival: Arrival) {
        let mut arrivals = self.arrivals.own();
        arrivals.push(arrival);
        if arrivals.len() >= TAKEN_UP_AT_ONCE
            && let Some(mut tally) = self.tally.try_lock()
        {
            tally.swap_arrivals(&mut arrivals);
            drop(arrivals);
            tally.take_up();
        }
    }

    /// Adds a decision on a SIP call to the log of its environment; `write` writes the record.
    pub(crate) fn decided_over_sip(
        &self,
        environment: &DirectoryEnvironment,
        write: impl FnOnce(&mut DecisionRecord),
    ) {
        self.decisions
            .add(environment.slot, environment.record.id, write);
    }

    /// Adds to a decision what became of its call; false if the decision is not in the log.
    pub(crate) fn forwarded_over_sip(
        &self,
        directory: &Directory,
        environment: EnvironmentId,
        sid: &[u8],
        at: Timestamp,
        call: &ForwardedCall,
    ) -> bool {
        let Some(environment) = directory.environment_by_id(environment) else {
            return false;
        };
        let sid = shown_sid(sid);
        let id = environment.record.id;
        self.decisions.amend(environment.slot, id, at, |record| {
            let is_it = record.at == at && record.sid == sid && record.via.is_sip();
            if is_it {
                record.forwarded = Some(Arc::new(call.clone()));
            }
            is_it
        })
    }

    /// Adds a decision to the log of an environment, unless the environment was removed.
    pub(crate) fn decided(
        &self,
        directory: &Directory,
        environment: EnvironmentId,
        decided: DecisionRecord,
    ) {
        if let Some(environment) = directory.environment_by_id(environment) {
            self.decided_over_sip(environment, |record| *record = decided);
        }
    }

    /// The tally, with every SIP call noted so far.
    fn settled(&self) -> MutexGuard<'_, Tally> {
        let mut tally = self.tally.lock();
        for mut arrivals in self.arrivals.all() {
            if !arrivals.is_empty() {
                tally.swap_arrivals(&mut arrivals);
                drop(arrivals);
                tally.take_up();
            }
        }
        tally
    }

    /// Notes the decision on a call over HTTP, which has arrived.
    pub(crate) fn keep_decision(&self, event: &crate::RoutedEvent, directory: &Directory) {
        self.settled().routed.replay(event, directory);
    }

    /// How many observations wait to be made durable.
    pub(crate) fn pending(&self) -> usize {
        self.settled().pending()
    }

    /// Notes that a SIP call was answered. Ignores unknown calls and calls that were no callbacks.
    pub(crate) fn answered_over_sip(&self, call: &AnsweredCall, directory: &Directory) {
        self.settled().answered_over_sip(call, directory);
    }

    /// The observations to make durable next: no more than is written quickly. If `roll_up` is set and the last
    /// roll-up has ended, a new one begins and takes all calls. On failure return them by [`Self::give_back`],
    /// else by [`Self::made_durable`].
    pub(crate) fn take_pending(&self, directory: &Directory, roll_up: bool) -> Vec<Change> {
        self.settled().take_pending(directory, roll_up)
    }

    /// Whether so much is pending that it should not wait for the next tick.
    pub(crate) fn has_much_pending(&self) -> bool {
        self.tally.lock().has_much_pending()
    }

    /// Looks up the counters of some of the ways for the next [`Self::take_pending`]; returns whether there are
    /// more.
    pub(crate) fn prepare_roll_up(&self, directory: &Directory) -> bool {
        self.tally.lock().prepare_roll_up(directory)
    }

    /// Whether a roll-up is in progress.
    pub(crate) fn is_rolling_up(&self) -> bool {
        self.tally.lock().is_rolling_up()
    }

    /// Returns observations that could not be made durable.
    pub(crate) fn give_back(&self, changes: Vec<Change>) {
        self.tally.lock().give_back(changes);
    }

    /// Notes observations that have become durable, and reuses their memory.
    pub(crate) fn made_durable(&self, changes: Vec<Change>) {
        self.tally.lock().made_durable(changes);
    }

    /// Whether this call id was routed after `known_since`, and the decision if it was asked about over HTTP.
    pub(crate) fn routed_before(
        &self,
        sid_hash: u64,
        known_since: Timestamp,
    ) -> Option<Option<Arc<RoutedDecision>>> {
        let mut tally = self.settled();
        tally.routed.expire(known_since);
        tally.routed.decision(sid_hash)
    }

    /// The counter that the answer to this call raises, if any. Calls routed before `known_since` are unknown.
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

    /// Applies a fact of the log, except facts from [`Self::take_pending`], which were counted before.
    pub(crate) fn apply(&self, change: &Change, directory: &Directory) {
        match change {
            Change::BatchRouted(batch) => self.settled().follow(batch, directory),
            Change::RoutedSwept(before) => self.tally.lock().routed.expire(*before),
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
                if let Some(environment) = directory.environment_by_id(*environment) {
                    let id = environment.record.id;
                    self.decisions
                        .forget_contact(environment.slot, id, *contact);
                }
                self.tally.lock().routed.forget(*environment, *contact);
            }
            Change::EnvironmentRemoved(environment) => {
                self.decisions.forget_environment(*environment);
            }
            _ => {}
        }
    }

    /// Keeps about so many decisions from now on.
    pub(crate) fn keep_decisions(&self, count: usize) {
        self.decisions.keep(count);
    }

    /// The latest decisions, newest first.
    pub(crate) fn decisions(
        &self,
        directory: &Directory,
        environment: EnvironmentId,
        limit: usize,
    ) -> Vec<DecisionRecord> {
        let environment = directory.environment_by_id(environment);
        environment.map_or_else(Vec::new, |environment| {
            self.decisions
                .latest(environment.slot, environment.record.id, limit)
        })
    }

    /// The latest decisions before this one that match, newest first.
    pub(crate) fn find_decisions(
        &self,
        directory: &Directory,
        environment: EnvironmentId,
        before: u64,
        limit: usize,
        matches: &dyn Fn(&DecisionRecord) -> bool,
    ) -> Vec<DecisionRecord> {
        let environment = directory.environment_by_id(environment);
        environment.map_or_else(Vec::new, |environment| {
            let id = environment.record.id;
            self.decisions
                .find(environment.slot, id, before, limit, matches)
        })
    }

    /// The decisions made after this one, oldest first.
    pub(crate) fn decisions_after(
        &self,
        directory: &Directory,
        environment: EnvironmentId,
        sequence: u64,
    ) -> Vec<DecisionRecord> {
        let environment = directory.environment_by_id(environment);
        environment.map_or_else(Vec::new, |environment| {
            self.decisions
                .after(environment.slot, environment.record.id, sequence)
        })
    }

    /// A channel with the number of the latest decision.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.decisions.subscribe()
    }

    /// Callbacks of an environment between two days, both included.
    pub(crate) fn statistics(
        &self,
        directory: &Directory,
        environment: EnvironmentId,
        days: (i32, i32),
    ) -> CallbackStatistics {
        let mut statistics = CallbackStatistics::default();
        let mut by_source: HashMap<AgentId, u64> = HashMap::new();
        let mut by_agent: HashMap<AgentId, (u64, u64)> = HashMap::new();
        let tally = self.settled();
        tally.visit_counts(directory, environment, days, |key, count| {
            match key.kind {
                // A callback without source has no row, and the total must be the sum of the rows.
                CountKind::Received => {
                    if let Some(source) = key.source {
                        statistics.received += count;
                        by_agent.entry(key.agent).or_default().0 += count;
                        *by_source.entry(source).or_default() += count;
                    }
                }
                CountKind::Answered => {
                    statistics.answered += count;
                    by_agent.entry(key.agent).or_default().1 += count;
                }
                CountKind::Unmatched => statistics.unmatched += count,
            }
        });
        drop(tally);
        let departed = self.departed.lock();
        let name = |agent: AgentId| {
            let known = directory.agent_by_id(agent);
            known
                .map(|agent| agent.record.name.clone())
                .or_else(|| departed.get(&agent).cloned())
                .unwrap_or_default()
        };
        statistics.by_source = by_source
            .into_iter()
            .map(|(source, count)| SourceCount {
                source,
                name: name(source),
                count,
            })
            .collect();
        statistics.by_agent = by_agent
            .into_iter()
            .map(|(agent, (received, answered))| AgentCount {
                agent,
                name: name(agent),
                received,
                answered,
            })
            .collect();
        statistics.by_agent.sort_by(|left, right| {
            (right.received, &left.name, left.agent).cmp(&(left.received, &right.name, right.agent))
        });
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
        days: (i32, i32),
    ) -> (u64, u64) {
        let mut totals = (0, 0);
        let tally = self.settled();
        tally.visit_counts(directory, environment, days, |key, count| match key.kind {
            CountKind::Received if key.agent == agent => totals.0 += count,
            CountKind::Answered if key.agent == agent => totals.1 += count,
            _ => {}
        });
        totals
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

/// How many SIP calls are moved to the tally at once: some ten microseconds of work.
const TAKEN_UP_AT_ONCE: usize = 64;

/// How much of a call id a decision record shows, in bytes.
const SID_SHOWN: usize = 64;
