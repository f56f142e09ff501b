//! Contacts as a decision sees them: the question and the answer. Whoever implements [`Contacts`] decides where
//! the calls are kept.

use crate::{AgentSlot, CallStatus, E164, EnvironmentSlot, Timestamp};

/// Where a decision finds a contact's calls.
pub trait Contacts {
    /// The calls remembered of a contact, newest first.
    ///
    /// # Errors
    /// The calls have to be read from storage, and cannot be at present.
    fn calls(
        &self,
        environment: EnvironmentSlot,
        contact: E164,
    ) -> Result<RecentCalls, ContactUnreadable>;

    /// Prepares for [`Self::calls`] of this contact, which will be called soon: an implementation may begin to fetch
    /// what it will read. Must not wait for it.
    fn prefetch(&self, _environment: EnvironmentSlot, _contact: E164) {}

    /// The source of the contact's newest call, as far as memory alone knows it. A hint: the caller prefetches
    /// what the decision will probably read.
    fn likely_source(&self, _environment: EnvironmentSlot, _contact: E164) -> Option<AgentSlot> {
        None
    }
}

/// What is remembered of a contact cannot be read at present, because storage is damaged or fails. Do not answer
/// as if nothing were remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the remembered calls of the contact cannot be read")]
pub struct ContactUnreadable;

/// A remembered outbound call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RememberedCall {
    /// The agent that called.
    pub source: AgentSlot,
    /// The number that it called from, if known; in an index, as its [subscriber](E164::subscriber).
    pub from: Option<E164>,
    /// When the call started, to the second.
    pub started_at: Timestamp,
    /// How far the call got, by the best report so far.
    pub status: CallStatus,
}

/// Up to four calls, newest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecentCalls {
    /// The calls, without gaps; `None` behind the last one.
    calls: [Option<RememberedCall>; Self::LIMIT],
}

impl RecentCalls {
    /// How many calls of a contact are remembered.
    pub const LIMIT: usize = 4;

    /// The calls, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &RememberedCall> {
        self.calls.iter().flatten()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.calls[0].is_none()
    }
}

impl FromIterator<RememberedCall> for RecentCalls {
    /// Takes the first four calls, and ignores the rest.
    fn from_iter<I: IntoIterator<Item = RememberedCall>>(calls: I) -> Self {
        let mut recent = Self::default();
        for (entry, call) in recent.calls.iter_mut().zip(calls) {
            *entry = Some(call);
        }
        recent
    }
}
