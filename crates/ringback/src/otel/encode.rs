//! Spans and log records as OTLP writes them in JSON (protobuf's mapping, with identifiers in hex).

use serde_json::{Value as Json, json};

use super::{LogRecord, Span, Value, new_id};

/// The body of a request to `/v1/traces`.
pub(super) fn traces(spans: &[Span]) -> String {
    let spans: Vec<Json> = spans.iter().map(span).collect();
    let scoped = json!({ "scope": scope(), "spans": spans });
    json!({ "resourceSpans": [{ "resource": resource(), "scopeSpans": [scoped] }] }).to_string()
}

/// The body of a request to `/v1/logs`.
pub(super) fn logs(records: &[LogRecord]) -> String {
    let records: Vec<Json> = records.iter().map(log).collect();
    let scoped = json!({ "scope": scope(), "logRecords": records });
    json!({ "resourceLogs": [{ "resource": resource(), "scopeLogs": [scoped] }] }).to_string()
}

/// A span.
fn span(span: &Span) -> Json {
    let (start, end) = span.times;
    let trace = span.parent.as_ref().map(|parent| parent.trace.clone());
    let mut json = json!({
        "traceId": trace.unwrap_or_else(|| new_id(32)),
        "spanId": new_id(16),
        "name": span.name,
        "kind": if span.is_server { KIND_SERVER } else { KIND_INTERNAL },
        "startTimeUnixNano": start.to_string(),
        "endTimeUnixNano": end.to_string(),
        "attributes": attributes(&span.attributes),
        "status": if span.is_error { json!({ "code": STATUS_ERROR }) } else { json!({}) },
    });
    if let Some(parent) = &span.parent {
        json["parentSpanId"] = json!(parent.span);
    }
    json
}

/// A log record.
fn log(record: &LogRecord) -> Json {
    let (number, word) = match record.level {
        tracing::Level::TRACE => (1, "TRACE"),
        tracing::Level::DEBUG => (5, "DEBUG"),
        tracing::Level::INFO => (9, "INFO"),
        tracing::Level::WARN => (13, "WARN"),
        tracing::Level::ERROR => (17, "ERROR"),
    };
    json!({
        "timeUnixNano": record.at.to_string(),
        "severityNumber": number,
        "severityText": word,
        "body": { "stringValue": record.body },
        "attributes": attributes(&record.attributes),
    })
}

/// Attributes.
fn attributes(attributes: &[(&'static str, Value)]) -> Json {
    let written = attributes.iter().map(|(key, value)| match value {
        Value::Text(text) => json!({ "key": key, "value": { "stringValue": text } }),
        // Whole numbers of 64 bits are texts in protobuf's JSON.
        Value::Number(number) => json!({ "key": key, "value": { "intValue": number.to_string() } }),
    });
    written.collect()
}

/// What spans and records come from.
fn resource() -> Json {
    let version = Value::Text(env!("CARGO_PKG_VERSION").to_owned());
    let name = Value::Text("ringback".to_owned());
    json!({ "attributes": attributes(&[("service.name", name), ("service.version", version)]) })
}

/// What makes them.
fn scope() -> Json {
    json!({ "name": "ringback", "version": env!("CARGO_PKG_VERSION") })
}

/// `SPAN_KIND_INTERNAL`.
const KIND_INTERNAL: u8 = 1;

/// `SPAN_KIND_SERVER`.
const KIND_SERVER: u8 = 2;

/// `STATUS_CODE_ERROR`.
const STATUS_ERROR: u8 = 2;
