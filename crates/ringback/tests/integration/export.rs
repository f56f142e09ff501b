//! `ringback export`: what it writes is what the API shows, and `import calls` reads it back.

use std::collections::BTreeSet;
use std::fs;

use ringback_testkit::{Api, Server};
use serde_json::{Value, json};

use crate::{client, server};

/// The number that contacts were called from and call back.
const DIALED: &str = "+551130000000";

/// An environment with agents and a role; its API, and the id of the outbound agent.
fn tenant(server: &Server, name: &str, dialed: &str) -> (Api, String) {
    let api = server.environment(json!({"name": name, "default_country": "BR"}));
    let number = api.number(dialed);
    let source = api.agent("Sales, \"North\"", "outbound", &[&number], "");
    let taker = api.agent("taker", "inbound", &[&number], "sip:taker@192.0.2.1");
    let role = format!("/api/v1/agents/{taker}/callback");
    let set =
        json!({"source_agent_ids": [source], "callback_trigger_statuses": ["busy", "no_answer"]});
    assert_eq!(api.post(&role, set).status, 200);
    (api, source)
}

/// Calls of all kinds: several of a contact, in two spellings, with and without a calling number.
fn record(api: &Api, source: &str) -> Vec<String> {
    let mut contacts = Vec::new();
    for index in 0..60 {
        let to = match index % 20 {
            0 => "+525555550142".to_owned(),
            1 => "+5215555550142".to_owned(),
            other => format!("+5511{:09}", 900_000_000 + other),
        };
        let from = (index % 3 > 0).then_some(DIALED);
        let status = ["busy", "no_answer", "completed", "failed"][index % 4];
        let minute = index % 50;
        let call = json!({
            "sid": format!("s-{index},\"x\";y"), "agent_id": source, "to": to, "from": from,
            "status": status, "started_at": format!("2026-11-27T12:{minute:02}:00.{index:03}Z"),
        });
        assert_eq!(api.post("/api/v1/calls", call).status, 201);
        contacts.push(to);
    }
    contacts
}

/// The path of something about a contact.
fn path(kind: &str, contact: &str) -> String {
    format!("/api/v1/{kind}{}", contact.replace('+', "%2B"))
}

/// What is remembered and decided of contacts.
fn index(api: &Api, contacts: &[String]) -> Vec<(Value, Value)> {
    let shown = |contact: &String| {
        let remembered = api.get(&path("contacts/", contact)).body;
        let query = format!("route?to={DIALED}&from={contact}");
        let decided = api.get(&path("", &query)).data(200);
        (remembered, decided)
    };
    contacts.iter().map(shown).collect()
}

#[test]
fn exported_calls_are_imported_to_the_same_index() {
    let server = server();
    let (api, source) = tenant(&server, "acme", DIALED);
    let contacts = record(&api, &source);
    let before = index(&api, &contacts);
    assert!(
        before
            .iter()
            .any(|(_, decided)| decided["outcome"] == "callback")
    );
    for format in ["ndjson", "csv"] {
        let exported = client(
            &server,
            api.token(),
            &["export", "calls", "--format", format],
        );
        let file = server.scratch().join(format!("calls.{format}"));
        fs::write(&file, exported.success()).unwrap();
        for contact in &contacts {
            let _gone_already = api.delete(&path("contacts/", contact));
            assert_eq!(api.get(&path("contacts/", contact)).status, 404);
        }
        let file = file.to_str().unwrap();
        let imported = client(&server, api.token(), &["import", "calls", file]);
        let _summary = imported.success();
        assert_eq!(index(&api, &contacts), before, "{format}");
        let again = client(
            &server,
            api.token(),
            &["export", "calls", "--format", format],
        );
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(
            lines(again.success()),
            lines(exported.success()),
            "{format}"
        );
    }
}

/// The lines of an export as JSON.
fn exported(server: &Server, token: &str, arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["export"], arguments].concat();
    let output = client(server, token, &arguments);
    let lines = output.success().lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn lines_are_what_the_api_shows() {
    let server = server();
    let (api, source) = tenant(&server, "acme", DIALED);
    let (other, _) = tenant(&server, "other", "+551130000009");
    record(&api, &source);
    let token = api.token();
    for (kind, list) in [
        ("agents", "agents?per_page=100"),
        ("numbers", "phone-numbers"),
        ("roles", "callback-agents"),
    ] {
        let shown = api.get(&format!("/api/v1/{list}")).data(200);
        assert_eq!(json!(exported(&server, token, &[kind])), shown, "{kind}");
    }
    let question = json!({"to": DIALED, "from": "+525555550142", "sid": "in-1"});
    assert_eq!(api.post("/api/v1/route", question).status, 200);
    let decisions = exported(&server, token, &["decisions"]);
    assert_eq!(json!(decisions), api.get("/api/v1/decisions").data(200));
    assert_eq!(exported(&server, token, &["calls"]).len(), 60);
    assert_eq!(
        exported(&server, other.token(), &["calls"]),
        Vec::<Value>::new()
    );

    // The administrator sees all, and each line says whose it is.
    let admin = server.admin_token();
    let environments: Vec<Value> = exported(&server, &admin, &["agents"])
        .iter()
        .map(|agent| agent["environment_id"].clone())
        .collect();
    let names = server.admin().get("/api/v1/environments").data(200);
    let [acme, other_id] = [0, 1].map(|index| names[index]["id"].clone());
    assert_eq!(
        environments,
        [&acme, &acme, &other_id, &other_id].map(Value::clone)
    );
    let of_one = exported(&server, &admin, &["agents", "--environment", "acme"]);
    assert_eq!(of_one, exported(&server, token, &["agents"]));
    // An environment is not shown another one.
    let asked = [
        "export",
        "agents",
        "--environment",
        other_id.as_str().unwrap(),
    ];
    assert_eq!(client(&server, token, &asked).code, Some(66));
    for query in ["?format=xml", "?environment=x"] {
        let status = api.get(&format!("/api/v1/export/calls{query}")).status;
        assert_eq!(status, if query.contains("xml") { 422 } else { 404 });
    }
    assert_eq!(api.get("/api/v1/export/tokens").status, 404);

    let csv = client(&server, token, &["export", "roles", "--format", "csv"]);
    let mut lines = csv.success().lines();
    assert_eq!(
        lines.next(),
        Some(
            "id,name,label,direction,current_status,source_agent_ids,callback_trigger_statuses,\
             recency_window_seconds"
        )
    );
    let role = lines.next().unwrap();
    assert!(
        role.ends_with(&format!(",{source},busy;no_answer,")),
        "{role}"
    );
    let agents = client(&server, &admin, &["export", "agents", "--format", "csv"]);
    let first = agents.success().lines().nth(1).unwrap();
    assert!(first.contains(",\"Sales, \"\"North\"\"\","), "{first}");
    assert!(first.ends_with(acme.as_str().unwrap()), "{first}");
}
