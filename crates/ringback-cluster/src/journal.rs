//! The journal of a node in a cluster: entries come from the shared log, and its own store keeps what they lead to.

use std::collections::VecDeque;
use std::sync::Arc;

use ringback_engine::{
    AppendError, Archive, Change, Entry, Journal, JournalError, LogPlace, Outbox, Sequence,
};
use uuid::Uuid;

use crate::link::Link;
use crate::replica::{Answer, Applied};
use crate::{AppendId, Chain, OutboxFile, Place};

/// How facts are written and read: the store's way.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    /// The bytes of facts.
    pub write: fn(&[Change]) -> Result<Vec<u8>, JournalError>,
    /// The facts in bytes, or what cannot be read.
    pub read: fn(&[u8]) -> Result<Vec<Change>, String>,
}

/// A journal whose log is shared by several nodes, and whose archive is the store of this one.
///
/// Sequences are those of the log. With each entry the store keeps the place in the log, in one commit, so that a
/// node goes on where its store is.
#[derive(Debug)]
pub struct ClusterJournal<S, L> {
    /// The store of this node.
    store: S,
    /// The log.
    link: L,
    /// How facts are written.
    codec: Codec,
    /// Where the node keeps what the log does not have yet.
    outbox: Option<OutboxFile>,
    /// The cluster.
    cluster: Uuid,
    /// The last entry that the store has.
    position: Sequence,
    /// Entries that were taken from the log and are not in the store yet.
    taken: VecDeque<Applied>,
    /// What was appended here last and has not come back yet. The log does not have the facts that concern only
    /// this node.
    own: Option<(AppendId, Vec<Change>)>,
}

impl<S: Journal, L: Link> ClusterJournal<S, L> {
    /// A journal that goes on where its store is.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn new(store: S, link: L, codec: Codec, cluster: Uuid) -> Result<Self, JournalError> {
        let place = store.archive().place()?;
        Ok(Self {
            store,
            link,
            codec,
            outbox: None,
            cluster,
            position: Sequence(place.map_or(0, |place| place.sequence)),
            taken: VecDeque::new(),
            own: None,
        })
    }

    /// The same with a place for what the log does not have yet.
    #[must_use]
    pub fn with_outbox(mut self, outbox: OutboxFile) -> Self {
        self.outbox = Some(outbox);
        self
    }

    /// Where a store is in the log of its cluster, and which cluster this is.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn place_of(store: &S) -> Result<Option<(Uuid, Place)>, JournalError> {
        let stored = store.archive().place()?;
        Ok(stored.map(|stored| {
            let place = Place {
                sequence: stored.sequence,
                chain: Chain(stored.chain),
            };
            (stored.cluster, place)
        }))
    }

    /// The store.
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// Whether this was appended here, and is remembered.
    fn is_own(&self, applied: &Applied) -> bool {
        self.own
            .as_ref()
            .is_some_and(|(own, _)| *own == applied.append)
    }

    /// Takes the next entries from the log: one of this node alone, of others as many as there are, so that a node
    /// that is behind does not wait for its disk after each.
    fn take(&mut self) {
        let mut bytes = self.taken.iter().map(|one| one.facts.len()).sum::<usize>();
        while self.taken.back().is_none_or(|last| !self.is_own(last))
            && bytes < BYTES_AT_ONCE
            && let Some(applied) = self.link.next()
        {
            bytes += applied.facts.len();
            self.taken.push_back(applied);
        }
    }

    /// Puts entries that were taken into the store as one, and returns their facts: what was appended here, or what
    /// the log has.
    fn keep(&mut self) -> Result<Option<Entry>, JournalError> {
        self.take();
        let others = self.taken.iter().take_while(|one| !self.is_own(one));
        let others = others.count();
        let is_own = others == 0;
        let count = others.max(1);
        let Some(place) = self.taken.get(count - 1).map(|last| last.place) else {
            return Ok(None);
        };
        let mut facts = Vec::new();
        for applied in self.taken.iter().take(others) {
            facts.append(&mut self.read(applied)?);
        }
        let own = self.own.take_if(|_| is_own).map(|(id, own)| {
            facts = own;
            id
        });
        let sequence = Sequence(place.sequence);
        facts.push(Change::Placed(Some(LogPlace {
            cluster: self.cluster,
            sequence: sequence.0,
            chain: place.chain.0,
        })));
        if let Err(error) = self.store.append(self.store.position(), &mut facts) {
            facts.pop();
            self.own = self.own.take().or_else(|| own.map(|id| (id, facts)));
            return Err(match error {
                AppendError::Journal(error) => error,
                error => JournalError::Unavailable(Box::new(error)),
            });
        }
        self.taken.drain(..count);
        let entry = self.store.committed()?;
        let mut facts = entry.map(|entry| entry.facts).unwrap_or_default();
        facts.pop();
        self.position = sequence;
        self.link.stored(sequence.0);
        Ok(Some(Entry {
            sequence,
            facts,
            is_own,
        }))
    }

    /// Reads the facts of an entry that concern all nodes.
    fn read(&self, applied: &Applied) -> Result<Vec<Change>, JournalError> {
        if applied.facts.is_empty() {
            return Ok(Vec::new());
        }
        let mut facts = (self.codec.read)(&applied.facts).map_err(|what| {
            JournalError::Damaged(format!("entry {}: {what}", applied.place.sequence))
        })?;
        facts.retain(|fact| !fact.is_local());
        Ok(facts)
    }

    /// The bytes of the facts that concern all nodes.
    fn write(&self, facts: &[Change]) -> Result<Vec<u8>, JournalError> {
        if facts.iter().any(Change::is_local) {
            let shared = facts.iter().filter(|fact| !fact.is_local()).cloned();
            (self.codec.write)(&shared.collect::<Vec<_>>())
        } else {
            (self.codec.write)(facts)
        }
    }
}

