//! Changes that clients can request.
//!
//! A command checks everything before it changes the draft: one that fails has changed nothing. A command with
//! fields that could not be read (`is_misread`) changes nothing, but checks its other fields, so that a client
//! gets all errors at once.

mod agent;
mod call;
mod connector;
mod contact;
mod environment;
mod number;
mod role;
mod route;
mod token;
mod undo;
mod view;

pub use agent::{CreateAgent, DeleteAgent, PublishAgent, UpdateAgent};
pub(crate) use call::RecordLearned;
pub use call::{BatchRecorded, NewCall, RecordBatch, RecordCall, RecordCalls, UnreadCall};
pub use connector::{CreateConnector, DeleteConnector, RotateConnector, UpdateConnector};
pub(crate) use contact::is_opted_out;
pub use contact::{
    EndOptOut, ForgetContact, NewOptOut, OptOutContact, OptOutContacts, ReassignContact,
    ReassignContacts, Reassignment,
};
pub use environment::{CreateEnvironment, DeleteEnvironment, HoldTarget, UpdateEnvironment};
pub use number::{CreateNumber, DeleteNumber, SetDefaultAgent};
pub use role::{
    ConstraintCheck, ConstraintProblem, RemoveCallbackRole, RoleFields, RoleMode, SetCallbackRole,
    check_constraints,
};
pub(crate) use route::{Incoming, decide_from_memory};
pub use route::{ReportAnswered, RouteCall, RoutedAnswer};
pub use token::{ByToken, CreateToken, DeleteToken};
pub use undo::UndoChange;
pub use view::{AgentView, NumberView, OwnerView};

use crate::{CommandError, Draft};

/// A change that a client requests.
pub trait Command: Send + 'static {
    /// The result for the client.
    type Output: Send + 'static;

    /// Whether the command may take effect on this node alone while the log cannot be reached, and come into the log
    /// later. Its changes are then events of incoming calls and nothing else.
    const CAN_WAIT: bool = false;

    /// Runs the command on the draft. Time and identifiers come from the draft alone. If a change of another node
    /// came first, the command runs again on the newer state, and makes the same facts as far as that state
    /// allows.
    ///
    /// # Errors
    /// The command is against the rules; the draft is unchanged.
    fn run(&self, draft: &mut Draft<'_>) -> Result<Self::Output, CommandError>;
}

/// An optional setting in a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Override<T> {
    /// Nothing: it stays.
    #[default]
    Keep,
    /// `null`: it is cleared.
    Clear,
    /// A value.
    Set(T),
}

impl<T> Override<T> {
    /// The setting after the request, from the current one.
    pub fn apply(&self, present: Option<T>) -> Option<T>
    where
        T: Clone,
    {
        match self {
            Self::Keep => present,
            Self::Clear => None,
            Self::Set(value) => Some(value.clone()),
        }
    }
}
