//! What the server asks the embedding program for, and what it tells it.

use std::sync::Arc;

use arc_swap::Guard;
use ringback_routing::{
    Caller, Contacts, Decision, Directory, E164, EnvironmentId, LearnedCall, Timestamp,
};

/// Where decisions come from: what is known at the moment of asking. Called from many threads at once;
/// nothing may block.
pub trait Snapshots: Send + Sync + 'static {
    /// The remembered calls.
    type Contacts: Contacts;

    /// The directory as it is now.
    fn directory(&self) -> Guard<Arc<Directory>>;

    /// The remembered calls.
    fn contacts(&self) -> &Self::Contacts;
}

/// Where news goes. Called from many threads at once; nothing may block.
pub trait Events: Send + Sync + 'static {
    /// An INVITE was decided; called once for it however often it is sent.
    fn decided(&self, call: &DecidedCall<'_, '_>);

    /// An outbound call was seen, or a further status of it. The same call may come more than once.
    fn learned(&self, call: LearnedCall);

    /// An INVITE that was routed as callback was answered.
    fn answered(&self, environment: EnvironmentId, call_id: &[u8], at: Timestamp);
}

/// The embedding program: it says what is known, and hears the news.
pub trait Program: Snapshots + Events {}

impl<P: Snapshots + Events> Program for P {}

/// An INVITE and what was decided on it. Borrows from the message and from the directory.
#[derive(Clone, Copy, Debug)]
pub struct DecidedCall<'m, 'd> {
    /// What becomes of it, and why.
    pub decision: Decision<'d>,
    /// The dialed number, if it could be read.
    pub dialed: Option<E164>,
    /// Who calls.
    pub caller: Caller,
    /// `Call-ID`.
    pub call_id: &'m [u8],
    /// When it was decided.
    pub at: Timestamp,
}
