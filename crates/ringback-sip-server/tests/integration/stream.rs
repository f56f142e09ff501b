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

    /// Asserts that the server closes the connection without sending more.
    fn assert_closed(&mut self) {
        while self.fill() > 0 {}
        assert_eq!(String::from_utf8_lossy(&self.read), "");
    }
}

/// A connection from this address of this machine.
fn connect_from(ip: &str, address: SocketAddr) -> Flow<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.unwrap();
    let local: SocketAddr = format!("{ip}:0").parse().unwrap();
    socket.bind(&local.into()).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    Flow::new(TcpStream::from(socket))
}

/// A request in the form for a stream.
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
    let from = |ip: &str| connect_from(ip, server.address());
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
    server.eventually("a connection is free", |server| {
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

/// The section that makes TLS listen with this certificate.
fn tls_section(directory: &std::path::Path, name: &str) -> String {
    format!(
        "[tls]\nlisten = [\"127.0.0.1:0\"]\ncertificate = \"{0}/{name}.pem\"\n\
         private-key = \"{0}/{name}.key\"\n",
        directory.display()
    )
}

/// A TLS connection that trusts only this certificate, and shows a client certificate if it has one.
fn connect_tls(
    address: SocketAddr,
    trusted: &rcgen::Certificate,
    shown: Option<(&rcgen::Certificate, &std::path::Path)>,
) -> Flow<rustls::StreamOwned<rustls::ClientConnection, TcpStream>> {
    tls_on(connect(address), trusted, shown)
}

/// The same on an open connection.
fn tls_on(
    stream: TcpStream,
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
    Flow::new(rustls::StreamOwned::new(connection, stream))
}

#[test]
fn tls_serves_reloads_its_certificate_and_asks_for_the_clients() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let first = certificate(path, "first");
    let second = certificate(path, "second");
    let client = certificate(path, "client");
    let section = |name: &str, more: &str| tls_section(path, name) + more;
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

// HEP connections used not to be counted.
#[test]
fn hep_connections_have_the_same_limits() {
    let server = TestServer::start(
        "max-connections = 3\nmax-connections-per-peer = 2\n\
         [hep]\nlisten = [\"127.0.0.1:0\"]\n\
         [[peers]]\nname = \"a\"\naddress = [\"127.0.0.1\"]\nlearn = true\n\
         [[peers]]\nname = \"b\"\naddress = [\"127.0.0.2\"]\nlearn = true\n\
         [[peers]]\nname = \"c\"\naddress = [\"127.0.0.3\"]\n",
    );
    let hep = server.server.addresses().hep[0];
    let counts = |event: &str| server.metric(&format!("connections_total{{event=\"{event}\"}}"));
    let opened = |count: u64| {
        server.eventually("opened", |_| counts("opened") == count);
    };
    // This peer may not mirror, and neither may a stranger.
    connect_from("127.0.0.3", hep).assert_closed();
    connect_from("127.0.0.4", hep).assert_closed();
    let one = connect_from("127.0.0.1", hep);
    let _two = connect_from("127.0.0.1", server.address());
    opened(2);
    connect_from("127.0.0.1", hep).assert_closed();
    let _three = connect_from("127.0.0.2", hep);
    opened(3);
    connect_from("127.0.0.2", hep).assert_closed();
    assert_eq!(server.metric("connections"), 3);
    for (event, count) in [
        ("refused_stranger", 2),
        ("refused_peer_limit", 1),
        ("refused_limit", 1),
    ] {
        assert_eq!(counts(event), count, "{event}");
    }
    drop(one);
    server.eventually("the slot is free", |server| {
        server.metric("connections") == 2
    });
    let mut again = connect_from("127.0.0.1", hep);
    opened(4);
    // Packets of older HEP versions cannot be found in a stream.
    again.send([2, 16, 2, 17]);
    again.assert_closed();
    assert_eq!(server.metric("hep_packets_total{event=\"hepv2\"}"), 1);
    server.eventually("the slot is free", |server| {
        server.metric("connections") == 2
    });
    let mut removed = connect_from("127.0.0.1", hep);
    opened(5);
    server.server.reload(config(
        "[hep]\nlisten = [\"127.0.0.1:0\"]\n[[peers]]\naddress = [\"127.0.0.1\"]",
    ));
    removed.send("HEP3");
    removed.assert_closed();
    server.eventually("counted", |_| counts("closed_removed") == 1);
}

#[test]
fn draining_ends_with_hep_connections_closed() {
    let server = TestServer::start("[hep]\nlisten = [\"127.0.0.1:0\"]\n");
    let hep = server.server.addresses().hep[0];
    let mut mirror = connect_from("127.0.0.1", hep);
    server.eventually("opened", |server| server.metric("connections") == 1);
    server.server.drain();
    server.eventually("connections are refused", |_| {
        TcpStream::connect(hep).is_err()
    });
    assert_eq!(server.metric("connections"), 1);
    server.server.stop();
    mirror.assert_closed();
}

/// A PROXY protocol header of version 2 for a client on IPv4, with a TLV behind the addresses.
fn proxy_v2(command: u8, ip: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, 0x11, 0, 12 + 7]);
    header.extend(ip);
    header.extend([192, 0, 2, 1, 0x13, 0xc4, 0x13, 0xc4]);
    header.extend([4, 0, 4, 1, 2, 3, 4]);
    header
}

