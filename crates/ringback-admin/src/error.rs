//! Where errors meet the outside: HTTP status, message and code of everything that can go wrong.

use std::collections::BTreeMap;

use axum::http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ringback_api::{ErrorDetails, Problem};
use ringback_engine::{
    CallDifference, CommandError, ConstraintProblem, Fault, Field, FieldProblem, SubmitError,
};

use crate::reply;

/// What is wrong with a request's fields: field → messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldErrors(pub(crate) BTreeMap<String, Vec<String>>);

impl FieldErrors {
    /// What a command found wrong.
    fn of(problems: &[FieldProblem]) -> Self {
        let mut errors = Self::default();
        errors.add_problems(problems);
        errors
    }

    /// Adds a message to a field.
    pub(crate) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.entry(field.into()).or_default().push(message.into());
    }

    /// Adds what a command found wrong.
    fn add_problems(&mut self, problems: &[FieldProblem]) {
        for problem in problems {
            self.add(field_name(problem.field), field_message(*problem));
        }
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses the request where something is wrong.
    ///
    /// # Errors
    /// [`ApiError::Invalid`], with everything that is wrong.
    pub(crate) fn into_result(self) -> Result<(), ApiError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(ApiError::Invalid(self))
        }
    }

    /// The result of a command whose fields were read with these errors: one answer has everything that
    /// is wrong, what reading found first.
    ///
    /// # Errors
    /// The command failed, as it does where fields could not be read.
    pub(crate) fn join<T>(mut self, result: Result<T, SubmitError>) -> Result<T, ApiError> {
        match result {
            Err(SubmitError::Rejected(CommandError::Invalid(problems))) => {
                self.add_problems(&problems);
                Err(ApiError::Invalid(self))
            }
            result => Ok(result?),
        }
    }
}

/// Why a request is not answered with what it asked for.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// No token, or none that we know.
    Unauthenticated,
    /// A token of the other kind.
    Forbidden,
    /// The token is masked, and this would show it what is hidden from it.
    TokenIsMasked,
    /// The session's `X-CSRF-Token` is missing or another.
    CsrfToken,
    /// A page of another site asks to sign in.
    ForeignOrigin,
    /// The client has failed to sign in too often; seconds until it may try again.
    TooManyFailures(u64),
    /// The token has used up its share; seconds until it may come again.
    RateLimited(u64),
    /// The token has too many requests open.
    TooManyOpenRequests,
    /// Every connection is taken, and this one is for probes alone.
    TooManyConnections,
    /// The request names no host, or several.
    Host,
    /// No such path.
    NoSuchPath,
    /// The path has other methods.
    MethodNotAllowed,
    /// The body is not of the type that this path takes.
    UnsupportedMediaType,
    /// The body is over the limit.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body broke off.
    BodyIncomplete,
    /// The body is no JSON.
    MalformedJson,
    /// The key of the request was used for another one.
    IdempotencyKeyReused,
    /// The state does not contain yet what the request asks for.
    SequenceNotReached,
    /// Nothing is remembered of this contact.
    ContactNotFound,
    /// No target of the environment leads there.
    TargetNotFound,
    /// There is no such audit entry, or it is another environment's.
    AuditEntryNotFound,
    /// Fields are wrong.
    Invalid(FieldErrors),
    /// The command is against the rules.
    Rejected(CommandError),
    /// The configuration that was to be reloaded has these faults; the old one stays.
    ConfigurationRefused(Vec<String>),
    /// Storage takes no writes now, or cannot be read.
    StorageUnavailable,
    /// This server is in no cluster.
    NotClustered,
    /// No node of this name was heard.
    NodeNotFound,
    /// The node that is to be forgotten is heard.
    NodeIsCurrent,
    /// The log has all that the nodes have read.
    LogIsWhole,
    /// The stream is that of another cluster.
    ForeignLog,
    /// The log of the cluster has not confirmed the change, which may still take effect.
    ClusterUnavailable,
    /// The log of the cluster is full.
    LogFull,
    /// The changes of other nodes came first again and again.
    Conflict,
    /// The server is going down.
    ShuttingDown,
    /// Something that should not happen; the log has it.
    Internal,
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        Self::Rejected(error)
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Rejected(error) => Self::Rejected(error),
            SubmitError::StorageUnavailable => Self::StorageUnavailable,
            SubmitError::ClusterUnavailable => Self::ClusterUnavailable,
            SubmitError::LogFull => Self::LogFull,
            SubmitError::Conflict => Self::Conflict,
            SubmitError::ShuttingDown => Self::ShuttingDown,
            other => {
                tracing::error!(error = %other, "a command failed in an unknown way");
                Self::Internal
            }
        }
    }
}

