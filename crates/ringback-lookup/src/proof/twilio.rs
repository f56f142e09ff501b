//! Twilio: `X-Twilio-Signature`, HMAC-SHA1 over the URL, and over the parameters of a form, sorted.
//!
//! Twilio leaves the scheme's default port out of the URL or puts it in, so either holds. A name that repeats stands
//! with its distinct values, sorted, as its libraries have it.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::BASE64;
use ring::hmac;

use super::only_if;
use crate::form::Form;
use crate::request::{Method, Request};

/// Checks the proof.
pub(super) fn is_proven(secret: &str, request: &Request<'_>) -> Option<()> {
    // With this header another algorithm is meant, which is not offered.
    let settings = (request.header)("x-twilio-webhooks-signature-settings");
    only_if(settings.is_none())?;
    let signature = (request.header)("x-twilio-signature")?;
    let tag = BASE64.decode(signature.as_bytes()).ok()?;
    let parameters = match request.method {
        Method::Get => String::new(),
        Method::Post => signed_parameters(&Form::read(request.body)?),
    };
    let query = match request.query {
        "" => String::new(),
        query => format!("?{query}"),
    };
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let holds = |url: String| {
        let text = format!("{url}{query}{parameters}");
        hmac::verify(&key, text.as_bytes(), &tag).is_ok()
    };
    let other = with_or_without_port(request.url);
    only_if(holds(request.url.to_owned()) || other.is_some_and(holds))
}

/// The parameters as they are signed.
fn signed_parameters(form: &Form) -> String {
    let mut sorted: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in form.pairs() {
        sorted.entry(name).or_default().insert(value);
    }
    let of_name = |(name, values): (&str, BTreeSet<&str>)| {
        let parts = values.into_iter().map(|value| format!("{name}{value}"));
        parts.collect::<String>()
    };
    sorted.into_iter().map(of_name).collect()
}

/// The same URL with the default port of its scheme if it has none, without it if it has it; `None`: it has another.
fn with_or_without_port(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let default = match scheme {
        "https" => ":443",
        _ => ":80",
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // The last colon of an IPv6 host without port stands within its brackets.
    let has_port = host.rfind(':') > host.rfind(']');
    match host.strip_suffix(default) {
        Some(bare) if has_port => Some(format!("{scheme}://{bare}{path}")),
        _ if has_port => None,
        _ => Some(format!("{scheme}://{host}{default}{path}")),
    }
}
