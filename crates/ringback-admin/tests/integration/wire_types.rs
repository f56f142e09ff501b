//! The wire types of `ringback-api` against the description of the API, and so against what is answered:
//! [`check`] is asked about every answer that the tests of this crate get.

use ringback_api as api;
use ringback_api::Change;
use ringback_routing::{
    AgentId, CallStatus, Dialect, Direction, EnvironmentId, HoursSpec, NumberForm, NumberId,
    SpecialDay, Week,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::description::DESCRIPTION;

/// Fails unless the answer can be read as the type that its schema is named for, and is written the same
/// again: no key is lost, none is added.
pub(crate) fn check(operation: &str, schema: &Value, answer: &Value) {
    if let Some(name) = name_of(schema) {
        return same(name, answer);
    }
    let inline = match operation {
        "alive" => return same("Alive", answer),
        "reload" => Some("Reloaded"),
        "reportAnswered" => Some("Answered"),
        "showSession" if answer["data"].is_null() => return,
        "showSession" => Some("Session"),
        _ => None,
    };
    let data = &schema["properties"]["data"];
    if answer["success"] == json!(false) {
        same("Problem", answer);
    } else if let Some(name) = name_of(data).or(inline) {
        same(name, &answer["data"]);
    } else if let Some(name) = name_of(&data["items"]) {
        for entry in answer["data"].as_array().expect("a list") {
            same(name, entry);
        }
        if let Some(meta) = answer.get("meta") {
            same(
                name_of(&schema["properties"]["meta"]).expect("a named schema"),
                meta,
            );
        }
    } else {
        // The description itself.
        assert!(answer.get("openapi").is_some(), "{operation}: {answer}");
    }
}

/// The name of the schema that a schema refers to.
fn name_of(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

/// Fails unless the value is the same after it was read as the type with this name and written again.
fn same(name: &str, value: &Value) {
    let again = match name {
        "Agent" => again::<api::Agent>,
        "AgentBrief" => again::<api::AgentBrief>,
        "AgentNew" => again::<api::AgentNew>,
        "AgentPatch" => again::<api::AgentPatch>,
        "Alive" => again::<api::Alive>,
        "Answered" => again::<api::Answered>,
        "AuditEntry" => again::<api::AuditEntry>,
        "BatchReport" => again::<api::BatchReport>,
        "Call" => again::<api::Call>,
        "CallNew" => again::<api::CallNew>,
        "CallbackAgent" => again::<api::CallbackAgent>,
        "CallbackAgentPage" => again::<api::CallbackAgentPage>,
        "CallbackRole" => again::<api::CallbackRole>,
        "CallbackRoleReplaced" => again::<api::CallbackRoleReplaced>,
        "CallbackRoleSet" => again::<api::CallbackRoleSet>,
        "CallbackStatistics" => again::<api::CallbackStatistics>,
        "Calling" => again::<api::Calling>,
        "CallingNumber" => again::<api::CallingNumber>,
        "Cluster" => again::<api::Cluster>,
        "ClusterRecovery" => again::<api::ClusterRecovery>,
        "Connector" => again::<api::Connector>,
        "ConnectorNew" => again::<api::ConnectorNew>,
        "ConnectorPatch" => again::<api::ConnectorPatch>,
        "ConnectorRotation" => again::<api::ConnectorRotation>,
        "ConnectorShown" => again::<api::ConnectorShown>,
        "ConstraintCheck" => again::<api::ConstraintCheck>,
        "Contact" => again::<api::Contact>,
        "ContactExport" => again::<api::ContactExport>,
        "ContactRow" => again::<api::ContactRow>,
        "Decision" => again::<api::Decision>,
        "Done" => again::<api::Done>,
        "Environment" => again::<api::Environment>,
        "EnvironmentNew" => again::<api::EnvironmentNew>,
        "EnvironmentPatch" => again::<api::EnvironmentPatch>,
        "Erased" => again::<api::Erased>,
        "Error" | "FieldErrors" | "ConfigurationErrors" | "Problem" => again::<api::Problem>,
        // In the form of a platform.
        "LookupAnswer" => again::<Value>,
        "Meta" => again::<api::Meta>,
        "OptOut" => again::<api::OptOut>,
        "OptOutNew" => again::<api::OptOutNew>,
        "OptOutRow" => again::<api::OptOutRow>,
        "PhoneNumber" => again::<api::PhoneNumber>,
        "PhoneNumberNew" => again::<api::PhoneNumberNew>,
        "PhoneNumberPatch" => again::<api::PhoneNumberPatch>,
        "Readiness" => again::<api::Readiness>,
        "Reassigned" => again::<api::Reassigned>,
        "ReassignedNew" => again::<api::ReassignedNew>,
        "RecoverCluster" => again::<api::RecoverCluster>,
        "RefusedCall" => again::<api::RefusedCall>,
        "Reloaded" => again::<api::Reloaded>,
        "RouteQuestion" => again::<api::RouteQuestion>,
        "Routed" => again::<api::Routed>,
        "RoutingProblem" => again::<api::RoutingProblem>,
        "RowsMeta" => again::<api::RowsMeta>,
        "Session" => again::<api::Session>,
        "SessionNew" => again::<api::SessionNew>,
        "SessionPatch" => again::<api::SessionPatch>,
        "Status" => again::<api::Status>,
        "TargetHealth" => again::<api::TargetHealth>,
        "TargetStateNew" => again::<api::TargetStateNew>,
        "Token" => again::<api::Token>,
        "TokenNew" => again::<api::TokenNew>,
        "TokenShown" => again::<api::TokenShown>,
        _ => panic!("no type bears the name of the schema {name}"),
    };
    let again = again(value).unwrap_or_else(|error| panic!("{name}: {error}: {value}"));
    assert_eq!(&again, value, "{name}");
}

/// A value, read as a type and written again.
fn again<T: Serialize + DeserializeOwned>(value: &Value) -> serde_json::Result<Value> {
    serde_json::to_value(serde_json::from_value::<T>(value.clone())?)
}

#[test]
fn every_example_is_read_and_written_by_its_type() {
    let paths = DESCRIPTION.json["paths"].as_object().expect("paths");
    let mut count = 0;
    for methods in paths.values() {
        for operation in methods.as_object().expect("methods").values() {
            let name = operation["operationId"].as_str().expect("a name");
            let json = |holder: &Value| holder["content"].get("application/json").cloned();
            let responses = operation["responses"].as_object().expect("responses");
            for content in responses.values().filter_map(json) {
                if let Some(example) = content.get("example") {
                    check(name, &content["schema"], example);
                    count += 1;
                }
            }
            if let Some(content) = operation.get("requestBody").and_then(json) {
                let request = name_of(&content["schema"]).expect("a named schema");
                same(request, &content["example"]);
                count += 1;
            }
        }
    }
    assert!(count > 40, "{count}");
}

#[test]
fn every_request_is_described_key_by_key() {
    let id = Uuid::from_u128(7);
    let targets = vec![api::TargetNew::Ranked {
        uri: "sip:desk@pbx.example.com".to_owned(),
        priority: 10,
        weight: 70,
    }];
    let settings = api::EnvironmentSettings {
        default_country: Change::Set("BR".to_owned()),
        number_form: Change::Set(NumberForm::E164),
        recency_window_seconds: Change::Set(3_600),
        target_template: Change::Set("sip:{agent_id}@agents.example.com".to_owned()),
        fallback_targets: Some(targets.clone()),
    };
    let name = "Sales".to_owned();
    let text = Some("+12025550142".to_owned());
    let requests = [
        described(
            "AgentNew",
            &api::AgentNew {
                name: name.clone(),
                label: name.clone(),
                direction: Direction::Inbound,
                description: Some(name.clone()),
                phone_number_ids: Some(vec![NumberId(id)]),
                targets: Some(targets.clone()),
                external_ids: [(Dialect::Vapi, name.clone())].into(),
            },
        ),
        described(
            "AgentPatch",
            &api::AgentPatch {
                name: Some(name.clone()),
                label: Some(name.clone()),
                direction: Some(Direction::Outbound),
                description: Some(name.clone()),
                phone_number_ids: Some(vec![NumberId(id)]),
                targets: Some(targets),
                external_ids: [(Dialect::Vapi, Some(name.clone()))].into(),
            },
        ),
        described(
            "Calling",
            &api::Calling {
                direction: Direction::Inbound,
                phone_number_ids: Some(Vec::new()),
            },
        ),
        described(
            "CallNew",
            &api::CallNew {
                agent_id: AgentId(id),
                to: "+12025550142".to_owned(),
                from: text.clone(),
                status: Some(CallStatus::NoAnswer),
                started_at: Some("2026-11-21T12:00:00Z".to_owned()),
                sid: text.clone(),
            },
        ),
        described(
            "OptOutNew",
            &api::OptOutNew {
                reason: Some("sms.stop".to_owned()),
                until: Some("2027-11-21T12:00:00Z".to_owned()),
            },
        ),
        described(
            "ReassignedNew",
            &api::ReassignedNew {
                before: "2026-11-21".to_owned(),
            },
        ),
        described(
            "CallbackRole",
            &api::CallbackRole {
                source_agent_ids: vec![AgentId(id)],
                callback_trigger_statuses: Change::Set(vec![CallStatus::Busy]),
                recency_window_seconds: Change::Clear,
                hours: Change::Set(HoursSpec {
                    time_zone: "America/Sao_Paulo".to_owned(),
                    weekly: Week {
                        mon: vec![["09:00".to_owned(), "18:00".to_owned()]],
                        ..Week::default()
                    },
                    except: vec![SpecialDay {
                        date: "2026-12-25".to_owned(),
                        open: Vec::new(),
                    }],
                }),
            },
        ),
        described(
            "ConnectorNew",
            &api::ConnectorNew {
                dialect: Dialect::Twilio,
                name: text.clone(),
                secret: text.clone(),
                on_nothing: Some(json!({"action": "reject"})),
                options: Some(json!({"timeout": 20})),
            },
        ),
        described(
            "ConnectorPatch",
            &api::ConnectorPatch {
                name: Change::Clear,
                secret: Change::Set(name.clone()),
                on_nothing: Change::Clear,
                options: Change::Set(json!({"timeout": 20})),
            },
        ),
        described(
            "ConnectorRotation",
            &api::ConnectorRotation {
                grace_seconds: Some(60),
            },
        ),
        described(
            "ConstraintCheck",
            &api::ConstraintCheck {
                is_callback_agent: Some(true),
                callback_source_agents: Some(vec![id.to_string()]),
                callback_trigger_statuses: Some(vec!["busy".to_owned()]),
            },
        ),
        described(
            "EnvironmentNew",
            &api::EnvironmentNew {
                name: name.clone(),
                settings: settings.clone(),
            },
        ),
        described(
            "EnvironmentPatch",
            &api::EnvironmentPatch {
                name: Some(name.clone()),
                settings,
            },
        ),
        described(
            "PhoneNumberNew",
            &api::PhoneNumberNew {
                number: "+12025550142".to_owned(),
                country_code: Some("US".to_owned()),
            },
        ),
        described(
            "PhoneNumberPatch",
            &api::PhoneNumberPatch {
                default_agent_id: Change::Set(AgentId(id)),
            },
        ),
        described(
            "RecoverCluster",
            &api::RecoverCluster {
                from: text.clone(),
                confirm: true,
            },
        ),
        described(
            "RouteQuestion",
            &api::RouteQuestion {
                to: "+12025550142".to_owned(),
                from: text.clone(),
                sid: text,
            },
        ),
        described(
            "SessionNew",
            &api::SessionNew {
                token: name.clone(),
            },
        ),
        described(
            "SessionPatch",
            &api::SessionPatch {
                environment_id: Change::Set(EnvironmentId(id)),
            },
        ),
        described(
            "TargetStateNew",
            &api::TargetStateNew {
                uri: "sip:pbx.example.com".to_owned(),
                state: api::TargetOverride::Down,
            },
        ),
        described(
            "TokenNew",
            &api::TokenNew {
                name: Some(name),
                masked: true,
            },
        ),
    ];
    let paths = DESCRIPTION.json["paths"].as_object().expect("paths");
    for methods in paths.values() {
        for operation in methods.as_object().expect("methods").values() {
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            if let Some(name) = name_of(body) {
                assert!(requests.contains(&name), "{name}");
            }
        }
    }
}

/// Fails unless a request in which every key is set has the keys that its schema has; gives the name back.
fn described<'a>(name: &'a str, request: &impl Serialize) -> &'a str {
    let written = serde_json::to_value(request).expect("it can be written");
    let reference = json!({ "$ref": format!("#/components/schemas/{name}") });
    let problem = DESCRIPTION
        .compile(&reference, true)
        .validate(&written)
        .err();
    assert!(problem.is_none(), "{name}: {problem:?}");
    let schema = DESCRIPTION.resolve(&reference);
    let described = schema["properties"].as_object().expect("properties").keys();
    let keys = written.as_object().expect("an object");
    let missing: Vec<&String> = described.filter(|key| !keys.contains_key(*key)).collect();
    assert!(missing.is_empty(), "{name}: {missing:?}");
    name
}
