//! Listeners on IPv6: UDP, TCP and TLS of one server answer there and beside it on IPv4.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ringback_testkit::{ServerBuilder, SipPeer, SipReply};
use serde_json::json;

use crate::BINARY;
use crate::openssl::{Authority, Key, SecurePeer};

/// An INVITE whose addresses are IPv6, as a peer on IPv6 sends it.
fn invite(transport: &str, call_id: &str) -> String {
    format!(
        "INVITE sip:+12025550100@[2001:db8::1] SIP/2.0\r\n\
         Via: SIP/2.0/{transport} [2001:db8::9]:5070;branch=z9hG4bK-{call_id};rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:+12025550142@[2001:db8::9]>;tag=1\r\n\
         To: <sip:+12025550100@[2001:db8::1]>\r\n\
         Call-ID: {call_id}\r\n\
         CSeq: 1 INVITE\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// Sends a request over a connection of its own and reads the reply.
fn exchange_over_tcp(server: SocketAddr, request: &str) -> SipReply {
    let mut stream = TcpStream::connect(server).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = Vec::new();
    while !reply.ends_with(b"\r\n\r\n") {
        let mut piece = [0; 4_096];
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0, "closed: {}", reply.escape_ascii());
        reply.extend_from_slice(&piece[..length]);
    }
    SipReply::read(&String::from_utf8(reply).unwrap())
}

#[test]
fn udp_tcp_and_tls_answer_on_ipv6_and_on_ipv4() {
    let scratch = tempfile::tempdir().unwrap();
    let authority = Authority::new(scratch.path(), "authority");
    let identity = authority.identity("server", Key::Elliptic);
    let server = ServerBuilder::new(BINARY)
        .config(format!(
            "[sip.tls]\ncertificate = '{}'\nprivate-key = '{}'\n",
            identity.certificate.display(),
            identity.key.display()
        ))
        .arg("--sip-udp=[::1]:0")
        .arg("--sip-tls=[::1]:0,127.0.0.1:0")
        .start();
    let addresses = |kind: &str| -> Vec<SocketAddr> {
        let all = server.ready[format!("{kind}_all")].as_array().unwrap();
        let texts = all.iter().map(|address| address.as_str().unwrap());
        texts.map(|address| address.parse().unwrap()).collect()
    };
    let (udp, tcp, tls) = (
        addresses("sip_udp"),
        addresses("sip_tcp"),
        addresses("sip_tls"),
    );
    let count = |list: &[SocketAddr]| list.iter().filter(|address| address.is_ipv6()).count();
    assert_eq!((udp.len(), count(&udp)), (2, 1), "{udp:?}");
    assert_eq!(tcp, udp, "TCP listens where UDP does");
    assert_eq!((tls.len(), count(&tls)), (2, 1), "{tls:?}");

    let api = server.environment(json!({"name": "acme"}));
    let number = api.number("+12025550100");
    let target = "sip:desk@[2001:db8::7]:5080";
    api.agent("Desk", "inbound", &[&number], target);
    let check = |reply: &SipReply| {
        assert_eq!(reply.status, 302, "{}", reply.text);
        assert_eq!(reply.contacts(), [target]);
    };
    for address in udp {
        let peer = SipPeer::new(address);
        check(&peer.invite_until_served("+12025550100", "+12025550142"));
        // Behind a translation the Via names another address than the packet comes from.
        let reply = (0..).map(|attempt| {
            let call_id = format!("{address}-{attempt}");
            peer.exchange(&invite("UDP", &call_id), &call_id)
        });
        let reply = reply.take(20).find(|reply| reply.status != 503).unwrap();
        check(&reply);
        let received = format!("received={}", address.ip());
        assert!(reply.header("Via").contains(&received), "{}", reply.text);
    }
    for address in tcp {
        let reply = exchange_over_tcp(address, &invite("TCP", &address.to_string()));
        check(&reply);
        let received = format!("received={}", address.ip());
        assert!(reply.header("Via").contains(&received), "{}", reply.text);
    }
    for address in tls {
        let mut peer = SecurePeer::new(address, &authority.certificate(), &[]);
        check(&peer.exchange(&invite("TLS", &address.to_string())));
    }
}
