//! The other nodes, by what they say of themselves once a second.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Place;

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Its name.
    pub node: String,
    /// Its run: made at each start.
    pub instance: u64,
    /// When this run began, in milliseconds since 1970.
    pub started_at: i64,
    /// The version of its program.
    pub version: String,
    /// Where its HTTP API is.
    pub url: String,
    /// How far it has read the log.
    pub place: Place,
    /// The last entry of the log that its store has for good: whatever fails, it needs only what comes behind.
    pub stored: u64,
    /// Whether it has read all that there was when it started, and nothing is wrong.
    pub is_current: bool,
    /// The races that it has lost since its last append that was committed; none if it does not try again.
    pub lost: Option<Lost>,
}

/// Races that a node has lost with an append that it tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The sequence that it lost first. The log is a clock that all nodes share: who has waited longest has the
    /// smallest one.
    pub since: u64,
    /// How many it has lost.
    pub times: u32,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// What it said last.
    pub presence: Presence,
    /// When it said so.
    pub seen_at: Duration,
    /// Whether its log was the same as ours, where both are known.
    pub agrees: Option<bool>,
    /// The last message of the log that this run of it wrote, as far as this node has read.
    written: u64,
    /// The number of its lost races that it was last let go first for, and until when.
    let_first: Option<(u32, Duration)>,
}

impl Neighbor {
    /// Whether it takes part now, and has read all that there was when it started.
    pub(super) fn is_current(&self, now: Duration) -> bool {
        self.presence.is_current && !self.is_gone(now)
    }

    /// Whether it has been silent for so long that it is not counted on.
    #[must_use]
    pub fn is_gone(&self, now: Duration) -> bool {
        now.saturating_sub(self.seen_at) > GONE_AFTER
    }
}

/// The other nodes by name.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// Those that were heard.
    others: BTreeMap<String, Neighbor>,
    /// When another node of our name was first heard, and its run.
    namesake: Option<(Duration, u64)>,
}

impl Nodes {
    /// Notes what another node says.
    pub(super) fn heard(&mut self, now: Duration, presence: Presence, agrees: Option<bool>) {
        let known = self.others.get(&presence.node);
        let known = known.filter(|known| known.presence.instance == presence.instance);
        let neighbor = Neighbor {
            seen_at: now,
            agrees: agrees.or_else(|| known?.agrees),
            written: known.map_or(0, |known| known.written),
            let_first: known.and_then(|known| known.let_first),
            presence,
        };
        self.others.insert(neighbor.presence.node.clone(), neighbor);
    }

    /// Notes a node of our own name; returns whether it has lived beside us for a while, so that it is not just the
    /// last word of an earlier run.
    pub(super) fn heard_namesake(&mut self, now: Duration, instance: u64) -> bool {
        match self.namesake {
            Some((since, known)) if known == instance => {
                now.saturating_sub(since) >= NAMESAKE_AFTER
            }
            _ => {
                self.namesake = Some((now, instance));
                false
            }
        }
    }

    /// Forgets a node, unless it was heard lately.
    pub(super) fn forget(&mut self, now: Duration, node: &str) {
        self.others
            .retain(|name, other| name != node || !other.is_gone(now));
    }

    /// Notes that a message of the log was written by this run of a node.
    pub(super) fn has_written(&mut self, instance: u64, sequence: u64) {
        let mut others = self.others.values_mut();
        if let Some(author) = others.find(|other| other.presence.instance == instance) {
            author.written = sequence;
            author.let_first = None;
        }
    }

    /// Until when to let another node go first that has waited longer than this one: until its message is in the
    /// log, but not for long, because it may have ended.
    pub(super) fn hold_back(
        &mut self,
        now: Duration,
        lost: Option<Lost>,
        own: u64,
    ) -> Option<Duration> {
        let turn = |lost: Lost, instance| (lost.since, instance);
        let ours = lost.map(|lost| turn(lost, own));
        let mut until = None;
        for other in self.others.values_mut() {
            let Some(lost) = other.presence.lost else {
                continue;
            };
            let theirs = turn(lost, other.presence.instance);
            if lost.since <= other.written || ours.is_some_and(|ours| ours < theirs) {
                continue;
            }
            let end = match other.let_first {
                Some((times, end)) if times == lost.times => end,
                _ => now + LET_FIRST,
            };
            other.let_first = Some((lost.times, end));
            if end > now {
                until = until.max(Some(end));
            }
        }
        until
    }

    /// The other nodes.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Neighbor> {
        self.others.values()
    }
}

/// After how long without a word a node is gone.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// For how long a node that has lost a race is let go first: it has to read what won, to keep that, and to check again.
pub(super) const LET_FIRST: Duration = Duration::from_millis(500);

/// For how long a node of the same name must be heard before it is believed to be alive.
const NAMESAKE_AFTER: Duration = Duration::from_secs(3);
