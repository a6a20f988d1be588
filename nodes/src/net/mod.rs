//! Sockets: octets in, octets out, nothing of their meaning.
//!
//! In: what `Env` is asked to bind, open, send and close. Out: calls of a `NetSink`. It reads no
//! message and decides no routing. UDP is in `udp.rs`, TCP and TLS in `tcp.rs`, certificates in
//! `tls.rs`; a WebSocket is judged in `handshake.rs`, upgraded in `web.rs`, carried in `ws.rs`.

mod connection;
mod handshake;
mod place;
pub(crate) mod tcp;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
mod udp;
pub(crate) mod web;
mod ws;
#[cfg(test)]
mod ws_tests;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use contract::env::{BindError, NetSink};
use contract::{CloseCode, FlowRef, ListenerId, StreamKind};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::dscp;

use self::connection::Connection;
pub(crate) use self::handshake::WebRules;
use self::udp::DatagramSocket;
use self::ws::Pace;
use crate::env_os::pause;

/// Connections that a drain closes at once, at least: few clients do not wait for one another.
const WAVE_MIN: usize = 200;
/// Waves of a drain, at most: what come back at a time is a tenth.
const WAVES_MAX: usize = 10;
/// Pause between two waves.
const WAVE_PAUSE: Duration = Duration::from_millis(50);
/// Connections that a planned drain closes at once, and the pause: at most 100 a second
/// (`cluster.md` §6), since all of them come back to the others.
const DRAIN_WAVE: usize = 10;
const DRAIN_PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for the last connections to end.
const DISMISS_DEADLINE: Duration = Duration::from_millis(500);

/// How fast connections are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Haste {
    /// The process is about to end: within half a second.
    Ending,
    /// There is time to let the others take them in.
    Draining,
}

/// What streams need besides an address.
#[derive(Default)]
pub(crate) struct Streams {
    /// Who may open a WebSocket, and how.
    pub rules: WebRules,
    /// Lets in those who speak TLS; without it no TLS listener can be bound.
    pub acceptor: Option<TlsAcceptor>,
    /// Opens TLS connections.
    pub connector: Option<TlsConnector>,
    /// Code points that packets are marked with, by the number of the listener; 0 where none is said.
    pub dscp: Vec<u8>,
}

/// All sockets of signalling.
pub(crate) struct Network {
    handle: Handle,
    streams: Streams,
    pace: Pace,
    tables: Mutex<Tables>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Tables {
    is_closing: bool,
    /// Tasks that read or accept, of listeners.
    readers: HashMap<ListenerId, AbortHandle>,
    datagrams: HashMap<ListenerId, Arc<DatagramSocket>>,
    streams: HashMap<ListenerId, (SocketAddr, StreamKind)>,
    /// Listeners whose sockets the HTTP door has, and where their WebSockets deliver.
    lent: HashMap<ListenerId, (SocketAddr, Option<Arc<dyn NetSink>>)>,
    connections: HashMap<u64, Arc<Connection>>,
    of_listener: HashMap<ListenerId, usize>,
    of_address: HashMap<IpAddr, usize>,
}

impl Tables {
    /// Counts one connection less of an address.
    fn leave(&mut self, address: IpAddr) {
        if let Some(count) = self.of_address.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_address.remove(&address);
            }
        }
    }
}

