//! tshark listens: it must find nothing wrong with what Ringback sends.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ringback_testkit::SipReply;

use crate::peer::run;
use crate::scenario;
use crate::sipp::Transport;

#[test]
fn tshark_finds_nothing_wrong_with_the_replies() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    for transport in [Transport::Udp, Transport::Tcp] {
        let replies: Vec<Vec<u8>> = CAPTURED
            .iter()
            .flat_map(|name| scenario::play(name, transport))
            .collect();
        let capture = write_capture(directory.path(), transport, &replies);
        let output = run(Command::new("tshark")
            .args(["-n", "-r"])
            .arg(&capture)
            .args(["-d", "udp.port==5060,sip", "-d", "tcp.port==5060,sip"])
            .args(["-T", "fields", "-E", "separator=|", "-E", "occurrence=a"])
            .args(COLUMNS.iter().flat_map(|column| ["-e", column])));
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(table.lines().count(), replies.len(), "{table}");
        for (row, reply) in table.lines().zip(&replies) {
            check_decoded(row, &SipReply::read(&String::from_utf8_lossy(reply)));
        }
    }
}

/// Checks that tshark reads what is in the reply, and does not complain.
fn check_decoded(row: &str, reply: &SipReply) {
    let columns: Vec<&str> = row.split('|').collect();
    let [status, cseq, to_tag, contacts, severities, messages] = columns[..] else {
        panic!("{COLUMNS:?} were asked for: {row}");
    };
    assert_eq!(status, reply.status.to_string(), "{row}");
    assert!(
        reply.header("cseq").starts_with(&format!("{cseq} ")),
        "{row}"
    );
    assert!(
        reply.header("to").ends_with(&format!(";tag={to_tag}")),
        "{row}"
    );
    assert_eq!(values(contacts), reply.contacts(), "{row}");
    for severity in values(severities) {
        let severity: u32 = severity.parse().expect("a severity is a number");
        assert!(severity < WARNING, "{messages}: {}", reply.text);
    }
}

/// The values in a column.
fn values(column: &str) -> Vec<&str> {
    column
        .split(',')
        .filter(|value| !value.is_empty())
        .collect()
}

/// Writes replies as packets on port 5060.
fn write_capture(directory: &Path, transport: Transport, replies: &[Vec<u8>]) -> PathBuf {
    let dump = directory.join("replies.txt");
    let mut text = String::new();
    for reply in replies {
        for (row, bytes) in reply.chunks(16).enumerate() {
            let _infallible = write!(text, "{:06x}", row * 16);
            for byte in bytes {
                let _infallible = write!(text, " {byte:02x}");
            }
            text.push('\n');
        }
        text.push('\n');
    }
    fs::write(&dump, text).expect("a dump can be written");
    let capture = directory.join("replies.pcap");
    let ports = match transport {
        Transport::Udp => "-u",
        Transport::Tcp => "-T",
    };
    let _written = run(Command::new("text2pcap")
        .args(["-q", "-4", "127.0.0.1,127.0.0.2", ports, "5060,5062"])
        .arg(&dump)
        .arg(&capture));
    capture
}

/// The scenarios whose replies tshark reads: every status and every header that there is.
const CAPTURED: &[&str] = &[
    "returned_call_same_number",
    "several_contacts",
    "fallback_targets",
    "tel_request_uri",
    "decision_in_contact",
    "unknown_number",
    "refused",
    "anonymous_caller",
    "cancel",
    "options",
    "refused_requests",
    "garbage",
];

/// What tshark is asked for.
const COLUMNS: [&str; 6] = [
    "sip.Status-Code",
    "sip.CSeq.seq",
    "sip.to.tag",
    "sip.contact.uri",
    "_ws.expert.severity",
    "_ws.expert.message",
];

/// The severity that tshark calls a warning.
const WARNING: u32 = 0x0060_0000;
