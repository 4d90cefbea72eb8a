//! Formats log lines as JSON objects or as text, with the ids of run, task and attempt on every line.

use super::clean::{escape, is_unsafe_to_print, names_secret};
use crate::secrets::redact_all as redact;
use serde_json::{Map, Value};
use std::fmt::{self, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Span fields that are copied onto every line written inside the span.
const INHERITED: [&str; 8] = ["run", "task", "attempt", "role", "step", "project", "request", "trace"];

/// Stores the redacted fields of a span as a JSON object, which [`Lines`] reads back.
pub(super) struct SpanFields;

impl<'w> FormatFields<'w> for SpanFields {
    fn format_fields<R: tracing_subscriber::field::RecordFields>(&self, mut w: Writer<'w>, fields: R) -> fmt::Result {
        let mut collected = Fields::default();
        fields.record(&mut collected);
        w.write_str(&Value::Object(collected.0).to_string())
    }

    fn add_fields(&self, current: &'w mut FormattedFields<Self>, fields: &tracing::span::Record<'_>) -> fmt::Result {
        let mut collected = Fields(parse(&current.fields));
        fields.record(&mut collected);
        current.fields = Value::Object(collected.0).to_string();
        Ok(())
    }
}

fn parse(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

/// Collected fields of an event or a span, with secrets masked.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let value = match value {
            _ if names_secret(field.name()) => Value::from("***"),
            Value::String(s) => Value::from(redact(&s).into_owned()),
            other => other,
        };
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(e) = source {
            let _ = write!(text, ": {e}");
            source = e.source();
        }
        self.put(field, Value::from(text));
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::from(format!("{value:?}")));
    }
}

/// Writes one line per event.
pub(super) struct Lines {
    /// Whether lines are JSON objects instead of text.
    pub json: bool,
}

impl<S> FormatEvent<S, SpanFields> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, SpanFields>, mut w: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut fields = fields.0;
        let message = match fields.remove("message") {
            Some(Value::String(s)) => s,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let mut inherited = Map::new();
        for span in ctx.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(stored) = span.extensions().get::<FormattedFields<SpanFields>>() {
                inherited.extend(parse(&stored.fields).into_iter().filter(|(k, _)| INHERITED.contains(&k.as_str())));
            }
        }
        let time = humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string();
        let meta = event.metadata();
        if self.json {
            let mut line = Map::new();
            line.insert("time".into(), time.into());
            line.insert("level".into(), meta.level().as_str().to_ascii_lowercase().into());
            line.insert("message".into(), message.into());
            line.insert("target".into(), meta.target().into());
            line.extend(inherited);
            for (key, value) in fields {
                line.entry(key).or_insert(value);
            }
            // JSON itself escapes C0 controls only; C1 controls and bidirectional marks are escaped here.
            let text = Value::Object(line).to_string();
            for c in text.chars() {
                match is_unsafe_to_print(c) {
                    true => c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(w, "\\u{unit:04x}"))?,
                    false => w.write_char(c)?,
                }
            }
            return w.write_char('\n');
        }
        let (on, off) = match (w.has_ansi_escapes(), *meta.level()) {
            (false, _) => ("", ""),
            (true, Level::ERROR) => ("\x1b[31m", "\x1b[0m"),
            (true, Level::WARN) => ("\x1b[33m", "\x1b[0m"),
            (true, _) => ("\x1b[2m", "\x1b[0m"),
        };
        write!(w, "{time} {on}{:<5}{off} {}", meta.level().as_str(), escape(&message))?;
        for (key, value) in inherited.iter().chain(fields.iter()) {
            match value {
                Value::String(s) if s.is_empty() || s.contains(|c: char| c.is_whitespace() || c == '"') => {
                    write!(w, " {key}={}", escape(&Value::from(s.as_str()).to_string()))?;
                }
                Value::String(s) => write!(w, " {key}={}", escape(s))?,
                other => write!(w, " {key}={other}")?,
            }
        }
        w.write_char('\n')
    }
}
