//! The event log over HTTP: a stream of server-sent events, the same as a WebSocket (`stream.rs`), and
//! one call's log as a list.
//!
//! In: a cursor and filters. Out: one JSON object an event. A reader has no buffer: what it is told is
//! read from the log when its connection has room, so a slow one falls behind, and is told of a gap
//! when what it wants is not kept any more.
//!
//! ```text
//! GET /api/v1/events?after=CURSOR&call=ID&kind=call.answered,call.ended
//! : weft
//! data: {"id":"1.1763762400.7","kind":"call.answered",...}
//! id: v1_1.1763762400.7          the cursor; a browser sends it back by itself
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use cluster::{CallLog, Cursor, Gap, Item, Seen};
use contract::limits::EVENT_READERS_MAX;
use contract::{ActorId, CallKey, EVENT_KINDS, LogEvent, NodeInst};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::api::{Problem, json_response};
use super::http::HttpParts;
use super::stream as socket;
use crate::env_os::within;

/// Time without an event after which a reader is shown that the stream lives, and how far it is.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// After which time a browser opens a stream again that has ended.
const RETRY_MS: u32 = 1_000;
/// The cursor before everything that is kept.
const OLDEST: &str = "oldest";

/// The way to the event log.
pub trait EventDoor: Send + Sync + 'static {
    /// Returns the cursor of a reader who wants to know what happens from now on.
    fn end(&self) -> Cursor;
    /// Reads on from a cursor, which goes with it.
    fn read(&self, cursor: &mut Cursor, wants: &mut dyn FnMut(&LogEvent) -> bool) -> Seen;
    /// Returns what changes when there is more to read.
    fn changed(&self) -> watch::Receiver<u64>;
    /// Returns what is kept of one call.
    fn of_call(&self, call: CallKey) -> CallLog;
}

/// What the query of a stream may say.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wish {
    after: Option<String>,
    call: Option<String>,
    kind: Option<String>,
}

/// Which events a reader wants.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    call: Option<CallKey>,
    /// Empty: all.
    kinds: Vec<&'static str>,
}

impl Filter {
    fn wants(&self, event: &LogEvent) -> bool {
        let is_of_call = self.call.is_none_or(|call| event.call() == Some(call));
        is_of_call && (self.kinds.is_empty() || self.kinds.contains(&event.kind()))
    }
}

/// Readers of this node; one place each.
#[derive(Debug, Default)]
pub(super) struct Readers(Arc<AtomicUsize>);

/// The place of one reader; given back when dropped.
pub(super) struct Place(Arc<AtomicUsize>);

