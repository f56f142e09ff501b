//! Fields of a body that mean nothing are ignored, and named in `X-Ignored-Fields`.

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;

use crate::harness::{ADMINISTRATOR, Answer, Harness, Tenant};

/// Sends a body to a path of the description.
async fn send(harness: &Harness, tenant: &Tenant, operation: &Operation, body: &str) -> Answer {
    let connector = if operation.path.starts_with("/api/v1/connectors/") {
        let new = r#"{"dialect":"text"}"#;
        let made = harness.done(&tenant.token, "POST", "/api/v1/connectors", new);
        made.await["id"].as_str().unwrap_or_default().to_owned()
    } else {
        String::new()
    };
    let (token, id) = if !connector.is_empty() {
        (tenant.token.as_str(), &connector)
    } else if operation.path.starts_with("/api/v1/environments") {
        (ADMINISTRATOR, &tenant.environment)
    } else if operation.path.starts_with("/api/v1/phone-numbers") {
        (tenant.token.as_str(), &tenant.number)
    } else {
        (tenant.token.as_str(), &tenant.inbound)
    };
    let request = Request::builder()
        .method(operation.method.to_uppercase().as_str())
        .uri(
            operation
                .path
                .replace("{id}", id)
                .replace("{number}", "+5511987654321"),
        )
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", &operation.content_type)
        .body(Body::from(body.to_owned()));
    harness.send(request.expect("a request")).await
}

/// An operation that takes a body.
struct Operation {
    path: String,
    method: String,
    content_type: String,
}

