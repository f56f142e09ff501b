//! Signing in to the console: `/session`.

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use ringback_api::{self as api, SessionKind};
use ringback_engine::{Override, Session, hash_secret};
use ringback_routing::EnvironmentId;

use crate::api::Api;
use crate::auth::{self, Principal};
use crate::body::read_fields;
use crate::client::Client;
use crate::error::{ApiError, FieldErrors};
use crate::fields::{required, selected};
use crate::reply;

/// `POST /session`: exchanges a token for a cookie.
pub(crate) async fn open(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    request: Request,
) -> Result<Response, ApiError> {
    console_only(&api)?;
    if !is_our_own(request.headers()) {
        return Err(ApiError::ForeignOrigin);
    }
    if let Some(seconds) = api.failures().wait(client.address) {
        return Err(ApiError::TooManyFailures(seconds));
    }
    let mut fields = read_fields(request).await?;
    let token = fields.raw_text("token");
    if token.is_none() && !fields.errors.0.contains_key("token") {
        fields.errors.add("token", required("token"));
    }
    fields.finish().into_result()?;
    let hash = hash_secret(token.unwrap_or_default().trim());
    let Some(principal) = auth::holder(&api, &hash) else {
        api.failures().note(client.address);
        return Err(ApiError::Unauthenticated);
    };
    let (cookie, session) = api.sessions().open(principal, hash).await?;
    let mut response = reply::ok(described(&api, &session));
    set_cookie(&mut response, client, &cookie, Session::LIFETIME_SECONDS)?;
    Ok(response)
}

/// `GET /session`: who one is.
pub(crate) async fn show(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    console_only(&api)?;
    let session = auth::session(&api, &headers, client);
    Ok(reply::ok(
        session.map(|(_, session)| described(&api, &session)),
    ))
}

/// `PATCH /session`: the administrator's session acts in an environment.
pub(crate) async fn choose(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    request: Request,
) -> Result<Response, ApiError> {
    console_only(&api)?;
    let found = auth::session(&api, request.headers(), client);
    let (_, mut session) = found.ok_or(ApiError::Unauthenticated)?;
    auth::check_csrf(&session, request.headers())?;
    if session.token.is_some() {
        return Err(ApiError::Forbidden);
    }
    let mut fields = read_fields(request).await?;
    let chosen = fields.override_id("environment_id");
    let mut errors: FieldErrors = fields.finish();
    session.chosen = match chosen {
        Override::Keep => session.chosen,
        Override::Clear => None,
        Override::Set(id) => {
            let id = EnvironmentId(id);
            if api.engine().directory().environment_by_id(id).is_none() {
                errors.add("environment_id", selected("environment_id"));
            }
            Some(id)
        }
    };
    errors.into_result()?;
    api.sessions().put(session.clone()).await?;
    Ok(reply::ok(described(&api, &session)))
}

/// `DELETE /session`: ends it.
pub(crate) async fn end(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    console_only(&api)?;
    let (key, session) = auth::session(&api, &headers, client).ok_or(ApiError::Unauthenticated)?;
    auth::check_csrf(&session, &headers)?;
    api.sessions().end(&key).await?;
    let mut response = reply::done("Session ended");
    set_cookie(&mut response, client, "", 0)?;
    Ok(response)
}

/// Refuses the path where the console is off.
fn console_only(api: &Api) -> Result<(), ApiError> {
    if api.has_console() {
        Ok(())
    } else {
        Err(ApiError::NoSuchPath)
    }
}

/// Whether a page of ours sends the request, or a program, which names no origin. The scheme is not looked at: a
/// proxy that is not trusted may have ended TLS.
fn is_our_own(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let authority = origin.to_str().ok().and_then(|text| text.split_once("://"));
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    authority
        .is_some_and(|(_, authority)| host.is_some_and(|host| host.eq_ignore_ascii_case(authority)))
}

/// What a client is told of its session.
fn described(api: &Api, session: &Session) -> api::Session {
    let directory = api.engine().directory();
    let principal = auth::principal_of(session);
    let (environment, token) = match principal {
        Principal::Administrator => (session.chosen, None),
        Principal::Tenant(environment, token) => (Some(environment), Some(token)),
    };
    let home = environment.and_then(|id| directory.environment_by_id(id));
    let token = token.and_then(|id| home?.tokens.iter().find(|token| token.id == id));
    api::Session {
        kind: match principal {
            Principal::Administrator => SessionKind::Administrator,
            Principal::Tenant(..) => SessionKind::Environment,
        },
        environment: home.map(|home| api::EnvironmentName {
            id: home.record.id,
            name: home.record.name.clone(),
        }),
        token: token.map(|token| api::TokenName {
            id: token.id,
            name: token.name.clone(),
        }),
        masked: token.is_some_and(|token| token.masked),
        csrf_token: session.csrf_token.clone(),
        expires_at: session.expires_at(),
    }
}

/// Gives the client a cookie for so many seconds.
fn set_cookie(
    response: &mut Response,
    client: Client,
    value: &str,
    seconds: i64,
) -> Result<(), ApiError> {
    let secure = if client.is_secure { "; Secure" } else { "" };
    let name = auth::cookie_name(client);
    let text =
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    let value = HeaderValue::from_str(&text).map_err(|_| ApiError::Internal)?;
    response.headers_mut().insert(SET_COOKIE, value);
    Ok(())
}
