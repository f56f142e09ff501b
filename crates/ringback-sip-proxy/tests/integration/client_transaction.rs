//! The client transaction of an INVITE: RFC 3261 §17.1.1, RFC 6026 §7.2, and what `reply-timeout` makes of it.

use std::time::Duration;

use ringback_sip_proto::Transport;
use ringback_sip_proxy::{Cause, Event, Settings};

use crate::support::{Bench, reply_to, request};

// Timer A, until the reply timeout.
#[test]
fn over_udp_an_invite_is_sent_again_after_twice_as_long_each_time() {
    let mut bench = Bench::new(1);
    bench.call();
    let first = bench.take("INVITE").text;
    bench.wait(3_900);
    let again: Vec<&str> = bench.sent.iter().skip(1).map(|sent| &*sent.text).collect();
    assert_eq!(again, [&*first; 3], "byte for byte");
    assert_eq!(
        bench.log(),
        [
            "0 up 100",
            "500 T1 INVITE",
            "1500 T1 INVITE",
            "3500 T1 INVITE"
        ]
    );
}

#[test]
fn over_a_stream_an_invite_is_sent_once() {
    for transport in [Transport::Tcp, Transport::Tls] {
        let mut bench = Bench::new(1).over(Transport::Udp, transport);
        bench.call();
        bench.wait(3_900);
        assert_eq!(bench.short(), ["up 100", "T1 INVITE"]);
    }
}

#[test]
fn a_provisional_reply_ends_the_retransmissions() {
    for status in ["100 Trying", "183 Session Progress"] {
        let mut bench = Bench::new(1);
        bench.call();
        let invite = bench.take("INVITE");
        bench.sent.clear();
        bench.reply(&invite, status);
        bench.sent.clear();
        bench.wait(100_000);
        assert!(bench.sent.is_empty());
    }
}

// Timer B, where the reply timeout is longer.
#[test]
fn at_the_latest_a_target_is_silent_after_64_t1() {
    let settings = Settings {
        reply_timeout: Duration::from_secs(100),
        ..Settings::default()
    };
    let mut bench = Bench::with(1, settings);
    bench.call();
    bench.wait(40_000);
    let log = bench.log();
    let expected = [500, 1_500, 3_500, 7_500, 15_500, 31_500].map(|at| format!("{at} T1 INVITE"));
    assert_eq!(log[2..8], expected);
    assert_eq!(log[8], "32000 up 408");
    bench.ends();
}

#[test]
fn a_final_reply_is_acknowledged_with_the_invites_own_headers() {
    let mut bench = Bench::new(1);
    let invite = bench.ringing();
    bench.reply(&invite, "486 Busy Here");
    let ack = bench.take("ACK");
    assert_eq!(
        ack.text,
        format!(
            "ACK sip:agent1@t1.example SIP/2.0\r\n\
             Via: {}\r\n\
             From: Caller <sip:+5511987654321@192.0.2.1>;tag=a\r\n\
             To: <sip:+551130000000@us.example>;tag=b\r\n\
             Call-ID: call@192.0.2.1\r\n\
             CSeq: 7 ACK\r\n\
             Max-Forwards: 70\r\n\
             Content-Length: 0\r\n\r\n",
            invite.header("Via")
        )
    );
    assert_eq!(
        (ack.address, ack.way),
        (invite.address, invite.way),
        "it takes the INVITE's way"
    );
}

// Timer D.
#[test]
fn a_final_reply_that_comes_again_is_acknowledged_again_and_goes_up_once() {
    let mut bench = Bench::new(1);
    let invite = bench.ringing();
    bench.reply(&invite, "486 Busy Here");
    let ack = bench.take("ACK").text;
    bench.request(&request("ACK"));
    bench.sent.clear();
    for _ in 0..3 {
        bench.wait(10_000);
        assert!(bench.reply(&invite, "486 Busy Here"));
        assert_eq!(bench.take("ACK").text, ack);
    }
    assert!(bench.sent.is_empty());
    bench.wait(2_100);
    assert!(
        !bench.reply(&invite, "486 Busy Here"),
        "after 32 s nothing is left"
    );
    bench.ends();
}

