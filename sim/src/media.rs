//! The media plane of a simulated node: the real relay table over the world's datagrams.
//!
//! In: commands, packets. Out: packets, events. Ports are addresses of the world; I14 (a port
//! belongs to one leg) is checked at every opening.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use contract::env::{MediaPlane, MediaSink};
use contract::{MediaCommand, MediaEvent, SideKey, Time};
use media::relay::{RelayTable, Verdict};

use crate::world::{Endpoint, World};

const PORT_FIRST: u16 = 16_384;
const PORT_LAST: u16 = 17_383;

/// The media plane of one life of one node.
pub struct SimMedia {
    world: Arc<World>,
    alive: Arc<AtomicBool>,
    sink: OnceLock<Arc<dyn MediaSink>>,
    inside: Mutex<Inside>,
    me: Weak<SimMedia>,
}

struct Inside {
    table: RelayTable,
    legs: BTreeMap<SideKey, SocketAddr>,
    next: u16,
    tick: Option<Time>,
}

impl std::fmt::Debug for SimMedia {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimMedia")
    }
}

impl SimMedia {
    /// Makes a plane with no legs.
    #[must_use]
    pub fn new(world: &Arc<World>, alive: &Arc<AtomicBool>) -> Arc<SimMedia> {
        let inside = Inside {
            table: RelayTable::new(),
            legs: BTreeMap::new(),
            next: PORT_FIRST,
            tick: None,
        };
        Arc::new_cyclic(|me| SimMedia {
            world: Arc::clone(world),
            alive: Arc::clone(alive),
            sink: OnceLock::new(),
            inside: Mutex::new(inside),
            me: me.clone(),
        })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside
            .lock()
            .expect("no holder of the plane's lock panics")
    }

    fn me(&self) -> Arc<SimMedia> {
        self.me.upgrade().expect("a plane lives while it is called")
    }

    /// Returns the legs with open ports.
    #[must_use]
    pub fn open_legs(&self) -> Vec<SideKey> {
        self.inside().legs.keys().copied().collect()
    }

    /// Ends the plane as a crash does.
    pub fn crash(&self) {
        let legs = std::mem::take(&mut self.inside().legs);
        for local in legs.into_values() {
            self.world.detach(local);
            self.world.detach(above(local));
        }
    }

    fn open(&self, leg: SideKey, address: IpAddr, port: Option<u16>) -> MediaEvent {
        if let Some(local) = self.inside().legs.get(&leg) {
            return MediaEvent::Opened { rtp: *local };
        }
        let Some(local) = self.choose(address, port) else {
            return MediaEvent::Failed {
                why: format!("no RTP port at {address}"),
            };
        };
        let mut inside = self.inside();
        if inside.legs.values().any(|taken| *taken == local) {
            drop(inside);
            self.world
                .broken("I14", format!("{local} belongs to two legs"));
            return MediaEvent::Failed {
                why: "taken".to_owned(),
            };
        }
        if let Err(error) = inside.table.open(leg) {
            return MediaEvent::Failed {
                why: error.to_string(),
            };
        }
        inside.legs.insert(leg, local);
        drop(inside);
        for (address, is_rtcp) in [(local, false), (above(local), true)] {
            let port = Port {
                plane: self.me(),
                leg,
                is_rtcp,
            };
            self.world.attach(address, Arc::new(port));
        }
        MediaEvent::Opened { rtp: local }
    }

    fn choose(&self, address: IpAddr, port: Option<u16>) -> Option<SocketAddr> {
        if let Some(port) = port {
            let local = SocketAddr::new(address, port);
            return (!self.world.is_taken(local)).then_some(local);
        }
        for _ in PORT_FIRST..PORT_LAST {
            let mut inside = self.inside();
            let local = SocketAddr::new(address, inside.next);
            inside.next = if inside.next + 2 > PORT_LAST {
                PORT_FIRST
            } else {
                inside.next + 2
            };
            drop(inside);
            if !self.world.is_taken(local) {
                return Some(local);
            }
        }
        None
    }

    fn close(&self, leg: SideKey) {
        let (local, counters) = {
            let mut inside = self.inside();
            (inside.legs.remove(&leg), inside.table.close(leg))
        };
        if let Some(local) = local {
            self.world.detach(local);
            self.world.detach(above(local));
        }
        if let Some(counters) = counters {
            self.tell(leg, MediaEvent::Counted(counters));
        }
    }

