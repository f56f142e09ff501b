//! Schemas in words: what a value may be, and the fields of an object.

use std::fmt::Write as _;

use super::json::Json;
use super::page::{code, prose};

/// Who writes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// The client: what must be there is marked.
    Client,
    /// The server: what may be absent is marked.
    Server,
}

/// The fields of an object, each with those within it; nothing for what is no object.
fn own_fields(schema: &Json, writer: Writer) -> String {
    let properties = schema.get("properties").map_or(&[][..], Json::entries);
    if properties.is_empty() {
        return String::new();
    }
    let required = schema.list_of("required");
    let mut out = String::from("<dl class=\"fields\">\n");
    for (name, field) in properties {
        let is_required = required.iter().any(|one| one.as_text() == Some(name));
        let note = match (writer, is_required) {
            (Writer::Client, true) => " <b>required</b>",
            (Writer::Server, false) => " <b>may be absent</b>",
            _ => "",
        };
        let _infallible = writeln!(
            out,
            "<dt>{} <span class=\"type\">{}</span>{note}</dt>",
            code(name),
            words(field)
        );
        let _infallible = writeln!(out, "<dd>{}{}</dd>", about(field), fields(field, writer));
    }
    out.push_str("</dl>\n");
    out
}

/// What a value may be, in words.
pub(super) fn words(schema: &Json) -> String {
    if let Some(name) = reference(schema) {
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    if let Some(value) = schema.get("const") {
        return code(&shown(value));
    }
    let choices = schema.list_of("oneOf");
    if !choices.is_empty() {
        return choices.iter().map(words).collect::<Vec<_>>().join(" or ");
    }
    let types = schema.list_of("type");
    let types = types.iter().filter_map(Json::as_text);
    let (null, types): (Vec<&str>, Vec<&str>) = types.partition(|name| *name == "null");
    let values = schema.list_of("enum");
    let values = values.iter().filter(|value| **value != Json::Null);
    let values: Vec<String> = values.map(|value| code(&shown(value))).collect();
    let mut text = if values.is_empty() {
        types
            .iter()
            .map(|name| one(name, schema))
            .collect::<Vec<_>>()
            .join(" or ")
    } else {
        values.join(" or ")
    };
    match (text.is_empty(), null.is_empty()) {
        (true, true) => text.push_str("any value"),
        (true, false) => text.push_str("null"),
        (false, true) => {}
        (false, false) => text.push_str(" or null"),
    }
    text
}

/// What a value of one type may be.
fn one(name: &str, schema: &Json) -> String {
    match name {
        "array" => {
            let entry = schema
                .get("items")
                .map_or_else(|| "any value".to_owned(), words);
            let entry = match entry.as_str() {
                "object" => "objects",
                "UUID" => "UUIDs",
                other => other,
            };
            format!(
                "list of {entry}{}",
                bounds(schema, "minItems", "maxItems", " entries")
            )
        }
        "string" => {
            let kind = match schema.text("format") {
                Some("uuid") => "UUID",
                Some("date-time") => "time (RFC 3339)",
                Some("date") => "day (<code>2026-11-21</code>)",
                _ => "text",
            };
            format!(
                "{kind}{}",
                bounds(schema, "minLength", "maxLength", " characters")
            )
        }
        "integer" => format!("integer{}", bounds(schema, "minimum", "maximum", "")),
        "boolean" => "true or false".to_owned(),
        other => other.to_owned(),
    }
}

/// The bounds of a value, with a comma before them.
fn bounds(schema: &Json, least: &str, most: &str, unit: &str) -> String {
    match (schema.get(least), schema.get(most)) {
        (Some(least), Some(most)) => format!(", {least} to {most}{unit}"),
        (Some(least), None) => format!(", at least {least}{unit}"),
        (None, Some(most)) => format!(", at most {most}{unit}"),
        (None, None) => String::new(),
    }
}

/// What there is to say about a value: its description, its default, an example.
pub(super) fn about(schema: &Json) -> String {
    let mut out = schema.text("description").map(prose).unwrap_or_default();
    if let Some(value) = schema.get("default") {
        let _infallible = write!(out, "<p>Default: {}</p>", code(&shown(value)));
    }
    if let Some(value) = schema.list_of("examples").first() {
        let _infallible = write!(out, "<p>Example: {}</p>", code(&shown(value)));
    }
    out
}

/// The fields of an object, and of the objects that a list or a choice holds.
pub(super) fn fields(schema: &Json, writer: Writer) -> String {
    let mut out = own_fields(schema, writer);
    let inner = schema.get("items").into_iter();
    for inner in inner.chain(schema.list_of("oneOf")) {
        out.push_str(&fields(inner, writer));
    }
    out
}

/// The name of the schema that it refers to.
fn reference(schema: &Json) -> Option<&str> {
    schema.text("$ref")?.strip_prefix("#/components/schemas/")
}

/// A value as it is written in a request; strings without their quotes.
fn shown(value: &Json) -> String {
    value
        .as_text()
        .map_or_else(|| value.to_string(), str::to_owned)
}
