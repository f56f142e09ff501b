//! Every message of `fixtures/sip`, over UDP and TCP; a normal call is served right after each.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream, UdpSocket};
use std::path::PathBuf;

use ringback_sip_proto::Message;
use ringback_sip_proto::check::{Role, Verdict, check};
use ringback_sip_proto::message::Framing;
use ringback_testkit::Mutator;

use crate::forward::{Agent, reply_to, set_targets, wait_for};
use crate::support::*;

/// A message and its required reply.
struct Row {
    file: String,
    bytes: Vec<u8>,
    udp: String,
    tcp: String,
}

/// The manifest.
fn rows() -> Vec<Row> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/sip");
    let manifest = std::fs::read_to_string(directory.join("manifest.tsv")).unwrap();
    let rows = manifest.lines().filter(|line| !line.starts_with('#'));
    let read = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let tcp = if columns[2] == "=" {
            columns[1]
        } else {
            columns[2]
        };
        Row {
            file: columns[0].to_owned(),
            bytes: std::fs::read(directory.join(columns[0])).unwrap(),
            udp: columns[1].to_owned(),
            tcp: tcp.to_owned(),
        }
    };
    rows.map(read).collect()
}

/// Whether a reply is the one required.
fn is_as_required(reply: &str, required: &str) -> bool {
    if required == "accept" {
        [302, 404, 480].contains(&status(reply))
    } else {
        reply.starts_with(&format!("SIP/2.0 {required}\r\n"))
    }
}

#[test]
fn every_message_gets_its_reply_over_udp() {
    let server = TestServer::start("");
    // The address in the top Via of nearly every message; another run of the tests may use the first one.
    let mut addresses = (1..=250).map(|host| Ipv4Addr::new(127, 0, 78, host));
    let socket = addresses.find_map(|address| UdpSocket::bind((address, 5060)).ok());
    let socket = socket.expect("a free port 5060");
    socket.connect(server.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let client = Client { socket };
    let mut asked = 0;
    for row in rows() {
        // Replies to other ports or machines.
        let elsewhere = [
            "203.0.113.9:5062",
            "203.0.113.9:99999",
            "maddr=",
            "]:6050;",
            "]:19823;",
        ];
        let text = String::from_utf8_lossy(&row.bytes);
        let goes_elsewhere = elsewhere.iter().any(|via| text.contains(via));
        if row.bytes.len() > 65_507 || goes_elsewhere {
            continue;
        }
        client.send(&row.bytes);
        if row.udp != "drop" {
            let reply = client.receive_any().expect(&row.file);
            assert!(is_as_required(&reply, &row.udp), "{}: {reply}", row.file);
        }
        client.assert_silence();
        let call = invite(OURS, CONTACT, &format!("after-{}", row.file));
        assert_eq!(status(&client.ask(call)), 302, "after {}", row.file);
        asked += 1;
    }
    assert!(asked > 225, "{asked}");
}

#[test]
fn every_message_gets_its_reply_over_tcp() {
    let server = TestServer::start("");
    let client = server.client();
    for row in rows() {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&row.bytes).unwrap();
        let (required, closes) = match row.tcp.strip_suffix(" close") {
            Some(required) => (required, true),
            None => (row.tcp.as_str(), false),
        };
        if !closes {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        let mut read = Vec::new();
        stream.read_to_end(&mut read).unwrap();
        let read = String::from_utf8_lossy(&read);
        let mut rest = &*read;
        for required in required.split(" | ") {
            match required {
                "drop" | "wait" => {}
                "pong" => rest = rest.strip_prefix("\r\n").expect(&row.file),
                _ => {
                    let end = rest.find("\r\n\r\n").expect(&row.file) + 4;
                    let (reply, more) = rest.split_at(end);
                    assert!(is_as_required(reply, required), "{}: {reply}", row.file);
                    rest = more;
                }
            }
        }
        assert_eq!(rest, "", "{}", row.file);
        let call = invite(OURS, CONTACT, &format!("after-{}", row.file));
        assert_eq!(status(&client.ask(call)), 302, "after {}", row.file);
    }
}

#[test]
fn what_is_malformed_is_not_sent_on_and_calls_go_on() {
    let (server, agent) = (TestServer::start("mode = \"forward\""), Agent::new());
    set_targets(&server, &[agent.uri()]);
    let mut mutator = Mutator::new();
    for method in ["INVITE", "CANCEL", "ACK", "BYE"] {
        mutator.add(request(method, OURS, "mutated").into_bytes());
    }
    let client = server.client();
    for (number, row) in rows().into_iter().enumerate() {
        // Longer ones go over no UDP.
        if row.bytes.len() < 65_507 {
            client.send(&row.bytes);
        }
        for seed in 0..MUTATED {
            client.send(mutator.message(number as u64 * MUTATED + seed));
        }
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(&row.bytes).unwrap();
        // A call whose agent answers with something broken first.
        let call_id = format!("after-{number}");
        let caller = server.client();
        let call = invite(OURS, CONTACT, &call_id);
        caller.send(&call);
        let asked = loop {
            let (asked, from) = agent.receive_any();
            let message = Message::parse(&asked, Framing::Datagram).unwrap();
            let verdict = check(&message, Role::Proxy);
            let text = String::from_utf8_lossy(&asked);
            assert!(
                matches!(verdict, Verdict::Route(_)),
                "{}: {verdict:?}: {text}",
                row.file
            );
            if text.starts_with("INVITE") {
                let asked = (text.into_owned(), from);
                if asked.0.contains(&format!("Call-ID: {call_id}\r\n")) {
                    break asked;
                }
                agent.reply(&asked, "486 Busy Here");
            }
        };
        let broken = reply_to(&asked.0, "183 Session Progress");
        let cut = number % broken.len();
        agent.send(&broken.as_bytes()[..cut], asked.1);
        agent.send(&broken.replacen("Via", "V\0a", 1).into_bytes(), asked.1);
        agent.reply(&asked, "486 Busy Here");
        wait_for(&caller, 486);
        caller.send(call.replace("INVITE", "ACK"));
    }
}

/// How many mutated messages come beside each one of the list.
const MUTATED: u64 = 20;
