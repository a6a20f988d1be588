//! TCP listeners and connections of signalling.
//!
//! In: connections and octets of the system, octets of cores. Out: calls of the sink, `closed` once
//! each. A full inbox stops the reading, a full write queue ends the connection. Framing is the flow
//! actor's.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use contract::env::NetSink;
use contract::limits::CONNECTION_WRITE_BYTES_MAX;
use contract::{FlowRef, ListenerId};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;

use super::{Network, Place};
use crate::env_os::{pause, within};

/// Connections the system queues for us.
const BACKLOG: i32 = 1_024;
/// Octets read at once.
const READ_BYTES: usize = 16 * 1024;
/// Longest wait for a connection of ours to open: less than Timer B, so that the next address of
/// the peer still gets its try.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Longest silence, if no flow actor ends it sooner: longer than the longest registration, whose
/// refresh is the phone's sign of life.
const IDLE_DEADLINE: Duration = Duration::from_secs(90_000);
/// Longest wait for queued octets to leave a closing connection.
const FLUSH_DEADLINE: Duration = Duration::from_secs(5);
/// Silence after which the system probes whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// One connection, as others see it.
#[derive(Debug)]
pub(super) struct Connection {
    flow: FlowRef,
    queue: Mutex<Queue>,
    changed: Notify,
    broken: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Bytes>,
    octets: usize,
    ending: Option<&'static str>,
}

impl Connection {
    fn new(flow: FlowRef) -> Self {
        Connection {
            flow,
            queue: Mutex::default(),
            changed: Notify::new(),
            broken: Notify::new(),
        }
    }

    pub(super) const fn flow(&self) -> &FlowRef {
        &self.flow
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues octets; a peer that takes too little loses the connection.
    pub(super) fn send(&self, bytes: Bytes) {
        let mut queue = self.queue();
        if queue.ending.is_some() {
            metrics::counter!("weft_stream_writes_lost_total").increment(1);
            return;
        }
        if queue.octets + bytes.len() > CONNECTION_WRITE_BYTES_MAX {
            queue.ending = Some("the peer takes too little");
            queue.waiting.clear();
            queue.octets = 0;
            drop(queue);
            metrics::counter!("weft_connections_overrun_total").increment(1);
            self.broken.notify_one();
            return;
        }
        queue.octets += bytes.len();
        queue.waiting.push_back(bytes);
        drop(queue);
        self.changed.notify_one();
    }

    pub(super) fn close(&self, why: &'static str) {
        let mut queue = self.queue();
        queue.ending.get_or_insert(why);
        drop(queue);
        self.changed.notify_one();
    }

    fn next(&self) -> Next {
        let mut queue = self.queue();
        match (queue.waiting.pop_front(), queue.ending) {
            (Some(bytes), _) => {
                queue.octets -= bytes.len();
                Next::Write(bytes)
            }
            (None, Some(why)) => Next::End(why),
            (None, None) => Next::Wait,
        }
    }

    fn ending(&self) -> Option<&'static str> {
        self.queue().ending
    }
}

enum Next {
    Write(Bytes),
    Wait,
    End(&'static str),
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

/// Accepts for ever.
pub(super) async fn accept(
    network: Arc<Network>,
    socket: TcpListener,
    listener: ListenerId,
    sink: Arc<dyn NetSink>,
) {
    loop {
        let (stream, remote) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors: the others go on, and new ones wait.
                tracing::warn!(%error, "accept failed");
                pause(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = Place::take(&network, listener, remote.ip()) else {
            metrics::counter!("weft_connections_refused_total").increment(1);
            continue;
        };
        let Some(flow) = sink.accepted(listener, remote) else {
            metrics::counter!("weft_connections_refused_total").increment(1);
            continue;
        };
        let sink = Arc::clone(&sink);
        network.handle.spawn(run(place, flow, stream, sink, false));
    }
}

/// Opens a connection from the listener's address.
pub(super) async fn connect(
    network: Arc<Network>,
    flow: FlowRef,
    local: Option<SocketAddr>,
    sink: Arc<dyn NetSink>,
) {
    let Some(place) = Place::take(&network, flow.listener(), flow.remote().ip()) else {
        return sink.closed(&flow, "too many connections".to_owned());
    };
    match within(CONNECT_DEADLINE, open(flow.remote(), local)).await {
        Some(Ok(stream)) => {
            run(place, flow, stream, sink, true).await;
        }
        Some(Err(error)) => sink.closed(&flow, format!("connecting to {}: {error}", flow.remote())),
        None => {
            let why = format!(
                "connecting to {}: no answer in {CONNECT_DEADLINE:?}",
                flow.remote()
            );
            sink.closed(&flow, why);
        }
    }
}

async fn open(remote: SocketAddr, local: Option<SocketAddr>) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    let fitting =
        local.filter(|local| local.is_ipv4() == remote.is_ipv4() && !local.ip().is_unspecified());
    if let Some(local) = fitting {
        socket.bind(SocketAddr::new(local.ip(), 0))?;
    }
    socket.connect(remote).await
}

async fn run(
    mut place: Place,
    flow: FlowRef,
    stream: TcpStream,
    sink: Arc<dyn NetSink>,
    is_ours: bool,
) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
    let connection = Arc::new(Connection::new(flow));
    if let FlowRef::Stream { number, .. } = flow {
        place.put(number, Arc::clone(&connection));
    }
    metrics::gauge!("weft_connections").increment(1.0);
    if is_ours {
        sink.opened(flow);
    }
    let (reader, writer) = stream.into_split();
    let why = tokio::select! {
        biased;
        why = write(&connection, writer) => why,
        () = connection.broken.notified() => {
            connection.ending().unwrap_or("broken").to_owned()
        }
        why = read(&flow, reader, &sink) => why,
    };
    metrics::gauge!("weft_connections").decrement(1.0);
    drop(place);
    sink.closed(&flow, why);
}

async fn read(flow: &FlowRef, mut reader: OwnedReadHalf, sink: &Arc<dyn NetSink>) -> String {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        match within(IDLE_DEADLINE, reader.read_buf(&mut buffer)).await {
            None => return format!("silent for {} s", IDLE_DEADLINE.as_secs()),
            Some(Ok(0)) => return "closed by the peer".to_owned(),
            Some(Ok(_)) => {
                if let Some(room) = sink.bytes(flow, buffer.split().freeze()) {
                    room.await;
                }
            }
            Some(Err(error)) => return error.to_string(),
        }
    }
}

async fn write(connection: &Connection, mut writer: OwnedWriteHalf) -> String {
    loop {
        match connection.next() {
            Next::Write(bytes) => {
                // A closing connection does not wait for ever for a peer that reads nothing.
                let patience = match connection.ending() {
                    Some(_) => FLUSH_DEADLINE,
                    None => IDLE_DEADLINE,
                };
                match within(patience, writer.write_all(&bytes)).await {
                    Some(Ok(())) => {}
                    Some(Err(error)) => return error.to_string(),
                    None => return "the peer takes nothing".to_owned(),
                }
            }
            Next::Wait => connection.changed.notified().await,
            Next::End(why) => {
                let _ = within(FLUSH_DEADLINE, writer.shutdown()).await;
                return why.to_owned();
            }
        }
    }
}
