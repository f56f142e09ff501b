//! What a request's path and query say.

use std::collections::HashMap;

use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::request::Parts;
use ringback_engine::CommandError;
use ringback_routing::{
    AgentId, ConnectorId, Directory, DirectoryAgent, EnvironmentId, NumberId, Timestamp, TokenId,
    read_id,
};

use crate::api::Api;
use crate::auth::Tenant;
use crate::error::{ApiError, FieldErrors};

/// The variable segments of a path, decoded.
#[derive(Debug)]
pub(crate) struct PathText(HashMap<String, String>);

impl FromRequestParts<Api> for PathText {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        // What is not UTF-8 once decoded names nothing.
        let params = RawPathParams::from_request_parts(parts, api)
            .await
            .map_err(|_| ApiError::NoSuchPath)?;
        Ok(Self(
            params
                .iter()
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .collect(),
        ))
    }
}

impl PathText {
    /// The text of a segment.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The agent of the tenant that `{id}` names.
    pub(crate) fn agent(&self, api: &Api, tenant: Tenant) -> Result<AgentId, ApiError> {
        let id = read_id(self.get("id"))
            .map(AgentId)
            .ok_or(CommandError::AgentNotFound)?;
        find_agent(&api.engine().directory(), tenant, id)?;
        Ok(id)
    }

    /// The number of the tenant that `{id}` names.
    pub(crate) fn number(&self, api: &Api, tenant: Tenant) -> Result<NumberId, ApiError> {
        let id = read_id(self.get("id")).map(NumberId);
        let directory = api.engine().directory();
        let known = id.filter(|id| directory.number_of(tenant.environment, *id).is_some());
        Ok(known.ok_or(CommandError::NumberNotFound)?)
    }

    /// The connector that `{id}` names; whether it is the tenant's, the command finds out.
    pub(crate) fn connector(&self) -> Result<ConnectorId, ApiError> {
        let id = read_id(self.get("id")).map(ConnectorId);
        Ok(id.ok_or(CommandError::ConnectorNotFound)?)
    }

    /// The environment that `{id}` names.
    pub(crate) fn environment(&self, api: &Api) -> Result<EnvironmentId, ApiError> {
        let id = read_id(self.get("id")).map(EnvironmentId);
        let directory = api.engine().directory();
        let known = id.filter(|id| directory.environment_by_id(*id).is_some());
        Ok(known.ok_or(CommandError::EnvironmentNotFound)?)
    }

    /// The token that `{token_id}` names; whether it is there, the command finds out.
    pub(crate) fn token(&self) -> Result<TokenId, ApiError> {
        let id = read_id(self.get("token_id")).map(TokenId);
        Ok(id.ok_or(CommandError::TokenNotFound)?)
    }
}

/// An agent of the tenant.
pub(crate) fn find_agent(
    directory: &Directory,
    tenant: Tenant,
    id: AgentId,
) -> Result<&DirectoryAgent, ApiError> {
    Ok(directory
        .agent_of(tenant.environment, id)
        .ok_or(CommandError::AgentNotFound)?)
}

/// The parameters of a query; of a repeated one the last counts, an empty one counts as left out.
#[derive(Debug)]
pub(crate) struct QueryText {
    /// The parameters.
    parameters: HashMap<String, String>,
    /// What was wrong with those read so far.
    pub(crate) errors: FieldErrors,
}

impl FromRequestParts<Api> for QueryText {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _api: &Api) -> Result<Self, ApiError> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let parameters = pairs
            .map(|Query(pairs)| pairs.into_iter().collect())
            .unwrap_or_default();
        Ok(Self {
            parameters,
            errors: FieldErrors::default(),
        })
    }
}

impl QueryText {
    /// The text of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters
            .get(name)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }

    /// A parameter that is read in some way, or else the message is reported.
    pub(crate) fn read<T>(
        &mut self,
        name: &str,
        message: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.get(name)?;
        let value = read(text);
        if value.is_none() {
            self.errors.add(name, message);
        }
        value
    }

    /// A whole number within bounds.
    pub(crate) fn number(&mut self, name: &str, default: u64, bounds: (u64, u64)) -> u64 {
        let (least, most) = bounds;
        let name_in_words = crate::fields::words(name);
        let message = if most == u64::MAX {
            format!("The {name_in_words} must be an integer of at least {least}.")
        } else {
            format!("The {name_in_words} must be an integer from {least} to {most}.")
        };
        let read = |text: &str| {
            text.parse()
                .ok()
                .filter(|number| (least..=most).contains(number))
        };
        self.read(name, &message, read).unwrap_or(default)
    }

    /// A time as RFC 3339 writes it.
    pub(crate) fn timestamp(&mut self, name: &str) -> Option<Timestamp> {
        let words = crate::fields::words(name);
        let message = format!("The {words} must be a time such as 2026-01-31T12:00:00Z.");
        // A `+` of an offset that was not escaped arrives as a space.
        self.read(name, &message, |text| text.replace(' ', "+").parse().ok())
    }

    /// A phone number as text. A `+` that was not escaped arrives as a space, and is one again.
    pub(crate) fn phone_number(&self, name: &str) -> Option<String> {
        let text = self.get(name)?;
        let unescaped = text
            .strip_prefix(' ')
            .filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        Some(unescaped.map_or_else(|| text.to_owned(), |rest| format!("+{rest}")))
    }
}
