//! The reply to each request, and to its retransmission.

use ringback_routing::{AgentStatus, Caller, Outcome, Reason};

use crate::support::*;

#[test]
fn a_returned_call_is_redirected_to_its_callback_agent() {
    let server = TestServer::start("");
    let client = server.client();
    let reply = client.ask(invite(OURS, CONTACT, "call-1"));
    assert_eq!(status(&reply), 302, "{reply}");
    assert_eq!(values(&reply, "X-Ringback-Outcome"), ["callback"]);
    assert_eq!(
        values(&reply, "X-Ringback-Reason"),
        ["returned_call_same_number"]
    );
    assert_eq!(
        values(&reply, "X-Ringback-Agent"),
        [CALLBACK.to_string().as_str()]
    );
    assert_eq!(
        values(&reply, "X-Ringback-Source-Agent"),
        [OUTBOUND.to_string().as_str()]
    );
    let contacts = values(&reply, "Contact");
    assert_eq!(contacts.len(), 3);
    assert_eq!(contacts[2], "<sip:callback@c.example.com>;q=0.8");
    let via = values(&reply, "Via")[0];
    let port = client.socket.local_addr().unwrap().port();
    assert!(via.contains("received=127.0.0.1") && via.contains(&format!("rport={port}")));

    client.send(request("ACK", OURS, "call-1"));
    client.assert_silence();
    let decided = server.program.decided.lock();
    assert_eq!(
        *decided,
        [(
            Outcome::Callback,
            Reason::ReturnedCallSameNumber,
            Some(number(OURS)),
            Caller::Number(number(CONTACT)),
            "call-1".to_owned()
        )]
    );
}

#[test]
fn other_calls_go_to_the_default_agent_or_are_refused() {
    let server = TestServer::start("");
    let client = server.client();
    for (dialed, caller, code, reason) in [
        (OURS, "+5511900000001", 302, "caller_never_called"),
        (OURS, "anonymous", 302, "caller_anonymous"),
        (OURS, "bob", 302, "caller_invalid"),
        (OURS, "11987654321", 302, "returned_call_same_number"),
        ("00551130000000", CONTACT, 302, "returned_call_same_number"),
        (UNKNOWN, CONTACT, 404, "number_unknown"),
        ("bob", CONTACT, 404, "number_unknown"),
    ] {
        let reply = client.ask(invite(dialed, caller, &format!("{dialed}-{caller}")));
        assert_eq!(status(&reply), code, "{reply}");
        assert_eq!(values(&reply, "X-Ringback-Reason"), [reason]);
        if code == 404 {
            assert_eq!(
                values(&reply, "Reason"),
                ["SIP;cause=404;text=\"number_unknown\""]
            );
        }
    }
    for agent in [CALLBACK, DEFAULT] {
        server
            .program
            .change_agent(agent, |agent| agent.status = AgentStatus::Draft);
    }
    let reply = client.ask(invite(OURS, CONTACT, "nobody-there"));
    assert_eq!(status(&reply), 480);
    assert_eq!(values(&reply, "X-Ringback-Reason"), ["no_agent_available"]);
    let name = "decisions_total{outcome=\"refused\",reason=\"number_unknown\"}";
    assert_eq!(server.metric(name), 2);
}

#[test]
fn every_other_request_gets_its_answer() {
    let server = TestServer::start("");
    let client = server.client();
    let plain = request("INVITE", OURS, "plain");
    for (message, code) in [
        (request("CANCEL", OURS, "a"), 200),
        (request("OPTIONS", OURS, "b"), 200),
        (request("REGISTER", OURS, "c"), 405),
        (request("invite", OURS, "d"), 501),
        (plain.replace("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"), 505),
        (plain.replace("INVITE sip:", "INVITE http:"), 416),
        (
            request("OPTIONS", OURS, "e")
                .replace("Max-Forwards", "Require: 100rel\r\nMax-Forwards"),
            420,
        ),
        (plain.replace("Call-ID: plain\r\n", ""), 400),
        (plain.replace("CSeq: 1 INVITE", "CSeq: 1 OPTIONS"), 400),
        (
            plain.replace("@192.0.2.1>\r\n", "@192.0.2.1>;tag=t\r\n"),
            481,
        ),
    ] {
        let reply = client.ask(&message);
        assert_eq!(status(&reply), code, "{message}\n{reply}");
        if code == 200 && message.starts_with("OPTIONS") {
            assert_eq!(values(&reply, "Allow"), ["INVITE, ACK, CANCEL, OPTIONS"]);
            assert_eq!(values(&reply, "Accept"), ["application/sdp"]);
        }
    }
    for silent in [
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\r\n",
        "\r\n\r\n",
        "garbage",
        "INVITE sip:a@b SIP/2.0\r\n\r\n",
        "ACK",
    ] {
        client.send(silent);
        client.assert_silence();
    }
    assert_eq!(server.metric("refused_total{cause=\"missing_header\"}"), 1);
    assert_eq!(server.metric("dropped_total{cause=\"keep_alive\"}"), 1);
}

