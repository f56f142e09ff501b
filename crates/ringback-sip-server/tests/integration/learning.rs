//! Learning from INVITEs and from HEP.

use std::io::Write;
use std::net::{TcpStream, UdpSocket};

use ringback_routing::{CallStatus, Timestamp};

use crate::support::*;

/// Nobody has called this contact.
const NEW: &str = "+5511912345678";

/// A learning peer with a next hop, beside an ordinary one.
const LEARNING: &str = "[[peers]]\naddress = [\"127.0.0.1\"]\n\
    [[peers]]\nname = \"pbx\"\naddress = [\"127.0.0.2\"]\nlearn = true\n\
    next-hop = \"sip:gw.example.net;transport=tcp\"\n\
    [[peers]]\nname = \"mute\"\naddress = [\"127.0.0.3\"]\nlearn = true\n";

/// An outbound call of an agent.
fn outbound(dialed: &str, agent: &str, call_id: &str) -> String {
    invite(dialed, OURS, call_id).replace(
        "Max-Forwards",
        &format!("X-Ringback-Agent: {agent}\r\nMax-Forwards"),
    )
}

#[test]
fn an_outbound_invite_is_recorded_sent_on_and_routed_back() {
    let server = TestServer::start(LEARNING);
    let pbx = server.client_at("127.0.0.2");
    let message = outbound(NEW, &OUTBOUND.to_string(), "out-1");
    let reply = pbx.ask(&message);
    assert_eq!(status(&reply), 302);
    let contact = format!("<sip:{NEW}@gw.example.net;transport=tcp>");
    assert_eq!(values(&reply, "Contact"), [contact.as_str()]);
    assert_eq!(pbx.ask(&message), reply);
    {
        let learned = server.desk.learned.lock();
        assert_eq!(learned.len(), 1);
        assert_eq!(learned[0].environment, ENVIRONMENT);
        assert_eq!(learned[0].agent, OUTBOUND);
        assert_eq!(learned[0].contact, number(NEW));
        assert_eq!(learned[0].from, Some(number(OURS)));
        assert_eq!(learned[0].status, CallStatus::Initiated);
        assert_eq!(learned[0].sid, "out-1");
    }
    // The same call with another CSeq: a proxy asked for credentials.
    let again = message
        .replace("CSeq: 1", "CSeq: 2")
        .replace("z9hG4bK-", "z9hG4bK-2");
    assert_eq!(status(&pbx.ask(again)), 302);
    assert_eq!(server.desk.learned.lock().len(), 1);

    let reply = server.client().ask(invite(OURS, NEW, "returned"));
    assert_eq!(
        values(&reply, "X-Ringback-Reason"),
        ["returned_call_same_number"]
    );
}

#[test]
fn only_what_names_an_outbound_agent_is_recorded() {
    let server = TestServer::start(LEARNING);
    let pbx = server.client_at("127.0.0.2");
    // By the calling number, which one outbound agent alone owns.
    assert_eq!(status(&pbx.ask(invite(NEW, OURS, "by-number"))), 302);
    assert_eq!(server.desk.learned.lock().len(), 1);
    for (call_id, message) in [
        ("nobody", outbound(NEW, "nobody", "nobody")),
        ("inbound", outbound(NEW, &DEFAULT.to_string(), "inbound")),
        ("foreign", invite(NEW, "+5511922222222", "foreign")),
    ] {
        assert_eq!(status(&pbx.ask(message)), 404, "{call_id}");
    }
    // A call to us is inbound, whoever is named.
    let ours = outbound(OURS, &OUTBOUND.to_string(), "to-us");
    let reply = pbx.ask(ours.replace(&format!("From: <sip:{OURS}"), "From: <sip:+5511900000000"));
    assert_eq!(values(&reply, "X-Ringback-Outcome"), ["default"]);
    // A peer that is not to be learned from.
    let client = server.client();
    let message = outbound(NEW, &OUTBOUND.to_string(), "not-learning");
    assert_eq!(status(&client.ask(message)), 404);
    assert_eq!(server.desk.learned.lock().len(), 1);
    // Without a next hop it is recorded and answered like any INVITE.
    let mute = server.client_at("127.0.0.3");
    let message = outbound("11912345679", &OUTBOUND.to_string(), "no-hop");
    assert_eq!(status(&mute.ask(message)), 404);
    let learned = server.desk.learned.lock();
    assert_eq!(learned.len(), 2);
    assert_eq!(learned[1].contact, number("+5511912345679"));
}

// Replies that came together with their INVITEs were read before these, and so belonged to no call.
#[test]
fn a_reply_right_behind_its_invite_is_learned_from() {
    let server = TestServer::start(LEARNING);
    let pbx = server.client_at("127.0.0.2");
    for call in 0..30 {
        let message = outbound(NEW, &OUTBOUND.to_string(), &format!("out-{call}"));
        pbx.send(&message);
        pbx.send(response(486, &message));
    }
    server.eventually("every call is known to be busy", |server| {
        let learned = server.desk.learned.lock();
        let busy = learned
            .iter()
            .filter(|call| call.status == CallStatus::Busy);
        busy.count() == 30
    });
}

