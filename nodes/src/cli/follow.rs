//! `weft events`: what happens, as it happens, until the reader ends it.
//!
//! In: a node's stream of events. Out: a line an event on stdout. When the node ends the stream, the
//! cursor is named with which any other node goes on.

use std::io::Write;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::client::{authority, escaped, token};
use super::table::clean;
use super::{EXIT_DONE, EventsArgs, Failure};

/// Octets of one event of a stream: the longest texts there are, and the longest cursor.
const BLOCK_BYTES_MAX: usize = 256 * 1024;

/// Follows the events of a cluster and prints them.
///
/// # Errors
/// If the node refuses, or the stream ends.
pub fn follow(arguments: &EventsArgs) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::run(format!("starting: {error}")))?;
    runtime.block_on(read(arguments))
}

async fn read(arguments: &EventsArgs) -> Result<u8, Failure> {
    let url = &arguments.ask.url;
    let failed = |why: &dyn std::fmt::Display| Failure::run(format!("asking {url}: {why}"));
    let host = authority(url)?;
    let stream = TcpStream::connect(&host)
        .await
        .map_err(|error| failed(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    let mut request = hyper::Request::builder()
        .uri(path(arguments))
        .header(hyper::header::HOST, &host);
    if let Some(token) = token(&arguments.ask) {
        let bearer = format!("Bearer {}", token.expose());
        request = request.header(hyper::header::AUTHORIZATION, bearer);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let work = async {
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| failed(&error))?;
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            let body = body.collect().await.map_err(|error| failed(&error))?;
            let body: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
            let detail = body["detail"].as_str().unwrap_or("no detail");
            let text = format!("asking {url}: {} {detail}", status.as_u16());
            return Err(if status.as_u16() == 400 {
                Failure::input(text)
            } else {
                Failure::run(text)
            });
        }
        let mut blocks = Blocks::default();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { break };
            let Some(octets) = frame.data_ref() else {
                continue;
            };
            for event in blocks.take(octets) {
                if !show(&event, arguments.ask.json) {
                    return Ok(EXIT_DONE);
                }
            }
            if blocks.left.len() > BLOCK_BYTES_MAX {
                break;
            }
        }
        let go_on = blocks.cursor.unwrap_or_default();
        Err(failed(&format!(
            "the stream has ended; any node goes on with --after {go_on}"
        )))
    };
    tokio::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => done,
        _ = connection => work.await,
    }
}

fn path(arguments: &EventsArgs) -> String {
    let named = [
        ("after", &arguments.after),
        ("call", &arguments.call),
        ("kind", &arguments.kind),
    ];
    let named = named.iter().filter_map(|(name, value)| {
        let value = value.as_ref()?;
        Some(format!("{name}={}", escaped(value)))
    });
    format!(
        "/api/v1/events?{}",
        named.collect::<Vec<String>>().join("&")
    )
}

/// Prints one event; false if nobody reads any more.
fn show(event: &Value, is_json: bool) -> bool {
    let line = if is_json {
        format!("{event}\n")
    } else {
        line(event)
    };
    let mut stdout = std::io::stdout();
    stdout
        .write_all(line.as_bytes())
        .and_then(|()| stdout.flush())
        .is_ok()
}

/// Returns an event as a line for people: where and when, what, to whom, and what belongs to it.
fn line(event: &Value) -> String {
    let text = |name: &str| match &event[name] {
        Value::String(text) => clean(text),
        Value::Null => "-".to_owned(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            other.to_string()
        }
    };
    let shown = ["id", "kind", "at_ms", "actor", "node", "call", "life"];
    let rest = event.as_object().into_iter().flatten();
    let rest = rest.filter(|(name, _)| !shown.contains(&name.as_str()));
    let rest: String = rest
        .map(|(name, _)| format!(" {name}={}", text(name)))
        .collect();
    let at = event["at_ms"].as_u64().map_or_else(String::new, clock);
    let (id, kind) = (text("id"), text("kind"));
    let actor = if event["actor"].is_null() {
        text("life")
    } else {
        text("actor")
    };
    format!("{at:<12} {id:<22} {kind:<20} {actor}{rest}\n")
}

/// Returns the time of day, UTC.
fn clock(at_ms: u64) -> String {
    let (seconds, ms) = (at_ms / 1_000 % 86_400, at_ms % 1_000);
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{ms:03}", seconds % 60)
}

/// Cuts a stream of server-sent events into events.
#[derive(Default)]
struct Blocks {
    left: Vec<u8>,
    cursor: Option<String>,
}

impl Blocks {
    fn take(&mut self, octets: &[u8]) -> Vec<Value> {
        self.left.extend_from_slice(octets);
        let mut events = Vec::new();
        while let Some(end) = self.left.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.left.drain(..end + 2).collect();
            for line in String::from_utf8_lossy(&block).lines() {
                if let Some(cursor) = line.strip_prefix("id: ") {
                    self.cursor = Some(cursor.to_owned());
                } else if let Some(data) = line.strip_prefix("data: ") {
                    events.extend(serde_json::from_str::<Value>(data).ok());
                }
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_into_events_wherever_it_is_torn() {
        let stream = b"retry: 1000\n: weft\nid: v1\n\ndata: {\"kind\":\"node.up\"}\nid: v1_1.1.1\n\n:\nid: v1_1.1.2\n\n";
        for size in 1..stream.len() {
            let mut blocks = Blocks::default();
            let events: Vec<Value> = stream
                .chunks(size)
                .flat_map(|octets| blocks.take(octets))
                .collect();
            assert_eq!(events.len(), 1, "{size}");
            assert_eq!(events[0]["kind"], "node.up");
            assert_eq!(blocks.cursor.as_deref(), Some("v1_1.1.2"));
            assert!(blocks.left.is_empty());
        }
    }

    #[test]
    fn an_event_is_a_line_without_control_characters() {
        let event = serde_json::json!({
            "id": "1.5.7", "kind": "call.started", "at_ms": 45_296_789_u64,
            "actor": "call:x", "from": "a\u{1b}[31m", "to": "1001",
        });
        let line = line(&event);
        assert!(line.starts_with("12:34:56.789 1.5.7"), "{line}");
        assert!(line.contains("to=1001"), "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }
}
