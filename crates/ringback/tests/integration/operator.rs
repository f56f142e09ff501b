//! What an operator at a terminal, a script and a monitor see of the client commands.

use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ringback_testkit::{Api, Output, Server, ServerBuilder};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::openssl::{Authority, Identity, Key};
use crate::{BINARY, client, ringback, server};

/// Runs the program with variables.
fn with(variables: &[(&str, &str)], args: &[&str]) -> Output {
    ringback_testkit::run(Path::new(BINARY), variables, args, b"")
}

/// Runs the program on a terminal, with this typed into it; gives exit code and what it shows.
fn on_terminal(server: &Server, token: &str, args: &[&str], typed: &str) -> (Option<i32>, String) {
    let command = [&[BINARY], args].concat().join(" ");
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .env("RINGBACK_URL", server.url())
        .env("RINGBACK_TOKEN", token)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(typed.as_bytes()).unwrap();
    // The terminal stays open until the command has ended.
    let output = child.wait_with_output().unwrap();
    drop(input);
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

/// An environment with two agents of one name and a third.
fn agents(server: &Server) -> (Api, Vec<String>) {
    let api = server.environment(json!({"name": "acme", "default_country": "US"}));
    let ids = ["Twice", "Twice", "Sales"]
        .map(|name| api.agent(name, "outbound", &[], ""))
        .into();
    (api, ids)
}

#[test]
fn exit_codes_tell_refused_missing_forbidden_and_unavailable_apart() {
    let server = server();
    let (api, _) = agents(&server);
    let code = |args: &[&str]| client(&server, api.token(), args).code;
    assert_eq!(code(&["number", "add", "+12025550100"]), Some(0));
    assert_eq!(code(&["number", "add", "+12025550100"]), Some(65), "409");
    assert_eq!(code(&["number", "add", "banana"]), Some(65), "422");
    assert_eq!(code(&["contact", "show", "+12025550142"]), Some(66), "404");
    let unknown = "01900000-0000-7000-8000-000000000000";
    assert_eq!(code(&["agent", "show", unknown]), Some(66), "404");
    assert_eq!(code(&["agent", "show", "Nobody"]), Some(66), "no such name");
    assert_eq!(code(&["agent", "show", "Twice"]), Some(65), "two have it");
    assert_eq!(code(&["environment", "list"]), Some(77), "403");
    assert_eq!(
        client(&server, "talq_wrong", &["agent", "list"]).code,
        Some(77),
        "401"
    );
    assert_eq!(code(&["agent", "fly"]), Some(64));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    assert_eq!(code(&["agent", "list", "--url", &url]), Some(69));
}

#[test]
fn errors_are_json_where_json_is_asked_for() {
    let server = server();
    let (api, ids) = agents(&server);
    let error = |args: &[&str]| -> Value {
        let output = client(&server, api.token(), args);
        assert_eq!(output.stdout, "");
        assert_ne!(output.code, Some(0));
        serde_json::from_str(&output.stderr)
            .unwrap_or_else(|error| panic!("{error}: {}", output.stderr))
    };
    let refused = error(&["number", "add", "banana", "--json"]);
    assert_eq!(refused["success"], false);
    assert!(refused["errors"]["number"].is_array(), "{refused}");
    let missing = error(&["contact", "show", "+12025550142", "--json"]);
    assert_eq!(missing["code"], "CONTACT_NOT_FOUND");
    let ambiguous = error(&["agent", "show", "Twice", "--json"]);
    assert_eq!(ambiguous["code"], "AMBIGUOUS_NAME");
    let message = ambiguous["message"].as_str().unwrap();
    assert!(
        message.contains(&ids[0]) && message.contains(&ids[1]),
        "{message}"
    );
    let usage = error(&["agent", "fly", "--json"]);
    assert_eq!(usage["code"], "USAGE");
    let away = error(&["agent", "list", "--json", "--url", "http://127.0.0.1:9"]);
    assert_eq!(away["code"], "UNREACHABLE");
}

/// A server that answers every request with this status and body.
fn answering(status: &str, body: &str) -> (String, std::thread::JoinHandle<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = std::io::BufReader::new(stream.try_clone().unwrap()).lines();
        while lines.next().is_some_and(|line| line.unwrap() != "") {}
        stream.write_all(answer.as_bytes()).unwrap();
    });
    (url, answering)
}

