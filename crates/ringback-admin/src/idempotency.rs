//! Changing requests that may be repeated: `Idempotency-Key`.
//!
//! The first answer to a request with a key is kept for a day, in the same commit as its change, so it is there
//! exactly if the change is: after a crash, and on every node of a cluster. The same request gets it again, byte for
//! byte, and another one with the key is refused. Only answers of changes that were carried out (2xx) are kept: what was
//! refused has changed nothing, and is checked again.
//!
//! A key belongs to the token, or to the session of the console, that it came with. Names and contents are hashes keyed
//! with the token's secret, and answers are sealed with it. The server does not keep that secret, so neither the log
//! nor a backup tells what was asked and answered: not a new token, and not an erased number.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use ringback_engine::{AnswerId, Command, KeptAnswer, Keyed};
use uuid::Uuid;

use crate::api::Api;
use crate::auth::{Asked, Tenant, credential};
use crate::body::read_whole;
use crate::client::Client;
use crate::error::{ApiError, FieldErrors};
use crate::reply::Answer;
use crate::sequence;

/// The key of a request, bound to whoever asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestKey {
    /// What names, contents and answers are hashed and sealed with.
    secret: [u8; 32],
    /// The hash of the request, once it has been read.
    request: [u8; 16],
}

impl std::fmt::Debug for RequestKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RequestKey").finish_non_exhaustive()
    }
}

/// Hashes a request piece by piece.
pub(crate) struct RequestHash(hmac::Context);

impl RequestHash {
    /// Adds a piece of the body.
    pub(crate) fn update(&mut self, body: &[u8]) {
        self.0.update(body);
    }
}

impl RequestKey {
    /// The key with this text of whoever holds this credential.
    fn new(credential: &str, text: &str) -> Self {
        let holder = hmac::Key::new(hmac::HMAC_SHA256, credential.as_bytes());
        Self {
            secret: sign(&holder, &[b"ringback idempotency key ", text.as_bytes()]),
            request: [0; 16],
        }
    }

    /// The name of the request.
    fn id(&self) -> AnswerId {
        AnswerId(first_half(&self.derived(&[b"name"])))
    }

    /// Begins the hash of a request: of all that says what it asks for.
    pub(crate) fn hash(&self, request: &Request) -> RequestHash {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.derived(&[b"request"]));
        let mut hash = hmac::Context::with_key(&key);
        let target = request.uri().path_and_query();
        let target = target.map_or("", |target| target.as_str());
        let tenant = request.extensions().get::<Tenant>();
        let environment = tenant.map_or(Uuid::nil(), |tenant| tenant.environment.0);
        hash.update(environment.as_bytes());
        for text in [request.method().as_str(), target] {
            hash.update(text.as_bytes());
            // In no method and no path.
            hash.update(b"\n");
        }
        RequestHash(hash)
    }

    /// The key, once all of the request was hashed.
    pub(crate) fn of_request(self, hash: RequestHash) -> Self {
        let mut tag = [0; 32];
        copy(&mut tag, hash.0.sign().as_ref());
        Self {
            request: first_half(&tag),
            ..self
        }
    }

    /// The call id of a call that was reported without one, on this line of a batch: the same however often the batch
    /// is sent.
    pub(crate) fn made_sid(&self, line: u64, text: &[u8]) -> Arc<str> {
        let hash = self.derived(&[b"call", &line.to_be_bytes(), text]);
        let id = uuid::Builder::from_custom_bytes(first_half(&hash)).into_uuid();
        id.to_string().into()
    }

    /// The command, whose first answer is kept.
    pub(crate) fn keyed<C, A>(
        self,
        command: C,
        answer: A,
    ) -> Keyed<C, impl Fn(&C::Output, Uuid) -> Option<Vec<u8>> + Send + 'static>
    where
        C: Command,
        A: Fn(&C::Output) -> Result<Answer, ApiError> + Send + 'static,
    {
        Keyed {
            id: self.id(),
            request: self.request,
            command,
            answer: move |output: &C::Output, unique| {
                let answer = answer(output).ok()?;
                answer
                    .status
                    .is_success()
                    .then(|| self.seal(unique, &answer))
                    .flatten()
            },
        }
    }

    /// Seals an answer. Each is sealed with a key of its own, so the nonce is always the same.
    fn seal(&self, unique: Uuid, answer: &Answer) -> Option<Vec<u8>> {
        let mut text = write(answer);
        self.sealing(unique)?
            .seal_in_place_append_tag(nonce(), Aad::empty(), &mut text)
            .ok()?;
        Some([unique.as_bytes().as_slice(), &text].concat())
    }

    /// Opens a sealed answer; `None` if it was sealed with another key, or altered.
    fn open(&self, sealed: &[u8]) -> Option<Answer> {
        let (unique, text) = sealed.split_first_chunk::<16>()?;
        let mut text = text.to_vec();
        let key = self.sealing(Uuid::from_bytes(*unique))?;
        read(key.open_in_place(nonce(), Aad::empty(), &mut text).ok()?)
    }

    /// What the answer with this identifier is sealed with.
    fn sealing(&self, unique: Uuid) -> Option<LessSafeKey> {
        let secret = self.derived(&[b"answer", unique.as_bytes()]);
        let key = UnboundKey::new(&CHACHA20_POLY1305, &secret).ok()?;
        Some(LessSafeKey::new(key))
    }

    /// A secret for one purpose.
    fn derived(&self, purpose: &[&[u8]]) -> [u8; 32] {
        sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.secret), purpose)
    }

    /// Has handlers find the key in the extensions of the request.
    fn put_into(self, extensions: &mut Extensions) {
        if let Some(asked) = extensions.get_mut::<Asked>() {
            asked.key = Some(self);
        }
        if let Some(tenant) = extensions.get_mut::<Tenant>() {
            tenant.asked.key = Some(self);
        }
    }
}

