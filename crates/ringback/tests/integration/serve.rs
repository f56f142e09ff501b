//! The server as a process: ready line, token, signals, and directories it must not touch.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ringback_testkit::{ServerBuilder, SipPeer, SipReply};
use serde_json::json;

use crate::{BINARY, ringback, server};

#[test]
fn ready_line_names_what_listens() {
    let plain = server();
    assert_eq!(plain.ready["event"], "ready");
    assert_eq!(plain.address("sip_udp"), plain.address("sip_tcp"));
    let mut keys: Vec<&String> = plain.ready.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["event", "http", "sip_tcp", "sip_udp"]);
    assert_eq!(plain.admin().get("/api/v1/environments").status, 200);

    let several = ServerBuilder::new(BINARY)
        .arg("--http=127.0.0.1:0")
        .arg("--hep=127.0.0.1:0")
        .start();
    assert_eq!(several.ready["http_all"].as_array().unwrap().len(), 2);
    assert_eq!(several.ready["http_all"][0], several.ready["http"]);
    assert!(several.address("hep").port() > 0);
}

#[test]
fn memory_comes_in_huge_pages_where_they_are_given_on_request() {
    let tunables = |server: &ringback_testkit::Server| {
        let environment = std::fs::read(format!("/proc/{}/environ", server.id())).unwrap();
        let variable = environment
            .split(|byte| *byte == 0)
            .find_map(|variable| variable.strip_prefix(b"GLIBC_TUNABLES="));
        variable.map(|value| String::from_utf8(value.to_vec()).unwrap())
    };
    let mode = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    let on_request = mode.is_ok_and(|mode| mode.contains("[madvise]"));
    let asked = on_request.then(|| "glibc.malloc.hugetlb=1".to_owned());
    assert_eq!(tunables(&server()), asked);
    let given = ServerBuilder::new(BINARY)
        .variable("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
        .start();
    assert_eq!(
        tunables(&given).as_deref(),
        Some("glibc.malloc.hugetlb=0"),
        "what the operator says stands"
    );
}

#[test]
fn administrator_token_is_made_once_unless_given() {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let start = || ServerBuilder::new(BINARY).data_dir(&data_dir);
    let first = start().start();
    let path = data_dir.join("admin.token");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = first.admin_token();
    drop(first);

    let again = start().start();
    assert_eq!(again.admin_token(), token);
    assert_eq!(again.admin().get("/api/v1/environments").status, 200);
    drop(again);

    let given = start().variable("RINGBACK_ADMIN_TOKEN", GIVEN).start();
    assert_eq!(given.admin().get("/api/v1/environments").status, 401);
    let api = given.api(GIVEN);
    assert_eq!(api.get("/api/v1/environments").status, 200);
    drop(given);

    let elsewhere = scratch.path().join("other");
    let given = ServerBuilder::new(BINARY)
        .data_dir(&elsewhere)
        .variable("RINGBACK_ADMIN_TOKEN", GIVEN)
        .start();
    assert!(!elsewhere.join("admin.token").exists());
    drop(given);
}

#[test]
fn administrator_token_that_could_be_guessed_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let start = || ServerBuilder::new(BINARY).data_dir(&data_dir);
    for short in ["x", &GIVEN[..31]] {
        let output = start()
            .variable("RINGBACK_ADMIN_TOKEN", short)
            .try_start()
            .unwrap_err();
        assert_eq!(output.code, Some(78), "{}", output.stderr);
        assert!(
            output.stderr.contains("RINGBACK_ADMIN_TOKEN"),
            "{}",
            output.stderr
        );
        assert!(!data_dir.exists(), "a failed start leaves nothing behind");
    }
    drop(start().start());
    std::fs::write(data_dir.join("admin.token"), "short\n").unwrap();
    let output = start().try_start().unwrap_err();
    assert_eq!(output.code, Some(78), "{}", output.stderr);
    assert!(output.stderr.contains("admin.token"), "{}", output.stderr);
}

