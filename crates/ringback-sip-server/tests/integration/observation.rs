//! What the operator sees besides counters: strangers, refused calls, the state of the server.

use std::net::TcpStream;

use ringback_sip_server::{RefusedCall, StrangerTransport};

use crate::support::*;

/// The refused calls, without ports and times.
fn refused(server: &TestServer) -> Vec<(String, &'static str, Option<u16>, u64)> {
    let to = |call: &RefusedCall| call.to.map_or_else(String::new, |to| to.to_string());
    let calls = server.server.refused_calls(100);
    calls
        .iter()
        .map(|call| (to(call), call.reason, call.status, call.count))
        .collect()
}

#[test]
fn strangers_are_known_by_address_and_count() {
    let server =
        TestServer::start("hep.listen = [\"127.0.0.1:0\"]\n[[peers]]\naddress = [\"127.0.0.2\"]");
    let stranger = server.client();
    for call_id in ["1", "2", "3"] {
        stranger.send(invite(OURS, CONTACT, call_id));
    }
    server
        .client_at("127.0.0.9")
        .send(request("OPTIONS", OURS, "4"));
    let _closed_at_once = TcpStream::connect(server.address()).unwrap();
    let hep = std::net::UdpSocket::bind("127.0.0.3:0").unwrap();
    hep.send_to(b"HEP3", server.server.addresses().hep[0])
        .unwrap();
    server.eventually("all are counted", |server| {
        server.server.status().strangers.messages == 6
    });
    let strangers = server.server.status().strangers;
    let mut known: Vec<_> = strangers
        .addresses
        .iter()
        .map(|known| (known.address.to_string(), known.transport, known.messages))
        .collect();
    known.sort_by_key(|(address, transport, _)| (address.clone(), *transport));
    assert_eq!(
        known,
        [
            ("127.0.0.1".to_owned(), StrangerTransport::Udp, 3),
            ("127.0.0.1".to_owned(), StrangerTransport::Tcp, 1),
            ("127.0.0.3".to_owned(), StrangerTransport::Hep, 1),
            ("127.0.0.9".to_owned(), StrangerTransport::Udp, 1),
        ]
    );
    assert_eq!(strangers.messages_of_others, 0);
}

#[test]
fn refused_calls_are_shown_with_peer_and_number() {
    let server = TestServer::start("[[peers]]\nname = \"carrier-a\"\naddress = [\"127.0.0.1\"]");
    let client = server.client();
    assert_eq!(status(&client.ask(invite(UNKNOWN, CONTACT, "1"))), 404);
    // Sent again, it is still one call.
    assert_eq!(status(&client.ask(invite(UNKNOWN, CONTACT, "1"))), 404);
    assert_eq!(
        status(&client.ask(invite("reception", "anonymous", "2"))),
        404
    );
    let malformed = invite(OURS, CONTACT, "3").replace("CSeq: 1", "CSeq: x");
    assert_eq!(status(&client.ask(malformed)), 400);
    // Calls that are served, and messages that are no calls, are not listed.
    assert_eq!(status(&client.ask(invite(OURS, CONTACT, "4"))), 302);
    assert_eq!(status(&client.ask(request("BYE", OURS, "5"))), 405);
    assert_eq!(
        refused(&server),
        [
            (String::new(), "malformed_header", Some(400), 1),
            ("reception".to_owned(), "number_unknown", Some(404), 1),
            (UNKNOWN.to_owned(), "number_unknown", Some(404), 1),
        ]
    );
    let call = server.server.refused_calls(3).remove(2);
    assert_eq!(&*call.peer, "carrier-a");
    assert_eq!(call.transport, Some("udp"));
    assert_eq!(call.source, Some(client.socket.local_addr().unwrap()));
    assert_eq!(
        call.from.map(|from| from.to_string()).as_deref(),
        Some(CONTACT)
    );
    assert_eq!(server.server.refused_calls(1).len(), 1);
}

#[test]
fn refusals_for_too_many_calls_are_summed_up_by_peer() {
    let server = TestServer::start(
        "[[peers]]\nname = \"slow\"\naddress = [\"127.0.0.1\"]\nrate = 1\n\
         [[peers]]\nname = \"silent\"\naddress = [\"127.0.0.2\"]\nrate = 1\nrefuse = \"silence\"",
    );
    let (slow, silent) = (server.client(), server.client_at("127.0.0.2"));
    // However long this takes, hardly more than one of them a second is within the rate.
    let statuses =
        (0..40).map(|call| status(&slow.ask(invite(OURS, CONTACT, &format!("slow-{call}")))));
    let refusals = statuses.filter(|status| *status == 503).count() as u64;
    assert!(refusals > 0);
    for call in 0..5 {
        silent.send(invite(OURS, CONTACT, &format!("silent-{call}")));
    }
    server.eventually("the silent ones are dropped", |server| {
        server.metric("dropped_total{cause=\"rate\"}") >= 3
    });
    let calls = server.server.refused_calls(10);
    let of = |peer: &str| {
        let mut calls = calls.iter().filter(|call| &*call.peer == peer);
        let call = calls.next().unwrap();
        assert_eq!(calls.next(), None, "one entry");
        assert_eq!((call.source, call.to), (None, None));
        (call.reason, call.status, call.count)
    };
    assert_eq!(of("slow"), ("rate", Some(503), refusals));
    let (reason, status, count) = of("silent");
    assert_eq!((reason, status), ("rate", None));
    assert!(count >= 3, "{count}");
    let shown = server.server.status();
    let slow = shown
        .peers
        .iter()
        .find(|peer| &*peer.name == "slow")
        .unwrap();
    assert_eq!(slow.refused["rate"], refusals);
}

#[test]
fn replies_over_streams_are_timed_too() {
    let server = TestServer::start("");
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let message = request("OPTIONS", OURS, "timed").replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    std::io::Write::write_all(&mut stream, message.as_bytes()).unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
    let count = |transport: &str| {
        server.metric(&format!(
            "reply_duration_seconds_count{{transport=\"{transport}\"}}"
        ))
    };
    assert_eq!((count("tcp"), count("tls")), (1, 0));
}
