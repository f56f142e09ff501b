//! The contact index: contact number → the newest calls that outbound agents made to it.
//!
//! Each contact takes 16 bytes of key and value in a [`DashMap`] while one call is remembered; the
//! second to fourth call stand in a side map, present only where they exist. A call is packed into
//! 64 bits: the second it started (32), its *line* (28), its status (3), and whether the side map has
//! more (1). A line is a (source agent, calling number) pair; each pair is kept once, in a table that
//! only grows.
//!
//! Within one line only the newest call counts, and a contact keeps its newest four lines. The index
//! knows seconds; which of two calls in the same second is newer, it leaves to the caller, who has the
//! milliseconds and call ids ([`Observed::Tie`]).

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use foldhash::fast::RandomState;

use crate::{AgentSlot, CallStatus, E164, EnvironmentSlot, Timestamp};

/// Where a decision finds a contact's calls.
pub trait Contacts {
    /// The calls remembered of a contact, newest first.
    fn calls(&self, environment: EnvironmentSlot, contact: E164) -> RecentCalls;
}

/// A remembered outbound call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RememberedCall {
    /// The agent that called.
    pub source: AgentSlot,
    /// The number that it called from, if known.
    pub from: Option<E164>,
    /// When, to the second.
    pub started_at: Timestamp,
    /// How far it got.
    pub status: CallStatus,
}

/// Up to four calls, newest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecentCalls {
    /// The calls; `None` from the first free place on.
    calls: [Option<RememberedCall>; Self::LIMIT],
}

impl RecentCalls {
    /// How many calls of a contact are remembered.
    pub const LIMIT: usize = 4;

    /// The calls, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &RememberedCall> {
        self.calls.iter().flatten()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.calls[0].is_none()
    }
}

impl FromIterator<RememberedCall> for RecentCalls {
    /// Takes the first four.
    fn from_iter<I: IntoIterator<Item = RememberedCall>>(calls: I) -> Self {
        let mut recent = Self::default();
        for (place, call) in recent.calls.iter_mut().zip(calls) {
            *place = Some(call);
        }
        recent
    }
}

/// What became of a call that the index was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It is remembered.
    Kept,
    /// It is older than what is remembered already.
    Ignored,
    /// It started in the same second as a remembered call: the caller must establish the contact's
    /// newest calls and [`ContactIndex::replace`] them.
    Tie,
}

/// Contacts and their remembered calls: sharded, updated in place, read without waiting for longer
/// than one entry takes.
#[derive(Debug)]
pub struct ContactIndex {
    /// Packed contact → its newest call.
    newest: DashMap<u64, PackedCall, RandomState>,
    /// Packed contact → its second to fourth call, where there are any.
    further: DashMap<u64, [PackedCall; RecentCalls::LIMIT - 1], RandomState>,
    /// Every line, by number.
    lines: boxcar::Vec<Line>,
    /// The numbers of the lines.
    line_numbers: DashMap<Line, u32, RandomState>,
}