/// Answers a request: one with a key as it was answered first.
pub(crate) async fn answer(api: &Api, request: Request, next: Next) -> Response {
    if [Method::GET, Method::HEAD].contains(request.method()) {
        return next.run(request).await;
    }
    let (key, request) = match with_key(request).await {
        Ok((Some(key), request)) => (key, request),
        Ok((None, request)) => return next.run(request).await,
        Err(error) => return error.into_response(),
    };
    match first_answer(api, key).await {
        Ok(None) => {}
        Ok(Some(first)) => return first,
        Err(error) => return error.into_response(),
    }
    let response = next.run(request).await;
    if response.status().is_success() {
        return response;
    }
    // The same request may have been carried out meanwhile, for another client: then the refusal is about what that one
    // has changed. Where storage cannot be read, it stands.
    match first_answer(api, key).await {
        Ok(Some(first)) => first,
        Err(error @ ApiError::IdempotencyKeyReused) => error.into_response(),
        Ok(None) | Err(_) => response,
    }
}

/// The key of a request, and the request, which handlers can still read; no key if it has none, or if its handler
/// reads the body as it comes.
async fn with_key(mut request: Request) -> Result<(Option<RequestKey>, Request), ApiError> {
    let Some(text) = key_text(request.headers())? else {
        return Ok((None, request));
    };
    let client = request.extensions().get::<Client>().copied();
    let credential = credential(request.headers(), client).ok_or(ApiError::Unauthenticated)?;
    let key = RequestKey::new(credential, &text);
    let path = request.extensions().get::<MatchedPath>();
    if path.is_some_and(|path| STREAMED.contains(&path.as_str())) {
        key.put_into(request.extensions_mut());
        return Ok((None, request));
    }
    let mut hash = key.hash(&request);
    let (mut parts, body) = request.into_parts();
    let body = read_whole(&parts.headers, body).await?;
    hash.update(&body);
    let key = key.of_request(hash);
    key.put_into(&mut parts.extensions);
    Ok((Some(key), Request::from_parts(parts, Body::from(body))))
}

/// What the header says.
fn key_text(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = std::str::from_utf8(value.as_bytes()).ok();
    let is_sane = |text: &&str| {
        let length = text.chars().count();
        (1..=MAX_CHARACTERS).contains(&length) && !text.chars().any(char::is_control)
    };
    match text.filter(is_sane) {
        Some(text) if values.next().is_none() => Ok(Some(text.to_owned())),
        _ => {
            let mut errors = FieldErrors::default();
            errors.add(
                "idempotency_key",
                format!("The idempotency key must have 1 to {MAX_CHARACTERS} characters."),
            );
            Err(errors.into())
        }
    }
}

