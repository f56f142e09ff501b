//! What happened to incoming calls: the decision log, the calls routed within the last day, and the
//! callback counters.
//!
//! Calls routed over SIP are only noted here; the writer makes them durable within a second. Calls
//! routed over HTTP go through commands and are durable before they are answered.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayString;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use ringback_routing::{
    AgentId, AgentSlot, Caller, Decision, Directory, E164, EnvironmentId, EnvironmentSlot, Outcome,
    Reason, Timestamp,
};
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    AnsweredCall, Change, CommandError, CountKey, CountKind, RoutedCall, RoutedEvent,
    RoutedOverSip, StoredCounts,
};

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
        Outcome::Default
            if decision
                .agent
                .is_some_and(|agent| agent.record.role.is_some()) =>
        {
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
    /// SIP calls routed and not yet taken up by [`Self::settle`].
    arrivals: Mutex<Vec<Arrival>>,
    /// Calls routed within the last day.
    routed: Mutex<RoutedTable>,
    /// The counters.
    counts: Mutex<BTreeMap<CountKey, u64>>,
    /// What the writer has yet to make durable.
    pending: Mutex<Pending>,
    /// The latest decisions of each environment.
    decisions: Mutex<HashMap<EnvironmentId, VecDeque<DecisionRecord>, RandomState>>,
    /// The number of the latest decision.
    sequence: AtomicU64,
    /// Tells subscribers of a new decision.
    latest: watch::Sender<u64>,
    /// Last names of deleted agents.
    departed: Mutex<HashMap<AgentId, String>>,
}

/// A call routed over SIP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// The hash of its Call-ID.
    pub(crate) sid_hash: u64,
    /// When, in seconds since 1970.
    pub(crate) second: u32,
    /// Where it went.
    pub(crate) route: Route,
}

/// Where a SIP call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    /// Whose it is.
    pub(crate) environment: EnvironmentSlot,
    /// What to count.
    pub(crate) kind: Option<CountKind>,
    /// The agent that it went to.
    pub(crate) agent: Option<AgentSlot>,
    /// The agent whose call was returned.
    pub(crate) source: Option<AgentSlot>,
}

/// What the writer has yet to make durable.
#[derive(Debug, Default)]
struct Pending {
    /// Routed and answered calls.
    events: Vec<RoutedEvent>,
    /// Growth of counters.
    counts: BTreeMap<CountKey, u64>,
}

impl Pending {
    /// How many events wait at most while storage fails; later ones are counted, but not known.
    const LIMIT: usize = 1_000_000;

    /// Adds an event.
    fn add(&mut self, event: RoutedEvent) {
        if self.events.len() < Self::LIMIT {
            self.events.push(event);
        }
    }
}

impl Observed {
    /// Starts from what was stored.
    pub(crate) fn new(
        counts: StoredCounts,
        departed: HashMap<AgentId, String>,
        events: Vec<RoutedEvent>,
        directory: &Directory,
    ) -> Self {
        let mut routed = RoutedTable::default();
        for event in &events {
            routed.replay(event, directory);
        }
        Self {
            arrivals: Mutex::default(),
            routed: Mutex::new(routed),
            counts: Mutex::new(counts.into_iter().collect()),
            pending: Mutex::default(),
            decisions: Mutex::default(),
            sequence: AtomicU64::new(0),
            latest: watch::Sender::new(0),
            departed: Mutex::new(departed),
        }
    }

    /// Notes a call routed over SIP: one short lock.
    pub(crate) fn arrived(&self, arrival: Arrival) {
        self.arrivals.lock().push(arrival);
    }

