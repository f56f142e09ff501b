//! What the server asks the embedding program for, and tells it.

use std::sync::Arc;

use ringback_routing::{
    AgentId, CallStatus, Caller, Contacts, Decision, Directory, E164, EnvironmentId, Timestamp,
};

/// Where decisions come from and go to. Called from many threads at once; nothing may block.
pub trait Router: Send + Sync + 'static {
    /// The remembered calls.
    type Contacts: Contacts;

    /// The directory as it is now.
    fn directory(&self) -> arc_swap::Guard<Arc<Directory>>;

    /// The remembered calls.
    fn contacts(&self) -> &Self::Contacts;

    /// An INVITE was decided; called once for it however often it is sent.
    fn decided(
        &self,
        decision: &Decision<'_>,
        dialed: Option<E164>,
        caller: Caller,
        call_id: &[u8],
        at: Timestamp,
    );

    /// An outbound call was seen, or a further status of it. The same call may come more than once.
    fn learned(&self, call: LearnedCall);

    /// An INVITE that was routed as callback was answered.
    fn answered(&self, environment: EnvironmentId, call_id: &[u8], at: Timestamp);
}

/// An outbound call that passed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnedCall {
    /// The environment of the agent.
    pub environment: EnvironmentId,
    /// Who called.
    pub agent: AgentId,
    /// Who was called.
    pub contact: E164,
    /// The number that was called from, if it could be read.
    pub from: Option<E164>,
    /// How far the call got, as far as was seen.
    pub status: CallStatus,
    /// When it was captured first.
    pub started_at: Timestamp,
    /// Its Call-ID.
    pub sid: String,
    /// Whether it is seen for the first time; otherwise its status alone is news.
    pub is_new: bool,
}
