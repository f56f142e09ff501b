//! The configuration file: read once, with the line of every key.
//!
//! A key that no section knows, or with a value of the wrong kind, is noted as a fault and taken out,
//! and the rest is read again: so one reading finds every such fault, and the checks that follow
//! still see all other keys.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::fault::Fault;
use super::{Spec, VERSION, version_problem};

/// A file that has been read.
pub(super) struct ConfigFile<'t> {
    /// Path of the file, as given.
    path: PathBuf,
    /// Its text.
    text: &'t str,
    /// What it says.
    table: DeTable<'t>,
    /// What is wrong with its form.
    faults: Vec<Fault>,
}

impl<'t> ConfigFile<'t> {
    /// Reads the text of a file. What has faults of form is left out of the section, as if it were
    /// not written.
    pub(super) fn parse(path: &Path, text: &'t str) -> (Self, Spec) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut file = Self {
            path: path.to_owned(),
            text,
            table: table.into_inner(),
            faults: Vec::new(),
        };
        if !errors.is_empty() {
            // What was understood of a broken text says little about what was meant.
            for error in errors {
                let message = format!("TOML parse error: {}", error.message());
                file.note(error.span(), String::new(), &message);
            }
            return (file, Spec::default());
        }
        if let Some(version) = file.other_version() {
            let message = version_problem(version);
            let span = file.find("version").map(|found| found.span);
            file.note(span, "version".to_owned(), &message);
            return (file, Spec::default());
        }
        let spec = file.read_keys();
        (file, spec)
    }

    /// The file's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with the file's form.
    pub(super) fn faults(&self) -> Vec<Fault> {
        self.faults.clone()
    }

    /// Whether the file sets this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_some_and(|found| found.whole)
    }

    /// The line of a key, counted from 1; where it is not written, that of the section it belongs to.
    pub(super) fn line_of(&self, key: &str) -> Option<usize> {
        Some(self.line(self.find(key)?.span.start))
    }

    /// A path written in the file, as seen from the file's folder.
    pub(super) fn resolve(&self, path: &mut PathBuf) {
        if let Some(folder) = self.path.parent()
            && path.is_relative()
        {
            *path = folder.join(&*path);
        }
    }

    /// The version, if it is not the one that this program reads.
    fn other_version(&self) -> Option<&str> {
        match self.table.get("version")?.get_ref() {
            DeValue::Integer(version) if version.as_str() != VERSION.to_string() => {
                Some(version.as_str())
            }
            _ => None,
        }
    }

    /// Reads all keys; those that cannot be read are noted and taken out.
    fn read_keys(&mut self) -> Spec {
        let mut readable = self.table.clone();
        loop {
            let document = Spanned::new(0..self.text.len(), readable.clone());
            let error = match Spec::deserialize(Deserializer::from(document)) {
                Ok(spec) => return spec,
                Err(error) => error,
            };
            let taken = error
                .span()
                .and_then(|span| take_out(&mut readable, &span, ""));
            let unknown_place = taken.is_none();
            self.note(error.span(), taken.unwrap_or_default(), error.message());
            if unknown_place {
                return Spec::default();
            }
        }
    }

    /// Notes a fault.
    fn note(&mut self, span: Option<Range<usize>>, key: String, message: &str) {
        let line = span.map(|span| self.line(span.start));
        let message = message.lines().collect::<Vec<_>>().join(", ");
        let fault = Fault::in_file(self.path.clone(), line, key, message);
        self.faults.push(fault);
    }

    /// The line in which a byte of the text lies, counted from 1.
    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().iter().take(at);
        before.filter(|byte| **byte == b'\n').count() + 1
    }

    /// Goes down a key's path as far as the file does.
    fn find(&self, key: &str) -> Option<Found> {
        let mut found = None;
        let mut table = &self.table;
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            let (name, index) = split_index(part);
            let Some((written, value)) = table.get_key_value(name) else {
                return found;
            };
            let mut at = match value.get_ref() {
                DeValue::Table(_) if parts.peek().is_some() => value.span(),
                _ => written.span(),
            };
            let mut value = value.get_ref();
            if let (Some(index), DeValue::Array(items)) = (index, value) {
                let Some(item) = items.get(index) else {
                    return Some(Found {
                        span: at,
                        whole: false,
                    });
                };
                at = item.span();
                value = item.get_ref();
            }
            found = Some(Found {
                span: at,
                whole: parts.peek().is_none(),
            });
            match value {
                DeValue::Table(below) => table = below,
                _ => break,
            }
        }
        found
    }
}

/// How far the path of a key is written.
struct Found {
    /// The last of its parts that is.
    span: Range<usize>,
    /// Whether that is the last part.
    whole: bool,
}

/// Reads `address[2]`.
fn split_index(part: &str) -> (&str, Option<usize>) {
    let Some((name, rest)) = part.split_once('[') else {
        return (part, None);
    };
    (
        name,
        rest.strip_suffix(']').and_then(|index| index.parse().ok()),
    )
}

