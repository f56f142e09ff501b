//! The engine's interface to storage: a log of facts, to which other nodes may append as well, and an archive to
//! read the resulting state.
//!
//! The embedded store implements both, and so does a journal in memory for tests. A log that several nodes share
//! can replace it without a change to routing, SIP or HTTP. All of them pass the battery in `ringback-testkit`.

use std::collections::HashMap;
use std::io;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use ringback_routing::{
    Agent, AgentId, Assignment, Connector, ContactHash, ContactRights, E164, Environment,
    EnvironmentId, PhoneNumber, Timestamp, Token, TokenHash,
};

use crate::{
    AnswerId, AuditEntry, AuditId, Call, Change, CountKey, CountMark, ErasureSecret, KeptAnswer,
    LogPlace, Outbox, RoutedEvent, Session, Tombstone,
};

/// A log of facts. One thread uses it: it appends facts, and applies every entry that the log returns.
pub trait Journal: Send + 'static {
    /// The last entry that the archive contained when the journal was opened, or that [`Self::committed`] has
    /// returned since.
    fn position(&self) -> Sequence;

    /// Makes all the facts durable as one entry, or none of them. After `Ok` they survive power loss, and the
    /// list is empty: [`Self::committed`] returns the facts in their turn, behind those that other nodes appended
    /// before.
    ///
    /// `expected` is the entry up to which the facts were checked. Facts belong to the whole log, except those
    /// for which [`Change::is_local`] is true. An empty list makes no entry.
    ///
    /// # Errors
    /// The list is unchanged. After [`AppendError::Conflict`] try again on a newer state, from
    /// [`Self::committed`]. After [`AppendError::Unconfirmed`] the entry may still be returned, after any other error
    /// never. After that one and [`AppendError::Journal`] the journal refuses to append until [`Self::recover`] has
    /// succeeded.
    fn append(
        &mut self,
        expected: Sequence,
        facts: &mut Vec<Change>,
    ) -> Result<Sequence, AppendError>;

    /// The next entry of the log, from this node or another, once; `None` if there is none yet. Never blocks.
    /// From then on the archive shows the entry, if it did not before.
    ///
    /// # Errors
    /// The log cannot be read. Nothing is skipped: the same entry may come later.
    fn committed(&mut self) -> Result<Option<Entry>, JournalError>;

    /// Sets a function to be called, from any thread, whenever other nodes may have appended an entry. A log with
    /// a single writer never calls it.
    fn watch(&mut self, _wake: Box<dyn Fn() + Send + Sync>) {}

    /// Tries to make a failed journal usable again; cheap if nothing is wrong. Once it succeeds, an entry that was
    /// unconfirmed comes from [`Self::committed`] before any other, or never.
    ///
    /// # Errors
    /// Storage still accepts no writes.
    fn recover(&mut self) -> Result<(), JournalError>;

    /// Where this node keeps what the log does not have yet. A log that only this node writes to needs no such place.
    fn outbox(&mut self) -> Option<&mut dyn Outbox> {
        None
    }

    /// The archive that shows the committed state.
    fn archive(&self) -> Arc<dyn Archive>;
}

/// The position of an entry in the log. Zero is before the first entry; each is greater than those before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// Facts that became durable together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its position in the log.
    pub sequence: Sequence,
    /// The facts, in the order in which to apply them.
    pub facts: Vec<Change>,
    /// Whether this node has appended it since the journal was opened.
    pub is_own: bool,
}

/// Why facts were not appended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The log has entries behind the expected last one, and the facts may contradict them: apply those entries
    /// and check again.
    #[error("the log has newer entries")]
    Conflict,
    /// The log that nodes share cannot be reached, or this node must not write to it. May pass.
    #[error("the log cannot be reached")]
    Unreachable,
    /// The log that nodes share takes no more.
    #[error("the log is full")]
    Full,
    /// Nobody knows whether the log that nodes share has the entry, or will have it.
    #[error("the log has not confirmed the entry")]
    Unconfirmed,
    /// Storage failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Reads the committed state; shared by all threads.