impl Readers {
    pub(super) fn take(&self) -> Option<Place> {
        let count = self.0.fetch_add(1, Ordering::AcqRel);
        metrics::gauge!("weft_event_readers").increment(1.0);
        let place = Place(Arc::clone(&self.0));
        (count < EVENT_READERS_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
        metrics::gauge!("weft_event_readers").decrement(1.0);
    }
}

/// One reader: how far it is, and what it wants.
pub(super) struct Reader {
    log: Arc<dyn EventDoor>,
    filter: Filter,
    cursor: Cursor,
    changed: watch::Receiver<u64>,
    _place: Place,
}

/// What a reader is to be shown next.
pub(super) enum Shown {
    /// Events, each with the cursor after it.
    Items(Vec<(Item, Cursor)>),
    /// Nothing has happened that it wants; it is this far.
    Quiet(Cursor),
    /// The node ends.
    End,
}

impl Reader {
    /// Returns how far it is.
    pub(super) const fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Waits until there is something to show, `HEARTBEAT` at most.
    pub(super) async fn next(&mut self) -> Shown {
        loop {
            self.changed.mark_unchanged();
            let filter = &self.filter;
            let mut wants = |event: &LogEvent| filter.wants(event);
            let seen = self.log.read(&mut self.cursor, &mut wants);
            if !seen.items.is_empty() {
                return Shown::Items(seen.items);
            }
            if seen.has_more {
                // All of it was passed over: others get their turn.
                tokio::task::yield_now().await;
                continue;
            }
            match within(HEARTBEAT, self.changed.changed()).await {
                Some(Ok(())) => {}
                Some(Err(_)) => return Shown::End,
                None => return Shown::Quiet(self.cursor.clone()),
            }
        }
    }
}

type Parts = State<Arc<HttpParts>>;
type Asked = Result<Query<Wish>, QueryRejection>;

/// `GET /api/v1/events`.
pub(super) async fn events(
    State(parts): Parts,
    asked: Asked,
    request: Request,
) -> Result<Response, Problem> {
    let reader = open(&parts, asked, request.headers())?;
    if socket::is_wanted(request.headers()) {
        return socket::upgrade(reader, request);
    }
    Ok(stream_of(reader))
}

fn open(parts: &HttpParts, asked: Asked, headers: &HeaderMap) -> Result<Reader, Problem> {
    let Query(wish) = asked.map_err(|error| Problem::bad(error.body_text()))?;
    // A browser opens the stream again by its first URL: the header knows more.
    let last = headers.get("last-event-id");
    let last = last.map(|last| last.to_str().map(str::to_owned));
    let last = last.transpose();
    let last = last.map_err(|_| Problem::bad("Last-Event-ID is no cursor"))?;
    let after = last.filter(|last| !last.is_empty()).or(wish.after);
    let log = Arc::clone(&parts.events.0);
    let cursor = match after.as_deref() {
        None => log.end(),
        Some(OLDEST) => Cursor::default(),
        Some(cursor) => cursor
            .parse()
            .map_err(|error: cluster::CursorError| Problem::bad(format!("`after`: {error}")))?,
    };
    let filter = Filter {
        call: wish.call.as_deref().map(call_key).transpose()?,
        kinds: kinds(wish.kind.as_deref().unwrap_or_default())?,
    };
    let place = parts.readers.take().ok_or_else(|| Problem {
        status: 503,
        detail: format!("{EVENT_READERS_MAX} readers follow the events of this node already"),
    })?;
    Ok(Reader {
        changed: log.changed(),
        log,
        filter,
        cursor,
        _place: place,
    })
}

/// Reads the ID of a call, as an actor's or as a UUID.
pub(super) fn call_key(text: &str) -> Result<CallKey, Problem> {
    match text.parse::<ActorId>() {
        Ok(ActorId::Call(call)) => return Ok(call),
        Ok(_) => return Err(Problem::bad(format!("{text} is no call"))),
        Err(_) => {}
    }
    text.parse()
        .map_err(|error: contract::IdError| Problem::bad(error.to_string()))
}

fn kinds(text: &str) -> Result<Vec<&'static str>, Problem> {
    let names = text.split(',').filter(|name| !name.is_empty());
    // Gaps are told in any case; to name them is no mistake.
    let names = names.filter(|name| *name != "gap");
    let known = |name: &str| {
        let found = EVENT_KINDS.into_iter().find(|kind| *kind == name);
        let why = || format!("no kind {name:?}; there are {}", EVENT_KINDS.join(", "));
        found.ok_or_else(|| Problem::bad(why()))
    };
    let mut kinds = Vec::new();
    for name in names {
        let kind = known(name)?;
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    Ok(kinds)
}

/// Makes the response of server-sent events.
fn stream_of(reader: Reader) -> Response {
    let first = format!("retry: {RETRY_MS}\n: weft\nid: {}\n\n", reader.cursor());
    let chunks = stream::unfold((Some(first), reader), |(first, mut reader)| async move {
        if let Some(first) = first {
            return Some((chunk(first), (None, reader)));
        }
        let text = match reader.next().await {
            Shown::End => return None,
            Shown::Quiet(cursor) => format!(":\nid: {cursor}\n\n"),
            Shown::Items(items) => items.iter().map(block).collect(),
        };
        Some((chunk(text), (None, reader)))
    });
    let mut response = Body::from_stream(chunks).into_response();
    let headers = response.headers_mut();
    let form = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, form);
    // A proxy that gathers octets would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn chunk(text: String) -> Result<Bytes, std::convert::Infallible> {
    Ok(Bytes::from(text))
}

/// The cursor comes last: who reads by lines and is cut off is told an event again, not none.
fn block((item, cursor): &(Item, Cursor)) -> String {
    format!("data: {}\nid: {cursor}\n\n", Value::Object(to_json(item)))
}

/// Returns an item as a JSON object.
pub(super) fn to_json(item: &Item) -> Map<String, Value> {
    match item {
        Item::Event {
            life,
            number,
            event,
        } => of_event(*life, *number, event),
        Item::Gap(gap) => of_gap(gap),
    }
}

fn of_event(life: NodeInst, number: u64, event: &LogEvent) -> Map<String, Value> {
    let mut object = event.to_json();
    object.insert("id".to_owned(), json!(format!("{life}.{number}")));
    object.insert("node".to_owned(), json!(life.node.0));
    object
}

fn of_gap(gap: &Gap) -> Map<String, Value> {
    let Gap { life, from, until } = gap;
    let mut object = Map::new();
    let fields = [
        ("kind", json!("gap")),
        ("id", json!(format!("{life}.{from}-"))),
        ("node", json!(life.node.0)),
        ("life", json!(life.to_string())),
        ("from", json!(from)),
        ("until", json!(until)),
    ];
    object.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    object
}

/// `GET /api/v1/calls/{id}/events`: what is kept of one call, by time.
pub(super) async fn of_call(
    State(parts): Parts,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let call = call_key(&id)?;
    let CallLog { events, gaps } = parts.events.0.of_call(call);
    if events.is_empty() {
        return Err(Problem {
            status: 404,
            detail: format!("nothing is kept of a call {call}"),
        });
    }
    let events = events.iter();
    let items: Vec<_> = events
        .map(|(life, number, event)| of_event(*life, *number, event))
        .collect();
    let gaps: Vec<_> = gaps.iter().map(of_gap).collect();
    Ok(json_response(&json!({ "items": items, "gaps": gaps })))
}