    /// Adds a decision to the log of an environment.
    pub(crate) fn decided(&self, environment: EnvironmentId, mut record: DecisionRecord) {
        let mut decisions = self.decisions.lock();
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
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

    /// Takes up the SIP calls noted since last time: each Call-ID counts once.
    pub(crate) fn settle(&self, directory: &Directory) {
        let arrivals = std::mem::take(&mut *self.arrivals.lock());
        if arrivals.is_empty() {
            return;
        }
        let mut routed = self.routed.lock();
        // Calls that were routed alike are counted and stored together.
        let mut alike: HashMap<Route, Vec<(u64, u32)>, RandomState> = HashMap::default();
        for arrival in arrivals {
            let Arrival {
                sid_hash,
                second,
                route,
            } = arrival;
            if routed.insert(sid_hash, second, route.agent, route.source) {
                alike.entry(route).or_default().push((sid_hash, second));
            }
        }
        drop(routed);
        let mut pending = self.pending.lock();
        let mut counts = self.counts.lock();
        for (route, calls) in alike {
            let Some(environment) = directory.environment(route.environment) else {
                continue;
            };
            let environment = environment.record.id;
            let id = |slot| directory.agent(slot).map(|agent| agent.record.id);
            let (agent, source) = (route.agent.and_then(id), route.source.and_then(id));
            if let (Some(kind), Some(agent)) = (route.kind, agent) {
                for (_, second) in &calls {
                    let day = day_of(Timestamp::from_seconds(i64::from(*second)));
                    let key = CountKey {
                        environment,
                        day,
                        agent,
                        source,
                        kind,
                    };
                    *counts.entry(key).or_default() += 1;
                    *pending.counts.entry(key).or_default() += 1;
                }
            }
            let latest = calls.iter().map(|(_, second)| *second).max().unwrap_or(0);
            let latest = Timestamp::from_seconds(i64::from(latest));
            pending.add(RoutedEvent::RoutedOverSip(RoutedOverSip {
                environment,
                agent,
                source,
                latest,
                calls,
            }));
        }
    }

    /// Notes that a SIP call was answered; unknown calls and those that were no callbacks are none of
    /// our business.
    pub(crate) fn answered_over_sip(&self, call: AnsweredCall, directory: &Directory) {
        self.settle(directory);
        let Ok(key) = self.routed.lock().answer(&call, directory) else {
            return;
        };
        let mut pending = self.pending.lock();
        if let Some(key) = key {
            *self.counts.lock().entry(key).or_default() += 1;
            *pending.counts.entry(key).or_default() += 1;
            pending.add(RoutedEvent::Answered(call));
        }
    }

    /// What is to be made durable; to be given back by [`Self::give_back`] where that failed.
    pub(crate) fn take_pending(&self) -> Vec<Change> {
        let pending = std::mem::take(&mut *self.pending.lock());
        let mut changes: Vec<Change> = pending
            .counts
            .into_iter()
            .map(|(key, count)| Change::Counted(key, count))
            .collect();
        if !pending.events.is_empty() {
            changes.push(Change::Routed(pending.events));
        }
        changes
    }

    /// Takes back what could not be made durable.
    pub(crate) fn give_back(&self, changes: Vec<Change>) {
        let mut pending = self.pending.lock();
        for change in changes {
            match change {
                Change::Counted(key, count) => *pending.counts.entry(key).or_default() += count,
                Change::Routed(mut events) => {
                    events.append(&mut pending.events);
                    events.truncate(Pending::LIMIT);
                    pending.events = events;
                }
                _ => {}
            }
        }
    }

    /// The answer given to this call id, and whether it is known at all.
    pub(crate) fn response(&self, sid_hash: u64) -> Option<Option<String>> {
        let routed = self.routed.lock();
        routed.entries.get(&sid_hash)?;
        Some(routed.responses.get(&sid_hash).cloned())
    }

    /// Which counter the answer to this call raises, if any.
    ///
    /// # Errors
    /// The call is not known.
    pub(crate) fn check_answered(
        &self,
        call: &AnsweredCall,
        directory: &Directory,
    ) -> Result<Option<CountKey>, CommandError> {
        self.routed.lock().answerable(call, directory)
    }

    /// Shows a change that has become durable.
    pub(crate) fn apply(&self, change: &Change, directory: &Directory) {
        match change {
            Change::Routed(events) => {
                let mut routed = self.routed.lock();
                for event in events {
                    routed.replay(event, directory);
                }
            }
            Change::Counted(key, count) => *self.counts.lock().entry(*key).or_default() += count,
            Change::AgentRemoved(_, id, name) => {
                self.departed.lock().insert(*id, name.clone());
            }
            Change::ContactForgotten(environment, contact) => {
                if let Some(log) = self.decisions.lock().get_mut(environment) {
                    log.retain(|record| record.caller != Caller::Number(*contact));
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
        for (key, count) in self.counts.lock().range(count_range(environment, first)) {
            if key.environment != environment || key.day > last {
                break;
            }
            match key.kind {
                CountKind::Received => {
                    statistics.received += count;
                    if let Some(source) = key.source {
                        *by_source.entry(source).or_default() += count;
                    }
                }
                CountKind::Answered => statistics.answered += count,
                CountKind::Unmatched => statistics.unmatched += count,
            }
        }
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
        environment: EnvironmentId,
        agent: AgentId,
        (first, last): (i32, i32),
    ) -> (u64, u64) {
        let mut totals = (0, 0);
        for (key, count) in self.counts.lock().range(count_range(environment, first)) {
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
        self.routed.lock().expire(before);
    }
}

/// Calls routed within the last day, by the hash of their call id.
#[derive(Debug, Default)]
struct RoutedTable {
    /// The calls.
    entries: HashMap<u64, RoutedEntry, RandomState>,
    /// Answers given over HTTP.
    responses: HashMap<u64, String, RandomState>,
    /// The calls in the order of their arrival.
    order: VecDeque<(u32, u64)>,
}

/// A routed call.
#[derive(Clone, Copy, Debug)]
struct RoutedEntry {
    /// The agent that it went to.
    agent: Option<AgentSlot>,
    /// The agent whose call was returned: set exactly where the outcome was callback.
    source: Option<AgentSlot>,
    /// Whether it was reported as answered.
    answered: bool,
}

impl RoutedTable {
    /// How many routed calls are known; beyond that the oldest is forgotten before its day is over.
    const LIMIT: usize = 4_000_000;

    /// Enters a call; false if its call id was known.
    fn insert(
        &mut self,
        sid_hash: u64,
        second: u32,
        agent: Option<AgentSlot>,
        source: Option<AgentSlot>,
    ) -> bool {
        let Entry::Vacant(entry) = self.entries.entry(sid_hash) else {
            return false;
        };
        entry.insert(RoutedEntry {
            agent,
            source,
            answered: false,
        });
        self.order.push_back((second, sid_hash));
        if self.order.len() > Self::LIMIT {
            self.forget_oldest();
        }
        true
    }

    /// Shows an event that has been counted already.
    fn replay(&mut self, event: &RoutedEvent, directory: &Directory) {
        let slot = |id: AgentId| directory.agent_by_id(id).map(|agent| agent.slot);
        match event {
            RoutedEvent::Routed(call) => {
                let second = u32::try_from(call.at.seconds()).unwrap_or(u32::MAX);
                let (agent, source) = (call.agent.and_then(slot), call.source.and_then(slot));
                self.insert(call.sid_hash, second, agent, source);
                if let Some(response) = &call.response {
                    self.responses.insert(call.sid_hash, response.clone());
                }
            }
            RoutedEvent::Answered(call) => {
                if let Some(entry) = self.entries.get_mut(&call.sid_hash) {
                    entry.answered = true;
                }
            }
            RoutedEvent::RoutedOverSip(alike) => {
                let (agent, source) = (alike.agent.and_then(slot), alike.source.and_then(slot));
                for (sid_hash, second) in &alike.calls {
                    self.insert(*sid_hash, *second, agent, source);
                }
            }
        }
    }

    /// Which counter the answer to this call raises: none if it was no callback or is counted.
    fn answerable(
        &self,
        call: &AnsweredCall,
        directory: &Directory,
    ) -> Result<Option<CountKey>, CommandError> {
        let entry = self
            .entries
            .get(&call.sid_hash)
            .ok_or(CommandError::RoutedCallNotFound)?;
        let id = |slot: AgentSlot| directory.agent(slot).map(|agent| agent.record.id);
        let (Some(agent), Some(source), false) = (
            entry.agent.and_then(id),
            entry.source.and_then(id),
            entry.answered,
        ) else {
            return Ok(None);
        };
        Ok(Some(CountKey {
            environment: call.environment,
            day: day_of(call.at),
            agent,
            source: Some(source),
            kind: CountKind::Answered,
        }))
    }

    /// Marks a call as answered; tells which counter that raises.
    fn answer(
        &mut self,
        call: &AnsweredCall,
        directory: &Directory,
    ) -> Result<Option<CountKey>, CommandError> {
        let key = self.answerable(call, directory)?;
        if let Some(entry) = self.entries.get_mut(&call.sid_hash) {
            entry.answered = true;
        }
        Ok(key)
    }

    /// Forgets calls routed before this instant.
    fn expire(&mut self, before: Timestamp) {
        while self
            .order
            .front()
            .is_some_and(|(second, _)| i64::from(*second) < before.seconds())
        {
            self.forget_oldest();
        }
    }

    /// Forgets the call that has been known longest.
    fn forget_oldest(&mut self) {
        if let Some((_, sid_hash)) = self.order.pop_front() {
            self.entries.remove(&sid_hash);
            self.responses.remove(&sid_hash);
        }
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

/// The counters of an environment from this day on (and then those of other environments).
fn count_range(environment: EnvironmentId, first: i32) -> std::ops::RangeFrom<CountKey> {
    let least = AgentId(uuid::Uuid::nil());
    CountKey {
        environment,
        day: first,
        agent: least,
        source: None,
        kind: CountKind::Received,
    }..
}

/// How many decisions are kept of each environment.
const DECISIONS_KEPT: usize = 1_000;

/// How much of a call id a decision record shows, in bytes.
const SID_SHOWN: usize = 64;
