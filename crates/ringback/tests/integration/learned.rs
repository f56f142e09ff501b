//! Calls learned over SIP: shown as soon as they route, and gone once their contact is forgotten.

use std::time::{Duration, Instant};

use ringback_testkit::{Api, ServerBuilder, SipPeer};
use serde_json::json;

use crate::BINARY;
use crate::operation::metrics;

/// Learns from whoever is on this machine.
const CONFIG: &str = r#"
version = 1
[[sip.peers]]
name = "pbx"
address = ["127.0.0.1/32"]
learn = true
next-hop = "sip:gw.example.net"
"#;

// A learned call used to be shown up to 145 ms after it routed. One that was recorded late, or a status that was seen
// later, used to bring a contact back that had been forgotten.
#[test]
fn learned_calls_are_shown_at_once_and_stay_forgotten() {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let start = || {
        ServerBuilder::new(BINARY)
            .data_dir(&data_dir)
            .config(CONFIG)
            .start()
    };
    let mut server = start();
    let api = server.environment(json!({"name": "acme"}));
    let number = api.number("+12025550100");
    let agent = api.agent("caller", "outbound", &[&number], "");
    let peer = SipPeer::new(server.address("sip_udp"));
    let call = |contact: &str, call_id: &str| {
        let invite = peer.invite_text(contact, "+12025550100", call_id).replace(
            "Max-Forwards",
            &format!("X-Ringback-Agent: {agent}\r\nMax-Forwards"),
        );
        assert_eq!(peer.exchange(&invite, call_id).status, 302, "{call_id}");
        let shown = api.get(&format!("/api/v1/contacts/{contact}")).data(200);
        assert_eq!(shown["calls"][0]["sid"], call_id, "{shown}");
        assert_eq!(shown["calls"][0]["agent_id"], agent.as_str(), "{shown}");
        invite
    };
    for round in 0..20 {
        let call_id = format!("forgotten-{round}");
        let invite = call(FORGOTTEN, &call_id);
        let gone = api.delete(&format!("/api/v1/contacts/{FORGOTTEN}"));
        assert_eq!(gone.status, 200);
        assert_forgotten(&api);
        // The call is answered after its contact was forgotten.
        let answer = invite.replace(invite.lines().next().unwrap(), "SIP/2.0 200 OK");
        peer.send(&answer);
        // What comes behind it is learned behind it.
        let _invite = call(&format!("+120255502{round:02}"), &format!("kept-{round}"));
        assert_forgotten(&api);
    }
    let begun = Instant::now();
    loop {
        let page = metrics(&server);
        let count = |result: &str| -> u64 {
            let name = format!("ringback_learned_calls_total{{result=\"{result}\"}} ");
            let line = page.lines().find_map(|line| line.strip_prefix(&name));
            line.unwrap().parse().unwrap()
        };
        // A first call may have been recorded before its contact was forgotten, or not.
        if count("recorded") + count("rejected") == 60 {
            assert!(count("recorded") >= 20 && count("rejected") >= 20, "{page}");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{page}");
    }
    assert_forgotten(&api);
    let token = api.token().to_owned();
    drop(server.stop());
    let server = start();
    let api = server.api(&token);
    assert_forgotten(&api);
    let kept = api.get("/api/v1/contacts/+12025550200").data(200);
    assert_eq!(kept["calls"][0]["sid"], "kept-0", "{kept}");
}

/// The contact is not known.
fn assert_forgotten(api: &Api) {
    let reply = api.get(&format!("/api/v1/contacts/{FORGOTTEN}"));
    assert_eq!(reply.status, 404, "{}", reply.body);
}

/// A contact that is forgotten.
const FORGOTTEN: &str = "+12025550142";