    /// Tells an event as the real plane does: a little later, from another thread.
    fn tell(&self, leg: SideKey, event: MediaEvent) {
        let plane = self.me();
        self.world.schedule(
            Duration::from_micros(30),
            Box::new(move |_| {
                if plane.alive.load(Ordering::Relaxed)
                    && let Some(sink) = plane.sink.get()
                {
                    sink.media(leg, event);
                }
            }),
        );
    }

    fn after(&self) {
        let (events, next) = {
            let mut inside = self.inside();
            let events: Vec<_> = std::iter::from_fn(|| inside.table.poll_event()).collect();
            let due = inside.table.next_deadline();
            let sooner = due.filter(|due| inside.tick.is_none_or(|tick| *due < tick));
            if sooner.is_some() {
                inside.tick = sooner;
            }
            (events, sooner)
        };
        for (leg, event) in events {
            self.tell(leg, event);
        }
        if let Some(due) = next {
            let plane = self.me();
            self.world
                .schedule_at(due, Box::new(move |_| plane.tick(due)));
        }
    }

    fn tick(&self, due: Time) {
        if !self.alive.load(Ordering::Relaxed) {
            return;
        }
        let now = self.world.now().mono;
        let mut out = Vec::new();
        {
            let mut inside = self.inside();
            if inside.tick != Some(due) {
                return;
            }
            inside.tick = None;
            let Inside { table, legs, .. } = &mut *inside;
            table.on_tick(now, &mut |leg, to, packet| {
                if let Some(local) = legs.get(&leg) {
                    out.push((*local, to, Bytes::copy_from_slice(packet)));
                }
            });
        }
        for (from, to, packet) in out {
            self.world.send(from, to, packet);
        }
        self.after();
    }

    fn packet(&self, leg: SideKey, is_rtcp: bool, from: SocketAddr, bytes: &Bytes) {
        let now = self.world.now().mono;
        let mut packet = bytes.to_vec();
        let out = {
            let mut inside = self.inside();
            let verdict = if is_rtcp {
                inside.table.on_rtcp(leg, from, now, &mut packet)
            } else {
                inside.table.on_packet(leg, from, now, &mut packet)
            };
            let (leg, to, length) = match verdict {
                Verdict::Forward { to_leg, to, length } => (to_leg, to, length),
                Verdict::Reflect { to, length } => (leg, to, length),
                Verdict::Drop(_) => (leg, from, 0),
            };
            packet.truncate(length);
            inside
                .legs
                .get(&leg)
                .filter(|_| length > 0)
                .map(|local| (*local, to))
        };
        if let Some((local, to)) = out {
            let local = if is_rtcp { above(local) } else { local };
            self.world.send(local, to, Bytes::from(packet));
        }
        self.after();
    }
}

fn above(local: SocketAddr) -> SocketAddr {
    SocketAddr::new(local.ip(), local.port().wrapping_add(1))
}

struct Port {
    plane: Arc<SimMedia>,
    leg: SideKey,
    is_rtcp: bool,
}

impl Endpoint for Port {
    fn datagram(&self, _world: &Arc<World>, from: SocketAddr, _to: SocketAddr, bytes: Bytes) {
        if self.plane.alive.load(Ordering::Relaxed) {
            self.plane.packet(self.leg, self.is_rtcp, from, &bytes);
        }
    }
}

impl MediaPlane for SimMedia {
    fn attach(&self, sink: Arc<dyn MediaSink>) {
        // A second sink is a bug of the node; the first one stays and the checkers see nothing move.
        let _ = self.sink.set(sink);
    }

    fn command(&self, command: MediaCommand) {
        if !self.alive.load(Ordering::Relaxed) {
            return;
        }
        match command {
            MediaCommand::Open {
                leg,
                address,
                port,
                beside: _,
            } => {
                let event = self.open(leg, address, port);
                self.tell(leg, event);
            }
            MediaCommand::Configure { leg, config } => {
                let now = self.world.now().mono;
                let configured = self.inside().table.configure(leg, &config, now);
                if configured.is_err() {
                    self.world.count("media legs configured while closed");
                }
            }
            MediaCommand::Reserved { leg, sequence_end } => {
                self.inside().table.reserved(leg, sequence_end);
            }
            MediaCommand::Close { leg } => self.close(leg),
        }
        self.after();
    }
}
