//! Who asks: the token of an environment, or the administrator's; or a session that was opened with one.

use std::sync::Arc;

use arrayvec::ArrayString;
use axum::Extension;
use axum::body::HttpBody;
use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ringback_engine::{
    AuditAction, Audited, Command, CommandError, Draft, NoteCopy, Origin, Session, Via, hash_secret,
};
use ringback_routing::{Directory, EnvironmentId, TokenHash, TokenId};
use subtle::ConstantTimeEq;

use crate::api::Api;
use crate::client::Client;
use crate::error::ApiError;
use crate::idempotency::{self, RequestKey};
use crate::limit::Share;
use crate::mask;
use crate::open_requests::EndsWithToken;
use crate::sequence;
use crate::sessions::SessionKey;

/// What is noted of a request whose changes are audited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// How it came.
    pub(crate) via: Via,
    /// Its name.
    pub(crate) request_id: ArrayString<MAX_REQUEST_ID>,
    /// The key by which it may be repeated.
    pub(crate) key: Option<RequestKey>,
}

/// How long the name of a request may be, in bytes.
pub(crate) const MAX_REQUEST_ID: usize = 128;

/// Whoever holds the administrator token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Administrator {
    /// The request.
    pub(crate) asked: Asked,
}

/// Whoever acts in an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tenant {
    /// The environment.
    pub(crate) environment: EnvironmentId,
    /// The token, so that a stream can end with it; `None`: the administrator acts, in a session.
    token: Option<TokenId>,
    /// The session, likewise.
    session: Option<SessionKey>,
    /// Whether numbers of callers and contacts are hidden from the token.
    pub(crate) masked: bool,
    /// The request.
    pub(crate) asked: Asked,
}

impl Tenant {
    /// The command, to be refused once the token has ended.
    pub(crate) const fn command<C>(self, command: C) -> ByTenant<C> {
        ByTenant {
            tenant: self,
            command,
        }
    }

    /// Whether neither the token nor the session has ended.
    pub(crate) fn is_admitted(self, api: &Api) -> bool {
        let session = self.session;
        self.has_token(&api.engine().directory())
            && session.is_none_or(|key| api.sessions().find(&key).is_some())
    }

    /// Whether the token, if it is one of the environment's, is still there.
    fn has_token(self, directory: &Directory) -> bool {
        match self.token {
            Some(token) => directory.has_token(self.environment, token),
            None => directory.environment_by_id(self.environment).is_some(),
        }
    }

    /// Whether the administrator acts.
    pub(crate) const fn is_administrator(self) -> bool {
        self.token.is_none()
    }

    /// The same for a command whose changes are audited.
    pub(crate) fn audited<C>(self, command: C) -> Audited<ByTenant<C>> {
        Audited {
            origin: self.origin(),
            command: self.command(command),
        }
    }

    /// Where changes by this request come from.
    fn origin(self) -> Origin {
        Origin {
            token: self.token.map(|token| (self.environment, token)),
            via: self.asked.via,
            request_id: self.asked.request_id.as_str().into(),
        }
    }
}

/// A command of a tenant: refused once its token has ended, even if the request came before that.
#[derive(Clone, Debug)]
pub(crate) struct ByTenant<C> {
    /// Who asks.
    tenant: Tenant,
    /// The command.
    command: C,
}

impl<C: Command> Command for ByTenant<C> {
    type Output = C::Output;

    const CAN_WAIT: bool = C::CAN_WAIT;

    fn run(&self, draft: &mut Draft<'_>) -> Result<C::Output, CommandError> {
        if !self.tenant.has_token(draft.directory()) {
            return Err(CommandError::TokenEnded);
        }
        self.command.run(draft)
    }
}

impl Administrator {
    /// The command, whose changes are audited.
    pub(crate) fn audited<C>(self, command: C) -> Audited<C> {
        Audited {
            origin: self.origin(),
            command,
        }
    }

