//! `ringback status` and `ringback reload`: how the server is, and a new configuration for it.

use clap::Args;
use serde_json::{Value, json};

use crate::client::{ApiPath, Client, ClientError};
use crate::exit::{Failure, chain};
use crate::output::{SessionArgs, cell, escaped, print, record, table};

/// `ringback status`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatusArgs {
    /// Server, token, output.
    #[command(flatten)]
    session: SessionArgs,
    /// Print one line and end with 0 (ok), 1 (warning), 2 (critical) or 3 (unknown), as plugins of
    /// Nagios and Icinga do
    #[arg(long)]
    check: bool,
}

/// `ringback reload`.
#[derive(Debug, Args)]
#[command(after_help = RELOAD_EXAMPLES)]
pub(crate) struct ReloadArgs {
    /// Server, token, output.
    #[command(flatten)]
    session: SessionArgs,
}

/// The server is not in good health.
#[derive(Debug, thiserror::Error)]
#[error("{line}")]
pub(crate) struct StatusError {
    /// The exit code.
    pub(crate) code: u8,
    /// What was printed.
    line: String,
}

/// Runs `ringback status`.
pub(crate) fn run(args: &StatusArgs) -> Result<(), Failure> {
    if args.check {
        return check(args);
    }
    let session = args.session.open()?;
    let answer = session.client.get(&ApiPath::new(["status"]))?;
    session.print(&answer, readable)?;
    Ok(())
}

/// Runs `ringback reload`.
pub(crate) fn reload(args: &ReloadArgs) -> Result<(), Failure> {
    let session = args.session.open()?;
    let answer = session.client.post(&ApiPath::new(["reload"]), &json!({}))?;
    session.print(&answer, |answer| {
        let later = answer.pointer("/restart_needed").unwrap_or(&Value::Null);
        let mut text = "configuration reloaded\n".to_owned();
        if later.as_array().is_some_and(|keys| !keys.is_empty()) {
            text.push_str(&format!(
                "these take effect at the next start: {}\n",
                cell(Some(later))
            ));
        }
        text
    })?;
    Ok(())
}

/// Asks, and judges the answer as a plugin for monitoring does.
fn check(args: &StatusArgs) -> Result<(), Failure> {
    let asked =
        Client::new(&args.session.client).and_then(|client| client.get(&ApiPath::new(["status"])));
    let (code, what) = match &asked {
        Ok(answer) => judge(&answer.value),
        Err(error) => (unanswered(error), chain(error)),
    };
    let level = ["OK", "WARNING", "CRITICAL"].get(usize::from(code));
    let line = format!("RINGBACK {} - {what}", level.unwrap_or(&"UNKNOWN"));
    print(&format!("{}\n", escaped(&line)))?;
    match code {
        0 => Ok(()),
        code => Err(StatusError { code, line }.into()),
    }
}

/// How bad it is that there is no answer: a server that does not serve, or a question that is wrong.
fn unanswered(error: &ClientError) -> u8 {
    match error {
        ClientError::Unreachable { .. } => CRITICAL,
        ClientError::Refused(refusal) if refusal.status >= 500 => CRITICAL,
        _ => UNKNOWN,
    }
}

/// How the server is, as exit code and text with performance data.
fn judge(status: &Value) -> (u8, String) {
    let text = |pointer: &str| status.pointer(pointer).and_then(Value::as_str);
    let number = |pointer: &str| {
        let value = status.pointer(pointer).and_then(Value::as_f64);
        value.unwrap_or_default()
    };
    let mut code = OK;
    let mut notes = Vec::new();
    let mut note = |level: u8, what: String| {
        code = code.max(level);
        notes.push(what);
    };
    match text("/health/storage") {
        Some("available") => {}
        _ => note(CRITICAL, "storage takes no writes".to_owned()),
    }
    match text("/health/index") {
        Some("whole") => {}
        Some("loading") => note(WARNING, "the index is being loaded".to_owned()),
        other => note(CRITICAL, format!("the index is {}", other.unwrap_or("?"))),
    }
    match text("/health/status") {
        Some("ready") => {}
        Some(other) => note(WARNING, other.to_owned()),
        None => note(CRITICAL, "not ready".to_owned()),
    }
    if status.pointer("/sip/overloaded") == Some(&Value::Bool(true)) {
        note(WARNING, "overloaded".to_owned());
    }
    if status.pointer("/reloads/last/succeeded") == Some(&Value::Bool(false)) {
        note(WARNING, "the last reload was refused".to_owned());
    }
    if notes.is_empty() {
        notes.push("ready".to_owned());
    }
    let calls = number("/sip/rates/calls_per_second");
    (
        code,
        format!(
            "{}, {calls} calls/s, {} contacts | calls_per_second={calls} refused_per_second={} \
             dropped_per_second={} contacts={} strangers={}c",
            notes.join(", "),
            number("/counts/contacts"),
            number("/sip/rates/refused_per_second"),
            number("/sip/rates/dropped_per_second"),
            number("/counts/contacts"),
            number("/sip/strangers/messages"),
        ),
    )
}

