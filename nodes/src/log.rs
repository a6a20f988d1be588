//! The log: one line an event on stderr, for people or as JSON (`interfaces.md` §1).
//!
//! In: tracing's events with the fields of the spans around them. Out: lines. A JSON line is flat:
//! `ts_ms`, `level`, `target`, `message`, then `node`, `epoch`, `actor`, `call` and the rest. What peers
//! wrote cannot start a line or paint a terminal: control characters are escaped.

use std::fmt::Debug;
use std::io::{self, IsTerminal, Write};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;
use crate::env_os::Clock;

/// Starts the log and sends panics to it. `node` is put into each JSON line that names no node.
///
/// # Errors
/// If the filter is none, or a log is there already.
pub fn start(level: &str, format: LogFormat, node: &str, clock: Clock) -> Result<(), String> {
    // The library under the actors opens spans with numbers of its own, which mean nothing here.
    let quiet = if level.contains("ractor") {
        ""
    } else {
        ",ractor=off"
    };
    let filter = EnvFilter::builder().parse(format!("{level}{quiet}"));
    let filter = filter.map_err(|error| error.to_string())?;
    let started = match format {
        LogFormat::Json => {
            let lines = JsonLines {
                node: node.to_owned(),
                clock,
                out: io::stderr,
            };
            tracing_subscriber::registry()
                .with(filter)
                .with(lines)
                .try_init()
        }
        LogFormat::Text => {
            let is_terminal = io::stderr().is_terminal();
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let lines = tracing_subscriber::fmt::layer()
                .with_ansi(is_terminal && !no_color)
                .with_writer(|| Escaped(io::stderr()));
            tracing_subscriber::registry()
                .with(filter)
                .with(lines)
                .try_init()
        }
    };
    started.map_err(|error| error.to_string())?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let payload = panic.payload();
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        tracing::error!(place, why = text.unwrap_or_default(), "panic");
    }));
    Ok(())
}

/// Escapes what could start a second line; tracing writes one whole line at a time.
struct Escaped<W: Write>(W);

impl<W: Write> Write for Escaped<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let (body, end) = match line.split_last() {
            Some((b'\n', body)) => (body, &b"\n"[..]),
            Some(_) | None => (line, &b""[..]),
        };
        let mut safe = Vec::with_capacity(line.len());
        for octet in body {
            // Colours of ours begin with ESC; tracing escapes those of others.
            if octet.is_ascii_control() && *octet != 0x1b {
                safe.extend_from_slice(format!("\\x{octet:02x}").as_bytes());
            } else {
                safe.push(*octet);
            }
        }
        safe.extend_from_slice(end);
        self.0.write_all(&safe)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes each event as one flat JSON object.
pub(crate) struct JsonLines<O> {
    /// Name of this node.
    pub node: String,
    /// The wall clock.
    pub clock: Clock,
    /// Where lines go.
    pub out: O,
}

/// Fields of one span.
struct Fields(Map<String, Value>);

struct Collect<'a>(&'a mut Map<String, Value>);

impl Visit for Collect<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0
            .insert(field.name().to_owned(), Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }
}

impl<S, O, W> Layer<S> for JsonLines<O>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    O: Fn() -> W + 'static,
    W: Write,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Map::new();
        attributes.record(&mut Collect(&mut fields));
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Fields(fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(&mut Collect(&mut fields.0));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Map::new();
        line.insert("ts_ms".to_owned(), Value::from(self.clock.now().utc.0));
        line.insert("level".to_owned(), Value::from(metadata.level().as_str()));
        line.insert("target".to_owned(), Value::from(metadata.target()));
        line.insert("node".to_owned(), Value::from(self.node.as_str()));
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(fields) = span.extensions().get::<Fields>() {
                line.extend(fields.0.clone());
            }
        }
        event.record(&mut Collect(&mut line));
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        // A log that cannot be written must not end the node.
        let _ = (self.out)().write_all(text.as_bytes());
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
