//! OpenTelemetry: spans and log records by OTLP/HTTP, in JSON, where `[otel] endpoint` names a collector.
//!
//! A span for each decided call, one for each HTTP request, and what is logged. Nobody waits for a collector: what it
//! does not take in time is dropped and counted. Calls are read from the log of decisions, which is there anyway, so the
//! call path does not know whether they are exported.

mod decisions;
mod encode;
mod layer;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringback_admin::{AnsweredRequest, MetricsSource, RequestObserver};
use rustls::crypto::ring;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use uuid::Uuid;

pub(crate) use self::decisions::follow;
pub(crate) use self::layer::LogLayer;

/// Where spans and log records go; clones share it.
#[derive(Clone)]
pub(crate) struct Exporter {
    /// Takes them to the thread that sends them.
    items: SyncSender<Item>,
    /// What became of them.
    counters: Arc<Counters>,
}

/// Something to be sent.
enum Item {
    /// A span.
    Span(Span),
    /// A log record.
    Log(LogRecord),
    /// The program ends: what has come so far is sent, then this is told.
    Flush(SyncSender<()>),
}

/// A span, of a call or of an HTTP request.
struct Span {
    /// What it is a span of; with attributes that tell such spans apart.
    name: String,
    /// Whether it answers somebody, which is `SPAN_KIND_SERVER`; else it is internal.
    is_server: bool,
    /// The trace and the span that it belongs to, if the client has named them.
    parent: Option<Parent>,
    /// When it began and ended, in nanoseconds since 1970.
    times: (u128, u128),
    /// What it tells.
    attributes: Vec<(&'static str, Value)>,
    /// Whether it is an error of ours.
    is_error: bool,
}

/// The span of a client (W3C Trace Context).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parent {
    /// 32 hex digits.
    trace: String,
    /// 16 hex digits.
    span: String,
}

/// A line of the log.
struct LogRecord {
    /// When, in nanoseconds since 1970.
    at: u128,
    /// How grave it is.
    level: tracing::Level,
    /// What it says.
    body: String,
    /// Its fields.
    attributes: Vec<(&'static str, Value)>,
}

/// The value of an attribute.
enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Number(i64),
}

/// What became of spans and log records.
#[derive(Default)]
struct Counters {
    /// Taken by the collector.
    exported: AtomicU64,
    /// Dropped: there were too many, or the collector took none.
    dropped: AtomicU64,
}

impl Exporter {
    /// Starts to send to this collector, as `http://127.0.0.1:4318`.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(endpoint: &str) -> std::io::Result<Self> {
        let (items, received) = sync_channel(QUEUED);
        let counters = Arc::new(Counters::default());
        let sender = Sender {
            agent: agent(),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            counters: Arc::clone(&counters),
        };
        thread::Builder::new()
            .name("otlp".to_owned())
            .spawn(move || sender.run(&received))?;
        Ok(Self { items, counters })
    }

    /// Has what has come so far sent, for at most two seconds.
    pub(crate) fn flush(&self) {
        let (done, told) = sync_channel(1);
        if self.items.try_send(Item::Flush(done)).is_ok() {
            let _in_time = told.recv_timeout(FLUSH_LIMIT);
        }
    }

    /// Takes a span or a log record, unless too many wait.
    fn take(&self, item: Item) {
        if self.items.try_send(item).is_err() {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl MetricsSource for Exporter {
    fn write_metrics(&self, out: &mut String) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let _infallible = write!(
            out,
            "# HELP ringback_otel_items_total Spans and log records for the OpenTelemetry collector.\n\
             # TYPE ringback_otel_items_total counter\n\
             ringback_otel_items_total{{result=\"exported\"}} {}\n\
             ringback_otel_items_total{{result=\"dropped\"}} {}\n",
            count(&self.counters.exported),
            count(&self.counters.dropped),
        );
    }
}

impl RequestObserver for Exporter {
    fn answered(&self, request: &AnsweredRequest<'_>) {
        let mut attributes = vec![
            (
                "http.request.method",
                Value::Text(request.method.to_owned()),
            ),
            (
                "http.response.status_code",
                Value::Number(request.status.into()),
            ),
            ("url.scheme", Value::Text(request.scheme.to_owned())),
            (
                "ringback.request_id",
                Value::Text(request.request_id.to_owned()),
            ),
        ];
        let name = match request.route {
            // The path itself may hold the number of a contact: only its pattern is told.
            Some(route) => {
                attributes.push(("http.route", Value::Text(route.to_owned())));
                format!("{} {route}", request.method)
            }
            None => request.method.to_owned(),
        };
        let is_error = request.status >= 500;
        if is_error {
            attributes.push(("error.type", Value::Text(request.status.to_string())));
        }
        let end = nanoseconds(SystemTime::now());
        self.take(Item::Span(Span {
            name,
            is_server: true,
            parent: request.traceparent.and_then(Parent::read),
            times: (end.saturating_sub(request.took.as_nanos()), end),
            attributes,
            is_error,
        }));
    }
}

impl Parent {
    /// Reads `00-TRACE-SPAN-FLAGS`; another version is read alike.
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = parts
            .next()
            .filter(|version| version.len() == 2 && *version != "ff")?;
        let (trace, span) = (parts.next()?, parts.next()?);
        let is_id = |id: &str, length| {
            let is_hex = id
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            id.len() == length && is_hex && id.bytes().any(|byte| byte != b'0')
        };
        parts.next().filter(|flags| flags.len() == 2)?;
        let is_whole = version != "00" || parts.next().is_none();
        (is_whole && is_id(trace, 32) && is_id(span, 16)).then(|| Self {
            trace: trace.to_owned(),
            span: span.to_owned(),
        })
    }
}

