//! The simulator's `Peers`: one life of one node among the others, at message level.
//!
//! | event | what happens |
//! |---|---|
//! | a node is wanted or greeted | hello, welcome, joined: three trips, then `connected` at both ends |
//! | nobody listens there | refused; a wanted node is dialled again, 50 ms to 2 s later |
//! | both dial | the lower number's connection counts |
//! | the process ends | resets to its far ends; they look what became of it: `lost(Refused)` if nobody listens |
//! | nothing heard for 2 s | `lost(Silent)` |
//! | nobody wants it any more | closed: `lost(Closed)` at both ends |
//! | a later life comes | `lost(Closed)` for the earlier one; an earlier life is refused |
//!
//! In: what the node wants. Out: calls of its `PeerSink`. Times are those of `nodes/src/peers`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use contract::limits::{FRAME_BYTES_MAX, GOSSIP_BYTES_MAX};
use contract::{
    Boot, FrameClass, Loss, NodeId, NodeInst, Peer, PeerFault, PeerSink, Peers, SchemaVersion, Time,
};

use super::describe::describe;
use super::link::Link;
use super::{Stall, carry};
use crate::planted;
use crate::world::World;

/// A sign of life, if there is nothing else to say.
const PING: Duration = Duration::from_millis(500);
/// Silence that ends a connection: three signs of life were missed, and a fourth is due.
const SILENCE: Duration = Duration::from_secs(2);
/// Longest wait for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// Longest wait for the answer whether anybody still listens.
const PROBE: Duration = Duration::from_secs(1);
/// What the higher number waits for the lower one to dial.
const PATIENCE: Duration = Duration::from_secs(1);
/// Age up to which a connection stays although nobody has asked for it.
const GRACE: Duration = Duration::from_secs(5);
/// What a lost segment waits for its repetition.
const REPEAT: Duration = Duration::from_millis(200);
const BACKOFF_FIRST_MS: u32 = 50;
const BACKOFF_MOST_MS: u32 = 2_000;

/// One life of one node among the others.
pub struct SimPeers {
    world: Arc<World>,
    me: Peer,
    alive: Arc<AtomicBool>,
    stall: Arc<Stall>,
    sink: OnceLock<Arc<dyn PeerSink>>,
    inside: Mutex<Inside>,
    weak: Weak<SimPeers>,
}

#[derive(Default)]
struct Inside {
    kept: BTreeMap<NodeId, Peer>,
    links: BTreeMap<NodeId, Link>,
    /// Addresses that are dialled, with the number of the connection to be.
    dialled: BTreeMap<SocketAddr, u64>,
    failures: BTreeMap<SocketAddr, u32>,
    /// Nodes whose connection was reset, until it is known why.
    doubted: BTreeMap<NodeId, Peer>,
    newest: BTreeMap<NodeId, Boot>,
    /// The schema of the newest record here.
    required: SchemaVersion,
}

impl std::fmt::Debug for SimPeers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimPeers({})", self.me.inst)
    }
}

impl SimPeers {
    /// Begins to listen.
    #[must_use]
    pub fn begin(
        world: &Arc<World>,
        me: Peer,
        alive: &Arc<AtomicBool>,
        stall: &Arc<Stall>,
    ) -> Arc<SimPeers> {
        let peers = Arc::new_cyclic(|weak| SimPeers {
            world: Arc::clone(world),
            me,
            alive: Arc::clone(alive),
            stall: Arc::clone(stall),
            sink: OnceLock::new(),
            inside: Mutex::default(),
            weak: weak.clone(),
        });
        world.mesh().listen(me.address, Arc::clone(&peers));
        peers
    }

    /// Ends as the process does: far ends are reset.
    pub fn crash(&self) {
        self.world.mesh().deafen(self.me.address);
        let links = std::mem::take(&mut self.inside().links);
        for (_, link) in links {
            self.reset_far(link.peer.address, link.number);
        }
    }

    /// Tells whether there is a connection with a life of a node.
    #[must_use]
    pub fn is_connected(&self, life: NodeInst) -> bool {
        let inside = self.inside();
        let link = inside.links.get(&life.node);
        link.is_some_and(|link| link.peer.inst == life)
    }

