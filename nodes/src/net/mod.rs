//! Sockets: octets in, octets out, nothing of their meaning.
//!
//! In: what `Env` is asked to bind, open, send and close. Out: calls of a `NetSink`. It reads no
//! message and decides no routing. UDP is in `udp.rs`, TCP in `tcp.rs`.

pub(crate) mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use contract::env::{BindError, NetSink};
use contract::{FlowRef, ListenerId};
use tokio::runtime::Handle;

use self::tcp::Connection;
use self::udp::DatagramSocket;

/// All sockets of signalling.
#[derive(Debug)]
pub(crate) struct Network {
    handle: Handle,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    datagrams: HashMap<ListenerId, Arc<DatagramSocket>>,
    streams: HashMap<ListenerId, SocketAddr>,
    connections: HashMap<u64, Arc<Connection>>,
    of_listener: HashMap<ListenerId, usize>,
    of_address: HashMap<IpAddr, usize>,
}

impl Network {
    pub(crate) fn new(handle: Handle) -> Self {
        Network {
            handle,
            tables: Mutex::default(),
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // A panic while the lock was held left whole entries: each change is one insert or remove.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
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
        let (socket, reader) = udp::bind(local).map_err(refused)?;
        let bound = socket.local();
        self.tables().datagrams.insert(listener, Arc::new(socket));
        self.handle.spawn(udp::read(reader, listener, sink));
        Ok(bound)
    }

    pub(crate) fn bind_stream(
        self: &Arc<Self>,
        listener: ListenerId,
        local: SocketAddr,
        sink: Arc<dyn NetSink>,
    ) -> Result<SocketAddr, BindError> {
        let refused = |error: std::io::Error| BindError {
            what: "tcp",
            address: local,
            why: error.to_string(),
        };
        let _inside = self.handle.enter();
        let socket = tcp::bind(local).map_err(refused)?;
        let bound = socket.local_addr().map_err(refused)?;
        self.tables().streams.insert(listener, bound);
        self.handle
            .spawn(tcp::accept(Arc::clone(self), socket, listener, sink));
        Ok(bound)
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

    pub(crate) fn close(&self, flow: &FlowRef, why: &'static str) {
        if let Some(connection) = self.connection(flow) {
            connection.close(why);
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

/// A place for one connection in the tables; given back when dropped.
#[derive(Debug)]
struct Place {
    network: Arc<Network>,
    listener: ListenerId,
    address: IpAddr,
    number: Option<u64>,
}

impl Place {
    /// Takes a place if the listener and the address have one left (threats.md 8).
    fn take(network: &Arc<Network>, listener: ListenerId, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut tables = network.tables();
        let of_listener = tables.of_listener.get(&listener).copied().unwrap_or(0);
        let of_address = tables.of_address.get(&address).copied().unwrap_or(0);
        if of_listener >= contract::limits::CONNECTIONS_MAX
            || of_address >= contract::limits::CONNECTIONS_PER_ADDRESS_MAX
        {
            return None;
        }
        tables.of_listener.insert(listener, of_listener + 1);
        tables.of_address.insert(address, of_address + 1);
        drop(tables);
        Some(Place {
            network: Arc::clone(network),
            listener,
            address,
            number: None,
        })
    }

    fn put(&mut self, number: u64, connection: Arc<Connection>) {
        self.number = Some(number);
        self.network.tables().connections.insert(number, connection);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut tables = self.network.tables();
        if let Some(number) = self.number {
            tables.connections.remove(&number);
        }
        if let Some(count) = tables.of_listener.get_mut(&self.listener) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = tables.of_address.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                tables.of_address.remove(&self.address);
            }
        }
    }
}
