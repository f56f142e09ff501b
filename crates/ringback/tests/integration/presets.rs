//! `import calls --preset`: the records of `fixtures/imports`, whose README tells where they come from, from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ringback_testkit::{Api, Server};
use serde_json::{Value, json};

use crate::{client, ringback, server};

/// What must come of a file.
struct Golden {
    /// The file, and the preset that reads it.
    file: PathBuf,
    preset: String,
    /// As it is written beside the file.
    content: Value,
}

/// All of them, ordered by their path.
fn golden() -> Vec<Golden> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/imports");
    let mut golden = Vec::new();
    for preset in std::fs::read_dir(folder).unwrap() {
        let preset = preset.unwrap();
        if !preset.file_type().unwrap().is_dir() {
            continue;
        }
        for file in std::fs::read_dir(preset.path()).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_some_and(|kind| kind == "json") {
                continue;
            }
            let beside = format!("{}.json", file.display());
            let content = std::fs::read_to_string(&beside).expect(&beside);
            golden.push(Golden {
                file,
                preset: preset.file_name().into_string().unwrap(),
                content: serde_json::from_str(&content).expect(&beside),
            });
        }
    }
    golden.sort_by(|left, right| left.file.cmp(&right.file));
    golden
}

/// An environment with two outbound agents: the API, and the names of the agents by id.
fn campaign(server: &Server) -> (Api, BTreeMap<String, String>) {
    // The calls are of a day in the past and stay remembered.
    let decade = 10 * 366 * 24 * 3_600;
    let api = server.environment(json!({
        "name": "acme", "default_country": "US", "recency_window_seconds": decade,
    }));
    let mut names = BTreeMap::new();
    for (name, number) in [("Sales", "+12025550100"), ("Support", "+12025550101")] {
        let number = api.number(number);
        names.insert(api.agent(name, "outbound", &[&number], ""), name.to_owned());
    }
    (api, names)
}

/// Deletes the agents with all their calls, and the numbers: a number belongs to one environment.
fn clear(api: &Api, agents: &BTreeMap<String, String>) {
    for id in agents.keys() {
        api.remove_agent(id);
    }
    for number in api
        .get("/api/v1/phone-numbers")
        .data(200)
        .as_array()
        .unwrap()
    {
        let path = format!("/api/v1/phone-numbers/{}", number["id"].as_str().unwrap());
        assert_eq!(api.delete(&path).status, 200);
    }
}

/// The calls that the API shows of the contacts of a file, as they stand in the file beside it. An id that the import
/// has derived is a `*`, also behind an id that came twice.
fn calls(api: &Api, names: &BTreeMap<String, String>, expected: &Value) -> Vec<Value> {
    let contacts: BTreeSet<&str> = expected
        .as_array()
        .unwrap()
        .iter()
        .map(|call| call["to"].as_str().unwrap())
        .collect();
    let mut calls = Vec::new();
    for contact in contacts {
        let contact = api.get(&format!("/api/v1/contacts/{contact}")).data(200);
        for call in contact["calls"].as_array().unwrap() {
            let sid = call["sid"].as_str().unwrap();
            let sid = match sid.split_once('-') {
                Some(("import", _)) => "*".to_owned(),
                Some((id, _)) if id.contains('.') => format!("{id}*"),
                _ => sid.to_owned(),
            };
            calls.push(json!({
                "sid": sid, "agent": names[call["agent_id"].as_str().unwrap()], "to": call["to"],
                "from": call["from"], "status": call["status"], "started_at": call["started_at"],
            }));
        }
    }
    calls.sort_by_key(|call| call["started_at"].to_string());
    calls
}

#[test]
fn records_of_every_system_become_the_calls_that_they_tell_of() {
    let server = server();
    let mut failures = String::new();
    for golden in golden() {
        let (api, names) = campaign(&server);
        let rejects = server.scratch().join("rejects.csv");
        let mut args = vec![
            "import",
            "calls",
            golden.file.to_str().unwrap(),
            "--preset",
            &golden.preset,
            "--json",
            "--rejects",
            rejects.to_str().unwrap(),
        ];
        let arguments = golden.content["arguments"].as_array().unwrap();
        args.extend(arguments.iter().map(|argument| argument.as_str().unwrap()));
        let mut told = Vec::new();
        for _ in 0..2 {
            let output = client(&server, api.token(), &args);
            let mut summary: Value = serde_json::from_str(&output.stdout)
                .unwrap_or_else(|error| panic!("{}: {error}: {output:?}", golden.file.display()));
            let is_rejected = summary["rejected"] != 0;
            assert_eq!(output.code, Some(if is_rejected { 65 } else { 0 }));
            summary.as_object_mut().unwrap().remove("errors");
            told.push(summary);
        }
        let rejected = std::fs::read_to_string(&rejects).unwrap();
        let rejected: Vec<&str> = rejected.lines().skip(1).collect();
        let actual = json!({
            "arguments": arguments,
            "summary": told[0],
            "rejects": rejected,
            "calls": calls(&api, &names, &golden.content["calls"]),
        });
        if actual != golden.content {
            failures.push_str(&format!("{}: {actual:#}\n", golden.file.display()));
        }
        // The same file again adds nothing.
        let (first, again) = (&told[0], &told[1]);
        assert_eq!((&again["new"], &again["updated"]), (&json!(0), &json!(0)));
        assert_eq!(again["known"], first["new"], "{}", golden.file.display());
        clear(&api, &names);
    }
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn every_preset_has_records() {
    let folders: BTreeSet<String> = golden().into_iter().map(|golden| golden.preset).collect();
    let help = ringback(&["import", "calls", "--help"]);
    let (_, values) = help.success().split_once("Possible values:").unwrap();
    let presets: BTreeSet<String> = values
        .lines()
        .skip(1)
        .map_while(|line| line.trim().strip_prefix("- "))
        .filter_map(|line| line.split(':').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(presets, folders);
}