/// Whether an answer to a request with this name is kept, whatever the request asked for.
pub(crate) async fn is_answered(api: &Api, key: RequestKey) -> Result<bool, ApiError> {
    Ok(kept(api, key).await?.is_some())
}

/// The first answer to a request, if it was carried out before.
///
/// # Errors
/// The key was used for another request, or storage cannot be read.
pub(crate) async fn first_answer(api: &Api, key: RequestKey) -> Result<Option<Response>, ApiError> {
    let Some(kept) = kept(api, key).await? else {
        return Ok(None);
    };
    if kept.request != key.request {
        return Err(ApiError::IdempotencyKeyReused);
    }
    let first = key.open(&kept.answer).ok_or_else(|| {
        tracing::error!("an answer that was kept cannot be opened");
        ApiError::Internal
    })?;
    let mut response = first.into_response();
    let headers = response.headers_mut();
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    sequence::show(api.engine().applied(), headers);
    Ok(Some(response))
}

/// What is kept under the name of a request.
async fn kept(api: &Api, key: RequestKey) -> Result<Option<KeptAnswer>, ApiError> {
    let engine = api.engine().clone();
    let found = tokio::task::spawn_blocking(move || engine.kept_answer(key.id())).await;
    found
        .map_err(|_panicked| ApiError::Internal)?
        .map_err(|error| {
            tracing::error!(%error, "an answer that was kept could not be read");
            ApiError::StorageUnavailable
        })
}

/// The bytes of an answer: status (2) ‖ length of the header that tells about calls (2) ‖ this header ‖ body.
fn write(answer: &Answer) -> Vec<u8> {
    let recorded = answer.recorded.as_ref().map(HeaderValue::as_bytes);
    let recorded = recorded.unwrap_or_default();
    // The header is short.
    let length = u16::try_from(recorded.len()).unwrap_or_default();
    let mut to = Vec::with_capacity(64 + recorded.len() + answer.body.len());
    to.extend_from_slice(&answer.status.as_u16().to_be_bytes());
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(recorded);
    to.extend_from_slice(&answer.body);
    to
}

/// Reads the bytes of an answer.
fn read(bytes: &[u8]) -> Option<Answer> {
    let (status, bytes) = bytes.split_first_chunk::<2>()?;
    let (length, bytes) = bytes.split_first_chunk::<2>()?;
    let (recorded, body) = bytes.split_at_checked(u16::from_be_bytes(*length).into())?;
    let recorded = match recorded {
        [] => None,
        text => Some(HeaderValue::from_bytes(text).ok()?),
    };
    Some(Answer {
        status: StatusCode::from_u16(u16::from_be_bytes(*status)).ok()?,
        recorded,
        body: body.to_vec(),
    })
}

/// The keyed hash of these pieces.
fn sign(key: &hmac::Key, pieces: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for piece in pieces {
        context.update(piece);
    }
    let mut signed = [0; 32];
    copy(&mut signed, context.sign().as_ref());
    signed
}

/// Copies as many bytes as there are.
fn copy(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// The first half of a hash.
fn first_half(hash: &[u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    copy(&mut half, hash);
    half
}

/// The nonce of each answer.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// The request's header.
const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// In an answer: it was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// How long a key may be.
const MAX_CHARACTERS: usize = 128;

/// Paths whose bodies are read as they come.
const STREAMED: [&str; 1] = ["/api/v1/calls/batch"];

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Answer {
        Answer {
            status: StatusCode::CREATED,
            recorded: Some(HeaderValue::from_static("new=1")),
            body: b"{}".to_vec(),
        }
    }

    #[test]
    fn an_answer_is_opened_with_its_key_alone() {
        let key = RequestKey::new("secret", "key");
        let unique = Uuid::from_u128(1);
        let sealed = key.seal(unique, &sample()).unwrap();
        assert_eq!(key.open(&sealed), Some(sample()));
        for (credential, text) in [("secret", "kez"), ("secres", "key")] {
            let other = RequestKey::new(credential, text);
            assert_eq!(other.open(&sealed), None);
            assert_ne!(other.id(), key.id());
        }
        for index in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[index] ^= 1;
            assert_eq!(key.open(&altered), None, "{index}");
        }
        // Sealed again, it looks otherwise: nobody can tell that two answers are the same.
        assert_ne!(key.seal(Uuid::from_u128(2), &sample()).unwrap(), sealed);
    }
}
