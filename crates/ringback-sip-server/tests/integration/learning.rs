//! Learning from INVITEs and from HEP.

use std::io::Write;
use std::net::{TcpStream, UdpSocket};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use ringback_routing::{
    Agent, AgentId, Assignment, CallStatus, Environment, EnvironmentId, NumberId, PhoneNumber,
    Timestamp,
};
use uuid::Uuid;

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
        let learned = server.program.learned.lock();
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
    assert_eq!(server.program.learned.lock().len(), 1);

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
    assert_eq!(server.program.learned.lock().len(), 1);
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
    assert_eq!(server.program.learned.lock().len(), 1);
    // Without a next hop it is recorded and answered like any INVITE.
    let mute = server.client_at("127.0.0.3");
    let message = outbound("11912345679", &OUTBOUND.to_string(), "no-hop");
    assert_eq!(status(&mute.ask(message)), 404);
    let learned = server.program.learned.lock();
    assert_eq!(learned.len(), 2);
    assert_eq!(learned[1].contact, number("+5511912345679"));
}

// Replies that came in one batch with their INVITEs used to be read first, and so belonged to no call.
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
        let learned = server.program.learned.lock();
        let busy = learned
            .iter()
            .filter(|call| call.status == CallStatus::Busy);
        busy.count() == 30
    });
}

/// A HEPv3 packet with a message, its capture time and maybe a key.
fn hep(message: &str, seconds: u32, key: Option<&str>) -> Vec<u8> {
    hep_packet((15, message.as_bytes()), seconds, key)
}