impl From<FieldErrors> for ApiError {
    fn from(errors: FieldErrors) -> Self {
        Self::Invalid(errors)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let retry_after = match self {
            Self::RateLimited(seconds) | Self::TooManyFailures(seconds) => Some(seconds),
            Self::TooManyOpenRequests
            | Self::TooManyConnections
            | Self::SequenceNotReached
            | Self::Conflict
            | Self::Rejected(CommandError::AnsweredBefore) => Some(1),
            Self::ClusterUnavailable | Self::LogFull => Some(5),
            _ => None,
        };
        // Where places are short, the client's connection is one of them.
        let close = matches!(
            self,
            Self::TooManyOpenRequests | Self::TooManyConnections | Self::Host
        );
        let challenge = matches!(self, Self::Unauthenticated);
        let mut response = match self {
            Self::Invalid(errors) => invalid(errors),
            Self::Rejected(error) => command_error(&error),
            Self::ConfigurationRefused(errors) => refused_configuration(errors),
            other => {
                let (status, message, code) = other.public();
                failure(status, message, code)
            }
        };
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if close {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        if challenge {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

impl ApiError {
    /// Status, message and code of what is not a command's doing.
    const fn public(&self) -> (StatusCode, &'static str, Option<&'static str>) {
        match self {
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "Unauthenticated.", None),
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                "This token does not open this path",
                Some("FORBIDDEN"),
            ),
            Self::TokenIsMasked => (
                StatusCode::FORBIDDEN,
                "This token sees no whole numbers of contacts",
                Some("TOKEN_IS_MASKED"),
            ),
            Self::CsrfToken => (
                StatusCode::FORBIDDEN,
                "X-CSRF-Token is not the one of the session",
                Some("CSRF_TOKEN_INVALID"),
            ),
            Self::ForeignOrigin => (
                StatusCode::FORBIDDEN,
                "Origin is another site",
                Some("FOREIGN_ORIGIN"),
            ),
            Self::TooManyFailures(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many failed tries to sign in",
                Some("TOO_MANY_FAILURES"),
            ),
            Self::RateLimited(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many requests",
                Some("TOO_MANY_REQUESTS"),
            ),
            Self::TooManyOpenRequests => (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many open requests of this token",
                Some("TOO_MANY_OPEN_REQUESTS"),
            ),
            Self::TooManyConnections => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many connections",
                Some("TOO_MANY_CONNECTIONS"),
            ),
            Self::Host => (
                StatusCode::BAD_REQUEST,
                "Exactly one valid Host header is required",
                Some("BAD_REQUEST"),
            ),
            Self::NoSuchPath => (StatusCode::NOT_FOUND, "Not found", Some("NOT_FOUND")),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "Method not allowed",
                Some("METHOD_NOT_ALLOWED"),
            ),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported content type",
                Some("UNSUPPORTED_MEDIA_TYPE"),
            ),
            Self::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "Request body is too large",
                Some("PAYLOAD_TOO_LARGE"),
            ),
            Self::BodyTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                "Request body did not arrive in time",
                Some("REQUEST_TIMEOUT"),
            ),
            Self::BodyIncomplete => (
                StatusCode::BAD_REQUEST,
                "Request body is incomplete",
                Some("INCOMPLETE_BODY"),
            ),
            Self::MalformedJson => (
                StatusCode::BAD_REQUEST,
                "Malformed JSON",
                Some("MALFORMED_JSON"),
            ),
            Self::IdempotencyKeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "This Idempotency-Key was used for another request",
                Some("IDEMPOTENCY_KEY_REUSED"),
            ),
            Self::SequenceNotReached => (
                StatusCode::SERVICE_UNAVAILABLE,
                "This server does not have the requested sequence yet",
                Some("SEQUENCE_NOT_REACHED"),
            ),
            Self::ContactNotFound => (
                StatusCode::NOT_FOUND,
                "Contact not found",
                Some("CONTACT_NOT_FOUND"),
            ),
            Self::TargetNotFound => (
                StatusCode::NOT_FOUND,
                "Target not found",
                Some("TARGET_NOT_FOUND"),
            ),
            Self::AuditEntryNotFound => (
                StatusCode::NOT_FOUND,
                "Audit entry not found",
                Some("AUDIT_ENTRY_NOT_FOUND"),
            ),
            Self::StorageUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Storage is unavailable",
                Some("STORAGE_UNAVAILABLE"),
            ),
            Self::NotClustered => (
                StatusCode::NOT_FOUND,
                "This server is in no cluster",
                Some("NOT_CLUSTERED"),
            ),
            Self::NodeNotFound => (
                StatusCode::NOT_FOUND,
                "No node of this name was heard",
                Some("NODE_NOT_FOUND"),
            ),
            Self::NodeIsCurrent => (
                StatusCode::CONFLICT,
                "The node is heard: stop it first",
                Some("NODE_IS_CURRENT"),
            ),
            Self::LogIsWhole => (
                StatusCode::CONFLICT,
                "The log has all that the nodes have read: there is nothing to recover",
                Some("LOG_IS_WHOLE"),
            ),
            Self::ForeignLog => (
                StatusCode::CONFLICT,
                "The stream is that of another cluster: delete it first, if it is not needed",
                Some("CLUSTER_MISMATCH"),
            ),
            Self::ClusterUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The cluster has not confirmed the change; it may still take effect",
                Some("CLUSTER_UNAVAILABLE"),
            ),
            Self::LogFull => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The log of the cluster is full",
                Some("LOG_FULL"),
            ),
            Self::Conflict => (
                StatusCode::CONFLICT,
                "Other changes came first too often",
                Some("CONFLICT"),
            ),
            Self::ShuttingDown => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Server is shutting down",
                Some("SHUTTING_DOWN"),
            ),
            Self::Internal
            | Self::Invalid(_)
            | Self::Rejected(_)
            | Self::ConfigurationRefused(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Internal server error",
                Some("INTERNAL_ERROR"),
            ),
        }
    }
}