    pub(super) fn stall(&self) -> &Arc<Stall> {
        &self.stall
    }

    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().expect("no holder of a life panics")
    }

    fn me(&self) -> Arc<SimPeers> {
        self.weak.upgrade().expect("it lives while it is called")
    }

    fn now(&self) -> Time {
        self.world.now().mono
    }

    /// Lets this life do something later, if it still lives.
    fn later(&self, after: Duration, what: impl FnOnce(&SimPeers) + Send + 'static) {
        let me = self.me();
        let happening = move |world: &Arc<World>| {
            let stall = Arc::clone(&me.stall);
            let work = move |_: &Arc<World>| {
                if me.is_alive() {
                    what(&me);
                }
            };
            stall.when_awake(world, Box::new(work));
        };
        self.world.schedule(after, Box::new(happening));
    }

    /// Carries something to this life from an address.
    fn to_me(&self, from: SocketAddr, what: impl FnOnce(&SimPeers) + Send + 'static) {
        let me = self.me();
        carry(&self.world, from, self.me.address, move |_, _| {
            if me.is_alive() {
                what(&me);
            }
        });
    }

    fn tell_lost(&self, peer: Peer, why: Loss) {
        self.world.count(match why {
            Loss::Refused => "nodes lost: refused",
            Loss::Silent => "nodes lost: silent",
            Loss::Closed => "nodes lost: closed",
        });
        let words = format!("{} lost {}: {why:?}", self.me.inst, peer.inst);
        self.world.trace("peers", words.as_bytes());
        if let Some(sink) = self.sink.get() {
            sink.lost(peer, why);
        }
        self.dial_again(peer.address, PATIENCE);
    }

    /// Dials an address.
    fn dial(&self, address: SocketAddr) {
        let number = self.world.mesh().number();
        self.inside().dialled.insert(address, number);
        let (me, peer) = (self.me(), self.me);
        carry(
            &self.world,
            peer.address,
            address,
            move |_, there| match there {
                Some(there) => there.on_hello(peer, &me, number),
                None => me.to_me(address, move |me| me.on_dial_failed(address, number)),
            },
        );
        self.later(HANDSHAKE, move |me| me.on_dial_failed(address, number));
    }

    /// Somebody dials us.
    fn on_hello(&self, peer: Peer, dialler: &Arc<SimPeers>, number: u64) {
        let own = self.me;
        if !self.world.mesh().read_each_other(self, dialler) {
            let refuse = move |me: &SimPeers| me.on_dial_failed(own.address, number);
            return dialler.to_me(own.address, refuse);
        }
        let is_refused = {
            let inside = self.inside();
            let newest = inside.newest.get(&peer.inst.node);
            let is_older = newest.is_some_and(|boot| peer.inst.boot < *boot);
            let is_ours = inside.dialled.contains_key(&peer.address);
            is_older || (is_ours && own.inst.node < peer.inst.node)
        };
        if is_refused || peer.inst.node == own.inst.node || self.sink.get().is_none() {
            let refuse = move |me: &SimPeers| me.on_dial_failed(own.address, number);
            return dialler.to_me(own.address, refuse);
        }
        let me = self.me();
        dialler.to_me(own.address, move |dialler| {
            dialler.on_welcome(own, &me, number);
        });
    }

    /// Returns which node it is, and the schema of the newest record here.
    pub(super) fn needs(&self) -> (NodeId, SchemaVersion) {
        (self.me.inst.node, self.inside().required)
    }

    /// Whom we dialled takes us.
    fn on_welcome(&self, peer: Peer, far: &Arc<SimPeers>, number: u64) {
        let is_wanted = {
            let mut inside = self.inside();
            let is_ours = inside.dialled.get(&peer.address) == Some(&number);
            if is_ours {
                inside.dialled.remove(&peer.address);
            }
            let known = inside.links.get(&peer.inst.node);
            let newest = inside.newest.get(&peer.inst.node);
            let is_older = newest.is_some_and(|boot| peer.inst.boot < *boot);
            is_ours && !is_older && known.is_none_or(|link| link.peer.inst.boot < peer.inst.boot)
        };
        if !is_wanted {
            return;
        }
        let (own, far) = (self.me, Arc::clone(far));
        let joined = move |_: &Arc<World>, _| {
            if far.is_alive() {
                far.bring_up(own, number, Duration::ZERO);
            }
        };
        let trip = carry(&self.world, own.address, peer.address, joined);
        self.bring_up(peer, number, trip);
    }

    /// A connection is there; the far end knows it after `trip`.
    fn bring_up(&self, peer: Peer, number: u64, trip: Duration) {
        let now = self.now();
        let node = peer.inst.node;
        let former = {
            let mut inside = self.inside();
            let newest = inside.newest.entry(node).or_default();
            if peer.inst.boot < *newest {
                drop(inside);
                return self.reset_far(peer.address, number);
            }
            if *newest > Boot::default() && peer.inst.boot > *newest {
                self.world.count("nodes that came back with a higher boot");
            }
            *newest = peer.inst.boot;
            inside.dialled.remove(&peer.address);
            inside.failures.remove(&peer.address);
            let link = Link::new(peer, number, now, now + trip + Duration::from_micros(1));
            let former = inside.links.insert(node, link).map(|link| link.peer);
            former.or(inside.doubted.remove(&node))
        };
        if let Some(former) = former {
            self.tell_lost(former, Loss::Closed);
        }
        let words = format!("{} is connected with {}", self.me.inst, peer.inst);
        self.world.trace("peers", words.as_bytes());
        self.world.count("connections between nodes");
        if let Some(sink) = self.sink.get() {
            sink.connected(peer, self.world.mesh().reads(node));
        }
        self.later(PING, move |me| me.on_tick(node, number));
    }

    fn on_dial_failed(&self, address: SocketAddr, number: u64) {
        let failures = {
            let mut inside = self.inside();
            if inside.dialled.get(&address) != Some(&number) {
                return;
            }
            inside.dialled.remove(&address);
            let failures = inside.failures.entry(address).or_default();
            *failures += 1;
            *failures
        };
        let most = (BACKOFF_FIRST_MS << failures.min(6)).min(BACKOFF_MOST_MS);
        let wait = most / 2 + self.world.state().chance.below(most / 2);
        let wait = Duration::from_millis(u64::from(wait));
        self.dial_again(address, wait);
    }

    /// Dials a node that is wanted, at the latest after `wait`: at once if it is ours to dial and
    /// has not failed yet.
    fn dial_again(&self, address: SocketAddr, wait: Duration) {
        let kept = {
            let inside = self.inside();
            let kept = inside.kept.values().find(|peer| peer.address == address);
            kept.map(|peer| (*peer, inside.failures.contains_key(&address)))
        };
        let Some((peer, has_failed)) = kept else {
            return;
        };
        let is_ours = self.me.inst.node < peer.inst.node;
        let wait = if is_ours && !has_failed {
            Duration::from_millis(1)
        } else {
            wait
        };
        self.later(wait, move |me| me.dial_kept(peer));
    }

    fn dial_kept(&self, peer: Peer) {
        let is_due = {
            let inside = self.inside();
            inside.kept.get(&peer.inst.node) == Some(&peer)
                && !inside.links.contains_key(&peer.inst.node)
                && !inside.dialled.contains_key(&peer.address)
        };
        if is_due {
            self.dial(peer.address);
        }
    }

    /// Twice a second: says something, and looks whether the far end does.
    fn on_tick(&self, node: NodeId, number: u64) {
        let now = self.now();
        let (peer, silence) = {
            let inside = self.inside();
            let link = inside.links.get(&node);
            let Some(link) = link.filter(|link| link.number == number) else {
                return;
            };
            (link.peer, now.since(link.heard))
        };
        if silence >= SILENCE {
            self.inside().links.remove(&node);
            self.close_far(peer.address, number);
            return self.tell_lost(peer, Loss::Silent);
        }
        let (own, me) = (self.me, self.me());
        let arrive = move |_: &Arc<World>, there: Option<Arc<SimPeers>>| {
            if !there.is_some_and(|there| there.hear(own.inst.node, number)) {
                me.to_me(peer.address, move |me| me.on_reset(node, number));
            }
        };
        carry(&self.world, own.address, peer.address, arrive);
        self.later(PING, move |me| me.on_tick(node, number));
    }

    /// Notes that a far end was heard; false if there is no such connection.
    fn hear(&self, node: NodeId, number: u64) -> bool {
        let now = self.now();
        let mut inside = self.inside();
        let link = inside.links.get_mut(&node);
        let Some(link) = link.filter(|link| link.number == number) else {
            return false;
        };
        link.heard = now;
        true
    }

    fn reset_far(&self, address: SocketAddr, number: u64) {
        let node = self.me.inst.node;
        carry(&self.world, self.me.address, address, move |_, there| {
            if let Some(there) = there {
                there.on_reset(node, number);
            }
        });
    }

    fn close_far(&self, address: SocketAddr, number: u64) {
        let node = self.me.inst.node;
        carry(&self.world, self.me.address, address, move |_, there| {
            let Some(there) = there else { return };
            if let Some(peer) = there.drop_link(node, number) {
                there.tell_lost(peer, Loss::Closed);
            }
        });
    }

    fn drop_link(&self, node: NodeId, number: u64) -> Option<Peer> {
        let mut inside = self.inside();
        inside.links.get(&node).filter(|it| it.number == number)?;
        inside.links.remove(&node).map(|link| link.peer)
    }

    /// A connection was reset: it is looked whether anybody still listens there.
    fn on_reset(&self, node: NodeId, number: u64) {
        let Some(peer) = self.drop_link(node, number) else {
            return;
        };
        self.inside().doubted.insert(node, peer);
        let me = self.me();
        let probe = move |_: &Arc<World>, there: Option<Arc<SimPeers>>| {
            let why = match there {
                Some(_) => Loss::Closed,
                None => Loss::Refused,
            };
            me.to_me(peer.address, move |me| me.on_probed(peer, why));
        };
        carry(&self.world, self.me.address, peer.address, probe);
        self.later(PROBE, move |me| me.on_probed(peer, Loss::Silent));
    }

    fn on_probed(&self, peer: Peer, why: Loss) {
        let node = peer.inst.node;
        {
            let mut inside = self.inside();
            if inside.doubted.get(&node) != Some(&peer) {
                return;
            }
            inside.doubted.remove(&node);
        }
        self.tell_lost(peer, why);
    }

    /// The next frame of a class reaches the far end, unless the way is cut: then it is repeated.
    fn on_arrival(&self, node: NodeId, number: u64, class: FrameClass) {
        let (own, from) = (self.me, self.me.address.ip());
        let (peer, frame) = {
            let mut inside = self.inside();
            let link = inside.links.get_mut(&node);
            let Some(link) = link.filter(|link| link.number == number) else {
                return;
            };
            let peer = link.peer;
            if self.world.mesh().is_cut(from, peer.address.ip()) {
                drop(inside);
                self.world.count("frames that waited for a cut to heal");
                return self.schedule_arrival(REPEAT, node, number, class);
            }
            (peer, link.pop(class))
        };
        let Some(frame) = frame else { return };
        let Some(there) = self.world.mesh().process(peer.address) else {
            return;
        };
        let stall = Arc::clone(&there.stall);
        let me = self.me();
        let take = move |world: &Arc<World>| {
            if !there.is_alive() {
                return;
            }
            if !there.hear(own.inst.node, number) {
                return me.to_me(peer.address, move |me| me.on_reset(node, number));
            }
            let (from, to) = (own.inst.node, there.me.inst.node);
            world.trace_as("frame", &frame, || describe(from, to, &frame));
            world.count("frames between nodes");
            if let Some(sink) = there.sink.get() {
                sink.frame(own.inst, class, frame);
            }
        };
        stall.when_awake(&self.world, Box::new(take));
    }

    /// Frames under way are the network's: a sender that stalls does not hold them back.
    fn schedule_arrival(&self, after: Duration, node: NodeId, number: u64, class: FrameClass) {
        let me = self.me();
        let happening = move |_: &Arc<World>| {
            if me.is_alive() {
                me.on_arrival(node, number, class);
            }
        };
        self.world.schedule(after, Box::new(happening));
    }
}

