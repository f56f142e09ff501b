//! What a forwarded INVITE looks like: RFC 3261 §16.6, and loops: RFC 5393 §4.2.

use std::sync::Arc;

use ringback_sip_proto::Transport;
use ringback_sip_proxy::Keys;

use crate::support::{Bench, request, with_request};

/// The INVITE that the target gets for this one.
fn forwarded(bench: &mut Bench, invite: &str) -> String {
    bench.begin(invite);
    bench.take("INVITE").text
}

#[test]
fn all_but_what_must_change_is_kept_byte_for_byte() {
    let mut bench = Bench::new(1);
    let invite = "\r\nINVITE sip:+551130000000@us.example;user=phone SIP/2.0\r\n\
        sUbJect :  a,\r\n\t b \r\n\
        v: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKa , SIP/2.0/TCP x;branch=z9hG4bKb\r\n\
        Via: SIP/2.0/UDP\ty;hidden\r\n\
        f: \"C\" <sip:c@h>;tag=1\r\n\
        t: sip:b@h\r\n\
        i: 1\r\n\
        Record-Route: <sip:other;lr>\r\n\
        MAX-FORWARDS:  20\r\n\
        CSeq: 0001   INVITE\r\n\
        Identity: \u{e9}\r\n\
        m: <sip:c@10.1.1.1>\r\n\
        Content-Length : 6\r\n\r\nv=0\n\r\nbeyond";
    let text = forwarded(&mut bench, invite);
    let (ours, rest) = text.split_once("rport\r\n").unwrap();
    assert!(ours.starts_with(
        "INVITE sip:agent1@t1.example SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.5:5060;branch=z9hG4bKf0003"
    ));
    assert_eq!(
        rest,
        "sUbJect :  a,\r\n\t b \r\n\
        Via: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKa;received=192.0.2.1, SIP/2.0/TCP x;branch=z9hG4bKb\r\n\
        Via: SIP/2.0/UDP\ty;hidden\r\n\
        f: \"C\" <sip:c@h>;tag=1\r\n\
        t: sip:b@h\r\n\
        i: 1\r\n\
        Record-Route: <sip:other;lr>\r\n\
        Max-Forwards: 19\r\n\
        CSeq: 0001   INVITE\r\n\
        Identity: \u{e9}\r\n\
        m: <sip:c@10.1.1.1>\r\n\
        Content-Length : 6\r\n\
        X-Ringback-Outcome: callback\r\n\r\nv=0\n\r\n"
    );
}

// §16.6 step 3.
#[test]
fn max_forwards_is_one_less_or_70_where_there_is_none() {
    for (line, expected) in [
        ("Max-Forwards: 70\r\n", "Max-Forwards: 69\r\n"),
        ("Max-Forwards: 1\r\n", "Max-Forwards: 0\r\n"),
        ("Max-Forwards: 255\r\n", "Max-Forwards: 254\r\n"),
        ("", "Max-Forwards: 70\r\n"),
    ] {
        let mut bench = Bench::new(1);
        let invite = request("INVITE").replace("Max-Forwards: 70\r\n", line);
        let text = forwarded(&mut bench, &invite);
        assert!(text.contains(expected), "{text}");
        assert_eq!(text.matches("Max-Forwards").count(), 1);
    }
}

// §16.6 step 4.
#[test]
fn record_route_comes_first() {
    let mut bench = Bench::new(1);
    bench.plan.targets[0].record_route = Arc::from(*b"Record-Route: <sip:us;lr>\r\n");
    let other = "Record-Route: <sip:other;lr>\r\n";
    let invite = request("INVITE").replace("From:", &format!("{other}From:"));
    let text = forwarded(&mut bench, &invite);
    let ours = text.find("Record-Route: <sip:us;lr>").unwrap();
    assert!(ours < text.find(other).unwrap());
}

#[test]
fn a_caller_does_not_choose_the_way_of_a_new_call() {
    let mut bench = Bench::new(1);
    let routes = "Route: <sip:evil.example;lr>\r\nroute : <sip:other;lr>,\r\n <sip:third;lr>\r\n";
    let invite = request("INVITE").replace("From:", &format!("{routes}From:"));
    let text = forwarded(&mut bench, &invite);
    assert!(!text.to_lowercase().contains("route"), "{text}");
}

