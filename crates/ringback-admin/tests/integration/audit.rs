//! `/audit`: every change is kept, in one piece with the change, and can be undone as long as nothing came after it.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::harness::{ADMINISTRATOR, Harness, Tenant};

/// The entries that a token sees, newest first.
async fn entries(harness: &Harness, token: &str, query: &str) -> Vec<Value> {
    let path = format!("/api/v1/audit?limit=1000{query}");
    let data = harness.done(token, "GET", &path, "").await;
    data.as_array().expect("a list").clone()
}

/// Action and type of each entry.
fn kinds(entries: &[Value]) -> Vec<(&str, &str)> {
    entries
        .iter()
        .map(|entry| {
            let action = entry["action"].as_str().expect("a word");
            (action, entry["object"]["type"].as_str().expect("a word"))
        })
        .collect()
}

/// The newest entry of this action and type.
async fn newest(harness: &Harness, token: &str, action: &str, kind: &str) -> Value {
    let entries = entries(harness, token, &format!("&type={kind}")).await;
    let found = entries.into_iter().find(|entry| entry["action"] == action);
    found.unwrap_or_else(|| panic!("no {action} of {kind}"))
}

/// Undoes an entry.
async fn undo(harness: &Harness, token: &str, entry: &Value) -> (StatusCode, Value) {
    let path = format!(
        "/api/v1/audit/{}/undo",
        entry["id"].as_str().expect("an id")
    );
    let answer = harness.ask(token, "POST", &path, "").await;
    (answer.status, answer.json())
}

