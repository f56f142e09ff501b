//! XML that is well formed whatever it is made of.

use std::fmt::Write as _;

/// An element: its name and those of its attributes are ours, everything else is escaped.
#[derive(Debug)]
pub(crate) struct Element {
    /// The start tag without its end.
    tag: String,
    /// The name.
    name: &'static str,
    /// What stands within it, escaped.
    content: String,
}

impl Element {
    /// An empty element.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            tag: format!("<{name}"),
            name,
            content: String::new(),
        }
    }

    /// Adds an attribute.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        // Writing to a string does not fail.
        let _ = write!(self.tag, " {name}=\"");
        escape(value, &mut self.tag);
        self.tag.push('"');
        self
    }

    /// Adds text.
    pub(crate) fn text(mut self, text: &str) -> Self {
        escape(text, &mut self.content);
        self
    }

    /// Adds an element.
    pub(crate) fn child(mut self, child: Self) -> Self {
        self.content.push_str(&child.finish());
        self
    }

    /// The element as written.
    pub(crate) fn finish(self) -> String {
        let Self { tag, name, content } = self;
        if content.is_empty() {
            format!("{tag}/>")
        } else {
            format!("{tag}>{content}</{name}>")
        }
    }
}

/// Appends text as it stands in elements and attributes. What XML 1.0 cannot hold becomes U+FFFD.
fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            // White space in an attribute would be read as a space.
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(character),
        }
    }
}
