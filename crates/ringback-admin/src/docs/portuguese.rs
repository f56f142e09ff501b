//! `/docs/pt-br`: what all routes have in common, in Portuguese, and links to each route. The text is that of
//! `docs/pt-br/api.md`, of whose Markdown as much is read as it uses.

use std::fmt::Write as _;

use super::json::Json;
use super::page::{anchor, escaped, inline, operations};

/// Writes the page.
pub(super) fn write(description: &Json) -> String {
    let mut out = String::with_capacity(64 * 1024);
    out.push_str(
        "<!doctype html>\n<html lang=\"pt-BR\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>A API do Ringback</title>\n<link rel=\"stylesheet\" href=\"/docs/page.css\">\n</head>\n<body>\n\
         <nav>\n<ul>\n<li><a href=\"/docs\" lang=\"en\" hreflang=\"en\">English</a></li>\n",
    );
    let tags = description.list_of("tags").iter();
    let tags: Vec<&str> = tags.filter_map(|tag| tag.text("name")).collect();
    for tag in &tags {
        let _infallible = writeln!(
            out,
            "<li><a href=\"#{}\">{}</a></li>",
            anchor(tag),
            escaped(translated(tag))
        );
    }
    out.push_str("</ul>\n</nav>\n<main>\n");
    write_text(&mut out, TEXT);
    let operations = operations(description);
    for tag in tags {
        let _infallible = writeln!(
            out,
            "<h2 id=\"{}\">{}</h2>\n<ul>",
            anchor(tag),
            escaped(translated(tag))
        );
        for operation in operations.iter().filter(|operation| operation.tag == tag) {
            let _infallible = writeln!(
                out,
                "<li><a href=\"/docs#{}\" hreflang=\"en\"><span class=\"method\">{}</span> <code>{}</code></a></li>",
                operation.id,
                operation.method,
                escaped(operation.path)
            );
        }
        out.push_str("</ul>\n");
    }
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

/// The text that stands in the repository, too.
const TEXT: &str = include_str!("../../../../docs/pt-br/api.md");

/// The headings of routes.
fn translated(tag: &str) -> &str {
    match tag {
        "Callback" => "Retornos",
        "Agents" => "Agentes",
        "Phone numbers" => "Números de telefone",
        "Calls" => "Ligações",
        "Contacts" => "Contatos",
        "Lookup" => "Consulta",
        "Decisions" => "Decisões",
        "Administration" => "Administração",
        "Server" => "Servidor",
        other => other,
    }
}

/// Writes Markdown: headings, paragraphs, lists, tables, blocks of code.
fn write_text(out: &mut String, text: &str) {
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let level = line.bytes().take_while(|byte| *byte == b'#').count();
        if line.is_empty() {
            continue;
        } else if line.starts_with("```") {
            let code: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let _infallible = writeln!(out, "<pre>{}</pre>", escaped(&code.join("\n")));
        } else if level > 0 {
            let title = inline(line.get(level..).unwrap_or_default().trim());
            let _infallible = writeln!(out, "<h{level}>{title}</h{level}>");
        } else {
            let mut part = vec![line];
            while let Some(next) = lines.next_if(|next| !next.is_empty()) {
                part.push(next);
            }
            match line.get(..2) {
                Some("| ") => write_table(out, &part),
                Some("- ") => write_list(out, &part),
                _ => {
                    let _infallible = writeln!(out, "<p>{}</p>", linked(&part.join(" ")));
                }
            }
        }
    }
}

/// Writes a table: a heading, a line beneath it, rows.
fn write_table(out: &mut String, lines: &[&str]) {
    out.push_str("<table>\n");
    for (number, line) in lines.iter().enumerate().filter(|(number, _)| *number != 1) {
        let cell = if number == 0 { "th" } else { "td" };
        out.push_str("<tr>");
        for text in line.trim_matches(['|', ' ']).split(" | ") {
            let _infallible = write!(out, "<{cell}>{}</{cell}>", linked(text));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table>\n");
}

/// Writes a list; an entry goes on in lines that are indented.
fn write_list(out: &mut String, lines: &[&str]) {
    let mut entries: Vec<String> = Vec::new();
    for line in lines {
        match (line.strip_prefix("- "), entries.last_mut()) {
            (None, Some(last)) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            (begun, _) => entries.push(begun.unwrap_or(line).to_owned()),
        }
    }
    out.push_str("<ul>\n");
    for entry in entries {
        let _infallible = writeln!(out, "<li>{}</li>", linked(&entry));
    }
    out.push_str("</ul>\n");
}

/// Text without the marks of links, which lead to pages that the server does not have, and of emphasis.
fn linked(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](") {
        let (before, label) = before.rsplit_once('[').unwrap_or((before, ""));
        plain.push_str(before);
        plain.push_str(label);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    let mut emphasized = String::with_capacity(plain.len());
    for (place, part) in plain.split('`').enumerate() {
        if place > 0 {
            emphasized.push('`');
        }
        // Stars within code are what they are.
        let is_code = place % 2 == 1;
        emphasized.push_str(&if is_code {
            part.to_owned()
        } else {
            part.replace('*', "")
        });
    }
    inline(&emphasized)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_is_written_as_elements_and_names_no_page_that_is_not_served() {
        let mut out = String::new();
        let text = "# A `b`\n\nOne [two](three.md) *four*\nfive `*<`.\n\n- six\n  seven\n- eight\n\n| a | b |\n| - | - |\n| `c` | d |\n\n```sh\ncurl <x>\n```\n";
        write_text(&mut out, text);
        assert_eq!(
            out,
            "<h1>A <code>b</code></h1>\n<p>One two four five <code>*&lt;</code>.</p>\n\
             <ul>\n<li>six seven</li>\n<li>eight</li>\n</ul>\n\
             <table>\n<tr><th>a</th><th>b</th></tr>\n<tr><td><code>c</code></td><td>d</td></tr>\n</table>\n\
             <pre>curl &lt;x&gt;</pre>\n"
        );
    }

    #[test]
    fn every_heading_of_routes_is_translated() {
        let description: Json = serde_json::from_str(super::super::OPENAPI).unwrap();
        for tag in description.list_of("tags") {
            let name = tag.text("name").unwrap();
            assert!(translated(name) != name || name == "Console", "{name}");
        }
        let page = write(&description);
        assert!(page.contains("<h2>Repetir um pedido</h2>"));
        assert!(page.contains("href=\"/docs#lookUp\"") || page.contains("href=\"/docs#route"));
        assert!(!page.contains(".md"));
    }
}
