//! Why a command was not carried out.

/// What is wrong with one field of what a command was given; whoever speaks to the client finds the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// The field.
    pub field: Field,
    /// What is wrong with it.
    pub fault: Fault,
}

/// A field of a command that can be wrong by what the directory says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The agent that made a reported call.
    CallingAgent,
    /// When a reported call started.
    StartedAt,
    /// The number at this index, counted from 0, of those to be assigned to an agent.
    PhoneNumber(usize),
    /// The source agent at this index, counted from 0, of a callback role.
    SourceAgent(usize),
    /// The default agent of a number.
    DefaultAgent,
}

/// What can be wrong with a [`Field`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is no identifier.
    Unreadable,
    /// The environment has nothing of this identifier.
    Unknown,
    /// The agent takes calls and makes none.
    NotOutbound,
    /// The agent is a draft.
    NotPublished,
    /// The number is not assigned to the agent.
    NotAssigned,
    /// The agent makes calls, or is a draft.
    TakesNoCalls,
    /// The instant is further ahead than [`NewCall::MAX_AHEAD_MILLIS`](crate::NewCall::MAX_AHEAD_MILLIS).
    TooFarAhead,
    /// The instant is before 1970.
    Before1970,
}

/// In what a reported call differs from the one that was recorded with its call id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallDifference {
    /// Another agent called.
    Agent,
    /// Another contact was called.
    Contact,
    /// It was called from another number.
    CallingNumber,
    /// It started at another time.
    StartTime,
}

/// Rejects a command of which fields are wrong, or were for whoever read the request.
pub(crate) fn check_fields(
    problems: Vec<FieldProblem>,
    is_misread: bool,
) -> Result<(), CommandError> {
    if problems.is_empty() && !is_misread {
        Ok(())
    } else {
        Err(CommandError::Invalid(problems))
    }
}

/// Why a command is against the rules; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// No such agent in this environment.
    #[error("agent not found")]
    AgentNotFound,
    /// No such number in this environment.
    #[error("phone number not found")]
    NumberNotFound,
    /// No such environment.
    #[error("environment not found")]
    EnvironmentNotFound,
    /// No such token in this environment.
    #[error("token not found")]
    TokenNotFound,
    /// The token by which the command was given has ended.
    #[error("token has ended")]
    TokenEnded,
    /// No such routed call within the last 24 hours.
    #[error("routed call not found")]
    RoutedCallNotFound,
    /// A callback role was given to an agent that is not inbound.
    #[error("agent must be inbound to serve as a callback agent")]
    InvalidAgentDirection,
    /// The agent holds no callback role.
    #[error("agent holds no callback role")]
    NoCallbackRole,
    /// The agent must be unpublished first.
    #[error("agent is published")]
    AgentIsPublished,
    /// The agent holds a callback role or is a source of one, so its direction stays.
    #[error("agent is in use by a callback role")]
    AgentInCallbackUse,
    /// The number is some environment's already.
    #[error("phone number already exists")]
    NumberAlreadyExists,
    /// The number is assigned to agents.
    #[error("phone number is in use")]
    NumberInUse,
    /// The environment still has agents or numbers.
    #[error("environment is not empty")]
    EnvironmentNotEmpty,
    /// As many environments as one node holds are there.
    #[error("too many environments")]
    TooManyEnvironments,
    /// The call id is known with another agent, contact, calling number or time.
    #[error("call was recorded differently: {0:?}")]
    CallMismatch(CallDifference),
    /// These fields are wrong, beside those that could not be read: there may be none of these.
    #[error("the given data was invalid: {0:?}")]
    Invalid(Vec<FieldProblem>),
    /// Storage could not be read to check the command.
    #[error("storage is unavailable")]
    StorageUnavailable,
}

/// Why a submitted command has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// It is against the rules: tell the client.
    #[error(transparent)]
    Rejected(#[from] CommandError),
    /// Storage takes no writes now; the same command may succeed later.
    #[error("storage is unavailable")]
    StorageUnavailable,
    /// Others' changes came first again and again, so that this one was never made: the same command may succeed
    /// later. Only where several nodes share a log.
    #[error("lost against the changes of others too often")]
    Conflict,
    /// The engine has been shut down.
    #[error("shutting down")]
    ShuttingDown,
}
