//! Listeners and connections of signalling over TCP and TLS.
//!
//! In: connections and octets of the system, octets of cores. Out: calls of the sink, `closed` once
//! each. A full inbox stops the reading, a full write queue ends the connection. Framing is the flow
//! actor's; a connection that shall become a WebSocket goes on to `web.rs`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use contract::env::NetSink;
use contract::limits::HEADER_DEADLINE_S;
use contract::{CloseCode, Door, FlowRef, ListenerId, StreamKind};
use rustls::pki_types::ServerName;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::connection::{Connection, End, Next};
use super::place::Place;
use super::{Network, web};
use crate::dscp;
use crate::env_os::{pause, within};

/// Connections the system queues for us.
const BACKLOG: i32 = 1_024;
/// Octets read at once.
const READ_BYTES: usize = 16 * 1024;
/// Longest wait for a connection of ours to open: less than Timer B, so that the next address of
/// the peer still gets its try.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Longest TLS handshake of a peer (threats.md 8).
pub(crate) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(HEADER_DEADLINE_S);
/// Longest silence, if no flow actor ends it sooner: longer than the longest registration, whose
/// refresh is the phone's sign of life.
const IDLE_DEADLINE: Duration = Duration::from_secs(90_000);
/// Longest wait for queued octets to leave a closing connection.
pub(super) const FLUSH_DEADLINE: Duration = Duration::from_secs(5);
/// Silence after which the system probes whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Where connections of a listener go.
#[derive(Clone)]
pub(super) struct Entrance {
    pub network: Arc<Network>,
    pub listener: ListenerId,
    pub kind: StreamKind,
    pub sink: Arc<dyn NetSink>,
}