impl Network {
    pub(crate) fn new(handle: Handle, streams: Streams) -> Self {
        Network {
            handle,
            streams,
            pace: Pace::default(),
            tables: Mutex::default(),
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // A panic while the lock was held left whole entries: each change is one insert or remove.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the code point of a listener.
    pub(crate) fn dscp(&self, listener: ListenerId) -> u8 {
        let codes = &self.streams.dscp;
        codes.get(usize::from(listener.0)).copied().unwrap_or(0)
    }

    /// Says that the HTTP door has a listener's socket: binding it then only tells where its
    /// WebSockets deliver.
    pub(crate) fn lend(&self, listener: ListenerId, bound: SocketAddr) {
        self.tables().lent.insert(listener, (bound, None));
    }

    pub(crate) fn bind_datagram(
        &self,
        listener: ListenerId,
        local: SocketAddr,
        sink: Arc<dyn NetSink>,
    ) -> Result<SocketAddr, BindError> {
        let refused = |error: std::io::Error| BindError {
            what: "udp",
            address: local,
            why: error.to_string(),
        };
        let _inside = self.handle.enter();
        let (socket, reader) = udp::bind(local, self.dscp(listener)).map_err(refused)?;
        let bound = socket.local();
        self.tables().datagrams.insert(listener, Arc::new(socket));
        let task = self.handle.spawn(udp::read(reader, listener, sink));
        self.tables().readers.insert(listener, task.abort_handle());
        Ok(bound)
    }

    pub(crate) fn bind_stream(
        self: &Arc<Self>,
        listener: ListenerId,
        local: SocketAddr,
        kind: StreamKind,
        sink: Arc<dyn NetSink>,
    ) -> Result<SocketAddr, BindError> {
        let (what, is_tls) = match kind {
            StreamKind::Tcp => ("tcp", false),
            StreamKind::Tls => ("tls", true),
            StreamKind::Ws => ("ws", false),
            StreamKind::Wss => ("wss", true),
        };
        let refused = |why: String| BindError {
            what,
            address: local,
            why,
        };
        if let Some((bound, place)) = self.tables().lent.get_mut(&listener) {
            *place = Some(sink);
            return Ok(*bound);
        }
        if is_tls && self.streams.acceptor.is_none() {
            return Err(refused("there is no certificate".to_owned()));
        }
        let _inside = self.handle.enter();
        let socket = tcp::bind(local).map_err(|error| refused(error.to_string()))?;
        let bound = socket
            .local_addr()
            .map_err(|error| refused(error.to_string()))?;
        dscp::mark(&socket, bound.is_ipv6(), self.dscp(listener));
        self.tables().streams.insert(listener, (bound, kind));
        let entrance = tcp::Entrance {
            network: Arc::clone(self),
            listener,
            kind,
            sink,
        };
        let task = self.handle.spawn(tcp::accept(socket, entrance));
        self.tables().readers.insert(listener, task.abort_handle());
        Ok(bound)
    }

    /// Closes a listener's socket; connections that came in by it stay.
    pub(crate) fn unbind(&self, listener: ListenerId) {
        let mut tables = self.tables();
        tables.datagrams.remove(&listener);
        tables.streams.remove(&listener);
        if let Some(reader) = tables.readers.remove(&listener) {
            reader.abort();
        }
    }

    pub(crate) fn connect(self: &Arc<Self>, flow: FlowRef, sink: Arc<dyn NetSink>) {
        let local = self.tables().streams.get(&flow.listener()).copied();
        self.handle
            .spawn(tcp::connect(Arc::clone(self), flow, local, sink));
    }

    pub(crate) fn send(&self, flow: &FlowRef, bytes: Bytes) {
        match flow {
            FlowRef::Datagram { listener, remote } => {
                let socket = self.tables().datagrams.get(listener).cloned();
                let sent = socket.is_some_and(|socket| socket.send(*remote, &bytes));
                if !sent {
                    metrics::counter!("weft_datagrams_unsent_total").increment(1);
                }
            }
            FlowRef::Stream { .. } => match self.connection(flow) {
                Some(connection) => connection.send(bytes),
                None => metrics::counter!("weft_stream_writes_lost_total").increment(1),
            },
        }
    }

    pub(crate) fn close(&self, flow: &FlowRef, code: CloseCode, why: &'static str) {
        if let Some(connection) = self.connection(flow) {
            connection.close(code, why);
        }
    }

    /// Takes no new connection and ends all there are, in waves, so that not all come back at once.
    pub(crate) async fn dismiss(&self, code: CloseCode, why: &'static str, haste: Haste) {
        let mut all: Vec<_> = {
            let mut tables = self.tables();
            tables.is_closing = true;
            tables.connections.values().cloned().collect()
        };
        all.sort_by_key(|connection| *connection.flow());
        let (wave, wave_pause) = match haste {
            Haste::Ending => (all.len().div_ceil(WAVES_MAX).max(WAVE_MIN), WAVE_PAUSE),
            Haste::Draining => (DRAIN_WAVE, DRAIN_PAUSE),
        };
        for (at, connections) in all.chunks(wave).enumerate() {
            if at > 0 {
                pause(wave_pause).await;
            }
            for connection in connections {
                connection.close(code, why);
            }
        }
        let step = Duration::from_millis(10);
        let mut left = DISMISS_DEADLINE;
        while !self.tables().connections.is_empty() && !left.is_zero() {
            pause(step).await;
            left = left.saturating_sub(step);
        }
    }

    fn connection(&self, flow: &FlowRef) -> Option<Arc<Connection>> {
        match flow {
            FlowRef::Datagram { .. } => None,
            FlowRef::Stream { number, .. } => {
                let found = self.tables().connections.get(number).cloned();
                found.filter(|connection| connection.flow() == flow)
            }
        }
    }
}
