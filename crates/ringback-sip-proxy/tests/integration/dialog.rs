//! Requests in a dialog that we stay in the path of: RFC 3261 §16.4 to §16.6, §16.11 and §16.12.

use ringback_sip_proto::check::{Role, Verdict, check};
use ringback_sip_proto::message::Framing;
use ringback_sip_proto::{Message, Origin, Transport};
use ringback_sip_proxy::{Hop, InDialog, Keys, Trust};

use crate::support::{US, request, with_request};

/// Makes the hashes of all tests.
fn keys() -> Keys {
    Keys::new([7; 16])
}

/// The value of our Record-Route for the usual call.
fn our_route() -> String {
    let mut line = Vec::new();
    with_request(&request("INVITE"), origin(), |arrived| {
        keys().write_record_route(arrived.request, (Transport::Udp, US), &mut line);
    });
    let line = String::from_utf8(line).unwrap();
    line.strip_prefix("Record-Route: ")
        .unwrap()
        .trim_end()
        .to_owned()
}

fn origin() -> Origin {
    Origin {
        address: "192.0.2.1:5070".parse().unwrap(),
        transport: Transport::Udp,
    }
}

/// A request of the caller in the usual call, with these Route lines.
fn in_dialog(method: &str, routes: &str) -> String {
    request(method)
        .replace(
            "sip:+551130000000@us.example SIP",
            "sip:agent@10.9.9.9:5080 SIP",
        )
        .replace("us.example>\r\nCall", "us.example>;tag=b\r\nCall")
        .replace("From:", &format!("{routes}From:"))
}

/// Where a request goes, and what it looks like then.
fn forwarded(text: &str, trust: Trust) -> Option<(String, String)> {
    let message = Message::parse(text.as_bytes(), Framing::Datagram).unwrap();
    let Verdict::Route(request) = check(&message, Role::Proxy) else {
        panic!("{text}");
    };
    let way: InDialog<'_> = keys().in_dialog(&message, &request)?;
    let hop = Hop {
        transport: Transport::Udp,
        address: "10.9.9.9:5080".parse().unwrap(),
        sent_by: US.into(),
        socket: 0,
    };
    let mut out = Vec::new();
    keys().write_in_dialog(&message, origin(), &way, &hop, trust, &mut out);
    let next = String::from_utf8(way.next.to_vec()).unwrap();
    Some((next, String::from_utf8(out).unwrap()))
}

/// The Route lines of a message.
fn routes(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| line.starts_with("Route"))
        .collect()
}

#[test]
fn a_request_with_our_route_goes_where_the_request_uri_says() {
    let route = our_route();
    for method in [
        "BYE", "ACK", "INVITE", "UPDATE", "PRACK", "INFO", "CANCEL", "REFER",
    ] {
        let text = in_dialog(method, &format!("Route: {route}\r\n"));
        let (next, out) = forwarded(&text, Trust::default()).unwrap();
        assert_eq!(next, "sip:agent@10.9.9.9:5080");
        assert!(
            out.starts_with(&format!("{method} sip:agent@10.9.9.9:5080 SIP/2.0\r\n")),
            "{out}"
        );
        assert!(routes(&out).is_empty(), "{out}");
        assert!(out.contains("Max-Forwards: 69\r\n"));
        assert!(
            out.contains("branch=z9hG4bKcaller;rport=5070;received=192.0.2.1\r\n"),
            "{out}"
        );
    }
}

#[test]
fn both_parties_of_a_call_may_use_our_route_and_nobody_else() {
    let route = format!("Route: {}\r\n", our_route());
    let callers = in_dialog("BYE", &route);
    assert!(forwarded(&callers, Trust::default()).is_some());
    let callees = callers
        .replace("tag=a", "tag=x")
        .replace("tag=b", "tag=a")
        .replace("tag=x", "tag=b");
    assert!(forwarded(&callees, Trust::default()).is_some());
    for (what, other) in [
        (
            "another call",
            callers.replace("Call-ID: call", "Call-ID: other"),
        ),
        ("another caller", callers.replace("tag=a", "tag=c")),
        ("no To tag", callers.replace(";tag=b", "")),
        ("no Route", in_dialog("BYE", "")),
        (
            "another token",
            callers.replace("Route: <sip:", "Route: <sip:0"),
        ),
        (
            "not at the top",
            in_dialog("BYE", &format!("Route: <sip:other;lr>\r\n{route}")),
        ),
        (
            "a broken one",
            in_dialog("BYE", &format!("{route}Route: sip:other\r\n")),
        ),
    ] {
        assert!(forwarded(&other, Trust::default()).is_none(), "{what}");
    }
}

#[test]
fn further_routes_decide_the_way_and_stay() {
    let route = our_route();
    let second = "Route: <sip:p3;lr>,\r\n <sip:p4;lr>\r\n";
    for first in [
        format!("Route: {route}, <sip:p2.example;lr;x=\"a,b\">\r\n"),
        format!("Route: {route}\r\nRoute: <sip:p2.example;lr;x=\"a,b\">\r\n"),
        format!("Route: {route},{route}, <sip:p2.example;lr;x=\"a,b\">\r\n"),
    ] {
        let text = in_dialog("BYE", &format!("{first}{second}"));
        let (next, out) = forwarded(&text, Trust::default()).unwrap();
        assert_eq!(next, "sip:p2.example;lr;x=\"a,b\"");
        assert!(
            out.contains("Route: <sip:p2.example;lr;x=\"a,b\">\r\n"),
            "{out}"
        );
        assert!(out.contains(second), "{out}");
        assert!(out.starts_with("BYE sip:agent@10.9.9.9:5080 SIP/2.0\r\n"));
    }
}

