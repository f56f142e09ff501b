//! `ringback backup` and `ringback restore`: what was acknowledged before a backup began is in it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use ringback_testkit::{Output, Server, ServerBuilder, SipPeer};
use serde_json::{Value, json};

use crate::{BINARY, client, ringback};

/// The number that contacts were called from and call back.
const DIALED: &str = "+551130000000";

/// The contact of a call.
fn contact(index: usize) -> String {
    format!("+5511{:09}", 900_000_000 + index)
}

/// An environment whose agent `taker` takes back what `source` called; the token and the id of `source`.
fn tenant(server: &Server) -> (String, String) {
    let api = server.environment(json!({"name": "acme"}));
    let number = api.number(DIALED);
    let source = api.agent("source", "outbound", &[&number], "");
    let taker = api.agent("taker", "inbound", &[&number], "sip:taker@192.0.2.1");
    let role = format!("/api/v1/agents/{taker}/callback");
    let set = api.post(&role, json!({"source_agent_ids": [source]}));
    assert_eq!(set.status, 200);
    (api.token().to_owned(), source)
}

/// Records a call.
fn record(server: &Server, token: &str, source: &str, index: usize) {
    let call = json!({
        "sid": format!("s{index}"), "agent_id": source, "to": contact(index), "from": DIALED,
    });
    let reply = server.api(token).post("/api/v1/calls", call);
    assert_eq!(reply.status, 201);
}

/// Backs a server up into this file.
fn back_up(server: &Server, file: &Path) -> Output {
    let file = file.to_str().unwrap();
    client(server, &server.admin_token(), &["backup", file, "--json"])
}

/// Restores this file into this directory.
fn restore(file: &Path, directory: &Path) -> Output {
    let [file, directory] = [file, directory].map(|path| path.to_str().unwrap());
    ringback(&["restore", file, "--data-dir", directory, "--json"])
}

/// How many calls are remembered of a contact.
fn remembered(server: &Server, token: &str, contact: &str) -> usize {
    let path = format!("/api/v1/contacts/{}", contact.replace('+', "%2B"));
    let reply = server.api(token).get(&path);
    match reply.status {
        404 => 0,
        _ => reply.data(200)["calls"].as_array().unwrap().len(),
    }
}

#[test]
fn every_call_acknowledged_before_a_backup_under_load_is_restored() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("node.backup");
    let mut server = crate::server();
    let (token, source) = tenant(&server);
    let acknowledged = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    let (before, summary) = thread::scope(|scope| {
        scope.spawn(|| {
            let mut index = 0;
            while !done.load(Ordering::Relaxed) {
                record(&server, &token, &source, index);
                index += 1;
                acknowledged.store(index, Ordering::Release);
            }
        });
        while acknowledged.load(Ordering::Acquire) < 200 {
            thread::yield_now();
        }
        let before = acknowledged.load(Ordering::Acquire);
        let summary = back_up(&server, &file).json();
        done.store(true, Ordering::Relaxed);
        (before, summary)
    });
    let sent = acknowledged.load(Ordering::Acquire);
    let _output = server.stop();
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Nothing but the file is left where it is.
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);

    let data_dir = scratch.path().join("restored");
    assert_eq!(restore(&file, &data_dir).json(), summary);
    let path = data_dir.to_str().unwrap();
    let info = ringback(&["store", "verify", path, "--json"]).json();
    let calls = usize::try_from(info["records"]["calls"].as_u64().unwrap()).unwrap();
    assert!((before..=sent).contains(&calls), "{before} {calls} {sent}");
    // One entry more: the audit has the restore.
    let last = summary["last_sequence"].as_u64().unwrap();
    assert_eq!(info["last_sequence"], last + 1);
    // The administrator token is not in a backup.
    assert!(!data_dir.join("admin.token").exists());

    let server = ServerBuilder::new(BINARY).data_dir(&data_dir).start();
    for index in (0..calls).step_by(7).chain([before - 1, calls - 1]) {
        assert_eq!(remembered(&server, &token, &contact(index)), 1, "{index}");
    }
    assert_eq!(remembered(&server, &token, &contact(calls)), 0);
    let peer = SipPeer::new(server.address("sip_udp"));
    let reply = peer.invite_until_served(DIALED, &contact(3));
    assert_eq!(
        reply.header("X-Ringback-Reason"),
        "returned_call_same_number"
    );
    // It goes on as any other.
    record(&server, &token, &source, calls);
    assert_eq!(remembered(&server, &token, &contact(calls)), 1);
}