#[test]
fn the_same_invite_gets_the_same_reply_whatever_changes() {
    let server = TestServer::start("");
    let client = server.client();
    let message = invite(OURS, CONTACT, "again");
    let first = client.ask(&message);
    server.program.change_agent(CALLBACK, |agent| {
        agent.targets = vec![target("sip:elsewhere@example.com", 0, 0)];
    });
    assert_eq!(client.ask(&message), first);
    server
        .program
        .change_agent(CALLBACK, |agent| agent.status = AgentStatus::Draft);
    assert_eq!(client.ask(&message), first);
    server.program.change(|directory| {
        directory.remove_agent(CALLBACK);
        directory.remove_agent(OUTBOUND);
    });
    assert_eq!(client.ask(&message), first);
    server.server.reload(config("decision-headers = false"));
    assert_eq!(client.ask(&message), first);

    assert_eq!(server.program.decided.lock().len(), 1);
    assert_eq!(server.metric("retransmissions_total"), 4);
    let reply = client.ask(invite(OURS, CONTACT, "another"));
    assert!(values(&reply, "X-Ringback-Outcome").is_empty());
    assert!(reply.contains("sip:default@agents.example.com"), "{reply}");
}

#[test]
fn replies_are_the_same_after_a_restart() {
    let ask = || {
        let server = TestServer::start("");
        let client = server.client();
        let message = invite(OURS, CONTACT, "restart");
        let reply = client.ask(message);
        let port = client.socket.local_addr().unwrap().port();
        reply.replace(&format!("rport={port}"), "rport")
    };
    assert_eq!(ask(), ask());
}

#[test]
fn a_redirect_never_points_back() {
    let server = TestServer::start("");
    let client = server.client();
    server.program.change_agent(CALLBACK, |agent| {
        agent.targets = vec![target(&format!("sip:{OURS}@192.0.2.1"), 0, 0)];
    });
    let reply = client.ask(invite(OURS, CONTACT, "loop"));
    assert_eq!(
        values(&reply, "X-Ringback-Reason"),
        ["callback_agent_not_published"]
    );
    assert!(values(&reply, "Contact")[0].contains("sip:default@agents.example.com"));
}

#[test]
fn the_decision_can_ride_in_the_contact() {
    let server = TestServer::start("contact-headers = true\ndecision-headers = false");
    let reply = server.client().ask(invite(OURS, CONTACT, "contact"));
    let contact = values(&reply, "Contact")[0];
    assert!(contact.contains("?X-Ringback-Outcome=callback&X-Ringback-Reason="));
    assert!(values(&reply, "X-Ringback-Outcome").is_empty());
}

#[test]
fn draining_shows_in_options_and_calls_are_served() {
    let server = TestServer::start("");
    let client = server.client();
    assert_eq!(status(&client.ask(request("OPTIONS", OURS, "before"))), 200);
    server.server.drain();
    assert_eq!(status(&client.ask(request("OPTIONS", OURS, "after"))), 503);
    assert_eq!(status(&client.ask(invite(OURS, CONTACT, "served"))), 302);
    assert_eq!(server.metric("draining"), 1);
}

#[test]
fn several_listeners_of_both_families_answer_from_the_address_asked() {
    let server = TestServer::start("udp = [\"0.0.0.0:0\", \"[::]:0\"]");
    for (index, ours, ours_bound) in [(0, "127.0.0.7", "127.0.0.1:0"), (1, "::1", "[::1]:0")] {
        let client = Client {
            socket: std::net::UdpSocket::bind(ours_bound).unwrap(),
        };
        let port = server.server.addresses().udp[index].port();
        // A connected socket receives datagrams only from this address.
        client.socket.connect((ours, port)).unwrap();
        client.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        for call in 0..3 {
            let reply = client.ask(invite(OURS, CONTACT, &format!("family-{index}-{call}")));
            assert_eq!(status(&reply), 302);
        }
        for call in 0..20 {
            client.send(invite(OURS, CONTACT, &format!("burst-{index}-{call}")));
        }
        for _ in 0..20 {
            assert_eq!(status(&client.receive()), 302);
        }
    }
}