/// The answer to a command that is against the rules.
fn command_error(error: &CommandError) -> Response {
    let (status, message, code) = match error {
        CommandError::AgentNotFound => (
            StatusCode::NOT_FOUND,
            "Agent not found",
            Some("AGENT_NOT_FOUND"),
        ),
        CommandError::NumberNotFound => (
            StatusCode::NOT_FOUND,
            "Phone number not found",
            Some("PHONE_NUMBER_NOT_FOUND"),
        ),
        CommandError::EnvironmentNotFound => (
            StatusCode::NOT_FOUND,
            "Environment not found",
            Some("ENVIRONMENT_NOT_FOUND"),
        ),
        CommandError::TokenNotFound => (
            StatusCode::NOT_FOUND,
            "Token not found",
            Some("TOKEN_NOT_FOUND"),
        ),
        CommandError::ConnectorNotFound => (
            StatusCode::NOT_FOUND,
            "Connector not found",
            Some("CONNECTOR_NOT_FOUND"),
        ),
        CommandError::TooManyConnectors => (
            StatusCode::CONFLICT,
            "Too many connectors",
            Some("TOO_MANY_CONNECTORS"),
        ),
        CommandError::TokenEnded => ApiError::Unauthenticated.public(),
        CommandError::RoutedCallNotFound => (
            StatusCode::NOT_FOUND,
            "Routed call not found",
            Some("ROUTED_CALL_NOT_FOUND"),
        ),
        CommandError::InvalidAgentDirection => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "Agent must have direction=inbound to serve as a callback",
            Some("INVALID_AGENT_DIRECTION"),
        ),
        CommandError::NoCallbackRole => (
            StatusCode::NOT_FOUND,
            "Agent is not configured as a callback agent",
            None,
        ),
        CommandError::AgentIsPublished => (
            StatusCode::CONFLICT,
            "Agent is published",
            Some("AGENT_IS_PUBLISHED"),
        ),
        CommandError::AgentInCallbackUse => (
            StatusCode::CONFLICT,
            "Agent is in use by a callback role",
            Some("AGENT_IN_CALLBACK_USE"),
        ),
        CommandError::NumberAlreadyExists => (
            StatusCode::CONFLICT,
            "Phone number already exists",
            Some("NUMBER_ALREADY_EXISTS"),
        ),
        CommandError::NumberInUse => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "Phone number is assigned to agents",
            Some("PHONE_NUMBER_IN_USE"),
        ),
        CommandError::EnvironmentNotEmpty => (
            StatusCode::CONFLICT,
            "Environment still has agents or phone numbers",
            Some("ENVIRONMENT_NOT_EMPTY"),
        ),
        CommandError::NotUndoable => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "This change cannot be undone",
            Some("AUDIT_NOT_UNDOABLE"),
        ),
        CommandError::ChangedSince => (
            StatusCode::CONFLICT,
            "The object has changed since",
            Some("AUDIT_UNDO_CONFLICT"),
        ),
        CommandError::TooManyEnvironments => (
            StatusCode::CONFLICT,
            "Too many environments",
            Some("TOO_MANY_ENVIRONMENTS"),
        ),
        CommandError::ContactOptedOut => (
            StatusCode::UNPROCESSABLE_ENTITY,
            OPTED_OUT,
            Some("CONTACT_OPTED_OUT"),
        ),
        CommandError::CallMismatch(difference) => {
            let message = call_mismatch(*difference);
            return failure(StatusCode::CONFLICT, &message, Some("CALL_MISMATCH"));
        }
        CommandError::Invalid(problems) => return invalid(FieldErrors::of(problems)),
        // Whoever asks is given the first answer, unless it has just become too old.
        CommandError::AnsweredBefore => ApiError::Conflict.public(),
        CommandError::StorageUnavailable => {
            let (status, message, code) = ApiError::StorageUnavailable.public();
            return failure(status, message, code);
        }
        other => {
            tracing::error!(error = %other, "a command was rejected for an unknown reason");
            let (status, message, code) = ApiError::Internal.public();
            return failure(status, message, code);
        }
    };
    failure(status, message, code)
}