/// The status, for people.
fn readable(status: &Value) -> String {
    let mut text = record(status, FIELDS);
    let counted = |pointer: &str| -> Value {
        let counts = status.pointer(pointer).and_then(Value::as_object);
        counts
            .into_iter()
            .flatten()
            .filter(|(_, count)| count.as_u64() != Some(0))
            .map(|(cause, count)| json!({"cause": cause, "count": count}))
            .collect()
    };
    for (title, list, columns) in [
        ("dropped, by cause", counted("/sip/dropped"), CAUSES),
        ("refused, by cause", counted("/sip/refused"), CAUSES),
        (
            "peers",
            status.pointer("/sip/peers").cloned().unwrap_or_default(),
            PEERS,
        ),
        (
            "sources that are no peer",
            status
                .pointer("/sip/strangers/addresses")
                .cloned()
                .unwrap_or_default(),
            STRANGERS,
        ),
    ] {
        text.push_str(&format!("\n{title}\n{}", table(&list, columns)));
    }
    text
}

/// The lines of the status.
const FIELDS: &[(&str, &str)] = &[
    ("version", "/version"),
    ("started", "/started_at"),
    ("health", "/health/status"),
    ("storage", "/health/storage"),
    ("index", "/health/index"),
    ("contacts", "/counts/contacts"),
    ("environments", "/counts/environments"),
    ("agents", "/counts/agents"),
    ("numbers", "/counts/phone_numbers"),
    ("overloaded", "/sip/overloaded"),
    ("calls/s", "/sip/rates/calls_per_second"),
    ("replies/s", "/sip/rates/replies_per_second"),
    ("refused/s", "/sip/rates/refused_per_second"),
    ("dropped/s", "/sip/rates/dropped_per_second"),
    ("dropped by the system", "/sip/socket_drops"),
    ("connections", "/sip/connections"),
    ("reloads", "/reloads/succeeded"),
    ("failed reloads", "/reloads/failed"),
    ("last reload failed by", "/reloads/last/message"),
];

/// The columns of counts by cause.
const CAUSES: &[(&str, &str)] = &[("CAUSE", "/cause"), ("COUNT", "/count")];

/// The columns of peers.
const PEERS: &[(&str, &str)] = &[
    ("PEER", "/name"),
    ("MESSAGES", "/messages"),
    ("CALLS", "/calls"),
    ("DROPPED", "/dropped"),
    ("CONNECTIONS", "/connections"),
];

/// The columns of strangers.
const STRANGERS: &[(&str, &str)] = &[
    ("ADDRESS", "/address"),
    ("TRANSPORT", "/transport"),
    ("MESSAGES", "/messages"),
    ("LAST SEEN", "/last_seen_at"),
];

/// All is well.
const OK: u8 = 0;

/// Somebody should look.
const WARNING: u8 = 1;

/// Somebody should look now.
const CRITICAL: u8 = 2;

/// It could not be asked.
const UNKNOWN: u8 = 3;

/// Examples.
const EXAMPLES: &str = "\
Needs the administrator token.

Examples:
  RINGBACK_TOKEN=$(cat ringback-data/admin.token) ringback status
  ringback status --check      # RINGBACK OK - ready, 12 calls/s, 1000000 contacts | ...";

/// Examples.
const RELOAD_EXAMPLES: &str = "\
Needs the administrator token. The server reads its configuration and certificates again, as on
SIGHUP; a bad configuration is refused with every fault, and the old one stays (exit code 65).

Examples:
  ringback reload";

#[cfg(test)]
mod tests {
    use super::*;

    /// A healthy server, with one value replaced.
    fn judged(pointer: &str, value: Value) -> (u8, String) {
        let mut status = json!({
            "health": {"status": "ready", "storage": "available", "index": "whole"},
            "counts": {"contacts": 7},
            "reloads": {"last": null},
            "sip": {"overloaded": false, "rates": {"calls_per_second": 1.5}},
        });
        if let Some(place) = status.pointer_mut(pointer) {
            *place = value;
        }
        judge(&status)
    }

    #[test]
    fn health_is_judged_as_by_a_plugin() {
        let (code, line) = judged("", Value::Null);
        assert_eq!(code, CRITICAL, "an empty answer is no good sign: {line}");
        let (code, line) = judged("/none", Value::Null);
        assert_eq!(code, OK);
        assert!(
            line.starts_with("ready, 1.5 calls/s, 7 contacts | calls_per_second=1.5 "),
            "{line}"
        );
        for (pointer, value, level) in [
            ("/health/storage", json!("unavailable"), CRITICAL),
            ("/health/index", json!("damaged"), CRITICAL),
            ("/health/index", json!("loading"), WARNING),
            ("/health/status", json!("draining"), WARNING),
            ("/sip/overloaded", json!(true), WARNING),
            ("/reloads/last", json!({"succeeded": false}), WARNING),
        ] {
            assert_eq!(judged(pointer, value).0, level, "{pointer}");
        }
    }
}
