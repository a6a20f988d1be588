//! A phone or a tab in the world: its core, its address, its connection, its clock.
//!
//! In: datagrams, octets, wake-ups. Out: what the core wants sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use bytes::Bytes;
use contract::{Door, Time};
use sip::{Frame, Framer};

use crate::checkers::kept_call;
use crate::phone::{Complaint, Out};
use crate::stream::{Far, PhoneEnd, Wire, connect};
use crate::ways::Ways;
use crate::world::{Endpoint, World};

/// A pure core that stands for a phone or a tab.
pub trait Peer: Send + 'static {
    /// Returns its address.
    fn address(&self) -> SocketAddr;
    /// Returns the door it connects to; `None` if it sends datagrams.
    fn door(&self) -> Option<Door>;
    /// Makes the reader of a new connection; `None` if messages come whole.
    fn framer(&self) -> Option<Framer>;
    /// Returns when `on_time` is to be called.
    fn next_deadline(&self) -> Time;
    /// Does what is due.
    fn on_time(&mut self, now: Time, out: &mut Vec<Out>);
    /// Takes a message of the node that came over the connection.
    fn on_message(&mut self, now: Time, bytes: Bytes, out: &mut Vec<Out>);
    /// Takes a datagram that came to one of its ports.
    fn on_datagram(
        &mut self,
        now: Time,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Bytes,
        out: &mut Vec<Out>,
    );
    /// A connection was lost, or none was to be had: what was promised over it holds no more, and
    /// it registers anew.
    fn lost_connection(&mut self, now: Time);
    /// Takes what it complains about.
    fn complaints(&mut self) -> Vec<Complaint>;
    /// Takes what it did since the last time, for the run's counts.
    fn done(&mut self) -> Vec<(String, u64)>;
}

/// A peer with its ways to the node.
pub struct Station<P> {
    inside: Mutex<Inside<P>>,
    address: SocketAddr,
    door: Option<Door>,
    me: Weak<Station<P>>,
}

struct Inside<P> {
    peer: P,
    ways: Ways,
    wire: Option<Arc<Wire>>,
    framer: Option<Framer>,
    wakes_at: Option<Time>,
}

impl<P: Peer> Station<P> {
    /// Puts a peer into the world.
    #[must_use]
    pub fn place(world: &Arc<World>, peer: P, ways: Ways) -> Arc<Station<P>> {
        let (address, door) = (peer.address(), peer.door());
        let inside = Inside {
            peer,
            ways,
            wire: None,
            framer: None,
            wakes_at: None,
        };
        let station = Arc::new_cyclic(|me| Station {
            inside: Mutex::new(inside),
            address,
            door,
            me: me.clone(),
        });
        world.attach_host(address.ip(), Arc::clone(&station) as Arc<dyn Endpoint>);
        station.wake_in_time(world);
        station
    }

    fn inside(&self) -> MutexGuard<'_, Inside<P>> {
        self.inside.lock().expect("no holder of a station panics")
    }

    /// Looks at the peer, or changes its habits.
    pub fn with<T>(&self, look: impl FnOnce(&mut P) -> T) -> T {
        look(&mut self.inside().peer)
    }

    /// Lets the peer do what is due and sends what it wants.
    pub fn drive(&self, world: &Arc<World>, event: impl FnOnce(&mut P, Time, &mut Vec<Out>)) {
        let now = world.now().mono;
        let mut out = Vec::new();
        {
            let mut inside = self.inside();
            event(&mut inside.peer, now, &mut out);
            let complaints = inside.peer.complaints();
            let stays = |life| match self.door {
                Some(_) => inside.ways.stays(life),
                None => Vec::new(),
            };
            kept_call::complaints(world, stays, complaints);
            for (what, count) in inside.peer.done() {
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
        let Some(door) = self.door else {
            let node = self.inside().ways.datagram(&bytes);
            world.send(self.address, node, bytes);
            return;
        };
        let now = world.now().mono;
        // A connection that the node has closed counts until `gone`: what is said meanwhile is lost.
        let known = self.inside().wire.clone();
        let wire = known.or_else(|| self.connect(world, door));
        let Some(wire) = wire else {
            world.count("connections refused");
            let mut inside = self.inside();
            inside.ways.lost(now);
            return inside.peer.lost_connection(now);
        };
        let is_dead = self.inside().ways.asked(now, &bytes);
        wire.to_node(world, bytes);
        if is_dead {
            world.count("connections given up: the node says nothing");
            // Whoever sends now goes on first.
            let me = self.me.clone();
            let give_up = move |world: &Arc<World>| {
                if let Some(me) = me.upgrade() {
                    me.unplug(world);
                }
            };
            world.schedule(Duration::ZERO, Box::new(give_up));
        }
    }

    fn connect(&self, world: &Arc<World>, door: Door) -> Option<Arc<Wire>> {
        let me = self.me.upgrade()?;
        let node = {
            let ways = &mut self.inside().ways;
            let before = ways.home();
            ways.connecting(world.now().mono);
            if ways.home() != before {
                world.count("phones that went to another node");
            }
            ways.home()
        };
        let wire = connect(world, self.address, node, me, door);
        let mut inside = self.inside();
        inside.framer = inside.peer.framer();
        inside.wire.clone_from(&wire);
        wire
    }

    fn wake_in_time(&self, world: &Arc<World>) {
        let at = {
            let mut inside = self.inside();
            let at = inside.peer.next_deadline();
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
                    me.drive(world, |peer, now, out| peer.on_time(now, out));
                }
            }),
        );
    }

    /// Ends the connection, as a phone or a browser does that loses its network.
    pub fn unplug(&self, world: &Arc<World>) {
        let wire = self.inside().wire.take();
        if let Some(wire) = wire {
            wire.close(world, Far::Phone);
            self.inside().ways.lost(world.now().mono);
            self.drive(world, |peer, now, _| peer.lost_connection(now));
        }
    }

    /// Gives octets to the reader; tells whether there is one.
    fn is_framed(&self, bytes: &Bytes) -> bool {
        let mut inside = self.inside();
        let framer = inside.framer.as_mut();
        framer.map(|framer| framer.push(bytes)).is_some()
    }
}

impl<P: Peer> Endpoint for Station<P> {
    fn datagram(&self, world: &Arc<World>, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        self.drive(world, |peer, now, out| {
            peer.on_datagram(now, from, to, bytes, out);
        });
    }
}

impl<P: Peer> PhoneEnd for Station<P> {
    fn octets(&self, world: &Arc<World>, bytes: Bytes) {
        self.inside().ways.heard();
        if !self.is_framed(&bytes) {
            self.drive(world, |peer, now, out| peer.on_message(now, bytes, out));
            return;
        }
        loop {
            let frame = self.inside().framer.as_mut().and_then(Framer::next);
            match frame {
                Some(Ok(Frame::Message(message))) => {
                    self.drive(world, |peer, now, out| peer.on_message(now, message, out));
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

    fn gone(&self, world: &Arc<World>, wire: &Arc<Wire>) {
        {
            let mut inside = self.inside();
            let is_used = |known: &mut Arc<Wire>| Arc::ptr_eq(known, wire);
            if inside.wire.take_if(is_used).is_none() {
                // It was given up before: the peer knows, and may have another one by now.
                return;
            }
            inside.ways.lost(world.now().mono);
        }
        self.drive(world, |peer, now, _| peer.lost_connection(now));
    }
}

#[cfg(test)]
mod tests;
