//! What contacts ask for outlives restarts and erasures, and holds on every node.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::Value;

use crate::harness::{Harness, Tenant};

const CONTACT: &str = "+5511987654321";

/// The reason of the decision on a call of the contact.
async fn reason(harness: &Harness, tenant: &Tenant) -> Value {
    let path = "/api/v1/route?to=%2B551130000000&from=%2B5511987654321&explain=true";
    let decision = harness.done(&tenant.token, "GET", path, "").await;
    let steps = decision["explanation"].as_array().expect("steps");
    assert!(
        decision["outcome"] == "callback"
            || steps
                .iter()
                .any(|step| step["reason"] == decision["reason"]),
        "{decision}"
    );
    decision["reason"].clone()
}

/// Records a call to the contact; returns the status of the answer.
async fn record(harness: &Harness, tenant: &Tenant, sid: &str) -> StatusCode {
    let body = format!(
        r#"{{"agent_id":"{}","to":"{CONTACT}","from":"{}","sid":"{sid}"}}"#,
        tenant.outbound, tenant.digits
    );
    let answer = harness.ask(&tenant.token, "POST", "/api/v1/calls", &body);
    answer.await.status
}

/// Sends a batch; returns the data of the answer.
async fn batch(harness: &Harness, tenant: &Tenant, path: &str, lines: String) -> Value {
    let request = Request::post(path)
        .header("authorization", format!("Bearer {}", tenant.token))
        .header("content-type", "application/x-ndjson")
        .body(Body::from(lines));
    let answer = harness.send(request.expect("a request")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()["data"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opt_out_holds_on_other_nodes_after_a_restart_and_after_an_erasure() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let other = harness.tenant("+551140000000").await;
    assert_eq!(record(&harness, &tenant, "1").await, StatusCode::CREATED);
    let path = format!("/api/v1/contacts/{CONTACT}?opt_out=true");
    harness.done(&tenant.token, "DELETE", &path, "").await;

    let beside = harness.beside();
    let harness = harness.restarted();
    for node in [&harness, &beside] {
        assert_eq!(reason(node, &tenant).await, "contact_opted_out");
        let refused = record(node, &tenant, "2").await;
        assert_eq!(refused, StatusCode::UNPROCESSABLE_ENTITY);
        let elsewhere = record(node, &other, "3").await;
        assert_eq!(elsewhere, StatusCode::CREATED);
    }
    let path = format!("/api/v1/opt-outs/{CONTACT}");
    harness.done(&tenant.token, "DELETE", &path, "").await;
    assert_eq!(reason(&harness, &tenant).await, "caller_never_called");
    assert_eq!(record(&harness, &tenant, "2").await, StatusCode::CREATED);
    assert_eq!(reason(&harness, &tenant).await, "returned_call_same_number");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_to_an_earlier_holder_do_not_count_though_they_are_imported_again() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    assert_eq!(record(&harness, &tenant, "1").await, StatusCode::CREATED);
    let line = format!("{{\"number\":\"{CONTACT}\",\"before\":\"2026-11-22\"}}\n");
    let path = "/api/v1/contacts/reassigned";
    let report = batch(&harness, &tenant, path, line).await;
    assert_eq!(report["accepted"], 1);
    assert_eq!(reason(&harness, &tenant).await, "contact_reassigned");

    let path = format!("/api/v1/contacts/{CONTACT}");
    harness.done(&tenant.token, "DELETE", &path, "").await;
    assert_eq!(reason(&harness, &tenant).await, "caller_never_called");
    let harness = harness.restarted();
    assert_eq!(record(&harness, &tenant, "1").await, StatusCode::CREATED);
    assert_eq!(reason(&harness, &tenant).await, "contact_reassigned");
    harness.clock.advance(13 * 3_600);
    assert_eq!(record(&harness, &tenant, "2").await, StatusCode::CREATED);
    assert_eq!(reason(&harness, &tenant).await, "returned_call_same_number");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_opt_outs_is_listed_in_pages_and_audited_without_numbers() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let other = harness.tenant("+551140000000").await;
    let lines: String = (0..2_500)
        .map(|number| format!("{{\"number\":\"+55119{number:08}\"}}\n"))
        .collect();
    let path = "/api/v1/opt-outs/batch";
    let report = batch(&harness, &tenant, path, lines).await;
    assert_eq!(report["accepted"], 2_500, "{report}");

    let mut ids = std::collections::BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/v1/opt-outs?limit=999&cursor={cursor}");
        let answer = harness.ask(&tenant.token, "GET", &path, "").await.json();
        for row in answer["data"].as_array().expect("rows") {
            ids.insert(row["id"].as_str().expect("an id").to_owned());
        }
        match answer["meta"]["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(ids.len(), 2_500);
    let none = harness.done(&other.token, "GET", "/api/v1/opt-outs", "");
    assert_eq!(none.await, Value::Array(Vec::new()));

    let path = "/api/v1/audit?limit=10";
    let entries = harness.done(&tenant.token, "GET", path, "").await;
    let entries = entries.as_array().expect("entries");
    let opt_outs: Vec<_> = entries
        .iter()
        .filter(|entry| entry["action"] == "opt_out")
        .collect();
    assert_eq!(opt_outs.len(), 3, "{entries:?}");
    assert!(
        opt_outs
            .iter()
            .all(|entry| entry["object"]["name"].is_null())
    );
}
