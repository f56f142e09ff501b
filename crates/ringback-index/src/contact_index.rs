//! The contact index: contact number → the newest calls that outbound agents made to it.
//!
//! Each contact takes 16 bytes of key and value in a flat [`Table`] while one call is remembered; the
//! second to fourth call stand in a side map, present only where they exist. A call is packed into
//! 64 bits: the second it started (32), its *line* (28), its status (3), and whether the side map has
//! more (1). A line is a (source agent, calling number) pair; each pair is kept once, in a table that
//! only grows.
//!
//! Within one line only the newest call counts, and a contact keeps its newest four lines. The index stores
//! seconds. Which of two calls in the same second is newer, the caller must find out from milliseconds and call
//! ids ([`Observed::Tie`]).

use std::sync::atomic::{AtomicU32, Ordering};

use dashmap::DashMap;
use foldhash::fast::FixedState;
use ringback_routing::{
    AgentSlot, CallStatus, ContactUnreadable, Contacts, E164, EnvironmentSlot, RecentCalls,
    RememberedCall, Timestamp,
};

use crate::table::Table;

/// The result of entering a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// The call is remembered.
    Kept,
    /// The call is older than what is remembered already.
    Ignored,
    /// The contact has more lines than are remembered: the oldest was dropped, perhaps the line of this call.
    Crowded,
    /// The call started in the same second as a remembered one: the caller must read the contact's newest calls
    /// from storage and [`ContactIndex::replace`] them.
    Tie,
}

/// Contacts and their remembered calls: updated in place and read without locks. A reader waits for a writer at
/// most as long as a few entries take.
#[derive(Debug)]
pub struct ContactIndex {
    /// Packed contact → its newest call.
    newest: Table,
    /// Packed contact → its second to fourth call, where there are any. Changed only together with the
    /// contact's entry in [`Self::newest`].
    further: DashMap<u64, [PackedCall; RecentCalls::LIMIT - 1], FixedState>,
    /// Every line; its index is the line's number.
    lines: boxcar::Vec<KnownLine>,
    /// The number of each line.
    line_numbers: DashMap<Line, u32, FixedState>,
}

