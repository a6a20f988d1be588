//! The way to the other nodes: two connections of TLS with each, and sealed datagrams (`cluster.md`
//! §10).
//!
//! ```text
//! membership, commits ─▶ TcpPeers ─▶ outbox ─▶ connection ═ TLS ═▶ connection ─▶ PeerSink
//!                        keep, greet ─▶ desk: dials, receives, decides, tells connected and lost
//! ```
//!
//! In: frames and datagrams for nodes, whom to keep. Out: what proven nodes say. What it means is
//! `weft-cluster`'s affair. A connection or datagram that does not prove the cluster's secret
//! changes nothing.
//!
//! Where to change it: the frames `wire.rs`, the proof `keys.rs` and `handshake.rs`, who wins when
//! both dial `desk.rs`, queues `outbox.rs`, silence `connection.rs`, the seal of datagrams
//! `gossip.rs`, what is refused `refusal.rs`.

mod connection;
mod desk;
mod entry;
mod gossip;
mod handshake;
mod keys;
mod outbox;
mod refusal;
mod tls;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use contract::limits::{FRAME_BYTES_MAX, NODES_MAX, PEER_GREETS_MAX};
use contract::{
    BindError, Boot, FrameClass, NodeId, NodeInst, Peer, PeerFault, PeerSink, Peers, SchemaVersion,
};
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use self::desk::Desk;
use self::gossip::Sealer;
use self::keys::Keys;
use self::outbox::Outbox;
use self::refusal::Counts;
use self::tls::Ends;
use self::wire::{Hello, Track};
use crate::env_os::{Clock, random, within};
use crate::net::tcp;

pub use self::keys::KeyRing;
pub use self::refusal::{Dropped, Refusal};
pub use self::wire::ClusterId;

/// Tries to find one port that is free for TCP and UDP, if the system chooses it.
const PORT_TRIES: usize = 16;
/// Longest wait for what is queued to leave when the node closes.
const CLOSE: Duration = Duration::from_secs(1);

/// What the transport is told at the start.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    /// Which life of which node this is; the boot number is durable already.
    pub me: NodeInst,
    /// Where to listen, TCP and UDP alike; port 0 leaves the choice to the system.
    pub listen: SocketAddr,
    /// Where others reach this node; port 0 means the one that it listens at.
    pub advertise: SocketAddr,
    /// The cluster's secrets.
    pub keys: KeyRing,
    /// Which cluster.
    pub cluster: ClusterId,
}

/// What all tasks know.
struct Shared {
    me: NodeInst,
    cluster: ClusterId,
    local: SocketAddr,
    advertise: SocketAddr,
    clock: Clock,
    ends: Ends,
    keys: RwLock<Arc<Keys>>,
    /// The latest known life of each node; as many as there are numbers.
    newest: Mutex<BTreeMap<NodeId, Boot>>,
    /// Where frames to a node are queued.
    routes: RwLock<BTreeMap<NodeId, Route>>,
    wanted: Mutex<Wanted>,
    wake: Notify,
    is_closing: AtomicBool,
    view_hash: AtomicU64,
    /// The schema of the newest record here: what others must read.
    required: AtomicU16,
    sealer: Sealer,
    /// The socket of gossip until the node closes. The runtime's own form of it would refuse to send
    /// until it has once been waited for.
    out: RwLock<Option<std::net::UdpSocket>>,
    counts: Counts,
}

/// A node that is connected.
struct Route {
    inst: NodeInst,
    urgent: Arc<Outbox>,
    bulk: Arc<Outbox>,
    /// Hash of its view of the members, as it greeted.
    view_hash: u64,
}

/// What was asked for and not yet taken up.
#[derive(Debug, Default)]
struct Wanted {
    keep: Option<Vec<Peer>>,
    greets: VecDeque<SocketAddr>,
}

impl Shared {
    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hello(&self, track: Track, link: u64) -> Hello {
        Hello {
            inst: self.me,
            cluster: self.cluster,
            advertise: self.advertise,
            track,
            link,
            view_hash: self.view_hash.load(Ordering::Relaxed),
            required: self.required(),
            reads: SchemaVersion::NEWEST,
        }
    }

    fn required(&self) -> SchemaVersion {
        SchemaVersion(self.required.load(Ordering::Relaxed))
    }