/// Takes the key out at which this span lies, and gives its path.
fn take_out(table: &mut DeTable<'_>, span: &Range<usize>, above: &str) -> Option<String> {
    let within = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let names: Vec<String> = table.keys().map(|key| key.get_ref().to_string()).collect();
    // Tables first: what is wrong lies in the innermost key. The span of a table may be that of its
    // header alone, so each is looked into.
    for name in &names {
        let path = format!("{above}{name}");
        match table.get_mut(name.as_str()).map(Spanned::get_mut) {
            Some(DeValue::Table(below)) => {
                if let Some(taken) = take_out(below, span, &format!("{path}.")) {
                    return Some(taken);
                }
            }
            Some(DeValue::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    if let DeValue::Table(below) = item.get_mut()
                        && let Some(taken) = take_out(below, span, &format!("{path}[{index}]."))
                    {
                        return Some(taken);
                    }
                }
            }
            _ => {}
        }
    }
    let taken = names.into_iter().find(|name| {
        table
            .get_key_value(name.as_str())
            .is_some_and(|(key, value)| within(key.span()) || within(value.span()))
    })?;
    table.remove(taken.as_str());
    Some(format!("{above}{taken}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (ConfigFile<'_>, Spec) {
        ConfigFile::parse(Path::new("/etc/ringback.toml"), text)
    }

    fn faults(text: &str) -> Vec<String> {
        let (file, _) = parse(text);
        file.faults().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_fault_of_form_is_found_with_its_line() {
        let text = "\
colour = 1
[sip]
udp = \"127.0.0.1:5060\"
workers = \"many\"
[[sip.peers]]
adress = [\"10.0.0.1\"]
[[sip.peers]]
address = [\"10.0.0.2\",
  5]
[htpp]
listen = []
[log]
level = 3
";
        let found = faults(text);
        let at = |line: usize, key: &str| {
            let start = format!("/etc/ringback.toml:{line}: {key}: ");
            found.iter().any(|fault| fault.starts_with(&start))
        };
        for (line, key) in [
            (1, "colour"),
            (3, "sip.udp"),
            (4, "sip.workers"),
            (6, "sip.peers[0].adress"),
            (9, "sip.peers[1].address"),
            (10, "htpp"),
            (13, "log.level"),
        ] {
            assert!(at(line, key), "{line} {key}: {found:#?}");
        }
        assert_eq!(found.len(), 7, "{found:#?}");
    }

    #[test]
    fn what_is_well_formed_is_read_beside_what_is_not() {
        let (file, spec) = parse("[sip]\nworkers = 'x'\nagent-header = 'X-A'\n[log]\nlevl = 'x'\n");
        assert_eq!(file.faults().len(), 2);
        assert_eq!(spec.sip.agent_header, "X-A");
    }

    #[test]
    fn broken_text_is_reported_by_line_and_not_judged_further() {
        let found = faults("version = 1\n[sip\nudp = [\n[log]\nlevel = 5\n");
        assert!(found[0].starts_with("/etc/ringback.toml:2: "), "{found:?}");
        assert!(
            !found.iter().any(|fault| fault.contains("log.level")),
            "{found:?}"
        );
    }

    #[test]
    fn another_version_is_the_only_fault() {
        let found = faults("# from the future\nversion = 2\nnew-key = 1\n");
        assert_eq!(
            found,
            ["/etc/ringback.toml:2: version: 2 is not supported, this program reads version 1"]
        );
    }

    #[test]
    fn a_key_is_found_on_its_line_or_that_of_its_section() {
        let (file, _) = parse(
            "[sip]\nudp = [\"a\",\n  \"b\"]\n[sip.tls]\nlisten = []\n[[sip.peers]]\nname = 'x'\n\
             [[sip.peers]]\nname = 'y'\n",
        );
        for (key, line) in [
            ("sip.udp", 2),
            ("sip.udp[0]", 2),
            ("sip.udp[1]", 3),
            ("sip.tls.certificate", 4),
            ("sip.peers[0].name", 7),
            ("sip.peers[1].address", 8),
            ("sip.peers[1].name", 9),
        ] {
            assert_eq!(file.line_of(key), Some(line), "{key}");
        }
        assert_eq!(file.line_of("http.listen"), None);
        assert!(file.has("sip.udp") && !file.has("sip.tcp") && !file.has("sip.tls.certificate"));
    }

    #[test]
    fn relative_paths_are_seen_from_the_file() {
        let (file, _) = parse("");
        let resolved = |path: &str| {
            let mut path = PathBuf::from(path);
            file.resolve(&mut path);
            path
        };
        assert_eq!(resolved("tls/cert.pem"), Path::new("/etc/tls/cert.pem"));
        assert_eq!(resolved("/srv/cert.pem"), Path::new("/srv/cert.pem"));
    }
}
