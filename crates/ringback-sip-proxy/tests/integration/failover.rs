//! From one target to the next, and what goes up in the end: RFC 3261 §16.7.

use ringback_sip_proto::Transport;
use ringback_sip_proxy::{Attempt, Cause, Event, Target};
use std::time::Duration;

use crate::support::{Bench, reply_to, request, target};

/// The attempts that were told: target, status, cause.
fn attempts(bench: &Bench) -> Vec<(u16, Option<u16>, Option<Cause>)> {
    let attempt = |event: &Event| match event {
        Event::Attempt(attempt) => Some((attempt.target, attempt.status, attempt.cause)),
        _ => None,
    };
    bench.events.iter().filter_map(attempt).collect()
}

#[test]
fn every_reply_in_the_list_leads_to_the_next_target() {
    for status in [408, 500, 502, 503, 504, 580] {
        let mut bench = Bench::new(2);
        bench.call();
        let first = bench.take("INVITE");
        bench.sent.clear();
        bench.reply(&first, &format!("{status} No"));
        assert_eq!(bench.short(), ["T1 ACK", "T2 INVITE"], "{status}");
    }
}

#[test]
fn any_other_final_reply_goes_up() {
    for status in [
        "302", "401", "404", "480", "486", "501", "505", "600", "603",
    ] {
        let mut bench = Bench::new(2);
        let invite = bench.ringing();
        bench.reply(&invite, &format!("{status} No"));
        assert_eq!(bench.short(), ["T1 ACK".to_owned(), format!("up {status}")]);
        bench.ends();
    }
}

#[test]
fn a_silent_target_makes_room_for_the_next_one() {
    let mut bench = Bench::new(2);
    bench.call();
    bench.wait(4_000);
    assert_eq!(
        bench.log()[2..],
        [
            "500 T1 INVITE",
            "1500 T1 INVITE",
            "3500 T1 INVITE",
            "4000 T2 INVITE"
        ]
    );
    bench.wait(4_000);
    assert_eq!(
        bench.log(),
        [
            "4500 T2 INVITE",
            "5500 T2 INVITE",
            "7500 T2 INVITE",
            "8000 up 408"
        ],
        "nothing heard: 408, and nobody is asked again"
    );
    let silent = Some(Cause::Timeout);
    assert_eq!(attempts(&bench), [(0, None, silent), (1, None, silent)]);
    bench.ends();
}

#[test]
fn a_target_that_refuses_the_connection_makes_room_for_the_next_one() {
    let mut bench = Bench::new(2);
    bench.call();
    let first = bench.take("INVITE");
    bench.sent.clear();
    bench.fail(&first, Cause::Refused);
    assert_eq!(bench.short(), ["T2 INVITE"]);
    assert_eq!(attempts(&bench), [(0, None, Some(Cause::Refused))]);
    let failover = Event::Failover {
        token: 42,
        cause: Cause::Refused,
    };
    assert_eq!(bench.events.last(), Some(&failover));
}

#[test]
fn what_waits_at_an_address_where_nobody_is_goes_to_the_next_target_at_once() {
    let mut bench = Bench::new(2);
    bench.call();
    let first = bench.take("INVITE");
    bench.sent.clear();
    bench.gone(&target(2));
    assert!(bench.sent.is_empty(), "another target");
    bench.gone(&target(1));
    assert_eq!(bench.short(), ["T2 INVITE"]);
    assert_eq!(attempts(&bench), [(0, None, Some(Cause::Refused))]);
    // It was there after all: its call must not go on without anybody.
    bench.reply(&first, "180 Ringing");
    assert_eq!(bench.short(), ["T1 CANCEL"]);
    // The last target may come back.
    bench.gone(&target(2));
    assert!(bench.sent.is_empty());
    let mut bench = Bench::new(2);
    bench.ringing();
    bench.gone(&target(1));
    assert!(bench.sent.is_empty(), "a call that rings is not disturbed");
}

#[test]
fn a_target_without_an_address_counts_as_a_503() {
    let mut bench = Bench::new(3);
    bench.plan.targets[0].hop = None;
    bench.plan.targets[2].hop = None;
    bench.call();
    let invite = bench.take("INVITE");
    assert_eq!(invite.whom(), "T2");
    bench.sent.clear();
    bench.reply(&invite, "502 Bad Gateway");
    assert_eq!(bench.short(), ["T2 ACK", "up 502"]);
    let mut bench = Bench::new(1);
    bench.plan.targets[0].hop = None;
    bench.call();
    assert_eq!(bench.short(), ["up 100", "up 500"]);
    assert_eq!(attempts(&bench), [(0, None, Some(Cause::Transport))]);
    bench.ends();
}

