//! What an operator sees of a running server: its state, strangers, refused calls, the log.

use ringback_testkit::{Server, ServerBuilder, SipPeer};
use serde_json::{Value, json};

use crate::BINARY;

/// The page of metrics.
fn metrics(server: &Server) -> String {
    let mut page = ureq::get(format!("{}/metrics", server.url()))
        .call()
        .unwrap();
    page.body_mut().read_to_string().unwrap()
}

/// A server that serves nobody on this machine.
const NO_PEER_HERE: &str = "[[sip.peers]]\naddress = [\"192.0.2.1\"]\n";

#[test]
fn a_stranger_is_named_in_the_log_and_in_the_state() {
    let server = ServerBuilder::new(BINARY).config(NO_PEER_HERE).start();
    let peer = SipPeer::new(server.address("sip_udp"));
    peer.send(&peer.invite_text("+12025550100", "+12025550142", "stranger"));
    let line = server.logged("the source is no peer");
    assert!(
        line.contains("WARN") && line.contains("127.0.0.1"),
        "{line}"
    );
    assert!(line.contains("count=1"), "{line}");
    let status = server.admin().get("/api/v1/status").data(200);
    let strangers = &status["sip"]["strangers"];
    assert_eq!(strangers["messages"], 1);
    assert_eq!(strangers["addresses"][0]["address"], "127.0.0.1");
    assert_eq!(status["sip"]["dropped"], json!({"stranger": 1}));
}

#[test]
fn a_server_that_others_can_reach_says_so_if_it_has_no_peers() {
    let words = "no [[sip.peers]] are configured";
    let mut open = ServerBuilder::new(BINARY)
        .arg("--sip-udp=0.0.0.0:0")
        .start();
    let line = open.logged(words);
    assert!(line.contains("WARN") && line.contains("0.0.0.0:"), "{line}");
    assert!(open.stop().stderr.contains(words));
    let mut local = crate::server();
    assert!(!local.stop().stderr.contains(words));
    let mut with_peers = ServerBuilder::new(BINARY)
        .config(NO_PEER_HERE)
        .arg("--sip-udp=0.0.0.0:0")
        .start();
    assert!(!with_peers.stop().stderr.contains(words));
}

#[test]
fn the_administrator_sees_refused_calls_and_how_the_server_is() {
    let server = crate::server();
    let peer = SipPeer::new(server.address("sip_udp"));
    assert_eq!(peer.invite("+12025550100", "+12025550142").status, 404);
    let admin = server.admin();
    let calls = admin.get("/api/v1/refused-calls").data(200);
    let call = &calls[0];
    assert_eq!(calls.as_array().map(Vec::len), Some(1), "{calls}");
    for (key, value) in [
        ("surface", json!("sip")),
        ("transport", json!("udp")),
        ("peer", json!("loopback")),
        ("to", json!("+12025550100")),
        ("from", json!("+12025550142")),
        ("reason", json!("number_unknown")),
        ("status", json!(404)),
        ("count", json!(1)),
    ] {
        assert_eq!(call[key], value, "{key} of {call}");
    }
    let source = call["source"].as_str().unwrap();
    assert!(source.starts_with("127.0.0.1:"), "{source}");

    let status = admin.get("/api/v1/status").data(200);
    assert_eq!(status["health"]["status"], "ready");
    assert_eq!(status["sip"]["peers"][0]["calls"], 1);
    assert_eq!(status["sip"]["messages"]["udp"], 1);
    assert_eq!(status["reloads"]["last"], Value::Null);
}

#[test]
fn a_refused_reload_is_counted_and_told() {
    let server = ServerBuilder::new(BINARY).config(NO_PEER_HERE).start();
    let path = server.scratch().join("ringback.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, good.replace("192.0.2.1", "192.0.2")).unwrap();
    server.signal("HUP");
    let line = server.logged("configuration refused");
    assert!(line.contains("sip.peers[0].address[0]"), "{line}");
    let reloads = |server: &Server| {
        let status = server.admin().get("/api/v1/status").data(200);
        let last = &status["reloads"]["last"];
        (status["reloads"].clone(), last["message"].clone())
    };
    let (state, message) = reloads(&server);
    assert_eq!(
        (&state["succeeded"], &state["failed"]),
        (&json!(0), &json!(1))
    );
    assert!(
        message
            .as_str()
            .unwrap()
            .contains("sip.peers[0].address[0]")
    );
    let page = metrics(&server);
    assert!(page.contains("ringback_config_reloads_total{result=\"failed\"} 1\n"));
    assert!(page.contains("ringback_config_last_reload_successful 0\n"));

    std::fs::write(&path, good).unwrap();
    server.signal("HUP");
    let _line = server.logged("configuration reloaded");
    let (state, message) = reloads(&server);
    assert_eq!(
        (&state["succeeded"], &state["failed"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(message, Value::Null);
    let page = metrics(&server);
    assert!(page.contains("ringback_config_last_reload_successful 1\n"));
}

#[test]
fn calls_that_wait_through_a_stall_are_answered_and_not_refused() {
    let server = crate::server();
    let api = server.environment(json!({"name": "acme", "fallback_targets": ["sip:fb@192.0.2.1"]}));
    api.number("+12025550100");
    let peer = SipPeer::new(server.address("sip_udp"));
    server.signal("STOP");
    for call in 0..100 {
        let call_id = format!("stalled-{call}");
        peer.send(&peer.invite_text("+12025550100", "+12025550142", &call_id));
    }
    // The stall itself: longer than any wait that is refused while a queue stands.
    std::thread::sleep(std::time::Duration::from_millis(400));
    server.signal("CONT");
    for _ in 0..100 {
        let reply = peer.receive().unwrap();
        assert_eq!(reply.status, 302, "{}", reply.text);
    }
    let status = server.admin().get("/api/v1/status").data(200);
    assert_eq!(status["sip"]["overloaded"], false);
    assert_eq!(status["sip"]["refused"], json!({}));
}