    /// Where changes by this request come from.
    fn origin(self) -> Origin {
        Origin {
            token: None,
            via: self.asked.via,
            request_id: self.asked.request_id.as_str().into(),
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
    let identified = match identify(api, &request) {
        Ok(identified) => identified,
        Err(error) => return error.into_response(),
    };
    let asked = request.extensions().get::<Asked>().copied();
    let Some(mut asked) = asked else {
        return ApiError::Internal.into_response();
    };
    if identified.session.is_some() {
        asked.via = Via::Console;
        request.extensions_mut().insert(asked);
    }
    let (principal, tenant) = (identified.principal, identified.tenant(api, asked));
    let share = api.limiter().map(|limiter| limiter.take(principal));
    let mut response = match (audience, principal) {
        _ if share.as_ref().is_some_and(|share| share.exhausted) => {
            ApiError::RateLimited(share.as_ref().map_or(1, |share| share.reset)).into_response()
        }
        (Audience::Tenants | Audience::AnyToken, _) if let Some(tenant) = tenant => {
            run_as(api, tenant, principal, request, next).await
        }
        (Audience::Administrator | Audience::AnyToken, Principal::Administrator) => {
            run(api, principal, request, next).await
        }
        _ => ApiError::Forbidden.into_response(),
    };
    if let Some(share) = share {
        show(&share, response.headers_mut());
    }
    response
}

/// Answers a request of somebody who acts in an environment; one with a masked token as such a token may see it.
async fn run_as(
    api: &Api,
    tenant: Tenant,
    principal: Principal,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(tenant);
    if !tenant.masked {
        return run(api, principal, request, next).await;
    }
    let path = request.extensions().get::<MatchedPath>().cloned();
    let path = path.as_ref().map_or("", MatchedPath::as_str);
    if let Err(error) = mask::check(path) {
        return error.into_response();
    }
    let response = run(api, principal, request, next).await;
    mask::mask(api, tenant.environment, path, response).await
}

/// Answers a request as long as its token is good.
async fn run(api: &Api, principal: Principal, mut request: Request, next: Next) -> Response {
    let open = match api.open_requests().open(principal) {
        Ok(open) => Arc::new(open),
        Err(error) => return error.into_response(),
    };
    // A token that ends from here on ends the request; one that has ended meanwhile is not known.
    if !holds(api, principal) {
        return ApiError::Unauthenticated.into_response();
    }
    request.extensions_mut().insert(Arc::clone(&open));
    let response = tokio::select! {
        biased;
        () = open.ended() => ApiError::Unauthenticated.into_response(),
        response = answer(api, request, next) => response,
    };
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| EndsWithToken::wrap(body, open))
}

/// Answers a request from a state that contains what it has seen, and a repeated one as before.
async fn answer(api: &Api, request: Request, next: Next) -> Response {
    if let Err(error) = sequence::wait(api, request.headers()).await {
        return error.into_response();
    }
    idempotency::answer(api, request, next).await
}

/// Whose request it is, and by what.
struct Identified {
    /// Whose token it is, or whose the session was opened with.
    principal: Principal,
    /// The session, and the environment that the administrator chose in it.
    session: Option<(SessionKey, Option<EnvironmentId>)>,
}

impl Identified {
    /// The same as somebody who acts in an environment.
    fn tenant(&self, api: &Api, asked: Asked) -> Option<Tenant> {
        let session = self.session.map(|(key, _)| key);
        match self.principal {
            Principal::Tenant(environment, id) => {
                let directory = api.engine().directory();
                let token = directory.token_by_id(environment, id);
                Some(Tenant {
                    environment,
                    token: Some(id),
                    session,
                    // One that has just ended is refused later, and sees nothing until then.
                    masked: token.is_none_or(|token| token.masked),
                    asked,
                })
            }
            Principal::Administrator => {
                let environment = self.session?.1?;
                api.engine().directory().environment_by_id(environment)?;
                Some(Tenant {
                    environment,
                    token: None,
                    session,
                    masked: false,
                    asked,
                })
            }
        }
    }
}

/// Who asks: by the token of the request, or else by its cookie.
fn identify(api: &Api, request: &Request) -> Result<Identified, ApiError> {
    let headers = request.headers();
    let client = request.extensions().get::<Client>().copied();
    if headers.contains_key(AUTHORIZATION) {
        let token = bearer(headers).map(hash_secret);
        if let Some(principal) = token.and_then(|hash| holder(api, &hash)) {
            return Ok(Identified {
                principal,
                session: None,
            });
        }
        if let Some(client) = client {
            api.failures().note(client.address);
        }
        return Err(ApiError::Unauthenticated);
    }
    let client = client.ok_or(ApiError::Unauthenticated)?;
    let (key, session) = session(api, headers, client).ok_or(ApiError::Unauthenticated)?;
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        check_csrf(&session, headers)?;
    }
    Ok(Identified {
        principal: principal_of(&session),
        session: Some((key, session.chosen)),
    })
}

/// The secret by which a request shows who asks: a token, or the cookie of a session.
pub(crate) fn credential(headers: &HeaderMap, client: Option<Client>) -> Option<&str> {
    if headers.contains_key(AUTHORIZATION) {
        bearer(headers)
    } else {
        cookie(headers, client?)
    }
}

/// The token that a request carries, if it carries one.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
    let secret = secret.trim_matches(' ');
    let is_token = scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty();
    is_token.then_some(secret)
}

