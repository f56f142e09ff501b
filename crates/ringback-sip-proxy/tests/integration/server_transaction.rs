//! The server transaction of an INVITE: RFC 3261 §17.2.1 and §17.2.3, RFC 6026 §7.1.

use ringback_sip_proto::Transport;
use ringback_sip_proxy::Taken;

use crate::support::{Bench, request};

#[test]
fn an_invite_gets_100_at_once() {
    let mut bench = Bench::new(1);
    bench.call();
    let trying = &bench.sent[0];
    assert_eq!(trying.what(), "100");
    assert_eq!(
        trying.header("Via"),
        "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKcaller;rport=5060;received=192.0.2.1"
    );
    assert_eq!(
        trying.header("To"),
        "<sip:+551130000000@us.example>",
        "no tag: it is not our call"
    );
    assert_eq!(bench.short(), ["up 100", "T1 INVITE"]);
}

#[test]
fn a_retransmitted_invite_gets_the_latest_provisional_reply() {
    let mut bench = Bench::new(1);
    bench.call();
    let invite = bench.take("INVITE");
    bench.sent.clear();
    assert_eq!(bench.request(&request("INVITE")), Taken::Retransmission);
    assert_eq!(bench.short(), ["up 100"]);
    bench.reply(&invite, "183 Session Progress");
    let before = bench.take("183").text;
    assert_eq!(bench.request(&request("INVITE")), Taken::Retransmission);
    assert_eq!(bench.take("183").text, before);
    assert!(bench.sent.is_empty(), "the target gets it once");
}

#[test]
fn a_retransmitted_invite_gets_the_same_final_reply() {
    let mut bench = Bench::new(1);
    let invite = bench.ringing();
    bench.reply(&invite, "486 Busy Here");
    let before = bench.take("486").text;
    bench.sent.clear();
    assert_eq!(bench.request(&request("INVITE")), Taken::Retransmission);
    assert_eq!(bench.take("486").text, before);
}

// Timers G and H.
#[test]
fn a_final_reply_is_sent_again_until_nobody_is_expected_to_acknowledge_it() {
    let mut bench = Bench::new(1);
    let invite = bench.ringing();
    bench.reply(&invite, "486 Busy Here");
    bench.wait(70_000);
    let replies: Vec<String> = bench
        .log()
        .into_iter()
        .filter(|line| line.contains(" up "))
        .collect();
    let expected = [
        0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
    ];
    assert_eq!(replies, expected.map(|at| format!("{at} up 486")));
    bench.ends();
}

#[test]
fn an_ack_ends_the_retransmissions_and_is_not_sent_on() {
    let mut bench = Bench::new(1);
    let invite = bench.ringing();
    bench.reply(&invite, "486 Busy Here");
    bench.sent.clear();
    assert_eq!(bench.request(&request("ACK")), Taken::Ack);
    bench.wait(4_000);
    assert_eq!(
        bench.request(&request("ACK")),
        Taken::Ack,
        "Timer I absorbs more of them"
    );
    assert_eq!(
        bench.request(&request("INVITE")),
        Taken::Retransmission,
        "and INVITEs"
    );
    assert!(bench.sent.is_empty());
    bench.ends();
}

#[test]
fn over_a_stream_a_final_reply_is_sent_once() {
    let mut bench = Bench::new(1).over(Transport::Tcp, Transport::Udp);
    let invite = bench.ringing();
    bench.reply(&invite, "486 Busy Here");
    bench.sent.clear();
    bench.wait(31_900);
    assert!(bench.sent.is_empty());
    assert_eq!(bench.request(&request("ACK")), Taken::Ack);
    bench.ends();
}

// RFC 6026 §7.1, Timer L.
#[test]
fn after_a_2xx_invites_are_absorbed_and_the_ack_is_not_ours() {
    let mut bench = Bench::new(1);
    let invite = bench.ringing();
    bench.reply(&invite, "200 OK");
    assert_eq!(bench.short(), ["up 200"]);
    assert_eq!(bench.request(&request("INVITE")), Taken::Retransmission);
    assert_eq!(bench.request(&request("ACK")), Taken::No);
    bench.wait(31_900);
    assert_eq!(bench.request(&request("INVITE")), Taken::Retransmission);
    assert!(bench.sent.is_empty(), "the target repeats its 2xx, not we");
    bench.wait(200);
    assert_eq!(bench.request(&request("INVITE")), Taken::No);
    bench.ends();
}

#[test]
fn a_transaction_is_matched_by_branch_sent_by_and_method() {
    let mut bench = Bench::new(1);
    bench.ringing();
    let invite = request("INVITE");
    for (other, expected) in [
        (invite.replace("z9hG4bKcaller", "Z9HG4BKcaller"), Taken::No),
        (invite.replace("z9hG4bKcaller", "z9hG4bKanother"), Taken::No),
        (
            invite.replace("UDP 192.0.2.1:5060", "UDP 192.0.2.2:5060"),
            Taken::No,
        ),
        (
            invite.replace("UDP 192.0.2.1:5060", "UDP 192.0.2.1:5070"),
            Taken::No,
        ),
        // What else is in it does not matter.
        (
            invite.replace("Call-ID: call", "Call-ID: other"),
            Taken::Retransmission,
        ),
        (request("OPTIONS"), Taken::No),
        (request("BYE"), Taken::No),
    ] {
        assert_eq!(bench.request(&other), expected, "{other}");
    }
    let named = request("INVITE").replace("UDP 192.0.2.1:5060", "UDP Caller.example");
    bench.begin(&named);
    let lower = named.replace("Caller.example", "caller.EXAMPLE");
    assert_eq!(
        bench.request(&lower),
        Taken::Retransmission,
        "a name is the same in any case"
    );
}

// RFC 3261 §17.2.3, for clients of RFC 2543.
#[test]
fn without_the_cookie_a_transaction_is_matched_by_all_that_identifies_it() {
    for branch in [";branch=1", "", ";branch=z9hG4bK"] {
        let old = |method: &str| request(method).replace(";branch=z9hG4bKcaller", branch);
        let mut bench = Bench::new(1);
        bench.begin(&old("INVITE"));
        let invite = bench.take("INVITE");
        assert_eq!(bench.request(&old("INVITE")), Taken::Retransmission);
        let other = old("INVITE").replace("CSeq: 7", "CSeq: 8");
        assert_eq!(bench.request(&other), Taken::No);
        bench.reply(&invite, "404 Not Found");
        assert_eq!(bench.request(&old("ACK")), Taken::Ack);
    }
}

#[test]
fn a_reply_goes_where_the_callers_via_says() {
    for (via, address) in [
        (
            "192.0.2.1:5060;branch=z9hG4bKcaller;rport",
            "192.0.2.1:9999",
        ),
        ("192.0.2.1:5070;branch=z9hG4bKcaller", "192.0.2.1:5070"),
        ("caller.example;branch=z9hG4bKcaller", "192.0.2.1:5060"),
    ] {
        let mut bench = Bench::new(1);
        bench.origin.address.set_port(9_999);
        let invite = request("INVITE").replace("192.0.2.1:5060;branch=z9hG4bKcaller;rport", via);
        bench.begin(&invite);
        let forwarded = bench.take("INVITE");
        bench.reply(&forwarded, "200 OK");
        for status in ["100", "200"] {
            assert_eq!(
                bench.take(status).address,
                address.parse().unwrap(),
                "{via}"
            );
        }
    }
}