impl ContactIndex {
    /// An empty index.
    ///
    /// Its hashes follow from the seed. Pass a random seed and keep it secret: otherwise a client could choose
    /// numbers that collide.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            newest: Table::new(seed),
            further: DashMap::with_hasher_and_shard_amount(hasher.clone(), 1_024),
            lines: boxcar::Vec::new(),
            line_numbers: DashMap::with_hasher_and_shard_amount(hasher, 64),
        }
    }

    /// The calls remembered of a contact, newest first.
    #[must_use]
    pub fn calls(&self, environment: EnvironmentSlot, contact: E164) -> RecentCalls {
        let key = pack_contact(environment, contact);
        let mut calls = [PackedCall::NONE; RecentCalls::LIMIT + 1];
        let known = self
            .newest
            .read(key, |first| self.gather(key, first, &mut calls));
        calls[..known]
            .iter()
            .map(|call| self.unpack(*call))
            .collect()
    }

    /// How many contacts are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.newest.len()
    }

    /// Whether no contact is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.newest.is_empty()
    }

    /// Enters a call. Calls may come in any order and more than once.
    pub fn observe(
        &self,
        environment: EnvironmentSlot,
        contact: E164,
        call: &RememberedCall,
    ) -> Observed {
        self.observe_among(environment, contact, call, |_| true)
    }

    /// Enters a call as [`Self::observe`] does, except that remembered calls count only if their agent `exists`:
    /// those of deleted agents make room.
    pub fn observe_among(
        &self,
        environment: EnvironmentSlot,
        contact: E164,
        call: &RememberedCall,
        exists: impl Fn(AgentSlot) -> bool,
    ) -> Observed {
        let key = pack_contact(environment, contact);
        let new = self.pack(call);
        self.newest.update(key, |first| {
            let Some(known) = *first else {
                *first = Some(new.0);
                return Observed::Kept;
            };
            let mut calls = [PackedCall::NONE; RecentCalls::LIMIT + 1];
            let mut known = self.gather(key, Some(known), &mut calls);
            // Drop calls of deleted agents; the others keep their order.
            let mut left = 0;
            for index in 0..known {
                if exists(self.source(calls[index])) {
                    calls[left] = calls[index];
                    left += 1;
                }
            }
            known = left;
            let same_second = |other: &PackedCall| other.second() == new.second();
            if calls[..known].iter().any(same_second) {
                return Observed::Tie;
            }
            let same_line = calls[..known]
                .iter()
                .position(|other| other.line() == new.line());
            let index = match same_line {
                Some(index) if calls[index].second() > new.second() => return Observed::Ignored,
                Some(index) => index,
                None => known,
            };
            calls[index] = new;
            let count = known.max(index + 1);
            calls[..count].sort_unstable_by_key(|call| std::cmp::Reverse(call.second()));
            let kept = &calls[..count.min(RecentCalls::LIMIT)];
            if kept.contains(&new) {
                self.spread(key, first, kept);
            }
            if count > RecentCalls::LIMIT {
                return Observed::Crowded;
            }
            Observed::Kept
        })
    }

    /// Sets a contact's calls: newest first, one to a line, at most four. Without calls the contact is forgotten.
    pub fn replace(&self, environment: EnvironmentSlot, contact: E164, calls: &RecentCalls) {
        self.enter(environment, contact, calls, true);
    }

    /// Enters a contact's calls, as [`Self::replace`] does, unless the contact is there already.
    pub fn insert_if_absent(
        &self,
        environment: EnvironmentSlot,
        contact: E164,
        calls: &RecentCalls,
    ) {
        self.enter(environment, contact, calls, false);
    }

    /// Drops every contact if `keep` accepts none of its calls, and returns the memory to the system.
    ///
    /// Locks some hundred contacts at a time; their readers wait meanwhile.
    pub fn retain(&self, mut keep: impl FnMut(EnvironmentSlot, &RememberedCall) -> bool) {
        self.newest.retain(|key, first| {
            let mut calls = [PackedCall::NONE; RecentCalls::LIMIT + 1];
            let known = self.gather(key, Some(first), &mut calls);
            let environment = environment_of(key);
            let kept = calls[..known]
                .iter()
                .any(|call| keep(environment, &self.unpack(*call)));
            if !kept && PackedCall(first).has_more() {
                self.further.remove(&key);
            }
            kept
        });
    }

    /// Shows the contacts of an environment, by their [subscribers](E164::subscriber), with what is remembered of them,
    /// newest first. Those that come, change or go meanwhile may be shown or not, or twice.
    ///
    /// Walks over all contacts of all environments. Locks some hundred at a time, for as long as it takes to copy them.
    pub fn visit(&self, environment: EnvironmentSlot, mut visitor: impl FnMut(E164, RecentCalls)) {
        self.newest.visit(|key, first| {
            if environment_of(key) != environment {
                return;
            }
            let Some(contact) = E164::from_digits(key & NUMBER) else {
                return;
            };
            let first = PackedCall(first);
            let calls = if first.has_more() {
                self.calls(environment, contact)
            } else {
                std::iter::once(self.unpack(first)).collect()
            };
            visitor(contact, calls);
        });
    }

    /// The agents that called at this second or later, each with every number that it called from. Calls within a
    /// minute before may count, too; so may some of contacts that were forgotten.
    pub fn dialed_from(&self, since: Timestamp) -> impl Iterator<Item = (AgentSlot, E164)> {
        let since = second_of(since);
        self.lines.iter().filter_map(move |(_, known)| {
            let is_used = known
                .latest
                .load(Ordering::Relaxed)
                .saturating_add(LATEST_STEP)
                > since;
            Some((known.line.source, known.line.from?)).filter(|_| is_used)
        })
    }

    /// Begins to fetch the memory that lookups of these contacts will read, without waiting for it.
    pub fn prefetch(&self, contacts: impl IntoIterator<Item = (EnvironmentSlot, E164)>) {
        self.newest.prefetch(
            contacts
                .into_iter()
                .map(|(environment, contact)| pack_contact(environment, contact)),
        );
    }

    /// Sets a contact's calls; calls that are there already are replaced only if `over` is set.
    fn enter(&self, environment: EnvironmentSlot, contact: E164, calls: &RecentCalls, over: bool) {
        let key = pack_contact(environment, contact);
        let mut packed = [PackedCall::NONE; RecentCalls::LIMIT];
        let mut count = 0;
        for (entry, call) in packed.iter_mut().zip(calls.iter()) {
            *entry = self.pack(call);
            count += 1;
        }
        self.newest.update(key, |first| {
            if first.is_none() || over {
                self.spread(key, first, &packed[..count]);
            }
        });
    }

    /// Copies a contact's calls, newest first, and returns their count. Must run within an operation of
    /// [`Self::newest`] on the key, so that both maps agree.
    fn gather(
        &self,
        key: u64,
        first: Option<u64>,
        calls: &mut [PackedCall; RecentCalls::LIMIT + 1],
    ) -> usize {
        let Some(first) = first.map(PackedCall) else {
            return 0;
        };
        calls[0] = first.alone();
        let mut count = 1;
        if first.has_more()
            && let Some(further) = self.further.get(&key)
        {
            for call in further.iter().take_while(|call| **call != PackedCall::NONE) {
                calls[count] = *call;
                count += 1;
            }
        }
        count
    }

    /// Stores a contact's calls, newest first: the first in `entry`, the others in the side map. Must run within
    /// an update of [`Self::newest`] on the key.
    fn spread(&self, key: u64, entry: &mut Option<u64>, calls: &[PackedCall]) {
        let had_more = entry.is_some_and(|first| PackedCall(first).has_more());
        let (first, rest) = match calls {
            [first, rest @ ..] => (Some(first.alone()), rest),
            [] => (None, calls),
        };
        if rest.is_empty() {
            if had_more {
                self.further.remove(&key);
            }
            *entry = first.map(|first| first.0);
            return;
        }
        let mut further = [PackedCall::NONE; RecentCalls::LIMIT - 1];
        for (entry, call) in further.iter_mut().zip(rest) {
            *entry = *call;
        }
        self.further.insert(key, further);
        *entry = first.map(|first| first.with_more().0);
    }

    /// Packs a call; its line is entered if it is new.
    fn pack(&self, call: &RememberedCall) -> PackedCall {
        let line = Line {
            source: call.source,
            from: call.from.map(E164::subscriber),
        };
        let number = match self.line_numbers.get(&line) {
            Some(number) => *number,
            None => *self.line_numbers.entry(line).or_insert_with(|| {
                // More lines than this would not fit into memory anyway; if there are, they all share the last
                // number.
                let known = KnownLine {
                    line,
                    latest: AtomicU32::new(0),
                };
                u32::try_from(self.lines.push(known))
                    .unwrap_or(u32::MAX)
                    .min(PackedCall::LAST_LINE)
            }),
        };
        let second = second_of(call.started_at);
        // Most calls find it near enough, so that threads do not take the cache line from each other.
        if let Some(known) = self.lines.get(number as usize)
            && second.saturating_sub(known.latest.load(Ordering::Relaxed)) >= LATEST_STEP
        {
            known.latest.fetch_max(second, Ordering::Relaxed);
        }
        PackedCall::new(second, number, call.status)
    }

    /// The agent that made a call.
    fn source(&self, call: PackedCall) -> AgentSlot {
        let known = self.lines.get(call.line() as usize);
        known.map_or(Line::NOBODY.source, |known| known.line.source)
    }

    /// Unpacks a call.
    fn unpack(&self, call: PackedCall) -> RememberedCall {
        let line = self
            .lines
            .get(call.line() as usize)
            .map_or(Line::NOBODY, |known| known.line);
        RememberedCall {
            source: line.source,
            from: line.from,
            started_at: Timestamp::from_seconds(i64::from(call.second())),
            status: call.status(),
        }
    }
}

