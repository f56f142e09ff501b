//! What clients can ask to be changed.
//!
//! A command checks everything before it touches the draft: one that fails has changed nothing.
//! A command of which fields could not be read (`is_misread`) changes nothing, but is checked as far as it
//! goes, so that a client is told everything that is wrong at once.

mod agent;
mod call;
mod environment;
mod number;
mod role;
mod route;
mod token;
mod view;

pub use agent::{CreateAgent, DeleteAgent, PublishAgent, UpdateAgent};
pub(crate) use call::RecordLearned;
pub use call::{
    BatchRecorded, ForgetContact, NewCall, RecordBatch, RecordCall, RecordCalls, UnreadCall,
};
pub use environment::{CreateEnvironment, DeleteEnvironment, UpdateEnvironment};
pub use number::{CreateNumber, DeleteNumber, SetDefaultAgent};
pub use role::{
    ConstraintCheck, ConstraintProblem, RemoveCallbackRole, RoleFields, RoleMode, SetCallbackRole,
    check_constraints,
};
pub use route::{ReportAnswered, RouteCall, RoutedAnswer};
pub use token::{ByToken, CreateToken, DeleteToken};
pub use view::{AgentView, NumberView, OwnerView};

use crate::{CommandError, Draft};

/// Something that a client asks to be changed.
pub trait Command: Send + 'static {
    /// What the client is told when it is done.
    type Output: Send + 'static;

    /// Carries the command out on the draft. Time and identifiers come from the draft alone: a command is run
    /// again where somebody else's change came first, and then leads to the same facts, as far as the newer
    /// state lets it.
    ///
    /// # Errors
    /// The command is against the rules; the draft is as it was.
    fn run(&self, draft: &mut Draft<'_>) -> Result<Self::Output, CommandError>;
}

/// What a request says of an optional setting.
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
    /// The setting that results, given the present one.
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
