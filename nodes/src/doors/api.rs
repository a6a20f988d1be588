//! Routes of the HTTP API: each is one message to the console actor.
//!
//! In: method, path, query, body. Out: the console's request; its answer as a response. It knows no
//! actor and no table.

use std::sync::Arc;
use std::time::Duration;

use actors::call::{Order as CallOrder, Party};
use actors::console::{Page, Request};
use actors::registration::settings::Settings;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use contract::limits::{
    API_BODY_BYTES_MAX, API_WAIT_S, DIGIT_MS, DIGIT_MS_MAX, DIGIT_MS_MIN, DRAIN_MAX_S,
    PAGE_ROWS_MAX,
};
use contract::{ActorId, Kind};
use doors::json::{CommandName, Dialled, Digits};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::events;
use super::http::HttpParts;
use super::ticket::Reply;
use crate::env_os::within;

/// Rows of a page if the request says nothing.
const PAGE_ROWS: usize = 100;
/// Characters of a query's text; a longer one matches nothing anyway.
const QUERY_CHARACTERS_MAX: usize = 256;

type Parts = State<Arc<HttpParts>>;

/// Returns the routes that the guard protects.
pub(super) fn guarded() -> Router<Arc<HttpParts>> {
    Router::new()
        .route("/api/v1/nodes", get(nodes))
        .route("/api/v1/nodes/{name}/drain", post(drain))
        .route("/api/v1/actors", get(actors))
        .route("/api/v1/actors/{id}", get(inspect))
        .route("/api/v1/actors/{id}/trace", get(trace))
        .route("/api/v1/actors/{id}/stop", post(stop))
        .route("/api/v1/actors/{id}/move", post(move_actor))
        .route("/api/v1/calls", get(calls))
        .route("/api/v1/calls/{id}/events", get(events::of_call))
        .route("/api/v1/calls/{id}/{order}", post(steer))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/registrations", get(registrations))
        .route("/api/v1/users/{dn}", get(user))
        .route(
            "/api/v1/users/{dn}/settings",
            get(settings).put(put_settings).delete(delete_settings),
        )
        .route("/metrics", get(metrics))
        .fallback(|| async { problem(404, "there is no such path") })
        .method_not_allowed_fallback(|| async { problem(405, "not with this method") })
        .layer(DefaultBodyLimit::max(API_BODY_BYTES_MAX))
}

/// Returns the routes that anybody may ask.
pub(super) fn open() -> Router<Arc<HttpParts>> {
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
}

/// A request that is refused before anybody is asked.
pub(super) struct Problem {
    pub status: u16,
    pub detail: String,
}

