//! Masked tokens: what they see of numbers, and what they may not ask.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::harness::{ADMINISTRATOR, Harness, Tenant, text};

/// The number of a contact, and what is seen of it.
const CONTACT: &str = "+5511987654321";
const MASKED: &str = "+***********21";

/// An environment with a call to a contact and a return, and a masked token of it.
async fn setup(harness: &Harness) -> (Tenant, String) {
    let tenant = harness.tenant("+551130000000").await;
    let path = format!("/api/v1/environments/{}/tokens", tenant.environment);
    let body = r#"{"name":"support","masked":true}"#;
    let made = harness.done(ADMINISTRATOR, "POST", &path, body).await;
    assert_eq!(made["masked"], true);
    let call = json!({ "agent_id": tenant.outbound, "to": CONTACT, "from": tenant.digits, "sid": "out-1" });
    let body = call.to_string();
    harness
        .done(&tenant.token, "POST", "/api/v1/calls", &body)
        .await;
    let question = json!({ "from": CONTACT, "to": tenant.digits, "sid": "in-1" }).to_string();
    harness
        .done(&tenant.token, "POST", "/api/v1/route", &question)
        .await;
    (tenant, text(&made["token"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_masked_token_sees_the_last_two_digits_of_contacts_and_its_own_numbers_in_full() {
    let harness = Harness::new();
    let (tenant, token) = setup(&harness).await;
    let template = json!({ "target_template": "sip:{caller}@pbx.example.com" }).to_string();
    let environment = format!("/api/v1/environments/{}", tenant.environment);
    harness
        .done(ADMINISTRATOR, "PATCH", &environment, &template)
        .await;
    let calls = json!({ "agent_id": tenant.outbound, "to": "+5511987654399", "from": "+551130000000", "sid": "out-2" });
    let question = json!({ "from": CONTACT, "to": tenant.digits, "sid": "in-2" });
    let explained = "/api/v1/route?explain=true&from=%2B5511987654321&to=%2B551130000000";
    for (method, path, body) in [
        ("GET", "/api/v1/contacts", Value::Null),
        ("GET", "/api/v1/contacts/%2B5511987654321", Value::Null),
        ("GET", "/api/v1/calls", Value::Null),
        ("GET", "/api/v1/calls?contact=%2B5511987654321", Value::Null),
        ("GET", "/api/v1/decisions", Value::Null),
        ("GET", "/api/v1/decisions?number=5511987654321", Value::Null),
        ("GET", explained, Value::Null),
        ("POST", "/api/v1/route", question),
        ("POST", "/api/v1/calls", calls),
    ] {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = harness.ask(&token, method, path, &body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
        assert!(
            !answer.text.contains("55119876543"),
            "{path}: {}",
            answer.text
        );
        let is_seen = answer.text.contains(MASKED) || answer.text.contains("+***********99");
        assert!(is_seen, "{path}: {}", answer.text);
        // The other token sees what there is.
        if method == "GET" {
            let whole = harness.ask(&tenant.token, method, path, "").await;
            assert!(whole.text.contains(CONTACT), "{path}: {}", whole.text);
            assert_eq!(whole.text.len(), answer.text.len());
        }
    }
    let decision = &harness.done(&token, "GET", "/api/v1/decisions", "").await[0];
    assert_eq!(decision["from"], MASKED);
    assert_eq!(decision["to"], tenant.digits.as_str());
    let targets = &harness.done(&token, "GET", explained, "").await["targets"];
    assert_eq!(targets[0]["uri"], "sip:+***********21@pbx.example.com");
    // What the environment has set up can be read, changed and saved as it is.
    let numbers = harness
        .done(&token, "GET", "/api/v1/phone-numbers", "")
        .await;
    assert_eq!(numbers[0]["number"], tenant.digits.as_str());
    let path = format!("/api/v1/agents/{}", tenant.inbound);
    let target = json!({ "targets": [{ "uri": "sip:551140001234@pbx.example.com" }] }).to_string();
    let agent = harness.done(&token, "PATCH", &path, &target).await;
    assert_eq!(
        agent["targets"][0]["uri"],
        "sip:551140001234@pbx.example.com"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_masked_token_is_refused_what_would_tell_it_whole_numbers() {
    let harness = Harness::new();
    let (tenant, token) = setup(&harness).await;
    for path in [
        "/api/v1/contacts?prefix=%2B5511",
        "/api/v1/decisions?number=119876",
        "/api/v1/decisions?number=551198",
        "/api/v1/export/calls",
        "/api/v1/export/decisions?format=csv",
    ] {
        let answer = harness.ask(&token, "GET", path, "").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(answer.json()["code"], "TOKEN_IS_MASKED", "{path}");
        let answer = harness.ask(&tenant.token, "GET", path, "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
    }
    // A whole number is looked for as such, not as part of another.
    let shorter = "/api/v1/decisions?number=55119876543";
    let found = harness.ask(&token, "GET", shorter, "").await;
    assert!(
        found.status == StatusCode::FORBIDDEN || found.json()["data"] == json!([]),
        "{}",
        found.text
    );
    // A path or a body may name one.
    let path = "/api/v1/contacts/%2B5511987654321";
    harness.done(&token, "DELETE", path, "").await;
    let gone = harness.ask(&tenant.token, "GET", path, "").await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_streamed_masked_to_a_masked_token() {
    let harness = Harness::new();
    let (tenant, token) = setup(&harness).await;
    let request = Request::get("/api/v1/decisions/stream")
        .header("host", "localhost")
        .header("authorization", format!("Bearer {token}"));
    let request = request.body(Body::empty()).expect("a request");
    let router = ringback_admin::router(harness.api.clone());
    let mut body = router
        .oneshot(request)
        .await
        .expect("an answer")
        .into_body();
    let mut next = async || {
        let frame = tokio::time::timeout(Duration::from_secs(20), body.frame());
        let frame = frame.await.expect("in time").expect("a piece");
        let piece = frame.expect("a piece").into_data().expect("data");
        String::from_utf8(piece.to_vec()).expect("text")
    };
    assert!(next().await.starts_with(": decisions"));
    let question = json!({ "from": CONTACT, "to": tenant.digits, "sid": "in-9" }).to_string();
    harness
        .done(&tenant.token, "POST", "/api/v1/route", &question)
        .await;
    let event = next().await;
    assert!(event.contains(r#""sid":"in-9""#), "{event}");
    assert!(event.contains(MASKED), "{event}");
    assert!(!event.contains(CONTACT), "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_masked_tokens_and_their_sessions_are_said_to_be_masked() {
    let harness = Harness::new();
    let (tenant, token) = setup(&harness).await;
    let path = format!("/api/v1/environments/{}/tokens", tenant.environment);
    let listed = harness.done(ADMINISTRATOR, "GET", &path, "").await;
    assert_eq!(listed[0].get("masked"), None);
    assert_eq!(listed[1]["masked"], true);
    for (token, masked) in [(&token, true), (&tenant.token, false)] {
        let body = json!({ "token": token }).to_string();
        let request = Request::post("/api/v1/session")
            .header("content-type", "application/json")
            .body(Body::from(body))
            .expect("a request");
        let opened = harness.send(request).await;
        assert_eq!(opened.json()["data"]["masked"], masked);
        let cookie = opened.header("set-cookie").split(';').next().expect("one");
        let request = Request::get("/api/v1/decisions")
            .header("cookie", cookie)
            .body(Body::empty())
            .expect("a request");
        let seen = harness.send(request).await.json()["data"][0]["from"].clone();
        assert_eq!(seen, if masked { MASKED } else { CONTACT });
    }
    let audit = harness.done(ADMINISTRATOR, "GET", "/api/v1/audit?type=token", "");
    let audit = audit.await;
    assert_eq!(audit[0]["after"]["masked"], true);
    assert_eq!(audit[1]["after"].get("masked"), None);
}