/// Control characters of C1 used to reach the terminal in errors as JSON.
#[test]
fn what_others_have_written_never_steers_the_terminal() {
    // ESC, CR, DEL, CSI and OSC of C1, and what turns the direction of writing.
    let odd = "a\u{1b}[2Jb\rc\u{7f}d\u{9b}31me\u{9d}f\u{202e}g\u{2066}h";
    let check = |args: &[&str], output: &Output| {
        for text in [&output.stdout, &output.stderr] {
            let is_odd =
                |c: char| c.is_control() && c != '\n' || matches!(c, '\u{202e}' | '\u{2066}');
            assert!(!text.contains(is_odd), "{args:?}: {text:?}");
        }
        assert_ne!((output.stdout.len(), output.stderr.len()), (0, 0));
    };
    let server = server();
    let (api, _) = agents(&server);
    let path = server.scratch().join(odd);
    std::fs::write(&path, "no configuration \u{9b}").unwrap();
    let path = path.to_str().unwrap();
    for args in [
        &[odd][..],
        &["agent", odd],
        &["agent", "list", &format!("--{odd}")],
        &["agent", "list", "--url", odd],
        &["agent", "show", odd],
        &["agent", "create", "--name", odd, "--direction", "inbound"],
        &["agent", "create", "--name", "A", "--direction", odd],
        &["number", "add", odd],
        &["contact", "show", odd],
        &["route", "--to", odd, "--from", odd],
        &["route", "--to", odd, "--from", odd, "--explain"],
        &["call", "record", "--agent", odd, "--to", odd],
        &[
            "call",
            "record",
            "--agent",
            "Sales",
            "--to",
            "+12025550142",
            "--sid",
            odd,
        ],
        &["contact", "show", "+12025550142"],
        &["import", "calls", odd],
        &["import", "calls", path],
        &["context", "use", odd],
        &["check-config", path],
        &["check-config", odd],
        &["serve", "--config", path],
        &["serve", "--http", odd],
    ] {
        check(args, &client(&server, api.token(), args));
        let args = [args, &["--json"]].concat();
        check(&args, &client(&server, api.token(), &args));
    }

    // JSON may hold C1 characters as they are.
    let odd = odd.replace(['\u{1b}', '\r', '\u{7f}'], "");
    let refusal = format!(
        r#"{{"success":false,"message":"{odd}","code":"{odd}","errors":{{"{odd}":["{odd}"]}}}}"#
    );
    let list = |formatted: &str, agent: &str| {
        let id = "01900000-0000-7000-8000-000000000000";
        format!(
            r#"{{"success":true,"data":[{{"id":"{id}","number":"+12025550100","country_code":"US",
            "formatted_number":"{formatted}","agents":[{{"id":"{id}","name":"{agent}","direction":"inbound"}}],
            "default_agent_id":null,"created_at":"2026-01-31T12:00:00Z"}}]}}"#
        )
    };
    for (status, body, code) in [
        ("422 Unprocessable Content", &refusal, 65),
        ("500 Internal Server Error", &odd, 69),
        ("200 OK", &list(&odd, &odd), 0),
        ("200 OK", &odd, 69),
    ] {
        for option in [&[][..], &["--json"], &["--quiet"]] {
            let (url, answering) = answering(status, body);
            let args = [&["number", "list", "--url", &url], option].concat();
            let output = with(&[("RINGBACK_TOKEN", "talq_x")], &args);
            assert_eq!(output.code, Some(code), "{output:?}");
            check(&args, &output);
            answering.join().unwrap();
        }
    }
}

