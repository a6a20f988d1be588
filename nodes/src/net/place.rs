//! Places of connections: how many a listener and an address may have (threats.md 8).
//!
//! In: a new connection. Out: a place, or none. It closes nothing.

use std::net::IpAddr;
use std::sync::Arc;

use contract::ListenerId;
use contract::limits::{CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX};

use super::Network;
use super::connection::Connection;

/// A place for one connection in the tables; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    network: Arc<Network>,
    listener: ListenerId,
    address: Option<IpAddr>,
    number: Option<u64>,
}

impl Place {
    /// Takes a place if the listener and the address have one left. A proxy's address, `None`, is not
    /// counted: its clients' are, once they are known.
    pub(super) fn take(
        network: &Arc<Network>,
        listener: ListenerId,
        address: Option<IpAddr>,
    ) -> Option<Place> {
        let mut tables = network.tables();
        let of_listener = tables.of_listener.get(&listener).copied().unwrap_or(0);
        if tables.is_closing || of_listener >= CONNECTIONS_MAX {
            return None;
        }
        tables.of_listener.insert(listener, of_listener + 1);
        drop(tables);
        let mut place = Place {
            network: Arc::clone(network),
            listener,
            address: None,
            number: None,
        };
        // Dropped on failure, the place gives back what it has.
        match address {
            Some(address) => place.stand_at(address).then_some(place),
            None => Some(place),
        }
    }

    /// Counts it at another address; `false` if that one has no place left.
    pub(super) fn stand_at(&mut self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if self.address == Some(address) {
            return true;
        }
        let mut tables = self.network.tables();
        let count = tables.of_address.get(&address).copied().unwrap_or(0);
        if count >= CONNECTIONS_PER_ADDRESS_MAX {
            return false;
        }
        tables.of_address.insert(address, count + 1);
        if let Some(former) = self.address.replace(address) {
            tables.leave(former);
        }
        true
    }

    /// Makes the connection known under its number.
    pub(super) fn put(&mut self, number: u64, connection: Arc<Connection>) {
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
        if let Some(address) = self.address {
            tables.leave(address);
        }
    }
}
