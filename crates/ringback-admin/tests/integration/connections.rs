//! The server on real sockets: limits, slow clients, draining.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use ringback_admin::HttpSpec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::harness::{ADMINISTRATOR, Harness, text};

/// A served API.
struct Served {
    harness: Harness,
    address: SocketAddr,
    health: Vec<SocketAddr>,
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
        let address = listeners.http[0].local_addr().expect("an address");
        let health = listeners
            .health
            .iter()
            .map(|listener| listener.local_addr());
        let health = health.collect::<Result<_, _>>().expect("an address");
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
            health,
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

/// Sends a `GET` with a token, unless it is empty, and reads the answer.
async fn get(stream: &mut TcpStream, path: &str, token: &str) -> String {
    let token = match token {
        "" => String::new(),
        token => format!("authorization: Bearer {token}\r\n"),
    };
    let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\n{token}\r\n");
    stream
        .write_all(head.as_bytes())
        .await
        .expect("the head can be written");
    answer(stream).await
}

/// A `POST` whose body the server is waiting for.
async fn begun(served: &Served, path: &str, token: &str) -> TcpStream {
    let media_type = match path {
        "/api/v1/calls/batch" => "application/x-ndjson",
        _ => "application/json",
    };
    let mut stream = served.connect().await;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\
         content-type: {media_type}\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n"
    );
    stream
        .write_all(head.as_bytes())
        .await
        .expect("the head can be written");
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 100 "));
    stream
}

