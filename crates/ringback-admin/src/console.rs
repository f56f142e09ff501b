//! The web console: its files come from `ringback-console`, the headers that keep it safe from here.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION,
    VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use ringback_console::{Encoding, File};

use crate::api::Api;
use crate::error::ApiError;

/// `/` and `/console` lead to the console.
pub(crate) async fn redirect(State(api): State<Api>) -> Result<Response, ApiError> {
    only_if_on(&api)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    let location = HeaderValue::from_static("/console/");
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// `/console/`: the page, which finds the view to show by itself.
pub(crate) async fn start(
    State(api): State<Api>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    only_if_on(&api)?;
    Ok(page(&headers))
}

/// `/console/{view}`: the same page.
pub(crate) async fn view(
    State(api): State<Api>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    only_if_on(&api)?;
    if ringback_console::VIEWS.contains(&name.as_str()) {
        Ok(page(&headers))
    } else {
        Err(ApiError::NoSuchPath)
    }
}

/// `/console/files/{name}`: a file that the page loads. Its name changes with its content.
pub(crate) async fn file(
    State(api): State<Api>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    only_if_on(&api)?;
    let file = ringback_console::file(&name).ok_or(ApiError::NoSuchPath)?;
    let cache = "public, max-age=31536000, immutable";
    Ok(answer(file, &headers, cache))
}

/// Adds the headers of every HTML answer: nothing is loaded from elsewhere, nothing runs that is written in the
/// page, and no other site shows it.
pub(crate) fn secure(headers: &mut HeaderMap) {
    for (name, value) in [
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
             form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
}

/// Refuses the path where the console is off.
fn only_if_on(api: &Api) -> Result<(), ApiError> {
    if api.has_console() {
        Ok(())
    } else {
        Err(ApiError::NoSuchPath)
    }
}

/// The page.
fn page(headers: &HeaderMap) -> Response {
    let mut response = answer(ringback_console::page(), headers, "no-cache");
    secure(response.headers_mut());
    response
}

/// A file in the smallest encoding that the client takes, or 304 where the client has it.
fn answer(file: &'static File, headers: &HeaderMap, cache: &'static str) -> Response {
    let known = headers.get_all(IF_NONE_MATCH).iter();
    let is_known = known
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim().trim_start_matches("W/") == file.etag || tag.trim() == "*");
    let encoding = best_encoding(headers);
    let mut response = if is_known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = Response::new(Body::from(file.bytes(encoding)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
        if let Some(name) = encoding.name() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        response
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(
        ETAG,
        HeaderValue::from_str(&file.etag).unwrap_or(HeaderValue::from_static("")),
    );
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// The smallest encoding that the client takes (RFC 9110 §12.5.3).
fn best_encoding(headers: &HeaderMap) -> Encoding {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    let named: Vec<(&str, bool)> = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|entry| {
            let (name, parameters) = entry.split_once(';').unwrap_or((entry, ""));
            let quality = parameters.trim().strip_prefix("q=").unwrap_or("1");
            (
                name.trim(),
                quality.parse::<f32>().is_ok_and(|quality| quality > 0.0),
            )
        })
        .collect();
    let takes = |wanted: &str| {
        let by_name = named
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        let any = named.iter().find(|(name, _)| *name == "*");
        by_name.or(any).is_some_and(|(_, taken)| *taken)
    };
    if takes("br") {
        Encoding::Brotli
    } else if takes("gzip") {
        Encoding::Gzip
    } else {
        Encoding::Identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_encoding_that_is_taken_is_chosen() {
        for (accepted, expected) in [
            ("gzip, deflate, br, zstd", Encoding::Brotli),
            ("gzip, deflate", Encoding::Gzip),
            ("gzip;q=0, br;q=0, *", Encoding::Identity),
            ("*", Encoding::Brotli),
            ("br;q=0, *;q=0.1", Encoding::Gzip),
            ("br;q=0, gzip;q=0.5", Encoding::Gzip),
            ("identity", Encoding::Identity),
            ("", Encoding::Identity),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(accepted));
            assert_eq!(best_encoding(&headers), expected, "{accepted}");
        }
    }
}
