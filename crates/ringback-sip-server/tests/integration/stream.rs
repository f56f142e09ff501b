//! TCP and TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use crate::redirect::config;
use crate::support::*;

/// A peer on TCP or TLS.
struct Flow<S> {
    stream: S,
    read: Vec<u8>,
}

/// A connection to the server.
fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

impl<S: Read + Write> Flow<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            read: Vec::new(),
        }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self.stream.flush().unwrap();
    }

    /// The next reply; none of ours has a body.
    fn receive(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let reply = self.read.drain(..end + 4).collect();
                return String::from_utf8(reply).unwrap();
            }
            assert!(self.fill() > 0, "closed instead of a reply");
        }
    }

    /// Reads what is there; 0 at the end.
    fn fill(&mut self) -> usize {
        let mut room = [0; 4_096];
        let length = self.stream.read(&mut room).unwrap_or(0);
        self.read.extend_from_slice(&room[..length]);
        length
    }

    /// Holds that the server closes the connection without a further word.
    fn assert_closed(&mut self) {
        while self.fill() > 0 {}
        assert_eq!(String::from_utf8_lossy(&self.read), "");
    }
}

/// A request as it is sent over a stream.
fn over_tcp(message: &str) -> String {
    message.replace("SIP/2.0/UDP", "SIP/2.0/TCP")
}

#[test]
fn tcp_listens_where_udp_does() {
    let server = TestServer::start("");
    assert_eq!(server.server.addresses().tcp, [server.address()]);
    let mut flow = Flow::new(connect(server.address()));
    flow.send(over_tcp(&invite(OURS, CONTACT, "tcp")));
    let reply = flow.receive();
    assert_eq!(status(&reply), 302);
    assert_eq!(values(&reply, "X-Ringback-Outcome"), ["callback"]);
    assert_eq!(server.metric("connections"), 1);
}

#[test]
fn further_tcp_listeners_come_first() {
    let server = TestServer::start("tcp = [\"127.0.0.1:0\", \"127.0.0.2:0\"]");
    let tcp = &server.server.addresses().tcp;
    assert_eq!(tcp.len(), 2, "the pair counts once: {tcp:?}");
    assert_eq!(tcp[1], server.address());
    let mut flow = Flow::new(connect(tcp[0]));
    flow.send(over_tcp(&request("OPTIONS", OURS, "second")));
    assert_eq!(status(&flow.receive()), 200);
}

#[test]
fn messages_may_come_in_pieces_and_in_heaps() {
    let server = TestServer::start("");
    let mut flow = Flow::new(connect(server.address()));
    let message = over_tcp(&invite(OURS, CONTACT, "pieces"));
    for piece in message.as_bytes().chunks(7) {
        flow.send(piece);
    }
    assert_eq!(status(&flow.receive()), 302);
    let heap: String = (0..50)
        .map(|call| over_tcp(&invite(OURS, CONTACT, &format!("heap-{call}"))))
        .collect();
    flow.send(heap);
    for call in 0..50 {
        let reply = flow.receive();
        let call_id = format!("heap-{call}");
        assert_eq!(values(&reply, "Call-ID"), [call_id.as_str()]);
    }
    let body = over_tcp(&invite(OURS, CONTACT, "body")).replace(
        "Content-Length: 0\r\n\r\n",
        "Content-Length: 5\r\n\r\nhello",
    );
    flow.send(body + &over_tcp(&request("ACK", OURS, "ack")));
    assert_eq!(status(&flow.receive()), 302);
}

#[test]
fn a_double_line_end_is_answered_with_one() {
    let server = TestServer::start("");
    let mut flow = Flow::new(connect(server.address()));
    flow.send("\r\n\r\n");
    while flow.read.len() < 2 {
        assert!(flow.fill() > 0);
    }
    assert_eq!(flow.read, b"\r\n");
    flow.read.clear();
    flow.send(over_tcp(&request("OPTIONS", OURS, "after-ping")));
    assert_eq!(status(&flow.receive()), 200);
}

#[test]
fn lost_framing_ends_the_connection_and_other_errors_do_not() {
    let server = TestServer::start("");
    let plain = over_tcp(&request("INVITE", OURS, "plain"));
    let mut flow = Flow::new(connect(server.address()));
    flow.send(plain.replace("Call-ID: plain\r\n", ""));
    assert_eq!(status(&flow.receive()), 400);
    flow.send(plain.replace("SIP/2.0\r\nVia", "SIP/4.0\r\nVia"));
    assert_eq!(status(&flow.receive()), 505);
    for (line, code) in [
        ("", 400),
        ("Content-Length: x\r\n", 400),
        ("Content-Length: 1\r\nContent-Length: 1\r\n", 400),
        ("Content-Length: 70000\r\n", 513),
    ] {
        let mut flow = Flow::new(connect(server.address()));
        flow.send(plain.replace("Content-Length: 0\r\n", line));
        assert_eq!(status(&flow.receive()), code, "{line}");
        flow.assert_closed();
    }
    server.eventually("counted", |server| {
        server.metric("connections_total{event=\"closed_framing\"}") == 4
    });
    let mut endless = Flow::new(connect(server.address()));
    endless.send("INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKx\r\nX: ");
    let filler = vec![b'x'; 70_000];
    let _may_be_closed_already = endless.stream.write_all(&filler);
    assert_eq!(status(&endless.receive()), 513);
}

