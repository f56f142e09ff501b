//! An answer shows what its own request set, whatever others set at the same time.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{ADMINISTRATOR, Harness, text};

/// How many requests are sent at the same time.
const WRITERS: u64 = 48;

/// Sends what `request` makes for every writer, all at the same time, and gives their answers in order.
async fn all_at_once(
    harness: &Harness,
    token: &str,
    request: impl Fn(u64) -> (&'static str, String, Value),
) -> Vec<Value> {
    let answers = (0..WRITERS).map(|writer| {
        let (method, path, body) = request(writer);
        async move {
            let body = body.to_string();
            harness.done(token, method, &path, &body).await
        }
    });
    join_all(answers).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_shows_what_its_own_request_set() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let token = tenant.token.as_str();

    let path = format!("/api/v1/agents/{}/callback", tenant.inbound);
    let answers = all_at_once(&harness, token, |writer| {
        let method = if writer % 2 == 0 { "POST" } else { "PUT" };
        let body = json!({
            "source_agent_ids": [tenant.outbound],
            "recency_window_seconds": 60 + writer,
        });
        (method, path.clone(), body)
    })
    .await;
    for (writer, answer) in (0..).zip(&answers) {
        assert_eq!(
            answer["callback_config"]["recency_window_seconds"],
            60 + writer
        );
    }

    let agent = format!("/api/v1/agents/{}", tenant.inbound);
    let answers = all_at_once(&harness, token, |writer| {
        let numbers = if writer % 2 == 0 {
            json!([tenant.number])
        } else {
            json!([])
        };
        let body = json!({ "name": format!("name {writer}"), "phone_number_ids": numbers });
        ("PATCH", agent.clone(), body)
    })
    .await;
    for (writer, answer) in (0..).zip(&answers) {
        assert_eq!(answer["name"], format!("name {writer}"));
        let numbers = answer["phone_numbers"].as_array().expect("a list");
        assert_eq!(numbers.len(), usize::from(writer % 2 == 0));
    }

    let answers = all_at_once(&harness, token, |writer| {
        let verb = if writer % 2 == 0 {
            "publish"
        } else {
            "unpublish"
        };
        ("POST", format!("{agent}/{verb}"), Value::Null)
    })
    .await;
    for (writer, answer) in (0..).zip(&answers) {
        let status = if writer % 2 == 0 {
            "published"
        } else {
            "draft"
        };
        assert_eq!(answer["current_status"], status);
    }

    let answers = all_at_once(&harness, token, |writer| {
        let direction = if writer % 2 == 0 {
            "inbound"
        } else {
            "outbound"
        };
        let body = json!({
            "name": "made", "label": "made", "direction": direction,
            "phone_number_ids": [tenant.number],
        });
        ("POST", "/api/v1/agents".to_owned(), body)
    })
    .await;
    for (writer, answer) in (0..).zip(&answers) {
        let direction = if writer % 2 == 0 {
            "inbound"
        } else {
            "outbound"
        };
        assert_eq!(answer["direction"], direction);
        assert_eq!(answer["phone_numbers"][0]["id"], tenant.number.as_str());
    }

    harness
        .done(
            token,
            "PATCH",
            &agent,
            &json!({ "phone_number_ids": [tenant.number] }).to_string(),
        )
        .await;
    harness
        .done(token, "POST", &format!("{agent}/publish"), "")
        .await;
    let number = format!("/api/v1/phone-numbers/{}", tenant.number);
    let answers = all_at_once(&harness, token, |writer| {
        let default = (writer % 2 == 0).then_some(tenant.inbound.as_str());
        (
            "PATCH",
            number.clone(),
            json!({ "default_agent_id": default }),
        )
    })
    .await;
    for (writer, answer) in (0..).zip(&answers) {
        let default = (writer % 2 == 0).then_some(tenant.inbound.as_str());
        assert_eq!(answer["default_agent_id"], json!(default));
    }

    let environment = format!("/api/v1/environments/{}", tenant.environment);
    let answers = all_at_once(&harness, ADMINISTRATOR, |writer| {
        (
            "PATCH",
            environment.clone(),
            json!({ "name": format!("name {writer}") }),
        )
    })
    .await;
    for (writer, answer) in (0..).zip(&answers) {
        assert_eq!(text(&answer["name"]), format!("name {writer}"));
    }
}
