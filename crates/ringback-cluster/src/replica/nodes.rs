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
    /// Whether it has read all that there was when it started, and nothing is wrong.
    pub is_current: bool,
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
}

impl Neighbor {
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
        let agrees = agrees.or_else(|| self.others.get(&presence.node)?.agrees);
        let neighbor = Neighbor {
            seen_at: now,
            agrees,
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

    /// The other nodes.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Neighbor> {
        self.others.values()
    }
}

/// After how long without a word a node is gone.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// For how long a node of the same name must be heard before it is believed to be alive.
const NAMESAKE_AFTER: Duration = Duration::from_secs(3);
