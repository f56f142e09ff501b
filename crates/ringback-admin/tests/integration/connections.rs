//! The server on real sockets: limits, slow clients, draining.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use ringback_admin::HttpSpec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::harness::{ADMINISTRATOR, Harness};

/// A served API.
struct Served {
    harness: Harness,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Served {
    async fn start(spec: HttpSpec) -> Self {
        let harness = Harness::with(HttpSpec {
            listen: vec!["127.0.0.1:0".to_owned()],
            ..spec
        });
        let listeners = ringback_admin::bind(&harness.config)
            .await
            .expect("a free port");
        let address = listeners[0].local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let (api, config) = (harness.api.clone(), harness.config.clone());
        let server = tokio::spawn(async move {
            ringback_admin::serve(listeners, api, &config, async {
                let _dropped = stopped.await;
            })
            .await;
        });
        Self {
            harness,
            address,
            stop,
            server,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address)
            .await
            .expect("the server accepts")
    }

    async fn stop(self) {
        let _stopped = self.stop.send(());
        within(self.server).await.expect("the server ends");
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .expect("in time")
}

/// Reads one answer: its head and as much body as it announces.
async fn answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    within(async {
        loop {
            let read = String::from_utf8_lossy(&text).into_owned();
            if let Some((head, body)) = read.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .map_or(0, |length| length.parse().expect("a length"));
                if body.len() >= length {
                    return read;
                }
            }
            let mut buffer = [0; 4_096];
            let length = stream.read(&mut buffer).await.expect("an answer");
            assert!(length > 0, "the connection ended after {read:?}");
            text.extend_from_slice(&buffer[..length]);
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_over_the_limit_is_refused_and_the_client_can_read_why() {
    let served = Served::start(HttpSpec::default()).await;
    let mut stream = served.connect().await;
    let head = format!(
        "POST /api/v1/environments HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {ADMINISTRATOR}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // Four mebibytes, all of them sent before the answer is looked at.
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    for _ in 0..64 {
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let text = answer(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    assert!(text.ends_with(r#""code":"PAYLOAD_TOO_LARGE"}"#), "{text}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announced_body_over_the_limit_is_refused_before_it_is_sent() {
    let served = Served::start(HttpSpec::default()).await;
    let mut stream = served.connect().await;
    let head = format!(
        "POST /api/v1/environments HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {ADMINISTRATOR}\r\n\
         content-type: application/json\r\ncontent-length: 1048577\r\nexpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let text = answer(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_do_not_keep_others_waiting() {
    let served = Served::start(HttpSpec::default()).await;
    let mut slow = Vec::new();
    for number in 0..64 {
        let mut stream = served.connect().await;
        let begun = if number % 2 == 0 {
            "GET /api/v1/agents HTTP/1.1\r\nhost".to_owned()
        } else {
            format!(
                "POST /api/v1/environments HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {ADMINISTRATOR}\r\n\
                 content-type: application/json\r\ncontent-length: 15\r\n\r\n{{\"name\""
            )
        };
        stream.write_all(begun.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    for _ in 0..20 {
        let mut stream = served.connect().await;
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        assert!(answer(&mut stream).await.ends_with("{\"status\":\"ok\"}"));
    }
    // They are served all the same, once they go on.
    let stream = &mut slow[1];
    stream.write_all(b":\"Slow\"}").await.unwrap();
    assert!(answer(stream).await.starts_with("HTTP/1.1 201 "));
    drop(slow);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_cap_wait_their_turn() {
    let served = Served::start(HttpSpec {
        max_connections: 2,
        ..HttpSpec::default()
    })
    .await;
    let first = served.connect().await;
    let second = served.connect().await;
    let mut third = served.connect().await;
    third
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut buffer = [0; 16];
    let early = tokio::time::timeout(Duration::from_millis(200), third.read(&mut buffer)).await;
    assert!(early.is_err(), "the third was served beside the first two");
    drop(first);
    assert!(answer(&mut third).await.ends_with("{\"status\":\"ok\"}"));
    drop(second);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_have_begun_are_finished_and_streams_end_when_the_server_goes_down() {
    let served = Served::start(HttpSpec::default()).await;
    let tenant = served.harness.tenant("+551130000000").await;
    let mut idle = served.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    answer(&mut idle).await;
    let mut stream = served.connect().await;
    let head = format!(
        "GET /api/v1/decisions/stream HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\r\n",
        tenant.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(answer(&mut stream).await.contains("text/event-stream"));
    let mut begun = served.connect().await;
    let head = format!(
        "POST /api/v1/environments HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {ADMINISTRATOR}\r\n\
         content-type: application/json\r\ncontent-length: 15\r\n\r\n{{\"name\""
    );
    begun.write_all(head.as_bytes()).await.unwrap();
    // The server has taken the request up when it asks for no more than the rest of the body.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let address = served.address;
    let Served {
        harness,
        stop,
        server,
        ..
    } = served;
    let _stopped = stop.send(());
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest))
        .await
        .expect("the stream ends");
    within(idle.read_to_end(&mut rest))
        .await
        .expect("the idle connection ends");
    begun.write_all(b":\"Late\"}").await.unwrap();
    assert!(answer(&mut begun).await.starts_with("HTTP/1.1 201 "));
    within(server).await.expect("the server ends");
    assert!(
        TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
    drop(harness);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_in_the_text_format() {
    let served = Served::start(HttpSpec::default()).await;
    let tenant = served.harness.tenant("+551130000000").await;
    let body = r#"{"to":"+551130000000"}"#;
    served
        .harness
        .done(&tenant.token, "POST", "/api/v1/route", body)
        .await;
    let mut stream = served.connect().await;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let text = answer(&mut stream).await;
    let (_, metrics) = text.split_once("\r\n\r\n").expect("a body");
    for line in [
        "ringback_storage_available 1",
        "ringback_environments 1",
        "ringback_agents 2",
        "ringback_phone_numbers 1",
        "ringback_http_decisions_total{outcome=\"default\",reason=\"caller_anonymous\"} 1",
        "ringback_http_requests_total{route=\"/api/v1/agents/{id}/publish\",method=\"POST\",status=\"200\"} 2",
        "ringback_http_request_duration_seconds_bucket{route=\"/api/v1/route\",le=\"+Inf\"} 1",
        "ringback_http_connections 1",
    ] {
        assert!(
            metrics.lines().any(|other| other == line),
            "{line} is not in\n{metrics}"
        );
    }
    for line in metrics.lines() {
        let is_value = line
            .rsplit_once(' ')
            .is_some_and(|(_, value)| value.parse::<f64>().is_ok());
        assert!(
            line.starts_with("# HELP ") || line.starts_with("# TYPE ") || is_value,
            "{line}"
        );
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_and_its_page_are_served_to_anyone() {
    let harness = Harness::new();
    let request = |path: &str| {
        let request = Request::get(path).body(Body::empty());
        harness.send(request.expect("a request"))
    };
    let description = request("/api/v1/openapi.json").await;
    assert_eq!(description.header("content-type"), "application/json");
    assert_eq!(description.json()["openapi"], "3.1.0");
    let page = request("/docs").await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    // Nothing is fetched from elsewhere.
    assert!(!page.text.contains("http://") && !page.text.contains("https://"));
}
