//! Targets with names, and targets over TLS: a name server of the test's own answers.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::forward::{Agent, in_dialog, metric, reply_to, set_targets, wait_for};
use crate::support::{CONTACT, OURS, PATIENCE, TestServer, invite, status, values};

/// What is known of names, by kind of record.
type Records = HashMap<(String, u16), Vec<Vec<u8>>>;

/// Answers questions about names until the test ends.
struct NameServer {
    address: SocketAddr,
    records: Arc<Mutex<Records>>,
}

impl NameServer {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let records: Arc<Mutex<Records>> = Arc::default();
        let shared = Arc::clone(&records);
        std::thread::spawn(move || {
            let mut room = [0; 4_096];
            while let Ok((length, from)) = socket.recv_from(&mut room) {
                let reply = answer(&room[..length], &shared.lock());
                let _gone = socket.send_to(&reply, from);
            }
        });
        Self { address, records }
    }

    fn add(&self, name: &str, kind: u16, data: Vec<u8>) {
        let mut records = self.records.lock();
        records
            .entry((name.to_owned(), kind))
            .or_default()
            .push(data);
    }

    fn address(&self, name: &str, ip: [u8; 4]) {
        self.add(name, 1, ip.to_vec());
    }

    fn server(&self, service: &str, (priority, weight): (u16, u16), port: u16, host: &str) {
        let mut data = [priority, weight, port]
            .map(u16::to_be_bytes)
            .as_flattened()
            .to_vec();
        data.extend(encoded(host));
        self.add(service, 33, data);
    }

    fn rule(&self, name: &str, (order, preference): (u16, u16), service: &str, leads_to: &str) {
        let mut data = [order, preference]
            .map(u16::to_be_bytes)
            .as_flattened()
            .to_vec();
        for text in ["s", service, ""] {
            data.push(u8::try_from(text.len()).unwrap());
            data.extend(text.as_bytes());
        }
        data.extend(encoded(leads_to));
        self.add(name, 35, data);
    }
}

/// A name as in a message.
fn encoded(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

/// The answer to a question.
fn answer(question: &[u8], records: &Records) -> Vec<u8> {
    let mut at = 12;
    let mut labels = Vec::new();
    while question[at] > 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(
            String::from_utf8(question[at + 1..end].to_vec())
                .unwrap()
                .to_lowercase(),
        );
        at = end;
    }
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let end = at + 5;
    let found = records
        .get(&(labels.join("."), kind))
        .cloned()
        .unwrap_or_default();
    let mut reply = question[..2].to_vec();
    reply.extend([0x81, 0x80, 0, 1]);
    reply.extend(u16::try_from(found.len()).unwrap().to_be_bytes());
    reply.extend([0, 0, 0, 0]);
    reply.extend(&question[12..end]);
    for data in found {
        reply.extend([0xc0, 12]);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1, 0, 0, 0, 60]);
        reply.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        reply.extend(data);
    }
    reply
}

/// A server that asks this name server, with this target, whose name has been looked up.
fn start(names: &NameServer, toml: &str, uri: &str) -> TestServer {
    let server = TestServer::start_with(&format!("mode = \"forward\"\n{toml}"), |server| {
        server.resolve_by(names.address);
    });
    set_targets(&server, &[uri.to_owned()]);
    // The default agent's name leads nowhere.
    server.eventually("the names are looked up", |server| {
        metric(server, "names{state=\"resolved\"}") + metric(server, "names{state=\"nowhere\"}")
            == 2
            && metric(server, "names{state=\"unknown\"}") == 0
    });
    server
}

#[test]
fn a_name_with_a_port_has_an_address() {
    let (names, agent) = (NameServer::start(), Agent::new());
    names.address("t1.example", [127, 0, 0, 2]);
    let port = agent.port();
    let server = start(&names, "", &format!("sip:agent@t1.example:{port}"));
    let client = server.client();
    client.send(invite(OURS, CONTACT, "address"));
    let asked = agent.expect("INVITE");
    assert!(
        asked
            .0
            .starts_with(&format!("INVITE sip:agent@t1.example:{port} SIP/2.0\r\n"))
    );
    agent.reply(&asked, "200 OK");
    wait_for(&client, 200);
}

#[test]
fn the_servers_of_a_name_are_tried_by_priority() {
    let (names, first, second) = (NameServer::start(), Agent::new(), Agent::new());
    names.server("_sip._udp.srv.example", (2, 0), second.port(), "b.example");
    names.server("_sip._udp.srv.example", (1, 0), first.port(), "a.example");
    for host in ["a.example", "b.example"] {
        names.address(host, [127, 0, 0, 2]);
    }
    let server = start(&names, "", "sip:agent@srv.example");
    let client = server.client();
    client.send(invite(OURS, CONTACT, "servers"));
    let asked = first.expect("INVITE");
    first.reply(&asked, "503 Busy");
    let asked = second.expect("INVITE");
    assert!(
        asked
            .0
            .starts_with("INVITE sip:agent@srv.example SIP/2.0\r\n"),
        "the same request URI"
    );
    second.reply(&asked, "200 OK");
    wait_for(&client, 200);
}