#[test]
fn a_strangers_connection_is_closed_and_peers_are_limited() {
    let server = TestServer::start(
        "max-connections = 3\nmax-connections-per-peer = 2\n\
         [[peers]]\nname = \"a\"\naddress = [\"127.0.0.1\"]\n\
         [[peers]]\nname = \"b\"\naddress = [\"127.0.0.2\"]\n",
    );
    let from = |ip: &str| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        let local: SocketAddr = format!("{ip}:0").parse().unwrap();
        socket.bind(&local.into()).unwrap();
        socket.connect(&server.address().into()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Flow::new(TcpStream::from(socket))
    };
    let works = |flow: &mut Flow<TcpStream>| {
        flow.send(over_tcp(&request("OPTIONS", OURS, "works")));
        assert_eq!(status(&flow.receive()), 200);
    };
    from("127.0.0.3").assert_closed();
    let (mut one, mut two) = (from("127.0.0.1"), from("127.0.0.1"));
    works(&mut one);
    works(&mut two);
    from("127.0.0.1").assert_closed();
    let mut three = from("127.0.0.2");
    works(&mut three);
    from("127.0.0.2").assert_closed();
    for (event, count) in [
        ("refused_stranger", 1),
        ("refused_peer_limit", 1),
        ("refused_limit", 1),
    ] {
        let name = format!("connections_total{{event=\"{event}\"}}");
        assert_eq!(server.metric(&name), count, "{event}");
    }
    drop(one);
    server.eventually("the place is free", |server| {
        server.metric("connections") == 2
    });
    works(&mut from("127.0.0.1"));

    server
        .server
        .reload(config("[[peers]]\naddress = [\"127.0.0.2\"]"));
    two.send(over_tcp(&request("OPTIONS", OURS, "removed")));
    two.assert_closed();
}

#[test]
fn draining_takes_no_new_connections_and_serves_the_old() {
    let server = TestServer::start("");
    let mut flow = Flow::new(connect(server.address()));
    flow.send(over_tcp(&request("OPTIONS", OURS, "before")));
    assert_eq!(status(&flow.receive()), 200);
    server.server.drain();
    server.eventually("connections are refused", |server| {
        TcpStream::connect(server.address()).is_err()
    });
    flow.send(over_tcp(&invite(OURS, CONTACT, "draining")));
    assert_eq!(status(&flow.receive()), 302);
    server.server.stop();
    flow.assert_closed();
}

/// A certificate for `localhost` and its key, in files.
fn certificate(directory: &std::path::Path, name: &str) -> rcgen::Certificate {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    std::fs::write(directory.join(format!("{name}.pem")), certificate.pem()).unwrap();
    std::fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    certificate
}

/// A TLS connection that trusts this certificate alone, and shows one if it has one.
fn connect_tls(
    address: SocketAddr,
    trusted: &rcgen::Certificate,
    shown: Option<(&rcgen::Certificate, &std::path::Path)>,
) -> Flow<rustls::StreamOwned<rustls::ClientConnection, TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            use rustls_pki_types::pem::PemObject;
            let key = rustls_pki_types::PrivateKeyDer::from_pem_file(key).unwrap();
            builder
                .with_client_auth_cert(vec![certificate.der().clone()], key)
                .unwrap()
        }
    };
    let name = "localhost".try_into().unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    Flow::new(rustls::StreamOwned::new(connection, connect(address)))
}

#[test]
fn tls_serves_reloads_its_certificate_and_asks_for_the_clients() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let first = certificate(path, "first");
    let second = certificate(path, "second");
    let client = certificate(path, "client");
    let section = |name: &str, more: &str| {
        format!(
            "[tls]\nlisten = [\"127.0.0.1:0\"]\ncertificate = \"{0}/{name}.pem\"\n\
             private-key = \"{0}/{name}.key\"\n{more}",
            path.display()
        )
    };
    let server = TestServer::start(&section("first", ""));
    assert!(server.server.certificate_expires_at().is_some());
    let address = server.server.addresses().tls[0];
    let message =
        |call_id: &str| invite(OURS, CONTACT, call_id).replace("SIP/2.0/UDP", "SIP/2.0/TLS");
    let mut old = connect_tls(address, &first, None);
    old.send(message("tls-1"));
    assert_eq!(status(&old.receive()), 302);

    server.server.reload(config(&section("second", "")));
    let mut new = connect_tls(address, &second, None);
    new.send(message("tls-2"));
    assert_eq!(status(&new.receive()), 302);
    let mut distrusting = connect_tls(address, &first, None);
    assert!(distrusting.stream.write_all(b"OPTIONS").is_err());
    old.send(message("tls-3"));
    assert_eq!(status(&old.receive()), 302, "open connections stay");

    let ca = format!("client-ca = \"{}/client.pem\"", path.display());
    server.server.reload(config(&section("first", &ca)));
    let mut without = connect_tls(address, &first, None);
    let _fails_now_or_at_the_first_read = without.stream.write_all(b"\r\n\r\n");
    without.assert_closed();
    let key = path.join("client.key");
    let mut with = connect_tls(address, &first, Some((&client, &key)));
    with.send(message("tls-4"));
    assert_eq!(status(&with.receive()), 302);

    let mut plain = Flow::new(connect(address));
    plain.send(over_tcp(&request("OPTIONS", OURS, "not-tls")));
    while plain.fill() > 0 {}
    assert!(!plain.read.starts_with(b"SIP"));
}

#[test]
fn slow_senders_do_not_disturb_others() {
    let server = TestServer::start("");
    let slow: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = connect(server.address());
            stream
                .write_all(b"INVITE sip:a@b SIP/2.0\r\nVia: ")
                .unwrap();
            stream
        })
        .collect();
    let client = server.client();
    for call in 0..100 {
        let reply = client.ask(invite(OURS, CONTACT, &format!("beside-{call}")));
        assert_eq!(status(&reply), 302);
    }
    drop(slow);
}
