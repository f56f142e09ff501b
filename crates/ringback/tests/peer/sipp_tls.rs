//! SIPp over TLS: 3.8 of Debian sid, for that of Debian 12 is built without it.

use std::process::Command;

use ringback_testkit::ServerBuilder;

use crate::peer::{CONTACT, MAIN, Program, folder, run, sid};
use crate::sipp::own_address;
use crate::world::World;

/// Many calls over one connection (`l1`) and over one connection each (`ln`).
#[test]
fn calls_over_tls_are_all_redirected() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let _made = run(Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ])
        .current_dir(directory.path()));
    let file = |name: &str| directory.path().join(name);
    let server = ServerBuilder::new(env!("CARGO_BIN_EXE_ringback"))
        .config(format!(
            "version = 1\n[sip.tls]\nlisten = [\"127.0.0.1:0\"]\ncertificate = {:?}\nprivate-key = {:?}\n",
            file("cert.pem"),
            file("key.pem"),
        ))
        .start();
    let world = super::fixture("world.toml")
        .replace("{{targets}}", "{ uri = \"sip:sales@agents.example.com\" }");
    let world: World = toml::from_str(&world).expect("the world can be read");
    let made = world.make(&server);
    let call = format!("agent = \"sales\"\nfrom = \"main\"\nto = \"{CONTACT}\"\nseconds_ago = 60");
    made.record(&toml::from_str(&call).expect("a call can be read"));
    let scenario = folder("fixtures/interop").join("redirected.xml");
    for (mode, calls) in [("l1", "2000"), ("ln", "100")] {
        let here = own_address().to_string();
        let mut sipp = sid::program("sipp");
        sipp.arg(server.address("sip_tls").to_string())
            .arg("-sf")
            .arg(&scenario)
            .args(["-t", mode, "-s", MAIN, "-m", calls, "-r", "500", "-l", "50"])
            .args(["-max_socket", "200", "-i", &here])
            .arg("-tls_cert")
            .arg(file("cert.pem"))
            .arg("-tls_key")
            .arg(file("key.pem"))
            .args(["-nostdin", "-timeout", "40", "-timeout_error"])
            .args(["-trace_err", "-error_file", "errors.log"]);
        // sipp ends with 0 only if no call has failed.
        Program::start(sipp, directory.path()).success();
    }
    let statistics = made.api.get("/api/v1/callback-agents/stats").data(200);
    assert_eq!(statistics["total_callbacks_received"], 2_100);
}
