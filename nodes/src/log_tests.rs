//! Lines of the log are flat, whole, and cannot be forged by what peers wrote.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tracing_subscriber::layer::SubscriberExt;

use super::{Escaped, JsonLines};
use crate::env_os::Clock;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .expect("not poisoned")
            .extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_json_line_has_the_fields_of_its_spans_at_its_top() {
    let sink = Sink::default();
    let out = sink.clone();
    let lines = JsonLines {
        node: "a".to_owned(),
        clock: Clock::start(),
        out: move || out.clone(),
    };
    let subscriber = tracing_subscriber::registry().with(lines);
    tracing::subscriber::with_default(subscriber, || {
        let outer = tracing::info_span!(
            "actor",
            node = "1.5",
            epoch = 3u64,
            call = tracing::field::Empty
        );
        outer.record("call", "c-1");
        let _outer = outer.enter();
        let inner = tracing::info_span!("event", actor = %"call:x");
        let _inner = inner.enter();
        tracing::warn!(
            status = 486u16,
            text = "a\r\n{\"level\":\"ERROR\"}",
            is_late = true,
            "refused"
        );
    });
    let text = String::from_utf8(sink.0.lock().expect("not poisoned").clone()).expect("UTF-8");
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    let line: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(line["message"], "refused");
    assert_eq!(
        (&line["level"], &line["node"]),
        (&Value::from("WARN"), &Value::from("1.5"))
    );
    assert_eq!(
        (&line["epoch"], &line["call"]),
        (&Value::from(3), &Value::from("c-1"))
    );
    assert_eq!(
        (&line["actor"], &line["status"]),
        (&Value::from("call:x"), &Value::from(486))
    );
    assert_eq!(line["is_late"], true);
    assert!(
        line["ts_ms"]
            .as_u64()
            .is_some_and(|at| at > 1_700_000_000_000)
    );
}

#[test]
fn a_line_for_people_stays_one_line() {
    let sink = Sink::default();
    let line = b"INFO from=\"x\r\nERROR forged\"\n";
    assert_eq!(
        Escaped(sink.clone()).write(line).expect("written"),
        line.len()
    );
    let text = String::from_utf8(sink.0.lock().expect("not poisoned").clone()).expect("UTF-8");
    assert_eq!(text, "INFO from=\"x\\x0d\\x0aERROR forged\"\n");
}
