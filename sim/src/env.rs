//! The simulator's `Env`: one life of one node in the world.
//!
//! In: calls of the node. Out: happenings in the world. After a crash the handle is dead: nothing
//! that the old life still tries has any effect.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use contract::env::{Env, Store};
use contract::{
    BindError, CloseCode, Entropy, FlowRef, ListenerId, MediaPlane, NetSink, NodeId, NodeInst, Now,
    Peer, Peers, StreamKind, Time, Work,
};

use crate::media::SimMedia;
use crate::mesh::{SimPeers, Stall};
use crate::store::{Handle, SimStore};
use crate::stream::Far;
use crate::world::{Endpoint, World};

/// One life of one node.
pub struct SimEnv {
    world: Arc<World>,
    node: NodeId,
    store: Arc<Handle>,
    media: Arc<SimMedia>,
    peers: Option<Arc<SimPeers>>,
    seed: [u8; 32],
    alive: Arc<AtomicBool>,
    stall: Arc<Stall>,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    sockets: BTreeMap<ListenerId, SocketAddr>,
    bound: Vec<SocketAddr>,
    tasks: Vec<tokio::task::AbortHandle>,
}

impl std::fmt::Debug for SimEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimEnv({})", self.node)
    }
}

impl SimEnv {
    /// Begins a life; `address` is where the other nodes reach it, if there are any.
    #[must_use]
    pub fn begin(
        world: &Arc<World>,
        node: NodeId,
        disk: &Arc<SimStore>,
        address: Option<SocketAddr>,
    ) -> Arc<SimEnv> {
        disk.start();
        let mut seed = [0; 32];
        let drawn = world.state().chance.next_u64();
        seed[..8].copy_from_slice(&drawn.to_le_bytes());
        let alive = Arc::new(AtomicBool::new(true));
        let stall = Arc::new(Stall::default());
        let store = Handle::open(disk);
        let boot = store.boot();
        let inst = NodeInst { node, boot };
        let peers =
            address.map(|address| SimPeers::begin(world, Peer { inst, address }, &alive, &stall));
        Arc::new(SimEnv {
            world: Arc::clone(world),
            node,
            store,
            media: SimMedia::new(world, &alive),
            seed: life_seed(seed),
            peers,
            alive,
            stall,
            inside: Mutex::default(),
        })
    }

    /// Ends the life as a crash does: sockets vanish, tasks stop where they are.
    pub fn crash(&self) {
        self.alive.store(false, Ordering::Relaxed);
        let inside = std::mem::take(&mut *self.inside());
        for address in inside.bound {
            self.world.detach(address);
        }
        self.world.wires().crash(&self.world, self.node);
        if let Some(peers) = &self.peers {
            peers.crash();
        }
        self.media.crash();
        for task in inside.tasks {
            task.abort();
        }
    }

    /// Returns the media plane, for checkers.
    #[must_use]
    pub fn media_model(&self) -> &Arc<SimMedia> {
        &self.media
    }

    /// Returns what it sees of other nodes, for checkers.
    #[must_use]
    pub fn peers_model(&self) -> Option<&Arc<SimPeers>> {
        self.peers.as_ref()
    }

    /// Lets nothing happen in the process until a time.
    pub fn stall(&self, until: Time) {
        self.stall.stall(until);
    }

    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.inside
            .lock()
            .expect("no holder of a life's lock panics")
    }

    fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }
}

/// What is at a bound UDP address.
struct Socket {
    listener: ListenerId,
    sink: Arc<dyn NetSink>,
    alive: Arc<AtomicBool>,
    stall: Arc<Stall>,
}

impl Endpoint for Socket {
    fn datagram(&self, world: &Arc<World>, from: SocketAddr, _to: SocketAddr, bytes: Bytes) {
        let (listener, sink, alive) = (
            self.listener,
            Arc::clone(&self.sink),
            Arc::clone(&self.alive),
        );
        let take = move |world: &Arc<World>| {
            if alive.load(Ordering::Relaxed) {
                world.trace("received", &bytes);
                note_bye(world, &bytes);
                sink.datagram(listener, from, bytes);
            }
        };
        self.stall.when_awake(world, Box::new(take));
    }
}

fn note_bye(world: &World, bytes: &Bytes) {
    if !bytes.starts_with(b"BYE ") {
        return;
    }
    let message = sip::Message::read(bytes.clone());
    if let Some(call_id) = message.as_ref().ok().and_then(|bye| bye.call_id().ok()) {
        let mut state = world.state();
        *state.byes.entry(call_id.to_owned()).or_default() += 1;
    }
}

