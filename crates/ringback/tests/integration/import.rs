//! `import calls`: formats, compression, rejected rows, repetition, interruption.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ringback_testkit::{Api, Server, ServerBuilder};
use serde_json::{Value, json};

use crate::{BINARY, client, client_with_input, server};

/// An environment with one outbound agent: the API and the agent's id.
fn campaign(server: &Server) -> (Api, String) {
    let api = server.environment(json!({"name": "acme", "default_country": "US"}));
    let number = api.number("+12025550100");
    let agent = api.agent("Sales", "outbound", &[&number], "");
    (api, agent)
}

/// A file beside the server's data.
fn file(server: &Server, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = server.scratch().join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The contact with this number.
fn contact(place: usize) -> String {
    format!("+1202{:07}", 5_000_000 + place)
}

/// The calls that are remembered of a contact.
fn calls(api: &Api, contact: &str) -> Vec<Value> {
    let reply = api.get(&format!("/api/v1/contacts/{contact}"));
    match reply.status {
        404 => Vec::new(),
        _ => reply.data(200)["calls"].as_array().unwrap().clone(),
    }
}

#[test]
fn every_format_and_compression_imports_the_same_calls_once() {
    let server = server();
    let (api, agent) = campaign(&server);
    let time = "2026-11-01T12:00:00Z";
    let mut csv = "sid,agent_id,to,from,status,started_at,comment\n".to_owned();
    let mut ndjson = String::new();
    for place in 0..500 {
        let (to, from) = (contact(place), "+12025550100");
        let _infallible = writeln!(
            csv,
            "s{place},{agent},{to},{from},busy,{time},\"a, \"\"b\"\"\nc\""
        );
        let line = json!({"sid": format!("s{place}"), "agent_id": agent, "to": to, "from": from,
            "status": "busy", "started_at": time});
        let _infallible = writeln!(ndjson, "{line}");
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(csv.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(ndjson.as_bytes(), 1).unwrap();
    for path in [
        file(&server, "calls.csv", &csv),
        file(&server, "calls.ndjson", &ndjson),
        file(&server, "calls-gzip", &gzip),
        file(&server, "calls-zstd", &zstd),
    ] {
        let args = ["import", "calls", &path, "--batch", "64", "--json"];
        let output = client(&server, api.token(), &args);
        assert_eq!(
            output.json(),
            json!({"accepted": 500, "rejected": 0, "errors": []}),
            "{path}"
        );
        assert!(!Path::new(&format!("{path}.ringback-position")).exists());
    }
    let piped = client_with_input(&server, api.token(), &["import", "calls", "-"], &zstd);
    assert!(piped.success().contains("500 accepted, 0 rejected"));
    for place in [0, 250, 499] {
        let calls = calls(&api, &contact(place));
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0]["sid"], format!("s{place}"));
        assert_eq!(calls[0]["status"], "busy");
    }
}

#[test]
fn rows_without_call_id_are_imported_once_and_take_later_statuses() {
    let server = server();
    let (api, agent) = campaign(&server);
    let text =
        |status: &str| format!("dst;when;result\n+12025550142;2026-11-01T12:00:00Z;{status}\n");
    let import = |name: &str, status: &str| {
        let path = file(&server, name, text(status));
        let args = [
            "import",
            "calls",
            &path,
            "--delimiter",
            ";",
            "--column",
            "to=dst",
            "--column",
            "started_at=when",
            "--column",
            "status=result",
            "--agent-id",
            &agent,
        ];
        client(&server, api.token(), &args).success().to_owned()
    };
    import("first.csv", "ringing");
    import("again.csv", "ringing");
    import("later.csv", "no-answer");
    let calls = calls(&api, "+12025550142");
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0]["status"], "no_answer");
    assert!(calls[0]["sid"].as_str().unwrap().starts_with("import-"));
}

