//! The demonstration.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::{BINARY, ringback};

#[test]
fn demo_shows_every_kind_of_call_and_ends() {
    let output = ringback(&["demo", "--once"]);
    let text = output.success();
    for wanted in [
        "302 sip:solar@agents.example.com",
        "302 sip:internet@agents.example.com",
        "302 sip:reception@agents.example.com",
        "404 Not Found",
        "returned_call_same_number",
        "returned_call (callback)",
        "call_expired",
        "caller_never_called",
        "caller_anonymous",
        "number_unknown",
        "A carrier that follows no 302",
        "refused",
        "200",
    ] {
        assert!(text.contains(wanted), "no {wanted} in {text}");
    }
    assert!(!text.contains('\x1b'), "colours without a terminal");
}

#[test]
fn demo_stays_up_until_interrupted_and_its_lines_work_when_pasted() {
    let scratch = tempfile::tempdir().unwrap();
    let mut demo = Command::new(BINARY)
        .arg("demo")
        .env("TMPDIR", scratch.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let script: Vec<String> = lines
        .by_ref()
        .map(Result::unwrap)
        .skip_while(|line| !line.starts_with("export "))
        .take_while(|line| !line.starts_with("The server stays up"))
        .collect();
    let sipp = Command::new("sipp").arg("-v").output().is_ok();
    let script = script.join("\n");
    let script = match script.split_once("\n# ... who") {
        Some((before, after)) if !sipp => {
            let rest = after.split_once("\n# the same").unwrap().1;
            format!("{before}\n# {rest}")
        }
        _ => script,
    };
    let pasted = Command::new("sh").args(["-ec", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&pasted.stdout);
    assert!(
        pasted.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&pasted.stderr)
    );
    assert!(said.contains("\"outcome\":\"callback\""), "{said}");
    assert!(said.contains("\"to\":\"+12025550147\""), "{said}");
    assert!(
        !sipp || said.contains("302 Contact: <sip:solar@agents.example.com>"),
        "{said}"
    );
    assert!(said.contains("Solar callbacks"), "{said}");

    let status = Command::new("kill")
        .args(["-s", "INT", &demo.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(demo.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}