#[test]
fn an_ack_goes_out_even_if_the_reply_went_up_long_ago() {
    let mut bench = Bench::new(1);
    bench.call();
    let invite = bench.take("INVITE");
    bench.wait(5_000);
    assert_eq!(bench.take("408").whom(), "up");
    bench.sent.clear();
    bench.reply(&invite, "486 Busy Here");
    assert_eq!(bench.short(), ["T1 ACK"]);
    bench.ends();
}

// RFC 6026 §7.2, Timer M.
#[test]
fn every_2xx_goes_up_for_64_t1_and_none_is_acknowledged_by_us() {
    let mut bench = Bench::new(1);
    let invite = bench.ringing();
    for tag in ["b", "b", "c"] {
        bench.receive(&reply_to(&invite, "200 OK", tag));
        let up = bench.take("200");
        assert!(up.header("To").ends_with(&format!(";tag={tag}")));
        bench.wait(10_000);
    }
    assert!(bench.sent.is_empty());
    bench.wait(2_100);
    assert!(!bench.reply(&invite, "200 OK"));
    let answers = bench
        .events
        .iter()
        .filter(|event| matches!(event, Event::Answered { .. }));
    assert_eq!(answers.count(), 1, "answered is told once");
    bench.ends();
}

#[test]
fn a_reply_to_nothing_is_dropped() {
    let mut bench = Bench::new(1);
    let invite = bench.ringing();
    let reply = reply_to(&invite, "200 OK", "b");
    let branch = invite.branch();
    for stray in [
        reply.replace("7 INVITE", "7 BYE"),
        reply.replace(
            &format!("{:016x}", branch.id),
            &format!("{:016x}", branch.id + 1),
        ),
        reply.replace("branch=z9hG4bKf", "branch=z9hG4bK"),
        // What is too broken for an ACK, or for whoever asked.
        reply.replace("To: ", "X-To: "),
        reply.replace("From: ", "X-From: "),
        reply.replace("SIP/2.0/UDP 192.0.2.1", "SIP/2.0 UDP 192.0.2.1"),
        reply.replace("Via: SIP/2.0/UDP 192.0.2.1", "X: SIP/2.0/UDP 192.0.2.1"),
    ] {
        assert!(!bench.receive(&stray), "{stray}");
    }
    assert!(bench.sent.is_empty());
}

// Other proxies left the caller without any reply.
#[test]
fn a_transport_error_becomes_a_reply() {
    for (cause, expected) in [(Cause::Refused, "500"), (Cause::Transport, "500")] {
        let mut bench = Bench::new(1);
        bench.call();
        let invite = bench.take("INVITE");
        bench.fail(&invite, cause);
        assert_eq!(bench.take(expected).whom(), "up");
        bench.ends();
    }
}

#[test]
fn a_connection_lost_after_a_provisional_reply_does_not_end_the_call() {
    let mut bench = Bench::new(2);
    let invite = bench.ringing();
    bench.fail(&invite, Cause::Transport);
    assert!(bench.sent.is_empty());
    bench.reply(&invite, "200 OK");
    assert_eq!(
        bench.short(),
        ["up 200"],
        "the reply came on another connection"
    );
}

#[test]
fn the_targets_of_one_call_have_branches_of_their_own() {
    let mut bench = Bench::new(2);
    bench.call();
    let first = bench.take("INVITE");
    bench.reply(&first, "503 Busy");
    let second = bench.take("INVITE");
    assert_ne!(first.branch().id, second.branch().id);
    assert_eq!(
        first.branch().worker,
        3,
        "the branch names the thread that it belongs to"
    );
}
