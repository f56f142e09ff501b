//! `Idempotency-Key`: a request that is repeated is carried out once, whoever repeats it, wherever and whenever. What a
//! client sees one after the other is in `fixtures/api/idempotency.http`.

use std::collections::BTreeSet;

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use futures_util::stream;
use ringback_engine::Change;
use serde_json::Value;

use crate::harness::{ADMINISTRATOR, Answer, Harness, Tenant, text};

/// A request with a key.
fn keyed(token: &str, method: &str, path: &str, key: &str, body: impl Into<Body>) -> Request<Body> {
    let content_type = if path.ends_with("/batch") {
        "application/x-ndjson"
    } else {
        "application/json"
    };
    Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", content_type)
        .header("idempotency-key", key)
        .body(body.into())
        .expect("a request")
}

/// Asks for an agent, by a key.
async fn make_agent(harness: &Harness, token: &str, key: &str) -> Answer {
    let body = r#"{"name":"Twin","label":"Twin","direction":"outbound"}"#;
    harness
        .send(keyed(token, "POST", "/api/v1/agents", key, body))
        .await
}

/// How many agents are called Twin.
async fn twins(harness: &Harness, token: &str) -> usize {
    let path = "/api/v1/agents?search=twin";
    let found = harness.done(token, "GET", path, "").await;
    found.as_array().expect("a list").len()
}

/// The calls to a contact.
async fn calls_to(harness: &Harness, tenant: &Tenant, digits: &str) -> Vec<Value> {
    let path = format!("/api/v1/contacts/+{digits}");
    let contact = harness.done(&tenant.token, "GET", &path, "").await;
    contact["calls"].as_array().expect("calls").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_with_one_key_at_once_are_carried_out_once_and_answered_alike() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let asked = (0..16).map(|_| make_agent(&harness, &tenant.token, "twins"));
    let answers = futures_util::future::join_all(asked).await;
    for answer in &answers {
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        assert_eq!(answer.text, answers[0].text);
    }
    assert_eq!(twins(&harness, &tenant.token).await, 1);

    // Carried out twice, the second would be a 404.
    let id = text(&answers[0].json()["data"]["id"]);
    let path = format!("/api/v1/agents/{id}");
    let asked = (0..16).map(|_| harness.send(keyed(&tenant.token, "DELETE", &path, "delete", "")));
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_and_the_next_start_give_the_first_answer() {
    let first = Harness::new();
    let tenant = first.tenant("+551130000000").await;
    let second = first.beside();
    let made = make_agent(&first, &tenant.token, "key").await;
    // The other node may be a moment behind: it is asked for what this one has.
    let mut request = keyed(
        &tenant.token,
        "POST",
        "/api/v1/agents",
        "key",
        r#"{"name":"Twin","label":"Twin","direction":"outbound"}"#,
    );
    let sequence = made.headers["x-ringback-sequence"].clone();
    request
        .headers_mut()
        .insert("x-ringback-min-sequence", sequence);
    let again = second.send(request).await;
    assert_eq!((again.status, &again.text), (made.status, &made.text));
    assert_eq!(again.header("idempotent-replayed"), "true");

    // Two nodes at once: who loses the race runs again, on what the other has left.
    let (one, other) = tokio::join!(
        make_agent(&first, &tenant.token, "race"),
        make_agent(&second, &tenant.token, "race"),
    );
    assert_eq!((one.status, &one.text), (other.status, &other.text));
    drop(second);

    let restarted = first.restarted();
    let again = make_agent(&restarted, &tenant.token, "key").await;
    assert_eq!((again.status, &again.text), (made.status, &made.text));
    assert_eq!(twins(&restarted, &tenant.token).await, 2);
}

// Whether an entry has come through is not known at first; then it is: the key tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_came_through_late_is_answered_by_its_key() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    for (key, is_kept) in [("came", true), ("never came", false)] {
        let before = twins(&harness, &tenant.token).await;
        harness.memory.leave_unconfirmed(is_kept);
        let refused = make_agent(&harness, &tenant.token, key).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        harness.memory.confirm();
        let mut answer = make_agent(&harness, &tenant.token, key).await;
        // Until the writer has looked at the log, it refuses.
        while answer.status == StatusCode::SERVICE_UNAVAILABLE {
            answer = make_agent(&harness, &tenant.token, key).await;
        }
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        assert_eq!(twins(&harness, &tenant.token).await, before + 1);
        let again = make_agent(&harness, &tenant.token, key).await;
        assert_eq!(again.text, answer.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_broke_off_records_each_call_once_when_it_is_repeated() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let agent = &tenant.outbound;
    let line = |digits: u64| format!("{{\"agent_id\":\"{agent}\",\"to\":\"+{digits}\"}}\n");
    // Two of them are the same, and are two calls.
    let lines: Vec<String> = [1, 2, 2, 3]
        .map(|last| line(5_511_987_654_320 + last))
        .to_vec();
    let whole = lines.concat();
    let path = "/api/v1/calls/batch";
    let broken = [
        Ok(Bytes::from(lines[..3].concat())),
        Err(std::io::Error::other("the line broke")),
    ];
    let body = Body::from_stream(stream::iter(broken));
    let answer = harness
        .send(keyed(&tenant.token, "POST", path, "batch", body))
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let first = harness
        .send(keyed(&tenant.token, "POST", path, "batch", whole.clone()))
        .await;
    let accepted = &first.json()["data"]["accepted"];
    assert_eq!(accepted, 4, "{}", first.text);
    let asked =
        (0..4).map(|_| harness.send(keyed(&tenant.token, "POST", path, "batch", whole.clone())));
    for again in futures_util::future::join_all(asked).await {
        assert_eq!((again.status, &again.text), (first.status, &first.text));
        assert_eq!(
            again.header("x-recorded-calls"),
            first.header("x-recorded-calls")
        );
    }
    let mut sids = BTreeSet::new();
    let mut stored = 0;
    harness
        .engine
        .visit_calls(&mut |call| {
            stored += 1;
            sids.insert(call.sid.to_string());
            std::ops::ControlFlow::Continue(())
        })
        .expect("memory is readable");
    assert_eq!((stored, sids.len()), (4, 4));
    assert_eq!(calls_to(&harness, &tenant, "5511987654321").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_tells_neither_tokens_nor_numbers_nor_what_was_asked() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let path = format!("/api/v1/environments/{}/tokens", tenant.environment);
    let made = harness
        .send(keyed(ADMINISTRATOR, "POST", &path, "my-own-key", "{}"))
        .await;
    let secret = text(&made.json()["data"]["token"]);
    let body = format!(
        r#"{{"agent_id":"{}","to":"+5511987654321","sid":"the-sid"}}"#,
        tenant.outbound
    );
    harness
        .send(keyed(
            &tenant.token,
            "POST",
            "/api/v1/calls",
            "my-own-key",
            body,
        ))
        .await;
    let kept: Vec<u8> = harness
        .memory
        .facts()
        .into_iter()
        .filter_map(|fact| match fact {
            Change::Answered(kept) => Some([&kept.id.0[..], &kept.request, &kept.answer].concat()),
            _ => None,
        })
        .collect::<Vec<_>>()
        .concat();
    assert!(kept.len() > 200, "{}", kept.len());
    for told in [
        secret.as_str(),
        "5511987654321",
        "the-sid",
        "my-own-key",
        "success",
    ] {
        let found = kept
            .windows(told.len())
            .any(|bytes| bytes == told.as_bytes());
        assert!(!found, "{told}");
    }
}