impl Contacts for ContactIndex {
    fn calls(
        &self,
        environment: EnvironmentSlot,
        contact: E164,
    ) -> Result<RecentCalls, ContactUnreadable> {
        Ok(self.calls(environment, contact))
    }

    fn prefetch(&self, environment: EnvironmentSlot, contact: E164) {
        self.prefetch([(environment, contact)]);
    }

    fn likely_source(&self, environment: EnvironmentSlot, contact: E164) -> Option<AgentSlot> {
        // The table itself holds the newest call, so the further ones are not read.
        let newest = self
            .newest
            .read(pack_contact(environment, contact), |first| first);
        newest.map(|first| self.source(PackedCall(first)))
    }
}

/// A source agent and the number that it called from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Line {
    /// The agent.
    source: AgentSlot,
    /// The number, if known.
    from: Option<E164>,
}

/// A line, and when it was used.
#[derive(Debug)]
struct KnownLine {
    /// The line.
    line: Line,
    /// About when the latest of its calls started, in seconds since 1970: at most [`LATEST_STEP`] before that.
    latest: AtomicU32,
}

impl Line {
    /// Returned for a line number that does not exist; no directory has an agent in this slot.
    const NOBODY: Self = Self {
        source: AgentSlot(u32::MAX),
        from: None,
    };
}