/// Whether the server ends the connection without another word.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match within(stream.read_to_end(&mut rest)).await {
        Ok(_) => rest.is_empty(),
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_over_the_limit_is_refused_and_the_client_can_read_why() {
    let served = Served::start(HttpSpec::default()).await;
    let mut stream = served.connect().await;
    let head = format!(
        "POST /api/v1/environments HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {ADMINISTRATOR}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    stream
        .write_all(head.as_bytes())
        .await
        .expect("the head can be written");
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
    stream
        .write_all(head.as_bytes())
        .await
        .expect("the head can be written");
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

// 1,150 idle connections kept /healthz from being answered: over the limit, new ones waited.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_and_slow_heads_make_room_for_new_ones() {
    let served = Served::start(HttpSpec {
        max_connections: 8,
        ..HttpSpec::default()
    })
    .await;
    let mut crowd = Vec::new();
    for number in 0..40 {
        let mut stream = served.connect().await;
        if number % 2 == 1 {
            let _closed_already = stream.write_all(b"GET /healthz HTTP/1.1\r\nho").await;
        }
        crowd.push(stream);
    }
    for path in ["/healthz", "/readyz", "/metrics", "/docs"] {
        let mut stream = served.connect().await;
        assert!(
            get(&mut stream, path, "")
                .await
                .starts_with("HTTP/1.1 200 ")
        );
    }
    // The oldest ones are gone.
    for stream in &mut crowd[..32] {
        assert!(is_closed(stream).await);
    }
    served.stop().await;
}

// 1,100 streams of one token did the same.
#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered_while_every_connection_is_busy() {
    let served = Served::start(HttpSpec {
        max_connections: 4,
        ..HttpSpec::default()
    })
    .await;
    let tenant = served.harness.tenant("+551130000000").await;
    let mut busy = Vec::new();
    for _ in 0..4 {
        let mut stream = served.connect().await;
        let text = get(&mut stream, "/api/v1/decisions/stream", &tenant.token).await;
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        busy.push(stream);
    }
    // Whoever holds a connection for probes and says nothing is in nobody's way.
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(served.connect().await);
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        let mut stream = served.connect().await;
        assert!(
            get(&mut stream, path, "")
                .await
                .starts_with("HTTP/1.1 200 ")
        );
    }
    let mut stream = served.connect().await;
    let text = get(&mut stream, "/api/v1/agents", &tenant.token).await;
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    assert!(text.contains("\r\nretry-after: 1\r\n"), "{text}");
    assert!(
        text.ends_with(r#""code":"TOO_MANY_CONNECTIONS"}"#),
        "{text}"
    );
    assert!(is_closed(&mut stream).await);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_over_its_limit_does_not_take_the_places_of_others() {
    let served = Served::start(HttpSpec {
        max_connections_per_address: 2,
        ..HttpSpec::default()
    })
    .await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(served.address).await.unwrap();
    assert!(
        get(&mut other, "/healthz", "")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    let mut ours = Vec::new();
    for _ in 0..5 {
        ours.push(served.connect().await);
    }
    for stream in &mut ours[..3] {
        assert!(is_closed(stream).await);
    }
    for stream in ours[3..].iter_mut().chain([&mut other]) {
        assert!(
            get(stream, "/healthz", "")
                .await
                .starts_with("HTTP/1.1 200 ")
        );
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_so_many_requests_open_and_half_as_many_streams() {
    let served = Served::start(HttpSpec {
        max_requests_per_token: 4,
        ..HttpSpec::default()
    })
    .await;
    let tenant = served.harness.tenant("+551130000000").await;
    let mut open = Vec::new();
    for index in 0..3 {
        let mut stream = served.connect().await;
        let text = get(&mut stream, "/api/v1/decisions/stream", &tenant.token).await;
        if index < 2 {
            assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
            open.push(stream);
        } else {
            assert!(text.starts_with("HTTP/1.1 429 "), "{text}");
            assert!(text.contains("\r\nretry-after: 1\r\n"), "{text}");
            assert!(
                text.ends_with(r#""code":"TOO_MANY_OPEN_REQUESTS"}"#),
                "{text}"
            );
            assert!(is_closed(&mut stream).await);
        }
    }
    for _ in 0..2 {
        open.push(begun(&served, "/api/v1/calls", &tenant.token).await);
    }
    let mut stream = served.connect().await;
    let text = get(&mut stream, "/api/v1/agents", &tenant.token).await;
    assert!(text.starts_with("HTTP/1.1 429 "), "{text}");
    // Another token is served.
    let mut stream = served.connect().await;
    let text = get(&mut stream, "/api/v1/environments", ADMINISTRATOR).await;
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    served.stop().await;
}

// A request that was waiting for its body went on when its token had ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_ends_its_open_requests_and_streams() {
    let served = Served::start(HttpSpec::default()).await;
    for by_environment in [false, true] {
        let made = served
            .harness
            .done(
                ADMINISTRATOR,
                "POST",
                "/api/v1/environments",
                r#"{"name":"Ends"}"#,
            )
            .await;
        let environment = format!("/api/v1/environments/{}", text(&made["id"]));
        let tokens = format!("{environment}/tokens");
        let made = served
            .harness
            .done(ADMINISTRATOR, "POST", &tokens, "")
            .await;
        let (id, token) = (text(&made["id"]), text(&made["token"]));
        let mut batch = begun(&served, "/api/v1/calls/batch", &token).await;
        let mut single = begun(&served, "/api/v1/agents", &token).await;
        let mut events = served.connect().await;
        let head = get(&mut events, "/api/v1/decisions/stream", &token).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let path = if by_environment {
            environment
        } else {
            format!("{tokens}/{id}")
        };
        served
            .harness
            .done(ADMINISTRATOR, "DELETE", &path, "")
            .await;
        for stream in [&mut batch, &mut single] {
            let text = answer(stream).await;
            assert!(text.starts_with("HTTP/1.1 401 "), "{text}");
        }
        let mut rest = head.into_bytes();
        while !rest.ends_with(b"\r\n0\r\n\r\n") {
            let length = within(events.read_buf(&mut rest)).await.unwrap();
            assert!(length > 0, "the connection ended before the stream");
        }
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_have_addresses_of_their_own_if_asked_for() {
    let served = Served::start(HttpSpec {
        health_listen: vec!["127.0.0.1:0".to_owned()],
        ..HttpSpec::default()
    })
    .await;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(TcpStream::connect(served.health[0]).await.unwrap());
    }
    let mut stream = TcpStream::connect(served.health[0]).await.unwrap();
    for (path, status) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/docs", 404),
        ("/api/v1/environments", 404),
    ] {
        let text = get(&mut stream, path, ADMINISTRATOR).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
    }
    served.stop().await;
}

// HTTP/1.1 without Host was 200.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_exactly_one_host_is_bad() {
    let served = Served::start(HttpSpec::default()).await;
    for (version, hosts, status) in [
        ("1.1", "", 400),
        ("1.1", "host: a\r\nhost: a\r\n", 400),
        ("1.1", "host: a b\r\n", 400),
        ("1.1", "host: a/b\r\n", 400),
        ("1.1", "host: a:1\r\n", 200),
        ("1.1", "host: [::1]:8080\r\n", 200),
        ("1.0", "", 200),
        ("1.0", "host: a\r\nhost: a\r\n", 400),
    ] {
        let mut stream = served.connect().await;
        let head = format!("GET /healthz HTTP/{version}\r\n{hosts}\r\n");
        stream
            .write_all(head.as_bytes())
            .await
            .expect("the head can be written");
        let text = answer(&mut stream).await;
        assert_eq!(text[9..12], status.to_string(), "{head}{text}");
        assert!(text.contains("\r\nx-request-id: "), "{text}");
        assert_eq!(
            status == 400,
            text.ends_with(r#"Host header is required","code":"BAD_REQUEST"}"#),
            "{text}"
        );
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_leads_to_the_console() {
    let served = Served::start(HttpSpec::default()).await;
    for (path, location) in [
        ("/", "/console/"),
        ("/console", "/console/"),
        ("/docs/", "/docs"),
    ] {
        let mut stream = served.connect().await;
        let text = get(&mut stream, path, "").await;
        assert!(text.starts_with("HTTP/1.1 302 "), "{text}");
        let location = format!("\r\nlocation: {location}\r\n");
        assert!(text.contains(&location), "{text}");
    }
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
    stream
        .write_all(head.as_bytes())
        .await
        .expect("the head can be written");
    assert!(answer(&mut stream).await.contains("text/event-stream"));
    let mut begun = served.connect().await;
    let head = format!(
        "POST /api/v1/environments HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {ADMINISTRATOR}\r\n\
         content-type: application/json\r\ncontent-length: 15\r\nexpect: 100-continue\r\n\r\n"
    );
    begun.write_all(head.as_bytes()).await.unwrap();
    // The server has taken the request up when it asks for the body.
    assert!(answer(&mut begun).await.starts_with("HTTP/1.1 100 "));
    begun.write_all(b"{\"name\"").await.unwrap();
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
