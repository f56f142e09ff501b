//! `ringback status` and `ringback reload`: the state of a server, and a new configuration for it.

use std::collections::BTreeMap;

use clap::Args;
use ringback_api::{
    ClusterHealth, Health, IndexHealth, PeerStatus, ReloadStatus, Reloaded, SipStatus, Status,
    StorageHealth, StrangerStatus,
};

use crate::client::{ApiPath, Client, ClientError};
use crate::exit::{Failure, chain};
use crate::output::{Column, SessionArgs, escaped, print, record, table};
use crate::show::{Show, Shown};

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
    /// Ask whether calls may be sent there, which takes no token: 0 where they may, else 1
    #[arg(long, conflicts_with = "check")]
    ready: bool,
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
    if args.ready {
        return ready(args);
    }
    let session = args.session.open()?;
    let answer = session.client.get(&ApiPath::new(["status"]))?;
    session.print(&answer, readable)?;
    Ok(())
}

/// Runs `ringback reload`.
pub(crate) fn reload(args: &ReloadArgs) -> Result<(), Failure> {
    let session = args.session.open()?;
    let answer = session.client.post_nothing(&ApiPath::new(["reload"]))?;
    session.print(&answer, |reloaded: &Reloaded| {
        let mut text = "configuration reloaded\n".to_owned();
        if !reloaded.restart_needed.is_empty() {
            text.push_str(&format!(
                "these take effect at the next start: {}\n",
                reloaded.restart_needed.show().in_one_line()
            ));
        }
        text
    })?;
    Ok(())
}

/// Asks `/readyz`, as a container's health check does.
fn ready(args: &StatusArgs) -> Result<(), Failure> {
    let mut server = args.session.client.clone();
    // None is looked at.
    server.token.get_or_insert_with(|| "none".to_owned());
    let found = Client::new(&server).and_then(|client| client.readiness());
    let (code, line) = match &found {
        Ok((200, text)) => (OK, text.trim().to_owned()),
        Ok((_, text)) => (NOT_READY, text.trim().to_owned()),
        Err(error) => (NOT_READY, chain(error)),
    };
    print(&format!("{}\n", escaped(&line)))?;
    match code {
        OK => Ok(()),
        code => Err(StatusError { code, line }.into()),
    }
}