#[test]
fn quiet_prints_ids_alone() {
    let server = server();
    let (api, ids) = agents(&server);
    let run = |args: &[&str]| client(&server, api.token(), args).success().to_owned();
    assert_eq!(
        run(&["agent", "list", "--quiet"]),
        ids.iter().map(|id| format!("{id}\n")).collect::<String>()
    );
    let made = run(&[
        "agent",
        "create",
        "--name",
        "Desk",
        "--direction",
        "inbound",
        "-q",
    ]);
    assert_eq!(run(&["agent", "show", "Desk", "-q"]), made);
    assert_eq!(run(&["agent", "delete", "Desk", "--quiet"]), "");
}

#[test]
fn unique_names_are_taken_wherever_ids_are() {
    let server = server();
    let admin = server.admin_token();
    let run = |token: &str, args: &[&str]| client(&server, token, args);
    let made = run(
        &admin,
        &["environment", "create", "--name", "acme", "--json"],
    )
    .json();
    let new = [
        "environment",
        "token",
        "create",
        "acme",
        "--name",
        "ci",
        "--json",
    ];
    let token = run(&admin, &new).json();
    let token = token["token"].as_str().unwrap();
    assert_eq!(
        run(&admin, &["environment", "show", "acme", "-q"])
            .success()
            .trim(),
        made["id"]
    );
    run(token, &["number", "add", "+12025550100", "+12025550101"]).success();
    for (name, direction) in [("Sales", "outbound"), ("Desk", "inbound")] {
        run(
            token,
            &[
                "agent",
                "create",
                "--name",
                name,
                "--direction",
                direction,
                "--number",
                "+1 202-555-0100",
                "--target",
                "sip:desk@192.0.2.1",
            ],
        )
        .success();
        run(token, &["agent", "publish", name]).success();
    }
    run(token, &["callback", "check", "Desk", "--source", "Sales"]).success();
    run(token, &["callback", "set", "Desk", "--source", "Sales"]).success();
    run(token, &["callback", "show", "Desk"]).success();
    run(token, &["number", "set-default", "+12025550100", "Desk"]).success();
    run(
        token,
        &["call", "record", "--agent", "Sales", "--to", "+12025550142"],
    )
    .success();
    let route = [
        "route",
        "--to",
        "+12025550100",
        "--from",
        "+12025550142",
        "--json",
    ];
    assert_eq!(run(token, &route).json()["agent"]["name"], "Desk");
    run(token, &["callback", "remove", "Desk"]).success();
    run(token, &["agent", "unpublish", "Desk"]).success();
    run(token, &["agent", "delete", "Desk"]).success();
    run(&admin, &["environment", "token", "delete", "acme", "ci"]).success();
    assert_eq!(run(token, &["agent", "list"]).code, Some(77));
}

#[test]
fn one_bad_number_does_not_keep_the_others_out() {
    let server = server();
    let (api, _) = agents(&server);
    let run = |args: &[&str]| client(&server, api.token(), args);
    let output = run(&[
        "number",
        "add",
        "+12025550100",
        "banana",
        "+12025550101",
        "-q",
    ]);
    assert_eq!(output.code, Some(65));
    assert_eq!(output.stdout.lines().count(), 2, "{}", output.stdout);
    let listed = run(&["number", "list", "--json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 2);
}

#[test]
fn deleting_asks_on_a_terminal_and_nowhere_else() {
    let server = server();
    let (api, ids) = agents(&server);
    let exists = |id: &str| api.get(&format!("/api/v1/agents/{id}")).status == 200;
    for id in &ids {
        client(&server, api.token(), &["agent", "unpublish", id]).success();
    }
    let delete = ["agent", "delete", ids[0].as_str()];
    let (code, shown) = on_terminal(&server, api.token(), &delete, "n\n");
    assert_eq!(code, Some(64), "{shown}");
    assert!(shown.contains("[y/N]"), "{shown}");
    assert!(exists(&ids[0]));
    let (code, shown) = on_terminal(&server, api.token(), &delete, "y\n");
    assert_eq!(code, Some(0), "{shown}");
    assert!(!exists(&ids[0]));
    let delete = ["agent", "delete", ids[1].as_str(), "--yes"];
    let (code, shown) = on_terminal(&server, api.token(), &delete, "");
    assert_eq!(code, Some(0), "{shown}");
    assert!(!shown.contains("[y/N]"), "{shown}");
    // Standard input is a pipe.
    client(&server, api.token(), &["agent", "delete", &ids[2]]).success();
    let (code, shown) = on_terminal(
        &server,
        api.token(),
        &["contact", "forget", "+12025550142"],
        "\n",
    );
    assert_eq!(code, Some(64), "{shown}");
}

/// Speaks TLS in front of a server; stops with the runtime.
fn tls_in_front(server: &Server, identity: &Identity) -> (tokio::runtime::Runtime, String) {
    let chain = CertificateDer::pem_file_iter(&identity.certificate)
        .unwrap()
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let behind = server.address("http");
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut secure) = acceptor.accept(stream).await else {
                    return;
                };
                let mut plain = tokio::net::TcpStream::connect(behind).await.unwrap();
                let _closed = tokio::io::copy_bidirectional(&mut secure, &mut plain).await;
            });
        }
    });
    (runtime, url)
}

