//! The description as a page.

use std::fmt::Write as _;

use super::json::Json;
use super::schema::{Writer, about, fields, words};

/// Writes the page.
pub(super) fn write(description: &Json) -> String {
    let mut out = String::with_capacity(256 * 1024);
    let _infallible = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Ringback API</title>\n<link rel=\"stylesheet\" href=\"/docs/page.css\">\n</head>\n<body>\n"
    );
    let tags = description.list_of("tags").iter();
    let tags: Vec<&str> = tags.filter_map(|tag| tag.text("name")).collect();
    let operations = operations(description);
    write_index(&mut out, &tags, &operations);
    out.push_str(
        "<main>\n<header>\n<h1>Ringback API</h1>\n\
         <p><a href=\"/docs/pt-br\" lang=\"pt-BR\" hreflang=\"pt-BR\">Em português</a></p>\n",
    );
    let about = description
        .get("info")
        .and_then(|info| info.text("description"));
    out.push_str(&prose(about.unwrap_or_default()));
    out.push_str(
        "<p>For programs: <a href=\"/api/v1/openapi.json\">/api/v1/openapi.json</a> (OpenAPI 3.1). \
         In the examples, <code>$URL</code> is the URL at which the server listens, and <code>$TOKEN</code> \
         the token.</p>\n</header>\n",
    );
    for tag in tags {
        let _infallible = writeln!(out, "<h2 id=\"{}\">{}</h2>", anchor(tag), escaped(tag));
        for operation in operations.iter().filter(|operation| operation.tag == tag) {
            write_operation(&mut out, description, operation);
        }
    }
    write_schemas(&mut out, description, &operations);
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

/// A path with a method.
pub(super) struct Operation<'a> {
    /// The path.
    pub(super) path: &'a str,
    /// The method, in capitals.
    pub(super) method: String,
    /// Under which heading it stands.
    pub(super) tag: &'a str,
    /// Its name.
    pub(super) id: &'a str,
    /// What the description says of the operation.
    json: &'a Json,
}

impl Operation<'_> {
    /// Which token it takes.
    fn token(&self) -> &'static str {
        match self.json.get("security").map(Json::list) {
            Some([]) => "no token",
            Some([one]) if one.get("administrator").is_some() => "administrator token",
            Some([_, _]) => "environment token or administrator token",
            _ => "environment token",
        }
    }
}

/// All operations, in their order.
pub(super) fn operations(description: &Json) -> Vec<Operation<'_>> {
    let paths = description
        .get("paths")
        .map_or(&[][..], Json::entries)
        .iter();
    let operations = paths.flat_map(|(path, methods)| {
        methods
            .entries()
            .iter()
            .map(move |(method, json)| Operation {
                path,
                method: method.to_uppercase(),
                tag: json
                    .list_of("tags")
                    .first()
                    .and_then(Json::as_text)
                    .unwrap_or_default(),
                id: json.text("operationId").unwrap_or_default(),
                json,
            })
    });
    operations.collect()
}

