//! Who asks: the token of an environment, or the administrator's.

use std::sync::Arc;

use axum::Extension;
use axum::body::HttpBody;
use axum::extract::{FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ringback_engine::{ByToken, CommandError, hash_secret};
use ringback_routing::{EnvironmentId, TokenHash, TokenId};
use subtle::ConstantTimeEq;

use crate::api::Api;
use crate::error::ApiError;
use crate::limit::Share;
use crate::open_requests::EndsWithToken;

/// Whoever holds a token of an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tenant {
    /// The environment.
    pub(crate) environment: EnvironmentId,
    /// The token, so that a stream can end with it.
    pub(crate) token: TokenId,
}

impl Tenant {
    /// The command, to be refused once the token has ended.
    pub(crate) const fn command<C>(self, command: C) -> ByToken<C> {
        ByToken {
            environment: self.environment,
            token: self.token,
            command,
        }
    }
}

/// Which tokens open a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// None is asked for.
    Anyone,
    /// Those of environments.
    Tenants,
    /// The administrator's.
    Administrator,
    /// Both kinds.
    AnyToken,
}

/// Who a token belongs to; also whose share of requests it uses up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Principal {
    /// The administrator.
    Administrator,
    /// An environment, by one of its tokens.
    Tenant(EnvironmentId, TokenId),
}

/// Lets environments' tokens through.
pub(crate) async fn tenants_only(
    Extension(api): Extension<Api>,
    request: Request,
    next: Next,
) -> Response {
    admit(&api, Audience::Tenants, request, next).await
}

/// Lets the administrator's token through.
pub(crate) async fn administrator_only(
    Extension(api): Extension<Api>,
    request: Request,
    next: Next,
) -> Response {
    admit(&api, Audience::Administrator, request, next).await
}

/// Lets every token through.
pub(crate) async fn anyone_with_a_token(
    Extension(api): Extension<Api>,
    request: Request,
    next: Next,
) -> Response {
    admit(&api, Audience::AnyToken, request, next).await
}

/// In the extensions of a request on a connection beyond the limit: none that needs a token is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserved;

/// Lets a request through if its token opens the path and has not used up its share, and answers it
/// as one without a token once the token ends.
async fn admit(api: &Api, audience: Audience, mut request: Request, next: Next) -> Response {
    if request.extensions().get::<Reserved>().is_some() {
        return ApiError::TooManyConnections.into_response();
    }
    let Some((principal, hash)) = identify(api, request.headers()) else {
        return ApiError::Unauthenticated.into_response();
    };
    let share = api.limiter().map(|limiter| limiter.take(principal));
    let mut response = match (audience, principal) {
        _ if share.as_ref().is_some_and(|share| share.exhausted) => {
            ApiError::RateLimited(share.as_ref().map_or(1, |share| share.reset)).into_response()
        }
        (Audience::Tenants | Audience::AnyToken, Principal::Tenant(environment, token)) => {
            request
                .extensions_mut()
                .insert(Tenant { environment, token });
            run(api, principal, &hash, request, next).await
        }
        (Audience::Administrator | Audience::AnyToken, Principal::Administrator) => {
            run(api, principal, &hash, request, next).await
        }
        _ => ApiError::Forbidden.into_response(),
    };
    if let Some(share) = share {
        show(&share, response.headers_mut());
    }
    response
}

/// Answers a request as long as its token is good.
async fn run(
    api: &Api,
    principal: Principal,
    hash: &TokenHash,
    mut request: Request,
    next: Next,
) -> Response {
    let open = match api.open_requests().open(principal) {
        Ok(open) => Arc::new(open),
        Err(error) => return error.into_response(),
    };
    // A token that ends from here on ends the request; one that has ended meanwhile is not known.
    let is_tenant = matches!(principal, Principal::Tenant(..));
    if is_tenant && api.engine().directory().token(hash).is_none() {
        return ApiError::Unauthenticated.into_response();
    }
    request.extensions_mut().insert(Arc::clone(&open));
    let response = tokio::select! {
        biased;
        () = open.ended() => ApiError::Unauthenticated.into_response(),
        response = next.run(request) => response,
    };
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| EndsWithToken::wrap(body, open))
}

/// Who holds the token of the request, and the hash of the token.
///
/// Secrets are compared as hashes: which of them is looked up tells nothing of the secret, and the
/// hashes themselves are compared in constant time.
fn identify(api: &Api, headers: &HeaderMap) -> Option<(Principal, TokenHash)> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
    let secret = secret.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || secret.is_empty() {
        return None;
    }
    let hash = hash_secret(secret);
    let directory = api.engine().directory();
    let token = directory
        .token(&hash)
        .filter(|token| is_same(&token.hash, &hash));
    if is_same(api.administrator(), &hash) {
        return Some((Principal::Administrator, hash));
    }
    let token = token?;
    Some((Principal::Tenant(token.environment, token.id), hash))
}

/// Compares hashes in constant time.
fn is_same(left: &TokenHash, right: &TokenHash) -> bool {
    left.0.ct_eq(&right.0).into()
}

/// Shows what is left of the token's share.
fn show(share: &Share, headers: &mut HeaderMap) {
    headers.insert("x-ratelimit-limit", share.limit.into());
    headers.insert("x-ratelimit-remaining", share.remaining.into());
    headers.insert("x-ratelimit-reset", share.reset.into());
}

impl FromRequestParts<Api> for Tenant {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _api: &Api) -> Result<Self, ApiError> {
        parts
            .extensions
            .get()
            .copied()
            .ok_or(ApiError::Unauthenticated)
    }
}

/// Whoever asks, on a path that both kinds of token open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// The administrator, who sees all environments.
    Administrator,
    /// An environment, which sees itself.
    Tenant(Tenant),
}

impl Asker {
    /// The one environment to show, if it is not all of them: the tenant's own, or the one that the request names
    /// (`Some(None)`: by something that is no identifier).
    ///
    /// # Errors
    /// The one that is named is not there, or is another tenant's.
    pub(crate) fn environment(
        self,
        api: &Api,
        named: Option<Option<EnvironmentId>>,
    ) -> Result<Option<EnvironmentId>, ApiError> {
        let known = |id: EnvironmentId| api.engine().directory().environment_by_id(id).is_some();
        let own = match self {
            Self::Administrator => None,
            Self::Tenant(tenant) => Some(tenant.environment),
        };
        match named {
            None => Ok(own),
            Some(Some(id)) if own.is_none_or(|own| own == id) && known(id) => Ok(Some(id)),
            Some(_) => Err(CommandError::EnvironmentNotFound.into()),
        }
    }
}

impl FromRequestParts<Api> for Asker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _api: &Api) -> Result<Self, ApiError> {
        // Who got here without a tenant's token has shown the administrator's.
        let tenant = parts.extensions.get().copied();
        Ok(tenant.map_or(Self::Administrator, Self::Tenant))
    }
}