pub trait Archive: Send + Sync + 'static {
    /// Everything that makes up the directory.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    fn directory(&self) -> Result<StoredDirectory, JournalError>;

    /// The counters.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    fn counts(&self) -> Result<StoredCounts, JournalError>;

    /// Which batches of SIP calls the counters contain, by the latest [`Change::BatchesCounted`].
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    fn count_mark(&self) -> Result<CountMark, JournalError>;

    /// The place in a log that nodes share, by the latest [`Change::Placed`].
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    fn place(&self) -> Result<Option<LogPlace>, JournalError>;

    /// Shows every event of incoming calls since this instant: first the calls, then the answers. Both are
    /// ordered by the latest event of their commit, and for equal times by commit. The visitor gets each event
    /// once; the archive keeps no copy.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    fn visit_routed(
        &self,
        since: Timestamp,
        visitor: &mut dyn FnMut(RoutedEvent),
    ) -> Result<(), JournalError>;

    /// The call with this id.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    fn call(&self, environment: EnvironmentId, sid: &str) -> Result<Option<Call>, JournalError>;

    /// Shows every call to this contact that started within these bounds (the first is included, the second is
    /// not), in any order, also calls of deleted agents.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    fn visit_calls(
        &self,
        environment: EnvironmentId,
        contact: E164,
        within: Range<Timestamp>,
        visitor: &mut dyn FnMut(Call),
    ) -> Result<(), JournalError>;

    /// Every call to this contact, in any order, also calls of deleted agents. The list may be long.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    fn calls_to(
        &self,
        environment: EnvironmentId,
        contact: E164,
    ) -> Result<Vec<Call>, JournalError> {
        let mut calls = Vec::new();
        self.visit_calls(environment, contact, ALL_TIMES, &mut |call| {
            calls.push(call)
        })?;
        Ok(calls)
    }

    /// Shows every contact with all of its calls, until the visitor stops.
    ///
    /// `part` of `parts` (0-based) takes an equal share of the contacts, so that several threads
    /// can read side by side; a share is what its own parts take together.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    #[expect(
        clippy::type_complexity,
        reason = "spelled out where it is implemented and called"
    )]
    fn visit_contacts(
        &self,
        part: usize,
        parts: usize,
        visitor: &mut dyn FnMut(EnvironmentId, E164, &[Call]) -> ControlFlow<()>,
    ) -> Result<(), JournalError>;

    /// Shows the audit entries, latest first, until the visitor stops: those before the entry with this identifier, or
    /// all.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    fn visit_audit(
        &self,
        before: Option<AuditId>,
        visitor: &mut dyn FnMut(AuditEntry) -> ControlFlow<()>,
    ) -> Result<(), JournalError>;

    /// The audit entry with this identifier.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    fn audit_entry(&self, id: AuditId) -> Result<Option<AuditEntry>, JournalError>;

    /// The secret that keys the hashes of erased contacts; `None`: none was needed so far.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    fn erasure_secret(&self) -> Result<Option<ErasureSecret>, JournalError>;

    /// Shows what is left of erased contacts, each once, in the order of their hashes, until the visitor stops.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    fn visit_tombstones(
        &self,
        visitor: &mut dyn FnMut(Tombstone) -> ControlFlow<()>,
    ) -> Result<(), JournalError>;

    /// The latest answer that was kept under this name, also one that is over.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    fn kept_answer(&self, id: AnswerId) -> Result<Option<KeptAnswer>, JournalError>;

    /// Removes data that no reader sees: the rest that [`Change::RoutedSwept`] with this instant left, and answers
    /// that were kept before it. Also renews the filter of call ids before a sweep that visits every contact.
    ///
    /// # Errors
    /// Storage cannot be read or written to; nothing is lost by that.
    fn tidy(&self, _routed_before: Timestamp) -> Result<(), JournalError> {
        Ok(())
    }

    /// Writes one state of everything as a stream from which storage can be made again, while readers and the writer
    /// go on. It has every entry that the archive showed before the call. `at` is the time to note in it.
    ///
    /// # Errors
    /// Storage cannot be read, the stream cannot be written, or this archive keeps nothing that could be restored.
    /// The stream is then not whole, and readers of it notice.
    fn write_backup(&self, _at: Timestamp, _to: &mut dyn io::Write) -> Result<(), BackupError> {
        Err(BackupError::Unsupported)
    }

    /// As [`Self::write_backup`], with the place in the log that nodes share: what is made from it goes on there.
    ///
    /// # Errors
    /// As [`Self::write_backup`].
    fn write_snapshot(&self, _at: Timestamp, _to: &mut dyn io::Write) -> Result<(), BackupError> {
        Err(BackupError::Unsupported)
    }

    /// The number of damaged positions known in storage, met by a read or found by a check.
    fn damaged_places(&self) -> u64 {
        0
    }
}

/// The stored part of the directory, each kind in the order of its creation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredDirectory {
    /// Environments.
    pub environments: Vec<Environment>,
    /// Agents.
    pub agents: Vec<Agent>,
    /// Numbers.
    pub numbers: Vec<PhoneNumber>,
    /// Which numbers are assigned to which agents, in order of assignment.
    pub assignments: Vec<Assignment>,
    /// Tokens.
    pub tokens: Vec<Token>,
    /// Connectors.
    pub connectors: Vec<Connector>,
    /// The sessions of the console that were not ended, by the hash of their cookie.
    pub sessions: HashMap<TokenHash, Session>,
    /// The last names of deleted agents.
    pub departed: HashMap<AgentId, String>,
    /// What contacts asked for.
    pub contact_rights: HashMap<ContactHash, ContactRights>,
}

/// Every instant that a call can have.
pub(crate) const ALL_TIMES: Range<Timestamp> =
    Timestamp::from_millis(i64::MIN)..Timestamp::from_millis(i64::MAX);

/// The counters.
pub type StoredCounts = HashMap<CountKey, u64>;

/// Why a backup could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// Storage cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The stream cannot be written: whoever reads it has gone.
    #[error("the backup cannot be written")]
    Write(#[source] io::Error),
    /// Nothing is stored that could be restored.
    #[error("this storage cannot be backed up")]
    Unsupported,
}

/// Why storage failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Storage cannot be written or read at present: full, read-only or failing. May pass.
    #[error("storage is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Stored data is damaged at this position. Does not pass by itself.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
}