/// Writes links to everything.
fn write_index(out: &mut String, tags: &[&str], operations: &[Operation<'_>]) {
    out.push_str("<nav>\n<ul>\n");
    for tag in tags {
        let _infallible = write!(
            out,
            "<li><a href=\"#{}\">{}</a>\n<ul>\n",
            anchor(tag),
            escaped(tag)
        );
        for operation in operations.iter().filter(|operation| operation.tag == *tag) {
            let _infallible = writeln!(
                out,
                "<li><a href=\"#{}\"><span class=\"method\">{}</span> <span>{}</span></a></li>",
                operation.id,
                operation.method,
                breakable(operation.path.trim_start_matches("/api/v1"))
            );
        }
        out.push_str("</ul>\n</li>\n");
    }
    out.push_str("<li><a href=\"#schemas\">Schemas</a></li>\n</ul>\n</nav>\n");
}

/// Writes one operation.
fn write_operation(out: &mut String, description: &Json, operation: &Operation<'_>) {
    let (id, method) = (operation.id, &operation.method);
    let _infallible = write!(
        out,
        "<article id=\"{id}\">\n<h3><span class=\"method\">{method}</span> <code>{}</code></h3>\n\
         <p class=\"token\">{}</p>\n{}",
        breakable(operation.path),
        operation.token(),
        prose(operation.json.text("summary").unwrap_or_default()),
    );
    out.push_str(
        &operation
            .json
            .text("description")
            .map(prose)
            .unwrap_or_default(),
    );
    write_parameters(out, description, operation);
    let body = content(operation.json.get("requestBody"));
    if let Some((content_type, body)) = body {
        let schema = body
            .get("schema")
            .map(|schema| resolved(description, schema));
        let required = operation
            .json
            .get("requestBody")
            .is_some_and(|body| body.is_set("required"));
        let note = if required { "" } else { ", may be left out" };
        let _infallible = writeln!(out, "<h4>Body</h4>\n<p>{}{note}</p>", code(content_type));
        if let Some(schema) = schema {
            let _infallible = writeln!(out, "{}{}", about(schema), fields(schema, Writer::Client));
        }
    }
    let _infallible = writeln!(
        out,
        "<h4>Example</h4>\n<pre>{}</pre>",
        escaped(&command(operation))
    );
    write_answers(out, description, operation);
    out.push_str("</article>\n");
}

/// Writes what stands in the path, the query and the headers.
fn write_parameters(out: &mut String, description: &Json, operation: &Operation<'_>) {
    let parameters = operation.json.list_of("parameters");
    if parameters.is_empty() {
        return;
    }
    out.push_str("<h4>Parameters</h4>\n<dl class=\"fields\">\n");
    for parameter in parameters {
        let parameter = resolved(description, parameter);
        let schema = parameter.get("schema").unwrap_or(&Json::Null);
        let note = if parameter.is_set("required") {
            " <b>required</b>"
        } else {
            ""
        };
        let _infallible = writeln!(
            out,
            "<dt>{} <span class=\"type\">{}, {}</span>{note}</dt>\n<dd>{}{}</dd>",
            code(parameter.text("name").unwrap_or_default()),
            words(schema),
            parameter.text("in").unwrap_or_default(),
            parameter.text("description").map(prose).unwrap_or_default(),
            about(schema),
        );
    }
    out.push_str("</dl>\n");
}

/// Writes the answers: the good one whole, the others in a list.
fn write_answers(out: &mut String, description: &Json, operation: &Operation<'_>) {
    let responses = operation
        .json
        .get("responses")
        .map_or(&[][..], Json::entries);
    let (good, others): (Vec<_>, Vec<_>) = responses
        .iter()
        .partition(|(status, _)| status.starts_with('2'));
    for (status, answer) in good {
        let about = answer.text("description").unwrap_or_default();
        let _infallible = writeln!(out, "<h4>{status}: {}</h4>", inline(about));
        for (content_type, body) in answer.get("content").map_or(&[][..], Json::entries) {
            if let Some(data) = body.get("schema").and_then(data) {
                let _infallible = writeln!(
                    out,
                    "<p><code>data</code> is <span class=\"type\">{}</span></p>\n{}",
                    words(data),
                    fields(data, Writer::Server)
                );
            }
            let example = body.get("example").map(readable).unwrap_or_default();
            let _infallible = writeln!(
                out,
                "<pre title=\"{content_type}\">{}</pre>",
                escaped(example.trim_end())
            );
        }
    }
    if others.is_empty() {
        return;
    }
    out.push_str("<details>\n<summary>Errors</summary>\n<dl class=\"fields\">\n");
    for (status, answer) in others {
        let answer = resolved(description, answer);
        let schema = content(Some(answer)).and_then(|(_, body)| body.get("schema"));
        let _infallible = writeln!(
            out,
            "<dt>{status} <span class=\"type\">{}</span></dt>\n<dd>{}</dd>",
            schema.map(words).unwrap_or_default(),
            answer.text("description").map(prose).unwrap_or_default()
        );
    }
    out.push_str("</dl>\n</details>\n");
}

/// Writes the schemas that stand in several places.
fn write_schemas(out: &mut String, description: &Json, operations: &[Operation<'_>]) {
    out.push_str("<h2 id=\"schemas\">Schemas</h2>\n");
    let mut sent = Vec::new();
    for operation in operations {
        if let Some(body) = operation.json.get("requestBody") {
            add_references(description, body, &mut sent);
        }
    }
    let schemas = description
        .get("components")
        .and_then(|components| components.get("schemas"));
    for (name, schema) in schemas.map_or(&[][..], Json::entries) {
        let writer = if sent.contains(&schema) {
            Writer::Client
        } else {
            Writer::Server
        };
        let _infallible = writeln!(
            out,
            "<article id=\"schema-{name}\">\n<h3>{name}</h3>\n<p class=\"type\">{}</p>\n{}{}</article>",
            words(schema),
            about(schema),
            fields(schema, writer)
        );
    }
}

/// Adds everything that a value refers to, by however many steps.
fn add_references<'a>(description: &'a Json, value: &'a Json, found: &mut Vec<&'a Json>) {
    let referred = resolved(description, value);
    if value.text("$ref").is_some() && !found.contains(&referred) {
        found.push(referred);
        add_references(description, referred, found);
    }
    for (_, inner) in value.entries() {
        add_references(description, inner, found);
    }
    if let Json::List(entries) = value {
        for entry in entries {
            add_references(description, entry, found);
        }
    }
}

/// The example as a command.
fn command(operation: &Operation<'_>) -> String {
    let mut path = operation.path.to_owned();
    let mut query = Vec::new();
    for parameter in operation.json.list_of("parameters") {
        let Some(example) = parameter.get("example") else {
            continue;
        };
        let name = parameter.text("name").unwrap_or_default();
        let value = example
            .as_text()
            .map_or_else(|| example.to_string(), str::to_owned);
        let value = value.replace('+', "%2B");
        match parameter.text("in") {
            Some("path") => path = path.replace(&format!("{{{name}}}"), &value),
            _ => query.push(format!("{name}={value}")),
        }
    }
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    let mut text = String::from("curl");
    if operation.method != "GET" {
        let _infallible = write!(text, " -X {}", operation.method);
    }
    if operation.id == "followDecisions" {
        text.push_str(" -N");
    }
    let _infallible = write!(text, " \"$URL{path}\"");
    if operation.token() != "no token" {
        text.push_str(" \\\n  -H \"Authorization: Bearer $TOKEN\"");
    }
    if let Some((content_type, body)) = content(operation.json.get("requestBody")) {
        let example = body.get("example").map(readable).unwrap_or_default();
        let data = if content_type == "application/json" {
            "-d"
        } else {
            "--data-binary"
        };
        let _infallible = write!(
            text,
            " \\\n  -H 'Content-Type: {content_type}' \\\n  {data} '{}'",
            example.trim_end()
        );
    }
    text
}

/// The first content type of a body or an answer, with what is said about it.
fn content(holder: Option<&Json>) -> Option<(&str, &Json)> {
    let (content_type, body) = holder?.get("content")?.entries().first()?;
    Some((content_type, body))
}

/// The schema of what stands under `data`.
fn data(schema: &Json) -> Option<&Json> {
    schema.get("properties")?.get("data")
}

/// A value, or the one that it refers to.
fn resolved<'a>(description: &'a Json, value: &'a Json) -> &'a Json {
    let Some(path) = value
        .text("$ref")
        .and_then(|reference| reference.strip_prefix("#/"))
    else {
        return value;
    };
    let found = path
        .split('/')
        .try_fold(description, |place, key| place.get(key));
    found.unwrap_or(value)
}

/// An example as text: JSON on several lines, where it is more than a few words.
fn readable(example: &Json) -> String {
    if let Some(text) = example.as_text() {
        return text.to_owned();
    }
    let short = example.to_string();
    if short.len() <= 60 {
        return short;
    }
    serde_json::to_string_pretty(example).unwrap_or(short)
}

/// Text in paragraphs.
pub(super) fn prose(text: &str) -> String {
    let paragraphs = text.split("\n\n").filter(|paragraph| !paragraph.is_empty());
    paragraphs
        .map(|paragraph| format!("<p>{}</p>\n", inline(paragraph)))
        .collect()
}

/// Text in which what stands between backticks is code.
pub(super) fn inline(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(place, part)| match place % 2 {
        0 => escaped(part),
        _ => code(part),
    });
    parts.collect()
}

/// Code within text.
pub(super) fn code(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

/// A path that may be broken behind each part.
fn breakable(path: &str) -> String {
    escaped(path).replace('/', "/<wbr>")
}

/// Text with the characters that HTML reads as its own escaped.
pub(super) fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

/// The name of a heading in links.
pub(super) fn anchor(tag: &str) -> String {
    tag.to_lowercase().replace(' ', "-")
}