impl ContactIndex {
    /// An empty index of many shards, so that no growing shard holds a reader up for long.
    #[must_use]
    pub fn new() -> Self {
        Self {
            newest: DashMap::with_hasher_and_shard_amount(RandomState::default(), SHARDS),
            further: DashMap::with_hasher_and_shard_amount(RandomState::default(), SHARDS / 16),
            lines: boxcar::Vec::new(),
            line_numbers: DashMap::with_hasher_and_shard_amount(RandomState::default(), 64),
        }
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

    /// Tells the index of a call. Calls may come in any order and more than once.
    pub fn observe(
        &self,
        environment: EnvironmentSlot,
        contact: E164,
        call: &RememberedCall,
    ) -> Observed {
        let key = pack_contact(environment, contact);
        let new = self.pack(call);
        let mut entry = match self.newest.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(new);
                return Observed::Kept;
            }
            Entry::Occupied(entry) => entry,
        };
        let mut calls = [PackedCall::NONE; RecentCalls::LIMIT + 1];
        let known = self.gather(key, *entry.get(), &mut calls);
        let (Some(known_calls), line) = (calls.get(..known), new.line()) else {
            return Observed::Tie;
        };
        if known_calls
            .iter()
            .any(|other| other.second() == new.second())
        {
            return Observed::Tie;
        }
        let same_line = known_calls.iter().position(|other| other.line() == line);
        match same_line {
            Some(place) if calls[place].second() > new.second() => return Observed::Ignored,
            Some(place) => calls[place] = new,
            None => calls[known] = new,
        }
        let count = if same_line.is_some() {
            known
        } else {
            known + 1
        };
        calls[..count].sort_unstable_by_key(|call| std::cmp::Reverse(call.second()));
        let kept = calls[..count.min(RecentCalls::LIMIT)].contains(&new);
        if kept {
            *entry.get_mut() = self.spread(key, &calls[..count.min(RecentCalls::LIMIT)]);
            Observed::Kept
        } else {
            Observed::Ignored
        }
    }

    /// Sets a contact's calls: newest first, one to a line, at most four; none forgets the contact.
    pub fn replace(&self, environment: EnvironmentSlot, contact: E164, calls: &RecentCalls) {
        let key = pack_contact(environment, contact);
        let mut packed = [PackedCall::NONE; RecentCalls::LIMIT];
        let count = self.pack_all(calls, &mut packed);
        match self.newest.entry(key) {
            Entry::Occupied(entry) if count == 0 => {
                self.further.remove(&key);
                entry.remove();
            }
            Entry::Occupied(mut entry) => {
                *entry.get_mut() = self.spread(key, &packed[..count]);
            }
            Entry::Vacant(_) if count == 0 => {}
            Entry::Vacant(entry) => {
                entry.insert(self.spread(key, &packed[..count]));
            }
        }
    }

    /// Enters a contact's calls, as [`Self::replace`] does, unless the contact is there already.
    pub fn insert_if_absent(
        &self,
        environment: EnvironmentSlot,
        contact: E164,
        calls: &RecentCalls,
    ) {
        let key = pack_contact(environment, contact);
        let mut packed = [PackedCall::NONE; RecentCalls::LIMIT];
        let count = self.pack_all(calls, &mut packed);
        if count > 0
            && let Entry::Vacant(entry) = self.newest.entry(key)
        {
            entry.insert(self.spread(key, &packed[..count]));
        }
    }

    /// Drops every contact of which `keep` says so of none of its calls.
    ///
    /// Goes shard by shard; a shard's readers wait while it is swept.
    pub fn retain(&self, mut keep: impl FnMut(EnvironmentSlot, &RememberedCall) -> bool) {
        self.newest.retain(|key, first| {
            let mut calls = [PackedCall::NONE; RecentCalls::LIMIT + 1];
            let known = self.gather(*key, *first, &mut calls);
            let (environment, _) = unpack_contact(*key);
            let kept = calls[..known]
                .iter()
                .any(|call| keep(environment, &self.unpack(*call)));
            if !kept && first.has_more() {
                self.further.remove(key);
            }
            kept
        });
    }

    /// The contacts that remember a call of this agent.
    #[must_use]
    pub fn contacts_called_by(&self, agent: AgentSlot) -> Vec<(EnvironmentSlot, E164)> {
        let mut found = Vec::new();
        for entry in &self.newest {
            let mut calls = [PackedCall::NONE; RecentCalls::LIMIT + 1];
            let known = self.gather(*entry.key(), *entry.value(), &mut calls);
            if calls[..known]
                .iter()
                .any(|call| self.unpack(*call).source == agent)
                && let (environment, Some(contact)) = unpack_contact(*entry.key())
            {
                found.push((environment, contact));
            }
        }
        found
    }

    /// Copies a contact's calls, newest first, and tells how many there are. The shard of `key` must
    /// be held, so that both maps agree.
    fn gather(
        &self,
        key: u64,
        first: PackedCall,
        calls: &mut [PackedCall; RecentCalls::LIMIT + 1],
    ) -> usize {
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

    /// Stores all but the first of the calls (at least one) in the side map; returns the first as it
    /// is to be stored. The shard of `key` must be held for writing.
    fn spread(&self, key: u64, calls: &[PackedCall]) -> PackedCall {
        let first = calls[0].alone();
        if calls.len() == 1 {
            self.further.remove(&key);
            return first;
        }
        let mut further = [PackedCall::NONE; RecentCalls::LIMIT - 1];
        for (place, call) in further.iter_mut().zip(&calls[1..]) {
            *place = *call;
        }
        self.further.insert(key, further);
        first.with_more()
    }

    /// Packs calls, and tells how many there are.
    fn pack_all(
        &self,
        calls: &RecentCalls,
        packed: &mut [PackedCall; RecentCalls::LIMIT],
    ) -> usize {
        let mut count = 0;
        for (place, call) in packed.iter_mut().zip(calls.iter()) {
            *place = self.pack(call);
            count += 1;
        }
        count
    }

    /// Packs a call; its line is entered if it is new.
    fn pack(&self, call: &RememberedCall) -> PackedCall {
        let line = Line {
            source: call.source,
            from: call.from,
        };
        let number = match self.line_numbers.get(&line) {
            Some(number) => *number,
            None => *self.line_numbers.entry(line).or_insert_with(|| {
                // More lines than this do not fit into memory; the last one then stands for all.
                u32::try_from(self.lines.push(line))
                    .unwrap_or(u32::MAX)
                    .min(PackedCall::LAST_LINE)
            }),
        };
        let second = u32::try_from(call.started_at.seconds().max(0)).unwrap_or(u32::MAX);
        PackedCall::new(second, number, call.status)
    }

    /// Unpacks a call.
    fn unpack(&self, call: PackedCall) -> RememberedCall {
        let line = self
            .lines
            .get(call.line() as usize)
            .copied()
            .unwrap_or(Line::NOBODY);
        RememberedCall {
            source: line.source,
            from: line.from,
            started_at: Timestamp::from_seconds(i64::from(call.second())),
            status: call.status(),
        }
    }
}

