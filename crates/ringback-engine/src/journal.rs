//! What the engine asks of storage: a log that makes changes durable, and an archive to read back.
//!
//! The embedded store implements both; a replicated log can stand here without routing, SIP or HTTP
//! noticing.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use ringback_routing::{
    Agent, AgentId, E164, Environment, EnvironmentId, PhoneNumber, Timestamp, Token,
};

use crate::{Call, Change, CountKey, CountMark, RoutedEvent};

/// Makes changes durable, in order. Used by one thread.
pub trait Journal: Send + 'static {
    /// Makes all the changes durable, or none; when this returns `Ok`, they survive power loss, and
    /// the archive shows them.
    ///
    /// # Errors
    /// After an error nothing of this commit is ever shown or replayed, and the journal refuses
    /// further commits until [`Self::recover`] has succeeded.
    fn commit(&mut self, changes: &[Change]) -> Result<(), JournalError>;

    /// Tries to make a journal that failed usable again; cheap where nothing is wrong.
    ///
    /// # Errors
    /// Storage is still not to be written to.
    fn recover(&mut self) -> Result<(), JournalError>;

    /// The archive that shows what was committed.
    fn archive(&self) -> Arc<dyn Archive>;
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

    /// Every event of incoming calls since this instant, in the order committed.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    fn routed_since(&self, since: Timestamp) -> Result<Vec<RoutedEvent>, JournalError>;

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

    /// Removes, for good and in the background of everything else, the calls of which `keep` says
    /// so, and events of incoming calls from before `routed_before`. Returns how many calls went.
    ///
    /// # Errors
    /// Storage cannot be written to; what was removed so far stays removed.
    fn sweep(
        &self,
        keep: &mut dyn FnMut(&Call) -> bool,
        routed_before: Timestamp,
    ) -> Result<u64, JournalError>;

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
