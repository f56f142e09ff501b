//! SIP over TLS from outside: OpenSSL is the peer, the certificates are files, SIGHUP changes them.

use std::fs;
use std::path::Path;

use ringback_testkit::{Server, ServerBuilder};
use serde_json::json;

use crate::openssl::{Authority, Identity, Key, SecurePeer, shown_certificate};
use crate::{BINARY, ringback};

/// `[sip.tls]` with these files.
fn section(identity: &Identity, more: &str) -> String {
    identity.section("sip.tls", more)
}

/// A server with this configuration, listening for TLS.
fn start(config: &Path) -> Server {
    ServerBuilder::new(BINARY)
        .arg("--config")
        .arg(config.to_str().unwrap())
        .arg("--sip-tls=127.0.0.1:0")
        .start()
}

/// An INVITE over TLS.
fn invite(request_uri: &str, call_id: &str) -> String {
    format!(
        "INVITE {request_uri} SIP/2.0\r\n\
         Via: SIP/2.0/TLS peer.example.com;branch=z9hG4bK-{call_id};rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:+12025550142@peer.example.com>;tag=1\r\n\
         To: <{request_uri}>\r\n\
         Call-ID: {call_id}\r\n\
         CSeq: 1 INVITE\r\n\
         Contact: <sips:peer.example.com>\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// A number with an agent for its calls, who can be reached at these targets.
fn desk(server: &Server, number: &str, targets: &str) {
    let api = server.environment(json!({"name": number}));
    let number = api.number(number);
    api.agent("Desk", "inbound", &[&number], targets);
}

#[test]
fn openssl_is_served_by_file_and_by_flag() {
    let scratch = tempfile::tempdir().unwrap();
    let authority = Authority::new(scratch.path(), "authority");
    for (name, key) in [("elliptic", Key::Elliptic), ("rsa", Key::Rsa)] {
        let identity = authority.identity(name, key);
        let by_flag = ServerBuilder::new(BINARY)
            .config(section(&identity, ""))
            .arg("--sip-tls=127.0.0.1:0")
            .start();
        let by_file = ServerBuilder::new(BINARY)
            .config(section(&identity, "listen = ['127.0.0.1:0']"))
            .start();
        for (how, server) in [("flag", by_flag), ("file", by_file)] {
            desk(&server, "+12025550100", "sip:desk@192.0.2.1");
            for version in ["-tls1_2", "-tls1_3"] {
                let address = server.address("sip_tls");
                let mut peer = SecurePeer::new(address, &authority.certificate(), &[version]);
                for repeat in 0..2 {
                    let call_id = format!("{name}-{how}{version}-{repeat}");
                    let reply =
                        peer.exchange(&invite("sip:+12025550100@sip.example.com", &call_id));
                    assert_eq!(reply.status, 302, "{}", reply.text);
                    assert_eq!(reply.contacts(), ["sip:desk@192.0.2.1"]);
                    assert_eq!(reply.header("Call-ID"), call_id);
                    let via = reply.header("Via");
                    assert!(via.starts_with("SIP/2.0/TLS peer.example.com;"), "{via}");
                    assert!(via.contains("received=127.0.0.1"), "{via}");
                }
            }
        }
    }
}

#[test]
fn sips_is_redirected_to_sips_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let authority = Authority::new(scratch.path(), "authority");
    let identity = authority.identity("server", Key::Elliptic);
    let server = ServerBuilder::new(BINARY)
        .config(section(&identity, "listen = ['127.0.0.1:0']"))
        .start();
    desk(
        &server,
        "+12025550100",
        "sip:desk@192.0.2.1 sips:desk@example.com",
    );
    desk(&server, "+12025550101", "sip:desk@192.0.2.1");
    let mut peer = SecurePeer::new(server.address("sip_tls"), &authority.certificate(), &[]);

    let both = peer.exchange(&invite("sips:+12025550100@sip.example.com", "both"));
    assert_eq!(both.status, 302, "{}", both.text);
    assert_eq!(both.contacts(), ["sips:desk@example.com"]);
    let plain = peer.exchange(&invite("sip:+12025550100@sip.example.com", "plain"));
    assert_eq!(plain.contacts().len(), 2, "{}", plain.text);
    // The URI scheme says what is asked for, not the connection (RFC 5630 §3.1.3).
    let none = peer.exchange(&invite("sips:+12025550101@sip.example.com", "none"));
    assert_eq!(none.status, 480, "{}", none.text);
    assert!(none.header("Warning").starts_with("380 "), "{}", none.text);
    assert!(none.contacts().is_empty());

    let api = server.environment(json!({"name": "refused"}));
    let agent = json!({
        "name": "a", "label": "a", "direction": "inbound",
        "targets": [{"uri": "sip:desk@192.0.2.1;transport=tls"}],
    });
    assert_eq!(api.post("/api/v1/agents", agent).status, 422);
}

#[test]
fn listener_without_a_usable_certificate_is_a_configuration_error() {
    let scratch = tempfile::tempdir().unwrap();
    let authority = Authority::new(scratch.path(), "authority");
    let first = authority.identity("first", Key::Elliptic);
    let second = authority.identity("second", Key::Elliptic);
    let refused = |config: &str, key: &str| {
        let path = scratch.path().join("refused.toml");
        fs::write(&path, config).unwrap();
        for command in ["serve", "check-config"] {
            let path = path.to_str().unwrap();
            let output = ringback(&[command, "--config", path, "--sip-tls", "127.0.0.1:0"]);
            assert_eq!(output.code, Some(78), "{}", output.stderr);
            assert!(output.stderr.contains(key), "{}", output.stderr);
        }
    };
    refused("", "sip.tls.certificate");
    let without_key = format!("[sip.tls]\ncertificate = '{}'", first.certificate.display());
    refused(&without_key, "sip.tls.private-key");
    let mixed = Identity {
        certificate: first.certificate.clone(),
        key: second.key,
    };
    refused(&section(&mixed, ""), "sip.tls.private-key");
    let swapped = Identity {
        certificate: first.key.clone(),
        key: first.key.clone(),
    };
    refused(&section(&swapped, ""), "sip.tls.certificate");
    refused(
        &section(&first, "client-ca = '/nonexistent/ca.pem'"),
        "sip.tls.client-ca",
    );
}

#[test]
fn client_authority_lets_in_whom_it_has_signed() {
    let scratch = tempfile::tempdir().unwrap();
    let servers = Authority::new(scratch.path(), "servers");
    let clients = Authority::new(scratch.path(), "clients");
    let others = Authority::new(scratch.path(), "others");
    let client_ca = format!("client-ca = '{}'", clients.certificate().display());
    let identity = servers.identity("server", Key::Elliptic);
    let config = scratch.path().join("ringback.toml");
    fs::write(&config, section(&identity, &client_ca)).unwrap();
    let server = start(&config);
    let address = server.address("sip_tls");
    let trusted = servers.certificate();
    let options = invite("sip:+12025550100@sip.example.com", "any").replace("INVITE", "OPTIONS");

    for version in ["-tls1_2", "-tls1_3"] {
        let said = SecurePeer::new(address, &trusted, &[version]).refused(&options);
        assert!(said.contains("alert"), "{said}");
    }
    let stranger = others.identity("stranger", Key::Elliptic);
    let said = SecurePeer::with_identity(address, &trusted, &stranger).refused(&options);
    assert!(said.contains("alert"), "{said}");
    // The authority of the server's own certificate does not vouch for clients.
    let said = SecurePeer::with_identity(address, &trusted, &identity).refused(&options);
    assert!(said.contains("alert"), "{said}");
    for (name, key) in [("proxy", Key::Elliptic), ("pbx", Key::Rsa)] {
        let client = clients.identity(name, key);
        let mut peer = SecurePeer::with_identity(address, &trusted, &client);
        assert_eq!(peer.exchange(&options).status, 200);
    }
}

#[test]
fn hangup_takes_a_new_certificate_and_keeps_connections() {
    let scratch = tempfile::tempdir().unwrap();
    let authority = Authority::new(scratch.path(), "authority");
    let trusted = authority.certificate();
    let first = authority.identity("first", Key::Elliptic);
    let second = authority.identity("second", Key::Rsa);
    // As certificates are renewed: the files change, their names stay.
    let live = Identity {
        certificate: scratch.path().join("live.pem"),
        key: scratch.path().join("live.key"),
    };
    let install = |identity: &Identity| {
        fs::copy(&identity.certificate, &live.certificate).unwrap();
        fs::copy(&identity.key, &live.key).unwrap();
    };
    let config = scratch.path().join("ringback.toml");
    let write = |more: &str| fs::write(&config, section(&live, more)).unwrap();
    install(&first);
    write("");
    let mut server = start(&config);
    let address = server.address("sip_tls");
    let mut old = SecurePeer::new(address, &trusted, &[]);
    let request = |call_id: &str| invite("sip:+12025550100@sip.example.com", call_id);
    assert_eq!(old.exchange(&request("before")).status, 404);

    let refuse = |server: &Server, cause: &str| {
        server.signal("HUP");
        let _why = server.logged(cause);
        assert_eq!(shown_certificate(address, &trusted), first.pem(), "{cause}");
    };
    fs::copy(&second.certificate, &live.certificate).unwrap();
    refuse(
        &server,
        "certificate and private key cannot be used together",
    );
    fs::write(&live.certificate, "no certificate at all").unwrap();
    refuse(&server, "sip.tls.certificate: ");
    fs::remove_file(&live.certificate).unwrap();
    refuse(&server, "No such file");
    install(&second);
    write("client-ca = '/nonexistent/ca.pem'");
    refuse(&server, "sip.tls.client-ca");
    write("certifikate = 'x.pem'");
    refuse(&server, "certifikate");
    assert_eq!(old.exchange(&request("refused")).status, 404);

    write("");
    server.signal("HUP");
    let _line = server.logged("configuration reloaded");
    assert_eq!(shown_certificate(address, &trusted), second.pem());
    let mut new = SecurePeer::new(address, &trusted, &[]);
    assert_eq!(new.exchange(&request("after-new")).status, 404);
    assert_eq!(old.exchange(&request("after-old")).status, 404);
    let output = server.stop();
    assert_eq!(output.code, Some(0));
    let refusals = output
        .stderr
        .matches("configuration refused, the old one stays");
    assert_eq!(refusals.count(), 5, "{}", output.stderr);
}
