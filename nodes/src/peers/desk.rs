//! The one task that decides about connections: whom to dial, which of two connections counts, when
//! a node is connected and when it is lost.
//!
//! | of a node | event | what happens | then |
//! |---|---|---|---|
//! | idle | wanted, time to dial | dial | idle |
//! | idle | met by dialling, nobody arriving | greet, dial the second connection | dialling |
//! | dialling | pair made | `connected` | up |
//! | dialling | no pair | back off | idle |
//! | dialling | its pair arrives, its number is lower | our dialling is given up, `connected` | up |
//! | dialling | it arrives, our number is lower | closed | dialling |
//! | idle | its pair arrives | welcome, `connected` | up |
//! | up | its new pair arrives | `lost(Closed)`, `connected` | up |
//! | up | silence | `lost(Silent)` | idle |
//! | up | reset or end without a word | probe | idle, doubted |
//! | up | one closed in order | nothing more goes out; the other may still bring something | up |
//! | up | both closed in order, or rules broken | `lost(Closed)` | idle |
//! | doubted | probe answered | `lost(Refused, Silent or Closed)` | idle |
//! | any | a newer life arrives or is met | the older one ends as `lost(Closed)` | idle |
//!
//! The node with the lower number dials; the other one only if nothing has come for a second. All
//! work is done by tasks that end in one event each, and go with the desk.
//!
//! In: what `TcpPeers` was asked, connections, events of tasks. Out: `connected` and `lost`, tasks.

mod links;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use contract::limits::{
    NODES_MAX, PEER_GREETS_MAX, PEER_UNPROVEN_MAX, PEER_UNPROVEN_PER_ADDRESS_MAX,
};
use contract::{Entropy, Loss, NodeId, NodeInst, Peer, PeerSink, Time};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::Shared;
use super::connection::Ended;
use super::entry::{Arriving, Entry, PATIENCE, Standing};
use super::gossip;
use super::handshake::{self, Met, Pair};
use super::refusal::{Complaints, Refusal};
use super::wire::{Hello, Track};
use crate::env_os::random;
use crate::net::tcp;

/// Age up to which a connection stays although nobody has asked to keep it: a node that greets us is
/// known to membership a little later.
const GRACE: Duration = Duration::from_secs(5);
/// Longest sleep without anything to wait for.
const REST: Duration = Duration::from_secs(60);

/// What a task has to say at its end.
enum Event {
    /// Somebody proved itself and greeted, or did not.
    Received(u64, SocketAddr, Result<Met, Refusal>),
    /// Somebody was met by dialling, or not.
    Met(Aim, Result<Met, Refusal>),
    /// A pair of connections was made, or not.
    Joined(NodeId, u64, SocketAddr, Result<Box<Pair>, Refusal>),
    /// A connection of a pair ended.
    Ended(NodeId, u64, Ended),
    /// It is known what became of a node.
    Probed(Peer, Loss),
}

/// Why an address is dialled.
#[derive(Clone, Copy, Debug)]
enum Aim {
    /// Whoever is there.
    Greet(SocketAddr),
    /// This node.
    Keep(Peer),
}

/// A connection that has not proven itself yet.
struct Unproven {
    number: u64,
    address: IpAddr,
    task: AbortHandle,
}

/// The deciding task.
pub(super) struct Desk {
    // First, so that it goes first: who then dials is refused, not reset.
    listener: TcpListener,
    /// Until gossip is heard.
    datagrams: Option<UdpSocket>,
    shared: Arc<Shared>,
    handle: Handle,
    sink: Arc<dyn PeerSink>,
    entries: BTreeMap<NodeId, Entry>,
    /// The oldest first.
    unproven: Vec<Unproven>,
    greeting: BTreeSet<SocketAddr>,
    /// Whose task it is, with the number of the pair; 0 for one that only dials.
    owners: HashMap<Id, (NodeId, u64)>,
    received: u64,
    chance: Entropy,
    complaints: Complaints,
    tasks: JoinSet<Event>,
}

