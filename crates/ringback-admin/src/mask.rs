//! What a masked token sees: numbers of callers and contacts with stars for all but their last two digits.
//!
//! Answers are masked as a whole, where they leave, and not field by field: a number that a new field or a text for
//! people shows is hidden too. Numbers of the environment itself stay as they are. So do paths that show nothing but what
//! the environment has set up, as [`SETTINGS`] lists them: masked there, a target would be saved with stars.

use axum::body::{Body, HttpBody};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::TryStreamExt;
use http_body_util::BodyExt;
use ringback_routing::{E164, EnvironmentId};

use crate::api::Api;
use crate::error::ApiError;

/// Refuses a path that a masked token cannot be allowed without showing it what it must not see.
///
/// # Errors
/// It is such a path.
pub(crate) fn check(path: &str) -> Result<(), ApiError> {
    let is_export = path.starts_with("/api/v1/contacts/") && path.ends_with("/export");
    if is_export || is_one_of(&CLOSED, path) {
        return Err(ApiError::TokenIsMasked);
    }
    Ok(())
}

/// The answer of a path, as a masked token of the environment sees it.
pub(crate) async fn mask(
    api: &Api,
    environment: EnvironmentId,
    path: &str,
    response: Response,
) -> Response {
    if is_one_of(&SETTINGS, path) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let api = api.clone();
    let hide = move |piece: Bytes| {
        let directory = api.engine().directory();
        hide(&piece, |number| {
            let number = directory.number(number);
            number.is_some_and(|number| number.record.environment == environment)
        })
    };
    let body = if body.size_hint().exact().is_some() {
        match body.collect().await {
            Ok(whole) => Body::from(hide(whole.to_bytes())),
            Err(_) => return ApiError::Internal.into_response(),
        }
    } else {
        // Each piece of a stream is whole events, so no number lies across two.
        Body::from_stream(body.into_data_stream().map_ok(hide))
    };
    // Masked, a text is as long as before; but it says so itself.
    parts.headers.remove(axum::http::header::CONTENT_LENGTH);
    Response::from_parts(parts, body)
}

/// A JSON text in which what may be a number is masked, but for those that may be seen: digits behind a `+`, and in
/// a URI any that are long enough.
fn hide(text: &[u8], is_own: impl Fn(E164) -> bool) -> Bytes {
    let mut shown = text.to_vec();
    let mut string: Option<usize> = None;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, string) {
            (b'\\', Some(_)) => at += 1,
            (b'"', None) => string = Some(at + 1),
            (b'"', Some(_)) => string = None,
            (b'0'..=b'9', Some(start)) => {
                let digits = digits_at(text, at);
                let has_plus = text.get(at - 1) == Some(&b'+');
                let is_number = has_plus || is_uri(text.get(start..).unwrap_or_default());
                if is_number && digits.len() >= LEAST_DIGITS && !number(digits).is_some_and(&is_own)
                {
                    let hidden = at..at + digits.len() - SHOWN_DIGITS;
                    shown.get_mut(hidden).unwrap_or_default().fill(b'*');
                }
                at += digits.len() - 1;
            }
            _ => {}
        }
        at += 1;
    }
    shown.into()
}

/// The digits that begin here.
fn digits_at(text: &[u8], at: usize) -> &[u8] {
    let rest = text.get(at..).unwrap_or_default();
    let end = rest.iter().position(|byte| !byte.is_ascii_digit());
    rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
}

/// The number that the digits spell, if they are one.
fn number(digits: &[u8]) -> Option<E164> {
    E164::from_digits(str::from_utf8(digits).ok()?.parse().ok()?)
}

/// Whether a text begins as the URI of a target does.
fn is_uri(text: &[u8]) -> bool {
    let begins = |scheme: &&[u8]| {
        let start = text.get(..scheme.len()).unwrap_or_default();
        start.eq_ignore_ascii_case(scheme)
    };
    [&b"sip:"[..], b"sips:", b"tel:"].iter().any(begins)
}

/// Whether a path is one of these, or below one.
fn is_one_of(paths: &[&str], path: &str) -> bool {
    let is_below = |above: &&str| {
        path.strip_prefix(above)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    paths.iter().any(is_below)
}

/// What a masked token may not open: what copies or sends out what is hidden from it.
const CLOSED: [&str; 3] = ["/api/v1/connectors", "/api/v1/export", "/api/v1/webhooks"];

/// What shows only what the environment has set up.
const SETTINGS: [&str; 6] = [
    "/api/v1/agents",
    "/api/v1/audit",
    "/api/v1/callback-agents",
    "/api/v1/phone-numbers",
    "/api/v1/problems",
    "/api/v1/targets",
];

/// The shortest number, in digits.
const LEAST_DIGITS: usize = 7;

/// How many digits of a number are seen.
const SHOWN_DIGITS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_but_the_own_are_masked_wherever_they_stand_in_a_text() {
        let own = E164::from_digits(551_130_000_000).unwrap();
        for (text, masked) in [
            (
                r#"{"from":"+5511987654321","to":"+551130000000"}"#,
                r#"{"from":"+***********21","to":"+551130000000"}"#,
            ),
            (
                r#"["it was \"+5511987654321\" that called",5511987654321]"#,
                r#"["it was \"+***********21\" that called",5511987654321]"#,
            ),
            (
                r#"{"uri":"SIP:5511987654321@pbx:5060","sid":"5511987654321@x"}"#,
                r#"{"uri":"SIP:***********21@pbx:5060","sid":"5511987654321@x"}"#,
            ),
            (
                r#"{"uri":"sip:551130000000@10.0.0.1;from=+12025550142"}"#,
                r#"{"uri":"sip:551130000000@10.0.0.1;from=+*********42"}"#,
            ),
            (
                "id: 17-5\nevent: decision\ndata: {\"from\":\"+12025550142\"}\n\n",
                "id: 17-5\nevent: decision\ndata: {\"from\":\"+*********42\"}\n\n",
            ),
            (
                r#"{"at":"2026-11-21T12:00:00.000+0000","n":"+123456"}"#,
                r#"{"at":"2026-11-21T12:00:00.000+0000","n":"+123456"}"#,
            ),
            (r#""\\+5511987654321"#, r#""\\+***********21"#),
            (r#""\"#, r#""\"#),
        ] {
            let shown = hide(text.as_bytes(), |number| number == own);
            assert_eq!(str::from_utf8(&shown).unwrap(), masked);
        }
    }

    #[test]
    fn paths_below_a_closed_one_are_closed_and_others_are_not() {
        for (path, is_open) in [
            ("/api/v1/export/{kind}", false),
            ("/api/v1/connectors", false),
            ("/api/v1/webhooks/{id}/test", false),
            ("/api/v1/contacts/{number}/export", false),
            ("/api/v1/contacts/{number}", true),
            ("/api/v1/exports", true),
        ] {
            assert_eq!(check(path).is_ok(), is_open, "{path}");
        }
    }
}
