//! Connectors: `/connectors`. Their address is shown when it is made, and their secret never.

use axum::extract::{Request, State};
use axum::response::Response;
use ringback_api as api;
use ringback_engine::{
    CommandError, CreateConnector, DeleteConnector, Override, RotateConnector, UpdateConnector,
    generate_secret, hash_secret,
};
use ringback_lookup::{Settings, is_secret};
use ringback_routing::{Connector, ConnectorSecret, Dialect};
use serde_json::Value;

use crate::api::Api;
use crate::auth::Tenant;
use crate::body::{read_fields, read_optional_fields};
use crate::error::ApiError;
use crate::fields::Fields;
use crate::path::PathText;
use crate::reply::{self, Answer};

/// `GET /connectors`.
pub(crate) async fn list(State(api): State<Api>, tenant: Tenant) -> Result<Response, ApiError> {
    let directory = api.engine().directory();
    let environment = directory
        .environment_by_id(tenant.environment)
        .ok_or(CommandError::EnvironmentNotFound)?;
    let connectors: Vec<api::Connector> = environment
        .connectors
        .iter()
        .map(|connector| listed(&api, connector))
        .collect();
    Ok(reply::ok(connectors))
}

/// `GET /connectors/{id}`.
pub(crate) async fn show(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
) -> Result<Response, ApiError> {
    let id = path.connector()?;
    let directory = api.engine().directory();
    let connector = directory
        .connector(tenant.environment, id)
        .ok_or(CommandError::ConnectorNotFound)?;
    Ok(reply::ok(listed(&api, connector)))
}

/// `POST /connectors`: makes one; its address is shown this once.
pub(crate) async fn create(
    State(api): State<Api>,
    tenant: Tenant,
    request: Request,
) -> Result<Response, ApiError> {
    let mut fields = read_fields(request).await?;
    let dialect = fields.required_choice("dialect", Dialect::from_name);
    let name = fields.optional_name("name", MAX_NAME);
    let secret = match dialect {
        Some(dialect) => secret_of(&mut fields, dialect),
        None => Override::Keep,
    };
    let (options, on_nothing) = (fields.any("options"), fields.any("on_nothing"));
    let settings =
        dialect.and_then(|dialect| checked(&api, &mut fields, dialect, &options, &on_nothing));
    let texts = settings.as_ref().map(texts_of).unwrap_or_default();
    let (key, url) = new_address(&api)?;
    let command = CreateConnector {
        environment: tenant.environment,
        dialect,
        name,
        key: hash_secret(&key),
        secret: secret.apply(None),
        options: texts.0,
        on_nothing: texts.1,
        is_misread: fields.is_misread(),
    };
    api.change_read(tenant, command, fields.finish(), move |connector| {
        Ok(Answer::created(shown(connector, &url)))
    })
    .await
}

/// `PATCH /connectors/{id}`: what is left out stays.
pub(crate) async fn update(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
    request: Request,
) -> Result<Response, ApiError> {
    let id = path.connector()?;
    let present = {
        let directory = api.engine().directory();
        let present = directory.connector(tenant.environment, id).cloned();
        present.ok_or(CommandError::ConnectorNotFound)?
    };
    let mut fields = read_fields(request).await?;
    let name = fields.description("name", MAX_NAME);
    let secret = secret_of(&mut fields, present.dialect);
    let (has_options, has_on_nothing) = (fields.has("options"), fields.has("on_nothing"));
    let (options, on_nothing) = (fields.any("options"), fields.any("on_nothing"));
    let settings = checked(&api, &mut fields, present.dialect, &options, &on_nothing);
    let texts = settings.as_ref().map(texts_of);
    let command = UpdateConnector {
        environment: tenant.environment,
        id,
        name,
        secret,
        options: texts
            .as_ref()
            .filter(|_| has_options)
            .map(|texts| texts.0.clone()),
        on_nothing: texts.filter(|_| has_on_nothing).map(|texts| texts.1),
        is_misread: fields.is_misread(),
    };
    let state = api.clone();
    api.change_read(tenant, command, fields.finish(), move |connector| {
        Ok(Answer::ok(listed(&state, connector)))
    })
    .await
}