#[test]
fn replies_go_where_the_via_says() {
    let server = TestServer::start("");
    let client = server.client();
    let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = other.local_addr().unwrap().port();
    let mut room = [0; 4_096];
    // Without rport the reply goes to the port of the sent-by, at the source's address.
    let message = invite(OURS, CONTACT, "sent-by").replace(
        "192.0.2.9:5070;branch=z9hG4bK-sent-by;rport",
        &format!("192.0.2.9:{port};branch=z9hG4bK-sent-by"),
    );
    client.send(message);
    assert!(other.recv(&mut room).is_ok());
    let message = invite(OURS, CONTACT, "maddr").replace(
        "192.0.2.9:5070;branch=z9hG4bK-maddr;rport",
        &format!("192.0.2.9:{port};branch=z9hG4bK-maddr;maddr=127.0.0.1"),
    );
    client.send(message);
    assert!(other.recv(&mut room).is_ok());
    client.assert_silence();
}

#[test]
fn a_maddr_that_is_no_peer_is_not_followed() {
    let server = TestServer::start("[[peers]]\naddress = [\"127.0.0.1\", \"127.0.0.5\"]");
    let client = server.client();
    let third_party = std::net::UdpSocket::bind("127.0.0.9:0").unwrap();
    third_party.set_nonblocking(true).unwrap();
    let port = third_party.local_addr().unwrap().port();
    let other_peer = std::net::UdpSocket::bind(("127.0.0.5", port)).unwrap();
    other_peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut room = [0; 4_096];
    for (method, call_id) in [("INVITE", "third"), ("OPTIONS", "party"), ("BYE", "here")] {
        let with = |maddr: &str| {
            request(method, OURS, call_id).replace(
                &format!("192.0.2.9:5070;branch=z9hG4bK-{call_id};rport"),
                &format!("192.0.2.9:{port};branch=z9hG4bK-{call_id};maddr={maddr};rport"),
            )
        };
        let reply = client.ask(with("127.0.0.9"));
        assert!(
            reply.contains(&format!("Call-ID: {call_id}\r\n")),
            "{reply}"
        );
        // From another peer, or one with the same address and another port.
        client.send(with("127.0.0.5"));
        assert!(other_peer.recv(&mut room).is_ok());
    }
    // Everything was answered before.
    client.assert_silence();
    assert!(
        third_party.recv(&mut room).is_err(),
        "a third party got a reply"
    );
}

#[test]
fn what_routing_does_not_need_is_no_reason_to_refuse() {
    let server = TestServer::start("");
    let client = server.client();
    let port = client.socket.local_addr().unwrap().port();
    for (index, (old, new)) in [
        (
            "Max-Forwards",
            "Require: 100rel\r\nProxy-Require: x\r\nMax-Forwards",
        ),
        (
            "Max-Forwards",
            "Via: SIP/2.0/UDP [fe80::1%eth0]\r\nVia: ;;\r\nMax-Forwards",
        ),
        ("192.0.2.9:5070;", "fe80::1%eth0;"),
        ("192.0.2.9:5070;", "2001:db8::1;"),
        ("192.0.2.9:5070;", "[fe80::1%eth0];"),
        ("192.0.2.9:5070;", "my_pbx;"),
        (";rport", ";rport=1;received=192.0.2.66"),
        ("@192.0.2.9>;tag", "@[fe80::1%25eth0]>;tag"),
        ("@192.0.2.9>;tag", "@fe80::1>;tag"),
        ("@192.0.2.1 SIP", "@[fe80::1%eth0] SIP"),
        ("To: <", "To: \"Bell, A <"),
        ("To: <", "To: Bell, A <"),
    ]
    .into_iter()
    .enumerate()
    {
        let message = invite(OURS, CONTACT, &format!("needless-{index}"));
        let reply = client.ask(message.replacen(old, new, 1));
        assert_eq!(status(&reply), 302, "{new}: {reply}");
        assert_eq!(
            values(&reply, "X-Ringback-Reason"),
            ["returned_call_same_number"],
            "{new}"
        );
        let via = values(&reply, "Via")[0];
        assert_eq!(via.matches("received=").count(), 1, "{via}");
        assert!(via.contains(&format!(";rport={port}")) && via.contains("received=127.0.0.1"));
    }
}

