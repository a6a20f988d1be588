//! The other nodes of the cluster: messages to and from their actors, octets for their sockets.
//!
//! In: the view of gossip, frames of proven members, messages for actors whose home is elsewhere.
//! Out: frames, events in inboxes. What cannot be delivered comes back to its sender over any
//! distance. A node that is alone has none of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use cluster::{Frame, Spoken, home};
use contract::core::{Event, Roster, Undelivered};
use contract::limits::NODES_MAX;
use contract::{
    ActorId, FlowRef, FrameClass, Member, NodeId, NodeInst, PeerFault, Peers, SchemaVersion,
};

use crate::entry::Delivery;
use crate::fabric::Fabric;
use crate::replicas::{Input, Parcel};

/// Time after its start in which a node has found the others, if they are there.
pub(crate) const FIRST_VIEW: Duration = Duration::from_secs(5);

/// What a node knows of the others.
pub(crate) struct Mesh {
    peers: Option<Arc<dyn Peers>>,
    members: RwLock<BTreeMap<NodeId, Member>>,
    /// Nodes that a connection is there with, also before gossip knows them, and the newest schema that
    /// their programs read, as they have said when they connected.
    connected: RwLock<BTreeMap<NodeId, (NodeInst, SchemaVersion)>>,
    /// What the latest life of a node has said that it takes: a life's word stays as it is, also
    /// while gossip thinks it gone.
    taken: RwLock<BTreeMap<NodeId, (NodeInst, SchemaVersion)>>,
    /// What is written so that all of them read it.
    spoken: RwLock<Spoken>,
    /// A later start of this node runs elsewhere.
    is_superseded: AtomicBool,
}

impl Mesh {
    pub(crate) fn new(peers: Option<Arc<dyn Peers>>, spoken: Spoken) -> Self {
        Mesh {
            peers,
            members: RwLock::new(BTreeMap::new()),
            connected: RwLock::new(BTreeMap::new()),
            taken: RwLock::new(BTreeMap::new()),
            spoken: RwLock::new(spoken),
            is_superseded: AtomicBool::new(false),
        }
    }

    /// Returns the life of a node that frames can go to.
    pub(crate) fn life(&self, node: NodeId) -> Option<NodeInst> {
        let connected = self.connected.read();
        connected
            .expect("no holder of the connections panics")
            .get(&node)
            .map(|(life, _)| *life)
    }

    /// Returns the lives that frames can go to.
    pub(crate) fn lives(&self) -> Vec<NodeInst> {
        let connected = self.connected.read();
        let connected = connected.expect("no holder of the connections panics");
        connected.values().map(|(life, _)| *life).collect()
    }
}

impl Mesh {
    /// Returns a member as gossip sees it.
    pub(crate) fn member(&self, node: NodeId) -> Option<Member> {
        let members = self.members.read();
        let members = members.expect("no holder of the view panics");
        members.get(&node).cloned()
    }
}

impl Mesh {
    /// Returns what a life of a node takes, if it has said so.
    fn takes(&self, life: NodeInst) -> Option<SchemaVersion> {
        let taken = self.taken.read().expect("no holder of the words panics");
        let (inst, schema) = taken.get(&life.node)?;
        (*inst == life).then_some(*schema)
    }

    /// Returns what the program of a life reads that is connected.
    fn reads(&self, life: NodeInst) -> Option<SchemaVersion> {
        let connected = self.connected.read();
        let connected = connected.expect("no holder of the connections panics");
        let (inst, schema) = connected.get(&life.node)?;
        (*inst == life).then_some(*schema)
    }

    fn note_schemas(&self, members: &[Member]) {
        let mut taken = self.taken.write().expect("no holder of the words panics");
        // What is assumed of a life that gossip has only found is no word of it.
        for member in members.iter().filter(|member| member.is_heard()) {
            let inst = member.peer.inst;
            taken.insert(inst.node, (inst, member.schema));
        }
        // Above the bound those who are out of the view have to say it again.
        let seen = |node: &NodeId| members.iter().any(|member| member.peer.inst.node == *node);
        if taken.len() > NODES_MAX {
            taken.retain(|node, _| seen(node));
        }
    }
}