#[test]
fn termination_drains_and_keeps_what_was_acknowledged() {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let mut server = ServerBuilder::new(BINARY).data_dir(&data_dir).start();
    let api = server.environment(json!({"name": "acme", "fallback_targets": ["sip:fb@192.0.2.1"]}));
    api.number("+12025550100");
    let peer = SipPeer::new(server.address("sip_udp"));
    let options = |call_id: &str| {
        peer.invite_text("+12025550100", "+12025550142", call_id)
            .replace("INVITE", "OPTIONS")
    };
    assert_eq!(peer.exchange(&options("before"), "before").status, 200);

    server.signal("TERM");
    let begun = Instant::now();
    let mut attempt = 0;
    let draining = loop {
        attempt += 1;
        let call_id = format!("while-{attempt}");
        let reply = peer.exchange(&options(&call_id), &call_id);
        if reply.status != 200 {
            break reply;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "OPTIONS is still 200"
        );
    };
    assert_eq!(draining.status, 503);
    let call: SipReply = peer.invite_until_served("+12025550100", "+12025550142");
    assert_eq!(call.status, 302, "{}", call.text);
    let output = server.wait();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(begun.elapsed() < Duration::from_secs(10));

    let mut server = ServerBuilder::new(BINARY).data_dir(&data_dir).start();
    assert_eq!(
        server
            .api(api.token())
            .get("/api/v1/phone-numbers")
            .data(200)[0]["number"],
        "+12025550100"
    );
    server.signal("INT");
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn hangup_reloads_the_configuration() {
    let scratch = tempfile::tempdir().unwrap();
    let config = scratch.path().join("ringback.toml");
    let write = |text: &str| std::fs::write(&config, text).unwrap();
    write("[sip]\ndecision-headers = true\n");
    let mut server = ServerBuilder::new(BINARY)
        .arg("--config")
        .arg(config.to_str().unwrap())
        .start();
    let peer = SipPeer::new(server.address("sip_udp"));
    let shows = || {
        !peer
            .invite_until_served("+12025550199", "+12025550142")
            .header("X-Ringback-Outcome")
            .is_empty()
    };
    assert!(shows());

    let until = |server: &ringback_testkit::Server, wanted: bool| {
        server.signal("HUP");
        let begun = Instant::now();
        while shows() != wanted {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "the configuration is not reloaded"
            );
        }
    };
    write("[sip]\ndecision-headers = false\n");
    until(&server, false);
    write("[sip]\ndecision-headers = true\n");
    until(&server, true);
    let output = server.stop();
    assert_eq!(output.code, Some(0));
}

#[test]
fn bad_reload_is_refused_and_logged_by_its_key() {
    let scratch = tempfile::tempdir().unwrap();
    let config = scratch.path().join("ringback.toml");
    std::fs::write(&config, "version = 1\n").unwrap();
    let mut server = ServerBuilder::new(BINARY)
        .arg("--config")
        .arg(config.to_str().unwrap())
        .start();
    std::fs::write(&config, "verzion = 1\n").unwrap();
    server.signal("HUP");
    // The server takes its signals in order.
    let output = server.stop();
    assert_eq!(output.code, Some(0));
    assert!(output.stderr.contains("verzion"), "{}", output.stderr);
}

#[test]
fn log_masks_phone_numbers_unless_told_otherwise() {
    let logged = |config: &str| {
        let mut server = ServerBuilder::new(BINARY)
            .config(config)
            .arg("--log-level=debug")
            .start();
        let api = server.environment(json!({"name": "acme"}));
        let number = api.number("+12025550100");
        let agent = api.agent("Sales", "outbound", &[&number], "");
        let call = json!({"agent_id": agent, "to": "+12025550142", "from": "+12025550100"});
        assert_eq!(api.post("/api/v1/calls", call).status, 201);
        assert_eq!(api.delete("/api/v1/contacts/+12025550142").status, 200);
        let peer = SipPeer::new(server.address("sip_udp"));
        let reply = peer.invite_until_served("+12025550100", "+12025550142");
        assert_eq!(reply.status, 480);
        server.stop().stderr
    };
    let masked = logged("[log]\nphone-numbers = 'masked'\n");
    assert!(masked.contains("caller=+*********42"), "{masked}");
    assert!(!masked.contains("2025550"), "{masked}");
    let full = logged("[log]\nphone-numbers = 'full'\n");
    assert!(full.contains("caller=+12025550142"), "{full}");
}

#[test]
fn address_in_use_is_a_configuration_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let data_dir = data_dir.to_str().unwrap();
    for args in [
        ["--http", &address, "--sip-udp", "127.0.0.1:0"],
        ["--http", "127.0.0.1:0", "--sip-tcp", &address],
    ] {
        let mut all = vec!["serve", "--data-dir", data_dir];
        if !args.contains(&"--sip-udp") {
            all.extend(["--sip-udp", "127.0.0.1:0"]);
        }
        all.extend(args);
        let output = ringback(&all);
        assert_eq!(output.code, Some(78), "{}", output.stderr);
        assert!(output.stderr.contains(&address), "{}", output.stderr);
        assert_eq!(output.stdout, "");
        assert!(
            !Path::new(data_dir).exists(),
            "a failed start leaves nothing behind"
        );
    }
}