impl Peers for SimPeers {
    fn attach(&self, sink: Arc<dyn PeerSink>) {
        assert!(self.sink.set(sink).is_ok(), "a sink is attached once");
    }

    fn require(&self, schema: SchemaVersion) {
        let mut inside = self.inside();
        inside.required = inside.required.max(schema);
    }

    fn keep(&self, peers: Vec<Peer>) {
        if !self.is_alive() {
            return;
        }
        let now = self.now();
        let own = self.me.inst.node;
        let (fresh, unwanted) = {
            let mut inside = self.inside();
            let kept: BTreeMap<_, _> = peers.iter().map(|peer| (peer.inst.node, *peer)).collect();
            let former = std::mem::replace(&mut inside.kept, kept);
            for peer in &peers {
                let newest = inside.newest.entry(peer.inst.node).or_default();
                *newest = (*newest).max(peer.inst.boot);
            }
            let fresh = peers
                .into_iter()
                .filter(|peer| former.get(&peer.inst.node) != Some(peer))
                .collect::<Vec<_>>();
            let old = inside.links.values().filter(|link| {
                let is_kept = inside.kept.contains_key(&link.peer.inst.node);
                !is_kept && now.since(link.opened) > GRACE
            });
            let unwanted: Vec<_> = old.map(|link| (link.peer, link.number)).collect();
            (fresh, unwanted)
        };
        for (peer, number) in unwanted {
            if self.drop_link(peer.inst.node, number).is_some() {
                self.close_far(peer.address, number);
                self.tell_lost(peer, Loss::Closed);
            }
        }
        for peer in fresh {
            let wait = if own < peer.inst.node {
                Duration::ZERO
            } else {
                PATIENCE
            };
            self.later(wait, move |me| me.dial_kept(peer));
        }
    }

