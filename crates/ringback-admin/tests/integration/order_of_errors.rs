//! Of several mistakes the one that is told: 401, 404 of the path's id, 415, 413, 400, direction,
//! 404 without role, fields.

use axum::body::Body;
use axum::http::Request;

use crate::harness::{Answer, Harness, Tenant};

/// What is wrong with a request to set a role.
#[derive(Clone, Copy)]
struct Wrong {
    token: bool,
    id: bool,
    content_type: bool,
    size: bool,
    json: bool,
    direction: bool,
    role: bool,
    fields: bool,
}

const NOTHING: Wrong = Wrong {
    token: false,
    id: false,
    content_type: false,
    size: false,
    json: false,
    direction: false,
    role: false,
    fields: false,
};

async fn put_role(harness: &Harness, tenant: &Tenant, idle: &str, wrong: Wrong) -> Answer {
    let id = if wrong.id {
        "00000000-0000-7000-8000-000000000000"
    } else if wrong.direction {
        &tenant.outbound
    } else if wrong.role {
        idle
    } else {
        &tenant.inbound
    };
    let source = if wrong.fields {
        "nobody"
    } else {
        &tenant.outbound
    };
    let mut body = format!(r#"{{"source_agent_ids":["{source}"]}}"#);
    if wrong.json {
        body.push('}');
    }
    if wrong.size {
        body.push_str(&" ".repeat(1024 * 1024));
    }
    let token = if wrong.token {
        "garbage"
    } else {
        &tenant.token
    };
    let content_type = if wrong.content_type {
        "text/plain"
    } else {
        "application/json"
    };
    let request = Request::put(format!("/api/v1/agents/{id}/callback"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", content_type)
        .body(Body::from(body));
    harness.send(request.expect("a request")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_mistake_in_order_is_told() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let body = r#"{"name":"Idle","label":"Idle","direction":"inbound"}"#;
    let idle = harness
        .done(&tenant.token, "POST", "/api/v1/agents", body)
        .await;
    let idle = idle["id"].as_str().expect("an id");
    let all = Wrong {
        token: true,
        id: true,
        content_type: true,
        size: true,
        json: true,
        direction: true,
        role: true,
        fields: true,
    };
    let steps = [
        (all, 401, ""),
        (
            Wrong {
                token: false,
                ..all
            },
            404,
            "AGENT_NOT_FOUND",
        ),
        (
            Wrong {
                token: false,
                id: false,
                ..all
            },
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        (
            Wrong {
                size: true,
                json: true,
                direction: true,
                role: true,
                fields: true,
                ..NOTHING
            },
            413,
            "PAYLOAD_TOO_LARGE",
        ),
        (
            Wrong {
                json: true,
                direction: true,
                role: true,
                fields: true,
                ..NOTHING
            },
            400,
            "MALFORMED_JSON",
        ),
        (
            Wrong {
                direction: true,
                role: true,
                fields: true,
                ..NOTHING
            },
            422,
            "INVALID_AGENT_DIRECTION",
        ),
        (
            Wrong {
                role: true,
                fields: true,
                ..NOTHING
            },
            404,
            "",
        ),
        (
            Wrong {
                fields: true,
                ..NOTHING
            },
            422,
            "",
        ),
        (NOTHING, 200, ""),
    ];
    for (wrong, status, code) in steps {
        let answer = put_role(&harness, &tenant, idle, wrong).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        let json = answer.json();
        assert_eq!(json["code"].as_str().unwrap_or_default(), code);
    }
    let answer = put_role(
        &harness,
        &tenant,
        idle,
        Wrong {
            role: true,
            fields: true,
            ..NOTHING
        },
    );
    assert_eq!(
        answer.await.json()["message"],
        "Agent is not configured as a callback agent"
    );
    let answer = put_role(
        &harness,
        &tenant,
        idle,
        Wrong {
            fields: true,
            ..NOTHING
        },
    )
    .await;
    assert_eq!(answer.fields(), ["source_agent_ids.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_exactly_one_mebibyte_is_taken() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let short = format!(r#"{{"source_agent_ids":["{}"]}}"#, tenant.outbound);
    let body = format!("{short}{}", " ".repeat(1024 * 1024 - short.len()));
    let path = format!("/api/v1/agents/{}/callback", tenant.inbound);
    assert_eq!(
        harness
            .ask(&tenant.token, "POST", &path, &body)
            .await
            .status,
        200
    );
    assert_eq!(
        harness
            .ask(&tenant.token, "POST", &path, &format!("{body} "))
            .await
            .status,
        413
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_may_have_a_thousand_entries() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let path = format!("/api/v1/agents/{}/callback", tenant.inbound);
    let body = |count| {
        let ids = vec![format!("\"{}\"", tenant.outbound); count].join(",");
        format!(r#"{{"source_agent_ids":[{ids}]}}"#)
    };
    let answer = harness
        .ask(&tenant.token, "POST", &path, &body(1_000))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = harness
        .ask(&tenant.token, "POST", &path, &body(1_001))
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.fields()),
        (422, vec!["source_agent_ids".to_owned()])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_json_is_malformed() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    for body in [
        "[".repeat(500_000),
        "{\"a\":".repeat(100_000),
        "\u{0}".to_owned(),
        "{\"name\":\"\\ud800\"}".to_owned(),
    ] {
        let answer = harness
            .ask(&tenant.token, "POST", "/api/v1/agents", &body)
            .await;
        assert_eq!(answer.json()["code"], "MALFORMED_JSON");
        let answer = harness
            .ask(&tenant.token, "POST", "/api/v1/calls", &body)
            .await;
        assert!(answer.status.is_client_error(), "{}", answer.text);
    }
}