impl Problem {
    pub(super) fn bad(detail: impl Into<String>) -> Self {
        Problem {
            status: 400,
            detail: detail.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        problem(self.status, &self.detail)
    }
}

/// Makes an `application/problem+json` response (RFC 9457).
pub(super) fn problem(status: u16, detail: &str) -> Response {
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let title = code.canonical_reason().unwrap_or("Error");
    let body = json!({ "type": "about:blank", "title": title, "status": status, "detail": detail });
    respond(&Reply {
        status,
        body: Bytes::from(body.to_string()),
    })
}

/// Makes a response of JSON.
pub(super) fn json_response(value: &serde_json::Value) -> Response {
    respond(&Reply {
        status: 200,
        body: Bytes::from(value.to_string()),
    })
}

fn respond(reply: &Reply) -> Response {
    let code = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let is_problem = code.is_client_error() || code.is_server_error();
    let form = if is_problem {
        "application/problem+json"
    } else {
        "application/json"
    };
    let mut response = Response::new(Body::from(reply.body.clone()));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(form));
    if code == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer realm=\"weft\"");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
    }
    if code == StatusCode::SERVICE_UNAVAILABLE {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Asks the console and waits for its answer.
async fn ask(parts: &HttpParts, request: Request) -> Reply {
    let fault = |status: u16, detail: &str| {
        Reply {
        status,
        body: Bytes::from(
            json!({ "type": "about:blank", "title": "No answer", "status": status, "detail": detail })
                .to_string(),
        ),
    }
    };
    let Some(mut ticket) = parts.tickets.open() else {
        return fault(503, "too many requests wait for the node");
    };
    if !parts.console.ask(ticket.number, request) {
        return fault(503, "the console takes no request now");
    }
    // The console has the same deadline and answers 504 itself; a second more lets it.
    match within(Duration::from_secs(API_WAIT_S + 1), ticket.wait()).await {
        Some(Some(reply)) => reply,
        Some(None) => fault(503, "the node ends"),
        None => fault(504, "the console did not answer in time"),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct List {
    kind: Option<String>,
    node: Option<String>,
    q: Option<String>,
    limit: Option<usize>,
    offset: Option<usize>,
}

impl List {
    fn page(&self) -> Page {
        Page {
            offset: self.offset.unwrap_or(0),
            limit: self.limit.unwrap_or(PAGE_ROWS).min(PAGE_ROWS_MAX),
        }
    }

    fn contains(&self) -> Option<String> {
        let text = self.q.as_ref().filter(|text| !text.is_empty())?;
        Some(text.chars().take(QUERY_CHARACTERS_MAX).collect())
    }
}

type Asked = Result<Query<List>, axum::extract::rejection::QueryRejection>;
type Named = Path<String>;

fn list(asked: Asked) -> Result<List, Problem> {
    asked
        .map(|Query(list)| list)
        .map_err(|error| Problem::bad(error.body_text()))
}

fn actor(id: &str) -> Result<ActorId, Problem> {
    id.parse()
        .map_err(|error: contract::IdError| Problem::bad(error.to_string()))
}

async fn nodes(State(parts): Parts) -> Response {
    respond(&ask(&parts, Request::Nodes).await)
}

async fn actors(State(parts): Parts, asked: Asked) -> Result<Response, Problem> {
    let list = list(asked)?;
    let kind = list.kind.as_deref().map(str::parse::<Kind>).transpose();
    let kind = kind.map_err(|error| Problem::bad(error.to_string()))?;
    let request = Request::Actors {
        kind,
        node: list.node.clone(),
        contains: list.contains(),
        page: list.page(),
    };
    Ok(respond(&ask(&parts, request).await))
}

async fn calls(State(parts): Parts, asked: Asked) -> Result<Response, Problem> {
    let list = list(asked)?;
    let request = Request::Calls {
        contains: list.contains(),
        page: list.page(),
    };
    Ok(respond(&ask(&parts, request).await))
}

async fn registrations(State(parts): Parts, asked: Asked) -> Result<Response, Problem> {
    let list = list(asked)?;
    let request = Request::Registrations {
        contains: list.contains(),
        page: list.page(),
    };
    Ok(respond(&ask(&parts, request).await))
}

async fn inspect(State(parts): Parts, Path(id): Named) -> Result<Response, Problem> {
    Ok(respond(
        &ask(&parts, Request::Inspect { id: actor(&id)? }).await,
    ))
}

async fn trace(State(parts): Parts, Path(id): Named) -> Result<Response, Problem> {
    Ok(respond(
        &ask(&parts, Request::Trace { id: actor(&id)? }).await,
    ))
}

async fn user(State(parts): Parts, Path(dn): Named) -> Response {
    respond(&ask(&parts, Request::User { dn }).await)
}

async fn settings(State(parts): Parts, Path(dn): Named) -> Response {
    respond(&ask(&parts, Request::Settings { dn, set: None }).await)
}

async fn put_settings(
    State(parts): Parts,
    Path(dn): Named,
    body: Given,
) -> Result<Response, Problem> {
    let settings: Settings = read_body(&given(body)?)?;
    let set = Some(Box::new(settings));
    Ok(respond(&ask(&parts, Request::Settings { dn, set }).await))
}

async fn delete_settings(State(parts): Parts, Path(dn): Named) -> Response {
    let set = Some(Box::default());
    respond(&ask(&parts, Request::Settings { dn, set }).await)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Order {
    epoch: Option<u64>,
    to: Option<String>,
    max_s: Option<u32>,
}

type Given = Result<Bytes, axum::extract::rejection::BytesRejection>;

fn given(body: Given) -> Result<Bytes, Problem> {
    body.map_err(|error| Problem {
        status: error.status().as_u16(),
        detail: error.body_text(),
    })
}

fn read_body<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::bad(error.to_string()))
}

fn order(body: Given) -> Result<Order, Problem> {
    let body = given(body)?;
    if body.is_empty() {
        return Ok(Order::default());
    }
    read_body(&body)
}

async fn stop(State(parts): Parts, Path(id): Named, body: Given) -> Result<Response, Problem> {
    let request = Request::Stop {
        id: actor(&id)?,
        epoch: order(body)?.epoch,
    };
    Ok(respond(&ask(&parts, request).await))
}

async fn move_actor(
    State(parts): Parts,
    Path(id): Named,
    body: Given,
) -> Result<Response, Problem> {
    let id = actor(&id)?;
    let Order { epoch, to, .. } = order(body)?;
    let to = to.ok_or_else(|| Problem::bad("`to` must name a node"))?;
    Ok(respond(&ask(&parts, Request::Move { id, to, epoch }).await))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Steering {
    command_id: Option<CommandName>,
    party: Option<Party>,
    to: Option<Dialled>,
    cause: Option<String>,
    digits: Option<Digits>,
    duration_ms: Option<u16>,
}

impl Steering {
    fn party(&self) -> Result<Party, Problem> {
        let missing = || Problem::bad("`party` must be `caller` or `callee`");
        self.party.ok_or_else(missing)
    }

    /// Returns the order that a path names.
    fn order(self, name: &str) -> Result<CallOrder, Problem> {
        Ok(match name {
            "hangup" => CallOrder::Hangup {
                cause: self.cause.unwrap_or_else(|| "NORMAL_CLEARING".to_owned()),
            },
            "transfer" => CallOrder::Transfer {
                party: self.party()?,
                to: (self.to.as_ref().map(ToString::to_string))
                    .ok_or_else(|| Problem::bad("`to` must be a number or address"))?,
            },
            "hold" => CallOrder::Hold {
                party: self.party()?,
            },
            "unhold" => CallOrder::Unhold {
                party: self.party()?,
            },
            "dtmf" => CallOrder::Digits {
                party: self.party()?,
                duration: digit_length(self.duration_ms)?,
                digits: (self.digits.as_ref().map(ToString::to_string))
                    .ok_or_else(|| Problem::bad("`digits` must be 1 to 64 of 0-9 * # A-D"))?,
            },
            _ => {
                return Err(Problem {
                    status: 404,
                    detail: format!(
                        "there is no order {name}: hangup, transfer, hold, unhold, dtmf"
                    ),
                });
            }
        })
    }
}

fn digit_length(wished_ms: Option<u16>) -> Result<Duration, Problem> {
    let length_ms = wished_ms.unwrap_or(DIGIT_MS);
    if !(DIGIT_MS_MIN..=DIGIT_MS_MAX).contains(&length_ms) {
        let range = format!("`duration_ms` must be {DIGIT_MS_MIN} to {DIGIT_MS_MAX}");
        return Err(Problem::bad(range));
    }
    Ok(Duration::from_millis(u64::from(length_ms)))
}

/// `POST /api/v1/calls/{id}/{order}`: the body says to whom; `command_id` makes a repeat harmless.
async fn steer(
    State(parts): Parts,
    Path((id, name)): Path<(String, String)>,
    body: Given,
) -> Result<Response, Problem> {
    let call = events::call_key(&id)?;
    let body = given(body)?;
    let steering = match body.is_empty() {
        true => Steering::default(),
        false => read_body::<Steering>(&body)?,
    };
    let command = steering.command_id.as_ref().map(ToString::to_string);
    let order = steering.order(&name)?;
    let request = Request::Steer {
        call,
        command,
        order,
    };
    Ok(respond(&ask(&parts, request).await))
}

/// The node that is asked, in a path.
const SELF: &str = "self";

async fn drain(State(parts): Parts, Path(name): Named, body: Given) -> Result<Response, Problem> {
    let max_s = order(body)?.max_s.unwrap_or(DRAIN_MAX_S);
    if !(1..=DRAIN_MAX_S).contains(&max_s) {
        let range = format!("`max_s` must be 1 to {DRAIN_MAX_S}");
        return Err(Problem::bad(range));
    }
    let node = (name != SELF).then_some(name);
    Ok(respond(&ask(&parts, Request::Drain { node, max_s }).await))
}

async fn metrics(State(parts): Parts) -> Response {
    let text = parts
        .metrics
        .as_ref()
        .map(|handle| handle.render())
        .unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

async fn alive() -> &'static str {
    "alive\n"
}

/// Ready is what the console answers for: it runs, and its node is up.
async fn ready(State(parts): Parts) -> Response {
    let reply = ask(&parts, Request::Here).await;
    let answer: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let state = answer["items"][0]["state"].as_str().unwrap_or("unknown");
    if reply.status == 200 && state == "up" {
        return "ready\n".into_response();
    }
    problem(503, &format!("the node is {state}"))
}
