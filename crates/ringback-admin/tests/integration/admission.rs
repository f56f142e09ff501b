//! Whose token opens what: every route with every kind of token, and nothing across environments.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use ringback_admin::HttpSpec;
use serde_json::Value;

use crate::harness::{ADMINISTRATOR, Harness, Tenant, text};

/// Every route below `/api/v1` that asks for a token: method and path, from the description that
/// the API gives of itself (a unit test holds that to the router).
async fn routes(harness: &Harness) -> Vec<(String, String)> {
    let description = harness
        .ask("", "GET", "/api/v1/openapi.json", "")
        .await
        .json();
    let mut routes = Vec::new();
    for (path, methods) in description["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let open = operation["security"].as_array().is_some_and(Vec::is_empty);
            if method != "parameters" && !open {
                routes.push((method.to_uppercase(), path.clone()));
            }
        }
    }
    assert!(routes.len() > 30, "{routes:?}");
    routes
}

/// A path with the identifiers of a tenant in it.
fn fill(path: &str, tenant: &Tenant) -> String {
    let id = if path.contains("/environments/") {
        &tenant.environment
    } else if path.contains("/phone-numbers/") {
        &tenant.number
    } else {
        &tenant.inbound
    };
    path.replace("{id}", id)
        .replace("{token_id}", &tenant.token_id)
        .replace("{number}", "+5511987654321")
        .replace("{kind}", "calls")
        .replace("{sid}", "in-1")
}