#[test]
fn naptr_records_choose_the_transport() {
    let names = NameServer::start();
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    names.rule("n.example", (20, 1), "SIP+D2U", "_sip._udp.n.example");
    names.rule("n.example", (10, 1), "SIP+D2T", "_sip._tcp.n.example");
    names.server("_sip._tcp.n.example", (1, 0), port, "a.example");
    names.server("_sip._udp.n.example", (1, 0), 9, "a.example");
    names.address("a.example", [127, 0, 0, 2]);
    let server = start(&names, "", "sip:agent@n.example");
    let client = server.client();
    client.send(invite(OURS, CONTACT, "naptr"));
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let asked = message(&mut stream);
    assert!(
        values(&asked, "Via")[0].starts_with("SIP/2.0/TCP"),
        "{asked}"
    );
    stream
        .write_all(reply_to(&asked, "200 OK").as_bytes())
        .unwrap();
    wait_for(&client, 200);
}

#[test]
fn a_name_that_leads_nowhere_counts_as_a_503() {
    let names = NameServer::start();
    let server = start(&names, "", "sip:agent@nobody.example");
    let client = server.client();
    client.send(invite(OURS, CONTACT, "nowhere"));
    wait_for(&client, 500);
}

// A request whose host was not known was dropped, and with it the first BYE or ACK of most calls.
#[test]
fn a_name_in_a_dialog_is_resolved_while_its_request_waits() {
    let (names, agent) = (NameServer::start(), Agent::new());
    names.address("t1.example", [127, 0, 0, 2]);
    names.address("contact.example", [127, 0, 0, 2]);
    let peers = "[[peers]]\naddress = [\"127.0.0.1\"]\nrecord-route = true";
    let port = agent.port();
    let server = start(&names, peers, &format!("sip:agent@t1.example:{port}"));
    let client = server.client();
    client.send(invite(OURS, CONTACT, "dialog"));
    let asked = agent.expect("INVITE");
    agent.reply(&asked, "200 OK");
    let answer = wait_for(&client, 200);
    let (from, to) = (values(&answer, "From")[0], values(&answer, "To")[0]);
    let via = format!("UDP {}", client.socket.local_addr().unwrap());
    let to_contact = format!("sip:agent@contact.example:{port}");
    client.send(in_dialog("ACK", &answer, &to_contact, from, to, &via));
    let (ack, _) = agent.expect("ACK");
    assert!(
        ack.starts_with(&format!("ACK {to_contact} SIP/2.0")),
        "{ack}"
    );
    client.send(in_dialog("BYE", &answer, &to_contact, from, to, &via));
    let asked = agent.expect("BYE");
    agent.reply(&asked, "200 OK");
    assert_eq!(status(&client.receive()), 200);
    let nowhere = "sip:agent@nowhere.example:5070";
    client.send(in_dialog("ACK", &answer, nowhere, from, to, &via));
    let info = in_dialog("INFO", &answer, nowhere, from, to, &via);
    assert_eq!(status(&client.ask(info)), 500, "and the ACK gets no answer");
    assert_eq!(
        metric(&server, "names{state=\"resolved\"}"),
        1,
        "it is no name of a target"
    );
}

#[test]
fn sips_targets_are_reached_over_tls_if_their_certificate_is_good() {
    let names = NameServer::start();
    names.address("secure.example", [127, 0, 0, 2]);
    names.address("other.example", [127, 0, 0, 2]);
    let directory = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["secure.example".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, certificate.pem()).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .map(Arc::new)
        .unwrap();
    let accept = |config: &Arc<rustls::ServerConfig>| {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let connection = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
        rustls::StreamOwned::new(connection, stream)
    };
    let toml = format!("[forward]\nca = \"{}\"", ca.display());
    let server = start(&names, &toml, &format!("sips:agent@secure.example:{port}"));
    let client = server.client();
    client.send(invite(OURS, CONTACT, "secure"));
    let mut stream = accept(&config);
    let asked = message(&mut stream);
    assert!(
        values(&asked, "Via")[0].starts_with("SIP/2.0/TLS"),
        "{asked}"
    );
    stream
        .write_all(reply_to(&asked, "200 OK").as_bytes())
        .unwrap();
    stream.flush().unwrap();
    wait_for(&client, 200);

    // The same server by a name that its certificate does not show.
    let server = start(&names, &toml, &format!("sips:agent@other.example:{port}"));
    let client = server.client();
    client.send(invite(OURS, CONTACT, "impostor"));
    let mut stream = accept(&config);
    let mut room = [0; 16];
    assert!(stream.read(&mut room).is_err(), "no request comes");
    wait_for(&client, 500);
}

/// The next message of a stream.
fn message(stream: &mut impl Read) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a message");
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}
