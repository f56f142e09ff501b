//! The log: events to standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{LogConfig, LogFormat};

/// The running log.
pub(crate) struct Log {
    /// Changes what is logged.
    filter: reload::Handle<EnvFilter, Registry>,
}

/// Starts the log.
pub(crate) fn start(config: &LogConfig) -> Log {
    let (layer, filter) = reload::Layer::new(filter(config));
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let lines = match config.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry()
        .with(layer)
        .with(lines)
        .init();
    Log { filter }
}

impl Log {
    /// Takes over what is logged; how, stays.
    pub(crate) fn reload(&self, config: &LogConfig) {
        // The subscriber lives as long as the process.
        let _gone = self.filter.reload(filter(config));
    }
}

/// What is logged; the configuration has checked it.
fn filter(config: &LogConfig) -> EnvFilter {
    EnvFilter::try_new(&config.level).unwrap_or_else(|_| EnvFilter::new("info"))
}
