//! What an operator sees of a running server: its state, strangers, refused calls, the log.

use ringback_testkit::{Server, ServerBuilder, SipPeer};
use serde_json::{Value, json};

use crate::BINARY;

/// The page of metrics.
pub(crate) fn metrics(server: &Server) -> String {
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
        ("via", json!("sip-udp")),
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

#[test]
fn no_log_line_of_any_level_has_a_number() {
    let mut server = ServerBuilder::new(BINARY)
        .variable("RUST_LOG", "trace,rlibphonenumber=trace,lsm_tree=trace")
        .start();
    let api = server.environment(json!({"name": "acme", "default_country": "US",
        "fallback_targets": ["sip:fb@192.0.2.1"]}));
    api.number("+12025550100");
    let peer = SipPeer::new(server.address("sip_udp"));
    let invite = peer.invite_text("+12025550100", "+12025550142", "call-of-12025550142");
    let reply = peer.exchange(&invite, "call-of-12025550142");
    assert_eq!(reply.status, 302, "{}", reply.text);
    for (to, from) in [
        ("+12025550100", "2025550142"),
        ("12025550199", "tel:+1-202-555-0142"),
    ] {
        let answer = api.post("/api/v1/route", json!({"to": to, "from": from}));
        assert_eq!(answer.status, 200);
    }
    assert_eq!(api.get("/api/v1/contacts/+12025550142").status, 404);
    let _decided = server.logged("decided");
    let log = server.stop().stderr;
    assert!(log.contains(" call_id=call-of-*********42"), "{log}");
    let digits: String = log.chars().filter(|c| !"-. ()".contains(*c)).collect();
    for number in ["2025550142", "2025550100", "2025550199"] {
        assert!(!digits.contains(number), "{number} in {log}");
    }
}

#[test]
fn lines_in_json_hold_plain_strings_and_numbers() {
    let mut server = ServerBuilder::new(BINARY)
        .config("[log]\nformat = \"json\"\nlevel = \"info,ringback_admin=debug\"\n")
        .start();
    let mut answer = ureq::get(format!("{}/healthz", server.url()))
        .header("X-Request-Id", "from-the-client")
        .call()
        .unwrap();
    assert_eq!(
        answer.body_mut().read_to_string().unwrap(),
        r#"{"status":"ok"}"#
    );
    let line: Value = serde_json::from_str(&server.logged("\"request\"")).unwrap();
    let fields = &line["fields"];
    assert_eq!(fields["request_id"], "from-the-client", "{line}");
    assert!(fields["duration_ms"].is_f64(), "{line}");
    assert_eq!(fields["status"], 200);
    let log = server.stop().stderr;
    let mut seen = 0;
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        assert!(
            line["target"].as_str().unwrap().starts_with("ringback"),
            "{line}"
        );
        seen += 1;
    }
    assert!(seen >= 4, "{log}");
}

#[test]
fn a_start_tells_nothing_about_the_tables() {
    let mut server = ServerBuilder::new(BINARY)
        .config("[log]\nphone-numbers = \"full\"\n")
        .start();
    let log = server.stop().stderr;
    assert!(log.contains("ready") && !log.contains("lsm_tree"), "{log}");
}

#[test]
fn a_misspelled_log_level_ends_the_start_with_78() {
    for arguments in [
        ["check-config", "--log-level=inof"],
        ["serve", "--log-level=inof"],
    ] {
        let output = crate::ringback(&arguments);
        assert_eq!(output.code, Some(78), "{}", output.stderr);
        assert!(output.stderr.contains("log.level"), "{}", output.stderr);
        assert!(output.stderr.contains("inof"), "{}", output.stderr);
    }
}

#[test]
pub(crate) fn metrics_tell_what_operators_watch() {
    let server = crate::server();
    let peer = SipPeer::new(server.address("sip_udp"));
    assert_eq!(peer.invite("+12025550100", "+12025550142").status, 404);
    // A thread answers the next call once it has counted the one before.
    assert_eq!(peer.invite("+12025550100", "+12025550142").status, 404);
    let bucket = "ringback_sip_reply_duration_seconds_bucket{transport=\"udp\",le=\"+Inf\"} ";
    let page = metrics(&server);
    for name in [
        "process_cpu_seconds_total ",
        "process_resident_memory_bytes ",
        "process_open_fds ",
        "process_start_time_seconds ",
        "ringback_storage_bytes ",
        "ringback_storage_free_bytes ",
        bucket,
    ] {
        let value = page.lines().find_map(|line| line.strip_prefix(name));
        let value: f64 = value
            .unwrap_or_else(|| panic!("no {name} in {page}"))
            .parse()
            .unwrap();
        assert!(value > 0.0, "{name}{value}");
    }
    // Without TLS no certificate expires.
    assert!(!page.contains("certificate_expires"));
    let status = server.admin().get("/api/v1/status").data(200);
    assert!(status["storage"]["bytes"].as_u64() > Some(0), "{status}");
    assert_eq!(status["certificates"], json!([]));
}