async fn send(
    harness: &Harness,
    method: &str,
    path: &str,
    authorization: Option<&str>,
) -> StatusCode {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    let request = request.body(Body::empty()).expect("a request");
    let answer = harness.send(request).await;
    if answer.status == StatusCode::UNAUTHORIZED {
        assert_eq!(
            answer.text,
            r#"{"success":false,"message":"Unauthenticated."}"#
        );
    }
    assert!(!answer.header("x-request-id").is_empty());
    answer.status
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_asks_for_the_right_kind_of_token() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    for (method, path) in routes(&harness).await {
        let filled = fill(&path, &tenant);
        for authorization in [
            None,
            Some("Bearer garbage".to_owned()),
            Some("Bearer ".to_owned()),
            Some(tenant.token.clone()),
            Some(format!("Basic {}", tenant.token)),
            Some(format!("Bearer {}x", tenant.token)),
            Some(format!("Bearer {} {}", tenant.token, tenant.token)),
        ] {
            let status = send(&harness, &method, &filled, authorization.as_deref()).await;
            assert_eq!(
                status,
                StatusCode::UNAUTHORIZED,
                "{method} {path} {authorization:?}"
            );
        }
        if ["/export/", "/audit"]
            .iter()
            .any(|part| path.contains(part))
        {
            // Both kinds open them.
            continue;
        }
        let administrators = [
            "/environments",
            "/status",
            "/refused-calls",
            "/reload",
            "/backup",
            "/cluster",
            "/erasures",
        ];
        let wrong = if administrators.iter().any(|part| path.contains(part)) {
            &tenant.token
        } else {
            ADMINISTRATOR
        };
        let status = send(&harness, &method, &filled, Some(&format!("Bearer {wrong}"))).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tokens_in_one_request_open_nothing() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let request = Request::get("/api/v1/agents")
        .header("authorization", format!("Bearer {}", tenant.token))
        .header("authorization", format!("Bearer {}", tenant.token));
    let answer = harness.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_environments_things_are_not_there() {
    let harness = Harness::new();
    let ours = harness.tenant("+551130000000").await;
    let theirs = harness.tenant("+551140000000").await;
    let body = format!(
        r#"{{"agent_id":"{}","to":"+5511987654321","from":"{}","sid":"out-1"}}"#,
        theirs.outbound, theirs.digits
    );
    harness
        .done(&theirs.token, "POST", "/api/v1/calls", &body)
        .await;
    let body = r#"{"to":"+551140000000","from":"+5511987654321","sid":"in-1"}"#;
    let routed = harness
        .done(&theirs.token, "POST", "/api/v1/route", body)
        .await;
    assert_eq!(routed["outcome"], "callback");

    let their_marks = [
        &theirs.environment,
        &theirs.number,
        &theirs.inbound,
        &theirs.outbound,
        &theirs.digits,
    ];
    for (method, path) in routes(&harness).await {
        if path.contains("/environments") || path.ends_with("/stream") {
            continue;
        }
        let filled = fill(&path, &theirs);
        let answer = harness.ask(&ours.token, &method, &filled, "{}").await;
        for mark in their_marks {
            assert!(
                !answer.text.contains(mark),
                "{method} {path}: {}",
                answer.text
            );
        }
        let expected = match (method.as_str(), path.as_str()) {
            // Forgetting a contact is always done, and done at home only.
            ("DELETE", "/api/v1/contacts/{number}") => StatusCode::OK,
            // What a contact asks for is asked of one environment, whether it is known there or not.
            (_, "/api/v1/opt-outs/{number}") => StatusCode::OK,
            ("GET", "/api/v1/contacts/{number}/export") => StatusCode::OK,
            (_, "/api/v1/contacts/{number}/reassigned") => StatusCode::UNPROCESSABLE_ENTITY,
            // An export is of what is at home.
            ("GET", "/api/v1/export/{kind}") => StatusCode::OK,
            // The administrator's.
            (_, "/api/v1/cluster/nodes/{node}") => StatusCode::FORBIDDEN,
            (_, path) if path.contains('{') => StatusCode::NOT_FOUND,
            _ => continue,
        };
        assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text);
    }
    // What was asked has changed nothing there.
    let contact = harness
        .done(&theirs.token, "GET", "/api/v1/contacts/+5511987654321", "")
        .await;
    assert_eq!(contact["calls"][0]["sid"], "out-1");
    let agents = harness
        .done(&theirs.token, "GET", "/api/v1/callback-agents", "")
        .await;
    assert_eq!(agents[0]["id"], Value::String(theirs.inbound.clone()));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_environments_identifiers_in_a_body_do_not_exist() {
    let harness = Harness::new();
    let ours = harness.tenant("+551130000000").await;
    let theirs = harness.tenant("+551140000000").await;
    let role = format!("/api/v1/agents/{}/callback", ours.inbound);
    let check = format!("/api/v1/callback-agents/{}/check-constraints", ours.inbound);
    let number = format!("/api/v1/phone-numbers/{}", ours.number);
    let calling = format!("/api/v1/agents/{}/calling", ours.outbound);
    for (method, path, body, field) in [
        (
            "PUT",
            &role,
            format!(r#"{{"source_agent_ids":["{}"]}}"#, theirs.outbound),
            "source_agent_ids.0",
        ),
        (
            "PATCH",
            &number,
            format!(r#"{{"default_agent_id":"{}"}}"#, theirs.inbound),
            "default_agent_id",
        ),
        (
            "PUT",
            &calling,
            format!(
                r#"{{"direction":"outbound","phone_number_ids":["{}"]}}"#,
                theirs.number
            ),
            "phone_number_ids.0",
        ),
        (
            "POST",
            &"/api/v1/calls".to_owned(),
            format!(
                r#"{{"agent_id":"{}","to":"+5511987654321"}}"#,
                theirs.outbound
            ),
            "agent_id",
        ),
    ] {
        let answer = harness.ask(&ours.token, method, path, &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        assert_eq!(answer.fields(), [field], "{path}");
    }
    let body = format!(r#"{{"callback_source_agents":["{}"]}}"#, theirs.outbound);
    let answer = harness.ask(&ours.token, "POST", &check, &body).await;
    assert_eq!(
        answer.json()["errors"][0],
        format!("Source agent {} does not exist", theirs.outbound)
    );
    // Their number is nobody's, and cannot be taken.
    let body = r#"{"to":"+551140000000","from":"+5511987654321"}"#;
    let routed = harness
        .done(&ours.token, "POST", "/api/v1/route", body)
        .await;
    assert_eq!(routed["reason"], "number_unknown");
    let looked_up = harness
        .done(&ours.token, "GET", "/api/v1/route?to=%2B551140000000", "")
        .await;
    assert_eq!(looked_up["reason"], "number_unknown");
    let answer = harness
        .ask(
            &ours.token,
            "POST",
            "/api/v1/phone-numbers",
            r#"{"number":"+551140000000"}"#,
        )
        .await;
    assert_eq!(answer.json()["code"], "NUMBER_ALREADY_EXISTS");
    // The same call id names two calls in two environments.
    for tenant in [&ours, &theirs] {
        let body = format!(
            r#"{{"agent_id":"{}","to":"+5511987654321","sid":"same"}}"#,
            tenant.outbound
        );
        let call = harness
            .done(&tenant.token, "POST", "/api/v1/calls", &body)
            .await;
        assert_eq!(text(&call["agent_id"]), tenant.outbound);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_used_up_its_share_is_told_when_to_come_again() {
    let harness = Harness::with(HttpSpec {
        rate_limit: Some(20),
        ..HttpSpec::default()
    });
    let ours = harness.tenant("+551130000000").await;
    let mut remaining = Vec::new();
    let answer = loop {
        let answer = harness
            .ask(&ours.token, "GET", "/api/v1/agents/x", "")
            .await;
        assert_eq!(answer.header("x-ratelimit-limit"), "20");
        let reset: u64 = answer.header("x-ratelimit-reset").parse().expect("seconds");
        assert!((1..=60).contains(&reset));
        remaining.push(answer.header("x-ratelimit-remaining").to_owned());
        if answer.status != StatusCode::NOT_FOUND {
            break answer;
        }
    };
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        answer.header("retry-after"),
        answer.header("x-ratelimit-reset")
    );
    assert_eq!(
        answer.text,
        r#"{"success":false,"message":"Too many requests","code":"TOO_MANY_REQUESTS"}"#
    );
    assert_eq!(remaining[remaining.len() - 2..], ["0", "0"]);
    // Per token: the administrator has used only what making the environment took.
    let answer = harness
        .ask(ADMINISTRATOR, "GET", "/api/v1/environments", "")
        .await;
    assert_eq!(answer.header("x-ratelimit-remaining"), "17");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_rate_limit_no_limits_are_shown() {
    let harness = Harness::new();
    let answer = harness
        .ask(ADMINISTRATOR, "GET", "/api/v1/environments", "")
        .await;
    assert_eq!(answer.header("x-ratelimit-limit"), "");
}
