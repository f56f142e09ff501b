//! What the server asks the embedding program for, and tells it.

use std::sync::Arc;

use ringback_routing::{
    Caller, Contacts, Decision, Directory, E164, EnvironmentId, LearnedCall, Timestamp,
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
