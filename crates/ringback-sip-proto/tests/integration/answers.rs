//! What stands on the replies, header by header, and where they go.

use ringback_sip_proto::check::{Defect, DropCause};
use ringback_sip_proto::{
    Action, Answer, Input, Invite, PreparedAnswer, PreparedTarget, Redirector, Refusal, Reply,
    Settings, Transport,
};

const SOURCE: &str = "198.51.100.7:40000";

/// An INVITE with these Vias, To value and request URI.
fn invite(via: &str, uri: &str) -> String {
    format!(
        "INVITE {uri} SIP/2.0\r\n{via}\
         Max-Forwards: 70\r\n\
         From: \"A\" <sip:+5511987654321@carrier.example.net>;tag=a\r\n\
         To: <sip:+551130000000@gw.example.com>\r\n\
         Call-ID: 1@carrier.example.net\r\n\
         CSeq: 5 INVITE\r\n\
         Record-Route: <sip:edge.example.net;lr>\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

const VIA: &str = "Via: SIP/2.0/UDP 198.51.100.7:5070;branch=z9hG4bK1\r\n";
const URI: &str = "sip:+551130000000@gw.example.com";

fn callback() -> Answer<'static> {
    Answer {
        outcome: "callback",
        reason: "returned_call",
        agent: Some("agent-1"),
        source_agent: Some("source-1"),
    }
}

/// A redirector, and where it writes decisions.
struct Server {
    redirector: Redirector,
    settings: Settings,
}

impl std::ops::Deref for Server {
    type Target = Redirector;

    fn deref(&self) -> &Redirector {
        &self.redirector
    }
}

fn redirector(decision_headers: bool, contact_headers: bool) -> Server {
    Server {
        redirector: Redirector::new([5; 16]),
        settings: Settings {
            decision_headers,
            contact_headers,
        },
    }
}

/// The reply of `answer` as text, from a message and whatever answers it.
fn reply_to(
    message: &str,
    transport: Transport,
    answer: impl FnOnce(&Server, &Invite<'_>, &mut Vec<u8>) -> Reply,
) -> (Reply, String) {
    reply_by(&redirector(true, false), message, transport, answer)
}

fn reply_by(
    redirector: &Server,
    message: &str,
    transport: Transport,
    answer: impl FnOnce(&Server, &Invite<'_>, &mut Vec<u8>) -> Reply,
) -> (Reply, String) {
    let mut out = Vec::new();
    let input = Input {
        bytes: message.as_bytes(),
        source: SOURCE.parse().unwrap(),
        transport,
        draining: false,
    };
    let reply = match redirector.handle(input, &mut out) {
        Action::Invite(invite) => answer(redirector, &invite, &mut out),
        Action::Reply(reply) => reply,
        other => panic!("{other:?} for {message}"),
    };
    (reply, String::from_utf8(out).unwrap())
}

/// Prepares the answer and gives it.
fn answer_with<'t>(
    redirector: &Server,
    invite: &Invite<'_>,
    answer: &Answer<'_>,
    targets: impl IntoIterator<Item = &'t str>,
    out: &mut Vec<u8>,
) -> Reply {
    let targets: Vec<_> = targets
        .into_iter()
        .map(|target| PreparedTarget::new(target, answer, redirector.settings))
        .collect();
    let answer = PreparedAnswer::new(answer, redirector.settings);
    redirector.answer(invite, &answer, &targets, out)
}

/// A redirect of the plain INVITE to these targets.
fn redirect(targets: &[&'static str]) -> (Reply, String) {
    let targets = targets.to_vec();
    reply_to(
        &invite(VIA, URI),
        Transport::Udp,
        |redirector, invite, out| answer_with(redirector, invite, &callback(), targets, out),
    )
}

/// Lines of one header.
fn lines<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    text.split("\r\n")
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        .collect()
}

#[test]
fn redirect_is_written_to_the_byte() {
    let (reply, text) = redirect(&["sip:agent-1@agents.example.com", "sip:b@h;transport=tcp"]);
    let tag = text
        .split_once("To: ")
        .unwrap()
        .1
        .split_once(";tag=")
        .unwrap()
        .1;
    let tag = tag.split_once("\r\n").unwrap().0;
    assert_eq!(tag.len(), 16);
    assert_eq!(
        text,
        format!(
            "SIP/2.0 302 Moved Temporarily\r\n\
             Via: SIP/2.0/UDP 198.51.100.7:5070;branch=z9hG4bK1\r\n\
             From: \"A\" <sip:+5511987654321@carrier.example.net>;tag=a\r\n\
             To: <sip:+551130000000@gw.example.com>;tag={tag}\r\n\
             Call-ID: 1@carrier.example.net\r\n\
             CSeq: 5 INVITE\r\n\
             Contact: <sip:agent-1@agents.example.com>;q=1.0\r\n\
             Contact: <sip:b@h;transport=tcp>;q=0.9\r\n\
             X-Ringback-Outcome: callback\r\n\
             X-Ringback-Reason: returned_call\r\n\
             X-Ringback-Agent: agent-1\r\n\
             X-Ringback-Source-Agent: source-1\r\n\
             Content-Length: 0\r\n\r\n"
        )
    );
    assert_eq!(reply.status, 302);
    assert_eq!(reply.destination, "198.51.100.7:5070".parse().unwrap());
    assert_eq!(reply.refusal, None);
}

#[test]
fn decision_headers_can_be_switched_off_and_put_into_the_contact() {
    let mut answer = callback();
    answer.agent = Some("ä/?&=");
    answer.source_agent = None;
    let (_, text) = reply_by(
        &redirector(false, true),
        &invite(VIA, URI),
        Transport::Udp,
        |redirector, invite, out| {
            answer_with(
                redirector,
                invite,
                &answer,
                ["sip:b@h", "sip:c@h?Subject=x"],
                out,
            )
        },
    );
    let headers = "X-Ringback-Outcome=callback&X-Ringback-Reason=returned_call\
                   &X-Ringback-Agent=%C3%A4/?%26%3D";
    assert_eq!(
        lines(&text, "Contact"),
        [
            format!("<sip:b@h?{headers}>;q=1.0"),
            format!("<sip:c@h?Subject=x&{headers}>;q=0.9")
        ]
    );
    assert!(!text.contains("\r\nX-Ringback"));
}

#[test]
fn q_falls_strictly_along_a_list_of_any_length() {
    for count in [1, 2, 10, 11, 100, 101, 1000, 1200] {
        let (_, text) = reply_to(
            &invite(VIA, URI),
            Transport::Tcp,
            |redirector, invite, out| {
                answer_with(redirector, invite, &callback(), vec!["sip:b@h"; count], out)
            },
        );
        let q: Vec<f64> = lines(&text, "Contact")
            .iter()
            .map(|line| line.split_once(";q=").unwrap().1.parse().unwrap())
            .collect();
        assert_eq!(q.len(), count.min(1000));
        assert!(q.windows(2).all(|pair| pair[0] > pair[1]), "{q:?}");
        assert!(q.iter().all(|&q| q > 0.0 && q <= 1.0));
    }
}

#[test]
fn redirect_never_points_back() {
    let (_, text) = redirect(&["sip:+551130000000@GW.example.com", "sip:b@h"]);
    assert_eq!(lines(&text, "Contact"), ["<sip:b@h>;q=1.0"]);
    let (reply, text) = redirect(&["sip:%2B551130000000@gw.example.com;x", "sip:b@h"]);
    assert_eq!(reply.status, 302);
    assert_eq!(
        lines(&text, "Contact").len(),
        2,
        "an escaped plus is reserved"
    );
    let (reply, text) = redirect(&["sip:+55113000000%30@gw.example.com;x"]);
    assert_eq!(reply.status, 480);
    assert_eq!(
        lines(&text, "Reason"),
        ["SIP;cause=480;text=\"no_agent_available\""]
    );
    assert_eq!(lines(&text, "X-Ringback-Outcome"), ["refused"]);
    assert_eq!(lines(&text, "X-Ringback-Agent"), [""; 0]);
}

#[test]
fn transport_tls_and_broken_targets_are_never_written() {
    let bad = [
        "sip:b@h;transport=TLS",
        "sip:b@h>\r\nX: y",
        "tel:+1",
        "",
        "sip:b@",
    ];
    let (_, text) = redirect(&[&bad[..], &["sips:b@h"]].concat());
    assert_eq!(lines(&text, "Contact"), ["<sips:b@h>;q=1.0"]);
    assert_eq!(redirect(&bad).0.status, 480);
    assert_eq!(redirect(&[]).0.status, 480);
}

#[test]
fn sips_is_answered_with_sips_alone() {
    let message = invite(VIA, "sips:+551130000000@gw.example.com");
    let answer = |targets: &'static [&'static str]| {
        reply_to(&message, Transport::Tls, move |redirector, invite, out| {
            assert!(invite.is_sips());
            answer_with(
                redirector,
                invite,
                &callback(),
                targets.iter().copied(),
                out,
            )
        })
    };
    let (_, text) = answer(&["sip:b@h", "sips:b@h"]);
    assert_eq!(lines(&text, "Contact"), ["<sips:b@h>;q=1.0"]);
    let (reply, text) = answer(&["sip:b@h", "sip:c@h"]);
    assert_eq!(reply.status, 480);
    assert_eq!(
        lines(&text, "Warning"),
        ["380 ringback \"SIPS Not Allowed\""]
    );
    let (_, text) = answer(&["sips:+551130000000@gw.example.com"]);
    assert_eq!(lines(&text, "Warning"), [""; 0]);
}

#[test]
fn refusals_tell_their_reason() {
    for (reason, status, phrase) in [
        ("number_unknown", 404, "SIP/2.0 404 Not Found\r\n"),
        (
            "no_agent_available",
            480,
            "SIP/2.0 480 Temporarily Unavailable\r\n",
        ),
    ] {
        let answer = Answer {
            outcome: Answer::REFUSED,
            reason,
            agent: None,
            source_agent: None,
        };
        let (reply, text) = reply_to(
            &invite(VIA, URI),
            Transport::Udp,
            |redirector, invite, out| {
                answer_with(redirector, invite, &answer, ["sip:ignored@h"], out)
            },
        );
        assert_eq!(reply.status, status);
        assert!(text.starts_with(phrase));
        assert_eq!(
            lines(&text, "Reason"),
            [format!("SIP;cause={status};text=\"{reason}\"")]
        );
        assert_eq!(lines(&text, "Contact"), [""; 0]);
    }
}

#[test]
fn overload_is_503_with_retry_after_only_on_request() {
    for (retry_after, expected) in [(None, vec![]), (Some(10), vec!["10"])] {
        let (reply, text) = reply_to(
            &invite(VIA, URI),
            Transport::Udp,
            |redirector, invite, out| redirector.overloaded(invite, retry_after, out),
        );
        assert_eq!(reply.status, 503);
        assert_eq!(reply.refusal, Some(Refusal::Overload));
        assert_eq!(lines(&text, "Retry-After"), expected);
    }
}

#[test]
fn next_hop_gets_the_user_unchanged() {
    for (uri, hop, contact) in [
        (
            "sip:+5511%20;x=y:pw@gw.example.com;a",
            "sip:hop:5080;transport=tcp",
            "<sip:+5511%20;x=y@hop:5080;transport=tcp>",
        ),
        (
            "tel:+55-11;ext=1;isub=a:b",
            "sip:hop?X=y",
            "<sip:+55-11;ext=1;isub=a%3Ab@hop;user=phone?X=y>",
        ),
        (
            "tel:*67#1;phone-context=+55",
            "sips:hop;us%65r=phone",
            "<sips:*67%231;phone-context=+55@hop;us%65r=phone>",
        ),
        ("tel:+55-11", "sips:own@hop;x?A=b", "<sips:own@hop;x?A=b>"),
        ("sip:gw.example.com", "sip:hop", "<sip:hop>"),
    ] {
        let (_, text) = reply_to(
            &invite(VIA, uri),
            Transport::Udp,
            |redirector, invite, out| redirector.forward(invite, hop, out),
        );
        assert_eq!(lines(&text, "Contact"), [contact]);
        assert!(!text.contains("X-Ringback"));
    }
    for (uri, hop) in [
        (URI, "sip:gw.example.com"),
        (URI, "tel:+1"),
        ("sips:a@h", "sip:hop"),
    ] {
        let (reply, _) = reply_to(
            &invite(VIA, uri),
            Transport::Udp,
            |redirector, invite, out| redirector.forward(invite, hop, out),
        );
        assert_eq!(reply.status, 480, "{uri} {hop}");
    }
}

#[test]
fn replies_go_where_the_top_via_says() {
    for (via, transport, destination, written) in [
        // Sent-by is the source: nothing to add. Its port, else 5060.
        (
            "SIP/2.0/UDP 198.51.100.7:5070;branch=z9hG4bK1",
            Transport::Udp,
            "198.51.100.7:5070",
            "SIP/2.0/UDP 198.51.100.7:5070;branch=z9hG4bK1",
        ),
        (
            "SIP/2.0/UDP 198.51.100.7",
            Transport::Udp,
            "198.51.100.7:5060",
            "SIP/2.0/UDP 198.51.100.7",
        ),
        // A name or another address: received.
        (
            "SIP/2.0/UDP pbx.example.net:5071",
            Transport::Udp,
            "198.51.100.7:5071",
            "SIP/2.0/UDP pbx.example.net:5071;received=198.51.100.7",
        ),
        (
            "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK2",
            Transport::Udp,
            "198.51.100.7:5060",
            "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK2;received=198.51.100.7",
        ),
        // RFC 3581: the source port, and received always.
        (
            "SIP/2.0/UDP 10.0.0.1:5080;rport;branch=z9hG4bK3",
            Transport::Udp,
            SOURCE,
            "SIP/2.0/UDP 10.0.0.1:5080;rport=40000;branch=z9hG4bK3;received=198.51.100.7",
        ),
        (
            "SIP/2.0/UDP 198.51.100.7;RPORT",
            Transport::Udp,
            SOURCE,
            "SIP/2.0/UDP 198.51.100.7;RPORT=40000;received=198.51.100.7",
        ),
        // What the sender says about its own address does not count.
        (
            "SIP/2.0/UDP 10.0.0.1;received=192.0.2.66;rport;x=y",
            Transport::Udp,
            SOURCE,
            "SIP/2.0/UDP 10.0.0.1;rport=40000;x=y;received=198.51.100.7",
        ),
        (
            "SIP/2.0/UDP 10.0.0.1:5080;rport=9;branch=z9hG4bK4",
            Transport::Udp,
            SOURCE,
            "SIP/2.0/UDP 10.0.0.1:5080;rport=40000;branch=z9hG4bK4;received=198.51.100.7",
        ),
        (
            "SIP/2.0/UDP 198.51.100.7 ; RPort = 9 ; x = \"a;rport=1\" ; rport;received=192.0.2.66;Received=\"b\"",
            Transport::Udp,
            SOURCE,
            "SIP/2.0/UDP 198.51.100.7;RPort=40000;x = \"a;rport=1\";received=198.51.100.7",
        ),
        (
            "SIP/2.0/TCP 10.0.0.1;received=192.0.2.66;rport=1;rport=2",
            Transport::Tcp,
            SOURCE,
            "SIP/2.0/TCP 10.0.0.1;rport=40000;received=198.51.100.7",
        ),
        (
            "SIP/2.0/UDP 198.51.100.7:5070;received=192.0.2.66",
            Transport::Udp,
            "198.51.100.7:5070",
            "SIP/2.0/UDP 198.51.100.7:5070",
        ),
        // Nor does what it says about others.
        (
            "SIP/2.0/UDP 10.0.0.1:5081;maddr=192.0.2.200;rport",
            Transport::Udp,
            SOURCE,
            "SIP/2.0/UDP 10.0.0.1:5081;maddr=192.0.2.200;rport=40000;received=198.51.100.7",
        ),
        (
            "SIP/2.0/UDP 10.0.0.1;maddr=name.example.net",
            Transport::Udp,
            "198.51.100.7:5060",
            "SIP/2.0/UDP 10.0.0.1;maddr=name.example.net;received=198.51.100.7",
        ),
        // An address that is good on its own link alone, and one without brackets.
        (
            "SIP/2.0/UDP [fe80::1%eth0]:5081;branch=z9hG4bK5",
            Transport::Udp,
            "198.51.100.7:5081",
            "SIP/2.0/UDP [fe80::1%eth0]:5081;branch=z9hG4bK5;received=198.51.100.7",
        ),
        (
            "SIP/2.0/UDP 2001:db8::1;branch=z9hG4bK6",
            Transport::Udp,
            SOURCE,
            "SIP/2.0/UDP 2001:db8::1;branch=z9hG4bK6;received=198.51.100.7",
        ),
        (
            "SIP/2.0/UDP fe80::1%eth0 ;rport",
            Transport::Udp,
            SOURCE,
            "SIP/2.0/UDP fe80::1%eth0 ;rport=40000;received=198.51.100.7",
        ),
        // A stream goes back over itself.
        (
            "SIP/2.0/TCP 10.0.0.1:5081;maddr=192.0.2.200",
            Transport::Tcp,
            SOURCE,
            "SIP/2.0/TCP 10.0.0.1:5081;maddr=192.0.2.200;received=198.51.100.7",
        ),
    ] {
        let message = invite(&format!("Via: {via}\r\n"), URI);
        let (reply, text) = reply_to(&message, transport, |redirector, invite, out| {
            answer_with(redirector, invite, &callback(), ["sip:b@h"], out)
        });
        assert_eq!(reply.destination, destination.parse().unwrap(), "{via}");
        assert_eq!(lines(&text, "Via"), [written]);
    }
}

#[test]
fn a_broken_top_via_is_answered_at_the_source() {
    for (via, destination, written) in [
        // Nothing says which port.
        (
            "SIP/2.0/UDP 10.0.0.1:99999;branch=z9hG4bK1",
            SOURCE,
            "SIP/2.0/UDP 10.0.0.1:99999;branch=z9hG4bK1;received=198.51.100.7",
        ),
        (
            "SIP/2.0/UDP [fe80::1;branch=z9hG4bK1",
            SOURCE,
            "SIP/2.0/UDP [fe80::1;branch=z9hG4bK1;received=198.51.100.7",
        ),
        (
            "SIP/2.0/UDP a b;received=192.0.2.66",
            SOURCE,
            "SIP/2.0/UDP a b;received=198.51.100.7",
        ),
        // What is broken stays, but not what only we may write.
        (
            "SIP/2.0/UDP h:5081;;branch=z9hG4bK1;received=192.0.2.66;x=",
            "198.51.100.7:5081",
            "SIP/2.0/UDP h:5081;;branch=z9hG4bK1;x=;received=198.51.100.7",
        ),
        (
            "SIP/2.0/UDP h;;branch=z9hG4bK1;rport=7;rport",
            SOURCE,
            "SIP/2.0/UDP h;;branch=z9hG4bK1;rport=40000;received=198.51.100.7",
        ),
    ] {
        let message = invite(&format!("Via: {via}\r\n"), URI);
        let (reply, text) = reply_to(&message, Transport::Udp, |_, _, _| unreachable!());
        assert!(text.starts_with("SIP/2.0 400 Malformed Via\r\n"), "{via}");
        assert_eq!(reply.destination, destination.parse().unwrap(), "{via}");
        assert_eq!(lines(&text, "Via"), [written]);
    }
}

#[test]
fn maddr_is_told_apart_from_the_destination() {
    for (maddr, transport, told) in [
        ("192.0.2.200", Transport::Udp, Some("192.0.2.200:5081")),
        ("[2001:db8::2]", Transport::Udp, Some("[2001:db8::2]:5081")),
        ("2001:db8::2", Transport::Udp, Some("[2001:db8::2]:5081")),
        ("192.0.2.200", Transport::Tcp, None),
        ("name.example.net", Transport::Udp, None),
        ("224.2.0.1", Transport::Udp, None),
        ("255.255.255.255", Transport::Udp, None),
        ("0.0.0.0", Transport::Udp, None),
        ("ff02::1", Transport::Udp, None),
        ("::", Transport::Udp, None),
    ] {
        let via = format!("Via: SIP/2.0/UDP 198.51.100.7:5081;maddr={maddr}\r\n");
        let (reply, _) = reply_to(&invite(&via, URI), transport, |redirector, invite, out| {
            answer_with(redirector, invite, &callback(), ["sip:b@h"], out)
        });
        assert_eq!(
            reply.maddr,
            told.map(|address| address.parse().unwrap()),
            "{maddr}"
        );
        assert_eq!(reply.destination.ip().to_string(), "198.51.100.7");
    }
}

#[test]
fn ipv6_sources_are_written_without_brackets_and_mapped_ones_as_ipv4() {
    for (source, received) in [
        ("[2001:db8::7]:5060", "2001:db8::7"),
        ("[::ffff:203.0.113.7]:5060", "203.0.113.7"),
    ] {
        let message = invite("Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\n", URI);
        let mut out = Vec::new();
        let input = Input {
            bytes: message.as_bytes(),
            source: source.parse().unwrap(),
            transport: Transport::Udp,
            draining: false,
        };
        let redirector = redirector(true, false);
        let Action::Invite(invite) = redirector.handle(input, &mut out) else {
            panic!("an INVITE");
        };
        let reply = redirector.overloaded(&invite, None, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains(&format!(";received={received}\r\n")),
            "{text}"
        );
        assert_eq!(
            reply.destination,
            source.parse().unwrap(),
            "the socket's own form"
        );
    }
}

#[test]
fn every_via_is_copied_in_order_and_only_the_top_one_changed() {
    let vias = "Via: SIP/2.0/UDP a.example.net;rport ,\r\n  SIP/2.0/TCP b.example.net;rport\r\n\
                v: SIP/2.0/TLS c.example.net\r\n";
    let (_, text) = reply_to(
        &invite(vias, URI),
        Transport::Udp,
        |redirector, invite, out| answer_with(redirector, invite, &callback(), ["sip:b@h"], out),
    );
    assert_eq!(
        lines(&text, "Via"),
        [
            "SIP/2.0/UDP a.example.net;rport=40000;received=198.51.100.7, SIP/2.0/TCP b.example.net;rport",
            "SIP/2.0/TLS c.example.net"
        ]
    );
    assert_eq!(lines(&text, "Record-Route"), [""; 0]);
}

#[test]
fn cancel_gets_the_to_tag_of_its_invite() {
    let message = invite(VIA, URI);
    let (_, invited) = reply_to(&message, Transport::Udp, |redirector, invite, out| {
        answer_with(redirector, invite, &callback(), ["sip:b@h"], out)
    });
    let cancel = message.replace("INVITE", "CANCEL");
    let (reply, cancelled) = reply_to(&cancel, Transport::Udp, |_, _, _| unreachable!());
    assert_eq!(reply.status, 200);
    assert_eq!(lines(&invited, "To"), lines(&cancelled, "To"));
    let (_, other) = reply_to(
        &cancel.replace("z9hG4bK1", "z9hG4bK2"),
        Transport::Udp,
        |_, _, _| unreachable!(),
    );
    assert_ne!(lines(&other, "To"), lines(&cancelled, "To"));
}

#[test]
fn fingerprint_tells_requests_apart_and_not_retransmissions() {
    let fingerprint = |message: &str| {
        let input = Input {
            bytes: message.as_bytes(),
            source: SOURCE.parse().unwrap(),
            transport: Transport::Udp,
            draining: false,
        };
        match redirector(true, true).handle(input, &mut Vec::new()) {
            Action::Invite(invite) => invite.fingerprint(),
            other => panic!("{other:?}"),
        }
    };
    let message = invite(VIA, URI);
    let first = fingerprint(&message);
    assert_eq!(first, fingerprint(&message));
    assert_eq!(
        first,
        fingerprint(&message.replace("Max-Forwards: 70", "Max-Forwards: 69"))
    );
    for (from, to) in [
        ("z9hG4bK1", "z9hG4bK2"),
        ("198.51.100.7:5070", "198.51.100.7:5071"),
        ("198.51.100.7:5070", "198.51.100.8:5070"),
        ("Call-ID: 1", "Call-ID: 2"),
        ("CSeq: 5", "CSeq: 6"),
        (
            "+551130000000@gw.example.com SIP",
            "+551130000001@gw.example.com SIP",
        ),
    ] {
        assert_ne!(first, fingerprint(&message.replace(from, to)), "{from}");
    }
}

#[test]
fn options_tells_what_is_supported_and_503_while_draining() {
    let message = invite(VIA, URI).replace("INVITE", "OPTIONS");
    let (_, text) = reply_to(&message, Transport::Udp, |_, _, _| unreachable!());
    assert_eq!(lines(&text, "Allow"), ["INVITE, ACK, CANCEL, OPTIONS"]);
    assert_eq!(lines(&text, "Accept").len(), 1);
    assert_eq!(lines(&text, "Supported").len(), 1);
    let mut out = Vec::new();
    let input = |bytes| Input {
        bytes,
        source: SOURCE.parse().unwrap(),
        transport: Transport::Udp,
        draining: true,
    };
    let redirector = redirector(true, true);
    assert!(matches!(
        redirector.handle(input(message.as_bytes()), &mut out),
        Action::Reply(Reply {
            status: 503,
            refusal: Some(Refusal::Draining),
            ..
        })
    ));
    // Calls are served until the end.
    let message = invite(VIA, URI);
    assert!(matches!(
        redirector.handle(input(message.as_bytes()), &mut out),
        Action::Invite(_)
    ));
}

#[test]
fn refused_methods_and_extensions_are_named() {
    let message = invite(VIA, URI);
    let (_, text) = reply_to(
        &message.replace("INVITE", "BYE"),
        Transport::Udp,
        |_, _, _| unreachable!(),
    );
    assert_eq!(lines(&text, "Allow").len(), 1);
    let (_, text) = reply_to(
        &message.replace("INVITE", "X"),
        Transport::Udp,
        |_, _, _| unreachable!(),
    );
    assert_eq!(lines(&text, "Allow").len(), 1);
    let message = message.replace(
        "Max-",
        "Proxy-Require: d\r\nRequire: a,\r\n b\r\nRequire: c\r\nMax-",
    );
    let (reply, text) = reply_to(
        &message.replace("INVITE", "OPTIONS"),
        Transport::Udp,
        |_, _, _| unreachable!(),
    );
    assert_eq!(reply.refusal, Some(Refusal::Extension));
    assert_eq!(lines(&text, "Unsupported"), ["a, b, c, d"]);
    // RFC 3261 §8.3: a redirect server goes on without.
    let (reply, text) = reply_to(&message, Transport::Udp, |redirector, invite, out| {
        answer_with(redirector, invite, &callback(), ["sip:b@h"], out)
    });
    assert_eq!(reply.status, 302);
    assert_eq!(lines(&text, "Unsupported"), [""; 0]);
}

#[test]
fn causes_are_told_for_the_counters() {
    let handle = |message: &str| {
        let input = Input {
            bytes: message.as_bytes(),
            source: SOURCE.parse().unwrap(),
            transport: Transport::Udp,
            draining: false,
        };
        format!(
            "{:?}",
            redirector(true, true).handle(input, &mut Vec::new())
        )
    };
    for (message, cause) in [
        ("\r\n\r\n".to_owned(), DropCause::KeepAlive),
        ("x".to_owned(), DropCause::NoVia),
        (invite("", URI), DropCause::NoVia),
        (
            invite("", URI).replace("INVITE", "ACK"),
            DropCause::MalformedAck,
        ),
        (
            "SIP/2.0 200 OK\r\n\r\n".to_owned(),
            DropCause::MalformedResponse,
        ),
    ] {
        assert_eq!(handle(&message), format!("Drop({cause:?})"));
    }
    let (reply, _) = reply_to(
        &invite(VIA, "sip:"),
        Transport::Udp,
        |_, _, _| unreachable!(),
    );
    assert_eq!(reply.refusal, Some(Refusal::Malformed(Defect::RequestUri)));
}

/// An INVITE of so many bytes, most of them in the header of this name.
fn long_invite(name: &str, length: usize) -> String {
    let with = |padding: usize| {
        let padding = "y".repeat(padding);
        let message = invite(VIA, URI).replace("Record-Route: <sip:edge.example.net;lr>\r\n", "");
        match name {
            "Via" => message.replace("z9hG4bK1", &format!("z9hG4bK1{padding}")),
            "lower Via" => {
                let below = format!("Via: SIP/2.0/UDP b;branch=z9hG4bK2{padding}\r\nFrom:");
                message.replacen("From:", &below, 1)
            }
            "From" => message.replace("\"A\"", &format!("\"A{padding}\"")),
            "To" => message.replace("To: <", &format!("To: \"B{padding}\" <")),
            "Call-ID" => message.replace("Call-ID: 1", &format!("Call-ID: 1{padding}")),
            other => panic!("no such header: {other}"),
        }
    };
    let message = with(length - with(0).len());
    assert_eq!(message.len(), length);
    message
}

#[test]
fn a_long_request_is_redirected_as_long_as_its_reply_fits() {
    for name in ["Via", "lower Via", "From", "To", "Call-ID"] {
        for (transport, limit) in [(Transport::Udp, 65_507), (Transport::Tcp, 65_536)] {
            for length in [50_000, 60_000, 64_000] {
                let message = long_invite(name, length);
                let (reply, text) = reply_to(&message, transport, |redirector, invite, out| {
                    answer_with(redirector, invite, &callback(), ["sip:b@h", "sip:c@h"], out)
                });
                assert_eq!(reply.status, 302, "{name} {length}");
                assert_eq!(lines(&text, "Contact").len(), 2, "{name} {length}");
                assert!(text.len() <= limit);
            }
            // The best target that fits, rather than none.
            let long = format!("sip:{}@h", "a".repeat(900));
            let (reply, text) = reply_to(
                &long_invite(name, 65_000),
                transport,
                |redirector, invite, out| {
                    answer_with(redirector, invite, &callback(), [&*long, "sip:c@h"], out)
                },
            );
            assert_eq!(reply.status, 302, "{name}");
            assert_eq!(lines(&text, "Contact"), ["<sip:c@h>;q=0.9"], "{name}");
        }
    }
}

#[test]
fn a_request_whose_reply_does_not_fit_gets_a_short_one() {
    for name in ["Via", "lower Via", "From", "To", "Call-ID"] {
        for (transport, limit) in [(Transport::Udp, 65_507), (Transport::Tcp, 65_536)] {
            let message = long_invite(name, 65_500);
            let answer = |message: &str| {
                reply_to(message, transport, |redirector, invite, out| {
                    answer_with(redirector, invite, &callback(), ["sip:b@h"], out)
                })
            };
            let (reply, text) = answer(&message);
            assert_eq!(reply.status, 513, "{name}");
            assert_eq!(reply.refusal, Some(Refusal::TooLarge));
            assert!(text.len() <= limit, "{name}: {}", text.len());
            assert!(
                text.starts_with("SIP/2.0 513 Message Too Large\r\nv:SIP/2.0/UDP 198.51.100.7")
            );
            assert!(text.ends_with("\r\nCSeq:5 INVITE\r\nl:0\r\n\r\n"));
            assert!(text.contains("\r\ni:1") && text.contains(";tag=a\r\n"));
            // The To tag is that of any other reply.
            let tag = text
                .split_once("\r\ni:")
                .unwrap()
                .0
                .rsplit_once(";tag=")
                .unwrap()
                .1;
            assert_eq!(tag.len(), 16);
            assert_eq!(answer(&message).1, text);
            // The other answers, too.
            let hop = format!("sip:{}.example.com", "h".repeat(60));
            let (reply, _) = reply_to(&message, transport, |redirector, invite, out| {
                redirector.forward(invite, &hop, out)
            });
            assert_eq!(reply.status, 513, "{name}");
        }
    }
}

#[test]
fn a_reply_names_the_top_via_alone_where_others_leave_no_room() {
    let vias = "v:\r\nv:x\r\n".repeat(10);
    let message = long_invite("Call-ID", 65_380).replacen("Max-", &format!("{vias}Max-"), 1);
    let (reply, text) = reply_to(&message, Transport::Udp, |redirector, invite, out| {
        answer_with(redirector, invite, &callback(), ["sip:b@h"], out)
    });
    assert_eq!(reply.status, 513);
    assert!(text.len() <= 65_507, "{}", text.len());
}

#[test]
fn contacts_over_udp_are_bounded() {
    let long = format!("sip:{}@h", "a".repeat(900));
    for (transport, count) in [(Transport::Udp, 9), (Transport::Tcp, 32)] {
        let (_, text) = reply_to(&invite(VIA, URI), transport, |redirector, invite, out| {
            answer_with(redirector, invite, &callback(), vec![&*long; 32], out)
        });
        assert_eq!(lines(&text, "Contact").len(), count);
    }
}

#[test]
fn reply_that_no_datagram_holds_is_dropped() {
    // With the shortest names, so that none of the reply is shorter.
    let bye = |padding: usize| {
        let padding = "y".repeat(padding);
        format!(
            "BYE sip:a SIP/2.0\r\nv:SIP/2.0/UDP h\r\nf:sip:a\r\nt:sip:b\r\ni:{padding}\r\n\
             CSeq:1 BYE\r\nl:0\r\n\r\n"
        )
    };
    let message = bye(65_500 - bye(0).len());
    assert_eq!(message.len(), 65_500);
    let input = |transport| Input {
        bytes: message.as_bytes(),
        source: SOURCE.parse().unwrap(),
        transport,
        draining: false,
    };
    let mut out = Vec::new();
    let action = redirector(true, true).handle(input(Transport::Udp), &mut out);
    assert!(matches!(action, Action::Drop(DropCause::ReplyTooLarge)));
    assert!(out.is_empty());
    let action = redirector(true, true).handle(input(Transport::Tcp), &mut out);
    assert!(matches!(action, Action::Reply(_)));
}