#[test]
fn placeholders_of_targets_are_filled_in_for_each_call() {
    let server = TestServer::start("");
    let client = server.client();
    server.program.change_agent(CALLBACK, |agent| {
        agent.targets = vec![
            target(
                "sip:{dialed}@a.example.com;c={caller};s={source_agent_id}",
                0,
                0,
            ),
            target("sips:{agent_id}@b.example.com", 1, 0),
            target("sip:{dialed}@192.0.2.1", 2, 0),
        ];
    });
    let message = invite(OURS, CONTACT, "filled");
    let first = client.ask(&message);
    assert_eq!(
        values(&first, "Contact"),
        [
            format!(
                "<sip:{OURS}@a.example.com;c={CONTACT};s={}>;q=1.0",
                OUTBOUND.0
            ),
            format!("<sips:{}@b.example.com>;q=0.9", CALLBACK.0),
        ],
        "and never back to the request URI"
    );
    server
        .program
        .change_agent(CALLBACK, |agent| agent.targets.clear());
    assert_eq!(client.ask(&message), first, "a retransmission");

    // No call is returned here, so the placeholder of the source agent has no value.
    server.program.change_agent(DEFAULT, |agent| {
        agent.targets = vec![
            target("sip:{source_agent_id}@c.example.com", 0, 0),
            target("sip:{caller}@c.example.com", 1, 0),
        ];
    });
    for (caller, user) in [
        ("anonymous", "anonymous"),
        ("bob", "anonymous"),
        ("+5511900000001", "+5511900000001"),
    ] {
        let reply = client.ask(invite(OURS, caller, &format!("filled-{caller}")));
        let contacts = values(&reply, "Contact");
        assert_eq!(contacts, [format!("<sip:{user}@c.example.com>;q=1.0")]);
    }
    server.program.change_agent(DEFAULT, |agent| {
        agent.targets = vec![target("sip:{source_agent_id}@c.example.com", 0, 0)];
    });
    let reply = client.ask(invite(OURS, "+5511900000001", "unfilled"));
    assert_eq!(status(&reply), 480);
}

#[test]
fn every_placeholder_that_is_taken_is_filled_in() {
    use ringback_routing::{AgentId, Placeholders};
    let filling = Placeholders {
        agent: Some(AgentId(uuid::Uuid::nil())),
        source_agent: Some(AgentId(uuid::Uuid::nil())),
        dialed: Some(number(OURS)),
        caller: Caller::Anonymous,
    };
    for name in ringback_sip_proto::PLACEHOLDERS {
        let uri = format!("sip:{{{name}}}@h;x={{{name}}}");
        assert_eq!(ringback_sip_proto::validate_target(&uri), Ok(()));
        let filled = filling.fill(&uri).unwrap();
        assert!(!filled.contains('{'), "{filled}");
        assert_eq!(ringback_sip_proto::validate_target(&filled), Ok(()));
    }
}

#[test]
fn placeholders_of_a_next_hop_are_filled_in() {
    let hop = "sip:{dialed}@gw.example.net;from={caller};agent={agent_id}";
    let server = TestServer::start(&format!(
        "[[peers]]\naddress = [\"127.0.0.1\"]\nlearn = true\nnext-hop = \"{hop}\""
    ));
    let client = server.client();
    let named = invite("+5521988887777", OURS, "hop").replace(
        "Max-Forwards",
        &format!("X-Ringback-Agent: {}\r\nMax-Forwards", OUTBOUND.0),
    );
    let by_calling_number = invite("+5521988887777", OURS, "hop-by-number");
    for message in [named, by_calling_number] {
        let reply = client.ask(&message);
        assert_eq!(
            values(&reply, "Contact"),
            [format!(
                "<sip:+5521988887777@gw.example.net;from={OURS};agent={}>",
                OUTBOUND.0
            )]
        );
        assert_eq!(client.ask(&message), reply);
    }
}

#[test]
fn long_requests_are_redirected_over_udp_and_tcp() {
    use std::io::{Read, Write};
    let server = TestServer::start("");
    let client = server.client();
    for (index, (old, new)) in [
        ("branch=z9hG4bK", "branch=z9hG4bK~"),
        (
            "Max-Forwards",
            "Via: SIP/2.0/UDP b;branch=~\r\nMax-Forwards",
        ),
        ("Call-ID: ", "Call-ID: ~"),
        ("From: <", "From: \"~\" <"),
        ("To: <", "To: \"~\" <"),
    ]
    .into_iter()
    .enumerate()
    {
        let message = invite(OURS, CONTACT, &format!("long-{index}"))
            .replacen(old, new, 1)
            .replace('~', &"l".repeat(60_000));
        let reply = client.ask(&message);
        assert_eq!(status(&reply), 302, "{new}");
        assert_eq!(values(&reply, "Contact").len(), 3);
        assert_eq!(client.ask(&message), reply, "{new}: the same again");
        let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(message.replace("long-", "stream-").as_bytes())
            .unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert_eq!(status(&reply), 302, "{new}");
    }
    let whole = request("INVITE", OURS, &"w".repeat(65_000));
    let message = request(
        "INVITE",
        OURS,
        &"w".repeat((65_507 - (whole.len() - 130_000)) / 2),
    );
    assert!(message.len() > 65_500);
    assert_eq!(status(&client.ask(message)), 513);
    assert_eq!(server.metric("refused_total{cause=\"too_large\"}"), 1);
}

/// A configuration to reload.
pub(crate) fn config(toml: &str) -> ringback_sip_server::SipConfig {
    let spec: ringback_sip_server::SipSpec = toml::from_str(toml).unwrap();
    ringback_sip_server::SipConfig::try_from(spec).unwrap()
}
