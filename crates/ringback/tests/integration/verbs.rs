//! Every client command against a running server, for people and as JSON.

use serde_json::{Value, json};

use crate::{client, ringback, server};

#[test]
fn administrator_manages_environments_and_tokens() {
    let server = server();
    let token = server.admin_token();
    let run = |args: &[&str]| client(&server, &token, args);

    let made = run(&[
        "environment",
        "create",
        "--name",
        "acme",
        "--default-country",
        "BR",
        "--recency-window",
        "7d",
        "--target-template",
        "sip:{agent_id}@agents.example.com",
        "--fallback-target",
        "sip:fallback@example.com 10 5",
        "--json",
    ])
    .json();
    assert_eq!(made["recency_window_seconds"], 604_800);
    assert_eq!(
        made["fallback_targets"],
        json!([{"uri": "sip:fallback@example.com", "priority": 10, "weight": 5}])
    );
    let id = made["id"].as_str().unwrap();
    assert!(run(&["environment", "list"]).success().contains("acme"));
    assert_eq!(
        run(&["environment", "list", "--json"]).json(),
        json!([made])
    );
    assert!(
        run(&["environment", "show", id])
            .success()
            .contains("604800")
    );
    let changed = run(&[
        "environment",
        "update",
        id,
        "--name",
        "emca",
        "--no-default-country",
        "--no-fallback-targets",
        "--json",
    ])
    .json();
    assert_eq!(
        (&changed["name"], &changed["default_country"]),
        (&json!("emca"), &Value::Null)
    );
    assert_eq!(changed["fallback_targets"], json!([]));
    assert_eq!(changed["target_template"], made["target_template"]);

    let new = run(&[
        "environment",
        "token",
        "create",
        id,
        "--name",
        "ci",
        "--json",
    ])
    .json();
    let secret = new["token"].as_str().unwrap();
    assert!(
        run(&["environment", "token", "list", id])
            .success()
            .contains("ci")
    );
    assert!(
        !run(&["environment", "token", "list", id])
            .success()
            .contains(secret)
    );
    assert_eq!(
        client(&server, secret, &["agent", "list", "--json"]).json(),
        json!([])
    );
    // Either token is refused where the other belongs.
    assert_eq!(
        client(&server, secret, &["environment", "list"]).code,
        Some(77)
    );
    assert_eq!(run(&["agent", "list"]).code, Some(77));
    let token_id = new["id"].as_str().unwrap();
    run(&["environment", "token", "delete", id, token_id]).success();
    assert_eq!(client(&server, secret, &["agent", "list"]).code, Some(77));
    run(&["environment", "delete", id]).success();
    let gone = run(&["environment", "show", id]);
    assert_eq!(gone.code, Some(66));
    assert!(
        gone.stderr.contains("ENVIRONMENT_NOT_FOUND"),
        "{}",
        gone.stderr
    );
}

#[test]
fn numbers_are_listed_a_page_at_a_time_or_all_together() {
    let server = server();
    let environment = server.environment(json!({"name": "acme", "default_country": "US"}));
    let run = |args: &[&str]| client(&server, environment.token(), args);
    let numbers: Vec<String> = (0..101).map(|last| format!("+12025550{last:03}")).collect();
    let mut add = vec!["number", "add", "--quiet"];
    add.extend(numbers.iter().map(String::as_str));
    run(&add).success();
    let listed = |args: &[&str]| -> Vec<String> {
        let args = [&["number", "list", "--json"], args].concat();
        let listed = run(&args).json();
        let digits = |number: &Value| number["number"].as_str().unwrap().to_owned();
        listed.as_array().unwrap().iter().map(digits).collect()
    };
    assert_eq!(listed(&[]), numbers);
    assert_eq!(listed(&["--page", "1"]), numbers[..20]);
    assert_eq!(
        listed(&["--page", "2", "--per-page", "100"]),
        numbers[100..]
    );
    assert!(listed(&["--page", "3", "--per-page", "100"]).is_empty());
}

