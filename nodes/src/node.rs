//! One node: the fabric, wired to its world.
//!
//! In: an `Env`, a `Site`, keys. Out: a running [`Node`]. Generic over the cores, so the simulator
//! starts the same wiring over its own `Env`, and with cores that panic on order. What actions do is
//! in `perform.rs`, where events come from in `sockets.rs`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actors::console::Request;
use actors::site::{CommitMode, Listener};
use actors::{Message, Site, console, member};
use cluster::{CallLog, Cursor, Seen};
use contract::env::{BindError, Env, NetSink, Work};
use contract::{
    ActorId, CallKey, Event, FaultClass, Kind, ListenerId, LogEvent, NodeInst, Roster,
    SchemaVersion, Space, StreamKind, Time,
};
use runtime::{Balance, Delivery, Fabric, Parts, StartError};
use tokio::sync::{Notify, watch};

use crate::overload::{self, Overload};

pub use crate::addresses::AddressPlan;
use crate::addresses::Addresses;
use crate::config::Network;
use crate::doors::{ConsoleDoor, EventDoor, Tickets};
use crate::perform::Performer;
use crate::sockets::Sockets;
use crate::telemetry;

/// How often room on disk is looked at.
const HEALTH_PERIOD: Duration = Duration::from_secs(1);
/// Time in which the other nodes are told that this one leaves.
const LEAVE: Duration = Duration::from_millis(50);
/// How often a drain looks whether the last call has ended.
const DRAIN_PERIOD: Duration = Duration::from_millis(50);
/// How often it looks whether somebody is there again who takes what is left.
const WITHDRAW_PERIOD: Duration = Duration::from_secs(1);

/// What a node is put together from.
pub struct NodeParts {
    /// The world outside.
    pub env: Arc<dyn Env>,
    /// The configuration; addresses of listeners are those wanted, port 0 for any.
    pub site: Site,
    /// For each listener the networks that may send to it; empty: all. Missing ones: all.
    pub acl: Vec<Vec<Network>>,
    /// This life of the node.
    pub me: NodeInst,
    /// Version of the program.
    pub version: String,
    /// Requests of the HTTP door that wait for the console.
    pub tickets: Arc<Tickets>,
    /// When registrations are moved to where placement wants them; `None`: never.
    pub balance: Option<Balance>,
    /// Floating addresses of the cluster.
    pub addresses: BTreeMap<IpAddr, AddressPlan>,
}

impl std::fmt::Debug for NodeParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeParts")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A listener could not be bound.
    #[error("listener {}: {source}", listener.0)]
    Bind {
        /// Which, in the order of the site.
        listener: ListenerId,
        /// What the system said.
        source: BindError,
    },
    /// The fabric could not read its records.
    #[error("starting the fabric: {0}")]
    Fabric(StartError),
    /// A lane or the console could not be started.
    #[error("starting {id}")]
    System {
        /// Which.
        id: ActorId,
    },
}

impl NodeError {
    /// Tells whose fault it is.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        match self {
            NodeError::Bind { .. } => FaultClass::Config,
            NodeError::Fabric(_) => FaultClass::Transient,
            NodeError::System { .. } => FaultClass::Bug,
        }
    }
}

/// A running node.
pub struct Node<R: Roster> {
    fabric: Fabric<R>,
    env: Arc<dyn Env>,
    console: ActorId,
    listeners: Vec<SocketAddr>,
    sockets: Arc<Sockets<R>>,
    state: Arc<State>,
}

/// What the health task and the node share.
#[derive(Debug)]
struct State {
    is_draining: AtomicBool,
    is_over: AtomicBool,
    is_poisoned: AtomicBool,
    is_ample: AtomicBool,
    /// Schema that was written when it was looked at last.
    schema: AtomicU16,
    poisoned: Notify,
}

impl State {
    fn new() -> Self {
        State {
            is_draining: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            is_poisoned: AtomicBool::new(false),
            is_ample: AtomicBool::new(true),
            schema: AtomicU16::new(0),
            poisoned: Notify::new(),
        }
    }
}

impl<R: Roster> std::fmt::Debug for Node<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("console", &self.console)
            .finish_non_exhaustive()
    }
}

