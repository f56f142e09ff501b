//! `ringback store`: looking into data directories.

use std::fs;
use std::path::Path;

use ringback_testkit::{ServerBuilder, copy_folder};
use serde_json::{Value, json};

use crate::{BINARY, ringback};

#[test]
fn what_a_stopped_server_holds_is_shown_and_checked() {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let path = data_dir.to_str().unwrap();
    let absent = ringback(&["store", "info", path, "--json"]);
    assert_eq!(absent.code, Some(66), "{}", absent.stderr);
    let mut server = ServerBuilder::new(BINARY).data_dir(&data_dir).start();
    let api = server.environment(json!({"name": "acme"}));
    let number = api.number("+551130000000");
    let source = api.agent("source", "outbound", &[&number], "");
    let call = json!({"agent_id": source, "to": "+5511987654321", "from": "+551130000000"});
    assert_eq!(api.post("/api/v1/calls", call).status, 201);

    let in_use = ringback(&["store", "info", path, "--json"]);
    assert_eq!(in_use.code, Some(64));
    let problem: Value = serde_json::from_str(&in_use.stderr).unwrap();
    assert_eq!(problem["code"], "DATA_IN_USE");

    let _output = server.stop();
    let info = ringback(&["store", "info", path, "--json"]).json();
    assert_eq!(info["format"], 3);
    assert!(info["bytes"].as_u64() > Some(0) && info["last_sequence"].as_u64() > Some(0));
    for (kind, count) in [
        ("calls", 1),
        ("agents", 1),
        ("numbers", 1),
        ("roles", 0),
        ("environments", 1),
        ("tokens", 1),
    ] {
        assert_eq!(info["records"][kind], count, "{kind}");
    }
    let verified = ringback(&["store", "verify", path]);
    assert!(verified.success().contains("no damage found"));

    // The file of one table is damaged: it is named, with the byte.
    let folder = data_dir.join("tables/state/tables");
    let file = fs::read_dir(folder).unwrap().next().unwrap().unwrap();
    let mut bytes = fs::read(file.path()).unwrap();
    bytes[100] ^= 1;
    fs::write(file.path(), bytes).unwrap();
    let damaged = ringback(&["store", "verify", path]);
    assert_eq!(damaged.code, Some(70));
    let place = format!("{} at byte ", file.path().display());
    assert!(damaged.stderr.contains(&place), "{}", damaged.stderr);
}

#[test]
fn a_newer_format_is_refused_by_name_and_an_older_one_is_not_upgraded() {
    let scratch = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/store");
    let oldest = fixtures.join("format-1-last");
    let info = ringback(&["store", "info", oldest.to_str().unwrap(), "--json"]).json();
    assert_eq!(
        (&info["format"], &info["records"]["agents"]),
        (&json!(1), &json!(2))
    );
    let fixture = fixtures.join("format-2");
    copy_folder(&fixture, scratch.path());
    let path = scratch.path().to_str().unwrap();
    let info = ringback(&["store", "info", path, "--json"]).json();
    assert_eq!(info["format"], 2);
    let format = fs::read_to_string(scratch.path().join("FORMAT")).unwrap();
    assert!(format.starts_with("ringback-store 2\n"));
    let newer = format.replacen("ringback-store 2", "ringback-store 99", 1);
    fs::write(scratch.path().join("FORMAT"), newer).unwrap();
    for verb in ["info", "verify"] {
        let refused = ringback(&["store", verb, path]);
        assert_eq!(refused.code, Some(78));
        assert!(refused.stderr.contains("format 99") && refused.stderr.contains("format 3"));
    }
}
