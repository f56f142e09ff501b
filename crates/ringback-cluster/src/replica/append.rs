//! The append under way: its messages, and what is known of them.
//!
//! A message is published on the condition that the log ends where its author believes. So there is one sequence
//! that it can have, and it does not matter how often it is sent: what the log has at this sequence decides.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::wire::{Kind, Message};
use crate::{AppendId, Place};

/// An append that is not decided yet.
#[derive(Debug)]
pub(super) struct Append {
    /// Which one.
    pub(super) id: AppendId,
    /// The bodies of its parts.
    bodies: Vec<Vec<u8>>,
    /// The index of the part under way.
    part: u16,
    /// The message that the part follows.
    pub(super) at: Place,
    /// What is waited for.
    pub(super) wait: Wait,
    /// Whether the log was read with the part in its place.
    pub(super) is_read: bool,
    /// Whether the stream has said that it keeps the part.
    pub(super) is_kept: bool,
    /// Attempts to publish the part that were not refused: each may still succeed.
    open: BTreeSet<u64>,
    /// When it was asked for.
    pub(super) begun: Duration,
    /// Whether anything was published.
    was_sent: bool,
    /// When the client is told that nobody knows.
    pub(super) deadline: Duration,
    /// Whether the client was told that nobody knows: now fences are published.
    pub(super) is_given_up: bool,
}

/// What an append waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The part is to be published at this time, once there is a connection.
    Send(Duration),
    /// An answer of the stream, which is looked for in the log from this time on.
    Answer(Duration),
    /// A look at the log, which is repeated at this time.
    Look(Duration),
}

impl Append {
    /// An append of facts in parts of at most this many bytes, behind this message.
    pub(super) fn new(
        id: AppendId,
        body: &[u8],
        part_bytes: usize,
        at: Place,
        now: Duration,
        deadline: Duration,
    ) -> Self {
        let mut bodies: Vec<Vec<u8>> = body.chunks(part_bytes.max(1)).map(Into::into).collect();
        if bodies.is_empty() {
            bodies.push(Vec::new());
        }
        Self {
            id,
            bodies,
            part: 0,
            at,
            wait: Wait::Send(now),
            is_read: false,
            is_kept: false,
            open: BTreeSet::new(),
            begun: now,
            was_sent: false,
            deadline,
            is_given_up: false,
        }
    }

    /// How many bytes it has.
    pub(super) fn bytes(&self) -> u64 {
        let bodies = self.bodies.iter();
        bodies.map(|body| body.len() as u64 + MESSAGE_BYTES).sum()
    }

    /// The sequence that decides.
    pub(super) const fn sequence(&self) -> u64 {
        self.at.sequence + 1
    }

    /// The index of the part under way.
    pub(super) const fn part(&self) -> u16 {
        self.part
    }

    /// Whether the part under way is the last one.
    pub(super) fn is_last(&self) -> bool {
        usize::from(self.part) + 1 == self.bodies.len()
    }

    /// Whether the part may be in the log, or come into it, although nobody has read it there.
    pub(super) fn is_open(&self) -> bool {
        self.is_kept || !self.open.is_empty()
    }

    /// Whether anything was published.
    pub(super) const fn was_sent(&self) -> bool {
        self.was_sent
    }

    /// Whether this attempt published the part under way, and was not refused.
    pub(super) fn has_sent(&self, attempt: u64) -> bool {
        self.open.contains(&attempt)
    }

    /// The message to publish: the part, or a fence in its place once it is given up.
    pub(super) fn message(&mut self, attempt: u64) -> Vec<u8> {
        self.was_sent = true;
        let body = self.bodies.get(usize::from(self.part));
        let kind = if self.is_given_up {
            Kind::Fence
        } else {
            self.open.insert(attempt);
            Kind::Facts
        };
        Message {
            kind,
            after: self.at,
            append: self.id,
            part: self.part,
            parts: u16::try_from(self.bodies.len()).unwrap_or(u16::MAX),
            body: match kind {
                Kind::Facts => body.map_or(&[], Vec::as_slice),
                Kind::Fence | Kind::Trim => &[],
            },
        }
        .write()
    }

    /// Notes that the stream did not take an attempt.
    pub(super) fn refused(&mut self, attempt: u64) {
        self.open.remove(&attempt);
    }

    /// Begins anew behind another message, now that its first part can never come where it was to be.
    pub(super) fn begin_behind(&mut self, at: Place, now: Duration) {
        self.at = at;
        self.wait = Wait::Send(now);
        self.was_sent = false;
        self.is_kept = false;
        self.open.clear();
    }

    /// Goes on with the next part, behind the one that was under way.
    pub(super) fn next_part(&mut self, at: Place, now: Duration) {
        self.part += 1;
        self.at = at;
        self.wait = Wait::Send(now);
        self.is_read = false;
        self.is_kept = false;
        self.open.clear();
    }
}

/// About how many bytes a message takes on a server besides its facts.
pub(super) const MESSAGE_BYTES: u64 = 128;
