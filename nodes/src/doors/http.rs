//! The HTTP listener: connections with caps and deadlines (threats.md 8), then guard, then routes.
//!
//! In: connections. Out: requests to the console. What each route means is in `api.rs`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use contract::limits::HEADER_DEADLINE_S;
use contract::{ListenerId, Secret};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::events::Readers;
use super::guard::{Guard, Peer};
use super::{ConsoleDoor, EventDoor, Tickets, api, pages};
use crate::dscp;
use crate::env_os::within;
use crate::net::Network;
use crate::net::tcp::{self, HANDSHAKE_DEADLINE};

/// Connections of all HTTP listeners at a time; more are closed at once.
const CONNECTIONS_MAX: usize = 1_024;
/// Connections of one address at a time; more are closed at once.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 256;
/// Octets of a request's head; a larger one is answered 431.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest time for a whole request, its body and the console's answer included.
const REQUEST_DEADLINE: Duration = Duration::from_secs(20);

/// What the HTTP door is put together from.
#[derive(Debug)]
pub struct HttpParts {
    pub(super) console: DoorHandle,
    pub(super) tickets: Arc<Tickets>,
    pub(super) events: LogHandle,
    pub(super) readers: Readers,
    pub(super) metrics: Option<PrometheusHandle>,
    guard: Guard,
    connections: Mutex<HashMap<IpAddr, usize>>,
}

/// The console's door; a type of its own so that the parts can be printed.
pub(super) struct DoorHandle(Arc<dyn ConsoleDoor>);

impl std::fmt::Debug for DoorHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DoorHandle")
    }
}

impl DoorHandle {
    pub(super) fn ask(&self, ticket: u64, request: actors::console::Request) -> bool {
        self.0.ask(ticket, request)
    }
}

/// The event log; a type of its own so that the parts can be printed.
pub(super) struct LogHandle(pub(super) Arc<dyn EventDoor>);

impl std::fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogHandle")
    }
}

impl HttpParts {
    /// Puts the door together: who answers, where answers come, the event log, and the token of those
    /// who act.
    #[must_use]
    pub fn new(
        console: Arc<dyn ConsoleDoor>,
        tickets: Arc<Tickets>,
        events: Arc<dyn EventDoor>,
        token: Secret,
    ) -> Self {
        HttpParts {
            console: DoorHandle(console),
            tickets,
            events: LogHandle(events),
            readers: Readers::default(),
            metrics: None,
            guard: Guard {
                token,
                hosts: Vec::new(),
                origins: Vec::new(),
            },
            connections: Mutex::default(),
        }
    }

    /// Adds the text of `/metrics`.
    #[must_use]
    pub fn with_metrics(mut self, handle: PrometheusHandle) -> Self {
        self.metrics = Some(handle);
        self
    }

    /// Adds host names it answers to, and origins of pages that may ask.
    #[must_use]
    pub fn with_names(mut self, hosts: Vec<String>, origins: Vec<String>) -> Self {
        self.guard.hosts = hosts;
        self.guard.origins = origins;
        self
    }
}

/// A bound listener.
#[derive(Debug)]
pub struct HttpListener {
    socket: TcpListener,
    acceptor: Option<Acceptor>,
    web_sockets: Option<(Arc<Network>, ListenerId)>,
}

/// Lets in those who speak TLS; a type of its own so that a listener can be printed.
#[derive(Clone)]
struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

impl HttpListener {
    /// Makes it HTTPS.
    #[must_use]
    pub(crate) fn with_tls(mut self, acceptor: TlsAcceptor) -> Self {
        self.acceptor = Some(Acceptor(acceptor));
        self
    }

    /// Makes `/ws` a WebSocket of a signalling listener.
    #[must_use]
    pub(crate) fn with_web_sockets(mut self, network: Arc<Network>, listener: ListenerId) -> Self {
        self.web_sockets = Some((network, listener));
        self
    }

    /// Marks what its connections send (RFC 2474): signalling of pages goes by them.
    pub(crate) fn mark(&self, local: SocketAddr, code: u8) {
        dscp::mark(&self.socket, local.is_ipv6(), code);
    }

