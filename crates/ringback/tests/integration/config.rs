//! Configuration as `check-config` and `serve` judge it, and the usage of the program.

use std::path::{Path, PathBuf};

use ringback_testkit::ServerBuilder;

use crate::{BINARY, ringback};

/// The folder of the repository's sample configurations.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/config");

fn fixture(name: &str) -> PathBuf {
    Path::new(FIXTURES).join(name)
}

#[test]
fn sample_is_accepted_and_bad_files_name_their_key() {
    let path = fixture("ringback.toml");
    assert!(
        ringback(&["check-config", path.to_str().unwrap()])
            .success()
            .contains("ok")
    );
    for (file, key) in [
        ("refused-unknown-top-key.toml", "colour"),
        ("refused-unknown-peer-key.toml", "adress"),
        ("refused-cluster-secret.toml", "cluster.secret-file"),
        ("refused-sip-address.toml", "sip.udp[1]"),
        ("refused-http-address.toml", "http.listen"),
        ("refused-proxy-protocol.toml", "sip.proxy-protocol[1]"),
    ] {
        let path = fixture(file);
        for command in [["check-config", "--config"], ["serve", "--config"]] {
            let output = ringback(&[command[0], command[1], path.to_str().unwrap()]);
            assert_eq!(output.code, Some(78), "{file}: {}", output.stderr);
            assert!(output.stderr.contains(key), "{file}: {}", output.stderr);
            assert_eq!(output.stdout, "");
        }
    }
    let output = ringback(&["check-config", "/nonexistent/ringback.toml"]);
    assert_eq!(output.code, Some(78));
    assert!(
        output.stderr.contains("/nonexistent/ringback.toml"),
        "{}",
        output.stderr
    );
}

#[test]
fn environment_wins_over_the_file_and_flags_over_both() {
    let path = fixture("refused-http-address.toml");
    let run = |variables: &[(&str, &str)], args: &[&str]| {
        ringback_testkit::run(Path::new(BINARY), variables, args, b"").code
    };
    let config = ("RINGBACK_CONFIG", path.to_str().unwrap());
    assert_eq!(run(&[config], &["check-config"]), Some(78));
    let http = ("RINGBACK_HTTP", "127.0.0.1:0");
    assert_eq!(run(&[config, http], &["check-config"]), Some(0));
    assert_eq!(
        run(&[config], &["check-config", "--http", "127.0.0.1:0"]),
        Some(0)
    );
    let scratch = tempfile::tempdir().unwrap();
    let server = ServerBuilder::new(BINARY)
        .data_dir(scratch.path().join("flag"))
        .variable("RINGBACK_DATA_DIR", "/nonexistent/by/variable")
        .config("data-dir = '/nonexistent/by/file'")
        .start();
    assert!(server.data_dir().join("admin.token").is_file());
}

#[test]
fn wrong_usage_is_64_and_help_is_0() {
    for args in [
        &[][..],
        &["fly"],
        &["serve", "--http", "banana"],
        &["agent", "create"],
        &["route"],
        &["import", "calls"],
        &["completions", "abacus"],
    ] {
        let output = ringback(args);
        assert_eq!(output.code, Some(64), "{args:?}: {}", output.stderr);
        assert_ne!(output.stderr, "", "{args:?}");
    }
    for args in [
        &["--help"][..],
        &["--version"],
        &["help"],
        &["serve", "--help"],
        &["demo", "-h"],
        &["check-config", "--help"],
        &["environment", "--help"],
        &["environment", "token", "create", "--help"],
        &["agent", "create", "--help"],
        &["number", "--help"],
        &["callback", "set", "--help"],
        &["call", "record", "--help"],
        &["contact", "--help"],
        &["route", "--help"],
        &["import", "calls", "--help"],
        &["status", "--help"],
        &["reload", "--help"],
        &["context", "add", "--help"],
        &["man", "--help"],
    ] {
        assert_ne!(ringback(args).success(), "", "{args:?}");
    }
    assert!(ringback(&["--version"]).success().starts_with("ringback "));
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            ringback(&["completions", shell])
                .success()
                .contains("check-config")
        );
    }
}

#[test]
fn every_fault_is_reported_with_file_and_line() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("ringback.toml");
    let text = "\
[sip]
udp = ['127.0.0.1:5060', '127.0.0.1:5060']
max-connections = 4000000000
colour = 'red'
[[sip.peers]]
address = ['10.0.0.1/8']
[log]
level = '!'
";
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    for command in ["check-config", "serve"] {
        let output = ringback(&[command, "--config", path]);
        assert_eq!(output.code, Some(78), "{}", output.stderr);
        for (line, key) in [
            (2, "sip.udp[1]"),
            (3, "sip.max-connections"),
            (4, "sip.colour"),
            (6, "sip.peers[0].address[0]"),
            (8, "log.level"),
        ] {
            let wanted = format!("ringback: {path}:{line}: {key}: ");
            assert!(
                output.stderr.contains(&wanted),
                "{wanted}: {}",
                output.stderr
            );
        }
        assert_eq!(output.stderr.lines().count(), 5, "{}", output.stderr);
    }
}

#[test]
fn unknown_variables_are_named_in_a_warning() {
    let run = |variables: &[(&str, &str)], args: &[&str]| {
        ringback_testkit::run(Path::new(BINARY), variables, args, b"")
    };
    let output = run(&[("RINGBACK_HTPP", "127.0.0.1:0")], &["check-config"]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(
        output
            .stderr
            .contains("warning: the variable RINGBACK_HTPP"),
        "{}",
        output.stderr
    );
    let output = run(&[("RINGBACK_HTTP", "127.0.0.1:0")], &["check-config"]);
    assert!(
        !output.stderr.contains("RINGBACK_HTTP"),
        "{}",
        output.stderr
    );
    let mut server = ServerBuilder::new(BINARY)
        .variable("RINGBACK_DATADIR", "/nowhere")
        .start();
    let logged = server.stop().stderr;
    assert!(logged.contains("RINGBACK_DATADIR"), "{logged}");
}
