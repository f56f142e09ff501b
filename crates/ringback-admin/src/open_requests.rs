//! The requests and streams that each token has open: how many there may be, and ending them with
//! their token.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use ringback_routing::{EnvironmentId, TokenId};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::auth::Principal;
use crate::error::ApiError;

/// The open requests of all tokens.
#[derive(Debug)]
pub(crate) struct OpenRequests {
    /// How many requests a token may have open.
    limit: usize,
    /// The tokens that have some.
    tokens: Mutex<HashMap<Principal, OfToken>>,
}

/// What one token has open.
#[derive(Debug)]
struct OfToken {
    /// Requests, streams among them.
    requests: usize,
    /// How many of them are streams.
    streams: usize,
    /// Cancelled when the token ends.
    ended: CancellationToken,
}

/// An open request; closed when it is dropped.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    /// The open requests of every token.
    all: Arc<OpenRequests>,
    /// Whose token the request came with.
    principal: Principal,
    /// Cancelled when the token ends.
    ended: CancellationToken,
}

/// An open stream; closed when it is dropped.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<OpenRequest>);

impl OpenRequests {
    /// No open requests; each token may have so many.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            tokens: Mutex::default(),
        })
    }

    /// Opens a request.
    ///
    /// # Errors
    /// The token has too many open already.
    pub(crate) fn open(self: &Arc<Self>, principal: Principal) -> Result<OpenRequest, ApiError> {
        let mut tokens = self.tokens.lock();
        let of_token = tokens.entry(principal).or_insert_with(|| OfToken {
            requests: 0,
            streams: 0,
            ended: CancellationToken::new(),
        });
        if of_token.requests >= self.limit {
            return Err(ApiError::TooManyOpenRequests);
        }
        of_token.requests += 1;
        Ok(OpenRequest {
            all: Arc::clone(self),
            principal,
            ended: of_token.ended.clone(),
        })
    }

    /// Ends what a token has open.
    pub(crate) fn end(&self, environment: EnvironmentId, token: TokenId) {
        let tokens = self.tokens.lock();
        if let Some(of_token) = tokens.get(&Principal::Tenant(environment, token)) {
            of_token.ended.cancel();
        }
    }
}

impl OpenRequest {
    /// Waits until the token ends.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Makes a stream of the request.
    ///
    /// # Errors
    /// Streams have half of the token's places already: the other half is left to requests.
    pub(crate) fn stream(self: &Arc<Self>) -> Result<OpenStream, ApiError> {
        let mut tokens = self.all.tokens.lock();
        let limit = self.all.limit.div_ceil(2);
        match tokens.get_mut(&self.principal) {
            Some(of_token) if of_token.streams < limit => {
                of_token.streams += 1;
                Ok(OpenStream(Arc::clone(self)))
            }
            _ => Err(ApiError::TooManyOpenRequests),
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let mut tokens = self.all.tokens.lock();
        if let Some(of_token) = tokens.get_mut(&self.principal) {
            of_token.requests -= 1;
            if of_token.requests == 0 {
                tokens.remove(&self.principal);
            }
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        if let Some(of_token) = self.0.all.tokens.lock().get_mut(&self.0.principal) {
            of_token.streams -= 1;
        }
    }
}

/// The body of an answer that ends with the token that asked for it.
pub(crate) struct EndsWithToken {
    /// The body.
    body: Body,
    /// Completes when the token ends.
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Kept until the body has been sent.
    _open: Arc<OpenRequest>,
}

impl EndsWithToken {
    /// Wraps a body.
    pub(crate) fn wrap(body: Body, open: Arc<OpenRequest>) -> Body {
        Body::new(Self {
            body,
            ended: Box::pin(open.ended.clone().cancelled_owned()),
            _open: open,
        })
    }
}

impl HttpBody for EndsWithToken {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.ended.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_leave_half_of_the_places_to_requests() {
        let all = OpenRequests::new(4);
        let open = || all.open(Principal::Administrator).map(Arc::new);
        let streams: Vec<_> = (0..2).map(|_| open().unwrap().stream().unwrap()).collect();
        assert!(open().unwrap().stream().is_err());
        let requests = [open().unwrap(), open().unwrap()];
        assert!(open().is_err());
        drop(requests);
        drop(streams);
        assert!(open().unwrap().stream().is_ok());
        assert!(all.tokens.lock().is_empty());
    }
}