/// The agent as the API shows it.
async fn agent(harness: &Harness, tenant: &Tenant, id: &str) -> Value {
    let path = format!("/api/v1/agents/{id}");
    let mut agent = harness.done(&tenant.token, "GET", &path, "").await;
    agent["updated_at"] = Value::Null;
    agent
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_listed_with_the_object_before_and_after() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let token = &tenant.token;
    let all = entries(&harness, ADMINISTRATOR, "").await;
    let kinds_of_all = kinds(&all);
    for made in [
        ("create", "environment"),
        ("create", "token"),
        ("create", "number"),
        ("create", "agent"),
        ("publish", "agent"),
        ("set", "role"),
    ] {
        assert!(kinds_of_all.contains(&made), "{made:?}: {kinds_of_all:?}");
    }
    let own = entries(&harness, token, "").await;
    assert_eq!(own.len(), all.len(), "one environment");
    assert!(
        own.iter()
            .all(|entry| entry.get("environment_id").is_none())
    );
    assert!(
        all.iter()
            .all(|entry| entry["environment_id"] == json!(tenant.environment))
    );
    assert_eq!(
        own.last().expect("entries")["actor"]["kind"],
        "administrator"
    );

    let path = format!("/api/v1/agents/{}", tenant.outbound);
    let before = harness.done(token, "GET", &path, "").await;
    let request = Request::patch(&path)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .header("x-request-id", "my-request")
        .header("user-agent", "ringback/1.0")
        .body(Body::from(r#"{"label":"Other"}"#));
    let answer = harness.send(request.expect("a request")).await;
    let latest = &entries(&harness, token, "").await[0];
    assert_eq!(latest["before"], before);
    assert_eq!(latest["after"], answer.json()["data"]);
    assert_eq!(latest["request_id"], "my-request");
    assert_eq!(latest["via"], "cli");
    assert_eq!(latest["actor"]["id"], json!(tenant.token_id));
    assert_eq!(latest["object"]["id"], json!(tenant.outbound));
    assert_eq!(
        (&latest["action"], &latest["undo"]),
        (&json!("update"), &json!(true))
    );

    // No secret, nor the hash of one.
    let text = format!("{all:?}");
    assert!(!text.contains(token.as_str()) && !text.contains("hash"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_and_what_is_called_is_not_listed_and_an_erasure_is_without_the_number() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let token = &tenant.token;
    let before = entries(&harness, token, "").await.len();
    let body = format!(
        r#"{{"agent_id":"{}","to":"+5511987654321","sid":"out-1"}}"#,
        tenant.outbound
    );
    harness.done(token, "POST", "/api/v1/calls", &body).await;
    let path = format!("/api/v1/agents/{}", tenant.inbound);
    let refused = harness.ask(token, "DELETE", &path, "").await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    // What changes nothing is no change.
    let path = format!("/api/v1/agents/{}/publish", tenant.inbound);
    harness.done(token, "POST", &path, "").await;
    assert_eq!(entries(&harness, token, "").await.len(), before);

    let path = "/api/v1/contacts/%2B5511987654321";
    let forgotten = harness.ask(token, "DELETE", path, "").await;
    assert_eq!(forgotten.status, StatusCode::OK);
    let latest = entries(&harness, token, "").await.swap_remove(0);
    assert_eq!(latest["action"], "erase");
    assert_eq!(
        latest["object"],
        json!({"type": "contact", "id": null, "name": null})
    );
    assert_eq!(
        (&latest["before"], &latest["after"]),
        (&Value::Null, &Value::Null)
    );
    assert!(!latest.to_string().contains("987654321"));
    let (status, body) = undo(&harness, token, &latest).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(body["code"], "AUDIT_NOT_UNDOABLE");

    // A copy is noted.
    let exported = harness.ask(token, "GET", "/api/v1/export/agents", "").await;
    assert_eq!(exported.status, StatusCode::OK);
    let latest = entries(&harness, token, "").await.swap_remove(0);
    assert_eq!(kinds(&[latest]), [("export", "environment")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_change_drags_along_is_an_entry_of_the_same_request() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let token = &tenant.token;
    let path = format!("/api/v1/agents/{}", tenant.outbound);
    harness
        .done(token, "POST", &format!("{path}/unpublish"), "")
        .await;
    let deleted = harness.ask(token, "DELETE", &path, "").await;
    assert_eq!(deleted.status, StatusCode::OK);
    let latest = entries(&harness, token, "").await;
    let request = deleted.header("x-request-id");
    let of_request: Vec<Value> = latest
        .into_iter()
        .filter(|entry| entry["request_id"] == request)
        .collect();
    let mut found = kinds(&of_request);
    found.sort_unstable();
    assert_eq!(found, [("delete", "agent"), ("remove", "role")]);
    let role = of_request.iter().find(|entry| entry["action"] == "remove");
    let role = role.expect("an entry");
    assert_eq!(role["object"]["id"], json!(tenant.inbound));
    assert_eq!(
        role["before"]["callback_config"]["source_agent_ids"],
        json!([tenant.outbound])
    );
    assert_eq!(role["after"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_filtered_and_read_piece_by_piece() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let other = harness.tenant("+551140000000").await;
    let token = &tenant.token;
    let path = format!("/api/v1/agents/{}", tenant.outbound);
    harness.clock.advance(60);
    for index in 0..7 {
        let body = format!(r#"{{"label":"Label {index}"}}"#);
        harness.done(token, "PATCH", &path, &body).await;
    }
    let all = entries(&harness, token, "").await;
    let (mut read, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/audit?limit=3&cursor={cursor}");
        let answer = harness.ask(token, "GET", &path, "").await.json();
        read.extend(answer["data"].as_array().expect("a list").clone());
        match answer["meta"]["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    assert_eq!(read, all);
    let count = async |query: &str| entries(&harness, token, query).await.len();
    assert_eq!(count("&since=2026-11-21T12:01:00Z").await, 7);
    assert_eq!(count("&until=2026-11-21T12:01:00Z").await, all.len() - 7);
    assert_eq!(
        count(&format!(
            "&object={}&since=2026-11-21T12:01:00Z",
            tenant.outbound
        ))
        .await,
        7
    );
    assert_eq!(count(&format!("&object={}", other.outbound)).await, 0);
    let (mine, administrators) = (
        count(&format!("&actor={}", tenant.token_id)).await,
        count("&actor=administrator").await,
    );
    assert_eq!(mine + administrators, all.len());
    assert!(mine > 7 && administrators >= 2);
    assert_eq!(count("&type=token").await, 1);
    for query in [
        "since=x", "actor=x", "type=x", "object=x", "limit=0", "cursor=x",
    ] {
        let path = format!("/api/v1/audit?{query}");
        let answer = harness.ask(token, "GET", &path, "").await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_undone_once_and_only_if_nothing_came_after_it() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let token = &tenant.token;
    let [outbound, inbound] =
        [&tenant.outbound, &tenant.inbound].map(|id| format!("/api/v1/agents/{id}"));

    // A changed agent, its numbers among the rest.
    let before = agent(&harness, &tenant, &tenant.outbound).await;
    let change = r#"{"name":"New","description":"Told","phone_number_ids":[],"targets":["sip:a@192.0.2.7"]}"#;
    harness.done(token, "PATCH", &outbound, change).await;
    let changed = agent(&harness, &tenant, &tenant.outbound).await;
    let entry = newest(&harness, token, "update", "agent").await;
    let (status, undone) = undo(&harness, token, &entry).await;
    assert_eq!(status, StatusCode::OK, "{undone}");
    assert_eq!(agent(&harness, &tenant, &tenant.outbound).await, before);
    assert_eq!(undone["data"]["before"], entry["after"]);
    // Not twice; but the undoing can be undone.
    let (status, again) = undo(&harness, token, &entry).await;
    assert_eq!(
        (status, &again["code"]),
        (StatusCode::CONFLICT, &json!("AUDIT_UNDO_CONFLICT"))
    );
    assert_eq!(
        undo(&harness, token, &undone["data"]).await.0,
        StatusCode::OK
    );
    assert_eq!(agent(&harness, &tenant, &tenant.outbound).await, changed);

    // A role that was changed, and one that was removed.
    let role = async || {
        let roles = harness
            .done(token, "GET", "/api/v1/callback-agents", "")
            .await;
        roles[0]["callback_config"].clone()
    };
    let before = role().await;
    let path = format!("{inbound}/callback");
    let set = format!(
        r#"{{"source_agent_ids":["{}"],"recency_window_seconds":60,"callback_trigger_statuses":["busy"]}}"#,
        tenant.outbound
    );
    harness.done(token, "POST", &path, &set).await;
    let entry = newest(&harness, token, "set", "role").await;
    assert_eq!(undo(&harness, token, &entry).await.0, StatusCode::OK);
    assert_eq!(role().await, before);
    let entry = newest(&harness, token, "set", "role").await;
    assert_eq!(undo(&harness, token, &entry).await.0, StatusCode::OK);
    assert_eq!(role().await["recency_window_seconds"], 60);
    let removed = harness.ask(token, "DELETE", &path, "").await;
    assert_eq!(removed.status, StatusCode::OK);
    let entry = newest(&harness, token, "remove", "role").await;
    assert_eq!(undo(&harness, token, &entry).await.0, StatusCode::OK);
    assert_eq!(role().await["recency_window_seconds"], 60);

    // Publishing; a later change is in the way.
    harness
        .done(token, "POST", &format!("{outbound}/unpublish"), "")
        .await;
    let entry = newest(&harness, token, "unpublish", "agent").await;
    harness
        .done(token, "PATCH", &outbound, r#"{"label":"Later"}"#)
        .await;
    assert_eq!(undo(&harness, token, &entry).await.0, StatusCode::CONFLICT);
    let later = newest(&harness, token, "update", "agent").await;
    assert_eq!(undo(&harness, token, &later).await.0, StatusCode::OK);
    assert_eq!(undo(&harness, token, &entry).await.0, StatusCode::OK);
    let published = agent(&harness, &tenant, &tenant.outbound).await;
    assert_eq!(published["current_status"], "published");

    // A number, and a new agent.
    let path = format!("/api/v1/phone-numbers/{}", tenant.number);
    let set = format!(r#"{{"default_agent_id":"{}"}}"#, tenant.inbound);
    harness.done(token, "PATCH", &path, &set).await;
    let entry = newest(&harness, token, "update", "number").await;
    assert_eq!(undo(&harness, token, &entry).await.0, StatusCode::OK);
    let numbers = harness
        .done(token, "GET", "/api/v1/phone-numbers", "")
        .await;
    assert_eq!(numbers[0]["default_agent_id"], Value::Null);
    let new = r#"{"name":"x","label":"x","direction":"outbound"}"#;
    let made = harness.done(token, "POST", "/api/v1/agents", new).await;
    let entry = newest(&harness, token, "create", "agent").await;
    assert_eq!(entry["object"]["id"], made["id"]);
    assert_eq!(undo(&harness, token, &entry).await.0, StatusCode::OK);
    let path = format!("/api/v1/agents/{}", made["id"].as_str().expect("an id"));
    let gone = harness.ask(token, "GET", &path, "").await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_change_may_not_undo() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let other = harness.tenant("+551140000000").await;
    let environment = format!("/api/v1/environments/{}", tenant.environment);
    let renamed = r#"{"name":"renamed","default_country":"US"}"#;
    let before = harness.done(ADMINISTRATOR, "GET", &environment, "").await;
    harness
        .done(ADMINISTRATOR, "PATCH", &environment, renamed)
        .await;
    let entry = newest(&harness, &tenant.token, "update", "environment").await;
    assert_eq!(
        undo(&harness, &tenant.token, &entry).await.0,
        StatusCode::FORBIDDEN
    );
    let (status, body) = undo(&harness, &other.token, &entry).await;
    assert_eq!(
        (status, &body["code"]),
        (StatusCode::NOT_FOUND, &json!("AUDIT_ENTRY_NOT_FOUND"))
    );
    let (status, undone) = undo(&harness, ADMINISTRATOR, &entry).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(undone["data"]["environment_id"], json!(tenant.environment));
    assert_eq!(
        harness.done(ADMINISTRATOR, "GET", &environment, "").await,
        before
    );

    // A token that is made and undone is ended.
    let entry = newest(&harness, &other.token, "create", "token").await;
    assert_eq!(
        undo(&harness, ADMINISTRATOR, &entry).await.0,
        StatusCode::OK
    );
    let answer = harness.ask(&other.token, "GET", "/api/v1/agents", "").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let absent = json!({"id": "01964f3e-6a00-7000-8000-0000000000f1"});
    assert_eq!(
        undo(&harness, ADMINISTRATOR, &absent).await.0,
        StatusCode::NOT_FOUND
    );
}
