//! `ringback init`: what it makes works, and what is there stays.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use ringback_testkit::ServerBuilder;

use crate::{BINARY, ringback};

#[test]
fn what_was_set_up_serves_with_the_token_that_was_shown_and_nothing_is_written_over() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let (config, data) = (path("ringback.toml"), path("data"));
    let arguments = [
        "init",
        "--config",
        &config,
        "--data-dir",
        &data,
        "--environment",
        "Acme",
        "--country",
        "br",
    ];
    let output = ringback(&arguments);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let commands: Vec<&str> = output
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .collect();
    assert_eq!(commands.len(), 3, "{}", output.stdout);
    assert_eq!(commands[0], format!("ringback serve --config {config}"));
    let (_, token) = commands[1].split_once("RINGBACK_TOKEN=").unwrap();
    let mode = fs::metadata(scratch.path().join("data/admin.token")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    assert_eq!(ringback(&["check-config", &config]).code, Some(0));

    let server = ServerBuilder::new(BINARY)
        .data_dir(&data)
        .arg("--config")
        .arg(&config)
        .start();
    let url = format!("http://{}", server.address("http"));
    let with_token = |arguments: &[&str]| {
        let both = ["--url", &url, "--token", token];
        ringback(&[arguments, &both].concat())
    };
    let added = with_token(&["number", "add", "11 3000-0000"]);
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    assert!(added.stdout.contains("+551130000000"), "{}", added.stdout);
    drop(server);

    let before = fs::read_to_string(&config).unwrap();
    let again = ringback(&arguments);
    assert_eq!(again.code, Some(64), "{}", again.stderr);
    assert!(
        again.stderr.contains("ringback.toml exists"),
        "{}",
        again.stderr
    );
    let other = path("other.toml");
    let again = ringback(&["init", "--config", &other, "--data-dir", &data]);
    assert_eq!(again.code, Some(64), "{}", again.stderr);
    assert!(again.stderr.contains("data exists"), "{}", again.stderr);
    assert!(!fs::exists(&other).unwrap());
    assert_eq!(fs::read_to_string(&config).unwrap(), before);
}

#[test]
fn an_answer_that_cannot_be_used_leaves_nothing_behind() {
    let scratch = tempfile::tempdir().unwrap();
    let config = scratch.path().join("ringback.toml");
    let data = scratch.path().join("data");
    for (flag, value) in [
        ("--country", "xx"),
        ("--environment", ""),
        ("--http", "127.0.0.1:5060"),
    ] {
        let output = ringback(&[
            "init",
            "--config",
            config.to_str().unwrap(),
            "--data-dir",
            data.to_str().unwrap(),
            flag,
            value,
        ]);
        assert_ne!(output.code, Some(0), "{flag}");
        assert!(
            !config.exists() && !data.exists(),
            "{flag}: {}",
            output.stderr
        );
    }
}