#[test]
fn rejected_rows_are_told_by_their_line() {
    let server = server();
    let (api, agent) = campaign(&server);
    let good = json!({"agent_id": agent, "to": "+12025550142"});
    let unknown = json!({"agent_id": "01900000-0000-7000-8000-000000000000", "to": "+12025550142"});
    let text = format!("{good}\n\nnot json\n{unknown}\n{good}\n");
    let path = file(&server, "calls.ndjson", text);
    let output = client(&server, api.token(), &["import", "calls", &path]);
    assert_eq!(output.code, Some(65));
    assert!(
        output.stdout.contains("4 rows: 2 accepted, 2 rejected"),
        "{}",
        output.stdout
    );
    assert!(output.stdout.contains("line 3: "), "{}", output.stdout);
    assert!(output.stdout.contains("line 4: "), "{}", output.stdout);
    assert!(
        output.stderr.contains("2 rows were rejected"),
        "{}",
        output.stderr
    );

    let empty = file(&server, "empty.csv", "");
    assert_eq!(
        client(&server, api.token(), &["import", "calls", &empty]).code,
        Some(65)
    );
    let header = file(&server, "header.csv", "agent_id,number\n");
    let output = client(&server, api.token(), &["import", "calls", &header]);
    assert_eq!(output.code, Some(65));
    assert!(output.stderr.contains("`to`"), "{}", output.stderr);
    let missing = client(
        &server,
        api.token(),
        &["import", "calls", "/nonexistent.csv"],
    );
    assert_eq!(missing.code, Some(66));
    assert!(
        missing.stderr.contains("/nonexistent.csv"),
        "{}",
        missing.stderr
    );
    let truncated = {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&b"{}\n".repeat(100_000)).unwrap();
        let mut bytes = gzip.finish().unwrap();
        bytes.truncate(bytes.len() / 2);
        file(&server, "truncated.gz", bytes)
    };
    assert_eq!(
        client(&server, api.token(), &["import", "calls", &truncated]).code,
        Some(65)
    );
    let path = file(
        &server,
        "calls.csv",
        format!("agent_id,to\n{agent},+12025550143\n"),
    );
    assert_eq!(
        client(&server, "talq_wrong", &["import", "calls", &path]).code,
        Some(77)
    );
}

#[test]
fn interrupted_import_continues_where_it_was() {
    let server = server();
    let (api, agent) = campaign(&server);
    let rows = 60_000;
    let mut csv = "agent_id,to,started_at\n".to_owned();
    for place in 0..rows {
        let _infallible = writeln!(csv, "{agent},{},2026-11-01T12:00:00Z", contact(place));
    }
    let path = file(&server, "calls.csv", csv);
    let position = format!("{path}.ringback-position");
    let mut first = Command::new(BINARY)
        .args([
            "import",
            "calls",
            &path,
            "--batch",
            "20",
            "--connections",
            "2",
        ])
        .env("RINGBACK_URL", server.url())
        .env("RINGBACK_TOKEN", api.token())
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !Path::new(&position).exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "nothing is remembered"
        );
        assert_eq!(
            first.try_wait().unwrap(),
            None,
            "the import was too fast to be interrupted"
        );
    }
    first.kill().unwrap();
    first.wait().unwrap();

    let output = client(&server, api.token(), &["import", "calls", &path, "--json"]);
    assert!(
        output.stderr.contains("continuing after row"),
        "{}",
        output.stderr
    );
    assert_eq!(
        output.json(),
        json!({"accepted": rows, "rejected": 0, "errors": []})
    );
    assert!(!Path::new(&position).exists());
    for place in (0..rows).step_by(997) {
        assert_eq!(calls(&api, &contact(place)).len(), 1, "row {place}");
    }
}

#[test]
fn import_waits_for_a_server_that_is_killed_and_comes_back() {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let mut first = ServerBuilder::new(BINARY).data_dir(&data_dir).start();
    let (api, agent) = campaign(&first);
    let rows = 60_000;
    let mut ndjson = String::new();
    for place in 0..rows {
        let call = json!({"agent_id": agent, "to": contact(place), "sid": place.to_string()});
        let _infallible = writeln!(ndjson, "{call}");
    }
    let path = scratch.path().join("calls.ndjson");
    std::fs::write(&path, ndjson).unwrap();
    let position = scratch.path().join("calls.ndjson.ringback-position");
    let import = Command::new(BINARY)
        .args([
            "import",
            "calls",
            path.to_str().unwrap(),
            "--batch",
            "50",
            "--json",
        ])
        .env("RINGBACK_URL", first.url())
        .env("RINGBACK_TOKEN", api.token())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !position.exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "nothing is remembered"
        );
    }
    let http = first.address("http");
    first.kill();
    let second = ServerBuilder::new(BINARY)
        .data_dir(&data_dir)
        .arg(format!("--http={http}"))
        .start();
    let output = import.wait_with_output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said, json!({"accepted": rows, "rejected": 0, "errors": []}));
    let api = second.api(api.token());
    for place in (0..rows).step_by(997) {
        assert_eq!(calls(&api, &contact(place)).len(), 1, "row {place}");
    }
}
