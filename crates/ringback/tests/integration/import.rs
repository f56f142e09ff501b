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
fn contact(index: usize) -> String {
    format!("+1202{:07}", 5_000_000 + index)
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
    for index in 0..500 {
        let (to, from) = (contact(index), "+12025550100");
        let _infallible = writeln!(
            csv,
            "s{index},{agent},{to},{from},busy,{time},\"a, \"\"b\"\"\nc\""
        );
        let line = json!({"sid": format!("s{index}"), "agent_id": agent, "to": to, "from": from,
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
        let (new, known) = if path.ends_with("calls.csv") {
            (500, 0)
        } else {
            (0, 500)
        };
        assert_eq!(
            output.json(),
            json!({"rows": 500, "accepted": 500, "rejected": 0, "new": new, "updated": 0, "known": known,
                "outbound": 500, "inbound": 0, "internal": 0, "errors": []}),
            "{path}"
        );
        assert!(!Path::new(&format!("{path}.ringback-position")).exists());
    }
    let piped = client_with_input(&server, api.token(), &["import", "calls", "-"], &zstd);
    assert!(piped.success().contains("500 accepted, 0 rejected"));
    for index in [0, 250, 499] {
        let calls = calls(&api, &contact(index));
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0]["sid"], format!("s{index}"));
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
    let counts = [
        import("first.csv", "ringing"),
        import("again.csv", "ringing"),
        import("later.csv", "no-answer"),
    ];
    for (told, counts) in counts.iter().zip([
        "1 new, 0 updated, 0 known",
        "0 new, 0 updated, 1 known",
        "0 new, 1 updated, 0 known",
    ]) {
        assert!(told.contains(counts), "{told}");
    }
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
    let args = ["import", "calls", &path, "--started-now"];
    let output = client(&server, api.token(), &args);
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
    let args = ["import", "calls", &path, "--started-now"];
    assert_eq!(client(&server, "talq_wrong", &args).code, Some(77));
}

/// Starts an import, and kills it as soon as it has remembered how far it got.
fn interrupted(server: &Server, token: &str, args: &[&str], position: &str) {
    let mut import = Command::new(BINARY)
        .args(args)
        .args(["--batch", "20", "--connections", "2"])
        .env("RINGBACK_URL", server.url())
        .env("RINGBACK_TOKEN", token)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !Path::new(position).exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "nothing is remembered"
        );
        assert_eq!(
            import.try_wait().unwrap(),
            None,
            "the import was too fast to be interrupted"
        );
    }
    import.kill().unwrap();
    import.wait().unwrap();
}

#[test]
fn interrupted_import_continues_where_it_was() {
    let server = server();
    let (api, agent) = campaign(&server);
    let rows = 60_000;
    let mut csv = "agent_id,to,started_at\n".to_owned();
    for index in 0..rows {
        let _infallible = writeln!(csv, "{agent},{},2026-11-01T12:00:00Z", contact(index));
    }
    let path = file(&server, "calls.csv", csv);
    let position = format!("{path}.ringback-position");
    interrupted(&server, api.token(), &["import", "calls", &path], &position);

    let output = client(&server, api.token(), &["import", "calls", &path, "--json"]);
    assert!(
        output.stderr.contains("continuing after row"),
        "{}",
        output.stderr
    );
    let said = output.json();
    assert_eq!(
        (&said["rows"], &said["accepted"], &said["rejected"]),
        (&json!(rows), &json!(rows), &json!(0))
    );
    assert!(!Path::new(&position).exists());
    for index in (0..rows).step_by(997) {
        assert_eq!(calls(&api, &contact(index)).len(), 1, "row {index}");
    }
}

#[test]
fn rejected_rows_are_kept_once_however_often_the_import_is_interrupted() {
    let server = server();
    let (api, agent) = campaign(&server);
    let rows = 60_000;
    let mut csv = "agent_id,to,started_at\n".to_owned();
    let mut expected = "line,field,value,reason\n".to_owned();
    for index in 0..rows {
        // Some are rejected here, some by the server.
        let (to, started_at) = match index % 5 {
            1 => (format!("4.93E+{index}"), "2026-11-01T12:00:00Z"),
            3 => (contact(index), "yesterday"),
            _ => (contact(index), "2026-11-01T12:00:00Z"),
        };
        let _infallible = writeln!(csv, "{agent},{to},{started_at}");
        let line = index + 2;
        let _infallible = match index % 5 {
            1 => writeln!(
                expected,
                "{line},to,{to},The to field must be a valid phone number."
            ),
            3 => writeln!(
                expected,
                "{line},started_at,yesterday,it is not a time in a known form; --time-format names another"
            ),
            _ => Ok(()),
        };
    }
    let path = file(&server, "calls.csv", csv);
    let position = format!("{path}.ringback-position");
    let rejects = server.scratch().join("rejects.csv");
    let args = [
        "import",
        "calls",
        &path,
        "--rejects",
        rejects.to_str().unwrap(),
    ];
    for _ in 0..2 {
        interrupted(&server, api.token(), &args, &position);
        // Rows that were rejected after the position was remembered come again.
        let mut behind = std::fs::OpenOptions::new()
            .append(true)
            .open(&rejects)
            .unwrap();
        behind.write_all(b"59999,to,\"cut o").unwrap();
    }
    let output = client(&server, api.token(), &args);
    assert_eq!(output.code, Some(65));
    assert!(
        output.stderr.contains("continuing after row"),
        "{}",
        output.stderr
    );
    assert!(
        output
            .stdout
            .contains("60000 rows: 36000 accepted, 24000 rejected"),
        "{}",
        output.stdout
    );
    let kept = std::fs::read_to_string(&rejects).unwrap();
    for (kept, expected) in kept.lines().zip(expected.lines()) {
        assert_eq!(kept, expected);
    }
    assert_eq!(kept.len(), expected.len());
}