    /// Returns the latest known life of a node; 0 if none is known.
    fn newest(&self, node: NodeId) -> Boot {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.get(&node).copied().unwrap_or_default()
    }

    /// Learns of a life of a node from a source that has proven itself.
    fn learn(&self, inst: NodeInst) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let boot = newest.entry(inst.node).or_default();
        *boot = (*boot).max(inst.boot);
    }
}

/// Connections with the other nodes over TCP, gossip over UDP.
pub struct TcpPeers {
    shared: Arc<Shared>,
    handle: Handle,
    state: Mutex<State>,
}

/// How far its life has come.
enum State {
    Bound(TcpListener, UdpSocket),
    Running(JoinHandle<()>),
    Closed,
}

impl std::fmt::Debug for TcpPeers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpPeers")
            .field("me", &self.shared.me)
            .field("local", &self.shared.local)
            .finish_non_exhaustive()
    }
}

impl TcpPeers {
    /// Binds the port. Connections are taken once a sink is attached.
    ///
    /// # Errors
    /// If the port is taken, no certificate can be made, or the advertised address is none.
    pub fn bind(
        settings: PeerSettings,
        clock: Clock,
        handle: Handle,
    ) -> Result<Arc<Self>, BindError> {
        let refused =
            |what: &'static str, address: SocketAddr, why: String| BindError { what, address, why };
        if settings.advertise.ip().is_unspecified() {
            let why = "others cannot reach it".to_owned();
            return Err(refused("advertised", settings.advertise, why));
        }
        let ends =
            Ends::make().map_err(|error| refused("tls", settings.listen, error.to_string()))?;
        let _inside = handle.enter();
        let (listener, datagrams, out, local) = sockets(settings.listen)?;
        let mut advertise = settings.advertise;
        if advertise.port() == 0 {
            advertise.set_port(local.port());
        }
        let seed = random();
        let epoch = [seed[0], seed[1], seed[2], seed[3], seed[4], seed[5]];
        let shared = Arc::new(Shared {
            me: settings.me,
            cluster: settings.cluster,
            local,
            advertise,
            clock,
            ends,
            keys: RwLock::new(Arc::new(Keys::of(&settings.keys))),
            newest: Mutex::default(),
            routes: RwLock::default(),
            wanted: Mutex::default(),
            wake: Notify::new(),
            is_closing: AtomicBool::new(false),
            view_hash: AtomicU64::new(0),
            required: AtomicU16::new(SchemaVersion::OLDEST.0),
            sealer: Sealer::new(settings.me, epoch, settings.cluster),
            out: RwLock::new(Some(out)),
            counts: Counts::default(),
        });
        Ok(Arc::new(TcpPeers {
            shared,
            handle: handle.clone(),
            state: Mutex::new(State::Bound(listener, datagrams)),
        }))
    }

