//! Connections between phones and nodes: in order, without loss, until one end goes.
//!
//! In: octets and closings of both ends. Out: the same at the other end, a little later. A reader
//! that is told to wait (a full inbox) waits; octets pile up here until it goes on.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use contract::{Door, FlowRef, ListenerId, NetSink};

use crate::mesh::Stall;
use crate::world::World;

/// Takes what arrives at the phone's end.
pub trait PhoneEnd: Send + Sync {
    /// Octets came.
    fn octets(&self, world: &Arc<World>, bytes: Bytes);
    /// A connection is gone: perhaps not the one that is used now.
    fn gone(&self, world: &Arc<World>, wire: &Arc<Wire>);
}

/// Which end an operation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Far {
    /// The node's.
    Node,
    /// The phone's.
    Phone,
}

struct Inside {
    open: bool,
    flow: Option<FlowRef>,
    toward_node: VecDeque<Bytes>,
    reading: bool,
}

/// One connection.
pub struct Wire {
    local: SocketAddr,
    sink: Arc<dyn NetSink>,
    node_alive: Arc<AtomicBool>,
    node_stall: Arc<Stall>,
    phone: Arc<dyn PhoneEnd>,
    inside: Mutex<Inside>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

struct Listening {
    listener: ListenerId,
    sink: Arc<dyn NetSink>,
    alive: Arc<AtomicBool>,
    stall: Arc<Stall>,
}

/// Listeners of all nodes, by address.
#[derive(Default)]
pub struct Listeners(Mutex<BTreeMap<SocketAddr, Listening>>);

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listeners")
    }
}

const TRIP: Duration = Duration::from_micros(400);

/// Opens an address for connections.
pub fn listen(
    world: &Arc<World>,
    local: SocketAddr,
    listener: ListenerId,
    sink: Arc<dyn NetSink>,
    (alive, stall): (Arc<AtomicBool>, Arc<Stall>),
) {
    let listening = Listening {
        listener,
        sink,
        alive,
        stall,
    };
    world
        .listeners()
        .0
        .lock()
        .expect("no holder panics")
        .insert(local, listening);
}

/// Connects a phone to a node; `None` if nobody listens.
///
/// # Panics
/// If a holder of the listeners' lock panicked.
#[must_use]
pub fn connect(
    world: &Arc<World>,
    from: SocketAddr,
    to: SocketAddr,
    phone: Arc<dyn PhoneEnd>,
    door: Door,
) -> Option<Arc<Wire>> {
    let (listener, sink, alive, stall) = {
        let listeners = world.listeners().0.lock().expect("no holder panics");
        let found = listeners
            .get(&to)
            .filter(|found| found.alive.load(Ordering::Relaxed))?;
        (
            found.listener,
            Arc::clone(&found.sink),
            Arc::clone(&found.alive),
            Arc::clone(&found.stall),
        )
    };
    let flow = sink.accepted(listener, from, door)?;
    let inside = Inside {
        open: true,
        flow: Some(flow),
        toward_node: VecDeque::new(),
        reading: false,
    };
    let wire = Arc::new(Wire {
        local: to,
        sink,
        node_alive: alive,
        node_stall: stall,
        phone,
        inside: Mutex::new(inside),
    });
    world.wires().insert(flow, &wire);
    world.count("connections");
    Some(wire)
}

/// Open connections of all nodes: where a node's octets go.
#[derive(Debug, Default)]
pub struct Wires(Mutex<BTreeMap<FlowRef, Arc<Wire>>>);