#[test]
fn import_waits_for_a_server_that_is_killed_and_comes_back() {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let mut first = ServerBuilder::new(BINARY).data_dir(&data_dir).start();
    let (api, agent) = campaign(&first);
    let rows = 60_000;
    let mut ndjson = String::new();
    for index in 0..rows {
        let call = json!({"agent_id": agent, "to": contact(index), "sid": index.to_string(),
            "started_at": "2026-11-01T12:00:00Z"});
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
    assert_eq!(
        (&said["rows"], &said["accepted"], &said["rejected"]),
        (&json!(rows), &json!(rows), &json!(0))
    );
    let api = second.api(api.token());
    for index in (0..rows).step_by(997) {
        assert_eq!(calls(&api, &contact(index)).len(), 1, "row {index}");
    }
}

/// A row of Asterisk's `Master.csv`.
fn asterisk(src: &str, dst: &str, disposition: &str, id: u32) -> String {
    format!(
        "\"\",\"{src}\",\"{dst}\",\"from-internal\",\"\"\"Ann\"\" <{src}>\",\"PJSIP/1001-1\",\"PJSIP/trunk-2\",\"Dial\",\
         \"PJSIP/{dst}@trunk,30,tT\",\"2026-11-01 09:00:00\",\"\",\"2026-11-01 09:00:30\",30,0,\"{disposition}\",\
         \"DOCUMENTATION\",\"1793534400.{id}\",\"\"\n"
    )
}

#[test]
fn records_of_asterisk_are_imported_as_they_are() {
    let server = server();
    let (api, _) = campaign(&server);
    let text = [
        asterisk("2025550100", "12025550142", "NO ANSWER", 1),
        asterisk("1001", "12025550143", "ANSWERED", 2),
        asterisk("1001", "1002", "ANSWERED", 3),
        asterisk("12025550144", "2025550100", "ANSWERED", 4),
    ]
    .concat();
    let path = file(&server, "Master.csv", &text);
    let args = [
        "import",
        "calls",
        &path,
        "--preset",
        "asterisk",
        "--time-zone",
        "America/Sao_Paulo",
        "--agent",
        "Sales",
        "--json",
    ];
    let said = client(&server, api.token(), &args).json();
    assert_eq!(
        said,
        json!({"rows": 4, "accepted": 2, "rejected": 0, "new": 2, "updated": 0, "known": 0,
            "outbound": 2, "inbound": 1, "internal": 1, "errors": []})
    );
    let first = &calls(&api, "+12025550142")[0];
    assert_eq!(first["status"], "no_answer");
    assert_eq!(first["from"], "+12025550100");
    assert_eq!(first["sid"], "1793534400.1");
    assert_eq!(first["started_at"], "2026-11-01T12:00:00.000Z");
    let second = &calls(&api, "+12025550143")[0];
    assert_eq!(
        second["from"],
        Value::Null,
        "an extension is no calling number"
    );

    // In UTF-16, as a spreadsheet saves it, and without the agent: who alone owns the calling number called.
    let own: Vec<u8> = format!(
        "\u{feff}{}",
        asterisk("2025550100", "12025550145", "BUSY", 5)
    )
    .encode_utf16()
    .flat_map(u16::to_le_bytes)
    .collect();
    let path = file(&server, "utf-16.csv", own);
    let args = ["import", "calls", &path, "--preset", "asterisk"];
    let output = client(&server, api.token(), &args);
    assert!(output.success().contains("1 new"), "{}", output.stdout);
    assert!(output.stderr.contains("--time-zone"), "{}", output.stderr);
    assert_eq!(calls(&api, "+12025550145")[0]["status"], "busy");
}

#[test]
fn every_rejected_row_is_kept_with_line_value_and_reason() {
    let server = server();
    let (api, agent) = campaign(&server);
    // More than the server tells of one request, and among them rows that it takes.
    let mut text = "agent_id,to,from,started_at\n".to_owned();
    for index in 0..1_000 {
        let to = match index % 4 {
            0 => contact(index),
            _ => format!("4.93E+{index}"),
        };
        let _infallible = writeln!(text, "{agent},{to},,2026-11-01 12:00:00");
    }
    let _infallible = writeln!(text, "{agent},+12025550142,,yesterday");
    let _infallible = writeln!(text, "\u{1b}[2Jx\u{9b},+12025550142,,2026-11-01 12:00:00");
    let _infallible = write!(text, "{agent},\"+120255");
    let path = file(&server, "calls.csv", text);
    let rejects = server.scratch().join("rejects.csv");
    let args = [
        "import",
        "calls",
        &path,
        "--rejects",
        rejects.to_str().unwrap(),
    ];
    for counts in ["250 new", "250 known"] {
        let output = client(&server, api.token(), &args);
        assert_eq!(output.code, Some(65));
        let told = "1003 rows: 250 accepted, 753 rejected, 0 skipped";
        assert!(output.stdout.contains(told), "{}", output.stdout);
        assert!(output.stdout.contains(counts), "{}", output.stdout);
        assert!(output.stdout.contains("to `4.93E+1`"), "{}", output.stdout);
        assert!(!output.stdout.contains(['\u{1b}', '\u{9b}']));
        let kept = std::fs::read_to_string(&rejects).unwrap();
        let lines: Vec<&str> = kept.lines().collect();
        assert_eq!(lines.len(), 754);
        assert_eq!(lines[0], "line,field,value,reason");
        assert_eq!(
            lines[1],
            "3,to,4.93E+1,The to field must be a valid phone number."
        );
        assert!(
            lines[750].starts_with("1001,to,4.93E+999,"),
            "{}",
            lines[750]
        );
        assert!(lines[751].starts_with("1002,started_at,yesterday,"));
        assert!(
            lines[752].starts_with("1003,agent_id,\\u{1b}[2Jx"),
            "{}",
            lines[752]
        );
        assert!(lines[753].starts_with("1004,,,the file ends within a quoted field"));
    }
}

#[test]
fn a_file_that_does_not_say_when_is_refused_unless_it_is_now() {
    let server = server();
    let (api, agent) = campaign(&server);
    let path = file(
        &server,
        "calls.csv",
        format!("agent_id;to\n{agent};+12025550142\n"),
    );
    let output = client(&server, api.token(), &["import", "calls", &path]);
    assert_eq!(output.code, Some(65));
    assert!(output.stderr.contains("--started-now"), "{}", output.stderr);
    assert!(calls(&api, "+12025550142").is_empty());
    let args = ["import", "calls", &path, "--started-now"];
    let output = client(&server, api.token(), &args);
    assert!(output.success().contains("1 new"), "{}", output.stdout);
}

#[test]
fn where_no_position_can_be_kept_it_is_said_once() {
    let server = server();
    let (api, agent) = campaign(&server);
    let mut text = "agent_id,to,started_at\n".to_owned();
    for index in 0..2_000 {
        let _infallible = writeln!(text, "{agent},{},1793534400", contact(index));
    }
    let path = file(&server, "calls.csv", text);
    let args = [
        "import",
        "calls",
        &path,
        "--batch",
        "10",
        "--position-file",
        "/nonexistent/position",
    ];
    let output = client(&server, api.token(), &args);
    assert!(
        output.success().contains("2000 accepted"),
        "{}",
        output.stdout
    );
    let notes = output.stderr.matches("/nonexistent/position").count();
    assert_eq!(notes, 1, "{}", output.stderr);
}

#[test]
fn a_file_of_one_endless_row_costs_bounded_memory() {
    // 300 KB of gzip took 1.8 GB, a header of commas 10 GB.
    let server = server();
    let (api, agent) = campaign(&server);
    let compressed = |start: &str, byte: u8, end: &str| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(start.as_bytes()).unwrap();
        for _ in 0..1_024 {
            gzip.write_all(&[byte; 1 << 20]).unwrap();
        }
        gzip.write_all(end.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let row = format!("{agent},+12025550142,1793534400\n");
    let header = "agent_id,to,started_at\n";
    let limited = |path: &str| {
        // The address space that is left for an import with four connections, in KiB.
        let script = format!("ulimit -v 1000000; exec '{BINARY}' import calls '{path}'");
        Command::new("sh")
            .args(["-c", &script])
            .env("RINGBACK_URL", server.url())
            .env("RINGBACK_TOKEN", api.token())
            .output()
            .unwrap()
    };
    let path = file(
        &server,
        "row.gz",
        compressed(header, b'x', &format!("\n{row}")),
    );
    let output = limited(&path);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    assert!(said.contains("2 rows: 1 accepted, 1 rejected"), "{said}");
    let path = file(&server, "header.gz", compressed("", b',', &row));
    let output = limited(&path);
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("the CSV header is longer"));
}
