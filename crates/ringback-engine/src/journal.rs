//! What the engine asks of storage: a log of facts, which others may append to as well, and an archive to
//! read back what the log has led to.
//!
//! The embedded store implements both, and so does a journal in memory for tests; a log that several nodes
//! share can stand here without routing, SIP or HTTP noticing. All of them pass the battery in
//! `ringback-testkit`.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use ringback_routing::{
    Agent, AgentId, Assignment, E164, Environment, EnvironmentId, PhoneNumber, Timestamp, Token,
};

use crate::{Call, Change, CountKey, CountMark, RoutedEvent};

/// A log of facts. Used by one thread, which appends to it and applies whatever comes out of it.
pub trait Journal: Send + 'static {
    /// The last entry that the archive contained when the journal was opened, or that [`Self::committed`]
    /// has given out since.
    fn position(&self) -> Sequence;

    /// Makes all the facts durable as one entry, or none of them. When this returns `Ok`, they survive power
    /// loss, and the list is empty: the facts come back from [`Self::committed`], which gives them out when it
    /// is their turn, behind those that others have appended before.
    ///
    /// `expected` is the entry up to which the facts were checked. Facts are facts of the whole log, but for
    /// those of which [`Change::is_local`] says otherwise. An empty list is no entry: nothing happens.
    ///
    /// # Errors
    /// The list is as it was. After [`AppendError::Conflict`] the same may be tried again on a newer state,
    /// which comes from [`Self::committed`]. After any other error nothing of this entry is ever given out, and
    /// the journal refuses to append until [`Self::recover`] has succeeded.
    fn append(
        &mut self,
        expected: Sequence,
        facts: &mut Vec<Change>,
    ) -> Result<Sequence, AppendError>;

    /// The next entry of the log, of this node or of another, once; `None` if there is none yet: it waits for
    /// nobody. From then on the archive shows the entry, if it did not before.
    ///
    /// # Errors
    /// The log cannot be read. Nothing is skipped: the same entry may come later.
    fn committed(&mut self) -> Result<Option<Entry>, JournalError>;

    /// Has this function called, from any thread, whenever others may have appended something. A log that
    /// nobody else appends to never calls it.
    fn watch(&mut self, _wake: Box<dyn Fn() + Send + Sync>) {}

    /// Tries to make a journal that failed usable again; cheap where nothing is wrong.
    ///
    /// # Errors
    /// Storage is still not to be written to.
    fn recover(&mut self) -> Result<(), JournalError>;

    /// The archive that shows what was committed.
    fn archive(&self) -> Arc<dyn Archive>;
}

/// The place of an entry in the log. Zero stands before the first entry; each is greater than those before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// Facts that became durable together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub sequence: Sequence,
    /// The facts, in the order in which they are to be applied.
    pub facts: Vec<Change>,
}

/// Why facts were not appended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The log has entries behind the one that was expected to be its last, and the facts may not go together
    /// with them: apply those and check again.
    #[error("the log has gone on")]
    Conflict,
    /// Storage did not do it.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Reads what was committed; shared by all threads.
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

    /// Which batches of SIP calls the counters contain: what the latest [`Change::BatchesCounted`] said.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    fn count_mark(&self) -> Result<CountMark, JournalError>;

    /// Shows every event of incoming calls since this instant: first the calls, then the answers to them, each
    /// in the order of the latest event of what was committed with them; of equal times, in the order
    /// committed. Nothing is kept of what was shown.
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

    /// Shows every call to this contact that started within these bounds (the first is included, the
    /// second is not), in any order, those of deleted agents among them. Nothing is kept of what was shown.
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

    /// Every call to this contact, in any order, those of deleted agents among them: as many as there are.
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

    /// Shows every contact with all of its calls, until the visitor breaks off.
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

    /// Tidies up what no reader sees: what [`Change::RoutedSwept`] with this instant has left behind, and what
    /// helps to look calls up, for a sweep that is about to visit every contact.
    ///
    /// # Errors
    /// Storage cannot be read or written to; nothing is lost by that.
    fn tidy(&self, _routed_before: Timestamp) -> Result<(), JournalError> {
        Ok(())
    }

    /// How many places in storage are known to be damaged, because a read met them or because they
    /// were looked for.
    fn damaged_places(&self) -> u64 {
        0
    }
}

/// The stored part of the directory, each kind in the order of its creation.
#[derive(Clone, Debug, Default)]
pub struct StoredDirectory {
    /// Environments.
    pub environments: Vec<Environment>,
    /// Agents.
    pub agents: Vec<Agent>,
    /// Numbers.
    pub numbers: Vec<PhoneNumber>,
    /// Which numbers are assigned to which agents.
    pub assignments: Vec<Assignment>,
    /// Tokens.
    pub tokens: Vec<Token>,
    /// The last names of deleted agents.
    pub departed: HashMap<AgentId, String>,
}

/// Every instant that a call can have.
pub(crate) const ALL_TIMES: Range<Timestamp> =
    Timestamp::from_millis(i64::MIN)..Timestamp::from_millis(i64::MAX);

/// The counters.
pub type StoredCounts = HashMap<CountKey, u64>;

/// Why storage did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Storage cannot be written or read right now: full, read-only, failing. May pass.
    #[error("storage is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is stored is damaged here. Does not pass.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
}