/// Peers behind a balancer at 127.0.0.9.
const BALANCED: &str = "proxy-protocol = [\"127.0.0.9\", \"10.0.0.0/8\"]\n\
    max-connections-per-peer = 1\n";

/// The peers, of which one is served over TCP alone and another is the balancer itself.
const BEHIND: &str = "[[peers]]\nname = \"a\"\naddress = [\"203.0.113.0/24\"]\n\
    [[peers]]\nname = \"b\"\naddress = [\"2001:db8::/32\"]\n\
    [[peers]]\nname = \"c\"\naddress = [\"198.51.100.1\"]\ntransports = [\"udp\"]\n\
    [[peers]]\nname = \"balancer\"\naddress = [\"127.0.0.9\"]\n\
    [[peers]]\nname = \"direct\"\naddress = [\"127.0.0.1\"]\n";

#[test]
fn a_balancer_names_the_peer() {
    let server = TestServer::start(&format!("{BALANCED}{BEHIND}"));
    let through = |header: &[u8], piece: usize| {
        let mut flow = connect_from("127.0.0.9", server.address());
        flow.stream.set_nodelay(true).unwrap();
        for bytes in header.chunks(piece) {
            flow.send(bytes);
        }
        flow
    };
    let idle = || server.eventually("closed", |server| server.metric("connections") == 0);
    let mut messages = [0; 5];
    let v1 = b"PROXY TCP4 203.0.113.9 192.0.2.1 45060 5060\r\n";
    for (number, (header, peer, index)) in [
        (&v1[..], "a", 0),
        (b"PROXY TCP6 2001:db8::9 2001:db8::1 45060 5060\r\n", "b", 1),
        (b"PROXY UNKNOWN\r\n", "balancer", 3),
        (&proxy_v2(0x21, [203, 0, 113, 7]), "a", 0),
        (&proxy_v2(0x20, [203, 0, 113, 7]), "balancer", 3),
    ]
    .into_iter()
    .enumerate()
    {
        for piece in [1, 7, header.len()] {
            let mut flow = through(header, piece);
            let call_id = format!("balanced-{number}-{piece}");
            flow.send(over_tcp(&invite(OURS, CONTACT, &call_id)));
            let reply = flow.receive();
            assert_eq!(status(&reply), 302, "{peer}");
            messages[index] += 1;
            let metric = format!("peer_messages_total{{peer=\"{peer}\"}}");
            assert_eq!(server.metric(&metric), messages[index]);
            // `received` is the address of the client too (RFC 3261 §18.2.1).
            if index == 0 {
                let via = values(&reply, "Via")[0];
                assert!(via.contains("received=203.0.113."), "{via}");
            }
            drop(flow);
            idle();
        }
    }
    // The message may follow the header at once, and the limit is that of the peer in the header.
    let mut first = through(
        &[v1, over_tcp(&request("OPTIONS", OURS, "one")).as_bytes()].concat(),
        500,
    );
    assert_eq!(status(&first.receive()), 200);
    through(v1, 500).assert_closed();
    let mut other = through(b"PROXY TCP6 2001:db8::9 ::1 1 2\r\n", 500);
    other.send(over_tcp(&request("OPTIONS", OURS, "other")));
    assert_eq!(status(&other.receive()), 200);
    drop((first, other));
    idle();
    // Strangers, peers of another transport, and nonsense.
    for (header, event) in [
        (
            &b"PROXY TCP4 192.0.2.77 192.0.2.1 1 2\r\n"[..],
            "refused_stranger",
        ),
        (
            b"PROXY TCP4 198.51.100.1 192.0.2.1 1 2\r\n",
            "refused_stranger",
        ),
        (b"PROXY TCP4 203.0.113.9\r\n", "closed_proxy_header"),
        (b"OPTIONS sip:a@b SIP/2.0\r\n", "closed_proxy_header"),
        (&proxy_v2(0x22, [203, 0, 113, 7]), "closed_proxy_header"),
    ] {
        let name = format!("connections_total{{event=\"{event}\"}}");
        let before = server.metric(&name);
        let mut flow = connect_from("127.0.0.9", server.address());
        // The server may close before it is written completely.
        let _closed_already = flow.stream.write_all(header);
        flow.assert_closed();
        server.eventually("counted", |server| server.metric(&name) == before + 1);
    }
    idle();
    // The header of other sources is not read: it is not SIP.
    let mut direct = connect_from("127.0.0.1", server.address());
    direct.send([v1, over_tcp(&request("OPTIONS", OURS, "direct")).as_bytes()].concat());
    while direct.fill() > 0 {}
    assert!(!String::from_utf8_lossy(&direct.read).contains("200 OK"));
    assert_eq!(
        server.metric("peer_messages_total{peer=\"a\"}"),
        messages[0] + 1
    );
}

