//! `ringback doctor`: what it finds on a machine, and of a server that runs.

use std::fs;
use std::net::UdpSocket;

use ringback_testkit::{Output, SipPeer};
use serde_json::Value;

use crate::openssl::{Authority, Key};
use crate::{BINARY, ringback};

/// The checks with this name: their states, and what to do.
fn checks(output: &Output, name: &str) -> Vec<(String, String)> {
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap().iter();
    let named = checks.filter(|check| check["name"] == name);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    named
        .map(|check| (text(&check["state"]), text(&check["todo"])))
        .collect()
}

/// Has it look at a configuration, without a server unless the file names one.
fn examine(config: &str) -> Output {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("ringback.toml");
    fs::write(&path, config).unwrap();
    ringback(&["doctor", "--json", "--config", path.to_str().unwrap()])
}

#[test]
fn a_machine_on_which_nothing_is_to_be_done_is_told_so_with_0() {
    let here = "[sip]\nudp = ['127.0.0.1:0']\n[http]\nlisten = ['127.0.0.1:0']\n";
    let output = examine(here);
    // What the clock of this machine is like is not known here.
    let clock = checks(&output, "clock").remove(0).0 == "problem";
    assert_eq!(output.code, Some(i32::from(clock)), "{}", output.stdout);
    for (name, state) in [
        ("configuration", "ok"),
        ("data directory", "ok"),
        ("ports", "ok"),
        ("certificates", "ok"),
        ("server", "unchecked"),
    ] {
        let found = checks(&output, name);
        let is_doubtful = name == "configuration" && found[0].0 == "advice";
        assert!(
            found[0].0 == state || is_doubtful,
            "{name}: {}",
            output.stdout
        );
    }
    for name in ["limits", "receive buffer", "huge pages"] {
        assert_eq!(checks(&output, name).len(), 1, "{name}: {}", output.stdout);
    }
}

#[test]
fn what_is_wrong_is_said_with_what_to_do_and_1() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let http = "[http]\nlisten = ['127.0.0.1:0']\n";
    for (config, name, todo) in [
        (
            format!("[sip]\nudp = ['{taken}']\n{http}"),
            "ports",
            "ss -lnup",
        ),
        (
            format!("[sip]\nudp = ['192.0.2.1:5060']\n{http}"),
            "ports",
            "ip address",
        ),
        (
            "[sip]\nupd = []\n".to_owned(),
            "configuration",
            "check-config",
        ),
        (
            format!("data-dir = 'ringback.toml'\n{http}"),
            "data directory",
            "data-dir",
        ),
    ] {
        let output = examine(&config);
        assert_eq!(output.code, Some(1), "{config}: {}", output.stdout);
        assert_eq!(output.stderr, "", "{config}");
        let found = checks(&output, name);
        assert_eq!(found[0].0, "problem", "{}", output.stdout);
        assert!(found[0].1.contains(todo), "{}", output.stdout);
    }
    // People see the same.
    let output = ringback(&["doctor", "--sip-udp", &taken.to_string()]);
    assert_eq!(output.code, Some(1));
    assert!(
        output.stdout.contains("\nproblem   ports "),
        "{}",
        output.stdout
    );
    assert!(output.stdout.contains("ss -lnup"), "{}", output.stdout);
}

#[test]
fn the_end_of_both_certificates_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    let authority = Authority::new(scratch.path(), "authority");
    let identity = authority.identity("server", Key::Elliptic);
    let config = [
        "[sip]\nudp = ['127.0.0.1:0']\n[http]\nlisten = ['127.0.0.1:0']\n",
        &identity.section("sip.tls", "listen = ['127.0.0.1:0']"),
        &identity.section("http.tls", "listen = ['127.0.0.1:0']"),
    ]
    .concat();
    let output = examine(&config);
    assert_eq!(
        checks(&output, "certificates").len(),
        2,
        "{}",
        output.stdout
    );
    for section in ["that of sip.tls ends at 20", "that of http.tls ends at 20"] {
        assert!(output.stdout.contains(section), "{}", output.stdout);
    }
}

#[test]
fn a_running_server_tells_of_strangers_and_its_addresses_are_its_own() {
    let server = ringback_testkit::ServerBuilder::new(BINARY)
        .config("[[sip.peers]]\naddress = ['192.0.2.1']\n")
        .start();
    let peer = SipPeer::new(server.address("sip_udp"));
    peer.send(&peer.invite_text("+12025550100", "+12025550142", "stranger"));
    let _line = server.logged("the source is no peer");
    let (sip, http) = (server.address("sip_udp"), server.address("http"));
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("ringback.toml");
    let data = server.data_dir().display();
    let config =
        format!("data-dir = '{data}'\n[sip]\nudp = ['{sip}']\n[http]\nlisten = ['{http}']\n");
    fs::write(&path, config).unwrap();
    let output = ringback(&["doctor", "--json", "--config", path.to_str().unwrap()]);
    assert_eq!(checks(&output, "ports")[0].0, "ok", "{}", output.stdout);
    assert_eq!(checks(&output, "server")[0].0, "ok", "{}", output.stdout);
    let strangers = checks(&output, "strangers");
    assert_eq!(strangers[0].0, "problem", "{}", output.stdout);
    assert!(strangers[0].1.contains("[[sip.peers]]"));
    assert_eq!(output.code, Some(1));
}
