//! The log: events to standard error.

mod mask;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use self::mask::MaskedOutput;
pub(crate) use self::mask::{masked_line, masked_unless};
use crate::config::{LogConfig, LogFormat};
use crate::otel::{Exporter, LogLayer};

/// The running log.
pub(crate) struct Log {
    /// Changes what is logged.
    filter: reload::Handle<EnvFilter, Registry>,
    /// Whether phone numbers are written in full.
    full_phone_numbers: Arc<AtomicBool>,
}

/// Starts the log; with an exporter it goes to its collector, too.
pub(crate) fn start(config: &LogConfig, exporter: Option<Exporter>) -> Log {
    let (layer, filter) = reload::Layer::new(filter(config));
    let full_phone_numbers = Arc::new(AtomicBool::new(config.full_phone_numbers));
    let output = MaskedOutput {
        full: Arc::clone(&full_phone_numbers),
    };
    let lines = fmt::layer()
        .with_writer(output)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let lines = match config.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry()
        .with(layer)
        .with(lines)
        .with(exporter.map(LogLayer))
        .init();
    Log {
        filter,
        full_phone_numbers,
    }
}

impl Log {
    /// Takes over what is logged; how, stays.
    pub(crate) fn reload(&self, config: &LogConfig) {
        // The subscriber lives as long as the process.
        let _gone = self.filter.reload(filter(config));
        self.full_phone_numbers
            .store(config.full_phone_numbers, Ordering::Relaxed);
    }

    /// Whether phone numbers are written in full; changes with the configuration.
    pub(crate) fn full_phone_numbers(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.full_phone_numbers)
    }
}

/// What is logged; the configuration has checked it.
///
/// What the tables tell about themselves at every start is of no use to operators, unless they ask for it.
fn filter(config: &LogConfig) -> EnvFilter {
    let mut level = config.level.clone();
    let is_wide = level.split(',').any(|directive| {
        let word = directive.trim().to_ascii_lowercase();
        ["info", "debug", "trace", "3", "4", "5"].contains(&word.as_str())
    });
    if is_wide && !level.contains("lsm_tree") {
        level.push_str(",lsm_tree=warn");
    }
    EnvFilter::try_new(&level).unwrap_or_else(|_| EnvFilter::new("info"))
}