/// Who holds the token with this hash.
///
/// Secrets are compared as hashes: which of them is looked up tells nothing of the secret, and the
/// hashes themselves are compared in constant time.
pub(crate) fn holder(api: &Api, hash: &TokenHash) -> Option<Principal> {
    let directory = api.engine().directory();
    let token = directory
        .token(hash)
        .filter(|token| is_same(&token.hash, hash));
    if is_same(api.administrator(), hash) {
        return Some(Principal::Administrator);
    }
    let token = token?;
    Some(Principal::Tenant(token.environment, token.id))
}

/// Whether the token of a principal has not ended; the administrator's never does.
fn holds(api: &Api, principal: Principal) -> bool {
    match principal {
        Principal::Administrator => true,
        Principal::Tenant(environment, token) => {
            api.engine().directory().has_token(environment, token)
        }
    }
}

/// The session of the request's cookie, unless it or its token has ended.
pub(crate) fn session(
    api: &Api,
    headers: &HeaderMap,
    client: Client,
) -> Option<(SessionKey, Session)> {
    if !api.has_console() {
        return None;
    }
    let key = hash_secret(cookie(headers, client)?);
    let session = api.sessions().find(&key)?;
    // The administrator's token may be another one than at that time.
    let is_same_administrator =
        session.token.is_some() || is_same(&session.opened_with, api.administrator());
    let is_good = is_same_administrator && holds(api, principal_of(&session));
    is_good.then_some((key, session))
}

/// Whose token a session was opened with.
pub(crate) fn principal_of(session: &Session) -> Principal {
    match session.token {
        None => Principal::Administrator,
        Some((environment, token)) => Principal::Tenant(environment, token),
    }
}

/// The secret in the request's cookie, if it has ours.
fn cookie(headers: &HeaderMap, client: Client) -> Option<&str> {
    let name = cookie_name(client);
    let values = headers.get_all(COOKIE).iter();
    let cookies = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    let mut ours = cookies.filter_map(|cookie| cookie.trim().split_once('='));
    let (_, secret) = ours.find(|(found, _)| *found == name)?;
    Some(secret)
}

/// The name of the cookie: where it comes over https, one that no other host can set.
pub(crate) const fn cookie_name(client: Client) -> &'static str {
    if client.is_secure {
        "__Host-ringback_session"
    } else {
        "ringback_session"
    }
}

/// Refuses a request that does not carry what only a page of ours can know.
///
/// # Errors
/// It carries nothing, or something else.
pub(crate) fn check_csrf(session: &Session, headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers.get("x-csrf-token").map(|value| value.as_bytes());
    let is_right = given.is_some_and(|given| given.ct_eq(session.csrf_token.as_bytes()).into());
    if is_right {
        Ok(())
    } else {
        Err(ApiError::CsrfToken)
    }
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
    Administrator(Administrator),
    /// An environment, which sees itself.
    Tenant(Tenant),
}

impl Asker {
    /// Whether the administrator asks.
    pub(crate) const fn is_administrator(self) -> bool {
        match self {
            Self::Administrator(_) => true,
            Self::Tenant(tenant) => tenant.is_administrator(),
        }
    }

    /// Where changes by this request come from.
    pub(crate) fn origin(self) -> Origin {
        match self {
            Self::Administrator(administrator) => administrator.origin(),
            Self::Tenant(tenant) => tenant.origin(),
        }
    }

    /// Has the engine note that this request copies what is stored of an environment, or of all of them.
    ///
    /// # Errors
    /// The token has ended meanwhile, the environment is gone, or storage takes no writes.
    pub(crate) async fn note_copy(
        self,
        api: &Api,
        environment: Option<EnvironmentId>,
        action: AuditAction,
    ) -> Result<(), ApiError> {
        let note = NoteCopy {
            origin: self.origin(),
            environment,
            action,
        };
        match self {
            Self::Administrator(_) => api.engine().submit(note).await?,
            Self::Tenant(tenant) => api.engine().submit(tenant.command(note)).await?,
        }
        Ok(())
    }

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
            Self::Administrator(_) => None,
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

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        // Who got here without a tenant's token has shown the administrator's.
        match parts.extensions.get().copied() {
            Some(tenant) => Ok(Self::Tenant(tenant)),
            None => Administrator::from_request_parts(parts, api)
                .await
                .map(Self::Administrator),
        }
    }
}

impl FromRequestParts<Api> for Administrator {
    type Rejection = ApiError;

    /// Only for paths that the administrator's token opens.
    async fn from_request_parts(parts: &mut Parts, _api: &Api) -> Result<Self, ApiError> {
        let asked = parts.extensions.get().copied();
        let asked = asked.ok_or(ApiError::Internal)?;
        Ok(Self { asked })
    }
}
