//! Why a command was not carried out.

use std::collections::BTreeMap;

/// What is wrong with a request's fields: field → messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldErrors(pub BTreeMap<String, Vec<String>>);

impl FieldErrors {
    /// Adds a message to a field.
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.entry(field.into()).or_default().push(message.into());
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Rejects the command where something is wrong.
    ///
    /// # Errors
    /// [`CommandError::Invalid`], with everything that is wrong.
    pub fn into_result(self) -> Result<(), CommandError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(CommandError::Invalid(self))
        }
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
    #[error("call was recorded with another {0}")]
    CallMismatch(&'static str),
    /// Fields are wrong.
    #[error("the given data was invalid")]
    Invalid(FieldErrors),
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
    /// The engine has been shut down.
    #[error("shutting down")]
    ShuttingDown,
}
