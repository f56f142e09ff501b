//! Reading on one node what was written on another: `X-Ringback-Sequence` of an answer goes into
//! `X-Ringback-Min-Sequence` of the next request.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use ringback_engine::Sequence;

use crate::api::Api;
use crate::error::{ApiError, FieldErrors};

/// Tells up to which entry of the log an answer knows the state.
pub(crate) fn show(sequence: Sequence, headers: &mut HeaderMap) {
    headers.insert(SEQUENCE, sequence.0.into());
}

/// Waits until the state contains what the request asks for.
///
/// # Errors
/// It does not within two seconds, or the header is no number.
pub(crate) async fn wait(api: &Api, headers: &HeaderMap) -> Result<(), ApiError> {
    let mut values = headers.get_all(MIN_SEQUENCE).iter();
    let Some(value) = values.next() else {
        return Ok(());
    };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    let (Some(number), None) = (number, values.next()) else {
        let mut errors = FieldErrors::default();
        errors.add(
            "x_ringback_min_sequence",
            "X-Ringback-Min-Sequence must be the number of an X-Ringback-Sequence.",
        );
        return Err(errors.into());
    };
    let applied = api.engine().wait_until_applied(Sequence(number));
    let waited = tokio::time::timeout(MAX_WAIT, applied).await;
    waited.map_err(|_| ApiError::SequenceNotReached)
}

/// Of an answer.
const SEQUENCE: HeaderName = HeaderName::from_static("x-ringback-sequence");

/// Of a request.
const MIN_SEQUENCE: HeaderName = HeaderName::from_static("x-ringback-min-sequence");

/// How long a request waits.
const MAX_WAIT: Duration = Duration::from_secs(2);