/// Binds; must be called inside the runtime.
pub(crate) fn bind(local: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(local),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of an earlier start may linger; a listener that is alive still refuses.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&local.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Waits for the next connection; out of descriptors, the others go on and new ones wait.
pub(crate) async fn next(socket: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match socket.accept().await {
            Ok((stream, remote)) => {
                let _ = stream.set_nodelay(true);
                let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
                let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
                return (stream, remote);
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                pause(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Accepts for ever.
pub(super) async fn accept(socket: TcpListener, entrance: Entrance) {
    loop {
        let (stream, remote) = next(&socket).await;
        let rules = &entrance.network.streams.rules;
        let is_proxy = match entrance.kind {
            StreamKind::Tcp | StreamKind::Tls => false,
            StreamKind::Ws | StreamKind::Wss => rules.trusts(remote.ip()),
        };
        let counted = (!is_proxy).then_some(remote.ip());
        let Some(place) = Place::take(&entrance.network, entrance.listener, counted) else {
            metrics::counter!("weft_connections_refused_total").increment(1);
            continue;
        };
        let handle = entrance.network.handle.clone();
        handle.spawn(enter(entrance.clone(), stream, remote, place));
    }
}

async fn enter(entrance: Entrance, stream: TcpStream, remote: SocketAddr, place: Place) {
    match entrance.kind {
        StreamKind::Tcp => {
            if let Some(flow) = accepted(&entrance, remote) {
                let (reader, writer) = stream.into_split();
                run(place, flow, reader, writer, entrance.sink, false).await;
            }
        }
        StreamKind::Tls => {
            let Some(stream) = shake_hands(&entrance.network, stream).await else {
                return;
            };
            if let Some(flow) = accepted(&entrance, remote) {
                let (reader, writer) = tokio::io::split(stream);
                run(place, flow, reader, writer, entrance.sink, false).await;
            }
        }
        StreamKind::Ws => web::serve(entrance, stream, remote, place).await,
        StreamKind::Wss => {
            if let Some(stream) = shake_hands(&entrance.network, stream).await {
                web::serve(entrance, stream, remote, place).await;
            }
        }
    }
}

fn accepted(entrance: &Entrance, remote: SocketAddr) -> Option<FlowRef> {
    let flow = entrance.sink.accepted(entrance.listener, remote, Door::Sip);
    if flow.is_none() {
        metrics::counter!("weft_connections_refused_total").increment(1);
    }
    flow
}

async fn shake_hands(
    network: &Network,
    stream: TcpStream,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    let acceptor = network.streams.acceptor.clone()?;
    let done = within(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await;
    match done {
        Some(Ok(stream)) => Some(stream),
        Some(Err(error)) => {
            tracing::debug!(%error, "TLS handshake");
            metrics::counter!("weft_tls_handshakes_failed_total").increment(1);
            None
        }
        None => {
            metrics::counter!("weft_tls_handshakes_failed_total").increment(1);
            None
        }
    }
}

/// Opens a connection from the listener's address, as the listener's kind has it.
pub(super) async fn connect(
    network: Arc<Network>,
    flow: FlowRef,
    listener: Option<(SocketAddr, StreamKind)>,
    sink: Arc<dyn NetSink>,
) {
    let Some(place) = Place::take(&network, flow.listener(), Some(flow.remote().ip())) else {
        return sink.closed(&flow, "too many connections".to_owned());
    };
    let remote = flow.remote();
    let (local, kind) = listener.unzip();
    let is_tls = match kind {
        None | Some(StreamKind::Tcp) => false,
        Some(StreamKind::Tls) => true,
        Some(StreamKind::Ws | StreamKind::Wss) => {
            let why = "a WebSocket is opened by its client only".to_owned();
            return sink.closed(&flow, why);
        }
    };
    let opening = async {
        let stream = open(remote, local, network.dscp(flow.listener())).await?;
        if !is_tls {
            return Ok(Opened::Plain(stream));
        }
        let connector = network.streams.connector.clone();
        let connector =
            connector.ok_or_else(|| io::Error::other("this node opens no TLS connection"))?;
        let name = ServerName::IpAddress(remote.ip().to_canonical().into());
        let secured = connector.connect(name, stream).await?;
        Ok::<_, io::Error>(Opened::Secured(Box::new(secured)))
    };
    match within(CONNECT_DEADLINE, opening).await {
        Some(Ok(Opened::Plain(stream))) => {
            let (reader, writer) = stream.into_split();
            run(place, flow, reader, writer, sink, true).await;
        }
        Some(Ok(Opened::Secured(stream))) => {
            let (reader, writer) = tokio::io::split(stream);
            run(place, flow, reader, writer, sink, true).await;
        }
        Some(Err(error)) => sink.closed(&flow, format!("connecting to {remote}: {error}")),
        None => {
            let why = format!("connecting to {remote}: no answer in {CONNECT_DEADLINE:?}");
            sink.closed(&flow, why);
        }
    }
}

enum Opened {
    Plain(TcpStream),
    Secured(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

pub(super) async fn open(
    remote: SocketAddr,
    local: Option<SocketAddr>,
    dscp: u8,
) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    dscp::mark(&socket, remote.is_ipv6(), dscp);
    let fitting =
        local.filter(|local| local.is_ipv4() == remote.is_ipv4() && !local.ip().is_unspecified());
    if let Some(local) = fitting {
        socket.bind(SocketAddr::new(local.ip(), 0))?;
    }
    let stream = socket.connect(remote).await?;
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
    Ok(stream)
}

async fn run(
    mut place: Place,
    flow: FlowRef,
    reader: impl AsyncRead + Unpin,
    writer: impl AsyncWrite + Unpin,
    sink: Arc<dyn NetSink>,
    is_ours: bool,
) {
    let connection = Arc::new(Connection::new(flow));
    if let FlowRef::Stream { number, .. } = flow {
        place.put(number, Arc::clone(&connection));
    }
    metrics::gauge!("weft_connections").increment(1.0);
    if is_ours {
        sink.opened(flow);
    }
    let end = tokio::select! {
        biased;
        end = write(&connection, writer) => end,
        end = connection.broken() => end,
        end = read(&flow, reader, &sink) => end,
    };
    metrics::gauge!("weft_connections").decrement(1.0);
    drop(place);
    sink.closed(&flow, end.why);
}

async fn read(flow: &FlowRef, mut reader: impl AsyncRead + Unpin, sink: &Arc<dyn NetSink>) -> End {
    let mut buffer = BytesMut::new();
    let ended = |why: String| End::new(CloseCode::Normal, why);
    loop {
        buffer.reserve(READ_BYTES);
        match within(IDLE_DEADLINE, reader.read_buf(&mut buffer)).await {
            None => return ended(format!("silent for {} s", IDLE_DEADLINE.as_secs())),
            Some(Ok(0)) => return ended("closed by the peer".to_owned()),
            Some(Ok(_)) => {
                if let Some(room) = sink.bytes(flow, buffer.split().freeze()) {
                    room.await;
                }
            }
            Some(Err(error)) => return ended(error.to_string()),
        }
    }
}

async fn write(connection: &Connection, mut writer: impl AsyncWrite + Unpin) -> End {
    let broken = |why: String| End::new(CloseCode::Normal, why);
    loop {
        match connection.next() {
            Next::Write(bytes) => {
                let written = async {
                    writer.write_all(&bytes).await?;
                    // Under TLS the last record may still wait.
                    writer.flush().await
                };
                match within(patience(connection), written).await {
                    Some(Ok(())) => {}
                    Some(Err(error)) => return broken(error.to_string()),
                    None => return broken("the peer takes nothing".to_owned()),
                }
            }
            // TCP has its own signs of life.
            Next::Ping => {}
            Next::Wait => connection.changed().await,
            Next::End(end) => {
                let _ = within(FLUSH_DEADLINE, writer.shutdown()).await;
                return end;
            }
        }
    }
}

/// A closing connection does not wait for ever for a peer that reads nothing.
pub(super) fn patience(connection: &Connection) -> Duration {
    if connection.is_ending() {
        FLUSH_DEADLINE
    } else {
        IDLE_DEADLINE
    }
}
