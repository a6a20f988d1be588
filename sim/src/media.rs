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
use contract::{LegSocket, LegTransport, MediaCommand, MediaEvent, SideKey, Time, WebrtcConfig};
use media::relay::{RelayTable, SRTP_TAIL_BYTES, Verdict};
use media::sdp::fingerprint_digest;

use weft::media_plane::srtp::LibraryMaker;

use crate::handshake::is_handshake;
use crate::web::{WebEnd, WebOutput};
use crate::world::{Endpoint, World};

/// Hash of the certificate that simulated handshakes show.
pub const FINGERPRINT: &str = "sha-256 \
    51:1D:51:1D:51:1D:51:1D:51:1D:51:1D:51:1D:51:1D:51:1D:51:1D:51:1D:51:1D:51:1D:51:1D:51:1D:51:1D";

/// The WebRTC port.
const SHARED_PORT: u16 = 16_300;
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
    /// Legs on the shared port, with their paths and handshakes.
    web: BTreeMap<SideKey, Option<WebEnd>>,
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
            table: RelayTable::new(Arc::new(LibraryMaker)),
            legs: BTreeMap::new(),
            web: BTreeMap::new(),
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
        let (legs, web) = {
            let mut inside = self.inside();
            let web = std::mem::take(&mut inside.web);
            (std::mem::take(&mut inside.legs), web)
        };
        for (leg, local) in legs {
            self.world.detach(local);
            if !web.contains_key(&leg) {
                self.world.detach(above(local));
            }
        }
    }

    /// Gives a leg its place on the shared port of an address, which is bound for the first one.
    fn share(&self, leg: SideKey, address: IpAddr) -> MediaEvent {
        let local = SocketAddr::new(address, SHARED_PORT);
        let mut inside = self.inside();
        if inside.legs.contains_key(&leg) {
            inside.table.resume(leg);
            return MediaEvent::Opened { rtp: local };
        }
        if let Err(error) = inside.table.open(leg) {
            return MediaEvent::Failed {
                why: error.to_string(),
            };
        }
        let is_first = !inside.legs.values().any(|known| *known == local);
        inside.legs.insert(leg, local);
        inside.web.insert(leg, None);
        drop(inside);
        if is_first {
            let shared = Shared { plane: self.me() };
            self.world.attach(local, Arc::new(shared));
        }
        MediaEvent::Opened { rtp: local }
    }

    /// Sets up or changes the path of a leg on the shared port.
    fn configure_web(&self, leg: SideKey, config: &WebrtcConfig) {
        let now = self.world.now().mono;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&config.ice.seed.to_le_bytes());
        seed[8..12].copy_from_slice(&config.association.to_le_bytes());
        let mut inside = self.inside();
        match inside.web.get_mut(&leg) {
            Some(Some(end)) => end.configure(config, now),
            Some(place) => {
                *place = Some(WebEnd::new(config, certificate(FINGERPRINT), seed, now));
            }
            None => {}
        }
        drop(inside);
        self.settle_web();
    }

    /// Carries out what paths and handshakes want.
    fn settle_web(&self) {
        let mut sends = Vec::new();
        let mut tells = Vec::new();
        {
            let mut inside = self.inside();
            let Inside {
                table, legs, web, ..
            } = &mut *inside;
            for (leg, end) in web.iter_mut() {
                let (Some(end), Some(local)) = (end.as_mut(), legs.get(leg)) else {
                    continue;
                };
                while let Some(output) = end.poll() {
                    match output {
                        WebOutput::Send { to, octets } => {
                            sends.push((*local, to, Bytes::from(octets)));
                        }
                        WebOutput::Selected { remote } => {
                            let by_agent = false;
                            tells.push((*leg, MediaEvent::PathSelected { remote, by_agent }));
                        }
                        WebOutput::Lost => tells.push((*leg, MediaEvent::PathLost)),
                        WebOutput::Keyed { keys, association } => {
                            tells.push((*leg, MediaEvent::Keyed { keys, association }));
                        }
                        WebOutput::Refused => tells.push((
                            *leg,
                            MediaEvent::Unkeyed {
                                why: "another certificate, or a new handshake".to_owned(),
                            },
                        )),
                    }
                }
                table.set_target(*leg, end.target());
            }
        }
        for (from, to, octets) in sends {
            self.world.send(from, to, octets);
        }
        for (leg, event) in tells {
            if !self.inside().table.is_lingering(leg) {
                self.tell(leg, event);
            }
        }
    }

    /// Takes a datagram of the shared port: whose it is says the user fragment of a check, or the
    /// address that passed one (`architecture.md` §5).
    fn shared(&self, local: SocketAddr, from: SocketAddr, bytes: &Bytes) {
        let now = self.world.now().mono;
        let found = {
            let mut inside = self.inside();
            let Inside { legs, web, .. } = &mut *inside;
            let is_stun = media::stun::is_stun(bytes);
            let fragment = media::stun::username(bytes).map(|(ours, _)| ours.to_owned());
            let mut here = web.iter_mut().filter_map(|(leg, end)| {
                let is_here = legs.get(leg) == Some(&local);
                end.as_mut().filter(|_| is_here).map(|end| (*leg, end))
            });
            if is_stun && fragment.is_none() {
                // A response: who asked knows it by its transaction.
                here.for_each(|(_, end)| end.datagram(from, bytes, now));
                None
            } else {
                let found = here.find(|(_, end)| match &fragment {
                    Some(fragment) => end.ufrag() == fragment,
                    None => end.accepts(from),
                });
                match found {
                    Some((_, end)) if is_stun || is_handshake(bytes) => {
                        end.datagram(from, bytes, now);
                        None
                    }
                    Some((leg, _)) => Some(leg),
                    None => None,
                }
            }
        };
        match found {
            Some(leg) => self.packet(leg, false, from, bytes),
            None => self.after(),
        }
    }

    fn open(&self, leg: SideKey, address: IpAddr, port: Option<u16>) -> MediaEvent {
        if let Some(local) = self.known(leg) {
            return MediaEvent::Opened { rtp: local };
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

    /// Returns where a leg is that is open; it is this node's again.
    fn known(&self, leg: SideKey) -> Option<SocketAddr> {
        let mut inside = self.inside();
        let local = inside.legs.get(&leg).copied()?;
        inside.table.resume(leg);
        Some(local)
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
        let (local, is_web, is_last, counters) = {
            let mut inside = self.inside();
            let local = inside.legs.remove(&leg);
            let is_web = inside.web.remove(&leg).is_some();
            let is_last = !inside.legs.values().any(|other| Some(*other) == local);
            let is_ours = !inside.table.is_lingering(leg);
            let counters = inside.table.close(leg).filter(|_| is_ours);
            (local, is_web, is_last, counters)
        };
        if let Some(local) = local.filter(|_| is_last) {
            self.world.detach(local);
            if !is_web {
                self.world.detach(above(local));
            }
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
        self.settle_web();
        let (events, next) = {
            let mut inside = self.inside();
            let events: Vec<_> = std::iter::from_fn(|| inside.table.poll_event()).collect();
            let ends = inside.web.values().flatten();
            let due = ends
                .filter_map(WebEnd::next_due)
                .chain(inside.table.next_deadline())
                .min();
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
            let Inside {
                table, legs, web, ..
            } = &mut *inside;
            for end in web.values_mut().flatten() {
                if end.next_due().is_some_and(|due| due <= now) {
                    end.on_time(now);
                }
            }
            table.on_tick(now, &mut |leg, to, packet| {
                if let Some(local) = legs.get(&leg) {
                    out.push((*local, to, Bytes::copy_from_slice(packet)));
                }
            });
        }
        for (from, to, packet) in out {
            self.world.send(from, to, packet);
        }
        let over = self.inside().table.over(now);
        for leg in over {
            self.close(leg);
        }
        self.after();
    }

    fn packet(&self, leg: SideKey, is_rtcp: bool, from: SocketAddr, bytes: &Bytes) {
        let now = self.world.now().mono;
        let length = bytes.len();
        let mut packet = bytes.to_vec();
        packet.resize(length + SRTP_TAIL_BYTES, 0);
        let out = {
            let mut inside = self.inside();
            let verdict = if is_rtcp {
                inside.table.on_rtcp(leg, from, now, &mut packet, length)
            } else {
                inside.table.on_packet(leg, from, now, &mut packet, length)
            };
            let (leg, to, length, is_rtcp) = match verdict {
                Verdict::Forward {
                    to_leg,
                    to,
                    length,
                    is_rtcp,
                } => (to_leg, to, length, is_rtcp),
                Verdict::Reflect { to, length } => (leg, to, length, false),
                Verdict::Drop(_) => (leg, from, 0, false),
            };
            packet.truncate(length);
            inside
                .legs
                .get(&leg)
                .filter(|_| length > 0)
                .map(|local| (*local, to, is_rtcp))
        };
        if let Some((local, to, is_rtcp)) = out {
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

struct Shared {
    plane: Arc<SimMedia>,
}

impl Endpoint for Shared {
    fn datagram(&self, _world: &Arc<World>, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        if self.plane.alive.load(Ordering::Relaxed) {
            self.plane.shared(to, from, &bytes);
        }
    }
}

/// Returns the digest of a fingerprint as SDP writes it.
fn certificate(fingerprint: &str) -> Vec<u8> {
    let digest = fingerprint
        .split_once(' ')
        .map_or(fingerprint, |(_, hex)| hex);
    fingerprint_digest(digest).unwrap_or_default()
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
                socket,
            } => {
                let event = match socket {
                    LegSocket::Own => self.open(leg, address, port),
                    LegSocket::Shared => self.share(leg, address),
                };
                self.tell(leg, event);
            }
            MediaCommand::Configure { leg, config } => {
                let now = self.world.now().mono;
                let configured = self.inside().table.configure(leg, &config, now);
                if configured.is_err() {
                    self.world.count("media legs configured while closed");
                }
                if let LegTransport::Webrtc(web) = &config.transport {
                    self.configure_web(leg, web);
                }
            }
            MediaCommand::Reserved { leg, block } => {
                self.inside().table.reserved(leg, block);
            }
            MediaCommand::Digits {
                leg,
                digits,
                duration,
            } => {
                let now = self.world.now().mono;
                self.inside().table.digits(leg, &digits, duration, now);
            }
            MediaCommand::Linger { leg } => {
                let now = self.world.now().mono;
                if self.inside().table.linger(leg, now) {
                    self.world.count("media legs that were passed on");
                } else {
                    self.close(leg);
                }
            }
            MediaCommand::Close { leg } => self.close(leg),
        }
        self.after();
    }

    fn lingering(&self) -> usize {
        self.inside().table.lingering()
    }
}