impl Env for SimEnv {
    fn now(&self) -> Now {
        self.world.now()
    }

    fn sleep_until(&self, at: Time) -> Work {
        let (wake, woken) = tokio::sync::oneshot::channel();
        let stall = Arc::clone(&self.stall);
        let wake_up = move |world: &Arc<World>| {
            let wake_up = move |_: &Arc<World>| {
                // The sleeper may be gone: then nobody is woken.
                let _ = wake.send(());
            };
            stall.when_awake(world, Box::new(wake_up));
        };
        self.world.schedule_at(at, Box::new(wake_up));
        Box::pin(async move {
            let _ = woken.await;
        })
    }

    #[allow(clippy::disallowed_methods, reason = "this is Env::spawn")]
    fn spawn(&self, _name: &'static str, work: Work) {
        if self.is_alive() {
            let task = tokio::spawn(work).abort_handle();
            let mut inside = self.inside();
            inside.tasks.retain(|task| !task.is_finished());
            inside.tasks.push(task);
        }
    }

    fn seed(&self) -> [u8; 32] {
        self.seed
    }

    fn bind_datagram(
        &self,
        listener: ListenerId,
        local: SocketAddr,
        sink: Arc<dyn NetSink>,
    ) -> Result<SocketAddr, BindError> {
        if self.world.is_taken(local) {
            return Err(BindError {
                what: "udp",
                address: local,
                why: "address in use".to_owned(),
            });
        }
        let socket = Socket {
            listener,
            sink,
            alive: Arc::clone(&self.alive),
            stall: Arc::clone(&self.stall),
        };
        self.world.attach(local, Arc::new(socket));
        let mut inside = self.inside();
        inside.sockets.insert(listener, local);
        inside.bound.push(local);
        Ok(local)
    }

    fn bind_stream(
        &self,
        listener: ListenerId,
        local: SocketAddr,
        _kind: StreamKind,
        sink: Arc<dyn NetSink>,
    ) -> Result<SocketAddr, BindError> {
        let life = (Arc::clone(&self.alive), Arc::clone(&self.stall));
        crate::stream::listen(&self.world, local, listener, sink, life);
        Ok(local)
    }

    fn connect(&self, flow: FlowRef, sink: Arc<dyn NetSink>) {
        // Simulated phones take no connections: the attempt is refused, as behind a NAT.
        let alive = Arc::clone(&self.alive);
        self.world.schedule(
            Duration::from_millis(1),
            Box::new(move |_| {
                if alive.load(Ordering::Relaxed) {
                    sink.closed(&flow, "connection refused".to_owned());
                }
            }),
        );
    }

    fn send(&self, flow: &FlowRef, bytes: Bytes) {
        if !self.is_alive() {
            return;
        }
        match flow {
            FlowRef::Datagram { listener, remote } => {
                let local = self.inside().sockets.get(listener).copied();
                if let Some(local) = local {
                    self.world.send(local, *remote, bytes);
                }
            }
            FlowRef::Stream { .. } => match self.world.wires().find(flow) {
                Some(wire) => wire.to_phone(&self.world, bytes),
                None => self.world.count("octets to a connection that is gone"),
            },
        }
    }

    fn close(&self, flow: &FlowRef, _code: CloseCode, _why: &'static str) {
        if let Some(wire) = self.world.wires().find(flow) {
            wire.close(&self.world, Far::Node);
        }
    }

    fn resolve(&self, name: String, done: Box<dyn FnOnce(Result<Vec<IpAddr>, String>) + Send>) {
        let alive = Arc::clone(&self.alive);
        self.world.schedule(
            Duration::from_millis(5),
            Box::new(move |_| {
                if alive.load(Ordering::Relaxed) {
                    let found = name.parse().map(|address| vec![address]);
                    done(found.map_err(|_| format!("no address for {name}")));
                }
            }),
        );
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as Arc<dyn Store>
    }

    fn peers(&self) -> Option<Arc<dyn Peers>> {
        let peers = self.peers.clone()?;
        Some(peers)
    }

    fn media(&self) -> Arc<dyn MediaPlane> {
        Arc::clone(&self.media) as Arc<dyn MediaPlane>
    }
}

/// Spreads the 64 bits drawn for a life over a whole seed.
fn life_seed(drawn: [u8; 32]) -> [u8; 32] {
    let mut generator = Entropy::from_seed(drawn).split("life");
    let mut seed = [0; 32];
    for part in seed.chunks_exact_mut(8) {
        part.copy_from_slice(&generator.next_u64().to_le_bytes());
    }
    seed
}
