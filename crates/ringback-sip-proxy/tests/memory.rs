//! How much memory a call takes, and that all of it comes back.

use std::alloc::System;
use std::sync::Arc;
use std::time::Duration;

use ringback_sip_proto::check::{Role, Verdict, check};
use ringback_sip_proto::message::Framing;
use ringback_sip_proto::{Message, Origin, Transport};
use ringback_sip_proxy::{Arrived, Hop, Invited, Keys, Output, Plan, Proxy, Settings, Target};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes in use.
fn in_use() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

#[test]
fn a_call_that_rings_takes_at_most_4_kib_and_leaves_nothing() {
    let hop = Arc::new(Hop {
        transport: Transport::Udp,
        address: "10.0.0.1:5060".parse().unwrap(),
        sent_by: "203.0.113.5:5060".into(),
        socket: 0,
    });
    let shared: (Arc<str>, Arc<[u8]>) = (
        "sip:agent@t.example".into(),
        Arc::from(*b"X-Ringback-Outcome: callback\r\n"),
    );
    let nothing: Arc<[u8]> = Arc::from(*b"");
    let before = in_use();
    let mut proxy = Proxy::new(Settings::default(), [7; 16], 0, 1);
    let now = Duration::from_secs(1);
    for number in 0..CALLS {
        let invite = invite(number);
        assert_eq!(invite.len(), 1_200);
        let message = Message::parse(invite.as_bytes(), Framing::Datagram).unwrap();
        let Verdict::Route(request) = check(&message, Role::Proxy) else {
            panic!("{invite}");
        };
        let arrived = Arrived {
            message: &message,
            request: &request,
            origin: Origin {
                address: "192.0.2.1:5060".parse().unwrap(),
                transport: Transport::Udp,
            },
            flow: 0,
        };
        let target = Target {
            uri: Arc::clone(&shared.0),
            hop: Some(Arc::clone(&hop)),
            large: None,
            record_route: Arc::clone(&nothing),
            is_down: false,
            keeps_identity: false,
            is_followed: false,
        };
        let plan = Plan {
            targets: [target].into(),
            headers: Arc::clone(&shared.1),
            is_trusted: false,
        };
        let invited = Invited {
            token: number as u64,
            numbers: b"",
        };
        proxy.begin(now, arrived, invited, plan);
        let forwarded = sent(&mut proxy);
        let ringing = ringing(&forwarded);
        let message = Message::parse(ringing.as_bytes(), Framing::Datagram).unwrap();
        let branch = Keys::branch_of(&message).unwrap();
        assert!(proxy.reply(now, branch, &message));
        sent(&mut proxy);
    }
    let per_call = (in_use() - before) / CALLS;
    assert!(per_call <= 4_096, "{per_call} bytes for a call that rings");
    let mut now = now;
    while let Some(next) = proxy.deadline() {
        now = now.max(next);
        proxy.timeout(now);
        sent(&mut proxy);
    }
    assert_eq!(proxy.calls(), 0);
    let left = in_use() - before;
    assert!(left <= 256 * 1_024, "{left} bytes are left");
}

/// Takes out what was sent; gives the last message.
fn sent(proxy: &mut Proxy) -> String {
    let mut last = String::new();
    while let Some(output) = proxy.poll_output() {
        if let Output::Transmit(transmit) = output {
            last = String::from_utf8_lossy(transmit.bytes).into_owned();
        }
    }
    last
}

/// An INVITE of 1,200 bytes.
fn invite(number: usize) -> String {
    let head = format!(
        "INVITE sip:+551130000000@us.example SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{number};rport\r\n\
         From: <sip:+5511987654321@192.0.2.1>;tag={number}\r\nTo: <sip:+551130000000@us.example>\r\n\
         Call-ID: {number}@192.0.2.1\r\nCSeq: 1 INVITE\r\nContact: <sip:192.0.2.1>\r\n\
         Content-Type: application/sdp\r\n\r\n"
    );
    let body = "a".repeat(1_200 - head.len());
    head + &body
}

/// The 180 of a target.
fn ringing(request: &str) -> String {
    let mut reply = "SIP/2.0 180 Ringing\r\n".to_owned();
    for line in request.split("\r\n") {
        let name = line.split(':').next().unwrap_or_default();
        if ["Via", "From", "To", "Call-ID", "CSeq"].contains(&name) {
            reply += &format!("{line}\r\n");
        }
    }
    reply + "Contact: <sip:agent@10.0.0.1:5060>\r\nContent-Length: 0\r\n\r\n"
}

/// Enough that what is allocated by steps does not matter, and just over a step, which is the worst case.
const CALLS: usize = 4_100;