impl<R: Roster> Fabric<R> {
    /// Returns the schema of all that is stored now: every node of the view reads it.
    ///
    /// # Panics
    /// If a holder of it panicked.
    #[must_use]
    pub fn spoken(&self) -> SchemaVersion {
        let spoken = self.inner.mesh.spoken.read();
        let spoken = spoken.expect("no holder of the schema panics");
        spoken.at(self.now().mono)
    }

    /// Takes that a record of that schema is here: whoever does not read it is not let in any more.
    pub(crate) fn has_record_of(&self, schema: SchemaVersion) {
        let mesh = &self.inner.mesh;
        let held = |spoken: &Spoken| spoken.held() >= schema;
        if held(&mesh.spoken.read().expect("no holder of the schema panics")) {
            return;
        }
        let is_newer = {
            let mut spoken = mesh.spoken.write().expect("no holder of the schema panics");
            spoken.holds(schema)
        };
        if let Some(peers) = mesh.peers.as_ref().filter(|_| is_newer) {
            tracing::info!(%schema, "records of this schema are here");
            peers.require(schema);
        }
    }

    /// Looks again at what the others read.
    fn look_at_schemas(&self) {
        let mesh = &self.inner.mesh;
        let me = self.me().node;
        let members = mesh.members.read().expect("no holder of the view panics");
        let others = members
            .values()
            .filter(|member| member.peer.inst.node != me);
        let others: Vec<_> = others.map(|member| member.schema).collect();
        let connected = mesh.connected.read();
        let connected = connected.expect("no holder of the connections panics");
        let lives = connected.values().map(|(life, _)| life);
        let away = lives.filter(|life| !members.contains_key(&life.node));
        let away: Vec<_> = away.map(|life| mesh.takes(*life)).collect();
        let has_strangers = away.contains(&None);
        let others: Vec<_> = others
            .into_iter()
            .chain(away.into_iter().flatten())
            .collect();
        let mut spoken = mesh.spoken.write().expect("no holder of the schema panics");
        spoken.seen(self.now().mono, &others, has_strangers);
    }

    /// Takes the cluster as gossip sees it: connections are kept with its nodes, messages go there.
    ///
    /// # Panics
    /// If a holder of the view panicked.
    pub fn set_view(&self, members: Vec<Member>) {
        let mesh = &self.inner.mesh;
        let Some(peers) = &mesh.peers else { return };
        let me = self.me().node;
        let others = members.iter().map(|member| member.peer);
        peers.keep(others.filter(|peer| peer.inst.node != me).collect());
        let seen = members.clone();
        let by_node = members
            .into_iter()
            .map(|member| (member.peer.inst.node, member));
        mesh.note_schemas(&seen);
        *mesh.members.write().expect("no holder of the view panics") = by_node.collect();
        self.look_at_schemas();
        self.log_view(&seen);
        self.give(Input::View);
    }

    /// Takes that a node is gone; the view that lacks it may come before or after.
    pub fn set_down(&self, life: NodeInst, is_proven: bool) {
        self.log_down(life);
        self.give(Input::Down { life, is_proven });
    }

    /// Takes where the calls of a node that is gone go on. To be told before [`Fabric::set_down`].
    pub fn set_heir(&self, of: NodeInst, node: NodeId) {
        self.give(Input::Heir { of, node });
    }

    /// Takes that an order for a floating address is carried out, or has failed: what waited for it
    /// goes on.
    pub fn set_address_settled(&self) {
        self.give(Input::AddressSettled);
    }

    /// Takes that a node is connected whose program reads up to that schema.
    ///
    /// # Panics
    /// If a holder of the connections panicked.
    pub fn set_connected(&self, life: NodeInst, reads: SchemaVersion) {
        {
            let connected = self.inner.mesh.connected.write();
            let mut connected = connected.expect("no holder of the connections panics");
            connected.insert(life.node, (life, reads));
        }
        self.look_at_schemas();
        self.log_connected(life);
        let is_connected = true;
        self.give(Input::Connected { life, is_connected });
    }

