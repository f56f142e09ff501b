//! `GET /decisions/stream`: server-sent events.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::harness::{ADMINISTRATOR, Harness, Tenant};

/// An open stream.
struct Events(Body);

impl Events {
    async fn open(harness: &Harness, token: &str, last_event_id: Option<&str>) -> Self {
        let mut request = Request::get("/api/v1/decisions/stream")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {token}"));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let request = request.body(Body::empty()).expect("a request");
        let router = ringback_admin::router(harness.api.clone());
        let response = router.oneshot(request).await.expect("the router answers");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut events = Self(response.into_body());
        assert!(
            events
                .next()
                .await
                .expect("a greeting")
                .starts_with(": decisions\n\n")
        );
        events
    }

    /// The next piece; `None`: the stream has ended.
    async fn next(&mut self) -> Option<String> {
        let frame = tokio::time::timeout(Duration::from_secs(20), self.0.frame());
        let frame = frame.await.expect("something happens")?.expect("a frame");
        Some(String::from_utf8(frame.into_data().expect("data").to_vec()).expect("text"))
    }
}

async fn route(harness: &Harness, tenant: &Tenant, sid: &str) {
    let body = format!(
        r#"{{"to":"{}","from":"anonymous","sid":"{sid}"}}"#,
        tenant.digits
    );
    harness
        .done(&tenant.token, "POST", "/api/v1/route", &body)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_streamed_to_their_own_environment() {
    let harness = Harness::new();
    let ours = harness.tenant("+551130000000").await;
    let theirs = harness.tenant("+551140000000").await;
    route(&harness, &ours, "before").await;
    let mut events = Events::open(&harness, &ours.token, None).await;
    route(&harness, &theirs, "theirs").await;
    route(&harness, &ours, "first").await;
    let event = events.next().await.expect("an event");
    let lines: Vec<&str> = event.lines().collect();
    assert!(lines[0].starts_with("id: "), "{event}");
    assert_eq!(lines[1], "event: decision");
    assert_eq!(
        lines[2],
        format!(
            r#"data: {{"at":"2026-11-21T12:00:00.000Z","via":"http","to":"+551130000000","from":null,"outcome":"default","reason":"caller_anonymous","agent":{{"id":"{}","name":"inbound"}},"source_agent":null,"sid":"first","attempts":[],"ended_by":null}}"#,
            ours.inbound
        )
    );
    assert!(event.ends_with("\n\n"));

    // Whoever comes back is told what was missed.
    let id = lines[0].trim_start_matches("id: ").to_owned();
    drop(events);
    route(&harness, &ours, "missed").await;
    let request = Request::get("/api/v1/decisions/stream")
        .header("host", "localhost")
        .header("authorization", format!("Bearer {}", ours.token))
        .header("last-event-id", &id)
        .body(Body::empty())
        .expect("a request");
    let response = ringback_admin::router(harness.api.clone())
        .oneshot(request)
        .await;
    let mut events = Events(response.expect("the router answers").into_body());
    let missed = events.next().await.expect("the missed event");
    assert!(
        missed.contains("\"sid\":\"missed\"") && !missed.contains("\"sid\":\"first\""),
        "{missed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let path = format!("/api/v1/environments/{}/tokens", tenant.environment);
    let second = harness.done(ADMINISTRATOR, "POST", &path, "").await;
    let second = second["token"].as_str().expect("a token").to_owned();
    let mut events = Events::open(&harness, &second, None).await;
    let mut kept = Events::open(&harness, &tenant.token, None).await;
    let listed = harness.done(ADMINISTRATOR, "GET", &path, "").await;
    let id = listed[1]["id"].as_str().expect("an id");
    harness
        .done(ADMINISTRATOR, "DELETE", &format!("{path}/{id}"), "")
        .await;
    route(&harness, &tenant, "in-1").await;
    assert_eq!(events.next().await, None);
    assert!(kept.next().await.is_some());
}
