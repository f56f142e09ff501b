//! The description of the API against what is answered: [`check`] is asked about every answer that the
//! tests of this crate get.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use axum::http::Method;
use jsonschema::Validator;
use serde_json::{Map, Value, json};

use crate::harness::Answer;
use crate::wire_types;

/// The description, and what has been made of it.
pub(crate) struct Description {
    /// As it is served.
    pub(crate) json: Value,
    /// Validators of answers, by operation and status.
    validators: Mutex<HashMap<(String, u16), Arc<Validator>>>,
}

/// The one description.
pub(crate) static DESCRIPTION: LazyLock<Description> = LazyLock::new(|| Description {
    json: serde_json::from_str(include_str!("../../src/openapi.json")).expect("it is JSON"),
    validators: Mutex::default(),
});

/// Fails unless the description foresees the answer: its status, its type and its body, in which no key
/// may stand that is not described.
pub(crate) fn check(method: &Method, path: &str, answer: &Answer) {
    let status = answer.status.as_u16();
    let what = format!("{method} {path}: {status} {}", answer.text);
    let Some(operation) = DESCRIPTION.operation(method, path) else {
        // HEAD is answered like GET, and `/` leads to the console, which is described by itself.
        assert!(
            [302, 400, 404, 405].contains(&status)
                || method == Method::HEAD
                || path.starts_with("/console/"),
            "{what}"
        );
        return;
    };
    let response = &operation["responses"][status.to_string()];
    let response = DESCRIPTION.resolve(response);
    assert!(response.is_object(), "the status is not described: {what}");
    let content_type = answer
        .header("content-type")
        .split(';')
        .next()
        .unwrap_or_default();
    let content = &response["content"][content_type];
    assert!(
        content.is_object(),
        "the type {content_type} is not described: {what}"
    );
    if content_type != "application/json" {
        return;
    }
    let name = operation["operationId"]
        .as_str()
        .expect("a name")
        .to_owned();
    let validator = DESCRIPTION.validator(name.clone(), status, &content["schema"]);
    let errors: Vec<String> = validator
        .iter_errors(&answer.json())
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}\n{what}");
    wire_types::check(&name, &content["schema"], &answer.json());
}

impl Description {
    /// The operation that answers a path; where several could, the one with the most literal parts.
    pub(crate) fn operation(&self, method: &Method, path: &str) -> Option<&Value> {
        let fits = |template: &str| -> Option<usize> {
            let (template, path) = (template.split('/'), path.split('/'));
            if template.clone().count() != path.clone().count() {
                return None;
            }
            let mut literal = 0;
            for (expected, found) in template.zip(path) {
                if expected == found {
                    literal += 1;
                } else if !expected.starts_with('{') {
                    return None;
                }
            }
            Some(literal)
        };
        let paths = self.json["paths"].as_object().expect("paths").iter();
        let best = paths.filter_map(|(template, methods)| Some((fits(template)?, methods)));
        let (_, methods) = best.max_by_key(|(literal, _)| *literal)?;
        methods.get(method.as_str().to_lowercase())
    }

    /// A value, or the one that it refers to.
    pub(crate) fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => {
                let pointer = reference.strip_prefix('#').expect("a local reference");
                self.json
                    .pointer(pointer)
                    .expect("a reference that leads somewhere")
            }
            None => value,
        }
    }

    /// The validator of an answer.
    fn validator(&self, operation: String, status: u16, schema: &Value) -> Arc<Validator> {
        let mut validators = self.validators.lock().expect("no test panics with it");
        let made = || Arc::new(self.compile(schema, true));
        Arc::clone(validators.entry((operation, status)).or_insert_with(made))
    }

    /// Makes a validator; `closed`: keys that are not described are errors.
    pub(crate) fn compile(&self, schema: &Value, closed: bool) -> Validator {
        let mut root = Map::from_iter([
            (
                "$schema".to_owned(),
                json!("https://json-schema.org/draft/2020-12/schema"),
            ),
            ("components".to_owned(), self.json["components"].clone()),
        ]);
        root.extend(schema.as_object().expect("a schema").clone());
        let mut root = Value::Object(root);
        if closed {
            close(&mut root);
        }
        jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(&root)
            .unwrap_or_else(|error| panic!("{schema}: {error}"))
    }
}

