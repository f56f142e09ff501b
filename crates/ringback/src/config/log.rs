//! `[log]`: what is logged, and how.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

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

/// A key of `[log]` holds what cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LogConfigError {
    /// Write `masked` or `full`.
    #[error("log.phone-numbers: `{0}` is neither `masked` nor `full`")]
    PhoneNumbers(String),
    /// Write a level, or levels by module.
    #[error("log.level: `{0}` is not a level or filter")]
    Level(String),
    /// Write `text` or `json`.
    #[error("log.format: `{0}` is neither `text` nor `json`")]
    Format(String),
}

impl TryFrom<LogSpec> for LogConfig {
    type Error = LogConfigError;

    fn try_from(spec: LogSpec) -> Result<Self, LogConfigError> {
        let full_phone_numbers = match spec.phone_numbers.as_str() {
            "masked" => false,
            "full" => true,
            _ => return Err(LogConfigError::PhoneNumbers(spec.phone_numbers)),
        };
        let format = match spec.format.as_str() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => return Err(LogConfigError::Format(spec.format)),
        };
        if spec.level.trim().is_empty() || EnvFilter::try_new(&spec.level).is_err() {
            return Err(LogConfigError::Level(spec.level));
        }
        Ok(Self {
            full_phone_numbers,
            level: spec.level,
            format,
        })
    }
}