// §16.4.
#[test]
fn a_request_uri_that_is_ours_is_put_right_first() {
    let ours = our_route();
    let ours = ours.trim_matches(['<', '>']);
    let text = in_dialog("BYE", "Route: <sip:p2;lr>, <sip:agent@10.9.9.9>\r\n")
        .replace("sip:agent@10.9.9.9:5080 SIP", &format!("{ours} SIP"));
    let (next, out) = forwarded(&text, Trust::default()).unwrap();
    assert_eq!(next, "sip:p2;lr");
    assert!(
        out.starts_with("BYE sip:agent@10.9.9.9 SIP/2.0\r\n"),
        "{out}"
    );
    assert_eq!(routes(&out), ["Route: <sip:p2;lr>"]);
}

// §16.6 step 6.
#[test]
fn a_strict_router_gets_its_own_uri_and_the_rest_behind() {
    let text = in_dialog(
        "BYE",
        &format!("Route: {}, <sip:strict>, <sip:p3;lr>\r\n", our_route()),
    );
    let (next, out) = forwarded(&text, Trust::default()).unwrap();
    assert_eq!(next, "sip:strict");
    assert!(out.starts_with("BYE sip:strict SIP/2.0\r\n"), "{out}");
    assert_eq!(
        routes(&out),
        ["Route: <sip:p3;lr>", "Route: <sip:agent@10.9.9.9:5080>"]
    );
}

#[test]
fn what_only_we_say_and_who_somebody_is_is_kept_from_others() {
    let more = format!(
        "Route: {}\r\nX-Ringback-Outcome: x\r\nP-Asserted-Identity: <sip:a@h>\r\n",
        our_route()
    );
    let text = in_dialog("INFO", &more);
    let (_, out) = forwarded(&text, Trust::default()).unwrap();
    assert!(
        !out.contains("X-Ringback") && !out.contains("Asserted"),
        "{out}"
    );
    let trust = Trust {
        is_sender_trusted: true,
        keeps_identity: true,
    };
    let (_, out) = forwarded(&text, trust).unwrap();
    assert!(
        out.contains("X-Ringback") && out.contains("Asserted"),
        "{out}"
    );
}

// §16.11.
#[test]
fn a_retransmission_its_cancel_and_its_ack_get_the_same_branch() {
    let route = format!("Route: {}\r\n", our_route());
    let branch = |text: &str| {
        let (_, out) = forwarded(text, Trust::default()).unwrap();
        let start = out.find("branch=").unwrap();
        out[start..].split(';').next().unwrap().to_owned()
    };
    let invite = in_dialog("INVITE", &route);
    assert_eq!(branch(&invite), branch(&invite));
    for method in ["CANCEL", "ACK"] {
        assert_eq!(
            branch(&invite),
            branch(&in_dialog(method, &route)),
            "{method}"
        );
    }
    for other in [
        invite.replace("CSeq: 7", "CSeq: 8"),
        invite.replace("z9hG4bKcaller", "z9hG4bKother"),
        invite.replace("UDP 192.0.2.1:5060", "UDP 192.0.2.1:5061"),
    ] {
        assert_ne!(branch(&invite), branch(&other), "{other}");
    }
}

#[test]
fn a_reply_goes_back_to_whom_we_had_the_request_from_and_no_other_does() {
    let text = in_dialog("BYE", &format!("Route: {}\r\n", our_route()));
    let (_, out) = forwarded(&text, Trust::default()).unwrap();
    let mut reply = "SIP/2.0 200 OK\r\n".to_owned();
    for line in out.lines().take_while(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap();
        if ["Via", "From", "To", "Call-ID", "CSeq"].contains(&name) {
            reply += &format!("{line}\r\n");
        }
    }
    reply += "Content-Length: 0\r\n\r\n";
    let back = |text: &str| {
        let message = Message::parse(text.as_bytes(), Framing::Datagram).unwrap();
        assert!(Keys::is_stateless(&message));
        let mut out = Vec::new();
        let to = keys().write_stateless_reply(&message, &mut out)?;
        Some((to.address.to_string(), String::from_utf8(out).unwrap()))
    };
    let (to, up) = back(&reply).unwrap();
    assert_eq!(to, "192.0.2.1:5070");
    assert_eq!(up.matches("Via:").count(), 1);
    // Written in another way, but the same.
    let spelled = reply.replace("Via: SIP/2.0/UDP 192", "v:  SIP/2.0/udp  192");
    assert!(back(&spelled).is_some());
    for (from, to) in [
        ("received=192.0.2.1", "received=192.0.2.66"),
        ("rport=5070", "rport=5071"),
        ("z9hG4bKcaller", "z9hG4bKother"),
        ("Call-ID: call", "Call-ID: other"),
        ("CSeq: 7", "CSeq: 8"),
    ] {
        let forged = reply.replace(from, to);
        assert_ne!(forged, reply);
        assert!(back(&forged).is_none(), "{to}");
    }
}