#[test]
fn contacts_erased_after_a_backup_are_erased_again_by_a_restore_that_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    let [file, erasures, data_dir] =
        ["node.backup", "node.erasures", "restored"].map(|name| scratch.path().join(name));
    let mut server = crate::server();
    let (token, source) = tenant(&server);
    for index in 0..3 {
        record(&server, &token, &source, index);
    }
    assert_eq!(back_up(&server, &file).code, Some(0));
    let path = format!("/api/v1/contacts/{}", contact(1).replace('+', "%2B"));
    assert_eq!(server.api(&token).delete(&path).status, 200);
    let exported = client(&server, &server.admin_token(), &["export", "erasures"]);
    fs::write(&erasures, exported.success()).unwrap();
    let digits = contact(1).replace('+', "");
    assert!(!exported.stdout.contains(&digits), "{}", exported.stdout);
    // The token of an environment does not open it, and hashes name no environment.
    let refused = client(&server, &token, &["export", "erasures"]);
    assert_eq!(refused.code, Some(77), "{}", refused.stderr);
    let csv = ["export", "erasures", "--format", "csv"];
    assert_eq!(client(&server, &token, &csv).code, Some(64));
    let _output = server.stop();

    let told = |erasures: &Path, data_dir: &Path| {
        let words = ["restore", file.to_str().unwrap(), "--data-dir"];
        let data_dir = data_dir.to_str().unwrap();
        let rest = [data_dir, "--erasures", erasures.to_str().unwrap(), "--json"];
        ringback(&[&words[..], &rest].concat())
    };
    // A file that is cut off tells of fewer erasures than there were.
    let cut = scratch.path().join("cut");
    let lines = exported.stdout.lines().next().unwrap();
    fs::write(&cut, format!("{lines}\n")).unwrap();
    let refused = told(&cut, &data_dir);
    assert_eq!(refused.code, Some(70), "{}", refused.stderr);
    assert!(refused.stderr.contains("ERASURES_NOT_WHOLE") && !data_dir.exists());

    let summary = told(&erasures, &data_dir).json();
    assert_eq!(
        summary["erased_again"],
        json!({"erasures": 1, "contacts": 1})
    );
    let server = ServerBuilder::new(BINARY).data_dir(&data_dir).start();
    for (index, calls) in [(0, 1), (1, 0), (2, 1)] {
        assert_eq!(remembered(&server, &token, &contact(index)), calls);
    }
    // The restored server knows of it, and has noted the restore.
    let again = client(&server, &server.admin_token(), &["export", "erasures"]);
    assert_eq!(again.success(), exported.stdout);
    let audit = server.admin().get("/api/v1/audit?type=cluster").body;
    let actions: Vec<&Value> = audit["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["action"])
        .collect();
    assert!(actions.contains(&&json!("restore")), "{audit}");

    // Without the file it says what it may have undone.
    let untold = ringback(&[
        "restore",
        file.to_str().unwrap(),
        "--data-dir",
        scratch.path().join("untold").to_str().unwrap(),
    ]);
    assert!(untold.success().contains("3 calls and "));
    let warning = format!(
        "erased after {} are in it again",
        summary["taken_at"].as_str().unwrap()
    );
    assert!(untold.stderr.contains(&warning), "{}", untold.stderr);
}

#[test]
fn a_contact_erased_before_a_backup_is_not_in_it() {
    let scratch = tempfile::tempdir().unwrap();
    let [file, data_dir] = ["node.backup", "restored"].map(|name| scratch.path().join(name));
    let server = crate::server();
    let (token, source) = tenant(&server);
    for index in 0..3 {
        record(&server, &token, &source, index);
    }
    let path = format!("/api/v1/contacts/{}", contact(1).replace('+', "%2B"));
    assert_eq!(server.api(&token).delete(&path).status, 200);
    assert_eq!(back_up(&server, &file).json()["calls"], 2);
    let restored = restore(&file, &data_dir);
    assert!(restored.stderr.contains("erase them again"));
    let server = ServerBuilder::new(BINARY).data_dir(&data_dir).start();
    let calls = [0, 1, 2].map(|index| remembered(&server, &token, &contact(index)));
    assert_eq!(calls, [1, 0, 1]);
}