/// Asks, and judges the answer as a plugin for monitoring does.
fn check(args: &StatusArgs) -> Result<(), Failure> {
    let asked =
        Client::new(&args.session.client).and_then(|client| client.get(&ApiPath::new(["status"])));
    let (code, what) = match &asked {
        Ok(answer) => judge(&answer.data),
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
fn judge(status: &Status) -> (u8, String) {
    let mut code = OK;
    let mut notes = Vec::new();
    let mut note = |level: u8, what: &str| {
        code = code.max(level);
        notes.push(what.to_owned());
    };
    if status.health.storage == StorageHealth::Unavailable {
        note(CRITICAL, "storage takes no writes");
    }
    match status.health.index {
        IndexHealth::Whole => {}
        IndexHealth::Loading => note(WARNING, "the index is being loaded"),
        IndexHealth::Damaged => note(CRITICAL, "the index is damaged"),
    }
    match status.health.status {
        Health::Ready => {}
        Health::Degraded => note(WARNING, "degraded"),
        Health::Draining => note(WARNING, "draining"),
    }
    match status.health.cluster {
        ClusterHealth::Alone | ClusterHealth::Current => {}
        ClusterHealth::CatchingUp => note(WARNING, "catching up with the cluster"),
        ClusterHealth::Unreachable => note(WARNING, "the log of the cluster cannot be reached"),
        ClusterHealth::Unsafe => note(CRITICAL, "NATS may lose what it acknowledges"),
        ClusterHealth::Diverged => note(CRITICAL, "the node does not follow its cluster"),
    }
    if status.sip.as_ref().is_some_and(|sip| sip.overloaded) {
        note(WARNING, "overloaded");
    }
    let last = status
        .reloads
        .as_ref()
        .and_then(|reloads| reloads.last.as_ref());
    if last.is_some_and(|last| !last.succeeded) {
        note(WARNING, "the last reload was refused");
    }
    if notes.is_empty() {
        notes.push("ready".to_owned());
    }
    let rates = status.sip.as_ref().map(|sip| sip.rates).unwrap_or_default();
    let strangers = status.sip.as_ref().map_or(0, |sip| sip.strangers.messages);
    let (calls, contacts) = (rates.calls_per_second, status.counts.contacts);
    (
        code,
        format!(
            "{}, {calls} calls/s, {contacts} contacts | calls_per_second={calls} \
             refused_per_second={} dropped_per_second={} contacts={contacts} strangers={strangers}c",
            notes.join(", "),
            rates.refused_per_second,
            rates.dropped_per_second,
        ),
    )
}

/// The status, for people.
fn readable(status: &Status) -> String {
    let mut text = record(status, FIELDS);
    let Some(sip) = &status.sip else {
        return text;
    };
    let counted = |counts: &BTreeMap<String, u64>| -> Vec<Cause> {
        let counts = counts.iter().filter(|(_, count)| **count > 0);
        counts.map(|(name, count)| (name.clone(), *count)).collect()
    };
    for (title, table) in [
        ("dropped, by cause", table(&counted(&sip.dropped), CAUSES)),
        ("refused, by cause", table(&counted(&sip.refused), CAUSES)),
        ("peers", table(&sip.peers, PEERS)),
        (
            "sources that are no peer",
            table(&sip.strangers.addresses, STRANGERS),
        ),
    ] {
        text.push_str(&format!("\n{title}\n{table}"));
    }
    text
}

/// Reads something of SIP off the status.
fn of_sip<T: Show>(status: &Status, read: fn(&SipStatus) -> T) -> Shown {
    status.sip.as_ref().map(read).show()
}

/// Reads something of reloads off the status.
fn of_reloads<T: Show>(status: &Status, read: fn(&ReloadStatus) -> T) -> Shown {
    status.reloads.as_ref().map(read).show()
}

/// The lines of the status.
const FIELDS: &[Column<Status>] = &[
    ("version", |status| status.version.show()),
    ("started", |status| status.started_at.show()),
    ("health", |status| status.health.status.show()),
    ("storage", |status| status.health.storage.show()),
    ("index", |status| status.health.index.show()),
    ("cluster", |status| status.health.cluster.show()),
    ("contacts", |status| status.counts.contacts.show()),
    ("environments", |status| status.counts.environments.show()),
    ("agents", |status| status.counts.agents.show()),
    ("numbers", |status| status.counts.phone_numbers.show()),
    ("overloaded", |status| of_sip(status, |sip| sip.overloaded)),
    ("calls/s", |status| {
        of_sip(status, |sip| sip.rates.calls_per_second)
    }),
    ("replies/s", |status| {
        of_sip(status, |sip| sip.rates.replies_per_second)
    }),
    ("refused/s", |status| {
        of_sip(status, |sip| sip.rates.refused_per_second)
    }),
    ("dropped/s", |status| {
        of_sip(status, |sip| sip.rates.dropped_per_second)
    }),
    ("dropped by the system", |status| {
        of_sip(status, |sip| sip.socket_drops)
    }),
    ("connections", |status| {
        of_sip(status, |sip| sip.connections)
    }),
    ("reloads", |status| {
        of_reloads(status, |reloads| reloads.succeeded)
    }),
    ("failed reloads", |status| {
        of_reloads(status, |reloads| reloads.failed)
    }),
    ("last reload failed by", |status| {
        of_reloads(status, |reloads| {
            let last = reloads.last.as_ref();
            last.and_then(|last| last.message.clone())
        })
    }),
];

/// A cause, and how often it occurred.
type Cause = (String, u64);

/// The columns of counts by cause.
const CAUSES: &[Column<Cause>] = &[
    ("CAUSE", |(cause, _)| cause.show()),
    ("COUNT", |(_, count)| count.show()),
];

/// The columns of peers.
const PEERS: &[Column<PeerStatus>] = &[
    ("PEER", |peer| peer.name.show()),
    ("MESSAGES", |peer| peer.messages.show()),
    ("CALLS", |peer| peer.calls.show()),
    ("DROPPED", |peer| peer.dropped.show()),
    ("CONNECTIONS", |peer| peer.connections.show()),
];

/// The columns of sources that are no peer.
const STRANGERS: &[Column<StrangerStatus>] = &[
    ("ADDRESS", |stranger| stranger.address.show()),
    ("TRANSPORT", |stranger| stranger.transport.show()),
    ("MESSAGES", |stranger| stranger.messages.show()),
    ("LAST SEEN", |stranger| stranger.last_seen_at.show()),
];

/// All is well.
const OK: u8 = 0;

/// No calls may be sent there.
const NOT_READY: u8 = 1;

/// Somebody should look.
const WARNING: u8 = 1;

/// Somebody should look now.
const CRITICAL: u8 = 2;

/// It could not be asked.
const UNKNOWN: u8 = 3;

/// What follows the options in the long help.
const EXAMPLES: &str = "\
Needs the administrator token.

Examples:
  RINGBACK_TOKEN=$(cat ringback-data/admin.token) ringback status
  ringback status --check      # RINGBACK OK - ready, 12 calls/s, 1000000 contacts | ...";

/// What follows the options in the long help.
const RELOAD_EXAMPLES: &str = "\
Needs the administrator token. The server reads its configuration and certificates again, as on \
SIGHUP; a bad configuration is refused with every fault, and the old one stays (exit code 65).

Examples:
  ringback reload";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A healthy server, with one value replaced.
    fn judged(pointer: &str, value: Value) -> (u8, String) {
        let mut status = json!({
            "version": "1.0.0",
            "started_at": "2026-11-21T12:00:00.000Z",
            "uptime_seconds": 7,
            "health": {
                "status": "ready", "storage": "available", "index": "whole",
                "ready": true, "cluster": "current", "problems": [],
            },
            "counts": {"contacts": 7, "environments": 1, "agents": 2, "phone_numbers": 1},
            "reloads": {"succeeded": 1, "failed": 0, "last": null},
            "sip": {
                "overloaded": false,
                "draining": false,
                "rates": {
                    "window_seconds": 10.0, "messages_per_second": 3.0, "calls_per_second": 1.5,
                    "retransmissions_per_second": 0.0, "replies_per_second": 1.5,
                    "refused_per_second": 0.0, "dropped_per_second": 0.0,
                },
                "messages": {}, "dropped": {}, "refused": {"rate": 3},
                "socket_drops": 0, "connections": 0, "peers": [],
                "strangers": {"messages": 0, "messages_of_others": 0, "addresses": []},
            },
        });
        if let Some(found) = status.pointer_mut(pointer) {
            *found = value;
        }
        let status: Status = serde_json::from_value(status).unwrap();
        assert!(
            readable(&status).contains("rate   3"),
            "{}",
            readable(&status)
        );
        judge(&status)
    }

    #[test]
    fn health_is_judged_as_by_a_plugin() {
        let (code, line) = judged("/none", Value::Null);
        assert_eq!(code, OK);
        assert!(
            line.starts_with("ready, 1.5 calls/s, 7 contacts | calls_per_second=1.5 "),
            "{line}"
        );
        let at = "2026-11-21T12:00:00.000Z";
        for (pointer, value, level) in [
            ("/health/storage", json!("unavailable"), CRITICAL),
            ("/health/index", json!("damaged"), CRITICAL),
            ("/health/index", json!("loading"), WARNING),
            ("/health/status", json!("draining"), WARNING),
            ("/health/cluster", json!("unreachable"), WARNING),
            ("/health/cluster", json!("diverged"), CRITICAL),
            ("/sip/overloaded", json!(true), WARNING),
            (
                "/reloads/last",
                json!({"at": at, "succeeded": false, "message": "no"}),
                WARNING,
            ),
        ] {
            assert_eq!(judged(pointer, value).0, level, "{pointer}");
        }
    }

    #[test]
    fn an_answer_without_health_is_no_good_sign() {
        let url = "http://127.0.0.1".to_owned();
        assert_eq!(
            unanswered(&ClientError::Unreadable { url, status: 200 }),
            UNKNOWN
        );
    }
}