#[test]
fn a_target_that_rings_too_long_is_cancelled_and_the_next_one_does_not_wait_for_its_487() {
    let mut bench = Bench::new(2);
    bench.call();
    let first = bench.take("INVITE");
    bench.wait(1_000);
    bench.reply(&first, "100 Trying");
    bench.wait(10_000);
    bench.reply(&first, "180 Ringing");
    bench.sent.clear();
    bench.wait(9_900);
    assert!(
        bench.sent.is_empty(),
        "counted from the first provisional reply, not restarted"
    );
    bench.wait(200);
    assert_eq!(bench.log(), ["21000 T1 CANCEL", "21000 T2 INVITE"]);
    bench.reply(&first, "487 Request Terminated");
    assert_eq!(bench.short(), ["T1 ACK"]);
    assert_eq!(attempts(&bench), [(0, None, Some(Cause::Timeout))]);
}

#[test]
fn the_last_target_that_is_up_may_ring_until_timer_c() {
    for (others, is_down) in [(0, false), (1, true)] {
        let mut bench = Bench::new(1 + others);
        for target in bench.plan.targets.iter_mut().skip(1) {
            target.is_down = is_down;
        }
        bench.ringing();
        bench.wait(179_900);
        assert!(bench.sent.is_empty());
        bench.wait(200);
        let expected = if others == 0 {
            "180000 up 408"
        } else {
            "180000 T2 INVITE"
        };
        assert_eq!(bench.log(), ["180000 T1 CANCEL", expected]);
        bench.ends();
    }
}

// §16.6 step 11, §16.7 step 2.
#[test]
fn timer_c_starts_again_with_each_provisional_reply_but_100() {
    let mut bench = Bench::new(1);
    let invite = bench.ringing();
    bench.wait(100_000);
    bench.reply(&invite, "183 Still");
    bench.wait(100_000);
    bench.reply(&invite, "100 Trying");
    bench.sent.clear();
    bench.wait(79_000);
    assert!(bench.sent.is_empty());
    bench.wait(1_200);
    assert_eq!(bench.log(), ["280000 T1 CANCEL", "280000 up 408"]);
    bench.ends();
}

#[test]
fn provisional_replies_go_up_but_100() {
    let mut bench = Bench::new(1);
    bench.call();
    let invite = bench.take("INVITE");
    bench.sent.clear();
    for status in [
        "100 Trying",
        "180 Ringing",
        "199 Early",
        "100 Trying",
        "183 Session",
    ] {
        bench.reply(&invite, status);
    }
    assert_eq!(bench.short(), ["up 180", "up 199", "up 183"]);
}

#[test]
fn nothing_provisional_goes_up_after_the_final_reply() {
    let mut bench = Bench::new(1);
    let invite = bench.ringing();
    bench.reply(&invite, "200 OK");
    bench.sent.clear();
    bench.reply(&invite, "180 Ringing");
    assert!(bench.sent.is_empty());
}

#[test]
fn a_2xx_stops_everything_else() {
    let mut bench = Bench::new(3);
    let first = bench.ringing();
    bench.wait(20_000);
    let second = bench.take("INVITE");
    bench.reply(&second, "180 Ringing");
    bench.sent.clear();
    bench.reply(&first, "200 OK");
    assert_eq!(bench.short(), ["up 200", "T2 CANCEL"]);
    bench.reply(&second, "487 Request Terminated");
    assert_eq!(bench.short(), ["T2 ACK"]);
    bench.wait(1_000);
    assert!(bench.sent.is_empty(), "the third target is not tried");
    bench.ends();
}

#[test]
fn a_late_second_2xx_goes_up_too() {
    let mut bench = Bench::new(2);
    let first = bench.ringing();
    bench.wait(20_000);
    let second = bench.take("INVITE");
    bench.reply(&second, "200 OK");
    bench.sent.clear();
    bench.receive(&reply_to(&first, "200 OK", "other"));
    assert_eq!(bench.short(), ["up 200"]);
    bench.ends();
}

#[test]
fn a_2xx_of_a_silent_target_goes_up_even_after_a_408() {
    let mut bench = Bench::new(1);
    bench.call();
    let invite = bench.take("INVITE");
    bench.wait(5_000);
    bench.sent.clear();
    bench.reply(&invite, "200 OK");
    assert_eq!(bench.short(), ["up 200"]);
    bench.ends();
}

#[test]
fn a_late_provisional_reply_of_a_silent_target_is_answered_with_cancel() {
    let mut bench = Bench::new(2);
    bench.call();
    let first = bench.take("INVITE");
    bench.wait(5_000);
    bench.sent.clear();
    bench.reply(&first, "180 Ringing");
    assert_eq!(bench.short(), ["T1 CANCEL"]);
    bench.reply(&first, "180 Ringing");
    assert!(bench.sent.is_empty(), "once");
    bench.reply(&first, "487 Request Terminated");
    assert_eq!(bench.short(), ["T1 ACK"]);
}

