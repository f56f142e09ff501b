//! Names and values as forms and queries have them (`application/x-www-form-urlencoded`).

use percent_encoding::percent_decode;

/// The parameters of a form or a query, in the order received.
#[derive(Debug)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a form. `None`: an escape or the text is no UTF-8.
    pub(crate) fn read(form: &[u8]) -> Option<Self> {
        let parts = form.split(|byte| *byte == b'&');
        let pairs = parts.filter(|part| !part.is_empty()).map(|part| {
            let mut halves = part.splitn(2, |byte| *byte == b'=');
            let name = decode(halves.next().unwrap_or_default())?;
            let value = decode(halves.next().unwrap_or_default())?;
            Some((name, value))
        });
        pairs.collect::<Option<_>>().map(Self)
    }

    /// The first value with this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The first value with this name, unless it is empty.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let value = self.get(name).filter(|value| !value.is_empty());
        value.map(str::to_owned)
    }

    /// The first value with this name as a number to dial: senders forget that a bare plus in a query means a space.
    pub(crate) fn number(&self, name: &str) -> Option<String> {
        self.text(name).map(|value| value.replace(' ', "+"))
    }

    /// All parameters.
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

/// A name or a value without its escapes. A percent sign without two hexadecimal digits behind it stands for itself.
fn decode(text: &[u8]) -> Option<String> {
    let spaced: Vec<u8> = text
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    String::from_utf8(percent_decode(&spaced).collect()).ok()
}