/// A HEPv3 packet with a message, its capture time and maybe a key.
fn hep(message: &str, seconds: u32, key: Option<&str>) -> Vec<u8> {
    let mut chunks = Vec::new();
    let mut chunk = |kind: u16, value: &[u8]| {
        chunks.extend_from_slice(&[0, 0]);
        chunks.extend_from_slice(&kind.to_be_bytes());
        let length = u16::try_from(value.len() + 6).unwrap();
        chunks.extend_from_slice(&length.to_be_bytes());
        chunks.extend_from_slice(value);
    };
    chunk(1, &[2]);
    chunk(2, &[17]);
    chunk(3, &[192, 0, 2, 9]);
    chunk(4, &[192, 0, 2, 1]);
    chunk(7, &5060_u16.to_be_bytes());
    chunk(8, &5060_u16.to_be_bytes());
    chunk(9, &seconds.to_be_bytes());
    chunk(10, &250_000_u32.to_be_bytes());
    chunk(11, &[1]);
    if let Some(key) = key {
        chunk(14, key.as_bytes());
    }
    chunk(15, message.as_bytes());
    let mut packet = b"HEP3".to_vec();
    let length = u16::try_from(chunks.len() + 6).unwrap();
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend(chunks);
    packet
}

/// The reply that a far end gives.
fn response(code: u16, request: &str) -> String {
    let (_, headers) = request.split_once("\r\n").unwrap();
    format!("SIP/2.0 {code} Whatever\r\n{headers}")
}

/// A minute ago, as HEP counts.
fn a_minute_ago() -> u32 {
    u32::try_from(ago(60).seconds()).unwrap()
}

/// A server with a HEP listener, and a socket to mirror with.
fn mirrored(more: &str) -> (TestServer, UdpSocket) {
    let server = TestServer::start(&format!("[hep]\nlisten = [\"127.0.0.1:0\"]\n{more}"));
    let mirror = UdpSocket::bind("127.0.0.1:0").unwrap();
    mirror.connect(server.server.addresses().hep[0]).unwrap();
    (server, mirror)
}

/// How many HEP packets have been looked at.
fn looked_at(server: &TestServer) -> u64 {
    ["taken", "other", "stranger", "key", "malformed"]
        .iter()
        .map(|event| server.metric(&format!("hep_packets_total{{event=\"{event}\"}}")))
        .sum()
}

#[test]
fn a_mirrored_call_and_its_end_are_recorded() {
    let (server, mirror) = mirrored("");
    let at = a_minute_ago();
    let message = outbound(NEW, &OUTBOUND.to_string(), "hep-1");
    let ok = response(200, &message);
    for packet in [
        hep(&message, at, None),
        hep(&message, at + 1, None),
        hep(&response(100, &message), at, None),
        hep(&response(180, &message), at, None),
        hep(&response(183, &message), at, None),
        // A fork of it fails; that is not the end.
        hep(
            &response(486, &message).replace("z9hG4bK-", "z9hG4bK-fork"),
            at,
            None,
        ),
        hep(&response(401, &message), at, None),
        hep(&ok.replace("CSeq: 1 INVITE", "CSeq: 1 BYE"), at, None),
        hep(&ok.replace("CSeq: 1 INVITE", "CSeq: 7 INVITE"), at, None),
        hep(&ok, at, None),
        hep(&ok, at, None),
        hep(&response(487, &message), at, None),
    ] {
        mirror.send(&packet).unwrap();
    }
    server.eventually("all looked at", |server| looked_at(server) == 12);
    let learned = server.desk.learned.lock();
    let statuses: Vec<CallStatus> = learned.iter().map(|call| call.status).collect();
    assert_eq!(
        statuses,
        [
            CallStatus::Initiated,
            CallStatus::Ringing,
            CallStatus::Answered
        ]
    );
    let captured = Timestamp::from_millis(i64::from(at) * 1_000 + 250);
    for call in learned.iter() {
        assert_eq!(call.started_at, captured);
        assert_eq!((call.contact, call.agent), (number(NEW), OUTBOUND));
        assert_eq!(call.sid, "hep-1");
    }
    drop(learned);
    let reply = server.client().ask(invite(OURS, NEW, "hep-returned"));
    assert_eq!(values(&reply, "X-Ringback-Outcome"), ["callback"]);
}