    /// Takes that a node is not connected any more.
    ///
    /// # Panics
    /// If a holder of the connections panicked.
    pub fn set_lost(&self, life: NodeInst) {
        {
            let connected = self.inner.mesh.connected.write();
            let mut connected = connected.expect("no holder of the connections panics");
            let known = connected.get(&life.node);
            if known.is_some_and(|(known, _)| *known == life) {
                connected.remove(&life.node);
            }
        }
        self.look_at_schemas();
        let is_connected = false;
        self.give(Input::Connected { life, is_connected });
    }

    /// Takes that a later start of this node runs elsewhere: this one is to end.
    pub fn set_superseded(&self) {
        self.inner.mesh.is_superseded.store(true, Ordering::Release);
    }

    /// Tells whether a later start of this node runs elsewhere.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        self.inner.mesh.is_superseded.load(Ordering::Acquire)
    }

    /// Returns the nodes of the cluster as gossip sees them, in the order of their numbers.
    ///
    /// # Panics
    /// If a holder of the view panicked.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let members = self.inner.mesh.members.read();
        let members = members.expect("no holder of the view panics");
        members.values().cloned().collect()
    }

    /// Returns the other node that an actor is at home at.
    pub(crate) fn elsewhere(&self, id: &ActorId) -> Option<NodeId> {
        self.inner.mesh.peers.as_ref()?;
        home(id).filter(|node| *node != self.me().node)
    }

    /// Sends a message to an actor of another node; it comes back if it cannot go.
    pub(crate) fn tell_away(&self, node: NodeId, from: &ActorId, to: ActorId, message: R::Message) {
        let class = R::frame_class(&message);
        let Some(life) = self.inner.mesh.life(node) else {
            let may_come = self.may_be_there(node);
            let why = if may_come {
                Undelivered::Busy
            } else {
                Undelivered::Absent
            };
            return self.bounce(from, to, message, why);
        };
        let Some(octets) = self.said_to(life, &message) else {
            return self.bounce(from, to, message, Undelivered::Absent);
        };
        let frame = Frame::Tell {
            from: from.clone(),
            origin: self.me(),
            to: to.clone(),
            hops: 1,
            message: octets,
        };
        if let Err(fault) = self.frame(life, class, &frame) {
            let why = match fault {
                PeerFault::Absent if !self.may_be_there(node) => Undelivered::Absent,
                PeerFault::Absent | PeerFault::Busy | PeerFault::TooLong => Undelivered::Busy,
            };
            self.bounce(from, to, message, why);
        }
    }

    /// Tells whether a node that cannot be reached right now is not gone for all that: it is a
    /// member, or this node has not been here for long enough to know.
    fn may_be_there(&self, node: NodeId) -> bool {
        let members = self.inner.mesh.members.read();
        let members = members.expect("no holder of the view panics");
        let is_new = self.now().mono < self.inner.started.mono + FIRST_VIEW;
        members.contains_key(&node) || is_new
    }

    /// Gives a message back to a system actor of another node.
    pub(crate) fn return_away(
        &self,
        node: NodeId,
        from: &ActorId,
        to: ActorId,
        message: &R::Message,
        why: Undelivered,
    ) {
        if let Some(life) = self.inner.mesh.life(node)
            && let Some(octets) = self.said_to(life, message)
        {
            self.return_to(life, to, from.clone(), &octets, why);
        }
    }

    /// Puts octets on a connection that another node has; false if they cannot go there.
    pub fn send_away(&self, flow: FlowRef, bytes: Bytes) -> bool {
        let FlowRef::Stream { node, .. } = flow else {
            return false;
        };
        let Some(life) = self.inner.mesh.life(node) else {
            return false;
        };
        let frame = Frame::Send { flow, bytes };
        self.frame(life, FrameClass::InDialog, &frame).is_ok()
    }

    /// Returns a message as octets for a node, if there is a form of it that it reads.
    pub(crate) fn said_to(&self, node: NodeInst, message: &R::Message) -> Option<Bytes> {
        let octets = R::encode(message, self.schema_for(node));
        if octets.is_empty() {
            tracing::debug!(%node, "a message that has no form for a node is not sent");
            return None;
        }
        Some(octets.into())
    }

    /// Puts a frame into the queue of a node, in the words that it says that it takes: of what is
    /// only said, nothing stays that another node would have to read.
    pub(crate) fn frame(
        &self,
        to: NodeInst,
        class: FrameClass,
        frame: &Frame,
    ) -> Result<(), PeerFault> {
        let peers = self.inner.mesh.peers.as_ref().ok_or(PeerFault::Absent)?;
        let octets = frame.write(self.schema_for(to)).map_err(|error| {
            tracing::error!(%error, "a frame cannot be written");
            PeerFault::TooLong
        })?;
        peers.send(to, class, octets)
    }

    /// Returns the schema of what is said to a node: its own, as far as it is known; before gossip has its
    /// word, what it said when it connected.
    pub(crate) fn schema_for(&self, node: NodeInst) -> SchemaVersion {
        let mesh = &self.inner.mesh;
        let theirs = mesh.takes(node).or_else(|| mesh.reads(node));
        let theirs = theirs.unwrap_or_default();
        let spoken = mesh.spoken.read();
        spoken.expect("no holder of the schema panics").to(theirs)
    }

    /// Takes a frame of another node; false if it is none, or none that is expected.
    pub fn on_frame(&self, peer: NodeInst, octets: &[u8]) -> bool {
        let frame = match Frame::read(octets) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(%peer, %error, "a frame cannot be read");
                return false;
            }
        };
        match frame {
            Frame::Tell {
                from,
                origin,
                to,
                message,
                hops,
            } if home(&to).is_none() => {
                let parcel = (origin, from, to, hops);
                self.posted(peer, parcel, &message)
            }
            Frame::Tell {
                from,
                origin,
                to,
                message,
                hops: _,
            } => self.told(origin, from, to, &message),
            Frame::Returned {
                to,
                from,
                message,
                why,
            } => {
                let Some(message) = R::decode(&message) else {
                    return false;
                };
                self.give(Input::Absent {
                    id: to.clone(),
                    life: peer,
                });
                self.bounce(&from, to, message, why);
                true
            }
            Frame::Send { flow, bytes } => {
                let is_ours =
                    matches!(flow, FlowRef::Stream { node, .. } if node == self.me().node);
                if is_ours {
                    self.env().send(&flow, bytes);
                }
                is_ours
            }
            Frame::EventsHeld(held) => {
                self.on_events_held(peer, &held);
                true
            }
            Frame::Events(batch) => {
                self.on_events(peer, batch);
                true
            }
            Frame::Ask { .. }
            | Frame::Reply { .. }
            | Frame::Where { .. }
            | Frame::Found { .. }
            | Frame::Redirect { .. }
            | Frame::Repair { .. }
            | Frame::Take { .. }
            | Frame::Taken { .. }
            | Frame::Kept { .. }
            | Frame::Left { .. } => self.give_frame(peer, frame),
        }
    }

    /// A message for an actor that may run anywhere: it goes where that is.
    fn posted(
        &self,
        via: NodeInst,
        (origin, from, to, hops): (NodeInst, ActorId, ActorId, u8),
        octets: &Bytes,
    ) -> bool {
        let Some(message) = R::decode(octets) else {
            let why = Undelivered::Absent;
            return self.return_to(origin, to, from, octets, why);
        };
        let parcel = Parcel {
            from,
            origin,
            to,
            hops,
            message,
        };
        self.give(Input::Posted { via, parcel });
        true
    }

    /// A message for an actor of this node; what cannot be delivered goes back to its origin.
    fn told(&self, origin: NodeInst, from: ActorId, to: ActorId, octets: &Bytes) -> bool {
        let why = match R::decode(octets) {
            Some(message) if home(&to) == Some(self.me().node) => {
                let event = Event::Message {
                    from: from.clone(),
                    message,
                };
                match self.try_deliver(&to, event) {
                    Ok(()) => return true,
                    Err((_, Delivery::Busy)) => Undelivered::Busy,
                    Err((_, Delivery::Absent | Delivery::Accepted)) => Undelivered::Absent,
                }
            }
            Some(_) | None => Undelivered::Absent,
        };
        self.return_to(origin, to, from, octets, why)
    }

    fn return_to(
        &self,
        origin: NodeInst,
        to: ActorId,
        from: ActorId,
        octets: &Bytes,
        why: Undelivered,
    ) -> bool {
        let back = Frame::Returned {
            to,
            from,
            message: octets.clone(),
            why,
        };
        self.frame(origin, FrameClass::InDialog, &back).is_ok()
    }
}
