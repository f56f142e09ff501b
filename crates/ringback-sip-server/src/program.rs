//! The server's interface to the embedding program: what it asks for, and what it reports.

use std::sync::Arc;

use arc_swap::Guard;
use ringback_routing::{
    CallVia, Caller, Contacts, Decision, Directory, E164, EnvironmentId, ForwardedCall,
    LearnedCall, Timestamp,
};

/// Provides the state for decisions, as of the moment of each call. Called from many threads at once; must not
/// block.
pub trait Snapshots: Send + Sync + 'static {
    /// The remembered calls.
    type Contacts: Contacts;

    /// The current directory.
    fn directory(&self) -> Guard<Arc<Directory>>;

    /// The remembered calls.
    fn contacts(&self) -> &Self::Contacts;
}

/// Receives events. Called from many threads at once; must not block.
pub trait Events: Send + Sync + 'static {
    /// An INVITE that came this way was decided; called once for it, however often the INVITE is sent.
    fn decided(&self, call: &DecidedCall<'_, '_>, via: CallVia);

    /// An outbound call was seen, or a new status of it. The same call may be reported more than once.
    fn learned(&self, call: LearnedCall);

    /// A call that was decided at `at` and sent on has ended, or more is known of it since: this is all of it. False:
    /// the decision is not known yet, or not any more.
    fn forwarded(
        &self,
        environment: EnvironmentId,
        call_id: &[u8],
        at: Timestamp,
        call: &ForwardedCall,
    ) -> bool;

    /// An INVITE that was routed as callback was answered.
    fn answered(&self, environment: EnvironmentId, call_id: &[u8], at: Timestamp);
}

/// The embedding program: it provides the state and receives the events.
pub trait Program: Snapshots + Events {}

impl<P: Snapshots + Events> Program for P {}

/// An INVITE and its decision. Borrows from the message and from the directory.
#[derive(Clone, Copy, Debug)]
pub struct DecidedCall<'m, 'd> {
    /// The outcome, with its reason and targets.
    pub decision: Decision<'d>,
    /// The dialed number, if it could be read.
    pub dialed: Option<E164>,
    /// The caller, as read from the message.
    pub caller: Caller,
    /// `Call-ID`.
    pub call_id: &'m [u8],
    /// When it was decided.
    pub at: Timestamp,
}