// §16.7 step 5.
#[test]
fn a_6xx_cancels_the_rest_and_nobody_else_is_tried() {
    let mut bench = Bench::new(3);
    let first = bench.ringing();
    bench.wait(20_000);
    let second = bench.take("INVITE");
    bench.reply(&second, "180 Ringing");
    bench.sent.clear();
    bench.reply(&first, "603 Decline");
    assert_eq!(bench.short(), ["T1 ACK", "up 603", "T2 CANCEL"]);
    bench.reply(&second, "487 Request Terminated");
    assert_eq!(bench.short(), ["T2 ACK"]);
    bench.ends();
}

#[test]
fn the_best_reply_goes_up() {
    for (replies, expected) in [
        (["503 a", "500 b", "504 c"], "500"),
        (["503 a", "503 b", "503 c"], "500"),
        (["500 a", "408 b", "503 c"], "408"),
        (["500 a", "503 b", "404 c"], "404"),
        (["580 a", "502 b", "401 c"], "401"),
    ] {
        let mut bench = Bench::new(3);
        bench.call();
        for reply in replies {
            let invite = bench.take("INVITE");
            bench.reply(&invite, reply);
        }
        assert_eq!(bench.take(expected).whom(), "up", "{replies:?}");
        bench.ends();
    }
}

#[test]
fn the_best_reply_goes_up_byte_for_byte() {
    let mut bench = Bench::new(2);
    bench.call();
    let first = bench.take("INVITE");
    let reply =
        reply_to(&first, "500 Our Fault", "x").replace("X-Target: yes", "x-target :  1,\r\n 2");
    bench.receive(&reply);
    let second = bench.take("INVITE");
    bench.reply(&second, "503 Busy");
    let ours = format!("Via: {}\r\n", first.header("Via"));
    assert_eq!(bench.take("500").text, reply.replace(&ours, ""));
}

#[test]
fn a_late_reply_of_a_silent_target_may_be_the_best_one() {
    let mut bench = Bench::new(2);
    bench.call();
    let first = bench.take("INVITE");
    bench.wait(4_000);
    bench.reply(&first, "486 Busy Here");
    bench.sent.clear();
    bench.wait(4_000);
    assert_eq!(
        bench.sent.last().map(|sent| sent.what().to_owned()),
        Some("486".to_owned())
    );
    bench.ends();
}

#[test]
fn a_target_that_refused_and_then_takes_the_call_is_not_believed() {
    let mut bench = Bench::new(1);
    let invite = bench.ringing();
    bench.reply(&invite, "486 Busy Here");
    bench.sent.clear();
    assert!(!bench.reply(&invite, "200 OK"));
    assert!(bench.sent.is_empty());
}

#[test]
fn a_call_without_targets_gets_480() {
    let mut bench = Bench::new(0);
    bench.call();
    assert_eq!(bench.short(), ["up 100", "up 480"]);
    bench.ends();
}

#[test]
fn when_the_server_ends_what_rings_gets_503() {
    let mut bench = Bench::new(2);
    bench.ringing();
    bench.proxy.shut_down(bench.now);
    bench.wait(0);
    bench.request(&request("ACK"));
    let log = bench.short();
    assert_eq!(log, ["T1 CANCEL", "up 503"]);
    assert_eq!(bench.proxy.ringing(), 0);
    bench.ends();
}

#[test]
fn an_attempt_tells_when_it_began_and_how_long_the_first_reply_took() {
    let mut bench = Bench::new(1);
    bench.call();
    let invite = bench.take("INVITE");
    bench.wait(70);
    bench.reply(&invite, "100 Trying");
    bench.wait(2_000);
    bench.reply(&invite, "200 OK");
    let attempt = Attempt {
        token: 42,
        target: 0,
        uri: "sip:agent1@t1.example".into(),
        way: Some((Transport::Udp, "10.0.0.1:5060".parse().unwrap())),
        status: Some(200),
        cause: None,
        started_at: Duration::from_secs(1_000),
        first_reply: Some(Duration::from_millis(70)),
    };
    assert_eq!(bench.events[0], Event::Attempt(attempt));
    assert_eq!(
        bench.events[1],
        Event::Answered {
            token: 42,
            target: 0
        }
    );
}