#[test]
fn final_replies_set_the_status() {
    let (server, mirror) = mirrored("");
    let cases = [
        (486, CallStatus::Busy),
        (600, CallStatus::Busy),
        (408, CallStatus::NoAnswer),
        (480, CallStatus::NoAnswer),
        (487, CallStatus::NoAnswer),
        (404, CallStatus::Failed),
        (503, CallStatus::Failed),
        (202, CallStatus::Answered),
    ];
    for (code, _) in cases {
        let message = outbound(NEW, &OUTBOUND.to_string(), &format!("final-{code}"));
        mirror.send(&hep(&message, a_minute_ago(), None)).unwrap();
        let end = response(code, &message);
        mirror.send(&hep(&end, a_minute_ago(), None)).unwrap();
    }
    server.eventually("all looked at", |server| looked_at(server) == 16);
    let learned = server.desk.learned.lock();
    for (code, status) in cases {
        let sid = format!("final-{code}");
        let last = learned.iter().rfind(|call| call.sid == sid).unwrap();
        assert_eq!(last.status, status, "{code}");
    }
}

#[test]
fn an_answered_callback_counts_once() {
    let (server, mirror) = mirrored("");
    let message = invite(OURS, CONTACT, "answered");
    assert_eq!(status(&server.client().ask(&message)), 302);
    let other = invite(OURS, "+5511900000001", "default");
    assert_eq!(status(&server.client().ask(&other)), 302);
    let forwarded = message.replace("CSeq: 1", "CSeq: 2");
    for packet in [
        hep(&forwarded, a_minute_ago(), None),
        hep(&response(183, &forwarded), a_minute_ago(), None),
        hep(&response(200, &forwarded), a_minute_ago(), None),
        hep(&response(200, &forwarded), a_minute_ago(), None),
        hep(&response(200, &other), a_minute_ago(), None),
    ] {
        mirror.send(&packet).unwrap();
    }
    server.eventually("all looked at", |server| looked_at(server) == 5);
    let answered = server.desk.answered.lock();
    assert_eq!(*answered, [(ENVIRONMENT, "answered".to_owned())]);
    assert!(server.desk.learned.lock().is_empty());
}

#[test]
fn hep_needs_the_key_a_peer_and_sense() {
    let (server, mirror) = mirrored("key = \"secret\"\n");
    let message = outbound(NEW, &OUTBOUND.to_string(), "key");
    mirror.send(&hep(&message, a_minute_ago(), None)).unwrap();
    let wrong = hep(&message, a_minute_ago(), Some("Secret"));
    mirror.send(&wrong).unwrap();
    mirror.send(b"HEP3\x00").unwrap();
    mirror.send(b"nonsense").unwrap();
    let mut cut = hep(&message, a_minute_ago(), Some("secret"));
    cut.truncate(60);
    mirror.send(&cut).unwrap();
    let options = request("OPTIONS", OURS, "options");
    mirror.send(&hep(&options, 0, Some("secret"))).unwrap();
    let bye = outbound(NEW, &OUTBOUND.to_string(), "in-dialog")
        .replace("@192.0.2.1>\r\n", "@192.0.2.1>;tag=t\r\n");
    mirror.send(&hep(&bye, 0, Some("secret"))).unwrap();
    server.eventually("all looked at", |server| looked_at(server) == 7);
    assert!(server.desk.learned.lock().is_empty());
    assert_eq!(server.metric("hep_packets_total{event=\"key\"}"), 2);
    assert_eq!(server.metric("hep_packets_total{event=\"malformed\"}"), 3);
    mirror.send(&hep(&message, 0, Some("secret"))).unwrap();
    server.eventually("recorded", |server| server.desk.learned.lock().len() == 1);
    let now = ago(0);
    let started_at = server.desk.learned.lock()[0].started_at;
    assert!(started_at >= now.plus_millis(-60_000), "{started_at}");

    let peers = "[[peers]]\naddress = [\"127.0.0.1\"]\n";
    let (server, mirror) = mirrored(peers);
    mirror.send(&hep(&message, 0, None)).unwrap();
    server.eventually("counted", |server| {
        server.metric("hep_packets_total{event=\"stranger\"}") == 1
    });
}

#[test]
fn hep_comes_over_tcp_too() {
    let (server, _) = mirrored("");
    let mut mirror = TcpStream::connect(server.server.addresses().hep[0]).unwrap();
    let message = outbound(NEW, &OUTBOUND.to_string(), "hep-tcp");
    let mut stream = hep(&message, a_minute_ago(), None);
    stream.extend(hep(&response(486, &message), a_minute_ago(), None));
    for piece in stream.chunks(100) {
        mirror.write_all(piece).unwrap();
    }
    server.eventually("recorded", |server| server.desk.learned.lock().len() == 2);
    assert_eq!(server.desk.learned.lock()[1].status, CallStatus::Busy);
    mirror.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let closed = std::io::Read::read(&mut mirror, &mut [0; 10]);
    assert!(matches!(closed, Ok(0) | Err(_)));
}