/// Forbids keys that are not described, but for objects that may get more of them.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let about = object
                .get("description")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if object.contains_key("properties") && !about.contains("More keys may be added") {
                object.entry("additionalProperties").or_insert(json!(false));
            }
            object.values_mut().for_each(close);
        }
        Value::Array(entries) => entries.iter_mut().for_each(close),
        _ => {}
    }
}

/// Everything that stands under one of these keys, wherever it is, with the place.
fn all_under<'a>(
    keys: &[&str],
    value: &'a Value,
    place: &str,
    found: &mut Vec<(String, &'a Value)>,
) {
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                let place = format!("{place}/{key}");
                if keys.contains(&key.as_str()) {
                    found.push((place.clone(), inner));
                }
                if key != "example" {
                    all_under(keys, inner, &place, found);
                }
            }
        }
        Value::Array(entries) => {
            for (number, entry) in entries.iter().enumerate() {
                all_under(keys, entry, &format!("{place}/{number}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn every_schema_is_one() {
    let mut schemas = Vec::new();
    all_under(&["schema"], &DESCRIPTION.json, "", &mut schemas);
    let components = DESCRIPTION.json["components"]["schemas"]
        .as_object()
        .expect("schemas");
    schemas.extend(
        components
            .iter()
            .map(|(name, schema)| (name.clone(), schema)),
    );
    assert!(schemas.len() > 100, "{}", schemas.len());
    for (place, schema) in schemas {
        let result = jsonschema::draft202012::meta::validate(schema);
        assert!(result.is_ok(), "{place}: {:?}", result.err());
        DESCRIPTION.compile(schema, false);
    }
}

#[test]
fn every_example_fits_its_schema() {
    let valid = |schema: &Value, example: &Value, place: &str| {
        let validator = DESCRIPTION.compile(schema, true);
        let error = validator
            .validate(example)
            .err()
            .map(|error| error.to_string());
        assert_eq!(error, None, "{place}: {example}");
    };
    let paths = DESCRIPTION.json["paths"].as_object().expect("paths");
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().expect("methods") {
            let place = format!("{method} {path}");
            let responses = operation["responses"]
                .as_object()
                .expect("responses")
                .iter();
            let good = responses.filter(|(status, _)| status.starts_with('2'));
            let holders = good.map(|(_, response)| response);
            for holder in holders.chain(operation.get("requestBody")) {
                for content in holder["content"].as_object().expect("a body").values() {
                    assert!(content.get("example").is_some(), "{place} has no example");
                    valid(&content["schema"], &content["example"], &place);
                }
            }
            let parameters = operation["parameters"].as_array();
            for parameter in parameters.into_iter().flatten() {
                let example = parameter.get("example");
                assert!(example.is_some() || parameter["in"] != "path", "{place}");
                if let Some(example) = example {
                    valid(&parameter["schema"], example, &place);
                }
            }
        }
    }
    let mut examples = Vec::new();
    all_under(
        &["properties"],
        &DESCRIPTION.json["components"]["schemas"],
        "",
        &mut examples,
    );
    for (place, properties) in examples {
        for schema in properties.as_object().expect("properties").values() {
            for example in schema["examples"].as_array().into_iter().flatten() {
                valid(schema, example, &place);
            }
        }
    }
}

#[test]
fn an_error_is_of_one_kind() {
    let of = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let kinds = ["Error", "FieldErrors", "ConfigurationErrors"];
    let errors = [
        json!({"success": false, "message": "Unauthenticated."}),
        json!({"success": false, "message": "The given data was invalid.", "errors": {"to": ["The to field is required."]}}),
        json!({"success": false, "message": "Configuration has errors", "errors": ["Agent must be inbound to serve as a callback agent"]}),
    ];
    for (kind, name) in kinds.iter().enumerate() {
        let validator = DESCRIPTION.compile(&of(name), false);
        for (number, error) in errors.iter().enumerate() {
            assert_eq!(validator.is_valid(error), kind == number, "{name}: {error}");
        }
    }
}