#[test]
fn a_balancer_names_the_peer_before_tls() {
    let directory = tempfile::tempdir().unwrap();
    let trusted = certificate(directory.path(), "only");
    let tls = tls_section(directory.path(), "only");
    let server = TestServer::start(&format!("{BALANCED}{tls}{BEHIND}"));
    let address = server.server.addresses().tls[0];
    let v1 = b"PROXY TCP4 203.0.113.9 192.0.2.1 45060 5060\r\n".to_vec();
    for (number, header) in [v1, proxy_v2(0x21, [203, 0, 113, 7])]
        .into_iter()
        .enumerate()
    {
        let mut plain = connect_from("127.0.0.9", address);
        for bytes in header.chunks(5) {
            plain.send(bytes);
        }
        let mut flow = tls_on(plain.stream, &trusted, None);
        let message = invite(OURS, CONTACT, &format!("tls-{number}"));
        flow.send(message.replace("SIP/2.0/UDP", "SIP/2.0/TLS"));
        assert_eq!(status(&flow.receive()), 302);
        drop(flow);
        server.eventually("closed", |server| server.metric("connections") == 0);
    }
    assert_eq!(server.metric("peer_messages_total{peer=\"a\"}"), 2);
    // TLS without a header is no header.
    let mut flow = tls_on(connect_from("127.0.0.9", address).stream, &trusted, None);
    assert!(flow.stream.write_all(b"OPTIONS").is_err());
}