impl Desk {
    pub(super) fn new(
        shared: Arc<Shared>,
        (listener, datagrams): (TcpListener, UdpSocket),
        handle: Handle,
        sink: Arc<dyn PeerSink>,
    ) -> Self {
        Desk {
            listener,
            datagrams: Some(datagrams),
            shared,
            handle,
            sink,
            entries: BTreeMap::new(),
            unproven: Vec::new(),
            greeting: BTreeSet::new(),
            owners: HashMap::new(),
            received: 0,
            chance: Entropy::from_seed(random()),
            complaints: Complaints::default(),
            tasks: JoinSet::new(),
        }
    }

    /// Works until the node closes.
    pub(super) async fn run(mut self) {
        if let Some(datagrams) = self.datagrams.take() {
            let (shared, sink) = (Arc::clone(&self.shared), Arc::clone(&self.sink));
            self.spawn(None, async move {
                match gossip::hear(datagrams, shared, sink).await {}
            });
        }
        let shared = Arc::clone(&self.shared);
        loop {
            if shared.is_closing.load(std::sync::atomic::Ordering::Relaxed) {
                return self.finish().await;
            }
            self.obey();
            self.sweep();
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                () = shared.wake.notified() => {}
                () = shared.clock.sleep_until(deadline) => {}
                Some(done) = self.tasks.join_next_with_id() => self.done(done),
                (stream, remote) = tcp::next(&self.listener) => self.accept(stream, remote),
            }
        }
    }

    fn now(&self) -> Time {
        self.shared.clock.now().mono
    }

    fn spawn(
        &mut self,
        owner: Option<(NodeId, u64)>,
        work: impl Future<Output = Event> + Send + 'static,
    ) -> AbortHandle {
        let task = self.tasks.spawn_on(work, &self.handle);
        if let Some(owner) = owner {
            self.owners.insert(task.id(), owner);
        }
        task
    }

    fn refuse(&mut self, address: SocketAddr, why: Refusal) {
        self.shared.counts.refuse(why);
        let now = self.now();
        self.complaints.complain(address, why, now);
    }

    /// Takes up what was asked for.
    fn obey(&mut self) {
        let (keep, greets) = {
            let mut wanted = self.shared.wanted();
            (wanted.keep.take(), std::mem::take(&mut wanted.greets))
        };
        if let Some(peers) = keep {
            self.keep(&peers);
        }
        for address in greets {
            let is_up = self.entries.values().any(|entry| {
                entry
                    .link()
                    .is_some_and(|link| link.peer.address == address)
            });
            if !is_up && self.greeting.len() < PEER_GREETS_MAX && self.greeting.insert(address) {
                let work = dial(Arc::clone(&self.shared), Aim::Greet(address));
                self.spawn(None, work);
            }
        }
    }

    fn keep(&mut self, peers: &[Peer]) {
        let now = self.now();
        let me = self.shared.me.node;
        let former: BTreeSet<Peer> = self
            .entries
            .values_mut()
            .filter_map(|entry| entry.wanted.take())
            .collect();
        for peer in peers.iter().filter(|peer| peer.inst.node != me) {
            let node = peer.inst.node;
            self.shared.learn(peer.inst);
            let Some(entry) = self.entry(node) else {
                self.refuse(peer.address, Refusal::Full);
                continue;
            };
            entry.wanted = Some(*peer);
            if !former.contains(peer) {
                entry.dial_from(if me < node { now } else { now + PATIENCE });
            }
        }
        let nodes: Vec<NodeId> = self.entries.keys().copied().collect();
        for node in nodes {
            if let Some(entry) = self.entries.get_mut(&node)
                && !entry.may_stay(now, GRACE)
            {
                self.end_in_order(node);
            }
        }
        self.entries.retain(|_, entry| !entry.is_idle());
    }

    /// Returns the entry of a node; makes one if there is room.
    fn entry(&mut self, node: NodeId) -> Option<&mut Entry> {
        if !self.entries.contains_key(&node) && self.entries.len() >= NODES_MAX {
            self.entries.retain(|_, entry| !entry.is_idle());
            if self.entries.len() >= NODES_MAX {
                return None;
            }
        }
        Some(self.entries.entry(node).or_default())
    }

    /// Does what is due.
    fn sweep(&mut self) {
        let now = self.now();
        let mut due = Vec::new();
        for entry in self.entries.values_mut() {
            if entry
                .arriving
                .as_ref()
                .is_some_and(|some| some.until <= now)
            {
                entry.arriving = None;
            }
            if let Some((peer, at)) = entry.next_dial()
                && at <= now
            {
                entry.is_dialling = true;
                due.push(peer);
            }
        }
        for peer in due {
            let work = dial(Arc::clone(&self.shared), Aim::Keep(peer));
            self.spawn(Some((peer.inst.node, 0)), work);
        }
    }

    fn next_deadline(&self) -> Time {
        let deadlines = self.entries.values().flat_map(|entry| {
            let dial = entry.next_dial().map(|(_, at)| at);
            let arriving = entry.arriving.as_ref().map(|some| some.until);
            dial.into_iter().chain(arriving)
        });
        let rest = self.now() + REST;
        deadlines.fold(rest, Time::min)
    }

    /// Lets a connection try to prove itself. There are places for few: the oldest goes.
    fn accept(&mut self, stream: TcpStream, from: SocketAddr) {
        let address = from.ip().to_canonical();
        let same = |other: &Unproven| other.address == address;
        let of_address = self.unproven.iter().filter(|other| same(other)).count();
        let oldest = if of_address >= PEER_UNPROVEN_PER_ADDRESS_MAX {
            self.unproven.iter().position(same)
        } else if self.unproven.len() >= PEER_UNPROVEN_MAX {
            Some(0)
        } else {
            None
        };
        if let Some(at) = oldest {
            self.unproven.remove(at).task.abort();
            self.shared.counts.refuse(Refusal::Late);
        }
        self.received += 1;
        let number = self.received;
        let shared = Arc::clone(&self.shared);
        let task = self.spawn(None, async move {
            Event::Received(number, from, handshake::receive(&shared, stream).await)
        });
        self.unproven.push(Unproven {
            number,
            address,
            task,
        });
    }

    fn done(&mut self, done: Result<(Id, Event), JoinError>) {
        let event = match done {
            Ok((id, event)) => {
                self.owners.remove(&id);
                event
            }
            Err(error) => {
                let owner = self.owners.remove(&error.id());
                if error.is_panic() {
                    tracing::error!(%error, "a task of the transport has failed");
                    if let Some((node, _)) = owner {
                        self.give_up(node);
                    }
                }
                return;
            }
        };
        match event {
            Event::Received(number, from, met) => {
                self.unproven.retain(|other| other.number != number);
                let met = met.and_then(|met| self.judge(&met.hello, None).map(|()| met));
                if let Err(why) = met.and_then(|met| self.arrive(met)) {
                    self.refuse(from, why);
                }
            }
            Event::Met(aim, met) => self.met(aim, met),
            Event::Joined(node, link, address, pair) => self.joined(node, link, address, pair),
            Event::Ended(node, link, how) => self.ended(node, link, how),
            Event::Probed(peer, loss) => self.probed(peer, loss),
        }
    }

    /// After a failure of ours: as if nothing had been there.
    fn give_up(&mut self, node: NodeId) {
        self.end_now(node, Some(Loss::Closed));
        if let Some(entry) = self.entries.get_mut(&node) {
            entry.stop_dialling();
            let wait = entry.back_off(&mut self.chance);
            entry.dial_from(self.shared.clock.now().mono + wait);
        }
    }

    /// Decides whether somebody who has proven itself counts; a newer life ends the older one.
    fn judge(&mut self, hello: &Hello, expected: Option<NodeId>) -> Result<(), Refusal> {
        let inst = hello.inst;
        if expected.is_some_and(|expected| expected != inst.node) {
            return Err(Refusal::Other);
        }
        if inst.boot < self.shared.newest(inst.node) {
            return Err(Refusal::OldBoot);
        }
        let entry = self.entry(inst.node).ok_or(Refusal::Full)?;
        let is_older = |other: NodeInst| other.boot < inst.boot;
        if entry
            .arriving
            .as_ref()
            .is_some_and(|some| is_older(some.inst))
        {
            entry.arriving = None;
        }
        if let Standing::Dialling { inst, .. } = entry.standing
            && is_older(inst)
        {
            entry.stop_dialling();
        }
        if entry.link().is_some_and(|link| is_older(link.peer.inst)) {
            self.end_now(inst.node, Some(Loss::Closed));
        }
        self.shared.learn(inst);
        Ok(())
    }

    /// Takes a connection that somebody else has dialled; with the second one the pair is whole.
    fn arrive(&mut self, met: Met) -> Result<(), Refusal> {
        let Met { hello, proven } = met;
        let node = hello.inst.node;
        let until = self.now() + handshake::PROVE;
        let is_lower = self.shared.me.node < node;
        let entry = self.entry(node).ok_or(Refusal::Full)?;
        let is_dialling = matches!(entry.standing, Standing::Dialling { .. });
        let is_known = entry.link().is_some_and(|link| link.number == hello.link);
        if (is_dialling && is_lower) || is_known {
            return Err(Refusal::Duplicate);
        }
        let same = entry.arriving.take().filter(|some| some.link == hello.link);
        let mut arriving = same.unwrap_or(Arriving {
            inst: hello.inst,
            link: hello.link,
            urgent: None,
            bulk: None,
            until,
        });
        let place = match hello.track {
            Track::Urgent => &mut arriving.urgent,
            Track::Bulk => &mut arriving.bulk,
        };
        if place.is_some() {
            return Err(Refusal::Duplicate);
        }
        *place = Some(proven);
        match (arriving.urgent.take(), arriving.bulk.take()) {
            (Some(urgent), Some(bulk)) => {
                entry.stop_dialling();
                self.end_now(node, Some(Loss::Closed));
                let link = hello.link;
                let pair = Pair {
                    hello,
                    urgent,
                    bulk,
                };
                self.go_up(pair, link, true);
            }
            (urgent, bulk) => {
                arriving.urgent = urgent;
                arriving.bulk = bulk;
                entry.arriving = Some(arriving);
            }
        }
        Ok(())
    }

    /// Goes on with whom was met by dialling, unless it is connected or connecting.
    fn met(&mut self, aim: Aim, met: Result<Met, Refusal>) {
        let (address, expected) = match aim {
            Aim::Greet(address) => {
                self.greeting.remove(&address);
                (address, None)
            }
            Aim::Keep(peer) => {
                let Some(entry) = self.entries.get_mut(&peer.inst.node) else {
                    return;
                };
                entry.is_dialling = false;
                if entry.wanted.is_none() {
                    // Nobody wants it any more.
                    return;
                }
                (peer.address, Some(peer.inst.node))
            }
        };
        let met = met.and_then(|met| self.judge(&met.hello, expected).map(|()| met));
        match met {
            Ok(met) => self.claim(met, address),
            Err(why) => {
                self.refuse(address, why);
                if let Some(node) = expected {
                    self.dial_later(node);
                }
            }
        }
    }

    fn claim(&mut self, met: Met, address: SocketAddr) {
        let inst = met.hello.inst;
        let is_free = self.entries.get(&inst.node).is_some_and(|entry| {
            matches!(entry.standing, Standing::Idle) && entry.arriving.is_none()
        });
        if !is_free {
            return;
        }
        let link = self.chance.next_u64() | 1;
        let shared = Arc::clone(&self.shared);
        let task = self.spawn(Some((inst.node, link)), async move {
            let pair = handshake::join(&shared, met, link).await;
            Event::Joined(inst.node, link, address, pair.map(Box::new))
        });
        if let Some(entry) = self.entries.get_mut(&inst.node) {
            entry.standing = Standing::Dialling { inst, link, task };
        }
    }

    fn dial_later(&mut self, node: NodeId) {
        let now = self.now();
        if let Some(entry) = self.entries.get_mut(&node) {
            let wait = entry.back_off(&mut self.chance);
            entry.dial_from(now + wait);
        }
    }

    fn joined(
        &mut self,
        node: NodeId,
        number: u64,
        address: SocketAddr,
        pair: Result<Box<Pair>, Refusal>,
    ) {
        let Some(entry) = self.entries.get_mut(&node) else {
            return;
        };
        let is_current =
            matches!(entry.standing, Standing::Dialling { link, .. } if link == number);
        if !is_current {
            return;
        }
        entry.standing = Standing::Idle;
        match pair {
            Ok(pair) => self.go_up(*pair, number, false),
            Err(why) => {
                self.refuse(address, why);
                self.dial_later(node);
            }
        }
    }
}

async fn dial(shared: Arc<Shared>, aim: Aim) -> Event {
    let address = match aim {
        Aim::Greet(address) => address,
        Aim::Keep(peer) => peer.address,
    };
    Event::Met(aim, handshake::dial(&shared, address).await)
}
