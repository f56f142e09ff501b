//! `ringback top`: what a server does right now.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ringback_testkit::SipPeer;
use serde_json::json;

use crate::{client, server};

/// The number that is dialed.
const DIALED: &str = "+551130000000";

#[test]
fn one_frame_tells_what_happens_meanwhile() {
    let mut server = server();
    let api = server.environment(json!({"name": "acme"}));
    let number = api.number(DIALED);
    let _agent = api.agent("taker", "inbound", &[&number], "sip:taker@192.0.2.1");
    let done = AtomicBool::new(false);
    for token in [api.token().to_owned(), server.admin_token()] {
        done.store(false, Ordering::Relaxed);
        let frame = thread::scope(|scope| {
            scope.spawn(|| {
                let peer = SipPeer::new(server.address("sip_udp"));
                while !done.load(Ordering::Relaxed) {
                    let reply = peer.invite_until_served(DIALED, "+5511987654321");
                    assert_eq!(reply.contacts(), ["sip:taker@192.0.2.1"]);
                }
            });
            let output = client(&server, &token, &["top", "--once", "--json"]);
            done.store(true, Ordering::Relaxed);
            output.json()
        });
        assert!(frame["invites_per_second"].as_f64() > Some(0.0), "{frame}");
        assert_eq!(frame["outcomes"]["default"], frame["invites_per_second"]);
        assert_eq!(
            frame["reasons"]["caller_never_called"],
            frame["invites_per_second"]
        );
        assert!(frame["latency_us"]["p50"].as_u64() <= frame["latency_us"]["p99"].as_u64());
        assert!(frame["latency_us"]["p50"].is_u64(), "{frame}");
        let decisions = frame["decisions"].as_array().unwrap();
        assert!((1..=10).contains(&decisions.len()));
        assert_eq!(decisions[0]["reason"], "caller_never_called");
        assert!(frame["at"].is_string() && frame["node"].is_string());
    }
    let readable = client(&server, api.token(), &["top", "--once"]);
    assert!(readable.success().contains("latest decisions"));
    let _output = server.stop();
    let away = client(&server, api.token(), &["top", "--once", "--json"]);
    assert_eq!(away.code, Some(70), "{}", away.stderr);
}
