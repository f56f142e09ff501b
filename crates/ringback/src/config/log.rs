//! `[log]`: what is logged, and how.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::fault::Faults;

/// The `[log]` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct LogSpec {
    /// How phone numbers are written: `masked` (the last two digits) or `full`; default `masked`.
    phone_numbers: String,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or a filter by module; default
    /// `info`.
    pub(super) level: String,
    /// How lines are written: `text` or `json`; default `text`.
    format: String,
}

impl Default for LogSpec {
    fn default() -> Self {
        Self {
            phone_numbers: "masked".to_owned(),
            level: "info".to_owned(),
            format: "text".to_owned(),
        }
    }
}

/// How the program logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogConfig {
    /// Whether phone numbers are written in full.
    pub(crate) full_phone_numbers: bool,
    /// What is logged; a valid filter.
    pub(crate) level: String,
    /// How lines are written.
    pub(crate) format: LogFormat,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object on each line.
    Json,
}

impl LogSpec {
    /// Checks every key.
    pub(super) fn check(self, faults: &mut Faults<'_>) -> LogConfig {
        let full_phone_numbers = match self.phone_numbers.as_str() {
            "masked" => false,
            "full" => true,
            other => {
                let message = format!("`{other}` is neither `masked` nor `full`");
                faults.add("log.phone-numbers", message);
                false
            }
        };
        let format = match self.format.as_str() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => {
                let message = format!("`{other}` is neither `text` nor `json`");
                faults.add("log.format", message);
                LogFormat::Text
            }
        };
        if !is_filter(&self.level) {
            let message = format!(
                "`{}` is not a level or filter; write off, error, warn, info, debug or trace, or levels \
                 by module as `info,ringback_sip_server=debug`",
                self.level
            );
            faults.add("log.level", message);
        }
        LogConfig {
            full_phone_numbers,
            level: self.level,
            format,
        }
    }
}

/// Whether a text is a filter in which every word means something.
///
/// The library takes a word that is no level for the name of a module: `inof` would turn off whatever
/// is not of the module `inof`, and so everything.
fn is_filter(text: &str) -> bool {
    if text.trim().is_empty() || EnvFilter::try_new(text).is_err() {
        return false;
    }
    // Spans and fields in brackets may hold commas; what stands there cannot be a misspelled level.
    text.contains('[')
        || text
            .split(',')
            .all(|directive| is_directive(directive.trim()))
}

/// Whether this is a level, a level of a module, or one of this program's modules.
fn is_directive(text: &str) -> bool {
    match text.split_once('=') {
        Some((module, level)) => is_level(level) && is_module(module.trim()),
        None => is_level(text) || (is_module(text) && text.starts_with(PROGRAM)),
    }
}

/// Whether this is a level.
fn is_level(text: &str) -> bool {
    !text.trim().is_empty() && text.trim().parse::<LevelFilter>().is_ok()
}

/// Whether this may be the name of a module. Those of this program are known.
fn is_module(text: &str) -> bool {
    let name = text.split("::").next().unwrap_or_default();
    !name.is_empty() && (!name.starts_with(PROGRAM) || MODULES.contains(&name))
}

/// What the names of all crates of this program begin with.
const PROGRAM: &str = "ringback";

/// The crates of this program that log.
const MODULES: [&str; 8] = [
    "ringback",
    "ringback_admin",
    "ringback_cluster",
    "ringback_engine",
    "ringback_routing",
    "ringback_sip_proto",
    "ringback_sip_server",
    "ringback_store",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_level_is_refused() {
        for text in [
            "inof",
            "information",
            "info,debgu",
            "ringback=loud",
            "ringback_sip_servr=debug",
            "",
            " ",
            "info,",
            "=debug",
            "ringback=",
            "rlibphonenumber",
            "off,on",
            "6",
        ] {
            assert!(!is_filter(text), "{text}");
        }
        for text in [
            "info",
            "INFO",
            "off",
            "trace",
            "warn,ringback_sip_server=debug",
            "info,ringback_store::log=trace",
            "ringback_admin",
            "error,hyper=info",
            "info,[request]=debug",
        ] {
            assert!(is_filter(text), "{text}");
        }
    }
}
