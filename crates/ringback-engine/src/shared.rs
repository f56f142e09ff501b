//! The state shared by the engine's threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use arc_swap::ArcSwap;
use ringback_routing::{Caller, Decision, Directory, E164};
use tokio::sync::watch;

use crate::contact_view::ContactView;
use crate::observed::Observed;
use crate::session::Sessions;
use crate::{Archive, Call, Clock, CommandError, Sequence};

/// The state shared by the engine's threads.
pub(crate) struct Shared {
    /// How many learned calls had no room in the outbox.
    pub(crate) outbox_dropped: AtomicU64,
    /// The directory that readers see.
    pub(crate) directory: Arc<ArcSwap<Directory>>,
    /// The remembered calls.
    pub(crate) contacts: ContactView,
    /// The committed data.
    pub(crate) archive: Arc<dyn Archive>,
    /// The sessions of the console.
    pub(crate) sessions: Sessions,
    /// Events of incoming calls.
    pub(crate) observed: Observed,
    /// The last entry of the log that readers see.
    pub(crate) applied: watch::Sender<Sequence>,
    /// Whether the last commit succeeded.
    pub(crate) storage_available: AtomicBool,
    /// How many learned calls were refused because their contacts have asked not to be called.
    pub(crate) refused_learned: AtomicU64,
    /// For how many days audit entries are kept.
    pub(crate) audit_days: u32,
    /// Whether the engine is being shut down.
    pub(crate) stopping: AtomicBool,
    /// The engine's source of time.
    pub(crate) clock: Box<dyn Clock>,
}

impl Shared {
    /// The recorded call that a decision matched.
    pub(crate) fn matched_call(
        &self,
        decision: &Decision<'_>,
        caller: Caller,
    ) -> Result<Option<Call>, CommandError> {
        let (Some(matched), Some(source), Caller::Number(contact)) =
            (decision.call, decision.source_agent, caller)
        else {
            return Ok(None);
        };
        let environment = source.record.environment;
        let directory = self.directory.load();
        let calls = self.contacts.exact(&directory, environment, contact);
        let calls = calls.map_err(|error| {
            tracing::error!(%error, "a contact could not be read");
            CommandError::StorageUnavailable
        })?;
        let found = calls.into_iter().find(|call| {
            call.agent == source.record.id
                && call.from.map(E164::subscriber) == matched.from.map(E164::subscriber)
        });
        Ok(found)
    }
}

/// How long routed calls are known, in milliseconds.
pub(crate) const ROUTED_KNOWN_MILLIS: i64 = 24 * 60 * 60 * 1_000;