impl Default for ContactIndex {
    fn default() -> Self {
        Self::new()
    }
}

impl Contacts for ContactIndex {
    fn calls(&self, environment: EnvironmentSlot, contact: E164) -> RecentCalls {
        let key = pack_contact(environment, contact);
        let Some(first) = self.newest.get(&key) else {
            return RecentCalls::default();
        };
        let mut calls = [PackedCall::NONE; RecentCalls::LIMIT + 1];
        let known = self.gather(key, *first, &mut calls);
        drop(first);
        calls[..known]
            .iter()
            .map(|call| self.unpack(*call))
            .collect()
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

impl Line {
    /// Stands for a line that cannot be: no directory has an agent there.
    const NOBODY: Self = Self {
        source: AgentSlot(u32::MAX),
        from: None,
    };
}

/// A call in 64 bits; see the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PackedCall(u64);

impl PackedCall {
    /// No call: the last second of the calendar on the last line, with the `more` bit that only stored firsts have.
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

    /// The same, with further calls in the side map.
    const fn with_more(self) -> Self {
        Self(self.0 | 1)
    }

    /// The same, without further calls.
    const fn alone(self) -> Self {
        Self(self.0 & !1)
    }
}

/// Environment (14 bits) and number (50 bits) in one word.
const fn pack_contact(environment: EnvironmentSlot, contact: E164) -> u64 {
    (environment.0 as u64) << 50 | contact.digits()
}

/// The reverse of [`pack_contact`].
const fn unpack_contact(key: u64) -> (EnvironmentSlot, Option<E164>) {
    (
        EnvironmentSlot((key >> 50) as u16),
        E164::from_digits(key & ((1 << 50) - 1)),
    )
}

/// How many shards: at 50 million contacts a shard has some 3,000, which it rehashes in far less than
/// a millisecond.
const SHARDS: usize = 16_384;