/// A HEPv3 packet with a payload in the chunk of this type.
fn hep_packet(payload: (u16, &[u8]), seconds: u32, key: Option<&str>) -> Vec<u8> {
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
    chunk(payload.0, payload.1);
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

/// How many HEP packets have been handled.
fn looked_at(server: &TestServer) -> u64 {
    ["taken", "other", "stranger", "key", "malformed", "hepv2"]
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
        // A fork of it fails; the call goes on.
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
    let learned = server.program.learned.lock();
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
    let learned = server.program.learned.lock();
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
    let answered = server.program.answered.lock();
    assert_eq!(*answered, [(ENVIRONMENT, "answered".to_owned())]);
    assert!(server.program.learned.lock().is_empty());
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
    assert!(server.program.learned.lock().is_empty());
    assert_eq!(server.metric("hep_packets_total{event=\"key\"}"), 2);
    assert_eq!(server.metric("hep_packets_total{event=\"malformed\"}"), 3);
    mirror.send(&hep(&message, 0, Some("secret"))).unwrap();
    server.eventually("recorded", |server| {
        server.program.learned.lock().len() == 1
    });
    let now = ago(0);
    let started_at = server.program.learned.lock()[0].started_at;
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
    server.eventually("recorded", |server| {
        server.program.learned.lock().len() == 2
    });
    assert_eq!(server.program.learned.lock()[1].status, CallStatus::Busy);
    mirror.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let closed = std::io::Read::read(&mut mirror, &mut [0; 10]);
    assert!(matches!(closed, Ok(0) | Err(_)));
}

/// A message whose body was partly cut off by a capture agent.
fn cut(message: &str) -> String {
    message.replace(
        "Content-Length: 0\r\n\r\n",
        "Content-Type: application/sdp\r\nContent-Length: 300\r\n\r\nv=0\r\no=- 1 1 IN IP",
    )
}

// Agents without reassembly cut bodies off, and so does FreeSWITCH over TCP. Nothing was learned from them,
// because the body was shorter than Content-Length.
#[test]
fn messages_cut_behind_their_headers_are_learned() {
    let (server, mirror) = mirrored("");
    let mut stream = TcpStream::connect(server.server.addresses().hep[0]).unwrap();
    let messages = ["cut-udp", "cut-tcp"].map(|call_id| {
        let message = outbound(NEW, &OUTBOUND.to_string(), call_id);
        [cut(&message), cut(&response(200, &message))]
    });
    let headers_missing = messages[0][0].split("Call-ID").next().unwrap();
    mirror
        .send(&hep(headers_missing, a_minute_ago(), None))
        .unwrap();
    for message in &messages[0] {
        mirror.send(&hep(message, a_minute_ago(), None)).unwrap();
    }
    for message in &messages[1] {
        stream
            .write_all(&hep(message, a_minute_ago(), None))
            .unwrap();
    }
    server.eventually("all looked at", |server| looked_at(server) == 5);
    assert_eq!(server.metric("hep_packets_total{event=\"taken\"}"), 4);
    let learned = server.program.learned.lock();
    for call_id in ["cut-udp", "cut-tcp"] {
        let of_call = learned.iter().filter(|call| call.sid == call_id);
        let statuses: Vec<_> = of_call.map(|call| call.status).collect();
        assert_eq!(statuses, [CallStatus::Initiated, CallStatus::Answered]);
    }
    drop(learned);
    // A message that is to be answered has to be whole.
    let server = TestServer::start(LEARNING);
    let reply = server.client_at("127.0.0.2").ask(&messages[0][0]);
    assert_eq!(status(&reply), 400);
    assert!(server.program.learned.lock().is_empty());
}

// A reply that overtook its INVITE used to be lost.
#[test]
fn a_final_reply_before_its_invite_counts() {
    let (server, mirror) = mirrored("");
    let message = outbound(NEW, &OUTBOUND.to_string(), "early");
    let again = message
        .replace("CSeq: 1", "CSeq: 2")
        .replace("z9hG4bK-", "z9hG4bK-2");
    for packet in [
        response(407, &message),
        // The reply of a fork is never that of the call's own INVITE.
        response(503, &message).replace("z9hG4bK-", "z9hG4bK-fork"),
        message.clone(),
        response(486, &again),
        again.clone(),
    ] {
        mirror.send(&hep(&packet, a_minute_ago(), None)).unwrap();
    }
    server.eventually("all looked at", |server| looked_at(server) == 5);
    let statuses = |call_id: &str| -> Vec<_> {
        let learned = server.program.learned.lock();
        let of_call = learned.iter().filter(|call| call.sid == call_id);
        of_call.map(|call| call.status).collect()
    };
    assert_eq!(statuses("early"), [CallStatus::Initiated, CallStatus::Busy]);
    let other = outbound(NEW, &OUTBOUND.to_string(), "earlier");
    for packet in [response(200, &other), response(487, &other), other] {
        mirror.send(&hep(&packet, a_minute_ago(), None)).unwrap();
    }
    server.eventually("all looked at", |server| looked_at(server) == 8);
    assert_eq!(statuses("earlier"), [CallStatus::Answered]);
    assert_eq!(server.metric("learned_total{event=\"call\"}"), 2);
    assert_eq!(server.metric("learned_total{event=\"status\"}"), 2);
}

// Calls of a mirror whose clock is at 1970 used to expire at once, and calls of one far ahead could not be
// recorded.
#[test]
fn a_wrong_capture_clock_is_replaced_by_the_arrival() {
    let (server, mirror) = mirrored("");
    let seconds = |ago: i64| u32::try_from(self::ago(ago).seconds()).unwrap();
    let clocks = [
        ("1970", 1_000, false),
        ("yesterday", seconds(90_000), false),
        ("tomorrow", seconds(-80_000), false),
        ("soon", seconds(-120), true),
        ("today", seconds(80_000), true),
    ];
    let before = ago(0);
    for (call_id, at, _) in clocks {
        let message = outbound(NEW, &OUTBOUND.to_string(), call_id);
        mirror.send(&hep(&message, at, None)).unwrap();
    }
    server.eventually("all looked at", |server| looked_at(server) == 5);
    let learned = server.program.learned.lock();
    for (call_id, at, stands) in clocks {
        let call = learned.iter().find(|call| call.sid == call_id).unwrap();
        if stands {
            assert_eq!(call.started_at.seconds(), i64::from(at), "{call_id}");
        } else {
            let now = before..=ago(-1);
            assert!(
                now.contains(&call.started_at),
                "{call_id}: {}",
                call.started_at
            );
        }
    }
}

// Both used to count as malformed.
#[test]
fn compressed_hep_is_read_and_hepv2_is_counted_as_such() {
    let (server, mirror) = mirrored("");
    let level = Compression::default();
    let message = outbound(NEW, &OUTBOUND.to_string(), "compressed");
    let mut zlib = ZlibEncoder::new(Vec::new(), level);
    zlib.write_all(message.as_bytes()).unwrap();
    let mut gzip = GzEncoder::new(Vec::new(), level);
    gzip.write_all(response(486, &message).as_bytes()).unwrap();
    let mut bomb = ZlibEncoder::new(Vec::new(), level);
    bomb.write_all(&vec![0; 20_000_000]).unwrap();
    for payload in [zlib, bomb].map(|encoder| encoder.finish().unwrap()) {
        mirror
            .send(&hep_packet((16, &payload), a_minute_ago(), None))
            .unwrap();
    }
    let gzip = gzip.finish().unwrap();
    mirror
        .send(&hep_packet((16, &gzip), a_minute_ago(), None))
        .unwrap();
    mirror.send(&hep_packet((16, b"INVITE"), 0, None)).unwrap();
    let old = [
        &[2, 16, 2, 17, 19, 196, 19, 196][..],
        &[9; 8],
        message.as_bytes(),
    ]
    .concat();
    mirror.send(&old).unwrap();
    server.eventually("all looked at", |server| looked_at(server) == 5);
    for (event, count) in [("taken", 2), ("other", 1), ("malformed", 1), ("hepv2", 1)] {
        let name = format!("hep_packets_total{{event=\"{event}\"}}");
        assert_eq!(server.metric(&name), count, "{event}");
    }
    let learned = server.program.learned.lock();
    let statuses: Vec<_> = learned.iter().map(|call| call.status).collect();
    assert_eq!(statuses, [CallStatus::Initiated, CallStatus::Busy]);
}

// Call-IDs of 60 kB used to be stored whole.
#[test]
fn a_long_call_id_is_routed_and_not_learned() {
    let server = TestServer::start(&format!("{LEARNING}[hep]\nlisten = [\"127.0.0.1:0\"]\n"));
    let pbx = server.client_at("127.0.0.2");
    for (length, learned) in [(256, 0), (20_000, 0), (255, 1)] {
        let message = outbound(NEW, &OUTBOUND.to_string(), "x")
            .replace("Call-ID: x", &format!("Call-ID: {}", "c".repeat(length)))
            .replace("z9hG4bK-x", &format!("z9hG4bK-{length}"));
        let reply = pbx.ask(message);
        assert_eq!(status(&reply), 302);
        let contact = format!("<sip:{NEW}@gw.example.net;transport=tcp>");
        assert_eq!(values(&reply, "Contact"), [contact.as_str()], "{length}");
        assert_eq!(server.program.learned.lock().len(), learned, "{length}");
    }
    let long = "c".repeat(256);
    let reply = server
        .client()
        .ask(invite(OURS, CONTACT, "returned").replace("ID: returned", &format!("ID: {long}")));
    assert_eq!(values(&reply, "X-Ringback-Outcome"), ["callback"]);
    // Nor over HEP, where each byte that is no UTF-8 would take three.
    let mirror = UdpSocket::bind("127.0.0.2:0").unwrap();
    mirror.connect(server.server.addresses().hep[0]).unwrap();
    let message = outbound(NEW, &OUTBOUND.to_string(), "mirrored");
    let (before, after) = message.split_once("ID: mirrored").unwrap();
    for call_id in [&[b'h'; 256][..], &[0xff; 100]] {
        let payload = [before.as_bytes(), b"ID: ", call_id, after.as_bytes()].concat();
        let packet = hep_packet((15, &payload), a_minute_ago(), None);
        mirror.send(&packet).unwrap();
    }
    server.eventually("all looked at", |server| looked_at(server) == 2);
    assert_eq!(server.program.learned.lock().len(), 1);
    assert_eq!(server.metric("learned_total{event=\"long_call_id\"}"), 4);
}

// An empty header used to be read as the name of an agent that does not exist, so that nothing was learned from
// an Asterisk with an unset variable.
#[test]
fn an_empty_agent_header_is_no_header() {
    let server = TestServer::start(LEARNING);
    let pbx = server.client_at("127.0.0.2");
    for (call_id, agent) in [("empty", ""), ("space", " \t ")] {
        assert_eq!(status(&pbx.ask(outbound(NEW, agent, call_id))), 302);
    }
    let twice = outbound(NEW, "", "twice").replace(
        "Max-Forwards",
        &format!("X-Ringback-Agent: {OUTBOUND}\r\nMax-Forwards"),
    );
    assert_eq!(status(&pbx.ask(twice)), 302);
    let learned = server.program.learned.lock();
    let agents: Vec<_> = learned.iter().map(|call| call.agent).collect();
    assert_eq!(agents, [OUTBOUND; 3]);
}

/// A second environment with an outbound agent and a number of its own, where nothing is routed.
fn add_environment(server: &TestServer) -> (EnvironmentId, AgentId, &'static str) {
    let environment = EnvironmentId(Uuid::from_u128(0x100));
    let outbound = AgentId(Uuid::from_u128(0x110));
    let number_id = NumberId(Uuid::from_u128(0x140));
    let number = "+551140000000";
    server.program.change(|directory| {
        let like = |id| Agent::clone(&directory.agent_by_id(id).unwrap().record);
        let agents = [
            (OUTBOUND, outbound),
            (CALLBACK, AgentId(Uuid::from_u128(0x120))),
        ];
        let agents = agents.map(|(model, id)| Agent {
            id,
            environment,
            phone_numbers: vec![number_id],
            ..like(model)
        });
        let home = directory.environment_by_id(ENVIRONMENT).unwrap();
        let second = Environment {
            id: environment,
            name: "second".to_owned(),
            ..home.record.clone()
        };
        let ids: Vec<AgentId> = agents.iter().map(|agent| agent.id).collect();
        let of_ours = directory.number(self::number(OURS)).unwrap();
        let number = PhoneNumber {
            id: number_id,
            environment,
            number: self::number(number),
            default_agent: None,
            ..of_ours.record.clone()
        };
        directory.put_environment(second);
        for mut agent in agents {
            if let Some(role) = &mut agent.role {
                role.source_agents = vec![outbound];
            }
            directory.put_agent(agent);
        }
        directory.put_number(number);
        for agent in ids {
            directory.assign(&Assignment {
                number: number_id,
                agent,
            });
        }
    });
    (environment, outbound, number)
}

// The second call used to be taken for a repeat of the first one.
#[test]
fn the_same_call_id_in_two_environments_is_two_calls() {
    let (server, mirror) = mirrored("");
    let (other, agent, ours) = add_environment(&server);
    let mut messages = [OUTBOUND, agent].map(|agent| outbound(NEW, &agent.to_string(), "same"));
    messages[1] = messages[1]
        .replace("z9hG4bK-", "z9hG4bK-other")
        .replace("tag=f", "tag=g");
    for message in [
        messages[0].clone(),
        messages[1].clone(),
        response(486, &messages[1]),
        response(200, &messages[0]),
        response(486, &messages[0]),
    ] {
        mirror.send(&hep(&message, a_minute_ago(), None)).unwrap();
    }
    server.eventually("all looked at", |server| looked_at(server) == 5);
    let learned = server.program.learned.lock().clone();
    let seen: Vec<_> = learned
        .iter()
        .map(|call| (call.environment, call.status))
        .collect();
    assert_eq!(
        seen,
        [
            (ENVIRONMENT, CallStatus::Initiated),
            (other, CallStatus::Initiated),
            (other, CallStatus::Busy),
            (ENVIRONMENT, CallStatus::Answered),
        ]
    );
    // Two callbacks; the second one is answered.
    for (dialed, outcome) in [(OURS, "callback"), (ours, "callback")] {
        let message = invite(dialed, NEW, "same-back")
            .replace("z9hG4bK-", &format!("z9hG4bK-{}", &dialed[1..]));
        let reply = server.client().ask(&message);
        assert_eq!(values(&reply, "X-Ringback-Outcome"), [outcome], "{dialed}");
    }
    let answered = response(
        200,
        &invite(ours, NEW, "same-back").replace("CSeq: 1", "CSeq: 2"),
    );
    mirror.send(&hep(&answered, a_minute_ago(), None)).unwrap();
    server.eventually("all looked at", |server| looked_at(server) == 6);
    let answered = server.program.answered.lock();
    assert_eq!(*answered, [(other, "same-back".to_owned())]);
}
