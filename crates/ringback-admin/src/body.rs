//! Reading request bodies: type, size, pace, and JSON; what is not read is drained.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use serde_json::Value;

use crate::error::ApiError;
use crate::fields::Fields;
use crate::ignored::IgnoredFields;

/// The largest body that is not a stream, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// How long a client may pause within a body.
const MAX_BODY_PAUSE: Duration = Duration::from_secs(60);

/// How long a client may take for a body that is not a stream.
const MAX_BODY_TIME: Duration = Duration::from_secs(120);

/// Reads a JSON body field by field.
///
/// # Errors
/// In this order: wrong type, too large, no JSON.
pub(crate) async fn read_fields(request: Request) -> Result<Fields, ApiError> {
    let ignored = IgnoredFields::of(&request);
    let text = read_json_text(request).await?;
    Ok(Fields::new(parse(&text)?, ignored))
}

/// The same where every field may be left out: no body at all is an empty object.
pub(crate) async fn read_optional_fields(request: Request) -> Result<Fields, ApiError> {
    if request.body().is_end_stream() && !request.headers().contains_key(CONTENT_TYPE) {
        let nothing = Value::Object(serde_json::Map::new());
        return Ok(Fields::new(nothing, IgnoredFields::of(&request)));
    }
    read_fields(request).await
}

/// Reads the text of a JSON body.
///
/// # Errors
/// Wrong type, or too large.
pub(crate) async fn read_json_text(request: Request) -> Result<Bytes, ApiError> {
    expect_type(request.headers(), "application/json")?;
    let (parts, body) = request.into_parts();
    read_whole(&parts.headers, body).await
}

/// Parses JSON.
fn parse(text: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(text).map_err(|_| ApiError::MalformedJson)
}

/// Checks the type of the body: this one, in UTF-8, not compressed.
pub(crate) fn expect_type(headers: &HeaderMap, expected: &str) -> Result<(), ApiError> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(ApiError::UnsupportedMediaType);
    };
    let text = value.to_str().map_err(|_| ApiError::UnsupportedMediaType)?;
    let mut parts = text.split(';');
    let media_type = parts.next().unwrap_or_default().trim();
    let utf_8 = parts
        .filter_map(|parameter| parameter.split_once('='))
        .all(|(name, value)| {
            let value = value.trim().trim_matches('"');
            !name.trim().eq_ignore_ascii_case("charset")
                || value.eq_ignore_ascii_case("utf-8")
                || value.eq_ignore_ascii_case("us-ascii")
        });
    let plain = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
    if media_type.eq_ignore_ascii_case(expected) && utf_8 && plain {
        Ok(())
    } else {
        Err(ApiError::UnsupportedMediaType)
    }
}

/// Reads a whole body, of any type, that is not a stream.
///
/// # Errors
/// It is too large, or does not come in time.
pub(crate) async fn read_whole(headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    read_at_most(headers, body, MAX_BODY_BYTES).await
}

/// Reads a whole body of at most this many bytes.
///
/// # Errors
/// It is too large, or does not come in time.
pub(crate) async fn read_at_most(
    headers: &HeaderMap,
    body: Body,
    most: usize,
) -> Result<Bytes, ApiError> {
    let text = tokio::time::timeout(MAX_BODY_TIME, read_limited(headers, body, most)).await;
    text.map_err(|_| ApiError::BodyTimeout)?
}

/// Reads a body of at most this many bytes.
async fn read_limited(headers: &HeaderMap, mut body: Body, most: usize) -> Result<Bytes, ApiError> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most as u64) {
        return Err(ApiError::BodyTooLarge);
    }
    let Some(first) = next_data(&mut body).await? else {
        return Ok(Bytes::new());
    };
    if first.len() > most {
        return Err(ApiError::BodyTooLarge);
    }
    let Some(second) = next_data(&mut body).await? else {
        return Ok(first);
    };
    let mut text = BytesMut::from(first);
    let mut next = Some(second);
    while let Some(data) = next {
        if text.len() + data.len() > most {
            return Err(ApiError::BodyTooLarge);
        }
        text.extend_from_slice(&data);
        next = next_data(&mut body).await?;
    }
    Ok(text.freeze())
}

/// The next piece of a body; trailers are skipped.
///
/// # Errors
/// The body pauses for too long, or breaks off.
pub(crate) async fn next_data(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    loop {
        match tokio::time::timeout(MAX_BODY_PAUSE, body.frame()).await {
            Err(_) => return Err(ApiError::BodyTimeout),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(ApiError::BodyIncomplete),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A request body of which the rest is read and thrown away, within bounds, when it is dropped: a
/// client that is still sending would otherwise see a reset connection instead of the answer.
pub(crate) struct Drained {
    /// The body; taken when it is dropped.
    body: Body,
    /// Whether it has come to its end.
    ended: bool,
}

impl Drained {
    /// Wraps a body, unless there is none.
    pub(crate) fn wrap(body: Body) -> Body {
        if body.is_end_stream() {
            body
        } else {
            Body::new(Self { body, ended: false })
        }
    }
}

impl HttpBody for Drained {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.ended = true;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if self.ended || self.body.is_end_stream() {
            return;
        }
        let body = std::mem::take(&mut self.body);
        // Outside of a runtime there is no connection to drain.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(MAX_DRAIN_TIME, drain(body)));
        }
    }
}

/// Reads what is left of a body, up to a bound.
async fn drain(mut body: Body) {
    let mut left = MAX_DRAIN_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// How much of an unread body is read at most, in bytes.
const MAX_DRAIN_BYTES: usize = 16 * 1024 * 1024;

/// How long reading the rest may take.
const MAX_DRAIN_TIME: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(content_type: &[&str], encoding: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        for value in content_type {
            headers.append(CONTENT_TYPE, value.parse().unwrap());
        }
        if let Some(encoding) = encoding {
            headers.insert(CONTENT_ENCODING, encoding.parse().unwrap());
        }
        expect_type(&headers, "application/json").is_ok()
    }

    #[test]
    fn json_in_utf_8_is_taken() {
        assert!(accepts(&["application/json"], None));
        assert!(accepts(&["Application/JSON; charset=utf-8"], None));
        assert!(accepts(
            &["application/json;charset=\"UTF-8\""],
            Some("identity")
        ));
    }

    #[test]
    fn everything_else_is_not() {
        assert!(!accepts(&[], None));
        assert!(!accepts(&["text/json"], None));
        assert!(!accepts(&["application/json", "application/json"], None));
        assert!(!accepts(&["application/json; charset=latin1"], None));
        assert!(!accepts(&["application/json"], Some("gzip")));
        assert!(!accepts(&["application/x-www-form-urlencoded"], None));
    }
}
