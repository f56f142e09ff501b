//! Why a command was not run.

/// An error in one field of a command; the crate that speaks to the client gives it words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// The field with the error.
    pub field: Field,
    /// The kind of error.
    pub fault: Fault,
}

/// A field of a command that the directory can prove wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The agent that made a reported call.
    CallingAgent,
    /// The start of a reported call.
    StartedAt,
    /// The number at this index, counted from 0, in the list for an agent.
    PhoneNumber(usize),
    /// The source agent at this index, counted from 0, of a callback role.
    SourceAgent(usize),
    /// The default agent of a number.
    DefaultAgent,
    /// The end of an opt-out.
    Until,
    /// The day before which calls to a number do not count.
    Before,
}

/// The kinds of error in a [`Field`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not an identifier.
    Unreadable,
    /// The environment has nothing with this identifier.
    Unknown,
    /// The agent takes calls instead of making them.
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
    /// The instant has passed.
    NotAhead,
    /// The day is after tomorrow.
    AfterTomorrow,
}

/// The field in which a reported call differs from the one recorded with its call id.
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

/// Rejects a command if fields are wrong, or could not be read.
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

/// Why a command is against the rules; it changed nothing.
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
    /// No such connector in this environment.
    #[error("connector not found")]
    ConnectorNotFound,
    /// An environment cannot have more connectors.
    #[error("too many connectors")]
    TooManyConnectors,
    /// The token of the request has ended.
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
    /// An environment has this number already.
    #[error("phone number already exists")]
    NumberAlreadyExists,
    /// The number is assigned to agents.
    #[error("phone number is in use")]
    NumberInUse,
    /// The environment still has agents or numbers.
    #[error("environment is not empty")]
    EnvironmentNotEmpty,
    /// One node cannot hold more environments.
    #[error("too many environments")]
    TooManyEnvironments,
    /// The call id is recorded with another agent, contact, calling number or time.
    #[error("call was recorded differently: {0:?}")]
    CallMismatch(CallDifference),
    /// The contact has asked not to be called.
    #[error("contact has opted out")]
    ContactOptedOut,
    /// These fields are wrong. The list may be empty if other fields could not be read.
    #[error("the given data was invalid: {0:?}")]
    Invalid(Vec<FieldProblem>),
    /// The inverse of the change is not one change.
    #[error("change cannot be undone")]
    NotUndoable,
    /// The object of the change to undo was changed since, or is gone.
    #[error("object has changed since")]
    ChangedSince,
    /// The request was carried out before, and its first answer is kept.
    #[error("request was answered before")]
    AnsweredBefore,
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
    /// Storage accepts no writes now; the same command may succeed later.
    #[error("storage is unavailable")]
    StorageUnavailable,
    /// The log that nodes share has not confirmed the command in time. It may still take effect, unless it is known
    /// that nothing was sent; the same command may succeed later.
    #[error("the cluster is unavailable")]
    ClusterUnavailable,
    /// The log that nodes share is full.
    #[error("the log of the cluster is full")]
    LogFull,
    /// Changes of other nodes came first again and again, so the command was never committed: the same command
    /// may succeed later. Happens only if several nodes share a log.
    #[error("changes of other nodes came first too often")]
    Conflict,
    /// The engine has been shut down.
    #[error("shutting down")]
    ShuttingDown,
}
