//! OTLP over HTTP: what a collector is sent, and that it is not sent whole numbers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ringback_testkit::{ServerBuilder, SipPeer};
use serde_json::{Value, json};

use crate::operation::metrics;
use crate::{BINARY, ringback};

/// A collector: its address, and what it is sent, as path and body.
fn collector() -> (SocketAddr, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (bodies, received) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let bodies = bodies.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut stream = stream;
                loop {
                    let (mut path, mut length) = (String::new(), 0);
                    for line in reader.by_ref().lines().map_while(Result::ok) {
                        if line.is_empty() {
                            break;
                        }
                        let lower = line.to_ascii_lowercase();
                        if let Some(text) = lower.strip_prefix("content-length:") {
                            length = text.trim().parse().unwrap();
                        } else if path.is_empty() {
                            path = line.split(' ').nth(1).unwrap().to_owned();
                        }
                    }
                    if path.is_empty() {
                        return;
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).unwrap();
                    let body = serde_json::from_slice(&body).unwrap();
                    if bodies.send((path, body)).is_err() {
                        return;
                    }
                    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    (address, received)
}

/// The entries of these bodies at a path: spans, or log records.
fn entries(bodies: &[(String, Value)], path: &str, keys: [&str; 3]) -> Vec<Value> {
    let of_path = bodies.iter().filter(|(sent_to, _)| sent_to == path);
    let [resources, scopes, entries] = keys;
    let each = |value: &Value, key: &str| value[key].as_array().unwrap().clone();
    of_path
        .flat_map(|(_, body)| each(body, resources))
        .flat_map(|resource| each(&resource, scopes))
        .flat_map(|scope| each(&scope, entries))
        .collect()
}

/// An attribute.
fn attribute<'e>(entry: &'e Value, key: &str) -> &'e Value {
    let attributes = entry["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == key);
    found.map_or(&Value::Null, |found| &found["value"])
}

#[test]
fn calls_requests_and_the_log_are_sent_to_a_collector_with_numbers_masked() {
    let (collector, received) = collector();
    let mut server = ServerBuilder::new(BINARY)
        .config(format!("[otel]\nendpoint = 'http://{collector}'\n[log]\nphone-numbers = 'full'\nlevel = 'info,ringback=debug'\n"))
        .start();
    let api = server.environment(json!({ "name": "Acme" }));
    let number = api.number("+12025550100");
    api.agent("Desk", "inbound", &[&number], "sip:desk@192.0.2.1");
    let peer = SipPeer::new(server.address("sip_udp"));
    assert_eq!(peer.invite("+12025550100", "+12025550142").status, 302);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let asked = ureq::get(format!("{}/api/v1/contacts/+12025550142", server.url()))
        .header("authorization", format!("Bearer {}", api.token()))
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
        .config()
        .http_status_as_error(false)
        .build()
        .call()
        .unwrap();
    assert_eq!(asked.status(), 404);
    // What has come is sent before the program ends.
    let mut bodies = Vec::new();
    while !bodies
        .iter()
        .any(|(_, body): &(String, Value)| body.to_string().contains(trace))
    {
        bodies.push(received.recv_timeout(Duration::from_secs(30)).unwrap());
    }
    assert_eq!(server.stop().code, Some(0));
    bodies.extend(received.try_iter());
    let text: String = bodies.iter().map(|(_, body)| body.to_string()).collect();
    assert!(!text.contains("2025550142"), "{text}");

    let spans = entries(
        &bodies,
        "/v1/traces",
        ["resourceSpans", "scopeSpans", "spans"],
    );
    let call = spans.iter().find(|span| span["name"] == "decide call");
    let call = call.unwrap();
    for (key, expected) in [
        ("ringback.outcome", "default"),
        ("ringback.reason", "caller_never_called"),
        ("ringback.via", "sip-udp"),
        ("ringback.caller", "+*********42"),
    ] {
        assert_eq!(attribute(call, key)["stringValue"], expected, "{call}");
    }
    let request = spans.iter().find(|span| span["traceId"] == trace).unwrap();
    assert_eq!(request["name"], "GET /api/v1/contacts/{number}");
    assert_eq!(request["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(request["kind"], 2);
    let status = attribute(request, "http.response.status_code");
    assert_eq!(status["intValue"], "404");
    for span in &spans {
        let id = |key: &str| span[key].as_str().unwrap().len();
        assert_eq!((id("traceId"), id("spanId")), (32, 16), "{span}");
        let time = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
        assert!(
            time("startTimeUnixNano") <= time("endTimeUnixNano"),
            "{span}"
        );
    }
    let records = entries(
        &bodies,
        "/v1/logs",
        ["resourceLogs", "scopeLogs", "logRecords"],
    );
    let said = |text: &str| {
        let mut records = records.iter();
        records
            .find(|record| record["body"]["stringValue"] == text)
            .cloned()
    };
    assert_eq!(said("ready").unwrap()["severityText"], "INFO");
    let decided = said("decided").unwrap();
    assert_eq!(attribute(&decided, "caller")["stringValue"], "+*********42");
}

#[test]
fn nothing_is_exported_by_default_and_a_collector_that_is_gone_keeps_nobody_waiting() {
    let server = crate::server();
    assert!(!metrics(&server).contains("ringback_otel"));
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let mut server = ServerBuilder::new(BINARY)
        .config(format!("[otel]\nendpoint = 'http://{address}'\n"))
        .start();
    let dropped = "ringback_otel_items_total{result=\"dropped\"} ";
    loop {
        let page = metrics(&server);
        let count = page.lines().find_map(|line| line.strip_prefix(dropped));
        if count.unwrap().parse::<u64>().unwrap() > 0 {
            break;
        }
        std::thread::yield_now();
    }
    assert_eq!(server.stop().code, Some(0));
    for broken in ["collector:4318", "http://", "ftp://collector"] {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("ringback.toml");
        std::fs::write(&path, format!("[otel]\nendpoint = '{broken}'\n")).unwrap();
        let output = ringback(&["check-config", path.to_str().unwrap()]);
        assert_eq!(output.code, Some(78), "{broken}");
        assert!(output.stderr.contains("otel.endpoint"), "{}", output.stderr);
    }
}