impl<S: Journal, L: Link> Journal for ClusterJournal<S, L> {
    fn position(&self) -> Sequence {
        self.position
    }

    fn append(
        &mut self,
        expected: Sequence,
        facts: &mut Vec<Change>,
    ) -> Result<Sequence, AppendError> {
        if expected != self.position {
            return Err(AppendError::Conflict);
        }
        if facts.is_empty() {
            return Ok(expected);
        }
        if !self.link.is_settled() {
            return Err(AppendError::Unreachable);
        }
        let bytes = self.write(facts)?;
        let only_removes = facts.iter().all(only_removes);
        let (id, answer) = self.link.append(expected.0, bytes, only_removes);
        match answer {
            Answer::Committed(sequence) => {
                self.own = Some((id, std::mem::take(facts)));
                Ok(Sequence(sequence))
            }
            Answer::Unconfirmed => {
                self.own = Some((id, facts.clone()));
                Err(AppendError::Unconfirmed)
            }
            Answer::Conflict => Err(AppendError::Conflict),
            Answer::Unavailable => Err(AppendError::Unreachable),
            Answer::Full => Err(AppendError::Full),
        }
    }

    fn committed(&mut self) -> Result<Option<Entry>, JournalError> {
        self.keep()
    }

    fn watch(&mut self, wake: Box<dyn Fn() + Send + Sync>) {
        self.link.watch(wake);
    }

    fn recover(&mut self) -> Result<(), JournalError> {
        self.store.recover()?;
        if self.link.is_settled() {
            Ok(())
        } else {
            Err(JournalError::Unavailable(Box::new(
                AppendError::Unconfirmed,
            )))
        }
    }

    fn outbox(&mut self) -> Option<&mut dyn Outbox> {
        let outbox = self.outbox.as_mut()?;
        Some(outbox)
    }

    fn archive(&self) -> Arc<dyn Archive> {
        self.store.archive()
    }
}

/// Whether a fact is needed to forget a contact.
const fn only_removes(fact: &Change) -> bool {
    matches!(
        fact,
        Change::ContactForgotten(..) | Change::Audited(_) | Change::Answered(_)
    )
}

/// About how many bytes of entries go into the store at once.
const BYTES_AT_ONCE: usize = 4 << 20;