impl<R> Node<R>
where
    R: Roster<Message = Message, Site = Site>,
{
    /// Binds the listeners, starts the fabric with its lanes and console, and lets events in.
    ///
    /// Call it from inside a tokio runtime.
    ///
    /// # Errors
    /// If a listener cannot be bound or the records cannot be read.
    pub async fn start(parts: NodeParts) -> Result<Arc<Node<R>>, NodeError> {
        let NodeParts {
            env,
            mut site,
            acl,
            me,
            version,
            tickets,
            balance,
            addresses,
        } = parts;
        let addresses = Arc::new(Addresses::new(Arc::clone(&env), addresses));
        addresses.release_all(&site.name).await;
        let sockets = Arc::new(Sockets::<R>::new(me, acl));
        let listeners = bind(env.as_ref(), &mut site, &sockets)?;
        let names = names(&site);
        let lanes = site.lanes;
        let media = env.media();
        let sink: Arc<dyn NetSink> = sockets.clone();
        let performer = Performer {
            env: Arc::clone(&env),
            media: Arc::clone(&media),
            peers: env.peers(),
            tickets,
            sink: Arc::new(OnceLock::from(sink)),
            addresses,
        };
        media.attach(sockets.clone());
        let is_alone = site.cluster.is_none();
        let shared = site.cluster.as_ref();
        let holders = shared.map_or(1, |cluster| cluster.replicas);
        let commit = shared.map_or(CommitMode::Available, |cluster| cluster.commit);
        let schema = shared.map_or(SchemaVersion::NEWEST, |cluster| cluster.schema);
        let fabric = Fabric::start(Parts {
            env: Arc::clone(&env),
            ids: site.ids.clone(),
            name: site.name.clone(),
            site: Arc::new(site),
            me,
            version,
            performer: Arc::new(performer),
            holders,
            commit,
            schema,
        })
        .await
        .map_err(NodeError::Fabric)?;
        fabric.set_listeners(names);
        start_systems(&fabric, me, lanes, is_alone)?;
        let node = Arc::new(Node {
            fabric: fabric.clone(),
            env,
            console: ActorId::Console(me.node),
            listeners,
            sockets: Arc::clone(&sockets),
            state: Arc::new(State::new()),
        });
        node.look_after();
        if let Some(rule) = balance {
            let fabric = fabric.clone();
            let work: Work = Box::pin(async move { fabric.balance(rule).await });
            node.env.spawn("balance", work);
        }
        sockets.open(fabric, Arc::clone(&node.env));
        if let Some(peers) = node.env.peers() {
            peers.attach(sockets);
        }
        Ok(node)
    }

    /// Returns the fabric.
    #[must_use]
    pub const fn fabric(&self) -> &Fabric<R> {
        &self.fabric
    }

    /// Returns the addresses the listeners got, in the order of the site.
    #[must_use]
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.listeners
    }

    /// Looks at room on disk now and for ever, and tells the fabric.
    fn look_after(&self) {
        let (env, fabric, state) = (
            Arc::clone(&self.env),
            self.fabric.clone(),
            Arc::clone(&self.state),
        );
        look(env.as_ref(), &fabric, &state);
        let clock = Arc::clone(&self.env);
        let work: Work = Box::pin(async move {
            while !state.is_over.load(Ordering::Acquire) {
                env.sleep_until(env.now().mono + HEALTH_PERIOD).await;
                look(env.as_ref(), &fabric, &state);
            }
        });
        clock.spawn("health", work);
        let (env, fabric, state) = (
            Arc::clone(&self.env),
            self.fabric.clone(),
            Arc::clone(&self.state),
        );
        let work: Work = Box::pin(async move { measure(env.as_ref(), &fabric, &state).await });
        clock.spawn("overload", work);
    }

    /// Ends when the store is poisoned; the node takes no new work from then on.
    pub async fn poisoned(&self) {
        while !self.state.is_poisoned.load(Ordering::Acquire) {
            self.state.poisoned.notified().await;
        }
    }

    /// Waits until an operator wants this node drained; returns how long that may take.
    pub async fn drain_wished(&self) -> Duration {
        self.fabric.drain_wished().await
    }

    /// Takes no new work and hands all that can move over to the other nodes (`cluster.md` §6);
    /// waits for calls that nobody takes, until `patience` is over. [`Node::drain`] is to follow.
    pub async fn withdraw(&self, patience: Duration) {
        let until = self.env.now().mono + patience;
        self.state.is_draining.store(true, Ordering::Release);
        self.tell_member(member::Message::Drain);
        look(self.env.as_ref(), &self.fabric, &self.state);
        loop {
            let left = self.fabric.move_away(until).await;
            let now = self.env.now().mono;
            tracing::info!(left, "what could move has moved");
            if left == 0 || self.fabric.live(Kind::Call) == 0 || now >= until {
                return self.fall_silent(until).await;
            }
            self.env.sleep_until(now + WITHDRAW_PERIOD).await;
        }
    }

    /// Waits until no call that has moved sends its sound here any more: 4 s at least, `LINGER_S_MAX` at
    /// most.
    async fn fall_silent(&self, until: Time) {
        let media = self.env.media();
        // The last commands may not have been carried out yet.
        self.env.sleep_until(self.env.now().mono + LEAVE).await;
        while media.lingering() > 0 && self.env.now().mono < until {
            self.env
                .sleep_until(self.env.now().mono + DRAIN_PERIOD)
                .await;
        }
    }

    /// Takes no new work, waits until the last call has ended or `patience` is over, and ends all
    /// actors. Calls that have not ended are brought back by the next start.
    pub async fn drain(&self, patience: Duration) {
        self.state.is_draining.store(true, Ordering::Release);
        self.tell_member(member::Message::Drain);
        look(self.env.as_ref(), &self.fabric, &self.state);
        let end = self.env.now().mono + patience;
        while self.fabric.live(Kind::Call) > 0 && self.env.now().mono < end {
            self.env
                .sleep_until(self.env.now().mono + DRAIN_PERIOD)
                .await;
        }
        self.state.is_over.store(true, Ordering::Release);
        // The others close their connections with a node that has left.
        self.fabric.close_events();
        if self.tell_member(member::Message::Leave) {
            // Nothing goes out any more once the fabric ends: the others are told first.
            let told = self.env.now().mono + LEAVE;
            self.env.sleep_until(told).await;
        }
        self.fabric.shutdown().await;
        self.sockets.shut();
    }

    /// Tells the node's own member actor; false if there is none: the node is alone.
    fn tell_member(&self, message: member::Message) -> bool {
        let member = ActorId::Member(self.fabric.me().node);
        let from = member.clone();
        let message = message.into();
        let event = Event::Message { from, message };
        self.fabric.deliver(&member, event) == Delivery::Accepted
    }

    /// Ends at once, as a crash would (the simulator).
    pub fn kill(&self) {
        self.state.is_over.store(true, Ordering::Release);
        self.fabric.kill();
        self.sockets.shut();
    }
}

