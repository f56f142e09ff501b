//! `/contacts` and `/calls`: what is remembered, page by page; and the problem that follows from it.

use axum::http::StatusCode;
use ringback_engine::{NewCall, RecordCalls, hash_sid};
use ringback_routing::{AgentId, E164, EnvironmentId, Timestamp, read_id};
use serde_json::{Value, json};

use crate::harness::{Harness, Tenant};

/// Records a call of the outbound agent, so many seconds before now.
async fn record(harness: &Harness, tenant: &Tenant, to: &str, sid: &str, before: i64) {
    let at = Timestamp::from_seconds(crate::harness::NOW - before);
    let body = json!({
        "agent_id": tenant.outbound, "to": to, "from": tenant.digits, "sid": sid,
        "status": "completed", "started_at": at.to_string(),
    });
    let path = "/api/v1/calls";
    harness
        .done(&tenant.token, "POST", path, &body.to_string())
        .await;
}

/// Records a call to each of so many contacts, the first last; returns their numbers.
async fn record_each(harness: &Harness, tenant: &Tenant, count: i64) -> Vec<String> {
    let mut numbers = Vec::new();
    for index in 0..count {
        let number = format!("+55119876543{index}0");
        let sid = format!("call-{index}");
        record(harness, tenant, &number, &sid, 100 * index).await;
        numbers.push(number);
    }
    numbers
}

/// All rows of a list, read in pages of this size.
async fn pages(harness: &Harness, tenant: &Tenant, path: &str, limit: usize) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("{path}limit={limit}&cursor={cursor}");
        let answer = harness.ask(&tenant.token, "GET", &path, "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
        let answer = answer.json();
        let page = answer["data"].as_array().expect("a list");
        assert!(page.len() <= limit);
        rows.extend(page.iter().cloned());
        match answer["meta"]["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return rows,
        }
    }
}