#[test]
fn campaign_is_set_up_and_asked_about_with_commands_alone() {
    let server = server();
    let environment = server.environment(json!({"name": "acme", "default_country": "US"}));
    let run = |args: &[&str]| client(&server, environment.token(), args);
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();

    let number = id(&run(&["number", "add", "(202) 555-0100", "--json"]).json());
    run(&["number", "add", "+12025550101"]).success();
    assert!(run(&["number", "list"]).success().contains("+12025550101"));
    let create = |name: &str, direction: &str, extra: &[&str]| {
        let mut args = vec![
            "agent",
            "create",
            "--name",
            name,
            "--direction",
            direction,
            "--json",
        ];
        args.extend(extra);
        id(&run(&args).json())
    };
    let source = create("Sales", "outbound", &["--number", "+12025550100"]);
    let callbacks = create(
        "Callbacks",
        "inbound",
        &[
            "--number",
            &number,
            "--target",
            "sip:a@192.0.2.1 10 70",
            "--target",
            "sip:b@192.0.2.1 20",
        ],
    );
    let refused = run(&["callback", "set", &callbacks, "--source", &source]);
    assert_eq!(refused.code, Some(65));
    assert!(
        refused.stderr.contains("source_agent_ids.0"),
        "{}",
        refused.stderr
    );
    let check = run(&["callback", "check", &callbacks, "--source", &source]);
    assert_eq!(check.code, Some(65));
    assert!(
        check.stderr.contains("is not published"),
        "{}",
        check.stderr
    );
    assert!(
        run(&["agent", "publish", &source])
            .success()
            .contains("published")
    );
    run(&["agent", "publish", &callbacks]).success();
    run(&["callback", "check", &callbacks, "--source", &source]).success();
    run(&["callback", "check", &source, "--off"]).success();
    assert!(run(&["callback", "sources"]).success().contains("Sales"));
    let role = run(&[
        "callback",
        "set",
        &callbacks,
        "--source",
        &source,
        "--trigger-status",
        "no_answer",
        "--recency-window",
        "1d",
        "--json",
    ])
    .json();
    assert_eq!(role["callback_config"]["recency_window_seconds"], 86_400);
    let role = run(&[
        "callback",
        "replace",
        &callbacks,
        "--source",
        &source,
        "--no-recency-window",
        "--json",
    ])
    .json();
    assert_eq!(role["callback_config"].get("recency_window_seconds"), None);
    assert_eq!(
        role["callback_config"]["callback_trigger_statuses"],
        json!(["no_answer"])
    );
    assert!(run(&["callback", "list"]).success().contains(&source));
    run(&["number", "set-default", "+12025550100", &callbacks]).success();
    let none = run(&["number", "set-default", &number, "--none", "--json"]).json();
    assert_eq!(none["default_agent_id"], Value::Null);

    let call = [
        "call",
        "record",
        "--agent",
        &source,
        "--to",
        "2025550142",
        "--from",
        "+12025550100",
    ];
    let recorded = run(&[&call[..], &["--sid", "abc", "--json"]].concat()).json();
    assert_eq!(recorded["status"], "initiated");
    let route = ["route", "--to", "+12025550100", "--from", "+12025550142"];
    let decision = run(&[&route[..], &["--json"]].concat()).json();
    assert_eq!(decision["reason"], "status_not_eligible");
    run(&[&call[..], &["--sid", "abc", "--status", "no-answer"]].concat()).success();
    let decision = run(&[&route[..], &["--json"]].concat()).json();
    assert_eq!(decision["reason"], "returned_call_same_number");
    assert_eq!(decision["targets"].as_array().unwrap().len(), 2);
    let explained = run(&[&route[..], &["--explain"]].concat());
    let text = explained.success();
    assert!(
        text.contains("Callbacks") && text.contains("RUNG") && text.contains("sip:b@192.0.2.1")
    );
    let anonymous = run(&["route", "--to", "+12025550100", "--from", "anonymous"]);
    assert!(anonymous.success().contains("caller_anonymous"));
    assert!(
        run(&["route", "--to", "+12025550100"])
            .success()
            .contains("caller_anonymous")
    );

    assert!(
        run(&["contact", "show", "+12025550142"])
            .success()
            .contains("abc")
    );
    let export = run(&["contact", "export", "+12025550142"]);
    let known = export.success();
    assert!(known.contains("\"sid\": \"abc\""), "{known}");
    let audited = run(&["number", "audit"]);
    assert!(matches!(audited.code, Some(0 | 1)), "{}", audited.stderr);
    let optional = ["--reason", "sms.stop", "--until", "2999-01-01T00:00:00Z"];
    let opted_out = [&["contact", "opt-out", "+12025550143"][..], &optional].concat();
    let noted = run(&opted_out);
    let opted_out = noted.success();
    assert!(opted_out.contains("sms.stop"), "{opted_out}");
    let end = run(&["contact", "opt-out", "+12025550143", "--end"]);
    let ended = end.success();
    assert!(ended.contains("no") || ended.contains("false"), "{ended}");
    let day = [
        "contact",
        "reassigned",
        "+12025550143",
        "--before",
        "2020-01-31",
    ];
    assert!(run(&day).success().contains("2020-01-31"));
    let forget = run(&["contact", "forget", "+12025550142", "--opt-out"]);
    let erased = forget.success();
    assert!(erased.contains("clean by"), "{erased}");
    let forgotten = run(&["contact", "show", "+12025550142"]);
    assert_eq!(forgotten.code, Some(66));
    assert!(
        forgotten.stderr.contains("CONTACT_NOT_FOUND"),
        "{}",
        forgotten.stderr
    );
    assert!(
        run(&["callback", "stats"])
            .success()
            .contains("callbacks received")
    );
    let stats = run(&[
        "callback",
        "stats",
        "--start",
        "2026-01-01",
        "--end",
        "2026-01-31",
        "--json",
    ]);
    assert_eq!(stats.json()["period"]["start"], "2026-01-01");
    assert!(
        run(&["callback", "show", &callbacks])
            .success()
            .contains("Sales")
    );

    run(&["callback", "remove", &callbacks]).success();
    assert!(
        run(&["agent", "show", &callbacks])
            .success()
            .contains("priority 10, weight 70")
    );
    let calling = run(&[
        "agent",
        "calling",
        &source,
        "--direction",
        "inbound",
        "--no-numbers",
        "--json",
    ]);
    assert_eq!(calling.json()["phone_numbers"], json!([]));
    let renamed = run(&["agent", "update", &source, "--label", "Old", "--json"]).json();
    assert_eq!(
        (&renamed["label"], &renamed["name"]),
        (&json!("Old"), &json!("Sales"))
    );
    let listed = run(&["agent", "list", "--search", "old", "--json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert!(
        run(&["agent", "list", "--page", "2", "--per-page", "1"])
            .success()
            .contains("Callbacks")
    );
    assert_eq!(run(&["agent", "delete", &source]).code, Some(65));
    run(&["agent", "unpublish", &source]).success();
    run(&["agent", "delete", &source]).success();
    run(&["number", "remove", "+12025550101"]).success();
    assert_eq!(run(&["number", "remove", "+12025550109"]).code, Some(66));
}

#[test]
fn listing_agents_goes_through_all_pages() {
    let server = server();
    let environment = server.environment(json!({"name": "acme"}));
    for index in 0..103 {
        let body = json!({"name": format!("agent {index}"), "label": "x", "direction": "outbound"});
        assert_eq!(environment.post("/api/v1/agents", body).status, 201);
    }
    let listed = client(&server, environment.token(), &["agent", "list", "--json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 103);
    assert_eq!(listed[102]["name"], "agent 102");
}

#[test]
fn client_without_server_or_token_says_so() {
    let output = ringback(&["agent", "list"]);
    assert_eq!(output.code, Some(64));
    assert!(
        output.stderr.contains("RINGBACK_TOKEN"),
        "{}",
        output.stderr
    );
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let output = ringback(&["agent", "list", "--url", &url, "--token", "x"]);
    assert_eq!(output.code, Some(69));
    assert!(output.stderr.contains(&url), "{}", output.stderr);
    let output = ringback(&["agent", "list", "--url", "ftp://x", "--token", "x"]);
    assert_eq!(output.code, Some(64));
    let server = server();
    let output = client(&server, "talq_wrong", &["agent", "list"]);
    assert_eq!(output.code, Some(77));
    assert!(
        output.stderr.contains("Unauthenticated"),
        "{}",
        output.stderr
    );
}