/// What a batch says of a call that was not recorded.
pub(crate) fn call_rejection(error: &CommandError) -> String {
    match error {
        CommandError::Invalid(problems) => field_messages(&FieldErrors::of(problems)),
        CommandError::CallMismatch(difference) => call_mismatch(*difference),
        CommandError::ContactOptedOut => OPTED_OUT.to_owned(),
        other => other.to_string(),
    }
}

/// What is said of a call to a contact that does not want to be called.
const OPTED_OUT: &str = "Contact has opted out";

/// All messages in one line.
pub(crate) fn field_messages(errors: &FieldErrors) -> String {
    errors
        .0
        .values()
        .flatten()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The message for a call id that was used for another call.
fn call_mismatch(difference: CallDifference) -> String {
    let what = match difference {
        CallDifference::Agent => "agent",
        CallDifference::Contact => "contact",
        CallDifference::CallingNumber => "calling number",
        CallDifference::StartTime => "start time",
    };
    format!("Call was recorded with another {what}")
}

/// What is said of something that keeps a configuration from being valid.
pub(crate) fn constraint_message(problem: &ConstraintProblem) -> String {
    match problem {
        ConstraintProblem::NotInbound => {
            "Agent must be inbound to serve as a callback agent".to_owned()
        }
        ConstraintProblem::NoSource => "At least one source agent is required".to_owned(),
        ConstraintProblem::SourceUnknown(source) => {
            format!("Source agent {source} does not exist")
        }
        ConstraintProblem::SourceNotOutbound(source) => {
            format!("Source agent {source} is not outbound")
        }
        ConstraintProblem::SourceNotPublished(source) => {
            format!("Source agent {source} is not published")
        }
        ConstraintProblem::StatusUnknown(status) => {
            format!("Trigger status {status} is unknown")
        }
    }
}

/// The name of a field in requests.
fn field_name(field: Field) -> String {
    match field {
        Field::CallingAgent => "agent_id".to_owned(),
        Field::StartedAt => "started_at".to_owned(),
        Field::PhoneNumber(index) => format!("phone_number_ids.{index}"),
        Field::SourceAgent(index) => format!("source_agent_ids.{index}"),
        Field::DefaultAgent => "default_agent_id".to_owned(),
        Field::Until => "until".to_owned(),
        Field::Before => "before".to_owned(),
    }
}

/// What is said of a field that is wrong.
fn field_message(problem: FieldProblem) -> String {
    let what = match problem.field {
        Field::CallingAgent | Field::DefaultAgent => "agent",
        Field::StartedAt => "call",
        Field::Until => "until",
        Field::Before => "before",
        Field::PhoneNumber(_) => "phone number",
        Field::SourceAgent(_) => "source agent",
    };
    match problem.fault {
        Fault::Unreadable => format!("The {what} id must be a valid UUID."),
        Fault::Unknown => format!("The selected {what} does not exist."),
        Fault::NotOutbound => format!("The selected {what} must be outbound."),
        Fault::NotPublished => format!("The selected {what} must be published."),
        Fault::NotAssigned => {
            format!("The selected {what} is not assigned to this phone number.")
        }
        Fault::TakesNoCalls => format!("The selected {what} must be inbound and published."),
        Fault::TooFarAhead => format!("The {what} may start at most five minutes from now."),
        Fault::Before1970 => format!("The {what} may not start before 1970."),
        Fault::NotAhead => format!("The {what} field must be a time ahead."),
        Fault::AfterTomorrow => format!("The {what} field may be tomorrow at the latest."),
    }
}

/// An error that does not name fields.
fn failure(status: StatusCode, message: &str, code: Option<&str>) -> Response {
    reply::json(status, &Problem::new(message, code))
}

/// The answer to a reload of a configuration that has faults: each stands with file and line.
fn refused_configuration(errors: Vec<String>) -> Response {
    let problem = Problem {
        code: Some("CONFIGURATION_REFUSED".to_owned()),
        ..Problem::with_details(
            "The configuration is refused, the old one stays",
            ErrorDetails::Configuration(errors),
        )
    };
    reply::json(StatusCode::UNPROCESSABLE_ENTITY, &problem)
}

/// The errors of a request's fields.
fn invalid(FieldErrors(errors): FieldErrors) -> Response {
    let problem =
        Problem::with_details("The given data was invalid.", ErrorDetails::Fields(errors));
    reply::json(StatusCode::UNPROCESSABLE_ENTITY, &problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_of_a_field_has_its_name_and_words() {
        for (field, fault, name, message) in [
            (
                Field::CallingAgent,
                Fault::Unknown,
                "agent_id",
                "The selected agent does not exist.",
            ),
            (
                Field::CallingAgent,
                Fault::NotOutbound,
                "agent_id",
                "The selected agent must be outbound.",
            ),
            (
                Field::StartedAt,
                Fault::TooFarAhead,
                "started_at",
                "The call may start at most five minutes from now.",
            ),
            (
                Field::StartedAt,
                Fault::Before1970,
                "started_at",
                "The call may not start before 1970.",
            ),
            (
                Field::Until,
                Fault::NotAhead,
                "until",
                "The until field must be a time ahead.",
            ),
            (
                Field::Before,
                Fault::AfterTomorrow,
                "before",
                "The before field may be tomorrow at the latest.",
            ),
            (
                Field::PhoneNumber(3),
                Fault::Unknown,
                "phone_number_ids.3",
                "The selected phone number does not exist.",
            ),
            (
                Field::SourceAgent(0),
                Fault::Unreadable,
                "source_agent_ids.0",
                "The source agent id must be a valid UUID.",
            ),
            (
                Field::SourceAgent(1),
                Fault::Unknown,
                "source_agent_ids.1",
                "The selected source agent does not exist.",
            ),
            (
                Field::SourceAgent(1),
                Fault::NotOutbound,
                "source_agent_ids.1",
                "The selected source agent must be outbound.",
            ),
            (
                Field::SourceAgent(1),
                Fault::NotPublished,
                "source_agent_ids.1",
                "The selected source agent must be published.",
            ),
            (
                Field::DefaultAgent,
                Fault::Unknown,
                "default_agent_id",
                "The selected agent does not exist.",
            ),
            (
                Field::DefaultAgent,
                Fault::NotAssigned,
                "default_agent_id",
                "The selected agent is not assigned to this phone number.",
            ),
            (
                Field::DefaultAgent,
                Fault::TakesNoCalls,
                "default_agent_id",
                "The selected agent must be inbound and published.",
            ),
        ] {
            assert_eq!(field_name(field), name);
            assert_eq!(field_message(FieldProblem { field, fault }), message);
        }
    }

    // What a command finds stands behind what was found in the same field when the request was read.
    #[test]
    fn one_answer_has_what_reading_and_the_command_found() {
        let mut errors = FieldErrors::default();
        errors.add("name", "The name field is required.");
        errors.add("agent_id", "It is odd.");
        let problem = FieldProblem {
            field: Field::CallingAgent,
            fault: Fault::Unknown,
        };
        let rejected = SubmitError::Rejected(CommandError::Invalid(vec![problem]));
        let Err(ApiError::Invalid(FieldErrors(joined))) = errors.join::<()>(Err(rejected)) else {
            panic!("fields are wrong");
        };
        let texts = |field: &str| joined.get(field).map(|texts| texts.join(" "));
        assert_eq!(
            texts("agent_id").as_deref(),
            Some("It is odd. The selected agent does not exist.")
        );
        assert_eq!(
            texts("name").as_deref(),
            Some("The name field is required.")
        );
        assert_eq!(joined.len(), 2);
    }
}