/// `POST /connectors/{id}/rotate`: a new address; the old one holds as long as is asked for.
pub(crate) async fn rotate(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
    request: Request,
) -> Result<Response, ApiError> {
    let id = path.connector()?;
    {
        let directory = api.engine().directory();
        let known = directory.connector(tenant.environment, id);
        known.ok_or(CommandError::ConnectorNotFound)?;
    }
    let mut fields = read_optional_fields(request).await?;
    let grace = match fields.any("grace_seconds") {
        Value::Null => 0,
        value => match value.as_i64() {
            Some(seconds @ 0..=MAX_GRACE_SECONDS) => seconds,
            _ => {
                let message = "The grace seconds field must be an integer from 0 to 86400.";
                fields.errors.add("grace_seconds", message);
                0
            }
        },
    };
    let (key, url) = new_address(&api)?;
    let command = RotateConnector {
        environment: tenant.environment,
        id,
        key: hash_secret(&key),
        grace_millis: grace * 1_000,
        is_misread: fields.is_misread(),
    };
    api.change_read(tenant, command, fields.finish(), move |connector| {
        Ok(Answer::ok(shown(connector, &url)))
    })
    .await
}

/// `DELETE /connectors/{id}`: nobody is answered at its address from now on.
pub(crate) async fn delete(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
) -> Result<Response, ApiError> {
    let id = path.connector()?;
    let command = DeleteConnector {
        environment: tenant.environment,
        id,
    };
    api.change(tenant, command, |()| Ok(Answer::done("Connector deleted")))
        .await
}

/// Reads what the platform proves itself with.
fn secret_of(fields: &mut Fields, dialect: Dialect) -> Override<ConnectorSecret> {
    if !fields.has("secret") {
        return Override::Keep;
    }
    match fields.any("secret") {
        Value::Null => Override::Clear,
        Value::String(secret) if is_secret(dialect, &secret) => {
            Override::Set(ConnectorSecret(secret))
        }
        _ => {
            let message = match dialect {
                Dialect::Telnyx => "The secret field must be a public key: 32 bytes in base64.",
                _ => "The secret field must be 1 to 512 printable ASCII characters.",
            };
            fields.errors.add("secret", message);
            Override::Keep
        }
    }
}

/// Checks options, and what is answered when nothing routes; what is wrong is added to the errors.
fn checked(
    api: &Api,
    fields: &mut Fields,
    dialect: Dialect,
    options: &Value,
    on_nothing: &Value,
) -> Option<Settings> {
    match Settings::check(dialect, options, on_nothing, api.public_url()) {
        Ok(settings) => Some(settings),
        Err(problems) => {
            for problem in problems {
                fields.errors.add(problem.field, problem.message);
            }
            None
        }
    }
}

/// Settings as they are kept.
fn texts_of(settings: &Settings) -> (String, String) {
    let options = settings.options_shown().to_string();
    (options, settings.on_nothing_shown().to_string())
}

/// A new key, and the address with it.
fn new_address(api: &Api) -> Result<(String, String), ApiError> {
    let key = generate_secret("").map_err(|error| {
        tracing::error!(%error, "no random numbers to make a key of");
        ApiError::Internal
    })?;
    let url = format!("{}/lookup/{key}", api.public_url());
    Ok((key, url))
}

/// A connector as it is listed.
fn listed(api: &Api, connector: &Connector) -> api::Connector {
    api::Connector {
        id: connector.id,
        dialect: connector.dialect,
        name: connector.name.clone(),
        options: json(&connector.options),
        on_nothing: json(&connector.on_nothing),
        has_secret: connector.secret.is_some(),
        created_at: connector.created_at,
        last_used_at: api.platforms().last_used(connector.id),
    }
}

/// A connector with its address.
fn shown(connector: &Connector, url: &str) -> api::ConnectorShown {
    api::ConnectorShown {
        id: connector.id,
        dialect: connector.dialect,
        name: connector.name.clone(),
        url: url.to_owned(),
        options: json(&connector.options),
        on_nothing: json(&connector.on_nothing),
        created_at: connector.created_at,
    }
}

/// Settings as they were kept.
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// The longest name.
const MAX_NAME: usize = 255;

/// The longest time for which an old key holds.
const MAX_GRACE_SECONDS: i64 = 86_400;
