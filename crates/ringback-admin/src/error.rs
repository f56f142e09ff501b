//! Where errors meet the outside: HTTP status, message and code of everything that can go wrong.

use std::collections::BTreeMap;

use axum::http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ringback_engine::{CommandError, FieldErrors, SubmitError};
use serde::Serialize;

use crate::reply;

/// Why a request is not answered with what it asked for.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// No token, or none that we know.
    Unauthenticated,
    /// A token of the other kind.
    Forbidden,
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
    /// Nothing is remembered of this contact.
    ContactNotFound,
    /// The command is against the rules.
    Rejected(CommandError),
    /// The configuration that was to be reloaded has these faults; the old one stays.
    ConfigurationRefused(Vec<String>),
    /// Storage takes no writes now, or cannot be read.
    StorageUnavailable,
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
        Self::Rejected(CommandError::Invalid(errors))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let retry_after = match self {
            Self::RateLimited(seconds) => Some(seconds),
            Self::TooManyOpenRequests | Self::TooManyConnections => Some(1),
            _ => None,
        };
        // Where places are short, the client's connection is one of them.
        let close = matches!(
            self,
            Self::TooManyOpenRequests | Self::TooManyConnections | Self::Host
        );
        let challenge = matches!(self, Self::Unauthenticated);
        let mut response = match self {
            Self::Rejected(CommandError::Invalid(errors)) => invalid(&errors.0),
            Self::Rejected(error) => command_error(&error),
            Self::ConfigurationRefused(errors) => refused_configuration(&errors),
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
            Self::ContactNotFound => (
                StatusCode::NOT_FOUND,
                "Contact not found",
                Some("CONTACT_NOT_FOUND"),
            ),
            Self::StorageUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Storage is unavailable",
                Some("STORAGE_UNAVAILABLE"),
            ),
            Self::ShuttingDown => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Server is shutting down",
                Some("SHUTTING_DOWN"),
            ),
            Self::Internal | Self::Rejected(_) | Self::ConfigurationRefused(_) => (
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
        CommandError::TooManyEnvironments => (
            StatusCode::CONFLICT,
            "Too many environments",
            Some("TOO_MANY_ENVIRONMENTS"),
        ),
        CommandError::CallMismatch(what) => {
            let message = call_mismatch(what);
            return failure(StatusCode::CONFLICT, &message, Some("CALL_MISMATCH"));
        }
        CommandError::Invalid(errors) => return invalid(&errors.0),
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
        CommandError::Invalid(errors) => field_messages(errors),
        CommandError::CallMismatch(what) => call_mismatch(what),
        other => other.to_string(),
    }
}

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
fn call_mismatch(what: &str) -> String {
    format!("Call was recorded with another {what}")
}

/// The shape of every error that does not name fields.
#[derive(Serialize)]
struct Failure<'a> {
    /// Always false.
    success: bool,
    /// For people.
    message: &'a str,
    /// For programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
}

/// An error that does not name fields.
fn failure(status: StatusCode, message: &str, code: Option<&str>) -> Response {
    reply::json(
        status,
        &Failure {
            success: false,
            message,
            code,
        },
    )
}

/// The answer to a reload of a configuration that has faults: each stands with file and line.
fn refused_configuration(errors: &[String]) -> Response {
    reply::json(
        StatusCode::UNPROCESSABLE_ENTITY,
        &serde_json::json!({
            "success": false,
            "message": "The configuration is refused, the old one stays",
            "code": "CONFIGURATION_REFUSED",
            "errors": errors,
        }),
    )
}

/// The shape of errors that name fields.
#[derive(Serialize)]
struct Invalid<'a> {
    /// Always false.
    success: bool,
    /// For people.
    message: &'a str,
    /// Field → messages.
    errors: &'a BTreeMap<String, Vec<String>>,
}

/// The errors of a request's fields.
fn invalid(errors: &BTreeMap<String, Vec<String>>) -> Response {
    let message = "The given data was invalid.";
    reply::json(
        StatusCode::UNPROCESSABLE_ENTITY,
        &Invalid {
            success: false,
            message,
            errors,
        },
    )
}