    fn greet(&self, address: SocketAddr) {
        let is_known = {
            let inside = self.inside();
            let mut links = inside.links.values();
            links.any(|link| link.peer.address == address)
                || inside.dialled.contains_key(&address)
                || address == self.me.address
        };
        if self.is_alive() && !is_known {
            self.dial(address);
        }
    }

    fn send(&self, to: NodeInst, class: FrameClass, frame: Bytes) -> Result<(), PeerFault> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(PeerFault::TooLong);
        }
        let (from, now) = (self.me.address.ip(), self.now());
        if let Some(answer) = planted::answer(&frame) {
            self.later(Duration::from_millis(1), move |me| {
                if let Some(sink) = me.sink.get() {
                    sink.frame(to, class, answer);
                }
            });
            return Ok(());
        }
        self.world.witnessed(self.me.inst, to, &frame);
        let mut inside = self.inside();
        let link = inside.links.get_mut(&to.node);
        let link = link.filter(|link| link.peer.inst == to && self.is_alive());
        let link = link.ok_or(PeerFault::Absent)?;
        let trip = self
            .world
            .mesh()
            .trip(&self.world, from, link.peer.address.ip());
        let (number, pushed) = (link.number, link.push(class, frame, now + trip));
        drop(inside);
        let at = pushed.inspect_err(|_| self.world.count("frames refused: busy"))?;
        self.schedule_arrival(at.since(now), to.node, number, class);
        Ok(())
    }

    fn gossip(&self, to: SocketAddr, datagram: Bytes) {
        if !self.is_alive() || datagram.len() > GOSSIP_BYTES_MAX {
            return self.world.count("gossip that did not go out");
        }
        let from = self.me.address;
        let mesh = self.world.mesh();
        self.world.gossiped(&datagram);
        if mesh.is_cut(from.ip(), to.ip()) {
            return self.world.count("gossip that was cut");
        }
        let copies = self.world.state().route();
        let slow = mesh.trip(&self.world, from.ip(), to.ip());
        for trip in copies {
            let bytes = datagram.clone();
            let land = move |world: &Arc<World>| {
                let Some(there) = world.mesh().process(to) else {
                    return;
                };
                let stall = Arc::clone(&there.stall);
                let take = move |_: &Arc<World>| {
                    if let Some(sink) = there.sink.get().filter(|_| there.is_alive()) {
                        sink.gossip(from, bytes);
                    }
                };
                stall.when_awake(world, Box::new(take));
            };
            self.world.schedule(trip + slow, Box::new(land));
        }
    }
}
