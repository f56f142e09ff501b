//! Environments and their tokens: `/environments`, for the administrator.

use axum::extract::{Request, State};
use axum::response::Response;
use ringback_api::{Environment, Token};
use ringback_engine::{
    CommandError, CreateEnvironment, CreateToken, DeleteEnvironment, DeleteToken, Override,
    UpdateEnvironment, generate_secret, hash_secret,
};

use crate::api::Api;
use crate::auth::Administrator;
use crate::body::{read_fields, read_optional_fields};
use crate::error::{ApiError, FieldErrors};
use crate::fields::MAX_NAME;
use crate::path::PathText;
use crate::reply::{self, Answer};
use crate::wire;

/// `GET /environments`.
pub(crate) async fn list(State(api): State<Api>) -> Result<Response, ApiError> {
    let directory = api.engine().directory();
    let environments: Vec<Environment> = directory
        .environments()
        .map(|environment| wire::environment(&environment.record))
        .collect();
    Ok(reply::ok(environments))
}

/// `POST /environments`.
pub(crate) async fn create(
    State(api): State<Api>,
    administrator: Administrator,
    request: Request,
) -> Result<Response, ApiError> {
    let mut fields = read_fields(request).await?;
    let command = CreateEnvironment {
        name: fields.required_name("name", MAX_NAME),
        default_country: set(fields.country("default_country")),
        number_form: set(fields.number_form("number_form")),
        recency_window_seconds: set(fields.seconds("recency_window_seconds")),
        target_template: set(fields.target_template("target_template")),
        fallback_targets: fields.targets("fallback_targets").unwrap_or_default(),
        is_misread: fields.is_misread(),
    };
    api.administer(administrator, command, fields.finish(), |environment| {
        Ok(Answer::created(wire::environment(environment)))
    })
    .await
}

/// `GET /environments/{id}`.
pub(crate) async fn show(State(api): State<Api>, path: PathText) -> Result<Response, ApiError> {
    let id = path.environment(&api)?;
    let directory = api.engine().directory();
    let environment = directory
        .environment_by_id(id)
        .ok_or(CommandError::EnvironmentNotFound)?;
    Ok(reply::ok(wire::environment(&environment.record)))
}

/// `PATCH /environments/{id}`: what is left out stays, `null` goes back to the default.
pub(crate) async fn update(
    State(api): State<Api>,
    administrator: Administrator,
    path: PathText,
    request: Request,
) -> Result<Response, ApiError> {
    let id = path.environment(&api)?;
    let mut fields = read_fields(request).await?;
    let command = UpdateEnvironment {
        id,
        name: fields.kept_name("name", MAX_NAME),
        default_country: fields.country("default_country"),
        number_form: fields.number_form("number_form"),
        recency_window_seconds: fields.seconds("recency_window_seconds"),
        target_template: fields.target_template("target_template"),
        fallback_targets: fields.targets("fallback_targets"),
        held_targets: None,
        is_misread: fields.is_misread(),
    };
    api.administer(administrator, command, fields.finish(), |environment| {
        Ok(Answer::ok(wire::environment(environment)))
    })
    .await
}

/// `DELETE /environments/{id}`.
pub(crate) async fn delete(
    State(api): State<Api>,
    administrator: Administrator,
    path: PathText,
) -> Result<Response, ApiError> {
    let id = path.environment(&api)?;
    let directory = api.engine().directory();
    let command = DeleteEnvironment { id };
    let deleted = api
        .administer(administrator, command, FieldErrors::default(), |()| {
            Ok(Answer::done("Environment deleted"))
        })
        .await?;
    let tokens = directory.environment_by_id(id).into_iter();
    for token in tokens.flat_map(|environment| &environment.tokens) {
        api.open_requests().end(id, token.id);
    }
    Ok(deleted)
}

/// `POST /environments/{id}/tokens`: the only time that the secret is shown.
pub(crate) async fn create_token(
    State(api): State<Api>,
    administrator: Administrator,
    path: PathText,
    request: Request,
) -> Result<Response, ApiError> {
    let environment = path.environment(&api)?;
    let mut fields = read_optional_fields(request).await?;
    let name = fields.optional_name("name", MAX_NAME);
    let masked = fields.flag("masked").unwrap_or(false);
    let secret = generate_secret(api.token_prefix()).map_err(|error| {
        tracing::error!(%error, "no random numbers to make a token of");
        ApiError::Internal
    })?;
    let hash = hash_secret(&secret);
    let command = CreateToken {
        environment,
        name,
        hash,
        masked,
        is_misread: fields.is_misread(),
    };
    api.administer(administrator, command, fields.finish(), move |token| {
        Ok(Answer::created(wire::token_shown(token, &secret)))
    })
    .await
}

/// `GET /environments/{id}/tokens`.
pub(crate) async fn list_tokens(
    State(api): State<Api>,
    path: PathText,
) -> Result<Response, ApiError> {
    let id = path.environment(&api)?;
    let directory = api.engine().directory();
    let environment = directory
        .environment_by_id(id)
        .ok_or(CommandError::EnvironmentNotFound)?;
    let tokens: Vec<Token> = environment
        .tokens
        .iter()
        .map(|token| wire::token(token))
        .collect();
    Ok(reply::ok(tokens))
}

/// `DELETE /environments/{id}/tokens/{token_id}`: requests with it fail from now on.
pub(crate) async fn delete_token(
    State(api): State<Api>,
    administrator: Administrator,
    path: PathText,
) -> Result<Response, ApiError> {
    let environment = path.environment(&api)?;
    let id = path.token()?;
    let command = DeleteToken { environment, id };
    let deleted = api
        .administer(administrator, command, FieldErrors::default(), |()| {
            Ok(Answer::done("Token deleted"))
        })
        .await?;
    api.open_requests().end(environment, id);
    Ok(deleted)
}

/// Of a new thing's optional setting, `null` is as good as nothing.
fn set<T: Clone>(setting: Override<T>) -> Option<T> {
    setting.apply(None)
}
