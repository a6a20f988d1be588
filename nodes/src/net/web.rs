//! The one upgrade path of WebSockets: of their own listeners, and of `/ws` on the HTTP ports.
//!
//! In: an HTTP request. Out: 101 and a WebSocket that `ws.rs` carries, or a refusal. The rules are in
//! `handshake.rs`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use contract::ListenerId;
use contract::env::NetSink;
use contract::limits::HEADER_DEADLINE_S;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::handshake::{Denied, judge};
use super::place::Place;
use super::tcp::Entrance;
use super::{Network, ws};
use crate::env_os::within;

/// Longest time for the head of a request, and again for the answer to leave (threats.md 8).
const DEADLINE: Duration = Duration::from_secs(HEADER_DEADLINE_S);
/// Octets of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What a WebSocket is opened with.
pub(super) struct Opening {
    pub network: Arc<Network>,
    pub listener: ListenerId,
    pub sink: Arc<dyn NetSink>,
    pub place: Place,
}

/// Serves a connection of a WebSocket listener: one request, at any path.
pub(super) async fn serve(
    entrance: Entrance,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    remote: SocketAddr,
    place: Place,
) {
    let place = Arc::new(Mutex::new(Some(place)));
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let taken = place.lock().unwrap_or_else(PoisonError::into_inner).take();
        let answer = match taken {
            Some(place) => {
                let opening = Opening {
                    network: Arc::clone(&entrance.network),
                    listener: entrance.listener,
                    sink: Arc::clone(&entrance.sink),
                    place,
                };
                open(opening, request, remote)
            }
            None => refusal(400, "one request a connection"),
        };
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(DEADLINE)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, %remote, "WebSocket handshake");
    }
}

impl Network {
    /// Opens a WebSocket on a listener that the HTTP door has the socket of.
    pub(crate) fn upgrade(
        self: &Arc<Self>,
        listener: ListenerId,
        request: Request<Incoming>,
        remote: SocketAddr,
    ) -> Response<Body> {
        let lent = self.tables().lent.get(&listener).cloned();
        let Some((_, Some(sink))) = lent else {
            return refusal(503, "the node is not up yet");
        };
        let counted = (!self.streams.rules.trusts(remote.ip())).then_some(remote.ip());
        let Some(place) = Place::take(self, listener, counted) else {
            return refusal(503, "too many connections");
        };
        let opening = Opening {
            network: Arc::clone(self),
            listener,
            sink,
            place,
        };
        open(opening, request, remote)
    }
}

/// Judges a request and, if it is let in, has its connection carried once the 101 is out.
fn open(
    mut opening: Opening,
    mut request: Request<Incoming>,
    remote: SocketAddr,
) -> Response<Body> {
    let rules = &opening.network.streams.rules;
    let headers = request.headers();
    let judged = judge(rules, request.method(), request.version(), headers, remote);
    let granted = match judged {
        Ok(granted) => granted,
        Err(Denied { status, detail }) => return refusal(status, detail),
    };
    if !opening.sink.lets_in(opening.listener, granted.client) {
        metrics::counter!("weft_acl_dropped_total").increment(1);
        return refusal(403, "this address may not connect here");
    }
    if !opening.place.stand_at(granted.client.ip()) {
        return refusal(503, "too many connections");
    }
    let Ok(accept) = HeaderValue::from_str(&granted.accept) else {
        return refusal(400, "Sec-WebSocket-Key is missing or wrong");
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let handle = opening.network.handle.clone();
    let door = granted.protocol.map(|(_, door)| door);
    handle.spawn(async move {
        match within(DEADLINE, upgraded).await {
            Some(Ok(stream)) => {
                ws::carry(opening, TokioIo::new(stream), granted.client, door).await;
            }
            Some(Err(error)) => tracing::debug!(%error, %remote, "WebSocket upgrade"),
            None => tracing::debug!(%remote, "WebSocket upgrade took too long"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some((name, _)) = granted.protocol {
        let name = HeaderValue::from_static(name);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, name);
    }
    response
}

/// Refuses in words for whoever looks at it; the connection ends.
fn refusal(status: u16, detail: &str) -> Response<Body> {
    metrics::counter!("weft_websockets_refused_total").increment(1);
    let mut response = Response::new(Body::from(format!("{detail}\n")));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if status == 426 {
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
    }
    if status == 503 {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