impl<R> ConsoleDoor for Node<R>
where
    R: Roster<Message = Message, Site = Site>,
{
    fn ask(&self, ticket: u64, request: Request) -> bool {
        let message = Message::Console(console::Message::Request { ticket, request });
        let event = Event::Message {
            from: self.console.clone(),
            message,
        };
        match self.fabric.deliver(&self.console, event) {
            Delivery::Accepted => true,
            Delivery::Busy | Delivery::Absent => false,
        }
    }
}

impl<R> EventDoor for Node<R>
where
    R: Roster<Message = Message, Site = Site>,
{
    fn end(&self) -> Cursor {
        self.fabric.events_end()
    }

    fn read(&self, cursor: &mut Cursor, wants: &mut dyn FnMut(&LogEvent) -> bool) -> Seen {
        self.fabric.read_events(cursor, wants)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.fabric.events_changed()
    }

    fn of_call(&self, call: CallKey) -> CallLog {
        self.fabric.events_of(call)
    }
}

/// Binds every listener of the site and writes the address it got into it.
fn bind<R>(
    env: &dyn Env,
    site: &mut Site,
    sockets: &Arc<Sockets<R>>,
) -> Result<Vec<SocketAddr>, NodeError>
where
    R: Roster<Message = Message, Site = Site>,
{
    let mut bound = Vec::with_capacity(site.listeners.len());
    for (number, listener) in (0..).zip(&mut site.listeners) {
        let id = ListenerId(number);
        if listener.floating.is_some() {
            // Bound when it comes here.
            bound.push(listener.local);
            continue;
        }
        let sink: Arc<dyn NetSink> = sockets.clone();
        let got = bind_one(env, id, listener, sink).map_err(|source| NodeError::Bind {
            listener: id,
            source,
        })?;
        listener.local = got;
        if listener.advertise.port() == 0 {
            listener.advertise.set_port(got.port());
        }
        bound.push(got);
    }
    Ok(bound)
}

