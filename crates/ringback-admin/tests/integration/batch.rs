//! `POST /calls/batch` as a stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use ringback_engine::DeleteToken;

use crate::harness::{ADMINISTRATOR, Answer, Harness};

async fn send(harness: &Harness, token: &str, body: Body) -> Answer {
    let request = Request::post("/api/v1/calls/batch")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/x-ndjson")
        .body(body);
    harness.send(request.expect("a request")).await
}

/// A body of these pieces.
fn pieces(pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Body {
    let stream = stream::iter(pieces.map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece))));
    Body::from_stream(stream)
}

fn line(agent: &str, call: u64) -> String {
    let to = 5_511_900_000_000 + call;
    format!(
        "{{\"agent_id\":\"{agent}\",\"to\":\"+{to}\",\"sid\":\"call-{call}\",\"started_at\":\"2026-11-21T11:00:00Z\"}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_is_recorded_however_the_stream_is_cut() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let text: String = (0..5_000)
        .map(|call| line(&tenant.outbound, call))
        .collect();
    for size in [7_usize, 1_000, 1_000_000] {
        let bytes = text.clone().into_bytes();
        let chunks: Vec<Vec<u8>> = bytes.chunks(size).map(<[u8]>::to_vec).collect();
        let answer = send(&harness, &tenant.token, pieces(chunks.into_iter())).await;
        assert_eq!(
            answer.text,
            r#"{"success":true,"data":{"accepted":5000,"rejected":0,"errors":[]}}"#
        );
    }
    let path = "/api/v1/contacts/+5511900004999";
    let contact = harness.done(&tenant.token, "GET", path, "").await;
    assert_eq!(contact["calls"][0]["sid"], "call-4999");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_calls_are_told_from_known_ones_beside_the_body() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let calls = |range: std::ops::Range<u64>, status: &str| -> String {
        range
            .map(|call| {
                let line = line(&tenant.outbound, call);
                line.replace("}\n", &format!(",\"status\":\"{status}\"}}\n"))
            })
            .collect()
    };
    for (text, expected) in [
        (calls(0..2_500, "ringing"), "new=2500, updated=0, known=0"),
        (calls(0..2_500, "ringing"), "new=0, updated=0, known=2500"),
        (
            calls(2_000..2_600, "busy") + &calls(2_600..2_700, "no word"),
            "new=100, updated=500, known=0",
        ),
        // The second time in one request it is known already.
        (
            calls(2_600..2_601, "ringing") + &calls(2_600..2_601, "ringing"),
            "new=1, updated=0, known=1",
        ),
        (String::new(), "new=0, updated=0, known=0"),
    ] {
        let answer = send(&harness, &tenant.token, Body::from(text)).await;
        assert_eq!(answer.header("x-recorded-calls"), expected);
        let data = &answer.json()["data"];
        assert_eq!(data.as_object().map(serde_json::Map::len), Some(3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_hundred_errors_are_told_in_the_order_of_their_lines() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    // Every third line is no JSON, every third names an agent that does not exist.
    let text: String = (0..3_000)
        .map(|number| match number % 3 {
            0 => line(&tenant.outbound, number),
            1 => "{\n".to_owned(),
            _ => line("00000000-0000-7000-8000-000000000000", number),
        })
        .collect();
    let answer = send(&harness, &tenant.token, Body::from(text)).await;
    let data = &answer.json()["data"];
    assert_eq!(
        (data["accepted"].as_u64(), data["rejected"].as_u64()),
        (Some(1_000), Some(2_000))
    );
    let lines: Vec<u64> = data["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .map(|error| error["line"].as_u64().expect("a line"))
        .collect();
    let expected: Vec<u64> = (1..).filter(|line| line % 3 != 1).take(100).collect();
    assert_eq!(lines, expected);
    assert_eq!(data["errors"][0]["message"], "Malformed JSON");
    assert_eq!(
        data["errors"][1]["message"],
        "The selected agent does not exist."
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_over_64_kib_is_rejected_and_the_next_is_read() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let padded = |length: usize| {
        let short = line(&tenant.outbound, length as u64);
        format!(
            "{}{}\n",
            short.trim_end(),
            " ".repeat(length + 1 - short.len())
        )
    };
    let text = format!(
        "{}{}{}",
        padded(64 * 1024),
        padded(64 * 1024 + 1),
        line(&tenant.outbound, 1)
    );
    let answer = send(&harness, &tenant.token, Body::from(text)).await;
    assert_eq!(
        answer.text,
        r#"{"success":true,"data":{"accepted":2,"rejected":1,"errors":[{"line":2,"message":"Line is longer than 65536 bytes"}]}}"#
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_body_is_read_in_constant_memory() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    // 80 MB: lines that are too long, lines that are no JSON, blank ones, and the same call again
    // and again. Pieces are made when they are asked for; how many are alive at once shows what is
    // held back.
    let alive = Arc::new(AtomicU64::new(0));
    let most = Arc::new(AtomicU64::new(0));
    struct Piece(Vec<u8>, Arc<AtomicU64>);
    impl AsRef<[u8]> for Piece {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Piece {
        fn drop(&mut self) {
            self.1.fetch_sub(self.0.len() as u64, Ordering::SeqCst);
        }
    }
    let call = line(&tenant.outbound, 1);
    let contents: [Vec<u8>; 4] = [
        vec![b'x'; 65_536],
        format!("\n{}", "{\n".repeat(5_000)).into_bytes(),
        vec![b'\n'; 65_536],
        call.repeat(20).into_bytes(),
    ];
    let (counted, peak) = (Arc::clone(&alive), Arc::clone(&most));
    let body = stream::iter(0..2_000_usize).map(move |number| {
        let content = contents[number % 4].clone();
        let now = counted.fetch_add(content.len() as u64, Ordering::SeqCst) + content.len() as u64;
        peak.fetch_max(now, Ordering::SeqCst);
        Ok::<_, std::io::Error>(Bytes::from_owner(Piece(content, Arc::clone(&counted))))
    });
    let answer = send(&harness, &tenant.token, Body::from_stream(body)).await;
    let data = &answer.json()["data"];
    assert_eq!(data["accepted"], 10_000);
    assert_eq!(data["rejected"], 500 * 5_001);
    assert_eq!(data["errors"].as_array().map(Vec::len), Some(100));
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    let most = most.load(Ordering::SeqCst);
    assert!(most <= 200_000, "{most} bytes were held at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_slow_client_are_recorded_as_they_come_and_others_go_on() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = Body::from_stream(stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    }));
    let slow = async {
        let answer = send(&harness, &tenant.token, body).await;
        assert_eq!(answer.json()["data"]["accepted"], 2);
    };
    let others = async {
        let first = line(&tenant.outbound, 1) + "{\"agent_id\":";
        sender
            .send(Ok(Bytes::from(first)))
            .await
            .expect("the batch is read");
        // What has come is recorded although the rest has not.
        let path = "/api/v1/contacts/+5511900000001";
        tokio::time::timeout(Duration::from_secs(20), async {
            while harness.ask(&tenant.token, "GET", path, "").await.status != 200 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the call is recorded");
        let text: String = (10..20).map(|call| line(&tenant.outbound, call)).collect();
        let answer = send(&harness, &tenant.token, Body::from(text)).await;
        assert_eq!(answer.json()["data"]["accepted"], 10);
        let rest = format!("\"{}\",\"to\":\"+5511900000002\"}}", tenant.outbound);
        sender
            .send(Ok(Bytes::from(rest)))
            .await
            .expect("the batch is read");
        drop(sender);
    };
    tokio::join!(slow, others);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_not_acknowledged_and_holds_no_half_call() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let first = line(&tenant.outbound, 1);
    let half = line(&tenant.outbound, 2).trim_end().to_owned();
    let broken: Vec<Result<Bytes, std::io::Error>> = vec![
        Ok(Bytes::from(first)),
        Ok(Bytes::from(half)),
        Err(std::io::ErrorKind::ConnectionReset.into()),
    ];
    let answer = send(
        &harness,
        &tenant.token,
        Body::from_stream(stream::iter(broken)),
    )
    .await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["code"], "INCOMPLETE_BODY");
    let path = "/api/v1/contacts/+5511900000002";
    assert_eq!(
        harness.ask(&tenant.token, "GET", path, "").await.status,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_that_fails_midway_is_told_and_nothing_is_claimed() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let memory = harness.memory.clone();
    let agent = tenant.outbound.clone();
    let body = pieces((0..50_u64).map(move |piece| {
        if piece == 10 {
            memory.fail(true);
        }
        (0..1_000)
            .map(|call| line(&agent, piece * 1_000 + call))
            .collect::<String>()
            .into_bytes()
    }));
    let answer = send(&harness, &tenant.token, body).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text.as_str()),
        (
            503,
            r#"{"success":false,"message":"Storage is unavailable","code":"STORAGE_UNAVAILABLE"}"#
        )
    );
    // The same batch again, once storage is back.
    harness.memory.fail(false);
    let agent = tenant.outbound.clone();
    let body = pieces((0..50_u64).map(move |piece| {
        (0..1_000)
            .map(|call| line(&agent, piece * 1_000 + call))
            .collect::<String>()
            .into_bytes()
    }));
    let answer = send(&harness, &tenant.token, body).await;
    assert_eq!(answer.json()["data"]["accepted"], 50_000, "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_token_ends_writes_nothing_more() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let other = format!("/api/v1/environments/{}/tokens", tenant.environment);
    let other = harness.done(ADMINISTRATOR, "POST", &other, "").await;
    let ended = DeleteToken {
        environment: tenant.environment.parse().expect("an id"),
        id: tenant.token_id.parse().expect("an id"),
    };
    // A chunk is handed over as soon as it is full; then the token ends, then the next chunk comes.
    let engine = harness.engine.clone();
    let agent = tenant.outbound.clone();
    let body = stream::iter(0..2_u64).then(move |piece| {
        let engine = engine.clone();
        let calls = piece * 1_000..(piece + 1) * 1_000;
        let text: String = calls.map(|call| line(&agent, call)).collect();
        async move {
            if piece == 1 {
                engine.submit(ended).await.expect("the token ends");
            }
            Ok::<_, std::io::Error>(Bytes::from(text))
        }
    });
    let answer = send(&harness, &tenant.token, Body::from_stream(body)).await;
    assert_eq!(answer.status, 401, "{}", answer.text);
    let other = other["token"].as_str().expect("a token");
    for (call, status) in [(0, 200), (999, 200), (1_000, 404), (1_999, 404)] {
        let path = format!("/api/v1/contacts/+{}", 5_511_900_000_000_u64 + call);
        let contact = harness.ask(other, "GET", &path, "").await;
        assert_eq!(contact.status, status, "{call}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_batch_is_recorded_at_once() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    for text in ["", "\n\n", "  \r\n"] {
        let answer = send(&harness, &tenant.token, Body::from(text)).await;
        assert_eq!(
            answer.text,
            r#"{"success":true,"data":{"accepted":0,"rejected":0,"errors":[]}}"#
        );
    }
}
