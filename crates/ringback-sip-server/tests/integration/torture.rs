//! Every message of `fixtures/sip`, over UDP and TCP; a normal call is served right after each.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream, UdpSocket};
use std::path::PathBuf;

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