#[test]
fn what_only_we_say_is_taken_off_unless_the_sender_is_trusted() {
    let theirs = "x-ringback-OUTCOME: default\r\nX-Ringback-Other: 1,\r\n 2\r\nX-Ringback: 3\r\n";
    let invite = request("INVITE").replace("From:", &format!("{theirs}From:"));
    let mut bench = Bench::new(1);
    let text = forwarded(&mut bench, &invite);
    assert!(
        !text.contains("default") && !text.contains("Other"),
        "{text}"
    );
    assert!(text.contains("X-Ringback: 3\r\n"), "another name");
    let mut bench = Bench::new(1);
    bench.plan.is_trusted = true;
    let text = forwarded(&mut bench, &invite);
    assert!(text.contains("X-Ringback-Other: 1,\r\n 2\r\n"), "{text}");
    assert!(
        !text.contains("default"),
        "the decision replaces equal names"
    );
    assert_eq!(text.matches("X-Ringback-Outcome: callback\r\n").count(), 1);
}

#[test]
fn an_asserted_identity_goes_only_to_whom_is_trusted_with_it() {
    let identity = "P-Asserted-Identity: <sip:a@h>,\r\n <tel:+1>\r\n";
    let invite = request("INVITE").replace("From:", &format!("{identity}From:"));
    for keeps in [false, true] {
        let mut bench = Bench::new(1);
        bench.plan.targets[0].keeps_identity = keeps;
        assert_eq!(forwarded(&mut bench, &invite).contains(identity), keeps);
    }
}

// §16.6 step 9, §20.14.
#[test]
fn on_a_stream_there_is_a_content_length() {
    let invite = request("INVITE").replace("Content-Length: 0\r\n\r\n", "\r\nbody");
    let text = forwarded(&mut Bench::new(1), &invite);
    assert!(!text.contains("Content-Length"));
    let mut bench = Bench::new(1).over(Transport::Udp, Transport::Tls);
    let text = forwarded(&mut bench, &invite);
    assert!(text.contains("Via: SIP/2.0/TLS 203.0.113.5:5060;"));
    assert!(text.ends_with("Content-Length: 4\r\n\r\nbody"));
}

#[test]
fn each_target_gets_the_invite_as_it_came_first() {
    let mut bench = Bench::new(2);
    bench.call();
    let first = bench.take("INVITE");
    bench.reply(&first, "503 Busy");
    let second = bench.take("INVITE");
    let rest = |text: &str| text.split_once("rport\r\n").unwrap().1.to_owned();
    assert_eq!(rest(&first.text), rest(&second.text));
    assert!(
        second
            .text
            .starts_with("INVITE sip:agent2@t2.example SIP/2.0\r\n")
    );
}

#[test]
fn a_request_that_comes_back_unchanged_is_a_loop_and_a_spiral_is_none() {
    let mut bench = Bench::new(1);
    bench.call();
    let ours = bench.take("INVITE").header("Via").to_owned();
    let back = request("INVITE").replace(
        "Via:",
        &format!("Via: SIP/2.0/UDP other\r\nVia: {ours}\r\nVia:"),
    );
    let is_loop = |text: &str, numbers: &[u8], port: u16| {
        with_request(text, bench.origin, |arrived| {
            let is_own =
                |host: &[u8], found: Option<u16>| host == b"203.0.113.5" && found == Some(port);
            Keys::new([7; 16]).is_loop(arrived.message, arrived.request, numbers, is_own)
        })
    };
    assert!(is_loop(&back, b"1 2", 5_060));
    assert!(!is_loop(&back, b"1 3", 5_060), "another number");
    assert!(!is_loop(&back, b"1 2", 5_070), "another node of ours");
    assert!(
        !is_loop(&request("INVITE"), b"1 2", 5_060),
        "never been here"
    );
    for (from, to) in [
        (
            "sip:+551130000000@us.example SIP",
            "sip:+551130000001@us.example SIP",
        ),
        ("tag=a", "tag=b"),
        ("Call-ID: call", "Call-ID: other"),
        ("CSeq: 7", "CSeq: 8"),
    ] {
        let spiral = back.replace(from, to);
        assert_ne!(spiral, back);
        assert!(!is_loop(&spiral, b"1 2", 5_060), "{to}");
    }
    let forged = back.replace(
        &ours[ours.len() - 30..ours.len() - 6],
        "0000000000000000000000aa",
    );
    assert_ne!(forged, back);
    assert!(!is_loop(&forged, b"1 2", 5_060), "the hash is keyed");
}