/// Binds one listener; returns the address it got.
pub(crate) fn bind_one(
    env: &dyn Env,
    id: ListenerId,
    listener: &Listener,
    sink: Arc<dyn NetSink>,
) -> Result<SocketAddr, BindError> {
    let kind = match listener.transport {
        rsip::Transport::Udp => return env.bind_datagram(id, listener.local, sink),
        rsip::Transport::Tls | rsip::Transport::TlsSctp => StreamKind::Tls,
        rsip::Transport::Ws => StreamKind::Ws,
        rsip::Transport::Wss => StreamKind::Wss,
        rsip::Transport::Tcp | rsip::Transport::Sctp => StreamKind::Tcp,
    };
    env.bind_stream(id, listener.local, kind, sink)
}

fn names(site: &Site) -> Vec<String> {
    let name = |listener: &actors::site::Listener| {
        let transport = listener.transport.to_string().to_ascii_lowercase();
        format!("{transport} {}", listener.local)
    };
    site.listeners.iter().map(name).collect()
}

fn start_systems<R>(
    fabric: &Fabric<R>,
    me: NodeInst,
    lanes: u16,
    is_alone: bool,
) -> Result<(), NodeError>
where
    R: Roster<Message = Message, Site = Site>,
{
    let lanes = (0..lanes.max(1)).map(|number| ActorId::Lane(me.node, number));
    let member = (!is_alone).then_some(ActorId::Member(me.node));
    for id in lanes.chain([ActorId::Console(me.node)]).chain(member) {
        if !fabric.start_system(id.clone()) {
            return Err(NodeError::System { id });
        }
    }
    Ok(())
}

/// Looks at how late this node's own timer is and what waits in its lanes, and sheds new work while
/// that is too much.
async fn measure<R>(env: &dyn Env, fabric: &Fabric<R>, state: &State)
where
    R: Roster<Message = Message, Site = Site>,
{
    let (mut overload, mut was_over) = (Overload::default(), false);
    while !state.is_over.load(Ordering::Acquire) {
        let due = env.now().mono + overload::LOOK;
        env.sleep_until(due).await;
        let late = env.now().mono.since(due);
        let waiting = fabric.waiting(Kind::Lane);
        let is_over = overload.take(late, waiting);
        telemetry::load(late, waiting, is_over);
        if is_over != was_over {
            was_over = is_over;
            fabric.set_overloaded(is_over);
            if is_over {
                tracing::warn!(?late, waiting, "overloaded: new work is shed");
            } else {
                tracing::info!("no longer overloaded");
            }
        }
    }
}

fn look<R>(env: &dyn Env, fabric: &Fabric<R>, state: &State)
where
    R: Roster<Message = Message, Site = Site>,
{
    let store = env.store();
    let (space, free_bytes) = store.space();
    let is_over = store.is_poisoned() || fabric.is_superseded();
    if is_over && !state.is_poisoned.swap(true, Ordering::AcqRel) {
        state.is_draining.store(true, Ordering::Release);
        state.poisoned.notify_one();
    }
    if env.peers().is_none() && store.is_quarantined() {
        tracing::error!("records are lost: this node is alone; it goes on with what is left");
        store.lift_quarantine();
    }
    let is_ample = space == Space::Ample;
    if state.is_ample.swap(is_ample, Ordering::AcqRel) && !is_ample {
        tracing::warn!(?space, free_bytes, "little room on disk");
    }
    fabric.set_health(space, state.is_draining.load(Ordering::Acquire));
    let live: Vec<_> = Kind::ALL
        .into_iter()
        .map(|kind| (kind, fabric.live(kind)))
        .collect();
    let schema = fabric.spoken();
    if state.schema.swap(schema.0, Ordering::AcqRel) != schema.0 {
        tracing::info!(%schema, "records and frames are written in this schema");
    }
    telemetry::gauges(&live, free_bytes, schema);
}