// §18.1.1.
#[test]
fn a_long_invite_goes_over_tcp_and_falls_back_to_udp() {
    let mut bench = Bench::new(1);
    let over_tcp = Bench::new(1).over(Transport::Udp, Transport::Tcp);
    bench.plan.targets[0].large = over_tcp.plan.targets[0].hop.clone();
    bench.call();
    let short = bench.take("INVITE");
    assert_eq!(short.transport, Transport::Udp);
    let padding = format!("X-Long: {}\r\nContent-Length", "a".repeat(1_300));
    let long = request("INVITE").replace("Content-Length", &padding);
    bench.begin(&long.replace("z9hG4bKcaller", "z9hG4bKlong"));
    let tcp = bench.take("INVITE");
    assert_eq!(tcp.transport, Transport::Tcp);
    assert!(tcp.header("Via").starts_with("SIP/2.0/TCP "));
    bench.sent.clear();
    bench.fail(&tcp, Cause::Refused);
    let udp = bench.take("INVITE");
    assert_eq!(udp.transport, Transport::Udp);
    assert!(udp.header("Via").starts_with("SIP/2.0/UDP "));
    assert!(attempts(&bench).is_empty(), "it is still the same attempt");
    bench.fail(&udp, Cause::Refused);
    assert_eq!(bench.short(), ["up 500"]);
}

#[test]
fn targets_are_tried_in_the_order_given() {
    let mut bench = Bench::new(0);
    bench.plan.targets = [3, 1, 2].map(target).into();
    bench.call();
    for expected in ["T3", "T1", "T2"] {
        let invite = bench.take("INVITE");
        assert_eq!(invite.whom(), expected);
        bench.reply(&invite, "503 Busy");
    }
}

/// A target that a 3xx reply names.
fn followed(number: usize) -> Target {
    Target {
        is_followed: true,
        ..target(number)
    }
}

#[test]
fn a_3xx_that_is_followed_leads_to_the_targets_that_it_names_before_others() {
    let mut bench = Bench::new(2);
    let invite = bench.ringing();
    assert!(bench.redirect(&invite, vec![followed(7), followed(8)]));
    assert_eq!(bench.short(), ["T1 ACK", "T7 INVITE"]);
    let failovers = bench.events.iter();
    let mut failovers = failovers.filter(|event| matches!(event, Event::Failover { .. }));
    assert_eq!(failovers.next(), None, "nothing has failed");
    let next = [("T8", 8), ("T2", 2)];
    for (whom, number) in next {
        bench.wait(4_000);
        let log = bench.short();
        assert_eq!(log.last().unwrap(), &format!("{whom} INVITE"), "{number}");
    }
    bench.wait(4_000);
    assert_eq!(bench.take("408").whom(), "up", "the 302 does not go up");
    bench.ends();
}

#[test]
fn a_3xx_of_a_target_that_was_followed_goes_up() {
    let mut bench = Bench::new(1);
    let invite = bench.ringing();
    bench.redirect(&invite, vec![followed(7)]);
    let second = bench.take("INVITE");
    bench.sent.clear();
    bench.redirect(&second, vec![followed(8)]);
    assert_eq!(bench.short(), ["T7 ACK", "up 302"]);
    bench.ends();
}

#[test]
fn a_3xx_that_names_nothing_new_goes_up() {
    let mut bench = Bench::new(1);
    let invite = bench.ringing();
    bench.redirect(&invite, vec![followed(1)]);
    assert_eq!(bench.short(), ["T1 ACK", "up 302"]);
    let mut bench = Bench::new(1);
    let invite = bench.ringing();
    let nowhere = Target {
        hop: None,
        ..followed(7)
    };
    bench.redirect(&invite, vec![nowhere]);
    assert_eq!(bench.short(), ["T1 ACK", "up 302"], "it leads nowhere");
    bench.ends();
}

#[test]
fn a_3xx_is_not_followed_after_a_cancel_or_when_it_is_late() {
    let mut bench = Bench::new(1);
    let invite = bench.ringing();
    bench.request(&request("CANCEL"));
    bench.sent.clear();
    bench.redirect(&invite, vec![followed(7)]);
    assert_eq!(bench.short(), ["T1 ACK", "up 302"]);
    let mut bench = Bench::new(2);
    bench.call();
    let invite = bench.take("INVITE");
    bench.wait(4_000);
    bench.sent.clear();
    bench.redirect(&invite, vec![followed(7)]);
    assert_eq!(bench.short(), ["T1 ACK"], "another one rings already");
    bench.ends();
}

#[test]
fn a_call_has_no_end_of_targets() {
    let mut bench = Bench::new(1);
    let invite = bench.ringing();
    let many = (2..=200).map(followed).collect();
    bench.redirect(&invite, many);
    let mut asked = 1;
    while let Some(position) = bench.sent.iter().position(|sent| sent.what() == "INVITE") {
        let next = bench.sent.swap_remove(position);
        bench.sent.clear();
        bench.reply(&next, "503 No");
        asked += 1;
    }
    assert_eq!(asked, 64);
    bench.ends();
}
