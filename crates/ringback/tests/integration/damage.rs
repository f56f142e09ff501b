//! Damaged files of tables: no decision is wrong, and the operator is told.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use ringback_testkit::{Server, ServerBuilder, SipPeer};
use serde_json::json;

use crate::{BINARY, contact};

/// Some files of the tables in a data directory.
fn table_files(data_dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // A part of each table that has as many records as any other.
    for part in ["calls/07", "sids/07", "state"] {
        let folder = data_dir.join("tables").join(part).join("tables");
        for entry in fs::read_dir(folder).unwrap() {
            found.push(entry.unwrap().path());
        }
    }
    found.sort();
    found
}

/// What `/readyz` says of the index, with its status.
fn readiness(server: &Server) -> (u16, String) {
    let reply = server.api("").get("/readyz");
    (
        reply.status,
        reply.body["index"].as_str().unwrap().to_owned(),
    )
}

/// Whether a text has a number or a key as hexadecimal digits: contacts used to leak from messages about damage.
fn has_key(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_hexdigit())
        .any(|digits| digits.len() >= 10 && digits.bytes().any(|byte| byte.is_ascii_digit()))
}

#[test]
fn a_flipped_bit_in_a_table_gives_no_wrong_decision() {
    // Contacts in a damaged block were answered as never called, while `/readyz` said ready.
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let builder = || ServerBuilder::new(BINARY).data_dir(&data_dir);
    let mut server = builder().start();
    let api = server.environment(json!({"name": "acme"}));
    let number = api.number(DIALED);
    let [source, _] = api.callback_pair(["source", "taker"], &number, "sip:taker@192.0.2.1");
    let mut lines = String::new();
    for index in 0..CONTACTS {
        let _infallible = writeln!(
            lines,
            "{{\"sid\":\"s{index}\",\"agent_id\":\"{source}\",\"to\":\"{}\",\"from\":\"{DIALED}\"}}",
            contact(index)
        );
    }
    assert_eq!(api.batch(&lines).unwrap().data(200)["accepted"], CONTACTS);
    let token = api.token().to_owned();
    let _output = server.stop();

    let mut refused_contacts = 0;
    for path in table_files(&data_dir) {
        let bytes = fs::read(&path).unwrap();
        // Within the first blocks of records, in the middle, and near the end.
        for offset in [200, bytes.len() / 2, bytes.len() - 60] {
            let mut damaged = bytes.clone();
            damaged[offset] ^= 0x20;
            fs::write(&path, &damaged).unwrap();
            let place = format!("byte {offset} of {}", path.display());
            match builder().try_start() {
                // What every decision needs cannot be read: nothing is decided, and the file is named.
                Err(output) => {
                    assert!(
                        output.stderr.contains(path.to_str().unwrap()),
                        "{place}: {}",
                        output.stderr
                    );
                    let told = output.stderr.replace(data_dir.to_str().unwrap(), "");
                    assert!(!has_key(&told), "{told}");
                }
                Ok(mut server) => {
                    let api = server.api(&token);
                    let peer = SipPeer::new(server.address("sip_udp"));
                    for contact in (0..CONTACTS).map(contact) {
                        let query = format!(
                            "/api/v1/route?to={}&from={}",
                            DIALED.replace('+', "%2B"),
                            contact.replace('+', "%2B")
                        );
                        let reply = api.get(&query);
                        if reply.status == 503 {
                            refused_contacts += 1;
                        } else {
                            assert_eq!(reply.data(200)["outcome"], "callback", "{place}");
                        }
                        let status = peer.invite(DIALED, &contact).status;
                        assert!([302, 503].contains(&status), "{place}: {status}");
                    }
                    while readiness(&server) != (503, "damaged".to_owned()) {
                        std::thread::yield_now();
                    }
                    let line = server.logged(path.to_str().unwrap());
                    assert!(
                        !has_key(&line.replace(path.to_str().unwrap(), "")),
                        "{line}"
                    );
                    // Mended in place, it is whole again.
                    fs::write(&path, &bytes).unwrap();
                    while readiness(&server).0 != 200 {
                        std::thread::yield_now();
                    }
                    server.kill();
                }
            }
            fs::write(&path, &bytes).unwrap();
        }
    }
    assert!(refused_contacts > 0, "no contact was damaged");
}

/// How many contacts there are.
const CONTACTS: usize = 200;

/// The number that they were called from and call back.
const DIALED: &str = "+551130000000";
