//! A phone in the world: its core, its address, its connection, its clock.
//!
//! In: datagrams, octets, wake-ups. Out: what the core wants sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use bytes::Bytes;
use contract::{Door, Time};
use sip::{Frame, Framer};

use crate::checkers::kept_call;
use crate::phone::{Out, Phone};
use crate::stream::{Far, PhoneEnd, Wire, connect};
use crate::world::{Endpoint, World};

/// A phone with its ways to the node.
pub struct Handset {
    inside: Mutex<Inside>,
    node: SocketAddr,
    address: SocketAddr,
    is_stream: bool,
    /// Over WebSocket: messages come whole.
    is_whole: bool,
    me: Weak<Handset>,
}

struct Inside {
    phone: Phone,
    wire: Option<Arc<Wire>>,
    framer: Framer,
    wakes_at: Option<Time>,
}

impl Handset {
    /// Puts a phone into the world.
    #[must_use]
    pub fn place(
        world: &Arc<World>,
        phone: Phone,
        node: SocketAddr,
        is_stream: bool,
    ) -> Arc<Handset> {
        let address = phone.address;
        let is_whole = phone.transport() == "WS";
        let inside = Inside {
            phone,
            wire: None,
            framer: Framer::new(),
            wakes_at: None,
        };
        let handset = Arc::new_cyclic(|me| Handset {
            inside: Mutex::new(inside),
            node,
            address,
            is_stream,
            is_whole,
            me: me.clone(),
        });
        world.attach_host(address.ip(), Arc::clone(&handset) as Arc<dyn Endpoint>);
        handset.wake_in_time(world);
        handset
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().expect("no holder of a handset panics")
    }

    /// Looks at the phone, or changes its habits.
    pub fn with<T>(&self, look: impl FnOnce(&mut Phone) -> T) -> T {
        look(&mut self.inside().phone)
    }

    /// Lets the phone do what is due and sends what it wants.
    pub fn drive(&self, world: &Arc<World>, event: impl FnOnce(&mut Phone, Time, &mut Vec<Out>)) {
        let now = world.now().mono;
        let mut out = Vec::new();
        {
            let mut inside = self.inside();
            event(&mut inside.phone, now, &mut out);
            let complaints = inside.phone.complaints();
            kept_call::complaints(world, complaints);
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
        if !self.is_stream {
            world.send(self.address, self.node, bytes);
            return;
        }
        let open = self.inside().wire.clone().filter(|wire| wire.is_open());
        let wire = open.or_else(|| {
            let phone = self.me.upgrade()?;
            let wire = connect(world, self.address, self.node, phone, Door::Sip);
            let mut inside = self.inside();
            inside.framer = Framer::new();
            inside.wire.clone_from(&wire);
            wire
        });
        match wire {
            Some(wire) => wire.to_node(world, bytes),
            None => {
                world.count("connections refused");
                let now = world.now().mono;
                self.with(|phone| phone.lost_connection(now));
            }
        }
    }

    fn wake_in_time(&self, world: &Arc<World>) {
        let at = {
            let mut inside = self.inside();
            let at = inside.phone.next_deadline();
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
                    me.drive(world, |phone, now, out| phone.on_time(now, out));
                }
            }),
        );
    }

    /// Ends the phone's connection, as a phone does that loses its network.
    pub fn unplug(&self, world: &Arc<World>) {
        let wire = self.inside().wire.take();
        if let Some(wire) = wire {
            wire.close(world, Far::Phone);
            self.drive(world, |phone, now, _| phone.lost_connection(now));
        }
    }
}

impl Endpoint for Handset {
    fn datagram(&self, world: &Arc<World>, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        if to == self.address {
            self.drive(world, |phone, now, out| phone.on_sip(now, bytes, out));
        } else {
            self.drive(world, |phone, now, out| {
                phone.on_datagram(now, from, to.port(), &bytes, out);
            });
        }
    }
}

impl PhoneEnd for Handset {
    fn octets(&self, world: &Arc<World>, bytes: Bytes) {
        if self.is_whole {
            // A WebSocket message is a SIP message, or a keep-alive.
            if !bytes.trim_ascii().is_empty() {
                self.drive(world, |phone, now, out| phone.on_sip(now, bytes, out));
            }
            return;
        }
        self.inside().framer.push(&bytes);
        loop {
            let frame = self.inside().framer.next();
            match frame {
                Some(Ok(Frame::Message(message))) => {
                    self.drive(world, |phone, now, out| phone.on_sip(now, message, out));
                }
                Some(Ok(Frame::Ping | Frame::Pong)) => {}
                Some(Err(error)) => {
                    world.broken("SIP", format!("octets that are no message: {error}"));
                    return;
                }
                None => return,
            }
        }
    }

    fn gone(&self, world: &Arc<World>) {
        self.inside().wire = None;
        self.drive(world, |phone, now, _| phone.lost_connection(now));
    }
}