#[test]
fn directory_in_use_or_unusable_is_an_internal_error_that_names_it() {
    let running = server();
    let serve = |data_dir: &Path| {
        let data_dir = data_dir.to_str().unwrap();
        let output = ringback(&[
            "serve",
            "--http",
            "127.0.0.1:0",
            "--sip-udp",
            "127.0.0.1:0",
            "--data-dir",
            data_dir,
        ]);
        assert_eq!(output.code, Some(70), "{}", output.stderr);
        assert!(output.stderr.contains(data_dir), "{}", output.stderr);
        output.stderr
    };
    assert!(serve(running.data_dir()).contains("in use"));

    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    serve(&file);

    let damaged = scratch.path().join("damaged");
    let mut first = ServerBuilder::new(BINARY).data_dir(&damaged).start();
    assert_eq!(first.stop().code, Some(0));
    std::fs::write(damaged.join("FORMAT"), "not a format").unwrap();
    serve(&damaged);
}

#[test]
fn data_of_a_newer_version_is_refused_and_left_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let start = || ServerBuilder::new(BINARY).data_dir(&data_dir);
    let mut server = start().start();
    let api = server.environment(json!({"name": "acme"}));
    api.number("+12025550100");
    assert_eq!(server.stop().code, Some(0));

    let files = || {
        let mut all = Vec::new();
        let mut directories = vec![data_dir.clone()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    all.push((path.clone(), std::fs::read(path).unwrap()));
                }
            }
        }
        all.sort();
        all
    };
    let format = data_dir.join("FORMAT");
    let ours = std::fs::read_to_string(&format).unwrap();
    // Nothing but its first line is known of a format to come.
    for newer in [
        ours.replacen("ringback-store 3", "ringback-store 4", 1),
        "ringback-store 4000000000\nwhatever it may say\n".to_owned(),
    ] {
        assert_ne!(newer, ours);
        std::fs::write(&format, &newer).unwrap();
        let before = files();
        let output = start().try_start().unwrap_err();
        assert_eq!(output.code, Some(78), "{}", output.stderr);
        for part in [
            data_dir.to_str().unwrap(),
            newer.split_whitespace().nth(1).unwrap(),
            "supports format 3",
            "use a newer version",
        ] {
            assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
        }
        assert!(before == files(), "the data has changed");
    }
    std::fs::write(&format, ours).unwrap();
    let server = start().start();
    let numbers = server.api(api.token()).get("/api/v1/phone-numbers");
    assert_eq!(numbers.data(200)[0]["number"], "+12025550100");
}

// Connections could take every descriptor that the process may open, and HTTP with them.
#[test]
fn connections_leave_descriptors_for_http() {
    let scratch = tempfile::tempdir().unwrap();
    let limited = scratch.path().join("limited");
    std::fs::write(
        &limited,
        format!("#!/bin/sh\nulimit -n 200\nexec '{BINARY}' \"$@\"\n"),
    )
    .unwrap();
    std::fs::set_permissions(&limited, std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = ServerBuilder::new(&limited)
        .arg("--hep=127.0.0.1:0")
        .start();
    let listeners = [server.address("sip_tcp"), server.address("hep")];
    let connections: Vec<_> = (0..400)
        .map(|number| std::net::TcpStream::connect(listeners[number % 2]).unwrap())
        .collect();
    // A hundred are open, whichever these are; the others are closed.
    let metric = |name: &str| -> u64 {
        let mut http = std::net::TcpStream::connect(server.address("http")).unwrap();
        http.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut page = String::new();
        http.read_to_string(&mut page).unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}"))
            .trim()
            .parse()
            .unwrap()
    };
    let begun = Instant::now();
    while metric("ringback_sip_connections_total{event=\"refused_limit\"}") < 300 {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "not all were seen"
        );
    }
    assert_eq!(metric("ringback_sip_connections "), 100);
    assert_eq!(
        metric("ringback_sip_connections_total{event=\"refused_system\"}"),
        0
    );
    assert_eq!(server.admin().get("/api/v1/environments").status, 200);
    drop(connections);
}
/// An administrator token of 32 characters.
const GIVEN: &str = "given-by-the-environment-0123456";