    /// Returns the address that is listened at.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.shared.local
    }

    /// Returns this node, as others are told.
    #[must_use]
    pub fn me(&self) -> Peer {
        Peer {
            inst: self.shared.me,
            address: self.shared.advertise,
        }
    }

    /// Takes another ring of secrets. Connections that are proven stay.
    pub fn turn(&self, ring: &KeyRing) {
        let keys = Arc::new(Keys::of(ring));
        *self
            .shared
            .keys
            .write()
            .unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Says which hash of the view is told in greetings from now on.
    pub fn announce(&self, view_hash: u64) {
        self.shared.view_hash.store(view_hash, Ordering::Relaxed);
    }

    /// Returns the hash of the view that a connected node greeted with.
    #[must_use]
    pub fn view_hash_of(&self, inst: NodeInst) -> Option<u64> {
        let routes = self
            .shared
            .routes
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let route = routes.get(&inst.node)?;
        (route.inst == inst).then_some(route.view_hash)
    }

    /// Returns how many connections were refused for a reason.
    #[must_use]
    pub fn refused(&self, why: Refusal) -> u64 {
        self.shared.counts.refused(why)
    }

    /// Returns how many datagrams of gossip were dropped for a reason.
    #[must_use]
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.shared.counts.dropped(why)
    }

    /// Closes all connections in order: what is queued leaves first, within a second. The sink is
    /// told of each loss; nothing is delivered after this ends.
    pub async fn close(&self) {
        self.shared.is_closing.store(true, Ordering::Relaxed);
        self.shared.wake.notify_one();
        *self
            .shared
            .out
            .write()
            .unwrap_or_else(PoisonError::into_inner) = None;
        let former = std::mem::replace(&mut *self.state(), State::Closed);
        match former {
            State::Bound(listener, datagrams) => drop((listener, datagrams)),
            State::Running(mut task) => {
                // The desk keeps its own, shorter deadline.
                if within(CLOSE * 2, &mut task).await.is_none() {
                    task.abort();
                }
            }
            State::Closed => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TcpPeers {
    fn drop(&mut self) {
        let former = std::mem::replace(&mut *self.state(), State::Closed);
        if let State::Running(task) = former {
            // With the desk all its tasks and sockets go.
            task.abort();
        }
    }
}

impl Peers for TcpPeers {
    fn attach(&self, sink: Arc<dyn PeerSink>) {
        let mut state = self.state();
        let former = std::mem::replace(&mut *state, State::Closed);
        *state = match former {
            State::Bound(listener, datagrams) => {
                let (shared, handle) = (Arc::clone(&self.shared), self.handle.clone());
                let desk = Desk::new(shared, (listener, datagrams), handle, sink);
                State::Running(self.handle.spawn(desk.run()))
            }
            State::Running(task) => State::Running(task),
            State::Closed => State::Closed,
        };
    }

    fn require(&self, schema: SchemaVersion) {
        self.shared.required.fetch_max(schema.0, Ordering::Relaxed);
    }

    fn keep(&self, mut peers: Vec<Peer>) {
        peers.truncate(NODES_MAX);
        self.shared.wanted().keep = Some(peers);
        self.shared.wake.notify_one();
    }

    fn greet(&self, address: SocketAddr) {
        let mut wanted = self.shared.wanted();
        if wanted.greets.len() < PEER_GREETS_MAX && !wanted.greets.contains(&address) {
            wanted.greets.push_back(address);
        }
        drop(wanted);
        self.shared.wake.notify_one();
    }

    fn send(&self, to: NodeInst, class: FrameClass, frame: Bytes) -> Result<(), PeerFault> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(PeerFault::TooLong);
        }
        let routes = self
            .shared
            .routes
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let route = routes.get(&to.node).filter(|route| route.inst == to);
        let route = route.ok_or(PeerFault::Absent)?;
        let outbox = match Track::of(class) {
            Track::Urgent => &route.urgent,
            Track::Bulk => &route.bulk,
        };
        let queued = outbox.push(class, frame);
        match queued {
            Ok(()) => connection::count("out", class),
            Err(PeerFault::Busy) => metrics::counter!("weft_peer_busy_total").increment(1),
            Err(PeerFault::Absent | PeerFault::TooLong) => {}
        }
        queued
    }

    fn gossip(&self, to: SocketAddr, datagram: Bytes) {
        let shared = &self.shared;
        let now = shared.clock.now().utc;
        let sealed = shared.sealer.seal(&shared.keys(), &datagram, now);
        let out = shared.out.read().unwrap_or_else(PoisonError::into_inner);
        let sent = sealed.zip(out.as_ref());
        if sent.is_none_or(|(sealed, out)| out.send_to(&sealed, to).is_err()) {
            shared.counts.drop_datagram(Dropped::Unsent);
        }
    }
}

type Sockets = (TcpListener, UdpSocket, std::net::UdpSocket, SocketAddr);

/// Binds one port for both; must be called inside the runtime.
fn sockets(listen: SocketAddr) -> Result<Sockets, BindError> {
    let mut tries = if listen.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        let refused = |what: &'static str| {
            move |error: std::io::Error| BindError {
                what,
                address: listen,
                why: error.to_string(),
            }
        };
        let listener = tcp::bind(listen).map_err(refused("tcp"))?;
        let local = listener.local_addr().map_err(refused("tcp"))?;
        let datagrams = std::net::UdpSocket::bind(local).and_then(|socket| {
            socket.set_nonblocking(true)?;
            let out = socket.try_clone()?;
            Ok((UdpSocket::from_std(socket)?, out))
        });
        tries -= 1;
        match datagrams {
            Ok((datagrams, out)) => return Ok((listener, datagrams, out, local)),
            Err(error) if tries == 0 => return Err(refused("udp")(error)),
            Err(_) => {}
        }
    }
}