/// The thread that sends.
struct Sender {
    /// Keeps a connection to the collector.
    agent: ureq::Agent,
    /// Its address.
    endpoint: String,
    /// What becomes of what is sent.
    counters: Arc<Counters>,
}

impl Sender {
    /// Sends what comes, gathered for a second, until nobody is left to send anything.
    fn run(&self, items: &Receiver<Item>) {
        let mut is_over = false;
        while !is_over {
            let (mut spans, mut logs, mut waiting) = (Vec::new(), Vec::new(), None);
            let mut until = None;
            while spans.len() + logs.len() < BATCH {
                let left = until.map_or(IDLE, |until: Instant| {
                    until.saturating_duration_since(Instant::now())
                });
                match items.recv_timeout(left) {
                    Ok(Item::Span(span)) => spans.push(span),
                    Ok(Item::Log(log)) => logs.push(log),
                    Ok(Item::Flush(done)) => {
                        waiting = Some(done);
                        break;
                    }
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => {
                        is_over = true;
                        break;
                    }
                }
                until.get_or_insert_with(|| Instant::now() + GATHERED);
            }
            self.send("traces", spans.len(), || encode::traces(&spans));
            self.send("logs", logs.len(), || encode::logs(&logs));
            if let Some(done) = waiting {
                // Whoever waited may have given up.
                let _gone = done.try_send(());
            }
        }
    }

    /// Sends a batch, once more where the collector asks for that.
    fn send(&self, signal: &str, count: usize, body: impl FnOnce() -> String) {
        if count == 0 {
            return;
        }
        let url = format!("{}/v1/{signal}", self.endpoint);
        let body = body();
        let post = || {
            let request = self.agent.post(&url).content_type("application/json");
            let answer = request.send(&body);
            answer.map_or(0, |answer| answer.status().as_u16())
        };
        let mut status = post();
        if matches!(status, 0 | 429 | 502..=504) {
            thread::sleep(PAUSE);
            status = post();
        }
        let counter = match status {
            200..300 => &self.counters.exported,
            // Not logged: that would be one more record to send.
            _ => &self.counters.dropped,
        };
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// A client for the collector.
fn agent() -> ureq::Agent {
    let found = rustls_native_certs::load_native_certs();
    let roots: Vec<_> = found
        .certs
        .iter()
        .map(|root| ureq::tls::Certificate::from_der(root).to_owned())
        .collect();
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&roots));
    ureq::Agent::config_builder()
        .tls_config(tls.build())
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_global(Some(TIMEOUT))
        .build()
        .new_agent()
}

/// A new identifier of so many hex digits, at most 32.
fn new_id(digits: usize) -> String {
    let mut id = Uuid::new_v4().simple().to_string();
    id.truncate(digits);
    id
}

/// Nanoseconds since 1970.
fn nanoseconds(at: SystemTime) -> u128 {
    let since = at.duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_nanos()
}

/// How many spans and log records wait at most; what is beyond is dropped.
const QUEUED: usize = 16_384;

/// How many are sent at once.
const BATCH: usize = 2_048;

/// How long they are gathered.
const GATHERED: Duration = Duration::from_secs(1);

/// How long the thread sleeps where nothing comes.
const IDLE: Duration = Duration::from_secs(60);

/// How long the collector may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait before a batch is sent again.
const PAUSE: Duration = Duration::from_millis(500);

/// How long the end of the program waits for the collector.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_span_of_a_client_is_read_and_what_is_none_is_left_out() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let parent = Some(Parent {
            trace: trace.to_owned(),
            span: span.to_owned(),
        });
        assert_eq!(Parent::read(&format!("00-{trace}-{span}-01")), parent);
        assert_eq!(Parent::read(&format!("01-{trace}-{span}-01-more")), parent);
        for broken in [
            String::new(),
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-01-more"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{span}-{trace}-01"),
        ] {
            assert_eq!(Parent::read(&broken), None, "{broken}");
        }
    }
}
