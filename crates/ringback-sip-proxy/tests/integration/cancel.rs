//! CANCEL: RFC 3261 §9 and §16.10, and when 487 goes up.

use ringback_sip_proto::Transport;
use ringback_sip_proxy::{Cause, Event, Taken};

use crate::support::{Bench, request};

#[test]
fn a_ringing_branch_is_cancelled_and_its_487_goes_up() {
    let mut bench = Bench::new(1);
    let invite = bench.ringing();
    assert_eq!(bench.request(&request("CANCEL")), Taken::Cancel);
    assert_eq!(
        bench
            .sent
            .iter()
            .map(|sent| sent.what())
            .collect::<Vec<_>>(),
        ["200", "CANCEL"]
    );
    let cancel = bench.take("CANCEL");
    bench.sent.clear();
    bench.reply(&cancel, "200 OK");
    assert!(bench.sent.is_empty());
    bench.reply(&invite, "487 Gone");
    // Other proxies did not acknowledge the 487 to their own CANCEL.
    assert_eq!(bench.short(), ["T1 ACK", "up 487"]);
    assert!(bench.events.contains(&Event::Failed {
        token: 42,
        status: 487,
        is_cancelled: true,
        is_own: false,
    }));
    bench.ends();
}

// RFC 3261 §9.1.
#[test]
fn a_cancel_has_what_identifies_its_invite_and_takes_its_way() {
    let mut bench = Bench::new(1);
    let invite = bench.ringing();
    let reason = "Reason: SIP;cause=200;text=\"elsewhere\"\r\nreason: Q.850;cause=16\r\n";
    let text = request("CANCEL").replace("Content-Length", &format!("{reason}Content-Length"));
    bench.request(&text);
    let cancel = bench.take("CANCEL");
    assert_eq!(
        cancel.text,
        format!(
            "CANCEL sip:agent1@t1.example SIP/2.0\r\n\
             Via: {}\r\n\
             From: Caller <sip:+5511987654321@192.0.2.1>;tag=a\r\n\
             To: <sip:+551130000000@us.example>\r\n\
             Call-ID: call@192.0.2.1\r\n\
             CSeq: 7 CANCEL\r\n\
             Max-Forwards: 70\r\n\
             {reason}\
             Content-Length: 0\r\n\r\n",
            invite.header("Via")
        )
    );
    assert_eq!((cancel.address, cancel.way), (invite.address, invite.way));
}

// Other proxies forwarded each of them.
#[test]
fn a_retransmitted_cancel_is_answered_again_and_forwarded_once() {
    let mut bench = Bench::new(1);
    bench.ringing();
    bench.request(&request("CANCEL"));
    let first = bench.take("200").text;
    bench.sent.clear();
    assert_eq!(bench.request(&request("CANCEL")), Taken::Cancel);
    assert_eq!(bench.take("200").text, first);
    assert!(bench.sent.is_empty());
}

#[test]
fn an_unknown_cancel_belongs_to_nothing() {
    let mut bench = Bench::new(1);
    bench.ringing();
    let other = request("CANCEL").replace("z9hG4bKcaller", "z9hG4bKother");
    assert_eq!(bench.request(&other), Taken::No);
    assert!(bench.sent.is_empty());
}

// Behind an address translation the sent-by of a CANCEL may differ from that of its INVITE.
#[test]
fn a_cancel_from_the_same_address_matches_by_branch_and_call_id() {
    let moved = |text: String| text.replace("UDP 192.0.2.1:5060", "UDP 192.0.2.1:40000");
    let mut bench = Bench::new(1);
    bench.ringing();
    bench.origin.address.set_port(40_000);
    assert_eq!(bench.request(&moved(request("CANCEL"))), Taken::Cancel);
    assert_eq!(bench.short(), ["up 200", "T1 CANCEL"]);
    let mut bench = Bench::new(1);
    bench.ringing();
    bench.origin.address = "192.0.2.9:5060".parse().unwrap();
    assert_eq!(
        bench.request(&moved(request("CANCEL"))),
        Taken::No,
        "another address"
    );
    let mut bench = Bench::new(1);
    bench.ringing();
    let other = moved(request("CANCEL")).replace("Call-ID: call", "Call-ID: other");
    assert_eq!(bench.request(&other), Taken::No, "another call");
}

// RFC 3261 §9.1: not before a provisional reply.
#[test]
fn a_cancel_waits_for_a_provisional_reply() {
    let mut bench = Bench::new(2);
    bench.call();
    let invite = bench.take("INVITE");
    bench.sent.clear();
    bench.request(&request("CANCEL"));
    assert_eq!(bench.short(), ["up 200"]);
    bench.wait(600);
    assert_eq!(
        bench.short(),
        ["T1 INVITE"],
        "the target may not have got it yet"
    );
    bench.reply(&invite, "100 Trying");
    assert_eq!(bench.short(), ["T1 CANCEL"]);
    bench.reply(&invite, "487 Request Terminated");
    assert_eq!(bench.short(), ["T1 ACK", "up 487"]);
    bench.ends();
}