#[test]
fn https_is_spoken_to_servers_whose_certificate_is_trusted() {
    let server = server();
    let (api, _) = agents(&server);
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca");
    let stranger = Authority::new(folder.path(), "stranger");
    let (_running, url) = tls_in_front(&server, &authority.identity("server", Key::Elliptic));
    let list = |ca: &str| {
        with(
            &[("RINGBACK_URL", &url), ("RINGBACK_TOKEN", api.token())],
            &["agent", "list", "--json", "--ca", ca],
        )
    };
    let trusted = authority.certificate();
    let listed = list(trusted.to_str().unwrap()).json();
    assert_eq!(listed.as_array().unwrap().len(), 3);
    let untrusted = stranger.certificate();
    let refused = list(untrusted.to_str().unwrap());
    assert_eq!(refused.code, Some(69), "{}", refused.stderr);
    assert!(refused.stderr.contains("certificate"), "{}", refused.stderr);
    assert_eq!(list("/nonexistent.pem").code, Some(78));
}

#[test]
fn contexts_keep_servers_and_tokens_for_their_owner() {
    let server = server();
    let (api, _) = agents(&server);
    let home = tempfile::tempdir().unwrap();
    let home_path = home.path().to_str().unwrap();
    let url = server.url();
    let run = |variables: &[(&str, &str)], args: &[&str]| {
        let all = [&[("XDG_CONFIG_HOME", home_path)], variables].concat();
        with(&all, args)
    };
    let add = [
        "context",
        "add",
        "here",
        "--url",
        &url,
        "--token",
        api.token(),
    ];
    run(&[], &add).success();
    run(
        &[],
        &["context", "add", "gone", "--url", "http://127.0.0.1:9"],
    )
    .success();
    let file = home.path().join("ringback/contexts.toml");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);

    assert_eq!(
        run(&[], &["agent", "list"]).code,
        Some(64),
        "none is in use"
    );
    run(&[], &["agent", "list", "--context", "here"]).success();
    run(&[], &["context", "use", "here"]).success();
    run(&[], &["agent", "list"]).success();
    let listed = run(&[], &["context", "list", "--json"]);
    assert!(!listed.stdout.contains(api.token()), "{}", listed.stdout);
    let listed = listed.json();
    assert_eq!(listed[1]["name"], "here");
    assert_eq!(listed[1]["current"], true);

    let elsewhere = ("RINGBACK_URL", "http://127.0.0.1:9");
    let output = run(&[elsewhere], &["agent", "list"]);
    assert!(
        output.stderr.contains("RINGBACK_TOKEN"),
        "the token is for its server alone: {}",
        output.stderr
    );
    run(&[elsewhere], &["agent", "list", "--context", "here"]).success();
    assert_eq!(run(&[], &["context", "use", "nowhere"]).code, Some(66));
    assert_eq!(
        run(&[], &["context", "add", "a b", "--url", "x"]).code,
        Some(64)
    );
    run(&[], &["context", "remove", "here"]).success();
    assert_eq!(run(&[], &["agent", "list"]).code, Some(64));
}

