//! What is logged, as log records.

use std::fmt;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::{Exporter, Item, LogRecord, Value, nanoseconds};
use crate::logging::masked_line;

/// Takes what passes the filter of the log to a collector. Numbers are masked, even where the log has them in full.
pub(crate) struct LogLayer(pub(crate) Exporter);

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Some(body) = masked_line(metadata, &fields.message) else {
            return;
        };
        let mut attributes = vec![("code.namespace", Value::Text(metadata.target().to_owned()))];
        for (name, text) in fields.others {
            let masked = masked_line(metadata, &text).unwrap_or_default();
            attributes.push((name, Value::Text(masked)));
        }
        self.0.take(Item::Log(LogRecord {
            at: nanoseconds(SystemTime::now()),
            level: *metadata.level(),
            body,
            attributes,
        }));
    }
}

/// The fields of an event.
#[derive(Default)]
struct Fields {
    /// What is said.
    message: String,
    /// The rest.
    others: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.others.push((field.name(), text));
        }
    }
}