/// All of these.
fn operations() -> Vec<Operation> {
    let description = include_str!("../../src/openapi.json");
    let description: Value = serde_json::from_str(description).expect("the description is JSON");
    let paths = description["paths"].as_object().expect("paths").iter();
    let operations = paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods").iter();
        methods.filter_map(|(method, operation)| {
            // It takes a session, not a token; or it needs a cluster.
            let elsewhere = ["chooseEnvironment", "recoverCluster"];
            let is_elsewhere = elsewhere.iter().any(|id| operation["operationId"] == *id);
            let content = operation["requestBody"]["content"].as_object()?;
            // What platforms send is theirs.
            if is_elsewhere || path.starts_with("/lookup/") {
                return None;
            }
            Some(Operation {
                path: path.clone(),
                method: method.clone(),
                content_type: content.keys().next()?.clone(),
            })
        })
    });
    operations.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_that_takes_a_body_names_what_it_ignores() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let operations = operations();
    assert!(operations.len() > 10, "{}", operations.len());
    for operation in &operations {
        let name = format!("{} {}", operation.method, operation.path);
        let body = r#"{"recency_window_second":1}"#;
        let answer = send(&harness, &tenant, operation, body).await;
        assert!(
            [200, 201, 422].contains(&answer.status.as_u16()),
            "{name}: {}",
            answer.text
        );
        assert_eq!(
            answer.header("x-ignored-fields"),
            "recency_window_second",
            "{name}"
        );
        for body in ["{}", "{", "[{\"a\":1}]"] {
            let answer = send(&harness, &tenant, operation, body).await;
            assert_eq!(
                answer.headers.get("x-ignored-fields"),
                None,
                "{name} {body}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_is_not_named_and_the_request_is_carried_out() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let path = format!("/api/v1/agents/{}/callback", tenant.inbound);
    let body = |window: &str| {
        format!(
            r#"{{"source_agent_ids":["{}"],"callback_trigger_statuses":["busy"],"{window}":60}}"#,
            tenant.outbound
        )
    };
    let right = harness
        .ask(
            &tenant.token,
            "POST",
            &path,
            &body("recency_window_seconds"),
        )
        .await;
    assert_eq!(right.status, 200);
    assert_eq!(right.headers.get("x-ignored-fields"), None);
    let wrong = harness
        .ask(&tenant.token, "POST", &path, &body("recency_window_second"))
        .await;
    assert_eq!(wrong.status, 200);
    assert_eq!(wrong.header("x-ignored-fields"), "recency_window_second");
    assert_eq!(
        wrong.json()["data"]["callback_config"]["recency_window_seconds"],
        Value::Null
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_ignored_fields_too() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let body = r#"{"Source_agent_ids":[],"a":1}"#;
    let path = format!("/api/v1/agents/{}/callback", tenant.inbound);
    let answer = harness.ask(&tenant.token, "PUT", &path, body).await;
    assert_eq!(answer.fields(), ["source_agent_ids"]);
    assert_eq!(answer.header("x-ignored-fields"), "Source_agent_ids, a");
    // The direction is judged before the fields, but after the body was read.
    let path = format!("/api/v1/agents/{}/callback", tenant.outbound);
    let answer = harness.ask(&tenant.token, "PUT", &path, body).await;
    assert_eq!(answer.json()["code"], "INVALID_AGENT_DIRECTION");
    assert_eq!(answer.header("x-ignored-fields"), "Source_agent_ids, a");
    // A body that is not read names nothing.
    let path = "/api/v1/agents/00000000-0000-7000-8000-000000000000/callback";
    let answer = harness.ask(&tenant.token, "PUT", path, body).await;
    assert_eq!(answer.headers.get("x-ignored-fields"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_within_targets_are_named_with_their_place() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let targets = r#"["sip:a@b",{"uri":"sip:a@b","weigth":1},{"url":"sip:a@b","priority":1}]"#;
    let path = format!("/api/v1/agents/{}", tenant.inbound);
    let body = format!(r#"{{"targets":{targets}}}"#);
    let answer = harness.ask(&tenant.token, "PATCH", &path, &body).await;
    assert_eq!(answer.fields(), ["targets.2.uri"]);
    assert_eq!(
        answer.header("x-ignored-fields"),
        "targets.1.weigth, targets.2.url"
    );
    let path = format!("/api/v1/environments/{}", tenant.environment);
    let body = format!(r#"{{"fallback_targets":{targets},"fallback_target":[]}}"#);
    let answer = harness.ask(ADMINISTRATOR, "PATCH", &path, &body).await;
    assert_eq!(
        answer.header("x-ignored-fields"),
        "fallback_targets.1.weigth, fallback_targets.2.url, fallback_target"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_names_what_it_ignores_in_any_line() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let agent = &tenant.outbound;
    let lines = format!(
        "{{\"agent_id\":\"{agent}\",\"to\":\"+5511987654321\",\"duration\":[1,{{\"b\":2}}]}}\n\
         {{\"duration\":1,\"to\":\"x\",\"Sid\":1}}\n\
         {{\"a, b\":1\n"
    );
    let request = Request::post("/api/v1/calls/batch")
        .header("authorization", format!("Bearer {}", tenant.token))
        .header("content-type", "application/x-ndjson")
        .body(Body::from(lines));
    let answer = harness.send(request.expect("a request")).await;
    let data = &answer.json()["data"];
    assert_eq!(
        (&data["accepted"], &data["rejected"]),
        (&1.into(), &2.into())
    );
    assert_eq!(answer.header("x-ignored-fields"), "duration, Sid");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_make_a_safe_and_short_header() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let hostile = r#"{"a\r\nSet-Cookie: b=c":1,"\u0000\ud83d\ude00":2}"#;
    let many: String = (0..5_000)
        .map(|number| format!("\"{number:x<100}\":0,"))
        .collect();
    let many = format!("{{{many}\"z\":0}}");
    for path in ["/api/v1/calls", "/api/v1/agents"] {
        let answer = harness.ask(&tenant.token, "POST", path, hostile).await;
        let mut names: Vec<&str> = answer.header("x-ignored-fields").split(", ").collect();
        names.sort_unstable();
        assert_eq!(names, ["%00%F0%9F%98%80", "a%0D%0ASet-Cookie%3A%20b%3Dc"]);
        assert_eq!(answer.headers.get("set-cookie"), None);
        let answer = harness.ask(&tenant.token, "POST", path, &many).await;
        let header = answer.header("x-ignored-fields");
        assert!(
            header.len() < 1_100 && header.ends_with(", ..."),
            "{header}"
        );
    }
}
