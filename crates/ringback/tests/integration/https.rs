//! The HTTP API over TLS from outside: curl is the client, the certificates are files, SIGHUP changes them.

use std::fs;
use std::path::Path;
use std::process::Command;

use ringback_routing::Timestamp;
use ringback_testkit::{Server, ServerBuilder};

use crate::openssl::{Authority, Identity, Key, shown_certificate};
use crate::operation::metrics;
use crate::{BINARY, ringback};

/// `[http.tls]` with these files.
fn section(identity: &Identity, more: &str) -> String {
    identity.section("http.tls", more)
}

/// A server with this configuration, listening for TLS.
fn start(config: &Path) -> Server {
    ServerBuilder::new(BINARY)
        .arg("--config")
        .arg(config.to_str().unwrap())
        .arg("--https=127.0.0.1:0")
        .start()
}

/// What curl gets, headers first; `None`: there is no connection.
fn curl(trusted: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("curl")
        .args(["--silent", "--include", "--max-time", "20", "--cacert"])
        .arg(trusted)
        .args(arguments)
        .output()
        .expect("curl is installed");
    let answer = String::from_utf8(output.stdout).expect("text");
    output.status.success().then_some(answer)
}

#[test]
fn the_api_and_the_console_are_served_over_tls_and_say_that_they_always_are() {
    let scratch = tempfile::tempdir().unwrap();
    let authority = Authority::new(scratch.path(), "authority");
    let identity = authority.identity("server", Key::Elliptic);
    let config = scratch.path().join("ringback.toml");
    fs::write(&config, section(&identity, "")).unwrap();
    let mut server = start(&config);
    let trusted = authority.certificate();
    let secure = format!("https://{}", server.address("https"));
    let plain = format!("http://{}", server.address("http"));
    let always = "strict-transport-security: max-age=31536000\r\n";
    for path in ["/healthz", "/console/find", "/api/v1/agents", "/nowhere"] {
        let answer = curl(&trusted, &[&format!("{secure}{path}")]).expect("an answer");
        assert!(answer.contains(always), "{path}: {answer}");
        let answer = curl(&trusted, &[&format!("{plain}{path}")]).expect("an answer");
        assert!(!answer.contains("strict-transport"), "{path}: {answer}");
    }
    let sign_in = |url: &str| {
        let token = fs::read_to_string(server.data_dir().join("admin.token")).unwrap();
        let body = format!("{{\"token\":\"{}\"}}", token.trim());
        let url = format!("{url}/api/v1/session");
        let json = "content-type: application/json";
        curl(&trusted, &["--header", json, "--data", &body, &url]).expect("an answer")
    };
    let answer = sign_in(&secure);
    assert!(
        answer.contains("set-cookie: __Host-ringback_session="),
        "{answer}"
    );
    assert!(answer.contains("; Secure\r\n"), "{answer}");
    let answer = sign_in(&plain);
    assert!(answer.contains("set-cookie: ringback_session="), "{answer}");
    assert!(!answer.contains("Secure"), "{answer}");
    // What speaks no TLS is not answered, and keeps nobody else from being served.
    let unsecured = secure.replace("https", "http");
    assert_eq!(curl(&trusted, &[&unsecured]), None);
    assert!(curl(&trusted, &[&secure]).is_some());
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_client_authority_lets_in_whom_it_has_signed() {
    let scratch = tempfile::tempdir().unwrap();
    let servers = Authority::new(scratch.path(), "servers");
    let clients = Authority::new(scratch.path(), "clients");
    let identity = servers.identity("server", Key::Rsa);
    let client_ca = format!("client-ca = '{}'", clients.certificate().display());
    let config = scratch.path().join("ringback.toml");
    fs::write(&config, section(&identity, &client_ca)).unwrap();
    let server = start(&config);
    let url = format!("https://{}/healthz", server.address("https"));
    let trusted = servers.certificate();
    let with = |one: &Identity| {
        let (certificate, key) = (one.certificate.to_str(), one.key.to_str());
        let files = ["--cert", certificate.unwrap(), "--key", key.unwrap(), &url];
        curl(&trusted, &files)
    };
    assert_eq!(curl(&trusted, &[&url]), None);
    assert_eq!(with(&identity), None);
    let known = clients.identity("operator", Key::Elliptic);
    assert!(with(&known).expect("an answer").starts_with("HTTP/1.1 200"));
}

#[test]
fn hangup_takes_a_new_certificate_and_a_bad_one_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let authority = Authority::new(scratch.path(), "authority");
    let trusted = authority.certificate();
    let first = authority.identity("first", Key::Elliptic);
    let second = authority.identity("second", Key::Elliptic);
    let live = Identity {
        certificate: scratch.path().join("live.pem"),
        key: scratch.path().join("live.key"),
    };
    let install = |identity: &Identity| {
        fs::copy(&identity.certificate, &live.certificate).unwrap();
        fs::copy(&identity.key, &live.key).unwrap();
    };
    install(&first);
    let config = scratch.path().join("ringback.toml");
    fs::write(&config, section(&live, "")).unwrap();
    let server = start(&config);
    let address = server.address("https");
    assert_eq!(shown_certificate(address, &trusted), first.pem());
    fs::copy(&second.certificate, &live.certificate).unwrap();
    server.signal("HUP");
    let _why = server.logged("http.tls.private-key: certificate and private key cannot be used");
    assert_eq!(shown_certificate(address, &trusted), first.pem());
    install(&second);
    server.signal("HUP");
    let _line = server.logged("configuration reloaded");
    assert_eq!(shown_certificate(address, &trusted), second.pem());
    // Its end is told, as that of SIP is.
    let status = server.admin().get("/api/v1/status").data(200);
    let certificate = &status["certificates"][0];
    assert_eq!(certificate["listener"], "http_tls", "{status}");
    let told = metrics(&server);
    let name = "\nringback_http_certificate_expires_timestamp_seconds ";
    let (_, end) = told.split_once(name).unwrap();
    let end: f64 = end.lines().next().unwrap().parse().unwrap();
    let expires_at: Timestamp = certificate["expires_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(end, expires_at.millis() as f64 / 1e3);

    let output = ringback(&["check-config", "--https", "127.0.0.1:0"]);
    assert_eq!(output.code, Some(78), "{}", output.stderr);
    assert!(
        output.stderr.contains("http.tls.certificate"),
        "{}",
        output.stderr
    );
}