/// A call in 64 bits; see the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PackedCall(u64);

impl PackedCall {
    /// No call: the last second of the calendar on the last line, with the `more` bit, which only a first call
    /// has.
    const NONE: Self = Self(u64::MAX);
    /// The greatest line number.
    const LAST_LINE: u32 = (1 << 28) - 1;

    /// Packs; the line's number must be at most [`Self::LAST_LINE`].
    const fn new(second: u32, line: u32, status: CallStatus) -> Self {
        Self((second as u64) << 32 | (line as u64) << 4 | (status as u64) << 1)
    }

    /// The second that it started in.
    const fn second(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The number of its line.
    const fn line(self) -> u32 {
        (self.0 >> 4) as u32 & Self::LAST_LINE
    }

    /// Its status.
    const fn status(self) -> CallStatus {
        CallStatus::from_rank((self.0 >> 1) as u8 & 7)
    }

    /// Whether the side map has further calls of the contact.
    const fn has_more(self) -> bool {
        self.0 & 1 != 0
    }

    /// This call, marked as having further calls in the side map.
    const fn with_more(self) -> Self {
        Self(self.0 | 1)
    }

    /// This call, marked as having no further calls.
    const fn alone(self) -> Self {
        Self(self.0 & !1)
    }
}

/// The second of an instant, as far as 32 bits hold it.
fn second_of(at: Timestamp) -> u32 {
    u32::try_from(at.seconds().max(0)).unwrap_or(u32::MAX)
}

/// How much newer a call has to be before the latest of its line is written again.
const LATEST_STEP: u32 = 60;

/// Environment (14 bits) and number (50 bits) in one word, which is never 0, because no number is 0. All numbers
/// of a [subscriber](E164::subscriber) give the same word.
const fn pack_contact(environment: EnvironmentSlot, contact: E164) -> u64 {
    (environment.0 as u64) << NUMBER_BITS | contact.subscriber().digits()
}

/// The environment that [`pack_contact`] was given.
const fn environment_of(key: u64) -> EnvironmentSlot {
    EnvironmentSlot((key >> NUMBER_BITS) as u16)
}

/// The bits of a number in what [`pack_contact`] gives.
const NUMBER_BITS: u32 = 50;

/// These bits.
const NUMBER: u64 = (1 << NUMBER_BITS) - 1;