    /// Returns its address.
    ///
    /// # Errors
    /// What the system said.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// Binds a listener; must be called inside the runtime.
///
/// # Errors
/// What the system said.
pub fn listen(local: SocketAddr) -> io::Result<HttpListener> {
    Ok(HttpListener {
        socket: tcp::bind(local)?,
        acceptor: None,
        web_sockets: None,
    })
}

/// Serves a listener in tasks of its own, for ever.
pub fn serve(handle: &Handle, listener: HttpListener, parts: Arc<HttpParts>) {
    let guarded = api::guarded().layer(from_fn_with_state(Arc::clone(&parts), guard));
    let open = api::open().merge(pages::routes());
    let routes = open.merge(guarded).with_state(Arc::clone(&parts));
    handle.spawn(accept(handle.clone(), listener, routes, parts));
}

async fn accept(handle: Handle, listener: HttpListener, routes: Router, parts: Arc<HttpParts>) {
    let HttpListener {
        socket,
        acceptor,
        web_sockets,
    } = listener;
    loop {
        let (stream, remote) = tcp::next(&socket).await;
        let (Some(place), Ok(local)) = (Place::take(&parts, remote.ip()), stream.local_addr())
        else {
            metrics::counter!("weft_http_connections_refused_total").increment(1);
            continue;
        };
        let (routes, acceptor, web_sockets) =
            (routes.clone(), acceptor.clone(), web_sockets.clone());
        let peer = Peer { local, remote };
        handle.spawn(async move {
            match acceptor {
                None => serve_connection(stream, routes, peer, web_sockets).await,
                Some(Acceptor(acceptor)) => {
                    match within(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
                        Some(Ok(stream)) => {
                            serve_connection(stream, routes, peer, web_sockets).await;
                        }
                        Some(Err(error)) => tracing::debug!(%error, %remote, "TLS handshake"),
                        None => tracing::debug!(%remote, "TLS handshake took too long"),
                    }
                }
            }
            drop(place);
        });
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    routes: Router,
    peer: Peer,
    web_sockets: Option<(Arc<Network>, ListenerId)>,
) {
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let (routes, web_sockets) = (routes.clone(), web_sockets.clone());
        async move {
            if let (Some((network, listener)), "/ws") = (web_sockets, request.uri().path()) {
                return Ok::<_, Infallible>(network.upgrade(listener, request, peer.remote));
            }
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            let answered = within(REQUEST_DEADLINE, routes.oneshot(request)).await;
            let response = match answered {
                Some(Ok(response)) => response,
                Some(Err(never)) => match never {},
                None => api::problem(408, "the request took too long"),
            };
            Ok(hardened(response))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HEADER_DEADLINE_S))
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "http connection");
    }
}

/// Lets no browser guess, frame or keep what it is given; a page that says more is left its word.
fn hardened(mut response: Response) -> Response {
    let defaults: [(HeaderName, &str); 4] = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ];
    for (name, value) in defaults {
        let headers = response.headers_mut();
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn guard(State(parts): State<Arc<HttpParts>>, request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Peer>().copied() else {
        return api::problem(403, "the connection is not known");
    };
    match parts.guard.check(request.method(), request.headers(), peer) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            metrics::counter!("weft_http_refused_total").increment(1);
            api::problem(refusal.status(), refusal.detail())
        }
    }
}

/// A place for one connection; given back when dropped.
struct Place {
    parts: Arc<HttpParts>,
    address: IpAddr,
}

impl Place {
    fn take(parts: &Arc<HttpParts>, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut table = parts
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let all: usize = table.values().sum();
        let own = table.get(&address).copied().unwrap_or(0);
        if all >= CONNECTIONS_MAX || own >= CONNECTIONS_PER_ADDRESS_MAX {
            return None;
        }
        table.insert(address, own + 1);
        drop(table);
        Some(Place {
            parts: Arc::clone(parts),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self
            .parts
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = table.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                table.remove(&self.address);
            }
        }
    }
}
