//! The stream as its clients see it.

use std::time::Duration;

use crate::replica::{Refusal, StreamState};

/// A stream: one log, whatever servers keep it.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The messages from sequence 1 on; damage has taken those that are `None`.
    messages: Vec<Option<Vec<u8>>>,
    /// When it took each of them.
    times: Vec<Duration>,
    /// How many of them were purged.
    purged: usize,
    /// Whether it can be written to.
    pub(super) has_leader: bool,
    /// How many messages an old leader knows, which answers although it leads nobody.
    stale: usize,
}

impl Stream {
    /// Publishes a message, if `after` is the last sequence.
    pub(super) fn publish(
        &mut self,
        now: Duration,
        after: u64,
        message: Vec<u8>,
    ) -> Result<u64, Refusal> {
        if after != self.messages.len() as u64 {
            return Err(Refusal::NotLast(Some(self.messages.len() as u64)));
        }
        self.messages.push(Some(message));
        self.times.push(now);
        Ok(after + 1)
    }

    /// Loses its leader; what that one knew goes on being told.
    pub(super) fn lose_leader(&mut self) {
        self.has_leader = false;
        self.stale = self.messages.len();
    }

    /// What the leader, or the old one, has.
    pub(super) fn read(&self, sequence: u64, stale: bool) -> Option<Vec<u8>> {
        let index = usize::try_from(sequence).ok()?.checked_sub(1)?;
        if stale && index >= self.stale || index < self.purged {
            return None;
        }
        self.messages.get(index)?.clone()
    }

    /// The first message from this sequence on, as a consumer gets it.
    pub(super) fn next_from(&self, sequence: u64) -> Option<(u64, Vec<u8>)> {
        (sequence..=self.messages.len() as u64)
            .find_map(|sequence| Some((sequence, self.read(sequence, false)?)))
    }

    /// Its state, by its leader or the old one.
    pub(super) fn state(&self, stale: bool) -> StreamState {
        StreamState {
            first: self.purged as u64 + 1,
            bytes: 0,
            last: if stale {
                self.stale
            } else {
                self.messages.len()
            } as u64,
        }
    }

    /// The last message that was taken before this time.
    pub(super) fn last_before(&self, time: Duration) -> u64 {
        self.times.partition_point(|at| *at < time) as u64
    }

    /// Drops the messages before this one.
    pub(super) fn purge(&mut self, floor: u64) {
        self.purged = self.purged.max(floor as usize - 1).min(self.messages.len());
    }

    /// The first message that was not purged.
    pub(super) fn first(&self) -> u64 {
        self.purged as u64 + 1
    }

    /// How many messages it has had.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// All messages.
    pub(super) fn messages(&self) -> impl Iterator<Item = &[u8]> {
        self.messages.iter().flatten().map(Vec::as_slice)
    }

    /// Loses everything behind this many messages, as a stream does that was restored from a backup.
    pub(super) fn go_back(&mut self, length: usize) {
        self.messages.truncate(length);
        self.times.truncate(length);
        self.purged = self.purged.min(length);
        self.stale = self.stale.min(length);
    }

    /// Loses one message, as a cut file does.
    pub(super) fn lose(&mut self, sequence: usize) {
        self.messages[sequence - 1] = None;
    }
}
