//! Every message of `fixtures/sip/` gets what its manifest says, as a datagram and on a stream.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ringback_sip_proto::{Action, Frame, Input, Redirector, StreamFramer, Transport};

use crate::exercise;

/// One line of the manifest.
pub(crate) struct Fixture {
    /// Name of the file.
    pub(crate) name: String,
    /// The message.
    pub(crate) bytes: Vec<u8>,
    /// What it gets as a datagram.
    udp: String,
    /// What it gets on a stream.
    tcp: String,
}

/// Reads the manifest and the files it names.
pub(crate) fn all() -> Vec<Fixture> {
    let manifest = fs::read_to_string(folder().join("manifest.tsv")).unwrap();
    manifest
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let columns: Vec<_> = line.split('\t').collect();
            let [name, udp, tcp, _] = columns[..] else {
                panic!("a line of the manifest has four columns: {line}");
            };
            let tcp = if tcp == "=" { udp } else { tcp };
            Fixture {
                name: name.to_owned(),
                bytes: fs::read(folder().join(name)).unwrap(),
                udp: udp.to_owned(),
                tcp: tcp.to_owned(),
            }
        })
        .collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/sip")
}

/// What a message gets, in the words of the manifest.
fn outcome(bytes: &[u8], transport: Transport) -> String {
    let redirector = Redirector::new([3; 16]);
    let input = Input {
        bytes,
        source: "198.51.100.7:5099".parse().unwrap(),
        transport,
        draining: false,
    };
    let mut out = Vec::new();
    match redirector.handle(input, &mut out) {
        Action::Invite(_) => "accept".to_owned(),
        Action::Reply(_) => {
            let line = out.split(|&byte| byte == b'\r').next().unwrap();
            let line = str::from_utf8(line).unwrap();
            line.strip_prefix("SIP/2.0 ").unwrap().to_owned()
        }
        Action::Absorb | Action::Response(..) | Action::Drop(_) => "drop".to_owned(),
    }
}

/// What a stream gets, in the words of the manifest.
fn stream_outcome(bytes: &[u8], piece: usize) -> String {
    let mut framer = StreamFramer::new();
    let mut outcomes = Vec::new();
    for piece in bytes.chunks(piece) {
        framer.push(piece);
        loop {
            match framer.next_frame() {
                Frame::Incomplete => break,
                Frame::Ping => outcomes.push("pong".to_owned()),
                Frame::Message(message) => outcomes.push(outcome(message, Transport::Tcp)),
                Frame::Broken(message, _) => {
                    outcomes.push(format!("{} close", outcome(message, Transport::Tcp)));
                }
            }
        }
    }
    if outcomes.is_empty() {
        "wait".to_owned()
    } else {
        outcomes.join(" | ")
    }
}

#[test]
fn every_file_is_in_the_manifest() {
    let files: BTreeSet<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".sip"))
        .collect();
    let listed: BTreeSet<_> = all().into_iter().map(|fixture| fixture.name).collect();
    assert_eq!(files, listed);
}

#[test]
fn every_datagram_gets_what_the_manifest_says() {
    for fixture in all() {
        let outcome = outcome(&fixture.bytes, Transport::Udp);
        assert_eq!(outcome, fixture.udp, "{}", fixture.name);
    }
}

#[test]
fn every_stream_gets_what_the_manifest_says() {
    for fixture in all() {
        for piece in [1_usize, 13, 100_000] {
            let outcome = stream_outcome(&fixture.bytes, piece);
            assert_eq!(outcome, fixture.tcp, "{} by {piece}", fixture.name);
        }
    }
}

#[test]
fn every_reply_is_legal_and_the_same_for_a_retransmission() {
    for fixture in all() {
        for transport in [Transport::Udp, Transport::Tls] {
            let first = exercise::handle(&fixture.bytes, transport);
            let second = exercise::handle(&fixture.bytes, transport);
            assert_eq!(first, second, "{}", fixture.name);
        }
    }
}

#[test]
fn every_condition_of_the_torture_rfcs_has_a_message() {
    let names: Vec<_> = all().into_iter().map(|fixture| fixture.name).collect();
    let has = |prefix: String| names.iter().any(|name| name.starts_with(&prefix));
    for (section, count) in [
        ("rfc4475-3.1.1.", 13),
        ("rfc4475-3.1.2.", 19),
        ("rfc4475-3.2.", 1),
        ("rfc4475-3.3.", 15),
        ("rfc4475-3.4.", 1),
        ("rfc5118-4.", 10),
    ] {
        for condition in 1..=count {
            assert!(
                has(format!("{section}{condition}-")),
                "{section}{condition}"
            );
        }
    }
}