#[test]
fn only_a_whole_backup_is_restored_and_only_into_an_empty_directory() {
    let scratch = tempfile::tempdir().unwrap();
    let [file, broken, data_dir] =
        ["node.backup", "broken.backup", "data"].map(|name| scratch.path().join(name));
    let server = crate::server();
    let (token, source) = tenant(&server);
    record(&server, &token, &source, 0);
    let _summary = back_up(&server, &file).json();
    let bytes = fs::read(&file).unwrap();
    let code = |output: &Output| {
        let problem: Value = serde_json::from_str(output.stderr.lines().last().unwrap()).unwrap();
        (output.code, problem["code"].as_str().unwrap().to_owned())
    };
    let mut altered = bytes.clone();
    altered[bytes.len() / 2] ^= 1;
    for content in [&bytes[..bytes.len() - 1], &bytes[..40], &altered, b"text"] {
        fs::write(&broken, content).unwrap();
        let refused = restore(&broken, &data_dir);
        assert_eq!(code(&refused), (Some(70), "BACKUP_NOT_WHOLE".to_owned()));
        assert!(!data_dir.exists());
    }
    let used = server.data_dir();
    assert_eq!(code(&restore(&file, used)).0, Some(64));
    fs::create_dir(&data_dir).unwrap();
    fs::write(data_dir.join("note"), "mine").unwrap();
    let refused = restore(&file, &data_dir);
    assert_eq!(code(&refused), (Some(64), "NOT_EMPTY".to_owned()));
    assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 1);
    fs::remove_file(data_dir.join("note")).unwrap();
    assert_eq!(
        code(&restore(&scratch.path().join("absent"), &data_dir)).0,
        Some(66)
    );
    let newer = String::from_utf8_lossy(b"ringback-backup 9\n").into_owned();
    fs::write(&broken, newer).unwrap();
    assert_eq!(code(&restore(&broken, &data_dir)).0, Some(78));
    assert_eq!(restore(&file, &data_dir).json()["calls"], 1);
}

#[test]
fn a_backup_needs_the_administrator_and_goes_through_a_pipe() {
    let scratch = tempfile::tempdir().unwrap();
    let [file, copy] = ["node.backup", "copy.backup"].map(|name| scratch.path().join(name));
    let mut server = crate::server();
    let (token, _) = tenant(&server);
    let path = file.to_str().unwrap();
    assert_eq!(client(&server, &token, &["backup", path]).code, Some(77));
    assert!(!file.exists());
    // Standard output is no text, so the bytes are taken from a shell.
    let url = server.url();
    let script = format!("{BINARY} backup - > {}", copy.display());
    let admin = server.admin_token();
    let variables = [
        ("RINGBACK_URL", url.as_str()),
        ("RINGBACK_TOKEN", admin.as_str()),
    ];
    let shell = Path::new("/bin/sh");
    let piped = ringback_testkit::run(shell, &variables, &["-c", &script], b"");
    let _nothing = piped.success();
    let script = format!(
        "{BINARY} restore - --data-dir {} < {}",
        scratch.path().join("data").display(),
        copy.display()
    );
    let restored = ringback_testkit::run(shell, &[], &["-c", &script], b"");
    assert!(
        restored.success().contains("0 calls"),
        "{}",
        restored.stdout
    );
    let _output = server.stop();
    assert_eq!(back_up(&server, &file).code, Some(69));
    assert!(!file.exists());
}

/// Answers one request with these bytes, and closes.
fn answer_once(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 1_024];
        while !request.ends_with(b"\r\n\r\n") {
            let length = stream.read(&mut buffer).unwrap();
            request.extend_from_slice(&buffer[..length]);
        }
        // The client may hang up before it has read all.
        let _gone = stream.write_all(&bytes);
    });
    url
}

#[test]
fn a_server_that_breaks_off_leaves_no_file() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("node.backup");
    let server = crate::server();
    let (token, source) = tenant(&server);
    record(&server, &token, &source, 0);
    let _summary = back_up(&server, &file).json();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, "older").unwrap();
    let cut = &bytes[..bytes.len() - 5];
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n";
    let whole_length = format!("{head}Content-Length: {}\r\n\r\n", bytes.len());
    let cut_length = format!("{head}Content-Length: {}\r\n\r\n", cut.len());
    let chunk = format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n",
        cut.len()
    );
    for (start, end) in [
        (&whole_length, ""),
        (&cut_length, ""),
        (&chunk, "\r\n"),
        (&chunk, "\r\n0\r\n\r\n"),
    ] {
        let url = answer_once([start.as_bytes(), cut, end.as_bytes()].concat());
        let variables = [("RINGBACK_URL", url.as_str()), ("RINGBACK_TOKEN", "any")];
        let arguments = ["backup", file.to_str().unwrap()];
        let output = ringback_testkit::run(Path::new(BINARY), &variables, &arguments, b"");
        assert_eq!(output.code, Some(70), "{}", output.stderr);
        // The file of before is still there, and nothing else.
        assert_eq!(fs::read_to_string(&file).unwrap(), "older");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }
}