impl Wires {
    fn map(&self) -> MutexGuard<'_, BTreeMap<FlowRef, Arc<Wire>>> {
        self.0.lock().expect("no holder panics")
    }

    fn insert(&self, flow: FlowRef, wire: &Arc<Wire>) {
        self.map().insert(flow, Arc::clone(wire));
    }

    /// Returns the connection of a flow.
    #[must_use]
    pub fn find(&self, flow: &FlowRef) -> Option<Arc<Wire>> {
        self.map().get(flow).cloned()
    }

    /// Forgets a connection.
    pub fn remove(&self, flow: &FlowRef) {
        self.map().remove(flow);
    }

    /// Resets every connection of a node that crashed.
    pub fn crash(&self, world: &Arc<World>, node: contract::NodeId) {
        let gone: Vec<_> = {
            let map = self.map();
            let of_node = map.iter().filter(|(flow, _)| match flow {
                FlowRef::Stream { node: owner, .. } => *owner == node,
                FlowRef::Datagram { .. } => false,
            });
            of_node.map(|(_, wire)| Arc::clone(wire)).collect()
        };
        for wire in gone {
            wire.close(world, Far::Node);
        }
    }
}

impl Wire {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside
            .lock()
            .expect("no holder of a wire's lock panics")
    }

    /// Tells whether both ends are there.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.inside().open
    }

    /// Octets from the node.
    pub fn to_phone(self: &Arc<Self>, world: &Arc<World>, bytes: Bytes) {
        if !self.is_open() {
            return;
        }
        world.trace("stream out", &bytes);
        let flow = self.inside().flow;
        if let Some(flow) = flow {
            world.observed(self.local, flow.remote(), &bytes);
        }
        let phone = Arc::clone(&self.phone);
        let wire = Arc::clone(self);
        let deliver = move |world: &Arc<World>| {
            if wire.is_open() {
                phone.octets(world, bytes);
            }
        };
        world.schedule(TRIP, Box::new(deliver));
    }

    /// Octets from the phone.
    pub fn to_node(self: &Arc<Self>, world: &Arc<World>, bytes: Bytes) {
        let wire = Arc::clone(self);
        let deliver = move |world: &Arc<World>| {
            let stall = Arc::clone(&wire.node_stall);
            let take = move |world: &Arc<World>| {
                world.trace("stream in", &bytes);
                wire.inside().toward_node.push_back(bytes);
                wire.read(world);
            };
            stall.when_awake(world, Box::new(take));
        };
        world.schedule(TRIP, Box::new(deliver));
    }

    /// Gives the node's side what is there, until it asks to wait.
    #[allow(
        clippy::disallowed_methods,
        reason = "the reading task of a simulated socket"
    )]
    fn read(self: &Arc<Self>, world: &Arc<World>) {
        loop {
            let (flow, bytes) = {
                let mut inside = self.inside();
                let is_dead = !inside.open || !self.node_alive.load(Ordering::Relaxed);
                if is_dead || inside.reading {
                    return;
                }
                let Some(flow) = inside.flow else { return };
                let Some(bytes) = inside.toward_node.pop_front() else {
                    return;
                };
                (flow, bytes)
            };
            if let Some(wait) = self.sink.bytes(&flow, bytes) {
                self.inside().reading = true;
                let (wire, world) = (Arc::clone(self), Arc::clone(world));
                tokio::spawn(async move {
                    wait.await;
                    wire.inside().reading = false;
                    wire.read(&world);
                });
                return;
            }
        }
    }

    /// Closes the connection from one end; the other end learns it a little later.
    pub fn close(self: &Arc<Self>, world: &Arc<World>, from: Far) {
        let flow = {
            let mut inside = self.inside();
            if !inside.open {
                return;
            }
            inside.open = false;
            inside.flow
        };
        let Some(flow) = flow else { return };
        world.wires().remove(&flow);
        let wire = Arc::clone(self);
        let tell = move |world: &Arc<World>| {
            // The node is told once of each end, its own closing included (`NetSink::closed`).
            if wire.node_alive.load(Ordering::Relaxed) {
                let why = match from {
                    Far::Node => "closed",
                    Far::Phone => "closed by the peer",
                };
                wire.sink.closed(&flow, why.to_owned());
            }
            if from == Far::Node {
                wire.phone.gone(world, &wire);
            }
        };
        world.schedule(TRIP, Box::new(tell));
    }
}
