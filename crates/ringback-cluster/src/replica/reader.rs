//! Reads the log in order: a message is taken if it is the next one and names the one before it, and no other is.

use std::collections::VecDeque;

use crate::wire::{Chain, Kind, Message};
use crate::{AppendId, MessageError, Place};

/// The end of the log as far as it was read.
#[derive(Debug)]
pub(super) struct Reader {
    /// The last message that was read.
    tail: Place,
    /// The latest messages, ascending, the last one being `tail`.
    recent: VecDeque<Place>,
    /// Parts whose last one was not read yet.
    partial: Option<Partial>,
}

/// Parts of an append, as far as they were read.
#[derive(Debug)]
struct Partial {
    /// The append.
    append: AppendId,
    /// How many there are.
    parts: u16,
    /// The index of the next one.
    next: u16,
    /// Their bodies.
    body: Vec<u8>,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was read before.
    Before,
    /// It is the next one.
    Next(Next),
    /// One or more before it are missing.
    Ahead,
}

/// The next message of the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// Which append it belongs to.
    pub(super) append: AppendId,
    /// Which part it is; `None`: it has no facts.
    pub(super) part: Option<u16>,
    /// The floor of the log, if it is a marker.
    pub(super) floor: Option<u64>,
    /// The facts that take effect with it.
    pub(super) facts: Option<Vec<u8>>,
}

/// Why the log cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The message does not follow what was read: somebody has changed the log.
    Rewritten(u64),
    /// The message cannot be read.
    Unreadable(u64, MessageError),
}

impl Reader {
    /// A reader that goes on behind this message.
    pub(super) fn new(tail: Place) -> Self {
        Self {
            tail,
            recent: VecDeque::from([tail]),
            partial: None,
        }
    }

    /// The last message that was read.
    pub(super) const fn tail(&self) -> Place {
        self.tail
    }

    /// The chain at one of the latest messages.
    pub(super) fn chain_at(&self, sequence: u64) -> Option<Chain> {
        let first = self.recent.front()?.sequence;
        let index = usize::try_from(sequence.checked_sub(first)?).ok()?;
        self.recent.get(index).map(|place| place.chain)
    }

    /// The append of which the log has some parts, and not the last one.
    pub(super) fn unfinished(&self) -> Option<AppendId> {
        self.partial.as_ref().map(|partial| partial.append)
    }

    /// Takes a message, if it is the next one.
    pub(super) fn take(&mut self, sequence: u64, bytes: &[u8]) -> Result<Taken, Broken> {
        if sequence <= self.tail.sequence {
            let before = sequence
                .checked_sub(1)
                .and_then(|before| self.chain_at(before));
            let expected = before.map(|chain| chain.then(bytes));
            return match (self.chain_at(sequence), expected) {
                (Some(known), Some(now)) if known != now => Err(Broken::Rewritten(sequence)),
                _ => Ok(Taken::Before),
            };
        }
        if sequence > self.tail.sequence + 1 {
            return Ok(Taken::Ahead);
        }
        let message = Message::read(bytes).map_err(|error| Broken::Unreadable(sequence, error))?;
        if message.after != self.tail {
            return Err(Broken::Rewritten(sequence));
        }
        self.tail = Place {
            sequence,
            chain: self.tail.chain.then(bytes),
        };
        self.recent.push_back(self.tail);
        if self.recent.len() > CHAINS_KEPT {
            self.recent.pop_front();
        }
        Ok(Taken::Next(Next {
            append: message.append,
            part: (message.kind == Kind::Facts).then_some(message.part),
            floor: message.floor(),
            facts: self.assemble(&message),
        }))
    }

    /// Adds a message to the parts before it; returns the facts if it is the last one. Parts that another message
    /// interrupts never take effect.
    fn assemble(&mut self, message: &Message<'_>) -> Option<Vec<u8>> {
        let partial = self.partial.take();
        match message.kind {
            Kind::Facts => {}
            Kind::Fence => return None,
            // An entry of its own, so that a node keeps that it has read it: the marker may be all that is left.
            Kind::Trim => return Some(Vec::new()),
        }
        let mut body = match partial {
            _ if message.part == 0 => Vec::new(),
            Some(partial)
                if (partial.append, partial.parts, partial.next)
                    == (message.append, message.parts, message.part) =>
            {
                partial.body
            }
            _ => return None,
        };
        body.extend_from_slice(message.body);
        if message.part + 1 == message.parts {
            return Some(body);
        }
        self.partial = Some(Partial {
            append: message.append,
            parts: message.parts,
            next: message.part + 1,
            body,
        });
        None
    }
}

/// How many chains are kept to compare with those of other nodes, and with messages that come again.
const CHAINS_KEPT: usize = 4_096;