// Other proxies went on to the next target.
#[test]
fn targets_not_yet_tried_do_not_start_after_a_cancel() {
    for status in ["503 Busy", "408 Timeout", "487 Request Terminated"] {
        let mut bench = Bench::new(3);
        let invite = bench.ringing();
        bench.request(&request("CANCEL"));
        bench.sent.clear();
        bench.reply(&invite, status);
        bench.wait(100_000);
        assert!(
            !bench.sent.iter().any(|sent| sent.what() == "INVITE"),
            "{status}"
        );
    }
}

#[test]
fn a_silent_target_of_a_cancelled_call_gives_487_at_the_reply_timeout() {
    let mut bench = Bench::new(2);
    bench.call();
    let invite = bench.take("INVITE");
    bench.request(&request("CANCEL"));
    bench.sent.clear();
    bench.wait(3_900);
    assert!(bench.sent.iter().all(|sent| sent.what() == "INVITE"));
    bench.sent.clear();
    bench.wait(200);
    assert_eq!(bench.log(), ["4000 up 487"]);
    bench.request(&request("ACK"));
    bench.reply(&invite, "180 Ringing");
    assert_eq!(
        bench.short(),
        ["T1 CANCEL"],
        "a late reply is still answered with CANCEL"
    );
    bench.ends();
}

#[test]
fn a_cancel_that_is_ignored_gives_487_after_64_t1() {
    let mut bench = Bench::new(2);
    bench.ringing();
    bench.wait(1_000);
    bench.request(&request("CANCEL"));
    bench.wait(31_900);
    assert!(!bench.sent.iter().any(|sent| sent.what() == "487"));
    bench.sent.clear();
    bench.wait(200);
    assert_eq!(bench.log(), ["33000 up 487"]);
    bench.ends();
}

// §17.1.2: Timers E and F.
#[test]
fn a_cancel_is_a_transaction_of_its_own() {
    let mut bench = Bench::new(1);
    bench.ringing();
    bench.request(&request("CANCEL"));
    let cancel = bench.take("CANCEL");
    bench.sent.clear();
    bench.wait(8_000);
    assert_eq!(
        bench.log(),
        [
            "500 T1 CANCEL",
            "1500 T1 CANCEL",
            "3500 T1 CANCEL",
            "7500 T1 CANCEL"
        ]
    );
    bench.reply(&cancel, "100 Trying");
    bench.wait(8_000);
    assert_eq!(
        bench.log(),
        ["12000 T1 CANCEL", "16000 T1 CANCEL"],
        "Timer E goes on at T2"
    );
    bench.reply(&cancel, "481 Unknown");
    bench.wait(8_000);
    assert!(bench.sent.is_empty());
    let mut bench = Bench::new(1).over(Transport::Udp, Transport::Tcp);
    bench.ringing();
    bench.request(&request("CANCEL"));
    bench.sent.clear();
    bench.wait(20_000);
    assert!(bench.sent.is_empty(), "a stream loses nothing");
}

#[test]
fn the_reply_that_crosses_a_cancel_counts() {
    for (reply, expected) in [
        ("486 Busy Here", &["T1 ACK", "up 486"][..]),
        ("603 Decline", &["T1 ACK", "up 603"]),
        ("503 Busy", &["T1 ACK", "up 500"]),
        ("200 OK", &["up 200"]),
    ] {
        let mut bench = Bench::new(2);
        let invite = bench.ringing();
        bench.request(&request("CANCEL"));
        bench.sent.clear();
        bench.reply(&invite, reply);
        assert_eq!(bench.short(), expected);
        bench.ends();
    }
}

#[test]
fn replies_gathered_before_a_cancel_do_not_count() {
    let mut bench = Bench::new(2);
    bench.call();
    let first = bench.take("INVITE");
    bench.reply(&first, "500 Broken");
    let second = bench.take("INVITE");
    bench.reply(&second, "180 Ringing");
    bench.request(&request("CANCEL"));
    bench.sent.clear();
    bench.reply(&second, "487 Request Terminated");
    assert_eq!(bench.short(), ["T2 ACK", "up 487"]);
    let causes: Vec<Option<Cause>> = bench
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Attempt(attempt) => Some(attempt.cause),
            _ => None,
        })
        .collect();
    assert_eq!(causes, [Some(Cause::Status), Some(Cause::Cancelled)]);
}

#[test]
fn a_cancel_after_the_final_reply_changes_nothing() {
    for reply in ["200 OK", "486 Busy Here"] {
        let mut bench = Bench::new(1);
        let invite = bench.ringing();
        bench.reply(&invite, reply);
        bench.sent.clear();
        assert_eq!(bench.request(&request("CANCEL")), Taken::Cancel);
        assert_eq!(bench.short(), ["up 200"]);
    }
}

#[test]
fn a_transport_error_of_a_cancelled_call_gives_487() {
    let mut bench = Bench::new(2);
    bench.call();
    let invite = bench.take("INVITE");
    bench.request(&request("CANCEL"));
    bench.sent.clear();
    bench.fail(&invite, Cause::Refused);
    assert_eq!(bench.short(), ["up 487"]);
    bench.ends();
}