#[test]
fn status_shows_health_and_checks_as_a_plugin() {
    let server = server();
    let token = server.admin_token();
    let shown = client(&server, &token, &["status"]);
    for part in ["health", "ready", "calls/s", "dropped, by cause", "no peer"] {
        assert!(shown.success().contains(part), "{part}: {}", shown.stdout);
    }
    let value = client(&server, &token, &["status", "--json"]).json();
    assert_eq!(value["health"]["storage"], "available");
    let check = |token: &str, url: &str| {
        let variables = [("RINGBACK_URL", url), ("RINGBACK_TOKEN", token)];
        let output = with(&variables, &["status", "--check"]);
        (output.code, output.stdout)
    };
    let (code, line) = check(&token, &server.url());
    assert_eq!(code, Some(0), "{line}");
    assert!(line.starts_with("RINGBACK OK - ready"), "{line}");
    assert_eq!(line.lines().count(), 1);
    let (code, line) = check("talq_wrong", &server.url());
    assert_eq!(code, Some(3), "{line}");
    let (code, line) = check(&token, "http://127.0.0.1:9");
    assert_eq!(code, Some(2), "{line}");
    assert!(line.starts_with("RINGBACK CRITICAL - no answer"), "{line}");
}

#[test]
fn reload_says_whether_it_worked() {
    let scratch = tempfile::tempdir().unwrap();
    let config = scratch.path().join("ringback.toml");
    std::fs::write(&config, "version = 1\n").unwrap();
    let server = ServerBuilder::new(BINARY)
        .arg("--config")
        .arg(config.to_str().unwrap())
        .start();
    let token = server.admin_token();
    let reload = || client(&server, &token, &["reload"]);
    assert!(reload().success().contains("reloaded"));
    std::fs::write(&config, "[http]\nrate-limit = 7\n").unwrap();
    let later = reload();
    assert!(later.success().contains("[http]"), "{}", later.stdout);

    std::fs::write(&config, "verzion = 1\n[log]\nformat = 'xml'\n").unwrap();
    let refused = reload();
    assert_eq!(refused.code, Some(65));
    for fault in [":1: verzion", ":3: log.format"] {
        assert!(refused.stderr.contains(fault), "{}", refused.stderr);
    }
    let (code, line) = {
        let output = client(&server, &token, &["status", "--check"]);
        (output.code, output.stdout)
    };
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("last reload was refused"), "{line}");
    let status = client(&server, &token, &["status", "--json"]).json();
    assert_eq!(status["reloads"]["succeeded"], 2);
    assert_eq!(status["reloads"]["failed"], 1);
}

#[test]
fn service_manager_is_told_of_start_reload_and_end() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let next = || loop {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if message != "WATCHDOG=1" {
            break message;
        }
    };
    let mut server = ServerBuilder::new(BINARY)
        .variable("NOTIFY_SOCKET", path.to_str().unwrap())
        .variable("WATCHDOG_USEC", "200000")
        .start();
    assert_eq!(next(), "READY=1");
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"WATCHDOG=1");
    server.signal("HUP");
    let reloading = next();
    let micros = reloading
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .unwrap();
    assert!(micros.parse::<u64>().unwrap() > 0);
    assert_eq!(next(), "READY=1");
    server.signal("TERM");
    assert_eq!(next(), "STOPPING=1");
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("man1");
    ringback(&["man", folder.to_str().unwrap()]).success();
    for page in [
        "ringback",
        "ringback-serve",
        "ringback-environment-token-create",
    ] {
        let text = std::fs::read_to_string(folder.join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".SH NAME"), "{page}");
    }
    let written = ringback(&["man", "/proc/nowhere"]);
    assert_eq!(written.code, Some(70), "{}", written.stderr);
}
