//! The description of the API, for programs and for people.

mod json;
mod page;
mod portuguese;
mod schema;

use std::sync::LazyLock;

use axum::http::StatusCode;
use axum::response::Response;

use crate::console;
use crate::error::ApiError;
use crate::reply;

/// `GET /api/v1/openapi.json`: OpenAPI 3.1.
pub(crate) async fn description() -> Response {
    reply::text_of(StatusCode::OK, "application/json", OPENAPI)
}

/// `GET /docs`: the same as a page, which is whole without a script.
pub(crate) async fn page() -> Result<Response, ApiError> {
    shown(&PAGE)
}

/// `GET /docs/pt-br`: what all routes have in common, in Portuguese.
pub(crate) async fn portuguese() -> Result<Response, ApiError> {
    shown(&PORTUGUESE)
}

/// A page as an answer.
fn shown(page: &'static LazyLock<Option<String>>) -> Result<Response, ApiError> {
    let page = page.as_deref().ok_or(ApiError::Internal)?;
    let mut response = reply::text_of(StatusCode::OK, "text/html; charset=utf-8", page);
    console::secure(response.headers_mut());
    Ok(response)
}

/// `GET /docs/page.css`: its style.
pub(crate) async fn style() -> Response {
    let style = include_str!("docs/page.css");
    reply::text_of(StatusCode::OK, "text/css; charset=utf-8", style)
}

/// The description.
pub(crate) const OPENAPI: &str = include_str!("openapi.json");

/// The page, written when it is first asked for; `None`: the description is broken, which tests rule out.
static PAGE: LazyLock<Option<String>> = LazyLock::new(|| {
    let description = serde_json::from_str(OPENAPI).ok()?;
    Some(page::write(&description))
});

/// The same for the page in Portuguese.
static PORTUGUESE: LazyLock<Option<String>> = LazyLock::new(|| {
    let description = serde_json::from_str(OPENAPI).ok()?;
    Some(portuguese::write(&description))
});

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn page() -> &'static str {
        PAGE.as_deref().expect("the description can be read")
    }

    /// What a reader sees of a piece of the page.
    fn seen(html: &str) -> String {
        let mut text = String::new();
        let mut rest = html;
        while let Some((before, after)) = rest.split_once('<') {
            text.push_str(before);
            rest = after.split_once('>').expect("a closed tag").1;
        }
        text.push_str(rest);
        for (escaped, plain) in [
            ("&lt;", "<"),
            ("&gt;", ">"),
            ("&quot;", "\""),
            ("&amp;", "&"),
        ] {
            text = text.replace(escaped, plain);
        }
        text
    }

    /// The article of an operation or a schema.
    fn article(id: &str) -> &'static str {
        let start = format!("<article id=\"{id}\">");
        let (_, rest) = page()
            .split_once(&start)
            .unwrap_or_else(|| panic!("no {id}"));
        rest.split_once("</article>").expect("a closed article").0
    }

    #[test]
    fn every_route_stands_with_its_token_and_its_example() {
        let description: Value = serde_json::from_str(OPENAPI).unwrap();
        for (path, methods) in description["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let text = seen(article(operation["operationId"].as_str().unwrap()));
                let name = format!("{} {path}", method.to_uppercase());
                assert!(text.starts_with(&format!("\n{name}\n")), "{name}: {text}");
                let token = match operation["security"].as_array().map(Vec::as_slice) {
                    None => "environment token",
                    Some([]) => "no token",
                    Some([_, _]) => "environment token or administrator token",
                    Some(_) => "administrator token",
                };
                assert!(text.contains(&format!("\n{token}\n")), "{name}: {text}");
                let url = text
                    .split_once("\"$URL")
                    .and_then(|(_, rest)| rest.split_once('"'));
                let filled_in = url.is_some_and(|(url, _)| !url.contains('{'));
                assert!(filled_in, "{name}: {text}");
                let responses = operation["responses"].as_object().unwrap();
                let (_, good) = responses
                    .iter()
                    .find(|(status, _)| status.starts_with('2'))
                    .unwrap();
                let shown = text.replace(|c: char| c.is_whitespace(), "");
                for holder in [good, &operation["requestBody"]] {
                    for body in holder["content"]
                        .as_object()
                        .into_iter()
                        .flat_map(|all| all.values())
                    {
                        for word in words_of(&body["example"]) {
                            assert!(shown.contains(&word), "{name} lacks {word}");
                        }
                    }
                }
            }
        }
        for name in description["components"]["schemas"]
            .as_object()
            .unwrap()
            .keys()
        {
            article(&format!("schema-{name}"));
        }
    }

    /// The keys and values of an example, without white space.
    fn words_of(example: &Value) -> Vec<String> {
        match example {
            Value::Object(object) => object
                .iter()
                .flat_map(|(key, value)| [vec![format!("\"{key}\":")], words_of(value)].concat())
                .collect(),
            Value::Array(entries) => entries.iter().flat_map(words_of).collect(),
            Value::String(text) => text.split_whitespace().map(str::to_owned).collect(),
            other => vec![other.to_string()],
        }
    }

    #[test]
    fn what_must_be_sent_and_what_may_be_missing_is_marked() {
        let text = |id: &str| seen(article(id));
        assert!(text("schema-AgentNew").contains("name text, 1 to 255 characters required"));
        assert!(text("schema-TargetNew").contains("uri text, at most 1024 characters required"));
        assert!(!text("schema-TargetNew").contains("may be absent"));
        assert!(
            text("schema-CallbackConfig")
                .contains("recency_window_seconds integer, 1 to 3162240000 may be absent")
        );
        assert!(!text("schema-Agent").contains("required"));
    }

    #[test]
    fn a_reader_sees_no_markup_and_no_missing_names() {
        let text = seen(page());
        for raw in [
            "`",
            "} |",
            "| null",
            "any value or",
            "undefined",
            "$ref",
            "#/components",
        ] {
            assert!(!text.contains(raw), "{raw}");
        }
        assert!(!page().contains("<script") && !page().contains("<table"));
        for empty in [
            "<dt></dt>",
            "<code></code>",
            "<pre></pre>",
            "type\"></span></p>",
        ] {
            assert!(!page().contains(empty), "{empty}");
        }
    }

    #[test]
    fn every_link_leads_somewhere_and_no_anchor_stands_twice() {
        let ids: Vec<&str> = values_of("id=\"");
        let unique: BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(ids.len(), unique.len());
        let links = values_of("href=\"#");
        assert!(links.len() > 50, "{}", links.len());
        for link in links {
            assert!(unique.contains(link), "{link}");
        }
    }

    /// The values of an attribute.
    fn values_of(attribute: &str) -> Vec<&'static str> {
        let pieces = page().split(attribute).skip(1);
        pieces
            .map(|piece| piece.split_once('"').unwrap().0)
            .collect()
    }

    #[test]
    fn every_element_is_closed() {
        let portuguese = PORTUGUESE.as_deref().expect("the text can be read");
        let mut open = Vec::new();
        let both = [page(), portuguese].concat();
        for piece in both.split('<').skip(1) {
            let tag = piece.split_once('>').expect("a closed tag").0;
            let name = tag.split_whitespace().next().unwrap();
            if let Some(name) = name.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !["!doctype", "link", "meta", "wbr"].contains(&name) {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }
}