/// The texts under a key.
fn texts<'r>(rows: &'r [Value], key: &str) -> Vec<&'r str> {
    rows.iter()
        .map(|row| row[key].as_str().expect("a text"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_are_listed_by_number_and_calls_newest_first_in_pages_of_any_size() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let other = harness.tenant("+551140000000").await;
    let numbers = record_each(&harness, &tenant, 7).await;
    // Calls of the same instant, of one contact more, and of another environment.
    record(&harness, &tenant, "+14155550100", "same-1", 300).await;
    record(&harness, &tenant, "+14155550101", "same-2", 300).await;
    record(&harness, &other, "+5511987654399", "elsewhere", 0).await;

    for limit in [1, 2, 3, 9, 10] {
        let rows = pages(&harness, &tenant, "/api/v1/contacts?prefix=%2B5511&", limit).await;
        assert_eq!(texts(&rows, "number"), numbers, "{limit}");
        let rows = pages(&harness, &tenant, "/api/v1/contacts?", limit).await;
        assert_eq!(
            texts(&rows, "number")[..2],
            ["+14155550100", "+14155550101"]
        );
        assert_eq!(rows.len(), 9);
        let rows = pages(&harness, &tenant, "/api/v1/calls?", limit).await;
        let sids = texts(&rows, "sid");
        assert_eq!(sids.len(), 9);
        assert_eq!(sids[..3], ["call-0", "call-1", "call-2"]);
        assert_eq!(sids[6..], ["call-4", "call-5", "call-6"]);
    }
    let first = &pages(&harness, &tenant, "/api/v1/contacts?prefix=%2B5511&", 10).await[0];
    let at = "2026-11-21T12:00:00.000Z";
    assert_eq!(
        *first,
        json!({"number": numbers[0], "calls": 1, "last_call_at": at})
    );

    let path = "/api/v1/calls?contact=11%2098765-4310&";
    let rows = pages(&harness, &tenant, path, 10).await;
    assert_eq!(texts(&rows, "sid"), ["call-1"]);
    let path = "/api/v1/calls?since=2026-11-21T11:58:20Z&";
    let rows = pages(&harness, &tenant, path, 10).await;
    assert_eq!(texts(&rows, "sid"), ["call-0", "call-1"]);
    let path = format!("/api/v1/calls?agent={}&", tenant.inbound);
    assert!(pages(&harness, &tenant, &path, 10).await.is_empty());
    let path = format!("/api/v1/calls?agent={}&", tenant.outbound);
    assert_eq!(pages(&harness, &tenant, &path, 4).await.len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_many_contacts_are_those_that_a_reading_of_the_whole_store_gives() {
    let harness = Harness::new();
    let tenants = [
        harness.tenant("+551130000000").await,
        harness.tenant("+551140000000").await,
    ];
    let mut random = 7_u64;
    let mut below = move |end: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % end
    };
    for _ in 0..16 {
        for tenant in &tenants {
            let calls = (0..200).map(|_| {
                let last = below(1_200);
                let digits = match below(4) {
                    // Two spellings of one subscriber.
                    0 => 551_187_650_000 + last,
                    1 | 2 => 5_511_987_650_000 + last,
                    _ => 14_155_550_000 + last,
                };
                NewCall {
                    agent: AgentId(read_id(&tenant.outbound).expect("an id")),
                    to: E164::from_digits(digits).expect("a number"),
                    from: Some(E164::from_digits(551_130_000_000 + below(3)).expect("a number")),
                    status: None,
                    started_at: Some(Timestamp::from_millis(
                        crate::harness::NOW * 1_000 - i64::try_from(below(40_000)).expect("small"),
                    )),
                    sid: Some(format!("call-{}", below(u64::MAX)).into()),
                }
            });
            let command = RecordCalls {
                environment: environment_of(tenant),
                calls: calls.collect(),
            };
            let recorded = harness.engine.submit(command).await;
            recorded.expect("storage takes them");
        }
    }
    for tenant in &tenants {
        let mut contacts = std::collections::BTreeMap::new();
        let mut calls = Vec::new();
        let naive =
            harness
                .engine
                .visit_remembered(environment_of(tenant), &mut |number, known| {
                    contacts.insert(number.digits(), known.len());
                    calls.extend(known.iter().map(|call| {
                        let hash = hash_sid(call.environment, call.sid.as_bytes());
                        (
                            std::cmp::Reverse(call.started_at),
                            hash,
                            call.sid.to_string(),
                        )
                    }));
                    std::ops::ControlFlow::Continue(())
                });
        naive.expect("readable");
        calls.sort();
        assert!(contacts.len() > 1_500, "{}", contacts.len());
        for limit in [211, 1_000] {
            let rows = pages(&harness, tenant, "/api/v1/contacts?", limit).await;
            let shown: Vec<_> = rows
                .iter()
                .map(|row| {
                    format!(
                        "{} {}",
                        row["number"].as_str().expect("a text"),
                        row["calls"]
                    )
                })
                .collect();
            let expected: Vec<_> = contacts
                .iter()
                .map(|(number, count)| format!("+{number} {count}"))
                .collect();
            assert!(shown == expected, "contacts by {limit}");
            let rows = pages(&harness, tenant, "/api/v1/calls?", limit).await;
            let expected: Vec<_> = calls.iter().map(|(_, _, sid)| sid.as_str()).collect();
            assert!(texts(&rows, "sid") == expected, "calls by {limit}");
        }
        let prefix = "/api/v1/contacts?prefix=%2B55118765&";
        let rows = pages(&harness, tenant, prefix, 100).await;
        let begins = |number: &&u64| number.to_string().starts_with("55118765");
        assert_eq!(rows.len(), contacts.keys().filter(begins).count());
    }
}

/// The id of a tenant's environment.
fn environment_of(tenant: &Tenant) -> EnvironmentId {
    EnvironmentId(read_id(&tenant.environment).expect("an id"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_holds_while_rows_come_and_go_and_does_not_tell_a_number() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    record_each(&harness, &tenant, 4).await;
    let ask = async |path: &str| harness.ask(&tenant.token, "GET", path, "").await.json();
    let first = ask("/api/v1/contacts?limit=2").await;
    let cursor = first["meta"]["next_cursor"].as_str().expect("more");
    assert!(
        !cursor.contains("98765431") && u64::from_str_radix(cursor, 16) != Ok(5_511_987_654_310)
    );
    let calls = ask("/api/v1/calls?limit=2").await;
    let of_calls = calls["meta"]["next_cursor"].as_str().expect("more");

    // One before and one behind, and the last that was shown is forgotten.
    record(&harness, &tenant, "+5511987654305", "before", 5).await;
    record(&harness, &tenant, "+5511987654325", "behind", 250).await;
    let path = "/api/v1/contacts/%2B5511987654310";
    harness.done(&tenant.token, "DELETE", path, "").await;
    let rest = ask(&format!("/api/v1/contacts?cursor={cursor}")).await;
    let rest = rest["data"].as_array().expect("a list");
    assert_eq!(
        texts(rest, "number"),
        ["+5511987654320", "+5511987654325", "+5511987654330"]
    );
    let rest = ask(&format!("/api/v1/calls?cursor={of_calls}")).await;
    let rest = rest["data"].as_array().expect("a list");
    assert_eq!(texts(rest, "sid"), ["call-2", "behind", "call-3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    for (path, field) in [
        ("contacts?prefix=5511", "prefix"),
        ("contacts?prefix=%2B55", "prefix"),
        ("contacts?cursor=7", "cursor"),
        ("contacts?cursor=x", "cursor"),
        ("contacts?limit=1001", "limit"),
        ("calls?contact=nobody", "contact"),
        ("calls?agent=nobody", "agent"),
        ("calls?since=yesterday", "since"),
        ("calls?cursor=x", "cursor"),
        ("calls?limit=0", "limit"),
    ] {
        let path = format!("/api/v1/{path}");
        let answer = harness.ask(&tenant.token, "GET", &path, "").await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        assert_eq!(answer.fields(), [field], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_whose_returns_reach_no_callback_agent_are_a_problem_for_thirty_days() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let problems = async || {
        let found = harness
            .done(&tenant.token, "GET", "/api/v1/problems", "")
            .await;
        let found = found.as_array().expect("a list").clone();
        let ours = |problem: &Value| problem["code"] == "return_not_routed";
        found.into_iter().filter(ours).collect::<Vec<_>>()
    };
    record(&harness, &tenant, "+5511987654321", "call-1", 0).await;
    // A number of somebody else: calls to it do not come here.
    let body =
        json!({"agent_id": tenant.outbound, "to": "+5511987654322", "from": "+551150000000"});
    harness
        .done(&tenant.token, "POST", "/api/v1/calls", &body.to_string())
        .await;
    assert!(problems().await.is_empty(), "the role takes them");

    let path = format!("/api/v1/agents/{}/unpublish", tenant.inbound);
    harness.done(&tenant.token, "POST", &path, "").await;
    let found = problems().await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["severity"], "warning");
    let named: Vec<_> = found[0]["objects"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|object| (object["type"].clone(), object["id"].clone()))
        .collect();
    assert_eq!(
        named,
        [
            (json!("number"), json!(tenant.number)),
            (json!("agent"), json!(tenant.outbound))
        ]
    );
    let day = 24 * 60 * 60;
    harness.clock.advance(29 * day);
    assert_eq!(problems().await.len(), 1);
    harness.clock.advance(day + 120);
    assert!(problems().await.is_empty());
}
