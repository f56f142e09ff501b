//! Every pair of `fixtures/lookup`.

use std::path::Path;

use ringback_lookup::{Answer, Asked, DialEnd, Method, Occasion, Routing, answer, methods, read};
use ringback_routing::Dialect;
use roxmltree::{Document, Node};
use serde::Deserialize;
use serde_json::Value;

use crate::support::{Sent, URL, callback, settings};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    name: String,
    world: String,
    #[serde(default)]
    options: Value,
    #[serde(default)]
    on_nothing: Value,
    request: Sample,
    answer: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    #[serde(default)]
    query: String,
    form: Option<String>,
    json: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    content_type: String,
    xml: Option<String>,
    json: Option<Value>,
    text: Option<String>,
}

#[test]
fn every_platform_is_answered_as_it_wants_it() {
    for dialect in Dialect::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/lookup");
        let file = folder.join(format!("{}.json", dialect.name()));
        let text = std::fs::read_to_string(file).unwrap();
        let pairs: Vec<Pair> = serde_json::from_str(&text).unwrap();
        assert!(pairs.len() > 1);
        for pair in pairs {
            check(dialect, &pair);
        }
    }
}

fn check(dialect: Dialect, pair: &Pair) {
    let what = format!("{} {}", dialect.name(), pair.name);
    let settings = settings(dialect, &pair.options, &pair.on_nothing);
    let json = pair.request.json.as_ref().map(Value::to_string);
    let sent = match json.as_ref().or(pair.request.form.as_ref()) {
        Some(body) => Sent::post(body).at(&pair.request.query),
        None => Sent::get(&pair.request.query),
    };
    assert!(methods(dialect).contains(&sent.method), "{what}");
    let mut routing = callback(dialect);
    match pair.world.as_str() {
        "no_external_id" => routing.agent.as_mut().expect("an agent").external_id = None,
        "refused" => {
            routing = Routing {
                outcome: "refused",
                reason: "no_agent_available",
                ..Routing::default()
            };
        }
        _ => {}
    }
    let given = match sent.read(|request| read(dialect, request)) {
        Asked::Question(question) => {
            assert!(
                ["callback", "no_external_id", "refused"].contains(&&*pair.world),
                "{what}"
            );
            assert!(question.to.contains("+15550100222"), "{what}: {question:?}");
            assert!(question.from.contains("+15550100111"), "{what}");
            let answer = answer(&settings, URL, Occasion::Decided(&question, &routing));
            let refused = pair.world == "refused" || pair.name.contains("without id");
            if !(dialect == Dialect::Vapi && pair.world == "no_external_id") {
                assert_eq!(answer.is_routed, !refused, "{what}");
            }
            match dialect {
                Dialect::Drachtio => assert_eq!(question.sid, None, "{what}"),
                Dialect::Retell => assert!(question.sid.is_some(), "{what}"),
                _ => assert_eq!(question.sid.as_deref(), Some("c1"), "{what}"),
            }
            answer
        }
        Asked::Step(step) => {
            assert_eq!(pair.world, "step", "{what}");
            assert_eq!(step.sid.as_deref(), Some("c1"), "{what}");
            let occasion = match step.end {
                DialEnd::Answered | DialEnd::Canceled => Occasion::Ended,
                DialEnd::Failed => Occasion::Next(&routing, step.step),
            };
            answer(&settings, URL, occasion)
        }
        Asked::Other => {
            assert_eq!(pair.world, "other", "{what}");
            answer(&settings, URL, Occasion::Other)
        }
        Asked::Malformed => {
            assert_eq!(pair.world, "malformed", "{what}");
            answer(&settings, URL, Occasion::Nothing)
        }
    };
    compare(&what, &given, &pair.answer);
}

fn compare(what: &str, given: &Answer, expected: &Expected) {
    assert_eq!(given.content_type, expected.content_type, "{what}");
    if let Some(json) = &expected.json {
        let json = json.to_string().replace("URL?", &format!("{URL}?"));
        let json = json.replace("\"T\"", &format!("{:?}", crate::support::T));
        let expected: Value = serde_json::from_str(&json).expect("JSON");
        let given: Value = serde_json::from_str(&given.body).expect("JSON");
        assert_eq!(given, expected, "{what}");
    }
    if let Some(text) = &expected.text {
        assert_eq!(&given.body, text, "{what}");
    }
    if let Some(xml) = &expected.xml {
        assert!(given.body.starts_with("<?xml version=\"1.0\""), "{what}");
        let expected = xml.replace("URL?", &format!("{URL}?"));
        let given = Document::parse(&given.body).expect("well formed");
        let expected = Document::parse(&expected).expect("well formed");
        assert_eq!(
            shape(given.root_element()),
            shape(expected.root_element()),
            "{what}"
        );
    }
}

/// An element with its attributes in order, its text and its children.
fn shape(node: Node<'_, '_>) -> String {
    let mut attributes: Vec<_> = node
        .attributes()
        .map(|attribute| format!("{}={:?}", attribute.name(), attribute.value()))
        .collect();
    attributes.sort();
    let children: Vec<_> = node
        .children()
        .map(|child| match child.text() {
            Some(text) if child.is_text() => format!("{text:?}"),
            _ => shape(child),
        })
        .collect();
    format!("<{} {attributes:?} {children:?}>", node.tag_name().name())
}

#[test]
fn a_dialect_is_asked_by_the_methods_of_its_platform() {
    assert_eq!(methods(Dialect::RtJson), &[Method::Get]);
    assert_eq!(methods(Dialect::FreeSwitch), &[Method::Post]);
    assert_eq!(methods(Dialect::Twilio), &[Method::Get, Method::Post]);
}
