//! A JSON client in the world: its core, its WebSocket, its media ports, its clock.
//!
//! In: frames, datagrams, wake-ups. Out: what the core wants sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use bytes::Bytes;
use contract::{Door, Time};

use crate::checkers::kept_call;
use crate::client::Client;
use crate::phone::Out;
use crate::stream::{Far, PhoneEnd, Wire, connect};
use crate::world::{Endpoint, World};

/// A tab with its connection.
pub struct Tab {
    inside: Mutex<Inside>,
    node: SocketAddr,
    address: SocketAddr,
    me: Weak<Tab>,
}

struct Inside {
    client: Client,
    wire: Option<Arc<Wire>>,
    wakes_at: Option<Time>,
}

impl Tab {
    /// Puts a client into the world.
    #[must_use]
    pub fn place(world: &Arc<World>, client: Client, node: SocketAddr) -> Arc<Tab> {
        let address = client.address;
        let inside = Inside {
            client,
            wire: None,
            wakes_at: None,
        };
        let tab = Arc::new_cyclic(|me| Tab {
            inside: Mutex::new(inside),
            node,
            address,
            me: me.clone(),
        });
        world.attach_host(address.ip(), Arc::clone(&tab) as Arc<dyn Endpoint>);
        tab.wake_in_time(world);
        tab
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().expect("no holder of a tab panics")
    }

    /// Looks at the client, or changes its habits.
    pub fn with<T>(&self, look: impl FnOnce(&mut Client) -> T) -> T {
        look(&mut self.inside().client)
    }

    /// Lets the client do what is due and sends what it wants.
    pub fn drive(&self, world: &Arc<World>, event: impl FnOnce(&mut Client, Time, &mut Vec<Out>)) {
        let now = world.now().mono;
        let mut out = Vec::new();
        {
            let mut inside = self.inside();
            event(&mut inside.client, now, &mut out);
            let complaints = inside.client.complaints();
            kept_call::complaints(world, complaints);
            for (what, count) in inside.client.done() {
                let what = format!("JSON: {what}");
                *world.state().counts.entry(what).or_default() += count;
            }
        }
        for wanted in out {
            match wanted {
                Out::Sip(bytes) => self.send(world, bytes),
                Out::Rtp { port, to, packet } => {
                    world.send(SocketAddr::new(self.address.ip(), port), to, packet);
                }
            }
        }
        self.wake_in_time(world);
    }

    fn send(&self, world: &Arc<World>, bytes: Bytes) {
        let open = self.inside().wire.clone().filter(|wire| wire.is_open());
        let wire = open.or_else(|| {
            let me = self.me.upgrade()?;
            let wire = connect(world, self.address, self.node, me, Door::Json);
            self.inside().wire.clone_from(&wire);
            wire
        });
        match wire {
            Some(wire) => wire.to_node(world, bytes),
            None => {
                world.count("connections refused");
                let now = world.now().mono;
                self.with(|client| client.lost_connection(now));
            }
        }
    }

    fn wake_in_time(&self, world: &Arc<World>) {
        let at = {
            let mut inside = self.inside();
            let at = inside.client.next_deadline();
            if inside.wakes_at.is_some_and(|known| known <= at) {
                return;
            }
            inside.wakes_at = Some(at);
            at
        };
        let Some(me) = self.me.upgrade() else { return };
        world.schedule_at(
            at + Duration::from_micros(1),
            Box::new(move |world| {
                let is_mine = {
                    let mut inside = me.inside();
                    let is_mine = inside.wakes_at == Some(at);
                    if is_mine {
                        inside.wakes_at = None;
                    }
                    is_mine
                };
                if is_mine {
                    me.drive(world, |client, now, out| client.on_time(now, out));
                }
            }),
        );
    }

    /// Ends the connection, as a browser does that changes its network.
    pub fn unplug(&self, world: &Arc<World>) {
        let wire = self.inside().wire.take();
        if let Some(wire) = wire {
            wire.close(world, Far::Phone);
            self.drive(world, |client, now, _| client.lost_connection(now));
        }
    }
}

impl Endpoint for Tab {
    fn datagram(&self, world: &Arc<World>, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        self.drive(world, |client, now, out| {
            client.on_datagram(now, from, to.port(), &bytes, out);
        });
    }
}

impl PhoneEnd for Tab {
    fn octets(&self, world: &Arc<World>, bytes: Bytes) {
        self.drive(world, |client, now, out| client.on_frame(now, &bytes, out));
    }

    fn gone(&self, world: &Arc<World>) {
        self.inside().wire = None;
        self.drive(world, |client, now, _| client.lost_connection(now));
    }
}
